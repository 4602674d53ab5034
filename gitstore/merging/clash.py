"""What a merge could not decide: one place that both sides changed differently, with all three values."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Literal

import msgspec

from gitstore import names
from gitstore.documents import MISSING

Side = Literal["ours", "theirs"]
SIDES: Final[tuple[Side, Side]] = ("ours", "theirs")

_LONG = 60  # characters of a value that are shown


class Clash(msgspec.Struct, frozen=True):
    """One place that both sides changed differently.

    `path` is the file; `pointer` a JSON pointer (RFC 6901) into the merged document, "" for all of it. An item of a
    list that the preferred side removed is named by the index where it would stand. `base`, `ours` and `theirs` are
    the values there: JSON; for other text the differing lines, `line` being where the first of them stands in the
    merged file (from 1); `{"size_bytes", "sha256"}` of bytes that are no text, `{"mode", "id"}` of a link or a
    submodule; documents.MISSING where there is nothing.
    """

    path: str
    pointer: str
    base: Any
    ours: Any
    theirs: Any
    line: int | None = None

    def record(self) -> dict[str, Any]:
        """The clash as JSON data; `base`, `ours` and `theirs` are left out where there is nothing."""
        fields = {"path": self.path, "pointer": self.pointer, "line": self.line}
        return fields | {
            side: value
            for side, value in (("base", self.base), ("ours", self.ours), ("theirs", self.theirs))
            if value is not MISSING
        }

    def text(self, ours: str = "here", theirs: str = "there") -> str:
        """The clash on one line for people, values shortened: `a.yaml at /owner: "x" here, "y" there`."""
        place = f" at {self.pointer}" if self.pointer else f", line {self.line}" if self.line is not None else ""
        gone = "nothing" if self.base is MISSING else "removed"
        here, there = (gone if value is MISSING else shown(value) for value in (self.ours, self.theirs))
        return names.one_line(f"{self.path}{place}: {here} {ours}, {there} {theirs}", 1000)

    def swapped(self) -> Clash:
        """The clash as the other side sees it."""
        return Clash(self.path, self.pointer, self.base, self.theirs, self.ours, self.line)


def shown(value: Any) -> str:
    """A value as JSON on one line, cut where it is long."""
    if type(value) is str:
        value = value[: _LONG + 1]
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def content(data: bytes | None) -> Any:
    """The content of a file as a clash shows it: its text, or size and SHA-256 where it is none."""
    if data is None:
        return MISSING
    text = plain(data)
    if text is not None:
        return text
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def plain(data: bytes) -> str | None:
    """The text that the bytes are; None for bytes that are not UTF-8 or contain NUL."""
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
