"""Queries and bodies that say what goes into a zip archive."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from server.shapes.artifacts import ExploreArtifacts
from server.shapes.common import At, Id, Shape


class ArchiveArtifacts(ExploreArtifacts):
    """The explorer's search and filters, whose order is that of the entries; pages mean nothing. Or ids."""

    ids: Annotated[str, Meta(description="ids of artifacts with commas between them, in place of filters")] | None = (
        None
    )


class ArchiveChosen(Shape):
    """The artifacts to pack, in this order."""

    ids: Annotated[list[Id], Meta(min_length=1)] = msgspec.field()
    at: At | None = None


class ArchiveFiles(Shape):
    """When; now by default."""

    at: At | None = None
