"""The explorer over plain lists: what the columns of the search process must answer, and what answers without them.

Titles and states are joined from the catalog at query time, so they are never stale; only content comes from the search
index. Expired artifacts do not exist here.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from gitstore.errors import TooSlow
from gitstore.explorer.joined import Context, Places, Row, folded, labels, padded, row_json
from gitstore.explorer.page import FACET_MAX, ExplorerPage, Sought, artifacts_meant, highlight, sought
from gitstore.model import Artifact, Task, Workflow
from gitstore.query import ExplorerQuery, Sort
from gitstore.rows import ArtifactRow, Heads
from gitstore.search.query import And, Field, Literal, Not, Phrase, Prefix, Query, Word, parse
from gitstore.search.words import fold, sequence, words

K = TypeVar("K", str, tuple[str, str])
Text = Callable[[Artifact], str | None]
Test = Callable[[Row], bool]


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

    def having(self, workspace: str, node: Word | Phrase | Prefix, /) -> set[str]:
        """The ids of the artifacts whose content has this."""


class Scan:
    """Answers queries over a catalog and contents.

    The joined records of the workspaces asked for last stay in memory, about `keep` artifacts of them, as long as the
    evidence they reflect is the same. May be called from any thread.
    """

    def __init__(self, catalog: Records, content: Content, keep: int = 200_000) -> None:
        self._catalog = catalog
        self._content = content
        self._keep = keep
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Joined] = OrderedDict()

    def explore(
        self,
        workspace: str,
        query: ExplorerQuery,
        now: int,
        text: Text = lambda _: None,
        content: Content | None = None,
    ) -> ExplorerPage:
        """The page of a workspace's artifacts that the query asks for, at `now` (ms).

        `text` gives the content of an artifact for the highlights of the rows on the page, and is asked for no other.
        """
        records = self._joined(workspace)
        rows = [row for row in records.live(now) if _passes(row, query)] if _filters(query) else list(records.live(now))
        parts: list[Sought] = []
        if query.q:
            tree = parse(query.q)
            parts = sought(tree)
            # Words of names are looked for first, and contents only where these do not decide.
            found = _Test(content or self._content, workspace).of(tree, Places())
            rows = [row for row in rows if found(row)]
        _sort(rows, query.sort, parts)
        start = (query.page - 1) * query.per_page
        shown, artifacts = [], list[Artifact | None]()
        for row in rows[start : start + query.per_page]:
            artifact = self._catalog.artifact(workspace, row.artifact.id, now=0)
            artifacts.append(artifact)
            said = text(artifact) if artifact is not None and query.q else None
            passage = highlight(row, parts, said) if query.q else None
            shown.append(row_json(row, workspace, artifact.metadata if artifact is not None else {}, passage))
        return ExplorerPage(shown, len(rows), _summary(rows), records.filters(rows), artifacts)

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
    catalog: Records, content: Content, workspace: str, query: ExplorerQuery, now: int, text: Text = lambda _: None
) -> ExplorerPage:
    """One query without remembering anything; see `Scan.explore`."""
    return Scan(catalog, content).explore(workspace, query, now, text)


class _Joined:
    """A workspace's records by id, and its artifacts joined with them."""

    def __init__(self, catalog: Records, workspace: str, head: str | None) -> None:
        self.head = head
        self._context = Context()
        for workflow in catalog.workflows(workspace):
            self._context.add(workflow)
        self._context.tasks = {task.id: task for task in catalog.tasks(workspace)}
        self.rows = [self._context.row(one) for one in catalog.artifact_rows(workspace, now=0)]
        self._mortal = any(row.expires_at is not None for row in self.rows)

    def live(self, now: int) -> Sequence[Row]:
        """The rows that have not expired."""
        if not self._mortal:
            return self.rows
        return [row for row in self.rows if row.expires_at is None or row.expires_at > now]

    def filters(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        """The values that occur among the rows: at most 100 of each kind, by name."""
        flows = {row.workflow_id: row.workflow_name for row in rows if row.workflow_id is not None}
        items = {(row.work_item_id, row.workflow_id or ""): row for row in rows if row.work_item_id is not None}
        tasks = {row.artifact.task_id: row for row in rows if row.artifact.task_id is not None}
        context = self._context
        return {
            "workflows": [{"id": key, "name": flows[key]} for key in _first((flows[key], key) for key in flows)],
            "work_items": [
                context.item_facet(items[key].workflow_id, key[0])
                for key in _first((items[key].work_item_title, key) for key in items)
            ],
            "tasks": [
                context.task_facet(key, _belongs(tasks[key]))
                for key in _first((tasks[key].task_title, key) for key in tasks)
            ],
            "stages": _named(row.stage_name for row in rows),
            "roles": _named(row.role for row in rows),
            "content_types": _named(row.artifact.content_type for row in rows),
        }


def _belongs(row: Row) -> dict[str, str | None]:
    return {"workflow_id": row.workflow_id, "work_item_id": row.work_item_id, "stage_name": row.stage_name}


def _first(found: Iterable[tuple[str | None, K]]) -> list[K]:
    """The keys of the first hundred (name, key), by folded name, then by key."""
    return [key for _, key in heapq.nsmallest(FACET_MAX, found, key=lambda one: (folded(one[0] or ""), one[1]))]


def _named(found: Iterable[str | None]) -> list[str]:
    return heapq.nsmallest(
        FACET_MAX, {name for name in found if name is not None}, key=lambda name: (folded(name), name)
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


def _sort(rows: list[Row], sort: Sort, parts: Sequence[Sought]) -> None:
    """Ties end with the id, ascending, so that pages never overlap. The catalog gives them newest first already."""
    if sort == "newest":
        return
    keys: dict[Sort, Callable[[Row], tuple[Any, ...]]] = {
        "oldest": lambda row: (row.artifact.created_at, row.artifact.id),
        "largest": lambda row: (-row.artifact.size, row.artifact.id),
        "smallest": lambda row: (row.artifact.size, row.artifact.id),
        "name": lambda row: (row.artifact.path.rsplit("/", 1)[-1].casefold(), row.artifact.id),
        "relevance": lambda row: (
            -sum(score(row, part) for part in parts),
            -row.artifact.created_at,
            row.artifact.id,
        ),
    }
    rows.sort(key=keys[sort])


def score(row: Row, part: Sought) -> int:
    """Where the best hit is: 8 in the file name, 4 in the path, 2 in the titles, 1 elsewhere."""
    path = folded(row.artifact.path)
    if part.folded in path.rsplit("/", 1)[-1]:
        return 8
    wanted = [f" {word} " for word in part.words]
    if part.folded in path or (wanted and all(word in padded(row.artifact.path) for word in wanted)):
        return 4
    titles = padded(" ".join(filter(None, labels(row)[:3])))
    return 2 if wanted and all(word in titles for word in wanted) else 1


# --- words ----------------------------------------------------------------------------------------------------------


class _Test:
    """Makes of a query what says of a row whether it matches."""

    def __init__(self, content: Content, workspace: str) -> None:
        self._content = content
        self._workspace = workspace

    def of(self, node: Query, places: Places) -> Test:
        """The test of a query, or of a part of one."""
        if isinstance(node, And):
            tests = [self.of(one, places) for one in node.nodes]
            return lambda row: all(test(row) for test in tests)
        if isinstance(node, Not):
            test = self.of(node.node, places)
            return lambda row: not test(row)
        if isinstance(node, Field):
            if node.name == "kind":
                meant = artifacts_meant(node.node)
                return lambda _: meant
            return self.of(node.node, Places.named(node.name))
        if isinstance(node, Literal):
            return self._literal(node, places)
        return self._leaf(node, places)

    def _literal(self, node: Literal, places: Places) -> Test:
        """As a part of the path, or each of its words anywhere; without any word as a part of the path or a label."""
        whole, inside = fold(node.text), words(node.text)
        tests = [self._leaf(Word(word), places, inside=False) for word in inside]

        def test(row: Row) -> bool:
            if places.path and whole in folded(row.artifact.path):
                return True
            if tests:
                return all(one(row) for one in tests)
            return any(whole in folded(label) for label in _labels(row, places) if label is not None)

        return test

    def _leaf(self, node: Word | Phrase | Prefix, places: Places, *, inside: bool = True) -> Test:
        """`inside`: a word counts as a part of the path as well."""
        found: set[str] | None = None
        part = node.term if inside and not isinstance(node, Phrase) else None

        def test(row: Row) -> bool:
            nonlocal found
            path = row.artifact.path
            if places.path and ((part is not None and part in folded(path)) or stands(node, path)):
                return True
            if any(stands(node, label) for label in _labels(row, places) if label is not None):
                return True
            if not places.content:
                return False
            if found is None:
                found = self._content.having(self._workspace, node)
            return row.artifact.id in found

        return test


def _labels(row: Row, places: Places) -> Iterable[str | None]:
    every = labels(row)
    return (every[place] for place in places.labels)


def stands(node: Word | Phrase | Prefix, text: str, *, remember: bool = True) -> bool:
    """Whether a text has a word, a phrase, or a word that begins so. `remember` its words if it is short."""
    cut = padded if remember else padded.__wrapped__
    if isinstance(node, Word):
        return f" {node.term} " in cut(text)
    if isinstance(node, Prefix):
        return f" {node.term}" in cut(text)
    size, have = len(node.terms), sequence(text)
    if size == 1:
        return f" {node.terms[0]} " in cut(text)
    return any(tuple(have[at : at + size]) == node.terms for at in range(len(have) - size + 1))


class Reading:
    """Contents read one by one, where the search index cannot be asked. Raises TooSlow at the deadline."""

    def __init__(self, catalog: Records, text: Text, deadline: float) -> None:
        self._catalog = catalog
        self._text = text
        self._deadline = deadline
        self._read: dict[str, str] | None = None

    def having(self, workspace: str, node: Word | Phrase | Prefix) -> set[str]:
        """The ids of the artifacts whose content has this."""
        if self._read is None:
            self._read = {}
            for row in self._catalog.artifact_rows(workspace, now=0):
                self._check()
                artifact = self._catalog.artifact(workspace, row.id, now=0)
                self._read[row.id] = (self._text(artifact) if artifact is not None else None) or ""
        found = set()
        for id_, text in self._read.items():
            self._check()
            if stands(node, text, remember=False):
                found.add(id_)
        return found

    def _check(self) -> None:
        if time.monotonic() > self._deadline:
            raise TooSlow("the search index is being made again, and reading everything takes too long: wait")
