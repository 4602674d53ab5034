"""How a segment is made: of the documents that are alive in a tail, or of those in several segments."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from gitstore.search import rows
from gitstore.search.postings import Frequencies, Numbers, TermReader, TermWriter, encoded
from gitstore.search.rows import DOCUMENTS, OWNERS, Key, digest
from gitstore.search.tail import Tail

_STEP = 512  # terms between two looks at what else is to be done
DEAD = np.uint32(0xFFFFFFFF)
Term = tuple[bytes, Numbers, Frequencies]


class Made(NamedTuple):
    """A segment before it is written: its documents in order, and its terms."""

    size: int
    keys: list[Key]
    columns: dict[str, npt.NDArray[Any]]
    tokens: list[bytes]
    titles: list[bytes]
    terms: Iterator[Term]


class _Segment(Protocol):
    terms: TermReader
    rows: rows.Rows
    live: npt.NDArray[np.bool_]


class Source(NamedTuple):
    """A segment that is merged into another, and which of its documents go along."""

    terms: TermReader
    rows: rows.Rows
    live: npt.NDArray[np.bool_]

    @classmethod
    def of_leaf(cls, leaf: _Segment) -> Source:
        """A segment as it is now."""
        return cls(leaf.terms, leaf.rows, leaf.live)


def of_tail(tail: Tail) -> Made:
    """What is alive in a tail."""
    alive = np.flatnonzero(tail.live)
    chosen = sorted(map(int, alive), key=lambda number: tail.keys[number][0])
    place = np.full(tail.count, DEAD, np.uint32)
    place[chosen] = np.arange(len(chosen), dtype=np.uint32)
    columns: dict[str, npt.NDArray[Any]] = {
        "kinds": tail.kinds[chosen],
        "times": tail.times[chosen],
        "lengths": tail.lengths[chosen],
    }
    return Made(
        len(chosen),
        [tail.keys[number] for number in chosen],
        columns,
        [tail.tokens[number] for number in chosen],
        [tail.titles[number] for number in chosen],
        _tail_terms(tail, place),
    )


def _tail_terms(tail: Tail, place: npt.NDArray[np.uint32]) -> Iterator[Term]:
    for term in sorted(tail.postings):
        numbers, frequencies = tail.postings[term]
        yield _moved(encoded(term), place[np.array(numbers)], np.array(frequencies, dtype=np.uint8))


def _moved(term: bytes, numbers: Numbers, frequencies: Frequencies) -> Term:
    """A term's documents under their new numbers, without the dead."""
    if len(numbers) == 1:
        return (term, numbers, frequencies) if numbers[0] != DEAD else (term, numbers[:0], frequencies[:0])
    kept = numbers != DEAD
    if not kept.all():
        numbers, frequencies = numbers[kept], frequencies[kept]
    order = np.argsort(numbers, kind="stable")
    return term, numbers[order], frequencies[order]


def merged(sources: Sequence[Source]) -> Made:
    """What is alive in several segments."""
    chosen: list[tuple[str, int, int]] = []
    for which, source in enumerate(sources):
        for workspace, (low, high) in source.rows.spans.items():
            chosen += ((workspace, which, low + int(at)) for at in np.flatnonzero(source.live[low:high]))
    chosen.sort()
    places = [np.full(source.rows.count, DEAD, np.uint32) for source in sources]
    for number, (_, which, old) in enumerate(chosen):
        places[which][old] = number
    picked = np.array([(which, old) for _, which, old in chosen], np.int64).reshape(-1, 2)

    def column(name: str) -> npt.NDArray[Any]:
        first: npt.NDArray[Any] = getattr(sources[0].rows, name)
        out = np.empty(len(chosen), first.dtype)
        for which, source in enumerate(sources):
            own = picked[:, 0] == which
            out[own] = getattr(source.rows, name)[picked[own, 1]]
        return out

    return Made(
        len(chosen),
        [sources[which].rows.key(old) for _, which, old in chosen],
        {name: column(name) for name in ("kinds", "times", "lengths")},
        [sources[which].rows.text("tokens", old) for _, which, old in chosen],
        [sources[which].rows.text("titles", old) for _, which, old in chosen],
        _merged_terms(sources, places),
    )


def _merged_terms(sources: Sequence[Source], places: Sequence[npt.NDArray[np.uint32]]) -> Iterator[Term]:
    def of(which: int) -> Iterator[tuple[bytes, int, bytes]]:
        return ((term, which, value) for term, value in sources[which].terms.items())

    lists = [of(which) for which in range(len(sources))]
    for term, group in groupby(heapq.merge(*lists), key=itemgetter(0)):
        numbers: list[Numbers] = []
        frequencies: list[Frequencies] = []
        for _, which, value in group:
            old, often = sources[which].terms.posting(value)
            numbers.append(places[which][old])
            frequencies.append(often)
        if len(numbers) == 1:
            yield _moved(term, numbers[0], frequencies[0])
        else:
            yield _moved(term, np.concatenate(numbers), np.concatenate(frequencies))


def write(folder: Path, segment: str, made: Made, step: Callable[[], None]) -> tuple[str, ...]:
    """Writes the files of a segment; their names. They are not synced."""
    writer = TermWriter(folder, segment)
    try:
        for number, (term, numbers, frequencies) in enumerate(made.terms):
            if number % _STEP == 0:
                step()
            if len(numbers) == 1:
                writer.one(term, int(numbers[0]), int(frequencies[0]))
            elif len(numbers):
                writer.add(term, numbers, frequencies)
    finally:
        writer.close()
    owners = _write_rows(folder / (segment + DOCUMENTS), made)
    (folder / (segment + OWNERS)).write_bytes(msgspec.json.encode(owners))
    return tuple(segment + suffix for suffix in (".trm", ".pst", DOCUMENTS, OWNERS))


def _write_rows(path: Path, made: Made) -> list[str]:
    """Returns the workspaces that have documents here."""
    workspaces: list[str] = []
    starts: list[int] = []
    for number, key in enumerate(made.keys):
        if not workspaces or workspaces[-1] != key[0]:
            workspaces.append(key[0])
            starts.append(number)
    digests = np.fromiter(map(digest, made.keys), np.uint64, made.size)
    arrays: dict[str, npt.NDArray[Any]] = {
        "starts": np.array([*starts, made.size], np.uint32),
        **made.columns,
        "digests": digests,
        "order": np.argsort(digests, kind="stable").astype(np.uint32),
    }
    for name, parts in (
        ("ids", [key[2].encode("utf-8", "surrogatepass") for key in made.keys]),
        ("titles", made.titles),
        ("tokens", made.tokens),
    ):
        ends, data = rows.ragged(parts)
        arrays[name + "_at"], arrays[name] = ends, np.frombuffer(data, np.uint8)
    rows.write(path, workspaces, arrays)
    return workspaces
