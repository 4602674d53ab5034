"""Stand-in: takes commits that are in the object store into a branch, path by path."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from gitstore.changes import Change, Closed, Line, Outcome, Snapshot, Workspace
from gitstore.context import Context
from gitstore.errors import Conflict
from gitstore.facts import author, line, message, server_signature, walk
from gitstore.merging import merge
from gitstore.model import Branch, Provenance
from gitstore.pending import Pending
from gitstore.repository import journal
from gitstore.repository.commits import Signature, build
from gitstore.repository.objects import Object, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import TreeView, rewrite


class Clash(msgspec.Struct, frozen=True):
    """One path that both sides changed differently."""

    path: str
    pointer: str
    ours: Any
    theirs: Any

    def record(self) -> dict[str, Any]:
        """As JSON data."""
        return {"path": self.path, "pointer": self.pointer, "ours": self.ours, "theirs": self.theirs}


class Joined(msgspec.Struct, frozen=True):
    """What came of it."""

    head: str
    clashes: tuple[Clash, ...]
    joined: bool


def merge_in(
    workspace: Workspace,
    branch: Branch,
    new: Oid,
    who: Provenance,
    *,
    on_conflict: Literal["refuse", "ours", "theirs"],
    check: Callable[[TreeView, TreeView], None],
) -> Pending[Outcome[Joined]]:
    """See the plan."""
    with workspace.lock:
        if workspace.closed:
            raise Closed
        base, repository = workspace.tip, workspace.repository
        old = base.lines[branch]
        assert old.oid is not None
        ours, theirs = _ancestors(repository, old.oid), _ancestors(repository, new)
        if new in ours:
            return Pending.of(Outcome(Joined(old.oid.hex(), (), False), base, None))
        commits = line(repository, new, old.oid)
        objects: list[Object] = []
        clashes: tuple[Clash, ...] = ()
        now = max(int(time.time() * 1000), old.time)
        if old.oid in theirs and commits[0][1].parents[:1] == (old.oid,):
            root, head = repository.tree(new).root, new
            facts = list(walk(repository, branch, commits, old.time))
        else:
            since = next((one for one in theirs if one in ours), None)
            merged = merge(repository, since, old.oid, new)
            right = repository.tree(new)
            found = []
            for path in merged.clashes:
                sides = [(view.read(path) or b"").decode() for view in (repository.tree(old.oid), right)]
                found.append(Clash(path, "", *sides))
            clashes = tuple(found)
            if clashes and on_conflict == "refuse":
                raise Conflict("conflict", details={"conflicts": [one.record() for one in clashes]})
            root, trees = merged.root, merged.trees
            for tree_object, tree in trees:
                repository.database.keep_tree(tree_object, tree)
                objects.append(tree_object)
            if on_conflict == "theirs" and clashes:
                root, more = rewrite(repository.database, root, {one.path: right.node(one.path) for one in clashes})
                for tree_object, tree in more:
                    repository.database.keep_tree(tree_object, tree)
                    objects.append(tree_object)
            text = message("merge", f"join {branch} with {new.hex()[:12]}", "completed", now, who, None, None)
            commit = build(
                root, (old.oid, new), Signature(*author(who.actor), now // 1000), server_signature(now), text
            )
            repository.database.keep((commit,))
            objects.append(commit)
            head = commit.id
            facts = list(walk(repository, branch, line(repository, head, old.oid), old.time))
        view = TreeView(repository.database, root)
        check(base.tree(branch), view)
        context = Context.load(view, previous=base.context, now=now, policy=base.context.policy)
        snapshot = Snapshot(
            workspace.id, context, {**base.lines, branch: Line(head, root, facts[-1].time)}, repository,
            created_at=base.created_at, spec_version=base.spec_version,
            sealed=base.sealed, sealed_generation=base.sealed_generation,
        )  # fmt: skip
        record = journal.Record(
            workspace.id, workspace.folder, (journal.Move(branch, old.oid, head),),
            tuple((o.id, o.base, o.entry(fast=True)) for o in objects),
        )  # fmt: skip
        change = Change(workspace, record, snapshot, objects)
        return workspace._hand_in(change, facts, Joined(head.hex(), clashes, bool(objects)))


def _ancestors(repository: Repository, tip: Oid) -> dict[Oid, None]:
    found: dict[Oid, None] = {}
    todo = [tip]
    while todo:
        here = todo.pop(0)
        if here not in found:
            found[here] = None
            todo += repository.commit(here).parents
    return found
