"""The search across everything: one ranked list, narrowed down by kind and workspace."""

from __future__ import annotations

from typing import Any

import nh3
from markupsafe import Markup

from gitstore import errors, finding
from gitstore.finding import Row
from gitstore.search import KINDS
from gitstore.search.query import parse_strict
from server.web import links, words
from server.web.paging import numbered
from server.web.visit import Page, Shown, Visit

_PER_PAGE = 20
_LONGEST = 500
_PAGES = 500
_PLACES = 12


def show(visit: Visit) -> Shown:
    """A page of what was found, or what is wrong with the query."""
    q, kind, workspace = visit.asked("q"), visit.asked("kind"), visit.asked("workspace")
    number = visit.asked("page") or "1"
    page = min(int(number), _PAGES) if number.isdecimal() and number.isascii() and number != "0" else 1
    kind = kind if kind in KINDS else None
    drawn: dict[str, Any] = {"q": q, "kind": kind, "place": None, "rows": None, "faults": []}
    if q is None:
        return Page("find.html", drawn)
    if workspace is not None:
        loaded = visit.app.store.load(workspace).visible
        drawn["place"] = (loaded.context.fields.slug, loaded.context.fields.name)
        workspace = loaded.workspace
    try:
        query = parse_strict(q[:_LONGEST])
    except errors.WrongShape as error:
        found = error.details["errors"] if error.details is not None else []
        return Page("find.html", drawn | {"faults": [one["message"] for one in found]})
    answer = finding.find(
        visit.app.store, query, workspaces=[workspace] if workspace is not None else None,
        kinds=[kind] if kind is not None else None, page=page, per_page=_PER_PAGE, now=words.now(),
    )  # fmt: skip
    slug = drawn["place"][0] if drawn["place"] else None

    def link(**changed: Any) -> str:
        return links.find(**({"q": q, "kind": kind, "workspace": slug} | changed))

    drawn |= {
        "rows": [_row(row) for row in answer.rows],
        "kinds": [(one, answer.kinds[one], link(kind=one)) for one in KINDS if one in answer.kinds],
        "places": [(one.name, count, link(workspace=one.slug)) for one, count in answer.places[:_PLACES]],
        "without_kind": link(kind=None),
        "without_place": link(workspace=None),
        "standing": answer.standing,
        "pages": numbered(page, _PER_PAGE, answer.total, "hit", lambda n: link(page=n if n > 1 else None)),
    }
    twin = links.api("search", q=q, kind=kind, workspace=slug, page=page if page > 1 else None)
    return Page("find.html", drawn, twin=twin)


def _row(row: Row) -> dict[str, Any]:
    slug = row.place.slug
    address = {
        "memory": lambda: links.key(slug, row.id),
        "spec": lambda: links.document(slug, f"spec/{row.id}.yaml"),
        "file": lambda: links.document(slug, row.title),
        "artifact": lambda: links.artifact(slug, row.id),
        "workflow": lambda: links.timeline(slug, workflow_id=row.id),
        "task": lambda: links.timeline(slug, task_id=row.id),
    }[row.kind]()
    return {
        "kind": row.kind,
        "title": row.title,
        "address": address,
        "place": row.place,
        # The library has escaped it; that only `mark` comes through does not hang on that alone.
        "highlight": Markup(nh3.clean(row.highlight, tags={"mark"}, attributes={})),  # noqa: S704
        "time": row.updated_at,
    }
