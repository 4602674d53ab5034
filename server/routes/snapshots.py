"""Snapshots: states that have a name, which no push moves."""

from __future__ import annotations

from gitstore import snapshots, values
from gitstore.snapshots import Named
from server.call import Call
from server.http import API, Reply, Route
from server.routes import common
from server.shapes import snapshots as shapes
from server.shapes.common import Paging
from server.shapes.snapshots import PutSnapshot
from server.shapes.workspaces import Actor


def _shown(one: Named) -> shapes.Snapshot:
    who = one.created_by
    return shapes.Snapshot(
        one.name, one.commit, one.evidence, one.message, values.iso(one.created_at), Actor(who.type, who.id, who.name)
    )


def _list(call: Call, workspace: str) -> Reply:
    return common.page([_shown(one) for one in snapshots.contents(call.app.store, workspace)], call.query)


async def list_all(call: Call) -> Reply:
    """The workspace's snapshots, newest first."""
    found = await common.workspace(call)
    return await call.offload(_list, call, found.id)


def _read(call: Call, workspace: str) -> Reply:
    found = snapshots.find(call.app.store, workspace, call.params["name"])
    return Reply(_shown(found), etag=found.etag)


async def read(call: Call) -> Reply:
    """One snapshot."""
    found = await common.workspace(call)
    return await call.offload(_read, call, found.id)


def _put(call: Call, workspace: str) -> Reply:
    body: PutSnapshot = call.body
    made = snapshots.put(
        call.app.store,
        workspace,
        call.params["name"],
        at=body.at,
        message=body.message,
        who=call.provenance,
        precondition=call.precondition,
    )
    return Reply(_shown(made), etag=made.etag)


async def put(call: Call) -> Reply:
    """Gives a state a name: the newest, or that of a moment. One that is there is moved only with `If-Match`."""
    found = await common.workspace(call)
    return await call.offload(_put, call, found.id)


def _delete(call: Call, workspace: str) -> Reply:
    snapshots.delete(call.app.store, workspace, call.params["name"], precondition=call.precondition)
    return Reply(status=204)


async def delete(call: Call) -> Reply:
    """Takes the name away; the commits stay."""
    found = await common.workspace(call)
    return await call.offload(_delete, call, found.id)


_ALL = f"{API}/workspaces/{{id}}/snapshots"
_ONE = f"{_ALL}/{{name}}"
ROUTES = (
    Route("GET", _ALL, "agent", list_all, "List snapshots", query=Paging, response=list[shapes.Snapshot], paged=True,
          tag="snapshots"),
    Route("GET", _ONE, "agent", read, "Read a snapshot", response=shapes.Snapshot, tag="snapshots"),
    Route("PUT", _ONE, "admin", put, "Make a snapshot", body=PutSnapshot, body_optional=True,
          response=shapes.Snapshot, tag="snapshots"),
    Route("DELETE", _ONE, "admin", delete, "Delete a snapshot", status=204, tag="snapshots"),
)  # fmt: skip
