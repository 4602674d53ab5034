"""The timeline: one entry a commit of either branch, newest first."""

from __future__ import annotations

from typing import Any

import msgspec

from gitstore import values
from gitstore.changes import Workspace
from gitstore.history import Entry, TimelineQuery
from gitstore.model import WORKFLOW_ENDED
from gitstore.moments import commit_facts
from gitstore.reading import shown
from gitstore.repository.objects import Oid
from gitstore.timeline import CHANGES_SHOWN
from server.call import Call
from server.http import API, Page, Reply, Route
from server.routes import common
from server.routes.diff import legible
from server.shapes import timeline as shapes
from server.shapes.history import OneEntry, ReadEntry
from server.shapes.timeline import ReadTimeline


def _changes(entry: Entry) -> list[dict[str, Any]]:
    rows = []
    for changed in entry.facts.changes:
        row: dict[str, Any] = {"path": shown(changed.path)}
        if changed.key is not None:
            row["key"] = changed.key
        row["op"] = changed.op
        if changed.old_path is not None:
            row["old_path"] = shown(changed.old_path)
        rows.append(row)
    return rows


def _row(call: Call, entry: Entry) -> dict[str, Any]:
    facts = entry.facts
    row: dict[str, Any] = {
        "id": facts.id,
        "kind": facts.kind,
        "name": facts.name,
        "state": facts.state,
        "created_at": values.iso(facts.time),
        "actor": msgspec.to_builtins(facts.actor),
        "door": facts.door,
        "request_id": facts.request_id,
        "workflow_id": facts.workflow_id,
        "task_id": facts.task_id,
        "changes": _changes(entry),
        "changes_total": entry.changes_total,
    }
    if facts.kind.startswith("workflow.") and facts.state in WORKFLOW_ENDED and facts.workflow_id is not None:
        row.update(_course(call, facts.workflow_id, facts.time))
    return row


def _course(call: Call, identity: str, ended: int) -> dict[str, Any]:
    """When the workflow that ended with this commit began, and how long it took."""
    found = call.app.store.catalog.workflow(identity)
    started = (found[1].started_at or found[1].created_at) if found is not None else None
    return {
        "started_at": values.iso(started) if started is not None else None,
        "completed_at": values.iso(ended),
        "duration_seconds": max(ended - started, 0) / 1000 if started is not None else None,
    }


def _read(call: Call, workspace: str) -> Reply:
    query: ReadTimeline = call.query
    asked = TimelineQuery(
        kind=query.kind,
        actor=query.actor,
        door=query.door,
        path=query.path,
        key=query.key,
        workflow_id=query.workflow_id,
        task_id=query.task_id,
        since=values.parse_iso(query.since) if query.since is not None else None,
        until=values.parse_iso(query.until) if query.until is not None else None,
        text=query.q,
        page=query.page,
        per_page=query.per_page,
        cursor=query.cursor,
    )
    found = call.app.store.history.timeline(workspace, asked)
    rows = [_row(call, entry) for entry in found.entries]
    return Reply(
        values.encode(rows),
        page=Page(query.page, query.per_page, found.total),
        meta={"next_cursor": found.next_cursor},
    )


async def read(call: Call) -> Reply:
    """Who did what, when, through which door."""
    found = await common.workspace(call)
    return await call.offload(_read, call, found.id)


def _entry(call: Call, found: Workspace) -> Reply:
    query: ReadEntry = call.query
    facts = commit_facts(call.app.store, found, call.params["commit"])
    shortened = msgspec.structs.replace(facts, changes=facts.changes[:CHANGES_SHOWN])
    repository = found.repository
    before = repository.tree(Oid(bytes.fromhex(facts.parents[0])) if facts.parents else None)
    after = repository.tree(Oid(bytes.fromhex(facts.id)))
    start = (query.page - 1) * query.per_page
    some = call.app.compared.some(
        before, after, facts.branch, prefix=query.path or "", start=start, most=query.per_page
    )
    data = {
        **_row(call, Entry(shortened, len(facts.changes))),
        "parents": facts.parents,
        "diff": [legible(file) for file in some.files],
        "diff_total": some.total,
    }
    encoded = msgspec.json.encode(data)
    return Reply(encoded, etag=values.etag(encoded))


async def read_one(call: Call) -> Reply:
    """One commit, with what differs from its first parent."""
    return await call.offload(_entry, call, await common.workspace(call))


ROUTES = (
    Route("GET", f"{API}/workspaces/{{id}}/timeline", "agent", read, "Read the timeline", query=ReadTimeline,
          response=list[shapes.Entry], paged=True, tag="timeline"),
    Route("GET", f"{API}/workspaces/{{id}}/timeline/{{commit}}", "agent", read_one, "Read one commit", query=ReadEntry,
          response=OneEntry, tag="timeline"),
)  # fmt: skip
