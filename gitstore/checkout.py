"""The checkout door: what people save in a workspace's folder becomes a commit, once it has come to rest.

A look compares the files with what was last shown there, so that nothing depends on an event having arrived.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple, TypeVar

from gitstore import edits, values
from gitstore.changes import Draft, Outcome, Workspace
from gitstore.errors import Conflict, Damaged, GitstoreError, Invalid, StorageFailed, Unavailable
from gitstore.model import Actor, Op, Problem, Provenance
from gitstore.reading import shown
from gitstore.repository.ancestry import is_ancestor
from gitstore.repository.index import IndexForeign, IndexLocked
from gitstore.repository.person import person
from gitstore.repository.repository import Repository
from gitstore.repository.status import Edit, Status, status
from gitstore.settling import WORRIED
from gitstore.store import Store

T = TypeVar("T")
Mode = Literal["auto", "manual"]
SOURCE = "checkout"  # whose problems these are (Workspace.tell)
SOON = 0.25  # seconds before another look where somebody's git is at work
STAGED = 5.0  # seconds before another look at what somebody has staged
_TRIES = 20  # looks while a git is at work, for a caller who waits
_NOTHING = Status([], [], set())  # there is nothing to be taken in, whatever is there
_PATIENCE = 0.75  # settle times that an edit waits for others to come to rest, to be one commit with them

log = logging.getLogger("gitstore.checkout")


class Pended(NamedTuple):
    """An edit that is no commit yet; `since` in ms."""

    path: str
    op: Op
    since: int


class State(NamedTuple):
    """How a checkout stands. `busy`: why it is left alone for now."""

    mode: Mode
    branch: str | None
    busy: Literal["merge", "rebase", "other_branch"] | None
    pending: tuple[Pended, ...]


class Checkouts:
    """The checkouts of one store: looked at, committed, and settled where they are in conflict."""

    def __init__(self, store: Store, *, settle: float, mode: Mode, file_limit: int) -> None:
        self._store = store
        self._settle = settle
        self._mode: Mode = mode
        self._limit = file_limit
        # By workspace: when an edit of a path was first seen, by the path and whether its file is gone.
        self._seen: dict[str, dict[tuple[str, bool], float]] = {}
        self._known: dict[str, dict[str, Problem]] = {}  # what is told of each workspace, by the problem's id
        self._joins: dict[str, int] = {}
        self.committed = 0

    # -- looking --------------------------------------------------------------------------------------------------

    def suspect(self, folder: str) -> bool:
        """Whether a folder has something to take in, found without reading the workspace into memory."""
        return self._store.edited(folder, self._limit)

    def look(self, folder: str, only: Collection[str] | None) -> float | None:
        """Takes in what has come to rest in a folder, at `only` some paths of it or anywhere.

        The seconds until another look is needed, if one is. Raises what a look raises.
        """
        workspace = self._store.in_folder(folder)
        if workspace is None:
            return None
        if self._known.get(workspace.id):
            only = None  # one edit may be what was wrong with another
        try:
            found = self._survey(workspace, only)
            if found is not None and self._joins.get(workspace.id) != workspace.joins:
                # A branch was taken in: what its author's files say is to be seen, wherever they are.
                self._joins[workspace.id] = workspace.joins
                found = self._survey(workspace, None) if only is not None else found
            if found is None:
                return SOON
            if found is _NOTHING:
                return None  # whoever ends it moves HEAD or the branch, which is an event
            ready, wait = self._rested(workspace, found)
            if self.mode(workspace) == "manual":
                self._tell(workspace, (), (), found)
            else:
                self._commit(workspace, ready, found, None, None)
        except (OSError, StorageFailed, Unavailable, Damaged) as error:
            self._worry(workspace, error)
            return WORRIED
        return wait

    def _survey(self, workspace: Workspace, only: Collection[str] | None) -> Status | None:
        """What differs from what is shown; None while a git is at work there, _NOTHING where main is not to be had.

        Raises OSError, Unavailable, Damaged.
        """
        if not self._store.publisher.publish(workspace):
            return None
        repository = workspace.repository
        with workspace.publishing:
            if repository.index_held():
                return None
            if repository.occupied() is not None or repository.shown["main"] is None:
                return _NOTHING
            try:
                found = status(
                    self._store.disk, repository, limit=self._limit, only=only, large_bytes=self._store.large_bytes
                )
            except IndexForeign as error:
                raise Unavailable(f"{repository.root} has an index with {error}: its edits are not taken in") from None
            found = self._agreed(repository, found)
            repository.forget(found.sound)
        now = time.time()
        edited = {(edit.path, edit.blob is None) for edit in found.edits}
        seen = self._seen.setdefault(workspace.id, {})
        for key in [key for key in seen if key not in edited and (only is None or key[0] in only)]:
            del seen[key]
        for key in edited:
            seen.setdefault(key, now)
        return found

    @staticmethod
    def _agreed(repository: Repository, found: Status) -> Status:
        """Brings files up to date that say what an edit was to begin from, and no more; the edits that are left."""
        agreed = {
            edit.path: edit.base
            for edit in found.edits
            if not edit.staged and edit.base != edit.shown and edit.base == (edit.blob.id if edit.blob else None)
        }
        if not agreed:
            return found
        with contextlib.suppress(IndexLocked):  # then the next look does it
            repository.settle(agreed)
        return found._replace(edits=[edit for edit in found.edits if edit.path not in agreed])

    def _rested(self, workspace: Workspace, found: Status) -> tuple[list[Edit], float | None]:
        """The edits that nobody is at, and the seconds until the others may be so."""
        now = time.time()
        seen = self._seen.get(workspace.id, {})
        rested: list[Edit] = []
        waits: list[float] = []
        for edit in found.edits:
            # A folder in which other files come and go says little of when this one went.
            when = edit.time if edit.blob is not None else min(edit.time, seen.get((edit.path, True), now))
            if edit.staged:
                waits.append(STAGED)  # a person is about to commit it, or thinks better of it
            elif 0 <= now - when < self._settle:
                waits.append(self._settle - (now - when))
            else:
                rested.append(edit)
        if min(waits, default=STAGED) >= self._settle:
            return rested, min(waits, default=None)
        ready: list[Edit] = []
        for edit in rested:
            left = _PATIENCE * self._settle - (now - seen.get((edit.path, edit.blob is None), now))
            if left > 0:
                waits.append(left)
            else:
                ready.append(edit)
        return ready, min(waits)

    def _commit(
        self, workspace: Workspace, ready: Sequence[Edit], found: Status, message: str | None, who: Provenance | None
    ) -> Outcome[edits.Taken] | None:
        outcome: Outcome[edits.Taken] | None = None
        problems: tuple[Problem, ...] = ()
        if ready:
            known = self._known.get(workspace.id, {})
            ready = self._received(workspace, ready)

            def operation(draft: Draft) -> edits.Taken:
                return edits.take(draft, ready, message, known)

            outcome = self._apply(workspace, operation, who or self._person(workspace, ready))
            problems = outcome.value.problems
            if outcome.commit is None:
                self._agree(workspace, ready, outcome)
            for edit in ready:
                if edit.path in outcome.value.behind:
                    self._give_up(workspace, edit)
                if edit.path in outcome.value.paths:
                    self._seen[workspace.id].pop((edit.path, edit.blob is None), None)
            self.committed += outcome.commit is not None
        self._tell(workspace, ready, problems, found)
        return outcome

    def _received(self, workspace: Workspace, ready: Sequence[Edit]) -> list[Edit]:
        """Makes objects of the workspace of what large files hold; the edits less those that changed meanwhile."""
        repository, kept = workspace.repository, []
        for edit in ready:
            if edit.large is None or repository.receive(edit.path, edit.large):
                kept.append(edit)
        return kept

    def _apply(self, workspace: Workspace, operation: Callable[[Draft], T], who: Provenance) -> Outcome[T]:
        outcome = self._store.apply(workspace.id, "main", operation, who).result()
        self._store.publisher.publish(workspace)
        return outcome

    def _agree(self, workspace: Workspace, ready: Sequence[Edit], outcome: Outcome[edits.Taken]) -> None:
        """Brings files up to date whose edits `main` has already, among others: no commit comes that would."""
        repository, head = workspace.repository, outcome.snapshot.main.oid
        found = {edit.path: edit.blob.id if edit.blob is not None else None for edit in ready}
        taken = {path: found[path] for path in outcome.value.paths}
        with workspace.publishing:
            shown = repository.shown["main"]
            if not taken or head is None or shown is None or not is_ancestor(repository, head, shown):
                return  # a git was at work: the next look does it
            with contextlib.suppress(IndexLocked):
                repository.settle(taken)

    def _person(self, workspace: Workspace, ready: Sequence[Edit]) -> Provenance:
        owner = os.getuid()
        for edit in ready:
            place = os.path.join(workspace.repository.root, edit.path)
            try:
                owner = os.lstat(place if edit.blob is not None else os.path.dirname(place)).st_uid
                break
            except OSError:
                continue  # gone meanwhile; the next one says it too
        who = person(workspace.repository.git, owner)
        return Provenance(Actor("person", who.email, who.name), "disk")

    # -- problems -------------------------------------------------------------------------------------------------

    def _tell(self, workspace: Workspace, ready: Sequence[Edit], problems: Sequence[Problem], found: Status) -> None:
        """Tells what is wrong now. Of an edit that was not tried this time, what was told before stays."""
        known = self._known.get(workspace.id, {})
        teller = edits.Teller(int(time.time() * 1000), known)
        waiting = {shown(edit.path) for edit in found.edits} - {shown(edit.path) for edit in ready}
        now = [*problems, *map(teller.trouble, found.troubles)]
        now += [one for one in known.values() if one.path in waiting]
        self._say(workspace, now)

    def _worry(self, workspace: Workspace, error: Exception) -> None:
        text = error.message if isinstance(error, GitstoreError) else str(error)
        identity = sha256(b"checkout\0disk").hexdigest()[:16]
        known = self._known.get(workspace.id, {})
        since = known[identity].since if identity in known else values.iso(int(time.time() * 1000))
        problem = Problem(
            identity, "disk", "", "checkout", f"the edits in the folder cannot be taken in: {text}",
            "Nothing is lost: they are where they are, and it is tried again every few seconds.", since,
        )  # fmt: skip
        self._say(workspace, [*(one for one in known.values() if one.id != identity), problem])

    def _say(self, workspace: Workspace, problems: Sequence[Problem]) -> None:
        told = sorted({problem.id: problem for problem in problems}.values(), key=lambda one: (one.path, one.code))
        self._known[workspace.id] = {problem.id: problem for problem in told}
        workspace.tell(SOURCE, tuple(told))

    # -- for callers ----------------------------------------------------------------------------------------------

    def mode(self, workspace: Workspace) -> Mode:
        """Whether edits become commits by themselves: the workspace's settings say so, else the server's."""
        said = workspace.visible.context.settings.get("checkout")
        mode = said.get("mode") if isinstance(said, dict) else None
        return mode if mode in ("auto", "manual") else self._mode

    def state(self, workspace: Workspace) -> State:
        """How a checkout stands now. Raises Unavailable while somebody's git is at work in it."""
        found = self._patiently(workspace)
        repository = workspace.repository
        seen = self._seen.get(workspace.id, {})
        pending = tuple(
            Pended(
                shown(edit.path),
                "deleted" if edit.blob is None else "added" if edit.shown is None else "changed",
                int(min(edit.time, seen.get((edit.path, edit.blob is None), edit.time)) * 1000),
            )
            for edit in found.edits
        )
        return State(self.mode(workspace), repository.branch(), repository.occupied(), pending)

    def commit(self, workspace: Workspace, message: str | None, who: Provenance) -> Outcome[edits.Taken] | None:
        """Commits what is pending now, staged or not; None where nothing is.

        Raises Conflict while a merge is under way or another branch is checked out, Unavailable.
        """
        found = self._patiently(workspace)
        self._free(workspace, found)
        return self._commit(workspace, found.edits, found, message, who)

    def _free(self, workspace: Workspace, found: Status) -> None:
        """Raises Conflict where the checkout is not one of `main` that edits can be taken from."""
        repository = workspace.repository
        busy = repository.occupied()
        if busy == "other_branch":
            branch = repository.branch()
            raise Conflict(
                f"the checkout is not on main but on {branch or 'no branch'}: `git checkout main` there first"
            )
        if busy is not None:
            raise Conflict(f"a {busy} is under way in the checkout: finish it or abort it first")
        if found is _NOTHING:
            raise Unavailable("somebody's git is at work in the checkout: try again in a moment")

    def resolve(
        self,
        workspace: Workspace,
        problem: Problem,
        *,
        take: Literal["file", "main"] | None,
        value: object,
        who: Provenance,
    ) -> None:
        """Settles a problem with an edit: by one of its sides, or (`take` is None) with a value for the file.

        Raises Conflict where the edit is gone, Invalid where what is asked for breaks a rule, Unavailable.
        """
        found = self._patiently(workspace)
        self._free(workspace, found)
        edit = next((edit for edit in found.edits if shown(edit.path) == problem.path), None)
        if edit is None:
            self._tell(workspace, (), (), found)
            raise Conflict(f"`{problem.path}` has no edit any more: there is nothing to resolve")
        if take == "file" and problem.kind != "conflict":
            raise Invalid(f"the file cannot be taken as it is: {problem.message}")
        if edit.blob is not None:
            self._received(workspace, [edit])
            workspace.repository.database.publish([edit.blob])  # what it said stays among the objects for a while
            log.info("what %s in %s said is blob %s", edit.path, workspace.repository.root, edit.blob.id.hex())
        committed = False
        if take != "main" or problem.kind == "conflict":

            def operation(draft: Draft) -> None:
                edits.settle(draft, edit, take=take, value=value)

            committed = self._apply(workspace, operation, who).commit is not None
        if not committed:
            self._give_up(workspace, edit)
        self.look(os.path.basename(workspace.repository.root), None)

    def _give_up(self, workspace: Workspace, edit: Edit) -> None:
        """Brings a file back to what `main` has."""
        with workspace.publishing:
            try:
                workspace.repository.restore(edit.path, edit.blob.id if edit.blob is not None else None)
            except IndexLocked:
                raise Unavailable("somebody's git holds the index of the checkout: try again in a moment") from None

    def _patiently(self, workspace: Workspace) -> Status:
        for _ in range(_TRIES):
            try:
                found = self._survey(workspace, None)
            except OSError as error:
                raise StorageFailed(f"the workspace's folder cannot be read: {error.strerror or error}") from error
            if found is not None:
                return found
            time.sleep(SOON)  # a git of a person's is at work, and tells nobody when it ends
        raise Unavailable("somebody's git holds the index of the checkout: try again when it has ended")

    def forget(self, workspace: str) -> None:
        """The workspace is gone."""
        self._known.pop(workspace, None)
        self._joins.pop(workspace, None)
        self._seen.pop(workspace, None)
