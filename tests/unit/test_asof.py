"""History as any commit of it had it, against a plain list of the commits up to that one."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import BRANCHES, PATHS, commit, feeds, in_batches

from gitstore.history import FileStat, History
from gitstore.model import ChangedPath, CommitFacts, Touch


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.sqlite")
    yield opened
    opened.close()


def touch(facts: CommitFacts) -> Touch:
    return Touch(facts.id, facts.time, facts.actor)


@settings(max_examples=20, deadline=None)
@given(feeds(), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_touches_and_the_spec_are_those_up_to_the_commit(feed: list[tuple[str, CommitFacts]], sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder) / "h")
        in_batches(history, feed, sizes)
        for workspace, branch in itertools.product("ab", BRANCHES):
            line = [facts for owner, facts in feed if (owner, facts.branch) == (workspace, branch)]
            other = "b" if workspace == "a" else "a"
            for end in range(len(line) + 1):
                told = history.as_of(workspace, branch, line[end - 1].id if end else None)
                if told is None:
                    assert not end
                    assert workspace not in {owner for owner, _ in feed}
                    continue
                for later in (0, 1, len(line)):  # the same, whether the index says it or commits beside it do
                    seen = told.going_on(line[end : end + later])
                    then = line[: end + later]
                    for path, _, _ in PATHS:
                        touched = [one for one in then if any(path in change.paths for change in one.changes)]
                        assert seen.touch(path) == (touch(touched[-1]) if touched else None)
                    if branch == "main":
                        made = [one for one in then if any("spec" in change.parts for change in one.changes)]
                        assert seen.spec() == (len(made), touch(made[-1]) if made else None)
                if end:
                    assert history.as_of(other, branch, line[end - 1].id) is None
                    assert (
                        history.as_of(workspace, "evidence" if branch == "main" else "main", line[end - 1].id) is None
                    )
            if branch == "main":
                made = [one for one in line if any("spec" in change.parts for change in one.changes)]
                for number in range(-1, len(made) + 3):
                    found = history.version(workspace, "spec", number)
                    assert (found.commit if found else None) == (
                        made[number - 1].id if 1 <= number <= len(made) else None
                    )
                pages = [history.version_page(workspace, "spec", page, 2) for page in range(1, len(made) // 2 + 2)]
                assert [(number, one.id) for rows, _ in pages for number, one in rows] == [
                    (number, one.id) for number, one in reversed(list(enumerate(made, 1)))
                ]
                assert {total for _, total in pages} == {len(made)}
        history.close()


def file(op: str, key: str = "a-md") -> ChangedPath:
    return ChangedPath(f"files/{key.replace('-', '.')}", op, "file", key)  # type: ignore[arg-type]


def test_files_have_the_version_and_the_beginning_of_then(history: History) -> None:
    line = [commit([file("added")])]
    for op in ("changed", "deleted", "added", "changed"):
        line.append(commit([file(op)], after=line[-1]))
    line.append(commit([file("added", "b-md")], after=line[-1]))
    history.append(("w", one) for one in line)

    def stat(version: int, first: int, last: int) -> FileStat:
        return FileStat(version, line[first].time, line[last].time, line[last].id)

    expected = [stat(1, 0, 0), stat(2, 0, 1), None, stat(3, 3, 3), stat(4, 3, 4), stat(4, 3, 4)]
    for end, wanted in enumerate(expected):
        told = history.as_of("w", "main", line[end].id)
        assert told is not None
        assert told.file("a-md") == wanted, end
        assert (told.file("b-md") is not None) == (end == 5)
    assert told.files(["a-md", "b-md", "none"]).keys() == {"a-md", "b-md"}
    assert len(told.files([f"k{n}" for n in range(1_200)] + ["b-md"])) == 1
    assert told.files([f"k{n}" for n in range(1_200)] + ["a-md", "b-md"]) == history.file_stats("w")
    first = history.as_of("w", "main", line[0].id)
    assert first is not None
    beside = first.going_on([commit([file("changed")], after=line[0], time=line[0].time + 5)])
    assert beside.file("a-md") == FileStat(2, line[0].time, line[0].time + 5, beside._later[0].id)
    assert [history.version("w", "file", n, "a-md") is not None for n in range(6)] == [False] + [True] * 4 + [False]
    third = history.version("w", "file", 3, "a-md")
    assert third is not None
    assert (third.commit, third.op) == (line[3].id, "added")
    assert history.version("w", "file", 1, "none") is None
    assert history.version("other", "spec", 1) is None
    assert history.version_page("other", "spec", 1, 5) == ([], 0)
