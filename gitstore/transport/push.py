"""What becomes of a push: quarantine, checks, then the one write path. All of it is taken, or nothing.

`main` and `evidence` only go forward; `refs/for/main` takes commits that stand beside the newest `main` and merges
them by meaning; other branches and tags are kept as they are. What is answered as done is durable, published, and in
the indexes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from gitstore import joining
from gitstore.acceptance import Fault, Refused
from gitstore.changes import Outcome, Workspace
from gitstore.derived import BRANCHES
from gitstore.errors import Conflict, GitstoreError, StorageFailed, Unavailable
from gitstore.joining import Joined
from gitstore.model import Branch, Provenance
from gitstore.names import fold
from gitstore.pending import Pending
from gitstore.repository import refs, tags, view
from gitstore.repository.objects import COMMIT, TAG, Oid
from gitstore.repository.quarantine import Quarantine
from gitstore.repository.trees import TreeView
from gitstore.store import Store
from gitstore.transport import commands
from gitstore.transport.commands import Command, Moved, Request, Result
from gitstore.transport.examine import LACKING, Examiner
from gitstore.transport.fetch import publish
from gitstore.transport.git import Limits
from gitstore.transport.judge import Item, Judge, notes, told
from gitstore.transport.lines import Reader

FOR_MAIN = "refs/for/main"
_BRANCHES: Mapping[str, Branch] = {refs.MAIN: "main", refs.EVIDENCE: "evidence", FOR_MAIN: "main"}
_LOCKED = 5.0  # seconds that somebody's git may hold the lock of a ref
_TOLD = 50  # faults that are shown in the terminal
_MISSING = "missing necessary objects"
_UNDONE = "not done, because another part of this push was refused"

log = logging.getLogger("gitstore.transport")
T = TypeVar("T")


class Offload(Protocol):
    """Runs a function in a thread."""

    def __call__(self, fn: Callable[..., T], *args: object) -> Awaitable[T]:
        """The function's value, or what it raises."""


class _Denied(Exception):
    """The push is refused: why, for each ref it concerns, and lines for the terminal."""

    def __init__(self, reasons: Mapping[str, str], said: list[str] | None = None, unpacked: str = "ok") -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = reasons
        self.said = said or []
        self.unpacked = unpacked


def advertise(store: Store, reference: str) -> bytes:
    """The answer to `info/refs?service=git-receive-pack`. Raises as `fetch.show`."""
    workspace = publish(store, reference)
    had = [commit for branch in BRANCHES for commit in store.history.steps_back(workspace.id, branch)]
    with workspace.publishing:
        return commands.advertisement(view.served(workspace.repository), dict.fromkeys(had))


async def receive(
    store: Store,
    examiner: Examiner,
    reference: str,
    body: AsyncIterator[bytes],
    who: Provenance,
    limits: Limits,
    offload: Offload,
) -> bytes:
    """Takes a push in and returns the answer to it. Raises Malformed, TooLarge, NotFound, Unavailable before anything
    was done; whatever is wrong with what is pushed is part of the answer.
    """
    reader = Reader(body)
    request = await commands.read(reader)
    if not request.commands:
        return b""  # a probe, to learn whether the key will do
    push = _Push(store, examiner, request, who, limits)
    clearing: asyncio.Future[None] | None = None
    try:
        await offload(push.begin, reference)
        try:
            await push.take(reader)
            await push.examine(offload)
            await offload(push.admit)
            clearing = asyncio.ensure_future(offload(push.end))  # meanwhile: a disk may take its time for each folder
            await offload(push.apply)
        except _Denied as denied:
            push.refuse(denied)
        except GitstoreError as failed:
            if push.results:
                raise  # cannot be: each result stands for something that was done
            push.refuse(_Denied({each.ref: failed.message for each in request.commands}, [f"error: {failed.message}"]))
        return commands.report(request, push.unpacked, push.results, push.said)
    finally:
        try:
            await (clearing if clearing is not None else offload(push.end))
        finally:
            push.end()


