"""What keeps a store small and quick while it serves: loose objects and packs become few, what nobody needs goes.

One thread of the lowest priority goes from workspace to workspace. It takes no lock that a writer waits for longer than
a look takes, and whatever goes wrong in one workspace is logged and tried again in the next round.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial

import msgspec

from gitstore.errors import GitstoreError
from gitstore.reclaiming import GRACE, reclaim
from gitstore.repository import gathering
from gitstore.store import Store
from gitstore.transport.git import Git

LOOSE = 2_000  # loose objects from where on they become a pack
PACKS = 25  # packs from where on git makes one of them
_NICE = 15
_DAY = 86_400.0
_UNDER_WAY = 0.25  # days that an object may be here before the commit comes that names it: a large push, say
_FIRST = 600.0  # seconds until the first reclaim
_LIMIT = 1_800.0  # seconds that one git may take
_STALE = 86_400.0  # seconds after which a half-written pack has no writer any more
_REPACK = {"pack.threads": "1", "pack.windowMemory": "64m", "repack.writeBitmaps": "false", "core.fsync": "all"}

log = logging.getLogger("gitstore.maintenance")


class Figures(msgspec.Struct):
    """What was done since the start. Times in ms since 1970."""

    rounds: int = 0
    gathered: int = 0  # loose objects that became part of packs
    repacked: int = 0  # packs that git folded into others
    graphs: int = 0  # commit graphs that were written
    reclaimed: int = 0  # artifacts and large objects
    reclaimed_bytes: int = 0
    failures: int = 0
    last: str = ""  # what was done last, for a person
    last_at: int | None = None


class Maintenance:
    """Looks after one store every `every` seconds, and reclaims once a day what is older than `days`."""

    def __init__(self, store: Store, *, git: str | None = None, days: float = GRACE, every: float = 60.0) -> None:
        self.figures = Figures()
        self._store = store
        self._git = Git(git) if git is not None else None
        self._days = days
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gitstore-maintenance", daemon=True)
        self._reclaim_at = time.monotonic() + _FIRST

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; what was under way is given up, and nothing is left half-done."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)  # of this thread alone, on Linux
        except OSError as error:
            log.debug("the priority cannot be lowered: %s", error)
        while not self._stop.wait(self._every):
            self.round()

    def round(self) -> None:
        """One look at every workspace, and the daily reclaim where it is due."""
        for identity in sorted(self._store.catalog.workspaces()):
            if self._stop.is_set():
                return
            self._guarded(partial(self.look, identity), identity)
        if time.monotonic() >= self._reclaim_at:
            self._reclaim_at = time.monotonic() + _DAY
            self._guarded(self._reclaim, "the store")
        self.figures.rounds += 1

    def _guarded(self, work: Callable[[], object], where: str) -> None:
        try:
            work()
        except (GitstoreError, OSError) as error:
            # A full disk, a folder that is being moved: the next round looks again, and nobody else must wait for it.
            self.figures.failures += 1
            log.warning("%s cannot be looked after: %s", where, error)
        except Exception:
            # Nor may anything nobody thought of end the upkeep of all the others.
            self.figures.failures += 1
            log.exception("%s cannot be looked after", where)

    def look(self, identity: str) -> bool:
        """Looks after one workspace; whether there was anything to do. Raises NotFound, StorageFailed, OSError."""
        row = self._store.catalog.workspace(identity)
        if row is None:
            return False
        objects = str(self._store.layout.workspaces / row.slug / ".git/objects")
        if not os.path.isdir(objects):
            return False
        loose = gathering.estimate(objects)
        if loose < LOOSE and (self._git is None or not _many(objects)):
            return False
        workspace = self._store.load(identity)
        database = workspace.repository.database
        count = 0
        if loose >= LOOSE:
            count = gathering.gather(self._store.disk, database.objects, database.scratch, self._stop.is_set)
            if count:
                database.arrived()
                self.figures.gathered += count
                self._did(f"{row.slug}: {count} loose objects packed")
        if self._git is not None and not self._stop.is_set():
            if _many(database.objects):
                self._repack(database.objects, workspace.publishing, row.slug)
            self._graph(database.git)
        database.close()  # the packs are others now
        return True

    def _repack(self, objects: str, publishing: threading.Lock, slug: str) -> None:
        """One pack of all, by git, which finds deltas; the old ones go when the new one is durable and has it all."""
        _sweep(self._store, objects)
        before = gathering.stems(objects)
        if not self._run_git(objects, ["repack", "-a", "-k", "-l", "-q"]):
            return
        self._store.disk.sync_all(objects)
        with publishing:  # which folds packs by itself
            new = [stem for stem in gathering.stems(objects) if stem not in before]
            gone = gathering.replace(self._store.disk, objects, before, new)
        self.figures.repacked += gone
        if gone:
            self._did(f"{slug}: {gone} packs became one")

    def _graph(self, git: str) -> None:
        if self._run_git(f"{git}/objects", ["commit-graph", "write", "--reachable", "--split"]):
            self.figures.graphs += 1

    def _run_git(self, objects: str, words: list[str]) -> bool:
        assert self._git is not None
        done = self._git.run(os.path.dirname(objects), words, _REPACK, seconds=_LIMIT, stop=self._stop)
        if done.status != 0 and not self._stop.is_set():
            log.warning("git %s in %s failed: %s", words[0], objects, done.told or done.status)
            self.figures.failures += 1
        return done.status == 0

    def _reclaim(self) -> None:
        for one in reclaim(self._store, days=max(self._days, _UNDER_WAY)):
            self.figures.reclaimed += 1
            self.figures.reclaimed_bytes += one.bytes
            self._did(f"{one.what} {one.path or one.id} reclaimed: {one.why}")
            log.info("%s %s of %s reclaimed: %s", one.what, one.path or one.id, one.workspace or "the store", one.why)
            if self._stop.is_set():
                return

    def _did(self, what: str) -> None:
        self.figures.last, self.figures.last_at = what, int(time.time() * 1000)


def _many(objects: str) -> bool:
    """Whether there are many packs, and making one of them does not write the same again for little: what came since
    the last time is at least half as large as what was there.
    """
    names = gathering.stems(objects)
    if len(names) < PACKS:
        return False
    try:
        sizes = [os.path.getsize(f"{objects}/pack/{name}.pack") for name in names]
    except FileNotFoundError:
        return False  # they are being folded just now
    return 3 * max(sizes) <= 2 * sum(sizes)


def _sweep(store: Store, objects: str) -> None:
    """Removes what a git that was killed left half-written."""
    now = time.time()
    for entry in os.scandir(f"{objects}/pack"):
        if not entry.name.startswith(("tmp_", ".tmp-")):
            continue
        with contextlib.suppress(FileNotFoundError):  # it gets its real name just now
            if now - entry.stat(follow_symlinks=False).st_mtime > _STALE:
                store.disk.unlink(entry.path)
