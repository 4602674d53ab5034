"""What commits do to the versions of files, and that a batch is taken whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import ANNA, BOT, commit, memory
from msgspec.structs import replace

from gitstore import errors, names
from gitstore.history import FileStat, History, TimelineQuery, Version
from gitstore.model import ChangedPath, CommitFacts


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.sqlite")
    yield opened
    opened.close()


class Tree:
    """Files and the keys that their meta files give them."""

    def __init__(self) -> None:
        self.contents: set[str] = set()
        self.metas: dict[str, str | None] = {}

    def key(self, path: str) -> str:
        return self.metas.get(path) or names.key_of_path(path.removeprefix("files/"))

    def keys(self) -> dict[str, str]:
        return {path: self.key(path) for path in self.contents}


FILES = ["files/a.md", "files/b.md", "files/sub/a.md"]
edits = st.tuples(
    st.sampled_from(["put", "put", "remove", "describe", "name", "plain", "rename"]),
    st.sampled_from(FILES),
    st.sampled_from(FILES),
    st.sampled_from(["k1", "a-md", "b-md"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(edits, min_size=1, max_size=3), min_size=1, max_size=12), st.booleans())
def test_versions_of_files_count_the_changes_that_leave_them_existing(steps: list[Any], told_old: bool) -> None:
    tree = Tree()
    line: list[CommitFacts] = []
    wanted: dict[str, list[Version]] = {}
    stats: dict[str, FileStat] = {}
    for step in steps:
        before, keys_before = tree.keys(), {path: tree.key(path) for path in FILES}
        touched: dict[str, ChangedPath] = {}
        for action, path, other, key in step:
            meta = names.meta_path(path)
            if {path, other, meta} & set(touched):
                continue
            if action == "put":
                op: Any = "changed" if path in tree.contents else "added"
                tree.contents.add(path)
                touched[path] = ChangedPath(path, op, "file")
            elif action == "remove" and path in tree.contents:
                tree.contents.discard(path)
                touched[path] = ChangedPath(path, "deleted", "file")
            elif action in ("describe", "name"):
                op = "changed" if path in tree.metas else "added"
                tree.metas[path] = key if action == "name" else tree.metas.get(path)
                touched[meta] = ChangedPath(meta, op, "file")
            elif action == "plain" and path in tree.metas:
                del tree.metas[path]
                touched[meta] = ChangedPath(meta, "deleted", "file")
            elif action == "rename" and path in tree.contents and other not in tree.contents:
                tree.contents = (tree.contents - {path}) | {other}
                touched[other] = ChangedPath(other, "renamed", "file", old_path=path)
        if not touched:
            continue
        told = [
            replace(one, key=keys_before[own] if told_old and one.op == "deleted" else tree.key(own))
            for one in touched.values()
            for own in [one.path.removesuffix(names.META_SUFFIX)]
        ]
        facts = commit(told, after=line[-1] if line else None)
        line.append(facts)
        after = tree.keys()
        pairs = {path.removesuffix(names.META_SUFFIX) for path in touched}
        pairs |= {one.old_path for one in touched.values() if one.old_path is not None}
        for key in {state[path] for state in (before, after) for path in pairs if path in state}:
            known = wanted.setdefault(key, [])
            number = known[-1].number if known else 0
            was, there = key in before.values(), key in after.values()
            if there:
                known.append(Version(number + 1, facts.id, facts.time, BOT, "changed" if was else "added"))
                created = stats[key].created_at if was else facts.time
                stats[key] = FileStat(number + 1, created, facts.time, facts.id)
            else:
                known.append(Version(number, facts.id, facts.time, BOT, "deleted"))
                del stats[key]
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder) / "h")
        history.append(("a", facts) for facts in line)
        for key in ("k1", *map(names.key_of_path, ("a.md", "b.md", "sub/a.md"))):
            versions = wanted.get(key, [])
            assert history.versions("a", "file", key) == versions
            assert history.version_count("a", "file", key) == (versions[-1].number if versions else 0)
        assert history.file_stats("a") == stats
        history.close()


def test_a_file_that_comes_back_goes_on_counting_but_is_young_again(history: History) -> None:
    def change(op: Any, after: CommitFacts | None = None) -> CommitFacts:
        return commit([ChangedPath("files/a.md", op, "file", "a-md")], after=after)

    first = change("added")
    second = change("changed", first)
    gone = change("deleted", second)
    back = change("added", gone)
    history.append(("w", one) for one in (first, second, gone))
    assert history.file_stats("w") == {}
    assert history.version_count("w", "file", "a-md") == 2
    history.append([("w", back)])
    assert history.file_stats("w") == {"a-md": FileStat(3, back.time, back.time, back.id)}
    shown = [(one.number, one.op) for one in history.versions("w", "file", "a-md")]
    assert shown == [(1, "added"), (2, "changed"), (2, "deleted"), (3, "added")]


def test_a_batch_is_taken_whole_or_not_at_all(history: History) -> None:
    first = commit([memory("a")])
    history.append([("w", first)])
    second = commit([memory("b"), ChangedPath("files/x", "added", "file", "x")], after=first, actor=ANNA)
    stray = commit([memory("c")], parents=("cd" * 20,))
    with pytest.raises(errors.Damaged, match="first parent"):
        history.append([("w", second), ("v", commit([memory("a")])), ("w", stray)])
    backwards = commit([memory("c")], after=second, time=second.time - 1)
    with pytest.raises(ValueError, match="goes back"):
        history.append([("w", second), ("w", backwards)])
    assert history.heads() == {("w", "main"): first.id}
    assert history.file_stats("w") == {}
    assert history.timeline("w", TimelineQuery(actor="person")).total == 0
    history.append([("w", second)])
    (entry,) = history.timeline("w", TimelineQuery(actor="person")).entries
    assert entry.facts == second
    assert history.timeline("w", TimelineQuery(key="b")).total == 1


def test_a_commit_that_is_already_there_is_passed_over(history: History) -> None:
    first = commit([ChangedPath("spec/tools.yaml", "added", "spec", "tools")])
    second = commit([ChangedPath("spec/tools.yaml", "changed", "spec", "tools")], after=first)
    history.append([("w", first), ("w", second), ("w", first), ("w", second)])
    history.append([("w", first), ("w", second)])
    assert history.timeline("w").total == 2
    assert history.version_count("w", "spec") == 2
