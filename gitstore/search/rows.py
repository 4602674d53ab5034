"""The documents of one segment beside its terms: whose they are, when they are from, their words in order.

One file of numpy arrays behind a head that names them; read in place. Documents of a workspace stand together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from gitstore.search.documents import KINDS, Kind

DOCUMENTS: Final = ".doc"
OWNERS: Final = ".own"  # beside it: the workspaces that have documents in the segment, as JSON
_KIND: Final = {kind: number for number, kind in enumerate(KINDS)}
Key = tuple[str, Kind, str]


class _Head(msgspec.Struct):
    workspaces: list[str]
    arrays: dict[str, tuple[str, int, int]]  # type, offset, length in bytes


def kind_number(kind: Kind) -> int:
    """A kind as it is kept."""
    return _KIND[kind]


def digest(key: Key) -> int:
    """64 bits of a key, by which a document is looked up; whoever finds one compares the key as well."""
    text = "\0".join(key).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def ragged(parts: list[bytes]) -> tuple[npt.NDArray[np.uint64], bytes]:
    """Texts as one, and where each begins (and the last ends)."""
    ends = np.zeros(len(parts) + 1, np.uint64)
    np.cumsum(np.fromiter(map(len, parts), np.uint64, len(parts)), out=ends[1:])
    return ends, b"".join(parts)


def write(path: Path, workspaces: list[str], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes the file; it is not synced."""
    places: dict[str, tuple[str, int, int]] = {}
    at = 0
    for name, array in arrays.items():
        places[name] = (array.dtype.str, at, array.nbytes)
        at += array.nbytes + -array.nbytes % 8
    head = msgspec.msgpack.encode(_Head(workspaces, places))
    with path.open("wb") as out:
        out.write(len(head).to_bytes(8, "little") + head + b"\0" * (-len(head) % 8))
        for array in arrays.values():
            out.write(array.tobytes() + b"\0" * (-array.nbytes % 8))


class Rows:
    """The documents of a segment. Damaged files raise anything."""

    def __init__(self, path: Path) -> None:
        data: npt.NDArray[np.uint8] = np.asarray(np.memmap(path, np.uint8, "r"))  # a plain array is quicker to cut
        size = int.from_bytes(data[:8].tobytes(), "little")
        head = msgspec.msgpack.decode(data[8 : 8 + size].tobytes(), type=_Head)
        base = 8 + size + -size % 8

        def array(name: str) -> Any:
            kind, at, length = head.arrays[name]
            return data[base + at : base + at + length].view(np.dtype(kind))

        self.workspaces = head.workspaces
        self.starts: npt.NDArray[np.uint32] = array("starts")
        self.kinds: npt.NDArray[np.uint8] = array("kinds")
        self.times: npt.NDArray[np.int64] = array("times")
        self.lengths: npt.NDArray[np.uint32] = array("lengths")
        self.digests: npt.NDArray[np.uint64] = array("digests")
        self.order: npt.NDArray[np.uint32] = array("order")
        self._texts = {name: (array(name + "_at"), array(name)) for name in ("ids", "titles", "tokens")}
        self.count = len(self.kinds)
        self.spans = {
            workspace: (int(self.starts[n]), int(self.starts[n + 1])) for n, workspace in enumerate(head.workspaces)
        }
        self._sorted = self.digests[self.order]

    def text(self, name: str, number: int) -> bytes:
        """The id, folded title or words of a document."""
        at, data = self._texts[name]
        return bytes(data[int(at[number]) : int(at[number + 1])])

    def texts(self, name: str) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
        """Those of all documents, as `ragged` made them."""
        return self._texts[name]

    def id(self, number: int) -> str:
        """The id of a document."""
        return self.text("ids", number).decode("utf-8", "surrogatepass")

    def key(self, number: int) -> Key:
        """The key of a document."""
        place = int(np.searchsorted(self.starts, number, "right")) - 1
        return self.workspaces[place], KINDS[int(self.kinds[number])], self.id(number)

    def find(self, digests: npt.NDArray[np.uint64]) -> list[tuple[int, int]]:
        """(place in `digests`, number) of the documents that may have these keys."""
        found: list[tuple[int, int]] = []
        first = np.searchsorted(self._sorted, digests)
        last = np.searchsorted(self._sorted, digests, "right")
        for place in np.flatnonzero(last > first):
            found += ((int(place), int(self.order[at])) for at in range(int(first[place]), int(last[place])))
        return found
