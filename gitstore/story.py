"""The story of one file: every commit that changed it, newest first, through the renames that it came by.

A rename counts where git sees one in content that stayed the same. Before it the file is followed under the path it had
then; what else was at the new path before is another file's story.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from gitstore.database import Database, Unpacker
from gitstore.model import Branch, ChangedPath, CommitFacts, Op
from gitstore.timeline import path_term

RENAMES_MAX: Final = 1000
"""Renames of one file that are followed back."""

Place = tuple[int, int]
"""Where a commit is on its line: its effective time and its number there, in this order."""

_FIRST: Final[Place] = (-(1 << 62), 0)
_FIRST_FEW: Final = 24  # more than a page has
_AT_ONCE: Final = 256
_RENAMED = (
    "SELECT time, seq, old FROM renames WHERE workspace=? AND path=? AND (time, seq) < (?, ?)"
    " ORDER BY time DESC, seq DESC LIMIT 1"
)
_POSTINGS = (
    " FROM postings p{} WHERE p.term=(SELECT id FROM terms WHERE workspace=? AND text=?)"
    " AND (p.time, p.seq) >= (?, ?) AND (p.time, p.seq) < (?, ?)"
)
_COUNT = "SELECT count(*)" + _POSTINGS.format("")
_TURNS = (
    "SELECT p.time, p.seq, c.id, c.changes, c.total"
    + _POSTINGS.format(" CROSS JOIN commits c ON c.seq=p.seq")
    + " ORDER BY p.time DESC, p.seq DESC LIMIT ? OFFSET ?"
)
_ONWARD = (
    "SELECT p.time, p.seq, c.id, c.changes, c.total FROM postings p CROSS JOIN commits c ON c.seq=p.seq"
    " WHERE p.term=(SELECT id FROM terms WHERE workspace=? AND text=?) AND (p.time, p.seq) > (?, ?)"
    " ORDER BY p.time, p.seq LIMIT ?"
)
_changes: Unpacker[list[ChangedPath]] = Unpacker(list[ChangedPath])


class Turn(msgspec.Struct, frozen=True):
    """What one commit made of the file: what it did at `path`, where a `renamed` file came from `old_path`.

    `blob` is what a plain file holds since then. `place` is None for a commit that is not on the line.
    """

    commit: str
    op: Op
    path: str
    part: str
    key: str | None
    old_path: str | None
    blob: str | None
    place: Place | None


class _Chapter(NamedTuple):
    """From the place `first` on, and before `beyond`, the file was at one path."""

    path: str
    term: bytes
    first: Place
    beyond: Place


class Story:
    """The story of the file that is or was at `path` on a branch, up to before the place `beyond`.

    `later` are commits that go on from there beside the line, oldest first. Raises what `database.Database` raises.
    """

    def __init__(
        self,
        database: Database,
        workspace: int,
        branch: Branch,
        path: str,
        beyond: Place,
        later: Sequence[CommitFacts] = (),
    ) -> None:
        self._database = database
        self._workspace = workspace
        self._later: list[Turn] = []
        for facts in reversed(later):
            turn = _turn(facts.id, facts.changes, path, None)
            if turn is not None:
                self._later.append(turn)
                path = turn.old_path or path
        with database.read() as connection:
            self._chapters = list(_chapters(connection, workspace, branch, path, beyond))

    @property
    def length(self) -> int:
        """How many turns there are."""
        with self._database.read() as connection:
            counts: list[int] = [connection.execute(_COUNT, self._bounds(one)).fetchone()[0] for one in self._chapters]
        return len(self._later) + sum(counts)

    def turns(self, *, skip: int = 0, before: Place | None = None) -> Iterator[Turn]:
        """The turns, newest first: those after the first `skip`, or those before a place."""
        if before is None:
            yield from self._later[skip:]
            skip = max(skip - len(self._later), 0)
        for chapter in self._chapters:
            if before is not None:
                if before <= chapter.first:
                    continue
                chapter = chapter._replace(beyond=min(chapter.beyond, before))
            if skip:
                row = self._database.row(_COUNT, self._bounds(chapter))
                count = row[0] if row is not None else 0
                if count <= skip:
                    skip -= count
                    continue
            yield from self._read(chapter, skip)
            skip = 0

    def _read(self, chapter: _Chapter, skip: int) -> Iterator[Turn]:
        most = _FIRST_FEW
        while True:
            rows = self._database.rows(_TURNS, (*self._bounds(chapter), most, skip))
            for time, seq, oid, changes, total in rows:
                held = _changes(changes)
                turn = _turn(oid.hex(), held, chapter.path, (time, seq))
                if turn is None and total > len(held):
                    further = self._database.row("SELECT changes FROM further WHERE seq=?", (seq,))
                    turn = _turn(oid.hex(), _changes(further[0]) if further else (), chapter.path, (time, seq))
                if turn is not None:
                    yield turn
            if len(rows) < most:
                return
            chapter, skip, most = chapter._replace(beyond=(rows[-1][0], rows[-1][1])), 0, _AT_ONCE

    def _bounds(self, chapter: _Chapter) -> tuple[Any, ...]:
        return (self._workspace, chapter.term, *chapter.first, *chapter.beyond)


def onward(database: Database, workspace: int, branch: Branch, path: str, after: Place) -> Iterator[Turn]:
    """What became of the file that is at `path` since the place `after`, oldest first, to its deletion.

    Where it moved away it is followed. Raises what `Database` raises.
    """
    while True:
        rows = database.rows(_ONWARD, (workspace, path_term(branch, path), *after, _AT_ONCE))
        for time, seq, oid, changes, total in rows:
            after = (time, seq)
            held: Sequence[ChangedPath] = _changes(changes)
            if total > len(held) and (further := database.row("SELECT changes FROM further WHERE seq=?", (seq,))):
                held = [*held, *_changes(further[0])]
            moved = next((one for one in held if one.old_path == path and one.op == "renamed"), None)
            turn = _turn(oid.hex(), held, moved.path if moved is not None else path, after)
            if turn is None:
                continue
            yield turn
            if turn.op == "deleted":
                return
            if moved is not None:
                path = moved.path
                break
        else:
            if len(rows) < _AT_ONCE:
                return


def _chapters(connection: Any, workspace: int, branch: Branch, path: str, beyond: Place) -> Iterator[_Chapter]:
    start = len(path_term(branch, ""))
    term = path_term(branch, path)
    for count in range(RENAMES_MAX + 1):
        row = connection.execute(_RENAMED, (workspace, term, *beyond)).fetchone() if count < RENAMES_MAX else None
        first = (row[0], row[1]) if row is not None else _FIRST
        yield _Chapter(term[start:].decode("utf-8", "surrogatepass"), term, first, beyond)
        if row is None:
            return
        term, beyond = row[2], first


def _turn(commit: str, changes: Iterable[ChangedPath], path: str, place: Place | None) -> Turn | None:
    """What a commit made of the file at `path`; one that moved away is deleted there."""
    gone: Turn | None = None
    for one in changes:
        if one.path == path:
            return Turn(commit, one.op, path, one.part, one.key, one.old_path, one.blob, place)
        if one.old_path == path:
            gone = Turn(commit, "deleted", path, one.old_part or one.part, one.old_key, None, None, place)
    return gone
