"""Drawn histories, made by git: what the index says of them is what git says, and a replay of every version."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git.conftest import git
from git.drawn import CONTENTS, NAMES, Step, histories, make, opened
from gitstore import documents, facts
from gitstore.blame import Version, blame_leaves
from gitstore.blame.leaves import leaves
from gitstore.history import History, TimelineQuery
from gitstore.model import CommitFacts
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository
from gitstore.sightings import Sighting, Wanted
from gitstore.sightings import _Search as Search

WORKSPACE = "w"
HERE: dict[str, Repository] = {}
LETTER = {"added": "A", "changed": "M", "deleted": "D", "renamed": "R"}


@pytest.fixture(scope="module", autouse=True)
def repository(tmp_path_factory: pytest.TempPathFactory) -> None:
    HERE["it"] = opened(tmp_path_factory.mktemp("drawn"))


class Drawn(NamedTuple):
    """A drawn history, and the line that its last commit ends, oldest first."""

    repository: Repository
    root: Path
    head: str
    line: list[tuple[str, CommitFacts]]
    files: dict[str, Step]  # by commit


def drawn(steps: Sequence[Step]) -> Drawn:
    repository = HERE["it"]
    root = Path(repository.root)
    commits = make(root, steps)
    repository.database.close()
    head = Oid(bytes.fromhex(commits[-1]))
    line = list(facts.walk(repository, "main", facts.line(repository, head, None), 0))
    return Drawn(
        repository, root, commits[-1], [(WORKSPACE, one) for one in line], dict(zip(commits, steps, strict=True))
    )


def indexed(folder: str, drawn: Drawn, batch: int) -> History:
    history = History(Path(folder) / f"history-{batch}.sqlite")
    for at in range(0, len(drawn.line), batch):
        history.append(drawn.line[at : at + batch])
    return history


def log(root: Path, head: str, *words: str) -> list[tuple[str, list[tuple[str, ...]]]]:
    """`git log`'s commits, newest first, each with its (letter, path …)."""
    fixed = ("log", "-z", "--first-parent", "-m", "--name-status", "--format=@%H")
    out = git(root, *fixed, *words, head, "--")
    found: list[tuple[str, list[tuple[str, ...]]]] = []
    parts = iter(out.split("\0"))
    for part in parts:
        part = part.strip("\n")
        if part.startswith("@"):
            found.append((part[1:41], []))
            part = part[41:].strip("\n")
        if part:
            found[-1][1].append((part[0], *(next(parts) for _ in range(2 if part[0] == "R" else 1))))
    return found


def told(facts: CommitFacts) -> set[tuple[str, ...]]:
    """A commit's changes as git tells them with exact renames; a change of type is a change here."""
    return {
        (LETTER[one.op], *((one.old_path,) if one.op == "renamed" and one.old_path else ()), one.path)
        for one in facts.changes
    }


def plain(entries: list[tuple[str, ...]]) -> set[tuple[str, ...]]:
    return {("M" if one[0] == "T" else one[0], *one[1:]) for one in entries}


def at_path(history: History, path: str) -> list[tuple[str, str]]:
    """Each commit that touched a path, newest first, with what it did there, as if there were no renames."""
    found = []
    for entry in history.timeline(WORKSPACE, TimelineQuery(path=path, per_page=1000)).entries:
        for one in entry.facts.changes:
            if one.path == path:
                found.append((entry.facts.id, "A" if one.op == "renamed" else LETTER[one.op]))
            elif one.old_path == path:
                found.append((entry.facts.id, "D"))
    return found


def followed(entries: list[tuple[str, list[tuple[str, ...]]]], path: str) -> list[tuple[str, str, str]]:
    """The story of a path from git's own exact renames: (commit, letter, path)."""
    found = []
    for commit, changes in entries:
        for letter, *paths in changes:
            if paths[-1] == path:
                found.append((commit, "M" if letter == "T" else letter, path))
                if letter == "R":
                    path = paths[0]
                break
            if letter == "R" and paths[0] == path:
                found.append((commit, "D", path))
                break
    return found


