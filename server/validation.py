"""Shapes of bodies and queries: the fast way through msgspec, and on failure every fault at once.

msgspec stops at the first fault. So a value that it refuses is walked again here, slowly, over the plain JSON,
and each fault is named by its JSON pointer (RFC 6901).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import inspect

from gitstore import errors
from server.shapes.common import Shape

T = TypeVar("T")
Fault = tuple[str, str]

_MSGSPEC_PATH = re.compile(r"^(?P<text>.*?) - at `(?P<key>key in )?\$(?P<path>.*)`$", re.DOTALL)
_PATH_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
#: Integers of a query beyond this are beyond everything that is counted here, so they are cut to it.
_BEYOND = 10**15


def convert(value: Any, kind: type[T]) -> T:
    """`value` (plain JSON) as `kind`. Raises WrongShape with all faults."""
    try:
        made = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise errors.WrongShape(explain(value, kind, error)) from None
    if isinstance(made, Shape) and (found := made.faults()):
        raise errors.WrongShape(found)
    return made


def explain(value: Any, kind: Any, error: msgspec.ValidationError) -> list[Fault]:
    """Every fault of a value that msgspec refused; at least one, in the words of msgspec if the walk finds none."""
    found = list(_walk(inspect.type_info(kind), value, ""))
    if found:
        return found
    match = _MSGSPEC_PATH.match(str(error))
    if match is None:
        return [("", str(error))]
    steps = (name or index for name, index in _PATH_STEP.findall(match["path"]))
    return [("".join(f"/{_escape(step)}" for step in steps), match["text"])]


def _escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a number"),
    (str, "text"),
    (dict, "an object"),
    (list, "an array"),
)


def _name(value: Any) -> str:
    return next((name for kind, name in _NAMES if isinstance(value, kind)), "null")


def _expected(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(type=plain):
            return _expected(plain)
        case inspect.UnionType(types=kinds):
            return " or ".join(dict.fromkeys(_expected(kind) for kind in kinds))
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(each) for each in values)
        case inspect.StrType():
            return "text"
        case inspect.IntType():
            return "an integer"
        case inspect.FloatType():
            return "a number"
        case inspect.BoolType():
            return "a boolean"
        case inspect.NoneType():
            return "null"
        case inspect.StructType() | inspect.DictType():
            return "an object"
        case inspect.ListType() | inspect.VarTupleType():
            return "an array"
        case _:
            return "another kind of value"


def _fits(info: inspect.Type, value: Any) -> bool:
    """Whether `value` is of the JSON kind that `info` describes, whatever its content."""
    match info:
        case inspect.Metadata(type=plain):
            return _fits(plain, value)
        case inspect.AnyType() | inspect.RawType():
            return True
        case inspect.StructType() | inspect.DictType():
            return isinstance(value, dict)
        case inspect.ListType() | inspect.VarTupleType():
            return isinstance(value, list)
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case inspect.NoneType():
            return value is None
        case inspect.LiteralType(values=values):
            return any(value == each and type(value) is type(each) for each in values)
        case inspect.UnionType(types=kinds):
            return any(_fits(kind, value) for kind in kinds)
        case _:
            return True  # left to msgspec, whose own words are used then


def _walk(info: inspect.Type, value: Any, at: str) -> Iterator[Fault]:
    if not _fits(info, value):
        got = f"{value!r}"[:60] if isinstance(info, inspect.LiteralType) else _name(value)
        yield at, f"expected {_expected(info)}, got {got}"
        return
    match info:
        case inspect.Metadata(type=plain):
            yield from _walk(plain, value, at)
        case inspect.UnionType(types=kinds):
            yield from _choose(kinds, value, at)
        case inspect.StructType(fields=fields):
            for field in fields:
                if field.encode_name in value:
                    yield from _walk(field.type, value[field.encode_name], f"{at}/{_escape(field.encode_name)}")
                elif field.required:
                    yield f"{at}/{_escape(field.encode_name)}", "is required"
        case inspect.DictType():
            yield from _length(info, len(value), "entries", at)
            for key, each in value.items():
                yield from _walk(info.key_type, key, f"{at}/{_escape(key)}")
                yield from _walk(info.value_type, each, f"{at}/{_escape(key)}")
        case inspect.ListType() | inspect.VarTupleType():
            yield from _length(info, len(value), "items", at)
            for index, each in enumerate(value):
                yield from _walk(info.item_type, each, f"{at}/{index}")
        case inspect.StrType():
            yield from _length(info, len(value), "characters", at)
            if info.pattern is not None and re.search(info.pattern, value) is None:
                yield at, f"does not match {info.pattern}"
        case inspect.IntType() | inspect.FloatType():
            if info.ge is not None and value < info.ge:
                yield at, f"must be at least {info.ge}, got {value}"
            if info.gt is not None and value <= info.gt:
                yield at, f"must be more than {info.gt}, got {value}"
            if info.le is not None and value > info.le:
                yield at, f"must be at most {info.le}, got {value}"
            if info.lt is not None and value >= info.lt:
                yield at, f"must be less than {info.lt}, got {value}"
        case _:
            pass


def _choose(kinds: tuple[inspect.Type, ...], value: Any, at: str) -> Iterator[Fault]:
    """The faults of a value that is to be of one of several kinds; objects tell by a field which one they are."""
    tags = {kind.tag: kind for kind in kinds if isinstance(kind, inspect.StructType) and kind.tag is not None}
    field = next((kind.tag_field for kind in tags.values()), None)
    if field is None or not isinstance(value, dict):
        yield from _walk(next(kind for kind in kinds if _fits(kind, value)), value, at)
    elif field not in value:
        yield f"{at}/{field}", "is required"
    elif not isinstance(value[field], str) or value[field] not in tags:
        yield f"{at}/{field}", f"expected one of {', '.join(map(str, tags))}, got {value[field]!r:.60}"
    else:
        yield from _walk(tags[value[field]], value, at)


def _length(info: Any, size: int, unit: str, at: str) -> Iterator[Fault]:
    if info.min_length is not None and size < info.min_length:
        yield at, "must not be empty" if info.min_length == 1 else f"must have at least {info.min_length} {unit}"
    if info.max_length is not None and size > info.max_length:
        yield at, f"must have at most {info.max_length} {unit}, got {size}"


class Query:
    """Reads query strings into one Struct type. Unknown parameters are ignored, as the reference does."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self.kind = kind
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        self._readers: dict[str, Callable[[str], Any]] = {f.encode_name: _reader(f.type) for f in info.fields}
        required = any(field.required for field in info.fields)
        made = None if required else msgspec.convert({}, kind)
        #: What a request without a query gets; structs of queries are never changed, so one serves all.
        self.empty = None if isinstance(made, Shape) and made.faults() else made

    def read(self, text: str) -> tuple[Any, list[Fault]]:
        """The Struct, or None and every fault. Raises Malformed for text that is not UTF-8 or holds U+0000."""
        if not text and self.empty is not None:
            return self.empty, []
        found: dict[str, Any] = {}
        faults: list[Fault] = []
        for name, value in pairs(text):
            reader = self._readers.get(name)
            if reader is None:
                continue
            if name in found:
                faults.append((f"/{_escape(name)}", "is given more than once"))
                continue
            found[name] = reader(value)
        try:
            made = msgspec.convert(found, self.kind)
        except msgspec.ValidationError as error:
            return None, faults + explain(found, self.kind, error)
        if isinstance(made, Shape):
            faults += made.faults()
        return (None if faults else made), faults


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """The decoded (name, value) pairs of a query string (application/x-www-form-urlencoded)."""
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            yield _unquoted(name), _unquoted(value)


def _unquoted(text: str) -> str:
    if "%" in text or "+" in text or not text.isascii():
        try:
            text = unquote_to_bytes(text.replace("+", " ").encode("utf-8", "surrogateescape")).decode("utf-8")
        except UnicodeDecodeError:
            raise errors.Malformed("the query string is not UTF-8") from None
    if "\0" in text:
        raise errors.Malformed("the query string holds U+0000")
    return text


def _reader(info: inspect.Type) -> Callable[[str], Any]:
    """Turns text into the value of that kind, or leaves it text, which the check of the shape then refuses."""
    if isinstance(info, inspect.Metadata):
        return _reader(info.type)
    kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
    kinds = tuple(kind.type if isinstance(kind, inspect.Metadata) else kind for kind in kinds)
    if any(isinstance(kind, inspect.BoolType) for kind in kinds):
        return lambda text: {"true": True, "1": True, "false": False, "0": False}.get(text, text)
    if any(isinstance(kind, inspect.IntType) for kind in kinds):
        return _integer
    return str


def _integer(text: str) -> int | str:
    if _INTEGER.fullmatch(text) is None:
        return text
    if len(text) > 16:
        return -_BEYOND if text.startswith("-") else _BEYOND
    return int(text)
