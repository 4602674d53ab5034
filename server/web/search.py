"""The search through history: when did a file or key hold a text, and until when."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from markupsafe import Markup, escape

from gitstore import errors
from gitstore.sightings import Sighting, Wanted
from server.web import difference, links
from server.web.visit import Page, Shown, Visit, heading

_MOST = 20
_LONGEST = 200


class Found(msgspec.Struct):
    """One sighting, ready to be put on a page."""

    seen: Sighting
    where: str
    excerpt: Markup
    then: str


def show(visit: Visit) -> Shown:
    """A page of sightings, the newest first."""
    workspace = visit.workspace
    snapshot = workspace.visible
    slug, q, path, cursor = snapshot.context.fields.slug, visit.asked("q"), visit.asked("path"), visit.asked("cursor")
    drawn: dict[str, Any] = {
        "ws": heading(snapshot),
        "tab": "timeline",
        "q": q,
        "path": path,
        "rows": None,
        "older": None,
    }
    if q is None:
        return Page("search.html", drawn | {"reached": None})
    if len(q) > _LONGEST:
        raise errors.Invalid(f"look for at most {_LONGEST} characters")
    look = visit.app.sightings.look(workspace, Wanted(q, path=path), cursor=cursor, most=_MOST)
    more = look.next_cursor
    drawn |= {
        "rows": [_found(slug, one, q) for one in look.rows],
        "older": links.under(slug, "search", q=q, path=path, cursor=more) if more else None,
        "reached": look.reached,
    }
    twin = links.api("workspaces", slug, "history", "search", q=q, path=path, cursor=cursor)
    return Page("search.html", drawn, twin=twin)


def _found(slug: str, one: Sighting, text: str) -> Found:
    where = f"line {one.line}" if one.line is not None else ""
    if one.pointer:
        where = difference.readable(one.pointer)
    return Found(one, where, _marked(one.excerpt, text), links.document(slug, one.path, at=one.since.commit))


def _marked(excerpt: str, text: str) -> Markup:
    """The excerpt with what was looked for marked in it."""
    parts = re.split(f"({re.escape(text)})", excerpt, flags=re.IGNORECASE)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(one) if at % 2 else escape(one) for at, one in enumerate(parts)
    )