class _Push:
    """One push on its way."""

    def __init__(self, store: Store, examiner: Examiner, request: Request, who: Provenance, limits: Limits) -> None:
        self._store = store
        self._examiner = examiner
        self._request = request
        self._who = who
        self._limits = limits
        self._quarantine: Quarantine | None = None
        self._workspace: Workspace | None = None
        self._shown: dict[str, Oid] = {}
        self._marked: dict[str, Oid] = {}
        self._judged: dict[Branch, tuple[Oid, Oid]] = {}
        self.unpacked = "ok"
        self.results: dict[str, Result] = {}
        self.said: list[str] = []

    # -- before anything is believed ------------------------------------------------------------------------------

    def begin(self, reference: str) -> None:
        """Finds the workspace, and sees where everything is. Raises NotFound, Unavailable, Damaged."""
        workspace = publish(self._store, reference)
        with workspace.publishing:
            self._workspace = workspace
            self._shown = view.served(workspace.repository)
            self._marked = tags.marked(workspace.repository.git)

    @property
    def _found(self) -> Workspace:
        assert self._workspace is not None
        return self._workspace

    async def take(self, reader: Reader) -> None:
        """Looks at the commands, then takes the pack into quarantine. Raises what reading raises, and _Denied."""
        denied = self._looked_at()
        if not self._request.packed:
            if denied:
                raise _Denied(denied)
            return
        if denied:
            async for _ in reader.rest():
                pass  # git shows the answer only after it has sent everything
            raise _Denied(denied)
        self._quarantine = Quarantine(self._store.disk, self._found.repository)
        try:
            self._quarantine.open(self._shown)
        except OSError as failed:
            raise StorageFailed(f"the push cannot be taken in: {failed.strerror or failed}") from failed
        wrong = await self._examiner.take(self._quarantine, reader.rest())
        if wrong is not None:
            reasons = {each.ref: "unpacker error" for each in self._request.commands}
            raise _Denied(reasons, [f"error: {wrong}"], unpacked=wrong)

    def _looked_at(self) -> dict[str, str]:
        """What is wrong with the commands themselves, by ref."""
        denied: dict[str, str] = {}
        wanted = self._request.commands
        if len(wanted) > self._limits.refs:
            text = f"a push may move at most {self._limits.refs} refs, and this one has {len(wanted)}"
            return {each.ref: text for each in wanted}
        seen: set[str] = set()
        for command in wanted:
            why = "it is named twice" if command.ref in seen else self._command(command)
            seen.add(command.ref)
            if why is not None:
                denied[command.ref] = why
        if {refs.MAIN, FOR_MAIN} <= seen:
            denied[FOR_MAIN] = "push to main, or to refs/for/main, not to both"
        if "atomic" in self._request.capabilities and len(seen & _BRANCHES.keys()) > 1:
            denied |= dict.fromkeys(seen & _BRANCHES.keys(), "main and evidence cannot be one atomic push")
        return denied

    def _command(self, command: Command) -> str | None:
        ref, old, new = command
        if old is None and new is None:
            return "there is nothing to delete"
        branch = ref.removeprefix("refs/heads/")
        if ref == FOR_MAIN:
            return None if new is not None else "it is never there, so it cannot be deleted"
        if ref in _BRANCHES:
            if new is None:
                return f"{branch} is never deleted"
            return "fetch first" if old != self._shown.get(ref) else None
        if not ref.startswith(("refs/heads/", "refs/tags/")):
            return "only branches, tags and refs/for/main can be pushed"
        why = refs.fault(ref) or self._protected(ref)
        if why is None and fold(ref) in _BRANCHES:
            why = f"its name differs from {fold(branch)} only in case"
        if why is None and old != self._shown.get(ref):
            why = "fetch first" if old is not None else "it exists already"
        if why is None and new is not None and (other := self._in_the_way(ref)) is not None:
            why = f"{other} is in the way: one name would be a folder of the other"
        if why is None and refs.in_use(self._found.repository.git, ref):
            why = "it is checked out in the workspace's folder"
        return why

    def _protected(self, ref: str) -> str | None:
        name = ref.removeprefix("refs/tags/")
        if name in self._marked:
            return "it is a snapshot, which only the API moves or deletes"
        other = next((one for one in self._marked if name != ref and fold(one) == fold(name)), None)
        return f"its name differs from that of the snapshot {other} only in case" if other is not None else None

    def _in_the_way(self, ref: str) -> str | None:
        gone = {each.ref for each in self._request.commands if each.new is None}
        made = {each.ref for each in self._request.commands if each.new is not None}
        for other in (self._shown.keys() - gone) | made:
            if other.startswith(f"{ref}/") or ref.startswith(f"{other}/"):
                return other
        return None

    # -- is it sound, may it come in ------------------------------------------------------------------------------

    async def examine(self, offload: Offload) -> None:
        """Connectivity of everything, then the rules of what goes to the store's own branches. Raises _Denied."""
        quarantine = self._quarantine
        if quarantine is None:
            return
        wanted = {each.ref: each.new for each in self._request.commands if each.new is not None}
        listed = {ref: await self._listed(quarantine, new) for ref, new in wanted.items() if ref in _BRANCHES}
        kinds = {item.oid: item.kind for items in listed.values() for item in items}
        others = {new for ref, new in wanted.items() if ref not in listed}
        unknown = [*others, *(new for new in wanted.values() if new not in kinds and new not in others)]
        kinds |= await self._examiner.kinds(quarantine, unknown) if unknown else {}
        denied: dict[str, str] = {}
        for ref, new in wanted.items():
            kind = kinds.get(new)
            if kind is None:
                denied[ref] = _MISSING
            elif kind != COMMIT and (kind != TAG or not ref.startswith("refs/tags/")):
                denied[ref] = "a branch names a commit, a tag a commit or an annotated tag"
        if not denied and others and (wrong := await self._examiner.connected(quarantine, others)) is not None:
            raise self._lacking(wrong)
        if denied:
            raise _Denied(denied)
        said: list[str] = []
        for ref, items in listed.items():
            faults = await self._judge(quarantine, ref, wanted[ref], items, offload)
            if faults:
                denied[ref] = "1 problem" if len(faults) == 1 else f"{len(faults)} problems"
                said += map(told, faults[:_TOLD])
                if len(faults) > _TOLD:
                    said.append(f"… and {len(faults) - _TOLD} more")
        if denied:
            raise _Denied(denied, said)

    async def _listed(self, quarantine: Quarantine, new: Oid) -> list[Item]:
        """What one of the store's own branches would get; that it can be listed shows that it is connected."""
        known = [self._shown[each] for each in refs.HEADS.values() if each in self._shown]
        items = await self._examiner.listing(quarantine, new, known)
        if items is None:
            raise self._lacking(LACKING)
        return items

    def _lacking(self, wrong: str) -> _Denied:
        return _Denied({each.ref: _MISSING for each in self._request.commands}, [f"error: {wrong}"])

    async def _judge(
        self, quarantine: Quarantine, ref: str, new: Oid, items: list[Item], offload: Offload
    ) -> list[Fault]:
        branch = _BRANCHES[ref]
        judge, head = self._judging(branch), self._shown.get(refs.HEADS[branch])

        def judged() -> list[Fault]:
            before, after = quarantine.tree(head), quarantine.tree(new)
            faults = judge.objects(quarantine.database, before, after, items)
            if faults or ref == FOR_MAIN:
                # Files that are too large are not read, and what is merged is judged when it is.
                return faults
            faults = judge.state(before, after)
            self._judged[branch] = before.root, after.root
            self.said += notes(before, after)
            return faults

        return await offload(judged)

    def _judging(self, branch: Branch) -> Judge:
        now = int(time.time() * 1000)
        return Judge(
            self._found.id, branch, self._store.options.secrets, now, self._limits.file_bytes,
            self._found.repository.objects,
        )  # fmt: skip

    # -- it comes in ----------------------------------------------------------------------------------------------

    def admit(self) -> None:
        """Makes the objects the repository's. Raises StorageFailed."""
        try:
            if self._quarantine is not None:
                with self._found.publishing:
                    self._quarantine.admit()
        except OSError as failed:
            raise StorageFailed(f"the push cannot be kept: {failed.strerror or failed}") from failed

    def apply(self) -> None:
        """Moves the refs. Raises _Denied, StorageFailed; then none has moved."""
        ours = [each for each in self._request.commands if each.ref in _BRANCHES]
        others = [each for each in self._request.commands if each.ref not in _BRANCHES]
        for command in ours:
            try:
                self.results[command.ref] = self._join(command)
            except (_Denied, GitstoreError) as failed:
                denied = failed if isinstance(failed, _Denied) else _denied(command.ref, failed)
                self.said += denied.said
                self.results[command.ref] = denied.reasons[command.ref]
                if len(self.results) == 1:
                    self.refuse(denied)
                    return
        if others:
            self._move(others)
        self._show()

    def _join(self, command: Command) -> Moved:
        branch, new = _BRANCHES[command.ref], command.new
        assert new is not None
        judge = self._judging(branch)

        def check(before: TreeView, after: TreeView) -> None:
            if self._judged.get(branch) != (before.root, after.root) and (faults := judge.state(before, after)):
                raise Refused("the push breaks rules", faults)

        old = self._shown.get(refs.HEADS[branch])
        for _ in range(10):
            workspace = self._store.load(self._found.id)
            with workspace.lock:
                if workspace.closed:
                    continue  # it left memory between the look-up and the lock
                before = workspace.tip.lines[branch].oid
                pending: Pending[Outcome[Joined]] = (
                    joining.merge_in(workspace, branch, new, self._who, on_conflict="refuse", check=check)
                    if command.ref == FOR_MAIN
                    else joining.push(workspace, branch, old, new, self._who, check)
                )
            head = Oid(bytes.fromhex(pending.result().value.head))
            return self._moved(command, branch, before, head)
        raise Unavailable("the workspace is being closed; try again in a moment")

    def _moved(self, command: Command, branch: Branch, before: Oid | None, head: Oid) -> Moved:
        ref = refs.HEADS[branch]
        if head == command.new and ref == command.ref:
            return Moved(ref)
        if head == command.new:
            self.said.append(f"{branch} is now at {head.hex()[:12]}")
        else:
            self.said.append(f"{branch} is now at {head.hex()[:12]}, which joins yours with what was there; git pull")
        return Moved(ref, before, head)

    def _move(self, wanted: list[Command]) -> None:
        """Moves other branches and tags, each from where it was seen, and makes that durable."""
        repository, disk = self._found.repository, self._store.disk
        with self._found.publishing:
            for command in wanted:
                try:
                    _swap(self._store, self._found, command)
                    self.results[command.ref] = Moved(command.ref)
                except refs.RefMoved:
                    self.results[command.ref] = "fetch first"
                except refs.RefLocked:
                    self.results[command.ref] = "somebody's git holds its lock; try again"
                except OSError as failed:
                    self.results[command.ref] = f"it cannot be written: {failed.strerror or failed}"
            try:
                disk.sync_all(repository.git)
            except OSError as failed:
                raise StorageFailed(f"the push cannot be kept: {failed.strerror or failed}") from failed

    def _show(self) -> None:
        """Whoever asks next sees it, through whatever door."""
        self._store.derived.flush()
        try:
            publish(self._store, self._found.id)
        except GitstoreError as failed:
            # What was pushed is durable and in the API; what holds up the folder is somebody's doing there.
            log.warning("workspace %s: a push cannot be shown in the folder yet: %s", self._found.id, failed)
            self.said.append("note: the workspace's folder follows as soon as it can be written")

    # -- the end --------------------------------------------------------------------------------------------------

    def refuse(self, denied: _Denied) -> None:
        """Nothing is done."""
        self.unpacked = denied.unpacked
        self.results = {each.ref: denied.reasons.get(each.ref, _UNDONE) for each in self._request.commands}
        self.said = [*dict.fromkeys([*self.said, *denied.said])] if denied.said else self.said

    def end(self) -> None:
        """Leaves nothing behind. Costs nothing the second time."""
        if self._quarantine is not None:
            self._quarantine.discard()
            self._quarantine = None


def _denied(ref: str, failed: GitstoreError) -> _Denied:
    if isinstance(failed, Refused):
        count = "1 problem" if len(failed.faults) == 1 else f"{len(failed.faults)} problems"
        return _Denied({ref: count}, [told(fault) for fault in failed.faults[:_TOLD]])
    if isinstance(failed, Conflict):
        lines = failed.message.splitlines()
        reason = "fetch first" if "fetch first" in lines[0] else "conflict" if len(lines) > 1 else lines[0]
        return _Denied({ref: reason}, [f"error: {lines[0]}", *lines[1:]])
    return _Denied({ref: failed.message}, [f"error: {failed.message}"])


def _swap(store: Store, workspace: Workspace, command: Command) -> None:
    repository = workspace.repository
    scratch, until = repository.database.scratch, time.monotonic() + _LOCKED
    while True:
        try:
            if command.new is not None:
                refs.swap(store.disk, repository.git, scratch, command.ref, command.old, command.new)
            elif command.old is not None:
                refs.delete(store.disk, repository.git, scratch, command.ref, command.old)
            return
        except refs.RefLocked:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
