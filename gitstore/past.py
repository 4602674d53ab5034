"""Any state a workspace ever had, as the newest one is read. Reading the past writes nothing.

What git does not keep (whether secrets are stored, what is told of the world around) is as it is today.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import msgspec

from gitstore import facts, names
from gitstore.asof import AsOf
from gitstore.changes import Workspace
from gitstore.context import Context, MemoryEntry, memory_entry
from gitstore.errors import Damaged, NotFound
from gitstore.history import History
from gitstore.model import Branch, Touch
from gitstore.moments import ID, Moment, look_up, resolve
from gitstore.recall import recall
from gitstore.repository.commits import Commit
from gitstore.repository.objects import EMPTY_TREE, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import Difference, TreeView, compare
from gitstore.rules import Policy
from gitstore.snapshot import NOWHERE, Line, Snapshot
from gitstore.store import Store

__all__ = ["Moment", "Part", "Past", "Slot", "Then", "resolve", "snapshot_at", "story"]

_BESIDE: Final = 1_000  # commits of a merged line that are looked at for who changed what
_KEPT: Final = 96  # states in memory
_BYTES: Final = 32 << 20  # and about how much they may hold
_PARTS: Final = ("files", "spec", "memory")
_SLOTS: Final = 1_024  # single keys in memory
_SLOT_BYTES: Final = 16 << 10  # of one


Part = Literal["spec", "files"]
"""What can be read by itself, without the rest of the context."""


class Then:
    """A workspace at a moment: `snapshot` is its state, `story` what history of `main` had to say up to then.

    Where only a part was asked for, the rest of the snapshot's context is empty.
    """

    __slots__ = ("moment", "snapshot", "story")

    def __init__(self, moment: Moment, snapshot: Snapshot, story: AsOf) -> None:
        self.moment = moment
        self.snapshot = snapshot
        self.story = story


class Slot(NamedTuple):
    """One key of the memory at a moment, None if it had none, and the commit that had set it by then."""

    moment: Moment
    entry: MemoryEntry | None
    touch: Touch | None


def story(history: History, repository: Repository, workspace: str, branch: Branch, commit: str) -> AsOf:
    """What history had to say of a branch when this commit of it was the newest one."""
    here: Oid | None = Oid(bytes.fromhex(commit))
    beside: list[tuple[Oid, Commit]] = []
    base: AsOf | None = None
    while here is not None and len(beside) < _BESIDE:
        base = history.as_of(workspace, branch, here.hex())
        if base is not None:
            break
        read = repository.commit(here)
        beside.append((here, read))
        here = read.parents[0] if read.parents else None
    if base is None:
        base = history.as_of(workspace, branch, None)
    if base is None:
        raise Damaged(f"history does not know the workspace {workspace}")
    return base.going_on(facts.walk(repository, branch, beside[::-1], base.time)) if beside else base


class _Known(NamedTuple):
    """A context, the tree it was read from, and the parts of that, those first that take longest to read."""

    context: Context
    root: Oid
    alike: tuple[Oid | None, ...]


def _alike(tree: TreeView) -> tuple[Oid | None, ...]:
    nodes = [tree.node(part) for part in _PARTS]
    return tuple(node.id if node is not None else None for node in nodes)


def _context(
    history: History,
    known: Iterable[_Known],
    repository: Repository,
    workspace: str,
    commit: Oid,
    time: int,
    policy: Policy,
    part: Part | None,
) -> Context:
    """The context of a commit: made of the known one that is most like it by reading what differs, if all is sound."""
    tree = repository.tree(commit)
    sound = [one for one in known if not one.context.problems]
    if part is not None:
        alone = _alone(known, repository, tree, part, time)
        if alone is not None:
            return alone
    elif sound:
        wanted = _alike(tree)
        base = max(sound, key=lambda one: [same == other for same, other in zip(one.alike, wanted, strict=True)])
        context = base.context.elsewhere(tree, compare(repository.database, base.root, tree.root), time)
        if not context.problems:
            return context
    return recall(history, repository, workspace, now=time, policy=policy, commit=commit, until=time)


def _alone(known: Iterable[_Known], repository: Repository, tree: TreeView, part: Part, time: int) -> Context | None:
    """One part of a tree's context; None where the rest is needed to tell what a broken file of it says."""
    sound = [one for one in known if not one.context.faults.get(part)]
    if not sound:
        return None
    wanted = tree.node(part)
    base = next((one for one in sound if one.alike[_PARTS.index(part)] == (wanted.id if wanted else None)), sound[-1])
    before = TreeView(repository.database, base.root).node(part)
    if before == wanted:
        differences: Iterable[Difference] = ()
    elif all(node is None or node.mode == 0o40000 for node in (before, wanted)):
        old, new = (node.id if node is not None else EMPTY_TREE for node in (before, wanted))
        differences = compare(repository.database, old, new, f"{part}/")
    else:
        return None
    context = base.context.elsewhere(tree, differences, time)
    if context.faults.get(part):
        return None
    found = {"spec": context.spec} if part == "spec" else {"files": context.files}
    return msgspec.structs.replace(Context(policy=context.policy, fields=context.fields), **found)


