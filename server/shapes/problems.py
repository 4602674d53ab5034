"""Problems of a workspace's files, and the state of its checkout."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from server.shapes.common import Object, Oid, Shape, Time


class Problem(msgspec.Struct, omit_defaults=True):
    """Something in the repository that a person must mend."""

    id: str
    kind: Literal["invalid", "conflict", "secret", "rewrite", "duplicate_id", "sync", "disk"]
    path: str
    key: str | None
    line: int | None
    column: int | None
    code: str
    message: str
    hint: str
    since: Time
    values: Object | UnsetType = UNSET


class Resolve(Shape):
    """Which side wins, or the value that shall stand."""

    take: Literal["file", "main"] | UnsetType = UNSET
    value: Any = UNSET

    def faults(self) -> list[tuple[str, str]]:
        """One answer, not two."""
        if (self.take is UNSET) == (self.value is UNSET):
            return [("", "give either `take` or `value`")]
        return []


class PendingEdit(msgspec.Struct):
    """An edit in the work tree that is not yet a commit."""

    path: str
    op: Literal["added", "changed", "deleted", "renamed"]
    since: Time


class Checkout(msgspec.Struct):
    """How the work tree stands."""

    mode: str
    branch: str | None
    busy: Literal["merge", "rebase", "other_branch"] | None
    pending: list[PendingEdit]


class Commit(Shape):
    """What the commit of the folder's edits is to say."""

    message: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)] | UnsetType = UNSET


class Committed(msgspec.Struct):
    """The commit (null: nothing changed), the paths in it, and what is wrong with those that stay."""

    commit: Oid | None
    paths: list[str]
    problems: list[Problem]
