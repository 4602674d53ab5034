"""Bodies, queries and answers of workspaces, their settings and their memory."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.shapes.common import Id, Object, Oid, Paging, Shape, Text255, Time
from server.shapes.problems import Problem

Slug = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        description="letters, digits, `.`, `_`, `-`; begins and ends with a letter or digit; unique ignoring case",
    ),
]
Description = Annotated[str, Meta(max_length=2000)]
RepositoryUrl = Annotated[
    str, Meta(max_length=2048, description="http(s), ssh, git, or scp form; never with a password or token inside")
]
MemoryKey = Annotated[str, Meta(min_length=1, max_length=256)]


class CreateWorkspace(Shape):
    """A new workspace."""

    name: Text255
    slug: Slug
    description: Description | None = None
    repository_url: RepositoryUrl | None = None
    settings: Object = msgspec.field(default_factory=dict)
    memory: Object = msgspec.field(default_factory=dict)
    is_active: bool = True


class UpdateWorkspace(Shape):
    """Fields to change; at least one. `null` clears `description` and `repository_url`."""

    name: Text255 | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    repository_url: RepositoryUrl | UnsetType | None = UNSET
    settings: Object | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET

    def faults(self) -> list[tuple[str, str]]:
        """An update of nothing is a mistake of the caller."""
        if any(getattr(self, name) is not UNSET for name in self.__struct_fields__):
            return []
        return [("", f"give at least one of {', '.join(self.__struct_fields__)}")]


class ListWorkspaces(Paging):
    """Which workspaces, in which order."""

    q: str | None = None
    is_active: bool | None = None
    sort: Literal["newest", "oldest", "name", "updated"] = "newest"


class DeleteWorkspace(Shape):
    """Whether what depends on the workspace goes too."""

    cascade: bool = False


class SetMemory(Shape):
    """One slot (`key` and `value`), or several at once (`updates`)."""

    key: MemoryKey | UnsetType = UNSET
    value: Any = UNSET
    updates: dict[MemoryKey, Any] | UnsetType = UNSET

    def faults(self) -> list[tuple[str, str]]:
        """Exactly one of the two forms, and whole."""
        if self.updates is not UNSET:
            if self.key is not UNSET or self.value is not UNSET:
                return [("", "give either `key` and `value`, or `updates`")]
            return []
        found = [] if self.key is not UNSET else [("/key", "is required")]
        return found if self.value is not UNSET else [*found, ("/value", "is required; null is a value")]


class Workspace(msgspec.Struct):
    """The workspace record."""

    id: str
    tenant_id: str
    name: str
    slug: str
    description: str | None
    repository_url: str | None
    memory_size_bytes: int
    memory_max_bytes: int
    is_active: bool
    created_at: Time
    updated_at: Time
    current_spec_version: int
    git_webhook_provider: str | None
    git_webhook_secret_configured: bool
    settings: Object
    memory: Object
    head: Oid
    problems: list[Problem]


class Summary(msgspec.Struct):
    """How the workspace's workflows stand."""

    workflow_count: int
    open_workflow_count: int
    total_workflow_count: int
    active_workflow_count: int
    completed_workflow_count: int
    attention_workflow_count: int
    last_workflow_activity_at: Time | None


class WorkspaceRow(Workspace):
    """A record in a list."""

    summary: Summary


class DeletedWorkspace(msgspec.Struct, omit_defaults=True):
    """The workspace is in the trash; the counts are there with `cascade`."""

    id: str
    deleted: bool
    deleted_workflow_count: int | UnsetType = UNSET
    deleted_task_count: int | UnsetType = UNSET


class DeleteImpact(msgspec.Struct):
    """What a deletion would take."""

    workflows: int
    active_workflows: int
    tasks: int
    active_tasks: int
    work_items: int
    files: int
    artifacts: int


class MemorySlot(msgspec.Struct):
    """One slot and who set it."""

    key: str
    value: Any
    commit: Oid | None
    updated_at: Time
    actor: Actor | None


class Actor(msgspec.Struct):
    """Who did something."""

    type: Literal["agent", "worker", "admin", "service", "person", "system"]
    id: Id
    name: str
