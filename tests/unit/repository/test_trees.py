"""Trees as we splice them are the trees git would make, and a delta we write is one git can read."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore.errors import Conflict, Damaged
from gitstore.repository.database import Database, TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import EMPTY_TREE, TREE, Blob, Object, Oid, _copy
from gitstore.repository.trees import FILE_MODE, Node, Tree, TreeView, compare, rewrite


class Memory:
    """Objects in a dict: the smallest Source there is."""

    def __init__(self) -> None:
        self.objects: dict[Oid, Object] = {}

    def tree(self, oid: Oid) -> Tree:
        return Tree.parse(self.objects[oid].data if oid != EMPTY_TREE else b"")

    def blob(self, oid: Oid) -> bytes:
        return self.objects[oid].data

    def write(self, root: Oid, files: dict[str, bytes | None]) -> tuple[Oid, list[Object]]:
        edits: dict[str, Node | None] = {}
        made: list[Object] = []
        for path, data in files.items():
            if data is None:
                edits[path] = None
            else:
                blob = Blob(data)
                made.append(blob)
                edits[path] = Node(FILE_MODE, blob.id)
        new, trees = rewrite(self, root, edits)
        made += [item for item, _ in trees]
        for item in made:
            self.objects.setdefault(item.id, item)
        return new, made


names = st.text(alphabet="ab.-0 é", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@given(st.lists(st.dictionaries(paths, st.one_of(st.none(), st.binary(max_size=4)), max_size=5), max_size=6))
@settings(max_examples=150, deadline=None)
def test_rewrite_gives_what_a_dict_would(steps: list[dict[str, bytes | None]]) -> None:
    memory, root, model = Memory(), EMPTY_TREE, {}
    for step in steps:
        wanted = {**model, **step}
        alive = {path: data for path, data in wanted.items() if data is not None}
        before = root
        try:
            root, _ = memory.write(root, step)
        except Conflict:
            continue  # a file where a folder is, or the other way round
        assert {path: memory.blob(node.id) for path, node in TreeView(memory, root).walk()} == alive
        changed = {d.path for d in compare(memory, before, root)}
        assert changed == {path for path in {**model, **alive} if model.get(path) != alive.get(path)}
        model = alive
        for path in alive:
            assert TreeView(memory, root).read(path) == alive[path]


def test_git_reads_what_was_written(tmp_path: Path) -> None:
    """Ten generations of a folder of 300 files, each generation a delta of the last; `git fsck --strict` agrees."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    database = Database(Disk(), f"{tmp_path}/.git", TreeCache())
    (tmp_path / ".git/gitstore").mkdir()
    root, made, roots = EMPTY_TREE, [], []
    files: dict[str, bytes] = {f"memory/key-{n:03}.yaml": b"value %d\n" % n for n in range(300)}
    for generation in range(60):
        step = dict(files) if generation == 0 else {f"memory/key-{generation:03}.yaml": b"new %d\n" % generation}
        if generation % 7 == 3:
            step = {f"memory/extra-{generation}.yaml": b"x"}
        edits: dict[str, Node | None] = {}
        for path, data in step.items():
            blob = Blob(data)
            database.keep([blob])
            made.append(blob)
            edits[path] = Node(FILE_MODE, blob.id)
        root, trees = rewrite(database, root, edits)
        for item, tree in trees:
            database.keep_tree(item, tree)
            made.append(item)
        roots.append(root)
    deltas = [item for item in made if item.base is not None]
    assert len(deltas) > 50
    database.publish(made)
    database.drop(made)
    for at in (0, 30, 59):
        listed = subprocess.run(
            ["git", "-C", str(tmp_path), "ls-tree", "-r", "--name-only", roots[at].hex()],
            check=True, capture_output=True, text=True,
        ).stdout.split()  # fmt: skip
        assert listed == sorted(path for path, _ in TreeView(database, roots[at]).walk())
    checked = subprocess.run(["git", "-C", str(tmp_path), "fsck", "--strict", "--full"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    database.close()


def test_there_and_back_is_not_a_circle_of_deltas(tmp_path: Path) -> None:
    """Tree A → B → A in one pack: a delta of each other would be unreadable."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".git/gitstore").mkdir()
    database = Database(Disk(), f"{tmp_path}/.git", TreeCache())
    one, two = Blob(b"one"), Blob(b"two")
    root, made = EMPTY_TREE, []
    first = {f"f{n}": Node(FILE_MODE, one.id) for n in range(30)}
    database.keep([one, two])
    root, trees = rewrite(database, root, first)
    base = [one, *(item for item, _ in trees)]
    for item, tree in trees:
        database.keep_tree(item, tree)
    database.publish(base)
    made.append(two)
    for n in range(8):
        blob = two if n % 2 == 0 else one
        root, trees = rewrite(database, root, {"f7": Node(FILE_MODE, blob.id)})
        for item, tree in trees:
            database.keep_tree(item, tree)
            made.append(item)
    extra = [Blob(b"%d" % n) for n in range(20)]
    database.publish(made + extra)
    checked = subprocess.run(["git", "-C", str(tmp_path), "fsck", "--strict", "--full"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    database.close()


def test_a_name_that_looks_like_an_entry_is_no_entry() -> None:
    memory = Memory()
    root, _ = memory.write(EMPTY_TREE, {"a 100644 foo": b"1", "b": b"2"})
    assert TreeView(memory, root).read("foo") is None
    root, _ = memory.write(root, {"foo": b"3"})
    assert [path for path, _ in TreeView(memory, root).walk()] == ["a 100644 foo", "b", "foo"]


@pytest.mark.parametrize("size", [1, 127, 0xFFFF, 0x10000, 0x10001, 0xFFFFFF, 0x1000001])
@pytest.mark.parametrize("offset", [0, 1, 256, 0x1020304])
def test_copy_instructions_say_what_they_mean(size: int, offset: int) -> None:
    data, at, covered = _copy(offset, size), 0, []
    while at < len(data):
        code = data[at]
        at += 1
        assert code & 0x80
        start = length = 0
        for bit in range(4):
            if code & 1 << bit:
                start |= data[at] << 8 * bit
                at += 1
        for bit in range(3):
            if code & 0x10 << bit:
                length |= data[at] << 8 * bit
                at += 1
        covered.append((start, length or 0x10000))
    assert covered[0][0] == offset
    assert sum(length for _, length in covered) == size
    assert all(a + n == b for (a, n), (b, _) in itertools.pairwise(covered))


def test_garbage_is_no_tree() -> None:
    with pytest.raises(Damaged):
        Tree.parse(b"100644 a\0" + b"x" * 19)
    assert Object(TREE, b"").id == EMPTY_TREE
