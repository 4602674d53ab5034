"""Objects that somebody sent, kept apart until they are found sound: then they are the repository's, durably, at once.

A quarantine is a git folder of its own below `.git/gitstore`. It borrows the repository's objects, so that programs see
both; nothing sees it from the repository.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping

from gitstore.repository import view
from gitstore.repository.commits import parse
from gitstore.repository.database import Database, TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import EMPTY_TREE, Object, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import TreeView

KEPT = b"gitstore: what came here has no name yet\n"
_PREFIX = "incoming-"
_EMPTY = 1072  # bytes of the index of a pack without objects


class Quarantine:
    """One; `folder` is its git folder. `discard` it, whatever came of it."""

    def __init__(self, disk: Disk, repository: Repository) -> None:
        self._disk = disk
        self._repository = repository
        self._name = f"{_PREFIX}{uuid.uuid4().hex}"
        self._database: Database | None = None

    @property
    def folder(self) -> str:
        """Where it is; the workspace's folder may be renamed meanwhile."""
        return f"{self._repository.git}/gitstore/{self._name}"

    @property
    def database(self) -> Database:
        """What is in it and in the repository."""
        if self._database is None:
            self._database = Database(self._disk, self.folder, TreeCache(8 << 20))
        return self._database

    def tree(self, commit: Oid | None) -> TreeView:
        """The files of a commit that is in it or in the repository; of None, no files."""
        root = parse(self.database.commit(commit)).tree if commit is not None else EMPTY_TREE
        return TreeView(self.database, root)

    def open(self, shown: Mapping[str, Oid]) -> None:
        """Makes it; programs that look into it see these refs."""
        view.furnish(self._disk, self.folder, shown)
        for name in ("objects/pack", "objects/info", "gitstore"):
            self._disk.makedirs(f"{self.folder}/{name}")
        self._disk.create(f"{self.folder}/objects/info/alternates", b"../../../objects\n")

    def keep(self, items: Iterable[Object]) -> None:
        """Puts objects into it. Raises OSError."""
        self.database.write_entries((item.id, None, item.entry()) for item in items)
        self.database.close()

    def admit(self) -> None:
        """Makes its objects the repository's, synced. Raises OSError; then some of them may be, which harms nothing.

        No branch has them yet: a `.keep` beside each pack tells a git that packs everything again to leave it alone
        (git-repack(1)), as git itself does while it receives.
        """
        self._close()
        source, target = f"{self.folder}/objects/pack", f"{self._repository.git}/objects/pack"
        names = sorted(os.listdir(source))
        stems = [name[:-4] for name in names if name.endswith(".idx")]
        moved = []
        self._disk.makedirs(target)
        for stem in stems:
            if os.path.getsize(f"{source}/{stem}.idx") <= _EMPTY or os.path.exists(f"{target}/{stem}.idx"):
                continue
            self._disk.overwrite(f"{target}/{stem}.keep", KEPT)
            for suffix in (".pack", ".rev", ".idx"):  # git looks for the index first
                if f"{stem}{suffix}" in names:
                    self._disk.sync_file(f"{source}/{stem}{suffix}")
                    self._disk.rename(f"{source}/{stem}{suffix}", f"{target}/{stem}{suffix}")
            moved.append(stem)
        if moved:
            self._disk.sync_folder(target)
            self._repository.database.arrived(moved)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def discard(self) -> None:
        """Removes it and what is still in it."""
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)


def sweep(git: str) -> None:
    """Removes what quarantines an earlier process left behind. To be called before a push is let in."""
    for path in glob.glob(f"{glob.escape(git)}/objects/pack/pack-*.keep"):
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            if file.read(len(KEPT) + 1) == KEPT:
                os.unlink(path)
    try:
        names = [entry.name for entry in os.scandir(f"{git}/gitstore") if entry.name.startswith(_PREFIX)]
    except FileNotFoundError:
        return
    for name in names:
        shutil.rmtree(f"{git}/gitstore/{name}", ignore_errors=True)
