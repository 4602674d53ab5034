"""Publication: what the journal has promised becomes objects, files and refs that every git can read, shortly after.

One thread does it for the whole store: a workspace is published 100 ms after its last change, or a second after its
first, whichever comes sooner, or when a door asks for it. Then, now and then, the journal's old files are forgotten.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from hashlib import sha256

from gitstore import values
from gitstore.changes import Change, Placed, Workspace
from gitstore.errors import Damaged, GitstoreError, Unavailable
from gitstore.joining import take_in
from gitstore.model import Problem
from gitstore.repository.disk import Disk
from gitstore.repository.index import IndexLocked
from gitstore.repository.journal import Entry, Journal, gathered
from gitstore.repository.lives import ASIDE
from gitstore.repository.objects import Object
from gitstore.repository.packs import loose
from gitstore.repository.refs import RefLocked
from gitstore.repository.repository import Foreign
from gitstore.repository.standing import collecting, standing, stands

QUIET = 0.1  # seconds without a change before a workspace is published
LATEST = 1.0  # seconds after which it is published although changes keep coming
CHECKPOINT = 5.0  # seconds between two checkpoints
CHECKPOINT_BYTES = 8 << 20
AGE = 1.0  # seconds after which what was published is looked at once more
AGE_BYTES = 64 << 20  # of it in one workspace, from where on it waits for no git that cleans up
ARRIVED = 20.0  # seconds that the packs of a push are kept from such a git; longer, where publication does not get on
SWEEP = 1.0  # seconds between two looks at the refs of the workspaces in memory
_RETRY = 0.5  # seconds before another try after a failure or a lock

SOURCE = "publication"  # whose problems these are (Workspace.tell)

log = logging.getLogger("gitstore.publisher")


def _stuck(error: Exception) -> Problem:
    """What is told with a workspace while it cannot be published."""
    return Problem(
        sha256(b"publication").hexdigest()[:16], "disk", "", "publication",
        f"the folder cannot follow what the API says: {error}",
        "Nothing is lost: it is in the journal, and tried again until it is done.",
        values.iso(int(time.time() * 1000)),
    )  # fmt: skip


class Publisher:
    """Publishes the workspaces of one store, whose data folder is `root`."""

    def __init__(
        self,
        disk: Disk,
        root: str,
        journal: Journal,
        secrets: str,
        watched: Callable[[], list[Workspace]],
        tidy: Callable[[], None],
        joined: Callable[[Workspace], None],
    ) -> None:
        self._disk = disk
        self._root = root
        self._journal = journal
        self._secrets = secrets
        self._watched = watched
        self._tidy = tidy
        self._joined = joined
        self._dirty: dict[str, Workspace] = {}
        self._again: dict[str, float] = {}
        self._placed: set[Workspace] = set()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="gitstore-publisher", daemon=True)
        self._trash: list[tuple[Workspace, str, Entry, Callable[[], None]]] = []
        self._checkpoint_at = 0.0
        self._sweep_at = 0.0
        self.failures: dict[str, str] = {}  # workspace → what keeps it from being published
        self.published = 0

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Publishes what is left, then ends. What cannot be published stays in the journal for the next start."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def waiting(self) -> int:
        """How many workspaces have changes that are not published yet."""
        return len(self._dirty)

    def changed(self, workspace: Workspace) -> None:
        """A change of this workspace became durable."""
        if self._dirty.get(workspace.id) is not workspace:
            with self._wake:
                self._dirty[workspace.id] = workspace
                self._wake.notify()

    def trash(self, workspace: Workspace, target: str, entry: Entry, then: Callable[[], None]) -> None:
        """Publishes what is left of a deleted workspace, moves its folder to `target`, then calls `then`."""
        with self._wake:
            self._trash.append((workspace, target, entry, then))
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._stopping:
                    self._wake.wait(self._pause())
                stopping = self._stopping
                dirty = list(self._dirty.values())
            now = time.monotonic()
            self._throw_away()
            for workspace in dirty:
                if stopping or self._due(workspace, now):
                    self._try(workspace)
            if stopping:
                self.look_again(at_once=True)
                return
            if now >= self._sweep_at:
                self._sweep_at = now + SWEEP
                self._sweep()
                try:
                    self._tidy()
                except Exception as error:  # noqa: BLE001  (as in _try: a full disk, say; the next second tries again)
                    log.warning("the indexes cannot follow yet: %s", error)
            if now >= self._checkpoint_at or self._journal.backlog > CHECKPOINT_BYTES:
                self._checkpoint_at = now + CHECKPOINT
                self._checkpoint()

    def _throw_away(self) -> None:
        with self._wake:
            waiting, self._trash = self._trash, []
        for item in waiting:
            workspace, target, entry, then = item
            try:
                if not self.publish(workspace):
                    raise Unavailable(f"somebody's git holds a lock in {workspace.repository.root}")
                self.settle(workspace)
                workspace.repository.database.close()
                self._disk.rename(workspace.repository.root, target)
                workspace.repository.relocate(target)  # what was published last is looked at again there
            except Exception as error:  # noqa: BLE001  (as in _try: tried again, and the others must not wait)
                log.warning("workspace %s cannot be moved to the trash yet: %s", workspace.id, error)
                with self._wake:
                    self._trash.append(item)
                continue
            with self._wake:
                self._dirty.pop(workspace.id, None)
            self.failures.pop(workspace.id, None)
            self._journal.published([entry.segment])
            then()

    def _pause(self) -> float:
        return 0.025 if self._dirty or self._trash else min(SWEEP, CHECKPOINT) / 2

    def _due(self, workspace: Workspace, now: float) -> bool:
        if now < self._again.get(workspace.id, 0.0):
            return False
        return now - workspace.latest >= QUIET or now - workspace.since >= LATEST

    def _try(self, workspace: Workspace) -> None:
        try:
            done = self.publish(workspace)
        except Exception as error:  # noqa: BLE001
            # The promise is in the journal, and this thread serves every other workspace too: whatever it is (the disk,
            # a folder or a ref that somebody moved), publication is tried again until it is mended.
            if self.failures.get(workspace.id) != str(error):
                log.warning("workspace %s cannot be published yet: %s", workspace.id, error)
                self.failures[workspace.id] = str(error)
                workspace.tell(SOURCE, (_stuck(error),))
            done = False
        if done:
            if self.failures.pop(workspace.id, None) is not None:
                workspace.tell(SOURCE, ())
            self._again.pop(workspace.id, None)
            with self._wake:
                if not workspace.unpublished and self._dirty.get(workspace.id) is workspace:
                    del self._dirty[workspace.id]
        else:
            self._again[workspace.id] = time.monotonic() + _RETRY

    def _sweep(self) -> None:
        """Notices branches that somebody's git moved, and checkouts that are free again after a merge."""
        for workspace in self._watched():
            if workspace.id in self._dirty:
                continue
            try:
                repository = workspace.repository
                waiting = repository.shown != repository.kept and not repository.busy()
                if waiting or repository.foreign() is not None:
                    self._dirty[workspace.id] = workspace
            except (OSError, GitstoreError) as error:
                # A folder that is being moved, or a ref that is being written: the next sweep looks again.
                log.debug("workspace %s cannot be looked at: %s", workspace.id, error)

    def look_again(self, *, at_once: bool = False) -> None:
        """Looks once more at what was published (repository.standing), writes again what is missing, and tells the
        journal that it is there.

        While a git cleans up the journal is told later; where the store stops, the next start then replays it.
        """
        with self._wake:
            waiting = list(self._placed)
        for workspace in waiting:
            try:
                now = time.monotonic()
                self._look(workspace, now if at_once else now - AGE, 0.0 if at_once else ARRIVED)
            except Exception as error:  # noqa: BLE001  (as in _try: the next checkpoint tries again)
                log.warning("what was published of workspace %s cannot be looked at: %s", workspace.id, error)

    def watch(self, workspace: Workspace, item: Object) -> None:
        """An object that no journal has got a name just now: it is looked at again as well. `publishing` is held."""
        workspace.placed.append(Placed(standing([loose(item.id)], [item]), (), time.monotonic()))
        with self._wake:
            self._placed.add(workspace)

    def settle(self, workspace: Workspace) -> None:
        """The same for one workspace that is to leave memory. Raises OSError, Damaged."""
        self._look(workspace, time.monotonic(), ARRIVED)

    def _look(self, workspace: Workspace, until: float, arrived: float) -> None:
        """The same for what was published of a workspace before `until`."""
        with workspace.publishing:
            placed = workspace.placed
            self._mend(workspace)
            waits = collecting(workspace.repository.git) and sum(one.standing.size for one in placed) <= AGE_BYTES
            while placed and placed[0].at <= until and not waits:
                self._journal.published(placed.popleft().segments)
            if not workspace.unpublished or time.monotonic() - workspace.since < ARRIVED / 2:
                workspace.repository.database.release(arrived)
            with self._wake:
                if not placed and not workspace.repository.database.arrivals:
                    self._placed.discard(workspace)
                    if workspace.deleting:
                        workspace.repository.database.close()

    def _mend(self, workspace: Workspace) -> int:
        """Writes again what is missing of what was published just now; how many objects. Raises OSError, Damaged."""
        repository, placed = workspace.repository, workspace.placed
        missing = [one.standing for one in placed if not stands(repository.database.objects, one.standing)]
        if not missing or repository.belongs_to() != workspace.id:  # its folder was removed, or is elsewhere
            return 0
        count = repository.database.mend(missing)
        if count:
            log.warning("%s: %d objects that somebody's git removed were written again", repository.root, count)
            now = time.monotonic()  # what was written just now can be removed as well
            placed.extend([placed.popleft()._replace(at=now) for _ in range(len(placed))])
        return count

    def _checkpoint(self) -> None:
        self.look_again()
        self._journal.rotate()
        try:
            self._journal.checkpoint(self._root)
        except OSError as error:
            log.warning("the journal cannot be shortened yet: %s", error)

    def publish(self, workspace: Workspace) -> bool:
        """Publishes a workspace now; False if somebody's git holds a lock. Raises OSError, Damaged."""
        with workspace.publishing:
            for _ in range(8):
                batch = list(workspace.unpublished)
                if workspace.closed and not batch:
                    return True  # deleted, or out of memory: what its folder is now is for somebody else to say
                try:
                    try:
                        self._write(workspace, batch)
                    except Foreign as foreign:
                        self._disk.sync_all(workspace.repository.root)  # what git wrote is not durable by itself
                        take_in(workspace, foreign).result()
                        self._joined(workspace)
                        continue
                except (RefLocked, IndexLocked):
                    return False
                except Damaged:
                    if not self._mend(workspace):
                        raise
                    continue
                self.published += len(batch)
                return True
        raise Unavailable(f"the branches of {workspace.repository.root} keep being moved by somebody else")

    def _rename(self, workspace: Workspace, root: str) -> None:
        """Moves a workspace's folder to its new name; out of the way first, if another is about to leave that name."""
        repository = workspace.repository
        if repository.kept["main"] is not None:  # else it is still to be made, under its new name
            if os.path.exists(root):
                aside = f"{self._root}/workspaces/{ASIDE}{workspace.id}"
                if repository.root != aside:
                    self._disk.rename(repository.root, aside)
                    repository.relocate(aside)
                raise Unavailable(f"{root} still belongs to a workspace that is being moved or deleted")
            self._disk.rename(repository.root, root)
        repository.relocate(root)

    def _write(self, workspace: Workspace, batch: list[Change]) -> None:
        repository = workspace.repository
        folder = batch[-1].snapshot.context.fields.slug if batch else None
        root = f"{self._root}/workspaces/{folder}"
        if folder is not None and repository.root != root:
            self._rename(workspace, root)
        elif repository.kept["main"] is None and repository.belongs_to() not in (None, workspace.id):
            raise Unavailable(f"{root} still belongs to a workspace that is being moved or deleted")
        heads = {}
        for change in batch:
            heads.update(change.heads)
        objects = [item for change in batch for item in change.objects]
        keep, taken = gathered((change.kept, change.taken) for change in batch)
        placed = repository.publish(objects, heads, keep=keep, taken=taken)
        sealed = next((change.sealed_file for change in reversed(batch) if change.sealed_file is not None), None)
        if sealed is not None:
            self._disk.overwrite(f"{self._secrets}/{workspace.id}.new", sealed, 0o600)
            self._disk.rename(f"{self._secrets}/{workspace.id}.new", f"{self._secrets}/{workspace.id}")
        repository.database.drop(objects)
        for _ in batch:
            workspace.unpublished.popleft()
        if workspace.unpublished:
            workspace.since = time.monotonic()
        if batch:
            segments = tuple(change.segment for change in batch)
            workspace.placed.append(Placed(placed, segments, time.monotonic()))
        if batch or repository.database.arrivals:
            with self._wake:
                self._placed.add(workspace)
        repository.database.fold()
