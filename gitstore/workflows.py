"""Operations on workflows and tasks: create, update, put a work item, put a task, begin planning.

Each is one change of the evidence branch. Ids are unique here within the workspace; that they are so in the whole store
is for the caller to see to, who knows the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from gitstore import evidence, names, values
from gitstore.errors import Conflict, NotFound
from gitstore.model import (
    TENANT_ID,
    WORKFLOW_ENDED,
    Kind,
    Task,
    Workflow,
    WorkItem,
)
from gitstore.precondition import NONE, Precondition
from gitstore.retention import DAYS_MAX
from gitstore.rules import fault, mapping, optional, text

if TYPE_CHECKING:
    from gitstore.changes import Draft

RETENTION_MODES = ("forever", "days", "ephemeral")
_ENDS: dict[str, Kind] = {
    "completed": "workflow.completed",
    "failed": "workflow.failed",
    "cancelled": "workflow.cancelled",
}


class Unset:
    """The type of UNSET, which stands for "leave it as it is" where None means "none"."""


UNSET = Unset()


class New(msgspec.Struct, frozen=True):
    """A workflow to create. Without an id it gets a new UUID; without `created_by`, the actor's id."""

    name: str
    id: str | None = None
    state: str = "pending"
    playbook_id: str | None = None
    parameters: dict[str, Any] = {}
    context: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    brief: str | None = None
    created_by: str | None = None
    work_items: tuple[WorkItem, ...] = ()


class Patch(msgspec.Struct, frozen=True):
    """What an update sets; the rest stays. `metadata` and `context` are replaced whole."""

    name: str | Unset = UNSET
    state: str | Unset = UNSET
    metadata: dict[str, Any] | Unset = UNSET
    context: dict[str, Any] | Unset = UNSET


class ItemPut(msgspec.Struct, frozen=True):
    """What a work item becomes; a new one without a title is called by its id, and is `pending`."""

    title: str | Unset = UNSET
    stage_name: str | Unset | None = UNSET
    state: str | Unset = UNSET


class TaskPut(msgspec.Struct, frozen=True):
    """What a task becomes; a new one without a title is called by its id, and is `pending`."""

    title: str | Unset = UNSET
    role: str | Unset | None = UNSET
    stage_name: str | Unset | None = UNSET
    state: str | Unset = UNSET
    work_item_id: str | Unset | None = UNSET


def create(draft: Draft, new: New) -> Workflow:
    """A new workflow. Raises Conflict if the workspace has one of this id, Invalid for a field that breaks a rule."""
    identity = evidence.check_id(new.id) if new.id is not None else names.new_id()
    if evidence.locate(draft.tree, "workflow", identity, draft.workspace) is not None:
        raise Conflict(f"there is a workflow with the id {identity!r} already", details={"id": identity})
    items = tuple(_checked(item, f"/work_items/{number}") for number, item in enumerate(new.work_items))
    if len({item.id for item in items}) < len(items):
        raise fault("/work_items", "must not have two items of one id")
    state = evidence.check_state(new.state, evidence.WORKFLOW_STATES)
    created_by = draft.provenance.actor.id if new.created_by is None else new.created_by
    workflow = Workflow(
        id=identity,
        name=evidence.check_title(new.name, "/name"),
        playbook_id=evidence.check_id(new.playbook_id, "/playbook_id") if new.playbook_id is not None else None,
        parameters=mapping(new.parameters, "/parameters"),
        context=mapping(new.context, "/context"),
        metadata=check_metadata(new.metadata),
        brief=optional(new.brief, "/brief", high=evidence.BRIEF_MAX),
        created_by=text(created_by, "/created_by", high=evidence.LABEL_MAX),
        created_at=draft.now,
        updated_at=draft.now,
        work_items=items,
    )
    workflow = _moved(workflow, state, draft.now)
    path = names.workflow_path(identity)
    draft.write(path, evidence.workflow_document(workflow, path))
    draft.describe(
        "workflow.created", f"workflow: create {_called(workflow)}", state=workflow.state, workflow_id=identity
    )
    return workflow


def update(
    draft: Draft,
    identity: str,
    patch: Patch,
    *,
    precondition: Precondition = NONE,
    tasks: Callable[[], Iterable[Task]] = tuple,
) -> Workflow:
    """Change a workflow. Nothing that differs, nothing written.

    `tasks` gives the workflow's tasks; it is asked only where there is a precondition, because a workflow's ETag covers
    them. Raises NotFound, PreconditionFailed, or Invalid for a field that breaks a rule.
    """
    path, before = _open(draft, identity)
    if precondition != NONE:
        precondition.check(etag(before, tasks(), draft.workspace))
    after = before
    if not isinstance(patch.name, Unset):
        after = msgspec.structs.replace(after, name=evidence.check_title(patch.name, "/name"))
    if not isinstance(patch.metadata, Unset):
        after = msgspec.structs.replace(after, metadata=check_metadata(patch.metadata))
    if not isinstance(patch.context, Unset):
        after = msgspec.structs.replace(after, context=mapping(patch.context, "/context"))
    kind: Kind = "workflow.updated"
    subject = f"workflow: change {_called(after)}"
    if not isinstance(patch.state, Unset):
        state = evidence.check_state(patch.state, evidence.WORKFLOW_STATES)
        if state != before.state:
            after = _moved(after, state, draft.now)
            kind = _ENDS.get(state, kind)
            subject = f"workflow: {_called(after)} is {state}"
    return _store(draft, path, before, after, kind, subject)


