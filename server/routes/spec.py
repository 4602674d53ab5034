"""The spec: replaced as a whole, read in any version, and two views of it."""

from __future__ import annotations

from typing import Any

from gitstore import names, spec, values
from gitstore.changes import Draft, Workspace
from gitstore.errors import NotFound
from gitstore.model import Touch
from gitstore.past import Then
from gitstore.snapshot import Snapshot
from server.call import Call
from server.http import API, Reply, Route
from server.routes import common
from server.shapes.common import ReadAt
from server.shapes.spec import ListResources, PutSpec, ReadSpec, Resource, SpecVersion, Tools


def _current(call: Call, snapshot: Snapshot, then: Then | None) -> Reply:
    story = then.story if then is not None else None
    if story is None and snapshot.main.head is not None:
        story = call.app.store.history.as_of(snapshot.workspace, "main", snapshot.main.head)
    version, made = snapshot.spec_version, story.spec()[1] if story is not None else None
    content = snapshot.context.spec
    data = spec.answer(snapshot.workspace, version, content, made)
    return common.dated(Reply(data, etag=spec.etag(version, content)), then)


def _version(call: Call, found: Workspace, number: int) -> Reply:
    if number == 0:
        return Reply(spec.answer(found.id, 0, {}, None), etag=spec.etag(0, {}))
    wanted = call.app.store.history.version(found.id, "spec", number)
    if wanted is None:
        latest = found.visible.spec_version
        raise NotFound(f"the spec has no version {names.one_line(str(number), 30)}; the latest is {latest}")
    content = spec.read(found.visible.tree_at(wanted.commit))
    data = spec.answer(found.id, number, content, Touch(wanted.commit, wanted.time, wanted.actor))
    return Reply(data, etag=spec.etag(number, content))


async def read(call: Call) -> Reply:
    """The current version, the one asked for, or that of a moment."""
    query: ReadSpec = call.query
    found = await common.workspace(call)
    if query.version is None or query.version == found.visible.spec_version:
        then = await common.then(call, found)
        return await call.offload(_current, call, found.visible if then is None else then.snapshot, then)
    return await call.offload(_version, call, found, query.version)


async def put(call: Call) -> Reply:
    """Replaces the spec; a change is the next version."""
    body, precondition = common.given(call.body), call.precondition

    def operation(draft: Draft) -> bool:
        return spec.put(draft, body, precondition=precondition)

    outcome = await common.change(call, "main", operation)
    snapshot = outcome.snapshot
    if outcome.commit is None:
        return await call.offload(_current, call, snapshot, None)
    data = spec.answer(snapshot.workspace, snapshot.spec_version, snapshot.context.spec, common.touch(outcome.commit))
    return Reply(data, etag=spec.etag(snapshot.spec_version, snapshot.context.spec))


async def resources(call: Call) -> Reply:
    """The resources of the current spec, of one type if asked for."""
    query: ListResources = call.query
    snapshot, then = await common.state(call)
    return _view(spec.resources(snapshot.context.spec, query.type), then)


async def tools(call: Call) -> Reply:
    """Which tools the current spec allows and blocks."""
    snapshot, then = await common.state(call)
    return _view(spec.tools(snapshot.context.spec), then)


def _view(data: Any, then: Then | None) -> Reply:
    encoded = values.encode(data)
    return common.dated(Reply(encoded, etag=values.etag(encoded)), then)


_ONE = f"{API}/workspaces/{{id}}"
ROUTES = (
    Route("GET", f"{_ONE}/spec", "agent", read, "Read the spec", query=ReadSpec, response=SpecVersion, tag="spec"),
    Route("PUT", f"{_ONE}/spec", "admin", put, "Replace the spec", body=PutSpec, response=SpecVersion, tag="spec"),
    Route("GET", f"{_ONE}/resources", "agent", resources, "List resources", query=ListResources,
          response=list[Resource], tag="spec"),
    Route("GET", f"{_ONE}/tools", "agent", tools, "List tools", query=ReadAt, response=Tools, tag="spec"),
)  # fmt: skip
