"""The base of two lines is the one git finds, and it is found by reading few commits."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore.errors import Damaged
from gitstore.repository.ancestry import base, is_ancestor, leads_to
from gitstore.repository.commits import Commit, Signature, build, parse
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import EMPTY_TREE, Object, Oid
from gitstore.repository.repository import Repository


class Graph(Repository):
    """Commits in memory that count how often they are read."""

    def __init__(self) -> None:
        self.made: dict[Oid, Object] = {}
        self.reads: Counter[Oid] = Counter()

    def add(self, time: int, *parents: Oid, note: str = "") -> Oid:
        who = Signature("n", "e", time)
        item = build(EMPTY_TREE, parents, who, who, f"{note}{len(self.made)}\n")
        self.made[item.id] = item
        return item.id

    def commit(self, oid: Oid) -> Commit:
        self.reads[oid] += 1
        if oid not in self.made:
            raise Damaged("missing")
        return parse(self.made[oid].data)

    def ancestors(self, oid: Oid) -> set[Oid]:
        found, waiting = {oid}, [oid]
        while waiting:
            for parent in parse(self.made[waiting.pop()].data).parents:
                if parent not in found:
                    found.add(parent)
                    waiting.append(parent)
        return found

    def line(self, oid: Oid) -> set[Oid]:
        found = {oid}
        while parents := parse(self.made[oid].data).parents:
            oid = parents[0]
            found.add(oid)
        return found

    def best(self, one: Oid, other: Oid) -> set[Oid]:
        common = self.ancestors(one) & self.ancestors(other)
        return {oid for oid in common if not any(oid != two and oid in self.ancestors(two) for two in common)}


@given(st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_any_history_with_any_clocks(size: int, source: random.Random) -> None:
    graph, commits = Graph(), list[Oid]()
    for number in range(size):
        count = min(len(commits), source.choice([0, 1, 1, 1, 2, 2, 3]))
        time = source.choice([number, 5, -number, source.randint(0, 9)])
        commits.append(graph.add(time, *source.sample(commits[-5:], min(count, len(commits[-5:])))))
    for one in commits:
        for other in commits:
            best = graph.best(one, other)
            found = base(graph, one, other)
            assert found in best if best else found is None
            assert found == base(graph, other, one)
            assert is_ancestor(graph, one, other) == (one in graph.ancestors(other))
            assert leads_to(graph, one, other) == (one in graph.line(other))


def test_criss_cross_takes_the_later_one() -> None:
    graph = Graph()
    root = graph.add(0)
    a, b = graph.add(1, root), graph.add(2, root)
    left, right = graph.add(3, a, b), graph.add(4, b, a)
    assert graph.best(left, right) == {a, b}
    assert base(graph, left, right) == base(graph, right, left) == b


def test_few_commits_of_a_long_line_are_read() -> None:
    graph = Graph()
    line = [graph.add(0)]
    for time in range(1, 20_000):
        line.append(graph.add(time, line[-1]))
    side = graph.add(20_001, graph.add(20_000, line[-40]))
    for one, other, wanted in (
        (line[-1], line[-40], line[-40]),
        (line[-40], line[-1], line[-40]),
        (line[-1], side, line[-40]),
        (line[-1], line[-1], line[-1]),
    ):
        graph.reads.clear()
        assert base(graph, one, other) == wanted
        assert graph.reads.total() < 50
    graph.reads.clear()
    assert is_ancestor(graph, line[-40], line[-1])
    assert not is_ancestor(graph, line[-1], side)
    assert graph.reads.total() < 100
    assert base(graph, line[-1], line[0]) == line[0]


def test_a_missing_commit_is_said() -> None:
    graph = Graph()
    lost = graph.add(1)
    end = graph.add(2, lost)
    del graph.made[lost]
    with pytest.raises(Damaged):
        base(graph, end, graph.add(0))


def test_git_says_the_same(tmp_path: Path) -> None:
    def git(*words: str, when: int = 0) -> str:
        return subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", *words],
            check=True, capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
                 "GIT_COMMITTER_DATE": f"@{1_700_000_000 + when} +0000"},
        ).stdout.strip()  # fmt: skip

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "root", when=100)
    git("checkout", "-q", "-b", "side")
    git("commit", "-q", "--allow-empty", "-m", "side", when=1)
    git("checkout", "-q", "main")
    git("commit", "-q", "--allow-empty", "-m", "main", when=50)
    git("merge", "-q", "--no-ff", "side", "-m", "joined", when=60)
    git("checkout", "-q", "side")
    git("commit", "-q", "--allow-empty", "-m", "side again", when=10)
    repository = Repository(Disk(), str(tmp_path), TreeCache())
    main, side = (Oid(bytes.fromhex(git("rev-parse", name))) for name in ("main", "side"))
    found = base(repository, main, side)
    assert found is not None
    assert found.hex() == git("merge-base", "main", "side")
    assert is_ancestor(repository, found, main)
    assert not is_ancestor(repository, main, side)
    repository.database.close()


def test_a_line_that_parted_lately_is_not_read_to_its_beginning() -> None:
    graph = Graph()
    line = [graph.add(0)]
    for time in range(1, 20_000):
        line.append(graph.add(time, line[-1]))
    side = graph.add(20_001, graph.add(20_000, line[-40]))
    joined = graph.add(20_002, line[-1], side)
    theirs = graph.add(20_003, side, line[-1])
    for old, new, wanted in (
        (line[-1], side, False), (side, line[-1], False), (line[-40], side, True), (line[-1], line[-1], True),
        (line[-1], joined, True), (side, joined, False), (side, theirs, True), (line[-1], theirs, False),
    ):  # fmt: skip
        graph.reads.clear()
        assert leads_to(graph, old, new) is wanted
        assert graph.reads.total() <= 90
