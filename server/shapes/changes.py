"""Body and answer of a change set."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gitstore.changeset import OPERATIONS_MAX, Result
from server.shapes.common import Id, Object, Oid, Shape, Text255
from server.shapes.files import Base64, FileKey
from server.shapes.spec import PutSpec
from server.shapes.undo import Message
from server.shapes.workspaces import Description, MemoryKey, RepositoryUrl, Slug

IfMatch = Annotated[str, Meta(min_length=1, max_length=300, description="an ETag, with quotes or without; `*`: any")]


class Operation(Shape, tag_field="op", kw_only=True):
    """What every operation may have: the state its resource must be in before the change set."""

    if_match: IfMatch | None = None
    if_none_match: Literal["*"] | None = None


class SetKey(Operation, tag="memory.set"):
    """Sets one key of the memory."""

    key: MemoryKey
    value: Any


class DeleteKey(Operation, tag="memory.delete"):
    """Deletes one key of the memory."""

    key: MemoryKey


class ReplaceSpec(Operation, tag="spec.put"):
    """Replaces the whole spec."""

    value: PutSpec


class PatchSpec(Operation, tag="spec.patch"):
    """Merges a patch (RFC 7396) into the spec."""

    value: Object


class PutFile(Operation, tag="file.put"):
    """Stores a file; its content as text, or as base 64."""

    file_name: Text255
    content: str | UnsetType = UNSET
    content_base64: Base64 | UnsetType = UNSET
    content_type: Text255 | None = None
    description: Description | None = None
    key: FileKey | None = None


class DeleteFile(Operation, tag="file.delete"):
    """Deletes a file, by its key or id."""

    key: Annotated[str, Meta(min_length=1, max_length=255)]


class PatchSettings(Operation, tag="settings.patch"):
    """Merges a patch (RFC 7396) into the settings."""

    value: Object


class Fields(Shape):
    """Fields of a workspace."""

    name: Text255 | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    repository_url: RepositoryUrl | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET


class PatchWorkspace(Operation, tag="workspace.patch"):
    """Changes fields of the workspace."""

    value: Fields


AnyOperation = (
    SetKey | DeleteKey | ReplaceSpec | PatchSpec | PutFile | DeleteFile | PatchSettings | PatchWorkspace
)  # fmt: skip


class ChangeSet(Shape):
    """Operations that become one commit, in their order. A `request_id` is answered once: the same again, the same."""

    message: Message
    operations: Annotated[list[AnyOperation], Meta(min_length=1, max_length=OPERATIONS_MAX)]
    expect_head: Oid | None = None
    request_id: Id | None = None

    def faults(self) -> list[tuple[str, str]]:
        """What each operation says must hold together."""
        found = []
        for at, one in enumerate(self.operations):
            place = f"/operations/{at}"
            if isinstance(one, PutFile) and (one.content is UNSET) == (one.content_base64 is UNSET):
                found.append((place, "give either `content` or `content_base64`"))
            if isinstance(one, PatchWorkspace) and all(
                getattr(one.value, name) is UNSET for name in one.value.__struct_fields__
            ):
                found.append((f"{place}/value", f"give at least one of {', '.join(one.value.__struct_fields__)}"))
        return found


class Changed(msgspec.Struct):
    """What became of it, operation by operation; `commit` is null where nothing is different."""

    head: Oid
    commit: Oid | None
    results: list[Result]
