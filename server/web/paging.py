"""The way to the pages of a list that lie before and after."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Pages(msgspec.Struct, frozen=True):
    """What stands below a list; an address is None where there is nothing in that direction."""

    told: str
    before: str | None = None
    after: str | None = None
    before_word: str | None = None
    after_word: str | None = None


def numbered(page: int, per_page: int, total: int, word: str, link: Callable[[int], str]) -> Pages:
    """The pages of a list that is counted; `word` names one of its rows, `link` gives the address of a page."""
    last = max(1, -(-total // per_page))
    first = (page - 1) * per_page + 1
    shown = f"{first:,} to {min(page * per_page, total):,} of " if last > 1 and first <= total else ""
    plural = word if total == 1 else f"{word}s"
    return Pages(
        f"{shown}{total:,} {plural}",
        link(min(page - 1, last)) if page > 1 else None,
        link(page + 1) if page < last else None,
    )
