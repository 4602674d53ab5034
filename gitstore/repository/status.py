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

from gitstore.lfs.attributes import may_be_large
from gitstore.lfs.pointer import Pointer, decode
from gitstore.repository.disk import Disk, Folder
from gitstore.repository.ignores import LARGEST, Ignores, temporary
from gitstore.repository.index import Index
from gitstore.repository.measure import Held, cleaned, measure
from gitstore.repository.objects import Blob, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import Node, TreeView, encode_path
from gitstore.repository.worktree import regular

_RESERVED = "evidence"  # at the top: how exports carry the evidence branch
DEPTH_MAX = 32


class Edit(NamedTuple):
    """A file that is not what was last shown.

    `base`: the blob that the edit began from (None: no file). `shown`: the blob that the shown commit has. `blob`: what
    is there now (None: nothing). `staged`: the index has the same, so a person is about to commit it. `time`: when it
    was changed, in seconds since 1970; of a file that is gone, when its folder was. `large`: what is there is a large
    object or is to be one, and `blob` its pointer.
    """

    path: str
    base: Oid | None
    shown: Oid | None
    blob: Blob | None
    staged: bool
    time: float
    large: Pointer | None = None


class Trouble(NamedTuple):
    """Something in the work tree that cannot be taken in."""

    path: str
    code: str
    message: str
    hint: str


class Status(NamedTuple):
    """All of it. `sound`: paths with a known base that have no edit any more, of those that were looked at."""

    edits: list[Edit]
    troubles: list[Trouble]
    sound: set[str]


def status(
    disk: Disk,
    repository: Repository,
    *,
    limit: int,
    only: Collection[str] | None = None,
    large_bytes: int | None = None,
) -> Status:
    """Compares the whole work tree, or `only` some paths of it.

    Files over `limit` bytes are troubles, unless the attributes make them large objects; those over `large_bytes` are
    such in any case. Raises IndexForeign, OSError where the folder itself cannot be read.
    """
    return _Look(disk, repository, limit, large_bytes).run(only)


