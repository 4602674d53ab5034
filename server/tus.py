"""The headers of tus 1.0.0, read and written (https://tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, Final, NamedTuple

from gitstore.errors import Invalid, Malformed, PreconditionFailed

VERSION: Final = "1.0.0"
TYPE: Final = "application/offset+octet-stream"
ALWAYS: Final = (("Tus-Resumable", VERSION), ("Tus-Version", VERSION))
METADATA_MAX: Final = 8192
_EXTENSIONS: Final = "creation,creation-with-upload,termination,checksum,expiration"
_SUMS: Final[Mapping[str, Callable[[], Any]]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
}
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_KEY = re.compile(r"[!-+\--~]{1,255}", re.ASCII)  # visible ASCII but for the comma


class Sum(NamedTuple):
    """The checksum that a piece must have: its algorithm, a running hash to be fed, and the digest it must end with."""

    algorithm: str
    running: Any
    digest: bytes


def offered(most: int) -> tuple[tuple[str, str], ...]:
    """What the answer to OPTIONS tells; at most `most` bytes may be uploaded."""
    return (
        *ALWAYS,
        ("Tus-Extension", _EXTENSIONS),
        ("Tus-Max-Size", str(most)),
        ("Tus-Checksum-Algorithm", ",".join(_SUMS)),
    )


def version(headers: Mapping[str, str]) -> None:
    """Raises PreconditionFailed (412, as the protocol has it) for another version, or none."""
    said = headers.get("Tus-Resumable")
    if said is None:
        raise PreconditionFailed(f"the header `Tus-Resumable: {VERSION}` is missing", current=None)
    if said.strip() != VERSION:
        raise PreconditionFailed(f"this server speaks version {VERSION} of tus, not the one you named", current=None)


def number(headers: Mapping[str, str], name: str) -> int:
    """A header that holds a number of bytes. Raises Malformed where it is missing or is none."""
    text = headers.get(name)
    if text is None:
        raise Malformed(f"the header {name} is missing", details={"header": name})
    if _NUMBER.fullmatch(text.strip()) is None:
        raise Malformed(
            f"{name} must be a whole number of bytes without sign, at most 19 digits", details={"header": name}
        )
    return int(text)


def metadata(text: str) -> dict[str, str]:
    """The pairs of Upload-Metadata. Raises Malformed, saying which pair is wrong and how."""

    def wrong(what: str) -> Malformed:
        return Malformed(f"Upload-Metadata: {what}", details={"header": "Upload-Metadata"})

    if len(text) > METADATA_MAX:
        raise wrong(f"has {len(text)} characters; {METADATA_MAX} are allowed")
    found: dict[str, str] = {}
    for at, pair in enumerate(text.split(",") if text.strip() else (), 1):
        key, _, value = pair.strip().partition(" ")
        if _KEY.fullmatch(key) is None:
            raise wrong(f"pair {at} must be a key of visible ASCII and, after one blank, base64")
        if key in found:
            raise wrong(f"the key {key!r} is there twice")
        try:
            found[key] = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):  # UnicodeDecodeError is a ValueError
            raise wrong(f"the value of {key!r} is not base64 of UTF-8 text") from None
        if "\0" in found[key]:
            raise wrong(f"the value of {key!r} holds U+0000")
    return found


def checksum(headers: Mapping[str, str]) -> Sum | None:
    """What Upload-Checksum says. Raises Malformed for a wrong form, Invalid for an algorithm that is not offered."""
    text = headers.get("Upload-Checksum")
    if text is None:
        return None
    algorithm, _, value = text.strip().partition(" ")
    if algorithm not in _SUMS:
        raise Invalid(f"Upload-Checksum: the algorithm must be one of {', '.join(_SUMS)}")
    running = _SUMS[algorithm]()
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != running.digest_size:
        raise Malformed(
            f"Upload-Checksum: after `{algorithm} ` comes the base64 of {running.digest_size} bytes",
            details={"header": "Upload-Checksum"},
        )
    return Sum(algorithm, running, digest)


def date(ms: int) -> str:
    """A moment as Upload-Expires has it (RFC 9110 §5.6.7)."""
    return formatdate(ms // 1000, usegmt=True)
