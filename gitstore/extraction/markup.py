"""The text of HTML pages and of notebooks."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any, Final

from gitstore.extraction.gathering import Gathering, Unreadable
from gitstore.search.texts import CHARSET, MARKS

_HIDDEN: Final = frozenset({"script", "style", "template", "noscript"})
_INLINE: Final = re.compile(
    "a|abbr|b|bd[io]|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|q|s|samp|small|span|strong|su[bp]|time|tt"
    "|u|var|wbr"
)
_SHOWN: Final = ("alt", "title", "placeholder", "content")
_META: Final = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([A-Za-z0-9._:-]{1,40})", re.IGNORECASE)


class _Page(HTMLParser):
    def __init__(self, found: Gathering) -> None:
        super().__init__(convert_charrefs=True)
        self._found = found
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._hidden += 1
        if not _INLINE.fullmatch(tag):
            self._found.add("\n")
        said = dict(attrs)
        if tag == "meta" and said.get("name", "") not in ("description", "keywords", "author"):
            return
        for name in _SHOWN:
            if value := said.get(name):
                self._found.add(f" {value}\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        if not _INLINE.fullmatch(tag):
            self._found.add("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._found.add(data)


def html(content_type: str, data: bytes, found: Gathering) -> None:
    """What a reader of the page reads, and its title and description. Raises Unreadable."""
    page = _Page(found)
    page.feed(_text(content_type, data).removeprefix("\ufeff"))
    page.close()


def _text(content_type: str, data: bytes) -> str:
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), None)
    if encoding is None:
        said = CHARSET.search(content_type)
        meta = None if said else _META.search(data[:4096])
        encoding = said.group(1) if said else meta.group(1).decode() if meta else "utf-8"
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError, ValueError) as error:
        raise Unreadable(str(error)) from error


def notebook(content_type: str, data: bytes, found: Gathering) -> None:
    """The cells of a Jupyter notebook and the text that they put out (nbformat 4). Raises Unreadable."""
    try:
        book = json.loads(data)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    cells = book.get("cells") if isinstance(book, dict) else None
    if not isinstance(cells, list):
        raise Unreadable("has no cells")
    for cell in cells:
        if not isinstance(cell, dict):
            continue
        found.add(_joined(cell.get("source")) + "\n")
        outputs = cell.get("outputs")
        for output in outputs if isinstance(outputs, list) else ():
            if isinstance(output, dict):
                shown = output.get("data")
                found.add(_joined(output.get("text")) + "\n")
                found.add(_joined(shown.get("text/plain") if isinstance(shown, dict) else None) + "\n")


def _joined(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "".join(one for one in value if isinstance(one, str)) if isinstance(value, list) else ""