class _Look:
    def __init__(self, disk: Disk, repository: Repository, limit: int, large_bytes: int | None) -> None:
        self.disk = disk
        self.repository = repository
        self.limit = limit
        self.large_bytes = large_bytes
        self.attributes = repository.work_attributes()
        self.objects = repository.objects
        self.tree = repository.tree(repository.shown["main"])
        self.index = Index.read(repository.git)
        self.found = Status([], [], set())
        self.seen: set[str] = set()
        self.unseen: list[str] = []  # folders that could not be looked into
        self.times: dict[str, float] = {}

    def run(self, only: Collection[str] | None) -> Status:
        top = self._ignores()
        if only is None:
            with self._top() as folder:
                self._folder(folder, "", top)
            self._gone_below("")
            looked: Collection[str] = self.repository.bases
        else:
            for path in sorted(only):
                self._one(path, top)
            looked = only
        for path in looked:
            # Neither shown nor there. What could not be looked at may well be there.
            if path in self.repository.bases and path not in self.seen and not self._hides(path):
                self.found.sound.add(path)
        self.found.edits.sort(key=lambda edit: encode_path(edit.path))
        return self.found

    def _top(self) -> Folder:
        folder = self.disk.folder(self.repository.root, ())
        assert folder is not None
        return folder

    def _ignores(self) -> Ignores:
        try:
            with Folder(os.open(f"{self.repository.git}/info", os.O_RDONLY | os.O_DIRECTORY), "info") as folder:
                return Ignores().below("", folder.read("exclude", LARGEST))
        except OSError:
            return Ignores()  # there is none, or it is no file

    def _one(self, path: str, ignores: Ignores) -> None:
        """Looks at one path and below it, with the folders on the way to it."""
        parts = path.split("/")
        if parts[0] in (".git", _RESERVED) or not {"", ".", ".."}.isdisjoint(parts):
            return
        here = ""
        for name in parts:
            folder = self._open(here)
            if folder is None:
                break
            with folder:
                ignores = ignores.below(here, _ignore_file(folder))
                state = folder.stat(name)
                if state is None:
                    break
                here = f"{here}/{name}" if here else name
                if not stat.S_ISDIR(state.st_mode):
                    self._file(folder, name, here, state, ignores)
                    break
                if here == path or self._nested(folder, name):
                    self._folder_entry(here, ignores)
                    break
                if ignores.match(here, folder=True) and self.tree.node(here) is None:
                    return
        self._gone_below(path)

    def _open(self, path: str) -> Folder | None:
        """A folder of the work tree; None where there is none any more."""
        try:
            return self.disk.folder(self.repository.root, path.split("/") if path else ())
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            return None  # it became something else a moment ago: the next look sees what

    @staticmethod
    def _nested(folder: Folder, name: str) -> bool:
        """Whether the folder `name` is a repository of its own."""
        try:
            os.stat(f"{name}/.git", dir_fd=folder.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def _folder(self, folder: Folder, prefix: str, ignores: Ignores) -> None:
        ignores = ignores.below(prefix.rstrip("/"), _ignore_file(folder))
        for name, is_folder in sorted(_entries(folder)):
            path = prefix + name
            if not prefix and name in (".git", _RESERVED):
                continue
            if is_folder:
                self._folder_entry(path, ignores)
            elif (state := folder.stat(name)) is not None:
                self._file(folder, name, path, state, ignores)

    def _folder_entry(self, path: str, ignores: Ignores) -> None:
        if ignores.match(path, folder=True) and self.tree.node(path) is None:
            return
        if path.count("/") > DEPTH_MAX:
            self._trouble(path, "depth", "is nested too deep", "Move its files up.")
            return
        try:
            folder = self._open(path)
        except OSError as error:
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
        self.unseen.append(path + "/")

    def _file(self, folder: Folder, name: str, path: str, state: os.stat_result, ignores: Ignores) -> None:
        if path in self.seen:
            return
        self.seen.add(path)
        node = self.tree.node(path)
        raw = encode_path(path)
        if node is not None and not regular(node):
            if not stat.S_ISDIR(node.mode):
                return  # a link or submodule that is committed: the context's problems tell it
            if not stat.S_ISREG(state.st_mode):
                self._keep_below(path)  # a link, say, in the place of a folder
            node = None
        indexed = self.index.get(raw)
        if node is not None and indexed == node.id and self.index.unchanged(raw, state):
            self._sound(path)
            return
        if node is None and indexed is None and (temporary(name) or ignores.match(path, folder=False)):
            return
        if self.index.hidden(raw):
            return
        covered = self.attributes.covers(path)
        held = self._read(folder, name, path, state, covered)
        if held is None:
            return
        shown = node.id if node is not None else None
        if shown is not None and (shown == held.raw or (covered and held.is_blob(self.repository.database, shown))):
            self._sound(path)
            return
        blob, large = self._kept(path, held, covered)
        if blob is None:
            return
        if blob.id == shown:
            self._sound(path)
            return
        # The time of change: that of modification is whatever somebody says it is (utimes(2)).
        base, staged = self._base(path, shown), indexed == blob.id
        self.found.edits.append(Edit(path, base, shown, blob, staged, state.st_ctime, large))

    def _kept(self, path: str, held: Held, covered: bool) -> tuple[Blob | None, Pointer | None]:
        """What git is to keep of a file: its bytes, or the pointer to them and what it points to."""
        data = cleaned(held, covered=covered)
        pointer = decode(data) if covered and data is not None else None
        if pointer is not None and data is not None and pointer != held.large:
            if not self.objects.has(*pointer):
                self._trouble(
                    path,
                    "large_missing",
                    f"is a pointer of Git LFS to an object of {pointer.size} bytes that is not here",
                    "Put the real content there: `git lfs pull`, or copy the file.",
                )
                return None, None
            return Blob(data), None  # a person's pointer, as it is
        if pointer is not None and data is not None:
            return Blob(data), pointer
        over = self.large_bytes is not None and held.large.size > self.large_bytes and may_be_large(path)
        if data is None or over:
            return Blob(held.large.encode()), held.large
        return Blob(data), None

    def _read(self, folder: Folder, name: str, path: str, state: os.stat_result, covered: bool) -> Held | None:
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
        elif state.st_size > self.limit and not covered:
            self._trouble(
                path,
                "too_large",
                f"has {state.st_size} bytes; {self.limit} are allowed",
                "Shorten it, ignore it, or make it a large object: `git lfs track`, or a line in .gitattributes.",
            )
        else:
            try:
                return measure(folder, name)
            except FileNotFoundError:
                return None  # gone since: the next look sees that
            except OSError as error:
                self._trouble(
                    path, "unreadable", f"cannot be read: {error.strerror}", "Give the server read permission."
                )
        return None

    def _gone_below(self, path: str) -> None:
        """What is shown at a path and below it, and was not met there, is gone."""
        node = self.tree.node(path)
        if node is None:
            return
        if stat.S_ISDIR(node.mode):
            prefix = f"{path}/" if path else ""
            for below, found in TreeView(self.repository.database, node.id).walk():
                self._gone(prefix + below, found)
        else:
            self._gone(path, node)

    def _gone(self, path: str, node: Node) -> None:
        raw = encode_path(path)
        if path in self.seen or not regular(node) or self.index.hidden(raw) or self._hides(path):
            return
        self.seen.add(path)
        staged = self.index.get(raw) is None
        self.found.edits.append(Edit(path, self._base(path, node.id), node.id, None, staged, self._emptied(path)))

    def _hides(self, path: str) -> bool:
        return any(path.startswith(prefix) for prefix in self.unseen)

    def _emptied(self, path: str) -> float:
        """When the folder that had the file, or the nearest that is left of those above it, was last changed."""
        above = os.path.dirname(path)
        if above not in self.times:
            try:
                self.times[above] = os.lstat(os.path.join(self.repository.root, above)).st_mtime
            except OSError:
                self.times[above] = self._emptied(above) if above else 0.0
        return self.times[above]

    def _sound(self, path: str) -> None:
        if path in self.repository.bases:
            self.found.sound.add(path)

    def _base(self, path: str, shown: Oid | None) -> Oid | None:
        return self.repository.bases.get(path, shown)

    def _trouble(self, path: str, code: str, message: str, hint: str) -> None:
        self.found.troubles.append(Trouble(path, code, message, hint))


def _entries(folder: Folder) -> Iterable[tuple[str, bool]]:
    with os.scandir(folder.fd) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _ignore_file(folder: Folder) -> bytes | None:
    try:
        return folder.read(".gitignore", LARGEST) if folder.stat(".gitignore") is not None else None
    except OSError:
        return None  # a link, huge, or not readable: nothing is ignored for its sake
