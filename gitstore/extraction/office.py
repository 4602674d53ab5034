"""The text of office documents: Office Open XML and OpenDocument, which are XML in a zip archive.

Sizes in an archive are claims: what counts is what was unpacked, and no more than `UNPACKED_MAX` is.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, Final
from xml.parsers import expat

from gitstore.extraction.gathering import Gathering, Unreadable

UNPACKED_MAX: Final = 64 * 1024 * 1024
MEMBERS_MAX: Final = 5_000
_CHUNK: Final = 64 * 1024
_WANTED: Final = re.compile(
    r"word/(?:document|footnotes|endnotes|comments|header\d*|footer\d*)\.xml|xl/sharedStrings\.xml"
    r"|xl/workbook\.xml|xl/worksheets/[^/]+\.xml|ppt/slides/[^/]+\.xml|ppt/notesSlides/[^/]+\.xml"
    r"|docProps/core\.xml|content\.xml|meta\.xml"
)
_BREAKS: Final = frozenset({"p", "h", "br", "tab", "tr", "row", "si", "c", "cell", "table-cell", "title", "line-break"})
_NAMED: Final = frozenset({"sheet", "table"})
_NUMBER: Final = re.compile(r"(\d+)")


def office(_: str, data: bytes, found: Gathering) -> None:
    """The paragraphs, cells and slides of a document, in its order. Raises Unreadable."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MEMBERS_MAX:
                raise Unreadable(f"has more than {MEMBERS_MAX} members")
            left = UNPACKED_MAX
            wanted = [one for one in members if _WANTED.fullmatch(one.filename)]
            if not wanted:
                raise Unreadable("is no office document")
            for member in sorted(wanted, key=lambda one: _order(one.filename)):
                with archive.open(member) as packed:
                    left = _read(packed, found, left, numbers=member.filename.startswith("xl/worksheets/"))
                found.add("\n")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise Unreadable(str(error)) from error


def _order(name: str) -> list[Any]:
    """Slide 10 after slide 9; what a sheet shares, before the sheets."""
    parts: list[Any] = _NUMBER.split(name)
    return [name.startswith("xl/worksheets/"), *(int(one) if at % 2 else one for at, one in enumerate(parts))]


def _chunks(packed: Any, left: int) -> Iterator[bytes]:
    while chunk := packed.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise Unreadable(f"unpacks to more than {UNPACKED_MAX} bytes")
        yield chunk


def _read(packed: Any, found: Gathering, left: int, *, numbers: bool) -> int:
    parser = expat.ParserCreate()
    stack: list[str] = []

    def refuse(*_: Any) -> None:
        raise Unreadable("has a document type")

    def begin(name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if len(stack) >= 256:
            raise Unreadable("is nested too deep")
        # In a sheet a cell whose value is shared holds only a number that says which.
        shared = local == "c" and attributes.get("t") == "s"
        stack.append("shared" if shared or (stack and stack[-1] == "shared") else local)
        if local in _BREAKS:
            found.add("\n" if local != "tab" else " ")
        if local in _NAMED:
            for key, value in attributes.items():
                if key.rpartition(":")[2] == "name":
                    found.add(f"\n{value}\n")

    def end(name: str) -> None:
        stack.pop()
        if name.rpartition(":")[2] in _BREAKS:
            found.add("\n")

    def text(data: str) -> None:
        if (stack and stack[-1] != "shared") or not numbers:
            found.add(data)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.buffer_text = True
    try:
        for chunk in _chunks(packed, left):
            left -= len(chunk)
            found.check()
            parser.Parse(chunk, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Unreadable(str(error)) from error
    return left
