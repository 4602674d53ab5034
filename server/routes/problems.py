"""Problems: what in a workspace's files a person must mend."""

from __future__ import annotations

from gitstore.record import problem_record
from server.call import Call
from server.http import API, Page, Reply, Route
from server.routes import common
from server.shapes.problems import Problem


async def list_all(call: Call) -> Reply:
    """Every problem of the workspace's files; empty where they are sound."""
    found = (await common.workspace(call)).visible.problems
    rows = [problem_record(one) for one in found]
    return Reply(rows, page=Page(1, max(len(rows), 1), len(rows)))


ROUTES = (
    Route("GET", f"{API}/workspaces/{{id}}/problems", "agent", list_all, "List problems", response=list[Problem],
          paged=True, tag="problems"),
)  # fmt: skip
