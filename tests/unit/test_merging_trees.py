"""Merging whole trees: as git would where git can, by content where it cannot, and with nothing dropped in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitstore.documents import MISSING, load
from gitstore.merging import Clash, Merged, merge
from gitstore.repository.commits import Signature, build
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import EMPTY_TREE, TREE, Blob, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import FILE_MODE, Node, Tree, TreeView, rewrite

LINK, SUBMODULE, EXECUTABLE = 0o120000, 0o160000, 0o100755
Files = Mapping[str, bytes | tuple[int, bytes]]
WHO = Signature("n", "e", 0)


class Bench:
    """A repository whose objects are in memory."""

    def __init__(self, root: Path) -> None:
        self.repository = Repository(Disk(), str(root), TreeCache())
        self.database = self.repository.database

    def commit(self, files: Files) -> Oid:
        edits: dict[str, Node | None] = {}
        for path, what in files.items():
            mode, data = what if isinstance(what, tuple) else (FILE_MODE, what)
            blob = Blob(data)
            self.database.keep([blob])
            edits[path] = Node(mode, blob.id)
        root, trees = rewrite(self.database, EMPTY_TREE, edits)
        item = build(root, (), WHO, WHO, "m")
        self.database.keep([*(one for one, _ in trees), item])
        return item.id

    def merge(self, base: Files | None, ours: Files, theirs: Files, prefer: Any = "ours") -> Merged:
        since = self.commit(base) if base is not None else None
        merged = merge(self.repository, since, self.commit(ours), self.commit(theirs), prefer=prefer)
        known: set[Oid] = set()
        for item in merged.objects:  # a base of a delta comes before it, or is stored already
            assert item.base is None or item.base in known or self.database.has(item.base)
            if item.kind == TREE:
                for _, node in Tree.parse(item.data).nodes():
                    assert node.mode == SUBMODULE or node.id in known or self.database.has(node.id)
            known.add(item.id)
        assert [item for item, _ in merged.trees] == [item for item in merged.objects if item.kind == TREE]
        self.database.keep(merged.objects)
        return merged

    def files(self, root: Oid) -> dict[str, Any]:
        view = TreeView(self.database, root)
        return {
            path: self.database.blob(node.id) if node.mode == FILE_MODE else (node.mode, self.database.blob(node.id))
            for path, node in view.walk()
        }


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.database.close()


A, B, C = b"a: 1\nb: 1\n", b"a: 2\nb: 1\n", b"a: 1\nb: 2\n"


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "wanted", "clashing"),
    [
        ({"x": b"1"}, {"x": b"1", "o": b"o"}, {"x": b"1", "d/t": b"t"}, {"x": b"1", "o": b"o", "d/t": b"t"}, []),
        ({"m.yaml": A}, {"m.yaml": B}, {"m.yaml": C}, {"m.yaml": b"a: 2\nb: 2\n"}, []),
        ({"m.yaml": A}, {"m.yaml": B}, {"m.yaml": b"a: 3\nb: 9\n"}, {"m.yaml": b"a: 2\nb: 9\n"}, ["m.yaml /a"]),
        ({"x": b"1"}, {}, {"x": b"2"}, {}, ["x "]),
        ({"x": b"1"}, {"x": b"2"}, {}, {"x": b"2"}, ["x "]),
        ({"x": b"1", "y": b"1"}, {"y": b"1"}, {"x": b"1"}, {}, []),
        (None, {"x": b"1\n"}, {"x": b"2\n"}, {"x": b"1\n"}, ["x "]),
        (None, {"x": b"1\n"}, {"x": b"1\n", "y": b""}, {"x": b"1\n", "y": b""}, []),
        # a renamed file takes the other side's change with it
        ({"m/a.yaml": A}, {"m/b.yaml": A}, {"m/a.yaml": C}, {"m/b.yaml": C}, []),
        ({"m/a.yaml": A}, {"m/a.yaml": B}, {"n/c.yaml": A}, {"n/c.yaml": B}, []),
        ({"a": b"1"}, {"b": b"1"}, {"c": b"1"}, {"b": b"1", "c": b"1"}, []),
        # but not where it could be another file
        ({"a": b"1", "b": b"1"}, {"c": b"1"}, {"a": b"2", "b": b"1"}, {"c": b"1"}, ["a "]),
        ({"a": b"1"}, {"c": b"1", "d": b"1"}, {"a": b"2"}, {"c": b"1", "d": b"1"}, ["a "]),
        ({"a": b""}, {"b": b""}, {"a": b"2"}, {"b": b""}, ["a "]),
        ({"a": b"1"}, {"b": b"1"}, {"a": b"2", "b": b"3"}, {"b": b"1"}, ["a ", "b "]),
        # files and folders
        ({"d": b"1"}, {"d": b"1"}, {"d/x": b"2"}, {"d/x": b"2"}, []),
        ({"d/x": b"1"}, {"d/x": b"1"}, {"d": b"2"}, {"d": b"2"}, []),
        ({"d/x": b"1"}, {"d/x": b"3"}, {"d": b"2"}, {"d/x": b"3"}, ["d ", "d/x "]),
        ({"d": b"1"}, {"d": b"3"}, {"d/x": b"2"}, {"d": b"3"}, ["d ", "d/x "]),
        ({"d": b"1"}, {"d/x": b"2"}, {"d": b"3"}, {"d/x": b"2"}, ["d "]),
        ({}, {"d/e/x": b"1"}, {"d": b"2", "f/y": b"3"}, {"d/e/x": b"1", "f/y": b"3"}, ["d "]),
        # a new name that the other side has no room for
        ({"a": b"1"}, {"a": b"2", "d": b"3"}, {"d/a": b"1"}, {"a": b"2", "d": b"3"}, ["a ", "d/a "]),
        ({"d": b"1"}, {"e": b"1"}, {"d/x": b"2", "e": b"1"}, {"d/x": b"2", "e": b"1"}, []),
        # modes and what is no file
        ({"x": b"1\n"}, {"x": b"2\n"}, {"x": (EXECUTABLE, b"1\n")}, {"x": (EXECUTABLE, b"2\n")}, []),
        ({"x": b"1"}, {"x": (LINK, b"y")}, {"x": b"1"}, {"x": (LINK, b"y")}, []),
        ({"x": (LINK, b"y")}, {"x": (LINK, b"z")}, {"x": b"y"}, {"x": (LINK, b"z")}, ["x "]),
    ],
)
def test_cases(
    bench: Bench, base: Files | None, ours: Files, theirs: Files, wanted: Files, clashing: list[str]
) -> None:
    merged = bench.merge(base, ours, theirs)
    assert bench.files(merged.root) == wanted
    assert [f"{clash.path} {clash.pointer}" for clash in merged.clashes] == clashing
    mirrored = bench.merge(base, theirs, ours, prefer="theirs")
    assert mirrored.root == merged.root
    assert sorted(map(repr, mirrored.clashes)) == sorted(repr(clash.swapped()) for clash in merged.clashes)


def test_what_a_clash_shows(bench: Bench) -> None:
    link = Blob(b"y")
    (clash,) = bench.merge({"x": b"1"}, {"x": (LINK, b"y")}, {"x": b"\xff"}).clashes
    assert clash.ours == {"mode": "120000", "id": link.id.hex()}
    assert clash.base == "1"
    assert clash.theirs["size_bytes"] == 1
    assert bench.merge(None, {"x/y": b"1"}, {"x": b"2"}).clashes[0].theirs == "2"
    assert bench.merge({"m.yaml": A}, {}, {"m.yaml": B}).clashes == (
        Clash("m.yaml", "", load(A), MISSING, load(B)),
    )  # fmt: skip


_paths = st.sampled_from(["a", "b", "a/c", "a/d", "e/f/g", "e/f", "m.yaml", "e/m.yaml"])
_data = st.sampled_from([b"", b"1\n", b"2\n", b"a: 1\n", b"a: 1\nb: 1\n", b"a: 2\nb: 1\n", b"\0"])


def _tree(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if not any(other.startswith(path + "/") for other in files)}


_trees = st.dictionaries(_paths, _data, max_size=5).map(_tree)


@given(_trees, _trees, _trees)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_trees(bench: Bench, base: Files, ours: Files, theirs: Files) -> None:
    assert bench.files(bench.merge(base, base, theirs).root) == theirs
    assert bench.files(bench.merge(base, ours, base).root) == ours
    assert bench.files(bench.merge(base, ours, ours).root) == ours
    merged = bench.merge(base, ours, theirs)
    mirrored = bench.merge(base, theirs, ours, prefer="theirs")
    assert len(mirrored.clashes) == len(merged.clashes)
    found = bench.files(merged.root)
    named = {clash.path for clash in merged.clashes}
    for side, other in ((ours, theirs), (theirs, ours)):
        for path, data in side.items():
            if base.get(path) != data and path not in named and other.get(path) == base.get(path):
                # its own change, and nobody else's: it is there, under another name where that one was renamed, and
                # with another content where it was renamed itself
                assert found.get(path) == data or (path in base and data in found.values()) or data in base.values()
