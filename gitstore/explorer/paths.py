"""The folded paths of a workspace's artifacts as few long texts, in which parts of paths are found with numpy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from gitstore.explorer.joined import padded
from gitstore.search.words import TERM_MAX

_FEW: Final = 300  # hits from where on numpy is faster
_KEPT: Final = 2_000_000  # hits that a block remembers, over all needles
_WORD: Final = np.zeros(256, np.bool_)
_WORD[[*range(0x30, 0x3A), *range(0x61, 0x7B)]] = True
Numbers = npt.NDArray[np.int64] | npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


class _Block:
    """Paths one after another, a line break after each."""

    def __init__(self, first: int, paths: Sequence[bytes]) -> None:
        self.first = first
        self.count = len(paths)
        self.data = b"\n" + b"\n".join(paths) + b"\n"
        self.array: npt.NDArray[np.uint8] = np.frombuffer(self.data, np.uint8)
        lengths = np.fromiter(map(len, paths), np.int64, len(paths)) + 1
        self.starts: Numbers = np.concatenate(([1], 1 + np.cumsum(lengths)))
        self.plain: Mask = np.fromiter((path.isascii() for path in paths), np.bool_, len(paths))
        slashes = [path.rfind(b"/") + 1 for path in paths]
        self.names: Numbers = self.starts[:-1] + np.array(slashes, np.int64)
        self._counts = np.bincount(self.array, minlength=256)
        self._known: OrderedDict[bytes, Numbers] = OrderedDict()
        self._held = 0

    def find(self, needle: bytes) -> Numbers:
        """Where the needle stands."""
        found = self._known.get(needle)
        if found is None:
            found = self._known[needle] = self._find(needle).astype(np.int32)
            self._held += len(found) + 64
            while self._held > _KEPT and len(self._known) > 1:
                self._held -= len(self._known.popitem(last=False)[1]) + 64
        else:
            self._known.move_to_end(needle)
        return found

    def _find(self, needle: bytes) -> Numbers:
        hits: list[int] = []
        at = self.data.find(needle)
        while at >= 0:
            hits.append(at)
            if len(hits) > _FEW:
                return self._many(needle)
            at = self.data.find(needle, at + 1)
        return np.array(hits, np.int64)

    def _many(self, needle: bytes) -> Numbers:
        rarest = min(range(len(needle)), key=lambda at: self._counts[needle[at]])
        found = np.flatnonzero(self.array == needle[rarest]) - rarest
        found = found[(found >= 0) & (found + len(needle) <= len(self.array))]
        for at, byte in enumerate(needle):
            if at != rarest:
                found = found[self.array[found + at] == byte]
        return found

    def rows(self, hits: Numbers) -> Numbers:
        """The places in the block of the paths that hits are in."""
        return np.searchsorted(self.starts, hits, "right") - 1


class Paths:
    """Grows at its end; whoever changes a path begins anew. Rows are numbered from 0."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._pending: list[bytes] = []
        self._all: list[bytes] = []
        self._originals: dict[int, str] = {}  # of those that are not plain ASCII

    def __len__(self) -> int:
        return len(self._all)

    def add(self, folded: str, original: str) -> None:
        """The path of the next row."""
        data = folded.encode("utf-8", "surrogatepass").replace(b"\n", b"\0")
        if not data.isascii():
            self._originals[len(self._all)] = original
        self._pending.append(data)
        self._all.append(data)

    def replace(self, row: int, folded: str, original: str) -> None:
        """A row has another path now."""
        data = folded.encode("utf-8", "surrogatepass").replace(b"\n", b"\0")
        self._all[row] = data
        self._originals.pop(row, None)
        if not data.isascii():
            self._originals[row] = original
        self._blocks, self._pending = [], list(self._all)

    def _settled(self) -> list[_Block]:
        if self._pending:
            first = len(self._all) - len(self._pending)
            # A block that is not much larger than what came since is made one with it.
            while self._blocks and self._blocks[-1].count < 4 * (len(self._all) - first):
                first = self._blocks.pop().first
            self._blocks.append(_Block(first, self._all[first:]))
            self._pending = []
        return self._blocks

    def containing(self, needle: str) -> Mask:
        """Which rows have this in their path."""
        data = needle.encode("utf-8", "surrogatepass")
        found = np.full(len(self._all), not data)
        for block in self._settled() if data else ():
            found[block.first + block.rows(block.find(data))] = True
        return found

    def named(self, needle: str) -> Mask:
        """Which rows have this in their file name."""
        data = needle.encode("utf-8", "surrogatepass")
        found = np.full(len(self._all), not data)
        for block in self._settled() if data else ():
            hits = block.find(data)
            rows = block.rows(hits)
            found[block.first + rows[hits >= block.names[rows]]] = True
        return found

    def having(self, word: str) -> Mask:
        """Which rows have this word (see `words.terms`) in their path."""
        data = word.encode("utf-8", "surrogatepass")
        found = np.zeros(len(self._all), np.bool_)
        for block in self._settled():
            hits = block.find(data)
            rows = block.rows(hits)
            whole = block.plain[rows] & ~_WORD[block.array[hits - 1]]
            if len(word) < TERM_MAX:
                whole &= ~_WORD[block.array[hits + len(data)]]
            found[block.first + rows[whole]] = True
            self._others(block, rows, word, found)
        return found

    def beginning(self, prefix: str) -> Mask:
        """Which rows have a word that begins so in their path."""
        data = prefix.encode("utf-8", "surrogatepass")
        found = np.zeros(len(self._all), np.bool_)
        for block in self._settled():
            hits = block.find(data)
            rows = block.rows(hits)
            found[block.first + rows[block.plain[rows] & ~_WORD[block.array[hits - 1]]]] = True
            for row in np.unique(rows[~block.plain[rows]]):
                number = block.first + int(row)
                found[number] = f" {prefix}" in padded(self._originals[number])
        return found

    def _others(self, block: _Block, rows: Numbers, word: str, found: Mask) -> None:
        for row in np.unique(rows[~block.plain[rows]]):
            number = block.first + int(row)
            found[number] = f" {word} " in padded(self._originals[number])

    def original(self, row: int) -> str:
        """The path of a row; folded if it is plain ASCII, which makes no difference to its words."""
        return self._originals.get(row) or self.text(row)

    def text(self, row: int) -> str:
        """The folded path of a row."""
        return self._all[row].decode("utf-8", "surrogatepass")