def put_work_item(
    draft: Draft,
    workflow_id: str,
    identity: str,
    put: ItemPut,
    *,
    precondition: Precondition = NONE,
    tasks: Callable[[], Iterable[Task]] = tuple,
) -> Workflow:
    """Add a work item to a workflow's board, or change the one with this id.

    `If-Match` is held against the workflow, which is what is answered; `If-None-Match: *` makes a new item only.
    `tasks` is as in `update`. Raises NotFound, PreconditionFailed, Invalid.
    """
    path, before = _open(draft, workflow_id)
    evidence.check_id(identity)
    old = next((item for item in before.work_items if item.id == identity), None)
    if precondition != NONE:
        board = etag(before, tasks(), draft.workspace)
        Precondition(if_match=precondition.if_match).check(board)
        Precondition(if_none_match=precondition.if_none_match).check(board if old is not None else None)
    item = _checked(_set(old or WorkItem(id=identity, title=identity), put), "")
    if old is None:
        items = (*before.work_items, item)
    else:
        items = tuple(item if one.id == identity else one for one in before.work_items)
    after = msgspec.structs.replace(before, work_items=items)
    return _store(draft, path, before, after, "work_item.updated", f"work item: {_called(item)} is {item.state}")


def put_task(
    draft: Draft, workflow_id: str | None, identity: str, put: TaskPut, *, precondition: Precondition = NONE
) -> Task:
    """Add a task to a workflow (or, with None, to the workspace), or change the one with this id.

    Raises NotFound for an unknown workflow, Conflict if the task belongs to another one, PreconditionFailed (against
    `task_etag`), Invalid for a field that breaks a rule.
    """
    if workflow_id is not None:
        _open(draft, workflow_id)
    path, old = find_task(draft, evidence.check_id(identity))
    if old is not None and old.workflow_id is not None and old.workflow_id != workflow_id:
        raise Conflict(
            f"the task {identity!r} belongs to the workflow {old.workflow_id!r}",
            details={"id": identity, "workflow_id": old.workflow_id},
        )
    precondition.check(None if old is None else task_etag(old))
    fresh = old or Task(id=identity, title=identity, created_at=draft.now, updated_at=draft.now)
    task: Task = _set(msgspec.structs.replace(fresh, workflow_id=workflow_id), put)
    task = msgspec.structs.replace(
        task,
        title=evidence.check_title(task.title),
        role=evidence.check_label(task.role, "/role"),
        stage_name=evidence.check_label(task.stage_name, "/stage_name"),
        state=evidence.check_state(task.state, evidence.TASK_STATES),
        work_item_id=None if task.work_item_id is None else evidence.check_id(task.work_item_id, "/work_item_id"),
    )
    if old is not None and task == old:
        return old
    task = msgspec.structs.replace(task, updated_at=draft.now)
    draft.write(path, evidence.task_document(task, path, draft.read(path), old))
    draft.describe(
        "task.updated", f"task: {_called(task)} is {task.state}", workflow_id=task.workflow_id, task_id=identity
    )
    return task


def planning(draft: Draft, *, brief: str, name: str | None, workspace_name: str, playbook_id: str | None) -> Workflow:
    """A workflow that plans the workspace's work from a brief of 1..20000 characters; needs nothing beforehand."""
    checked = text(brief, "/brief", low=1, high=evidence.BRIEF_MAX)
    if not checked.strip():
        raise fault("/brief", "must not be blank")
    title = f"Planning: {workspace_name}" if name is None else text(name, "/name", low=1, high=evidence.LABEL_MAX)
    return create(
        draft,
        New(
            name=title,
            playbook_id=playbook_id or None,
            parameters={
                "workspace_name": workspace_name,
                "workspace_brief": checked,
                "workspace_id": draft.workspace,
            },
            metadata={"planning_workflow": True},
            brief=checked,
        ),
    )


def workflow_json(workflow: Workflow, tasks: Iterable[Task], workspace_id: str) -> dict[str, Any]:
    """A workflow as the API shows it, with its tasks, oldest first."""
    return {
        "id": workflow.id,
        "tenant_id": TENANT_ID,
        "workspace_id": workspace_id,
        "name": workflow.name,
        "state": workflow.state,
        "playbook_id": workflow.playbook_id,
        "parameters": workflow.parameters,
        "context": workflow.context,
        "metadata": workflow.metadata,
        "brief": workflow.brief,
        "created_by": workflow.created_by,
        "created_at": values.iso(workflow.created_at),
        "updated_at": values.iso(workflow.updated_at),
        "started_at": None if workflow.started_at is None else values.iso(workflow.started_at),
        "completed_at": None if workflow.completed_at is None else values.iso(workflow.completed_at),
        "work_items": [work_item_json(item) for item in workflow.work_items],
        "tasks": [task_json(task) for task in sorted(tasks, key=lambda task: (task.created_at, task.id))],
    }


