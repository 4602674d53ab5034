"""How an artifact can be looked at, and where it is downloaded."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal
from urllib.parse import quote

PREVIEW_MAX: Final = 1_048_576
PREVIEW_TEXT = frozenset(
    {
        "text/plain",
        "text/markdown",
        "text/csv",
        "application/json",
        "application/ld+json",
        "application/yaml",
        "application/x-yaml",
        "text/yaml",
    }
)
PreviewMode = Literal["text", "image", "pdf", "unsupported"]


@lru_cache(maxsize=1_024)
def preview_mode(content_type: str) -> PreviewMode:
    """How content of this type can be looked at; parameters and case do not matter."""
    essence = content_type.split(";", 1)[0].strip().lower()
    if essence in PREVIEW_TEXT:
        return "text"
    if essence.startswith("image/"):
        return "image"
    return "pdf" if essence == "application/pdf" else "unsupported"


def preview_eligible(content_type: str, size: int) -> bool:
    """Whether it is shown in the browser: a type that can be looked at, and at most 1 MiB."""
    return size <= PREVIEW_MAX and preview_mode(content_type) != "unsupported"


def url(workspace_id: str, artifact_id: str, task_id: str | None) -> str:
    """Where an artifact is downloaded: the task's route if it has a task, else the workspace's. No host."""
    if task_id is not None:
        return f"/api/v1/tasks/{quote(task_id, safe='')}/artifacts/{artifact_id}"
    return f"/api/v1/workspaces/{workspace_id}/artifacts/{artifact_id}"
