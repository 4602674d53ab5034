"""Evidence as it was: the workflows, tasks and artifacts that a commit of the evidence branch has, explored and read.

What is the same today comes from the catalog; only records that changed since are read from git. An artifact whose time
has come by today's word or by that of then is not shown: what expires vanishes from every answer.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Final

from gitstore import evidence, names, retention
from gitstore.asof import AsOf
from gitstore.catalog import ArtifactRow, Catalog, Heads
from gitstore.changes import Workspace
from gitstore.errors import GitstoreError, NotFound
from gitstore.explorer import ExplorerPage, ExplorerQuery, Scan
from gitstore.explorer.front import whole
from gitstore.explorer.joined import artifact_row
from gitstore.explorer.scan import Reading, stands
from gitstore.extraction import Reader
from gitstore.model import Artifact, Task, Touch, Workflow
from gitstore.past import Moment, story
from gitstore.repository.objects import Oid
from gitstore.repository.trees import TreeView, compare
from gitstore.search import Search
from gitstore.search.query import Phrase, Prefix, Word
from gitstore.store import Store

_KEPT: Final = 4  # states whose records stay in memory
_ROWS: Final = 200_000  # and about how many artifacts they may have
_TRIES: Final = 5  # readings of the catalog that a writer may spoil


class Evidence:
    """The past evidence of one store. Every method may be called from any thread, and touches the disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str, str | None], tuple[Records, Scan]] = OrderedDict()

    def explore(self, workspace: Workspace, moment: Moment, query: ExplorerQuery, now: int) -> ExplorerPage:
        """What `Explorer.explore` would have answered at a moment. Raises Damaged."""
        records, explorer = self._records(workspace, moment, now)
        explore, search = partial(explorer.explore, workspace.id, query, now, records.text), self._store.search
        page = whole(
            search,
            self._store.derived.standing,
            workspace.id,
            query,
            explore,
            lambda deadline: explore(Reading(records, records.text, deadline)),
        )
        self._store.extraction.tell(page.rows, page.artifacts)
        return page

    def artifact(self, workspace: Workspace, moment: Moment, identity: str) -> Artifact:
        """An artifact that was there at a moment, and has not expired. Raises NotFound, Invalid, Damaged."""
        shown = names.one_line(identity, 80)
        if moment.evidence is not None:
            tree = _tree(workspace, moment.evidence)
            told = story(self._store.history, workspace.repository, workspace.id, "evidence", moment.evidence)
            folder = evidence.locate(tree, "artifact", identity.lower(), workspace.id)
            found = _artifact(workspace, tree, told, folder) if folder is not None else None
            if found is not None and not self._expired(workspace, tree, told, found, int(time.time() * 1000)):
                return found
        raise NotFound(f"there was no artifact `{shown}` at `{names.one_line(moment.asked, 80)}`")

    def _expired(self, workspace: Workspace, tree: TreeView, told: AsOf, artifact: Artifact, now: int) -> bool:
        today = self._store.catalog.workflow_of(workspace.id, artifact)
        identity = artifact.workflow_id or (today.id if today is not None else None)
        then = _workflow(workspace, tree, told, identity) if identity is not None else None
        flows = (then, today)
        return any(retention.expired(retention.retained(artifact, flow), now) for flow in flows)

    def _records(self, workspace: Workspace, moment: Moment, now: int) -> tuple[Records, Scan]:
        catalog = self._store.catalog
        key = (workspace.id, moment.evidence or "", catalog.indexed(workspace.id).evidence)
        with self._lock:
            known = self._known.get(key)
            if known is not None and (known[0].until is None or known[0].until > now):
                self._known.move_to_end(key)
                return known
        told = None
        if moment.evidence is not None:
            told = story(self._store.history, workspace.repository, workspace.id, "evidence", moment.evidence)
        reader = self._store.extraction.reader(workspace.beginning)
        records = Records(catalog, self._store.search, reader, workspace, moment.evidence, told, now)
        made = records, Scan(records, records)
        with self._lock:
            self._known[key] = made
            rows = sum(one.size for one, _ in self._known.values())
            while len(self._known) > _KEPT or (rows > _ROWS and len(self._known) > 1):
                rows -= self._known.popitem(last=False)[1][0].size
        return made


