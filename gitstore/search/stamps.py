"""The words of a document in their order, as 32 bits each: what phrases are looked for in, and what proves an index."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Final

from gitstore.search.documents import Document
from gitstore.search.words import sequence

BREAK: Final = b"\0\0\0\0"
"""Stands between the words of the content and those of the title, so that no phrase reaches across."""


@lru_cache(maxsize=131_072)
def stamp(word: str) -> bytes:
    """A word where only its place in a text counts: 32 bits that are never those of `BREAK`."""
    return (zlib.crc32(word.encode("utf-8", "surrogatepass")) or 1).to_bytes(4, "little")


def stamped(content: list[str], title: list[str]) -> bytes:
    """The words of a content and of a title."""
    return b"".join(map(stamp, content)) + BREAK + b"".join(map(stamp, title))


def proof(document: Document) -> int:
    """What the index must hold of a document, as one number."""
    return zlib.crc32(stamped(sequence(document.text), sequence(document.title)))
