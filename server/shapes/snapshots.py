"""Bodies and answers of snapshots."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from server.shapes.common import At, Oid, Shape, Time
from server.shapes.workspaces import Actor


class PutSnapshot(Shape):
    """What to name; the newest state by default."""

    at: At | None = None
    message: Annotated[str, Meta(max_length=2000)] | None = None


class Snapshot(msgspec.Struct):
    """A named state of both branches; `commit` is of `main`."""

    name: str
    commit: Oid
    evidence: Oid | None
    message: str | None
    created_at: Time
    created_by: Actor
