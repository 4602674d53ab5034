"""Which folder is which workspace: renamed, moved away, brought back, copied, or put there by somebody.

A folder belongs to the workspace whose id is in its `.git`; its name is the workspace's slug.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from hashlib import sha256

from gitstore import names, values
from gitstore.adopting import adopt
from gitstore.changes import Workspace
from gitstore.errors import Conflict, GitstoreError, Invalid
from gitstore.model import SYSTEM, Problem, Provenance
from gitstore.store import Store

SOURCE = "folders"  # whose problems these are (Workspace.tell)
_DISK = Provenance(SYSTEM, "disk")
_LATER = 1.0  # seconds before another look at what is on its way

log = logging.getLogger("gitstore.folders")


class Folders:
    """The folders of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._refused: dict[str, str] = {}  # folder → why it cannot become a workspace
        self._copies: dict[str, tuple[str, ...]] = {}

    @property
    def refused(self) -> dict[str, str]:
        """The folders that cannot be taken in, and why."""
        return dict(self._refused)

    def suspect(self, folder: str) -> bool:
        """Whether a folder is none of a workspace and was not refused already."""
        return folder not in self._refused and self._store.stranger(folder)

    def look(self, folder: str) -> float | None:
        """Takes in a folder that came to rest and is no workspace; the seconds until another look is needed."""
        store = self._store
        if not store.stranger(folder):
            return None
        try:
            if store.has_been_ours(folder):
                store.admit(folder)
                log.info("the workspace in %s is back", folder)
            elif os.listdir(store.layout.workspaces / folder):
                made = adopt(store, folder, _DISK)
                log.info("the folder %s was taken in as the workspace %s", folder, made.id)
            self._refused.pop(folder, None)
        except FileNotFoundError:
            return None  # it is gone again
        except GitstoreError as error:
            taken = (error.details or {}).get("id") if isinstance(error, Conflict) else None
            if isinstance(taken, str):
                self._copy(taken, folder)
            if self._refused.get(folder) != error.message:
                log.warning(
                    "workspaces/%s cannot be taken in: %s\n`gitstore check` says the same; it is tried again when "
                    "something changes in it",
                    folder,
                    error.message,
                )
            self._refused[folder] = error.message
        return None

    def reconcile(self) -> float | None:
        """Finds every workspace's folder; the seconds until another look is needed."""
        store = self._store
        places: dict[str, list[str]] = {}
        folders = store.folders()
        for folder in folders:
            identity = store.owner(folder)
            if identity is not None:
                places.setdefault(identity, []).append(folder)
        for folder in set(self._refused) - set(folders):
            del self._refused[folder]
        wait: float | None = None
        for identity in list(store.catalog.workspaces()):
            here = places.get(identity, [])
            current = store.folder_of(identity)
            if current is None:
                wait = _LATER  # it is being made, renamed or deleted
            elif current in here:
                self._tell(identity, [folder for folder in here if folder != current])
            elif here:
                self._renamed(identity, current, here[0])
                self._tell(identity, here[1:])
            elif not store.leave(identity):
                wait = _LATER
            else:
                log.info("the folder of the workspace %s is gone; it is listed again when it is back", current)
        return wait

    def _renamed(self, identity: str, old: str, new: str) -> None:
        try:
            names.check_slug(new)
            self._store.relocated(identity, new, _DISK)
            log.info("the workspace %s is called %s now, as its folder", old, new)
        except (Invalid, Conflict) as error:
            # A workspace's folder is called as its slug: one that cannot be a slug gets its name back.
            log.warning("the folder %s was renamed to %s, which cannot be: %s", old, new, error.message)
            self._store.disk.rename(str(self._store.layout.workspaces / new), str(self._store.layout.workspaces / old))

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
