"""Which rows of a workspace have something in their content: documents of the index led back to rows of the columns."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from gitstore.explorer.columns import Columns
from gitstore.search.documents import KINDS
from gitstore.search.index import Part
from gitstore.search.query import Phrase, Prefix, Word
from gitstore.search.ranking import Matcher, window
from gitstore.search.rows import kind_number
from gitstore.search.tail import Tail

_ARTIFACT = kind_number("artifact")
Rows = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


class _Way:
    """From the documents of one part to rows; -1 for what is no row (yet). It does not keep the part."""

    def __init__(self, part: Part, workspace: str, columns: Columns) -> None:
        self.low = 0
        self._grown = columns.grown
        self._every: array[int] | None = None  # the documents of the workspace in a tail
        self._done = 0
        self._open: list[int] = []
        self._workspace = workspace
        if isinstance(part, Tail):
            self.rows: Rows = np.empty(0, np.int32)
        else:
            view = window(part, workspace)
            self.low = view.low
            self.rows = np.full(view.size, -1, np.int32)
            here = slice(view.low, view.low + view.size)
            own = np.flatnonzero(part.kinds[here] == _ARTIFACT)
            self._resolve(part, columns, own.tolist())

    def _resolve(self, part: Part, columns: Columns, places: Sequence[int]) -> None:
        numbers, low = columns.numbers, self.low
        still = []
        for place in places:
            row = numbers.get(part.key(low + place)[2] if isinstance(part, Tail) else part.rows.id(low + place), -1)
            self.rows[place] = row
            if row < 0:
                still.append(place)
        self._open = still

    def follow(self, part: Part, columns: Columns) -> None:
        """Takes in documents and rows that came since."""
        if isinstance(part, Tail):
            every = part.of.get(self._workspace)
            have = len(every) if every is not None else 0
            if len(self.rows) < part.count:
                room = np.full(max(1024, 2 * part.count), -1, np.int32)
                room[: len(self.rows)] = self.rows
                self.rows = room
            if every is not self._every:
                self.rows[:] = -1  # the workspace was forgotten meanwhile
                self._every, self._done, self._open = every, 0, []
            if every is not None and (have > self._done or (self._open and self._grown != columns.grown)):
                keys = part.keys
                new = [number for number in every[self._done :] if keys[number][1] == KINDS[_ARTIFACT]]
                self._resolve(part, columns, self._open + new)
                self._done = have
        elif self._open and self._grown != columns.grown:
            self._resolve(part, columns, self._open)
        self._grown = columns.grown


class Contents:
    """The contents of one workspace's artifacts."""

    def __init__(self, workspace: str, columns: Columns) -> None:
        self._workspace = workspace
        self._columns = columns
        # A part that is in the index no more must not stay in memory until its workspace is asked for again.
        self._ways: WeakKeyDictionary[Part, _Way] = WeakKeyDictionary()

    def having(self, node: Word | Phrase | Prefix, matcher: Matcher) -> Mask:
        """Which rows have a word, a phrase, or a word that begins so in their content. Raises as the matcher."""
        found = np.zeros(self._columns.count + 1, np.bool_)  # the last one takes what is no row
        for part in matcher.parts:
            if self._workspace not in part.spans:
                continue
            way = self._way(part)
            if isinstance(node, Word):
                numbers = part.get("c" + node.term)[0]
                if not isinstance(part, Tail):
                    first, last = np.searchsorted(numbers, (way.low, way.low + len(way.rows)))
                    numbers = numbers[first:last]
            else:
                view = window(part, self._workspace)
                numbers = (np.flatnonzero(matcher.match(node, view, ("c",)).mask) + view.low).astype(np.uint32)
            if not len(numbers):
                continue
            if isinstance(part, Tail) or part.alive < part.count:
                numbers = numbers[part.live[numbers]]
            found[way.rows[numbers - np.uint32(way.low)]] = True
        return found[:-1]

    def read(self, part: Part) -> None:
        """Finds out beforehand which of its documents are which rows."""
        if self._workspace in part.spans:
            self._way(part)

    def _way(self, part: Part) -> _Way:
        way = self._ways.get(part)
        if way is None:
            way = self._ways[part] = _Way(part, self._workspace, self._columns)
        way.follow(part, self._columns)
        return way
