"""The large objects of one workspace: received, opened, never trusted until their digest is known.

An object is the file `.git/lfs/objects/<aa>/<bb>/<sha256>`, where every client of Git LFS looks for it. The same file
has a second name in `<data>/large`, so that what several workspaces hold is on disk once. A workspace holds an object
only if it is in the workspace's own folder: what other workspaces hold is found by nobody who cannot show the bytes.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from gitstore.errors import Damaged, Invalid, NotFound, StorageFailed, TooLarge
from gitstore.lfs.pointer import Pointer, is_oid
from gitstore.repository.disk import Data, Disk

CHUNK: Final = 1 << 20
INCOMING: Final = "incoming"
_HOMES: Final = frozenset({"workspaces", "trash", "incoming"})
_ELSEWHERE: Final = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP)
_TRIES: Final = 20
log = logging.getLogger("gitstore.lfs")


naming = threading.Lock()
"""Held while an object gets its name in a workspace or is said to be in use, and by whoever takes unused ones away."""


class Objects:
    """The large objects of the repository whose `.git` folder is `git`."""

    def __init__(self, disk: Disk, git: str) -> None:
        self._disk = disk
        self._git = git
        self.root = f"{git}/lfs/objects"
        self.pool = pool_of(git)

    def path(self, oid: str) -> str:
        """Where an object is, or would be. Raises Invalid for what is no SHA-256 in lower-case hexadecimal."""
        return f"{self.root}/{_below(oid)}"

    def size(self, oid: str) -> int | None:
        """How many bytes an object has; None where this workspace has no such object."""
        try:
            state = os.lstat(self.path(oid))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return state.st_size if stat.S_ISREG(state.st_mode) else None

    def has(self, oid: str, size: int | None = None) -> bool:
        """Whether this workspace has an object; with `size`, only one of as many bytes counts."""
        found = self.size(oid)
        return found is not None and size in (None, found)

    def open(self, oid: str) -> BinaryIO:
        """The bytes, unchecked. Raises NotFound where the workspace has no such object."""
        try:
            fd = os.open(self.path(oid), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise missing(oid) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Damaged(f"{self.path(oid)} is no ordinary file")
        return os.fdopen(fd, "rb")

    def chunks(self, pointer: Pointer, chunk: int = CHUNK) -> Iterator[bytes]:
        """The bytes in pieces, checked on the way. Raises NotFound, and Damaged: for the size at first, for the digest
        in place of the last one, so that whoever takes them all has never taken wrong ones for right.
        """
        digest = hashlib.sha256()
        with self.open(pointer.oid) as file:
            size = os.fstat(file.fileno()).st_size
            if size != pointer.size:
                raise Damaged(f"the large object {pointer.oid} has {size} bytes, not {pointer.size}: {_MEND}")
            held = file.read(chunk)
            while held:
                digest.update(held)
                following = file.read(chunk)
                if not following and digest.hexdigest() != pointer.oid:
                    raise Damaged(f"the large object {pointer.oid} is damaged: {_MEND}")
                yield held
                held = following

    def touch(self, oid: str) -> None:
        """Says that an object is in use now, or is about to be: what is unused is reclaimed only after a while."""
        try:
            with naming:
                os.utime(self.path(oid))
        except OSError:
            pass  # gone, or not ours to change: then whoever needs it is told that it is missing

    def oids(self) -> Iterator[str]:
        """Every object that this workspace has, sorted."""
        yield from listed(self.root)

    # -- receiving ------------------------------------------------------------------------------------------------

    def receive(self, expected: Pointer | None = None, *, limit: int | None = None) -> Sink:
        """Begins to take an object in. With `expected`, only those very bytes are accepted; at most `limit` of them.

        Raises StorageFailed. It is the workspace's once `finish` has returned, and no power cut takes it away again.
        """
        folder = f"{self.pool}/{INCOMING}" if self.pool is not None else f"{self._git}/lfs/tmp"
        try:
            self._folders(folder)
            return Sink(self._disk, f"{folder}/{uuid.uuid4().hex}", self._keep, expected, limit)
        except OSError as error:
            raise _failed(error) from error

    def put(self, data: bytes) -> Pointer:
        """Takes in an object that is in memory. Raises StorageFailed."""
        with self.receive() as sink:
            sink.write(data)
            return sink.finish()

    def take(self, source: BinaryIO, expected: Pointer | None = None) -> Pointer:
        """Takes in the rest of an open file. Raises Invalid where it is not what is expected, StorageFailed."""
        with self.receive(expected) as sink:
            while data := source.read(CHUNK):
                sink.write(data)
            return sink.finish()

    def place(self, path: str, pointer: Pointer) -> Pointer:
        """Makes an object of a whole, synced file of the store that is known to be what `pointer` says.

        The file keeps its name as well, and nobody may write to it any more. Raises StorageFailed.
        """
        folder = f"{self.pool}/{INCOMING}" if self.pool is not None else f"{self._git}/lfs/tmp"
        temporary = f"{folder}/{uuid.uuid4().hex}"
        try:
            self._folders(folder)
            os.chmod(path, 0o444)
            self._name(path, temporary)
            self._keep(temporary, pointer)
        except OSError as error:
            raise _failed(error) from error
        return pointer

    def adopt(self, oid: str) -> bool:
        """Makes an object that somebody put into the folder one of the store's, shared with `<data>/large`.

        False where there is none, or where its bytes are not what its name says. Raises StorageFailed.
        """
        self.touch(oid)  # before the look, so that nobody takes away what is found here
        size = self.size(oid)
        if size is None:
            return False
        if self.pool is not None and _same_file(self.path(oid), f"{self.pool}/{_below(oid)}"):
            return True
        try:
            with self.open(oid) as file:
                self.take(file, Pointer(oid, size))
        except (Invalid, TooLarge):
            return False
        return True

    def link(self, source: str, oid: str) -> None:
        """Gives an object that is known to be whole its name in this workspace: the same file where that can be.

        Durable on return. Raises OSError.
        """
        own = self.path(oid)
        if not _same_file(source, own):
            self._folders(os.path.dirname(own))
            self._name(source, own)
            self._sync(os.path.dirname(own))

    def _keep(self, temporary: str, pointer: Pointer) -> None:
        """Gives a whole, synced file its names: in `<data>/large` first, then in the workspace."""
        own, source = self.path(pointer.oid), temporary
        self._folders(os.path.dirname(own))
        for _ in range(_TRIES):
            if self.pool is not None:
                source = f"{self.pool}/{_below(pointer.oid)}"
                self._share(temporary, source)
            try:
                with naming:
                    if not _same_file(source, own):
                        self._name(source, own)
                    os.utime(own)  # it is in use from now on, whoever looks for what nobody uses
                self._sync(os.path.dirname(own))
                break
            except FileNotFoundError:
                if self.pool is None or os.path.exists(source):
                    raise  # else it was reclaimed between the two, as nobody had it
        else:
            raise StorageFailed(f"the large object {pointer.oid} is taken away as often as it is put in place")
        self._disk.unlink(temporary)

    def _share(self, whole: str, target: str) -> None:
        """Gives what was received its name in `<data>/large`. What has it already stays, unless the disk damaged it."""
        self._folders(os.path.dirname(target))
        try:
            self._disk.link(whole, target)
        except FileExistsError:
            if not _same_bytes(whole, target):
                self._name(whole, target)
        except OSError as error:
            if error.errno not in _ELSEWHERE:
                raise
            self._name(whole, target)
        self._sync(os.path.dirname(target))

    def _name(self, source: str, target: str) -> None:
        """Puts another name of `source`, or a copy where that cannot be, in the place of whatever is there."""
        aside = f"{os.path.dirname(target)}/.{uuid.uuid4().hex}"
        try:
            self._disk.link(source, aside)
        except OSError as error:
            if error.errno not in _ELSEWHERE:
                raise
            self._disk.copy(source, aside, 0o444)
        self._disk.rename(aside, target)

    def _above(self, folder: str) -> str:
        """The folder that must be there: nothing is made above it."""
        if self.pool is not None and folder.startswith(f"{self.pool}/"):
            return os.path.dirname(self.pool)
        return self._git

    def _folders(self, folder: str) -> None:
        self._disk.makedirs(folder, below=self._above(folder))

    def _sync(self, folder: str) -> None:
        """Makes the names on the way to a file durable; another process's crash may have left any of them unsynced."""
        top = self._above(folder)
        while folder != top:
            self._disk.sync_folder(folder)
            folder = os.path.dirname(folder)
        self._disk.sync_folder(top)


