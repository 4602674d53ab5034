"""An artifact with what it belongs to, as the records say now; and how a row of the explorer is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from gitstore import retention, showing, values
from gitstore.model import Artifact, Task, Workflow, WorkItem
from gitstore.rows import ArtifactRow
from gitstore.search.words import fold, terms

UNSCOPED = "Unscoped workflow"


class Row(msgspec.Struct, frozen=True):
    """An artifact with what it belongs to, as the records say now. `artifact` is only what lists need of it."""

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


class Context:
    """A workspace's workflows, tasks and work items, by id."""

    def __init__(self) -> None:
        self.workflows: dict[str, Workflow] = {}
        self.tasks: dict[str, Task] = {}
        self.items: dict[tuple[str, str], WorkItem] = {}

    def add(self, workflow: Workflow) -> None:
        """Takes in a workflow in place of what it was before."""
        self.drop(workflow.id)
        self.workflows[workflow.id] = workflow
        self.items.update({(workflow.id, item.id): item for item in workflow.work_items})

    def drop(self, workflow_id: str) -> Workflow | None:
        """Takes a workflow out; what it was."""
        old = self.workflows.pop(workflow_id, None)
        for item in old.work_items if old is not None else ():
            self.items.pop((workflow_id, item.id), None)
        return old

    def item(self, workflow_id: str | None, item_id: str | None) -> WorkItem | None:
        """A work item, if both are known."""
        return self.items.get((workflow_id, item_id)) if workflow_id is not None and item_id is not None else None

    def row(self, one: ArtifactRow) -> Row:
        """What an artifact says of itself goes before what its task says, and that before the work item's stage."""
        task = self.tasks.get(one.task_id) if one.task_id is not None else None
        workflow_id = one.workflow_id or (task.workflow_id if task is not None else None)
        workflow = self.workflows.get(workflow_id) if workflow_id is not None else None
        item_id = one.work_item_id or (task.work_item_id if task is not None else None)
        item = self.item(workflow_id, item_id)
        return Row(
            artifact=one,
            expires_at=retention.of(one.created_at, workflow, one.pinned)[1],
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
            eligible=showing.preview_eligible(one.content_type, one.size),
        )

    # -- facets ---------------------------------------------------------------------------------------------------

    def item_facet(self, workflow_id: str | None, item_id: str) -> dict[str, Any]:
        """A work item as the filters show it."""
        item = self.item(workflow_id, item_id)
        return {
            "id": item_id,
            "title": item.title if item is not None else item_id,
            "workflow_id": workflow_id,
            "stage_name": item.stage_name if item is not None else None,
        }

    def task_facet(self, task_id: str, other: Mapping[str, str | None]) -> dict[str, Any]:
        """A task as the filters show it; of one that is not known, `other` is what an artifact of it belongs to."""
        task = self.tasks.get(task_id)
        if task is None:
            return {"id": task_id, "title": task_id, **other}
        return {
            "id": task_id,
            "title": task.title,
            "workflow_id": task.workflow_id,
            "work_item_id": task.work_item_id,
            "stage_name": task.stage_name,
        }


def labels(row: Row) -> tuple[str | None, ...]:
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


LABELS = {"workflow": (0,), "item": (1,), "task": (2,), "state": (3, 4, 5), "stage": (6,), "role": (7,), "type": (8,)}
"""The names by which a query asks for one kind of label, and which of `labels` those are."""
EVERY = tuple(range(9))


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
        "download_url": showing.url(workspace, artifact.id, artifact.task_id if row.task_known else None),
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
        "preview_mode": showing.preview_mode(artifact.content_type),
    }
    if highlight is not None:
        shown["highlight"] = highlight
    return shown


class Places(NamedTuple):
    """Where something may stand: in the path, in these labels, in the content."""

    path: bool = True
    labels: Sequence[int] = EVERY
    content: bool = True

    @classmethod
    def named(cls, name: str) -> Places:
        """Those of a field of the query language."""
        if name in ("path", "name", "title"):
            return cls(labels=(), content=False)
        if name in ("text", "content"):
            return cls(path=False, labels=())
        return cls(path=False, labels=LABELS.get(name, ()), content=False)


def artifact_row(artifact: Artifact) -> ArtifactRow:
    """What lists need of an artifact."""
    return ArtifactRow(
        artifact.id,
        artifact.path,
        artifact.content_type,
        artifact.size,
        artifact.created_at,
        artifact.workflow_id,
        artifact.task_id,
        artifact.work_item_id,
        artifact.stage_name,
        artifact.role,
        artifact.expires_at,
        artifact.pinned,
    )


@lru_cache(maxsize=65_536)
def folded(text: str) -> str:
    """`fold`, remembered."""
    return fold(text)


@lru_cache(maxsize=65_536)
def padded(text: str) -> str:
    """The terms of a text with blanks around each: a fraction of the memory of a set."""
    return f" {' '.join(terms(text))} "
