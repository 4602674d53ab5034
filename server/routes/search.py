"""Search across everything that is kept: memory, spec, files, workflows, tasks, artifacts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from gitstore import finding, names, values
from gitstore.errors import NotFound
from gitstore.finding import Found, Place, Row
from gitstore.search.query import parse_strict
from server.call import Call
from server.http import API, Page, Reply, Route
from server.routes import common
from server.shapes import search as shapes
from server.shapes.search import Search, SearchEverywhere


def _place(place: Place) -> dict[str, str]:
    return {"id": place.id, "slug": place.slug, "name": place.name}


def _row(row: Row) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "id": row.id,
        "title": row.title,
        "workspace": _place(row.place),
        "highlight": row.highlight,
        "url": row.url,
        "score": row.score,
        "updated_at": values.iso(row.updated_at),
    }


def _meta(found: Found) -> dict[str, Any]:
    standing = found.standing
    return {
        "index": standing.index,
        **({"progress": standing.progress} if standing.index != "ready" else {}),
        "facets": {
            "kinds": [{"kind": kind, "count": count} for kind, count in found.kinds.items()],
            "workspaces": [{**_place(place), "count": count} for place, count in found.places],
        },
    }


def _search(call: Call, workspaces: Sequence[str] | None) -> Reply:
    query: Search = call.query
    found = finding.find(
        call.app.store, parse_strict(query.q), workspaces=workspaces, kinds=query.kinds(), sort=query.sort,
        page=query.page, per_page=query.per_page, now=int(time.time() * 1000),
    )  # fmt: skip
    page = Page(query.page, query.per_page, found.total)
    return Reply(values.encode([_row(row) for row in found.rows]), page=page, meta=_meta(found))


def _everywhere(call: Call) -> Reply:
    query: SearchEverywhere = call.query
    if query.workspace is None:
        return _search(call, None)
    chosen = []
    for reference in dict.fromkeys(part.strip() for part in query.workspace.split(",")):
        found = call.app.store.catalog.find(reference)
        if found is None:
            raise NotFound(f"there is no workspace `{names.one_line(reference, 80)}`")
        chosen.append(found)
    return _search(call, chosen)


async def everywhere(call: Call) -> Reply:
    """One ranked list of what matches in all workspaces, or in some."""
    return await call.offload(_everywhere, call)


async def here(call: Call) -> Reply:
    """One ranked list of what matches in the workspace."""
    found = await common.workspace(call)
    return await call.offload(_search, call, [found.id])


ROUTES = (
    Route("GET", f"{API}/search", "agent", everywhere, "Search everything", query=SearchEverywhere,
          response=list[shapes.Found], paged=True, tag="search"),
    Route("GET", f"{API}/workspaces/{{id}}/search", "agent", here, "Search a workspace", query=Search,
          response=list[shapes.Found], paged=True, tag="search"),
)  # fmt: skip
