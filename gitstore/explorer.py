"""The explorer: a workspace's artifacts filtered, searched, sorted and counted. Every text is taken literally.

Titles and states are joined from the catalog at query time, so they are never stale; only content comes from the search
index. Expired artifacts do not exist here.
"""

from __future__ import annotations

import heapq
import html
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import msgspec

from gitstore import artifacts, values
from gitstore.model import Artifact, Task, Workflow, WorkItem
from gitstore.query import ExplorerQuery, Sort, parse_query
from gitstore.rows import ArtifactRow, Heads
from gitstore.search import fold, snippet, terms, words

__all__ = ["Explorer", "ExplorerPage", "ExplorerQuery", "Row", "explore", "parse_query", "row_json"]

FACET_MAX = 100
UNSCOPED = "Unscoped workflow"
K = TypeVar("K", str, tuple[str, str])


class Records(Protocol):
    """What the explorer asks of the catalog. `now` 0 leaves nothing out: what has expired is decided here."""

    def indexed(self, workspace: str, /) -> Heads:
        """The heads that everything else reflects."""

    def artifact_rows(self, workspace: str, /, *, now: int) -> Sequence[ArtifactRow]:
        """All artifacts, newest first, then by id."""

    def workflows(self, workspace: str, /) -> Sequence[Workflow]:
        """All workflows."""

    def tasks(self, workspace: str, /) -> Sequence[Task]:
        """All tasks."""

    def artifact(self, workspace: str, id_: str, /, *, now: int) -> Artifact | None:
        """One artifact whole."""


class Content(Protocol):
    """What the explorer asks of the search index."""

    def match(self, workspace: str, word: str, /) -> set[str]:
        """The ids of the artifacts whose content has this term."""


class Row(msgspec.Struct, frozen=True):
    """An artifact with what it belongs to, as the records say now. `artifact` is only what lists need of it.

    The last three are what words are looked for in: the folded path, and terms with blanks around each.
    """

    artifact: ArtifactRow
    expires_at: int | None = None
    workflow_id: str | None = None
    workflow_name: str = UNSCOPED
    workflow_state: str | None = None
    work_item_id: str | None = None
    work_item_title: str | None = None
    work_item_state: str | None = None
    stage_name: str | None = None
    role: str | None = None
    task_title: str | None = None
    task_state: str = "unknown"
    task_known: bool = False
    eligible: bool = False
    folded_path: str = ""
    path_terms: str = ""
    label_terms: str = ""


class ExplorerPage(msgspec.Struct, frozen=True):
    """One page of rows (JSON, as the API shows them); total, summary and filters are of all that matched."""

    rows: list[dict[str, Any]]
    total: int
    summary: dict[str, int]
    filters: dict[str, list[Any]]


# --- the answer -----------------------------------------------------------------------------------------------------


class Explorer:
    """Answers queries over a catalog and a search index.

    The joined records of the workspaces asked for last stay in memory, about `keep` artifacts of them, as long as the
    evidence they reflect is the same. May be called from any thread.
    """

    def __init__(self, catalog: Records, search: Content, keep: int = 200_000) -> None:
        self._catalog = catalog
        self._search = search
        self._keep = keep
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Joined] = OrderedDict()

    def explore(
        self,
        workspace: str,
        query: ExplorerQuery,
        now: int,
        text: Callable[[Artifact], str | None] = lambda _: None,
    ) -> ExplorerPage:
        """The page of a workspace's artifacts that the query asks for, at `now` (ms).

        `text` gives the content of an artifact for the highlights of the rows on the page, and is asked for no other.
        """
        records = self._joined(workspace)
        rows = [row for row in records.live(now) if _passes(row, query)] if _filters(query) else list(records.live(now))
        chunks = [_Chunk(part) for part in (query.q or "").split()]
        for chunk in chunks:
            rows = chunk.keep(rows, self._search, workspace)
        _sort(rows, query.sort, chunks)
        start = (query.page - 1) * query.per_page
        shown = []
        for row in rows[start : start + query.per_page]:
            artifact = self._catalog.artifact(workspace, row.artifact.id, now=0)
            highlight = _highlight(row, chunks, text(artifact) if artifact is not None else None) if chunks else None
            shown.append(row_json(row, workspace, artifact.metadata if artifact is not None else {}, highlight))
        return ExplorerPage(rows=shown, total=len(rows), summary=_summary(rows), filters=records.filters(rows))

    def count(self, workspace: str, now: int) -> int:
        """How many artifacts the workspace has that have not expired at `now` (ms)."""
        return len(self._joined(workspace).live(now))

    def _joined(self, workspace: str) -> _Joined:
        # The head is read before the records: what comes in between is newer than it says, and read again next time.
        head = self._catalog.indexed(workspace).evidence
        with self._lock:
            known = self._known.get(workspace)
            if known is not None and known.head == head and head is not None:
                self._known.move_to_end(workspace)
                return known
        joined = _Joined(self._catalog, workspace, head)
        with self._lock:
            self._known[workspace] = joined
            self._known.move_to_end(workspace)
            held = sum(len(one.rows) for one in self._known.values())
            while held > self._keep and len(self._known) > 1:
                held -= len(self._known.popitem(last=False)[1].rows)
        return joined