@given(histories(most=10))
@settings(max_examples=20, deadline=None)
def test_the_index_says_what_git_says(steps: list[Step]) -> None:
    one = drawn(steps)
    with tempfile.TemporaryDirectory() as folder:
        history, again = indexed(folder, one, 3), indexed(folder, one, 100)
        renames = log(one.root, one.head, "-M100%", "-l0")
        by_commit = {commit: plain(changes) for commit, changes in renames}
        for _, fact in one.line:
            assert told(fact) == by_commit.get(fact.id, set())
            assert history.commit(WORKSPACE, fact.id) == again.commit(WORKSPACE, fact.id) == fact
        everything = log(one.root, one.head, "--no-renames")
        paths = sorted({path for step in steps for path in step.files})
        for number, path in enumerate(paths):
            wanted = [
                (commit, "M" if letter == "T" else letter)
                for commit, changes in everything
                for letter, name in changes
                if name == path
            ]
            assert at_path(history, path) == at_path(again, path) == wanted
            if number < 2:  # the very words of the promise; they take a process each
                page = history.timeline(WORKSPACE, TimelineQuery(path=path, per_page=1000))
                assert [entry.facts.id for entry in page.entries] == named(one, path)
            touch = history.last_touch(WORKSPACE, "main", path)
            assert (touch.commit if touch else None) == (wanted[0][0] if wanted else None)
            story, other = history.story(WORKSPACE, "main", path), again.story(WORKSPACE, "main", path)
            assert story is not None
            assert other is not None
            turns = list(story.turns())
            assert [(turn.commit, LETTER[turn.op], turn.path) for turn in turns] == followed(renames, path)
            assert list(other.turns()) == turns
            assert story.length == len(turns)
            for turn in turns:
                mode, data = one.files[turn.commit].files.get(turn.path, (0, b""))
                held = one.repository.database.blob(Oid(bytes.fromhex(turn.blob))) if turn.blob else None
                assert held == (data if mode & 0o170000 == 0o100000 else None)
            for skip in range(len(turns) + 1):
                assert list(story.turns(skip=skip)) == turns[skip:]
            for place, turn in enumerate(turns):
                assert list(story.turns(before=turn.place)) == turns[place + 1 :]
        assert history.file_stats(WORKSPACE) == again.file_stats(WORKSPACE)
        assert history.versions(WORKSPACE, "spec") == again.versions(WORKSPACE, "spec")
        spec = [fact for _, fact in one.line if any(name.startswith("spec/") for c in told(fact) for name in c[1:])]
        assert [version.commit for version in history.versions(WORKSPACE, "spec")] == [fact.id for fact in spec]
        there = one.files[one.head].files
        assert set(history.last_touches(WORKSPACE, "main", "memory")) == {p for p in there if p.startswith("memory/")}
        kept = {stat.commit for stat in history.file_stats(WORKSPACE).values()}
        assert bool(kept) == any(path.startswith("files/") for path in there)
        history.close()
        again.close()


def named(one: Drawn, path: str) -> list[str]:
    """The commits that git names for a path, or a folder."""
    words = ("log", "--first-parent", "--full-history", "-m", "--name-status", "--no-renames", "--format=%H")
    out = git(one.root, *words, one.head, "--", f":(literal){path}")
    return [word for word in out.split() if len(word) == 40]


# -- blame, against a replay of every version --------------------------------------------------------------------------


def alike(old: Any, new: Any, at: str) -> Iterator[str]:
    """The leaves of two nested objects that are the same; no lists here."""
    if type(old) is dict and type(new) is dict and old and new:
        for key in old.keys() & new.keys():
            yield from alike(old[key], new[key], f"{at}/{key}")
    elif type(old) is type(new) and old == new:
        yield at


VALUES = st.recursive(
    st.sampled_from([None, 0, 1, True, "x", "y"]),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=4),
    max_leaves=8,
)


