"""What nobody needs any more is taken away: expired artifacts off the branch, large objects that nothing names.

Nothing younger than a time of grace is touched, and what is taken is looked at again under the workspace's locks.
History stays: an artifact that was taken off is still in it, and the timeline tells who took it and when.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import msgspec

from gitstore import artifacts, evidence, retention
from gitstore.changes import Draft, Workspace
from gitstore.errors import GitstoreError
from gitstore.lfs.objects import listed, naming
from gitstore.model import SYSTEM, Artifact, Provenance
from gitstore.named import Named
from gitstore.repository.objects import Oid
from gitstore.store import Store
from gitstore.work import Work
from gitstore.workflows import find_task, find_workflow

GRACE = 14.0  # days
_DAY = 86_400.0
_BATCH = 500  # artifacts that one commit takes off the branch

log = logging.getLogger("gitstore.reclaiming")


class Reclaimed(msgspec.Struct, frozen=True):
    """Something that was, or in a dry run would be, taken away; `bytes` is what the disk gains by it.

    An `artifact` has the id and the path it had, an `object` its SHA-256, a half-written one the name of its file.
    `workspace` is None for what no workspace
    had. `why` is a sentence for a person.
    """

    what: Literal["artifact", "object"]
    workspace: str | None
    id: str
    bytes: int
    why: str
    path: str | None = None


def reclaim(
    store: Store,
    references: Sequence[str] = (),
    *,
    days: float = GRACE,
    dry_run: bool = False,
    now: float | None = None,
) -> Iterator[Reclaimed]:
    """Takes away what is older than `days`, in these workspaces or in all, and tells of each piece when it has gone.

    A workspace that cannot be read is passed over, with a warning in the log. Raises NotFound, StorageFailed.
    """
    moment = time.time() if now is None else now
    before = moment - days * _DAY
    wanted = [store.find(reference) for reference in references] or sorted(store.catalog.workspaces())
    gone: Counter[str] = Counter()
    for identity in wanted:
        try:
            yield from _expired(store, identity, before, dry_run=dry_run)
            if not dry_run:  # a branch that lags behind on the disk still names what has just been taken off it
                store.publisher.publish(store.load(identity))
            yield from _halves(store, identity, before, dry_run=dry_run)
            for one in _objects(store, identity, before, days, gone, dry_run=dry_run):
                gone[one.id] += 1
                yield one
        except (GitstoreError, OSError) as error:
            log.warning(
                "workspace %s: what nobody needs there stays, for not all of it can be read: %s", identity, error
            )
    if not references:
        yield from _unheld(store, before, days, gone, dry_run=dry_run)


# --- artifacts ------------------------------------------------------------------------------------------------------


def _expired(store: Store, identity: str, before: float, *, dry_run: bool) -> Iterator[Reclaimed]:
    work, moment = Work(store), int(before * 1000)
    due = [
        one
        for found in store.catalog.artifacts(identity)
        if retention.expired(one := work.retained(identity, found), moment)
    ]
    for start in range(0, len(due), _BATCH):
        batch = due[start : start + _BATCH]
        taken = batch
        if not dry_run:
            taken = store.apply(identity, "evidence", partial(_take_off, due=batch, moment=moment), _WHO).result().value
        for one in taken:
            why = f"it expired at {retention.expiry(one)}, as the retention of its workflow says"
            yield Reclaimed("artifact", identity, one.id, 0, why, one.path)


_WHO = Provenance(SYSTEM, "cli")


def _take_off(draft: Draft, due: list[Artifact], moment: int) -> list[Artifact]:
    """Removes those that are still due: not pinned meanwhile, their workflow neither reopened nor told to keep them."""
    taken = []
    for one in due:
        flow = one.workflow_id
        if flow is None and one.task_id is not None and (task := find_task(draft, one.task_id)[1]) is not None:
            flow = task.workflow_id
        workflow = find_workflow(draft, flow)[1] if flow is not None else None
        folder = evidence.locate(draft.tree, "artifact", one.id, draft.workspace)
        if folder is None or evidence.is_pinned(draft.tree, folder):
            continue
        if retention.expired(retention.retained(one, workflow), moment):
            artifacts.delete(draft, one)
            taken.append(one)
    if taken:
        draft.describe("artifact.deleted", f"artifact: take {len(taken)} off that expired")
    return taken


# --- large objects --------------------------------------------------------------------------------------------------


def _objects(
    store: Store, identity: str, before: float, days: float, gone: Counter[str], *, dry_run: bool
) -> Iterator[Reclaimed]:
    """`gone`: from how many workspaces each object went already, or would have gone."""
    workspace = store.load(identity)
    objects = workspace.repository.objects
    old = {oid for oid in objects.oids() if _old(objects.path(oid), before) is not None}
    old -= {one.sha256 for one in store.catalog.artifacts(identity)}
    if not old:
        return
    named, since = Named(workspace.repository), int(before * 1000)
    _look(workspace, named, since)
    with workspace.lock, workspace.publishing:
        _look(workspace, named, since)  # what came meanwhile
        for oid in sorted(old - named.oids):
            path = objects.path(oid)
            with naming:
                state = _old(path, before)
                if state is None:
                    continue  # it was asked for again
                pool = f"{objects.pool}/{oid[:2]}/{oid[2:4]}/{oid}" if objects.pool is not None else None
                shared = pool is not None and _same(state, pool)
                if not dry_run:
                    store.disk.unlink(path)
                    if pool is not None and shared and state.st_nlink == 2:
                        store.disk.unlink(pool)
            names = state.st_nlink - (gone[oid] if dry_run and shared else 0)
            frees = state.st_size if names == (2 if shared else 1) else 0
            yield Reclaimed("object", identity, oid, frees, f"no commit has named it for {days:g} days")


def _halves(store: Store, identity: str, before: float, *, dry_run: bool) -> Iterator[Reclaimed]:
    """What a filter of somebody's git that was killed left half-written."""
    folder = f"{store.load(identity).repository.git}/lfs/tmp"
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        state = _old(f"{folder}/{name}", before)
        if state is not None:
            if not dry_run:
                store.disk.unlink(f"{folder}/{name}")
            yield Reclaimed("object", identity, name, state.st_size, "what was writing it was killed")


def _look(workspace: Workspace, named: Named, since: int) -> None:
    heads: list[Oid] = []
    evidence_head = None
    for snapshot in (workspace.visible, workspace.tip):
        heads += [head for head in (snapshot.lines["main"].oid,) if head is not None]
        evidence_head = snapshot.lines["evidence"].oid
    named.look(heads, evidence_head, since)


def _unheld(store: Store, before: float, days: float, gone: Counter[str], *, dry_run: bool) -> Iterator[Reclaimed]:
    """What only the store itself still has a name for."""
    pool = str(store.layout.large)
    for oid in listed(pool):
        path = f"{pool}/{oid[:2]}/{oid[2:4]}/{oid}"
        with naming:
            state = _old(path, before)
            if state is None or state.st_nlink > 1 or oid in gone:
                continue
            if not dry_run:
                store.disk.unlink(path)
        yield Reclaimed("object", None, oid, state.st_size, f"no workspace has had it for {days:g} days")


def _old(path: str, before: float) -> os.stat_result | None:
    """The state of a file that was last put there, or asked for, before a moment (seconds)."""
    try:
        state = os.lstat(path)
    except FileNotFoundError:
        return None
    return state if stat.S_ISREG(state.st_mode) and state.st_mtime < before else None


def _same(state: os.stat_result, path: str) -> bool:
    try:
        return os.path.samestat(state, os.lstat(path))
    except FileNotFoundError:
        return False
