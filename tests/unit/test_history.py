"""History against a plain list of commits, and the promises that a list cannot show: damage, threads."""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import BOT, BRANCHES, PATHS, Feed, commit, entries, feeds, in_batches, lets_through, memory
from msgspec.structs import replace

from gitstore import errors
from gitstore.history import Bounds, History, TimelineQuery, Version
from gitstore.model import Branch, CommitFacts, Touch


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.sqlite")
    yield opened
    opened.close()


def touches(feed: Feed, workspace: str, branch: Branch) -> dict[str, tuple[Touch, str | None]]:
    """By path: the last touch, and the part if the path is there."""
    found: dict[str, tuple[Touch, str | None]] = {}
    for owner, facts in feed:
        if (owner, facts.branch) != (workspace, branch):
            continue
        touch = Touch(facts.id, facts.time, facts.actor)
        for one in facts.changes:
            if one.old_path is not None:
                found[one.old_path] = (touch, None)
        for one in facts.changes:
            found[one.path] = (touch, None if one.op == "deleted" else one.part)
    return found


@settings(max_examples=25, deadline=None)
@given(feeds(), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_look_ups_are_what_the_list_of_commits_says(feed: list[tuple[str, CommitFacts]], sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder) / "h")
        in_batches(history, feed, sizes)
        for workspace, branch in itertools.product("ab", BRANCHES):
            line = [facts for owner, facts in feed if (owner, facts.branch) == (workspace, branch)]
            assert history.head(workspace, branch) == (line[-1].id if line else None)
            assert history.heads().get((workspace, branch)) == (line[-1].id if line else None)
            bounds = Bounds(line[0].time, line[-1].time, len(line)) if line else None
            assert history.bounds(workspace, branch) == bounds
            for ms in (0, 1_000, 1_001, 1_003, 1 << 70):
                then = [one.id for one in line if one.time <= ms]
                assert history.at_time(workspace, branch, ms) == (then[-1] if then else None)
            touched = touches(feed, workspace, branch)
            for path, _, _ in PATHS:
                assert history.last_touch(workspace, branch, path) == touched.get(path, (None, None))[0]
            for part in ("memory", "spec", "other", "settings"):
                there = {path: touch for path, (touch, own) in touched.items() if own == part}
                assert history.last_touches(workspace, branch, part) == there
            for facts in line:
                assert history.commit(workspace, facts.id) == facts
                assert history.find_commit(workspace, facts.id[:12].upper()) == facts.id
                assert history.commit("b" if workspace == "a" else "a", facts.id) is None
            if branch == "main":
                spec = [one for one in line if any("spec" in change.parts for change in one.changes)]
                assert history.version_count(workspace, "spec") == len(spec)
                assert history.versions(workspace, "spec") == [
                    Version(number, one.id, one.time, one.actor, "added" if number == 1 else "changed")
                    for number, one in enumerate(spec, 1)
                ]
        history.close()


def answers(history: History) -> list[Any]:
    """Everything that can be asked."""
    found: list[Any] = [sorted(history.heads().items())]
    for workspace in "ab":
        for query in (TimelineQuery(per_page=7), TimelineQuery(path="docs"), TimelineQuery(actor="agent", text="s")):
            cursor: str | None = None
            while True:
                page = history.timeline(workspace, replace(query, cursor=cursor))
                found.append(page)
                cursor = page.next_cursor
                if cursor is None:
                    break
        for branch in BRANCHES:
            found += [history.bounds(workspace, branch), history.last_touches(workspace, branch, "memory")]
        found += [history.versions(workspace, "spec"), history.file_stats(workspace)]
    return found


