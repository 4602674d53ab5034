"""Pages of a workspace's history: newest first by effective time, then branch, then place on the branch.

That order is a function of the branches alone, so it is the same after the index was built anew, and a cursor, which
names the last entry given, stays good while commits arrive. `history` owns the tables that are read here.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any

import msgspec

from gitstore import errors
from gitstore.database import LIMIT, bind, clip
from gitstore.model import Branch, CommitFacts

CHANGES_SHOWN = 100
BRANCHES: tuple[Branch, ...] = ("evidence", "main")
"""By rank: of two commits of one millisecond the one on `main` counts as the newer."""

POSITION_BITS = 32
_CURSOR = struct.Struct(">BqBI")
_CURSOR_FORM = 1


# The SQL below is put together from constants only; every value is bound.
_TERM = "SELECT id FROM terms WHERE workspace=? AND text=?"
_EXACT = f" FROM postings p%s WHERE p.term=({_TERM})"
_ALSO = f" AND EXISTS (SELECT 1 FROM postings q WHERE q.term=({_TERM}) AND q.time=p.time AND q.seq=p.seq)"  # noqa: S608
RANGE = "SELECT id FROM terms WHERE workspace=? AND text >= ? AND text < ?"
_UNDER = " UNION ALL ".join([_TERM, RANGE] * len(BRANCHES))
_BELOW = f" FROM (SELECT DISTINCT time, seq FROM postings WHERE term IN ({_UNDER})) p%s WHERE 1"  # noqa: S608


class TimelineQuery(msgspec.Struct, frozen=True):
    """Which entries, and which page of them; every filter given must hold.

    `actor`: an actor's id, name or type. `path`: a path or a folder, on both branches. `since` and `until`: effective
    time, both inclusive. `text`: part of the one-line name, ignoring case. A `cursor` takes the place of `page`.
    """

    kind: str | None = None
    actor: str | None = None
    door: str | None = None
    path: str | None = None
    key: str | None = None
    workflow_id: str | None = None
    task_id: str | None = None
    since: int | None = None
    until: int | None = None
    text: str | None = None
    page: int = 1
    per_page: int = 20
    cursor: str | None = None


class Entry(msgspec.Struct, frozen=True):
    """One commit; `facts.changes` holds the first 100 of `changes_total` changes."""

    facts: CommitFacts
    changes_total: int


class TimelinePage(msgspec.Struct, frozen=True):
    """`total` counts what the filters let through, over all pages; `next_cursor` is None on the last page."""

    entries: tuple[Entry, ...]
    total: int
    next_cursor: str | None


class Arm(msgspec.Struct, frozen=True):
    """One stream of entries in SQL: `source` is everything from FROM on; `row` names what has `time` and `seq`."""

    row: str
    source: str
    parameters: list[Any]


def line_of(workspace: int, branch: Branch) -> int:
    """The number of a branch of a workspace."""
    return workspace * len(BRANCHES) + BRANCHES.index(branch)


def span(line: int) -> tuple[int, int]:
    """The first `seq` of a line and the first one beyond it."""
    return line << POSITION_BITS, (line + 1) << POSITION_BITS


def term(sort: bytes, text: str) -> bytes:
    """What a posting is filed under: `J`ob (task), `W`orkflow, `K`ey, `C` for kind, `T`op-level name; and the text."""
    return sort + text.encode("utf-8", "surrogatepass")


def path_term(branch: Branch, path: str) -> bytes:
    """What the commits that changed a path are filed under."""
    return (b"P1" if branch == "main" else b"P0") + path.encode("utf-8", "surrogatepass")


def write_cursor(workspace: int, time: int, seq: int) -> str:
    """The opaque text that names the entry (`time`, `seq`); it outlives the numbering of workspaces."""
    line, position = seq >> POSITION_BITS, seq & ((1 << POSITION_BITS) - 1)
    packed = _CURSOR.pack(_CURSOR_FORM, time, line - workspace * len(BRANCHES), position)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_cursor(workspace: int, cursor: str) -> tuple[int, int]:
    """(`time`, `seq`) of the entry that the cursor names. Raises errors.Invalid for any other text."""
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        form, time, branch, position = _CURSOR.unpack(packed)
    except (ValueError, binascii.Error, struct.error) as error:
        raise errors.Invalid("the cursor is not one that this list gave out") from error
    if form != _CURSOR_FORM or branch >= len(BRANCHES) or abs(time) >= LIMIT:
        raise errors.Invalid("the cursor is not one that this list gave out")
    return time, ((workspace * len(BRANCHES) + branch) << POSITION_BITS) | position


def arms(workspace: int, query: TimelineQuery, *, folder: bool) -> list[Arm]:
    """The streams whose union is every entry that the filters let through, each entry in exactly one of them.

    `folder`: whether anything was ever below `query.path` (only asked where the path has a `/`).
    """
    path = folder_path(query)
    named = ((b"J", query.task_id), (b"W", query.workflow_id), (b"K", query.key), (b"C", query.kind))
    terms = [term(sort, text) for sort, text in named if text is not None]
    paths = [path_term(branch, path) for branch in BRANCHES]
    alternatives: list[tuple[str, list[Any]]]
    if folder:
        alternatives = [
            (_BELOW, [value for low in paths for value in (workspace, low, workspace, low + b"/", low + b"0")])
        ]
    elif "/" in path:
        alternatives = [(_EXACT, [workspace, one]) for one in paths]
    elif path or terms:
        alternatives = [(_EXACT, [workspace, term(b"T", path) if path else terms.pop(0)])]
    else:
        where, values = _where("c", query)
        return [
            Arm("c", f" FROM commits c WHERE c.line=?{where}", [line_of(workspace, branch), *values])
            for branch in BRANCHES
        ]
    where, values = _where("p", query)
    joined = " CROSS JOIN commits c ON c.seq=p.seq" if "c." in where else ""
    for other in terms:
        where += _ALSO
        values += [workspace, other]
    return [Arm("p", f"{source % joined}{where}", [*given, *values]) for source, given in alternatives]


def folder_path(query: TimelineQuery) -> str:
    """The path that is asked for, without slashes around it."""
    return query.path.strip("/") if query.path else ""


def page(streams: list[Arm], before: tuple[int, int] | None, limit: int, offset: int) -> tuple[str, list[Any]]:
    """The look-up of (`time`, `seq`) of the entries older than `before`, newest first."""
    parts, parameters = [], []
    for arm in streams:
        bound = f" AND ({arm.row}.time, {arm.row}.seq) < (?, ?)" if before else ""
        parts.append(f"SELECT {arm.row}.time AS time, {arm.row}.seq AS seq{arm.source}{bound}")
        parameters += [*arm.parameters, *(before or ())]
    sql = " UNION ALL ".join(parts) + " ORDER BY time DESC, seq DESC LIMIT ? OFFSET ?"
    return sql, [*parameters, limit, offset]


def count(arm: Arm, line: int, since: int, start: int) -> tuple[str, list[Any]]:
    """The look-up of how many entries of a line are in the stream from `seq` `start`, which is of time `since`, on.

    Time never goes back along a line, so nothing from `start` on is older than `since`. The `+` keeps SQLite from
    walking the rows of the commits by `seq` instead of the index by time.
    """
    sql = f"SELECT count(*){arm.source} AND {arm.row}.time >= ? AND +{arm.row}.seq >= ? AND +{arm.row}.seq < ?"
    return sql, [*arm.parameters, since, start, span(line)[1]]


def tally(arm: Arm, step: int) -> tuple[str, list[Any]]:
    """The look-up of (span of `step` ms since 1970, door, how many entries) of a stream."""
    row, source = arm.row, arm.source
    if row != "c":
        row, source = "d", f" FROM (SELECT {row}.seq AS seq{source}) s CROSS JOIN commits d ON d.seq=s.seq"
    span_ = f"({row}.time - (({row}.time % ?) + ?) % ?) / ?"  # SQLite's division rounds towards zero
    sql = f"SELECT {span_}, {row}.door, count(*){source} GROUP BY 1, 2"
    return sql, [step, step, step, step, *arm.parameters]


def filters(query: TimelineQuery) -> tuple[Any, ...]:
    """What of a query decides its total."""
    return (
        query.kind,
        query.actor,
        query.door,
        folder_path(query),
        query.key,
        query.workflow_id,
        query.task_id,
        query.since,
        query.until,
        query.text,
    )


def _where(row: str, query: TimelineQuery) -> tuple[str, list[Any]]:
    """The conditions on a commit `c` of which `row` has the time."""
    where = ""
    values: list[Any] = []
    if query.door is not None:
        where += " AND c.door=?"
        values.append(bind(query.door))
    if query.actor is not None:
        where += " AND c.actor IN (SELECT id FROM actors WHERE type=? OR ident=? OR name=?)"
        values += [bind(query.actor)] * 3
    if query.since is not None:
        where += f" AND {row}.time >= ?"
        values.append(clip(query.since))
    if query.until is not None:
        where += f" AND {row}.time <= ?"
        values.append(clip(query.until))
    if query.text:
        # A name is kept folded only where it is not ASCII; for ASCII `lower` folds as Python does.
        where += " AND instr(coalesce(c.folded, lower(c.name)), ?) > 0"
        values.append(bind(query.text.casefold()))
    return where, values
