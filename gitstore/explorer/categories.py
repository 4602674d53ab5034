"""What rows share (workflows, work items, tasks, stages, roles, types): each value numbered, with texts and order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from gitstore.explorer.joined import folded
from gitstore.search.words import terms

K = TypeVar("K")
Codes = npt.NDArray[np.int32]
Told = Callable[[K], tuple[str, tuple[tuple[int, str], ...]]]


class Category(Generic[K]):
    """Values by number, from 1 on; 0 is none. `tell` gives the name of a value, and its texts by their place in
    `joined.labels`, as the records say now."""

    def __init__(self, tell: Told[K]) -> None:
        self._tell = tell
        self.codes: dict[K, int] = {}
        self.keys: list[K | None] = [None]
        self.texts: list[tuple[tuple[int, str], ...]] = [()]
        self._words: dict[str, set[tuple[int, int]]] = {}  # word -> (number, place)
        self._names: list[tuple[Any, ...]] = [()]
        self._sorted: list[tuple[Any, ...]] | None = None
        self._order: Codes | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def code(self, key: K | None) -> int:
        """The number of a value."""
        if key is None:
            return 0
        found = self.codes.get(key)
        if found is None:
            found = self.codes[key] = len(self.keys)
            self.keys.append(key)
            self.texts.append(())
            self._names.append(())
            self._read(found, key)
        return found

    def refresh(self, key: K) -> None:
        """The records say something else of a value now."""
        if (code := self.codes.get(key)) is not None:
            self._read(code, key)

    def _read(self, code: int, key: K) -> None:
        name, texts = self._tell(key)
        if texts != self.texts[code]:
            for place, text in self.texts[code]:
                for word in terms(text):
                    self._words[word].discard((code, place))
            self.texts[code] = texts
            for place, text in texts:
                for word in terms(text):
                    self._words.setdefault(word, set()).add((code, place))
        named = (folded(name), key, code)
        if named != self._names[code]:
            old, self._names[code] = self._names[code], named
            if self._sorted is not None:
                self._move(old, named)

    def _move(self, old: tuple[Any, ...], new: tuple[Any, ...]) -> None:
        assert self._sorted is not None
        assert self._order is not None
        if old:
            at = bisect_left(self._sorted, old)
            del self._sorted[at]
            self._order = np.delete(self._order, at)
        at = bisect_left(self._sorted, new)
        self._sorted.insert(at, new)
        self._order = np.insert(self._order, at, new[2])

    @property
    def order(self) -> Codes:
        """All numbers, by folded name, then by value."""
        if self._sorted is None or self._order is None:
            self._sorted = sorted(self._names[1:])
            self._order = np.array([named[2] for named in self._sorted], np.int32)
        return self._order

    def having(self, word: str, places: Iterable[int]) -> list[int]:
        """The numbers of the values that have a word in one of the places."""
        found = self._words.get(word)
        return [code for code, place in found if place in places] if found else []

    def beginning(self, prefix: str, places: Iterable[int]) -> list[int]:
        """The same for words that begin so."""
        return [
            code
            for word, found in self._words.items()
            if word.startswith(prefix)
            for code, place in found
            if place in places
        ]

    def passing(self, test: Callable[[str], bool], places: Iterable[int]) -> Iterator[int]:
        """The numbers of the values of which a text passes."""
        for code, texts in enumerate(self.texts):
            if any(place in places and test(text) for place, text in texts):
                yield code

    def mask(self, codes: Iterable[int]) -> npt.NDArray[np.bool_] | None:
        """Which numbers are among these; None: none is."""
        chosen = list(codes)
        if not chosen:
            return None
        found = np.zeros(len(self.keys), np.bool_)
        found[chosen] = True
        return found
