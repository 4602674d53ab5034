"""When to look at a folder: where something happened in it, once that has come to rest, and everywhere once a round.

Events only say where to look, and may be lost; the round over every folder is what can be relied on. Rest is a matter
of each path: the store itself may write to others of the folder all the time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from gitstore.errors import GitstoreError

ANYWHERE = ""  # the path that stands for all of a folder
LONGEST = 10  # settle times after which a path is looked at although it does not come to rest
TOGETHER = 0.5  # settle times: what was touched this long ago goes along with what is at rest
AGAIN = 0.1  # settle times between two looks at one folder
WORRIED = 5.0  # seconds before another try after something failed
_SLICE = 0.05  # seconds of a round that go by before what is due comes first

Look = Callable[[str, Collection[str] | None], float | None]

log = logging.getLogger("gitstore.settling")


class _Touched:
    """Where in a folder something was seen to happen, when first and when last; and where to look again, and when.

    Times are those of time.monotonic.
    """

    __slots__ = ("later", "looked", "paths")

    def __init__(self) -> None:
        self.paths: dict[str, tuple[float, float]] = {}
        self.later: dict[str, float] = {}
        self.looked = 0.0  # when the folder was looked at last

    def touch(self, path: str, now: float) -> None:
        known = self.paths.get(path)
        self.paths[path] = (known[0] if known is not None else now, now)

    def due(self, settle: float) -> float | None:
        """When the next path will be at rest, and may be looked at; None where there is none."""
        rest = [min(last + settle, first + LONGEST * settle) for first, last in self.paths.values()]
        rest += self.later.values()
        return max(min(rest), self.looked + AGAIN * settle) if rest else None

    def take(self, settle: float, now: float) -> set[str]:
        """The paths that are at rest, and those that are nearly so: one act of a person's touches several."""
        rested = {
            path
            for path, (first, last) in self.paths.items()
            if last + TOGETHER * settle <= now or first + LONGEST * settle <= now
        }
        for path in rested:
            del self.paths[path]
        waited = {path for path, when in self.later.items() if when <= now}
        for path in waited:
            del self.later[path]
        self.looked = now
        return rested | waited


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

    def touched(self, folder: str, path: str = ANYWHERE) -> None:
        """Something happened in a folder, at a path in it. May be called from any thread."""
        with self._wake:
            here = self._touched.get(folder)
            if here is None:
                here = self._touched[folder] = _Touched()
            known = bool(here.paths)
            here.touch(path, time.monotonic())
            if not known:
                self._wake.notify()

    @property
    def waiting(self) -> bool:
        """Whether there is anywhere that will be looked at before the next round."""
        with self._wake:
            return any(here.paths or here.later for here in self._touched.values())

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
            for folder, paths in due:
                self._look(folder, paths)
            self._sweep()

    def _pause(self) -> float:
        now = time.monotonic()
        if self._round or self._began is None:
            return 0.0
        waits = [when for here in self._touched.values() if (when := here.due(self._settle)) is not None]
        return max(0.0, min([*waits, self._began + self._every]) - now)

    def _due(self) -> list[tuple[str, set[str]]]:
        now = time.monotonic()
        found = []
        for folder, here in list(self._touched.items()):
            when = here.due(self._settle)
            if when is not None and when <= now:
                found.append((folder, here.take(self._settle, now)))
            elif when is None and here.looked + self._settle < now:
                del self._touched[folder]
        return found

    def _look(self, folder: str, paths: set[str]) -> None:
        try:
            wait = self._call(folder, None if ANYWHERE in paths else paths)
        except Exception as error:
            # This thread serves every folder: whatever is wrong with one is told, and tried again.
            if isinstance(error, GitstoreError | OSError):
                log.warning("the folder %s cannot be looked at: %s", folder, error)
            else:
                log.exception("the folder %s cannot be looked at", folder)
            wait = WORRIED
        if wait is not None:
            with self._wake:
                here = self._touched.setdefault(folder, _Touched())
                here.later.update(dict.fromkeys(paths, time.monotonic() + wait))

    def _sweep(self) -> None:
        """Goes on with the round that is under way, or begins the next one."""
        now = time.monotonic()
        if not self._round:
            if self._began is not None and now - self._began < self._every:
                return
            self._round, self._began = self._folders(), now
        while self._round and time.monotonic() - now < _SLICE:
            folder = self._round.pop()
            try:
                suspicious = self._suspect(folder)
            except (GitstoreError, OSError) as error:
                log.debug("the folder %s cannot be looked at: %s", folder, error)  # the look says it louder
                suspicious = True
            if suspicious:
                self._look(folder, {ANYWHERE})
        if not self._round:
            self.rounds += 1
