"""What goes on in an open store besides answering: its folders are watched, looked at, and taken in."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

from gitstore.checkout import Checkouts, Mode
from gitstore.folders import Folders
from gitstore.settling import Settling
from gitstore.store import Store
from gitstore.watching import Watching

_ALL = ""  # the folder of the folders: which there are


class Live:
    """The live folders of a store. `checkouts` can be used before `start` and after `stop`."""

    def __init__(
        self,
        store: Store,
        *,
        mode: Mode = "auto",
        settle: float = 1.0,
        sweep: float = 60.0,
        watch: bool = True,
        file_limit: int = 10 << 20,
    ) -> None:
        self.checkouts = Checkouts(store, settle=settle, mode=mode, file_limit=file_limit)
        self.folders = Folders(store, settle=settle)
        self._store = store
        self.settling = Settling(self._look, self._round, self._suspect, settle=settle, sweep=sweep)
        self._beginning = threading.Thread(target=self._begin, name="gitstore-live", daemon=True)
        self.watching: Watching | None = None
        if watch:
            self.watching = Watching(
                store.layout.workspaces,
                self.settling.touched,
                lambda: self.settling.touched(_ALL),
                self.settling.lost,
            )

    def _round(self) -> list[str]:
        return [*self._store.homes.all(), _ALL]  # taken from the end

    def _suspect(self, folder: str) -> bool:
        return folder == _ALL or self.folders.suspect(folder) or self.checkouts.suspect(folder)

    def _look(self, folder: str, only: Collection[str] | None) -> float | None:
        if folder == _ALL:
            return self.folders.reconcile()
        wait = self.folders.look(folder)
        return self.checkouts.look(folder, only) if wait is None else wait

    def start(self) -> None:
        """Begins to watch, then to look; returns at once, for with many folders that takes a moment."""
        self._beginning.start()

    def _begin(self) -> None:
        if self.watching is not None:
            self.watching.start()
        self.settling.start()  # with a round, which finds what was done before the watches were there

    def stop(self) -> None:
        """Ends; what is not taken in is found at the next start."""
        if self._beginning.ident is not None:
            self._beginning.join()
        if self.watching is not None:
            self.watching.stop()
        self.settling.stop()

    def __enter__(self) -> Live:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()