def explore(
    catalog: Records,
    search: Content,
    workspace: str,
    query: ExplorerQuery,
    now: int,
    text: Callable[[Artifact], str | None] = lambda _: None,
) -> ExplorerPage:
    """One query without remembering anything; see `Explorer.explore`."""
    return Explorer(catalog, search).explore(workspace, query, now, text)


def row_json(row: Row, workspace: str, metadata: dict[str, Any], highlight: str | None = None) -> dict[str, Any]:
    """A row as the API shows it; `highlight` is HTML, there only when words were searched for."""
    artifact = row.artifact
    shown = {
        "id": artifact.id,
        "workflow_id": row.workflow_id,
        "task_id": artifact.task_id,
        "logical_path": artifact.path,
        "content_type": artifact.content_type,
        "size_bytes": artifact.size,
        "created_at": values.iso(artifact.created_at),
        "download_url": artifacts.url(workspace, artifact.id, artifact.task_id if row.task_known else None),
        "metadata": metadata,
        "workflow_name": row.workflow_name,
        "workflow_state": row.workflow_state,
        "work_item_id": row.work_item_id,
        "work_item_title": row.work_item_title,
        "stage_name": row.stage_name,
        "role": row.role,
        "task_title": row.task_title,
        "task_state": row.task_state,
        "preview_eligible": row.eligible,
        "preview_mode": artifacts.preview_mode(artifact.content_type),
    }
    if highlight is not None:
        shown["highlight"] = highlight
    return shown


