"""Stories of files: through renames, over commits with more changes than are kept in a row, in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from lines import commit

from gitstore import story as story_module
from gitstore.history import History
from gitstore.model import ChangedPath, CommitFacts
from gitstore.story import Turn

BLOB = "ab" * 20


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.sqlite")
    yield opened
    opened.close()


def change(path: str, op: str = "changed", old: str | None = None) -> ChangedPath:
    more = (old, "memory", old) if old is not None else (None, None, None)
    return ChangedPath(path, op, "memory", path, *more, None if op == "deleted" else BLOB)  # type: ignore[arg-type]


def feed(history: History, *commits: list[ChangedPath]) -> list[str]:
    made: list[CommitFacts] = []
    for changes in commits:
        made.append(commit(changes, after=made[-1] if made else None))
    history.append([("w", one) for one in made])
    return [one.id for one in made]


def told(turns: Iterator[Turn] | list[Turn], ids: list[str]) -> list[tuple[int, str, str]]:
    return [(ids.index(turn.commit), turn.op, turn.path) for turn in turns]


def of(history: History, path: str) -> list[Turn]:
    story = history.story("w", "main", path)
    assert story is not None
    turns = list(story.turns())
    assert story.length == len(turns)
    return turns


def test_a_rename_leads_to_the_other_path_and_not_to_what_was_at_this_one(history: History) -> None:
    ids = feed(
        history,
        [change("a", "added"), change("b", "added")],
        [change("b", "deleted")],
        [change("a"), change("c", "added")],
        [change("b", "renamed", "a")],
        [change("a", "added")],
        [change("b"), change("a")],
    )
    assert told(of(history, "b"), ids) == [
        (5, "changed", "b"), (3, "renamed", "b"), (2, "changed", "a"), (0, "added", "a"),
    ]  # fmt: skip
    assert told(of(history, "a"), ids) == [
        (5, "changed", "a"), (4, "added", "a"), (3, "deleted", "a"), (2, "changed", "a"), (0, "added", "a"),
    ]  # fmt: skip
    assert of(history, "b")[1].old_path == "a"
    assert [turn.blob for turn in of(history, "a")] == [BLOB, BLOB, None, BLOB, BLOB]
    assert told(of(history, "never"), ids) == []
    assert history.story("nowhere", "main", "a") is None
    onward = list(history.onward("w", "main", "a", of(history, "a")[-1].place or (0, 0)))
    assert told(onward, ids) == [(2, "changed", "a"), (3, "renamed", "b"), (5, "changed", "b")]
    first = of(history, "b")[-1].place or (0, 0)
    assert told(list(history.onward("w", "main", "b", first)), ids) == [(1, "deleted", "b")]


@pytest.mark.parametrize("at_once", [1, 2, 256])
def test_pieces_and_pages_are_the_whole(history: History, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(story_module, "_AT_ONCE", at_once)
    monkeypatch.setattr(story_module, "_FIRST_FEW", at_once)
    commits = [[change("a", "added")]]
    for n in range(6):
        commits += [[change(f"n{n - 1}" if n else "a")]] * n
        commits.append([change(f"n{n}", "renamed", f"n{n - 1}" if n else "a")])
    ids = feed(history, *commits)
    turns = of(history, "n5")
    assert len(turns) == len(ids)
    assert [turn.commit for turn in turns] == ids[::-1]
    story = history.story("w", "main", "n5")
    assert story is not None
    for skip in range(len(turns) + 2):
        assert list(story.turns(skip=skip)) == turns[skip:]
    for at, turn in enumerate(turns):
        assert list(story.turns(before=turn.place)) == turns[at + 1 :]
        seen = list(history.onward("w", "main", turn.path, turn.place or (0, 0)))
        assert [one.commit for one in seen] == [one.commit for one in turns[:at][::-1]]


def test_commits_with_very_many_changes(history: History) -> None:
    many = [change(f"k{n:04}", "added") for n in range(400)]
    moved = [change(f"m{n:04}", "renamed", f"k{n:04}") for n in range(400)]
    ids = feed(history, many, moved, [change("m0399")])
    for name in ("0000", "0399"):
        wanted = [(1, "renamed", f"m{name}"), (0, "added", f"k{name}")]
        assert told(of(history, f"m{name}"), ids)[-2:] == wanted
        assert told(of(history, f"k{name}"), ids) == [(1, "deleted", f"k{name}"), (0, "added", f"k{name}")]
    first = of(history, "k0399")[-1].place or (0, 0)
    onward = list(history.onward("w", "main", "k0399", first))
    assert told(onward, ids) == [(1, "renamed", "m0399"), (2, "changed", "m0399")]


def test_renames_without_end_are_followed_so_far(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story_module, "RENAMES_MAX", 3)
    names = "ab" * 5
    commits = [[change("a", "added")], *([change(new, "renamed", old)] for old, new in pairwise(names))]
    ids = feed(history, *commits)
    turns = of(history, "b")
    assert told(turns[:3], ids) == [(9, "renamed", "b"), (8, "renamed", "a"), (7, "renamed", "b")]
    assert len(turns) == len(ids)  # what comes before is told of the path it was at


def test_a_forgotten_branch_leaves_no_renames(history: History) -> None:
    feed(history, [change("a", "added")], [change("b", "renamed", "a")])
    history.forget_branch("w", "main")
    ids = feed(history, [change("b", "added")], [change("a", "added")])
    assert told(of(history, "b"), ids) == [(0, "added", "b")]


def test_where_a_key_was_last(history: History) -> None:
    feed(history, [change("a", "added")], [change("b", "renamed", "a")], [change("b", "deleted")])
    assert history.path_of_key("w", "memory", "a") == "a"
    assert history.path_of_key("w", "memory", "b") == "b"
    assert history.path_of_key("w", "memory", "c") is None
    assert history.path_of_key("w", "spec", "b") is None
    assert history.path_of_key("nowhere", "memory", "b") is None
