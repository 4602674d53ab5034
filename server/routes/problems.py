"""Problems: what in a workspace a person must mend, and how it is settled."""

from __future__ import annotations

from msgspec import UNSET

from gitstore import resolving
from gitstore.changes import Workspace
from gitstore.record import problem_record
from server.call import Call
from server.http import API, Page, Reply, Route
from server.routes import common
from server.shapes import workspaces as shapes
from server.shapes.problems import Problem, Resolve


async def list_all(call: Call) -> Reply:
    """Every problem of the workspace; empty where all is sound."""
    found = (await common.workspace(call)).visible.problems
    rows = [problem_record(one) for one in found]
    return Reply(rows, page=Page(1, max(len(rows), 1), len(rows)))


def _resolve(call: Call, workspace: Workspace) -> None:
    body: Resolve = call.body
    take = None if body.take is UNSET else body.take
    resolving.resolve(
        call.app.store,
        call.app.live.checkouts,
        workspace,
        call.params["problem"],
        take=take,
        value=body.value,
        who=call.provenance,
    )


async def resolve(call: Call) -> Reply:
    """Settles a problem: by the side of the file or of `main`, or with a value; answers with the workspace record."""
    found = await common.workspace(call)
    await call.offload(_resolve, call, found)
    data, etag = (await common.workspace(call)).visible.record()
    return Reply(data, etag=etag)


_ALL = f"{API}/workspaces/{{id}}/problems"
ROUTES = (
    Route("GET", _ALL, "agent", list_all, "List problems", response=list[Problem], paged=True, tag="problems"),
    Route("POST", f"{_ALL}/{{problem}}/resolve", "admin", resolve, "Settle a problem", body=Resolve,
          response=shapes.Workspace, tag="problems"),
)  # fmt: skip
