"""Writes a JSON value as YAML that readers of YAML 1.1 and of 1.2 understand alike.

Block style, the order of the value, UTF-8, LF. A text stands plain only where no reader could take it for anything
else; a text of several lines is a `|` block where that comes back exactly; every other text is a JSON string.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from json.encoder import encode_basestring
from typing import Any

from gitstore import errors
from gitstore.documents.reading import MAX_BYTES, MAX_DEPTH, MAX_NODES

# Printable, visible, the same in every version of YAML, and not a direction control that hides what a line says.
_VISIBLE = (
    "!-~\xa1-\xac\xae-\u061b\u061d-\u167f\u1681-\u180d\u180f-\u1fff\u200c\u200d\u2010-\u2027\u2030-\u205e\u2070-\u2fff"
    "\u3001-\ud7ff\ue000-\ufefe\uff00-\ufff8\ufffc\ufffd\U00010000-\U0010fffd"
)
_LETTER = (
    "A-Za-z_\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0370-\u061b\u061d-\u167f\u1681-\u180d\u180f-\u1fff\u3040-\ud7ff\uf900-\ufdff"
)
# No number, time or date of YAML 1.1 or 1.2 contains one of these letters, so a text like 4Gi may begin with a digit.
_TELLING = "g-np-su-wyG-NP-SU-WY"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

# YAML 1.1 reads these as null or booleans, in any case to be sure.
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_BLANK = re.compile("\n[ \t]+(?:\n|\\Z)")
_REFUSED = re.compile("[\x00\ud800-\udfff]")


class _Forms:
    """What a text has to look like to be written in a style, for texts of a set of characters."""

    def __init__(self, visible: str, letter: str) -> None:
        self.plain = re.compile(f"[{letter}/$(][{visible} ]*|[0-9](?=[{visible} ]*[{_TELLING}])[{visible} ]*|{_UUID}")
        self.flow_plain = re.compile(
            f"[{letter}/$](?:[A-Za-z0-9_./$@+-]| (?=[A-Za-z0-9]))*|[0-9][A-Za-z0-9]*[{_TELLING}]|{_UUID}"
        )
        self.block = re.compile(f"[{visible}][{visible} \t\n]*")
        self.single = re.compile(f"[{visible}](?:[{visible} ]*[{visible}])?")
        self.escaped = re.compile(f"[^{visible} ]")


_ASCII = _Forms("!-~", "A-Za-z_")


@cache
def _wide() -> _Forms:
    """For texts of any characters: made when the first one comes, for it takes 50 ms, which each start would pay."""
    return _Forms(_VISIBLE, _LETTER)


def _forms(value: str) -> _Forms:
    return _ASCII if value.isascii() else _wide()


# libyaml takes no key of more than 1024 characters without a question mark before it.
_LONG_KEY = 1000


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file indents: `step` below a key, `dash` for a list below a key."""

    step: str = "  "
    dash: str = "  "


STANDARD = Layout()


def dump(value: Any) -> bytes:
    """Write a JSON value (None, bool, int, float, str, list, dict with str keys) as a document that `load` reads back.

    Raises Malformed for what no document can hold (U+0000, a lone surrogate, NaN, infinities, integers of more than
    4300 digits, more than 64 levels), TooLarge above 4 MiB or 200,000 values, TypeError for what is not JSON data.
    """
    out: list[str] = []
    kind = type(value)
    if kind is dict and value:
        _mapping(out, value, "", "", 1, STANDARD)
    elif kind is list and value:
        _sequence(out, value, "", "", 1, STANDARD)
    else:
        out.append(_leaf(value, "  ") + "\n")
    data = "".join(out).encode()
    if len(data) > MAX_BYTES:
        raise errors.TooLarge(f"as YAML the value has {len(data)} bytes, more than the {MAX_BYTES} allowed")
    # A value takes at least two bytes, so only a long document can hold too many.
    if len(data) > MAX_NODES and (count := _count(value)) > MAX_NODES:
        raise errors.TooLarge(f"the value has {count} parts, more than the {MAX_NODES} allowed")
    return data


def entry(key: str, value: Any, pad: str, layout: Layout) -> str:
    """Write one entry of a block mapping whose lines are indented by `pad`, except the first. Ends with LF."""
    out: list[str] = []
    _mapping(out, {key: value}, "", pad, 1, layout)
    return "".join(out)


def item(value: Any, pad: str, layout: Layout) -> str:
    """Write one item of a block sequence whose dash stands after `pad`, which is left out once. Ends with LF."""
    out: list[str] = []
    _sequence(out, [value], "", pad, 1, layout)
    return "".join(out)


def below(value: Any, pad: str, layout: Layout) -> str:
    """Write a collection that is not empty as the lines below a key indented by `pad`. Every line ends with LF."""
    out: list[str] = []
    if type(value) is dict:
        _mapping(out, value, pad + layout.step, pad + layout.step, 1, layout)
    else:
        _sequence(out, value, pad + layout.dash, pad + layout.dash, 1, layout)
    return "".join(out)


