"""The timeline: who did what, when, through which door; filtered, grouped by day, with a picture to click on."""

from __future__ import annotations

from datetime import date
from typing import Any, get_args

import msgspec

from gitstore import errors, values
from gitstore.history import Entry, TimelineQuery
from gitstore.model import Door, Kind
from server.web import links, words
from server.web.chart import bars
from server.web.visit import Page, Piece, Shown, Visit, heading

_PER_PAGE = 30
_NEW = 50
_DAYS = 84
_NAMES = {
    "kind": "kind",
    "actor": "by",
    "door": "through",
    "path": "path",
    "key": "key",
    "workflow_id": "workflow",
    "task_id": "task",
    "day": "on",
    "since": "since",
    "until": "until",
    "q": "saying",
}


class Group(msgspec.Struct):
    """The entries of one day, newest first."""

    day: str
    date: str
    entries: list[Entry]


def _filters(visit: Visit) -> dict[str, str]:
    return {name: value for name in _NAMES if (value := visit.asked(name)) is not None}


def _query(filters: dict[str, str], cursor: str | None, per_page: int) -> TimelineQuery:
    """What the history is asked for. Raises Invalid for what is no time, kind or door."""
    since = _time(filters.get("since"))
    until = _time(filters.get("until"), end=True)
    if "day" in filters:
        start = _day(filters["day"])
        since = max(start, since) if since is not None else start
        until = min(start + words.DAY - 1, until) if until is not None else start + words.DAY - 1
    for name, allowed in (("kind", get_args(Kind)), ("door", get_args(Door))):
        if name in filters and filters[name] not in allowed:
            raise errors.Invalid(f"{name} must be one of {', '.join(allowed)}")
    asked = {name: filters.get(name) for name in ("kind", "actor", "door", "path", "key", "workflow_id", "task_id")}
    return TimelineQuery(**asked, text=filters.get("q"), since=since, until=until, cursor=cursor, per_page=per_page)  # type: ignore[arg-type]  # all of these are texts


def _day(text: str) -> int:
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days * words.DAY
    except ValueError:
        raise errors.Invalid(f"there is no day {text[:20]}; write it as YYYY-MM-DD") from None


def _time(text: str | None, *, end: bool = False) -> int | None:
    """A day, or a time of ISO 8601, in ms; of a day its first or (`end`) last moment."""
    if text is None:
        return None
    if len(text) == 10:
        return _day(text) + (words.DAY - 1 if end else 0)
    return values.parse_iso(text)


def _groups(entries: tuple[Entry, ...]) -> list[Group]:
    groups: list[Group] = []
    for entry in entries:
        told = words.date(entry.facts.time)
        if not groups or groups[-1].date != told:
            groups.append(Group(words.day(entry.facts.time), told, []))
        groups[-1].entries.append(entry)
    return groups


def _picture(visit: Visit, identity: str, slug: str, filters: dict[str, str]) -> dict[str, Any] | None:
    """The last weeks up to the newest change of the workspace, whatever day is chosen."""
    history = visit.store.history
    bounds = [one for branch in ("main", "evidence") if (one := history.bounds(identity, branch)) is not None]
    if not bounds:
        return None
    newest = max(one.last_time for one in bounds)
    last = (words.now() if words.now() - newest < _DAYS * words.DAY // 2 else newest) // words.DAY
    first = last - _DAYS + 1
    wide = {name: value for name, value in filters.items() if name not in ("day", "since", "until")}
    query = msgspec.structs.replace(_query(wide, None, 1), since=first * words.DAY, until=(last + 1) * words.DAY - 1)
    days = visit.site.activity.days(history, identity, first, last, query)

    def link(day: str) -> str:
        return links.timeline(slug, **(wide | {"day": day}))

    return {
        "drawn": bars(days, link, filters.get("day")),
        "first": words.day(first * words.DAY),
        "last": words.day(last * words.DAY),
        "total": sum(day.total for day in days),
        "most": max((day.total for day in days), default=0),
    }


def show(visit: Visit) -> Shown:
    """A page of the timeline."""
    snapshot = visit.workspace.visible
    slug, filters, cursor = snapshot.context.fields.slug, _filters(visit), visit.asked("cursor")
    found = visit.store.history.timeline(snapshot.workspace, _query(filters, cursor, _PER_PAGE))
    last = found.entries or visit.store.history.timeline(snapshot.workspace, TimelineQuery(per_page=1)).entries
    newest = last[0].facts.id if last else ""
    drawn = {
        "ws": heading(snapshot),
        "tab": "timeline",
        "groups": _groups(found.entries),
        "total": found.total,
        "filters": {name: filters.get(name) for name in _NAMES},
        "chips": [
            (name, _NAMES[name], value, links.timeline(slug, **{n: v for n, v in filters.items() if n != name}))
            for name, value in filters.items()
        ],
        "kinds": get_args(Kind),
        "doors": get_args(Door),
        "picture": _picture(visit, snapshot.workspace, slug, filters),
        "older": links.timeline(slug, **filters, cursor=found.next_cursor) if found.next_cursor else None,
        "newest": links.timeline(slug, **filters) if cursor else None,
        "poll": None if cursor else links.under(slug, "timeline", "new", **filters, after=newest),
    }
    api = {name: value for name, value in filters.items() if name != "day"}
    if "day" in filters:
        query = _query(filters, None, 1)
        assert query.since is not None
        assert query.until is not None
        api |= {"since": values.iso(query.since), "until": values.iso(query.until)}
    twin = links.api("workspaces", slug, "timeline", **api, cursor=cursor, per_page=_PER_PAGE)
    return Page("timeline.html", drawn, twin=twin)


def new(visit: Visit) -> Shown:
    """The entries that are newer than the one named by `after`, as a piece of the page."""
    snapshot = visit.workspace.visible
    after = visit.query.get("after", "")
    history, query = visit.store.history, _query(_filters(visit), None, _NEW)
    known = history.commit(snapshot.workspace, after)
    if known is not None and (query.since is None or query.since < known.time):
        query = msgspec.structs.replace(query, since=known.time)  # what is older need not be looked through
    fresh = [entry for _, entry in history.entries(snapshot.workspace, query, None, _NEW)]
    if after in (ids := [entry.facts.id for entry in fresh]):
        fresh = fresh[: ids.index(after)]
    drawn = {"ws": heading(snapshot), "groups": _groups(tuple(fresh))}
    text = visit.site.renderer.text(visit, "entries.html", drawn) if fresh else b""
    headers = (
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Gitstore-Newest", fresh[0].facts.id if fresh else after),
        ("Content-Security-Policy", "default-src 'none'; sandbox"),
    )
    return Piece(text, "text/html; charset=utf-8", headers)
