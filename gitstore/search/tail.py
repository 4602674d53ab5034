"""Documents that are not on disk yet, kept as a segment would be: found the moment they are put."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gitstore.search.documents import KINDS, Document
from gitstore.search.postings import NOTHING, Posting
from gitstore.search.rows import Key, kind_number
from gitstore.search.stamps import stamped
from gitstore.search.words import fold, sequence, singles, terms


@lru_cache(maxsize=65_536)
def _label(name: str, value: str) -> tuple[str, ...]:
    """The terms of a label."""
    return tuple(place + word for word in terms(value) for place in (f"f{name}=", "l"))


class Tail:
    """Grows at its end only; a document put again stands there twice, the first time dead.

    What is asked of `live`, `codes` and the like is a copy as of now.
    """

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.numbers: dict[Key, int] = {}
        self.of: dict[str, array[int]] = {}
        self.marks: dict[str, str] = {}
        self.forgotten: set[str] = set()
        self.postings: dict[str, tuple[array[int], bytearray]] = {}
        self.tokens: list[bytes] = []
        self.titles: list[bytes] = []
        self.bytes = 0
        self._live = bytearray()
        self._codes: array[int] = array("i")
        self._kinds = bytearray()
        self._times: array[int] = array("q")
        self._lengths: array[int] = array("I")
        self._vocabulary: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.keys or self.marks or self.forgotten)

    @property
    def count(self) -> int:
        """How many documents, dead ones included."""
        return len(self.keys)

    def put(self, key: Key, code: int, document: Document) -> None:
        """Add a document; `code` is its workspace's."""
        self.kill(key)
        number = len(self.keys)
        self.keys.append(key)
        self.numbers[key] = number
        place = self.of.get(key[0])
        if place is None:
            place = self.of[key[0]] = array("I")
        place.append(number)
        content, title = sequence(document.text), sequence(document.title)
        self._add("c", content, number)
        self._add("t", title, number)
        if document.labels:
            named: set[str] = set()
            for name, value in document.labels:
                named.update(_label(name, value))
            for term in named:
                self._single(term, number)
        tokens = stamped(content, title)
        self.tokens.append(tokens)
        folded = fold(document.title).encode("utf-8", "surrogatepass")
        self.titles.append(folded)
        self.bytes += 2 * len(tokens) + len(folded)
        self._live.append(1)
        self._codes.append(code)
        self._kinds.append(kind_number(key[1]))
        self._times.append(max(-(1 << 62), min(document.time, 1 << 62)))
        self._lengths.append(len(content))

    def _add(self, place: str, found: list[str], number: int) -> None:
        postings = self.postings
        for word, times in Counter(found).items():
            have = postings.get(place + word)
            if have is None:
                have = postings[place + word] = (array("I"), bytearray())
            have[0].append(number)
            have[1].append(times if times < 255 else 255)
            if word >= "\u0e00" and singles(word):
                for character in word:
                    self._single(place + character, number)

    def _single(self, term: str, number: int) -> None:
        have = self.postings.setdefault(term, (array("I"), bytearray()))
        if not have[0] or have[0][-1] != number:
            have[0].append(number)
            have[1].append(1)

    def kill(self, key: Key) -> bool:
        """The document with this key is found no more; whether there was one."""
        number = self.numbers.pop(key, None)
        if number is None:
            return False
        self._live[number] = 0
        return True

    def forget(self, workspace: str) -> None:
        """Nothing of a workspace is found any more."""
        for number in self.of.pop(workspace, ()):
            self.numbers.pop(self.keys[number], None)
            self._live[number] = 0
        for name in [name for name in self.marks if name.startswith(workspace + " ")]:
            del self.marks[name]
        self.forgotten.add(workspace)

    def and_then(self, newer: Tail) -> Tail:
        """This tail, then what came after it; neither is used any more."""
        base = self.count
        for number, key in enumerate(newer.keys):
            self.kill(key)
            self.keys.append(key)
            self.of.setdefault(key[0], array("I")).append(base + number)
        self.numbers.update({key: base + number for key, number in newer.numbers.items()})
        for term, (numbers, frequencies) in newer.postings.items():
            have = self.postings.setdefault(term, (array("I"), bytearray()))
            have[0].extend(base + number for number in numbers)
            have[1].extend(frequencies)
        self.tokens += newer.tokens
        self.titles += newer.titles
        self.bytes += newer.bytes
        self._live += newer._live
        self._codes += newer._codes
        self._kinds += newer._kinds
        self._times += newer._times
        self._lengths += newer._lengths
        for name in [name for name in self.marks if name.split(" ", 1)[0] in newer.forgotten]:
            del self.marks[name]
        self.marks.update(newer.marks)
        self.forgotten |= newer.forgotten
        return self

    # -- as a segment ---------------------------------------------------------------------------------------------

    @property
    def live(self) -> npt.NDArray[np.bool_]:
        """Which documents can be found."""
        return np.array(self._live, dtype=np.bool_)

    @property
    def codes(self) -> npt.NDArray[np.int32]:
        """The workspaces of the documents."""
        return np.array(self._codes, dtype=np.int32)

    @property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """Their kinds, by their place in KINDS."""
        return np.array(self._kinds, dtype=np.uint8)

    @property
    def times(self) -> npt.NDArray[np.int64]:
        """Their times, in ms."""
        return np.array(self._times, dtype=np.int64)

    @property
    def lengths(self) -> npt.NDArray[np.uint32]:
        """How many words their contents have."""
        return np.array(self._lengths, dtype=np.uint32)

    def get(self, term: str) -> Posting:
        """The documents that have a term, dead ones included."""
        found = self.postings.get(term)
        if found is None:
            return NOTHING
        return np.array(found[0], dtype=np.uint32), np.array(found[1], dtype=np.uint8)

    def beginning(self, prefix: str) -> Iterator[str]:
        """The terms that begin so, in order."""
        if len(self._vocabulary) != len(self.postings):
            self._vocabulary = sorted(self.postings)
        at = bisect_left(self._vocabulary, prefix)
        while at < len(self._vocabulary) and self._vocabulary[at].startswith(prefix):
            yield self._vocabulary[at]
            at += 1

    def words_of(self, number: int) -> bytes:
        """The words of a document in their order; see `stamp`."""
        return self.tokens[number]

    def title_of(self, number: int) -> bytes:
        """The folded title of a document."""
        return self.titles[number]

    def key(self, number: int) -> Key:
        """The key of a document."""
        return self.keys[number]

    @property
    def spans(self) -> dict[str, array[int]]:
        """The documents of each workspace, dead ones included."""
        return self.of


assert len(KINDS) < 256