def snapshot_at(store: Store, workspace: Workspace, moment: Moment) -> Snapshot:
    """The workspace as it was. Raises NotFound where it had no context then, Damaged."""
    return _read(store, workspace, moment, None, ()).snapshot(workspace, moment)


class _State:
    """What `main` said at a commit, and the snapshot that was made of it last."""

    def __init__(self, known: _Known, line: Line, told: AsOf, spec_version: int) -> None:
        self.known = known
        self.context = context = known.context
        self.line = line
        self.story = told
        self.spec_version = spec_version
        self.size = context.memory_size + len(context.settings_json) + 500 * (len(context.memory) + len(context.files))
        self._made: tuple[Repository, str | None, int, Snapshot] | None = None

    def slot(self, moment: Moment, key: str) -> Slot:
        entry = self.context.memory.get(key)
        return Slot(moment, entry, self.story.touch(entry.path) if entry is not None else None)

    def snapshot(self, workspace: Workspace, moment: Moment) -> Snapshot:
        """The state with the evidence of a moment, and with what is as it is today."""
        visible, repository, made = workspace.visible, workspace.repository, self._made
        if made is not None and made[:3] == (repository, moment.evidence, visible.sealed_generation):
            return made[3]
        evidence = NOWHERE
        if moment.evidence is not None:
            oid = Oid(bytes.fromhex(moment.evidence))
            read = repository.commit(oid)
            evidence = Line(oid, read.tree, min(facts.time_of(read), moment.time))
        snapshot = Snapshot(
            workspace.id, self.context, {"main": self.line, "evidence": evidence}, repository,
            created_at=visible.created_at, spec_version=self.spec_version,
            sealed=visible.sealed, sealed_generation=visible.sealed_generation,
        )  # fmt: skip
        self._made = repository, moment.evidence, visible.sealed_generation, snapshot
        return snapshot


def _read(store: Store, workspace: Workspace, moment: Moment, part: Part | None, states: Iterable[_State]) -> _State:
    if moment.main is None:
        raise NotFound(f"at `{names.one_line(moment.asked, 80)}` the workspace had no context yet")
    history, repository, visible = store.history, workspace.repository, workspace.visible
    oid = Oid(bytes.fromhex(moment.main))
    commit = repository.commit(oid)
    known = history.commit(workspace.id, moment.main)
    time = known.time if known is not None else facts.time_of(commit)
    newest = _Known(visible.context, visible.main.root, _alike(visible.tree()))
    read_already = [*(one.known for one in states), newest]
    context = _context(history, read_already, repository, workspace.id, oid, time, store.options.secrets, part)
    fields = context.fields if context.fields.id else visible.context.fields
    if fields != context.fields or fields.id != workspace.id:
        context = msgspec.structs.replace(context, fields=msgspec.structs.replace(fields, id=workspace.id))
    told = story(history, repository, workspace.id, "main", moment.main)
    alike = _alike(repository.tree(oid))
    return _State(_Known(context, commit.tree, alike), Line(oid, commit.tree, time), told, told.spec()[0])


