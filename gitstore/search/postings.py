"""Terms and postings of one segment, in Whoosh's ordered hash table and in blocks that numpy reads in place.

A term is one letter that says where it stands (see `PLACES`) and a word. Its value in the table is the number of
documents (uint32) and then, for few, the numbers and frequencies themselves, else where they are in the postings file:
document numbers (uint32, ascending), then how often each has the word (uint8, 255 for more). All little-endian.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
from whoosh.filedb.filestore import FileStorage
from whoosh.filedb.filetables import OrderedHashReader, OrderedHashWriter
from whoosh.filedb.structfile import BufferFile, StructFile

PLACES: Final = {"text": "c", "title": "t", "label": "l"}
"""Where a word stands: in the content, in the title, in any label. `f` is for a label of a name: `frole=writer`."""
TERMS: Final = ".trm"
POSTINGS: Final = ".pst"
_INLINE: Final = 4
_COUNT: Final = struct.Struct("<I")
_EXTENT: Final = struct.Struct("<IQ")
_ONE: Final = struct.Struct("<IIB")

Numbers = npt.NDArray[np.uint32]
Frequencies = npt.NDArray[np.uint8]
Posting = tuple[Numbers, Frequencies]
NOTHING: Final[Posting] = (np.empty(0, np.uint32), np.empty(0, np.uint8))


def encoded(term: str) -> bytes:
    """A term as it is in the table."""
    return term.encode("utf-8", "surrogatepass")


class TermWriter:
    """Writes the terms of a segment, in the order of their bytes."""

    def __init__(self, folder: Path, segment: str) -> None:
        self._table = OrderedHashWriter(FileStorage(str(folder)).create_file(segment + TERMS))
        self._postings: BinaryIO = (folder / (segment + POSTINGS)).open("wb")
        self._at = 0

    def one(self, term: bytes, number: int, frequency: int) -> None:
        """A term that one document has."""
        self._table.add(term, _ONE.pack(1, number, frequency))

    def add(self, term: bytes, numbers: Numbers, frequencies: Frequencies) -> None:
        """A term with all its documents, by number."""
        count = len(numbers)
        if count <= _INLINE:
            self._table.add(term, _COUNT.pack(count) + numbers.tobytes() + frequencies.tobytes())
            return
        self._table.add(term, _EXTENT.pack(count, self._at))
        data = numbers.tobytes() + frequencies.tobytes()
        data += b"\0" * (-len(data) % 4)
        self._postings.write(data)
        self._at += len(data)

    def close(self) -> None:
        """Finish both files; they are not synced."""
        self._table.close()
        self._postings.close()


class _Mapped(BufferFile):  # type: ignore[misc]
    """A file of Whoosh's that has no place of its own: a process and its forked children share that of an open file,
    and each would read where the other one is."""

    def __init__(self, data: mmap.mmap) -> None:
        StructFile.__init__(self, data)
        self._buf = data


class TermReader:
    """Reads the terms of a segment. Damaged files raise anything."""

    def __init__(self, folder: Path, segment: str) -> None:
        with (folder / (segment + TERMS)).open("rb") as file:
            table = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._table: Any = OrderedHashReader(_Mapped(table), len(table))
        path = folder / (segment + POSTINGS)
        self._postings: npt.NDArray[np.uint8] = (
            np.asarray(np.memmap(path, np.uint8, "r")) if path.stat().st_size else np.empty(0, np.uint8)
        )

    def get(self, term: bytes) -> Posting:
        """The documents that have a term."""
        try:
            value = self._table[term]
        except KeyError:
            return NOTHING
        return self._decoded(bytes(value))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every term with its value, for `posting`, in order."""
        return ((bytes(term), bytes(value)) for term, value in self._table.items())

    def beginning(self, prefix: bytes) -> Iterator[bytes]:
        """The terms that begin so, in order."""
        for term in self._table.keys_from(prefix):
            term = bytes(term)
            if not term.startswith(prefix):
                return
            yield term

    def posting(self, value: bytes) -> Posting:
        """The documents that a value of `items` stands for."""
        return self._decoded(value)

    def _decoded(self, value: bytes) -> Posting:
        (count,) = _COUNT.unpack_from(value)
        if count <= _INLINE:
            return (
                np.frombuffer(value, np.dtype("<u4"), count, 4),
                np.frombuffer(value, np.uint8, count, 4 + 4 * count),
            )
        _, at = _EXTENT.unpack(value)
        whole = self._postings[at : at + 5 * count]
        if len(whole) != 5 * count:
            raise ValueError("the postings end before a term's")
        return whole[: 4 * count].view(np.dtype("<u4")), whole[4 * count :]

    def close(self) -> None:
        """Let go of the files."""
        self._table.close()
