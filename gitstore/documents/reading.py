"""Reads a YAML document as a JSON value, or says with line and column why it is not one.

The data model is JSON's; scalars are read by the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema),
so `NO`, `2026-01-01` and `12:30:45` are texts. Everything in YAML that could surprise (tags, anchors, aliases, merge
keys, repeated keys, several documents) is refused, and so is whatever could exhaust the reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from yaml.error import Mark, MarkedYAMLError, YAMLError
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from gitstore import errors

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 200_000
# Python converts no longer decimal without being told to (sys.int_info.default_max_str_digits).
MAX_DIGITS = 4300

BOM = "\ufeff"
BREAK = re.compile(r"\r\n|\n|\r")

# What no YAML text may contain (https://yaml.org/spec/1.2.2/#51-character-set), and a byte order mark past the start.
_FOREIGN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_UNKEPT = re.compile("[\x00\ud800-\udfff]")
_OLD_BREAKS = re.compile("[\x85\u2028\u2029]")

_WORDS: dict[str, bool | None] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMERIC = frozenset("0123456789+-.")
_PAST_DIGITS = 10**MAX_DIGITS


class DocumentError(errors.Invalid):
    """A file that is not a document we accept: where (`line` and `column` count from 1), why, and what to do."""

    def __init__(self, problem: str, *, path: str = "", line: int = 1, column: int = 1, hint: str = "") -> None:
        place = f"line {line}, column {column}"
        super().__init__(
            f"{f'{path}, ' if path else ''}{place}: {problem}{f'; {hint}' if hint else ''}",
            details={"path": path, "line": line, "column": column, "problem": problem, "hint": hint},
        )
        self.problem = problem
        self.path = path
        self.line = line
        self.column = column
        self.hint = hint


@dataclass(slots=True)
class Node:
    """A value and where it stands: `start` and `end` are offsets into the text without its byte order mark.

    `keys` runs beside `items` in a mapping and is empty in a sequence; a scalar has neither. `style` is the scalar's
    indicator (`'`, `"`, `|`, `>`), or "" when plain; `flow` marks a collection in brackets.
    """

    value: Any
    start: int
    end: int
    style: str = ""
    flow: bool = False
    keys: list[Node] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)


class EventSource(Protocol):
    """The part of PyYAML's parsers that is used here."""

    def get_event(self) -> Event | None:
        """Return the next event, None after the last."""


class PureParser(Reader, Scanner, Parser):
    """PyYAML's parser without libyaml: ten times slower, the same events."""

    def __init__(self, stream: str) -> None:
        Reader.__init__(self, stream)
        Scanner.__init__(self)
        Parser.__init__(self)


try:
    from yaml.cyaml import CParser as FastestParser  # type: ignore[attr-defined]
except ImportError:  # PyYAML was built without libyaml
    FastestParser = PureParser  # type: ignore[misc, assignment]


class Fail(Protocol):
    """Builds the error for a place."""

    def __call__(self, mark: Mark, problem: str, hint: str = "") -> DocumentError:
        """Return it, to be raised."""


class _BadScalar(Exception):
    """A plain scalar that looks like a number we cannot keep: (problem, hint)."""


def load(data: bytes, path: str = "") -> Any:
    """Read one document as JSON data; an empty document is None. `path` only names the file in an error.

    Raises DocumentError, always with line and column, for: bytes that are not UTF-8, characters that YAML forbids,
    syntax errors, tags, anchors, aliases, merge keys, repeated keys, keys that are not texts, more than one document,
    U+0000 or lone surrogates in a text, infinities, numbers that a double cannot hold exactly as written, integers of
    more than 4300 digits, and more than 4 MiB, 64 levels or 200,000 values.
    """
    root = parse(decode(data, path), path)
    return None if root is None else root.value


