"""The evidence explorer: artifacts filtered by facets, searched, sorted; and one artifact, looked at safely."""

from __future__ import annotations

from typing import Any

import nh3
from markupsafe import Markup

from gitstore import values
from gitstore.explorer import parse_query
from gitstore.model import Artifact
from server.web import links, preview, tree, words
from server.web.moment import Seen, see
from server.web.paging import numbered
from server.web.visit import Page, Shown, Visit, heading

_FIELDS = (
    "q", "workflow_id", "work_item_id", "task_id", "stage_name", "role", "content_type", "preview_mode",
    "created_from", "created_to", "sort",
)  # fmt: skip
_SORTS = ("newest", "oldest", "largest", "smallest", "name")
_FACET = 12


def show(visit: Visit) -> Shown:
    """A page of artifacts."""
    seen = see(visit)
    workspace, slug = seen.workspace, seen.slug
    asked = {name: value for name in _FIELDS if (value := visit.asked(name)) is not None}
    if asked.get("sort") == "relevance" and "q" not in asked:
        del asked["sort"]
    page = visit.asked("page")
    query = parse_query(asked | ({"page": page} if page else {}))
    app = visit.app
    if seen.asked is None:
        found = app.explorer.explore(workspace.id, query, words.now(), app.work.text(workspace.id))
    else:
        found = app.evidence.explore(workspace, app.past.moment(workspace, seen.asked), query, words.now())

    def link(**changed: Any) -> str:
        return links.under(slug, "artifacts", **(asked | {"at": seen.asked} | changed))

    def numbers(number: int) -> str:
        return link(page=number if number > 1 else None)

    drawn = {
        "ws": heading(workspace.visible),
        "tab": "artifacts",
        "seen": seen,
        "asked": {name: asked.get(name) for name in _FIELDS},
        "chips": [
            (name.removesuffix("_id").replace("_", " "), _named(found.filters, name, value), link(**{name: None}))
            for name, value in asked.items()
            if name not in ("q", "sort")
        ],
        "sorts": (*(("relevance",) if query.q else ()), *_SORTS),
        "sort": query.sort,
        "rows": [_row(seen, row) for row in found.rows],
        "summary": found.summary,
        "facets": _facets(found.filters, asked, link),
        "pages": numbered(query.page, query.per_page, found.total, "artifact", numbers),
    }
    twin = links.api("workspaces", slug, "artifacts", **asked, at=seen.asked, page=page)
    return Page("artifacts.html", drawn, twin=twin)


def _row(seen: Seen, row: dict[str, Any]) -> dict[str, Any]:
    created = values.parse_iso(row["created_at"])
    shown = row | {"address": links.artifact(seen.slug, row["id"], at=seen.asked), "created": created}
    folder, _, name = row["logical_path"].rpartition("/")
    shown |= {"folder": folder, "name": name}
    if "highlight" in row:
        # The library has escaped it; that only `mark` comes through does not hang on that alone.
        shown["highlight"] = Markup(nh3.clean(row["highlight"], tags={"mark"}, attributes={}))  # noqa: S704
    return shown


def _named(filters: dict[str, list[Any]], name: str, value: str) -> str:
    kind, label = {"workflow_id": ("workflows", "name"), "work_item_id": ("work_items", "title"),
                   "task_id": ("tasks", "title")}.get(name, ("", ""))  # fmt: skip
    return next((one[label] or value for one in filters.get(kind, ()) if one["id"] == value), value)


def _facets(filters: dict[str, list[Any]], asked: dict[str, str], link: Any) -> list[dict[str, Any]]:
    facets = []
    for title, kind, name, label in (
        ("Workflow", "workflows", "workflow_id", "name"),
        ("Work item", "work_items", "work_item_id", "title"),
        ("Task", "tasks", "task_id", "title"),
        ("Stage", "stages", "stage_name", None),
        ("Role", "roles", "role", None),
        ("Type", "content_types", "content_type", None),
    ):
        if name in asked or not filters[kind]:
            continue
        shown = [
            (one if label is None else one[label] or one["id"], link(**{name: one if label is None else one["id"]}))
            for one in filters[kind]
        ]
        facets.append({"title": title, "first": shown[:_FACET], "rest": shown[_FACET:]})
    return facets


# --- one artifact ---------------------------------------------------------------------------------------------------


def _one(visit: Visit) -> tuple[str, Artifact]:
    workspace, at, identity = visit.workspace, visit.asked("at"), visit.params["artifact"]
    if at is None:
        return workspace.id, visit.app.work.artifact(workspace.id, identity)
    moment = visit.app.past.moment(workspace, at)
    return workspace.id, visit.app.evidence.artifact(workspace, moment, identity)


def one(visit: Visit) -> Shown:
    """One artifact, with what it belongs to."""
    seen = see(visit)
    identity, artifact = _one(visit)
    work = visit.app.work
    task = work.task_of(identity, artifact)
    known = visit.store.catalog.workflow(artifact.workflow_id) if artifact.workflow_id is not None else None
    held = work.content(identity, artifact)
    drawn = {
        "ws": heading(seen.workspace.visible),
        "tab": "artifacts",
        "seen": seen,
        "one": artifact,
        "name": artifact.path.rsplit("/", 1)[-1],
        "task": task,
        "workflow": known[1] if known is not None and known[0] == identity else None,
        "metadata": tree.draw(artifact.metadata) if artifact.metadata else None,
        "look": preview.seen(artifact.content_type, held, artifact.path),
    }
    twin = links.api("workspaces", seen.slug, "artifacts", artifact.id, "permalink")
    return Page("artifact.html", drawn, twin=twin)


def frame(visit: Visit) -> Shown:
    """The artifact for the frame in which it is looked at."""
    identity, artifact = _one(visit)
    content = visit.app.work.content(identity, artifact)
    return preview.frame(artifact.content_type, content, artifact.path.rsplit("/", 1)[-1])


def download(visit: Visit) -> Shown:
    """The artifact to be saved."""
    identity, artifact = _one(visit)
    content = visit.app.work.content(identity, artifact)
    etag = values.etag(f"{artifact.id}\0{artifact.sha256}".encode())
    return preview.download(visit.call, artifact.content_type, content, artifact.path.rsplit("/", 1)[-1], etag)
