"""What search holds and what it answers: documents by workspace, kind and id, and ranked hits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

Kind = Literal["artifact", "memory", "spec", "file", "workflow", "task"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Order = Literal["relevance", "newest"]


class Document(msgspec.Struct, frozen=True, array_like=True):
    """One thing that can be found, in a workspace, by its words.

    `labels` are (name, value), such as `("role", "writer")`; `time` is in ms since 1970 UTC and orders equal hits.
    """

    kind: Kind
    id: str
    title: str = ""
    text: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    time: int = 0


class Hit(msgspec.Struct, frozen=True, array_like=True):
    """A document that matched. Scores compare within one answer only."""

    workspace: str
    kind: Kind
    id: str
    score: float


class Hits(msgspec.Struct, frozen=True, array_like=True):
    """One page of what matched; `total`, `kinds` and `workspaces` count all of it.

    `kinds` leaves the filter by kind out, so that it says what another choice would give.
    """

    rows: list[Hit]
    total: int
    kinds: dict[str, int]
    workspaces: dict[str, int]


class Standing(msgspec.Struct, frozen=True):
    """How far the index is: `progress` is the part of the workspaces that are in it, from 0 to 1."""

    index: Literal["ready", "rebuilding"] = "ready"
    progress: float = 1.0


def labelled(pairs: Iterable[tuple[str, str | None]]) -> tuple[tuple[str, str], ...]:
    """The labels that have a value."""
    return tuple((name, value) for name, value in pairs if value)
