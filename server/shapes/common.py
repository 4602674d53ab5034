"""What the shapes share: the base, the limits that many of them name, and the paging of lists."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from server.http import Page


class Shape(msgspec.Struct):
    """Base of bodies and queries. Unknown fields are ignored; what is absent keeps its default."""

    def faults(self) -> list[tuple[str, str]]:
        """(JSON pointer, text) for each rule across fields that does not hold; asked once the fields are right."""
        return []


Text255 = Annotated[str, Meta(min_length=1, max_length=255)]
Id = Annotated[str, Meta(min_length=1, max_length=255)]
Time = Annotated[str, Meta(description="ISO 8601, UTC, with milliseconds and Z", examples=["2026-11-24T03:00:00.000Z"])]
Oid = Annotated[str, Meta(pattern="^[0-9a-f]{40}$", description="a commit of the workspace's repository")]
Object = dict[str, Any]
At = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description="as it was then: a commit (4 digits of its id or more), a snapshot, a tag, or a time",
        examples=["2026-11-24T03:00:00Z"],
    ),
]
PageNumber = Annotated[int, Meta(ge=1)]
PageSize = Annotated[int, Meta(ge=1, le=100)]
Scope = Literal["agent", "worker", "admin", "service"]


class Paging(Shape):
    """Which page of a list."""

    page: PageNumber = 1
    per_page: PageSize = 20

    def of(self, total: int) -> Page:
        """This page of a list of `total`."""
        return Page(self.page, self.per_page, total)


class ReadAt(Shape):
    """When; now by default."""

    at: At | None = None


class Deleted(msgspec.Struct):
    """What a deletion answers."""

    id: str
    deleted: bool
