"""Bodies and answers of everything that concerns another git server: checks, webhooks, following a remote."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from server.shapes.common import Shape, Text255, Time

Provider = Literal["github", "gitea", "gitlab"]


class VerifyAccess(Shape):
    """What to try: this URL, with the stored token, a given one, or none."""

    repository_url: Annotated[str, Meta(min_length=1, max_length=2048)]
    default_branch: Text255 | None = None
    git_token_mode: Literal["preserve", "replace", "clear"] = "preserve"  # noqa: S105  (a mode)
    git_token: Annotated[str, Meta(max_length=20000)] | None = None

    def faults(self) -> list[tuple[str, str]]:
        """To replace a token there must be one."""
        if self.git_token_mode == "replace" and not (self.git_token or "").strip():  # noqa: S105  (a mode)
            return [("/git_token", "is required, and not blank, with git_token_mode `replace`")]
        return []


class Access(msgspec.Struct):
    """What the check found; nothing was stored."""

    ok: bool
    repository_url: str
    default_branch: str | None
    branch_verified: bool
    head: Annotated[str, Meta(pattern="^([0-9a-f]{40}|[0-9a-f]{64})$", description="a commit of the remote")] | None
    branches: int
    reason: (
        Literal[
            "auth_failed",
            "not_found",
            "branch_not_found",
            "empty_repository",
            "timeout",
            "unreachable",
            "refused_address",
            "refused_scheme",
            "not_a_git_server",
            "host_key_mismatch",
        ]
        | None
    )
    message: str
    checked_at: Time
    duration_ms: int


class PutWebhook(Shape):
    """Who will call, and the secret it signs with."""

    provider: Provider
    secret: Annotated[str, Meta(min_length=8, max_length=20000)]


class Webhook(msgspec.Struct):
    """The webhook as it stands; the secret is never shown."""

    id: str
    name: str
    slug: str
    git_webhook_provider: Provider | None
    is_active: bool
    updated_at: Time
    git_webhook_secret_configured: bool


class Accepted(msgspec.Struct):
    """The call was taken."""

    accepted: bool


class Sync(msgspec.Struct):
    """How following the remote stands; direction, url and branch are null where none is followed."""

    state: Literal["idle", "running", "failed"]
    direction: Literal["pull", "push", "both"] | None
    url: str | None
    branch: str | None
    last_run_at: Time | None
    last_success_at: Time | None
    last_error: str | None
    ahead: int
    behind: int
    fetched: int
    merged: int
    pushed: int
    conflicts: int
