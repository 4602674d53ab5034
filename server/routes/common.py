"""What the handlers of several resources share: finding a workspace, making a change, pieces of their answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from gitstore.changes import Draft, Outcome, Workspace
from gitstore.model import Branch, CommitFacts, Touch
from gitstore.past import Moment, Part, Then
from gitstore.snapshot import Snapshot
from server.call import Call
from server.http import Page, Raw, Reply
from server.shapes.common import Paging

T = TypeVar("T")
A = TypeVar("A", Reply, Raw)


async def workspace(call: Call, name: str = "id") -> Workspace:
    """The workspace that the path names, read from disk if it is not in memory. Raises NotFound."""
    store = call.app.store
    reference = call.params[name]
    found = store.hot(reference)
    return found if found is not None else await call.offload(store.load, reference)


async def then(call: Call, found: Workspace, part: Part | None = None) -> Then | None:
    """The workspace, or only a part of it, as it was, where the query says `at`. Raises NotFound, Invalid."""
    at: str | None = call.query.at
    if at is None:
        return None
    past = call.app.past
    return past.known(found, at, part) or await call.offload(past.at, found, at, part)


async def state(call: Call, part: Part | None = None) -> tuple[Snapshot, Then | None]:
    """The state of the workspace that the path names: the newest, or that (or a part) of the query's `at`."""
    found = await workspace(call)
    asked = await then(call, found, part)
    return (found.visible, None) if asked is None else (asked.snapshot, asked)


def dated(answer: A, moment: Then | Moment | None) -> A:
    """The answer with the moment it is of: `meta.at`, and the header `Gitstore-At`."""
    if moment is None:
        return answer
    if isinstance(moment, Then):
        moment = moment.moment
    commit = moment.main or moment.evidence
    if commit is not None:
        answer.headers = (*answer.headers, ("Gitstore-At", commit))
    if isinstance(answer, Reply):
        answer.meta = {**(answer.meta or {}), "at": moment.shown()}
    return answer


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
