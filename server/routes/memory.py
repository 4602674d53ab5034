"""Memory: set, deleted, read; one slot or the whole object."""

from __future__ import annotations

from msgspec import UNSET

from gitstore import memory, names, record, values
from gitstore.changes import Draft, Outcome
from gitstore.errors import NotFound
from gitstore.model import Touch
from gitstore.past import Moment
from server.call import Call
from server.http import API, Reply, Route
from server.routes import common
from server.shapes.common import Object, ReadAt
from server.shapes.workspaces import MemorySlot, SetMemory, Workspace


async def update(call: Call) -> Reply:
    """Sets one slot or several, in one commit; answers with the workspace record and the ETag of what was set."""
    body: SetMemory = call.body
    updates = body.updates if body.updates is not UNSET else {body.key: body.value}
    precondition, single = call.precondition, body.updates is UNSET
    found = await common.workspace(call)

    def operation(draft: Draft) -> Touch | None:
        changed = memory.set(draft, updates, precondition=precondition, key_etag=single)  # type: ignore[arg-type]
        if changed or not single:
            return None
        entry = draft.context.memory.get(body.key)  # type: ignore[arg-type]
        return draft.last_touch(entry.path) if entry is not None else None

    outcome = await call.settle(call.app.store.apply(found.id, "main", operation, call.provenance))
    return common.record(outcome, etag=_etag(outcome, body.key if single else None))  # type: ignore[arg-type]


def _etag(outcome: Outcome[Touch | None], key: str | None) -> str:
    context = outcome.snapshot.context
    entry = context.memory.get(key) if key is not None else None
    if entry is None:
        return memory.etag(context)
    return values.etag(record.render_memory_entry(entry, outcome.value or common.touch(outcome.commit)))


async def delete(call: Call) -> Reply:
    """Deletes one slot; a slot that is not there is no error."""
    key, precondition = call.params["key"], call.precondition
    return common.record(
        await common.change(call, "main", lambda draft: memory.delete(draft, key, precondition=precondition))
    )


async def read_all(call: Call) -> Reply:
    """The memory object itself."""
    snapshot, then = await common.state(call)
    data = snapshot.context.memory_json()
    return common.dated(Reply(data, etag=values.etag(data)), then)


async def read(call: Call) -> Reply:
    """One slot, with the commit that last set it."""
    key, at = call.params["key"], call.query.at
    found = await common.workspace(call)
    moment: Moment | None = None
    if at is None:
        entry = found.visible.context.memory.get(key)
        touch = call.app.store.last_touch(found.id, "main", entry.path) if entry is not None else None
    else:
        past = call.app.past
        slot = past.known_slot(found, at, key)
        moment, entry, touch = slot if slot is not None else await call.offload(past.slot, found, at, key)
    if entry is None:
        has = "has" if moment is None else "had then"
        raise NotFound(f"the memory {has} no key `{names.one_line(key, 80)}`")
    data = record.render_memory_entry(entry, touch)
    return common.dated(Reply(data, etag=values.etag(data)), moment)


_ALL = f"{API}/workspaces/{{id}}/memory"
ROUTES = (
    Route("PATCH", _ALL, "agent", update, "Set memory", body=SetMemory, response=Workspace, tag="memory"),
    Route("GET", _ALL, "agent", read_all, "Read the memory", query=ReadAt, response=Object, tag="memory"),
    Route("GET", f"{_ALL}/{{key}}", "agent", read, "Read one slot", query=ReadAt, response=MemorySlot, tag="memory"),
    Route("DELETE", f"{_ALL}/{{key}}", "agent", delete, "Delete one slot", response=Workspace, tag="memory"),
)
