"""What a person changed in a checkout and has not committed: the work tree against the commit that was last shown.

Nothing is followed, and nothing outside the folder is read: links, files with several hard links, devices and folders
that are repositories of their own are told as troubles and left alone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable
from typing import NamedTuple

from gitstore.repository.disk import Disk, Folder
from gitstore.repository.ignores import Ignores, temporary
from gitstore.repository.index import Index
from gitstore.repository.objects import Blob, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import Node, encode_path
from gitstore.repository.worktree import regular

_RESERVED = "evidence"  # at the top: how exports carry the evidence branch
DEPTH_MAX = 32


class Edit(NamedTuple):
    """A file that is not what was last shown.

    `base`: the blob that the edit began from (None: no file). `shown`: the blob that the shown commit has. `blob`: what
    is there now (None: nothing). `staged`: the index has the same, so a person is about to commit it. `time`: when it
    was changed, in seconds since 1970 (0: that cannot be told).
    """

    path: str
    base: Oid | None
    shown: Oid | None
    blob: Blob | None
    staged: bool
    time: float


class Trouble(NamedTuple):
    """Something in the work tree that cannot be taken in."""

    path: str
    code: str
    message: str
    hint: str


class Status(NamedTuple):
    """All of it."""

    edits: list[Edit]
    troubles: list[Trouble]


def status(disk: Disk, repository: Repository, *, limit: int, only: Collection[str] | None = None) -> Status:
    """Compares the whole work tree, or `only` some paths of it; files over `limit` bytes are troubles.

    Raises IndexForeign, OSError where the folder itself cannot be read.
    """
    return _Look(disk, repository, limit).run(only)


class _Look:
    def __init__(self, disk: Disk, repository: Repository, limit: int) -> None:
        self.disk = disk
        self.repository = repository
        self.limit = limit
        self.tree = repository.tree(repository.shown["main"])
        self.index = Index.read(repository.git)
        self.found = Status([], [])
        self.seen: set[str] = set()

    def run(self, only: Collection[str] | None) -> Status:
        top = self._ignores()
        if only is None:
            with self._top() as folder:
                self._folder(folder, "", top)
            for path, node in self.tree.walk():
                if path not in self.seen and regular(node):
                    self._gone(path, node)
        else:
            for path in sorted(only):
                self._one(path, top)
        self.found.edits.sort(key=lambda edit: encode_path(edit.path))
        return self.found

    def _top(self) -> Folder:
        folder = self.disk.folder(self.repository.root, ())
        assert folder is not None
        return folder

    def _ignores(self) -> Ignores:
        try:
            with open(f"{self.repository.git}/info/exclude", "rb") as file:
                return Ignores().below("", file.read())
        except FileNotFoundError:
            return Ignores()

    def _one(self, path: str, ignores: Ignores) -> None:
        """Looks at one path, with the folders on the way to it."""
        *folders, name = path.split("/")
        if not name or ".git" in folders or path == ".git" or folders[:1] == [_RESERVED]:
            return
        for depth in range(len(folders) + 1):
            try:
                folder = self.disk.folder(self.repository.root, folders[:depth])
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                folder = None
            if folder is None:
                break
            with folder:
                ignores = ignores.below("/".join(folders[:depth]), _ignore_file(folder))
                inside = "/".join(folders[: depth + 1])
                if depth < len(folders):
                    if ignores.match(inside, folder=True) and self.tree.node(path) is None:
                        return
                elif (state := folder.stat(name)) is not None:
                    if stat.S_ISDIR(state.st_mode):
                        self._folder_entry(folder, name, path, ignores)
                    else:
                        self._file(folder, name, path, state, ignores)
                    return
        node = self.tree.node(path)
        if node is not None and regular(node):
            self._gone(path, node)

    def _folder(self, folder: Folder, prefix: str, ignores: Ignores) -> None:
        ignores = ignores.below(prefix.rstrip("/"), _ignore_file(folder))
        for name, is_folder in sorted(_entries(folder)):
            path = prefix + name
            if not prefix and name in (".git", _RESERVED):
                continue
            if is_folder:
                self._folder_entry(folder, name, path, ignores)
            elif (state := folder.stat(name)) is not None:
                self._file(folder, name, path, state, ignores)

    def _folder_entry(self, above: Folder, name: str, path: str, ignores: Ignores) -> None:
        if ignores.match(path, folder=True) and self.tree.node(path) is None:
            return
        if path.count("/") > DEPTH_MAX:
            self._trouble(path, "depth", "is nested too deep", "Move its files up.")
            return
        try:
            folder = self.disk.folder(self.repository.root, path.split("/"))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return  # it became something else a moment ago: the next look sees what
            self._keep_below(path)
            self._trouble(path, "unreadable", f"cannot be read: {error.strerror}", "Give the server read permission.")
            return
        if folder is None:
            return
        with folder:
            if folder.stat(".git") is not None:
                self._keep_below(path)
                self._trouble(
                    path, "repository", "is a git repository of its own", "Move it out, or remove the `.git` in it."
                )
                return
            self._folder(folder, path + "/", ignores)

    def _keep_below(self, path: str) -> None:
        """What cannot be looked at is not gone."""
        self.seen.update(found for found, _ in self.tree.walk() if found.startswith(path + "/"))

    def _file(self, folder: Folder, name: str, path: str, state: os.stat_result, ignores: Ignores) -> None:
        if path in self.seen:
            return
        self.seen.add(path)
        node = self.tree.node(path)
        raw = encode_path(path)
        if node is not None and not regular(node):
            if not stat.S_ISDIR(node.mode):
                return  # a link or submodule that is committed: the context's problems tell it
            node = None
        indexed = self.index.get(raw)
        if node is not None and indexed == node.id and self.index.unchanged(raw, state):
            return
        if node is None and indexed is None and (temporary(name) or ignores.match(path, folder=False)):
            return
        if self.index.hidden(raw):
            return
        blob = self._read(folder, name, path, state)
        if blob is None or (node is not None and blob.id == node.id):
            return
        shown = node.id if node is not None else None
        when = max(state.st_mtime, state.st_ctime)
        self.found.edits.append(Edit(path, self._base(path, shown), shown, blob, indexed == blob.id, when))

    def _read(self, folder: Folder, name: str, path: str, state: os.stat_result) -> Blob | None:
        if stat.S_ISLNK(state.st_mode):
            self._trouble(path, "not_a_file", "is a symbolic link, which is never followed", "Put a plain file there.")
        elif not stat.S_ISREG(state.st_mode):
            self._trouble(path, "not_a_file", "is no ordinary file (a device, pipe or socket)", "Take it out.")
        elif state.st_nlink > 1:
            self._trouble(
                path,
                "hard_link",
                "is a hard link to a file that has another name too, perhaps outside the workspace; it is not read",
                "Put a copy there: `cp FILE COPY && mv COPY FILE`.",
            )
        elif state.st_size > self.limit:
            self._trouble(
                path, "too_large", f"has {state.st_size} bytes; {self.limit} are allowed", "Shorten it, or ignore it."
            )
        else:
            try:
                return Blob(folder.read(name))
            except FileNotFoundError:
                return None  # gone since: the next look sees that
            except OSError as error:
                self._trouble(
                    path, "unreadable", f"cannot be read: {error.strerror}", "Give the server read permission."
                )
        return None

    def _gone(self, path: str, node: Node) -> None:
        raw = encode_path(path)
        if path not in self.seen and not self.index.hidden(raw):
            self.seen.add(path)
            staged = self.index.get(raw) is None
            self.found.edits.append(Edit(path, self._base(path, node.id), node.id, None, staged, 0.0))

    def _base(self, path: str, shown: Oid | None) -> Oid | None:
        return self.repository.bases.get(path, shown)

    def _trouble(self, path: str, code: str, message: str, hint: str) -> None:
        self.found.troubles.append(Trouble(path, code, message, hint))


def _entries(folder: Folder) -> Iterable[tuple[str, bool]]:
    with os.scandir(folder.fd) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _ignore_file(folder: Folder) -> bytes | None:
    try:
        return folder.read(".gitignore") if folder.stat(".gitignore") is not None else None
    except OSError:
        return None  # a link, or not readable: nothing is ignored for its sake
