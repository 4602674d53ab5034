"""The stories of keys and files: every commit that changed them, and who last set each part of them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from gitstore import values
from gitstore.changes import Workspace
from gitstore.model import Stamp
from gitstore.reading import shown
from gitstore.retrospect import Row, Told
from gitstore.sightings import Sighting, Wanted
from server.call import Call
from server.http import API, Reply, Route
from server.routes import common
from server.shapes import history as shapes
from server.shapes.history import ReadBlame, ReadKeyBlame, ReadPathStory, ReadStory, SearchHistory

_NOBODY = dict.fromkeys(
    ("commit", "created_at", "kind", "name", "actor", "door", "request_id", "workflow_id", "task_id")
)


def stamped(stamp: Stamp | None) -> dict[str, Any]:
    """Who made a commit and when, as it is shown."""
    if stamp is None:
        return dict(_NOBODY)
    return {
        "commit": stamp.commit,
        "created_at": values.iso(stamp.time),
        "kind": stamp.kind,
        "name": stamp.name,
        "actor": msgspec.to_builtins(stamp.actor),
        "door": stamp.door,
        "request_id": stamp.request_id,
        "workflow_id": stamp.workflow_id,
        "task_id": stamp.task_id,
    }


def _turn(told: Told) -> dict[str, Any]:
    row = {**stamped(told.stamp), "op": told.turn.op}
    if told.turn.key is not None:
        row["key"] = told.turn.key
    row["path"] = shown(told.turn.path)
    if told.turn.old_path is not None:
        row["old_path"] = shown(told.turn.old_path)
    return row


def _key_turn(told: Told) -> dict[str, Any]:
    row = _turn(told)
    if told.value is not UNSET:
        row["value"] = told.value
    if told.cut:
        row["truncated"] = True
    return row


def _path_turn(told: Told) -> dict[str, Any]:
    return {**_turn(told), "blob": told.turn.blob, "size": told.size}


def _key_history(call: Call, found: Workspace) -> Reply:
    query: ReadStory = call.query
    page = call.app.retrospect.key_history(
        found, call.params["key"], page=query.page, per_page=query.per_page, cursor=query.cursor
    )
    rows = [_key_turn(told) for told in page.rows]
    return Reply(values.encode(rows), page=query.of(page.total), meta={"next_cursor": page.next_cursor})


async def key_history(call: Call) -> Reply:
    """Every value that a key had, newest first."""
    return await call.offload(_key_history, call, await common.workspace(call))


def _path_history(call: Call, found: Workspace) -> Reply:
    query: ReadPathStory = call.query
    page = call.app.retrospect.path_history(
        found, query.path, branch=query.branch, page=query.page, per_page=query.per_page, cursor=query.cursor
    )
    rows = [_path_turn(told) for told in page.rows]
    return Reply(values.encode(rows), page=query.of(page.total), meta={"next_cursor": page.next_cursor})


async def path_history(call: Call) -> Reply:
    """Every commit that changed a file, newest first."""
    return await call.offload(_path_history, call, await common.workspace(call))


def _key_blame(call: Call, found: Workspace) -> Reply:
    query: ReadKeyBlame = call.query
    moment = call.app.past.moment(found, query.at) if query.at is not None else None
    rows = call.app.retrospect.key_blame(found, call.params["key"], query.path, moment)
    return common.dated(_blamed("pointer", "value", rows, None), moment)


async def key_blame(call: Call) -> Reply:
    """Who last set each leaf of a key's value."""
    return await call.offload(_key_blame, call, await common.workspace(call))


def _blamed(place: str, value: str, rows: list[Row], type_: str | None) -> Reply:
    known: dict[str | None, dict[str, Any]] = {None: dict(_NOBODY)}
    shown_rows = []
    for row in rows:
        commit = row.stamp.commit if row.stamp is not None else None
        who = known.get(commit)
        if who is None:
            who = known[commit] = stamped(row.stamp)
        shown_rows.append({place: row.place, value: row.value, **who})
    data = values.encode(shown_rows if type_ is None else {"type": type_, "rows": shown_rows})
    return Reply(data, etag=values.etag(data))


def _blame(call: Call, found: Workspace) -> Reply:
    query: ReadBlame = call.query
    moment = call.app.past.moment(found, query.at) if query.at is not None else None
    blame = call.app.retrospect.blame(found, query.path, branch=query.branch, moment=moment)
    place, value = ("pointer", "value") if blame.type == "values" else ("line", "text")
    return common.dated(_blamed(place, value, blame.rows, blame.type), moment)


async def blame(call: Call) -> Reply:
    """Who last set each leaf of a document, or each line of a text."""
    return await call.offload(_blame, call, await common.workspace(call))


def _search(call: Call, found: Workspace) -> Reply:
    query: SearchHistory = call.query
    wanted = Wanted(query.q, query.part, query.path, query.key)
    look = call.app.sightings.look(found, wanted, cursor=query.cursor, most=query.per_page)
    reached = values.iso(look.reached) if look.reached is not None else None
    return Reply(
        values.encode([_sighting(one) for one in look.rows]), meta={"next_cursor": look.next_cursor, "reached": reached}
    )


def _sighting(one: Sighting) -> dict[str, Any]:
    row: dict[str, Any] = {"path": shown(one.path), "part": one.part}
    for name, value in (("key", one.key), ("pointer", one.pointer), ("line", one.line)):
        if value is not None:
            row[name] = value
    row["excerpt"] = one.excerpt
    row["from"] = stamped(one.since)
    row["until"] = stamped(one.until) if one.until is not None else None
    if one.cut:
        row["truncated"] = True
    return row


async def search(call: Call) -> Reply:
    """When a text was held by a file, from which commit until which."""
    return await call.offload(_search, call, await common.workspace(call))


_ONE = f"{API}/workspaces/{{id}}"
ROUTES = (
    Route("GET", f"{_ONE}/memory/{{key}}/history", "agent", key_history, "Read a key's history", query=ReadStory,
          response=list[shapes.KeyTurn], paged=True, tag="history"),
    Route("GET", f"{_ONE}/memory/{{key}}/blame", "agent", key_blame, "Blame a key's value", query=ReadKeyBlame,
          response=list[shapes.Leaf], tag="history"),
    Route("GET", f"{_ONE}/history", "agent", path_history, "Read a file's history", query=ReadPathStory,
          response=list[shapes.PathTurn], paged=True, tag="history"),
    Route("GET", f"{_ONE}/history/search", "agent", search, "Search through history", query=SearchHistory,
          response=list[shapes.Held], tag="history"),
    Route("GET", f"{_ONE}/blame", "agent", blame, "Blame a file", query=ReadBlame, response=shapes.Blame,
          tag="history"),
)  # fmt: skip