class Sink:
    """An object on its way in. Leaving it as a context without `finish` takes everything back."""

    def __init__(
        self,
        disk: Disk,
        path: str,
        keep: Callable[[str, Pointer], None],
        expected: Pointer | None,
        limit: int | None,
    ) -> None:
        self._disk = disk
        self._path = path
        self._keep = keep
        self._expected = expected
        self._limit = limit
        self._digest = hashlib.sha256()
        self._fd: int | None = disk.open_append(path)
        self.size = 0

    def write(self, data: Data) -> None:
        """Adds bytes. Raises TooLarge, Invalid (over what is expected), StorageFailed; then it is over."""
        self.append(data)
        self.hash(data)

    def hash(self, data: Data) -> None:
        """The half of `write` that tells what the object is called; the two may be at work beside each other."""
        self._digest.update(data)

    def append(self, data: Data) -> None:
        """The half of `write` that puts the bytes on the disk. Raises as `write`."""
        fd = self._fd
        if fd is None:
            raise ValueError("this object is finished or given up")
        self.size += len(data)
        if self._expected is not None and self.size > self._expected.size:
            self.abort()
            raise Invalid(f"the content is longer than the {self._expected.size} bytes that were announced")
        if self._limit is not None and self.size > self._limit:
            self.abort()
            raise TooLarge(
                f"the content is larger than the {self._limit} bytes that are allowed",
                details={"max_bytes": self._limit},
            )
        try:
            self._disk.append(fd, self._path, data)
        except OSError as error:
            self.abort()
            raise _failed(error) from error

    def sync(self) -> None:
        """Makes durable what was written until now, beside further writes, so that less is left to the end.

        May be called in another thread. Raises StorageFailed.
        """
        fd = self._fd
        if fd is not None:
            try:
                self._disk.sync_data(fd, self._path)
            except OSError as error:
                raise _failed(error) from error

    def finish(self, objects: Objects | None = None) -> Pointer:
        """Makes it an object of the workspace, durably. Raises Invalid where another was expected, StorageFailed.

        `objects` are those of the workspace where they are now, if it may have been renamed meanwhile.
        """
        fd = self._fd
        if fd is None:
            raise ValueError("this object is finished or given up")
        pointer = Pointer(self._digest.hexdigest(), self.size)
        if self._expected is not None and pointer != self._expected:
            self.abort()
            raise Invalid(
                f"the content has {pointer.size} bytes with the SHA-256 {pointer.oid}; announced were "
                f"{self._expected.size} with {self._expected.oid}",
                details={"oid": pointer.oid, "size": pointer.size},
            )
        try:
            os.fchmod(fd, 0o444)
            self._disk.sync_data(fd, self._path)
            self._disk.close(fd)
            self._fd = None
            (self._keep if objects is None else objects._keep)(self._path, pointer)
        except OSError as error:
            self.abort()
            raise _failed(error) from error
        except StorageFailed:
            self.abort()
            raise
        return pointer

    def abort(self) -> None:
        """Gives it up; nothing is left. May be called at any time, also after `finish`."""
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None
        try:
            self._disk.unlink(self._path)
        except OSError:
            pass  # it has its place, or the start of the store sweeps it

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


