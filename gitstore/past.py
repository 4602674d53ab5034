"""Any state a workspace ever had: what `at` means, and the workspace as it was then. Reading the past writes nothing.

An `at` is a commit of `main` or `evidence` (its id, or 4 digits of it or more), a snapshot, a tag, or a time; `now` and
`HEAD` are the newest state. It is a moment of both branches: of the other one, what was there when the commit was made.
What git does not keep (whether secrets are stored, what is told of the world around) is as it is today.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Any, Final

import msgspec

from gitstore import facts, names, values
from gitstore.asof import AsOf
from gitstore.changes import Workspace
from gitstore.context import Context
from gitstore.errors import Damaged, Invalid, NotFound
from gitstore.history import History
from gitstore.model import Branch
from gitstore.recall import recall
from gitstore.repository import refs, tags
from gitstore.repository.ancestry import is_ancestor
from gitstore.repository.check import peel
from gitstore.repository.commits import Commit
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import compare
from gitstore.rules import Policy
from gitstore.snapshot import NOWHERE, Line, Snapshot
from gitstore.store import Store

NEWEST: Final = frozenset({"now", "HEAD", "main", "evidence"})
EVIDENCE: Final = "Gitstore-Evidence"
"""The trailer in which a snapshot says its commit of the evidence branch."""

_BRANCHES: Final[tuple[Branch, Branch]] = ("main", "evidence")
_ID: Final = re.compile(r"[0-9a-fA-F]{40}")
_SHORT: Final = re.compile(r"[0-9a-fA-F]{4,39}")
_BESIDE: Final = 1_000  # commits of a merged line that are looked at for who changed what
_KEPT: Final = 64  # states in memory
_BYTES: Final = 32 << 20  # and about how much they may hold


class Moment(msgspec.Struct, frozen=True):
    """A state of both branches: a commit of each, None where the branch did not exist. `time` (ms) is when that was."""

    asked: str
    main: str | None
    evidence: str | None
    time: int

    def shown(self) -> dict[str, Any]:
        """`{asked, main, evidence, time}`, for answers."""
        return {"asked": self.asked, "main": self.main, "evidence": self.evidence, "time": values.iso(self.time)}


class Then:
    """A workspace at a moment: `snapshot` is its state, `story` what history of `main` had to say up to then."""

    __slots__ = ("moment", "snapshot", "story")

    def __init__(self, moment: Moment, snapshot: Snapshot, story: AsOf) -> None:
        self.moment = moment
        self.snapshot = snapshot
        self.story = story


# --- what `at` means --------------------------------------------------------------------------------------------------


def resolve(store: Store, workspace: Workspace, at: str) -> Moment:
    """The moment that `at` names.

    An id comes first, then a snapshot, a short id, a time, and any other tag. Raises NotFound that says what was looked
    for, Invalid where a short id fits several commits.
    """
    return _resolve(store, workspace, at)[0]


def _resolve(store: Store, workspace: Workspace, at: str) -> tuple[Moment, bool]:
    """The moment, and whether it is so as long as the branches are where they are."""
    history, repository = store.history, workspace.repository
    if at in NEWEST:
        visible = workspace.visible
        main, evidence = visible.main, visible.evidence
        return Moment(at, main.head, evidence.head, max(main.time, evidence.time)), True
    if (made := tags.mark(repository.git, at)) is not None and not _ID.fullmatch(at):
        return _of_snapshot(history, repository, workspace.id, at, made), False
    if _ID.fullmatch(at) or _SHORT.fullmatch(at):
        commit = _commit(history, repository, workspace.id, at.lower())
        if commit is not None:
            return _of_commit(history, repository, workspace.id, at, commit), True
    if (time := _time(at)) is not None:
        return _of_time(history, workspace.id, at, time), True
    if (commit := _tagged(history, repository, workspace.id, at)) is not None:
        return _of_commit(history, repository, workspace.id, at, commit), False
    raise NotFound(
        f"the workspace has no commit, snapshot or tag `{names.one_line(at, 80)}`, and it is no time such as "
        "2026-11-24T03:00:00.000Z"
    )


def _of_time(history: History, workspace: str, at: str, time: int) -> Moment:
    main, evidence = (history.at_time(workspace, branch, time) for branch in _BRANCHES)
    if main is None and evidence is None:
        began = history.bounds(workspace, "main")
        since = f"; it begins at {values.iso(began.first_time)}" if began is not None else ""
        raise NotFound(f"at `{names.one_line(at, 80)}` the workspace was not there yet{since}")
    return Moment(at, main, evidence, time)


def _of_snapshot(history: History, repository: Repository, workspace: str, at: str, made: Oid) -> Moment:
    """The moment that a snapshot was made of; its evidence is what the snapshot says."""
    tag = tags.read(repository.database, made)
    moment = _of_commit(history, repository, workspace, at, tag.commit.hex())
    evidence = tag.trailers.get(EVIDENCE)
    known = history.commit(workspace, evidence) if evidence is not None else None
    time = max(moment.time, known.time) if known is not None else moment.time
    return Moment(at, moment.main, evidence, time)


def _tagged(history: History, repository: Repository, workspace: str, at: str) -> str | None:
    """The commit of a tag that somebody made, if it is on one of the two branches."""
    ref = f"{tags.TAGS}/{at.removeprefix('refs/tags/')}"
    if refs.fault(ref) is not None:
        return None
    try:
        oid = refs.read(repository.git, ref)
        commit = peel(repository.database, oid)[-1] if oid is not None else None
    except (Damaged, OSError):
        return None
    if commit is None:
        return None
    if _reached(history, repository, workspace, commit) is None:
        raise NotFound(f"the tag `{names.one_line(at, 80)}` names a commit that is on neither main nor evidence")
    return commit.hex()


def _time(at: str) -> int | None:
    for text in (at, at.replace(" ", "+")):  # a `+` in a query string is a blank, unless somebody escaped it
        try:
            return values.parse_iso(text)
        except (Invalid, OverflowError):
            continue
    return None


def _commit(history: History, repository: Repository, workspace: str, digits: str) -> str | None:
    """The commit of either branch whose id begins so; those that a merge brought in count too."""
    found = {known} if (known := history.find_commit(workspace, digits)) is not None else set()
    if len(digits) == 40 and found:
        return found.pop()
    for oid in repository.database.commits(digits):
        if oid.hex() not in found and _reached(history, repository, workspace, oid):
            found.add(oid.hex())
    if len(found) > 1:
        raise Invalid(f"more than one commit begins with {digits}: give more digits of the one that is meant")
    return found.pop() if found else None


def _reached(history: History, repository: Repository, workspace: str, oid: Oid) -> Branch | None:
    """The branch that a commit is part of. Other branches and tags do not count: nobody held those to the rules."""
    for branch in _BRANCHES:
        head = history.head(workspace, branch)
        if head is not None and is_ancestor(repository, oid, Oid(bytes.fromhex(head))):
            return branch
    return None


def _of_commit(history: History, repository: Repository, workspace: str, at: str, commit: str) -> Moment:
    """The moment of a commit: of the other branch, the state when it was made."""
    known = history.commit(workspace, commit)
    if known is not None:
        branch, time = known.branch, known.time
    else:
        oid = Oid(bytes.fromhex(commit))
        reached = _reached(history, repository, workspace, oid)
        if reached is None:
            raise NotFound(f"the commit {commit} is on neither main nor evidence")
        branch, time = reached, facts.time_of(repository.commit(oid))
    if branch == "main":
        return Moment(at, commit, history.at_time(workspace, "evidence", time), time)
    return Moment(at, history.at_time(workspace, "main", time), commit, time)


# --- the state of then ------------------------------------------------------------------------------------------------


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


def _context(
    history: History, base: Snapshot, repository: Repository, commit: Oid, time: int, policy: Policy
) -> Context:
    """The context of a commit: made of the newest one by reading what is different, where both are sound."""
    tree = repository.tree(commit)
    if not base.context.problems:
        context = base.context.elsewhere(tree, compare(repository.database, base.main.root, tree.root), time)
        if not context.problems:
            return context
    return recall(history, repository, base.workspace, now=time, policy=policy, commit=commit, until=time)


def snapshot_at(store: Store, workspace: Workspace, moment: Moment) -> Snapshot:
    """The workspace as it was. Raises NotFound where it had no context then, Damaged."""
    return _read(store, workspace, moment).snapshot(workspace, moment)


class _State:
    """What `main` said at a commit, and the snapshot that was made of it last."""

    def __init__(self, context: Context, line: Line, told: AsOf, spec_version: int) -> None:
        self.context = context
        self.line = line
        self.story = told
        self.spec_version = spec_version
        self.size = context.memory_size + len(context.settings_json) + 500 * (len(context.memory) + len(context.files))
        self._made: tuple[Repository, str | None, int, Snapshot] | None = None

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


def _read(store: Store, workspace: Workspace, moment: Moment) -> _State:
    if moment.main is None:
        raise NotFound(f"at `{names.one_line(moment.asked, 80)}` the workspace had no context yet")
    history, repository, visible = store.history, workspace.repository, workspace.visible
    oid = Oid(bytes.fromhex(moment.main))
    commit = repository.commit(oid)
    known = history.commit(workspace.id, moment.main)
    time = known.time if known is not None else facts.time_of(commit)
    context = _context(history, visible, repository, oid, time, store.options.secrets)
    fields = context.fields if context.fields.id else visible.context.fields
    if fields != context.fields or fields.id != workspace.id:
        context = msgspec.structs.replace(context, fields=msgspec.structs.replace(fields, id=workspace.id))
    told = story(history, repository, workspace.id, "main", moment.main)
    return _State(context, Line(oid, commit.tree, time), told, told.spec()[0])


class Past:
    """The past of the workspaces of one store; what was asked for lately stays in memory.

    Every method may be called from any thread; those that find nothing in memory touch the disk.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._states: OrderedDict[tuple[str, str], _State] = OrderedDict()
        self._size = 0
        self._moments: OrderedDict[tuple[str, str], tuple[Moment, Line, Line]] = OrderedDict()

    def known(self, workspace: Workspace, at: str) -> Then | None:
        """The workspace at a moment, where nothing has to be read for it."""
        moment = self._remembered(workspace, at)
        state = self._states.get((workspace.id, moment.main or "")) if moment is not None else None
        if moment is None or state is None:
            return None
        return Then(moment, state.snapshot(workspace, moment), state.story)

    def _remembered(self, workspace: Workspace, at: str) -> Moment | None:
        found = self._moments.get((workspace.id, at))
        if found is None:
            return None
        moment, main, evidence = found
        visible, named = workspace.visible, _ID.fullmatch(at) is not None
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
        moment, lasting = _resolve(self._store, workspace, at)
        if not lasting:
            return moment
        with self._lock:
            self._moments[workspace.id, at] = moment, visible.main, visible.evidence
            while len(self._moments) > 4 * _KEPT:
                self._moments.popitem(last=False)
        return moment

    def at(self, workspace: Workspace, at: str) -> Then:
        """The workspace at the moment that `at` names. Raises as `resolve` and `snapshot_at`."""
        found = self.known(workspace, at)
        if found is not None:
            return found
        return self.then(workspace, self.moment(workspace, at))

    def then(self, workspace: Workspace, moment: Moment) -> Then:
        """The workspace at a moment. Raises as `snapshot_at`."""
        key = (workspace.id, moment.main or "")
        with self._lock:
            state = self._states.get(key)
            if state is not None:
                self._states.move_to_end(key)
        if state is None:
            state = _read(self._store, workspace, moment)
            with self._lock:
                if key not in self._states:
                    self._states[key] = state
                    self._size += state.size
                while len(self._states) > _KEPT or (self._size > _BYTES and len(self._states) > 1):
                    self._size -= self._states.popitem(last=False)[1].size
        return Then(moment, state.snapshot(workspace, moment), state.story)
