"""What stands in a data folder, read without its lock and without changing a byte, beside a running server or not.

A branch's head is what the journal has promised, where that is newer than the ref. The journal is read before the refs:
a change that is published meanwhile is then in one of the two, or in both.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from gitstore import documents, names
from gitstore.context import WORKSPACE, Context
from gitstore.errors import Damaged, GitstoreError, NotFound, StorageFailed
from gitstore.layout import Layout
from gitstore.model import Branch
from gitstore.repository import journal, refs, tags
from gitstore.repository.check import peel, walk
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository
from gitstore.repository.transfer import unpack
from gitstore.repository.trees import TreeView

BRANCHES: tuple[Branch, Branch] = ("main", "evidence")
T = TypeVar("T")


class Standing:
    """One workspace as it stands. `repository` reads also what is promised and not yet published."""

    def __init__(self, folder: str, identity: str, repository: Repository) -> None:
        self.folder = folder
        self.id = identity
        self.repository = repository
        self.heads: dict[Branch, Oid | None] = dict.fromkeys(BRANCHES)
        self.others: dict[str, Oid] = {}  # other branches and tags, once `reached` has looked
        self.sealed: bytes | None = None  # the file of sealed secrets, where the journal has a newer one
        self.waiting = 0  # records of the journal that are not published yet

    def head(self, branch: Branch) -> str | None:
        """The commit of a branch, 40 hexadecimal digits."""
        oid = self.heads[branch]
        return oid.hex() if oid is not None else None

    def tree(self, branch: Branch) -> TreeView:
        """The files of a branch. Raises Damaged."""
        return self.repository.tree(self.heads[branch])

    def get(self, oid: Oid) -> tuple[int, bytes]:
        """Kind and data of an object; looked for twice, for packs are folded beside us. Raises Damaged."""
        try:
            return self.repository.database.get(oid)
        except (Damaged, OSError):
            pass  # and out of here: what was raised holds on to the pack, which then could not be closed
        self.repository.database.close()
        return self.repository.database.get(oid)

    def reached(self, progress: Callable[[int], None]) -> set[Oid]:
        """Every object that the two branches reach, and `others`, read and found sound; `progress` is told how many.

        Raises Damaged for the first that is not; of the others, one that is not whole is left out of them.
        """
        known: set[Oid] = set()

        def seen(*_: object) -> None:
            if len(known) % 500 == 0:
                progress(len(known))

        for fault in walk(
            self.repository.database, [head for head in self.heads.values() if head], kept=known, seen=seen
        ):
            raise Damaged(f"{self.folder}{f', {fault.path}' if fault.path else ''}: {fault.text}")
        self.others = {}
        for ref, oid in tags.shown(self.repository.git).items():
            if ref in refs.HEADS.values():
                continue
            try:
                *leading, commit = peel(self.repository.database, oid)
            except Damaged:
                continue
            faults = list(walk(self.repository.database, [commit], kept=known, seen=seen))
            known -= {fault.oid for fault in faults}
            if not faults:
                known.update(leading)
                self.others[ref] = oid
        return known

    def context(self) -> Context:
        """The parsed context branch; what it cannot read is among its problems. Raises Damaged."""
        return Context.load(self.tree("main"), previous=None, now=0)


class Survey:
    """Every workspace of the store in `data`; `broken` are folders that cannot be told anything about, with the reason.

    Raises NotFound where there is no store, FormatUnknown, Damaged where the journal cannot be read at all.
    """

    def __init__(self, data: Path) -> None:
        self.layout = Layout(data.absolute())
        self.layout.check()
        self.standing: list[Standing] = []
        self.broken: list[tuple[str, GitstoreError]] = []
        _again(self._read)

    def __enter__(self) -> Survey:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the packs."""
        for one in self.standing:
            one.repository.database.close()

    def __iter__(self) -> Iterator[Standing]:
        return iter(self.standing)

    def find(self, reference: str) -> Standing:
        """The workspace with this id, slug or folder name, ignoring case. Raises NotFound."""
        wanted = names.fold(reference)
        for one in self.standing:
            if wanted in (one.id, names.fold(one.folder)):
                return one
        for one in self.standing:
            if wanted == names.fold(one.context().fields.slug):
                return one
        raise NotFound(
            f"there is no workspace `{names.one_line(reference)}` in {self.layout.root}",
            details={"known": sorted(one.folder for one in self.standing)},
        )

    def _read(self) -> None:
        self.close()
        self.standing, self.broken = [], []
        try:
            records, self.restarted = journal.read(str(self.layout.journal))
        except (ValueError, msgspec.MsgspecError) as error:
            raise Damaged(f"the journal in {self.layout.journal} cannot be read: {error}") from error
        waiting: dict[str, list[journal.Record]] = {}
        for record in records:
            if record.trashed is not None:
                waiting.pop(record.workspace, None)
            else:
                waiting.setdefault(record.workspace, []).append(record)
        trashed = {record.workspace for record in records if record.trashed is not None}
        disk, cache = Disk(), TreeCache()
        seen: set[str] = set()
        for entry in sorted(os.scandir(self.layout.workspaces), key=lambda entry: entry.name):
            if not entry.is_dir(follow_symlinks=False) or not os.path.isdir(f"{entry.path}/.git"):
                continue
            repository = Repository(disk, entry.path, cache)
            try:
                one = self._standing(entry.name, repository, waiting)
            except FileNotFoundError:
                raise
            except (GitstoreError, OSError, ValueError) as error:
                broken = error if isinstance(error, GitstoreError) else Damaged(f"{entry.path} cannot be read: {error}")
                self.broken.append((entry.name, broken))
                repository.database.close()
                continue
            if one.id in seen:
                self.broken.append((entry.name, Damaged(f"{entry.path} has the id of another workspace, {one.id}")))
                repository.database.close()
            elif one.id not in trashed or one.id in waiting:
                seen.add(one.id)
                self.standing.append(one)
        for identity, found in waiting.items():
            if identity not in seen and found[0].moves and found[0].moves[0].old is None:
                repository = Repository(disk, str(self.layout.workspaces / found[-1].folder), cache)
                one = Standing(found[-1].renamed or found[-1].folder, identity, repository)
                self._promised(one, found)
                self.standing.append(one)

    def _standing(self, folder: str, repository: Repository, waiting: dict[str, list[journal.Record]]) -> Standing:
        kept: dict[str, Oid | None] = {branch: refs.read(repository.git, refs.KEPT[branch]) for branch in BRANCHES}
        identity = _identity(repository)
        if identity is None:
            if kept["main"] is None:
                raise Damaged(
                    f"{repository.root} is a git repository, but no workspace of this store: move it away, then take "
                    "it in with `gitstore import`"
                )
            document = documents.load(repository.tree(kept["main"]).read(WORKSPACE) or b"", f"{folder}/{WORKSPACE}")
            named = document.get("id") if isinstance(document, dict) else None
            if not isinstance(named, str) or not names.is_uuid(named):
                raise Damaged(f"{folder}/{WORKSPACE} has no id")
            identity = named.lower()
        one = Standing(folder, identity, repository)
        repository.workspace = identity
        repository.kept.update(kept)
        repository.shown.update(kept)
        one.heads = {branch: kept[branch] for branch in BRANCHES}
        if identity in waiting:
            self._promised(one, waiting[identity])
        return one

    def _promised(self, one: Standing, records: Sequence[journal.Record]) -> None:
        """Adds what the journal has and the refs have not."""
        for branch in BRANCHES:
            moves = [move for record in records for move in record.moves if move.branch == branch]
            ends = {move.old for move in moves} | {move.new for move in moves}
            if moves and (one.heads[branch] is None or one.heads[branch] in ends):
                last = Oid(moves[-1].new)
                if last != one.heads[branch]:
                    one.heads[branch] = last
                    one.waiting = len(records)
        sealed = [record.sealed for record in records if record.sealed is not None]
        one.sealed = sealed[-1] if sealed else None
        if one.waiting:
            database = one.repository.database
            database.keep(unpack((entry for record in records for entry in record.entries), database))


def _identity(repository: Repository) -> str | None:
    try:
        found = Path(f"{repository.git}/gitstore/id").read_text("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return found if names.is_uuid(found) else None


def _again(read: Callable[[], T]) -> T:
    """Reads what a running server may rename or remove meanwhile: then once more, a few times."""
    for attempt in range(5):
        try:
            return read()
        except FileNotFoundError as error:
            if attempt == 4:
                raise StorageFailed(f"{error.filename} is gone each time it is looked for: {error}") from error
    raise AssertionError


def is_open(data: Path) -> bool:
    """Whether a process has the store open. The lock is tried for an instant, shared, and let go at once."""
    try:
        fd = os.open(Layout(data).lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
