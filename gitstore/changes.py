"""The one write path: preconditions → rules → objects → journal → (later) publication. Nothing else moves a branch.

A change is prepared under its workspace's lock, on top of the newest state (the tip), whether that is durable yet or
not; it is answered, and becomes visible to readers, once the journal has it on disk. If the journal fails, the tip goes
back to what is visible and everything built on it is answered with the error.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from gitstore import names, record, settings
from gitstore.context import Context
from gitstore.facts import author, changed_paths, line, message, server_signature, shown, trailer, walk
from gitstore.merging import merge
from gitstore.model import SYSTEM, Branch, ChangedPath, CommitFacts, Kind, Provenance, Touch
from gitstore.pending import Pending
from gitstore.repository import journal
from gitstore.repository.commits import Signature, build
from gitstore.repository.objects import EMPTY_TREE, Blob, Object, Oid
from gitstore.repository.repository import Foreign, Repository
from gitstore.repository.trees import FILE_MODE, Difference, Node, TreeView, encode_path, rewrite
from gitstore.secrets import Vault, encode_file

T = TypeVar("T")


class Closed(Exception):
    """The workspace has left memory, or was deleted: whoever holds it asks the store for it again."""


class Line(NamedTuple):
    """The end of a branch: its commit (None: the branch does not exist), its root tree, its effective time (ms)."""

    oid: Oid | None
    root: Oid
    time: int

    @property
    def head(self) -> str | None:
        """The commit id, 40 hexadecimal digits."""
        return self.oid.hex() if self.oid is not None else None


NOWHERE = Line(None, EMPTY_TREE, 0)


class Snapshot:
    """A workspace at one moment; never changes."""

    __slots__ = (
        "_rendered",
        "_source",
        "context",
        "created_at",
        "lines",
        "sealed",
        "sealed_generation",
        "spec_version",
        "workspace",
    )

    def __init__(
        self,
        workspace: str,
        context: Context,
        lines: Mapping[str, Line],
        source: Repository,
        *,
        created_at: int,
        spec_version: int,
        sealed: Mapping[str, bytes],
        sealed_generation: int,
    ) -> None:
        self.workspace = workspace
        self.context = context
        self.lines = lines
        self.created_at = created_at
        self.spec_version = spec_version
        self.sealed = sealed
        self.sealed_generation = sealed_generation
        self._rendered: tuple[bytes, str] | None = None
        self._source = source

    @property
    def main(self) -> Line:
        """The context branch."""
        return self.lines["main"]

    @property
    def evidence(self) -> Line:
        """The evidence branch."""
        return self.lines["evidence"]

    @property
    def updated_at(self) -> int:
        """When the context branch last moved."""
        return self.lines["main"].time

    def tree(self, branch: Branch = "main") -> TreeView:
        """The files of a branch."""
        return TreeView(self._source.database, self.lines[branch].root)

    def blob(self, blob: str) -> bytes:
        """The content of a blob. Raises Damaged where it is missing."""
        return self._source.database.blob(Oid(bytes.fromhex(blob)))

    def tree_at(self, commit: str) -> TreeView:
        """The files of a commit of either branch. Raises Damaged for one that is not here."""
        return self._source.tree(Oid(bytes.fromhex(commit)))

    def record(self) -> tuple[bytes, str]:
        """The workspace record as JSON, and its ETag; made once."""
        if self._rendered is None:
            head = self.main.head
            encoded = record.render(
                self.context,
                head=head,
                created_at=self.created_at,
                updated_at=self.updated_at,
                spec_version=self.spec_version,
                secret_configured=settings.GIT_TOKEN in self.sealed,
                webhook_secret_configured=settings.WEBHOOK_SECRET in self.sealed,
            )
            self._rendered = encoded, self.etag
        return self._rendered

    @property
    def etag(self) -> str:
        """The ETag of the workspace record."""
        return record.etag(self.main.head, self.sealed_generation, self.context.problems)


class Outcome(NamedTuple, Generic[T]):
    """What became of a change."""

    value: T
    snapshot: Snapshot
    commit: CommitFacts | None  # None: everything was so already


class Past(Protocol):
    """What the write path asks of history."""

    def last_touch(self, workspace: str, branch: Branch, path: str) -> Touch | None:
        """The durable commit that last changed a path."""


class Draft:
    """One change in the making, seen from the newest state of one branch."""

    def __init__(self, owner: Workspace, base: Snapshot, branch: Branch, now: int, who: Provenance) -> None:
        self._owner = owner
        self._base = base
        self.workspace = base.workspace
        self.branch: Branch = branch
        self.now = now
        self.provenance = who
        self.context = base.context
        self.spec_version = base.spec_version
        self.snapshot = base
        self.tree = base.tree(branch)
        self.edits: dict[str, Blob | None] = {}
        self.seals: dict[str, str | None] = {}
        self.kind: str = "changes"
        self.name = "change"
        self.state = "completed"
        self.workflow_id: str | None = None
        self.task_id: str | None = None

    @property
    def sealed(self) -> Mapping[str, bytes]:
        """The secrets sealed for this workspace, by name."""
        return self._base.sealed

    def read(self, path: str) -> bytes | None:
        """The file as this change leaves it."""
        if path in self.edits:
            edit = self.edits[path]
            return edit.data if edit is not None else None
        return self.tree.read(path)

    def blob(self, path: str) -> str | None:
        """The id of the file as this change leaves it."""
        if path in self.edits:
            edit = self.edits[path]
            return edit.id.hex() if edit is not None else None
        return self.tree.blob(path)

    def last_touch(self, path: str) -> Touch | None:
        """The commit that last changed a path, up to the newest state."""
        return self._owner.last_touch(self.branch, path)

    def write(self, path: str, data: bytes | Blob) -> None:
        """Sets a file. A large one comes as a Blob, hashed before the lock was taken."""
        self.edits[path] = data if isinstance(data, Blob) else Blob(data)

    def remove(self, path: str) -> None:
        """Removes a file, if it is there."""
        self.edits[path] = None

    def seal(self, name: str, text: str | None) -> None:
        """Keeps a secret outside the repository; None forgets it."""
        self.seals[name] = text

    def describe(
        self,
        kind: Kind,
        name: str,
        *,
        state: str = "completed",
        workflow_id: str | None = None,
        task_id: str | None = None,
    ) -> None:
        """The commit's kind and its subject, one line a person understands."""
        self.kind, self.name, self.state = kind, name, state
        self.workflow_id, self.task_id = workflow_id, task_id


