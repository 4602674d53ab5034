"""What goes on in an open store besides answering: its folders are watched, looked at, and taken in."""

from __future__ import annotations

from typing import Any

from gitstore.checkout import Checkouts, Mode
from gitstore.settling import Settling
from gitstore.store import Store
from gitstore.watching import Watching


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
        self.settling = Settling(self.checkouts.look, store.folders, self.checkouts.suspect, settle=settle, sweep=sweep)
        self.watching = (
            Watching(store.layout.workspaces, self.settling.touched, lambda: None, self.settling.lost)
            if watch
            else None
        )

    def start(self) -> None:
        """Begins to watch, then to look."""
        if self.watching is not None:
            self.watching.start()
        self.settling.start()

    def stop(self) -> None:
        """Ends; what is not taken in is found at the next start."""
        if self.watching is not None:
            self.watching.stop()
        self.settling.stop()

    def __enter__(self) -> Live:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()
