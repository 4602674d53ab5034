"""Differences that were worked out lately, kept: what two trees differ in never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from gitstore.diff.files import LIMITS, FileDiff, FileName, describe, moved, named
from gitstore.model import Branch
from gitstore.repository.renames import Move
from gitstore.repository.trees import TreeView

_KEPT = 128
_BYTES = 32 << 20  # of the contents that were compared


class Some(NamedTuple):
    """Some of the files that differ, and how many do."""

    files: list[FileDiff]
    total: int


class Names(NamedTuple):
    """Which files differ, some of them, and how many do."""

    files: list[FileName]
    total: int


class Compared:
    """Compares trees of any workspaces. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[bytes, bytes, str, str, int, int], tuple[Some, int]] = OrderedDict()
        self._moves: tuple[tuple[bytes, bytes, str], list[Move]] | None = None
        self._size = 0

    def some(
        self, before: TreeView, after: TreeView, branch: Branch, *, prefix: str = "", start: int = 0, most: int = 20
    ) -> Some:
        """`most` of the files that differ, from the one at `start` on. Raises Damaged."""
        key = (before.root, after.root, branch, prefix, start, most)
        held = self._known.get(key)
        if held is not None:
            return held[0]
        moves = self._moved(before, after, prefix)
        found = Some(list(describe(moves[start : start + most], before, after, branch)), len(moves))
        size = 200 + sum(_size(one) for one in found.files)
        with self._lock:
            if key not in self._known:
                self._known[key] = found, size
                self._size += size
            while len(self._known) > _KEPT or self._size > _BYTES:
                self._size -= self._known.popitem(last=False)[1][1]
        return found

    def names(
        self, before: TreeView, after: TreeView, branch: Branch, *, prefix: str = "", start: int = 0, most: int = 20
    ) -> Names:
        """The same without what differs in them, for which no file is read. Raises Damaged."""
        moves = self._moved(before, after, prefix)
        return Names([named(one, before, after, branch) for one in moves[start : start + most]], len(moves))

    def _moved(self, before: TreeView, after: TreeView, prefix: str) -> list[Move]:
        pair = (before.root, after.root, prefix)
        last = self._moves
        if last is not None and last[0] == pair:
            return last[1]
        moves = moved(before, after, prefix=prefix)
        self._moves = (pair, moves)
        return moves


def _size(one: FileDiff) -> int:
    """About how much there is of it at most."""
    held = sum(side.size for side in (one.old, one.new) if side is not None)
    return 500 + (min(2 * held, 2 * LIMITS.shown) if one.hunks else 0)
