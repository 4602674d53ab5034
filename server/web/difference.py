"""What differs between two states, drawn: places of YAML with the old and the new value, lines with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from markupsafe import Markup, escape
from msgspec import UNSET

from gitstore.diff import FileDiff, Hunk, Limits, ValueDiff, describe, moved
from gitstore.model import Branch
from gitstore.repository.trees import TreeView
from server.web import tree

LIMITS = Limits(text=4 << 20, document=1 << 20, shown=48 << 10, values=200, steps=500_000)
PER_PAGE = 25
_CLASS = {"+": "add", "-": "del", " ": "ctx", "\\": "end"}


class File(msgspec.Struct):
    """One file of a difference, ready to be put on a page."""

    path: str
    old_path: str | None
    op: str
    part: str
    key: str | None
    values: list[dict[str, Any]] | None
    lines: Markup | None
    old: int | None
    new: int | None
    truncated: bool


def files(
    before: TreeView, after: TreeView, branch: Branch, *, prefix: str = "", page: int = 1
) -> tuple[list[File], int]:
    """One page of the files that differ, and how many there are."""
    found = moved(before, after, prefix=prefix)
    shown = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    return drawn(list(describe(shown, before, after, branch, limits=LIMITS))), len(found)


def drawn(found: Sequence[FileDiff]) -> list[File]:
    """Differences ready to be put on a page."""
    budget = tree.Budget()
    return [_file(one, budget) for one in found]


def _file(one: FileDiff, budget: tree.Budget) -> File:
    return File(
        path=one.path,
        old_path=None if one.old_path is UNSET else one.old_path,
        op=one.op,
        part=one.part,
        key=None if one.key is UNSET else one.key,
        values=None if one.values is UNSET else [place(found, budget) for found in one.values],
        lines=None if one.hunks is UNSET or not one.hunks else lines(one.hunks),
        old=one.old.size if one.old is not None else None,
        new=one.new.size if one.new is not None else None,
        truncated=one.truncated,
    )


def place(found: ValueDiff, budget: tree.Budget) -> dict[str, Any]:
    """One place of a document that differs, ready to be put on a page."""
    return {
        "op": found.op,
        "pointer": found.pointer,
        "place": readable(found.pointer),
        "old": tree.draw(found.old, budget) if found.old is not UNSET else None,
        "new": tree.draw(found.new, budget) if found.new is not UNSET else None,
    }


def readable(pointer: str) -> str:
    """A JSON pointer (RFC 6901) for people: `freeze_days › 0 › why`."""
    if not pointer:
        return "the whole document"
    return " › ".join(part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/"))


def lines(hunks: Sequence[Hunk]) -> Markup:
    """The hunks as a table: number in the old text, number in the new text, line."""
    parts = ['<table class="lines"><caption class="hidden">Lines that differ</caption><tbody>']
    for hunk in hunks:
        old, new = hunk.old_start, hunk.new_start
        parts.append(
            f'<tr class="hunk"><td colspan="3">@@ -{old},{hunk.old_lines} +{new},{hunk.new_lines} @@</td></tr>'
        )
        for line in hunk.lines:
            sign = line[:1] or " "
            left = str(old) if sign in "- " else ""
            right = str(new) if sign in "+ " else ""
            old, new = old + (sign in "- "), new + (sign in "+ ")
            text = escape(line[1:].rstrip("\n"))
            parts.append(
                f'<tr class="{_CLASS.get(sign, "ctx")}"><td class="no">{left}</td><td class="no">{right}</td>'
                f'<td class="line"><span class="sign">{escape(sign)}</span>{text}</td></tr>'
            )
    parts.append("</tbody></table>")
    return Markup("".join(parts))  # noqa: S704  (every text in it went through `escape`)