class Past:
    """The past of the workspaces of one store; what was asked for lately stays in memory.

    Every method may be called from any thread; those that find nothing in memory touch the disk.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._states: OrderedDict[tuple[str, str, Part | None], _State] = OrderedDict()
        self._size = 0
        self._slots: OrderedDict[tuple[str, str, str], tuple[MemoryEntry, Touch | None]] = OrderedDict()
        self._moments: OrderedDict[tuple[str, str], tuple[Moment, Line, Line]] = OrderedDict()

    def known(self, workspace: Workspace, at: str, part: Part | None = None) -> Then | None:
        """The workspace at a moment, where nothing has to be read for it."""
        moment = self._remembered(workspace, at)
        state = self._held(workspace, moment, part) if moment is not None else None
        if moment is None or state is None:
            return None
        return Then(moment, state.snapshot(workspace, moment), state.story)

    def _held(self, workspace: Workspace, moment: Moment, part: Part | None) -> _State | None:
        whole = self._states.get((workspace.id, moment.main or "", None))
        return whole if whole is not None else self._states.get((workspace.id, moment.main or "", part))

    def _remembered(self, workspace: Workspace, at: str) -> Moment | None:
        found = self._moments.get((workspace.id, at))
        if found is None:
            return None
        moment, main, evidence = found
        visible, named = workspace.visible, ID.fullmatch(at) is not None
        for before, line in ((main, visible.main), (evidence, visible.evidence)):
            # Time never goes back along a branch: what comes after a later commit is no part of the moment.
            if line.oid != before.oid and not (named and before.time > moment.time):
                return None
        return moment

    def moment(self, workspace: Workspace, at: str) -> Moment:
        """See `resolve`."""
        known = self._remembered(workspace, at)
        if known is not None:
            return known
        visible = workspace.visible  # looked at first: what comes in meanwhile is not taken for known
        moment, lasting = look_up(self._store, workspace, at)
        if not lasting:
            return moment
        with self._lock:
            self._moments[workspace.id, at] = moment, visible.main, visible.evidence
            while len(self._moments) > 4 * _KEPT:
                self._moments.popitem(last=False)
        return moment

    def at(self, workspace: Workspace, at: str, part: Part | None = None) -> Then:
        """The workspace, or only a part of it, at the moment that `at` names. Raises as `resolve` and `snapshot_at`."""
        found = self.known(workspace, at, part)
        if found is not None:
            return found
        return self.then(workspace, self.moment(workspace, at), part)

    def known_slot(self, workspace: Workspace, at: str, key: str) -> Slot | None:
        """See `slot`; None where something has to be read for it."""
        moment = self._remembered(workspace, at)
        if moment is None or moment.main is None:
            return None
        held = self._slots.get((workspace.id, moment.main, key))
        if held is not None:
            return Slot(moment, *held)
        state = self._held(workspace, moment, None)
        return state.slot(moment, key) if state is not None else None

    def slot(self, workspace: Workspace, at: str, key: str) -> Slot:
        """One key of the memory at a moment: read by itself, where that will do. Raises as `at`."""
        moment = self.moment(workspace, at)
        if moment.main is not None and self._held(workspace, moment, None) is None:
            store, repository = self._store, workspace.repository
            tree = repository.tree(Oid(bytes.fromhex(moment.main)))
            entry = memory_entry(tree, key, store.options.secrets)
            if entry is not None:
                touch = story(store.history, repository, workspace.id, "main", moment.main).touch(entry.path)
                if len(entry.item) <= _SLOT_BYTES:
                    with self._lock:
                        self._slots[workspace.id, moment.main, key] = entry, touch
                        while len(self._slots) > _SLOTS:
                            self._slots.popitem(last=False)
                return Slot(moment, entry, touch)
        return self._state(workspace, moment, None).slot(moment, key)

    def then(self, workspace: Workspace, moment: Moment, part: Part | None = None) -> Then:
        """The workspace, or only a part of it, at a moment. Raises as `snapshot_at`."""
        state = self._state(workspace, moment, part)
        return Then(moment, state.snapshot(workspace, moment), state.story)

    def _state(self, workspace: Workspace, moment: Moment, part: Part | None) -> _State:
        key = (workspace.id, moment.main or "", part)
        with self._lock:
            state = self._held(workspace, moment, part)
            for held in (key, (*key[:2], None)):
                if held in self._states:
                    self._states.move_to_end(held)
            known = [
                one for (owner, _, of), one in self._states.items() if owner == workspace.id and of in (None, part)
            ]
        if state is not None:
            return state
        state = _read(self._store, workspace, moment, part, known[::-1])
        with self._lock:
            if key not in self._states:
                self._states[key] = state
                self._size += state.size
            while len(self._states) > _KEPT or (self._size > _BYTES and len(self._states) > 1):
                self._size -= self._states.popitem(last=False)[1].size
        return state
