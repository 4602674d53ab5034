"""The shapes that travel between the layers: frozen, typed, and free of any idea of storage or HTTP.

Ids of git objects are 40 hexadecimal digits here. Times are integers, milliseconds since 1970 UTC.
A field that a caller may leave out has a default; `None` means "none", never "unknown".
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

TENANT_ID = "00000000-0000-0000-0000-000000000001"
MEMORY_MAX_BYTES = 1_048_576
SECRET_PLACEHOLDER = "redacted://workspace-settings-secret"  # noqa: S105  (the text shown in place of a secret)

Door = Literal["api", "git", "disk", "cli"]
Branch = Literal["main", "evidence"]
ActorType = Literal["agent", "worker", "admin", "service", "person", "system"]
Op = Literal["added", "changed", "deleted", "renamed"]

Kind = Literal[
    "workspace.created",
    "workspace.updated",
    "settings.updated",
    "memory.updated",
    "memory.deleted",
    "spec.updated",
    "file.added",
    "file.replaced",
    "file.deleted",
    "workflow.created",
    "workflow.updated",
    "workflow.completed",
    "workflow.failed",
    "workflow.cancelled",
    "work_item.updated",
    "task.updated",
    "artifact.added",
    "artifact.updated",
    "artifact.deleted",
    "changes",
    "edit",
    "push",
    "merge",
    "revert",
    "restore",
    "import",
]

WorkflowState = Literal["pending", "active", "completed", "failed", "cancelled", "paused"]
TaskState = Literal[
    "pending",
    "ready",
    "claimed",
    "in_progress",
    "completed",
    "failed",
    "cancelled",
    "awaiting_approval",
    "escalated",
]
WORKFLOW_ENDED = frozenset({"completed", "failed", "cancelled"})
TASK_ENDED = frozenset({"completed", "failed", "cancelled"})


class Actor(msgspec.Struct, frozen=True):
    """Who did it. `id` is the key's prefix for key holders, the e-mail for people, `gitstore` for the server."""

    type: ActorType
    id: str
    name: str


class Provenance(msgspec.Struct, frozen=True):
    """Who asks for a change, through which door, on whose behalf."""

    actor: Actor
    door: Door = "api"
    request_id: str | None = None
    workflow_id: str | None = None
    task_id: str | None = None


SYSTEM = Actor("system", "gitstore", "gitstore")


class ChangedPath(msgspec.Struct, frozen=True, omit_defaults=True):
    """One path that a commit changed. `part` and `key` name the resource the path belongs to (see names.classify).

    A file that moved with its very content is one change, `renamed`: it was at `old_path`, which `old_part` and
    `old_key` belong to. `blob` is what a plain file holds now; None where there is none any more.
    """

    path: str
    op: Op
    part: str
    key: str | None = None
    old_path: str | None = None
    old_part: str | None = None
    old_key: str | None = None
    blob: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that is not as it was."""
        return (self.path,) if self.old_path is None else (self.old_path, self.path)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that those belong to."""
        return (self.part,) if self.old_part is None else (self.old_part, self.part)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that those belong to, where they do to any."""
        return tuple(key for key in (self.old_key, self.key) if key is not None)


class CommitFacts(msgspec.Struct, frozen=True):
    """Everything history keeps about one commit of a branch's first-parent line."""

    id: str
    branch: Branch
    parents: tuple[str, ...]
    time: int
    kind: str
    name: str
    actor: Actor
    door: str
    changes: tuple[ChangedPath, ...]
    state: str = "completed"
    request_id: str | None = None
    workflow_id: str | None = None
    task_id: str | None = None


class Stamp(msgspec.Struct, frozen=True):
    """Who made a commit and when, through which door and on whose behalf."""

    commit: str
    time: int
    kind: str
    name: str
    actor: Actor
    door: str
    request_id: str | None = None
    workflow_id: str | None = None
    task_id: str | None = None

    @classmethod
    def of(cls, facts: CommitFacts) -> Stamp:
        """That of a commit everything is known of."""
        return cls(
            facts.id, facts.time, facts.kind, facts.name, facts.actor, facts.door,
            facts.request_id, facts.workflow_id, facts.task_id,
        )  # fmt: skip


class Touch(msgspec.Struct, frozen=True):
    """The commit that last changed a path."""

    commit: str
    time: int
    actor: Actor


class Problem(msgspec.Struct, frozen=True):
    """Something in the repository that a person must mend; reads go on with the last good value."""

    id: str
    kind: Literal["invalid", "conflict", "secret", "rewrite", "duplicate_id", "sync", "disk"]
    path: str
    code: str
    message: str
    hint: str
    since: str
    key: str | None = None
    line: int | None = None
    column: int | None = None
    values: dict[str, Any] | None = None


class Fields(msgspec.Struct, frozen=True):
    """`workspace.yaml`."""

    id: str
    name: str
    slug: str
    description: str | None = None
    repository_url: str | None = None
    is_active: bool = True
    git_webhook_provider: str | None = None


class WorkItem(msgspec.Struct, frozen=True):
    """One item of a workflow's board; kept inside the workflow's document."""

    id: str
    title: str
    stage_name: str | None = None
    state: str = "pending"


class Task(msgspec.Struct, frozen=True):
    """`tasks/<s>/<id>.yaml` of the evidence branch."""

    id: str
    title: str
    workflow_id: str | None = None
    work_item_id: str | None = None
    role: str | None = None
    stage_name: str | None = None
    state: str = "pending"
    created_at: int = 0
    updated_at: int = 0


class Workflow(msgspec.Struct, frozen=True):
    """`workflows/<s>/<id>.yaml` of the evidence branch; its tasks are documents of their own."""

    id: str
    name: str
    state: str = "pending"
    playbook_id: str | None = None
    parameters: dict[str, Any] = {}
    context: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    brief: str | None = None
    created_by: str = ""
    created_at: int = 0
    updated_at: int = 0
    started_at: int | None = None
    completed_at: int | None = None
    work_items: tuple[WorkItem, ...] = ()


class Artifact(msgspec.Struct, frozen=True):
    """One piece of evidence: `artifacts/<s>/<t>/<id>/` of the evidence branch."""

    id: str
    path: str
    content_type: str
    size: int
    sha256: str
    blob: str
    created_at: int
    metadata: dict[str, Any] = {}
    workflow_id: str | None = None
    task_id: str | None = None
    work_item_id: str | None = None
    stage_name: str | None = None
    role: str | None = None
    request_id: str | None = None
    request_digest: str | None = None
    commit: str | None = None
    retention: dict[str, Any] = msgspec.field(default_factory=lambda: {"mode": "forever"})
    expires_at: int | None = None
    pinned: bool = False
