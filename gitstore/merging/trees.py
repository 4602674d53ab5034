"""Merging two lines of a branch: file by file against what both came from, and each file by its content.

Where both changed one place differently the preferred side's stays, and the clash says what both have. Nothing is lost
by that: the commit that joins the lines has both as parents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, NamedTuple

from gitstore.documents import MISSING
from gitstore.errors import Conflict
from gitstore.merging.clash import Clash, Side, content
from gitstore.merging.files import merge_file
from gitstore.repository.objects import BLOB, Blob, Object, Oid, identify
from gitstore.repository.repository import Repository
from gitstore.repository.trees import Difference, Node, Source, Tree, TreeView, compare, rewrite
from gitstore.repository.worktree import regular

_DIRECTORY = 0o40000
_NO_BYTES = identify(BLOB, b"")


class Merged(NamedTuple):
    """The merged tree, and what it needs: all new objects in the order they must be written, the trees also parsed."""

    root: Oid
    objects: list[Object]
    trees: list[tuple[Object, Tree]]
    clashes: tuple[Clash, ...]


def merge(
    repository: Repository,
    since: Oid | None,
    ours: Oid,
    theirs: Oid,
    *,
    prefer: Side = "ours",
    right: TreeView | None = None,
) -> Merged:
    """The tree that has the changes of both sides since the commit `since` (None: since there was nothing).

    `right`: the files of `theirs`, where they are to be others than the commit has.

    A file that one side renamed without changing it, and the other changed, is changed under its new name. Links and
    submodules are taken whole; where one side has a file and the other a folder, the preferred side's stays.
    Raises Damaged where an object is missing.
    """
    right = right if right is not None else repository.tree(theirs)
    return merge_trees(repository.database, repository.tree(since), repository.tree(ours), right, prefer=prefer)


def merge_trees(
    source: Source,
    before: TreeView,
    ours: TreeView,
    theirs: TreeView,
    *,
    prefer: Side = "ours",
    moves: Callable[[str], bool] = lambda path: True,
) -> Merged:
    """`merge` of trees that need not be those of commits; `source` has the objects of all three.

    `moves` says of a path whether it may be that of a file that was renamed.
    """
    first, second = (ours, theirs) if prefer == "ours" else (theirs, ours)
    return _Joining(source, before, first, second, prefer, moves).run()


class _Joining:
    """One merge under way: what `second` changed is brought into `first`, which is preferred."""

    def __init__(
        self,
        source: Source,
        before: TreeView,
        first: TreeView,
        second: TreeView,
        prefer: Side,
        moves: Callable[[str], bool],
    ) -> None:
        self.moves = moves
        self.source = source
        self.before = before
        self.first = first
        self.second = second
        self.prefer: Side = prefer
        self.changed = list(compare(source, before.root, second.root))
        self.edits: dict[str, Node | None] = {}
        self.blobs: list[Object] = []
        self.clashes: list[Clash] = []

    def run(self) -> Merged:
        """Does it."""
        carried: dict[str, Node] = {}
        for path, was, wanted in self.changed:
            found = self.first.node(path)
            here = None if found is not None and found.mode == _DIRECTORY else found
            if here == was:
                self.edits[path] = wanted
            elif here != wanted and not self._carried(carried, path, was, here, wanted):
                self._both(path, was, here, wanted)
        self.edits |= carried
        root, trees = self._written()
        objects = [*self.blobs, *(item for item, _ in trees)]
        return Merged(root, objects, trees, tuple(sorted(self.clashes, key=lambda clash: clash.path)))

    # -- one path -------------------------------------------------------------------------------------------------

    def _both(self, path: str, was: Node | None, here: Node | None, wanted: Node | None) -> None:
        """Both sides changed a path, and differently."""
        nodes = was, *self._sides(here, wanted)
        if not all(node is None or regular(node) for node in nodes):
            self.clashes.append(Clash(path, "", *map(self._shown, nodes)))
            return
        base, ours, theirs = (None if node is None else self.source.blob(node.id) for node in nodes)
        done = merge_file(path, base, ours, theirs, prefer=self.prefer)
        self.clashes += done.clashes
        if done.data is None:
            return  # the preferred side removed it
        if here is None or wanted is None:
            return  # or changed what the other removed
        mode = wanted.mode if was is not None and here.mode == was.mode else here.mode
        blob = Blob(done.data)
        if blob.id not in (here.id, wanted.id):
            self.blobs.append(blob)
        if Node(mode, blob.id) != here:
            self.edits[path] = Node(mode, blob.id)

    def _sides(self, first: Any, second: Any) -> tuple[Any, Any]:
        return (first, second) if self.prefer == "ours" else (second, first)

    def _shown(self, node: Node | None) -> Any:
        if node is None:
            return MISSING
        if regular(node):
            return content(self.source.blob(node.id))
        return {"mode": f"{node.mode:o}", "id": node.id.hex()}

    # -- renames --------------------------------------------------------------------------------------------------

    def _carried(
        self, carried: dict[str, Node], path: str, was: Node | None, here: Node | None, wanted: Node | None
    ) -> bool:
        """Whether one side renamed the path and the other changed it: then its change goes to the new name."""
        if was is None or (here is None) == (wanted is None):
            return False
        renames, other = (self._first_renames, self.second) if here is None else (self._second_renames, self.first)
        new, change = renames.get(path), wanted or here
        if new is None or change is None or not regular(change) or other.node(new) is not None:
            return False
        if not _fits(self.first, new):
            return False
        carried[new] = change
        if here is not None:
            self.edits[path] = None
        return True

    @cached_property
    def _first_renames(self) -> dict[str, str]:
        return self._renames(compare(self.source, self.before.root, self.first.root))

    @cached_property
    def _second_renames(self) -> dict[str, str]:
        return self._renames(self.changed)

    def _renames(self, differences: Iterable[Difference]) -> dict[str, str]:
        return _renames(one for one in differences if self.moves(one.path))

    # -- the tree -------------------------------------------------------------------------------------------------

    def _written(self) -> tuple[Oid, list[tuple[Object, Tree]]]:
        try:
            return rewrite(self.source, self.first.root, self.edits)
        except Conflict:
            pass  # a folder on one side is a file on the other
        layer = Layer(self.source)
        root, made = rewrite(layer, self.first.root, {path: None for path, node in self.edits.items() if node is None})
        layer.trees.update((item.id, tree) for item, tree in made)
        left = TreeView(layer, root)
        fitting: dict[str, Node | None] = {}
        for path, node in self.edits.items():
            if node is None:
                continue
            if _fits(left, path):
                fitting[path] = node
            else:
                sides = self._sides(left.node(path), node)
                self.clashes.append(Clash(path, "", self._shown(self.before.node(path)), *map(self._shown, sides)))
        root, more = rewrite(layer, root, fitting)
        return root, [*made, *more]


class Layer:
    """A source with a few trees and blobs that are not stored yet."""

    def __init__(self, source: Source) -> None:
        self.trees: dict[Oid, Tree] = {}
        self.blobs: dict[Oid, bytes] = {}
        self._source = source

    def tree(self, oid: Oid) -> Tree:
        """The tree with this id."""
        return self.trees.get(oid) or self._source.tree(oid)

    def blob(self, oid: Oid) -> bytes:
        """The content of a blob."""
        held = self.blobs.get(oid)
        return self._source.blob(oid) if held is None else held

    def add(self, made: Merged) -> None:
        """Takes in what a merge made."""
        self.trees.update((item.id, tree) for item, tree in made.trees)
        self.blobs.update((item.id, item.data) for item in made.objects if item.kind == BLOB)


def _fits(view: TreeView, path: str) -> bool:
    """Whether a file can be written there: it replaces no folder, and its folders are no files."""
    folder = path.rpartition("/")[0]
    while folder:
        node = view.node(folder)
        if node is not None:
            if node.mode != _DIRECTORY:
                return False
            break
        folder = folder.rpartition("/")[0]
    node = view.node(path)
    return node is None or node.mode != _DIRECTORY


def _renames(differences: Iterable[Difference]) -> dict[str, str]:
    """Old name → new name of the files that moved unchanged, where there is only one way to see it."""
    gone: dict[Oid, list[str]] = {}
    come: dict[Oid, list[str]] = {}
    for path, old, new in differences:
        if old is not None and new is None and regular(old):
            gone.setdefault(old.id, []).append(path)
        elif old is None and new is not None and regular(new):
            come.setdefault(new.id, []).append(path)
    return {
        paths[0]: come[oid][0]
        for oid, paths in gone.items()
        if len(paths) == 1 and len(come.get(oid, ())) == 1 and oid != _NO_BYTES
    }
