"""Queries and answers of what is told of the past: differences, stories of files and keys, blame, search."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gitstore.diff import Content, FileDiff, FileName, Hunk, ValueDiff
from gitstore.model import Branch, Door, Kind, Op
from server.shapes.common import At, Id, Oid, PageNumber, PageSize, Paging, Shape, Time
from server.shapes.timeline import Entry
from server.shapes.workspaces import Actor

Path = Annotated[str, Meta(min_length=1, max_length=4096, description="a path in the workspace's tree")]
Pointer = Annotated[str, Meta(description="a JSON pointer (RFC 6901)", examples=["/rules/0/owner"])]


class Stamp(msgspec.Struct, kw_only=True):
    """Who made a commit and when."""

    commit: Oid
    created_at: Time
    kind: Kind
    name: str
    actor: Actor
    door: Door
    request_id: str | None
    workflow_id: str | None
    task_id: str | None


class ReadEntry(Shape):
    """Which of the files that the commit changed are compared."""

    path: Path | None = None
    page: PageNumber = 1
    per_page: PageSize = 100


class OneEntry(Entry, omit_defaults=True, kw_only=True):
    """An entry of the timeline, with what differs from its first parent; `diff_total` files do."""

    parents: list[Oid]
    diff: list[FileDiff]
    diff_total: int


class ReadDiff(Paging, kw_only=True):
    """From when to when; `to` is now by default. `name_status`: which files differ, without what differs in them."""

    from_: At = msgspec.field(name="from")
    to: At = "now"
    branch: Branch = "main"
    path: Path | None = None
    name_status: bool = False


class Moment(msgspec.Struct):
    """A state of both branches; null where a branch did not exist."""

    asked: str
    main: Oid | None
    evidence: Oid | None
    time: Time


class DifferingFile(FileName, frozen=True, kw_only=True):
    """One file that differs; with `name_status` only what it is called and what happened to it."""

    type: Literal["values", "text", "binary"] | UnsetType = UNSET
    values: list[ValueDiff] | UnsetType = UNSET
    hunks: list[Hunk] | UnsetType = UNSET
    old: Content | UnsetType | None = UNSET
    new: Content | UnsetType | None = UNSET
    truncated: bool | UnsetType = UNSET


class Diff(msgspec.Struct):
    """What differs between two moments: a page of the files."""

    from_: Moment = msgspec.field(name="from")
    to: Moment
    branch: Branch
    files: list[DifferingFile]


class ReadStory(Paging):
    """Which page. `cursor` is the `meta.next_cursor` of the page before."""

    cursor: str | None = None


class ReadPathStory(ReadStory, kw_only=True):
    """The story of which file."""

    path: Path
    branch: Branch = "main"


class KeyTurn(Stamp, omit_defaults=True, kw_only=True):
    """A commit that changed a key of the memory. No `value` where there was none any more, or none that can be read."""

    op: Op
    key: str
    path: str
    old_path: str | UnsetType = UNSET
    value: Any = UNSET
    truncated: bool | UnsetType = UNSET


class PathTurn(Stamp, omit_defaults=True, kw_only=True):
    """A commit that changed a file."""

    op: Op
    key: str | UnsetType = UNSET
    path: str
    old_path: str | UnsetType = UNSET
    blob: Oid | None
    size: int | None


class ReadKeyBlame(Shape):
    """Of which part of the value, and when; of all of it and now by default."""

    path: Pointer = ""
    at: At | None = None


class ReadBlame(Shape):
    """Of which file, and when."""

    path: Path
    at: At | None = None
    branch: Branch = "main"


class Blamed(msgspec.Struct, kw_only=True):
    """Who made a commit and when; all of it null where that is longer ago than is looked back.

    That is 20,000 versions, or as many as have 256 MiB together, 16 MiB of it parsed as YAML.
    """

    commit: Oid | None
    created_at: Time | None
    kind: Kind | None
    name: str | None
    actor: Actor | None
    door: Door | None
    request_id: str | None
    workflow_id: str | None
    task_id: str | None


class Leaf(Blamed, kw_only=True):
    """A value without parts (or an empty list or object), and the commit that last set it."""

    pointer: Pointer
    value: Any


class Part(Blamed, omit_defaults=True, kw_only=True):
    """A leaf of a document (`pointer`, `value`), or a line of a text (`line`, from 1, and `text`)."""

    pointer: Pointer | UnsetType = UNSET
    value: Any = UNSET
    line: int | UnsetType = UNSET
    text: str | UnsetType = UNSET


class Blame(msgspec.Struct):
    """`rows` are leaves of a YAML document (`values`), lines of any other `text`."""

    type: Literal["values", "text"]
    rows: list[Part]


class SearchHistory(Shape):
    """What text, in which part, file or key. `cursor` is the `meta.next_cursor` of the page before."""

    q: Annotated[str, Meta(min_length=1, max_length=200)]
    part: Literal["workspace", "settings", "memory", "spec", "file", "other"] | None = None
    path: Path | None = None
    key: Id | None = None
    cursor: str | None = None
    per_page: PageSize = 20


class Held(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A file that held the text, from one commit until another (null: still)."""

    path: str
    key: str | UnsetType = UNSET
    part: str
    pointer: Pointer | UnsetType = UNSET
    line: int | UnsetType = UNSET
    excerpt: str
    from_: Stamp = msgspec.field(name="from")
    until: Stamp | None
    truncated: bool | UnsetType = UNSET
