"""A bare repository beside a workspace's own: it borrows the objects that are there, and takes what comes from outside.

What was fetched stays apart until somebody has looked at it; then it is handed over durably, or thrown away. Formats:
gitrepository-layout(5), git-pack-refs(1).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from types import TracebackType

from gitstore.repository.commits import parse
from gitstore.repository.database import Database, TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Oid
from gitstore.repository.refs import read
from gitstore.repository.repository import Repository
from gitstore.repository.trees import TreeView

_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_PACK = re.compile(r"pack-[0-9a-f]{40}\.pack")


class Borrowed:
    """The bare repository in `folder`, new and empty but for `refs`; gone at the end of the block."""

    def __init__(self, disk: Disk, repository: Repository, folder: str, refs: Mapping[str, Oid]) -> None:
        self._disk = disk
        self._repository = repository
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("objects/info", "objects/pack", "refs"):
            os.makedirs(f"{folder}/{name}", 0o700)
        os.chmod(folder, 0o700)
        listed = "".join(f"{refs[ref].hex()} {ref}\n" for ref in sorted(refs))
        for name, text in (
            ("objects/info/alternates", f"{repository.git}/objects\n"),
            ("packed-refs", f"# pack-refs with: sorted \n{listed}"),
            ("config", _CONFIG),
            ("HEAD", "ref: refs/heads/none\n"),
        ):
            disk.overwrite(f"{folder}/{name}", text.encode())
        self.database = Database(disk, folder, TreeCache(8 << 20))

    def __enter__(self) -> Borrowed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ref(self, name: str) -> Oid | None:
        """Where a ref is now. Raises Damaged."""
        return read(self.folder, name)

    def tree(self, commit: Oid) -> TreeView:
        """The files of a commit. Raises Damaged."""
        return TreeView(self.database, parse(self.database.commit(commit)).tree)

    def hand_over(self) -> int:
        """Gives the packs that came in to the workspace's repository, synced; how many there were.

        A crash in between leaves packs that nothing refers to. Raises OSError.
        """
        self.database.close()
        source, target = f"{self.folder}/objects/pack", f"{self._repository.git}/objects/pack"
        stems = [name.removesuffix(".pack") for name in sorted(os.listdir(source)) if _PACK.fullmatch(name)]
        if not stems:
            return 0
        self._disk.makedirs(target)
        for stem in stems:
            # git looks for the index first, so it comes last.
            for suffix in (".pack", ".idx"):
                self._disk.sync_file(f"{source}/{stem}{suffix}")
                self._disk.rename(f"{source}/{stem}{suffix}", f"{target}/{stem}{suffix}")
        self._disk.sync_folder(target)
        self._repository.database.close()  # the new packs are to be seen
        return len(stems)