def decode(data: bytes, path: str = "") -> str:
    """Return the text of a document without its byte order mark, or raise DocumentError if it cannot be YAML."""
    if len(data) > MAX_BYTES:
        raise DocumentError(
            f"the document has {len(data)} bytes, more than the {MAX_BYTES} allowed",
            path=path,
            hint="split it, or keep it as a file",
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode().removeprefix(BOM)
        raise _at(
            before, len(before), path, f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8"
        ) from None
    text = text.removeprefix(BOM)
    if foreign := _FOREIGN.search(text):
        character = foreign.group()
        if character == BOM:
            hint = 'an invisible byte order mark; delete it, or write it as "\\ufeff"'
        else:
            hint = (
                f'delete it, or write it inside double quotes as "\\u{ord(character):04x}"' if character > "\0" else ""
            )
        raise _at(text, foreign.start(), path, f"character U+{ord(character):04X} may not stand in a document", hint)
    return text


def _at(text: str, offset: int, path: str, problem: str, hint: str = "") -> DocumentError:
    """Build the error for an offset in the text."""
    line, start = 1, 0
    for line_break in BREAK.finditer(text, 0, offset):
        line, start = line + 1, line_break.end()
    return DocumentError(problem, path=path, line=line, column=offset - start + 1, hint=hint)


def parse(text: str, path: str = "", parser: type[EventSource] | None = None) -> Node | None:
    """Read a decoded text into nodes that know their places; None if it holds no document. Raises DocumentError."""
    source, restore = _new_breaks(text)
    try:
        return _build((parser or FastestParser)(source), text, path, restore)  # type: ignore[call-arg]
    except MarkedYAMLError as error:
        raise _syntax(error, text, path) from None
    except YAMLError as error:
        raise DocumentError(str(error), path=path) from None


def _new_breaks(text: str) -> tuple[str, dict[int, str] | None]:
    """Disguise the characters that ended a line in YAML 1.1 and are ordinary in 1.2, as PyYAML reads 1.1.

    Returns the text to parse, of the same length, and the table that turns parsed texts back (None: nothing to do).
    """
    if text.isascii():
        return text, None
    found = sorted(set(_OLD_BREAKS.findall(text)))
    if not found:
        return text, None
    lower = text.lower()
    spare = (code for code in range(0xE000, 0xF8FF) if chr(code) not in text and f"{code:x}" not in lower)
    masks = dict(zip(found, spare, strict=False))
    if len(masks) < len(found):
        return text, None  # thousands of private characters and escapes: read them as YAML 1.1 does
    return text.translate({ord(old): code for old, code in masks.items()}), {code: old for old, code in masks.items()}


def _build(source: EventSource, document: str, path: str, restore: dict[int, str] | None) -> Node | None:
    """Turn events into nodes without recursion, so that depth is a limit and not a crash."""
    root: Node | None = None
    top: Node | None = None
    key: Node | None = None
    above: list[Node] = []
    nodes = 0
    next_event = source.get_event

    def fail(mark: Mark, problem: str, hint: str = "") -> DocumentError:
        return DocumentError(problem, path=path, line=mark.line + 1, column=mark.column + 1, hint=hint)

    while True:
        event: Any = next_event()
        kind = type(event)
        if kind is ScalarEvent:
            start = event.start_mark
            if event.tag is not None or event.anchor is not None:
                raise _property(event, fail)
            text = event.value
            if restore is not None:
                text = text.translate(restore)
            style = event.style or ""
            value: Any = text
            if not style:
                if text in _WORDS:
                    value = _WORDS[text]
                elif text[0] in _NUMERIC:
                    try:
                        value = _number(text)
                    except _BadScalar as bad:
                        raise fail(start, *bad.args) from None
            elif style == '"' and _UNKEPT.search(text):
                raise fail(start, "the text contains U+0000 or half a surrogate pair", "no JSON text can hold that")
            node = Node(value, start.index, event.end_mark.index, style)
            if top is not None and key is None and type(top.value) is dict:
                key = _key(node, text, top, document, start, fail)
                nodes += 1
                continue
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            start = event.start_mark
            if event.tag is not None or event.anchor is not None:
                raise _property(event, fail)
            if top is not None and key is None and type(top.value) is dict:
                raise fail(start, "a key must be a text, not a list or a map", "quote it if a text is meant")
            if len(above) + (top is not None) >= MAX_DEPTH:
                raise fail(start, f"nested deeper than {MAX_DEPTH} levels", "flatten the value")
            node = Node({} if kind is MappingStartEvent else [], start.index, start.index, "", event.flow_style)
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            assert top is not None
            top.end = event.end_mark.index
            top = above.pop() if above else None
            continue
        elif kind is AliasEvent:
            raise fail(event.start_mark, f"alias *{_short(event.anchor)} is not supported", "write the value out")
        elif kind is DocumentStartEvent:
            if root is not None:
                raise fail(event.start_mark, "a second document begins here", "keep one document in a file")
            if event.version not in (None, (1, 2)):
                version = ".".join(map(str, event.version))
                raise fail(event.start_mark, f"the document asks to be read as YAML {version}", "remove the %YAML line")
            continue
        elif kind is DocumentEndEvent:
            continue
        elif kind is StreamEndEvent or event is None:
            return root
        else:
            continue

        nodes += 1
        if nodes > MAX_NODES:
            raise fail(event.start_mark, f"more than {MAX_NODES} values", "split the document")
        if top is None:
            root = node
        elif key is not None:
            top.value[key.value] = node.value
            top.keys.append(key)
            top.items.append(node)
            key = None
        else:
            top.value.append(node.value)
            top.items.append(node)
        if kind is not ScalarEvent:
            if top is not None:
                above.append(top)
            top = node


def _property(event: Any, fail: Fail) -> DocumentError:
    """Say which of tag and anchor is not wanted."""
    if event.anchor is not None:
        return fail(
            event.start_mark, f"anchor &{_short(event.anchor)} is not supported", "remove it; aliases are not read"
        )
    tag = _short(event.tag.replace("tag:yaml.org,2002:", "!!"))
    return fail(event.start_mark, f"tag {tag} is not supported", "remove it, and quote what must be a text")


def _short(text: str) -> str:
    """Cut a text so that it fits in a message."""
    return text if len(text) <= 60 else f"{text[:60]}…"


def _key(node: Node, text: str, top: Node, document: str, mark: Mark, fail: Fail) -> Node:
    """Check a scalar in the place of a key."""
    if type(node.value) is not str:
        shown = _short(text)
        hint = f'write "{shown}"' if shown else 'write "" for an empty key'
        raise fail(mark, f"a key must be a text, and {shown or 'an empty key'} is not", hint)
    if text == "<<" and not node.style:
        raise fail(mark, "the merge key << is not supported", 'write the keys out, or quote it as "<<"')
    if text in top.value:
        first = next(place for place in top.keys if place.value == text)
        line = sum(1 for _ in BREAK.finditer(document, 0, first.start)) + 1
        raise fail(
            mark,
            f"the key {_short(text)!r} stands twice in one map",
            f"remove one of them; the first is in line {line}",
        )
    return node


def _number(text: str) -> int | float | str:
    """Read a plain scalar that begins like a number; anything that is none is a text."""
    if _DECIMAL.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise _BadScalar(f"an integer of more than {MAX_DIGITS} digits", "quote it to keep it as a text")
        return int(text)
    if _OTHER_BASE.fullmatch(text):
        number = int(text, 0)
        if number >= _PAST_DIGITS:
            raise _BadScalar(f"an integer of more than {MAX_DIGITS} digits", "quote it to keep it as a text")
        return number
    if _FLOAT.fullmatch(text):
        if not _kept(text):
            raise _BadScalar(f"the number {_short(text)} would be altered", "give fewer digits, or quote it as a text")
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        raise _BadScalar(f"{text} is not a JSON number", "quote it if a text is meant")
    return text


def _kept(text: str) -> bool:
    """Say whether the double nearest to the literal is written back as a numerically equal literal."""
    if len(text) > MAX_DIGITS:
        return False
    number = float(text)
    if number == 0:  # compared as text: Decimal refuses an exponent of twenty digits
        return not re.search("[1-9]", re.split("[eE]", text)[0])
    return abs(number) != float("inf") and Decimal(text) == Decimal(repr(number))


_HINTS = (
    # (what libyaml says, what a person needs to hear)
    ("mapping values are not allowed", "check the indentation, and quote a text that contains ': '"),
    (
        "did not find expected '-' indicator",
        "check the indentation; every item of a list begins with '-' at one column",
    ),
    ("did not find expected key", "check the indentation and the quotes of the lines before"),
    ("did not find expected ',' or", "a bracket was not closed, or a comma is missing"),
    ("did not find expected node content", "a value is missing, or it begins with a sign that needs quotes"),
    ("could not find expected ':'", "a key needs ': ' after it on the same line"),
    ("found unexpected end of stream", "the quote that opens here is never closed"),
    ("invalid Unicode character escape", "write the character itself, or \\U and its eight hex digits"),
    ("found unknown escape character", "write \\\\ for a backslash, or use single quotes"),
    ("found a tab character", "indent with spaces"),
    ("unexpected document indicator", "a quote was opened and never closed"),
    ("block sequence entries are not allowed", "put the first '-' of a list on a line of its own"),
)


def _syntax(error: MarkedYAMLError, text: str, path: str) -> DocumentError:
    """Turn the parser's complaint into ours, pointing to where the fault begins."""
    problem = error.problem or "not YAML"
    mark = error.problem_mark or error.context_mark
    hint = next((hint for said, hint in _HINTS if said in problem), "")
    if "end of stream" in problem and error.context_mark is not None:
        mark = error.context_mark
    if "cannot start any token" in problem and mark is not None:
        found = text[mark.index : mark.index + 1]
        hint = "indent with spaces, not tabs" if found == "\t" else f"quote a text that begins with {found}"
    if mark is None:
        return DocumentError(problem, path=path, hint=hint)
    return DocumentError(problem, path=path, line=mark.line + 1, column=mark.column + 1, hint=hint)
