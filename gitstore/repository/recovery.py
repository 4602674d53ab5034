"""The start after a crash: what the journal promised is published, each workspace under the name it came to have.

Nothing here depends on how far the work before the crash, or an earlier recovery, got: doing it again is doing it once.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from gitstore.repository import journal, replay
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.repository import Foreign, Repository

ASIDE = ".moving-"  # and the workspace's id: a folder that waits for its new name to be free

log = logging.getLogger("gitstore.recovery")


class Places:
    """Where recovery works: folders of one store."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.journal = f"{root}/journal"
        self.workspaces = f"{root}/workspaces"
        self.trash = f"{root}/trash"
        self.secrets = f"{root}/secrets"


class _Life:
    """The records of one workspace, to its last one or to its end in the trash."""

    def __init__(self, first: journal.Record) -> None:
        self.workspace = first.workspace
        self.names = [first.folder]
        self.records: list[journal.Record] = []
        self.trashed: str | None = None
        self.found: str | None = None  # where its folder is

    def take(self, record: journal.Record) -> None:
        if record.trashed is not None:
            self.trashed = record.trashed
        else:
            self.records.append(record)
        if record.renamed is not None:
            self.names.append(record.renamed)

    @property
    def creates(self) -> bool:
        return any(move.old is None for record in self.records for move in record.moves if move.branch == "main")

    def place(self, places: Places) -> str:
        """Where the folder belongs."""
        if self.trashed is not None:
            return f"{places.trash}/{self.trashed}"
        return f"{places.workspaces}/{self.names[-1]}"


def recover(disk: Disk, places: Places, cache: TreeCache) -> None:
    """Publishes again what the journal promised, then empties it. Raises OSError, Damaged."""
    records, restarted = journal.read(places.journal)
    lives = _lives(records)
    taken: set[str] = set()
    for life in lives:
        life.found = _find(places, life, taken)
        if life.found is not None:
            taken.add(life.found)
    for life in lives:
        _move_aside(disk, places, life)
    for life in lives:
        _move_home(disk, places, life)
        _publish(disk, places, life, cache, restarted)
    if records:
        disk.sync_all(places.root)
    journal.forget(disk, places.journal)


def _lives(records: list[journal.Record]) -> list[_Life]:
    lives: list[_Life] = []
    open_: dict[str, _Life] = {}
    for record in records:
        if record.workspace not in open_:
            open_[record.workspace] = _Life(record)
            lives.append(open_[record.workspace])
        open_[record.workspace].take(record)
        if record.trashed is not None:
            del open_[record.workspace]
    return lives


def _find(places: Places, life: _Life, taken: set[str]) -> str | None:
    named = [f"{places.workspaces}/{ASIDE}{life.workspace}"]
    if life.trashed is not None:
        named.append(f"{places.trash}/{life.trashed}")
    for path in named:  # the name alone says whose it is
        if os.path.isdir(path):
            return path
    paths = [path for name in reversed(life.names) if (path := f"{places.workspaces}/{name}") not in taken]
    for path in paths:
        if owner(path) == life.workspace:
            return path
    if life.creates:
        # The folder was being made, or what says whose it is was lost. Nobody else's can be of this name.
        return next((path for path in paths if os.path.isdir(path) and not owner(path)), None)
    return None


def owner(root: str) -> str | None:
    """The id of the workspace whose folder this is; None (or nothing but zeros) where that is not written."""
    try:
        with open(f"{root}/.git/gitstore/id", encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _move_aside(disk: Disk, places: Places, life: _Life) -> None:
    """Out of the way of the others: names may go round in a circle."""
    aside = f"{places.workspaces}/{ASIDE}{life.workspace}"
    if life.found not in (None, aside, life.place(places)):
        disk.rename(str(life.found), aside)
        life.found = aside


def _move_home(disk: Disk, places: Places, life: _Life) -> None:
    place = life.place(places)
    if life.found is None or life.found == place:
        return
    if os.path.lexists(place):
        log.error("%s is in the way: workspace %s stays in %s until it is gone", place, life.workspace, life.found)
        return
    disk.rename(life.found, place)
    life.found = place


def _publish(disk: Disk, places: Places, life: _Life, cache: TreeCache, restarted: bool) -> None:
    if not life.records:
        return
    if life.found is None and not life.creates:
        # Moved away by a person: there is nowhere to publish to.
        log.warning("the folder of workspace %s is gone; its last changes cannot be published", life.workspace)
        return
    repository = Repository(disk, life.found or life.place(places), cache)
    if os.path.isdir(repository.git):
        replay.heal(disk, repository, replay.booted())
    try:
        replay.replay(disk, repository, life.records, restarted=restarted)
    except Foreign:
        pass  # a person's git moved a branch: taken in once the workspace is in memory
    finally:
        repository.database.close()
    sealed = next((record.sealed for record in reversed(life.records) if record.sealed is not None), None)
    if sealed is not None:
        disk.overwrite(f"{places.secrets}/{life.workspace}.new", sealed, 0o600)
        disk.rename(f"{places.secrets}/{life.workspace}.new", f"{places.secrets}/{life.workspace}")
