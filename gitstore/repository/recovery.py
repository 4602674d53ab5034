"""The start after a crash: what the journal promised is published, each workspace under the name it came to have.

Nothing here depends on how far the work before the crash, or an earlier recovery, got: doing it again is doing it once.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Container

from gitstore import documents, names
from gitstore.errors import GitstoreError, Unavailable
from gitstore.repository import journal, replay
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.lives import ASIDE, Life, Places, find, lives, owner
from gitstore.repository.refs import RefLocked
from gitstore.repository.repository import Foreign, Repository
from gitstore.repository.standing import collecting

_PATIENCE = 60.0  # seconds that a start waits for the gits of others that clean up

log = logging.getLogger("gitstore.recovery")


def recover(disk: Disk, places: Places, cache: TreeCache) -> None:
    """Publishes again what the journal promised, then empties it. Raises OSError, Damaged."""
    records, restarted = journal.read(places.journal)
    told = lives(records)
    find(places, told, restarted=restarted)
    for life in told:
        _move_aside(disk, places, life)
    for life in told:
        _move_home(disk, places, life)
        _own(disk, life)
    beside = [life for life in told if _collecting(places, life)]
    for life in told:
        _publish(disk, places, life, cache, restarted)
    beside += [life for life in told if life not in beside and _collecting(places, life)]
    ends = time.monotonic() + _PATIENCE
    for life in beside:
        _outlast(places, life, ends)
        _publish(disk, places, life, cache, restarted)
    returned = _return(disk, places, {f"{ASIDE}{life.workspace}" for life in told}, cache)
    if records or returned:
        disk.sync_all(places.root)
    journal.forget(disk, places.journal)


def _move_aside(disk: Disk, places: Places, life: Life) -> None:
    """Out of the way of the others: names may go round in a circle."""
    aside = f"{places.workspaces}/{ASIDE}{life.workspace}"
    if life.found not in (None, aside, life.place(places)):
        disk.rename(str(life.found), aside)
        life.found = aside


def _move_home(disk: Disk, places: Places, life: Life) -> None:
    place = life.place(places)
    if life.found is None or life.found == place:
        return
    if os.path.lexists(place):
        log.error(
            "%s is in the way: workspace %s stays in %s until that is moved away and the store started again",
            place,
            life.workspace,
            life.found,
        )
        return
    disk.rename(life.found, place)
    life.found = place


def _own(disk: Disk, life: Life) -> None:
    """Writes down again whose folder it is, where that was lost."""
    if life.found is None or owner(life.found) == life.workspace:
        return
    scratch = f"{life.found}/.git/gitstore"
    disk.makedirs(scratch)
    disk.overwrite(f"{scratch}/new", f"{life.workspace}\n".encode())
    disk.rename(f"{scratch}/new", f"{scratch}/id")


def _return(disk: Disk, places: Places, known: Container[str], cache: TreeCache) -> int:
    """Brings home the folders that an earlier start had to leave aside; how many.

    The journal tells nothing of them any more, but each one's own branch names its slug.
    """
    count = 0
    for name in sorted(os.listdir(places.workspaces)):
        if not name.startswith(ASIDE) or name in known:
            continue
        repository = Repository(disk, f"{places.workspaces}/{name}", cache)
        try:
            repository.open()
            tree = repository.tree(repository.kept["main"])
            document = documents.load(tree.read("workspace.yaml") or b"", f"{name}/workspace.yaml")
            slug = str(document.get("slug")) if isinstance(document, dict) else ""
            names.check_slug(slug)
        except GitstoreError as error:
            log.error("%s cannot be moved to its place: %s", repository.root, error)
            continue
        finally:
            repository.database.close()
        place = f"{places.workspaces}/{slug}"
        if os.path.lexists(place):
            log.error("%s is in the way of %s: move it away, then start the store again", place, repository.root)
            continue
        disk.rename(repository.root, place)
        count += 1
    return count


def _collecting(places: Places, life: Life) -> bool:
    return bool(life.records) and collecting(f"{life.found or life.place(places)}/.git")


def _outlast(places: Places, life: Life, ends: float) -> None:
    """Waits for a `git gc`, which may remove what was published since it began (repository.standing)."""
    folder = life.found or life.place(places)
    log.warning("somebody's git gc is at work in %s: the start waits for it", folder)
    while _collecting(places, life):
        if time.monotonic() > ends:
            log.error("the git gc in %s does not end: the start goes on; look at the workspace with verify", folder)
            return
        time.sleep(0.05)


def _replay(disk: Disk, root: str, life: Life, cache: TreeCache, restarted: bool) -> None:
    ends = time.monotonic() + _PATIENCE
    while True:
        repository = Repository(disk, root, cache)
        try:
            if os.path.isdir(repository.git):
                replay.heal(disk, repository, replay.booted())
            replay.replay(disk, repository, life.records, restarted=restarted)
            return
        except Foreign:
            return  # a person's git moved a branch: taken in once the workspace is in memory
        except RefLocked as error:
            if time.monotonic() > ends:
                raise Unavailable(f"somebody's git holds a lock in {root}: {error}") from None
            time.sleep(0.05)
        finally:
            repository.database.close()


def _publish(disk: Disk, places: Places, life: Life, cache: TreeCache, restarted: bool) -> None:
    if not life.records:
        return
    if life.found is None and not life.creates:
        # Moved away by a person: there is nowhere to publish to.
        log.warning("the folder of workspace %s is gone; its last changes cannot be published", life.workspace)
        return
    _replay(disk, life.found or life.place(places), life, cache, restarted)
    sealed = next((record.sealed for record in reversed(life.records) if record.sealed is not None), None)
    if sealed is not None:
        disk.overwrite(f"{places.secrets}/{life.workspace}.new", sealed, 0o600)
        disk.rename(f"{places.secrets}/{life.workspace}.new", f"{places.secrets}/{life.workspace}")
