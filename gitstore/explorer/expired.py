"""Artifacts that have expired: the index keeps them, for their workflow may be opened again, and nobody finds them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from gitstore import retention
from gitstore.database import Unpacker, bind, unbind
from gitstore.explorer.columns import NEVER
from gitstore.model import Workflow
from gitstore.search.hidden import Hidden
from gitstore.search.rows import Key

_OF_FLOW = (
    "SELECT id, created_at FROM artifacts WHERE workflow=?1 AND workspace=?2 AND NOT pinned UNION ALL"
    " SELECT a.id, a.created_at FROM tasks t CROSS JOIN artifacts a ON a.task=t.id"
    " WHERE t.workflow=?1 AND t.workspace=?2 AND a.workspace=?2 AND a.workflow IS NULL AND NOT a.pinned"
)


class _Known(NamedTuple):
    """The expired artifacts of a workspace, from when they were looked for until the next one expires (ms)."""

    keys: list[Key]
    since: int
    until: int


class Expired:
    """Those of one catalog. `read` gives a look at it. Raises sqlite3.Error, msgspec.MsgspecError."""

    def __init__(self, read: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._read = read
        self._workflow: Unpacker[Workflow] = Unpacker(Workflow)
        self._mortal: set[str] | None = None  # the workspaces in which any can expire; None: to be read
        self._known: dict[str, _Known] = {}
        self._made: tuple[list[_Known], Hidden] | None = None

    def touched(self, workspace: str) -> None:
        """Records of a workspace are not as they were."""
        self._mortal = None
        self._known.pop(workspace, None)

    def hidden(self, workspaces: Sequence[str] | None, now: int) -> Hidden | None:
        """What has expired in these workspaces (None: in all) at `now` (ms); None for nothing."""
        if self._mortal is None:
            with self._read() as connection:
                rows = connection.execute("SELECT DISTINCT workspace FROM workflows WHERE mortal").fetchall()
            self._mortal = {workspace for (workspace,) in rows}
        wanted = self._mortal if workspaces is None else self._mortal.intersection(workspaces)
        every = [known for workspace in sorted(wanted) if (known := self._of(workspace, now)).keys]
        if not every:
            return None
        made = self._made
        if made is None or len(made[0]) != len(every) or any(a is not b for a, b in zip(made[0], every, strict=True)):
            made = self._made = every, Hidden([key for known in every for key in known.keys])
        return made[1]

    def _of(self, workspace: str, now: int) -> _Known:
        known = self._known.get(workspace)
        if known is None or not known.since <= now < known.until:
            keys, until = list[Key](), NEVER
            with self._read() as connection:
                for id_, expires in self._expiring(connection, workspace):
                    if expires <= now:
                        keys.append((workspace, "artifact", id_))
                    else:
                        until = min(until, expires)
            known = self._known[workspace] = _Known(keys, now, until)
        return known

    def _expiring(self, connection: sqlite3.Connection, workspace: str) -> Iterator[tuple[str, int]]:
        """The artifacts that expire some time, and when."""
        flows = connection.execute("SELECT doc FROM workflows WHERE workspace=? AND mortal", (workspace,)).fetchall()
        for (doc,) in flows:
            flow = self._workflow(doc)
            for id_, created in connection.execute(_OF_FLOW, (bind(flow.id), workspace)):
                expires = retention.of(created, flow)[1]
                if expires is not None:
                    yield unbind(id_), expires
