"""Which folder is which workspace: renamed, moved away, brought back, copied, or put there by somebody.

A folder belongs to the workspace whose id is in its `.git`; its name is the workspace's slug.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from gitstore import names, source, values
from gitstore.adopting import adopt
from gitstore.changes import Workspace
from gitstore.errors import Conflict, GitstoreError, Invalid, Unavailable
from gitstore.model import SYSTEM, Problem, Provenance
from gitstore.store import Store

SOURCE = "folders"  # whose problems these are (Workspace.tell)
_DISK = Provenance(SYSTEM, "disk")
_LATER = 1.0  # seconds before another look at what is on its way

log = logging.getLogger("gitstore.folders")


class Refusal(NamedTuple):
    """Why a folder was not taken in, and when it was last changed then."""

    message: str
    changed: float


class Folders:
    """The folders of one store; one that is put there is taken in when it was not changed for `settle` seconds."""

    def __init__(self, store: Store, *, settle: float) -> None:
        self._store = store
        self._settle = settle
        self._refused: dict[str, Refusal] = {}
        self._stuck: dict[str, str] = {}  # workspace → why its folder cannot be followed
        self._copies: dict[str, tuple[str, ...]] = {}

    @property
    def refused(self) -> dict[str, str]:
        """The folders that cannot be taken in, and why."""
        return {folder: refusal.message for folder, refusal in self._refused.items()}

    def suspect(self, folder: str) -> bool:
        """Whether a folder is none of a workspace, and was not refused as it is."""
        if not self._store.stranger(folder):
            return False
        refusal = self._refused.get(folder)
        return refusal is None or refusal.changed != _changed(str(self._store.layout.workspaces / folder))

    def look(self, folder: str) -> float | None:
        """Takes in a folder that came to rest and is no workspace; the seconds until another look is needed."""
        store = self._store
        if not store.stranger(folder):
            self._twin(folder)
            return None
        place = store.layout.workspaces / folder
        changed = _changed(str(place))
        age = time.time() - changed
        if 0 <= age < self._settle:
            return self._settle - age
        try:
            if os.path.lexists(place / ".git/index.lock"):
                raise Unavailable("somebody's git is at work in it, or left .git/index.lock behind")
            if store.homes.whole(folder):
                store.admit(folder)
                log.info("the workspace in %s is back", folder)
            elif not _waits(place):
                made = adopt(store, folder, _DISK)
                log.info("the folder %s was taken in as the workspace %s", folder, made.id)
            self._refused.pop(folder, None)
        except FileNotFoundError:
            return None  # it is gone again
        except GitstoreError as error:
            before = self._refused.get(folder)
            self._refused[folder] = Refusal(error.message, changed)
            taken = (error.details or {}).get("id") if isinstance(error, Conflict) else None
            if isinstance(taken, str):
                self._copy(taken, folder)
            if before is None or before.message != error.message:
                log.warning(
                    "workspaces/%s cannot be taken in: %s\n`gitstore check` says the same; it is tried again when "
                    "something changes in it",
                    folder,
                    error.message,
                )
        return None

    def _twin(self, folder: str) -> None:
        """Tells of a copy that had not said yet whose it is when all folders were looked at: it was being made."""
        store = self._store
        identity = store.homes.owner(folder) if store.holder(folder) is None else None
        if identity is None or store.catalog.workspace(identity) is None:
            return
        current, known = store.folder_of(identity), self._copies.get(identity, ())
        if current in (None, folder) or folder in known:
            return
        if self._is(current, identity) and self._is(folder, identity):
            self._tell(identity, [*known, folder])

    def reconcile(self) -> float | None:
        """Finds every workspace's folder; the seconds until another look is needed."""
        store = self._store
        places: dict[str, list[str]] = {}
        folders = store.homes.all()
        for folder in folders:
            identity = store.homes.owner(folder)
            if identity is not None:
                places.setdefault(identity, []).append(folder)
        for folder in set(self._refused) - set(folders):
            del self._refused[folder]
        waits: list[float] = []
        left: list[str] = []
        for identity in list(store.catalog.workspaces()):
            try:
                if not self._find(identity, places, left):
                    waits.append(_LATER)
                self._stuck.pop(identity, None)
            except (OSError, GitstoreError) as error:
                # The others do not wait for this one.
                if self._stuck.get(identity) != str(error):
                    log.warning("the folder of the workspace %s cannot be followed: %s", identity, error)
                self._stuck[identity] = str(error)
                waits.append(_LATER)
        for folder in left:
            wait = self.look(folder)
            if wait is not None or store.stranger(folder):
                waits.append(wait or _LATER)
        return min(waits, default=None)

    def _find(self, identity: str, places: Mapping[str, list[str]], left: list[str]) -> bool:
        """Follows one workspace's folder; False where it has to be tried again. What it leaves goes into `left`."""
        store = self._store
        here = places.get(identity, [])
        current = store.folder_of(identity)
        if current is None:
            return False  # it is being made, renamed or deleted
        if current in here or self._is(current, identity):  # it may have been made or moved after the listing
            self._tell(identity, [folder for folder in here if folder != current and self._is(folder, identity)])
            return True
        here = [folder for folder in here if self._is(folder, identity)]
        if here:
            holder = store.holder(here[0])
            theirs = {names.fold(folder) for folder in places.get(holder or "", ())}
            if holder not in (None, identity) and names.fold(here[0]) not in theirs:
                # Folders changed names among each other: this one waits outside until its name is free.
                left.append(here[0])
                return store.leave(identity)
            self._renamed(identity, current, here[0])
            self._tell(identity, here[1:])
            return True
        if any(self._is(folder, identity) for folder in store.homes.all()):
            return False  # a listing can miss what is renamed meanwhile
        if not store.leave(identity):
            return False
        log.info("the folder of the workspace %s is gone; it is listed again when it is back", current)
        return True

    def _is(self, folder: str, identity: str) -> bool:
        place = self._store.layout.workspaces / folder
        return not place.is_symlink() and self._store.homes.owner(folder) == identity

    def _renamed(self, identity: str, old: str, new: str) -> None:
        try:
            names.check_slug(new)
            self._store.relocated(identity, new, _DISK)
            log.info("the workspace %s is called %s now, as its folder", old, new)
        except (Invalid, Conflict) as error:
            # A workspace's folder is called as its slug: one that cannot be a slug gets its name back.
            workspaces = self._store.layout.workspaces
            if os.path.lexists(workspaces / old):
                raise Conflict(
                    f"it was renamed to `{new}`, which cannot be ({error.message}), and `{old}` is another one by now: "
                    "rename it once more"
                ) from None
            log.warning("the folder %s was renamed to %s, which cannot be: %s", old, new, error.message)
            self._store.disk.rename(str(workspaces / new), str(workspaces / old))

    def _copy(self, identity: str, folder: str) -> None:
        if self._store.catalog.workspace(identity) is not None:
            self._tell(identity, [*self._copies.get(identity, ()), folder])

    def _tell(self, identity: str, copies: Sequence[str]) -> None:
        """Tells a workspace of the folders that say they are it too."""
        clones = [folder for folder in self._copies.get(identity, ()) if folder in self._refused]
        now = tuple(sorted({*copies, *clones}))
        if now == self._copies.get(identity, ()):
            return
        self._copies[identity] = now
        workspace = self._store.load(identity)
        workspace.tell(SOURCE, tuple(_problem(workspace, folder) for folder in now))


