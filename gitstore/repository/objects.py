"""Git objects as the write path makes them: an id, the raw bytes, and the bytes that go into a pack.

Object ids inside this package are 20 raw bytes; at its edges they are 40 hexadecimal digits.
Formats: gitformat-pack(5), and "Object Storage Format" in git's documentation.
"""

from __future__ import annotations

import struct
import zlib
from hashlib import sha1
from typing import Final, NewType

Oid = NewType("Oid", bytes)

COMMIT: Final = 1
TREE: Final = 2
BLOB: Final = 3
TAG: Final = 4
OFS_DELTA: Final = 6
REF_DELTA: Final = 7
NAMES: Final = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}
KINDS: Final = {name: kind for kind, name in NAMES.items()}

_BLOCK = struct.Struct("<HH")
_PIECE: Final = 2047  # bytes; for more at a time hashlib lets go of the interpreter's lock
_PIECES_TO: Final = 0xFFFF

EMPTY_TREE: Final = Oid(bytes.fromhex("4b825dc642cb6eb9a060e54bf8d69288fbee4904"))


class Object:
    """One object to be stored. In a pack it stands whole, or as a delta of `base`."""

    __slots__ = ("base", "data", "delta", "id", "kind", "ready")

    def __init__(self, kind: int, data: bytes, *, oid: Oid | None = None) -> None:
        self.id: Oid = oid if oid is not None else identify(kind, data)
        self.kind = kind
        self.data = data
        self.base: Oid | None = None
        self.delta: bytes | None = None
        self.ready: bytes | None = None  # the entry, where it was made beforehand

    def entry(self, *, fast: bool = False) -> bytes:
        """What stands for the object in a pack.

        `fast` leaves small data as it is: a compressor lets go of the interpreter's lock at every call, and on the way
        to the journal each of those is a wait for another thread.
        """
        if self.ready is not None:
            return self.ready
        squeeze = stored if fast else deflate
        if self.base is not None and self.delta is not None:
            return entry_header(REF_DELTA, len(self.delta)) + self.base + squeeze(self.delta)
        return entry_header(self.kind, len(self.data)) + squeeze(self.data)

    def lean(self) -> Object:
        """The same for `entry`, to be kept for a while: without the data, which may be a thousand times as long."""
        if self.delta is None and self.ready is None:
            return self
        kept = Object(self.kind, b"", oid=self.id)
        kept.base, kept.delta, kept.ready = self.base, self.delta, self.ready
        return kept

    def lean_on(self, base: Oid, size: int, start: int, end: int, insert: bytes) -> None:
        """Stores the object as its base (of `size` bytes) with `base[start:end]` replaced by `insert`."""
        self.base = base
        self.delta = b"".join(
            (
                _size(size),
                _size(len(self.data)),
                _copy(0, start),
                *(bytes((len(piece),)) + piece for piece in _pieces(insert)),
                _copy(end, size - end),
            )
        )


class Blob(Object):
    """The content of one file. Large content is deflated here, where no lock is held."""

    __slots__ = ()

    def __init__(self, data: bytes) -> None:
        super().__init__(BLOB, data)
        if len(data) > 0xFFFF:
            self.ready = entry_header(BLOB, len(data)) + deflate(data)


def identify(kind: int, data: bytes) -> Oid:
    """The object's id: SHA-1 over `<type> <length>NUL` and the data."""
    digest = sha1(b"%s %d\0" % (NAMES[kind], len(data)), usedforsecurity=False)
    if _PIECE < len(data) <= _PIECES_TO:
        # As with `entry`: to have the lock back can take longer than hashing a tree does.
        view = memoryview(data)
        for at in range(0, len(data), _PIECE):
            digest.update(view[at : at + _PIECE])
    else:
        digest.update(data)
    return Oid(digest.digest())


def deflate(data: bytes) -> bytes:
    """The data as a zlib stream (RFC 1950).

    For what fits into a window of 4 KiB a small compressor does: setting up the usual one, with its 256 KiB of tables,
    costs ten times what compressing a commit does.
    """
    if len(data) > 4096:
        return zlib.compress(data, 1)
    small = zlib.compressobj(1, zlib.DEFLATED, 12, 4)
    return small.compress(data) + small.flush()


def stored(data: bytes) -> bytes:
    """The data as a zlib stream of one stored block (RFC 1951, 3.2.4); what is too long for one is deflated."""
    size = len(data)
    if size > 0xFFFF:
        return deflate(data)
    return b"".join((b"\x78\x01\x01", _BLOCK.pack(size, size ^ 0xFFFF), data, zlib.adler32(data).to_bytes(4, "big")))


def entry_header(kind: int, size: int) -> bytes:
    """An entry's type and length: 4 bits of length in the first byte, 7 in each that follows."""
    byte = (kind << 4) | (size & 15)
    size >>= 4
    out = bytearray()
    while size:
        out.append(byte | 0x80)
        byte = size & 0x7F
        size >>= 7
    out.append(byte)
    return bytes(out)


def _size(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _copy(offset: int, size: int) -> bytes:
    """Copy instructions for `size` bytes of the base from `offset`; one covers at most 0xffffff bytes."""
    out = b""
    while size:
        part = min(size, 0xFFFFFF)
        code, tail = 0x80, bytearray()
        for bit in range(4):
            if byte := offset >> (8 * bit) & 0xFF:
                code |= 1 << bit
                tail.append(byte)
        for bit in range(3):
            if byte := part >> (8 * bit) & 0xFF:
                code |= 0x10 << bit
                tail.append(byte)
        if part == 0x10000:  # written as "no size bytes"
            code, tail = code & 0x8F, tail[: code.bit_count() - 2]
        out += bytes((code,)) + bytes(tail)
        offset += part
        size -= part
    return out


def _pieces(data: bytes) -> list[bytes]:
    return [data[i : i + 127] for i in range(0, len(data), 127)]