@settings(max_examples=25, deadline=None)
@given(feeds(), st.randoms(use_true_random=False))
def test_begun_again_it_gives_the_same_answers(feed: list[tuple[str, CommitFacts]], random: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first = History(Path(folder) / "first")
        first.append(feed)
        wanted = answers(first)
        first.close()
        reopened = History(Path(folder) / "first")
        assert not reopened.opened_empty
        assert answers(reopened) == wanted
        # One line after the other, in any order of the lines, as catching up from the branches does it.
        lines: dict[tuple[str, str], list[tuple[str, CommitFacts]]] = {}
        for owner, facts in feed:
            lines.setdefault((owner, facts.branch), []).append((owner, facts))
        order = list(lines.values())
        random.shuffle(order)
        second = History(Path(folder) / "second")
        assert second.opened_empty
        for line in order:
            in_batches(second, line, [3])
        assert answers(second) == wanted
        for workspace, branch in lines:
            second.forget_branch(workspace, branch)  # type: ignore[arg-type]
            assert second.timeline(workspace, TimelineQuery(path="docs")).total == sum(
                lets_through(TimelineQuery(path="docs"), facts)
                for facts in entries(feed, workspace)
                if facts.branch != branch and (workspace, facts.branch) in second.heads()
            )
            second.append(lines[workspace, branch])
        assert answers(second) == wanted
        second.forget("a")
        second.append([one for one in feed if one[0] == "a"])
        assert answers(second) == wanted
        second.forget("a")
        second.forget("b")
        with second._database.read() as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            left = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
        assert {name for name, rows in left.items() if rows} <= {"actors"}
        second.close()
        reopened.close()


def test_a_large_commit_shows_100_changes_and_keeps_all(history: History) -> None:
    large = commit([memory(f"k{number}", "added") for number in range(1_234)])
    history.append([("w", large)])
    (entry,) = history.timeline("w", TimelineQuery(path="memory/k1200.yaml")).entries
    assert entry.changes_total == 1_234
    assert entry.facts == replace(large, changes=large.changes[:100])
    assert history.commit("w", large.id) == large
    assert len(history.last_touches("w", "main", "memory")) == 1_234


def test_totals_are_counted_anew_when_a_line_was_forgotten(history: History) -> None:
    query = TimelineQuery(key="a")
    history.append([("w", commit([memory("a")]))])
    assert history.timeline("w", query).total == 1
    history.forget_branch("w", "main")
    history.append([("w", commit([memory("b")]))])
    assert history.timeline("w", query).total == 0
    history.forget("w")
    history.append([("w", commit([memory("a")]))])
    assert history.timeline("w", query).total == 1


def test_an_unknown_workspace_has_no_history(history: History) -> None:
    assert history.timeline("w").total == 0
    assert history.heads() == {}
    assert history.last_touch("w", "main", "x") is None
    assert history.last_touches("w", "main", "memory") == {}
    assert history.versions("w", "spec") == []
    assert history.version_count("w", "spec") == 0
    assert history.file_stats("w") == {}
    assert history.commit("w", "ab" * 20) is None
    assert history.at_time("w", "main", 5) is None
    assert history.bounds("w", "main") is None
    history.forget("w")
    history.forget_branch("w", "main")


def test_finding_a_commit_by_the_beginning_of_its_id(history: History) -> None:
    first = commit(id="abcd" + "0" * 36)
    second = commit(id="abcd" + "1" * 36, after=first)
    third = commit(id="abce" + "f" * 36, after=second)
    history.append(("w", one) for one in (first, second, third))
    assert history.find_commit("w", "abcd0") == first.id
    assert history.find_commit("w", "abce") == third.id
    assert history.find_commit("w", third.id) == third.id
    with pytest.raises(errors.Invalid, match="more than one"):
        history.find_commit("w", "abcd")
    for none in ("abcf", "abc", "", "wxyz", third.id + "0"):
        assert history.find_commit("w", none) is None


def test_a_damaged_file_opens_empty_and_can_be_fed_again(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history = History(path)
    line = [commit([memory("a")])]
    for _ in range(500):
        line.append(commit([memory("a")], after=line[-1]))
    history.append(("w", one) for one in line)
    wanted = history.timeline("w", TimelineQuery(key="a"))
    history.close()
    data = bytearray(path.read_bytes())
    data[20_000:30_000] = b"\xff" * 10_000
    path.write_bytes(bytes(data))
    history = History(path)
    assert history.opened_empty
    assert history.heads() == {}
    history.append(("w", one) for one in line)
    assert history.timeline("w", TimelineQuery(key="a")) == wanted
    history.close()


def test_readers_beside_a_writer_see_whole_batches(history: History) -> None:
    wrong: list[Any] = []
    done = threading.Event()

    def read() -> None:
        total = 0
        try:
            while not done.is_set():
                page = history.timeline("w", TimelineQuery(key="a", per_page=5))
                plain = history.timeline("w", TimelineQuery(per_page=5))
                newest = [int(one.facts.name) for one in plain.entries]
                if page.total % 10 or page.total < total or newest != sorted(newest, reverse=True):
                    wrong.append((page.total, total, newest))
                if newest and newest[0] + 1 != plain.total:
                    wrong.append((newest, plain.total))
                total = page.total
        except Exception as error:  # noqa: BLE001  (handed to the test's own thread)
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for one in readers:
        one.start()
    last: CommitFacts | None = None
    for batch in range(40):
        group = []
        for number in range(10):
            last = commit([memory("a")], after=last, name=str(batch * 10 + number), actor=replace(BOT, id=f"k{batch}"))
            group.append(("w", last))
        history.append(group)
    done.set()
    for one in readers:
        one.join()
    assert wrong == []
