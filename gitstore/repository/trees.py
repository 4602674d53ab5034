"""Trees: read one, look a path up, write a few paths and get the new root, compare two.

A tree is kept as its sorted list of raw entries, so that changing one of thousands costs a list copy and a join.
Order and modes: "Tree objects" in git's documentation (a directory sorts as if its name ended in `/`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, Protocol, TypeVar

from gitstore.errors import Conflict, Damaged
from gitstore.repository.objects import EMPTY_TREE, TREE, Object, Oid

FILE_MODE = 0o100644
_DIRECTORY = b"40000 "
_ENTRY = re.compile(rb"([0-7]{5,6}) ([^\0]+)\0(.{20})", re.DOTALL)
Piece = TypeVar("Piece", bytes, list[bytes])
_FOLDERS_KEPT = 32
_DEPTH = 40  # a delta chain is never longer: readers follow it link by link


class TreeEntry(NamedTuple):
    """One name in a tree."""

    name: str
    id: str
    is_tree: bool
    mode: int


class Node(NamedTuple):
    """What a path leads to: mode and object id."""

    mode: int
    id: Oid


class Source(Protocol):
    """Where objects are read from."""

    def tree(self, oid: Oid) -> Tree:
        """The tree with this id. Raises Damaged where it is missing or is none."""

    def blob(self, oid: Oid) -> bytes:
        """The content of a blob. Raises Damaged where it is missing or is none."""


class Tree:
    """One tree object, immutable."""

    __slots__ = ("data", "depth", "entries", "keys")

    def __init__(self, keys: list[bytes], entries: list[bytes], data: bytes, depth: int = 0) -> None:
        self.keys = keys
        self.entries = entries
        self.data = data
        self.depth = depth

    @classmethod
    def parse(cls, data: bytes) -> Tree:
        """Reads the raw bytes of a tree object. Raises Damaged if they are none."""
        keys, entries, end = [], [], 0
        for found in _ENTRY.finditer(data):
            if found.start() != end:
                break
            end = found.end()
            keys.append(found[2] + b"/" if found[1] in (b"40000", b"040000") else found[2])
            entries.append(found[0])
        if end != len(data):
            raise Damaged(f"a tree object cannot be read (byte {end} of {len(data)})")
        return cls(keys, entries, data)

    def find(self, name: bytes) -> Node | None:
        """The entry with this name."""
        keys, at = self.keys, 0
        for key in (name, name + b"/"):
            at = bisect_left(keys, key, at)
            if at == len(keys):
                break
            if keys[at] == key:
                return _node(self.entries[at])
        return None

    def nodes(self) -> Iterator[tuple[bytes, Node]]:
        """Every entry, in git's order."""
        for key, entry in zip(self.keys, self.entries, strict=True):
            yield key.removesuffix(b"/"), _node(entry)

    def change(self, own: Oid | None, edits: Mapping[bytes, Node | None]) -> tuple[Tree, Object] | None:
        """The tree with some names set or removed, as an object to store; None when nothing is left."""
        keys, entries = self.keys.copy(), self.entries.copy()
        spans: list[tuple[int, int, bytes]] = []
        single = len(edits) == 1  # where a span is, is only asked then
        for name, node in edits.items():
            is_tree = node is not None and node.mode == 0o40000
            key, other = (name + b"/", name) if is_tree else (name, name + b"/")
            for gone in (other, key) if node is None else (other,):
                at = bisect_left(keys, gone)
                if at < len(keys) and keys[at] == gone:
                    if single:
                        spans.append(_span(entries, at, at + 1, b""))
                    del keys[at], entries[at]
            if node is None:
                continue
            entry = (_DIRECTORY if is_tree else b"%o " % node.mode) + name + b"\0" + node.id
            at = bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                if single:
                    spans.append(_span(entries, at, at + 1, entry))
                entries[at] = entry
            else:
                if single:
                    spans.append(_span(entries, at, at, entry))
                keys.insert(at, key)
                entries.insert(at, entry)
        if not entries:
            return None
        data = b"".join(entries)
        new = Object(TREE, data)
        tree = Tree(keys, entries, data)
        # A single change is a three-part delta; a long flat tree then costs a commit 60 bytes, not a copy of itself.
        if own is not None and len(spans) == 1 and self.depth < _DEPTH and len(self.data) > 200:
            new.lean_on(own, len(self.data), *spans[0])
            tree.depth = self.depth + 1
        return tree, new


