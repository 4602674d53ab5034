"""The text that stands in a tree for a large object, as git-lfs/docs/spec.md has it."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

POINTER_MAX: Final = 1023
"""Bytes that a pointer may have: a client of Git LFS looks for one only in what is smaller than 1024."""

_VERSION: Final = b"https://git-lfs.github.com/spec/v1"
_VERSIONS: Final = frozenset({_VERSION, b"http://git-media.io/v/2", b"https://hawser.github.com/spec/v1"})
_OID: Final = re.compile(rb"sha256:([0-9a-f]{64})")
_SIZE: Final = re.compile(rb"0|[1-9][0-9]{0,18}")
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]{64}")
_LARGEST: Final = (1 << 63) - 1


class Pointer(NamedTuple):
    """A large object: the SHA-256 of its bytes in lower-case hexadecimal, and how many there are."""

    oid: str
    size: int

    def encode(self) -> bytes:
        """The pointer as the specification wants it written; nothing else is ever written."""
        return b"version %s\noid sha256:%s\nsize %d\n" % (_VERSION, self.oid.encode(), self.size)


def decode(data: bytes) -> Pointer | None:
    """The pointer that a blob is, None for anything else.

    Read is what a client reads: also the names that the version had before, lines that end with CRLF, and white space
    around the whole. A pointer with extensions is none: only the programs that it names could say what it stands for.
    """
    if len(data) > POINTER_MAX or not data.lstrip()[:12].startswith(b"version http"):
        return None
    lines = [line.removesuffix(b"\r").partition(b" ") for line in data.strip().split(b"\n")]
    if [key for key, _, _ in lines] != [b"version", b"oid", b"size"]:
        return None
    (_, _, version), (_, _, oid), (_, _, size) = lines
    named = _OID.fullmatch(oid)
    if version not in _VERSIONS or named is None or _SIZE.fullmatch(size) is None or int(size) > _LARGEST:
        return None
    return Pointer(named[1].decode(), int(size))


def is_oid(text: str) -> bool:
    """Whether a text can name an object: 64 hexadecimal digits in lower case, so that it is no path either."""
    return _HEXADECIMAL.fullmatch(text) is not None