class Records:
    """The records of a workspace at a commit of its evidence branch, as the explorer asks for them.

    `until` (ms) is when the next artifact expires by what its workflow says today.
    """

    def __init__(
        self,
        catalog: Catalog,
        index: Search,
        reader: Reader,
        workspace: Workspace,
        commit: str | None,
        told: AsOf | None,
        now: int,
    ) -> None:
        self._catalog = catalog
        self._search = index
        self._reader = reader
        self._workspace = workspace
        self._commit = commit
        self._flows: dict[str, Workflow] = {}
        self._tasks: dict[str, Task] = {}
        self._rows: dict[str, ArtifactRow] = {}
        self._own: dict[str, Artifact] = {}  # those that are not the same today
        self._texts: dict[str, str] | None = None
        self.until: int | None = None
        if commit is None or told is None:
            return
        head = self._today()
        today = dict(self._flows)
        self._go_back(_tree(workspace, commit), told, head)
        self._let_go(today, now)

    @property
    def size(self) -> int:
        """How many artifacts there are."""
        return len(self._rows)

    def indexed(self, _: str) -> Heads:
        """The commit that everything reflects."""
        return Heads(None, self._commit)

    def workflows(self, _: str) -> Sequence[Workflow]:
        """All workflows."""
        return list(self._flows.values())

    def tasks(self, _: str) -> Sequence[Task]:
        """All tasks."""
        return list(self._tasks.values())

    def artifact_rows(self, _: str, *, now: int) -> Sequence[ArtifactRow]:
        """All artifacts, newest first, then by id."""
        return sorted(self._rows.values(), key=lambda row: (-row.created_at, row.id))

    def artifact(self, _: str, id_: str, *, now: int) -> Artifact | None:
        """One artifact whole."""
        if id_ in self._own or id_ not in self._rows:
            return self._own.get(id_)
        return self._catalog.artifact(self._workspace.id, id_, now=now)

    def having(self, workspace: str, node: Word | Phrase | Prefix) -> set[str]:
        """The ids of the artifacts whose content had this."""
        if self._texts is None:
            self._texts = {id_: self.text(one) or "" for id_, one in self._own.items()}
        found = self._search.having(workspace, node) & self._rows.keys() - self._own.keys()
        return found | {id_ for id_, text in self._texts.items() if stands(node, text, remember=False)}

    def text(self, artifact: Artifact) -> str | None:
        """The searchable text of an artifact's content."""
        return self._reader(artifact.content_type, artifact.blob) or None

    # -- going back -----------------------------------------------------------------------------------------------

    def _today(self) -> Oid | None:
        """Takes in what the catalog has, and the commit it reflects; nothing where a writer is always faster."""
        catalog, workspace = self._catalog, self._workspace.id
        for _ in range(_TRIES):
            head = catalog.indexed(workspace).evidence
            flows, tasks = catalog.workflows(workspace), catalog.tasks(workspace)
            rows = catalog.artifact_rows(workspace, now=0)
            if head is not None and catalog.indexed(workspace).evidence == head:
                self._flows = {one.id: one for one in flows}
                self._tasks = {one.id: one for one in tasks}
                self._rows = {one.id: one for one in rows}
                return Oid(bytes.fromhex(head))
        return None

    def _go_back(self, tree: TreeView, told: AsOf, head: Oid | None) -> None:
        """Makes of today's records those of the tree."""
        repository, workspace = self._workspace.repository, self._workspace
        now = repository.tree(head)
        places: dict[str, str] = {}
        for one in compare(repository.database, now.root, tree.root):
            part, key = names.classify("evidence", one.path)
            place = evidence.folder_of(one.path) if part == "artifact" else one.path
            if key is not None and place is not None:
                places[place] = part
        for place, part in places.items():
            self._forget(now, part, place)
        for place, part in places.items():
            try:
                if part == "artifact":
                    if (artifact := _artifact(workspace, tree, told, place)) is not None:
                        self._own[artifact.id] = artifact
                        self._rows[artifact.id] = artifact_row(artifact)
                elif (data := tree.read(place)) is not None:
                    touch = told.touch(place)
                    when = touch.time if touch is not None else told.time
                    if part == "workflow":
                        flow = evidence.parse_workflow(place, data, time=when)
                        self._flows[flow.id] = flow
                    else:
                        task = evidence.parse_task(place, data, time=when)
                        self._tasks[task.id] = task
            except GitstoreError:
                continue  # what could not be read then was not shown then

    def _forget(self, now: TreeView, part: str, place: str) -> None:
        """Takes out the record that is in this place today."""
        if part == "artifact":
            self._rows.pop(evidence.artifact_id(self._workspace.id, place), None)
            return
        identity = names.id_of_evidence(place)
        if identity is None and (data := now.read(place)) is not None:
            try:
                parse = evidence.parse_workflow if part == "workflow" else evidence.parse_task
                identity = parse(place, data, time=0).id
            except GitstoreError:
                return  # it cannot be read, so it is not among them
        (self._flows if part == "workflow" else self._tasks).pop(identity or "", None)

    def _let_go(self, today: dict[str, Workflow], now: int) -> None:
        """Takes out what has expired by what the workflows say today."""
        for row in list(self._rows.values()):
            task = self._tasks.get(row.task_id or "")
            flow = today.get(row.workflow_id or (task.workflow_id if task is not None else None) or "")
            expires = retention.of(row.created_at, flow, row.pinned)[1]
            if expires is not None and expires <= now:
                del self._rows[row.id]
                self._own.pop(row.id, None)
            elif expires is not None:
                self.until = min(self.until or expires, expires)


def _tree(workspace: Workspace, commit: str) -> TreeView:
    return workspace.repository.tree(Oid(bytes.fromhex(commit)))


def _artifact(workspace: Workspace, tree: TreeView, told: AsOf, folder: str) -> Artifact | None:
    """The artifact in a folder, with the commit that had changed any file of it last."""
    found = [told.touch(f"{folder}/{entry.name}") for entry in tree.entries(folder) if not entry.is_tree]
    touch: Touch | None = max((one for one in found if one is not None), key=lambda one: one.time, default=None)
    return evidence.read_artifact(
        workspace.id,
        tree,
        folder,
        time=touch.time if touch is not None else told.time,
        commit=touch.commit if touch is not None else None,
    )


def _workflow(workspace: Workspace, tree: TreeView, told: AsOf, identity: str) -> Workflow | None:
    place = evidence.locate(tree, "workflow", identity, workspace.id)
    data = tree.read(place) if place is not None else None
    if place is None or data is None:
        return None
    touch = told.touch(place)
    try:
        return evidence.parse_workflow(place, data, time=touch.time if touch is not None else told.time)
    except GitstoreError:
        return None  # it keeps nothing from being shown, as when it could be read
