"""Where the parts of a document stand in its text: lines, columns, comments, and how it indents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gitstore.documents.reading import BREAK, Node
from gitstore.documents.writing import Layout

_QUIET = r"[ \t]*(?:#[^\r\n]*)?"  # what may stand on a line besides a value
QUIET_LINES = re.compile(rf"(?:{_QUIET}(?:\r\n|\n|\r))*")
QUIET = re.compile(_QUIET)
COMMENT = re.compile(r"[ \t]+#[^\r\n]*")
_COLON = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*:")
_CONTENT = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)(?: *(?:\r\n|\n|\r))*( *)")
_HEADER = re.compile(r"[|>][-+0-9]*")


class Unsplit(Exception):
    """The text is laid out in a way that cannot be edited in parts."""


@dataclass(frozen=True, slots=True)
class Text:
    """A document's text, its line break and its way of indenting."""

    text: str
    eol: str
    layout: Layout

    @classmethod
    def of(cls, text: str, root: Node | None) -> Text:
        """Take the line break and the indentation from what the text does first."""
        first = BREAK.search(text)
        bare = cls(text, first.group() if first else "\n", Layout())
        return cls(text, bare.eol, bare._layout(root))

    def _layout(self, root: Node | None) -> Layout:
        step: int | None = None
        dash: int | None = None
        waiting = [root] if root is not None else []
        while waiting and (step is None or dash is None):
            node = waiting.pop()
            for child in node.items:
                if not child.items or child.flow:
                    continue
                waiting.append(child)
                if type(node.value) is dict and not self.compact(child):
                    indent = self.column(child.start) - self.column(node.start)
                    if type(child.value) is dict:
                        step = step or indent
                    elif dash is None:
                        dash = indent
        if step is None:
            step = dash or 2
        return Layout(" " * step, " " * (step if dash is None else dash))

    def line_start(self, offset: int) -> int:
        """Return where the line of an offset begins."""
        start = self.text.rfind("\n", 0, offset) + 1
        return max(start, self.text.rfind("\r", start, offset) + 1)

    def line_end(self, offset: int) -> tuple[int, int]:
        """Return where the line of an offset ends, and where the next one begins."""
        found = BREAK.search(self.text, offset)
        return found.span() if found else (len(self.text), len(self.text))

    def column(self, offset: int) -> int:
        """Count the characters before an offset in its line."""
        return offset - self.line_start(offset)

    def compact(self, node: Node) -> bool:
        """Say whether something else than spaces stands before a block collection on its first line, as in `- a: 1`."""
        return self.text[self.line_start(node.start) : node.start].strip(" ") != ""

    def head(self, node: Node) -> int:
        """Return where the lines of a block collection begin, with the comments above its first entry."""
        if self.compact(node):
            return node.start
        head = self.line_start(node.start)
        while head > 0:
            above = self.line_start(head - 2 if self.text.endswith("\r\n", 0, head) else head - 1)
            if QUIET_LINES.fullmatch(self.text, above, head) is None:
                break
            head = above
        return head

    def colon(self, key: Node) -> int | None:
        """Return the offset behind the colon of a key, None if it has none."""
        found = _COLON.match(self.text, key.end)
        return found.end() if found else None

    def value_end(self, key: Node | None, node: Node) -> int:
        """Return where a value ends, without the comment, the blank lines and the line break behind it."""
        if not node.style and not node.flow and node.start == node.end and not node.items:
            if key is None:
                return node.start
            return self.colon(key) or key.end
        if node.items and not node.flow:
            return self.value_end(node.keys[-1] if node.keys else None, node.items[-1])
        if node.style in ("|", ">"):
            return self._block_end(node)
        return node.end

    def _block_end(self, node: Node) -> int:
        """Return where a block scalar ends; blank lines belong to it only if they are in its value."""
        header = self.header_end(node)
        end = node.end
        kept = "+" in self.text[node.start : header]
        while end > header:
            before = end - 2 if self.text.endswith("\r\n", 0, end) else end - 1
            if self.text[before] not in "\r\n":
                return end
            line = self.text[self.line_start(before) : before]
            if line.strip(" ") or kept or len(line) > self._indent(node):
                return before
            end = self.line_start(before)
        return self.line_end(node.start)[0]

    def _indent(self, node: Node) -> int:
        """Count the spaces before the content of a block scalar; a line of no more than these is a blank one."""
        header = self.text[node.start : self.header_end(node)]
        found = _CONTENT.match(self.text, node.start, node.end)
        if found and header.strip("|>+-") == "":
            return len(found.group(1))
        line = self.text[self.line_start(node.start) : node.start]
        return len(line) - len(line.lstrip(" "))

    def header_end(self, node: Node) -> int:
        """Return the offset behind `|-` or the like."""
        found = _HEADER.match(self.text, node.start)
        return found.end() if found else node.start

    def after(self, end: int, column: int) -> int:
        """Return where the next entry's lines begin, given where a value ends.

        The comment behind the value belongs to it, and so do the comments below that stand deeper than `column`.
        Raises Unsplit if something else stands on the line.
        """
        quiet = QUIET.match(self.text, end)
        line_end, stop = self.line_end(end)
        if quiet is None or quiet.end() != line_end:
            raise Unsplit
        position = stop
        while position < len(self.text):
            line_end, following = self.line_end(position)
            line = self.text[position:line_end]
            bare = line.lstrip(" \t")
            if bare and (not bare.startswith("#") or len(line) - len(bare) <= column):
                break
            position = following
            if bare:
                stop = following
        return stop


def same(one: Any, other: Any) -> bool:
    """Compare JSON values with the types of their numbers and the order of their keys."""
    return one is other or repr(one) == repr(other)
