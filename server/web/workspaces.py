"""The list of workspaces: how each one stands, and how much went on in it of late."""

from __future__ import annotations

from typing import Any

import msgspec

from gitstore import errors
from gitstore.history import TimelineQuery
from server.web import links, words
from server.web.chart import sparkline
from server.web.paging import numbered
from server.web.visit import Moved, Page, Shown, Visit

_PER_PAGE = 20
_DAYS = 30
_SORTS = ("updated", "name", "newest", "oldest")
_STATES = {None: None, "active": True, "inactive": False}


class Listed(msgspec.Struct):
    """What of a workspace's record the list shows."""

    problems: list[msgspec.Raw] = []


#: What the list needs of an encoded record.
listed = msgspec.json.Decoder(Listed).decode


def _row(visit: Visit, identity: str, record: bytes | None, open_: int) -> dict[str, Any] | None:
    store = visit.store
    row = store.catalog.workspace(identity)
    if row is None:
        return None
    hot = store.hot(identity)
    problems = len(hot.visible.problems) if hot is not None else len(listed(record).problems) if record else 0
    today = words.now() // words.DAY
    first = today - _DAYS + 1
    days = visit.site.activity.days(store.history, identity, first, today, TimelineQuery(since=first * words.DAY))
    counts = [day.total for day in days]
    last = store.history.timeline(identity, TimelineQuery(per_page=1)).entries
    recent = f"{words.count(sum(counts), 'change')} in {_DAYS} days"
    return {
        "slug": row.slug,
        "name": row.name,
        "description": row.description,
        "is_active": row.is_active,
        "problems": problems,
        "open_workflows": open_,
        "last": last[0].facts if last else None,
        "spark": sparkline(counts, recent),
        "recent": recent,
    }


def show(visit: Visit) -> Shown:
    """A page of workspaces, searched, filtered and sorted."""
    q, state, sort, page = visit.asked("q"), visit.asked("state"), visit.asked("sort"), visit.number("page")
    if state not in _STATES:
        raise errors.Invalid("state must be active or inactive")
    catalog = visit.store.catalog
    ids, total = catalog.list(q, _STATES[state], sort or "updated", page, _PER_PAGE)  # type: ignore[arg-type]  # it checks
    records, summaries = catalog.records(ids), catalog.summaries(ids)
    rows = [_row(visit, one, records.get(one), summaries[one].open_workflow_count) for one in ids]

    def link(number: int) -> str:
        return links.home(q=q, state=state, sort=sort, page=number if number > 1 else None)

    values = {
        "rows": [row for row in rows if row is not None],
        "q": q,
        "state": state,
        "sort": sort or "updated",
        "pages": numbered(page, _PER_PAGE, total, "workspace", link),
    }
    active = None if state is None else str(_STATES[state]).lower()
    twin = links.api("workspaces", q=q, is_active=active, sort=sort or "updated", page=page if page > 1 else None)
    return Page("workspaces.html", values, twin=twin)


def home(visit: Visit) -> Shown:
    """To the list."""
    return Moved(links.home())
