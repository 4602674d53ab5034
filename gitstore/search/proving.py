"""What the index holds of every document, and whether its terms say the same as the words in their order."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gitstore.search.index import Index, Part
from gitstore.search.rows import Key
from gitstore.search.segments import Leaf
from gitstore.search.stamps import BREAK, stamp

Sums = npt.NDArray[np.uint64]


def proofs(index: Index) -> list[tuple[str, str, str, int | None]]:
    """(workspace, kind, id, proof) of every document that can be found; None where its terms contradict its words."""
    return [(*key, proof) for part in index.parts for key, proof in _of(part)]


def _of(part: Part) -> Iterator[tuple[Key, int | None]]:
    said = _terms(part)
    live = part.live
    for number in np.flatnonzero(live).tolist():
        words = part.words_of(number)
        content, title = _split(words)
        same = all(
            int(said[place][number]) == int(np.unique(have).astype(np.uint64).sum())
            for place, have in (("c", content), ("t", title))
        )
        yield part.key(number), zlib.crc32(words) if same else None


def _split(words: bytes) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    every = np.frombuffer(words, np.dtype("<u4"))
    at = int(np.flatnonzero(every == int.from_bytes(BREAK, "little"))[0])
    return every[:at], every[at + 1 :]


def _terms(part: Part) -> dict[str, Sums]:
    """The sum of the stamps of the terms that each document has, by place."""
    sums = {place: np.zeros(part.count, np.uint64) for place in ("c", "t")}
    for place, total in sums.items():
        for term in part.beginning(place):
            word = term[1:]
            if len(word) == 1 and word >= "\u0e00":
                continue  # the single characters of a run have no place of their own in the order, or are alone there
            numbers = part.get(term)[0]
            total[numbers] += np.uint64(int.from_bytes(stamp(word), "little"))
    if isinstance(part, Leaf) or part.count:
        _lone(part, sums)
    return sums


def _lone(part: Part, sums: dict[str, Sums]) -> None:
    """Adds the single characters of unspaced scripts that stand alone in the text."""
    singles = {
        place: {int.from_bytes(stamp(term[1:]), "little") for term in part.beginning(place)
                if len(term) == 2 and term[1] >= "\u0e00"}
        for place in sums
    }  # fmt: skip
    if not any(singles.values()):
        return
    for number in range(part.count):
        for (place, total), have in zip(sums.items(), _split(part.words_of(number)), strict=True):
            alone = singles[place].intersection(have.tolist())
            total[number] += np.uint64(sum(alone))
