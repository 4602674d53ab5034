"""One ranked list of what was found across workspaces, each row as git and the catalog have it now.

The index says which and in what order; what is shown of a hit is read where it is kept, so nothing stale is shown. A
hit that went away in the meantime, or has expired, is left out.
"""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from gitstore import files, findable, retention, showing
from gitstore.changes import Workspace
from gitstore.errors import NotFound
from gitstore.extraction import Reader
from gitstore.search import Document, Kind, snippet
from gitstore.search.documents import Hit, Order, Standing
from gitstore.search.query import Query, wanted
from gitstore.search.words import SNIPPET
from gitstore.store import Store


class Place(NamedTuple):
    """A workspace."""

    id: str
    slug: str
    name: str


class Row(NamedTuple):
    """One hit. `highlight` is HTML; `url` is where the resource is read, None for one that has no address."""

    kind: Kind
    id: str
    title: str
    place: Place
    highlight: str
    url: str | None
    score: float
    updated_at: int


class Found(NamedTuple):
    """A page, how many match on all pages, how many of each kind and in each workspace, how far the index is."""

    rows: list[Row]
    total: int
    kinds: dict[str, int]
    places: list[tuple[Place, int]]
    standing: Standing


PLACES_MAX = 100
"""Workspaces that are counted, those with the most hits."""


def find(
    store: Store,
    query: Query,
    *,
    workspaces: Sequence[str] | None = None,
    kinds: Sequence[Kind] | None = None,
    sort: Order = "relevance",
    page: int = 1,
    per_page: int = 20,
    now: int,
) -> Found:
    """What matches in these workspaces (ids; None: all), as of `now` (ms). Raises as `Search.query`."""
    standing = store.derived.standing(workspaces[0] if workspaces is not None and len(workspaces) == 1 else None)
    offset = (page - 1) * per_page
    hits = store.search.query(workspaces, query, kinds=kinds, sort=sort, offset=offset, limit=per_page, now=now)
    reading = _Reading(store, query, now)
    rows = [row for row in map(reading.row, hits.rows) if row is not None]
    counted = sorted(hits.workspaces.items(), key=lambda one: (-one[1], one[0]))[:PLACES_MAX]
    places = [(place, count) for id_, count in counted if (place := reading.place(id_)) is not None]
    return Found(rows, hits.total, hits.kinds, places, standing)


class _Reading:
    """The hits of one answer, read where they are kept."""

    def __init__(self, store: Store, query: Query, now: int) -> None:
        self._store = store
        self._wanted = wanted(query)
        self._now = now
        self._until = time.monotonic() + store.search.limit
        self._workspaces: dict[str, Workspace | None] = {}

    def place(self, workspace: str) -> Place | None:
        row = self._store.catalog.workspace(workspace)
        return Place(row.id, row.slug, row.name) if row is not None else None

    def row(self, hit: Hit) -> Row | None:
        place, workspace = self.place(hit.workspace), self._workspace(hit.workspace)
        if place is None or workspace is None:
            return None
        found = self._document(hit, workspace)
        if found is None:
            return None
        document, url = found
        # A page of long texts must not take longer than a search: the rest of it is shown by its titles.
        said = snippet(document.text, self._wanted) if time.monotonic() < self._until else None
        shown = said or snippet(document.title, self._wanted, tuple(self._wanted))
        return Row(
            hit.kind, hit.id, document.title, place, shown or _beginning(document.text or document.title), url,
            hit.score, document.time,
        )  # fmt: skip

    def _text(self, workspace: Workspace) -> Reader:
        return self._store.extraction.reader(workspace.beginning)

    def _workspace(self, id_: str) -> Workspace | None:
        if id_ not in self._workspaces:
            try:
                self._workspaces[id_] = self._store.load(id_)
            except NotFound:
                self._workspaces[id_] = None
        return self._workspaces[id_]

    def _document(self, hit: Hit, workspace: Workspace) -> tuple[Document, str | None] | None:
        """What is found, as it is now, and its address."""
        catalog, here = self._store.catalog, f"/api/v1/workspaces/{hit.workspace}"
        if hit.kind == "artifact":
            artifact = catalog.artifact(hit.workspace, hit.id, now=self._now)
            if artifact is None:
                return None
            # As in the explorer: records of another workspace are not meant, and a task says whose it is.
            known = catalog.task(artifact.task_id) if artifact.task_id is not None else None
            task = known[1] if known is not None and known[0] == hit.workspace else None
            flow = catalog.workflow_of(hit.workspace, artifact)
            if retention.expired(retention.retained(artifact, flow), self._now):
                return None
            url = showing.url(hit.workspace, artifact.id, task.id if task is not None else None)
            text = self._text(workspace)(artifact.content_type, artifact.blob)
            return findable.of_artifact(artifact, text), url
        if hit.kind == "workflow":
            found = catalog.workflow(hit.id)
            url = f"/api/v1/workflows/{quote(hit.id, safe='')}"
            return (findable.of_workflow(found[1]), url) if found is not None and found[0] == hit.workspace else None
        if hit.kind == "task":
            one = catalog.task(hit.id)
            if one is None or one[0] != hit.workspace:
                return None
            of = one[1].workflow_id
            return findable.of_task(one[1]), f"/api/v1/workflows/{quote(of, safe='')}" if of is not None else None
        context = workspace.visible.context
        held = context.memory.get(hit.id) if hit.kind == "memory" else context.files.get(hit.id)
        path = held.path if hit.kind != "spec" and held is not None else f"spec/{hit.id}.yaml"
        touch = self._store.last_touch(hit.workspace, "main", path)
        time = touch.time if touch is not None else workspace.visible.updated_at
        document = findable.of_context(context, hit.kind, hit.id, time, self._text(workspace))
        if document is None:
            return None
        if hit.kind == "file":
            return document, f"{here}/files/{files.identity(hit.workspace, hit.id)}"
        return document, f"{here}/memory/{quote(hit.id, safe='')}" if hit.kind == "memory" else f"{here}/spec"


def _beginning(text: str) -> str:
    """What is shown where no word of the text was asked for: where it begins, as HTML."""
    begun = " ".join(text[: 4 * SNIPPET].split())
    return html.escape(begun if len(begun) <= SNIPPET else begun[:SNIPPET].rstrip() + "…")
