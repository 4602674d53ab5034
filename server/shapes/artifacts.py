"""Bodies, queries and answers of artifacts and their explorer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from server.shapes.common import At, Id, Object, Oid, PageSize, Shape, Text255, Time
from server.shapes.files import Base64

LogicalPath = Annotated[str, Meta(min_length=1, max_length=1024)]
PreviewMode = Literal["text", "image", "pdf", "unsupported"]
ContentIndexed = Annotated[
    Literal["full", "partial", "none", "pending"],
    Meta(description="how far search has the content: all, its beginning, nothing of it, nothing yet"),
]
Day = Annotated[str, Meta(description="YYYY-MM-DD, a UTC day")]


class UploadTaskArtifact(Shape):
    """Evidence of a task. `request_id` makes a repeated request the same request."""

    path: LogicalPath
    content_base64: Base64
    content_type: Text255 | None = None
    metadata: Object = msgspec.field(default_factory=dict)
    request_id: Text255 | None = None


class UploadArtifact(UploadTaskArtifact):
    """Evidence of a workspace, of whatever it belongs to."""

    workflow_id: Id | None = None
    task_id: Id | None = None
    work_item_id: Id | None = None
    stage_name: Text255 | None = None
    role: Text255 | None = None


class ArtifactFields(Shape):
    """The fields of an upload whose body is the content itself: a raw body's query, a multipart body's parts.

    `path` may come from either, so its absence is for the handler to judge; `metadata` is JSON text here.
    """

    path: LogicalPath | None = None
    content_type: Text255 | None = None
    metadata: str | None = None
    request_id: Text255 | None = None
    workflow_id: Id | None = None
    task_id: Id | None = None
    work_item_id: Id | None = None
    stage_name: Text255 | None = None
    role: Text255 | None = None


class ListTaskArtifacts(Shape):
    """Which of the task's artifacts: those whose path begins with `prefix`, taken literally."""

    prefix: str | None = None


class ExploreArtifacts(Shape):
    """Search, filters, order and page of the explorer."""

    q: Annotated[str, Meta(max_length=200)] | None = None
    workflow_id: Id | None = None
    work_item_id: Id | None = None
    task_id: Id | None = None
    stage_name: Text255 | None = None
    role: Text255 | None = None
    content_type: Text255 | None = None
    preview_mode: Literal["inline", "download"] | None = None
    created_from: Day | None = None
    created_to: Day | None = None
    sort: Literal["newest", "oldest", "largest", "smallest", "name", "relevance"] | None = None
    at: At | None = None
    page: Annotated[int, Meta(ge=1, le=10000)] = 1
    per_page: PageSize = 20


class Artifact(msgspec.Struct):
    """An artifact's record."""

    id: str
    workflow_id: str | None
    workspace_id: str
    task_id: str | None
    logical_path: str
    content_type: str
    size_bytes: int
    checksum_sha256: str
    metadata: Object
    retention_policy: Object
    expires_at: Time | None
    created_at: Time
    download_url: str
    preview_url: str | None
    permalink_url: str | None
    preview_eligible: bool
    preview_mode: PreviewMode
    storage_backend: str
    commit: Oid | None
    pinned: bool
    content_indexed: ContentIndexed


class Permalink(msgspec.Struct):
    """Where the artifact stays reachable."""

    permalink_url: str


class ArtifactRow(msgspec.Struct, omit_defaults=True):
    """One row of the explorer."""

    id: str
    workflow_id: str | None
    task_id: str | None
    logical_path: str
    content_type: str
    size_bytes: int
    created_at: Time
    download_url: str
    metadata: Object
    workflow_name: str
    workflow_state: str | None
    work_item_id: str | None
    work_item_title: str | None
    stage_name: str | None
    role: str | None
    task_title: str | None
    task_state: str
    preview_eligible: bool
    preview_mode: PreviewMode
    content_indexed: ContentIndexed | UnsetType = UNSET
    highlight: Any | UnsetType = UNSET
