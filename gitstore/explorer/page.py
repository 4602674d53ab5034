"""One page of the explorer, and the passages of its rows in which the words were found."""

from __future__ import annotations

import html
from typing import Any

import msgspec

from gitstore.explorer.joined import Row, labels
from gitstore.model import Artifact
from gitstore.query import ExplorerQuery
from gitstore.search.documents import Standing
from gitstore.search.query import And, Field, Literal, Not, Phrase, Prefix, Query, Word
from gitstore.search.words import fold, snippet, words

FACET_MAX = 100


class ExplorerPage(msgspec.Struct, frozen=True):
    """One page of rows (JSON, as the API shows them); total, summary and filters are of all that matched.

    `artifacts` are those of the rows, None for one that went away meanwhile. `standing` says whether the search index
    has everything; the answer is right in either case.
    """

    rows: list[dict[str, Any]]
    total: int
    summary: dict[str, int]
    filters: dict[str, list[Any]]
    artifacts: list[Artifact | None]
    standing: Standing = Standing()


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """A question to the explorer; without a query, for the count alone. `limit`: seconds that the answer may take, once
    what the workspace has is in memory.
    """

    workspace: str
    now: int
    query: ExplorerQuery | None
    limit: float


class Explored(msgspec.Struct, frozen=True, array_like=True):
    """An answer: each row of the page joined, and its artifact whole; the rest is of all that matched."""

    rows: list[tuple[Row, Artifact]]
    total: int
    summary: dict[str, int]
    filters: dict[str, list[Any]]


class Sought(msgspec.Struct, frozen=True):
    """One thing that a query looks for: as a part of a path, and the words that it has."""

    folded: str
    words: tuple[str, ...]


def sought(query: Query) -> list[Sought]:
    """Everything a query looks for, what it excludes left out."""
    if isinstance(query, And):
        return [one for node in query.nodes for one in sought(node)]
    if isinstance(query, Field):
        return sought(query.node)
    if isinstance(query, Literal):
        return [Sought(fold(query.text), words(query.text))]
    if isinstance(query, Word):
        return [Sought(query.term, (query.term,))]
    if isinstance(query, Prefix):
        return [Sought(query.term, ())]
    if isinstance(query, Phrase):
        return [Sought(" ".join(query.terms), query.terms)]
    assert isinstance(query, Not)
    return []


def artifacts_meant(value: Query) -> bool:
    """Whether the value of `kind:` is that of artifacts, which is all that the explorer has."""
    return isinstance(value, (Literal, Word)) and sought(value)[0].folded == "artifact"


def highlight(row: Row, parts: list[Sought], content: str | None) -> str:
    """HTML: the passage with the hits, from the content if they are there, else from the path, else from a label."""
    wanted = frozenset(word for part in parts for word in part.words)
    needles = [part.folded for part in parts]
    if content is not None and (passage := snippet(content, wanted)) is not None:
        return passage
    for place in (row.artifact.path, *labels(row)):
        if place is not None and (passage := snippet(place, wanted, needles)) is not None:
            return passage
    return html.escape(row.artifact.path)
