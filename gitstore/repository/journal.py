"""The write-ahead journal of the store: a change is a promise once its record is synced here, and not before.

One file of records is being appended to; one thread writes what has gathered and syncs it once (group commit). A record
holds everything needed to publish a change again. Records whose changes are published and synced are forgotten, a file
at a time. After a failed write the tail is cut off and the next file says where the valid part of this one ends, so
that what was answered with an error never comes back.

File: a frame with the header, then frames with records; a frame is length and CRC-32 (big-endian), then the payload.
The first frame that does not hold ends the file: a torn tail was never acknowledged.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from gitstore.errors import StorageFailed
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Oid
from gitstore.repository.trees import decode_path, encode_path

_FRAME = struct.Struct(">LL")
_ROTATE_BYTES = 32 << 20

Files = Mapping[str, Oid | None]  # blobs by path


class Move(msgspec.Struct, frozen=True, array_like=True):
    """A branch goes from `old` (None: it begins) to `new`; `line` is its commits in between, oldest first."""

    branch: str
    old: bytes | None
    new: bytes


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One change of one workspace, complete."""

    workspace: str
    folder: str
    moves: tuple[Move, ...] = ()
    entries: tuple[tuple[bytes, bytes | None, bytes], ...] = ()  # id, base of a delta, pack entry
    sealed: bytes | None = None  # the whole file of sealed secrets; empty: removed
    renamed: str | None = None  # the folder's new name
    trashed: str | None = None  # the name below trash/ that the workspace gets
    # Files of the checkout, by path as bytes: those that stay, each with what the edit in it began from; and those
    # whose content (None: absence) this change has in it, from which whatever else is there by now began.
    kept: tuple[tuple[bytes, bytes | None], ...] = ()
    taken: tuple[tuple[bytes, bytes | None], ...] = ()


def telling(blobs: Files) -> tuple[tuple[bytes, bytes | None], ...]:
    """Blobs by path (any that a tree may have, not only UTF-8), as a record has them."""
    return tuple((encode_path(path), blob) for path, blob in blobs.items())


def told(pairs: Iterable[tuple[bytes, bytes | None]]) -> dict[str, Oid | None]:
    """What `telling` made of it, back."""
    return {decode_path(path): Oid(blob) if blob is not None else None for path, blob in pairs}


def gathered(changes: Iterable[tuple[Files, Files]]) -> tuple[dict[str, Oid | None], dict[str, Oid | None]]:
    """What several changes, oldest first, kept and took: of a file, what the last of them did counts."""
    kept: dict[str, Oid | None] = {}
    taken: dict[str, Oid | None] = {}
    for stays, goes in changes:
        for path, base in stays.items():
            kept[path] = base
            taken.pop(path, None)
        for path, blob in goes.items():
            taken[path] = blob
            kept.pop(path, None)
    return kept, taken


class _Header(msgspec.Struct, frozen=True, array_like=True):
    number: int
    before: int  # number of the file before this one, -1 for none
    valid: int  # its bytes that count
    boot: str


class Entry:
    """A record on its way, with what to do once it is durable or has failed.

    Once it was told, it lets go of both and of its bytes: they lead back to it, and what is in such a circle stays in
    memory until somebody looks for garbage, which a server seldom does.
    """

    __slots__ = ("_on_done", "_on_failed", "payload", "segment")

    def __init__(self, payload: bytes, done: Callable[[], None], failed: Callable[[BaseException], None]) -> None:
        self.payload = payload
        self._on_done = done
        self._on_failed = failed
        self.segment = -1

    def done(self) -> None:
        """It is durable. Called once."""
        tell = self._on_done
        self._let_go()
        tell()

    def failed(self, error: BaseException) -> None:
        """It is not, and will not be. Called once."""
        tell = self._on_failed
        self._let_go()
        tell(error)

    def _let_go(self) -> None:
        self.payload = b""
        self._on_done = self._on_failed = _told


def _told(*_: object) -> None:
    raise RuntimeError("a record is told only once what became of it")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)
encode = _encoder.encode


