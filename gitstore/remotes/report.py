"""The answer of an access check, and the exception that carries a failed one up to the place where it is written."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

Reason = Literal[
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
REASONS: tuple[str, ...] = get_args(Reason)


class AccessReport(msgspec.Struct, frozen=True):
    """What a check found. No field ever holds a token or a password.

    `ok`: the repository can be read and, if a branch was asked for, has it. `repository_url`: the URL that was
    tested, without a user name in http(s). `default_branch`: the branch that was asked for; if none was, the one that
    the host's HEAD names. `branch_verified`: a branch was asked for and exists. `head`: the commit of the
    `default_branch` (of a detached HEAD if there is none), 40 hexadecimal digits, or 64 where the host uses SHA-256.
    `branches`: how many there are. `reason` is None exactly if `ok`. `message` is for a person.
    """

    ok: bool
    repository_url: str
    default_branch: str | None
    branch_verified: bool
    head: str | None
    branches: int
    reason: Reason | None
    message: str
    duration_ms: int


class Failed(Exception):
    """A check that ends here, with the report's `reason` and `message`; it never leaves `gitstore.remotes`."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message
