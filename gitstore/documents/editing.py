"""Changes the value in a document that a person laid out, touching only the lines that must change."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from gitstore import errors
from gitstore.documents import brackets
from gitstore.documents.layout import COMMENT, QUIET_LINES, Text, Unsplit, same
from gitstore.documents.matching import match
from gitstore.documents.reading import BOM, MAX_BYTES, DocumentError, Node, decode, parse
from gitstore.documents.writing import below, dump, entry, inline, item, text


class Missing(Enum):
    """The type of `MISSING`: no value was given, which differs from None."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


def edit(data: bytes, value: Any, *, current: Any = MISSING) -> bytes:
    """Return the document changed so that `load` gives `value`, with the same types and the same order of keys.

    Kept as they are: comments, blank lines, quoting, order, indentation, line breaks, byte order mark and every other
    byte of what did not change. A comment directly above an entry goes with it; what heads the file stays. `current`,
    if the caller knows it, is the value that `data` holds: a file that is exactly `dump(current)` is written anew
    without being parsed, which gives the same result. Where the layout defeats a partial change, the value is written
    anew below the comments that head the file.

    Raises DocumentError if `data` is not a document, and what `dump` raises if `value` cannot be one.
    """
    plain = dump(value)
    if current is not MISSING and dump(current) == data:
        return plain
    source = decode(data)
    root = parse(source)
    old = None if root is None else root.value
    if same(old, value):
        return data
    if _is_dump(data, old):
        return plain
    new = _spliced(source, root, value)
    if new is None and (closed := _closed(source, root)) is not None:
        new = _spliced(closed, parse(closed), value)
    if new is None:
        new = _anew(source, plain.decode())
    return (BOM + new if data.startswith(BOM.encode()) else new).encode()


def _is_dump(data: bytes, value: Any) -> bool:
    try:
        return dump(value) == data
    except errors.TooLarge:  # the file says in less space what we would not write
        return False


def _spliced(source: str, root: Node | None, value: Any) -> str | None:
    """Return the changed text, None unless it was read back as the value."""
    file = Text.of(source, root)
    try:
        new = _root(file, root, value)
        back = parse(new)
    except (Unsplit, DocumentError):
        return None
    if len(new.encode()) > MAX_BYTES - 3 or not same(None if back is None else back.value, value):
        return None
    return new


def _closed(source: str, root: Node | None) -> str | None:
    """End a document with a line break where it lacks one inside a block scalar, so that something can follow."""
    last = root
    while last is not None and last.items:
        last = last.items[-1]
    if last is None or last.style not in ("|", ">") or source.endswith(("\n", "\r")):
        return None
    file = Text.of(source, root)
    header_end = file.header_end(last)
    header = re.sub("[-+]", "", source[last.start : header_end])
    return source[: last.start] + header + "-" + source[header_end:] + file.eol


def _anew(source: str, plain: str) -> str:
    """Return the whole value anew below the comments that head the file."""
    found = QUIET_LINES.match(source)
    head = found.group() if found else ""
    if "#" not in head:
        head = ""
    return head + plain.replace("\n", Text.of(source, None).eol)


def _root(file: Text, root: Node | None, value: Any) -> str:
    if root is None:
        gap = "" if not file.text or file.text.endswith(("\n", "\r")) else file.eol
        return file.text + gap + dump(value).decode().replace("\n", file.eol)
    if root.items and not root.flow and value and type(value) is type(root.value):
        new, head, stop = _block(file, root, value, top=True)
        return file.text[:head] + new + file.text[stop:]
    if root.flow and type(value) is type(root.value):
        return file.text[: root.start] + brackets.rewrite(file, root, value) + file.text[root.end :]
    if root.style not in ("|", ">") and not root.items and not _is_block(value):
        written = text(value, "", root.style) if type(value) is str else inline(value)
        if "\n" not in written:
            return file.text[: root.start] + written + file.text[root.end :]
    return _replaced(file, root, value)


