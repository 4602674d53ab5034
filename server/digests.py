"""Digests that a client sends with a body, held against what arrived.

`Repr-Digest` and `Content-Digest` are those of RFC 9530, `Digest` that of RFC 3230, `Content-MD5` that of RFC 1864.
They say the same of a body without a content coding. Each algorithm that is known is checked; others are passed over.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from multidict import MultiMapping

from gitstore import names
from gitstore.errors import Invalid, Malformed, UnsupportedType
from gitstore.repository.disk import Data

NAMES: Final = ("Repr-Digest", "Content-Digest", "Digest", "Content-MD5")

# Weak ones too: here they show that a body is whole, which is all that a client who sends them asks for.
_KNOWN: Final[Mapping[str, Callable[[], Any]]] = {
    "sha-256": hashlib.sha256,
    "sha-512": hashlib.sha512,
    "sha": lambda: hashlib.sha1(usedforsecurity=False),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
}
# One member of a dictionary whose value is a byte sequence (RFC 9651, sections 3.2 and 3.3.5); parameters mean nothing.
_MEMBER = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):(?:;[^,]*)?[ \t]*(?:,|\Z)", re.ASCII)
_INSTANCE = re.compile(r"[ \t]*([A-Za-z0-9-]+)=([^,\s]+)[ \t]*(?:,|\Z)", re.ASCII)


class _Said(NamedTuple):
    header: str
    algorithm: str
    digest: bytes


class Digests:
    """What was said of one body. Feed it the body, then `check`."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Raises Malformed for a header that is not of its form, UnsupportedType for digests of a coded body: they are
        those of the bytes as they were sent (RFC 9530, sections 2 and 3), which nobody sees here any more.
        """
        self._said = list(_read(headers))
        coding = headers.get("Content-Encoding", "identity").strip().lower()
        if self._said and coding != "identity":
            raise UnsupportedType(
                f"a digest of a body that is sent as {names.one_line(coding, 40)} cannot be checked: leave out "
                "Content-Encoding, or the digests"
            )
        self._running = {one.algorithm: _KNOWN[one.algorithm]() for one in self._said}

    def __bool__(self) -> bool:
        return bool(self._said)

    def update(self, data: Data) -> None:
        """The next bytes of the body."""
        for running in self._running.values():
            running.update(data)

    def check(self) -> None:
        """Raises Invalid, with both values, where the body is not what was said of it."""
        for one in self._said:
            found = self._running[one.algorithm].digest()
            if found != one.digest:
                sent, got = _text(one.digest), _text(found)
                raise Invalid(
                    f"the content that arrived is not what {one.header} says: its {one.algorithm} is {got}, sent was "
                    f"{sent}; send it again",
                    details={"header": one.header, "algorithm": one.algorithm, "sent": sent, "received": got},
                )


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _read(headers: Mapping[str, str]) -> Iterator[_Said]:
    for header, member in (("Repr-Digest", _MEMBER), ("Content-Digest", _MEMBER), ("Digest", _INSTANCE)):
        lines = _lines(headers, header)
        if not lines:
            continue
        text = ",".join(lines)  # one list, however many lines it came in (RFC 9110, section 5.3)
        form = "sha-256=:<base64>:" if member is _MEMBER else "sha-256=<base64>"
        at = 0
        while at < len(text) or at == 0:
            match = member.match(text, at)
            if match is None:
                raise Malformed(f"{header} cannot be read; write it like `{form}`", details={"header": header})
            algorithm, at = match[1].lower(), match.end()
            if algorithm in _KNOWN:
                yield _Said(header, algorithm, _decoded(header, algorithm, match[2], form))
    for text in _lines(headers, "Content-MD5"):
        yield _Said("Content-MD5", "md5", _decoded("Content-MD5", "md5", text.strip(), "<base64>"))


def _lines(headers: Mapping[str, str], name: str) -> Sequence[str]:
    """What every line of a header says."""
    if isinstance(headers, MultiMapping):
        found: list[str] = headers.getall(name, [])
        return found
    return [headers[name]] if name in headers else []


def _decoded(header: str, algorithm: str, text: str, form: str) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{header} is not base64; write it like `{form}`", details={"header": header}) from None
    size = _KNOWN[algorithm]().digest_size
    if len(digest) != size:
        raise Malformed(
            f"{header}: a {algorithm} digest has {size} bytes, not {len(digest)}", details={"header": header}
        )
    return digest
