"""What is known across all workspaces: where each one is, and every workflow, task and artifact by id.

All of it is derived from the branches and says which heads it reflects; a file that was damaged or written by another
release opens empty and is filled again. Reads see finished batches only, and never wait for a writer.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gitstore import retention
from gitstore.database import Database, Row, Unpacker, bind, clip, insert, pack, unbind
from gitstore.directory import Directory, OldSlug, Sort, WorkspaceRow
from gitstore.model import TASK_ENDED, WORKFLOW_ENDED, Artifact, Task, Workflow
from gitstore.rows import ArtifactRow, Heads, Impact, Summary, artifact_row, request_scope, summarise

__all__ = [
    "ArtifactRow",
    "Catalog",
    "Heads",
    "Impact",
    "OldSlug",
    "Summary",
    "WorkspaceRow",
    "request_scope",
]

_VERSION = 1
_SCHEMA = """
CREATE TABLE workspaces(id TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE records(id TEXT PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE indexed(workspace TEXT PRIMARY KEY, main TEXT, evidence TEXT) WITHOUT ROWID;
CREATE TABLE workflows(id TEXT NOT NULL, workspace TEXT NOT NULL, state TEXT NOT NULL, created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL, items INTEGER NOT NULL, doc BLOB NOT NULL, mortal INTEGER NOT NULL,
    UNIQUE(id, workspace));
CREATE INDEX workflows_by_time ON workflows(workspace, created_at DESC, id);
CREATE INDEX workflows_by_state ON workflows(workspace, state, updated_at, items);
CREATE INDEX workflows_mortal ON workflows(workspace) WHERE mortal;
CREATE TABLE tasks(id TEXT NOT NULL, workspace TEXT NOT NULL, workflow TEXT, state TEXT NOT NULL,
    created_at INTEGER NOT NULL, doc BLOB NOT NULL, UNIQUE(id, workspace));
CREATE INDEX tasks_by_time ON tasks(workspace, created_at, id, state);
CREATE INDEX tasks_by_workflow ON tasks(workflow, created_at, id) WHERE workflow IS NOT NULL;
CREATE TABLE artifacts(id TEXT NOT NULL, workspace TEXT NOT NULL, path BLOB NOT NULL, content_type TEXT NOT NULL,
    size INTEGER NOT NULL, created_at INTEGER NOT NULL, workflow TEXT, task TEXT, work_item TEXT, stage TEXT, role TEXT,
    expires_at INTEGER, scope TEXT, request TEXT, doc BLOB NOT NULL, pinned INTEGER NOT NULL, UNIQUE(id, workspace));
CREATE INDEX artifacts_by_time ON artifacts(workspace, created_at DESC, id, expires_at);
CREATE INDEX artifacts_by_workflow ON artifacts(workflow) WHERE workflow IS NOT NULL;
CREATE INDEX artifacts_by_task ON artifacts(task, created_at, id) WHERE task IS NOT NULL;
CREATE INDEX artifacts_by_request ON artifacts(scope, request) WHERE request IS NOT NULL;
CREATE TABLE blobs(oid BLOB PRIMARY KEY, size INTEGER NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE keys(prefix TEXT PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID;
"""
_EVIDENCE = ("workflows", "tasks", "artifacts")
_LIVE = "(expires_at IS NULL OR expires_at > ?)"

_workspace_row: Unpacker[WorkspaceRow] = Unpacker(WorkspaceRow)
_workflow: Unpacker[Workflow] = Unpacker(Workflow)
_task: Unpacker[Task] = Unpacker(Task)
_artifact: Unpacker[Artifact] = Unpacker(Artifact)


class Catalog:
    """The catalog in the SQLite file at `path`; `opened_empty` says that it has to be filled from the branches.

    Every method may be called from any thread; a write waits for another thread's batch. Of two workspaces that hold a
    workflow, task or artifact of one id, look-ups by id alone answer with the older one, then the smaller workspace id.
    Raises what `database.Database` raises.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA, version=_VERSION)
        self.opened_empty = self._database.opened_empty
        self._directory = Directory()
        self._pending: list[WorkspaceRow | str] = []
        self._artifacts: list[Row] = []  # of the batch, written together
        self._open = False
        for (row,) in self._database.rows("SELECT row FROM workspaces"):
            self._directory.put(_workspace_row(row))
        self._keys = {unbind(prefix): used for prefix, used in self._database.rows("SELECT prefix, used FROM keys")}
        self._unsaved: set[str] = set()

    def close(self) -> None:
        """Keep what is only in memory (times of keys), and let go of the file. May be called twice."""
        if not self._database.closed:
            self.flush()
        self._database.close()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Everything written inside is one transaction: seen by readers, and kept, as a whole or not at all."""
        with self._database.lock:
            if self._open:
                yield
                return
            self._open = True
            saved: list[str] = []
            try:
                with self._database.write() as connection:
                    yield
                    self._put_artifacts(connection)
                    while self._unsaved:
                        saved.append(self._unsaved.pop())
                    connection.executemany(
                        "INSERT INTO keys VALUES(?,?) ON CONFLICT(prefix) DO UPDATE SET used=excluded.used",
                        [(bind(prefix), self._keys[prefix]) for prefix in saved],
                    )
            except BaseException:
                self._unsaved.update(saved)
                self._pending.clear()
                self._artifacts.clear()
                raise
            finally:
                self._open = False
            for change in self._pending:
                if isinstance(change, str):
                    self._directory.remove(change)
                else:
                    self._directory.put(change)
            self._pending.clear()

    def flush(self) -> None:
        """Keep what is only in memory so far: the times at which keys were used."""
        if self._unsaved:
            with self.batch():
                pass

    # Workspaces

    def put_workspace(self, row: WorkspaceRow, record: bytes | None = None) -> None:
        """Add or replace a workspace. `record`: its encoded record, for lists; without one the old is dropped."""
        with self.batch():
            self._write("INSERT OR REPLACE INTO workspaces VALUES(?,?)", (row.id, pack(row)))
            if record is None:
                self._write("DELETE FROM records WHERE id=?", (row.id,))
            else:
                self._write("INSERT OR REPLACE INTO records VALUES(?,?)", (row.id, record))
            self._pending.append(row)

    def remove_workspace(self, id_: str) -> None:
        """Take out a workspace and everything that belongs to it. One that is not there is no error."""
        with self.batch():
            self.clear_workspace(id_)
            self._write("DELETE FROM workspaces WHERE id=?", (id_,))
            self._write("DELETE FROM records WHERE id=?", (id_,))
            self._pending.append(id_)

    def workspace(self, id_: str) -> WorkspaceRow | None:
        """The row that was put for a workspace."""
        return self._directory.get(id_)

    def workspaces(self) -> Sequence[str]:
        """The ids of all workspaces."""
        return self._directory.ids()

    def records(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The encoded records of those workspaces that have one here."""
        marks = ",".join("?" * len(ids))
        return dict(self._database.rows(f"SELECT id, record FROM records WHERE id IN ({marks})", ids))  # noqa: S608

    def records_with(self, text: bytes) -> dict[str, bytes]:
        """The encoded records that hold these bytes anywhere, by workspace; a look at every record there is."""
        return dict(self._database.rows("SELECT id, record FROM records WHERE instr(record, ?)", (text,)))

    def list(
        self,
        q: str | None = None,
        is_active: bool | None = None,
        sort: Sort = "newest",
        page: int = 1,
        per_page: int = 20,
    ) -> tuple[Sequence[str], int]:
        """A page of ids and the total; see `Directory.list`."""
        return self._directory.list(q, is_active, sort, page, per_page)

    def find(self, ref: str) -> str | None:
        """The id of the workspace that answers to an id, a slug or a former slug, ignoring case; from memory."""
        return self._directory.find(ref)

    def heads(self, id_: str) -> Heads:
        """The heads that the row of a workspace reflects."""
        row = self._directory.get(id_)
        return Heads(row.main, row.evidence) if row else Heads()

    def mark_indexed(self, workspace: str, heads: Heads) -> None:
        """Say which heads the workflows, tasks and artifacts now reflect; belongs into the batch that wrote them."""
        self._write("INSERT OR REPLACE INTO indexed VALUES(?,?,?)", (workspace, heads.main, heads.evidence))

    def indexed(self, workspace: str) -> Heads:
        """The heads that the workflows, tasks and artifacts of a workspace reflect."""
        row = self._database.row("SELECT main, evidence FROM indexed WHERE workspace=?", (workspace,))
        return Heads(*row) if row else Heads()

    def clear_workspace(self, workspace: str) -> None:
        """Take out a workspace's workflows, tasks and artifacts, and what heads they reflect."""
        with self.batch():
            for table in (*_EVIDENCE, "indexed"):
                self._write(f"DELETE FROM {table} WHERE workspace=?", (workspace,))  # noqa: S608

    # Workflows and tasks

    def put_workflow(self, workspace: str, workflow: Workflow) -> None:
        """Add or replace a workflow of a workspace."""
        self._write(
            "INSERT OR REPLACE INTO workflows VALUES(?,?,?,?,?,?,?,?)",
            (
                bind(workflow.id),
                workspace,
                bind(workflow.state),
                workflow.created_at,
                workflow.updated_at,
                len(workflow.work_items),
                pack(workflow),
                int(retention.of(0, workflow)[0]["mode"] != "forever"),
            ),
        )

    def remove_workflow(self, workspace: str, id_: str) -> None:
        """Take out a workflow; its tasks stay. One that is not there is no error."""
        self._write("DELETE FROM workflows WHERE id=? AND workspace=?", (bind(id_), workspace))

    def workflow(self, id_: str) -> tuple[str, Workflow] | None:
        """The workflow with this id in any workspace, and the workspace."""
        row = self._one("workflows", id_)
        return (row[0], _workflow(row[1])) if row else None

    def workflow_of(self, workspace: str, artifact: Artifact) -> Workflow | None:
        """The workflow of its workspace that an artifact belongs to: the one it names, else that of its task."""
        identity = artifact.workflow_id
        if identity is None and artifact.task_id is not None:
            task = self.task(artifact.task_id)
            identity = task[1].workflow_id if task is not None and task[0] == workspace else None
        found = self.workflow(identity) if identity is not None else None
        return found[1] if found is not None and found[0] == workspace else None

    def workflows(self, workspace: str) -> Sequence[Workflow]:
        """All workflows of a workspace, newest first, then by id."""
        return self.workflow_page(workspace, 1, -1)[0]

    def workflow_page(self, workspace: str, page: int, per_page: int) -> tuple[Sequence[Workflow], int]:
        """A page of the workflows of a workspace, newest first, then by id, and how many there are on all pages."""
        with self._database.read() as connection:
            (total,) = connection.execute("SELECT count(*) FROM workflows WHERE workspace=?", (workspace,)).fetchone()
            rows = connection.execute(
                "SELECT doc FROM workflows WHERE workspace=? ORDER BY created_at DESC, id LIMIT ? OFFSET ?",
                (workspace, per_page, clip((page - 1) * per_page)),
            ).fetchall()
        return [_workflow(doc) for (doc,) in rows], total

    def put_task(self, workspace: str, task: Task) -> None:
        """Add or replace a task of a workspace."""
        self._write(
            "INSERT OR REPLACE INTO tasks VALUES(?,?,?,?,?,?)",
            (bind(task.id), workspace, bind(task.workflow_id), bind(task.state), task.created_at, pack(task)),
        )

    def remove_task(self, workspace: str, id_: str) -> None:
        """Take out a task; its artifacts stay. One that is not there is no error."""
        self._write("DELETE FROM tasks WHERE id=? AND workspace=?", (bind(id_), workspace))

    def task(self, id_: str) -> tuple[str, Task] | None:
        """The task with this id in any workspace, and the workspace."""
        row = self._one("tasks", id_)
        return (row[0], _task(row[1])) if row else None

    def tasks_of(self, workflow_id: str, workspace: str | None = None) -> Sequence[Task]:
        """The tasks of a workflow, oldest first, then by id; of one workspace where it is given."""
        rows = self._database.rows(
            "SELECT doc FROM tasks WHERE workflow=? AND workspace=coalesce(?, workspace) ORDER BY created_at, id",
            (bind(workflow_id), workspace),
        )
        return [_task(doc) for (doc,) in rows]

    def tasks(self, workspace: str) -> Sequence[Task]:
        """All tasks of a workspace, oldest first, then by id."""
        rows = self._database.rows("SELECT doc FROM tasks WHERE workspace=? ORDER BY created_at, id", (workspace,))
        return [_task(doc) for (doc,) in rows]

    def summary(self, workspace: str) -> Summary:
        """The counts of a workspace's workflows."""
        return self.summaries([workspace])[workspace]

    def summaries(self, workspaces: Sequence[str]) -> dict[str, Summary]:
        """The counts for each of the workspaces, in one look-up."""
        marks = ",".join("?" * len(workspaces))
        rows = self._database.rows(
            "SELECT workspace, state, count(*), max(updated_at) FROM workflows"  # noqa: S608
            f" WHERE workspace IN ({marks}) GROUP BY workspace, state",
            workspaces,
        )
        counted: dict[str, dict[str, tuple[int, int]]] = {workspace: {} for workspace in workspaces}
        for workspace, state, number, latest in rows:
            counted[workspace][state] = (number, latest)
        return {workspace: summarise(states) for workspace, states in counted.items()}

    def impact(self, workspace: str, *, now: int) -> Impact:
        """What would go with a workspace; artifacts that expired by `now` (ms) do not count."""
        with self._database.read() as connection:
            workflows = connection.execute(
                "SELECT state, count(*), sum(items) FROM workflows WHERE workspace=? GROUP BY state", (workspace,)
            ).fetchall()
            tasks = connection.execute(
                "SELECT state, count(*) FROM tasks WHERE workspace=? GROUP BY state", (workspace,)
            ).fetchall()
            (artifacts,) = connection.execute(
                f"SELECT count(*) FROM artifacts WHERE workspace=? AND {_LIVE}",  # noqa: S608
                (workspace, now),
            ).fetchone()
        return Impact(
            workflows=sum(row[1] for row in workflows),
            active_workflows=sum(row[1] for row in workflows if row[0] not in WORKFLOW_ENDED),
            tasks=sum(row[1] for row in tasks),
            active_tasks=sum(row[1] for row in tasks if row[0] not in TASK_ENDED),
            work_items=sum(row[2] for row in workflows),
            artifacts=artifacts,
        )

    # Artifacts. `now` (ms) leaves out what has expired by then; 0 leaves out nothing.

    def put_artifact(self, workspace: str, artifact: Artifact) -> None:
        """Add or replace an artifact of a workspace."""
        scope = None
        if artifact.request_id is not None:
            scope = bind(request_scope(workspace, artifact.workflow_id, artifact.task_id))
        row = (
            bind(artifact.id),
            workspace,
            artifact.path.encode("utf-8", "surrogatepass"),
            bind(artifact.content_type),
            artifact.size,
            artifact.created_at,
            bind(artifact.workflow_id),
            bind(artifact.task_id),
            bind(artifact.work_item_id),
            bind(artifact.stage_name),
            bind(artifact.role),
            artifact.expires_at,
            scope,
            bind(artifact.request_id),
            pack(artifact),
            int(artifact.pinned),
        )
        with self.batch():
            self._artifacts.append(row)

    def remove_artifact(self, workspace: str, id_: str) -> None:
        """Take out an artifact. One that is not there is no error."""
        self._write("DELETE FROM artifacts WHERE id=? AND workspace=?", (bind(id_), workspace))

    def artifact(self, workspace: str, id_: str, *, now: int) -> Artifact | None:
        """The artifact of a workspace with this id."""
        row = self._database.row(
            f"SELECT doc FROM artifacts WHERE id=? AND workspace=? AND {_LIVE}",  # noqa: S608
            (bind(id_), workspace, now),
        )
        return _artifact(row[0]) if row else None

    def artifact_by_id(self, id_: str, *, now: int) -> tuple[str, Artifact] | None:
        """The artifact with this id in any workspace, and the workspace."""
        row = self._one("artifacts", id_, f" AND {_LIVE}", now)
        return (row[0], _artifact(row[1])) if row else None

    def task_artifacts(
        self, task_id: str, prefix: str = "", *, now: int, workspace: str | None = None
    ) -> Sequence[Artifact]:
        """The artifacts of a task whose path begins with `prefix`, taken literally; oldest first, then by id.

        `workspace` is the task's: what another workspace keeps under the same task id is then left out.
        """
        literal = prefix.encode("utf-8", "surrogatepass")
        rows = self._database.rows(
            "SELECT doc FROM artifacts WHERE task=? AND substr(path, 1, ?)=? AND (? IS NULL OR workspace=?)"  # noqa: S608
            f" AND {_LIVE} ORDER BY created_at, id",
            (bind(task_id), len(literal), literal, workspace, workspace, now),
        )
        return [_artifact(doc) for (doc,) in rows]

    def artifacts(self, workspace: str, *, now: int = 0) -> Sequence[Artifact]:
        """All artifacts of a workspace, newest first, then by id."""
        rows = self._database.rows(
            f"SELECT doc FROM artifacts WHERE workspace=? AND {_LIVE} ORDER BY created_at DESC, id",  # noqa: S608
            (workspace, now),
        )
        return [_artifact(doc) for (doc,) in rows]

    def artifact_rows(self, workspace: str, *, now: int) -> Sequence[ArtifactRow]:
        """The same artifacts in the same order, without what lists and facets do not need."""
        rows = self._database.rows(
            "SELECT id, path, content_type, size, created_at, workflow, task, work_item, stage, role, expires_at,"  # noqa: S608
            f" pinned FROM artifacts WHERE workspace=? AND {_LIVE} ORDER BY created_at DESC, id",
            (workspace, now),
        )
        return [artifact_row(row) for row in rows]

    def request(self, scope: str, request_id: str, *, now: int) -> str | None:
        """The id of the (oldest) artifact that a request id made within a scope; see `request_scope`."""
        row = self._database.row(
            f"SELECT id FROM artifacts WHERE scope=? AND request=? AND {_LIVE} ORDER BY created_at, id",  # noqa: S608
            (bind(scope), bind(request_id), now),
        )
        return unbind(row[0]) if row else None

    # Blobs and keys

    def blob(self, oid: str) -> tuple[int, str] | None:
        """The size and the SHA-256 (hexadecimal) of a blob's content, where they are known."""
        return self.blobs([oid]).get(oid)

    def blobs(self, oids: Sequence[str]) -> dict[str, tuple[int, str]]:
        """The same for many blobs, of those that are known."""
        marks = ",".join("?" * len(oids))
        rows = self._database.rows(
            f"SELECT oid, size, sha256 FROM blobs WHERE oid IN ({marks})",  # noqa: S608
            [bytes.fromhex(oid) for oid in oids],
        )
        return {oid.hex(): (size, sha256.hex()) for oid, size, sha256 in rows}

    def put_blobs(self, facts: Iterable[tuple[str, int, str]]) -> None:
        """Note (id, size, SHA-256) of blobs; they hold for every workspace and for ever."""
        rows = [(bytes.fromhex(oid), size, bytes.fromhex(sha256)) for oid, size, sha256 in facts]
        with self.batch(), self._database.write() as connection:
            insert(connection, "INSERT OR REPLACE INTO blobs", rows)

    def key_used(self, prefix: str, ms: int) -> None:
        """Note that a key was used; in memory at once, on disk with the next batch, `flush` or `close`."""
        if ms > self._keys.get(prefix, -1):
            self._keys[prefix] = ms
            self._unsaved.add(prefix)

    def keys_used(self) -> dict[str, int]:
        """When each key was last used (ms), by its prefix."""
        return self._keys.copy()

    def _write(self, sql: str, parameters: Sequence[Any]) -> None:
        with self.batch(), self._database.write() as connection:
            self._put_artifacts(connection)
            connection.execute(sql, parameters)

    def _put_artifacts(self, connection: sqlite3.Connection) -> None:
        insert(connection, "INSERT OR REPLACE INTO artifacts", self._artifacts)
        self._artifacts.clear()

    def _one(self, table: str, id_: str, more: str = "", *values: Any) -> Row | None:
        return self._database.row(
            f"SELECT workspace, doc FROM {table} WHERE id=?{more} ORDER BY created_at, workspace LIMIT 1",  # noqa: S608
            (bind(id_), *values),
        )
