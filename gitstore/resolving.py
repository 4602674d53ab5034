"""Settling a problem, whatever its kind: by one of two sides, or with a value for the file."""

from __future__ import annotations

from typing import Any, Literal

from gitstore import edits, rewrites
from gitstore.changes import Draft, Workspace
from gitstore.checkout import SOURCE, Checkouts
from gitstore.documents import MISSING
from gitstore.errors import Conflict, Invalid, NotFound
from gitstore.joining import settle_rewrite
from gitstore.model import Problem, Provenance
from gitstore.repository.objects import Oid
from gitstore.repository.status import Edit
from gitstore.store import Store

Take = Literal["file", "main"] | None


def resolve(
    store: Store,
    checkouts: Checkouts,
    workspace: Workspace,
    identity: str,
    *,
    take: Take,
    value: Any = MISSING,
    who: Provenance,
) -> None:
    """Settles the problem with this id; with `take` None, `value` is what its file is to say.

    Raises NotFound, Conflict where there is nothing to decide (any more), Invalid where what is asked for breaks a
    rule, Unavailable.
    """
    problem = next((problem for problem in workspace.visible.problems if problem.id == identity), None)
    if problem is None:
        raise NotFound(f"there is no problem `{identity[:40]}` (any more)")
    if problem.kind == "rewrite":
        _rewrite(store, workspace, problem, take, who)
    elif any(told.id == identity for told in workspace.sources.get(SOURCE, ())) and problem.path:
        checkouts.resolve(workspace, problem, take=take, value=value, who=who)
    elif problem.path and take is None:
        store.apply(workspace.id, "main", lambda draft: _write(draft, problem, value), who).result()
    else:
        raise Conflict(f"this problem has no two sides to choose from: {problem.message} {problem.hint}".strip())


def _rewrite(store: Store, workspace: Workspace, problem: Problem, take: Take, who: Provenance) -> None:
    if take is None:
        raise Invalid('a rewrite is settled with {"take": "main"} or {"take": "file"}')
    joined = store.history.find_commit(workspace.id, problem.id)
    if joined is None:
        raise NotFound(f"there is no commit {problem.id}")
    settle_rewrite(workspace, Oid(bytes.fromhex(joined)), who, restore=take == "main").result()
    workspace.tell(rewrites.SOURCE, rewrites.standing(store.history, workspace.repository, workspace.id))


def _write(draft: Draft, problem: Problem, value: Any) -> None:
    blob = draft.blob(problem.path)
    if blob is None:
        raise Conflict(f"`{problem.path}` is not there any more")
    here = Oid(bytes.fromhex(blob))
    edits.settle(draft, Edit(problem.path, here, here, None, False, 0.0), take=None, value=value)