def _changed(folder: str) -> float:
    """When something in a folder was last changed, in seconds since 1970; links are not followed."""
    newest = 0.0
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        try:
            newest = max(newest, os.lstat(path).st_ctime)
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        newest = max(newest, entry.stat(follow_symlinks=False).st_ctime)
        except OSError:
            continue  # gone meanwhile, or not for us: who takes it in says so
    return newest


def _waits(place: Path) -> bool:
    """Whether there is nothing yet: an empty folder, or a repository that is about to be filled."""
    held = os.listdir(place)
    if held == [".git"] and (place / ".git").is_dir() and not (place / ".git").is_symlink():
        try:
            return source.head(place / ".git") is None
        except OSError:
            return True  # HEAD is not there yet
    return not held


def _problem(workspace: Workspace, folder: str) -> Problem:
    return Problem(
        sha256(f"copy\0{folder}".encode("utf-8", "surrogateescape")).hexdigest()[:16],
        "duplicate_id",
        folder,
        "duplicate_id",
        f"the folder `workspaces/{folder}` has the id of this workspace, `{workspace.visible.context.fields.slug}`; it "
        "is not listed and nothing in it is taken in",
        "Move it out of the data folder; `gitstore import --new-id FOLDER` makes a second workspace of it.",
        values.iso(workspace.visible.updated_at),
    )
