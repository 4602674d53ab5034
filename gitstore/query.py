"""What a client asks of the explorer, read from the parameters of a URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Literal, get_args

import msgspec

from gitstore.errors import Invalid, WrongShape

Q_MAX = 200
PAGE_MAX = 10_000
PER_PAGE_MAX = 100
Sort = Literal["newest", "oldest", "largest", "smallest", "name", "relevance"]
Shown = Literal["inline", "download"]
_FILTERS = ("workflow_id", "work_item_id", "task_id", "stage_name", "role", "content_type")
_DAY = 86_400_000


class ExplorerQuery(msgspec.Struct, frozen=True):
    """What to show. `created_from` is inclusive, `created_to` exclusive, both in ms; None: not asked for."""

    q: str | None = None
    workflow_id: str | None = None
    work_item_id: str | None = None
    task_id: str | None = None
    stage_name: str | None = None
    role: str | None = None
    content_type: str | None = None
    preview_mode: Shown | None = None
    created_from: int | None = None
    created_to: int | None = None
    sort: Sort = "newest"
    page: int = 1
    per_page: int = 20


def parse_query(given: Mapping[str, str]) -> ExplorerQuery:
    """The query in a URL's parameters; unknown ones are ignored, blank filters count as not given.

    Raises WrongShape for a value of the wrong form or range, all faults at once; Invalid for a day that does not exist
    and for a `created_from` after `created_to`.
    """
    faults: list[tuple[str, str]] = []

    def choice(name: str, allowed: tuple[str, ...]) -> Any:
        value = given.get(name) or None
        if value is not None and value not in allowed:
            faults.append((f"/{name}", f"must be one of {', '.join(allowed)}"))
        return value

    def number(name: str, default: int, high: int) -> int:
        value = given.get(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= high:
            faults.append((f"/{name}", f"must be a whole number from 1 to {high}"))
            return default
        return int(value)

    def day(name: str) -> str | None:
        value = given.get(name) or None
        if value is not None and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            faults.append((f"/{name}", "must be a day, YYYY-MM-DD"))
        return value

    q = (given.get("q") or "").strip() or None
    if len(given.get("q") or "") > Q_MAX:
        faults.append(("/q", f"must have at most {Q_MAX} characters"))
    sort: Any = choice("sort", get_args(Sort)) or "newest"
    if sort == "relevance" and q is None:
        faults.append(("/sort", "can be relevance only together with q"))
    shown = choice("preview_mode", get_args(Shown))
    first, last = day("created_from"), day("created_to")
    page, per_page = number("page", 1, PAGE_MAX), number("per_page", 20, PER_PAGE_MAX)
    if faults:
        raise WrongShape(faults, "the query does not have the expected shape")
    start, end = _midnight("created_from", first), _midnight("created_to", last)
    if start is not None and end is not None and start > end:
        raise Invalid(f"created_from ({first}) is after created_to ({last})", details={"pointer": "/created_from"})
    return ExplorerQuery(
        q=q,
        **{name: given.get(name) or None for name in _FILTERS},
        preview_mode=shown,
        created_from=start,
        created_to=None if end is None else end + _DAY,
        sort=sort,
        page=page,
        per_page=per_page,
    )


def _midnight(name: str, day: str | None) -> int | None:
    if day is None:
        return None
    try:
        moment = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
    except ValueError:
        raise Invalid(f"{name}: there is no day {day}", details={"pointer": f"/{name}"}) from None
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).days * _DAY
