"""Bodies and answers of the spec."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gitstore.diff import ValueDiff
from server.shapes.common import At, Object, Oid, Shape, Time
from server.shapes.history import Stamp

ResourceType = Literal["repository", "search", "document_store", "cloud_account", "artifact_store", "api"]


class PutSpec(Shape):
    """The whole new spec; a part that is left out is gone."""

    resources: Object | UnsetType = UNSET
    documents: Object | UnsetType = UNSET
    tools: Object | UnsetType = UNSET
    config: Object | UnsetType = UNSET
    instructions: Object | UnsetType = UNSET


class ReadSpec(Shape):
    """Which version; the current one by default. A version that does not exist, negative ones too, is 404."""

    version: int | None = None
    at: At | None = None

    def faults(self) -> list[tuple[str, str]]:
        """They may contradict each other."""
        return [("/at", "give either `at` or `version`")] if None not in (self.at, self.version) else []


class ListResources(Shape):
    """Which resources."""

    type: Annotated[str, Meta(max_length=255)] | None = None
    at: At | None = None


class SpecVersion(msgspec.Struct):
    """One version of the spec; version 0 is none yet."""

    workspace_id: str
    version: int
    spec: Object
    created_at: Time | None
    created_by_type: str | None
    created_by_id: str | None
    commit: Oid | None


class SpecEntry(Stamp, kw_only=True):
    """One version of the spec, and the commit that made it."""

    version: int


class CompareSpecs(Shape):
    """Two versions; 0 is the empty spec before the first. By default the current one, and the one before `to`."""

    start: Annotated[int, Meta(ge=0)] | None = msgspec.field(name="from", default=None)
    to: Annotated[int, Meta(ge=0)] | None = None


class SpecDiff(msgspec.Struct):
    """What differs between two versions, in the order of the later one."""

    start: int = msgspec.field(name="from")
    to: int
    values: list[ValueDiff]


class Resource(msgspec.Struct, omit_defaults=True):
    """One resource of the spec."""

    logical_name: str
    type: ResourceType
    binding: Object
    notes: Any = UNSET


class Tools(msgspec.Struct):
    """Which tools may be used."""

    available: list[Any]
    blocked: list[Any]