class Change(journal.Entry):
    """A change on its way: what the journal needs, and what is to happen once it is durable."""

    __slots__ = ("facts", "heads", "objects", "owner", "pending", "sealed_file", "snapshot", "touched", "value")

    def __init__(self, owner: Workspace, record: journal.Record, snapshot: Snapshot, objects: list[Object]) -> None:
        super().__init__(journal.encode(record), self._done, self._failed)
        self.owner = owner
        self.snapshot = snapshot
        self.objects = objects
        self.heads = {move.branch: Oid(move.new) for move in record.moves}
        self.sealed_file = record.sealed
        self.facts: list[CommitFacts] = []
        self.touched: dict[tuple[str, str], Touch] = {}
        self.pending: Pending[Any] = Pending()
        self.value: Any = None

    def _done(self) -> None:
        self.owner.durable(self)
        self.pending.settle(Outcome(self.value, self.snapshot, self.facts[-1] if self.facts else None))

    def _failed(self, error: BaseException) -> None:
        self.owner.undo(self)
        self.pending.fail(error)


class Workspace:
    """One workspace that is in memory: its newest state, its durable state, and what waits for publication."""

    def __init__(
        self, snapshot: Snapshot, repository: Repository, folder: str, submit: Callable[[journal.Entry], None],
        past: Past, vault: Vault,
    ) -> None:  # fmt: skip
        self.id = snapshot.workspace
        self.repository = repository
        self.folder = folder
        self.lock = threading.RLock()
        self.publishing = threading.Lock()
        self.tip = snapshot
        self.visible = snapshot
        self.unpublished: deque[Change] = deque()
        self.since = 0.0  # when the oldest unpublished change became durable (time.monotonic)
        self.latest = 0.0
        self.closed = False
        self.deleting = False  # then nobody loads it again
        self.on_first: Callable[[Workspace], None] | None = None  # told when the workspace begins to exist
        self._last: Pending[Any] = Pending.of(None)
        self._recent: dict[tuple[str, str], Touch] = {}
        self._submit = submit
        self._past = past
        self._vault = vault

    # -- the way in -----------------------------------------------------------------------------------------------

    def apply(self, branch: Branch, operation: Callable[[Draft], T], who: Provenance) -> Pending[Outcome[T]]:
        """Prepares a change. What the operation raises is raised here, and then nothing has happened.

        Raises StorageFailed while the journal cannot be written.
        """
        with self.lock:
            if self.closed:
                raise Closed
            base = self.tip
            now = max(int(time.time() * 1000), base.lines[branch].time)
            draft = Draft(self, base, branch, now, who)
            value = operation(draft)
            return self._prepare(draft, base, value)

    def _prepare(self, draft: Draft, base: Snapshot, value: T) -> Pending[Outcome[T]]:
        edits = {
            path: edit
            for path, edit in draft.edits.items()
            if (edit.id.hex() if edit is not None else None) != draft.tree.blob(path)
        }
        if not edits and not draft.seals:
            # It may stand on changes that are not durable yet: the answer waits for them.
            outcome = Outcome(value, base, None)
            return Pending.of(outcome) if self._last.settled else self._last.then(lambda _: outcome)
        sealed, generation, sealed_file = base.sealed, base.sealed_generation, None
        if draft.seals:
            kept = dict(base.sealed)
            for name, text in draft.seals.items():
                if text is None:
                    kept.pop(name, None)
                else:
                    kept[name] = self._vault.seal(self.id, name, text)
            sealed, generation = kept, generation + 1
            sealed_file = encode_file(kept, generation)
        objects: list[Object] = []
        moves: tuple[journal.Move, ...] = ()
        lines, context, spec_version = dict(base.lines), base.context, base.spec_version
        facts: list[CommitFacts] = []
        if edits:
            objects += [edit for edit in edits.values() if edit is not None]
            self.repository.database.keep(objects)
            old = base.lines[draft.branch]
            root, trees = rewrite(self.repository.database, old.root, {p: _node(e) for p, e in edits.items()})
            for tree_object, tree in trees:
                self.repository.database.keep_tree(tree_object, tree)
                objects.append(tree_object)
            commit = self._commit(draft, old, root)
            self.repository.database.keep((commit,))
            objects.append(commit)
            moves = (journal.Move(draft.branch, old.oid, commit.id),)
            lines[draft.branch] = Line(commit.id, root, draft.now)
            after = TreeView(self.repository.database, root)
            if draft.branch == "main":
                context = (
                    context.after(after, edits, draft.now)
                    if old.oid is not None
                    else Context.load(after, previous=None, now=draft.now, policy=context.policy)
                )
                spec_version += any(path.startswith("spec/") for path in edits)
            facts.append(self._facts(draft, commit, old, edits, after))
        slug = context.fields.slug
        snapshot = Snapshot(
            self.id, context, lines, self.repository,
            created_at=base.created_at or draft.now, spec_version=spec_version,
            sealed=sealed, sealed_generation=generation,
        )  # fmt: skip
        record = journal.Record(
            self.id, self.folder, moves, tuple((o.id, o.base, o.entry(fast=True)) for o in objects), sealed_file,
            slug if slug != self.folder else None,
        )  # fmt: skip
        return self._hand_in(Change(self, record, snapshot, objects), facts, value)

    def _hand_in(self, change: Change, facts: list[CommitFacts], value: T) -> Pending[Outcome[T]]:
        change.facts = facts
        change.value = value
        for fact in facts:
            touch = Touch(fact.id, fact.time, fact.actor)
            change.touched.update({(fact.branch, changed.path): touch for changed in fact.changes})
        self._submit(change)
        self._recent.update(change.touched)
        self.tip = change.snapshot
        self.folder = change.snapshot.context.fields.slug
        self._last = change.pending
        return change.pending

    def _commit(self, draft: Draft, old: Line, root: Oid) -> Object:
        text = message(
            draft.kind, draft.name, draft.state, draft.now, draft.provenance, draft.workflow_id, draft.task_id
        )
        signature = Signature(*author(draft.provenance.actor), draft.now // 1000)
        parents = (old.oid,) if old.oid is not None else ()
        return build(root, parents, signature, server_signature(draft.now), text)

    def _facts(
        self, draft: Draft, commit: Object, old: Line, edits: Mapping[str, Blob | None], after: TreeView
    ) -> CommitFacts:
        who = draft.provenance
        differences = [
            Difference(path, draft.tree.node(path), _node(edits[path]))
            for path in sorted(edits, key=lambda path: encode_path(path).split(b"/"))
        ]
        return CommitFacts(
            id=commit.id.hex(),
            branch=draft.branch,
            parents=(old.oid.hex(),) if old.oid is not None else (),
            time=draft.now,
            kind=draft.kind,
            name=names.one_line(draft.name),
            actor=shown(who.actor),
            door=who.door,
            changes=tuple(changed_paths(draft.branch, differences, draft.tree, after)),
            state=draft.state,
            request_id=trailer(who.request_id),
            workflow_id=trailer(draft.workflow_id or who.workflow_id),
            task_id=trailer(draft.task_id or who.task_id),
        )

    # -- what others did ------------------------------------------------------------------------------------------

    def take_in(self, foreign: Foreign) -> Pending[Outcome[list[str]]]:
        """Takes in a branch that somebody's git moved; the paths where both sides differ (this store's side stays).

        A move that only extends the branch is kept as it is. Anything else is joined with what the store has: parents
        are the old head and the new tip, so that neither's commits are ever lost; and the files are those of the new
        tip with what the store changed since it last showed the branch.
        """
        branch: Branch = "evidence" if foreign.branch == "evidence" else "main"
        with self.lock:
            base = self.tip
            old = base.lines[branch]
            found = foreign.found
            if found is None:
                # Somebody deleted the branch: ours is put back.
                self.repository.shown[branch] = None
                return Pending.of(Outcome([], base, None))
            self.repository.database.close()  # packs that git made a moment ago are to be seen
            commits = line(self.repository, found, old.oid)
            extends = not commits or commits[0][1].parents[:1] == (old.oid,)
            clashes: list[str] = []
            objects: list[Object] = []
            now = max(int(time.time() * 1000), old.time)
            if extends or old.oid is None:
                facts = list(walk(self.repository, branch, commits, old.time))
                root, new, when = self.repository.tree(found).root, found, facts[-1].time if facts else old.time
            else:
                merged = merge(self.repository, foreign.shown, old.oid, found)
                clashes = list(dict.fromkeys(clash.path for clash in merged.clashes))
                root, when = merged.root, now
                self.repository.database.keep(merged.objects)
                for tree_object, tree in merged.trees:
                    self.repository.database.keep_tree(tree_object, tree)
                objects += merged.objects
                who = Provenance(SYSTEM, "disk")
                text = message("merge", f"join {branch} with {found.hex()[:12]}", "completed", now, who, None, None)
                joined = build(
                    root, (old.oid, found), Signature(*author(SYSTEM), now // 1000), server_signature(now), text
                )
                self.repository.database.keep((joined,))
                objects.append(joined)
                new = joined.id
                facts = list(walk(self.repository, branch, line(self.repository, new, old.oid), old.time))
            view = TreeView(self.repository.database, root)
            context = (
                Context.load(view, previous=base.context, now=now, policy=base.context.policy)
                if branch == "main"
                else base.context
            )
            snapshot = Snapshot(
                self.id, context, {**base.lines, branch: Line(new, root, when)}, self.repository,
                created_at=base.created_at,
                spec_version=base.spec_version + _spec_versions(facts if branch == "main" else ()),
                sealed=base.sealed, sealed_generation=base.sealed_generation,
            )  # fmt: skip
            record = journal.Record(
                self.id, self.folder, (journal.Move(branch, old.oid, new),),
                tuple((o.id, o.base, o.entry(fast=True)) for o in objects),
            )  # fmt: skip
            pending = self._hand_in(Change(self, record, snapshot, objects), facts, clashes)
            self.repository.shown[branch] = found
            return pending

    # -- what the store needs to know -----------------------------------------------------------------------------

    def last_touch(self, branch: Branch, path: str) -> Touch | None:
        """The commit that last changed a path, durable or not."""
        return self._recent.get((branch, path)) or self._past.last_touch(self.id, branch, path)

    def read_blob(self, blob: str) -> bytes:
        """The content of a blob. Raises Damaged where it is missing."""
        return self.repository.database.blob(Oid(bytes.fromhex(blob)))

    def durable(self, change: Change) -> None:
        """The journal has it: readers see it, and it waits for publication."""
        if self.on_first is not None:
            self.on_first(self)
            self.on_first = None
        with self.lock:
            self.visible = change.snapshot
            now = time.monotonic()
            if not self.unpublished:
                self.since = now
            self.latest = now
            self.unpublished.append(change)
            for key, touch in change.touched.items():
                if self._recent.get(key) is touch:
                    del self._recent[key]

    def undo(self, change: Change) -> None:
        """The journal does not have it, nor anything after it."""
        with self.lock:
            self.tip = self.visible
            self.folder = self.visible.context.fields.slug
            needed = {item.id for other in self.unpublished for item in other.objects}
            self.repository.database.drop(item for item in change.objects if item.id not in needed)
            for key, touch in change.touched.items():
                if self._recent.get(key) is touch:
                    del self._recent[key]

    def close(self) -> bool:
        """Lets the workspace leave memory; False while something is under way."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            if self.closed or self.unpublished or self.tip is not self.visible:
                return False
            if not self.publishing.acquire(blocking=False):
                return False
            self.closed = True
            self.publishing.release()
            return True
        finally:
            self.lock.release()


def _node(edit: Object | None) -> Node | None:
    return Node(FILE_MODE, edit.id) if edit is not None else None


def _spec_versions(facts: Iterable[CommitFacts]) -> int:
    return sum(any(_is_spec(changed) for changed in fact.changes) for fact in facts)


def _is_spec(changed: ChangedPath) -> bool:
    return changed.part == "spec"
