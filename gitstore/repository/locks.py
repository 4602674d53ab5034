"""Lock files as git takes them: `<file>.lock` beside a file, which becomes the file (gitrepository-layout(5)).

Ours is a hard link to a scratch file of ours, so that a lock of ours that was left over, by a crash or by a disk that
failed, is told from one that somebody's git holds.
"""

from __future__ import annotations

import contextlib
import os
from types import TracebackType

from gitstore.repository.disk import Disk


class Locked(Exception):
    """Somebody's git holds the lock."""


class Lock:
    """The lock of `target` while a `with` statement lasts, holding `data`; `temporary` is its scratch file alone.

    Raises Locked, OSError. Whatever fails, the lock is gone afterwards, or goes with the next attempt.
    """

    def __init__(self, disk: Disk, temporary: str, target: str, data: bytes) -> None:
        self._disk = disk
        self._temporary = temporary
        self._target = target
        self._lock = f"{target}.lock"
        self._data = data
        self._put = False

    def __enter__(self) -> Lock:
        self._clear()
        try:
            self._disk.overwrite(self._temporary, self._data)
            try:
                self._disk.link(self._temporary, self._lock)
            except FileNotFoundError:
                self._disk.makedirs(
                    os.path.dirname(self._lock), below=os.path.dirname(os.path.dirname(self._temporary))
                )
                self._disk.link(self._temporary, self._lock)
        except FileExistsError:
            raise Locked(self._lock) from None
        return self

    def put(self) -> None:
        """The lock becomes the file."""
        self._disk.rename(self._lock, self._target)
        self._put = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What cannot be removed now is no reason to fail, least of all once the file is in place.
        with contextlib.suppress(OSError):
            if not self._put:
                self._clear()
            self._disk.unlink(self._temporary)

    def _clear(self) -> None:
        """Removes the lock, if it is ours: also that of an attempt which could not do it itself."""
        try:
            mine = os.lstat(self._temporary)
            if os.path.samestat(mine, os.lstat(self._lock)):
                self._disk.unlink(self._lock)
        except FileNotFoundError:
            pass  # before an attempt this is nearly always so
