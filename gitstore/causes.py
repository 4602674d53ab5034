"""Which commits of `main` somebody or something made: looked up in the tables of the history index, oldest first."""

from __future__ import annotations

from typing import Any

import msgspec

from gitstore.database import bind, clip
from gitstore.facts import trailer
from gitstore.timeline import path_term, term

# The SQL below is put together from constants only; every value is bound.
_TERM = "(SELECT id FROM terms WHERE workspace=? AND text=?)"


class Cause(msgspec.Struct, frozen=True):
    """What made the commits; all that is given must hold. `actor`: an id, a name or a type, as in the timeline.
    `since` and `until`: effective time, both inclusive.
    """

    actor: str | None = None
    workflow_id: str | None = None
    task_id: str | None = None
    request_id: str | None = None
    since: int | None = None
    until: int | None = None

    @property
    def named(self) -> bool:
        """Whether it says who or what, and not only when."""
        return any(part is not None for part in (self.actor, self.workflow_id, self.task_id, self.request_id))

    def text(self) -> str:
        """The cause for people: `workflow wf-1 of agent k3f`."""
        parts = (("workflow", self.workflow_id), ("task", self.task_id), ("request", self.request_id))
        found = [f"{name} {value}" for name, value in (*parts, ("actor", self.actor)) if value is not None]
        return ", ".join(found)


def caused(workspace: int, cause: Cause, low: int, high: int) -> tuple[str, list[Any]]:
    """The look-up of the `seq` of the commits of a cause from `low` to `high`, in their order."""
    posted = [(b"J", cause.task_id), (b"W", cause.workflow_id)]
    terms = [term(sort, trailer(text) or "") for sort, text in posted if text is not None]
    # What stands in few rows comes first; the `+` keeps SQLite from walking all commits by `seq` instead.
    values: list[Any] = [low, high]
    if cause.request_id is not None:
        source = " FROM commits c WHERE +c.seq >= ? AND +c.seq <= ?"
    elif terms:
        source = f" FROM postings p CROSS JOIN commits c ON c.seq=p.seq WHERE p.term={_TERM} AND c.seq BETWEEN ? AND ?"
        values = [workspace, terms[0], low, high]
    else:
        source = " FROM commits c WHERE c.seq >= ? AND c.seq <= ?"
    where = ""
    for column, text in (("request", cause.request_id), ("workflow", cause.workflow_id), ("task", cause.task_id)):
        if text is not None:
            where += f" AND c.{column}=?"
            values.append(bind(trailer(text)))
    if cause.actor is not None:
        where += " AND c.actor IN (SELECT id FROM actors WHERE type=? OR ident=? OR name=?)"
        values += [bind(cause.actor)] * 3
    for sign, moment in ((">=", cause.since), ("<=", cause.until)):
        if moment is not None:
            where += f" AND c.time {sign} ?"
            values.append(clip(moment))
    return f"SELECT c.seq{source}{where} ORDER BY c.seq", values


def touches(workspace: int, path: str, low: int, high: int) -> tuple[str, list[Any]]:
    """The look-up of the `seq` of the commits of `main` that changed a path, in their order."""
    sql = f"SELECT p.seq FROM postings p WHERE p.term={_TERM} AND p.seq >= ? AND p.seq <= ? ORDER BY p.seq"  # noqa: S608
    return sql, [workspace, path_term("main", path), low, high]


def undoings(workspace: int, low: int, high: int) -> tuple[str, list[Any]]:
    """The look-up of `seq` and id of the reverts and restores of `main`."""
    sql = (
        "SELECT c.seq, c.id FROM postings p CROSS JOIN commits c ON c.seq=p.seq"  # noqa: S608
        f" WHERE p.term IN ({_TERM}, {_TERM}) AND p.seq >= ? AND p.seq <= ?"
    )
    return sql, [workspace, term(b"C", "revert"), workspace, term(b"C", "restore"), low, high]
