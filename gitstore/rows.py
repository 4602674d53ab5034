"""The shapes in which the catalog answers, where they are not records of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gitstore.database import Row, unbind
from gitstore.model import WORKFLOW_ENDED


class Heads(msgspec.Struct, frozen=True):
    """A commit of each branch; None where the branch has none."""

    main: str | None = None
    evidence: str | None = None


class Summary(msgspec.Struct, frozen=True):
    """The workflows of a workspace, counted. Open: not completed, failed or cancelled. Attention: failed or paused."""

    workflow_count: int = 0
    open_workflow_count: int = 0
    total_workflow_count: int = 0
    active_workflow_count: int = 0
    completed_workflow_count: int = 0
    attention_workflow_count: int = 0
    last_workflow_activity_at: int | None = None


class Impact(msgspec.Struct, frozen=True):
    """What of the evidence goes with a workspace; active is what has not ended."""

    workflows: int = 0
    active_workflows: int = 0
    tasks: int = 0
    active_tasks: int = 0
    work_items: int = 0
    artifacts: int = 0


class ArtifactRow(msgspec.Struct, frozen=True):
    """What lists and facets need of an artifact, without its metadata."""

    id: str
    path: str
    content_type: str
    size: int
    created_at: int
    workflow_id: str | None
    task_id: str | None
    work_item_id: str | None
    stage_name: str | None
    role: str | None
    expires_at: int | None
    pinned: bool = False


def request_scope(workspace: str, workflow_id: str | None, task_id: str | None) -> str:
    """Within what an artifact's request id is unique: its workflow, else its task, else the workspace."""
    if workflow_id is not None:
        return f"workflow {workflow_id}"
    return f"workspace {workspace}" if task_id is None else f"task {task_id}"


def artifact_row(row: Row) -> ArtifactRow:
    """The row that the columns of `ArtifactRow`, in their order, make; the last may be left out."""
    id_, path, content_type, size, created_at, workflow, task, item, stage, role, expires_at, *more = row
    return ArtifactRow(
        unbind(id_),
        unbind(path),
        unbind(content_type),
        size,
        created_at,
        workflow and unbind(workflow),
        task and unbind(task),
        item and unbind(item),
        stage and unbind(stage),
        role and unbind(role),
        expires_at,
        bool(more and more[0]),
    )


def artifact_columns(rows: Sequence[Row]) -> list[list[Any]]:
    """The same of many: for each field of `ArtifactRow`, in their order, its values."""
    if not rows:
        return [[] for _ in msgspec.structs.fields(ArtifactRow)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    return [
        [unbind(value) if isinstance(value, bytes) else value for value in column]
        if bytes in map(type, column)
        else column
        for column in columns
    ]


def summarise(states: Mapping[str, tuple[int, int]]) -> Summary:
    """The summary of workflows that are, by state, so many and last changed then."""

    def counted(*wanted: str) -> int:
        return sum(states[state][0] for state in wanted if state in states)

    total = counted(*states)
    return Summary(
        workflow_count=total,
        open_workflow_count=total - counted(*WORKFLOW_ENDED),
        total_workflow_count=total,
        active_workflow_count=counted("active"),
        completed_workflow_count=counted("completed"),
        attention_workflow_count=counted("failed", "paused"),
        last_workflow_activity_at=max((latest for _, latest in states.values()), default=None),
    )
