"""Workflows, tasks and artifacts across the store: their ids are unique in it, and a repeated request is answered once.

The rules inside one workspace are in `workflows` and `artifacts`; here is what only the store as a whole can know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TypeVar

import msgspec

from gitstore import artifacts, content, evidence, names, retention, values, workflows
from gitstore.changes import Draft, Outcome
from gitstore.content import Content
from gitstore.errors import Conflict, GitstoreError, NotFound
from gitstore.explorer import ExplorerPage
from gitstore.extraction import Indexed
from gitstore.history import TimelineQuery
from gitstore.model import Artifact, Provenance, Task, Workflow
from gitstore.pending import Pending
from gitstore.precondition import NONE, Precondition
from gitstore.repository.objects import Oid
from gitstore.store import Store

T = TypeVar("T")


def _now() -> int:
    return int(time.time() * 1000)


class TaskNew(NamedTuple):
    """A task that is made together with its workflow."""

    id: str
    put: workflows.TaskPut


class Work:
    """The evidence of one store. Every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._making: set[tuple[str, str]] = set()

    # -- workflows and tasks --------------------------------------------------------------------------------------

    def workflow(self, identity: str) -> tuple[str, Workflow]:
        """A workflow and its workspace's id. Raises NotFound."""
        found = self._store.catalog.workflow(identity)
        if found is None:
            raise NotFound(f"there is no workflow `{names.one_line(identity, 80)}`")
        return found

    def task(self, identity: str) -> tuple[str, Task]:
        """A task and its workspace's id. Raises NotFound."""
        found = self._store.catalog.task(identity)
        if found is None:
            raise NotFound(f"there is no task `{names.one_line(identity, 80)}`")
        return found

    @contextmanager
    def _only(self, part: str, identity: str, workspace: str) -> Iterator[Callable[[Pending[T]], Pending[T]]]:
        """Keeps an id from being taken twice: the change handed over is the only one under way that makes it."""
        look = self._store.catalog.workflow if part == "workflow" else self._store.catalog.task
        mark = (part, identity)
        with self._store.naming:
            making = mark in self._making  # asked first: what ends meanwhile is in the catalog by then
            found = look(identity)
            if (found is not None and found[0] != workspace) or making:
                raise Conflict(
                    f"the {part} id `{names.one_line(identity, 80)}` is taken in this store", details={"id": identity}
                )
            new = found is None
            if new:
                self._making.add(mark)

        def hand(pending: Pending[T]) -> Pending[T]:
            if new:
                pending.add_done_callback(lambda _: self._making.discard(mark))
            return pending

        try:
            yield hand
        except BaseException:
            if new:
                self._making.discard(mark)
            raise

    def create_workflow(
        self, reference: str, new: workflows.New, who: Provenance, *, tasks: Sequence[TaskNew] = ()
    ) -> Pending[Outcome[Workflow]]:
        """A new workflow with its tasks, in one commit. Raises Conflict where an id is taken, NotFound, Invalid."""
        workspace = self._store.find(reference)
        new = msgspec.structs.replace(new, id=new.id or names.new_id())

        def operation(draft: Draft) -> Workflow:
            workflow = workflows.create(draft, new)
            told = (draft.kind, draft.name, draft.state)
            for task in tasks:
                workflows.put_task(draft, workflow.id, task.id, task.put)
            draft.kind, draft.name, draft.state = told  # the commit is the workflow's, not its last task's
            draft.task_id = None
            return workflow

        with ExitStack() as stack:
            hands = [stack.enter_context(self._only("workflow", evidence.check_id(new.id), workspace))]
            hands += [stack.enter_context(self._only("task", evidence.check_id(task.id), workspace)) for task in tasks]
            pending = self._store.apply(workspace, "evidence", operation, who)
            for hand in hands:
                hand(pending)
            return pending

    def update_workflow(
        self, identity: str, patch: workflows.Patch, who: Provenance, precondition: Precondition = NONE
    ) -> Pending[Outcome[Workflow]]:
        """Changes a workflow. Raises NotFound, PreconditionFailed, Invalid."""
        workspace, _ = self.workflow(identity)

        def operation(draft: Draft) -> Workflow:
            return workflows.update(
                draft,
                identity,
                patch,
                precondition=precondition,
                tasks=lambda: self._store.catalog.tasks_of(identity, workspace),
            )

        return self._store.apply(workspace, "evidence", operation, who)

    def put_work_item(
        self,
        identity: str,
        item: str,
        put: workflows.ItemPut,
        who: Provenance,
        precondition: Precondition = NONE,
    ) -> Pending[Outcome[Workflow]]:
        """Adds or changes one item of a workflow's board. Raises NotFound, PreconditionFailed, Invalid."""
        workspace, _ = self.workflow(identity)

        def operation(draft: Draft) -> Workflow:
            return workflows.put_work_item(
                draft,
                identity,
                item,
                put,
                precondition=precondition,
                tasks=lambda: self._store.catalog.tasks_of(identity, workspace),
            )

        return self._store.apply(workspace, "evidence", operation, who)

    def put_task(
        self, identity: str, task: str, put: workflows.TaskPut, who: Provenance, precondition: Precondition = NONE
    ) -> Pending[Outcome[Task]]:
        """Adds or changes a task of a workflow. Raises Conflict where the id is taken elsewhere in the store."""
        workspace, _ = self.workflow(identity)

        def operation(draft: Draft) -> Task:
            return workflows.put_task(draft, identity, task, put, precondition=precondition)

        with self._only("task", evidence.check_id(task), workspace) as hand:
            return hand(self._store.apply(workspace, "evidence", operation, who))

    def planning(self, reference: str, brief: str, name: str | None, who: Provenance) -> Pending[Outcome[Workflow]]:
        """A workflow that plans the workspace's work."""

        def operation(draft: Draft) -> Workflow:
            context = draft.context
            playbook = context.settings.get("planning_playbook_id")
            return workflows.planning(
                draft,
                brief=brief,
                name=name,
                workspace_name=context.fields.name,
                playbook_id=playbook if isinstance(playbook, str) else None,
            )

        return self._store.apply(reference, "evidence", operation, who)

    # -- artifacts ------------------------------------------------------------------------------------------------

    def artifact(self, workspace: str, identity: str) -> Artifact:
        """An artifact that has not expired, with its retention as its workflow has it now.

        Raises NotFound; of one that was deleted its details say `deleted`: by which commit, when, by whom, its path.
        """
        now = _now()
        found = self._store.catalog.artifact(workspace, identity.lower(), now=now)
        if found is not None:
            found = self.retained(workspace, found)
        if found is None or retention.expired(found, now):
            deleted = self._tombstone(workspace, identity.lower()) if found is None else None
            raise NotFound(
                f"there is no artifact `{names.one_line(identity, 80)}`" + (": it was deleted" if deleted else ""),
                details={"deleted": deleted} if deleted else None,
            )
        return found

    def _tombstone(self, workspace: str, identity: str) -> dict[str, Any] | None:
        """What is left of an artifact that is no longer on the branch; None where there never was one."""
        if not names.is_uuid(identity):
            return None
        folder = names.artifact_folder(identity)
        entries = self._store.history.timeline(workspace, TimelineQuery(path=folder, per_page=1)).entries
        if not entries or not entries[0].facts.parents:
            return None
        facts = entries[0].facts
        tree = self._store.load(workspace).repository.tree(Oid(bytes.fromhex(facts.parents[0])))
        try:
            last = evidence.read_artifact(workspace, tree, folder, time=facts.time)
        except GitstoreError:
            last = None  # it could not be read even then
        return {
            "commit": facts.id,
            "created_at": values.iso(facts.time),
            "actor": msgspec.to_builtins(facts.actor),
            "name": last.path if last is not None else None,
        }

    def retained(self, workspace: str, artifact: Artifact) -> Artifact:
        """The artifact with its retention as its workflow has it now."""
        if artifact.workflow_id is None and artifact.task_id is None:
            return retention.retained(artifact, None)
        return retention.retained(artifact, self._store.catalog.workflow_of(workspace, artifact))

    def task_of(self, workspace: str, artifact: Artifact) -> Task | None:
        """The task that an artifact names, if its workspace has that task."""
        found = self._store.catalog.task(artifact.task_id) if artifact.task_id is not None else None
        return found[1] if found is not None and found[0] == workspace else None

    def task_artifacts(self, workspace: str, task: str, prefix: str) -> list[Artifact]:
        """A task's artifacts, oldest first, whose path begins with `prefix`, literally."""
        now = _now()
        known = self._store.catalog.task_artifacts(task, prefix, now=now, workspace=workspace)
        found = (self.retained(workspace, one) for one in known)
        return [one for one in found if not retention.expired(one, now)]

    def content(self, workspace: str, artifact: Artifact) -> Content:
        """The content of an artifact. Raises Damaged."""
        return content.of(self._store.load(workspace).visible, artifact)

    def text(self, workspace: str) -> Callable[[Artifact], str | None]:
        """What gives the searchable text of an artifact's content, for highlights."""
        read = self._store.extraction.reader(self._store.load(workspace).beginning)
        return lambda artifact: read(artifact.content_type, artifact.blob) or None

    def indexed(self, shown: Sequence[Artifact]) -> list[Indexed]:
        """How far search has the content of each."""
        return self._store.extraction.indexed([(one.content_type, one.blob, one.size) for one in shown])

    def shown(self, workspace: str, artifact: Artifact) -> dict[str, Any]:
        """An artifact as the API shows it."""
        record = artifacts.artifact_json(
            self.retained(workspace, artifact), workspace, self.task_of(workspace, artifact)
        )
        return record | {"content_indexed": self.indexed([artifact])[0]}

    def tell_indexed(self, page: ExplorerPage) -> None:
        """Says in the rows of a page of the explorer how far search has each content, as `content_indexed`."""
        self._store.extraction.tell(page.rows, page.artifacts)

    def add_artifact(
        self, reference: str, new: artifacts.New, who: Provenance, *, task_required: bool = False
    ) -> Pending[Outcome[Artifact]]:
        """Adds an artifact; `new` comes from `artifacts.check`.

        A `request_id` that was answered before gives that answer again; with another content it is a Conflict.
        """
        return self._store.apply(
            reference, "evidence", lambda draft: artifacts.add(draft, new, task_required=task_required), who
        )

    def pin_artifact(
        self, workspace: str, artifact: Artifact, pinned: bool, who: Provenance
    ) -> Pending[Outcome[Artifact]]:
        """Keeps an artifact whatever its workflow's retention says, or no longer. Raises NotFound."""
        return self._store.apply(workspace, "evidence", lambda draft: artifacts.pin(draft, artifact, pinned), who)

    def delete_artifact(
        self, workspace: str, artifact: Artifact, who: Provenance, precondition: Precondition, etag: str
    ) -> Pending[Outcome[None]]:
        """Takes an artifact off the branch. Raises NotFound, PreconditionFailed."""
        return self._store.apply(
            workspace,
            "evidence",
            lambda draft: artifacts.delete(draft, artifact, precondition=precondition, etag=etag),
            who,
        )