class _Joined:
    """A workspace's records by id, and its artifacts joined with them."""

    def __init__(self, catalog: Records, workspace: str, head: str | None) -> None:
        self.head = head
        self.workflows = {workflow.id: workflow for workflow in catalog.workflows(workspace)}
        self.tasks = {task.id: task for task in catalog.tasks(workspace)}
        self.items = {(flow.id, item.id): item for flow in self.workflows.values() for item in flow.work_items}
        self.rows = [self._row(one) for one in catalog.artifact_rows(workspace, now=0)]
        self._mortal = any(row.expires_at is not None for row in self.rows)

    def live(self, now: int) -> Sequence[Row]:
        """The rows that have not expired."""
        if not self._mortal:
            return self.rows
        return [row for row in self.rows if row.expires_at is None or row.expires_at > now]

    def _row(self, one: ArtifactRow) -> Row:
        """What an artifact says of itself goes before what its task says, and that before the work item's stage."""
        task = self.tasks.get(one.task_id) if one.task_id is not None else None
        workflow_id = one.workflow_id or (task.workflow_id if task is not None else None)
        workflow = self.workflows.get(workflow_id) if workflow_id is not None else None
        item_id = one.work_item_id or (task.work_item_id if task is not None else None)
        item = self._item(workflow_id, item_id)
        folded, path_terms = _path(one.path)
        row = Row(
            artifact=one,
            expires_at=artifacts.retention(one.created_at, workflow, one.pinned)[1],
            workflow_id=workflow_id,
            workflow_name=workflow.name if workflow is not None else workflow_id or UNSCOPED,
            workflow_state=workflow.state if workflow is not None else None,
            work_item_id=item_id,
            work_item_title=item.title if item is not None else item_id,
            work_item_state=item.state if item is not None else None,
            stage_name=one.stage_name or (task and task.stage_name) or (item and item.stage_name) or None,
            role=one.role or (task.role if task is not None else None),
            task_title=task.title if task is not None else one.task_id,
            task_state=task.state if task is not None else "unknown",
            task_known=task is not None,
            eligible=artifacts.preview_eligible(one.content_type, one.size),
            folded_path=folded,
            path_terms=path_terms,
        )
        return msgspec.structs.replace(row, label_terms=_padded(" ".join(filter(None, _labels(row)))))

    def _item(self, workflow_id: str | None, item_id: str | None) -> WorkItem | None:
        return self.items.get((workflow_id, item_id)) if workflow_id is not None and item_id is not None else None

    def filters(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        """The values that occur among the rows: at most 100 of each kind, by name."""
        flows = {row.workflow_id: row.workflow_name for row in rows if row.workflow_id is not None}
        items = {(row.work_item_id, row.workflow_id or ""): row for row in rows if row.work_item_id is not None}
        tasks = {row.artifact.task_id: row for row in rows if row.artifact.task_id is not None}
        return {
            "workflows": [{"id": key, "name": flows[key]} for key in _first((flows[key], key) for key in flows)],
            "work_items": [
                self._item_facet(items[key]) for key in _first((items[key].work_item_title, key) for key in items)
            ],
            "tasks": [self._task_facet(tasks[key]) for key in _first((tasks[key].task_title, key) for key in tasks)],
            "stages": _named(row.stage_name for row in rows),
            "roles": _named(row.role for row in rows),
            "content_types": _named(row.artifact.content_type for row in rows),
        }

    def _item_facet(self, row: Row) -> dict[str, Any]:
        item = self._item(row.workflow_id, row.work_item_id)
        return {
            "id": row.work_item_id,
            "title": row.work_item_title,
            "workflow_id": row.workflow_id,
            "stage_name": item.stage_name if item is not None else None,
        }

    def _task_facet(self, row: Row) -> dict[str, Any]:
        task = self.tasks.get(row.artifact.task_id or "")
        return {
            "id": row.artifact.task_id,
            "title": row.task_title,
            "workflow_id": task.workflow_id if task is not None else row.workflow_id,
            "work_item_id": task.work_item_id if task is not None else row.work_item_id,
            "stage_name": task.stage_name if task is not None else row.stage_name,
        }


def _first(found: Iterable[tuple[str | None, K]]) -> list[K]:
    """The keys of the first hundred (name, key), by folded name, then by key."""
    return [key for _, key in heapq.nsmallest(FACET_MAX, found, key=lambda one: (_folded(one[0] or ""), one[1]))]


def _named(found: Iterable[str | None]) -> list[str]:
    return heapq.nsmallest(
        FACET_MAX, {name for name in found if name is not None}, key=lambda name: (_folded(name), name)
    )


def _filters(query: ExplorerQuery) -> bool:
    return query != ExplorerQuery(q=query.q, sort=query.sort, page=query.page, per_page=query.per_page)


def _passes(row: Row, query: ExplorerQuery) -> bool:
    artifact = row.artifact
    return (
        (query.workflow_id is None or row.workflow_id == query.workflow_id)
        and (query.work_item_id is None or row.work_item_id == query.work_item_id)
        and (query.task_id is None or artifact.task_id == query.task_id)
        and (query.stage_name is None or row.stage_name == query.stage_name)
        and (query.role is None or row.role == query.role)
        and (query.content_type is None or artifact.content_type == query.content_type)
        and (query.created_from is None or artifact.created_at >= query.created_from)
        and (query.created_to is None or artifact.created_at < query.created_to)
        and (query.preview_mode is None or row.eligible == (query.preview_mode == "inline"))
    )


def _summary(rows: Sequence[Row]) -> dict[str, int]:
    return {
        "total_artifacts": len(rows),
        "previewable_artifacts": sum([row.eligible for row in rows]),
        "total_bytes": sum([row.artifact.size for row in rows]),
        "workflow_count": len({row.workflow_id for row in rows} - {None}),
        "work_item_count": len({(row.workflow_id, row.work_item_id) for row in rows if row.work_item_id is not None}),
        "task_count": len({row.artifact.task_id for row in rows} - {None}),
        "role_count": len({row.role for row in rows} - {None}),
    }


def _sort(rows: list[Row], sort: Sort, chunks: Sequence[_Chunk]) -> None:
    """Ties end with the id, ascending, so that pages never overlap. The catalog gives them newest first already."""
    if sort == "newest":
        return
    keys: dict[Sort, Callable[[Row], tuple[Any, ...]]] = {
        "oldest": lambda row: (row.artifact.created_at, row.artifact.id),
        "largest": lambda row: (-row.artifact.size, row.artifact.id),
        "smallest": lambda row: (row.artifact.size, row.artifact.id),
        "name": lambda row: (row.artifact.path.rsplit("/", 1)[-1].casefold(), row.artifact.id),
        "relevance": lambda row: (
            -sum(chunk.score(row) for chunk in chunks),
            -row.artifact.created_at,
            row.artifact.id,
        ),
    }
    rows.sort(key=keys[sort])


# --- words ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=131_072)
def _path(path: str) -> tuple[str, str]:
    return fold(path), _padded(path)


@lru_cache(maxsize=65_536)
def _padded(text: str) -> str:
    """The terms of a text with blanks around each: a fraction of the memory of a set."""
    return f" {' '.join(terms(text))} "


@lru_cache(maxsize=65_536)
def _folded(text: str) -> str:
    return fold(text)


def _labels(row: Row) -> tuple[str | None, ...]:
    """The texts beside the path in which words are looked for. Stand-ins for missing names do not count."""
    return (
        row.workflow_name if row.workflow_id is not None else None,
        row.work_item_title,
        row.task_title,
        row.workflow_state,
        row.work_item_state,
        row.task_state if row.artifact.task_id is not None else None,
        row.stage_name,
        row.role,
        row.artifact.content_type,
    )


class _Chunk:
    """What stands between two blanks of `q`.

    It matches as a substring of the path, or if each of its words is in the path, a label or the content. One without
    any letter or digit is looked for literally in the path and the labels.
    """

    def __init__(self, text: str) -> None:
        self.folded = fold(text)
        self.words = words(text)

    def keep(self, rows: Sequence[Row], search: Content, workspace: str) -> list[Row]:
        """The rows that match."""
        if not self.words:
            return [row for row in rows if self._literal(row)]
        folded, kept = self.folded, list(rows)
        for word in self.words:
            found = search.match(workspace, word)
            padded = f" {word} "
            kept = [
                row
                for row in kept
                if padded in row.path_terms
                or padded in row.label_terms
                or row.artifact.id in found
                or folded in row.folded_path
            ]
        return kept

    def _literal(self, row: Row) -> bool:
        if self.folded in row.folded_path:
            return True
        return any(self.folded in _folded(label) for label in _labels(row) if label is not None)

    def score(self, row: Row) -> int:
        """Where the best hit is: 8 in the file name, 4 in the path, 2 in the titles, 1 elsewhere."""
        if self.folded in row.folded_path.rsplit("/", 1)[-1]:
            return 8
        padded = [f" {word} " for word in self.words]
        if self.folded in row.folded_path or (padded and all(word in row.path_terms for word in padded)):
            return 4
        titles = _padded(" ".join(filter(None, _labels(row)[:3])))
        return 2 if padded and all(word in titles for word in padded) else 1


def _highlight(row: Row, chunks: Sequence[_Chunk], content: str | None) -> str:
    """HTML: the passage with the hits, from the content if they are there, else from the path, else from a label."""
    wanted = frozenset(word for chunk in chunks for word in chunk.words)
    needles = [chunk.folded for chunk in chunks]
    if content is not None and (passage := snippet(content, wanted)) is not None:
        return passage
    for place in (row.artifact.path, *_labels(row)):
        if place is not None and (passage := snippet(place, wanted, needles)) is not None:
            return passage
    return html.escape(row.artifact.path)
