"""Bodies and answers of what turns `main` back."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gitstore.diff import FileDiff
from gitstore.reverting import Obstacle
from server.shapes.common import At, Id, Oid, Shape
from server.shapes.history import Path, Stamp
from server.shapes.workspaces import MemoryKey

Message = Annotated[str, Meta(min_length=1, max_length=200, description="the subject of the commit")]
CommitId = Annotated[str, Meta(pattern="^[0-9a-fA-F]{4,40}$", description="a commit: 4 digits of its id or more")]


class Try(Shape):
    """Whether only to tell what would happen."""

    dry_run: bool = False


class Restore(Shape):
    """To when, and what: everything, or files and folders by path, or memory keys."""

    at: At
    paths: Annotated[list[Path], Meta(min_length=1, max_length=1000)] | UnsetType = UNSET
    keys: Annotated[list[MemoryKey], Meta(min_length=1, max_length=1000)] | UnsetType = UNSET
    message: Message | None = None

    def faults(self) -> list[tuple[str, str]]:
        """They are two ways to say it."""
        return [] if UNSET in (self.paths, self.keys) else [("", "give either `paths` or `keys`")]


class Revert(Shape):
    """Which commits: by id, or all that have this cause."""

    commits: Annotated[list[CommitId], Meta(min_length=1, max_length=1000)] | UnsetType = UNSET
    actor: Id | None = None
    workflow_id: Id | None = None
    task_id: Id | None = None
    request_id: Id | None = None
    since: str | None = None
    until: str | None = None
    on_conflict: Literal["refuse", "keep", "force"] = "refuse"
    message: Message | None = None

    def faults(self) -> list[tuple[str, str]]:
        """Either commits, or a cause that says who or what."""
        named = any((self.actor, self.workflow_id, self.task_id, self.request_id))
        if self.commits is not UNSET:
            if named or self.since is not None or self.until is not None:
                return [("", "give either `commits` or a cause")]
        elif not named:
            return [("", "give `commits`, or at least one of `actor`, `workflow_id`, `task_id`, `request_id`")]
        return []


class Restored(msgspec.Struct):
    """What was made of it; `commit` is null where nothing is different, and with `dry_run`."""

    commit: Oid | None
    head: Oid
    changes: list[FileDiff]
    changes_total: int


class Reverted(Restored):
    """What was undone, newest first, and the later values that are in the way, or were."""

    reverted: list[Stamp]
    reverted_total: int
    conflicts: list[Obstacle]
    conflicts_total: int
