"""Queries and answers of search: one ranked list of whatever there is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gitstore.search import KINDS, Kind
from server.shapes.common import PageSize, Shape, Time

Q = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=500,
        description='words that must all be there; `"a phrase"`, `begin*`, `-not`, `field:word`',
        examples=['"release policy" kind:memory -draft'],
    ),
]


class Search(Shape):
    """What is looked for, and which page of it. `kind`: one, or several with commas between."""

    q: Q
    kind: Annotated[str, Meta(max_length=100)] | None = None
    sort: Literal["relevance", "newest"] = "relevance"
    page: Annotated[int, Meta(ge=1, le=10_000)] = 1
    per_page: PageSize = 20

    def kinds(self) -> list[Any] | None:
        """The kinds that are asked for; None: all."""
        return list(dict.fromkeys(part.strip() for part in self.kind.split(","))) if self.kind else None

    def faults(self) -> list[tuple[str, str]]:
        """Kinds that there are not."""
        wrong = [one for one in self.kinds() or () if one not in KINDS]
        return [("/kind", f"must be of {', '.join(KINDS)}; there is no kind {', '.join(wrong)}")] if wrong else []


class SearchEverywhere(Search):
    """The same in some workspaces. `workspace`: an id or a slug, or several with commas between; all by default."""

    workspace: Annotated[str, Meta(max_length=4000)] | None = None


class Place(msgspec.Struct):
    """The workspace it is in."""

    id: str
    slug: str
    name: str


class Found(msgspec.Struct):
    """A hit. `id` is the key of a memory entry or file, the part of a spec, the id of anything else.

    `highlight` is HTML: text that is escaped, with `<mark>` around the words that were found.
    """

    kind: Kind
    id: str
    title: str
    workspace: Place
    highlight: str
    url: str | None
    score: float
    updated_at: Time