def work_item_json(item: WorkItem) -> dict[str, Any]:
    """A work item as the API shows it."""
    return {"id": item.id, "title": item.title, "stage_name": item.stage_name, "state": item.state}


def task_json(task: Task) -> dict[str, Any]:
    """A task as the API shows it inside its workflow."""
    return {
        "id": task.id,
        "title": task.title,
        "role": task.role,
        "stage_name": task.stage_name,
        "state": task.state,
        "work_item_id": task.work_item_id,
    }


def etag(workflow: Workflow, tasks: Iterable[Task], workspace_id: str) -> str:
    """The ETag (without quotes) of a workflow's answer."""
    return values.etag(values.encode(workflow_json(workflow, tasks, workspace_id)))


def task_etag(task: Task) -> str:
    """The ETag (without quotes) of a task's answer."""
    return values.etag(values.encode(task_json(task)))


def check_metadata(value: object) -> dict[str, Any]:
    """`value` if it is an object whose `artifact_retention`, if any, is {mode: forever|days|ephemeral, days?}.

    Refused here because a wish to expire that nobody understands would silently not be fulfilled.
    """
    metadata = mapping(value, "/metadata")
    wish = metadata.get("artifact_retention")
    if wish is None:
        return metadata
    at = "/metadata/artifact_retention"
    mode = mapping(wish, at).get("mode")
    if not isinstance(mode, str) or mode not in RETENTION_MODES:
        raise fault(f"{at}/mode", f"must be one of {', '.join(RETENTION_MODES)}")
    days = wish.get("days")
    if mode == "days" and not (isinstance(days, int) and not isinstance(days, bool) and 1 <= days <= DAYS_MAX):
        raise fault(f"{at}/days", f"must be a whole number from 1 to {DAYS_MAX}")
    return metadata


def find_task(draft: Draft, identity: str) -> tuple[str, Task | None]:
    """The file of a task, where it is or would be, and the task as this change leaves it."""
    path = names.task_path(identity)
    data = draft.read(path)
    if data is None:
        found = evidence.locate(draft.tree, "task", identity, draft.workspace)
        data = draft.read(found) if found is not None else None
        if found is None or data is None:
            return path, None
        path = found
    return path, evidence.parse_task(path, data, time=_changed(draft, path))


def find_workflow(draft: Draft, identity: str) -> tuple[str, Workflow | None]:
    """The file of a workflow, where it is or would be, and the workflow as this change leaves it."""
    path = names.workflow_path(identity)
    data = draft.read(path)
    if data is None:
        found = evidence.locate(draft.tree, "workflow", identity, draft.workspace)
        data = draft.read(found) if found is not None else None
        if found is None or data is None:
            return path, None
        path = found
    return path, evidence.parse_workflow(path, data, time=_changed(draft, path))


def _changed(draft: Draft, path: str) -> int:
    touch = draft.last_touch(path)
    return touch.time if touch is not None else draft.now


def _open(draft: Draft, identity: str) -> tuple[str, Workflow]:
    path, workflow = find_workflow(draft, identity)
    if workflow is None:
        raise NotFound(f"there is no workflow {identity!r} in this workspace")
    return path, workflow


def _store(draft: Draft, path: str, before: Workflow, after: Workflow, kind: Kind, subject: str) -> Workflow:
    if after == before:
        return before
    after = msgspec.structs.replace(after, updated_at=draft.now)
    draft.write(path, evidence.workflow_document(after, path, draft.read(path), before))
    state = after.state if kind.startswith("workflow.") else "completed"
    draft.describe(kind, subject, state=state, workflow_id=after.id)
    return after


def _moved(workflow: Workflow, state: str, now: int) -> Workflow:
    """The workflow in another state, with the times that follow from it."""
    started, completed = workflow.started_at, workflow.completed_at
    if state == "pending":
        started = completed = None
    elif state in WORKFLOW_ENDED:
        completed = now
    else:
        completed = None
        if state == "active" and started is None:
            started = now
    return msgspec.structs.replace(workflow, state=state, started_at=started, completed_at=completed)


def _checked(item: WorkItem, at: str) -> WorkItem:
    return WorkItem(
        id=evidence.check_id(item.id, f"{at}/id"),
        title=evidence.check_title(item.title, f"{at}/title"),
        stage_name=evidence.check_label(item.stage_name, f"{at}/stage_name"),
        state=evidence.check_label(item.state, f"{at}/state") or "pending",
    )


def _called(record: Workflow | WorkItem | Task) -> str:
    return names.one_line(record.name if isinstance(record, Workflow) else record.title, 120)


def _set(record: Any, put: ItemPut | TaskPut) -> Any:
    given = {key: value for key in put.__struct_fields__ if not isinstance(value := getattr(put, key), Unset)}
    return msgspec.structs.replace(record, **given)
