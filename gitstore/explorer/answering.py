"""The explorer's part of the search process: columns of the workspaces asked for last, read from the catalog."""

from __future__ import annotations

import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from gitstore.database import Unpacker, bind, pack
from gitstore.explorer.categories import Category
from gitstore.explorer.columns import NEVER, Columns
from gitstore.explorer.contents import Contents
from gitstore.explorer.expired import Expired
from gitstore.explorer.joined import Places, artifact_row, folded
from gitstore.explorer.page import FACET_MAX, Asked, Explored, Sought, artifacts_meant, sought
from gitstore.explorer.scan import stands
from gitstore.model import Artifact, Task, Workflow
from gitstore.query import ExplorerQuery
from gitstore.rows import artifact_columns
from gitstore.search.hidden import Hidden
from gitstore.search.index import Index
from gitstore.search.query import And, Field, Literal, Not, Phrase, Prefix, Query, Word, parse
from gitstore.search.ranking import Clock, Matcher
from gitstore.search.words import fold, words
from gitstore.search.worker import Elsewhere

log = logging.getLogger("gitstore.search")

KEEP: Final = 1_000_000
"""Rows whose columns stay in memory, about 400 bytes each."""
_AHEAD: Final = 750_000  # rows that are read before anybody asks,
_LARGE: Final = 500  # of workspaces that have so many
_CHANGED: Final = 5000  # changed records of a workspace from where on it is read anew
_REMEMBERED: Final = 8  # selections a workspace
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


class _Selection(NamedTuple):
    version: tuple[int, int, int]
    until: int  # ms, when a row of it may expire
    rows: Numbers
    summary: dict[str, int]
    filters: dict[str, list[Any]]


class _Held:
    """One workspace in memory."""

    def __init__(self, columns: Columns, contents: Contents) -> None:
        self.columns = columns
        self.contents = contents
        self.changed: set[tuple[str, str]] = set()
        self.known: OrderedDict[ExplorerQuery, _Selection] = OrderedDict()


