"""Which content is text, in which encoding, and how much of it search takes."""

from __future__ import annotations

import codecs
import re
from typing import Final

TEXT_MAX: Final = 256 * 1024
"""Bytes of a text, or characters of what was extracted from another format, that search takes."""
_TEXT_TYPES = re.compile(
    r"text/.*|application/(?:.*\+)?(?:json|yaml|xml|toml|sql)|image/svg\+xml"
    r"|application/(?:x-yaml|x-ndjson|ndjson|jsonl|x-sh|javascript|x-tex)|message/.*"
)
CHARSET = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9._:-]{1,40})", re.IGNORECASE)
MARKS: Final = (  # longest first: that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def essence(content_type: str) -> str:
    """A media type without its parameters, in small letters."""
    return content_type.split(";", 1)[0].strip().lower()


def textual(content_type: str) -> bool:
    """Whether content of this type can be read as it is."""
    return _TEXT_TYPES.fullmatch(essence(content_type)) is not None


def decode(content_type: str, data: bytes) -> str | None:
    """The first 256 KiB of the data as text; None where they are none.

    A byte order mark says the encoding, else the type's `charset`, else it is UTF-8.
    """
    head = data[:TEXT_MAX]
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return _decoded(head[len(mark) :], encoding, whole=len(data) <= TEXT_MAX)
    said = CHARSET.search(content_type)
    return _decoded(head, said.group(1) if said else "utf-8", whole=len(data) <= TEXT_MAX)


def text_of(content_type: str, data: bytes) -> str | None:
    """The text of an artifact that search indexes: the first 256 KiB of a text type; None for all else."""
    return decode(content_type, data) if textual(content_type) else None


def _decoded(head: bytes, encoding: str, *, whole: bool) -> str | None:
    for cut in range(1 if whole else 4):  # a character may straddle the limit
        try:
            return head[: len(head) - cut].decode(encoding)
        except UnicodeError:
            continue
        except (LookupError, ValueError):  # no encoding of that name, or of bytes to bytes
            return None
    return None
