"""JSON data: read strictly, written compactly, and nothing altered on the way.

A number comes back equal to what was sent or is refused; text that cannot be stored everywhere (U+0000, lone
surrogates) is refused; nesting has a limit. Times as the wire shows them are here too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final

import msgspec

from gitstore.errors import Invalid, Malformed

MAX_DEPTH: Final = 64
_MAX_DIGITS: Final = 4_000  # of one number; Python refuses to turn longer ones into text
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = -62_135_596_800_000  # 0001-01-01T00:00:00.000Z
_LAST: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_NUL = re.compile(rb"\\u0000")
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (_MAX_DIGITS + 1))
_TOO_LONG = 10**_MAX_DIGITS
_ZERO = re.compile(r"-?[0.]+(?:[eE].*)?")  # Decimal cannot hold every exponent, and 0e99999999999999999999 is zero


def _number(text: str) -> float:
    try:
        value = float(text)
        same = repr(value) == text or _ZERO.fullmatch(text) is not None or Decimal(text) == Decimal(repr(value))
    except (InvalidOperation, ValueError, OverflowError):
        same = False
    if not same:
        shown = text if len(text) <= 40 else text[:40] + "…"
        raise Malformed(f"the number {shown} cannot be kept exactly (it is no IEEE 754 double): send it as a string")
    return value


_decoder = msgspec.json.Decoder(float_hook=_number)
_encoder = msgspec.json.Encoder()


def decode(data: bytes) -> Any:
    """The value that the JSON text in `data` stands for (RFC 8259, UTF-8, a BOM is not JSON).

    Raises Malformed for anything else, for NaN and Infinity, for U+0000 or a lone surrogate in any text or key, for
    nesting deeper than 64, and for a number that would not come back equal. Integers of any size are kept.
    """
    try:
        if len(data) >= _MAX_DIGITS and _LONG_NUMBER.search(data):
            _long_numbers(data)
        value = _decoder.decode(data)
    except Malformed:
        raise
    except UnicodeDecodeError as error:
        raise Malformed(f"the text is not UTF-8: byte {error.start}") from None
    except RecursionError:
        raise Malformed(f"the JSON is nested deeper than {MAX_DEPTH} levels") from None
    except msgspec.DecodeError as error:
        if isinstance(error.__cause__, Malformed):
            raise error.__cause__ from None
        raise Malformed(f"the text is not JSON: {_why(data, error)}") from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH or _ESCAPED_NUL.search(data):
        check(value)
    return value


def _why(data: bytes, error: msgspec.DecodeError) -> str:
    if not data.strip():
        return "it is empty"
    if b"\\u" in data:
        for match in re.finditer(rb"\\u([dD][89aAbBcCdDeEfF][0-9a-fA-F]{2})", data):
            before, after = data[: match.start()], data[match.end() : match.end() + 4]
            high = match[1][1:2] in b"89aAbB"
            if high and not re.match(rb"\\u[dD][cC-fF]", after):
                return f"a lone surrogate (\\u{match[1].decode()})"
            if not high and not re.search(rb"\\u[dD][89aAbB][0-9a-fA-F]{2}$", before):
                return f"a lone surrogate (\\u{match[1].decode()})"
    return str(error)


def _long_numbers(data: bytes) -> None:
    """A number of thousands of digits: refused, unless the digits only stand in a text."""
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', data)
    if _LONG_NUMBER.search(outside):
        raise Malformed(f"a number has more than {_MAX_DIGITS} digits: send it as a string")


def encode(value: Any) -> bytes:
    """Compact JSON, UTF-8, in insertion order, integers of any size. The value has passed `decode` or `check`.

    Raises Malformed for NaN and Infinity, lone surrogates and an integer of too many digits.
    """
    try:
        data = _encoder.encode(value)
    except (ValueError, RecursionError):
        check(value)  # names the fault: a text that is no UTF-8, a number that is too long
        raise
    if b"null" in data:
        _check_finite(value)  # the encoder writes null for NaN and Infinity
    return data


def _check_finite(value: Any) -> None:
    stack: list[Iterable[Any]] = [[value]]
    while stack:
        for item in stack.pop():
            kind = type(item)  # most are text, a number or nothing, and there are many
            if kind is float:
                if not isfinite(item):
                    raise Malformed("NaN and Infinity are no JSON numbers")
            elif kind is dict:
                stack.append(item.values())
            elif kind is list or kind is tuple:
                stack.append(item)


def check(value: Any) -> None:
    """Holds a value that did not come from `decode` to the same limits. Raises Malformed."""
    level, depth = [value], 0
    while level:
        depth += 1
        inner: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                _check_text(item)
            elif kind is dict:
                for key in item:
                    if type(key) is not str:
                        raise Malformed(f"an object's key must be text, not {type(key).__name__}")
                    _check_text(key)
                inner.extend(item.values())
                _check_depth(depth)
            elif kind is list or kind is tuple:
                inner.extend(item)
                _check_depth(depth)
            elif kind is float:
                if not isfinite(item):
                    raise Malformed("NaN and Infinity are no JSON numbers")
            elif kind is int:
                if not -_TOO_LONG < item < _TOO_LONG:
                    raise Malformed(f"a number has more than {_MAX_DIGITS} digits: send it as a string")
            elif item is not None and kind is not bool:
                raise Malformed(f"{kind.__name__} is no JSON data")
        level = inner


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Malformed(f"the JSON is nested deeper than {MAX_DEPTH} levels")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise Malformed("a text holds the character U+0000")
    if not text.isascii() and _SURROGATE.search(text):
        raise Malformed("a text holds a lone surrogate (half of a character)")


def etag(data: bytes) -> str:
    """An opaque strong ETag, without its quotes: the first 32 hexadecimal digits of the data's SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def iso(ms: int) -> str:
    """Milliseconds since 1970 UTC as `2026-11-24T03:00:00.000Z` (RFC 3339).

    A commit may carry any number for its time; what is outside the years 1 to 9999 gives the nearest time inside.
    """
    second, rest = divmod(min(max(ms, _FIRST), _LAST), 1000)
    return f"{_second(second)}.{rest:03d}Z"


_last: tuple[int, str] = (0, "1970-01-01T00:00:00")


def _second(second: int) -> str:
    global _last
    known, text = _last
    if known != second:
        text = (_EPOCH + timedelta(seconds=second)).isoformat()[:19]
        _last = (second, text)
    return text


def parse_iso(text: str) -> int:
    """The time an ISO 8601 text names, in milliseconds; without an offset it is UTC. Raises Invalid."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"`{text[:40]}` is no time: write it like 2026-11-24T03:00:00.000Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)
