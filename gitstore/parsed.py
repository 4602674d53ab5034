"""YAML documents as they were read, kept by the id of their blob: the same bytes are never read twice.

A blob's id is a hash of its bytes, so what is kept here can never be out of date.
"""

from __future__ import annotations

import threading
from typing import Any, Final, NamedTuple

from gitstore import credentials, documents, schemas, values
from gitstore.credentials import Found

TEXT_MAX: Final = 1_048_576
"""Text files up to this many bytes are searched for credentials."""

_BUDGET: Final = 32 * 1024 * 1024


class Parsed(NamedTuple):
    """One document. Never change `value`: it is shared."""

    value: Any
    json: bytes
    head: bytes | None
    """The schema line above what is exactly as `documents.dump` writes it, or nothing; None: a person formatted it."""
    secrets: tuple[Found, ...]


class _Cache:
    """Bounded by the bytes of the documents it holds; the oldest go first."""

    def __init__(self, budget: int) -> None:
        self._held: dict[str, tuple[Any, int]] = {}
        self._room = budget
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        found = self._held.get(key)
        return None if found is None else found[0]

    def put(self, key: str, value: Any, size: int) -> None:
        with self._lock:
            if key in self._held:
                return
            self._held[key] = (value, size)
            self._room -= size
            while self._room < 0 and len(self._held) > 1:
                oldest = next(iter(self._held))
                self._room += self._held.pop(oldest)[1]

    def clear(self) -> None:
        with self._lock:
            self._room += sum(size for _, size in self._held.values())
            self._held.clear()


_documents = _Cache(_BUDGET)
_texts = _Cache(_BUDGET)


def cached(blob: str) -> Parsed | None:
    """The document in the blob with this id, if it was read or remembered lately."""
    found: Parsed | None = _documents.get(blob)
    return found


def parse(blob: str, data: bytes, path: str) -> Parsed:
    """Reads `data`, the content of `blob`. Raises documents.DocumentError (naming `path`) or Malformed."""
    value = documents.load(data, path)
    found = Parsed(value, values.encode(value), head(data, value), tuple(credentials.find(value)))
    _documents.put(blob, found, 200 + 3 * len(data))
    return found


def remember(blob: str, value: Any, json: bytes, *, head: bytes | None, checked: bool) -> None:
    """Keeps a document that was just written, so that it need not be read back.

    `head` is as in Parsed. `checked` says that it holds no credential; otherwise it is searched for them here.
    """
    secrets = () if checked else tuple(credentials.find(value))
    _documents.put(blob, Parsed(value, json, head, secrets), 200 + 3 * len(json))


def text_secrets(blob: str, data: bytes) -> tuple[Found, ...]:
    """The credentials in a file's content: text (UTF-8 without NUL) of at most 1 MiB is searched, nothing else is."""
    known: tuple[Found, ...] | None = _texts.get(blob)
    if known is not None:
        return known
    found: tuple[Found, ...] = ()
    if len(data) <= TEXT_MAX and b"\0" not in data:
        try:
            found = tuple(credentials.find_text(data.decode()))
        except UnicodeDecodeError:
            found = ()  # not text
    _texts.put(blob, found, 1000)
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