def _span(entries: list[bytes], start: int, end: int, insert: bytes) -> tuple[int, int, bytes]:
    at = sum(map(len, entries[:start]))
    return at, at + sum(map(len, entries[start:end])), insert


def _node(entry: bytes) -> Node:
    return Node(int(entry[: entry.index(b" ")], 8), Oid(entry[-20:]))


def encode_path(path: str) -> bytes:
    """A path as git stores it."""
    return path.encode("utf-8", "surrogateescape")


def decode_path(path: bytes) -> str:
    """A path of a tree as text; bytes that are not UTF-8 come back unharmed through `encode_path`."""
    return path.decode("utf-8", "surrogateescape")


class TreeView:
    """A commit's files, read by path."""

    __slots__ = ("_folders", "root", "source")

    def __init__(self, source: Source, root: Oid) -> None:
        self.source = source
        self.root = root
        # Those looked at lately: files that are asked for together are mostly neighbours.
        self._folders: dict[str, Tree | Literal[False]] = {}

    def node(self, path: str) -> Node | None:
        """Mode and id at `path` (`""` is the root), or None."""
        if not path:
            return Node(0o40000, self.root)
        folder, slash, name = path.rpartition("/")
        tree = self._folder(folder) if folder or not slash else None
        return tree.find(encode_path(name)) if tree else None

    def _folder(self, path: str) -> Tree | Literal[False]:
        """The tree of a folder; False where there is none."""
        known, below = path, list[str]()
        tree: Tree | Literal[False] | None = None
        while known and (tree := self._folders.get(known)) is None:
            known, _, name = known.rpartition("/")
            below.append(name)
        if tree is None:
            tree = self.source.tree(self.root)
        for name in reversed(below):
            node = tree.find(encode_path(name)) if tree else None
            tree = self.source.tree(node.id) if node is not None and node.mode == 0o40000 else False
            known = f"{known}/{name}" if known else name
            if len(self._folders) >= _FOLDERS_KEPT:
                self._folders.clear()
            self._folders[known] = tree
        return tree

    def beside(self, path: str, name: bytes) -> bool:
        """Whether any folder on the way to `path` holds something of this name."""
        here = self.source.tree(self.root)
        for part in encode_path(path).split(b"/"):
            if here.find(name) is not None:
                return True
            node = here.find(part)
            if node is None or node.mode != 0o40000:
                break
            here = self.source.tree(node.id)
        return False

    def blob(self, path: str) -> str | None:
        """The id of the file at `path`, or None (also for a folder, link or submodule)."""
        node = self.node(path)
        return node.id.hex() if node is not None and _is_file(node.mode) else None

    def read(self, path: str) -> bytes | None:
        """The content of the file at `path`, or None."""
        node = self.node(path)
        return self.source.blob(node.id) if node is not None and _is_file(node.mode) else None

    def entries(self, folder: str = "") -> list[TreeEntry]:
        """What a folder holds, in git's order; empty where there is none."""
        node = self.node(folder)
        if node is None or node.mode != 0o40000:
            return []
        return [
            TreeEntry(decode_path(name), node.id.hex(), node.mode == 0o40000, node.mode)
            for name, node in self.source.tree(node.id).nodes()
        ]

    def names(self, folder: str) -> list[bytes]:
        """The names of what a folder holds, those of folders with a `/` at the end; empty where there is none."""
        tree = self._folder(folder)
        return tree.keys if tree else []

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every file, link and submodule below, with its path."""
        yield from _walk(self.source, self.root, "")


_Edits = dict[bytes, "Node | _Edits | None"]  # by name, those of the path itself under `_ITSELF`
_ITSELF = b""


def _walk(source: Source, root: Oid, prefix: str) -> Iterator[tuple[str, Node]]:
    for name, node in source.tree(root).nodes():
        path = prefix + decode_path(name)
        if node.mode == 0o40000:
            yield from _walk(source, node.id, path + "/")
        else:
            yield path, node


def _is_file(mode: int) -> bool:
    return mode & 0o170000 == 0o100000


def rewrite(source: Source, root: Oid, edits: Mapping[str, Node | None]) -> tuple[Oid, list[tuple[Object, Tree]]]:
    """The root that holds the edits (None removes), and the tree objects that are new.

    Folders that end up empty vanish. Raises Conflict where a path leads through a file, or a file would replace
    a folder.
    """
    nested: _Edits = {}
    for path, node in edits.items():
        place = nested
        for part in encode_path(path).split(b"/"):
            place = place.setdefault(part, {})  # type: ignore[assignment]
        place[_ITSELF] = node
    made: list[tuple[Object, Tree]] = []
    return _rewrite(source, root, nested, "", made) or EMPTY_TREE, made


def _rewrite(
    source: Source, own: Oid | None, edits: _Edits, prefix: str, made: list[tuple[Object, Tree]]
) -> Oid | None:
    old = source.tree(own) if own is not None else Tree([], [], b"")
    changed: dict[bytes, Node | None] = {}
    for name, edit in edits.items():
        assert isinstance(edit, dict)
        here = old.find(name)
        new = _edited(source, here, edit, prefix + decode_path(name), made)
        if new != here:
            changed[name] = new
    if not changed:
        return own
    result = old.change(own, changed)
    if result is None:
        return None
    tree, new_object = result
    made.append((new_object, tree))
    return new_object.id


def _edited(source: Source, here: Node | None, edit: _Edits, path: str, made: list[tuple[Object, Tree]]) -> Node | None:
    """What is at a path after the edits of it and of what is below it."""
    own = edit.pop(_ITSELF, here)
    assert not isinstance(own, dict)
    folder = here if here is not None and here.mode == 0o40000 else None
    if not edit:
        if folder is not None and own is not folder:
            if own is None:
                return here
            raise Conflict(f"`{path}` is a folder; a file cannot take its place")
        return own
    writes = any(leaf is not None for leaf in _leaves(edit))
    file = own if own is not folder else None
    if file is not None and writes:
        what = "a file in the same change" if file is not here else "a file"
        raise Conflict(f"`{path}` is {what}; nothing can be written below it")
    inner = _rewrite(source, folder.id if folder is not None else None, edit, path + "/", made)
    if inner is None:
        return file
    if file is not None and folder is not None:
        raise Conflict(f"`{path}` is a folder; a file cannot take its place")
    return Node(0o40000, inner)


def _leaves(edits: _Edits) -> Iterator[object]:
    for edit in edits.values():
        if isinstance(edit, dict):
            yield from _leaves(edit)
        else:
            yield edit


class Difference(NamedTuple):
    """One path that differs between two trees; None: not there."""

    path: str
    old: Node | None
    new: Node | None


def compare(source: Source, old: Oid, new: Oid, prefix: str = "") -> Iterator[Difference]:
    """The files that differ between two trees, by the names on the way to them. Equal subtrees are not read."""
    if old == new:
        return
    before, after = (source.tree(oid).entries if oid != EMPTY_TREE else [] for oid in (old, new))
    start = common(before, after)
    end = common(before[::-1], after[::-1], start)
    left = _window(before[start : len(before) - end])
    right = _window(after[start : len(after) - end])
    for name in sorted(left.keys() | right.keys()):
        was, now = left.get(name), right.get(name)
        if was == now:
            continue
        path = prefix + decode_path(name)
        was_tree = was is not None and was.mode == 0o40000
        now_tree = now is not None and now.mode == 0o40000
        file_was = None if was_tree else was
        file_now = None if now_tree else now
        if file_was is not None or file_now is not None:
            yield Difference(path, file_was, file_now)
        if was_tree or now_tree:
            yield from compare(
                source,
                was.id if was is not None and was_tree else EMPTY_TREE,
                now.id if now is not None and now_tree else EMPTY_TREE,
                path + "/",
            )


def common(one: Piece, other: Piece, start: int = 0) -> int:
    """How much two texts, or two trees' entries, have in common at their beginning; the last `start` are left alone."""
    low, high = 0, min(len(one), len(other)) - start
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _window(entries: list[bytes]) -> dict[bytes, Node]:
    return {entry[entry.index(b" ") + 1 : -21]: _node(entry) for entry in entries}
