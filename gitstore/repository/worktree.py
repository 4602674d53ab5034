"""The work tree of `main`, brought to a commit without ever writing over bytes that a person has not committed.

A file is ours to replace only if it is still what this store last showed there. Anything else stays as it is, its
absence included, and the index then says "changed", so that `git status` and `git diff` show the person's edit against
the new state. A file is exchanged for the new one and looked at once more, so that a save in between comes back. Files
are written without an executable bit whatever the tree says (`core.fileMode` is off in our repositories).
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Collection, Mapping

from gitstore.lfs.attributes import Attributes
from gitstore.lfs.objects import Objects
from gitstore.lfs.pointer import Pointer, decode
from gitstore.repository.disk import Disk, Folder
from gitstore.repository.index import Index
from gitstore.repository.measure import WHOLE, measure, sizes
from gitstore.repository.objects import Oid
from gitstore.repository.trees import Node, Source, decode_path, encode_path

_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


class WorkTree:
    """The checked-out files at `root`."""

    def __init__(
        self,
        disk: Disk,
        root: str,
        scratch: str,
        source: Source,
        objects: Objects,
        attributes: Attributes,
        *,
        synced: bool = False,
    ) -> None:
        self._disk = disk
        self._objects = objects
        self._attributes = attributes  # of what is to be checked out: which pointers stand for large objects
        self._synced = synced  # each file is durable before it is in place
        self._root = root
        self._scratch = f"{scratch}/work"
        self._source = source

    def update(
        self,
        index: Index,
        known: Mapping[str, Node | None],
        wanted: Mapping[str, Node | None],
        ours: Collection[Oid] = (),
        *,
        begun: Collection[str] = (),
        keep: Collection[str] = (),
        there: Mapping[str, Oid | None] | None = None,
        torn: bool = False,
        written: Callable[[str, Oid | None], None] = lambda path, blob: None,
    ) -> list[str]:
        """Brings files and their index entries from `known` to `wanted` (None: no file); the paths left alone.

        `ours`: blobs that this store itself may have written into these files without recording it (a crash came in
        between), or that it has taken in. `begun`: paths that it may itself have removed in the same way. `keep`: paths
        to be left alone in any case. `there`: what a person is known to have seen in files; one that was there then
        and is not now was removed by a person. `torn`: after a power cut, also a file that is the beginning of such a
        blob is ours. `written` is told what each file that is not left alone has in it from now on, as it is written.
        """
        left: list[str] = []
        there = there or {}
        for path, node in wanted.items():
            *folders, name = path.split("/")
            raw = encode_path(path)
            was = known.get(path)
            removed = there.get(path) is not None  # by a person, and perhaps its folder with it, if it is not there
            create = node is not None and not removed and (was is None or path in begun)
            try:
                folder = self._disk.folder(self._root, folders, create=create)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                folder = None  # a person put a file or a link where the folder should be
            if folder is None:
                self._leave(index, raw, node)
                if node is not None:
                    left.append(path)
                continue
            with folder:
                state = folder.stat(name)
                if path in keep:
                    verdict = "theirs"
                elif state is None and path in there:
                    verdict = "ours" if there[path] is None or node is None else "theirs"
                elif state is None:
                    verdict = "ours" if was is None or node is None or path in begun else "theirs"
                else:
                    verdict = self._judge(index, folder, name, raw, state, was, node, ours, torn)
                if verdict == "same" and node is not None:
                    index.set(raw, node.mode, node.id, state)
                elif verdict == "theirs" or not self._write(index, folder, name, raw, state, node):
                    self._leave(index, raw, node)
                    left.append(path)
                    continue
                written(path, node.id if node is not None else None)
            if node is None:
                self._prune(folders)
        return left

    @staticmethod
    def _leave(index: Index, raw: bytes, node: Node | None) -> None:
        if node is None:
            index.remove(raw)
        else:
            index.set(raw, node.mode, node.id, None)

    def _judge(
        self,
        index: Index,
        folder: Folder,
        name: str,
        raw: bytes,
        state: os.stat_result,
        was: Node | None,
        node: Node | None,
        ours: Collection[Oid],
        torn: bool,
    ) -> str:
        """Whose a file is: "ours" to replace, "theirs" to leave, or the "same" as what is wanted."""
        if was is not None and index.get(raw) == was.id and index.unchanged(raw, state):
            return "ours"
        shown = [one.id for one in (was, node) if one is not None]
        if state.st_size > WHOLE and state.st_size not in sizes(self._source, [*shown, *ours]):
            return "theirs"  # none of ours is as large; to hash it could take for ever
        try:
            held = measure(folder, name)
        except OSError:
            return "theirs"  # a link, a device, a folder, or not readable: a person's in any case
        if node is not None and held.is_blob(self._source, node.id):
            return "same"
        mine = (was is not None and held.is_blob(self._source, was.id)) or held.raw in ours or held.pointer in ours
        mine = mine or (torn and held.data is not None and begins(self._source, held.data, ours))
        return "ours" if mine else "theirs"

    def _write(
        self, index: Index, folder: Folder, name: str, raw: bytes, state: os.stat_result | None, node: Node | None
    ) -> bool:
        """Replaces, makes or removes a file that is ours; False if somebody else was there in between."""
        if node is None:
            if state is not None:
                self._disk.take_out(folder, name, self._scratch)
                if not _same(os.lstat(self._scratch), state):
                    self._put_back(folder, name, None)
                    return False
                self._disk.unlink(self._scratch)
            index.remove(raw)
            return True
        self._fill(raw, node)
        written = os.lstat(self._scratch)
        if not self._put(folder, name, state, written):
            return False
        now = folder.stat(name)
        # Only if it is still what was written: a save of a moment ago must not pass for it.
        index.set(raw, node.mode, node.id, now if now is not None and _same(now, written) else None)
        return True

    def _fill(self, raw: bytes, node: Node) -> None:
        """Writes a file to the scratch place: the blob, or the large object that it points to, if that is here."""
        data = self._source.blob(node.id)
        pointer = decode(data)
        large = pointer is not None and self._attributes.covers(decode_path(raw)) and self._objects.has(*pointer)
        # A damaged object would look like an edit, and become the file's next version: its pointer stands for it.
        if pointer is None or not large or not self._large(pointer):
            self._disk.overwrite(self._scratch, data)
            if self._synced:
                self._disk.sync_file(self._scratch)

    def _large(self, pointer: Pointer) -> bool:
        """Writes a large object to the scratch place; whether it is what its name says."""
        if os.path.lexists(self._scratch):
            self._disk.unlink(self._scratch)
        # Never the object itself: a person may write into the file. Synced, so that no power cut leaves it torn.
        self._disk.copy(self._objects.path(pointer.oid), self._scratch)
        with open(self._scratch, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == pointer.oid

    def _put(self, folder: Folder, name: str, state: os.stat_result | None, written: os.stat_result) -> bool:
        try:
            if state is None:
                self._disk.place(self._scratch, folder, name)
                return True
            self._disk.exchange(self._scratch, folder, name)
        except (FileExistsError, FileNotFoundError):
            return False
        except OSError as error:
            if state is None or error.errno not in _NO_EXCHANGE:
                raise
            self._disk.rename_into(self._scratch, folder, name)
            return True
        if not _same(os.lstat(self._scratch), state):
            self._put_back(folder, name, written)
            return False
        self._disk.unlink(self._scratch)
        return True

    def _put_back(self, folder: Folder, name: str, ours: os.stat_result | None) -> None:
        """Gives a save that came in between its place again: where nothing is, or where `ours` is.

        Anything else there is a later save, which counts.
        """
        while (now := folder.stat(name)) is None or (ours is not None and _same(now, ours)):
            try:
                if now is None:
                    self._disk.place(self._scratch, folder, name)
                    return
                saved = os.lstat(self._scratch)
                self._disk.exchange(self._scratch, folder, name)
            except (FileExistsError, FileNotFoundError):
                continue  # it came or went once more
            if _same(os.lstat(self._scratch), now):
                return
            ours = saved  # a still later save came out, and goes back in

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


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether it is one file, unchanged; the change of its name counts for nothing."""
    return (one.st_ino, one.st_size, one.st_mtime_ns) == (other.st_ino, other.st_size, other.st_mtime_ns)


def begins(source: Source, data: bytes, blobs: Collection[Oid]) -> bool:
    """Whether a file holds the beginning of one of these, then perhaps zeros."""
    begun = data.rstrip(b"\0")
    return not begun or any(source.blob(oid).startswith(begun) for oid in blobs)


def regular(node: Node) -> bool:
    """Whether a tree's entry is one for the work tree: a file; links and submodules are left to people."""
    return node.mode & 0o170000 == 0o100000
