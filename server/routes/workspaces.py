"""Workspaces: made, listed, read, changed, deleted."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from gitstore import values, workspaces
from gitstore.catalog import Summary as Counts
from gitstore.changes import Draft
from gitstore.errors import Conflict
from gitstore.snapshot import Snapshot
from server.call import Call
from server.http import API, Page, Reply, Route
from server.routes import common
from server.shapes.common import ReadAt
from server.shapes.workspaces import (
    CreateWorkspace,
    DeletedWorkspace,
    DeleteImpact,
    DeleteWorkspace,
    ListWorkspaces,
    UpdateWorkspace,
    Workspace,
    WorkspaceRow,
)


async def create(call: Call) -> Reply:
    """One commit makes the workspace with its settings and memory."""
    body: CreateWorkspace = call.body
    wanted = {name: value for name, value in common.given(body).items() if value is not None}
    workspaces.check(wanted)
    store, who = call.app.store, call.provenance
    outcome = await call.settle(store.create(body.slug, lambda draft: workspaces.create(draft, wanted), who))
    reply = common.record(outcome, status=201)
    reply.headers = (("Location", f"{API}/workspaces/{outcome.snapshot.workspace}"),)
    return reply


def _summary(counts: Counts) -> dict[str, Any]:
    shown = msgspec.structs.asdict(counts)
    last = shown["last_workflow_activity_at"]
    shown["last_workflow_activity_at"] = values.iso(last) if last is not None else None
    return shown


def _list(call: Call) -> Reply:
    query: ListWorkspaces = call.query
    catalog = call.app.store.catalog
    ids, total = catalog.list(query.q, query.is_active, query.sort, query.page, query.per_page)
    records, counts = catalog.records(ids), catalog.summaries(ids)
    rows = [
        b'%b,"summary":%b}' % (records[one][:-1], values.encode(_summary(counts[one]))) for one in ids if one in records
    ]
    return Reply(b"[" + b",".join(rows) + b"]", page=Page(query.page, query.per_page, total))


async def list_all(call: Call) -> Reply:
    """A page of full records, each with how its workflows stand."""
    return await call.offload(_list, call)


async def read(call: Call) -> Reply:
    """The workspace record."""
    snapshot, then = await common.state(call)
    data, etag = snapshot.record()
    return common.dated(Reply(data, etag=etag), then)


async def update(call: Call) -> Reply:
    """Changes only the fields that are named; nothing different makes no commit."""
    changes = common.given(call.body)
    precondition = call.precondition

    def operation(draft: Draft) -> list[str]:
        return workspaces.update(draft, changes, precondition=precondition, current=draft.snapshot.etag)

    found = await common.workspace(call)
    slug = changes.get("slug")
    if slug is not None:
        workspaces.check({"slug": slug})
    pending = call.app.store.apply(found.id, "main", operation, call.provenance)
    return common.record(await call.settle(pending))


def _impact(call: Call, snapshot: Snapshot) -> DeleteImpact:
    now = int(time.time() * 1000)
    counts = msgspec.structs.asdict(call.app.store.catalog.impact(snapshot.workspace, now=now))
    counts["artifacts"] = call.app.explorer.count(snapshot.workspace, now)  # which expired, their workflows say
    return DeleteImpact(files=len(snapshot.context.files), **counts)


async def impact(call: Call) -> Reply:
    """What a deletion would take."""
    found = await common.workspace(call)
    data = await call.offload(_impact, call, found.visible)
    return Reply(data, etag=values.etag(msgspec.json.encode(data)))


async def delete(call: Call) -> Reply:
    """Moves the workspace to the trash; with workflows or tasks only if `cascade` says so."""
    query: DeleteWorkspace = call.query
    precondition = call.precondition
    found = await common.workspace(call)

    def check(snapshot: Snapshot) -> DeletedWorkspace:
        precondition.check(snapshot.etag)
        counts = _impact(call, snapshot)
        if not query.cascade:
            if counts.workflows or counts.tasks:
                raise Conflict(
                    f"the workspace has {counts.workflows} workflows and {counts.tasks} tasks: "
                    "repeat with ?cascade=true to delete them with it",
                    details=msgspec.to_builtins(counts),
                )
            return DeletedWorkspace(snapshot.workspace, True)
        return DeletedWorkspace(
            snapshot.workspace, True, deleted_workflow_count=counts.workflows, deleted_task_count=counts.tasks
        )

    return Reply(await call.settle(call.app.store.delete(found.id, check)))


_ONE = f"{API}/workspaces/{{id}}"
ROUTES = (
    Route("POST", f"{API}/workspaces", "admin", create, "Make a workspace", body=CreateWorkspace, response=Workspace,
          status=201),
    Route("GET", f"{API}/workspaces", "agent", list_all, "List workspaces", query=ListWorkspaces,
          response=list[WorkspaceRow], paged=True),
    Route("GET", _ONE, "agent", read, "Read a workspace", query=ReadAt, response=Workspace),
    Route("PATCH", _ONE, "admin", update, "Change a workspace", body=UpdateWorkspace, response=Workspace),
    Route("DELETE", _ONE, "admin", delete, "Delete a workspace", query=DeleteWorkspace, response=DeletedWorkspace),
    Route("GET", f"{_ONE}/delete-impact", "admin", impact, "What a deletion would take", response=DeleteImpact),
)  # fmt: skip
