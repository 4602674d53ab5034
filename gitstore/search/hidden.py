"""Documents that are in the index and not to be found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from gitstore.search.index import Part
from gitstore.search.rows import Key, digest
from gitstore.search.segments import Leaf
from gitstore.search.tail import Tail

Numbers = npt.NDArray[np.int64]


class Hidden:
    """The documents with these keys. It does not keep the parts that it was asked for."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys
        self._known: WeakKeyDictionary[Leaf, Numbers] = WeakKeyDictionary()

    def numbers(self, part: Part) -> Numbers:
        """Which documents of a part they are."""
        if isinstance(part, Tail):
            there = (part.numbers.get(key) for key in self._keys)
            return np.array([number for number in there if number is not None], np.int64)
        found = self._known.get(part)
        if found is None:
            keys = self._keys
            same = [number for place, number in part.rows.find(self._digests) if part.key(number) == keys[place]]
            found = self._known[part] = np.array(same, np.int64)
        return found

    @cached_property
    def _digests(self) -> npt.NDArray[np.uint64]:
        return np.fromiter(map(digest, self._keys), np.uint64, len(self._keys))
