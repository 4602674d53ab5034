"""The checkout of a workspace: what people have edited in its folder and not committed yet."""

from __future__ import annotations

from msgspec import UNSET

from gitstore import values
from gitstore.changes import Workspace
from gitstore.model import Provenance
from gitstore.record import problem_record
from server.call import Call
from server.http import API, Reply, Route
from server.routes import common
from server.shapes.problems import Checkout, Commit, Committed, PendingEdit, Problem


def _state(call: Call, workspace: Workspace) -> Checkout:
    state = call.app.live.checkouts.state(workspace)
    pending = [PendingEdit(one.path, one.op, values.iso(one.since)) for one in state.pending]
    return Checkout(state.mode, state.branch, state.busy, pending)


async def read(call: Call) -> Reply:
    """How the folder stands: its mode, its branch, what keeps it from being written to, and the edits in it."""
    found = await common.workspace(call)
    return Reply(await call.offload(_state, call, found))


def _commit(call: Call, workspace: Workspace, who: Provenance) -> Committed:
    body: Commit = call.body
    message = None if body.message is UNSET else body.message
    outcome = call.app.live.checkouts.commit(workspace, message, who)
    if outcome is None:
        return Committed(None, [], [])
    return Committed(
        outcome.commit.id if outcome.commit is not None else None,
        list(outcome.value.paths),
        [Problem(**problem_record(one)) for one in outcome.value.problems],
    )


async def commit(call: Call) -> Reply:
    """Commits what is edited in the folder, staged or not; edits that break a rule stay, with their problems."""
    found = await common.workspace(call)
    return Reply(await call.offload(_commit, call, found, call.provenance))


_ONE = f"{API}/workspaces/{{id}}/checkout"
ROUTES = (
    Route("GET", _ONE, "agent", read, "How the folder stands", response=Checkout, tag="problems"),
    Route("POST", f"{_ONE}/commit", "admin", commit, "Commit the folder's edits", body=Commit, body_optional=True,
          response=Committed, tag="problems"),
)  # fmt: skip