@given(histories(names=NAMES[:3], most=10), st.lists(VALUES, min_size=len(CONTENTS), max_size=len(CONTENTS)))
@settings(max_examples=20, deadline=None)
def test_blame_is_that_of_a_replay(steps: list[Step], values: list[Any]) -> None:
    texts = {data: documents.dump(value) for data, value in zip(CONTENTS, values, strict=True)}
    steps = [
        Step(one.parents, {path: (0o100644, texts[data]) for path, (_, data) in one.files.items()}) for one in steps
    ]
    one = drawn(steps)
    with tempfile.TemporaryDirectory() as folder:
        history = indexed(folder, one, 100)
        renames = log(one.root, one.head, "-M100%", "-l0")
        for path, (_, data) in one.files[one.head].files.items():
            story = history.story(WORKSPACE, "main", path)
            assert story is not None
            turns = list(story.turns())
            versions = [Version(turn.commit, read(one, turn.blob)) for turn in turns]
            by: dict[str, str] = {}
            before: Any = None
            for commit, _, name in reversed(followed(renames, path)):
                held = one.files[commit].files.get(name)
                if held is None:
                    by, before = {}, None
                    continue
                value = documents.load(held[1])
                same = set(alike(before[0], value, "")) if before else set()
                by = {at: by[at] if at in same else commit for at, _ in leaves(value)}
                before = (value,)
            assert {leaf.pointer: leaf.commit for leaf in blame_leaves(versions)} == by
            assert [leaf[:2] for leaf in blame_leaves(versions)] == list(leaves(documents.load(data)))
        history.close()


def read(one: Drawn, blob: str | None) -> bytes | None:
    return one.repository.database.blob(Oid(bytes.fromhex(blob))) if blob is not None else None


# -- the search through history, against a look at every version -------------------------------------------------------


class Place(NamedTuple):
    """What the search needs of a workspace."""

    id: str
    drawn: Drawn

    def read_blob(self, blob: str) -> bytes:
        return read(self.drawn, blob) or b""


@given(histories(names=NAMES[:6], most=10), st.sampled_from(["TWO", "b: 1", "three", "é", "39"]), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_sightings_are_those_of_every_version(steps: list[Step], text: str, most: int) -> None:
    one = drawn(steps)
    renames = log(one.root, one.head, "-M100%", "-l0")

    def holds(commit: str, path: str) -> bool:
        mode, data = one.files[commit].files.get(path, (0, b""))
        plain = mode & 0o170000 == 0o100000 and b"\0" not in data
        return plain and text.lower() in data.decode("utf-8", "replace").lower()

    wanted = set()
    runs: dict[str, str] = {}  # by path, since when the text is held there
    for commit, changes in reversed(renames):
        moves = {paths[0]: paths[1] for letter, *paths in changes if letter == "R"}
        runs = {moves.get(path, path): since for path, since in runs.items()}
        for letter, *paths in changes:
            path = paths[-1]
            if path in runs and not holds(commit, path):
                wanted.add((runs.pop(path), commit))
            elif path not in runs and holds(commit, path) and letter != "R":
                runs[path] = f"{commit} {path}"
    wanted |= {(since, None) for since in runs.values()}
    with tempfile.TemporaryDirectory() as folder:
        history = indexed(folder, one, 100)
        found: list[Sighting] = []
        cursor: str | None = None
        while True:
            search = Search(history, Place(WORKSPACE, one), Wanted(text), OrderedDict())  # type: ignore[arg-type]
            look = search.run(cursor, most)
            assert len(look.rows) <= most
            found += look.rows
            cursor = look.next_cursor
            if cursor is None:
                break
        history.close()
    assert {(f"{one.since.commit} {one.path}", one.until and one.until.commit) for one in found} == wanted
    assert len(found) == len(wanted)
    times = [one.since.time for one in found]
    assert times == sorted(times, reverse=True)
    assert all(text.lower() in one.excerpt.lower() for one in found)
