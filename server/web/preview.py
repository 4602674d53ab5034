"""Looking at content that anybody may have written: what it is shown as, and how its bytes are served for that.

Text is put on the page escaped; markdown in a sandboxed frame; a picture as a picture, in which no browser runs
anything (SVG too: HTML, "The img element"); a PDF by the viewer of the browser. The rest is only downloaded.
"""

from __future__ import annotations

import csv
import io
from typing import Literal

import msgspec
from markupsafe import Markup, escape

from gitstore import documents, errors, values
from gitstore.documents import DocumentError
from server.content import disposition
from server.http import Raw
from server.web import markdown, tree
from server.web.visit import Piece

Kind = Literal["values", "text", "markdown", "table", "image", "pdf", "none"]
_IMAGES = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "image/x-icon", "image/svg+xml"}
)
_VALUES = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "application/json", "application/ld+json"})
_TABLES = {"text/csv": ",", "text/tab-separated-values": "\t"}
_TEXT_MAX = 512 * 1024
_LINES = 4000
_SHORT = 1000  # characters that need no tall frame
_ROWS, _COLUMNS = 500, 60
_FRAMED = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "private, no-cache"),
)
_PICTURE = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'; base-uri 'none'"
# No `sandbox`: browsers show no PDF in a sandbox. Their viewers are apart from the page and its origin by themselves.
_PDF = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'self'; form-action 'none'"


class Look(msgspec.Struct):
    """How content is shown: `drawn` is what goes on the page, if it is not in a frame; `source` its text, if it is."""

    kind: Kind
    drawn: Markup | None = None
    source: Markup | None = None
    note: str | None = None
    short: bool = False


def look(content_type: str, data: bytes, name: str = "") -> Look:
    """What content of this type, these bytes and this name is shown as."""
    essence = content_type.split(";", 1)[0].strip().lower()
    if essence in _IMAGES:
        return Look("image", source=_source(data) if essence == "image/svg+xml" else None)
    if essence == "application/pdf" and data.startswith(b"%PDF-"):
        return Look("pdf")
    text = _text(data)
    if text is None:
        return Look("none", note="This is not a text: it can be downloaded.")
    if len(data) > _TEXT_MAX:
        return Look("text", numbered(text[:_TEXT_MAX]), note="Only the beginning is shown.")
    if essence in _VALUES or name.endswith((".yaml", ".yml", ".json")):
        try:
            value = values.decode(data) if "json" in essence else documents.load(data, name)
        except (errors.Malformed, DocumentError):
            return Look("text", numbered(text), note="It cannot be read as what it says it is.")
        return Look("values", tree.draw(value), numbered(text))
    if essence == "text/markdown" and len(data) > markdown.LONGEST:
        return Look("text", numbered(text), note="Too long to be laid out: shown as it is written.")
    if essence == "text/markdown":
        return Look("markdown", source=numbered(text), short=len(text) < _SHORT)
    if essence in _TABLES:
        return _table(text, _TABLES[essence])
    return Look("text", numbered(text), note="Shown as text, not run." if essence in ("text/html",) else None)


def _text(data: bytes) -> str | None:
    if b"\0" in data[:8000]:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _source(data: bytes) -> Markup | None:
    text = _text(data[:_TEXT_MAX])
    return None if text is None else numbered(text)


def numbered(text: str) -> Markup:
    """A text with the numbers of its lines."""
    found = text.split("\n")
    if found and not found[-1]:
        found.pop()
    rows = [
        f'<tr><td class="no" id="L{number}">{number}</td><td class="line">{escape(line)}</td></tr>'
        for number, line in enumerate(found[:_LINES], 1)
    ]
    if len(found) > _LINES:
        rows.append(f'<tr><td class="no"></td><td class="more">… {len(found) - _LINES:,} more lines</td></tr>')
    body = "".join(rows)
    return Markup(f'<table class="lines"><caption class="hidden">Text</caption><tbody>{body}</tbody></table>')  # noqa: S704


def _table(text: str, delimiter: str) -> Look:
    try:
        rows = []
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            rows.append(row)
            if len(rows) > _ROWS + 1:
                break
    except csv.Error:
        return Look("text", numbered(text), note="It cannot be read as a table.")
    if not rows:
        return Look("text", numbered(text))
    widest = max(len(row) for row in rows)
    width = min(widest, _COLUMNS)
    left_out = [f"The first {_ROWS} rows are shown."] if len(rows) > _ROWS + 1 else []
    if widest > width:
        left_out.append(f"The first {width} of {widest:,} columns are shown.")
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in _filled(rows[0], width))
    body = "".join(
        "<tr>" + "".join(f"<td{_number(cell)}>{escape(cell)}</td>" for cell in _filled(row, width)) + "</tr>"
        for row in rows[1 : _ROWS + 1]
    )
    drawn = f'<table class="grid"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return Look("table", Markup(drawn), numbered(text), " ".join(left_out) or None)  # noqa: S704  (every cell went through `escape`)


def _filled(row: list[str], width: int) -> list[str]:
    return [*row[:width], *[""] * (width - len(row))]


def _number(cell: str) -> str:
    try:
        float(cell)
    except ValueError:
        return ""
    return ' class="num"'


def frame(content_type: str, data: bytes, name: str) -> Piece:
    """The content for a frame or a picture on a page. Raises Invalid for what is only downloaded."""
    match look(content_type, data, name).kind:
        case "image":
            essence, policy = content_type.split(";", 1)[0].strip().lower(), _PICTURE
        case "pdf":
            essence, policy = "application/pdf", _PDF
        case "markdown":
            text = markdown.page(_text(data) or "", name)
            return Piece(text, "text/html; charset=utf-8", (("Content-Security-Policy", markdown.policy()), *_FRAMED))
        case _:
            raise errors.Invalid(f"{name} is not shown by itself: download it")
    headers = (("Content-Security-Policy", policy), ("Content-Disposition", disposition("inline", name)), *_FRAMED)
    return Piece(data, essence, headers)


def download(content_type: str, data: bytes, name: str, etag: str | None = None) -> Raw:
    """The content to be saved."""
    return Raw(data, content_type, name, disposition="attachment", etag=etag)
