"""Bodies, queries and answers of workflows, their work items and tasks."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gitstore.model import TaskState, WorkflowState
from server.shapes.common import Id, Object, Paging, Shape, Text255, Time

Brief = Annotated[str, Meta(min_length=1, max_length=20000)]


class PutWorkItem(Shape):
    """A work item; one that is not there yet is made and needs a title."""

    title: Text255 | UnsetType = UNSET
    stage_name: Text255 | UnsetType | None = UNSET
    state: Text255 | UnsetType = UNSET


class PutTask(Shape):
    """A task; one that is not there yet is made and needs a title."""

    title: Text255 | UnsetType = UNSET
    role: Text255 | UnsetType | None = UNSET
    stage_name: Text255 | UnsetType | None = UNSET
    state: TaskState | UnsetType = UNSET
    work_item_id: Id | UnsetType | None = UNSET


class NewWorkItem(Shape):
    """A work item of a new workflow."""

    title: Text255
    id: Id | None = None
    stage_name: Text255 | None = None
    state: Text255 = "pending"


class NewTask(Shape):
    """A task of a new workflow."""

    title: Text255
    id: Id | None = None
    role: Text255 | None = None
    stage_name: Text255 | None = None
    state: TaskState = "pending"
    work_item_id: Id | None = None


class CreateWorkflow(Shape):
    """A new workflow; ids may be given or are made here."""

    name: Text255
    id: Id | None = None
    state: WorkflowState = "pending"
    playbook_id: Text255 | None = None
    parameters: Object = msgspec.field(default_factory=dict)
    context: Object = msgspec.field(default_factory=dict)
    metadata: Object = msgspec.field(default_factory=dict)
    brief: Brief | None = None
    work_items: list[NewWorkItem] = msgspec.field(default_factory=list)
    tasks: list[NewTask] = msgspec.field(default_factory=list)


class UpdateWorkflow(Shape):
    """Fields to change; at least one. Times follow the state."""

    name: Text255 | UnsetType = UNSET
    state: WorkflowState | UnsetType = UNSET
    metadata: Object | UnsetType = UNSET
    context: Object | UnsetType = UNSET

    def faults(self) -> list[tuple[str, str]]:
        """An update of nothing is a mistake of the caller."""
        if any(getattr(self, name) is not UNSET for name in self.__struct_fields__):
            return []
        return [("", f"give at least one of {', '.join(self.__struct_fields__)}")]


class PlanWorkflow(Shape):
    """What is to be planned."""

    brief: Brief
    name: Text255 | None = None


class ListWorkflows(Paging):
    """Which workflows."""

    state: WorkflowState | None = None


class WorkItem(msgspec.Struct):
    """A work item."""

    id: str
    title: str
    stage_name: str | None
    state: str


class Task(msgspec.Struct):
    """A task."""

    id: str
    title: str
    role: str | None
    stage_name: str | None
    state: TaskState
    work_item_id: str | None


class Workflow(msgspec.Struct):
    """A workflow's record."""

    id: str
    tenant_id: str
    workspace_id: str
    name: str
    state: WorkflowState
    playbook_id: str | None
    parameters: Object
    context: Object
    metadata: Object
    brief: str | None
    created_by: str
    created_at: Time
    updated_at: Time
    started_at: Time | None
    completed_at: Time | None
    work_items: list[WorkItem]
    tasks: list[Task]
