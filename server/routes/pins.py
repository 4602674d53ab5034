"""Pins: an artifact that is kept whatever the retention of its workflow says."""

from __future__ import annotations

import msgspec

from gitstore import values
from gitstore.changes import Outcome
from gitstore.model import Artifact
from server.call import Call
from server.http import API, Reply, Route
from server.routes import common
from server.shapes import artifacts as shapes


async def _set(call: Call, pinned: bool) -> Reply:
    work, workspace = call.app.work, (await common.workspace(call)).id
    artifact = work.artifact(workspace, call.params["artifact"])
    outcome: Outcome[Artifact] = await call.settle(work.pin_artifact(workspace, artifact, pinned, call.provenance))
    changed = outcome.value
    if outcome.commit is not None:
        changed = msgspec.structs.replace(changed, commit=outcome.commit.id)
    data = values.encode(work.shown(workspace, changed))
    return Reply(data, etag=values.etag(data))


async def pin(call: Call) -> Reply:
    """Keeps the artifact; an expired one is not there to be kept."""
    return await _set(call, True)


async def unpin(call: Call) -> Reply:
    """From here on the artifact is kept as long as its workflow says."""
    return await _set(call, False)


_PIN = f"{API}/workspaces/{{id}}/artifacts/{{artifact}}/pin"

ROUTES = (
    Route("PUT", _PIN, "agent", pin, "Pin an artifact", response=shapes.Artifact, tag="artifacts"),
    Route("DELETE", _PIN, "agent", unpin, "Unpin an artifact", response=shapes.Artifact, tag="artifacts"),
)
