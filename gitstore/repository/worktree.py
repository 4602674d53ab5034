"""The work tree of `main`, brought to a commit without ever writing over bytes that a person has not committed.

A file is ours to replace only if it is still what was last recorded for it. Anything else stays as it is, and the index
then says "changed", so that `git status` and `git diff` show the person's edit against the new state. Files are written
without an executable bit whatever the tree says (`core.fileMode` is off in our repositories).
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping

from gitstore.repository.disk import Disk, Folder
from gitstore.repository.index import Index
from gitstore.repository.objects import BLOB, Oid, identify
from gitstore.repository.trees import Node, Source, encode_path


class WorkTree:
    """The checked-out files at `root`."""

    def __init__(self, disk: Disk, root: str, scratch: str, source: Source) -> None:
        self._disk = disk
        self._root = root
        self._scratch = scratch
        self._source = source

    def update(
        self, index: Index, wanted: Mapping[str, Node | None], ours: Collection[Oid] = (), *, torn: bool = False
    ) -> list[str]:
        """Brings files and their index entries to `wanted` (None: removed); the paths left alone for a person's edit.

        `ours`: blobs that this store itself may have written into these files without recording it (a crash came in
        between). `torn`: after a power cut, also a file that is the beginning of such a blob is ours.
        """
        left: list[str] = []
        for path, node in wanted.items():
            *folders, name = path.split("/")
            raw = encode_path(path)
            try:
                folder = self._disk.folder(self._root, folders, create=node is not None)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                folder = None  # a person put a file or a link where the folder should be
                if node is not None:
                    left.append(path)
                    index.set(raw, node.mode, node.id, None)
                    continue
            if folder is None:
                index.remove(raw)
                continue
            with folder:
                if not self._file(index, folder, name, raw, node, ours, torn):
                    left.append(path)
            if node is None:
                self._prune(folders)
        return left

    def _file(
        self,
        index: Index,
        folder: Folder,
        name: str,
        raw: bytes,
        node: Node | None,
        ours: Collection[Oid],
        torn: bool,
    ) -> bool:
        state = folder.stat(name)
        if state is not None and not index.unchanged(raw, state):
            try:
                data = folder.read(name)
            except OSError:
                data = None  # a link, a device, a folder, or not readable: a person's in any case
            holds = identify(BLOB, data) if data is not None else None
            if node is not None and holds == node.id:
                index.set(raw, node.mode, node.id, state)
                return True
            mine = data is not None and (
                holds == index.get(raw) or holds in ours or (torn and self._beginning(data, ours))
            )
            if not mine:
                if node is None:
                    index.remove(raw)
                else:
                    index.set(raw, node.mode, node.id, None)
                return False
        if node is None:
            if state is not None:
                self._disk.unlink_in(folder, name)
            index.remove(raw)
            return True
        self._disk.overwrite(f"{self._scratch}/work", self._source.blob(node.id))
        self._disk.rename_into(f"{self._scratch}/work", folder, name)
        index.set(raw, node.mode, node.id, folder.stat(name))
        return True

    def _beginning(self, data: bytes, ours: Collection[Oid]) -> bool:
        begun = data.rstrip(b"\0")
        return not begun or any(self._source.blob(oid).startswith(begun) for oid in ours)

    def _prune(self, folders: list[str]) -> None:
        while folders:
            folder = self._disk.folder(self._root, folders[:-1])
            if folder is None:
                return
            with folder:
                try:
                    self._disk.rmdir_in(folder, folders[-1])
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.ENOTDIR):
                        raise
                    return
            folders = folders[:-1]


def regular(node: Node) -> bool:
    """Whether a tree's entry is one for the work tree: a file; links and submodules are left to people."""
    return node.mode & 0o170000 == 0o100000
