"""What a file of the work tree holds, as git would name it: its own bytes, or as the large object that they make.

A file is read in pieces, however large it is; what was found of a large one is remembered for as long as the file
stays the same.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from gitstore.errors import Damaged
from gitstore.lfs.attributes import LARGEST, Attributes
from gitstore.lfs.pointer import POINTER_MAX, Pointer, decode
from gitstore.repository.disk import Folder
from gitstore.repository.objects import BLOB, Oid, identify
from gitstore.repository.trees import Source

OURS_MAX: Final = 256 << 20
"""Bytes of a file that git keeps itself and that is looked at for whose it is."""

WHOLE: Final = 16 << 20
"""Bytes of a file that is held in memory as well; of a larger one only the digests are known."""

_CHUNK: Final = 1 << 20
_PIECE: Final = 1 << 16
_KNOWN_MAX: Final = 4096
_SETTLED: Final = 2_000_000_000  # ns since its last change after which a file's times tell the next change for sure


class Held(NamedTuple):
    """What a file holds. `raw`: the id of its bytes as a blob. `large`: they as a large object.

    `data`: the bytes, if there are not too many.
    """

    raw: Oid
    large: Pointer
    data: bytes | None

    @property
    def pointer(self) -> Oid:
        """The id of the pointer that stands for the bytes."""
        return identify(BLOB, self.large.encode())

    def among(self, source: Source, blobs: Iterable[Oid]) -> bool:
        """Whether one of these blobs is what the file holds, as it is or as its pointer."""
        rest = []
        mine = {self.raw, self.pointer}
        for blob in blobs:
            if blob in mine:
                return True
            rest.append(blob)
        return any(self._means(source, blob) for blob in rest[:2])

    def is_blob(self, source: Source, blob: Oid) -> bool:
        """Whether the file holds this blob, or what it points to, however the pointer is written."""
        return blob in (self.raw, self.pointer) or self._means(source, blob)

    def _means(self, source: Source, blob: Oid) -> bool:
        try:
            return decode(source.blob(blob)) == self.large
        except Damaged:
            return False  # which says nothing of the file


_known: OrderedDict[tuple[int, ...], tuple[Oid, Pointer]] = OrderedDict()
_lock = threading.Lock()


def measure(folder: Folder, name: str) -> Held:
    """Reads a file. Raises OSError for anything but a plain file (a link gives ELOOP)."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder.fd)
    with os.fdopen(fd, "rb", buffering=0) as file:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(22, "not a regular file", f"{folder.path}/{name}")
        if state.st_size <= WHOLE:
            data = file.read(state.st_size + 1)
            while len(data) <= WHOLE and (more := file.read(_PIECE)):
                data += more
            if len(data) <= WHOLE:
                return Held(identify(BLOB, data), Pointer(hashlib.sha256(data).hexdigest(), len(data)), data)
            file.seek(0)  # it grows while it is read, nobody knows how far
            state = os.fstat(fd)
        key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        with _lock:
            if (found := _known.get(key)) is not None:
                return Held(*found, None)
        raw = hashlib.sha1(b"blob %d\0" % state.st_size, usedforsecurity=False)
        large = hashlib.sha256()
        size = 0
        while piece := file.read(_CHUNK):
            raw.update(piece)
            large.update(piece)
            size += len(piece)
        held = Oid(raw.digest()), Pointer(large.hexdigest(), size)
        after = os.fstat(fd)
        same = key == (after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns)
        if same and time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > _SETTLED:
            with _lock:
                _known[key] = held
                while len(_known) > _KNOWN_MAX:
                    _known.popitem(last=False)
        return Held(*held, None)


def sizes(source: Source, blobs: Iterable[Oid]) -> set[int]:
    """How large the files are that hold these blobs, or what they point to."""
    found: set[int] = set()
    for blob in blobs:
        try:
            data = source.blob(blob)
        except Damaged:
            continue  # which says nothing of a file
        pointer = decode(data)
        found.update((len(data), pointer.size if pointer is not None else len(data)))
    return found


def work_attributes(folder: Callable[[list[str]], Folder | None]) -> Attributes:
    """The attributes that a work tree's own files state. `folder` opens a folder of it."""

    def read(path: str) -> bytes | None:
        *folders, name = path.split("/")
        try:
            here = folder(folders)
            if here is None:
                return None
            with here:
                return here.read(name, LARGEST) if here.stat(name) is not None else None
        except OSError:
            return None  # a link, huge, not readable, or a file in the way: it says nothing

    return Attributes(read)


def cleaned(held: Held, *, covered: bool) -> bytes | None:
    """What git keeps of a file: its bytes or, where the attributes cover it, its pointer; a pointer stays one.

    None: its bytes, which are too many to be held.
    """
    if covered and held.large.size and not (held.data is not None and _is_pointer(held.data)):
        return held.large.encode()
    return held.data


def _is_pointer(data: bytes) -> bool:
    return len(data) <= POINTER_MAX and decode(data) is not None
