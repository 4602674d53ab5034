"""Raw content as an answer: conditional requests, ranges, digests, file names, and headers that make it safe to open.

Stored content comes from anybody who can write, so a browser must never run it with this server's origin.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import AsyncIterator, Mapping
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import quote

from gitstore import errors, media
from server import wire
from server.http import RangeNotSatisfiable, Raw

_ETAGS = re.compile(r'(W/)?"([^"]*)"')
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d*)-(\d*)[ \t]*", re.ASCII | re.IGNORECASE)

# No script, form, frame, plug-in or network; styles inside the document may stay, they reach nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
SAFETY = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "private, no-cache"),
)
_SAFETY = b"".join(wire.line(name, value) for name, value in SAFETY)
_RUN = re.compile(r"(?:text/html|text/xsl|text/xml|application/xml|application/xhtml\+xml|image/svg\+xml|[^;]*\+xml)\b")
_RUN_TOO = frozenset({"text/javascript", "application/javascript", "application/ecmascript", "multipart/related"})


class NotModified(Exception):
    """The client has this version; the answer is 304 without a body."""


def evaluate(headers: Mapping[str, str], etag: str | None, modified: int | None) -> None:
    """The preconditions of a read, in the order of RFC 9110 §13.2.2.

    Raises NotModified, or PreconditionFailed when If-Match or If-Unmodified-Since does not hold.
    """
    match = headers.get("If-Match")
    if match is not None:
        if match.strip() != "*" and etag not in [tag for weak, tag in _ETAGS.findall(match) if not weak]:
            raise errors.PreconditionFailed("the resource has changed since you read it", current=etag)
    elif _since(modified, headers.get("If-Unmodified-Since")) is True:
        raise errors.PreconditionFailed("the resource has changed since you read it", current=etag)
    none = headers.get("If-None-Match")
    if none is not None:
        if none.strip() == "*" or etag in [tag for _, tag in _ETAGS.findall(none)]:
            raise NotModified
    elif _since(modified, headers.get("If-Modified-Since")) is False:
        raise NotModified


def _since(modified: int | None, date: str | None) -> bool | None:
    """Whether it was changed after that date; None where one of the two is not known."""
    when = _date(date)
    return None if modified is None or when is None else modified // 1000 > when


def _date(text: str | None) -> int | None:
    """Seconds since 1970 of an HTTP date; None for none or one that cannot be read (RFC 9110: ignore it)."""
    if not text:
        return None
    try:
        when = parsedate_to_datetime(text)
        # One of the three forms says no zone and means GMT (RFC 9110 §5.6.7).
        return int((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def byte_range(headers: Mapping[str, str], size: int, etag: str | None, modified: int | None) -> tuple[int, int] | None:
    """The asked (start, stop) of RFC 9110 §14, or None for the whole.

    Several ranges, other units and what cannot be read give the whole, as the RFC allows. Raises
    RangeNotSatisfiable. With If-Range that does not name this version, the whole.
    """
    asked = headers.get("Range")
    if asked is None:
        return None
    match = _RANGE.fullmatch(asked)
    if match is None or not (match[1] or match[2]):
        return None
    condition = headers.get("If-Range")
    if condition is not None and condition.strip() != f'"{etag}"':
        when = _date(condition)
        if when is None or modified is None or when != modified // 1000:
            return None
    if not match[1]:
        count = _position(match[2])
        if count == 0 or size == 0:
            raise RangeNotSatisfiable(size)
        return max(size - count, 0), size
    start = _position(match[1])
    stop = _position(match[2]) + 1 if match[2] else size
    if match[2] and stop <= start:
        return None  # RFC 9110 §14.1.1: an invalid range is ignored
    if start >= size:
        raise RangeNotSatisfiable(size)
    return start, min(stop, size)


def _position(digits: str) -> int:
    """A number of a range. What has more digits than any content has bytes is beyond every end, however far."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= 18 else 10**18


def disposition(kind: str, file_name: str) -> str:
    """The Content-Disposition value: an ASCII fallback, and RFC 8187's form where the name needs it."""
    name = file_name.encode("utf-8", "replace").decode("utf-8")
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%/' else "_" for c in plain)
    return f"{kind}; filename=\"{plain or 'file'}\"; filename*=UTF-8''{quote(name, safe='')}"


def media_type(stored: str) -> str:
    """The stored type if it is one, else `application/octet-stream`: what is in a repository is not trusted."""
    try:
        return media.check(stored)
    except errors.Invalid:
        return media.DEFAULT


def runs(kind: str) -> bool:
    """Whether a browser that opens this type would run what is inside."""
    kind = kind.lower()
    return _RUN.match(kind) is not None or kind.split(";", 1)[0].strip() in _RUN_TOO


def headers_of(raw: Raw) -> bytes:
    """The header lines that a 200, 206 and 304 of this content share."""
    kind = media_type(raw.content_type)
    policy = _POLICY + "; sandbox" if runs(kind) else _POLICY
    parts = [_SAFETY, wire.line("Content-Security-Policy", policy), b"Accept-Ranges: bytes\r\n"]
    if raw.etag is not None:
        parts.append(wire.line("ETag", f'"{raw.etag}"'))
    if raw.modified is not None:
        parts.append(wire.line("Last-Modified", formatdate(raw.modified // 1000, usegmt=True)))
    parts.extend(wire.line(name, value) for name, value in raw.headers)
    return b"".join(parts)


def describe(raw: Raw) -> bytes:
    """The header lines of 200 and 206 alone: type, name and digests (RFC 9530; `Digest` for older clients)."""
    digest = bytes.fromhex(raw.sha256) if raw.sha256 else None
    if digest is None and isinstance(raw.data, bytes):
        digest = hashlib.sha256(raw.data).digest()
    parts = [
        wire.line("Content-Type", media_type(raw.content_type)),
        wire.line("Content-Disposition", disposition(raw.disposition, raw.file_name)),
    ]
    if digest is not None:
        text = base64.b64encode(digest).decode()
        parts.append(wire.line("Digest", f"sha-256={text}") + wire.line("Repr-Digest", f"sha-256=:{text}:"))
    return b"".join(parts)


def size_of(raw: Raw) -> int:
    """How many bytes the content has."""
    return len(raw.data) if isinstance(raw.data, bytes) else raw.size


def cut(raw: Raw, start: int, stop: int) -> bytes | AsyncIterator[bytes] | wire.Direct:
    """The bytes from `start` to before `stop`."""
    if isinstance(raw.data, bytes):
        return raw.data if stop - start == len(raw.data) else raw.data[start:stop]
    return raw.data(start, stop)
