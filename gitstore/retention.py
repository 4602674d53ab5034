"""How long artifacts are kept: what their workflow says of it, and when they expire.

Keeping is the default; what expires only stops being shown, the branch keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gitstore import values
from gitstore.model import WORKFLOW_ENDED, Artifact, Workflow

DAYS_MAX: Final = 36_500
FOREVER: Final[Mapping[str, Any]] = {"mode": "forever"}
_DAY: Final = 86_400_000  # ms


def of(created_at: int, workflow: Workflow | None, pinned: bool = False) -> tuple[dict[str, Any], int | None]:
    """The policy that the workflow's metadata sets, and when an artifact of that age expires (ms), or None.

    A pinned artifact never does.

    `forever` is the default and what anything unreadable counts as: evidence is never lost to a slip. `days` counts
    from the artifact's creation. `ephemeral` expires when the workflow ends, and comes back if that is reopened.
    """
    wish = workflow.metadata.get("artifact_retention") if workflow is not None else None
    if pinned or workflow is None or not isinstance(wish, dict):
        return dict(FOREVER), None
    if wish.get("mode") == "days":
        days = wish.get("days")
        if isinstance(days, int) and not isinstance(days, bool) and 1 <= days <= DAYS_MAX:
            return {"mode": "days", "days": days}, created_at + days * _DAY
    if wish.get("mode") == "ephemeral":
        ended = workflow.completed_at if workflow.completed_at is not None else workflow.updated_at
        return {"mode": "ephemeral"}, ended if workflow.state in WORKFLOW_ENDED else None
    return dict(FOREVER), None


def retained(artifact: Artifact, workflow: Workflow | None) -> Artifact:
    """The artifact with `retention` and `expires_at` as its workflow has them now."""
    policy, expires = of(artifact.created_at, workflow, artifact.pinned)
    if expires == artifact.expires_at and policy == artifact.retention:
        return artifact
    return msgspec.structs.replace(artifact, retention=policy, expires_at=expires)


def expired(artifact: Artifact, now: int) -> bool:
    """Whether a `retained` artifact must not be shown any more at `now` (ms)."""
    return artifact.expires_at is not None and artifact.expires_at <= now


def expiry(artifact: Artifact) -> str | None:
    """When a `retained` artifact expires, in ISO-8601; None: never."""
    return None if artifact.expires_at is None else values.iso(artifact.expires_at)
