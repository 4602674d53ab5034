"""What the handlers of several resources share: finding a workspace, making a change, pieces of their answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from gitstore.changes import Draft, Outcome, Workspace
from gitstore.model import Branch, CommitFacts, Touch
from server.call import Call
from server.http import Page, Reply
from server.shapes.common import Paging

T = TypeVar("T")


async def workspace(call: Call, name: str = "id") -> Workspace:
    """The workspace that the path names, read from disk if it is not in memory. Raises NotFound."""
    store = call.app.store
    reference = call.params[name]
    found = store.hot(reference)
    return found if found is not None else await call.offload(store.load, reference)


async def change(call: Call, branch: Branch, operation: Callable[[Draft], T]) -> Outcome[T]:
    """Makes a change of the workspace that the path names, and waits until it is durable."""
    found = await workspace(call)
    return await call.settle(call.app.store.apply(found.id, branch, operation, call.provenance))


def touch(commit: CommitFacts | None) -> Touch | None:
    """A change's commit as the one that last touched what it changed."""
    return Touch(commit.id, commit.time, commit.actor) if commit is not None else None


def given(body: msgspec.Struct) -> dict[str, Any]:
    """The fields of a body that were sent."""
    fields = ((name, getattr(body, name)) for name in body.__struct_fields__)
    return {name: value for name, value in fields if value is not UNSET}


def record(outcome: Outcome[Any], status: int = 200, etag: str | None = None) -> Reply:
    """The workspace record right after a change; `etag` where that of another resource is due."""
    data, tag = outcome.snapshot.record()
    return Reply(data, status=status, etag=etag or tag)


def page(rows: list[Any], query: Paging) -> Reply:
    """One page of a list that is in memory."""
    start = (query.page - 1) * query.per_page
    return Reply(rows[start : start + query.per_page], page=Page(query.page, query.per_page, len(rows)))
