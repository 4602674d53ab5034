"""One exchange of a workspace with the remote branch that it follows: look, fetch, check, merge, push.

Nothing is ever forced. What comes in stays apart until it is known to be this workspace and to keep every rule that a
push is held to; then it goes through the one write path. What the workspace has is pushed only where the remote's
branch is an ancestor of it, or absent.
"""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from threading import Event
from typing import Any, Final, Literal

import msgspec

from gitstore import documents, joining, settings, values
from gitstore.acceptance import Refused
from gitstore.changes import Closed, Workspace
from gitstore.context import WORKSPACE
from gitstore.documents import DocumentError
from gitstore.errors import Conflict, Invalid, TooLarge, Unavailable
from gitstore.model import Problem, Provenance
from gitstore.remotes import exchange, same_server
from gitstore.remotes.child import Stopped
from gitstore.remotes.exchange import TRANSIENT, Far, Means, Setback
from gitstore.repository import refs
from gitstore.repository.objects import Oid
from gitstore.repository.quarantine import Quarantine
from gitstore.repository.trees import TreeView
from gitstore.rules import Sync
from gitstore.store import Store
from gitstore.transport.examine import ByGit
from gitstore.transport.fetch import publish
from gitstore.transport.git import Git, Limits
from gitstore.transport.judge import Item, Judge

_TRIES = 4
_OURS: Final = "refs/heads/ours"
_THEIRS: Final = "refs/sync/theirs"
_SIDES: dict[str, Literal["refuse", "ours", "theirs"]] = {"stop": "refuse", "keep": "ours", "theirs": "theirs"}
_TOLD = 100  # conflicts, or faults of what came in, that become problems of the workspace
_AGAIN = "The next run takes it up; POST to the workspace's sync to have it at once."
_HINTS: dict[str, str] = {
    "auth_failed": "Store a token that may read (and, to push, write) the repository: PATCH the workspace's "
    "settings.credentials.git_token.",
    "not_found": "Correct settings.sync.url, or store a token that may see the repository.",
    "branch_not_found": "Correct settings.sync.branch, or make the branch there (direction `push` or `both` makes it).",
    "empty_repository": "Push a first commit there; direction `push` or `both` does it.",
    "refused_address": "Use another host, or have it allowed in the server's configuration (`verify_allow`).",
    "refused_scheme": "Correct settings.sync.url: https and ssh are understood.",
    "not_a_git_server": "Correct settings.sync.url.",
    "host_key_mismatch": "Have the host's key put into the file that the server's setting `ssh_known_hosts` names.",
    "no_git": "Install git on the server.",
    "too_large": "Make the branch's history smaller, or raise the server's setting `max_push_bytes`.",
    "malformed": "Look at the repository with `git fsck --strict`.",
    "rejected": "Allow the push on the host, or choose another branch in settings.sync.branch.",
}


