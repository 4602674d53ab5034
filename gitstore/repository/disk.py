"""Every change the store makes to a disk goes through here, so that a test can stand in between: fail, tear, reorder.

Nothing here is durable by itself: `sync_file`, `sync_folder` and `sync_all` are what makes it so.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_PIECE = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class Folder:
    """An open directory below a trusted root, reached without following a single symbolic link."""

    __slots__ = ("fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path

    def close(self) -> None:
        """Closes the descriptor; the object is of no use afterwards."""
        os.close(self.fd)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stat(self, name: str) -> os.stat_result | None:
        """`lstat` of an entry, or None where there is none."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def read(self, name: str, most: int | None = None) -> bytes:
        """The bytes of a regular file. Raises OSError for anything else (a link gives ELOOP), or more than `most`."""
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self.fd)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", f"{self.path}/{name}")
            chunks, size = [], 0
            while chunk := os.read(fd, 1 << 20):
                chunks.append(chunk)
                size += len(chunk)
                if most is not None and size > most:
                    raise OSError(errno.EFBIG, "too large", f"{self.path}/{name}")
            return b"".join(chunks)
        finally:
            os.close(fd)


Data = bytes | bytearray | memoryview


class Disk:
    """The real disk. Paths are absolute strings; every method raises OSError as the system gave it."""

    # -- whole files ----------------------------------------------------------------------------------------------

    def create(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Writes a new file; FileExistsError if there is one."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            _write_all(fd, data)
        finally:
            os.close(fd)

    def overwrite(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Writes a scratch file of our own, replacing what a crash may have left there."""
        try:
            self.create(path, data, mode)
        except FileExistsError:
            self.unlink(path)
            self.create(path, data, mode)

    def copy(self, source: str, target: str, mode: int = 0o644) -> None:
        """A synced copy of a file under a name that is free; where the file system can, one that shares its blocks."""
        with open(source, "rb", buffering=0) as file:
            fd = self.open_append(target)
            try:
                if not _clone(file.fileno(), fd):
                    while data := file.read(_PIECE):
                        self.append(fd, target, data)
                os.fchmod(fd, mode)
                self.sync_data(fd, target)
            finally:
                self.close(fd)

    def rename(self, source: str, target: str) -> None:
        """Atomic replacement."""
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        """A hard link; FileExistsError if the target exists: the atomic way to take a git lock file."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        """Removes a file."""
        os.unlink(path)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """Makes one directory."""
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        """Removes an empty directory."""
        os.rmdir(path)

    def makedirs(self, path: str, *, below: str = "") -> None:
        """Makes a directory and those above it that are missing.

        Nothing is made but below `below`: FileNotFoundError where that is gone, as when a person renamed a folder.
        """
        if not os.path.isdir(path):
            if path == below:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self.makedirs(os.path.dirname(path), below=below)
            try:
                self.mkdir(path)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise

    # -- entries of a work tree -----------------------------------------------------------------------------------

    def folder(self, root: str, parts: Sequence[str], *, create: bool = False) -> Folder | None:
        """Opens `root/parts…`. None if it does not exist and `create` is off.

        Raises NotADirectoryError where a component is a file or a symbolic link: nothing is ever followed.
        """
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        path = root
        try:
            for part in parts:
                path = f"{path}/{part}"
                try:
                    inner = os.open(part, _FOLDER, dir_fd=fd)
                except FileNotFoundError:
                    if not create:
                        os.close(fd)
                        return None
                    self.mkdir_at(fd, part, path)
                    inner = os.open(part, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
        except BaseException:
            os.close(fd)
            raise
        return Folder(fd, path)

    def mkdir_at(self, fd: int, name: str, path: str) -> None:
        """Makes `name` in an open directory; `path` says where that is, for whoever watches."""
        try:
            os.mkdir(name, 0o755, dir_fd=fd)
        except FileExistsError:
            pass  # made by a person a moment ago; the open that follows tells whether it is a directory

    def place(self, source: str, folder: Folder, name: str) -> None:
        """Puts a finished scratch file where there is none; FileExistsError if somebody made one meanwhile."""
        os.link(source, name, dst_dir_fd=folder.fd, follow_symlinks=False)
        os.unlink(source)

    def exchange(self, source: str, folder: Folder, name: str) -> None:
        """Puts a finished scratch file in place of another, which is then the scratch file: nothing is overwritten.

        Raises OSError (EINVAL, ENOSYS) on a file system without RENAME_EXCHANGE (renameat2(2)).
        """
        if _libc.renameat2(_AT_FDCWD, os.fsencode(source), folder.fd, os.fsencode(name), _RENAME_EXCHANGE) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), f"{folder.path}/{name}")

    def rename_into(self, source: str, folder: Folder, name: str) -> None:
        """Puts a finished scratch file in place, whatever is there."""
        os.rename(source, name, dst_dir_fd=folder.fd)

    def take_out(self, folder: Folder, name: str, target: str) -> None:
        """Moves a file of an open directory to a scratch place, over whatever a crash left there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)  # rename(2) does nothing at all where a crash left one file with both names
        os.rename(name, target, src_dir_fd=folder.fd)

    def rmdir_in(self, folder: Folder, name: str) -> None:
        """Removes an empty directory of an open directory."""
        os.rmdir(name, dir_fd=folder.fd)

    # -- a file that grows ----------------------------------------------------------------------------------------

    def open_append(self, path: str) -> int:
        """A new file to append to; its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def reopen_append(self, path: str) -> int:
        """A file that is there, to append to; its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    def append(self, fd: int, path: str, data: Data) -> None:
        """Appends all of `data`."""
        _write_all(fd, data)

    def truncate(self, fd: int, path: str, size: int) -> None:
        """Cuts a growing file back to `size` bytes."""
        os.ftruncate(fd, size)

    def close(self, fd: int) -> None:
        """Closes a growing file."""
        os.close(fd)

    # -- durability -----------------------------------------------------------------------------------------------

    def sync_data(self, fd: int, path: str) -> None:
        """`fdatasync`: the bytes of a growing file and its length."""
        os.fdatasync(fd)

    def sync_file(self, path: str) -> None:
        """`fsync` of one file."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_folder(self, path: str) -> None:
        """`fsync` of a directory: its entries."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_all(self, root: str) -> None:
        """`syncfs`: all that was written so far to the file system of `root` (syncfs(2); Linux 5.8 on tells errors)."""
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _libc.syncfs(fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), root)
        finally:
            os.close(fd)


def _clone(source: int, target: int) -> bool:
    """Whether the file system made one file share the blocks of another; most cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def _write_all(fd: int, data: Data) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Hold:
    """An exclusive `flock` on a file, held until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Lets the next one in, also while a program that is just being started still has a copy of our open file."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)
