"""Query and entries of the timeline."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gitstore.model import Door, Kind, Op
from server.shapes.common import Id, Oid, Paging, Time
from server.shapes.workspaces import Actor


class ReadTimeline(Paging):
    """Which entries. `cursor` is the `meta.next_cursor` of the page before."""

    cursor: str | None = None
    kind: Kind | None = None
    actor: str | None = None
    door: Door | None = None
    path: str | None = None
    key: str | None = None
    workflow_id: Id | None = None
    task_id: Id | None = None
    q: Annotated[str, Meta(max_length=200, description="part of the one-line name, ignoring case")] | None = None
    since: str | None = None
    until: str | None = None


class Change(msgspec.Struct, omit_defaults=True):
    """One path that the commit changed."""

    path: str
    op: Op
    key: str | UnsetType = UNSET
    old_path: str | UnsetType = UNSET


class Entry(msgspec.Struct, omit_defaults=True):
    """One commit; at most 100 `changes`, of `changes_total`. Times of its course are there where a workflow ended."""

    id: Oid
    kind: Kind
    name: str
    state: str
    created_at: Time
    actor: Actor
    door: Door
    request_id: str | None
    workflow_id: str | None
    task_id: str | None
    changes: list[Change]
    changes_total: int
    started_at: Time | UnsetType | None = UNSET
    completed_at: Time | UnsetType | None = UNSET
    duration_seconds: float | UnsetType | None = UNSET
