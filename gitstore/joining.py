"""Commits that others made, taken into a branch: what a person's git did in the checkout, a push, a remote's branch.

A branch goes only forward. A line that extends it is taken as it is; anything else is joined by a commit of ours whose
parents are the old head and the new tip, so that no commit that was ever acknowledged stops being an ancestor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal, NamedTuple

from gitstore import documents, intent
from gitstore.changes import Change, Closed, Outcome, Workspace
from gitstore.context import WORKSPACE, Context
from gitstore.errors import Conflict, Invalid
from gitstore.facts import author, line, message, server_signature, walk
from gitstore.intent import blob_at
from gitstore.merging import Clash, Merged, merge
from gitstore.model import SYSTEM, Branch, CommitFacts, Kind, Provenance
from gitstore.pending import Pending
from gitstore.repository import journal
from gitstore.repository.ancestry import base as common
from gitstore.repository.ancestry import is_ancestor, leads_to
from gitstore.repository.commits import Signature, build
from gitstore.repository.journal import Files
from gitstore.repository.objects import Blob, Object, Oid
from gitstore.repository.repository import Foreign
from gitstore.repository.trees import FILE_MODE, Node, Tree, TreeView, rewrite
from gitstore.snapshot import Line, Snapshot

Check = Callable[[TreeView, TreeView], None]
REWRITE = "Rewrite"  # Gitstore-Rewrite: where the branch was shown before somebody rewrote it
SETTLES = "Settles"  # Gitstore-Settles: the commit that joined a rewrite about which somebody has decided
_LISTED = 20  # conflicts that a message names
_DISK = Provenance(SYSTEM, "disk")


class Joined(NamedTuple):
    """What became of it: where the branch is now, the places where both sides differed, and whether we joined them."""

    head: str
    clashes: tuple[Clash, ...] = ()
    joined: bool = False


class Turn(NamedTuple):
    """What `main` is to be (all files of it, and what of them is not stored yet), and what its commit says.

    `context` is what the files say, where that is known; else they are read.
    """

    merged: Merged
    kind: Kind
    name: str
    more: Mapping[str, str] = {}
    context: Context | None = None


def take_in(workspace: Workspace, foreign: Foreign) -> Pending[Outcome[Joined]]:
    """Takes in a branch that somebody's git moved in the checkout; where both sides differ, this store's side stays.

    What the store changed since it last showed the branch is merged over the new tip. Where a person's file clashes
    with that, it stays as it is in the checkout, as an edit that is not committed.
    """
    branch: Branch = "evidence" if foreign.branch == "evidence" else "main"
    found = foreign.found
    repository = workspace.repository
    if found is not None:
        repository.database.close()  # packs that git made a moment ago are to be seen
        repository.adopt(foreign.shown, found)
    with workspace.lock:
        if found is None:
            # Somebody deleted the branch: ours is put back.
            repository.shown[branch] = None
            tip = workspace.tip
            return Pending.of(Outcome(Joined(tip.lines[branch].head or ""), tip, None))
        arrival = _Arrival(workspace, branch)
        old = arrival.old.oid
        arrival.tip = found
        shown = foreign.shown
        if old is None or arrival.extended_by(found):
            slips = intent.slips(repository, old, found, old)
            if branch == "main":
                edits = slips.mended()
                arrival.mend({**edits, **_slug(arrival, arrival.changed(found, edits))})
        else:
            since = old if is_ancestor(repository, old, found) else shown
            more = {}
            name = f"join {branch} with {found.hex()[:12]}"
            if shown is not None and is_ancestor(repository, shown, found):
                # Not what was shown: a join of an earlier part of this line may have been cut off from publication.
                since = common(repository, old, found)
                if since == found:
                    # All of it was joined already, by a process that ended before it could show that.
                    repository.hold(found)
                    repository.shown[branch] = found
                    return Pending.of(Outcome(Joined(old.hex()), workspace.tip, None))
            elif shown is not None:
                more = {REWRITE: shown.hex()}
                name = f"{branch} was rewritten by hand: join {found.hex()[:12]}, keep what it left out"
            slips = intent.slips(repository, since, found, old)
            right = arrival.changed(found, slips.mended() if branch == "main" else {})
            merged = merge(repository, since, old, found, right=right)
            arrival.join(merged, name, _DISK, more)
            arrival.mend(_slug(arrival, repository.tree(arrival.tip)))
            arrival.clashes = merged.clashes
            if branch == "main":
                before = repository.tree(since)
                arrival.kept = {clash.path: blob_at(before, clash.path) for clash in merged.clashes}
        if branch == "main":
            arrival.taken = slips.taken(arrival.kept)
        pending = arrival.hand_in()
        repository.shown[branch] = found
        workspace.joins += 1
        return pending


def push(
    workspace: Workspace, branch: Branch, old: Oid | None, new: Oid, who: Provenance, check: Check
) -> Pending[Outcome[Joined]]:
    """Moves a branch from `old` to `new`, which has it as an ancestor and whose objects are durable.

    `check` is given the files before and after, inside the lock; what it raises is raised here, and then nothing has
    happened. Raises Conflict where the branch is not at `old`, does not lead to `new`, or the slug is taken.
    """
    with workspace.lock:
        arrival = _Arrival(workspace, branch)
        if arrival.old.oid != old:
            raise Conflict(f"{branch} has moved meanwhile: fetch first", details={"head": arrival.old.head})
        if old is not None and not is_ancestor(workspace.repository, old, new):
            raise Conflict(f"{branch} can only go forward: fetch first, and merge", details={"head": arrival.old.head})
        return _forward(arrival, new, who, check)


def merge_in(
    workspace: Workspace,
    branch: Branch,
    new: Oid,
    who: Provenance,
    *,
    on_conflict: Literal["refuse", "ours", "theirs"],
    check: Check,
) -> Pending[Outcome[Joined]]:
    """Takes the commits up to `new`, whose objects are durable, into a branch: forward, or by a merge by meaning.

    Where both sides differ, the side that `on_conflict` names stays. Raises Conflict, with each place in
    `details.conflicts`, where it says "refuse"; also where the lines have nothing in common, or the slug is taken.
    `check`: see `push`.
    """
    with workspace.lock:
        repository = workspace.repository
        arrival = _Arrival(workspace, branch)
        old = arrival.old.oid
        if old is None or is_ancestor(repository, old, new):
            return _forward(arrival, new, who, check)
        if is_ancestor(repository, new, old):
            outcome = Outcome(Joined(old.hex()), workspace.tip, None)
            return workspace.settled().then(lambda _: outcome)
        since = common(repository, old, new)
        if since is None:
            raise Conflict(f"{new.hex()[:12]} has no history in common with {branch}: it is another repository's")
        merged = merge(repository, since, old, new, prefer="theirs" if on_conflict == "theirs" else "ours")
        if merged.clashes and on_conflict == "refuse":
            raise conflict(merged.clashes)
        arrival.tip = new
        subject = repository.commit(new).subject or new.hex()[:12]
        arrival.join(merged, f"merge: {subject}", who)
        arrival.clashes = merged.clashes
        check(repository.tree(old), TreeView(repository.database, arrival.root))
        return arrival.hand_in()


def settle_rewrite(workspace: Workspace, rewrite: Oid, who: Provenance, *, restore: bool) -> Pending[Outcome[Joined]]:
    """Decides about a rewrite of `main` that the commit `rewrite` joined: brings back what it left out, or says that
    it stays.

    What was changed since stays where both differ, and is named among the clashes. Raises Invalid where the commit
    joined no rewrite.
    """
    with workspace.lock:
        repository = workspace.repository
        commit = repository.commit(rewrite)
        shown = commit.trailers.get(f"Gitstore-{REWRITE}")
        arrival = _Arrival(workspace, "main")
        old = arrival.old.oid
        if shown is None or len(commit.parents) != 2 or old is None:
            raise Invalid(f"{rewrite.hex()[:12]} joined no rewrite of main")
        merged = Merged(repository.tree(old).root, [], [], ())
        name = f"the rewrite that {rewrite.hex()[:12]} joined stays"
        if restore:
            merged = merge(repository, commit.parents[1], old, Oid(bytes.fromhex(shown)))
            name = f"bring back what the rewrite that {rewrite.hex()[:12]} joined left out"
        arrival.settle(merged, name, who, {SETTLES: rewrite.hex()})
        arrival.clashes = merged.clashes
        return arrival.hand_in()


def turn(workspace: Workspace, make: Callable[[Snapshot], Turn], who: Provenance) -> Pending[Outcome[Turn]]:
    """Gives `main` the files that `make` says, in one commit on the newest state, which `make` is given in the lock.

    What it raises is raised here, and then nothing has happened. The files that are there already make no commit.
    Raises Closed, and Conflict where the slug that they say is taken.
    """
    with workspace.lock:
        if workspace.closed:
            raise Closed
        arrival = _Arrival(workspace, "main")
        made = make(arrival.base)
        if made.merged.root == arrival.old.root:
            outcome: Outcome[Turn] = Outcome(made, arrival.base, None)
            return workspace.settled().then(lambda _: outcome)
        arrival.settle(made.merged, made.name, who, made.more, kind=made.kind)
        arrival.known = made.context
        return arrival.hand_in().then(lambda done: Outcome(made, done.snapshot, done.commit))


def conflict(clashes: Iterable[Clash]) -> Conflict:
    """The error that names the places where both sides differ, with both values."""
    found = list(clashes)
    lines = "".join(f"\n  {clash.text('in the store', 'in yours')}" for clash in found[:_LISTED])
    more = f"\n  … and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return Conflict(
        f"both sides changed the same:{lines}{more}", details={"conflicts": [clash.record() for clash in found]}
    )


def _forward(arrival: _Arrival, new: Oid, who: Provenance, check: Check) -> Pending[Outcome[Joined]]:
    repository, old = arrival.repository, arrival.old.oid
    if old == new:
        outcome = Outcome(Joined(new.hex()), arrival.workspace.tip, None)
        return arrival.workspace.settled().then(lambda _: outcome)
    arrival.tip = new
    if old is None or arrival.extended_by(new):
        repository.mark_pushed(oid for oid, _ in line(repository, new, old))
    else:
        same = Merged(repository.tree(new).root, [], [], ())
        arrival.join(same, f"join {arrival.branch} with {new.hex()[:12]}", who)
    check(repository.tree(old), TreeView(repository.database, arrival.root))
    return arrival.hand_in()


class _Arrival:
    """One move of a branch in the making, seen from the newest state. The workspace's lock is held."""

    def __init__(self, workspace: Workspace, branch: Branch) -> None:
        self.workspace = workspace
        self.repository = workspace.repository
        self.branch: Branch = branch
        self.base = workspace.tip
        self.old = self.base.lines[branch]
        self.now = max(int(time.time() * 1000), self.old.time)
        self.objects: list[Object] = []
        self.clashes: tuple[Clash, ...] = ()
        self.kept: Files = {}
        self.taken: Files = {}
        self.joined = False
        self.known: Context | None = None  # what the files say, where that need not be read
        self._tip: Oid | None = None
        self._root: Oid | None = None

    @property
    def tip(self) -> Oid:
        """Where the branch is to be."""
        assert self._tip is not None
        return self._tip

    @tip.setter
    def tip(self, tip: Oid) -> None:
        self._tip, self._root = tip, None

    @property
    def root(self) -> Oid:
        """The tree it is to have."""
        if self._root is None:
            self._root = self.repository.tree(self.tip).root
        return self._root

    def extended_by(self, new: Oid) -> bool:
        """Whether the old head is on the first-parent line of `new`."""
        return self.old.oid is not None and leads_to(self.repository, self.old.oid, new)

    def join(self, merged: Merged, name: str, who: Provenance, more: Mapping[str, str] | None = None) -> None:
        """Makes the commit that has the old head and the tip as parents."""
        assert self.old.oid is not None
        self._keep(merged.objects, merged.trees)
        self._commit(merged.root, (self.old.oid, self.tip), name, who, more)

    def mend(self, edits: Mapping[str, Blob | None]) -> None:
        """Makes a commit on the tip that has these files too, if there are any."""
        if not edits:
            return
        root = self._edited(self.root, edits)
        paths = ", ".join(sorted(edits)[:3]) + (f" and {len(edits) - 3} more" if len(edits) > 3 else "")
        self._commit(root, (self.tip,), f"keep what was changed meanwhile: {paths}", _DISK)

    def changed(self, commit: Oid, edits: Mapping[str, Blob | None]) -> TreeView:
        """The files of a commit with these edits."""
        view = self.repository.tree(commit)
        if not edits:
            return view
        return TreeView(self.repository.database, self._edited(view.root, edits))

    def _edited(self, root: Oid, edits: Mapping[str, Blob | None]) -> Oid:
        blobs = [blob for blob in edits.values() if blob is not None]
        nodes = {path: Node(FILE_MODE, blob.id) if blob is not None else None for path, blob in edits.items()}
        root, trees = rewrite(self.repository.database, root, nodes)
        self._keep([*blobs, *(item for item, _ in trees)], trees)
        return root

    def _keep(self, objects: Sequence[Object], trees: Iterable[tuple[Object, Tree]]) -> None:
        self.objects += objects
        self.repository.database.keep(objects)
        for item, tree in trees:
            self.repository.database.keep_tree(item, tree)

    def settle(
        self, merged: Merged, name: str, who: Provenance, more: Mapping[str, str], kind: Kind = "restore"
    ) -> None:
        """Makes a commit on the old head that has this tree, were it the same."""
        assert self.old.oid is not None
        self._keep(merged.objects, merged.trees)
        self._commit(merged.root, (self.old.oid,), name, who, more, kind=kind)

    def _commit(
        self,
        root: Oid,
        parents: tuple[Oid, ...],
        name: str,
        who: Provenance,
        more: Mapping[str, str] | None = None,
        *,
        kind: Kind = "merge",
    ) -> None:
        text = message(kind, name, "completed", self.now, who, more=more)
        signature = Signature(*author(who.actor), self.now // 1000)
        commit = build(root, parents, signature, server_signature(self.now), text)
        self.repository.database.keep((commit,))
        self.objects.append(commit)
        self.joined = True
        self.tip = commit.id

    def context(self, root: Oid) -> Context:
        """What the tree says, if it is that of `main`."""
        if self.branch != "main":
            return self.base.context
        if self.known is not None:
            return self.known
        view = TreeView(self.repository.database, root)
        return Context.load(view, previous=self.base.context, now=self.now, policy=self.base.context.policy)

    def hand_in(self) -> Pending[Outcome[Joined]]:
        """Gives it to the journal."""
        workspace, base, old = self.workspace, self.base, self.old
        context = self.context(self.root)
        with ExitStack() as stack:
            claimed = None
            if context.fields.slug != base.context.fields.slug:
                claimed = stack.enter_context(workspace.store.claim(context.fields.slug, workspace.id))
            facts = list(walk(self.repository, self.branch, line(self.repository, self.tip, old.oid), old.time))
            when = facts[-1].time if facts else old.time
            snapshot = Snapshot(
                workspace.id, context, {**base.lines, self.branch: Line(self.tip, self.root, when)}, self.repository,
                created_at=base.created_at,
                spec_version=base.spec_version + _spec_versions(facts if self.branch == "main" else ()),
                sealed=base.sealed, sealed_generation=base.sealed_generation, told=base.told,
            )  # fmt: skip
            slug = context.fields.slug
            record = journal.Record(
                workspace.id, workspace.folder, (journal.Move(self.branch, old.oid, self.tip),),
                tuple((o.id, o.base, o.entry(fast=True)) for o in self.objects),
                renamed=slug if slug != workspace.folder else None,
                kept=journal.telling(self.kept),
                taken=journal.telling(self.taken),
            )  # fmt: skip
            change = Change(workspace, record, snapshot, self.objects)
            pending = workspace.hand_in(change, facts, Joined(self.tip.hex(), self.clashes, self.joined))
            if claimed is not None:
                claimed(pending)
            return pending


# -- details -----------------------------------------------------------------------------------------------------------


def _slug(arrival: _Arrival, view: TreeView) -> dict[str, Blob | None]:
    """A slug that is taken stays what it was: the edit of these files of `main` that says so, if it is needed."""
    if arrival.branch != "main" or arrival.old.oid is None:
        return {}
    slug = arrival.base.context.fields.slug
    fields = arrival.context(view.root).fields
    if fields.slug == slug or arrival.workspace.free(fields.slug):
        return {}
    data = view.read(WORKSPACE) or b""
    return {WORKSPACE: Blob(documents.edit(data, {**documents.load(data), "slug": slug}))}


def _spec_versions(facts: Iterable[CommitFacts]) -> int:
    return sum(any("spec" in changed.parts for changed in fact.changes) for fact in facts)
