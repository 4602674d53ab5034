"""The entries of a pack, read one by one. Format: gitformat-pack(5). Everything here raises Malformed."""

from __future__ import annotations

import mmap
import zlib

from gitstore.errors import Malformed

_PIECE = 16 << 10
Pack = bytes | mmap.mmap
"""A whole pack, its checksum at the end."""


def header(pack: Pack, at: int) -> tuple[int, int, int]:
    """Kind and size of the entry that begins here, and where what follows its head is."""
    byte = _byte(pack, at)
    kind, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        at += 1
        byte = _byte(pack, at)
        size |= (byte & 0x7F) << shift
        shift += 7
        if shift > 60:
            raise Malformed("the pack is not sound: an object has no size")
    return kind, size, at + 1


def offset(pack: Pack, at: int) -> tuple[int, int]:
    """How far back the base of an OFS_DELTA is, and where what follows is."""
    byte = _byte(pack, at)
    back = byte & 0x7F
    while byte & 0x80:
        at += 1
        byte = _byte(pack, at)
        back = (back + 1) << 7 | byte & 0x7F
        if back > len(pack):
            break
    return back, at + 1


def _byte(pack: Pack, at: int) -> int:
    if at >= len(pack) - 20:
        raise Malformed("the pack is not sound: it ends too early")
    return pack[at]


def inflate(pack: Pack, at: int, size: int) -> tuple[bytes, int]:
    """The `size` bytes that are deflated here, and where what follows is."""
    stream, out = zlib.decompressobj(), bytearray()
    try:
        while not stream.eof:
            piece = stream.unconsumed_tail or pack[at : min(at + _PIECE, len(pack) - 20)]
            fresh = not stream.unconsumed_tail
            if not piece:
                raise Malformed("the pack is not sound: it ends too early")
            out += stream.decompress(piece, size + 1 - len(out))
            if fresh:
                at += len(piece)
            if len(out) > size:
                raise Malformed("the pack is not sound: an object is larger than it says")
    except zlib.error:
        raise Malformed("the pack is not sound: an object cannot be inflated") from None
    if len(out) != size:
        raise Malformed("the pack is not sound: an object is smaller than it says")
    return bytes(out), at - len(stream.unused_data)
