"""A workspace as a folder of its own: full history in `.git`, the context checked out, `evidence/` beside it.

It reads beside a running server and never changes the store. Secrets are not in a repository, so none comes along; of
the server's own refs and files nothing does. Importing the folder gives the workspace again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from gitstore import names, paths
from gitstore.context import RESERVED
from gitstore.errors import Conflict, Damaged, Invalid, StorageFailed
from gitstore.lfs import Objects
from gitstore.lfs.attributes import Attributes
from gitstore.lfs.pointer import decode
from gitstore.repository import refs
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.repository import Repository
from gitstore.repository.transfer import copy
from gitstore.repository.trees import TreeView
from gitstore.survey import Standing, Survey

Progress = Callable[[str, int, int | None], None]


class Exported(msgspec.Struct, frozen=True):
    """What came of an export."""

    id: str
    slug: str
    folder: str
    main: str
    evidence: str | None
    objects: int


def export_workspace(data: Path, reference: str, folder: Path, *, progress: Progress | None = None) -> Exported:
    """Writes the workspace of the store in `data` to `folder`, which must not exist or be empty; all of it or nothing.

    What is promised and not yet published is included. Raises NotFound, Conflict where the folder holds something,
    Damaged where the workspace is not sound, StorageFailed.
    """
    target = folder.absolute()
    tell = progress or (lambda *_: None)
    with Survey(data) as survey:
        one = survey.find(reference)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise Conflict(f"{target} is there already and not empty: choose another folder")
        partial = target.with_name(f".{target.name}.{names.new_id()[:8]}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.mkdir()
            result = _write(one, partial, tell)
            Disk().sync_all(str(partial))
            partial.rename(target)
        except OSError as error:
            raise StorageFailed(f"{target} cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return msgspec.structs.replace(result, folder=str(target))


def _write(one: Standing, root: Path, progress: Progress) -> Exported:
    head = one.heads["main"]
    if head is None:
        raise Damaged(f"{one.folder} has no main branch")
    wanted = one.reached(lambda done: progress("reading history", done, None))
    for branch in one.heads:
        _safe(one.tree(branch), one.folder)
    disk = Disk()
    repository = Repository(disk, str(root), TreeCache())
    Repository.create(disk, str(root), one.id)
    copy(
        one.repository.database,
        wanted,
        repository.database.write_entries,
        lambda done, total: progress("copying objects", done, total),
    )
    large = one.repository.large(wanted)
    for done, pointer in enumerate(large):
        progress("copying large objects", done, len(large))
        try:
            with one.repository.objects.open(pointer.oid) as source:
                repository.objects.take(source, pointer)
        except Invalid as error:
            raise Damaged(f"{one.folder}: the large object {pointer.oid} is damaged: {error.message}") from error
    try:
        repository.check_out(None, head, ())
        for branch, oid in one.heads.items():
            if oid is not None:
                refs.swap(disk, repository.git, repository.database.scratch, refs.HEADS[branch], None, oid)
        for ref, oid in one.others.items():
            refs.swap(disk, repository.git, repository.database.scratch, ref, None, oid)
        _beside(repository.tree(one.heads["evidence"]), repository.objects, root / RESERVED, progress)
    finally:
        repository.database.close()
    for own in ("gitstore", "refs/gitstore"):
        shutil.rmtree(f"{repository.git}/{own}")
    context = one.context()
    return Exported(one.id, context.fields.slug, str(root), head.hex(), one.head("evidence"), len(wanted))


def _safe(tree: TreeView, folder: str) -> None:
    for path, _ in tree.walk():
        try:
            paths.check_tree_path(path)
        except Invalid as error:
            raise Damaged(f"{folder}: {error.message}; rename it in the workspace before it is exported") from None


def _beside(tree: TreeView, objects: Objects, folder: Path, progress: Progress) -> None:
    """Writes the files of the evidence branch; `.git/info/exclude` names their folder, so git does not see them."""
    attributes = Attributes(tree.read)
    files = [(path, node) for path, node in tree.walk() if node.mode & 0o170000 == 0o100000]
    for done, (path, node) in enumerate(files):
        place = f"{folder}/{path}"
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "xb") as file:
            data = tree.source.blob(node.id)
            pointer = decode(data)
            if pointer is not None and attributes.covers(path) and objects.has(*pointer):
                for piece in objects.chunks(pointer):
                    file.write(piece)
            else:
                file.write(data)
        if done % 500 == 0:
            progress("writing evidence", done, len(files))
