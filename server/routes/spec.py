"""The spec: replaced as a whole, read in any version, and two views of it."""

from __future__ import annotations

from typing import Any

import msgspec

from gitstore import names, spec, values
from gitstore.changes import Draft, Outcome, Workspace
from gitstore.diff import differences
from gitstore.errors import NotFound
from gitstore.history import Version
from gitstore.model import Stamp, Touch
from gitstore.past import Then
from gitstore.snapshot import Snapshot
from server.call import Call
from server.http import API, Reply, Route
from server.routes import common
from server.routes.history import stamped
from server.shapes.common import Paging, ReadAt
from server.shapes.spec import (
    CompareSpecs,
    ListResources,
    PutSpec,
    ReadSpec,
    Resource,
    SpecDiff,
    SpecEntry,
    SpecVersion,
    Tools,
)


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
    wanted = _made(call, found, number)
    content = spec.read(found.visible.tree_at(wanted.commit))
    data = spec.answer(found.id, number, content, Touch(wanted.commit, wanted.time, wanted.actor))
    return Reply(data, etag=spec.etag(number, content))


async def read(call: Call) -> Reply:
    """The current version, the one asked for, or that of a moment."""
    query: ReadSpec = call.query
    found = await common.workspace(call)
    if query.version is None or query.version == found.visible.spec_version:
        then = await common.then(call, found, "spec")
        return await call.offload(_current, call, found.visible if then is None else then.snapshot, then)
    return await call.offload(_version, call, found, query.version)


def _content(call: Call, found: Workspace, number: int) -> dict[str, dict[str, Any]]:
    return spec.read(found.visible.tree_at(_made(call, found, number).commit)) if number else {}


def _made(call: Call, found: Workspace, number: int) -> Version:
    made = call.app.store.history.version(found.id, "spec", number)
    if made is None:
        latest = found.visible.spec_version
        raise NotFound(f"the spec has no version {names.one_line(str(number), 30)}; the latest is {latest}")
    return made


def _versions(call: Call, found: Workspace) -> Reply:
    query: Paging = call.query
    rows, total = call.app.store.history.version_page(found.id, "spec", query.page, query.per_page)
    return Reply([{"version": number, **stamped(Stamp.of(facts))} for number, facts in rows], page=query.of(total))


async def versions(call: Call) -> Reply:
    """Every version of the spec, newest first."""
    return await call.offload(_versions, call, await common.workspace(call))


def _compare(call: Call, found: Workspace) -> Reply:
    query: CompareSpecs = call.query
    to = query.to if query.to is not None else found.visible.spec_version
    start = query.start if query.start is not None else max(to - 1, 0)
    old, new = _content(call, found, start), _content(call, found, to)
    data = values.encode(
        {"from": start, "to": to, "values": [msgspec.to_builtins(one) for one in differences(old, new)]}
    )
    return Reply(data, etag=values.etag(data))


async def compare(call: Call) -> Reply:
    """What differs between two versions of the spec, by JSON pointer."""
    return await call.offload(_compare, call, await common.workspace(call))


def _asked(call: Call, found: Workspace) -> Version:
    text = call.params["version"]
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if number == 0:
        raise NotFound(f"the spec has no version {names.one_line(text, 30)}; the first is 1")
    return _made(call, found, number)


async def restore(call: Call) -> Reply:
    """Makes the spec what it was in a version, as a new one; answers as PUT does."""
    found, precondition = await common.workspace(call), call.precondition
    made = await call.offload(_asked, call, found)

    def operation(draft: Draft) -> bool:
        return spec.restore(draft, made.number, draft.snapshot.tree_at(made.commit), precondition=precondition)

    return await _changed(call, await common.change(call, "main", operation))


async def put(call: Call) -> Reply:
    """Replaces the spec; a change is the next version."""
    body, precondition = common.given(call.body), call.precondition

    def operation(draft: Draft) -> bool:
        return spec.put(draft, body, precondition=precondition)

    return await _changed(call, await common.change(call, "main", operation))


async def _changed(call: Call, outcome: Outcome[bool]) -> Reply:
    snapshot = outcome.snapshot
    if outcome.commit is None:
        return await call.offload(_current, call, snapshot, None)
    data = spec.answer(snapshot.workspace, snapshot.spec_version, snapshot.context.spec, common.touch(outcome.commit))
    return Reply(data, etag=spec.etag(snapshot.spec_version, snapshot.context.spec))


async def resources(call: Call) -> Reply:
    """The resources of the current spec, of one type if asked for."""
    query: ListResources = call.query
    snapshot, then = await common.state(call, "spec")
    return _view(spec.resources(snapshot.context.spec, query.type), then)


async def tools(call: Call) -> Reply:
    """Which tools the current spec allows and blocks."""
    snapshot, then = await common.state(call, "spec")
    return _view(spec.tools(snapshot.context.spec), then)


def _view(data: Any, then: Then | None) -> Reply:
    encoded = values.encode(data)
    return common.dated(Reply(encoded, etag=values.etag(encoded)), then)


_ONE = f"{API}/workspaces/{{id}}"
ROUTES = (
    Route("GET", f"{_ONE}/spec", "agent", read, "Read the spec", query=ReadSpec, response=SpecVersion, tag="spec"),
    Route("PUT", f"{_ONE}/spec", "admin", put, "Replace the spec", body=PutSpec, response=SpecVersion, tag="spec"),
    Route("GET", f"{_ONE}/spec/versions", "agent", versions, "List the versions of the spec", query=Paging,
          response=list[SpecEntry], paged=True, tag="spec"),
    Route("GET", f"{_ONE}/spec/diff", "agent", compare, "Compare two versions of the spec", query=CompareSpecs,
          response=SpecDiff, tag="spec"),
    Route("POST", f"{_ONE}/spec/versions/{{version}}/restore", "admin", restore, "Restore a version of the spec",
          response=SpecVersion, tag="spec"),
    Route("GET", f"{_ONE}/resources", "agent", resources, "List resources", query=ListResources,
          response=list[Resource], tag="spec"),
    Route("GET", f"{_ONE}/tools", "agent", tools, "List tools", query=ReadAt, response=Tools, tag="spec"),
)  # fmt: skip