def boot_id() -> str:
    """What tells one start of the machine from another (proc(5)); empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


class Journal:
    """The journal in `folder`. `settled` is called with each group that became durable, before its entries are told."""

    def __init__(self, disk: Disk, folder: str, settled: Callable[[list[Entry]], None]) -> None:
        self._disk = disk
        self._folder = folder
        self._settled = settled
        self._wake = threading.Condition()
        self._queue: list[Entry] = []
        self._failing = False
        self._stopping = False
        self._number = max((number for number, _ in _files(folder)), default=-1)
        self._outstanding: dict[int, int] = {}
        self._fd = -1
        self._size = 0
        self._rotate = False
        self._doubtful = False  # a sync failed: what was published may be missing from the disk though it can be read
        self._thread = threading.Thread(target=self._run, name="gitstore-journal", daemon=True)
        self.groups = 0
        self.records = 0

    # -- for writers ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins a new file and lets writers in."""
        self._open(-1, 0)
        self._thread.start()

    def submit(self, entry: Entry) -> None:
        """Queues a record. Raises StorageFailed while an earlier failure is being undone, or when stopping."""
        with self._wake:
            if self._failing or self._stopping:
                raise StorageFailed(
                    "the store is stopping" if self._stopping else "the journal could not be written a moment ago"
                )
            self._queue.append(entry)
            if len(self._queue) == 1:
                self._wake.notify()

    def stop(self) -> None:
        """Writes what is queued, then lets nobody in any more."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._stopping and not self._rotate:
                    self._wake.wait()
                group, self._queue = self._queue, []
                if not group and self._stopping:
                    return
            try:
                if self._rotate or self._size > _ROTATE_BYTES:
                    self._next()
                if group:
                    self._write(group)
            except OSError as error:
                self._fail(group, error)
                continue
            if group:
                self._settled(group)

    def _write(self, group: list[Entry]) -> None:
        data = b"".join(
            part
            for entry in group
            for part in (_FRAME.pack(len(entry.payload), zlib.crc32(entry.payload)), entry.payload)
        )
        path = self._path(self._number)
        self._disk.append(self._fd, path, data)
        self._disk.sync_data(self._fd, path)
        self._size += len(data)
        self.groups += 1
        self.records += len(group)
        with self._wake:
            for entry in group:
                entry.segment = self._number
            self._outstanding[self._number] = self._outstanding.get(self._number, 0) + len(group)

    def _fail(self, group: list[Entry], error: OSError) -> None:
        """Tells every waiting writer, then goes on in a new file; until that works, new writers are refused."""
        with self._wake:
            self._failing = True
            group = group + self._queue
            self._queue = []
        try:
            self._disk.truncate(self._fd, self._path(self._number), self._size)
        except OSError:
            pass  # the next file's header says where this one ends, as soon as there can be one
        reason = StorageFailed(f"the change could not be written to the journal: {error.strerror or error}")
        for entry in group:
            entry.failed(reason)
        while True:
            try:
                self._next()
                break
            except OSError:
                # The disk is still full or gone. Nothing is lost by waiting; writers are answered 503 meanwhile.
                with self._wake:
                    self._wake.wait(0.2)
                    if self._stopping:
                        return
        with self._wake:
            self._failing = False

    def _next(self) -> None:
        fd, before, valid = self._fd, self._number, self._size
        self._open(before, valid)
        self._rotate = False
        self._disk.close(fd)

    def _open(self, before: int, valid: int) -> None:
        number = self._number + 1
        path = self._path(number)
        header = encode(_Header(number, before, valid, "" if self._doubtful else boot_id()))
        frame = _frame(header)
        try:
            fd = self._disk.open_append(path)
        except FileExistsError:  # an attempt a moment ago got no further than the name
            self._disk.unlink(path)
            fd = self._disk.open_append(path)
        try:
            self._disk.append(fd, path, frame)
            self._disk.sync_data(fd, path)
            self._disk.sync_folder(self._folder)
        except OSError:
            self._disk.close(fd)
            raise
        self._fd = fd
        self._size = len(frame)
        with self._wake:
            self._number = number
            self._outstanding[number] = 0

    # -- forgetting -----------------------------------------------------------------------------------------------

    def published(self, segments: Iterable[int]) -> None:
        """Changes are on disk, unsynced: for each the file that its entry is in (Entry.segment)."""
        with self._wake:
            for segment in segments:
                self._outstanding[segment] -= 1

    def rotate(self) -> None:
        """Asks for a new file, so that the one in use can be forgotten soon."""
        with self._wake:
            if self._size > 256:
                self._rotate = True
                self._wake.notify()

    def checkpoint(self, root: str) -> int:
        """Forgets the files whose changes are all published, after syncing the disk; how many.

        Once a sync has failed nothing is forgotten any more: the system reports such an error once, and says yes to the
        next sync although the data is lost (fsync(2), NOTES). The next start then trusts nothing that it finds.
        """
        if self._doubtful:
            return 0
        done = []
        with self._wake:
            # Oldest first and without a gap: a file's header tells how much of the one before it counts.
            for number in sorted(self._outstanding):
                if self._outstanding[number] or (number == self._number and self._fd >= 0):
                    break
                done.append(number)
        if not done:
            return 0
        try:
            self._disk.sync_all(root)
        except OSError:
            self._doubtful = True
            self.rotate()
            raise
        _remove(self._disk, self._folder, [self._path(number) for number in done])
        with self._wake:
            for number in done:
                del self._outstanding[number]
        return len(done)

    @property
    def failing(self) -> bool:
        """Whether the disk refused the last write: writers are turned away until it takes one again."""
        return self._failing

    @property
    def backlog(self) -> int:
        """Bytes in the file in use; what a start would have to replay at most, apart from files not yet forgotten."""
        return self._size

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:016x}.log"


def _files(folder: str) -> list[tuple[int, str]]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted((int(name[:-4], 16), f"{folder}/{name}") for name in names if name.endswith(".log"))


def read(folder: str) -> tuple[list[Record], bool]:
    """Every record that was promised, in order, and whether the machine was restarted since any was written."""
    segments: list[tuple[int, list[tuple[int, Record]]]] = []
    valid: dict[int, int] = {}
    now, restarted = boot_id(), False
    # The newest first: beside a writer, an older file is then read when nothing more is added to it.
    for number, path in reversed(_files(folder)):
        with open(path, "rb") as file:
            frames = _frames(file.read())
        first = next(frames, None)
        if first is None:
            continue  # created, but its header never got to the disk: nothing in it was acknowledged
        header = msgspec.msgpack.decode(first[1], type=_Header)
        restarted = restarted or header.boot != now or not now
        if header.before >= 0:
            valid[header.before] = header.valid
        segments.append((number, [(end, _decoder.decode(payload)) for end, payload in frames]))
    records = [record for number, found in reversed(segments) for end, record in found if end <= valid.get(number, end)]
    return records, restarted


def faults(folder: str) -> list[str]:
    """Which files hold less than a later one says they do: something in them that was promised cannot be read.

    A tail that cannot be read without such a word was never acknowledged, and is no fault.
    """
    ends: dict[int, int] = {}
    valid: dict[int, int] = {}
    for number, path in reversed(_files(folder)):
        try:
            with open(path, "rb") as file:
                frames = list(_frames(file.read()))
        except FileNotFoundError:
            continue  # forgotten meanwhile: all of it is published
        if frames:
            header = msgspec.msgpack.decode(frames[0][1], type=_Header)
            if header.before >= 0:
                valid[header.before] = header.valid
        ends[number] = frames[-1][0] if frames else 0
    return [
        f"{folder}/{number:016x}.log can be read up to byte {end} of the {valid[number]} that count"
        for number, end in ends.items()
        if end < valid.get(number, 0)
    ]


def forget(disk: Disk, folder: str) -> None:
    """Removes every file; their records have been published and synced."""
    _remove(disk, folder, [path for _, path in _files(folder)])


def _remove(disk: Disk, folder: str, paths: list[str]) -> None:
    """Oldest first, and surely so: were an old file to outlive a newer one, what it says would count again."""
    for at, path in enumerate(paths):
        if at:
            disk.sync_folder(folder)
        try:
            disk.unlink(path)
        except FileNotFoundError:
            pass  # an attempt before this one got further


def _frame(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _FRAME.size <= len(data):
        size, crc = _FRAME.unpack_from(data, at)
        payload = data[at + _FRAME.size : at + _FRAME.size + size]
        if not size or len(payload) < size or zlib.crc32(payload) != crc:
            return  # zeros would hold: a power cut may leave the length of a file without its data
        at += _FRAME.size + size
        yield at, payload
