"""A folder that somebody put among the workspaces becomes one where it is, with the history it has.

It is built and checked like an import, beside it; what makes it a workspace comes last and at once, so that a crash
leaves a folder that is still to be adopted.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gitstore import names, source
from gitstore.context import RESERVED
from gitstore.errors import StorageFailed
from gitstore.importing import Imported, Importing
from gitstore.model import Provenance
from gitstore.repository import check
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Oid
from gitstore.repository.refs import HEADS, MAIN, read
from gitstore.repository.repository import Repository
from gitstore.repository.transfer import copy
from gitstore.store import Store


def adopt(store: Store, folder: str, who: Provenance) -> Imported:
    """Makes the folder `workspaces/<folder>` a workspace of this store, and lists it.

    Raises Refused with every problem at once, Conflict where its id is taken, Invalid where the folder's name cannot
    be a slug or its repository is of a kind that is not read, StorageFailed; then the folder is as it was.
    """
    names.check_slug(folder)
    place = store.layout.workspaces / folder
    incoming = store.layout.root / "incoming"
    scratch = incoming / names.new_id()
    try:
        with store.naming:  # one import at a time: what else is in there was left by a crash
            shutil.rmtree(incoming, ignore_errors=True)
            scratch.mkdir(parents=True)
            building = Importing(store, store.disk, place, scratch, who)
            result = building.run(folder, new_id=False)
            if (place / ".git").is_dir():
                _complete(store.disk, place, scratch, building, result.id)
            else:
                _put_in(store.disk, place, scratch, building)
            store.disk.sync_all(str(store.layout.root))
            if (place / RESERVED).is_dir() and not (place / RESERVED).is_symlink():
                store.disk.rename(str(place / RESERVED), str(incoming / RESERVED))  # it is on the branch now
    except OSError as error:
        raise StorageFailed(f"{place} cannot be taken in: {error.strerror or error}") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    store.admit(folder)
    return result


def _put_in(disk: Disk, place: Path, scratch: Path, building: Importing) -> None:
    """A plain folder: its files follow what was built, then it gets the repository."""
    repository = Repository(disk, str(scratch), TreeCache())
    repository.open()
    repository.root = str(place)  # its work tree is the folder; its `.git` comes there when that is right
    try:
        repository.check_out(None, building.heads["main"], building.read, synced=True)
    finally:
        repository.database.close()
    disk.sync_all(str(scratch))  # a repository that is in place is whole
    disk.rename(str(scratch / ".git"), str(place / ".git"))


def _complete(disk: Disk, place: Path, scratch: Path, building: Importing, identity: str) -> None:
    """A repository: it gets the objects that are new, and the branches."""
    repository = Repository(disk, str(place), TreeCache(), workspace=identity)
    built = Repository(disk, str(scratch), TreeCache())
    heads = {branch: head for branch, head in building.heads.items() if head is not None}
    try:
        for folder in ("gitstore", "refs/heads", "refs/gitstore", "objects/pack", "info"):
            disk.makedirs(f"{repository.git}/{folder}")
        _carry(built, repository, list(heads.values()))
        for oid in built.objects.oids():
            repository.objects.link(built.objects.path(oid), oid)
        _exclude(disk, repository)
        repository.kept = dict.fromkeys(HEADS)
        repository.shown = {branch: read(repository.git, ref) for branch, ref in HEADS.items()}
        began = source.head(Path(repository.git))
        _write(disk, repository, "HEAD", f"ref: {MAIN}\n")
        repository.check_out(began, heads["main"], building.read, synced=True)
        _write(disk, repository, "gitstore/id", f"{identity}\n")
        disk.sync_all(str(place))
        if "evidence" in heads:
            repository.move({"evidence": heads["evidence"]}, show=False)
        repository.move({"main": heads["main"]}, show=True)
    finally:
        repository.database.close()
        built.database.close()


def _carry(built: Repository, repository: Repository, heads: list[Oid]) -> None:
    """Writes the objects that `heads` reach and the repository has not."""
    new: list[Oid] = []

    def seen(oid: Oid, kind: int, path: str, data: bytes) -> None:
        if not repository.database.has(oid):
            new.append(oid)

    for fault in check.walk(built.database, heads, kept=set(), seen=seen):
        raise StorageFailed(f"{built.root}: {fault.text}")
    copy(built.database, new, repository.database.write_entries, lambda *_: None)


def _exclude(disk: Disk, repository: Repository) -> None:
    path = f"{repository.git}/info/exclude"
    text = Path(path).read_text("utf-8", "surrogateescape") if os.path.exists(path) else ""
    if f"/{RESERVED}/" not in text.splitlines():
        if text and not text.endswith("\n"):
            text += "\n"
        _write(disk, repository, "info/exclude", f"{text}/{RESERVED}/\n")


def _write(disk: Disk, repository: Repository, name: str, text: str) -> None:
    scratch = f"{repository.git}/gitstore/new"
    disk.overwrite(scratch, text.encode("utf-8", "surrogateescape"))
    disk.rename(scratch, f"{repository.git}/{name}")