_MEND: Final = "upload its content again, or restore it from a backup (`gitstore verify` names what is wrong)"


def missing(oid: str) -> NotFound:
    """The error for an object that a workspace should have and has not."""
    return NotFound(f"the content is not here, only a pointer to the large object {oid}: {_MEND}", details={"oid": oid})


def pool_of(git: str) -> str | None:
    """The folder `large` of the store in which a `.git` folder lies; None for one that is in no store."""
    home = os.path.dirname(os.path.dirname(git))
    data = os.path.dirname(home)
    if os.path.basename(home) in _HOMES and os.path.isfile(f"{data}/store.yaml"):
        return f"{data}/large"
    return None


def listed(root: str) -> Iterator[str]:
    """The objects below a folder of Git LFS's form, sorted; anything else there is passed over."""
    for first in _names(root, 2):
        for second in _names(f"{root}/{first}", 2):
            for oid in _names(f"{root}/{first}/{second}", 64):
                if is_oid(oid) and oid.startswith(first + second):
                    yield oid


def sweep(disk: Disk, pool: str) -> None:
    """Removes what a crash left half-received. Only for whoever holds the store alone."""
    try:
        left = os.listdir(f"{pool}/{INCOMING}")
    except FileNotFoundError:
        return
    for name in left:
        try:
            disk.unlink(f"{pool}/{INCOMING}/{name}")
        except (IsADirectoryError, PermissionError) as error:  # it is not ours
            log.warning("%s is left where it is: %s", name, error)


def _names(folder: str, length: int) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if len(name) == length)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _below(oid: str) -> str:
    if not is_oid(oid):
        raise Invalid("the id of a large object is its SHA-256: 64 hexadecimal digits in lower case")
    return f"{oid[:2]}/{oid[2:4]}/{oid}"


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _same_bytes(one: str, other: str) -> bool:
    """Whether two files say the same; both were just in use, so this seldom touches the disk."""
    if _same_file(one, other):
        return True
    with open(one, "rb") as first, open(other, "rb") as second:
        while True:
            data = first.read(CHUNK)
            if data != second.read(CHUNK):
                return False
            if not data:
                return True


def _failed(error: OSError) -> StorageFailed:
    where = f" at {error.filename}" if error.filename else ""
    return StorageFailed(f"the content cannot be kept: {error.strerror or error}{where}")
