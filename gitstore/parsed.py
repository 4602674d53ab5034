"""YAML documents as they were read, kept by the id of their blob: the same bytes are never read twice.

A blob's id is a hash of its bytes, so what is kept here can never be out of date.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gitstore import credentials, documents, schemas, values
from gitstore.bounded import Bounded
from gitstore.credentials import Found

TEXT_MAX: Final = 1_048_576
"""Text files up to this many bytes are searched for credentials."""


class Parsed(NamedTuple):
    """One document. Never change `value`: it is shared."""

    value: Any
    json: bytes
    head: bytes | None
    """The schema line above what is exactly as `documents.dump` writes it, or nothing; None: a person formatted it."""
    secrets: tuple[Found, ...]


_documents: Final[Bounded[str, Parsed]] = Bounded("documents", 32 << 20)
_texts: Final[Bounded[str, tuple[Found, ...]]] = Bounded("texts", 8 << 20)


def cached(blob: str) -> Parsed | None:
    """The document in the blob with this id, if it was read or remembered lately."""
    return _documents.get(blob)


def parse(blob: str, data: bytes, path: str) -> Parsed:
    """Reads `data`, the content of `blob`. Raises documents.DocumentError (naming `path`) or Malformed."""
    value = documents.load(data, path)
    found = Parsed(value, values.encode(value), head(data, value), tuple(credentials.find(value)))
    _documents.put(blob, found, _size(data))
    return found


def remember(blob: str, value: Any, json: bytes, *, head: bytes | None, checked: bool) -> None:
    """Keeps a document that was just written, so that it need not be read back.

    `head` is as in Parsed. `checked` says that it holds no credential; otherwise it is searched for them here.
    """
    secrets = () if checked else tuple(credentials.find(value))
    _documents.put(blob, Parsed(value, json, head, secrets), _size(json))


def _size(text: bytes) -> int:
    return 400 + 5 * len(text)  # of small values; those of long texts take less


def text_secrets(blob: str, data: bytes) -> tuple[Found, ...]:
    """The credentials in a file's content: text (UTF-8 without NUL) of at most 1 MiB is searched, nothing else is."""
    known = _texts.get(blob)
    if known is not None:
        return known
    found: tuple[Found, ...] = ()
    if len(data) <= TEXT_MAX and b"\0" not in data:
        try:
            found = tuple(credentials.find_text(data.decode()))
        except UnicodeDecodeError:
            found = ()  # not text
    _texts.put(blob, found, 400 + 500 * len(found))
    return found


def forget() -> None:
    """Drops everything that is kept; what is asked for next is read again."""
    _documents.clear()
    _texts.clear()


def head(data: bytes, value: Any) -> bytes | None:
    """The schema line on top of a document that holds `value`, or nothing; None where a person laid it out.

    Raises Malformed and TooLarge as documents.dump.
    """
    above, below = schemas.split(data)
    return above if documents.dump(value) == below else None


def written(value: Any, head: bytes) -> tuple[bytes, bytes]:
    """A new file that holds `value` below `head`, and the head it got: none, where the file would be too long with it.

    Raises Malformed and TooLarge as documents.dump.
    """
    plain = documents.dump(value)
    return (head + plain, head) if len(head) + len(plain) <= documents.MAX_BYTES else (plain, b"")


def rewritten(data: bytes | None, value: Any, head: bytes = b"") -> bytes:
    """The file `data` changed to hold `value`, touching only what must change.

    A file that is not there (None) is written below `head`; of one that cannot be read only its schema line is kept.
    Raises Malformed and TooLarge as documents.dump.
    """
    if data is None:
        return written(value, head)[0]
    try:
        return documents.edit(data, value)
    except documents.DocumentError:
        return written(value, schemas.split(data)[0])[0]  # there is no telling what else to keep; git has the old bytes
