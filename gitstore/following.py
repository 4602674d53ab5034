"""Workspaces that follow a remote branch: each has its turn, a few at a time, and the store tells how it went.

One thread watches the clock; a run has a thread of its own while it lasts. Which workspaces follow something is read
from the catalog at the start and then from those whose `main` moved, so nothing is loaded for it. How the last runs
went is kept in memory: after a restart every follower has its turn soon.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

import msgspec

from gitstore import rules, sync
from gitstore.errors import Conflict, GitstoreError, Invalid, NotFound, Unavailable
from gitstore.model import SYSTEM, Problem, Provenance
from gitstore.pending import Pending
from gitstore.remotes.child import Stopped
from gitstore.remotes.exchange import Means
from gitstore.remotes.url import shown
from gitstore.rules import Sync
from gitstore.snapshot import Snapshot
from gitstore.store import Store
from gitstore.sync import Counts, Failure, Run

LOOK = 1.0  # seconds between two looks at what has changed
SHARE = 0.05  # of the time that looking may take at most
GRACE = 2.0  # seconds that a stop waits for runs to end
AT_ONCE = 2  # runs at a time that the clock starts
ASKED_AT_ONCE = 4  # runs at a time altogether: those that somebody waits for go beside
SOON = 0.5  # seconds from a webhook to its run, so that several calls in a row make one
APART = 5.0  # seconds between two runs that webhooks start
SPREAD = 30.0  # seconds over which the first runs after a start are spread
BACK_OFF = 60.0  # seconds after the first failure at least; twice as long after each further one
BACK_OFF_MAX = 6 * 3600.0
PATIENCE = 5  # failures in a row after which also one that may pass is told as a problem

log = logging.getLogger("gitstore.following")


class Report(msgspec.Struct, frozen=True):
    """How following stands; times in ms. `direction`, `url` and `branch` are None where nothing is followed."""

    state: Literal["idle", "running", "failed"]
    direction: Literal["pull", "push", "both"] | None
    url: str | None
    branch: str | None
    last_run_at: int | None
    last_success_at: int | None
    last_error: str | None
    counts: Counts


NOTHING = Report("idle", None, None, None, None, None, None, Counts())


class _Follower:
    """One workspace that follows something."""

    def __init__(self, plan: Sync, due: float) -> None:
        self.plan = plan
        self.due = due  # time.monotonic
        self.began = float("-inf")
        self.running = False
        self.last_run_at: int | None = None
        self.last_success_at: int | None = None
        self.last_error: str | None = None
        self.counts = Counts()
        self.failures = 0
        self.problems: tuple[Problem, ...] = ()
        self.asked: list[tuple[Provenance, Pending[Report]]] = []

    def report(self, plan: Sync | None = None) -> Report:
        plan = plan or self.plan
        state: Literal["idle", "running", "failed"] = "failed" if self.last_error is not None else "idle"
        return Report(
            "running" if self.running else state,
            plan.direction,
            shown(plan.url),
            plan.branch,
            self.last_run_at,
            self.last_success_at,
            self.last_error,
            msgspec.structs.replace(self.counts),
        )


class Following:
    """The followers of one store. Every method may be called from any thread."""

    def __init__(self, store: Store, means: Means) -> None:
        self._store = store
        self._means = means
        self._wake = threading.Condition()
        self._stop = threading.Event()
        self._followers: dict[str, _Follower] = {}
        self._seen: dict[str, tuple[str | None, bool]] = {}
        self._threads: set[threading.Thread] = set()
        self._clock = threading.Thread(target=self._run, name="gitstore-following", daemon=True)
        self._chance = random.Random()  # noqa: S311  (spreads load; nobody gains by guessing it)
        self._every = LOOK
        self._look_at = 0.0
        self._looked = False

    def start(self) -> None:
        """Begins."""
        self._clock.start()

    def halt(self) -> None:
        """Begins to stop: runs are broken off, whoever waits for one is told so. Does not wait."""
        self._stop.set()
        with self._wake:
            self._wake.notify_all()

    def stop(self) -> None:
        """Stops; afterwards no git child runs any more.

        A thread that waits for a host's first answer cannot be woken: it is left behind, and does nothing more.
        """
        self.halt()
        if self._clock.ident is not None:
            self._clock.join()
        until = time.monotonic() + GRACE
        for thread in list(self._threads):
            thread.join(max(0.0, until - time.monotonic()))
        with self._wake:
            left = [one for follower in self._followers.values() for one in follower.asked]
            self._followers.clear()
        self._answer(left, NOTHING)

    # -- for the doors --------------------------------------------------------------------------------------------

    def report(self, snapshot: Snapshot) -> Report:
        """How following stands for a workspace."""
        plan = _plan(snapshot)
        with self._wake:
            follower = self._followers.get(snapshot.workspace)
            if plan is None:
                return NOTHING
            if follower is None or not _same(follower.plan, plan):
                follower = _Follower(plan, 0.0)
            return follower.report(plan)

    def ask(self, snapshot: Snapshot, who: Provenance) -> Pending[Report]:
        """Runs it as soon as there is room, whatever the clock says; a run that is under way is followed by another.

        Raises Invalid where the workspace follows nothing, Conflict where it is inactive, Unavailable at a stop.
        """
        plan = _plan(snapshot)
        if plan is None:
            raise Invalid(
                "the workspace follows no remote: PATCH its settings with sync {url, branch, direction} first",
                details={"pointer": "/settings/sync"},
            )
        if not snapshot.context.fields.is_active:
            raise Conflict("the workspace is inactive, so it follows nothing: set is_active to true first")
        pending: Pending[Report] = Pending()
        with self._wake:
            if self._stop.is_set():
                raise Unavailable("the server is stopping; try again in a moment")
            follower = self._take(snapshot.workspace, plan)
            follower.asked.append((who, pending))
            self._wake.notify_all()
        return pending

    def called(self, workspace: str, ref: str | None) -> bool:
        """A git host says that a ref of the followed repository moved; whether that starts a pull.

        None: it does not say which.
        """
        with self._wake:
            follower = self._followers.get(workspace)
            if follower is None or follower.plan.direction == "push":
                return False
            if ref is not None and ref != f"refs/heads/{follower.plan.branch}":
                return False
            follower.due = min(follower.due, max(time.monotonic() + SOON, follower.began + APART))
            self._wake.notify_all()
            return True

    def urls(self) -> dict[str, str]:
        """What is followed, by workspace."""
        with self._wake:
            return {workspace: follower.plan.url for workspace, follower in self._followers.items()}

    # -- the clock ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                began = time.monotonic()
                if began >= self._look_at:
                    self._look()
                    now = time.monotonic()
                    self._look_at = now + max(self._every, (now - began) / SHARE)
            except Exception:
                # The clock serves every workspace: what could not be read now is looked at again the next time.
                log.exception("it cannot be told which workspaces follow a remote; it is tried again")
                self._look_at = time.monotonic() + 10 * self._every
            with self._wake:
                self._begin()
                if not self._stop.is_set():
                    self._wake.wait(self._pause())

    def _pause(self) -> float:
        now = time.monotonic()
        due = min((one.due for one in self._followers.values() if not one.running), default=now + self._every)
        return max(0.02, min(self._look_at, max(due, now + 0.1)) - now)

    def _look(self) -> None:
        """Notices who follows what by now: workspaces whose `main` moved, or that came and went."""
        catalog = self._store.catalog
        first, self._looked = not self._looked, True
        moved = []
        alive = set()
        for identity in catalog.workspaces():
            row = catalog.workspace(identity)
            if row is None:
                continue
            alive.add(identity)
            now = (row.main, row.is_active)
            if self._seen.get(identity) != now:
                self._seen[identity] = now
                moved.append(identity)
        for gone in self._seen.keys() - alive:
            del self._seen[gone]
            self._set(gone, None)
        if first:
            for identity, record in catalog.records_with(b'"sync"').items():
                self._set(identity, _recorded(record), spread=True)
            return
        cold = []
        for identity in moved:
            hot = self._store.hot(identity)
            if hot is not None:
                fields = hot.visible.context.fields
                self._set(identity, _plan(hot.visible) if fields.is_active else None)
            else:
                cold.append(identity)
        for at in range(0, len(cold), 500):
            for identity, record in catalog.records(cold[at : at + 500]).items():
                self._set(identity, _recorded(record))

    def _set(self, identity: str, plan: Sync | None, *, spread: bool = False) -> None:
        with self._wake:
            if plan is not None:
                follower = self._take(identity, plan)
                if spread:
                    follower.due = time.monotonic() + self._chance.uniform(0, min(SPREAD, plan.interval))
                return
            gone = self._followers.pop(identity, None)
        if gone is not None:
            if gone.problems:
                self._tell(identity, ())
            self._answer(gone.asked, NOTHING)

    def _take(self, identity: str, plan: Sync) -> _Follower:
        follower = self._followers.get(identity)
        if follower is None:
            follower = self._followers[identity] = _Follower(plan, time.monotonic())
        elif follower.plan != plan:
            # Another remote, or other rules: nothing is known of it, and what failed may work now.
            known, follower.plan = follower.plan, plan
            follower.failures = 0
            follower.due = time.monotonic()
            if not _same(known, plan):
                follower.last_error = follower.last_success_at = follower.last_run_at = None
                follower.counts = Counts()
        return follower

    def _begin(self) -> None:
        """Starts the runs whose turn it is."""
        running = sum(follower.running for follower in self._followers.values())
        now = time.monotonic()
        waiting = [(not one.asked, one.due, identity) for identity, one in self._followers.items() if not one.running]
        for by_clock, due, identity in sorted(waiting):
            if running >= (AT_ONCE if by_clock else ASKED_AT_ONCE) or (by_clock and due > now) or self._stop.is_set():
                break
            follower = self._followers[identity]
            follower.running = True
            follower.began = now
            asked, follower.asked = follower.asked, []
            thread = threading.Thread(
                target=self._go, args=(identity, follower, asked), name="gitstore-sync", daemon=True
            )
            self._threads.add(thread)
            thread.start()
            running += 1

    # -- one run --------------------------------------------------------------------------------------------------

    def _go(self, identity: str, follower: _Follower, asked: list[tuple[Provenance, Pending[Report]]]) -> None:
        plan = follower.plan
        who = asked[0][0] if asked else Provenance(SYSTEM, "git")
        run = Run(self._store, identity, plan, self._means, who, self._stop)
        failure: Failure | None = None
        told = False
        try:
            if self._store.load(identity).visible.context.fields.is_active:
                run.go()
                told = True
        except Failure as error:
            failure, told = error, True
        except (Stopped, NotFound):
            pass  # the server stops, or the workspace is gone: there is nothing to tell
        except OSError as error:
            failure, told = Failure("failed", f"the disk refuses: {error.strerror or error}", lasting=False), True
        except GitstoreError as error:
            failure, told = Failure("failed", error.message, lasting=False), True
        except Exception as error:
            # A thread of its own would end unheard, and whoever asked would wait for ever: it is told as a failure.
            if not self._stop.is_set():  # then the store may be closed already
                log.exception("following a remote failed for workspace %s", identity)
                failure, told = Failure("failed", f"the run broke ({type(error).__name__})", lasting=False), True
        finally:
            with self._wake:
                follower.running = False
                here = self._followers.get(identity) is follower and _same(follower.plan, plan)
                if told and here:
                    self._settle(identity, follower, plan, run, failure)
                report = follower.report()
            if told:
                self._tell(identity, follower.problems if here else ())
            self._answer(asked, report)
            with self._wake:
                self._threads.discard(threading.current_thread())
                self._wake.notify_all()

    def _settle(self, identity: str, follower: _Follower, plan: Sync, run: Run, failure: Failure | None) -> None:
        now = int(time.time() * 1000)
        follower.last_run_at = now
        follower.counts = run.counts
        if failure is None:
            if follower.last_error is not None:
                log.info("workspace %s follows its remote again", identity)
            follower.last_success_at, follower.last_error = now, None
            follower.failures, follower.problems = 0, ()
            wait = plan.interval * self._chance.uniform(0.9, 1.1)
        else:
            if follower.last_error != failure.message:
                log.warning("workspace %s cannot follow its remote: %s", identity, failure.message.split("\n")[0])
            follower.last_error = failure.message
            follower.failures += 1
            follower.problems = _problems(follower, failure)
            longest = min(max(plan.interval, BACK_OFF) * 2.0 ** min(follower.failures - 1, 16), BACK_OFF_MAX)
            wait = max(plan.interval, longest * self._chance.uniform(0.5, 1.0))
        if follower.plan == plan:
            follower.due = time.monotonic() + wait

    def _answer(self, asked: Iterable[tuple[Provenance, Pending[Report]]], report: Report) -> None:
        for _, pending in asked:
            if self._stop.is_set():
                pending.fail(Unavailable("the server is stopping; try again in a moment"))
            else:
                pending.settle(report)

    # -- problems -------------------------------------------------------------------------------------------------

    def _tell(self, identity: str, problems: tuple[Problem, ...]) -> None:
        with suppress(GitstoreError):
            self._store.load(identity).tell("sync", problems)


def _problems(follower: _Follower, failure: Failure) -> tuple[Problem, ...]:
    """What a person must mend; what was told before keeps its time."""
    if not failure.lasting and follower.failures < PATIENCE:
        return follower.problems
    found = failure.problems or (sync.problem(failure.code, failure.message, failure.hint),)
    since = {one.id: one.since for one in follower.problems}
    return tuple(msgspec.structs.replace(one, since=since.get(one.id, one.since)) for one in found)


def _same(one: Sync, other: Sync) -> bool:
    """Whether both speak of the same branch of the same repository."""
    return (one.url, one.branch) == (other.url, other.branch)


def _plan(snapshot: Snapshot) -> Sync | None:
    return rules.sync(snapshot.context.settings, snapshot.context.fields.repository_url)


class _Recorded(msgspec.Struct):
    """What of a workspace record says whether it follows something."""

    repository_url: str | None = None
    is_active: bool = True
    settings: dict[str, Any] = {}


def _recorded(record: bytes) -> Sync | None:
    known = msgspec.json.decode(record, type=_Recorded)
    return rules.sync(known.settings, known.repository_url) if known.is_active else None
