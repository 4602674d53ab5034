"""When to look at a folder: a while after something happened in it, and in any case once a round.

Events only say where to look, and may be lost; the round over every folder is what can be relied on. Whether something
has come to rest is for the look to see: in a folder that this store writes to, something happens all the time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from gitstore.errors import GitstoreError

WORRIED = 5.0  # seconds before another try after something failed
_SLICE = 0.05  # seconds of a round that go by before what is due comes first

Look = Callable[[str, Collection[str] | None], float | None]

log = logging.getLogger("gitstore.settling")


class _Touched:
    """A folder in which something was seen to happen, and where in it (None: anywhere)."""

    __slots__ = ("due", "paths")

    def __init__(self, due: float) -> None:
        self.due = due
        self.paths: set[str] | None = set()


class Settling:
    """Calls `look(folder, paths)` from one thread; what it answers is the seconds until it wants to look again.

    `settle` and `sweep` in seconds. `folders` are those of a round; `suspect` tells cheaply if one is worth a look.
    """

    def __init__(
        self,
        look: Look,
        folders: Callable[[], list[str]],
        suspect: Callable[[str], bool],
        *,
        settle: float,
        sweep: float,
    ) -> None:
        self._call = look
        self._folders = folders
        self._suspect = suspect
        self._settle = settle
        self._every = sweep
        self._wake = threading.Condition()
        self._touched: dict[str, _Touched] = {}
        self._round: list[str] = []
        self._began: float | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="gitstore-checkout", daemon=True)
        self.rounds = 0

    def start(self) -> None:
        """Begins, with a round: people may have edited while nobody looked."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; what has not come to rest is found by the round of the next start."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def touched(self, folder: str, path: str | None) -> None:
        """Something happened in a folder: at a path in it, or (None) anywhere. May be called from any thread."""
        due = time.monotonic() + self._settle
        with self._wake:
            here = self._touched.get(folder)
            if here is None:
                here = self._touched[folder] = _Touched(due)
                self._wake.notify()
            elif due < here.due:
                here.due = due
                self._wake.notify()
            if path is None:
                here.paths = None
            elif here.paths is not None:
                here.paths.add(path)

    def lost(self) -> None:
        """Events were lost: a round begins at once."""
        with self._wake:
            self._round, self._began = [], None
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._stopping:
                    self._wake.wait(self._pause())
                if self._stopping:
                    return
                due = self._due()
            for folder, here in due:
                self._look(folder, here)
            self._sweep()

    def _pause(self) -> float:
        now = time.monotonic()
        if self._round or self._began is None:
            return 0.0
        waits = [here.due - now for here in self._touched.values()]
        return max(0.0, min([*waits, self._began + self._every - now]))

    def _due(self) -> list[tuple[str, _Touched]]:
        now = time.monotonic()
        due = [(folder, here) for folder, here in self._touched.items() if here.due <= now]
        for folder, _ in due:
            del self._touched[folder]
        return due

    def _look(self, folder: str, here: _Touched) -> None:
        try:
            wait = self._call(folder, here.paths)
        except Exception as error:
            # This thread serves every folder: whatever is wrong with one is told, and tried again.
            if isinstance(error, GitstoreError | OSError):
                log.warning("the folder %s cannot be looked at: %s", folder, error)
            else:
                log.exception("the folder %s cannot be looked at", folder)
            wait = WORRIED
        if wait is not None:
            self._again(folder, here, wait)

    def _again(self, folder: str, here: _Touched, wait: float) -> None:
        due = time.monotonic() + wait
        with self._wake:
            newer = self._touched.get(folder)
            if newer is None:
                newer = self._touched[folder] = _Touched(due)
            newer.due = min(newer.due, due)
            if here.paths is None or newer.paths is None:
                newer.paths = None
            else:
                newer.paths |= here.paths

    def _sweep(self) -> None:
        """Goes on with the round that is under way, or begins the next one."""
        now = time.monotonic()
        if not self._round:
            if self._began is not None and now - self._began < self._every:
                return
            self._round, self._began = self._folders(), now
        while self._round and time.monotonic() - now < _SLICE:
            folder = self._round.pop()
            here = _Touched(now)
            here.paths = None
            try:
                suspicious = self._suspect(folder)
            except (GitstoreError, OSError) as error:
                log.debug("the folder %s cannot be looked at: %s", folder, error)  # the look says it louder
                suspicious = True
            if suspicious:
                self._look(folder, here)
        if not self._round:
            self.rounds += 1