class Answering:
    """Answers for one catalog and index."""

    def __init__(self, catalog: Path | None, index: Index) -> None:
        self._catalog = catalog
        self._index = index
        self._connection: sqlite3.Connection | None = None
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._asked: Unpacker[Asked] = Unpacker(Asked)
        self._workflow: Unpacker[Workflow] = Unpacker(Workflow)
        self._task: Unpacker[Task] = Unpacker(Task)
        self._artifact: Unpacker[Artifact] = Unpacker(Artifact)
        self._expired = Expired(self._read)
        self._touch = msgspec.msgpack.Decoder(tuple[str, list[tuple[str, str]] | None])

    def ahead(self) -> Iterator[None]:
        """Reads what the questions to the largest workspaces take, before they are asked; a bounded step at a time."""
        room = _AHEAD
        for workspace, count in self._largest():
            if count > min(room, KEEP - self._rows) or workspace in self._held:
                continue
            room -= count
            held = self._workspace(workspace)
            self._held.move_to_end(workspace, last=False)  # what was asked for stays longer, and then the largest
            yield
            for part in self._index.parts:
                held.contents.read(part)
                yield

    def _largest(self) -> list[tuple[str, int]]:
        if self._catalog is None:
            return []
        with self._read() as connection:
            return connection.execute(
                "SELECT workspace, count(*) AS many FROM artifacts GROUP BY workspace HAVING many >= ?"
                " ORDER BY many DESC LIMIT ?",
                (_LARGE, _AHEAD // _LARGE),
            ).fetchall()

    def touched(self, body: bytes) -> None:
        """Records of a workspace are not as they were; None: any may be."""
        workspace, records = self._touch.decode(body)
        self._expired.touched(workspace)
        held = self._held.get(workspace)
        if held is None:
            return
        if records is not None:
            held.changed.update(records)
        if records is None or len(held.changed) > _CHANGED:
            del self._held[workspace]

    def hidden(self, workspaces: Sequence[str] | None, now: int) -> Hidden | None:
        """The artifacts in workspaces (None: in all) that have expired at `now` (ms)."""
        if self._catalog is None:
            return None
        try:
            return self._expired.hidden(workspaces, now)
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            # Whoever shows what is found looks at each again: none of them is shown, only counted.
            log.warning("what has expired cannot be told: %s", error)
            self._close()
            return None

    def explore(self, body: bytes, clock: Clock) -> bytes:
        """The answer to a question. Raises Elsewhere where the catalog cannot be read, Late."""
        asked = self._asked(body)
        try:
            return pack(self._explore(asked, clock))
        except (sqlite3.Error, msgspec.MsgspecError) as error:  # which says nothing of the index
            self._close()
            raise Elsewhere(f"the catalog cannot be read: {error}") from error

    def _explore(self, asked: Asked, clock: Clock) -> Explored:
        held = self._workspace(asked.workspace)
        clock = clock.within(asked.limit)
        columns, query = held.columns, asked.query
        if query is None:
            mask = columns.live if not self._mortal(columns) else columns.live & (columns.expires > asked.now)
            return Explored([], int(mask.sum()), {}, {})
        found = self._selected(held, query, asked.now, clock)
        start = (query.page - 1) * query.per_page
        page = found.rows[start : start + query.per_page]
        ids = [columns.ids[number] for number in page.tolist()]
        whole = self._whole(asked.workspace, ids)
        shown = [whole[id_] for id_ in ids if id_ in whole]
        rows = [(columns.context.row(artifact_row(artifact)), artifact) for artifact in shown]
        return Explored(rows, len(found.rows), found.summary, found.filters)

    # -- what is in memory ----------------------------------------------------------------------------------------

    @property
    def _rows(self) -> int:
        """How many are in memory."""
        return sum(one.columns.count for one in self._held.values())

    def _workspace(self, workspace: str) -> _Held:
        held = self._held.get(workspace)
        if held is None:
            held = self._load(workspace)
            self._held[workspace] = held
            size = self._rows
            while size > KEEP and len(self._held) > 1:
                size -= self._held.popitem(last=False)[1].columns.count
        self._held.move_to_end(workspace)
        if held.changed:
            changed, held.changed = held.changed, set()
            try:
                self._follow(workspace, held.columns, changed)
            except BaseException:
                self._held.pop(workspace, None)
                raise
            if held.columns.dead > 1000 and held.columns.dead * 2 > held.columns.count:
                del self._held[workspace]
                return self._workspace(workspace)
        return held

    def _load(self, workspace: str) -> _Held:
        with self._read() as connection:

            def all_of(table: str) -> Iterator[bytes]:
                rows = connection.execute(f"SELECT doc FROM {table} WHERE workspace=?", (workspace,))  # noqa: S608
                return (doc for (doc,) in rows)

            columns = Columns(
                [self._workflow(doc) for doc in all_of("workflows")],
                [self._task(doc) for doc in all_of("tasks")],
                artifact_columns(
                    connection.execute(
                        "SELECT id, path, content_type, size, created_at, workflow, task, work_item, stage, role,"
                        " expires_at, pinned FROM artifacts WHERE workspace=? ORDER BY created_at DESC, id",
                        (workspace,),
                    ).fetchall()
                ),
            )
        return _Held(columns, Contents(workspace, columns))

    def _follow(self, workspace: str, columns: Columns, changed: set[tuple[str, str]]) -> None:
        with self._read() as connection:

            def one(table: str, id_: str) -> bytes | None:
                row = connection.execute(
                    f"SELECT doc FROM {table} WHERE id=? AND workspace=?",  # noqa: S608
                    (bind(id_), workspace),
                ).fetchone()
                return row[0] if row is not None else None

            for part, id_ in sorted(changed, key=lambda pair: (pair[0] == "artifact", pair[1])):
                doc = one(part + "s", id_)
                if part == "workflow":
                    columns.set_workflow(id_, self._workflow(doc) if doc is not None else None)
                elif part == "task":
                    columns.set_task(id_, self._task(doc) if doc is not None else None)
                elif doc is not None:
                    columns.put(artifact_row(self._artifact(doc)))
                else:
                    columns.remove(id_)

    def _whole(self, workspace: str, ids: Sequence[str]) -> dict[str, Artifact]:
        """Those of some artifacts that are there, by id."""
        marks = ",".join("?" * len(ids))
        found = self._open().execute(
            f"SELECT doc FROM artifacts WHERE id IN ({marks}) AND workspace=?",  # noqa: S608
            (*map(bind, ids), workspace),
        )
        return {artifact.id: artifact for artifact in (self._artifact(doc) for (doc,) in found)}

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        connection = self._open()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._catalog is None:
                raise Elsewhere("there is no catalog to read")
            self._connection = sqlite3.connect(
                f"{self._catalog.as_uri()}?mode=ro", uri=True, timeout=2.0, isolation_level=None
            )
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- one question ---------------------------------------------------------------------------------------------

    @staticmethod
    def _mortal(columns: Columns) -> bool:
        return columns.soonest() != NEVER

    def _selected(self, held: _Held, query: ExplorerQuery, now: int, clock: Clock) -> _Selection:
        """Everything that matches, in order; remembered for the other pages of the same question."""
        plain = msgspec.structs.replace(query, page=1, per_page=1)
        version = (held.columns.version, self._index.changes if query.q else 0, self._index.epoch)
        known = held.known.get(plain)
        if known is not None and known.version == version and now < known.until:
            held.known.move_to_end(plain)
            return known
        # Nothing that is asked of the explorer is an error: a prefix of very many words is bounded by the time alone.
        matcher = Matcher(self._index, clock, None) if query.q else None
        made = _Question(held, query, now, matcher).answer(version)
        held.known[plain] = made
        if len(held.known) > _REMEMBERED:
            held.known.popitem(last=False)
        return made


class _Question:
    """One question to the columns of a workspace."""

    def __init__(self, held: _Held, query: ExplorerQuery, now: int, matcher: Matcher | None) -> None:
        self._columns = held.columns
        self._contents = held.contents
        self._query = query
        self._now = now
        self._matcher = matcher

    def answer(self, version: tuple[int, int, int]) -> _Selection:
        """What matches, in order, with what is counted of it."""
        columns, query = self._columns, self._query
        mask = columns.live.copy()
        until = NEVER
        if columns.soonest() != NEVER:
            coming = columns.expires[columns.expires > self._now]
            until = int(coming.min()) if len(coming) else NEVER
            mask &= columns.expires > self._now
        self._filter(mask)
        tree = parse(query.q) if query.q else None
        if tree is not None and mask.any():
            mask &= self._matching(tree, Places())
        if query.sort == "relevance" and tree is not None:
            rows = np.flatnonzero(mask)
            scores = np.zeros(len(rows), np.int64)
            for part in sought(tree):
                scores += self._score(part)[rows]
            rows = columns.ranked(rows, scores)
        else:
            rows = columns.ordered(mask, query.sort)
        return _Selection(version, until, rows, self._summary(rows), self._filters(rows))

    def _filter(self, mask: Mask) -> None:
        columns, query = self._columns, self._query
        named: tuple[tuple[str, str | None, Category[str]], ...] = (
            ("flow", query.workflow_id, columns.flows),
            ("task", query.task_id, columns.tasks),
            ("stage", query.stage_name, columns.stages),
            ("role", query.role, columns.roles),
            ("type", query.content_type, columns.types),
        )
        for name, value, category in named:
            if value is not None:
                mask &= columns.column(name) == category.codes.get(value, -1)
        if query.work_item_id is not None:
            codes = [code for (item, _), code in columns.items.codes.items() if item == query.work_item_id]
            mask &= self._coded("item", columns.items, codes)
        if query.created_from is not None:
            mask &= columns.created >= query.created_from
        if query.created_to is not None:
            mask &= columns.created < query.created_to
        if query.preview_mode is not None:
            mask &= columns.eligible == (query.preview_mode == "inline")

    def _coded(self, name: str, category: Category[Any], codes: Sequence[int]) -> Mask:
        chosen = category.mask(codes)
        if chosen is None:
            return np.zeros(self._columns.count, np.bool_)
        found: Mask = chosen[self._columns.column(name)]
        return found

    # -- words ----------------------------------------------------------------------------------------------------

    def _categories(self) -> tuple[tuple[str, Category[Any]], ...]:
        columns = self._columns
        return (
            ("flow", columns.flows),
            ("item", columns.items),
            ("task", columns.tasks),
            ("stage", columns.stages),
            ("role", columns.roles),
            ("type", columns.types),
        )

    def _matching(self, node: Query, places: Places) -> Mask:
        if self._matcher is not None:
            self._matcher.clock.check()
        columns = self._columns
        if isinstance(node, And):
            mask = np.ones(columns.count, np.bool_)
            for one in node.nodes:
                mask &= self._matching(one, places)
            return mask
        if isinstance(node, Not):
            return ~self._matching(node.node, places)
        if isinstance(node, Field):
            if node.name == "kind":
                return np.full(columns.count, artifacts_meant(node.node))
            return self._matching(node.node, Places.named(node.name))
        if isinstance(node, Literal):
            return self._literal(node, places)
        mask = self._leaf(node, places)
        if places.path and not isinstance(node, Phrase):
            mask |= columns.paths.containing(node.term)
        return mask

    def _literal(self, node: Literal, places: Places) -> Mask:
        columns = self._columns
        whole, inside = fold(node.text), words(node.text)
        mask = columns.paths.containing(whole) if places.path else np.zeros(columns.count, np.bool_)
        if inside:
            every = np.ones(columns.count, np.bool_)
            for word in inside:
                # Where the word is all there is, that it is a word of the path says nothing new.
                every &= self._leaf(Word(word), places, path=word != whole)
            return mask | every
        return mask | self._labelled(
            lambda category: category.passing(lambda text: whole in folded(text), places.labels)
        )

    def _titled(self, word: str) -> Mask:
        """Which rows have a word in the title of a workflow, work item or task."""
        return self._labelled(lambda category: category.having(word, (0, 1, 2)))

    def _leaf(self, node: Word | Phrase | Prefix, places: Places, *, path: bool = True) -> Mask:
        columns = self._columns
        if isinstance(node, Word):
            mask = self._labelled(lambda category: category.having(node.term, places.labels))
            if places.path and path:
                mask |= columns.paths.having(node.term)
        elif isinstance(node, Prefix):
            mask = self._labelled(lambda category: category.beginning(node.term, places.labels))
            if places.path:
                mask |= columns.paths.beginning(node.term)
        else:
            mask = self._labelled(lambda category: category.passing(lambda text: stands(node, text), places.labels))
            if places.path:
                candidates = np.logical_and.reduce([columns.paths.having(word) for word in node.terms])
                for number in np.flatnonzero(candidates):
                    mask[number] |= stands(node, columns.paths.original(int(number)))
        if places.content and self._matcher is not None:
            mask |= self._contents.having(node, self._matcher)
        return mask

    def _labelled(self, pick: Callable[[Category[Any]], Any]) -> Mask:
        mask = np.zeros(self._columns.count, np.bool_)
        for name, category in self._categories():
            chosen = category.mask(pick(category))
            if chosen is not None:
                mask |= chosen[self._columns.column(name)]
        return mask

    def _score(self, part: Sought) -> Numbers:
        """As `scan.score`, for all rows."""
        columns = self._columns
        scores = np.ones(columns.count, np.int64)
        if part.words:
            titles = np.ones(columns.count, np.bool_)
            spoken = np.ones(columns.count, np.bool_)
            for word in part.words:
                titles &= self._titled(word)
                spoken &= columns.paths.having(word)
            scores[titles] = 2
            scores[spoken] = 4
        scores[columns.paths.containing(part.folded)] = 4
        scores[columns.paths.named(part.folded)] = 8
        return scores

    # -- counts ---------------------------------------------------------------------------------------------------

    def _summary(self, rows: Numbers) -> dict[str, int]:
        columns = self._columns

        def distinct(name: str) -> int:
            return int(np.count_nonzero(np.bincount(columns.column(name)[rows], minlength=1)[1:]))

        return {
            "total_artifacts": len(rows),
            "previewable_artifacts": int(np.count_nonzero(columns.eligible[rows])),
            "total_bytes": int(columns.size[rows].sum()),
            "workflow_count": distinct("flow"),
            "work_item_count": distinct("item"),
            "task_count": distinct("task"),
            "role_count": distinct("role"),
        }

    def _filters(self, rows: Numbers) -> dict[str, list[Any]]:
        columns = self._columns
        context = columns.context

        def first(name: str, category: Category[Any]) -> list[Any]:
            present = np.bincount(columns.column(name)[rows], minlength=len(category)) > 0
            order = category.order
            return [category.keys[code] for code in order[present[order]][:FACET_MAX].tolist()]

        items = first("item", columns.items)
        return {
            "workflows": [{"id": key, "name": self._flow_name(key)} for key in first("flow", columns.flows)],
            "work_items": [context.item_facet(flow or None, item) for item, flow in items],
            "tasks": self._tasks(first("task", columns.tasks), rows),
            "stages": first("stage", columns.stages),
            "roles": first("role", columns.roles),
            "content_types": first("type", columns.types),
        }

    def _flow_name(self, key: str) -> str:
        flow = self._columns.context.workflows.get(key)
        return flow.name if flow is not None else key

    def _tasks(self, keys: Sequence[str], rows: Numbers) -> list[dict[str, Any]]:
        columns = self._columns
        last: Numbers | None = None
        shown = []
        for key in keys:
            other: dict[str, str | None] = {}
            if key not in columns.context.tasks:
                # What is said of a task that nobody knows is what the last of its artifacts belongs to.
                if last is None:
                    last = np.zeros(len(columns.tasks), np.int64)
                    last[columns.column("task")[rows]] = rows
                other = self._belongs(int(last[columns.tasks.codes[key]]))
            shown.append(columns.context.task_facet(key, other))
        return shown

    def _belongs(self, row: int) -> dict[str, str | None]:
        columns = self._columns
        item = columns.items.keys[int(columns.column("item")[row])]
        return {
            "workflow_id": columns.flows.keys[int(columns.column("flow")[row])],
            "work_item_id": item[0] if item is not None else None,
            "stage_name": columns.stages.keys[int(columns.column("stage")[row])],
        }
