"""The writing half of the history index: commits of a line, in their order, become rows.

One `Intake` is one transaction's worth. Rows of the busy tables are collected and written together at the end; what
needs to be read back within the transaction (files and their versions) is written at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from gitstore import errors, names
from gitstore.database import Row, bind, insert, pack, unbind
from gitstore.model import Actor, ChangedPath, CommitFacts
from gitstore.timeline import CHANGES_SHOWN, POSITION_BITS, line_of, path_term, span, term

SPEC = b"s"
LAST_NUMBER = "SELECT number FROM versions WHERE workspace=? AND resource=? ORDER BY seq DESC LIMIT 1"
"""The number of the newest version of a resource."""

_TERMS_KEPT = 50_000
_ASKED_AT_ONCE = 1_000
_FIND_TERMS = (
    "WITH asked(workspace, text) AS (VALUES {}) SELECT t.workspace, t.text, t.id FROM asked"
    " CROSS JOIN terms t ON t.workspace=asked.workspace AND t.text=asked.text"
)


class Line(msgspec.Struct, frozen=True):
    """What is indexed of one branch: its last commit, how many, and the first and last effective time."""

    head: str
    count: int
    first: int
    last: int


class Known:
    """What the index keeps in memory: the numbers of workspaces and actors, the lines, and some terms."""

    def __init__(self) -> None:
        self.workspaces: dict[str, int] = {}
        self.lines: dict[int, Line] = {}
        self.actors: dict[int, Actor] = {}
        self.actor_ids: dict[Actor, int] = {}
        self.terms: dict[tuple[int, bytes], int] = {}
        self.next_term = 1

    def recall(self, connection: sqlite3.Connection) -> None:
        """Begin again from what is in the tables."""
        self.workspaces = dict(connection.execute("SELECT uuid, id FROM workspaces"))
        self.lines = {
            line: Line(head.hex(), count, first, last)
            for line, head, count, first, last in connection.execute("SELECT line, head, count, first, last FROM lines")
        }
        self.actors = {
            number: Actor(kind, unbind(ident), unbind(name))
            for number, kind, ident, name in connection.execute("SELECT id, type, ident, name FROM actors")
        }
        self.actor_ids = {actor: number for number, actor in self.actors.items()}
        self.terms = {}
        self.next_term = (connection.execute("SELECT max(term) FROM postings").fetchone()[0] or 0) + 1


class Intake:
    """Takes one batch of commits in, over the connection of an open transaction."""

    def __init__(self, connection: sqlite3.Connection, known: Known) -> None:
        self._connection = connection
        self._known = known
        if len(known.terms) > _TERMS_KEPT:
            known.terms.clear()
        self._lines: dict[int, Line] = {}
        self._commits: list[Row] = []
        self._further: list[Row] = []
        self._renames: list[Row] = []
        self._filed: dict[tuple[int, bytes], list[tuple[int, int]]] = {}
        self._paths: dict[tuple[int, bytes], tuple[int, str | None]] = {}
        self._spec_numbers: dict[int, int] = {}

    def take(self, batch: Iterable[tuple[str, CommitFacts]]) -> dict[int, Line]:
        """Write the batch; the answer is the lines that grew, as they are when the transaction is done."""
        for workspace, facts in batch:
            self._take(workspace, facts)
        insert(self._connection, "INSERT INTO commits", self._commits)
        insert(self._connection, "INSERT INTO further", self._further)
        insert(self._connection, "INSERT INTO renames", self._renames)
        self._write_terms()
        self._connection.executemany(
            "INSERT INTO lines VALUES(?,?,?,?,?) ON CONFLICT(line) DO UPDATE"
            " SET head=excluded.head, count=excluded.count, last=excluded.last",
            [(line, bytes.fromhex(to.head), to.count, to.first, to.last) for line, to in self._lines.items()],
        )
        return self._lines

    def _take(self, workspace: str, facts: CommitFacts) -> None:
        number = self._known.workspaces.get(workspace) or self._number(workspace)
        line = line_of(number, facts.branch)
        known = self._lines.get(line) or self._known.lines.get(line)
        if known is None:
            position, first = 0, facts.time
        elif facts.parents and facts.parents[0] == known.head:
            position, first = known.count, known.first
            if facts.time < known.last:
                raise ValueError(f"{facts.id}: effective time goes back along {facts.branch}")
        elif self._has(line, facts.id):
            return
        else:
            raise errors.Damaged(
                f"the history index ends {facts.branch} of {workspace} at {known.head},"
                f" which is not the first parent of {facts.id}"
            )
        self._lines[line] = Line(facts.id, position + 1, first, facts.time)
        seq = line << POSITION_BITS | position
        shown = facts.changes
        if len(shown) > CHANGES_SHOWN:
            self._further.append((seq, pack(shown[CHANGES_SHOWN:])))
            shown = shown[:CHANGES_SHOWN]
        self._commits.append(
            (
                seq,
                line,
                facts.time,
                bytes.fromhex(facts.id),
                bytes.fromhex("".join(facts.parents)),
                bind(facts.kind),
                bind(facts.name),
                None if facts.name.isascii() else bind(facts.name.casefold()),
                self._known.actor_ids.get(facts.actor) or self._actor(facts.actor),
                bind(facts.door),
                bind(facts.state),
                bind(facts.request_id),
                bind(facts.workflow_id),
                bind(facts.task_id),
                pack(shown),
                len(facts.changes),
            )
        )
        self._post(number, seq, facts)
        if facts.branch == "main":
            parts = {part for change in facts.changes for part in change.parts}
            if "spec" in parts:
                self._count_spec(number, seq)
            if "file" in parts:
                self._count_files(number, seq, facts)

    def _post(self, number: int, seq: int, facts: CommitFacts) -> None:
        """File the commit under everything it can be asked for by, and remember which paths it left behind."""
        terms = {term(b"C", facts.kind)}
        if facts.workflow_id is not None:
            terms.add(term(b"W", facts.workflow_id))
        if facts.task_id is not None:
            terms.add(term(b"J", facts.task_id))
        paths: dict[str, str | None] = {}
        for change in facts.changes:
            if change.old_path is not None:
                paths.setdefault(change.old_path, None)
                if change.op == "renamed":
                    now, then = path_term(facts.branch, change.path), path_term(facts.branch, change.old_path)
                    self._renames.append((number, now, facts.time, seq, then))
            paths[change.path] = None if change.op == "deleted" else change.part
            terms.update(term(b"K", key) for key in change.keys)
        sort = b"P1" if facts.branch == "main" else b"P0"
        for path, part in paths.items():
            text = path.encode("utf-8", "surrogatepass")
            terms.add(b"T" + text.partition(b"/")[0])
            terms.add(sort + text)
            self._paths[number, sort + text] = (seq, part)
        commit = (facts.time, seq)
        filed = self._filed
        for text in terms:
            filed.setdefault((number, text), []).append(commit)

    def _write_terms(self) -> None:
        """Give every term that the batch mentions its number, and bring the paths among them up to date."""
        known = self._known
        new = sorted(place for place in self._filed if place not in known.terms)
        for at in range(0, len(new), _ASKED_AT_ONCE):
            asked = new[at : at + _ASKED_AT_ONCE]
            sql = _FIND_TERMS.format(",".join(["(?,?)"] * len(asked)))
            found = self._connection.execute(sql, [value for place in asked for value in place])
            known.terms.update(((workspace, text), number) for workspace, text, number in found)
        nothing = (None, None)
        rows: list[Row] = []
        for place in new:
            if place not in known.terms:
                known.terms[place] = known.next_term
                rows.append((*place, known.next_term, *self._paths.pop(place, nothing)))
                known.next_term += 1
        insert(self._connection, "INSERT INTO terms", rows)
        self._connection.executemany(
            "UPDATE terms SET last=?, part=? WHERE workspace=? AND text=?",
            [(*touch, *place) for place, touch in self._paths.items()],
        )
        postings = [(known.terms[place], time, seq) for place, commits in self._filed.items() for time, seq in commits]
        postings.sort()  # neighbours in the table are written together
        insert(self._connection, "INSERT INTO postings", postings)

    def _count_spec(self, number: int, seq: int) -> None:
        """Every commit that touches the spec makes a version, whatever it leaves of it."""
        before = self._spec_numbers.get(number)
        if before is None:
            before = _last_number(self._connection, number, SPEC)
        self._spec_numbers[number] = before + 1
        self._connection.execute(
            "INSERT INTO versions VALUES(?,?,?,?,?)", (number, SPEC, seq, before + 1, "changed" if before else "added")
        )

    def _count_files(self, number: int, seq: int, facts: CommitFacts) -> None:
        """Every commit that touches a file and leaves it existing makes a version of it.

        A content file and its meta file are one file. Its key cannot change while neither the meta file nor the path
        does, so a change of the content alone never moves it to another key.
        """
        execute = self._connection.execute
        keys: dict[bytes, None] = {}
        for path, key, gone in _file_changes(facts.changes):
            meta = path.endswith(names.META_SUFFIX)
            content = path[: -len(names.META_SUFFIX)] if meta else path
            place = (number, content.encode("utf-8", "surrogatepass"))
            row = execute("SELECT key FROM contents WHERE workspace=? AND path=?", place).fetchone()
            if row:
                keys[row[0]] = None
            if gone and not meta:
                execute("DELETE FROM contents WHERE workspace=? AND path=?", place)
            elif row is None and meta:
                continue  # a meta file without its content is no file
            elif row is None or meta:
                told = None if gone else key
                now = (told or names.key_of_path(content.removeprefix("files/"))).encode("utf-8", "surrogatepass")
                keys[now] = None
                execute(
                    "INSERT INTO contents VALUES(?,?,?) ON CONFLICT(workspace, path) DO UPDATE SET key=excluded.key",
                    (*place, now),
                )
        for one in keys:
            self._count_file(number, one, seq, facts.time)

    def _count_file(self, number: int, key: bytes, seq: int, time: int) -> None:
        execute = self._connection.execute
        place = (number, key)
        there = execute("SELECT 1 FROM contents WHERE workspace=? AND key=? LIMIT 1", place).fetchone()
        known = execute("SELECT number, created FROM files WHERE workspace=? AND key=?", place).fetchone()
        if not there and not known:
            return
        before = known[0] if known else _last_number(self._connection, number, b"f" + key)
        op, now = ("changed" if known else "added", before + 1) if there else ("deleted", before)
        execute("INSERT INTO versions VALUES(?,?,?,?,?)", (number, b"f" + key, seq, now, op))
        if there:
            execute(
                "INSERT INTO files VALUES(?,?,?,?,?) ON CONFLICT(workspace, key)"
                " DO UPDATE SET number=excluded.number, seq=excluded.seq",
                (number, key, now, time, seq),
            )
        else:
            execute("DELETE FROM files WHERE workspace=? AND key=?", place)

    def _has(self, line: int, commit: str) -> bool:
        oid = bytes.fromhex(commit)
        first, beyond = span(line)
        row = self._connection.execute(
            "SELECT 1 FROM commits WHERE substr(id, 1, 4)=? AND id=? AND +seq >= ? AND +seq < ?",
            (oid[:4], oid, first, beyond),
        ).fetchone()
        return row is not None or any(taken[1] == line and taken[3] == oid for taken in self._commits)

    def _number(self, workspace: str) -> int:
        number = self._connection.execute("INSERT INTO workspaces(uuid) VALUES(?)", (workspace,)).lastrowid
        assert number is not None
        self._known.workspaces[workspace] = number
        return number

    def _actor(self, actor: Actor) -> int:
        number = self._connection.execute(
            "INSERT INTO actors(type, ident, name) VALUES(?,?,?)", (actor.type, bind(actor.id), bind(actor.name))
        ).lastrowid
        assert number is not None
        # Before the transaction ends, so that a reader who sees the commit finds the actor.
        self._known.actors[number] = actor
        self._known.actor_ids[actor] = number
        return number


def _last_number(connection: sqlite3.Connection, workspace: int, resource: bytes) -> int:
    row = connection.execute(LAST_NUMBER, (workspace, resource)).fetchone()
    return row[0] if row else 0


def _file_changes(changes: Iterable[ChangedPath]) -> list[tuple[str, str | None, bool]]:
    """(path, key as told, whether it is gone) of what changed below `files/`; contents before meta files."""
    found: list[tuple[str, str | None, bool]] = []
    for change in changes:
        if change.old_path is not None and change.old_path.startswith("files/"):
            found.append((change.old_path, None, True))
        if change.part == "file":
            found.append((change.path, change.key, change.op == "deleted"))
    return sorted(found, key=lambda one: one[0].endswith(names.META_SUFFIX))
