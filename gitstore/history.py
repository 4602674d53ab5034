"""The index of every branch's first-parent line: what changed when, by whom, and the versions this made.

It is fed with the commits of each line in their order and answers from SQLite, never by walking. It keeps nothing that
the branches do not say: begun again and fed the same lines, in whatever interleaving, it gives the same answers.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from gitstore import causes, errors
from gitstore.asof import AsOf, FileStat
from gitstore.causes import Cause
from gitstore.database import LIMIT, Database, Row, Unpacker, clip, unbind
from gitstore.intake import LAST_NUMBER, SPEC, Intake, Known
from gitstore.model import Actor, Branch, ChangedPath, CommitFacts, Op, Stamp, Touch
from gitstore.story import Place, Story, Turn, onward
from gitstore.timeline import (
    BRANCHES,
    CHANGES_SHOWN,
    POSITION_BITS,
    RANGE,
    Arm,
    Entry,
    TimelinePage,
    TimelineQuery,
    arms,
    count,
    filters,
    folder_path,
    line_of,
    page,
    path_term,
    read_cursor,
    span,
    tally,
    term,
    write_cursor,
)

__all__ = ["AsOf", "Bounds", "Entry", "FileStat", "History", "TimelinePage", "TimelineQuery", "Version"]

_VERSION = 2
# A term is what a commit can be asked for by (see `timeline.term`); it has at least one posting.
# Of a path it also keeps the commit that touched it `last`, and the `part` while the path exists.
# A rename has the terms of the path that a file came to be at, and of that where it was.
# `seq` is the line's number and the position on it, so (time, seq) is the order of the timeline inside a workspace.
_SCHEMA = """
CREATE TABLE workspaces(id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE);
CREATE TABLE lines(line INTEGER PRIMARY KEY, head BLOB NOT NULL, count INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL);
CREATE TABLE actors(id INTEGER PRIMARY KEY, type TEXT NOT NULL, ident TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE commits(seq INTEGER PRIMARY KEY, line INTEGER NOT NULL, time INTEGER NOT NULL, id BLOB NOT NULL,
    parents BLOB NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, folded TEXT, actor INTEGER NOT NULL,
    door TEXT NOT NULL, state TEXT NOT NULL, request TEXT, workflow TEXT, task TEXT, changes BLOB NOT NULL,
    total INTEGER NOT NULL);
CREATE INDEX commits_by_time ON commits(line, time, seq, actor, door);
CREATE INDEX commits_by_id ON commits(substr(id, 1, 4));
CREATE TABLE further(seq INTEGER PRIMARY KEY, changes BLOB NOT NULL);
CREATE TABLE terms(workspace INTEGER NOT NULL, text BLOB NOT NULL, id INTEGER NOT NULL, last INTEGER, part TEXT,
    PRIMARY KEY(workspace, text)) WITHOUT ROWID;
CREATE TABLE postings(term INTEGER NOT NULL, time INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY(term, time, seq)) WITHOUT ROWID;
CREATE TABLE renames(workspace INTEGER NOT NULL, path BLOB NOT NULL, time INTEGER NOT NULL, seq INTEGER NOT NULL,
    old BLOB NOT NULL, PRIMARY KEY(workspace, path, time, seq)) WITHOUT ROWID;
CREATE TABLE versions(workspace INTEGER NOT NULL, resource BLOB NOT NULL, seq INTEGER NOT NULL,
    number INTEGER NOT NULL, op TEXT NOT NULL, PRIMARY KEY(workspace, resource, seq)) WITHOUT ROWID;
CREATE TABLE contents(workspace INTEGER NOT NULL, path BLOB NOT NULL, key BLOB NOT NULL,
    PRIMARY KEY(workspace, path)) WITHOUT ROWID;
CREATE INDEX contents_by_key ON contents(workspace, key);
CREATE TABLE files(workspace INTEGER NOT NULL, key BLOB NOT NULL, number INTEGER NOT NULL, created INTEGER NOT NULL,
    seq INTEGER NOT NULL, PRIMARY KEY(workspace, key)) WITHOUT ROWID;
"""

_FACTS = (
    "c.seq, c.time, c.id, c.parents, c.kind, c.name, c.actor, c.door, c.state, c.request, c.workflow, c.task,"
    " c.changes, c.total"
)
_STAMPS = (
    "WITH asked(id) AS (VALUES {}) SELECT c.id, c.time, c.kind, c.name, c.actor, c.door, c.request, c.workflow, c.task"
    " FROM asked a CROSS JOIN commits c ON substr(c.id, 1, 4)=substr(a.id, 1, 4) AND c.id=a.id"
    " WHERE +c.seq >= ? AND +c.seq < ? ORDER BY +c.seq"
)
_ASKED_AT_ONCE = 500
_EVERYTHING = TimelineQuery()
_HEX = frozenset("0123456789abcdef")
_TOTALS_KEPT = 1_000
_TOGETHER = 500
_changes: Unpacker[tuple[ChangedPath, ...]] = Unpacker(tuple[ChangedPath, ...])
_FOLDERS = {
    "memory": "memory/",
    "spec": "spec/",
    "file": "files/",
    "workflow": "workflows/",
    "task": "tasks/",
    "artifact": "artifacts/",
}


class Version(msgspec.Struct, frozen=True):
    """One entry of the versions of a resource. A `deleted` one carries the number of the version it ended."""

    number: int
    commit: str
    time: int
    actor: Actor
    op: Op


class Bounds(msgspec.Struct, frozen=True):
    """The effective times of a line's first and last commit, and how many there are."""

    first_time: int
    last_time: int
    count: int


class History:
    """The index in the SQLite file at `path`; `opened_empty` says that it has to be fed from the start.

    Every method may be called from any thread. Reading takes tens of microseconds, except where a filter makes a
    timeline count what it lets through for the first time. Raises what `database.Database` raises.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA, version=_VERSION)
        self.opened_empty = self._database.opened_empty
        self._known = Known()
        self._generation = 0
        self._totals: dict[tuple[Any, ...], tuple[list[int], int]] = {}
        with self._database.read() as connection:
            self._known.recall(connection)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def append(self, batch: Iterable[tuple[str, CommitFacts]]) -> None:
        """Take in commits, each the next of its line, all of them or none, in one transaction.

        A commit that is already there is passed over. Raises errors.Damaged when a commit's first parent is not the
        line's last commit (forget the branch and feed it whole), ValueError when time goes back along a line.
        """
        with self._database.lock:
            with self._changing() as connection:
                grown = Intake(connection, self._known).take(batch)
            self._known.lines.update(grown)

    def forget(self, workspace: str) -> None:
        """Drop everything about a workspace. One that is not known is no error."""
        with self._database.lock:
            number = self._known.workspaces.get(workspace)
            if number is None:
                return
            with self._changing() as connection:
                for branch in BRANCHES:
                    _drop_line(connection, number, branch)
                connection.execute("DELETE FROM workspaces WHERE id=?", (number,))
            self._known.terms.clear()
            del self._known.workspaces[workspace]
            for branch in BRANCHES:
                self._known.lines.pop(line_of(number, branch), None)
            self._generation += 1

    def forget_branch(self, workspace: str, branch: Branch) -> None:
        """Drop everything about one branch, which may then be fed from its first commit again."""
        with self._database.lock:
            number = self._known.workspaces.get(workspace)
            if number is None:
                return
            with self._changing() as connection:
                _drop_line(connection, number, branch)
            self._known.terms.clear()
            self._known.lines.pop(line_of(number, branch), None)
            self._generation += 1

    def heads(self) -> dict[tuple[str, Branch], str]:
        """The last commit that is indexed of every line there is."""
        with self._database.lock:
            lines = self._known.lines
            return {
                (workspace, branch): lines[line].head
                for workspace, number in self._known.workspaces.items()
                for branch in BRANCHES
                if (line := line_of(number, branch)) in lines
            }

    def head(self, workspace: str, branch: Branch) -> str | None:
        """The last commit that is indexed of one line; from memory."""
        number = self._known.workspaces.get(workspace)
        line = None if number is None else self._known.lines.get(line_of(number, branch))
        return None if line is None else line.head

    def bounds(self, workspace: str, branch: Branch) -> Bounds | None:
        """When a line began and was last changed, and its length; None for a line that is not known."""
        number = self._known.workspaces.get(workspace)
        line = None if number is None else self._known.lines.get(line_of(number, branch))
        return None if line is None else Bounds(line.first, line.last, line.count)

    def steps_back(self, workspace: str, branch: Branch) -> list[str]:
        """The commits of a line that are 1, 2, 4, 8 … before its newest one, and the first of all."""
        number = self._known.workspaces.get(workspace)
        line = None if number is None else self._known.lines.get(line_of(number, branch))
        if number is None or line is None:
            return []
        first = span(line_of(number, branch))[0]
        wanted = [first + line.count - 1 - (1 << power) for power in range((line.count - 1).bit_length())] + [first]
        marks = ",".join("?" * len(wanted))
        rows = self._database.rows(f"SELECT id FROM commits WHERE seq IN ({marks}) ORDER BY seq DESC", wanted)  # noqa: S608
        return [oid.hex() for (oid,) in rows]

    def timeline(self, workspace: str, query: TimelineQuery = _EVERYTHING) -> TimelinePage:
        """One page of the timeline; of an unknown workspace it is empty.

        Raises errors.Invalid for a cursor that no page gave out, and for a page or a page size below 1.
        """
        if query.page < 1 or query.per_page < 1:
            raise errors.Invalid("page and per_page begin at 1")
        number = self._known.workspaces.get(workspace)
        before = None if query.cursor is None else read_cursor(number or 0, query.cursor)
        if number is None:
            return TimelinePage((), 0, None)
        offset = 0 if before else clip((query.page - 1) * query.per_page)
        generation = self._generation
        with self._database.read() as connection:
            rows, streams = self._read(connection, number, query, before, query.per_page + 1, offset)
            total = self._total(connection, number, query, streams, generation)
        shown = rows[: query.per_page]
        following = write_cursor(number, shown[-1][1], shown[-1][0]) if len(rows) > len(shown) else None
        return TimelinePage(tuple(Entry(self._facts(row), row[13]) for row in shown), total, following)

    def activity(self, workspace: str, query: TimelineQuery, step: int) -> dict[tuple[int, str], int]:
        """How many entries a timeline has in each span of `step` ms, by (number of the span since 1970, door).

        The cursor and the page of the query do not matter. It counts what the filters let through each time; without
        filters, and for those of actor, door and time, from an index alone.
        """
        number = self._known.workspaces.get(workspace)
        if number is None:
            return {}
        found: dict[tuple[int, str], int] = {}
        with self._database.read() as connection:
            for arm in arms(number, query, folder=_has_below(connection, number, folder_path(query))):
                for span_, door, amount in connection.execute(*tally(arm, step)):
                    found[span_, unbind(door)] = found.get((span_, unbind(door)), 0) + amount
        return found

    def entries(
        self, workspace: str, query: TimelineQuery, before: Place | None, most: int
    ) -> list[tuple[Place, Entry]]:
        """The entries of the timeline before a place, newest first, without counting what else there is.

        Of the query only the filters count. A place compares with those of its own branch.
        """
        number = self._known.workspaces.get(workspace)
        if number is None:
            return []
        with self._database.read() as connection:
            rows = self._read(connection, number, query, before, most, 0)[0]
        return [((row[1], row[0]), Entry(self._facts(row), row[13])) for row in rows]

    def _read(
        self,
        connection: sqlite3.Connection,
        number: int,
        query: TimelineQuery,
        before: Place | None,
        most: int,
        offset: int,
    ) -> tuple[list[Row], list[Arm]]:
        streams = arms(number, query, folder=_has_below(connection, number, folder_path(query)))
        sql, parameters = page(streams, before, clip(most), offset)
        rows = connection.execute(
            f"WITH page AS ({sql}) SELECT {_FACTS} FROM page CROSS JOIN commits c ON c.seq=page.seq",  # noqa: S608
            parameters,
        ).fetchall()
        return rows, streams

    def commit(self, workspace: str, commit: str) -> CommitFacts | None:
        """Everything known about a commit of either line, all its changes included."""
        row = self._by_id(workspace, commit, commit, _FACTS)
        return self._whole(row[0]) if row else None

    def position(self, workspace: str, commit: str) -> int | None:
        """Where a commit stands on `main`, for `caused` and `touches`: a later one has a higher position."""
        number = self._known.workspaces.get(workspace)
        if number is None:
            return None
        first, beyond = span(line_of(number, "main"))
        return next((seq for (seq,) in self._by_id(workspace, commit, commit, "c.seq") if first <= seq < beyond), None)

    def caused(self, workspace: str, cause: Cause, until: int) -> Iterator[tuple[int, CommitFacts]]:
        """The commits of `main` up to the position `until` that have this cause, oldest first, each with its own."""
        number = self._known.workspaces.get(workspace)
        if number is None:
            return
        sql, values = causes.caused(number, cause, span(line_of(number, "main"))[0], until)
        found = [row[0] for row in self._database.rows(sql, values)]
        for at in range(0, len(found), _TOGETHER):
            some = found[at : at + _TOGETHER]
            marks = ",".join("?" * len(some))
            rows = self._database.rows(f"SELECT {_FACTS} FROM commits c WHERE c.seq IN ({marks}) ORDER BY c.seq", some)  # noqa: S608
            for row in rows:
                yield row[0], self._whole(row)

    def touches(self, workspace: str, path: str, until: int) -> list[int]:
        """The positions of the commits of `main` that changed a path, up to `until`, in their order."""
        number = self._known.workspaces.get(workspace)
        if number is None:
            return []
        sql, values = causes.touches(number, path, span(line_of(number, "main"))[0], until)
        return [row[0] for row in self._database.rows(sql, values)]

    def undoings(self, workspace: str, until: int) -> dict[int, str]:
        """The reverts and restores of `main` up to a position, by theirs."""
        number = self._known.workspaces.get(workspace)
        if number is None:
            return {}
        sql, values = causes.undoings(number, span(line_of(number, "main"))[0], until)
        return {position: oid.hex() for position, oid in self._database.rows(sql, values)}

    def find_commit(self, workspace: str, prefix: str) -> str | None:
        """The commit whose id begins with `prefix` (4 to 40 hexadecimal digits, any case), None when there is none.

        Raises errors.Invalid when there are several.
        """
        digits = prefix.lower()
        if not 4 <= len(digits) <= 40 or not set(digits) <= _HEX:
            return None
        found = {row[0] for row in self._by_id(workspace, digits.ljust(40, "0"), digits.ljust(40, "f"), "c.id")}
        if len(found) > 1:
            raise errors.Invalid(f"more than one commit begins with {prefix}")
        return found.pop().hex() if found else None

    def at_time(self, workspace: str, branch: Branch, ms: int) -> str | None:
        """The last commit of a line whose effective time is not after `ms`."""
        number = self._known.workspaces.get(workspace)
        if number is None:
            return None
        row = self._database.row(
            "SELECT c.id FROM (SELECT seq FROM commits WHERE line=? AND time <= ? ORDER BY time DESC, seq DESC LIMIT 1)"
            " t JOIN commits c ON c.seq=t.seq",
            (line_of(number, branch), clip(ms)),
        )
        return row[0].hex() if row else None

    def as_of(self, workspace: str, branch: Branch, commit: str | None) -> AsOf | None:
        """History as a commit of a line had it, without one as it was before the first.

        None for a commit that is not on the line, and for an unknown workspace.
        """
        number = self._known.workspaces.get(workspace)
        if number is None:
            return None
        first, beyond = span(line_of(number, branch))
        if commit is None:
            return AsOf(self._database, self._known.actors, number, branch, first - 1, 0)
        rows = self._by_id(workspace, commit, commit, "c.seq, c.time")
        found = next(((seq, time) for seq, time in rows if first <= seq < beyond), None)
        return AsOf(self._database, self._known.actors, number, branch, *found) if found is not None else None

    def story(self, workspace: str, branch: Branch, path: str, *, beyond: Place = (LIMIT, 0)) -> Story | None:
        """The story of the file that is or was at a path, up to the last commit of the line; None without a line.

        With `beyond` only that before this place.
        """
        number = self._known.workspaces.get(workspace)
        head = self.head(workspace, branch)
        if number is None or head is None:
            return None
        return Story(self._database, number, branch, path, beyond)

    def onward(self, workspace: str, branch: Branch, path: str, after: Place) -> Iterator[Turn]:
        """What became of the file at a path after a place, oldest first, through the renames of it, to its deletion."""
        number = self._known.workspaces.get(workspace)
        return onward(self._database, number, branch, path, after) if number is not None else iter(())

    def cursor(self, workspace: str, place: Place) -> str:
        """The opaque text that names a place on a line."""
        return write_cursor(self._known.workspaces.get(workspace, 0), *place)

    def place(self, workspace: str, cursor: str) -> Place:
        """The place that a cursor names. Raises errors.Invalid for any other text."""
        return read_cursor(self._known.workspaces.get(workspace, 0), cursor)

    def path_of_key(self, workspace: str, part: str, key: str) -> str | None:
        """Where the resource of a part of `main` with this key was last; None for one that never was.

        A key of other parts too, that thousands of their commits have named since, may be missed.
        """
        number = self._known.workspaces.get(workspace)
        if number is None:
            return None
        line = line_of(number, "main")
        rows = self._database.rows(
            "SELECT c.changes FROM postings p CROSS JOIN commits c ON c.seq=p.seq"
            " WHERE p.term=(SELECT id FROM terms WHERE workspace=? AND text=?) AND c.line=?"
            " ORDER BY p.time DESC, p.seq DESC LIMIT 1000",
            (number, term(b"K", key), line),
        )
        for (changes,) in rows:
            for one in _changes(changes):
                if (one.part, one.key) == (part, key):
                    return one.path
                if (one.old_part, one.old_key) == (part, key):
                    return one.old_path
        return None

    def stamps(self, workspace: str, commits: Iterable[str]) -> dict[str, Stamp]:
        """Who made these commits of either line, and when, by id; those that are on none are left out."""
        found: dict[str, Stamp] = {}
        number = self._known.workspaces.get(workspace)
        if number is None:
            return found
        lines = (span(line_of(number, BRANCHES[0]))[0], span(line_of(number, BRANCHES[-1]))[1])
        wanted = [bytes.fromhex(commit) for commit in dict.fromkeys(commits)]
        for at in range(0, len(wanted), _ASKED_AT_ONCE):
            some = wanted[at : at + _ASKED_AT_ONCE]
            sql = _STAMPS.format(",".join(["(?)"] * len(some)))
            for oid, time, kind, name, actor, door, request, workflow, task in self._database.rows(
                sql, (*some, *lines)
            ):
                found[oid.hex()] = Stamp(
                    oid.hex(), time, unbind(kind), unbind(name), self._known.actors[actor], unbind(door),
                    request and unbind(request), workflow and unbind(workflow), task and unbind(task),
                )  # fmt: skip
        return found

    def last_touch(self, workspace: str, branch: Branch, path: str) -> Touch | None:
        """The commit that last changed a path, its deletion included; None for a path that never was."""
        number = self._known.workspaces.get(workspace)
        if number is None:
            return None
        row = self._database.row(
            "SELECT c.id, c.time, c.actor FROM terms t CROSS JOIN commits c ON c.seq=t.last"
            " WHERE t.workspace=? AND t.text=?",
            (number, path_term(branch, path)),
        )
        return Touch(row[0].hex(), row[1], self._known.actors[row[2]]) if row else None

    def last_touches(self, workspace: str, branch: Branch, part: str) -> dict[str, Touch]:
        """The commit that last changed each path of a part, of the paths that exist, by path in the order of bytes."""
        number = self._known.workspaces.get(workspace)
        if number is None:
            return {}
        low = path_term(branch, _FOLDERS.get(part, ""))
        rows = self._database.rows(
            "SELECT substr(t.text, 3), c.id, c.time, c.actor FROM terms t CROSS JOIN commits c ON c.seq=t.last"
            " WHERE t.workspace=? AND t.text >= ? AND t.text < ? AND t.part=? ORDER BY t.text",
            (number, low, low + b"\xff", part),
        )
        actors = self._known.actors
        return {unbind(path): Touch(oid.hex(), time, actors[actor]) for path, oid, time, actor in rows}

    def versions(self, workspace: str, part: Literal["spec", "file"], key: str | None = None) -> list[Version]:
        """Every change of the spec, or of the file with `key`, on `main`; oldest first.

        Each change that leaves a file existing, and each change of the spec, has the next number from 1 on. A deletion
        of a file is listed with the number of the version it ended, and numbers go on after it: none is used twice.
        """
        number = self._known.workspaces.get(workspace)
        if number is None:
            return []
        rows = self._database.rows(
            "SELECT v.number, c.id, c.time, c.actor, v.op FROM versions v CROSS JOIN commits c ON c.seq=v.seq"
            " WHERE v.workspace=? AND v.resource=? ORDER BY v.seq",
            (number, _resource(part, key)),
        )
        return [
            Version(version, oid.hex(), time, self._known.actors[actor], op) for version, oid, time, actor, op in rows
        ]

    def version(
        self, workspace: str, part: Literal["spec", "file"], number: int, key: str | None = None
    ) -> Version | None:
        """The version of the spec, or of the file with `key`, that has this number."""
        place = (self._known.workspaces.get(workspace), _resource(part, key))
        if place[0] is None or number < 1:
            return None
        with self._database.read() as connection:
            # Numbers never fall along a line, so the place of one is found by halving.
            low, high = connection.execute(
                "SELECT (SELECT seq FROM versions WHERE workspace=?1 AND resource=?2 ORDER BY seq LIMIT 1),"
                " (SELECT seq FROM versions WHERE workspace=?1 AND resource=?2 ORDER BY seq DESC LIMIT 1)",
                place,
            ).fetchone()
            while low is not None and low < high:
                middle = (low + high) // 2
                (there,) = connection.execute(
                    "SELECT number FROM versions WHERE workspace=? AND resource=? AND seq <= ?"
                    " ORDER BY seq DESC LIMIT 1",
                    (*place, middle),
                ).fetchone()
                low, high = (low, middle) if there >= number else (middle + 1, high)
            row = connection.execute(
                "SELECT v.number, c.id, c.time, c.actor, v.op FROM versions v CROSS JOIN commits c ON c.seq=v.seq"
                " WHERE v.workspace=? AND v.resource=? AND v.seq=? AND v.number=? AND v.op <> 'deleted'",
                (*place, low, clip(number)),
            ).fetchone()
        return Version(row[0], row[1].hex(), row[2], self._known.actors[row[3]], row[4]) if row else None

    def version_page(
        self, workspace: str, part: Literal["spec", "file"], page: int, per_page: int, key: str | None = None
    ) -> tuple[list[tuple[int, CommitFacts]], int]:
        """A page of the versions, newest first: each one's number and commit; and how many changes there are in all.

        Of a commit at most 100 changes are given.
        """
        place = (self._known.workspaces.get(workspace), _resource(part, key))
        if place[0] is None:
            return [], 0
        with self._database.read() as connection:
            (total,) = connection.execute(
                "SELECT count(*) FROM versions WHERE workspace=? AND resource=?", place
            ).fetchone()
            rows = connection.execute(
                f"WITH page AS (SELECT number, seq FROM versions WHERE workspace=? AND resource=?"  # noqa: S608
                f" ORDER BY seq DESC LIMIT ? OFFSET ?) SELECT page.number, {_FACTS} FROM page"
                " CROSS JOIN commits c ON c.seq=page.seq",
                (*place, per_page, clip((page - 1) * per_page)),
            ).fetchall()
        return [(row[0], self._facts(row[1:])) for row in rows], total

    def version_count(self, workspace: str, part: Literal["spec", "file"], key: str | None = None) -> int:
        """The newest version's number, 0 when there never was one."""
        number = self._known.workspaces.get(workspace)
        if number is None:
            return 0
        row = self._database.row(LAST_NUMBER, (number, _resource(part, key)))
        return int(row[0]) if row else 0

    def file_stats(self, workspace: str) -> dict[str, FileStat]:
        """What history says of every file that exists, by key."""
        number = self._known.workspaces.get(workspace)
        if number is None:
            return {}
        rows = self._database.rows(
            "SELECT f.key, f.number, f.created, c.time, c.id FROM files f CROSS JOIN commits c ON c.seq=f.seq"
            " WHERE f.workspace=? ORDER BY f.key",
            (number,),
        )
        return {unbind(key): FileStat(version, created, time, oid.hex()) for key, version, created, time, oid in rows}

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._database.write() as connection:
                yield connection
        except BaseException:
            # What was noted in memory may not be in the tables. If they cannot be read either, the first error tells.
            with contextlib.suppress(errors.GitstoreError), self._database.read() as connection:
                self._known.recall(connection)
            raise

    def _by_id(self, workspace: str, low: str, high: str, columns: str) -> list[Row]:
        number = self._known.workspaces.get(workspace)
        if number is None or len(low) != 40 or not set(low) <= _HEX:
            return []
        first, beyond = span(line_of(number, BRANCHES[0]))[0], span(line_of(number, BRANCHES[-1]))[1]
        from_id, to_id = bytes.fromhex(low), bytes.fromhex(high)
        return self._database.rows(
            f"SELECT {columns} FROM commits c WHERE substr(c.id, 1, 4) BETWEEN ? AND ? AND c.id BETWEEN ? AND ?"  # noqa: S608
            " AND +c.seq >= ? AND +c.seq < ? ORDER BY +c.seq DESC LIMIT 3",
            (from_id[:4], to_id[:4], from_id, to_id, first, beyond),
        )

    def _total(
        self, connection: sqlite3.Connection, number: int, query: TimelineQuery, streams: list[Arm], generation: int
    ) -> int:
        """How many entries the filters let through; once counted, only what is new is counted."""
        lines = [line_of(number, branch) for branch in BRANCHES]
        counts = dict(connection.execute("SELECT line, count FROM lines WHERE line IN (?, ?)", lines).fetchall())
        now = [counts.get(line, 0) for line in lines]
        wanted = filters(query)
        if not any(wanted):
            return sum(now)
        key = (generation, number, *wanted)
        seen, total = self._totals.get(key, ([0, 0], 0))
        if any(old > new for old, new in zip(seen, now, strict=True)):
            seen, total = [0, 0], 0
        for line, old, new in zip(lines, seen, now, strict=True):
            if new > old:
                start = span(line)[0] + old
                (since,) = connection.execute("SELECT time FROM commits WHERE seq=?", (start,)).fetchone()
                for arm in streams:
                    (more,) = connection.execute(*count(arm, line, since, start)).fetchone()
                    total += more
        if len(self._totals) >= _TOTALS_KEPT:
            self._totals.clear()
        self._totals[key] = (now, total)
        return total

    def _whole(self, row: Row) -> CommitFacts:
        """The facts with all their changes."""
        facts = self._facts(row)
        if row[13] <= CHANGES_SHOWN:
            return facts
        rest = self._database.row("SELECT changes FROM further WHERE seq=?", (row[0],))
        return msgspec.structs.replace(facts, changes=facts.changes + _changes(rest[0])) if rest else facts

    def _facts(self, row: Row) -> CommitFacts:
        seq, time, oid, parents, kind, name, actor, door, state, request, workflow, task, changes, _ = row
        digits = parents.hex()
        return CommitFacts(
            id=oid.hex(),
            branch=cast(Branch, BRANCHES[(seq >> POSITION_BITS) % len(BRANCHES)]),
            parents=tuple(digits[at : at + 40] for at in range(0, len(digits), 40)),
            time=time,
            kind=unbind(kind),
            name=unbind(name),
            actor=self._known.actors[actor],
            door=unbind(door),
            changes=_changes(changes),
            state=unbind(state),
            request_id=request and unbind(request),
            workflow_id=workflow and unbind(workflow),
            task_id=task and unbind(task),
        )


def _resource(part: str, key: str | None) -> bytes:
    return SPEC if part == "spec" else b"f" + (key or "").encode("utf-8", "surrogatepass")


def _has_below(connection: sqlite3.Connection, number: int, path: str) -> bool:
    """Whether a path below the top level was ever a folder; nothing is filed under those."""
    if "/" not in path:
        return False
    lows = [path_term(branch, path) for branch in BRANCHES]
    row = connection.execute(
        " UNION ALL ".join([RANGE] * len(lows)) + " LIMIT 1",
        [value for low in lows for value in (number, low + b"/", low + b"0")],
    ).fetchone()
    return row is not None


def _drop_line(connection: sqlite3.Connection, number: int, branch: Branch) -> None:
    line = line_of(number, branch)
    connection.execute("DELETE FROM renames WHERE workspace=? AND seq >= ? AND seq < ?", (number, *span(line)))
    for table in ("commits", "further"):
        connection.execute(f"DELETE FROM {table} WHERE seq >= ? AND seq < ?", span(line))  # noqa: S608
    connection.execute(
        "DELETE FROM postings WHERE term IN (SELECT id FROM terms WHERE workspace=?) AND seq >= ? AND seq < ?",
        (number, *span(line)),
    )
    connection.execute(
        "DELETE FROM terms WHERE workspace=? AND NOT EXISTS (SELECT 1 FROM postings WHERE term=id)", (number,)
    )
    connection.execute("DELETE FROM lines WHERE line=?", (line,))
    if branch == "main":
        for table in ("versions", "contents", "files"):
            connection.execute(f"DELETE FROM {table} WHERE workspace=?", (number,))  # noqa: S608