def inline(value: Any) -> str:
    """Write any value on one line, as it may stand between brackets."""
    kind = type(value)
    if kind is str:
        return _flow_text(value)
    if kind is dict:
        return "{" + ", ".join([pair(key, item) for key, item in value.items()]) + "}"
    if kind is list:
        return "[" + ", ".join([inline(item) for item in value]) + "]"
    return _leaf(value, "")


def pair(key: str, value: Any) -> str:
    """Write one entry of a mapping between brackets."""
    name = _flow_text(_name(key))
    return f"{'? ' if len(name) > _LONG_KEY else ''}{name}: {inline(value)}"


def text(value: str, pad: str, style: str = "") -> str:
    """Write a text in the style (`'`, `"`, `|`, `>` or none) its place had before, or as near to it as it allows.

    The lines of a block are indented by `pad`. No line ends the result.
    """
    if style == "'" and _forms(value).single.fullmatch(value):
        return "'" + value.replace("'", "''") + "'"
    if style == '"':
        return quoted(value)
    return _text(value, pad)


def quoted(value: str) -> str:
    """Write a text as a JSON string, every unusual character escaped; Malformed if no document can hold it."""
    escaped = _forms(value).escaped
    if escaped.search(value):
        if bad := _REFUSED.search(value):
            raise errors.Malformed(f"a text contains U+{ord(bad.group()):04X}, which no document can hold")
        return escaped.sub(_escape, encode_basestring(value))
    return encode_basestring(value)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _plain(value: str) -> bool:
    """Say whether a text may stand without quotes in block style."""
    return (
        _forms(value).plain.fullmatch(value) is not None
        and value[-1] not in " :"
        and ": " not in value
        and " #" not in value
        and (len(value) > 5 or value.lower() not in _WORDS)
    )


def _flow_text(value: str) -> str:
    if _forms(value).flow_plain.fullmatch(value) and (len(value) > 5 or value.lower() not in _WORDS):
        return value
    return quoted(value)


def _text(value: str, pad: str) -> str:
    if _plain(value):
        return value
    # A block may end in one line break or in none: blank lines at its end would run into what follows.
    fits = "\n" in value and _forms(value).block.fullmatch(value)
    if fits and not value.endswith("\n\n") and not _BLANK.search(value):
        lines = value.split("\n")
        head = "|-"
        if not lines[-1]:
            head = "|"
            lines.pop()
        return "\n".join([head, *[pad + line if line else "" for line in lines]])
    return quoted(value)


def _leaf(value: Any, pad: str) -> str:
    """Write what stands behind a key on its line; only a text can go on below, indented by `pad`."""
    kind = type(value)
    if kind is str:
        return _text(value, pad)
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        try:
            return str(value)
        except ValueError:
            raise errors.Malformed("an integer has more than 4300 digits") from None
    if kind is float:
        if not math.isfinite(value):
            raise errors.Malformed(f"{value} is not a JSON number")
        literal = repr(value)
        if "e" in literal and "." not in literal:
            return literal.replace("e", ".0e")  # YAML 1.1 knows no float without a point
        return literal
    if kind is dict:
        return "{}"
    if kind is list:
        return "[]"
    raise TypeError(f"{kind.__name__} is not JSON data")


def _name(key: Any) -> str:
    if type(key) is not str:
        raise TypeError(f"a key is a {type(key).__name__}, not a str")
    return key


def _mapping(out: list[str], value: dict[str, Any], first: str, pad: str, depth: int, layout: Layout) -> None:
    """Append the lines of a mapping; `first` stands before its first key, `pad` before the others."""
    if depth > MAX_DEPTH:
        raise errors.Malformed(f"the value is nested deeper than {MAX_DEPTH} levels")
    head = first
    inner = pad + layout.step
    for key, child in value.items():
        name = key if _plain(_name(key)) else quoted(key)
        if len(name) > _LONG_KEY:
            out.append(f"{head}? {name}\n")
            name, head = "", pad
        kind = type(child)
        if kind is dict and child:
            out.append(f"{head}{name}:\n")
            _mapping(out, child, inner, inner, depth + 1, layout)
        elif kind is list and child:
            out.append(f"{head}{name}:\n")
            _sequence(out, child, pad + layout.dash, pad + layout.dash, depth + 1, layout)
        else:
            out.append(f"{head}{name}: {_leaf(child, inner)}\n")
        head = pad


def _sequence(out: list[str], value: list[Any], first: str, pad: str, depth: int, layout: Layout) -> None:
    """Append the lines of a sequence; `first` stands before its first dash, `pad` before the others."""
    if depth > MAX_DEPTH:
        raise errors.Malformed(f"the value is nested deeper than {MAX_DEPTH} levels")
    head = first
    inner = pad + "  "
    for child in value:
        kind = type(child)
        if kind is dict and child:
            _mapping(out, child, head + "- ", inner, depth + 1, layout)
        elif kind is list and child:
            _sequence(out, child, head + "- ", inner, depth + 1, layout)
        else:
            out.append(f"{head}- {_leaf(child, inner)}\n")
        head = pad


def _count(value: Any) -> int:
    if type(value) is dict:
        return 1 + 2 * len(value) + sum(_count(item) - 1 for item in value.values())
    if type(value) is list:
        return 1 + sum(map(_count, value))
    return 1
