"""The one write path: preconditions → rules → objects → journal → (later) publication. Nothing else moves a branch.

A change is prepared under its workspace's lock, on top of the newest state (the tip), whether that is durable yet or
not; it is answered, and becomes visible to readers, once the journal has it on disk. If the journal fails, the tip goes
back to what is visible and everything built on it is answered with the error.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from gitstore import names
from gitstore.content import beginnings
from gitstore.context import Context
from gitstore.errors import Conflict, StorageFailed
from gitstore.facts import author, changed_paths, message, server_signature, shown, trailer
from gitstore.lfs import Pointer, attributes
from gitstore.model import Branch, CommitFacts, Kind, Problem, Provenance, Touch
from gitstore.pending import Pending
from gitstore.reading import Overlay
from gitstore.repository import journal
from gitstore.repository.commits import Signature, build
from gitstore.repository.objects import Blob, Object, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.standing import Standing
from gitstore.repository.trees import FILE_MODE, Difference, Node, TreeView, encode_path, rewrite
from gitstore.secrets import Vault, encode_file
from gitstore.snapshot import Line, Snapshot

T = TypeVar("T")


class Closed(Exception):
    """The workspace has left memory, or was deleted: whoever holds it asks the store for it again."""


class Outcome(NamedTuple, Generic[T]):
    """What became of a change."""

    value: T
    snapshot: Snapshot
    commit: CommitFacts | None  # None: everything was so already


class Surroundings(Protocol):
    """What the write path asks of the store around a workspace."""

    def last_touch(self, workspace: str, branch: Branch, path: str) -> Touch | None:
        """The durable commit that last changed a path."""

    def claim(self, slug: str, owner: str | None) -> AbstractContextManager[Callable[[Pending[Any]], None]]:
        """Holds a slug until the change that takes it is settled. Raises Conflict where it is taken."""

    def told(self, workspace: Workspace) -> None:
        """The problems that are told of a workspace are others now."""

    @property
    def large_bytes(self) -> int:
        """Content of more bytes than this is kept out of git, as a large object."""


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
        self.taken: dict[str, Blob | None] = {}
        self.kind: str = "changes"
        self.name = "change"
        self.state = "completed"
        self.workflow_id: str | None = None
        self.task_id: str | None = None
        self.more: dict[str, str] = {}  # further trailers of the commit, by their names without `Gitstore-`
        self._seen: dict[str, Blob | None] = {}

    @property
    def sealed(self) -> Mapping[str, bytes | str]:
        """The secrets sealed for this workspace, by name; those of this change as they were given."""
        if not self.seals:
            return self._base.sealed
        held: dict[str, bytes | str | None] = {**self._base.sealed, **self.seals}
        return {name: secret for name, secret in held.items() if secret is not None}

    def proceed(self) -> None:
        """From here on the context is that which this change has made so far."""
        fresh = {path: edit for path, edit in self.edits.items() if self._seen.get(path, self) is not edit}
        self.context = self.context.after(Overlay(self.tree, self.edits), fresh, self.now)
        self._seen = dict(self.edits)

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

    @property
    def large_bytes(self) -> int:
        """Content of more bytes than this is kept as a large object."""
        return self._owner.store.large_bytes

    def covers(self, path: str) -> bool:
        """Whether the branch, as this change leaves it, keeps what is at a path as a large object."""
        name = attributes.NAME
        said = any(edit.endswith(name) for edit in self.edits) or self.tree.beside(path, name.encode())
        return said and attributes.Attributes(self.read).covers(path)

    def keep(self, data: bytes) -> Pointer:
        """Makes content a large object of the workspace, durably, before the change is. Raises StorageFailed."""
        return self.snapshot.objects.put(data)

    def holds(self, pointer: Pointer) -> None:
        """Raises StorageFailed where the workspace has no such object, as when its folder was another when it came."""
        if not self.snapshot.objects.has(*pointer):
            raise StorageFailed(f"the large object {pointer.oid} has not come here: send the content again")

    def took(self, path: str, blob: Blob | None) -> None:
        """The change has in it what a file of the checkout says (None: that it is not there).

        It may then be replaced there; and whatever else it says by now began from this.
        """
        self.taken[path] = blob

    def free(self, slug: str) -> bool:
        """Whether the workspace could have this slug."""
        return self._owner.free(slug)

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

    __slots__ = (
        "facts",
        "heads",
        "kept",
        "objects",
        "owner",
        "pending",
        "sealed_file",
        "snapshot",
        "taken",
        "touched",
        "value",
    )

    def __init__(self, owner: Workspace, record: journal.Record, snapshot: Snapshot, objects: list[Object]) -> None:
        super().__init__(journal.encode(record), self._done, self._failed)
        self.owner = owner
        self.snapshot = snapshot
        self.objects = objects
        self.heads = {move.branch: Oid(move.new) for move in record.moves}
        self.sealed_file = record.sealed
        self.taken = journal.told(record.taken)
        self.kept = journal.told(record.kept)
        self.facts: list[CommitFacts] = []
        self.touched: dict[tuple[str, str], Touch] = {}
        self.pending: Pending[Any] = Pending()
        self.value: Any = None

    def _done(self) -> None:
        self.pending.settle(Outcome(self.value, self.snapshot, self.facts[-1] if self.facts else None))

    def _failed(self, error: BaseException) -> None:
        self.owner.undo(self)
        self.pending.fail(error)


class Placed(NamedTuple):
    """Changes that were published, and are looked at once more before the journal forgets them."""

    standing: Standing
    segments: tuple[int, ...]
    """The journal files that have them, one for each change."""
    at: float
    """When they were (time.monotonic)."""


class Workspace:
    """One workspace that is in memory: its newest state, its durable state, and what waits for publication."""

    def __init__(
        self, snapshot: Snapshot, repository: Repository, folder: str, submit: Callable[[journal.Entry], None],
        store: Surroundings, vault: Vault, sources: dict[str, tuple[Problem, ...]] | None = None,
    ) -> None:  # fmt: skip
        self.id = snapshot.workspace
        self.repository = repository
        self.folder = folder
        self.lock = threading.RLock()
        self.publishing = threading.Lock()
        self.sources = sources if sources is not None else {}  # problems that are told, by who tells them
        snapshot = snapshot.telling(all_told(self.sources))
        self.tip = snapshot
        self.visible = snapshot
        self.unpublished: deque[Change] = deque()
        self.placed: deque[Placed] = deque()  # under `publishing`
        self.since = 0.0  # when the oldest unpublished change became durable (time.monotonic)
        self.latest = 0.0
        self.joins = 0  # how often a branch was taken in that somebody's git had moved
        self.closed = False
        self.deleting = False  # then nobody loads it again
        self.on_first: Callable[[Workspace], None] | None = None  # told when the workspace begins to exist
        self._last: Pending[Any] = Pending.of(None)
        self._recent: dict[tuple[str, str], Touch] = {}
        self._submit = submit
        self.store = store
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
            return self.settled().then(lambda _: outcome)
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
            blobs = (*edits.values(), *draft.taken.values())  # what a later edit may begin from is kept too
            objects += {blob.id: blob for blob in blobs if blob is not None}.values()
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
            sealed=sealed, sealed_generation=generation, told=base.told,
        )  # fmt: skip
        taken = {path: blob.id if blob is not None else None for path, blob in draft.taken.items()}
        record = journal.Record(
            self.id, self.folder, moves, tuple((o.id, o.base, o.entry(fast=True)) for o in objects), sealed_file,
            slug if slug != self.folder else None, taken=journal.telling(taken),
        )  # fmt: skip
        change = Change(self, record, snapshot, objects)
        if slug == base.context.fields.slug or base.main.oid is None:
            return self.hand_in(change, facts, value)
        try:
            with self.store.claim(slug, self.id) as claimed:
                pending = self.hand_in(change, facts, value)
                claimed(pending)
                return pending
        except Conflict:
            self.repository.database.drop(objects)
            raise

    def hand_in(self, change: Change, facts: list[CommitFacts], value: T) -> Pending[Outcome[T]]:
        """Gives a prepared change to the journal, and goes on from it. The lock is held."""
        change.facts = facts
        change.value = value
        for fact in facts:
            touch = Touch(fact.id, fact.time, fact.actor)
            change.touched.update({(fact.branch, path): touch for one in fact.changes for path in one.paths})
        self._submit(change)
        self._recent.update(change.touched)
        self.tip = change.snapshot
        self.folder = change.snapshot.context.fields.slug
        self._last = change.pending
        return change.pending

    def _commit(self, draft: Draft, old: Line, root: Oid) -> Object:
        text = message(
            draft.kind,
            draft.name,
            draft.state,
            draft.now,
            draft.provenance,
            draft.workflow_id,
            draft.task_id,
            draft.more,
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

    def free(self, slug: str) -> bool:
        """Whether this workspace could have a slug."""
        try:
            with self.store.claim(slug, self.id):
                return True
        except Conflict:
            return False

    def settled(self) -> Pending[Any]:
        """Settled once the newest state is durable."""
        return Pending.of(None) if self._last.settled else self._last

    # -- what the store needs to know -----------------------------------------------------------------------------

    def last_touch(self, branch: Branch, path: str) -> Touch | None:
        """The commit that last changed a path, durable or not."""
        return self._recent.get((branch, path)) or self.store.last_touch(self.id, branch, path)

    def beginning(self, blob: str, most: int) -> bytes:
        """The first so many bytes of the content of a blob, which may be a large object. Raises Damaged."""
        return beginnings(self.read_blob, lambda: self.repository.objects)(blob, most)

    def read_blob(self, blob: str) -> bytes:
        """The content of a blob. Raises Damaged where it is missing."""
        return self.repository.database.blob(Oid(bytes.fromhex(blob)))

    def begin(self) -> None:
        """The journal has a change of it, of which nobody knows yet."""
        if self.on_first is not None:
            self.on_first(self)
            self.on_first = None

    def durable(self, changes: Sequence[Change]) -> None:
        """The journal has them: readers see them, and they wait for publication."""
        with self.lock:
            last = changes[-1].snapshot
            settled = self.tip is last
            self.visible = last.telling(self.visible.told)
            if settled:
                self.tip = self.visible
            now = time.monotonic()
            if not self.unpublished:
                self.since = now
            self.latest = now
            self.unpublished.extend(changes)
            for change in changes:
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

    def tell(self, source: str, problems: tuple[Problem, ...]) -> None:
        """From now on these problems of one source are told with the workspace; its ETag changes with them."""
        with self.lock:
            if self.sources.get(source, ()) == problems:
                return
            self.sources[source] = problems
            told = all_told(self.sources)
            settled = self.tip is self.visible
            self.visible = self.visible.telling(told)
            self.tip = self.visible if settled else self.tip.telling(told)
        self.store.told(self)

    def close(self) -> bool:
        """Lets the workspace leave memory; False while something is under way."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            if self.closed or self.unpublished or self.tip is not self.visible:
                return False
            if not self.publishing.acquire(blocking=False):
                return False
            try:
                self.closed = not self.placed
                return self.closed
            finally:
                self.publishing.release()
        finally:
            self.lock.release()


def all_told(sources: Mapping[str, tuple[Problem, ...]]) -> tuple[Problem, ...]:
    """The problems of every source, in a settled order."""
    return tuple(problem for _, part in sorted(sources.items()) for problem in part)


def _node(edit: Object | None) -> Node | None:
    return Node(FILE_MODE, edit.id) if edit is not None else None
