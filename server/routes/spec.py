"""The spec: replaced as a whole, read in any version, and two views of it."""

from __future__ import annotations

from typing import Any

from gitstore import names, spec, values
from gitstore.changes import Draft, Workspace
from gitstore.errors import NotFound
from gitstore.model import Touch
from server.call import Call
from server.http import API, Reply, Route
from server.routes import common
from server.shapes.spec import ListResources, PutSpec, ReadSpec, Resource, SpecVersion, Tools


def _current(call: Call, found: Workspace) -> Reply:
    snapshot = found.visible
    version = snapshot.spec_version
    made: Touch | None = None
    if version:
        newest = call.app.store.history.versions(found.id, "spec")
        last = next((one for one in reversed(newest) if one.number == version), None)
        made = Touch(last.commit, last.time, last.actor) if last is not None else None
    context = snapshot.context
    return Reply(spec.answer(found.id, version, context.spec, made), etag=spec.etag(version, context.spec))


def _version(call: Call, found: Workspace, number: int) -> Reply:
    if number == 0:
        return Reply(spec.answer(found.id, 0, {}, None), etag=spec.etag(0, {}))
    wanted = next((one for one in call.app.store.history.versions(found.id, "spec") if one.number == number), None)
    if wanted is None:
        latest = found.visible.spec_version
        raise NotFound(f"the spec has no version {names.one_line(str(number), 30)}; the latest is {latest}")
    content = spec.read(found.visible.tree_at(wanted.commit))
    data = spec.answer(found.id, number, content, Touch(wanted.commit, wanted.time, wanted.actor))
    return Reply(data, etag=spec.etag(number, content))


async def read(call: Call) -> Reply:
    """The current version, or the one asked for."""
    query: ReadSpec = call.query
    found = await common.workspace(call)
    if query.version is None or query.version == found.visible.spec_version:
        return await call.offload(_current, call, found)
    return await call.offload(_version, call, found, query.version)


async def put(call: Call) -> Reply:
    """Replaces the spec; a change is the next version."""
    body, precondition = common.given(call.body), call.precondition

    def operation(draft: Draft) -> bool:
        return spec.put(draft, body, precondition=precondition)

    outcome = await common.change(call, "main", operation)
    snapshot = outcome.snapshot
    if outcome.commit is None:
        return await call.offload(_current, call, await common.workspace(call))
    data = spec.answer(snapshot.workspace, snapshot.spec_version, snapshot.context.spec, common.touch(outcome.commit))
    return Reply(data, etag=spec.etag(snapshot.spec_version, snapshot.context.spec))


async def resources(call: Call) -> Reply:
    """The resources of the current spec, of one type if asked for."""
    query: ListResources = call.query
    return _view(spec.resources((await common.workspace(call)).visible.context.spec, query.type))


async def tools(call: Call) -> Reply:
    """Which tools the current spec allows and blocks."""
    return _view(spec.tools((await common.workspace(call)).visible.context.spec))


def _view(data: Any) -> Reply:
    encoded = values.encode(data)
    return Reply(encoded, etag=values.etag(encoded))


_ONE = f"{API}/workspaces/{{id}}"
ROUTES = (
    Route("GET", f"{_ONE}/spec", "agent", read, "Read the spec", query=ReadSpec, response=SpecVersion, tag="spec"),
    Route("PUT", f"{_ONE}/spec", "admin", put, "Replace the spec", body=PutSpec, response=SpecVersion, tag="spec"),
    Route("GET", f"{_ONE}/resources", "agent", resources, "List resources", query=ListResources,
          response=list[Resource], tag="spec"),
    Route("GET", f"{_ONE}/tools", "agent", tools, "List tools", response=Tools, tag="spec"),
)  # fmt: skip
