"""Which formats search can read, and what comes of reading one."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

import msgspec

from gitstore.search.texts import CHARSET, TEXT_MAX, decode, essence, textual

__all__ = ["INPUT_MAX", "TEXT_MAX", "Extracted", "Form", "Indexed", "form", "key", "plain"]

INPUT_MAX: Final = 32 * 1024 * 1024
"""Bytes of a document beyond which its text is not looked for; plain text is read up to `TEXT_MAX` of any size."""

Form = Literal["text", "html", "pdf", "office", "notebook"]
Indexed = Literal["full", "partial", "none", "pending"]

_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
_OPEN: Final = "application/vnd.oasis.opendocument."
_FORMS: Final[dict[str, Form]] = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "application/x-ipynb+json": "notebook",
    f"{_OFFICE}wordprocessingml.document": "office",
    f"{_OFFICE}spreadsheetml.sheet": "office",
    f"{_OFFICE}presentationml.presentation": "office",
    f"{_OPEN}text": "office",
    f"{_OPEN}spreadsheet": "office",
    f"{_OPEN}presentation": "office",
}


class Extracted(msgspec.Struct, frozen=True, array_like=True):
    """The text of a document as far as search takes it, and how far that is.

    `full`: all of it; `partial`: its beginning; `none`: it has no text that can be read; `pending`: not read yet.
    """

    text: str
    indexed: Indexed


@lru_cache(maxsize=1_024)
def form(content_type: str) -> Form | None:
    """How content of this type is read; None: not at all."""
    found = _FORMS.get(essence(content_type))
    return found if found is not None else "text" if textual(content_type) else None


def key(content_type: str, blob: str) -> str:
    """Under what the text of a blob is kept, in hexadecimal: another `charset` makes another text of the same bytes."""
    return blob + _charset(content_type)


@lru_cache(maxsize=1_024)
def _charset(content_type: str) -> str:
    said = CHARSET.search(content_type)
    return said.group(1).lower().encode().hex() if said is not None else ""


def blob_of(known: str) -> bytes:
    """The id of the blob in a key."""
    return bytes.fromhex(known[:40])


def plain(content_type: str, data: bytes) -> Extracted:
    """Content that is text already."""
    text = decode(content_type, data)
    if text is None:
        return Extracted("", "none")
    return Extracted(text, "full" if len(data) <= TEXT_MAX else "partial")
