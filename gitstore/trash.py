"""Deleted workspaces: listed, brought back, or removed for good together with their sealed secrets."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from gitstore import documents, names, values
from gitstore.context import WORKSPACE, Context
from gitstore.errors import Conflict, Damaged, GitstoreError, NotFound, StorageFailed
from gitstore.facts import author, line, message, server_signature, time_of
from gitstore.layout import Layout
from gitstore.model import SYSTEM, Provenance
from gitstore.repository import refs
from gitstore.repository.commits import Signature, build
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Blob, Oid
from gitstore.repository.repository import Foreign, Repository
from gitstore.repository.trees import FILE_MODE, Node, rewrite
from gitstore.store import Store

log = logging.getLogger("gitstore.trash")

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)(\d\d)(\d\d)Z-(.+)-([0-9a-f]{8})")
_PURGED = ".purged-"
_DAY = 86_400_000


class Trashed(msgspec.Struct, frozen=True):
    """A deleted workspace; `name` is its folder in `trash/`, `deleted_at` in ms."""

    name: str
    id: str
    slug: str
    deleted_at: int


def contents(layout: Layout) -> list[Trashed]:
    """What is in the trash, newest first. Needs no lock. A folder that is no workspace is left out."""
    found = []
    try:
        entries = list(os.scandir(layout.trash))
    except FileNotFoundError:
        return []
    for entry in entries:
        identity = Repository(Disk(), entry.path, TreeCache()).belongs_to()
        if entry.name.startswith(_PURGED) or identity is None or not names.is_uuid(identity):
            continue
        match = _NAME.fullmatch(entry.name)
        when = (
            values.parse_iso(f"{match[1]}T{match[2]}:{match[3]}:{match[4]}.000Z")
            if match is not None
            else int(entry.stat(follow_symlinks=False).st_ctime * 1000)
        )
        found.append(Trashed(entry.name, identity, match[5] if match is not None else entry.name, when))
    return sorted(found, key=lambda one: (-one.deleted_at, one.name))


def find(layout: Layout, reference: str) -> list[Trashed]:
    """The deleted workspaces with this name in the trash, id or slug, newest first. Raises NotFound for none."""
    wanted = names.fold(reference)
    found = [one for one in contents(layout) if wanted in (one.id, names.fold(one.slug), names.fold(one.name))]
    if not found:
        raise NotFound(
            f"there is no deleted workspace `{names.one_line(reference)}`: `gitstore workspace list --deleted` shows "
            "what there is"
        )
    return found


def restore(store: Store, reference: str, *, slug: str | None = None) -> Trashed:
    """Brings a deleted workspace back, with its history and secrets; of several of one slug, the newest.

    `slug` is a new one, where the old is taken; it becomes a commit. What is returned has the slug that it got.
    Raises NotFound, Conflict where the id or the slug is taken, Damaged.
    """
    one = find(store.layout, reference)[0]
    root = store.layout.trash / one.name
    disk = Disk()
    repository = Repository(disk, str(root), TreeCache())
    try:
        refs.clear_locks(disk, repository.git, repository.database.scratch, 0)
        repository.open()
        view = repository.tree(repository.kept["main"])
        fields = Context.load(view, previous=None, now=0).fields
        if fields.id != one.id:
            raise Damaged(f"{root} does not say whose workspace it is: mend {WORKSPACE} in it")
        wanted = slug or fields.slug
        names.check_slug(wanted)
        holder = store.catalog.find(wanted)
        row = store.catalog.workspace(holder) if holder is not None else None
        if row is not None and names.fold(row.slug) == names.fold(wanted):
            raise Conflict(
                f"the slug `{wanted}` is taken by another workspace: give a new one with --slug",
                details={"slug": wanted},
            )
        if wanted != fields.slug:
            _rename(repository, wanted)
    finally:
        repository.database.close()
    disk.sync_all(str(store.layout.root))
    store.adopt(root, wanted, one.id)
    return msgspec.structs.replace(one, slug=wanted)


def _rename(repository: Repository, slug: str) -> None:
    """Commits another slug to the workspace in the trash."""
    head = repository.kept["main"]
    assert head is not None
    view = repository.tree(head)
    data = view.read(WORKSPACE) or b""
    value = documents.load(data, WORKSPACE)
    blob = Blob(documents.edit(data, {**value, "slug": slug}))
    root, trees = rewrite(repository.database, view.root, {WORKSPACE: Node(FILE_MODE, blob.id)})
    when = max(int(time.time() * 1000), *(time_of(commit) for _, commit in line(repository, head, None)))
    who = Provenance(SYSTEM, "cli")
    text = message("restore", f"workspace: restore as {slug}", "completed", when, who, None, None)
    commit = build(root, (head,), Signature(*author(SYSTEM), when // 1000), server_signature(when), text)
    objects = [blob, *(item for item, _ in trees), commit]
    repository.database.keep(objects)
    try:
        repository.publish(objects, {"main": commit.id})
    except Foreign as foreign:
        raise Conflict(
            f"somebody's git moved {foreign.branch} in {repository.root}: restore it without --slug, rename it then"
        ) from None


def expired(layout: Layout, days: float, now: int) -> list[Trashed]:
    """Those deleted more than `days` days before `now` (ms)."""
    return [one for one in contents(layout) if one.deleted_at < now - days * _DAY]


def purge(store: Store, gone: Sequence[Trashed]) -> None:
    """Removes deleted workspaces for good, each with the texts of contents that no other has, and with its sealed
    secrets unless another folder still has its id.

    Interrupted, it is finished by the next call. Raises NotFound, StorageFailed.
    """
    layout = store.layout
    try:
        for one in gone:
            (layout.trash / one.name).rename(layout.trash / f"{_PURGED}{one.name}")
        for left in layout.trash.glob(f"{_PURGED}*"):
            _forget_texts(store, left)
            identity = Repository(Disk(), str(left), TreeCache()).belongs_to()
            if identity is not None and names.is_uuid(identity) and not _elsewhere(layout, identity):
                (layout.secrets / identity).unlink(missing_ok=True)
            shutil.rmtree(left)
        if gone:
            Disk().sync_folder(str(layout.trash))
    except FileNotFoundError as error:
        raise NotFound(f"{error.filename} is gone already") from error
    except OSError as error:
        raise StorageFailed(f"{error.filename} cannot be removed: {error.strerror or error}") from error


def _forget_texts(store: Store, root: Path) -> None:
    """They are derived data: whatever keeps them from going must not keep the folder here."""
    try:
        store.extraction.lose(partial(_only, store, root))
    except (GitstoreError, OSError) as error:
        log.warning("what search has read of %s stays until the indexes are made again: %s", root.name, error)


def _only(store: Store, root: Path, blobs: set[bytes]) -> set[Oid]:
    """Those of the blobs that are in this folder, and in no workspace that stays. Raises OSError, Damaged."""
    found = _held(store, root, {Oid(blob) for blob in blobs})
    for place in (store.layout.workspaces, store.layout.trash):
        for other in place.iterdir():
            if found and other.is_dir() and not other.is_symlink() and not other.name.startswith(_PURGED):
                found -= _held(store, other, found)
    for workspace in store.all_hot():  # last: not all of these have their folder, or have it where it just was
        found -= workspace.repository.database.held(found)
    return found


def _held(store: Store, root: Path, blobs: set[Oid]) -> set[Oid]:
    database = Repository(store.disk, str(root), TreeCache()).database
    try:
        return database.held(blobs)
    finally:
        database.close()


def _elsewhere(layout: Layout, identity: str) -> bool:
    if any(one.id == identity for one in contents(layout)):
        return True
    for entry in os.scandir(layout.workspaces):
        if Repository(Disk(), entry.path, TreeCache()).belongs_to() == identity:
            return True
    return False


def places(layout: Layout) -> list[Path]:
    """What interrupted imports and purges left: scratch that is safe to remove."""
    left = [layout.root / "incoming"] if (layout.root / "incoming").exists() else []
    return [*left, *sorted(layout.trash.glob(f"{_PURGED}*"))]
