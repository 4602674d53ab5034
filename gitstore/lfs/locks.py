"""Locks of files: who says that nobody else is to change one. Clients of Git LFS keep to them; nothing else does.

They are one small file beside the repository, `.git/gitstore/locks`, replaced as a whole and durable on return.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Final

import msgspec

from gitstore.errors import Conflict, Invalid, NotFound, StorageFailed
from gitstore.repository.disk import Disk

MOST: Final = 10_000
"""Locks of one repository: all of them are read and written each time."""


class Lock(msgspec.Struct, frozen=True):
    """A lock: `owner` is a name for people, `holder` who it is for sure; `locked_at` in ms."""

    id: str
    path: str
    owner: str
    holder: str
    locked_at: int


_guard = threading.Lock()


class Locks:
    """The locks of the repository whose `.git` folder is `git`."""

    def __init__(self, disk: Disk, git: str) -> None:
        self._disk = disk
        self._folder = f"{git}/gitstore"
        self._place = f"{git}/gitstore/locks"

    def all(self) -> list[Lock]:
        """Every lock, the oldest first. Raises StorageFailed."""
        try:
            with open(self._place, "rb") as file:
                return msgspec.json.decode(file.read(), type=list[Lock])
        except FileNotFoundError:
            return []
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []  # somebody wrote into it: a lock that cannot be read holds nobody up
        except OSError as error:
            raise StorageFailed(f"the locks cannot be read: {error.strerror or error}") from error

    def create(self, path: str, owner: str, holder: str) -> Lock:
        """Locks a path. Raises Conflict, with the lock in `details`, where it is locked; Invalid, StorageFailed."""
        with _guard:
            held = self.all()
            for lock in held:
                if lock.path == path:
                    raise Conflict(f"{path} is locked by {lock.owner} already", details={"lock": lock.id})
            if len(held) >= MOST:
                raise Invalid(f"there are {MOST:,} locks already: end some of them first (git lfs unlock)")
            made = Lock(str(uuid.uuid4()), path, owner, holder, int(time.time() * 1000))
            self._write([*held, made])
        return made

    def delete(self, identity: str, holder: str, *, force: bool) -> Lock:
        """Ends a lock; one of somebody else only with `force`. Raises NotFound, Conflict, StorageFailed."""
        with _guard:
            held = self.all()
            found = next((lock for lock in held if lock.id == identity), None)
            if found is None:
                raise NotFound("there is no such lock")
            if found.holder != holder and not force:
                raise Conflict(f"{found.path} is locked by {found.owner}: use --force to end that lock")
            self._write([lock for lock in held if lock is not found])
        return found

    def _write(self, locks: list[Lock]) -> None:
        temporary = f"{self._place}.new"
        try:
            self._disk.overwrite(temporary, msgspec.json.encode(locks))
            self._disk.sync_file(temporary)
            self._disk.rename(temporary, self._place)
            self._disk.sync_folder(self._folder)
        except OSError as error:
            raise StorageFailed(f"the lock cannot be kept: {error.strerror or error}") from error
