"""Who last set each part: a document's leaves, or a text's lines, with the change that made them so beside each."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from gitstore.model import Stamp
from gitstore.retrospect import Blame, Row
from server.web import links, tree, words

ROWS = 2000
_DEEPEST = 8  # indents that the stylesheet knows


def draw(slug: str, blame: Blame) -> Markup:
    """The parts as a table, the changes in its first column; one that goes on for several rows is told once."""
    rows = _values(slug, blame.rows[:ROWS]) if blame.type == "values" else _lines(slug, blame.rows[:ROWS])
    if len(blame.rows) > ROWS:
        rows.append(f'<tr><td></td><td class="more">… {len(blame.rows) - ROWS:,} more</td></tr>')
    number = "" if blame.type == "values" else '<th scope="col">Line</th>'
    head = f'<thead class="hidden"><tr><th scope="col">Set by</th>{number}<th scope="col">What</th></tr></thead>'
    body = "".join(rows)
    return Markup(f'<table class="blame {blame.type}">{head}<tbody>{body}</tbody></table>')  # noqa: S704


def _mark(slug: str, stamp: Stamp | None, before: str | None) -> str:
    """The cell of the gutter."""
    if stamp is None:
        return '<td class="by n">long ago</td>'
    if stamp.commit == before:
        return f'<td class="by same door-{escape(stamp.door)}"></td>'
    title = f"{stamp.name}: {stamp.actor.name}, {words.exact(stamp.time)}"
    return (
        f'<td class="by door-{escape(stamp.door)}"><a href="{escape(links.change(slug, stamp.commit))}" '
        f'title="{escape(title)}">{escape(stamp.actor.name)}</a> <span class="n">{words.when(stamp.time)}</span></td>'
    )


def _values(slug: str, found: Sequence[Row]) -> list[str]:
    rows: list[str] = []
    before: str | None = None
    path: list[str] = []
    for row in found:
        parts = str(row.place).split("/")[1:]
        for depth, part in enumerate(parts[:-1]):
            if path[: depth + 1] != parts[: depth + 1]:
                cell = f'<td class="{_indent(depth)}">{_name(part)}</td>'
                rows.append(f'<tr class="part"><td class="by same"></td>{cell}</tr>')
        path = parts
        label = _name(parts[-1]) if parts else ""
        mark = _mark(slug, row.stamp, before)
        before = row.stamp.commit if row.stamp is not None else None
        value = tree.draw(row.value) if isinstance(row.value, dict | list) else tree.scalar(row.value)
        rows.append(f'<tr>{mark}<td class="{_indent(len(parts) - 1)}">{label} {value}</td></tr>')
    return rows


def _indent(depth: int) -> str:
    return f"i{min(max(depth, 0), _DEEPEST)}"


def _name(part: str) -> str:
    name = part.replace("~1", "/").replace("~0", "~")
    return f'<span class="k">{escape(name)}</span>'


def _lines(slug: str, found: Sequence[Row]) -> list[str]:
    rows: list[str] = []
    before: str | None = None
    for row in found:
        mark = _mark(slug, row.stamp, before)
        before = row.stamp.commit if row.stamp is not None else None
        number = f'<td class="no" id="L{row.place}">{row.place}</td>'
        rows.append(f'<tr>{mark}{number}<td class="line">{escape(row.value)}</td></tr>')
    return rows