def _replaced(file: Text, root: Node, value: Any) -> str:
    """Write another value in the place of the whole one, between the comments that stand above and below."""
    if file.text[file.line_start(root.start) : root.start]:  # behind `---`
        raise Unsplit
    comment = ""
    if not root.items or root.flow:
        found = COMMENT.match(file.text, file.header_end(root) if root.style in ("|", ">") else root.end)
        comment = found.group().strip() + file.eol if found else ""
    stop = file.after(file.value_end(None, root), len(file.text))
    # An indented comment below a block of text would become a part of it.
    written = inline(value) + "\n" if re.search(r"(?m)^[ \t]+#", file.text[stop:]) else dump(value).decode()
    return file.text[: root.start] + comment + written.replace("\n", file.eol) + file.text[stop:]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a block collection: `gap` and `near` are the lines above it, its own text is `start` to `stop`.

    `near` is the comment directly above, which belongs to the entry; `gap` is what stands before that.
    """

    gap: str
    near: str
    start: int
    stop: int


def _block(file: Text, node: Node, value: Any, *, top: bool = False) -> tuple[str, int, int]:
    """Return the new text of a block collection, and from where to where it replaces the old one."""
    head = file.head(node)
    column = file.column(node.start)
    entries = _entries(file, node, head, column, top)
    pad = " " * column
    plan: list[tuple[int | None, str]] = []
    if type(value) is dict:
        at = {key.value: index for index, key in enumerate(node.keys)}
        for key, child in value.items():
            old = at.get(key)
            if old is None:
                plan.append((None, entry(key, child, pad, file.layout).replace("\n", file.eol)))
            else:
                plan.append((old, _mapped(file, node, old, entries[old], key, child, pad)))
    else:
        for old, child in zip(match(node.value, value), value, strict=True):
            if old is None:
                plan.append((None, item(child, pad, file.layout).replace("\n", file.eol)))
            else:
                plan.append((old, _listed(file, node.items[old], entries[old], child, pad)))
    return _arranged(file, entries, plan, pad, head == node.start and file.compact(node)), head, entries[-1].stop


def _entries(file: Text, node: Node, head: int, column: int, top: bool) -> list[_Entry]:
    entries: list[_Entry] = []
    position = head
    for index, child in enumerate(node.items):
        if index:
            found = QUIET_LINES.match(file.text, position)
            line = found.end() if found else position
            start = line + column
            if file.text[line:start].strip(" "):
                raise Unsplit
        else:
            start = node.start
            line = position if start == head else file.line_start(start)
        lead = file.text[position:line]
        near = 0 if top and not index else _near(lead)
        stop = file.after(file.value_end(node.keys[index] if node.keys else None, child), column)
        entries.append(_Entry(lead[: len(lead) - near], lead[len(lead) - near :], start, stop))
        position = stop
    return entries


def _near(lead: str) -> int:
    """Measure the comment lines at the end of quiet lines."""
    size = 0
    for line in reversed(re.findall(r"[^\r\n]*(?:\r\n|\n|\r)", lead)):
        if not line.strip():
            break
        size += len(line)
    return size


def _arranged(file: Text, entries: list[_Entry], plan: list[tuple[int | None, str]], pad: str, compact: bool) -> str:
    """Put the entries in their new order, each with its comments; the comments in gaps stay where they were."""
    kept = {old for old, _ in plan}
    gaps: dict[int, str] = {}
    orphaned = ""
    for index, one in enumerate(entries[1:], 1):
        if index in kept:
            gaps[index] = orphaned + one.gap
            orphaned = ""
        elif "#" in one.gap:
            orphaned += one.gap
    out = entries[0].gap
    bare = compact
    for number, (old, body) in enumerate(plan):
        lead = ""
        if old is not None:
            gap = gaps.get(old, "")
            lead = ("" if not number and "#" not in gap else gap) + entries[old].near
        if out and not out.endswith(("\n", "\r")):
            out += file.eol
        if bare:
            out += file.eol + lead + pad + body if lead else body
            bare = False
        else:
            out += lead + pad + body
    if orphaned and not out.endswith(("\n", "\r")):
        out += file.eol
    return out + orphaned


def _mapped(file: Text, node: Node, index: int, place: _Entry, key: str, value: Any, pad: str) -> str:
    """Return the text of an entry of a mapping with its new value."""
    old = node.items[index]
    if same(old.value, value):
        return file.text[place.start : place.stop]
    colon = file.colon(node.keys[index])
    if colon is None or node.keys[index].start != place.start:  # `? key`
        return entry(key, value, pad, file.layout).replace("\n", file.eol)
    if (partly := _partly(file, place, old, value)) is not None:
        return partly
    if not _is_block(value):
        return _leaf(file, place, colon, old, value, pad + file.layout.step)
    comment, below_it = _remarks(file, place, colon, old)
    lines = below(value, pad, file.layout).replace("\n", file.eol)
    return file.text[place.start : colon] + comment + file.eol + lines + below_it


def _listed(file: Text, old: Node, place: _Entry, value: Any, pad: str) -> str:
    """Return the text of an item of a sequence with its new value."""
    if same(old.value, value):
        return file.text[place.start : place.stop]
    if file.text[place.start] != "-":
        raise Unsplit
    if (partly := _partly(file, place, old, value)) is not None:
        return partly
    if not _is_block(value):
        return _leaf(file, place, place.start + 1, old, value, pad + "  ")
    comment, below_it = _remarks(file, place, place.start + 1, old)
    lines = item(value, pad, file.layout).replace("\n", file.eol)
    if comment:
        lines = f"-{comment}{file.eol}{pad}  {lines[2:]}"
    return lines + below_it


def _is_block(value: Any) -> bool:
    return bool(value) and type(value) in (dict, list)


def _partly(file: Text, place: _Entry, old: Node, value: Any) -> str | None:
    """Return the entry with only parts of its value changed, None if the whole value must be replaced."""
    if type(value) is not type(old.value):
        return None
    if old.flow:
        return file.text[place.start : old.start] + brackets.rewrite(file, old, value) + file.text[old.end : place.stop]
    if not old.items or not value:
        return None
    new, head, stop = _block(file, old, value)
    return file.text[place.start : head] + new + file.text[stop : place.stop]


def _remarks(file: Text, place: _Entry, mark: int, old: Node) -> tuple[str, str]:
    """Return the comment on the first line of an entry and the comment lines below it that its new value may keep.

    `mark` is the offset behind the colon or the dash.
    """
    first = COMMENT.match(file.text, mark)
    if old.items and not old.flow:
        return (first.group() if first else ""), ""
    end = file.value_end(None, old) if old.start != old.end else mark
    behind = COMMENT.match(file.text, file.header_end(old) if old.style in ("|", ">") else end)
    comment = behind or first
    return (comment.group() if comment else ""), file.text[file.line_end(end)[1] : place.stop]


def _leaf(file: Text, place: _Entry, mark: int, old: Node, value: Any, pad: str) -> str:
    """Return the entry with a scalar or an empty collection in the place of its old value."""
    comment, below_it = _remarks(file, place, mark, old)
    gap = file.text[mark : old.start]
    if old.start <= mark or gap.strip(" \t") or (old.items and not old.flow):
        gap = " "
    written = text(value, pad, old.style) if type(value) is str else inline(value)
    first, block, rest = written.partition("\n")
    if block and below_it:  # a comment below a block would become a part of it
        first, rest = inline(value), ""
    end = file.eol if rest or below_it or file.text.endswith(("\n", "\r"), 0, place.stop) else ""
    lines = rest.replace("\n", file.eol) + file.eol if rest else ""
    return file.text[place.start : mark] + gap + first + comment + end + lines + below_it
