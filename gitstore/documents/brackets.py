"""Edits lists and maps that stand between brackets, keeping their line breaks, commas and comments."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from gitstore.documents.layout import COMMENT, Text, Unsplit, same
from gitstore.documents.matching import match
from gitstore.documents.reading import Node
from gitstore.documents.writing import inline, pair, text

_COMMA = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*,")


@dataclass(frozen=True, slots=True)
class _Part:
    """An entry with what stands around it: `before`, `body`, `behind`, the comma, `side` (a comment on that line)."""

    before: str
    body: str
    behind: str = ""
    side: str = ""


def rewrite(file: Text, node: Node, value: Any) -> str:
    """Return the text between (and with) the brackets of `node`, changed to hold `value`, of the same kind."""
    if not value or not node.items or file.text[node.start] not in "{[":
        return inline(value)
    remark = COMMENT.match(file.text, node.start + 1)
    inside = remark.end() if remark else node.start + 1
    try:
        parts, close, comma = _parts(file, node, inside)
    except Unsplit:
        return inline(value)
    if type(value) is dict:
        at = {key.value: index for index, key in enumerate(node.keys)}
        order = [at[key] for key in value if key in at]
        if order != sorted(order):
            return inline(value)
        bodies = [
            (at[key], _entry(file, node, at[key], item)) if key in at else (None, pair(key, item))
            for key, item in value.items()
        ]
    else:
        bodies = [
            (None, inline(item)) if old is None else (old, _item(file, node.items[old], item))
            for old, item in zip(match(node.value, value), value, strict=True)
        ]
    broken = next((part.before for part in parts if "\n" in part.before or "\r" in part.before), None)
    if broken is not None:
        broken = file.eol + re.split(r"[\r\n]", broken)[-1]
    new = [
        _Part(" " if broken is None else broken, body) if old is None else replace(parts[old], body=body)
        for old, body in bodies
    ]
    if new[0].before.isspace() and "\n" not in new[0].before and "#" not in parts[0].before:
        new[0] = replace(new[0], before=parts[0].before)
    if remark and not new[0].before.lstrip(" \t").startswith(("\r", "\n")):
        new[0] = replace(new[0], before=file.eol + new[0].before)
    return file.text[node.start : inside] + _joined(new, close, comma, file.eol) + file.text[node.end - 1]


def _joined(parts: list[_Part], close: str, comma: bool, eol: str) -> str:
    out: list[str] = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        before = part.before
        if out and not before:
            before = " "
        if out and parts[number - 1].side and not before.lstrip(" \t").startswith(("\r", "\n")):
            before = eol + before
        out += [before, part.body, part.behind, "" if last and not comma else ",", part.side]
    if parts[-1].side and not close.lstrip(" \t").startswith(("\r", "\n")):
        out.append(eol)
    out.append(close)
    return "".join(out)


def _parts(file: Text, node: Node, inside: int) -> tuple[list[_Part], str, bool]:
    """Cut the inside of the brackets into entries, the text before the closing one, and whether a comma ends it."""
    parts: list[_Part] = []
    position = inside
    comma = True
    for index, item in enumerate(node.items):
        start = node.keys[index].start if node.keys else item.start
        end = file.value_end(node.keys[index] if node.keys else None, item)
        before = file.text[position:start]
        if before.rstrip().endswith("?") or not comma:
            raise Unsplit
        found = _COMMA.match(file.text, end)
        comma = found is not None
        behind = file.text[end : found.end() - 1] if found else ""
        position = found.end() if found else end
        side = COMMENT.match(file.text, position)
        if side:
            position = side.end()
        parts.append(_Part(before, file.text[start:end], behind, side.group() if side else ""))
    return parts, file.text[position : node.end - 1], comma


def _entry(file: Text, node: Node, index: int, value: Any) -> str:
    key, old = node.keys[index], node.items[index]
    end = file.value_end(key, old)
    if same(old.value, value):
        return file.text[key.start : end]
    if old.start == old.end or end <= old.start:
        return f"{file.text[key.start : key.end]}: {inline(value)}"
    return file.text[key.start : old.start] + _item(file, old, value)


def _item(file: Text, old: Node, value: Any) -> str:
    if same(old.value, value):
        return file.text[old.start : old.end]
    if old.flow and type(old.value) is type(value):
        return rewrite(file, old, value)
    if type(value) is str and old.style in ("'", '"'):
        return text(value, "", old.style).partition("\n")[0] if "\n" not in value else inline(value)
    return inline(value)
