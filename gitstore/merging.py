"""Joining two lines of a branch: path by path against what both came from. Where both changed a path, the first stays.

Nothing is lost by that: the commit that joins them has both as parents, and the paths are named.
"""

from __future__ import annotations

from typing import NamedTuple

from gitstore.errors import Conflict
from gitstore.repository.objects import Object, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import Node, Tree, compare, rewrite


class Merged(NamedTuple):
    """The joined tree, the objects it needs, and the paths where the second side had to yield."""

    root: Oid
    trees: list[tuple[Object, Tree]]
    clashes: list[str]


def merge(repository: Repository, since: Oid | None, ours: Oid, theirs: Oid) -> Merged:
    """The tree that has the changes of both sides since the commit `since` (None: since there was nothing)."""
    base = repository.tree(since)
    left, right = repository.tree(ours), repository.tree(theirs)
    edits: dict[str, Node | None] = {}
    clashes: list[str] = []
    for path, was, wanted in compare(repository.database, base.root, right.root):
        here = left.node(path)
        if here == was:
            edits[path] = wanted
        elif here != wanted:
            clashes.append(path)
    try:
        root, trees = rewrite(repository.database, left.root, edits)
    except Conflict:
        # A folder on one side is a file on the other: take their paths one at a time, and name those that do not fit.
        root, trees = left.root, []
        for path, node in edits.items():
            try:
                root, more = rewrite(repository.database, root, {path: node})
            except Conflict:
                clashes.append(path)
            else:
                for item, tree in more:
                    repository.database.keep_tree(item, tree)
                trees += more
    return Merged(root, trees, clashes)
