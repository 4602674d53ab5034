"""JSON values as a person reads YAML: one line a key, deeper parts folded. All of it is text; nothing in it can act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

#: How many values one page draws; beyond that it says how many are left out.
BUDGET = 1500
_OPEN = 40  # a part with at most so many values below it begins unfolded
_TEXT = 4000  # characters of one text that are shown
_EXCERPT = 72


class Budget:
    """How many values may still be drawn on a page, over all that it shows."""

    __slots__ = ("left",)

    def __init__(self, left: int = BUDGET) -> None:
        self.left = left


def draw(value: Any, budget: Budget | None = None) -> Markup:
    """The value, its deeper parts to be unfolded."""
    parts: list[str] = []
    _draw(parts, value, budget or Budget(), 0)
    return Markup("".join(parts))  # noqa: S704  (every text in it went through `escape`)


def excerpt(value: Any) -> str:
    """The value in a few words, for one line."""
    match value:
        case dict():
            text = ", ".join(list(value)[:8]) or "empty"
            return text if len(text) <= _EXCERPT else f"{text[: _EXCERPT - 1]}…"
        case list():
            return f"{len(value)} item{'' if len(value) == 1 else 's'}" if value else "empty list"
        case _:
            text = " ".join(plain(value).split())
            return text if len(text) <= _EXCERPT else f"{text[: _EXCERPT - 1]}…"


def plain(value: Any) -> str:
    """A scalar as YAML has it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case _:
            return str(value)


def kind(value: Any) -> str:
    """The class that gives a scalar its colour."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "num"
        case _:
            return "str"


def scalar(value: Any) -> Markup:
    """A scalar; long and many-line texts in a block."""
    text = plain(value)
    if isinstance(value, str):
        if not text:
            return Markup('<span class="v null">""</span>')
        if len(text) > _TEXT:
            more = Markup('<span class="more">… {} more characters</span>').format(len(text) - _TEXT)
            return Markup('<pre class="v str">{}</pre>{}').format(text[:_TEXT], more)
        if "\n" in text:
            return Markup('<pre class="v str">{}</pre>').format(text)
    return Markup('<span class="v {}">{}</span>').format(kind(value), text)


def weight(value: Any, most: int) -> int:
    """How many values there are in a value, counted to `most` at the most."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    total = 1
    for child in children:
        if total > most:
            break
        total += weight(child, most - total)
    return total


def _draw(parts: list[str], value: Any, budget: Budget, depth: int) -> None:
    if isinstance(value, dict | list) and value:
        parts.append('<ul class="tree">')
        items = value.items() if isinstance(value, Mapping) else ((None, one) for one in value)
        for number, (name, child) in enumerate(items):
            if budget.left <= 0:
                parts.append(f'<li class="more">… {len(value) - number:,} more</li>')
                break
            budget.left -= 1
            _item(parts, name, child, budget, depth)
        parts.append("</ul>")
    else:
        parts.append(scalar(value) if not isinstance(value, dict | list) else _empty(value))


def _item(parts: list[str], name: str | None, child: Any, budget: Budget, depth: int) -> None:
    label = f'<span class="k">{escape(name)}</span>' if name is not None else '<span class="dash">–</span>'
    if not isinstance(child, dict | list) or not child:
        drawn = scalar(child) if not isinstance(child, dict | list) else _empty(child)
        parts.append(f"<li>{label} {drawn}</li>")
        return
    opened = " open" if weight(child, _OPEN + 1) <= _OPEN and depth < 4 else ""
    many = f"{len(child)} {'key' if isinstance(child, dict) else 'item'}{'' if len(child) == 1 else 's'}"
    told = f'<span class="n">{many}</span><span class="hint">{escape(excerpt(child))}</span>'
    parts.append(f"<li><details{opened}><summary>{label} {told}</summary>")
    _draw(parts, child, budget, depth + 1)
    parts.append("</details></li>")


def _empty(value: Any) -> str:
    return f'<span class="v null">{"{}" if isinstance(value, dict) else "[]"}</span>'
