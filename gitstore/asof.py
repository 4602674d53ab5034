"""What history said when a commit was the newest one: who had touched what by then, and which versions there were.

The answers come from the rows of the index up to that commit. A commit that is on no first-parent line, because a merge
brought it in, is answered for as if its own line were the branch: `later` are its commits after the last that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gitstore.database import Database, unbind
from gitstore.intake import SPEC
from gitstore.model import Actor, Branch, CommitFacts, Touch
from gitstore.story import Story
from gitstore.timeline import path_term

_ASKED_AT_ONCE = 500

_TOUCH = (
    "SELECT c.id, c.time, c.actor FROM (SELECT seq FROM postings"
    " WHERE term=(SELECT id FROM terms WHERE workspace=? AND text=?) AND (time, seq) <= (?, ?)"
    " ORDER BY time DESC, seq DESC LIMIT 1) p CROSS JOIN commits c ON c.seq=p.seq"
)
_VERSION = (
    "SELECT v.number, c.id, c.time, c.actor FROM versions v CROSS JOIN commits c ON c.seq=v.seq"
    " WHERE v.workspace=? AND v.resource=? AND v.seq <= ? ORDER BY v.seq DESC LIMIT 1"
)
_FILES = (
    "WITH asked(resource) AS (VALUES {}) SELECT a.resource, v.number, c.time, c.id,"
    " (SELECT d.time FROM versions b CROSS JOIN commits d ON d.seq=b.seq WHERE b.workspace=?1 AND b.resource=a.resource"
    "  AND b.op='added' AND b.seq <= ?2 ORDER BY b.seq DESC LIMIT 1)"
    " FROM asked a CROSS JOIN versions v ON v.workspace=?1 AND v.resource=a.resource AND v.seq="
    "(SELECT max(seq) FROM versions WHERE workspace=?1 AND resource=a.resource AND seq <= ?2)"
    " CROSS JOIN commits c ON c.seq=v.seq WHERE v.op <> 'deleted'"
)


class FileStat(msgspec.Struct, frozen=True):
    """A stored file as history sees it; `created_at` is when it last began to exist, `commit` changed it last."""

    version: int
    created_at: int
    updated_at: int
    commit: str


class AsOf:
    """History up to the commit at `seq` of time `time`, then that of the commits in `later`, oldest first.

    Raises what `database.Database` raises.
    """

    def __init__(
        self,
        database: Database,
        actors: Mapping[int, Actor],
        workspace: int,
        branch: Branch,
        seq: int,
        time: int,
        later: Sequence[CommitFacts] = (),
    ) -> None:
        self._database = database
        self._actors = actors
        self._workspace = workspace
        self._branch: Branch = branch
        self._seq = seq
        self.time = time
        self._later = tuple(later)

    def going_on(self, later: Iterable[CommitFacts]) -> AsOf:
        """The same history with these commits after it, oldest first."""
        here = (self._workspace, self._branch, self._seq, self.time)
        return AsOf(self._database, self._actors, *here, (*self._later, *later))

    def touch(self, path: str) -> Touch | None:
        """The commit that last changed a path, its deletion included; None for one that had never been there."""
        for facts in reversed(self._later):
            if any(path in one.paths for one in facts.changes):
                return _touch(facts)
        found = self._database.row(_TOUCH, (self._workspace, path_term(self._branch, path), self.time, self._seq))
        return Touch(found[0].hex(), found[1], self._actors[found[2]]) if found else None

    def spec(self) -> tuple[int, Touch | None]:
        """The version that the spec had, 0 for none yet, and the commit that made it."""
        found = self._database.row(_VERSION, (self._workspace, SPEC, self._seq))
        number = found[0] if found else 0
        made = Touch(found[1].hex(), found[2], self._actors[found[3]]) if found else None
        for facts in self._later:
            if any("spec" in one.parts for one in facts.changes):
                number, made = number + 1, _touch(facts)
        return number, made

    def story(self, path: str) -> Story:
        """The story of the file that was at a path, up to then."""
        beyond = (self.time, self._seq + 1)
        return Story(self._database, self._workspace, self._branch, path, beyond, self._later)

    def files(self, keys: Iterable[str]) -> dict[str, FileStat]:
        """What history said of those of these files that existed, by key."""
        found: dict[str, FileStat] = {}
        asked = [b"f" + key.encode("utf-8", "surrogatepass") for key in keys]
        for at in range(0, len(asked), _ASKED_AT_ONCE):
            some = asked[at : at + _ASKED_AT_ONCE]
            sql = _FILES.format(",".join([f"(?{number})" for number in range(3, len(some) + 3)]))
            for resource, number, time, commit, created in self._database.rows(
                sql, (self._workspace, self._seq, *some)
            ):
                found[unbind(resource[1:])] = FileStat(number, created, time, commit.hex())
        wanted = {key[1:].decode("utf-8", "surrogatepass") for key in asked}
        for facts in self._later:
            for key in wanted & {key for one in facts.changes if "file" in one.parts for key in one.keys}:
                old = found.get(key)
                found[key] = FileStat(
                    old.version + 1 if old else 1, old.created_at if old else facts.time, facts.time, facts.id
                )
        return found

    def file(self, key: str) -> FileStat | None:
        """What history said of one file; None where there was none with this key."""
        return self.files((key,)).get(key)


def _touch(facts: CommitFacts) -> Touch:
    return Touch(facts.id, facts.time, facts.actor)