class Failure(Exception):
    """The exchange ended here. `lasting` says that it will again until a person does something."""

    def __init__(
        self, code: str, message: str, hint: str = _AGAIN, *, lasting: bool = True, problems: tuple[Problem, ...] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.lasting = lasting
        self.problems = problems


class Counts(msgspec.Struct):
    """Commits. `ahead` and `behind`: what the workspace has more and less than the remote, as far as is known;
    `fetched`: what the remote had more; `merged`: how many of those are in `main` now; `pushed`: what was sent there.
    `conflicts`: places that both sides changed differently, whoever gave way."""

    ahead: int = 0
    behind: int = 0
    fetched: int = 0
    merged: int = 0
    pushed: int = 0
    conflicts: int = 0


class Run:
    """One exchange of the workspace `identity` as `plan` says. `counts` is right also after a failure."""

    def __init__(self, store: Store, identity: str, plan: Sync, means: Means, who: Provenance, stop: Event) -> None:
        self.counts = Counts()
        self._store = store
        self._identity = identity
        self._plan = plan
        self._means = means
        self._who = who
        self._stop = stop
        self._note = ""

    def go(self) -> None:
        """Does it. Raises Failure, Stopped, and what the store raises where its disk fails."""
        for _ in range(_TRIES):
            try:
                if self._once():
                    return
            except Closed:
                continue  # the workspace left memory meanwhile
            except Setback as error:
                lasting = error.reason not in TRANSIENT
                note = self._note if error.reason in ("auth_failed", "not_found") else ""
                hint = _HINTS.get(error.reason, _AGAIN)
                raise Failure(error.reason, error.message + note, hint, lasting=lasting) from None
        raise Failure("moved", "the remote's branch moved each time something was to be pushed", lasting=False)

    def _once(self) -> bool:
        """One try; False where the remote moved meanwhile."""
        plan = self._plan
        workspace = self._store.load(self._identity)
        far = exchange.reach(plan.url, token=self._token(workspace), means=self._means, stop=self._stop)
        if self._stop.is_set():
            raise Stopped
        theirs = far.head(plan.branch)
        workspace, ours = self._published()
        self.counts.ahead = self.counts.behind = 0
        if theirs == ours.hex():
            return True
        beside = Quarantine(self._store.disk, workspace.repository)
        try:
            beside.open({_OURS: ours})
            if theirs is None:
                self._absent(far)
                self.counts.ahead, _ = exchange.apart(far, ours.hex(), None, repository=beside.folder)
            else:
                ours = self._meet(workspace, far, theirs, ours, beside)
            if plan.direction == "pull" or not self.counts.ahead:
                return True
            if not exchange.push(far, plan.branch, ours.hex(), repository=beside.folder):
                return False
            self.counts.pushed += self.counts.ahead
            self.counts.ahead = 0
            return True
        finally:
            beside.discard()

    def _token(self, workspace: Workspace) -> str | None:
        """The stored token, if it was given for the server of the URL; else the exchange goes without one."""
        self._note = ""
        sealed, vault = workspace.visible.sealed, self._store.vault
        if settings.GIT_TOKEN not in sealed:
            return None
        server = sealed.get(settings.TOKEN_SERVER)
        if server is None or not same_server(vault.unseal(workspace.id, settings.TOKEN_SERVER, server), self._plan.url):
            self._note = (
                "; the stored token was given for another server and was not sent: store it again, together with the "
                "URL, by PATCH of the workspace's settings"
            )
            return None
        return vault.unseal(workspace.id, settings.GIT_TOKEN, sealed[settings.GIT_TOKEN])

    def _published(self) -> tuple[Workspace, Oid]:
        """The workspace, and the newest commit of its `main`, which git finds on disk."""
        try:
            workspace = publish(self._store, self._identity)
        except Unavailable as error:
            raise Failure("unpublished", f"the workspace cannot be published: {error.message}", lasting=False) from None
        with workspace.publishing:
            head = workspace.repository.kept["main"]
        if head is None:
            raise Failure("unpublished", "the workspace has no commit on disk yet", lasting=False)
        return workspace, head

    def _absent(self, far: Far) -> None:
        """The remote has no such branch: only a push makes one."""
        if self._plan.direction != "pull":
            return
        if far.refs.branches:
            raise Setback("branch_not_found", f"the repository has no branch `{self._plan.branch}`")
        raise Setback("empty_repository", "the repository has no commit yet")

    def _meet(self, workspace: Workspace, far: Far, theirs: str, ours: Oid, beside: Quarantine) -> Oid:
        """Takes in what the remote has more, if that is wanted; the published head afterwards."""
        counts, plan = self.counts, self._plan
        there = Oid(bytes.fromhex(theirs))
        if beside.database.has(there):
            counts.ahead, counts.behind = exchange.apart(far, ours.hex(), theirs, repository=beside.folder)
            if not counts.behind:
                return ours
        exchange.fetch(far, plan.branch, repository=beside.folder, ref=_THEIRS)
        beside.database.close()
        there = refs.read(beside.folder, _THEIRS) or there
        counts.ahead, counts.behind = exchange.apart(far, ours.hex(), there.hex(), repository=beside.folder)
        if not counts.behind:
            return ours
        view = beside.tree(there)
        items = self._items(far, beside, there, ours)
        if not any(item.path == WORKSPACE and item.size > far.means.file_bytes for item in items):
            self._same(workspace, view)  # else it is not even read: the rules refuse it
        if plan.direction == "push":
            raise Failure(
                "diverged",
                f"the remote's branch has {_commits(counts.behind)} that this workspace has not, and nothing is forced",
                "Set the direction to `both` or `pull`, or choose another branch.",
            )
        counts.fetched += counts.behind
        before = beside.tree(ours)
        judge = Judge(
            workspace.id, "main", self._store.options.secrets, int(time.time() * 1000), self._means.file_bytes
        )

        def check(before: TreeView, after: TreeView) -> None:
            if faults := judge.state(before, after):
                raise Refused("what the remote has breaks rules", faults)

        try:
            if faults := judge.objects(beside.database, before, view, items):
                raise Refused("what the remote has breaks rules", faults)
            if not counts.ahead:
                check(before, view)
            with workspace.publishing:
                beside.admit()
            with workspace.lock:
                if workspace.closed:
                    raise Closed
                pending = joining.merge_in(
                    workspace, "main", there, self._who, on_conflict=_SIDES[plan.on_conflict], check=check
                )
            joined = pending.result()
        except Conflict as error:
            raise self._clashed(error) from None
        except Invalid as error:
            raise _refused(error) from None
        counts.merged += counts.behind
        counts.conflicts += len(joined.value.clashes)
        _, ours = self._published()
        counts.ahead, counts.behind = exchange.apart(far, ours.hex(), there.hex(), repository=beside.folder)
        return ours

    def _items(self, far: Far, beside: Quarantine, there: Oid, ours: Oid) -> list[Item]:
        """Every object that came in."""
        assert far.means.git is not None  # else nothing had been fetched
        limits = Limits(far.means.bytes_max, far.means.file_bytes, seconds=far.deadline.left())
        examiner = ByGit(Git(far.means.git), limits)

        async def listed() -> list[Item] | None:
            task = asyncio.ensure_future(examiner.listing(beside, there, (ours,)))
            while not task.done():
                await asyncio.wait({task}, timeout=0.1)
                if self._stop.is_set() and not task.done():
                    task.cancel()
                    await asyncio.wait({task})
                    raise Stopped
            return task.result()

        try:
            items = asyncio.run(listed())
        except TooLarge as error:
            raise Failure("too_large", error.message, _HINTS["too_large"]) from None
        if items is None:
            raise Unavailable("what came from the remote could not be examined; the server's git failed")
        return items

    def _same(self, workspace: Workspace, view: TreeView) -> None:
        """Raises Failure unless the files are those of this very workspace."""
        data = view.read(WORKSPACE)
        hint = "Choose a branch that holds this workspace, or one that does not exist yet (a push makes it)."
        if data is None:
            raise Failure(
                "not_a_workspace",
                f"the remote's branch `{self._plan.branch}` holds no workspace: it has no workspace.yaml, as a "
                "repository of code has none",
                hint,
            )
        try:
            document = documents.load(data, WORKSPACE)
        except DocumentError:
            return  # it may be ours, broken: the rules say what is wrong with it
        found = document.get("id") if isinstance(document, dict) else None
        if not isinstance(found, str) or found.lower() != workspace.id:
            raise Failure(
                "another_workspace",
                f"the remote's branch `{self._plan.branch}` holds another workspace: the id in its workspace.yaml is "
                f"not {workspace.id}",
                hint,
            )

    def _clashed(self, error: Conflict) -> Failure:
        """Both sides changed the same, and the settings say to stop."""
        found: list[dict[str, Any]] = list((error.details or {}).get("conflicts") or ())
        if not found:
            return Failure("refused", error.message, "Change what is in the way, here or there.")
        self.counts.conflicts = len(found)
        hint = (
            "Make both sides say the same, here or there; or set settings.sync.on_conflict to `keep` (this side stays) "
            "or `theirs`."
        )
        problems = []
        for one in found[:_TOLD]:
            place = one["path"] + (f" at {one['pointer']}" if one.get("pointer") else "")
            sides = {name: one[side] for name, side in (("main", "ours"), ("file", "theirs")) if side in one}
            problems.append(
                problem(
                    "conflict",
                    f"{place} was changed here and on the remote",
                    hint + " `main` is the value here, `file` the remote's.",
                    path=one["path"],
                    key=one.get("pointer") or None,
                    line=one.get("line"),
                    sides=sides,
                )
            )
        text = f"here and on the remote the same was changed, in {_places(len(found))}; nothing was merged"
        return Failure("conflict", text, hint, problems=tuple(problems))


def _refused(error: Invalid) -> Failure:
    """What came in breaks rules: told file by file."""
    hint = "Mend it on the remote; the next run takes it in."
    faults = error.faults[:_TOLD] if isinstance(error, Refused) else []
    problems = tuple(
        problem("refused", fault.message, fault.hint or hint, path=fault.path, line=fault.line, column=fault.column)
        for fault in faults
    )
    return Failure("refused", error.message, hint, problems=problems)


def problem(
    code: str,
    message: str,
    hint: str,
    *,
    path: str = "settings.yaml",
    key: str | None = None,
    line: int | None = None,
    column: int | None = None,
    sides: dict[str, Any] | None = None,
) -> Problem:
    """A problem of the kind `sync`, first seen now."""
    identity = sha256(f"sync\0{path}\0{key}\0{code}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    since = values.iso(int(time.time() * 1000))
    return Problem(
        identity, "sync", path, f"sync_{code}", message, hint, since, key=key, line=line, column=column, values=sides
    )


def _commits(count: int) -> str:
    return "1 commit" if count == 1 else f"{count:,} commits"


def _places(count: int) -> str:
    return "1 place" if count == 1 else f"{count:,} places"
