"""Turning `main` back: a state restored, commits reverted; either can be tried first."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from gitstore import names, past, values
from gitstore.causes import Cause
from gitstore.changes import Workspace
from gitstore.errors import NotFound
from gitstore.model import Stamp
from gitstore.pending import Pending
from gitstore.restoring import Selection, restore
from gitstore.reverting import Reverted, revert
from gitstore.undo import Undone
from server.call import Call
from server.http import API, Reply, Route
from server.routes import common
from server.routes.diff import legible
from server.routes.history import stamped
from server.shapes import undo as shapes
from server.shapes.undo import Restore, Revert, Try

_LISTED = 1000  # files, commits and conflicts that an answer has; there may be more


def _told(undone: Undone) -> dict[str, Any]:
    changes, total = undone.changes(_LISTED)
    return {
        "commit": undone.commit.id if undone.commit is not None else None,
        "head": undone.head,
        "changes": [msgspec.to_builtins(legible(one)) for one in changes],
        "changes_total": total,
    }


def _restoring(call: Call, found: Workspace) -> Pending[Undone]:
    body: Restore = call.body
    query: Try = call.query
    store = call.app.store
    commit = past.resolve(store, found, body.at).main
    if commit is None:
        raise NotFound(f"at `{names.one_line(body.at, 80)}` the workspace had no context yet")
    paths = tuple(body.paths) if body.paths is not UNSET else ()
    keys = tuple(body.keys) if body.keys is not UNSET else ()
    return restore(
        store,
        found.id,
        commit,
        call.provenance,
        selection=Selection(paths, keys),
        message=body.message,
        precondition=call.precondition,
        dry_run=query.dry_run,
    )


async def restore_state(call: Call) -> Reply:
    """Makes `main`, or some of it, again what it was, as a new commit."""
    found = await common.workspace(call)
    undone = await call.settle(await call.offload(_restoring, call, found))
    return Reply(await call.offload(_told, undone), etag=undone.etag)


def _reverting(call: Call, found: Workspace) -> Pending[Reverted]:
    body: Revert = call.body
    query: Try = call.query
    cause = Cause(
        actor=body.actor,
        workflow_id=body.workflow_id,
        task_id=body.task_id,
        request_id=body.request_id,
        since=values.parse_iso(body.since) if body.since is not None else None,
        until=values.parse_iso(body.until) if body.until is not None else None,
    )
    return revert(
        call.app.store,
        found.id,
        body.commits if body.commits is not UNSET else cause,
        call.provenance,
        on_conflict=body.on_conflict,
        message=body.message,
        precondition=call.precondition,
        dry_run=query.dry_run,
    )


def _reverted(done: Reverted) -> dict[str, Any]:
    told = _told(done.undone)
    told["reverted"] = [stamped(Stamp.of(one)) for one in done.commits[:_LISTED]]
    told["reverted_total"] = len(done.commits)
    told["conflicts"] = [msgspec.to_builtins(one) for one in done.obstacles[:_LISTED]]
    told["conflicts_total"] = len(done.obstacles)
    return told


async def revert_commits(call: Call) -> Reply:
    """Undoes commits of `main`, or all that a cause made there, merging over what came later."""
    found = await common.workspace(call)
    done = await call.settle(await call.offload(_reverting, call, found))
    return Reply(await call.offload(_reverted, done), etag=done.undone.etag)


_ONE = f"{API}/workspaces/{{id}}"
ROUTES = (
    Route("POST", f"{_ONE}/restore", "admin", restore_state, "Restore a state", body=Restore, query=Try,
          response=shapes.Restored, tag="undo"),
    Route("POST", f"{_ONE}/revert", "admin", revert_commits, "Revert commits", body=Revert, query=Try,
          response=shapes.Reverted, tag="undo"),
)  # fmt: skip
