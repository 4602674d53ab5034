"""Uploads that may break off and be taken up again, also after the server was killed (the state behind tus 1.0).

`<data>/uploads/<id>.part` is what arrived, `<id>.json` what is known of it. What the latter calls the offset is on the
disk; what the file has beyond it came after the last sync, and is cut off when the upload is taken up again.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from gitstore.errors import Conflict, Gone, Locked, NotFound, RateLimited, StorageFailed
from gitstore.lfs import Objects, Pointer
from gitstore.repository.disk import Data, Disk

CHUNK: Final = 1 << 20

Kind = Literal["artifact", "file"]
_ID: Final = re.compile(r"[0-9a-f]{32}")
log = logging.getLogger("gitstore.uploads")


class Upload(msgspec.Struct, frozen=True):
    """One upload: whose it is, what will be made of it, how much of it is durable. Times are ms, sizes bytes.

    `fields` are those of the artifact or file, `sent` the text they came in. `resource` is the address of what was made
    of the content; then the upload is over, and kept for those who ask again.
    """

    id: str
    workspace: str
    kind: Kind
    scope: str
    length: int
    fields: dict[str, str]
    sent: str
    created_at: int
    touched_at: int
    offset: int = 0
    resource: str | None = None


class Bounds(msgspec.Struct, frozen=True):
    """How many uploads may be unfinished at a time, how many bytes they may have announced together, and how many
    seconds one is kept after its last piece."""

    uploads: int
    size: int
    seconds: float


class Uploads:
    """The uploads of one store. Every method may be called from any thread; those that write take disk time."""

    def __init__(self, root: Path, bounds: Bounds, disk: Disk | None = None) -> None:
        """Reads what is there; raises StorageFailed. What cannot be read is removed, as nothing could be done with it.

        Only for whoever holds the store.
        """
        self._root = str(root)
        self._bounds = bounds
        self._disk = disk or Disk()
        self._lock = threading.Lock()
        self._known: dict[str, Upload] = {}
        self._digests: dict[str, Any] = {}  # of uploads whose whole content came since the start
        self._busy: set[str] = set()
        try:
            self._load()
        except OSError as error:
            raise _failed(error) from error

    def _load(self) -> None:
        try:
            with os.scandir(self._root) as entries:
                # What else is there, a folder say, is somebody else's and none of ours to remove.
                names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        except FileNotFoundError:
            return
        for name in names:
            identity, _, suffix = name.partition(".")
            if suffix != "json" or _ID.fullmatch(identity) is None:
                continue
            try:
                with open(f"{self._root}/{name}", "rb") as file:
                    found = msgspec.json.decode(file.read(), type=Upload)
                if found.id != identity:
                    raise msgspec.ValidationError(f"is of {found.id}")
            except msgspec.MsgspecError as error:
                log.warning("the upload %s cannot be read and is removed: %s", identity, error)
                continue
            self._known[identity] = found
        for name in names:
            identity, _, suffix = name.partition(".")
            held = self._known.get(identity)
            if held is None or suffix == "json.new" or (suffix == "part" and held.resource is not None):
                self._disk.unlink(f"{self._root}/{name}")

    # -- what there is --------------------------------------------------------------------------------------------

    def find(self, workspace: str, identity: str, now: int) -> Upload:
        """An upload of a workspace. Raises NotFound, Gone for one whose time is over."""
        found = self._known.get(identity)
        if found is None or found.workspace != workspace:
            raise NotFound("the workspace has no such upload: it never had, or it was ended")
        if now >= self.expires(found):
            raise Gone("the time of this upload is over: begin a new one")
        return found

    def expires(self, upload: Upload) -> int:
        """When (ms) an upload is removed unless another piece comes before."""
        return upload.touched_at + int(self._bounds.seconds * 1000)

    @property
    def unfinished(self) -> tuple[int, int]:
        """How many uploads are not finished, and the bytes they have announced together."""
        held = [one.length for one in list(self._known.values()) if one.resource is None]
        return len(held), sum(held)

    # -- their lives ----------------------------------------------------------------------------------------------

    def create(
        self, workspace: str, kind: Kind, scope: str, length: int, fields: dict[str, str], sent: str, now: int
    ) -> Upload:
        """Begins an upload of `length` bytes. Raises RateLimited over the bounds, StorageFailed."""
        made = Upload(uuid.uuid4().hex, workspace, kind, scope, length, fields, sent, now, now)
        self.sweep(now)
        with self._lock:
            count, size = self.unfinished
            if count >= self._bounds.uploads or size + length > self._bounds.size:
                raise RateLimited(
                    f"{count} uploads of {size} bytes are unfinished, and {self._bounds.uploads} of "
                    f"{self._bounds.size} bytes may be: finish or end some, or try again later",
                    retry_after=60,
                )
            self._known[made.id] = made
        try:
            self._disk.makedirs(self._root, below=os.path.dirname(self._root))
            self._disk.close(self._disk.open_append(self._part(made)))
            self._write(made)
        except OSError as error:
            self._forget(made)
            raise _failed(error) from error
        self._digests[made.id] = hashlib.sha256()
        return made

    @contextmanager
    def alone(self, upload: Upload) -> Iterator[None]:
        """Keeps everybody else from an upload meanwhile. Raises Locked where somebody is at it, NotFound."""
        with self._lock:
            if upload.id in self._busy:
                raise Locked("another request is sending this upload: ask for its offset, and try again in a moment")
            if upload.id not in self._known:
                raise NotFound("the upload was ended")
            self._busy.add(upload.id)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(upload.id)

    def append(self, upload: Upload, offset: int, checksum: Any = None) -> Piece:
        """Begins the next piece; the caller holds `alone`. Raises Conflict unless `offset` is where it goes on.

        `checksum` is a running hash that is fed with the piece alone; nothing of the piece counts before `finish`.
        """
        held = self._known[upload.id]
        if offset != held.offset:
            raise Conflict(
                f"the upload goes on at {held.offset}, not at {offset}",
                details={"offset": held.offset, "upload_offset": offset},
            )
        digest = self._digests.pop(upload.id, None)
        try:
            return Piece(self, held, self._disk, self._part(held), digest, checksum)
        except OSError as error:
            raise _failed(error) from error

    def complete(self, upload: Upload, resource: str, now: int) -> None:
        """Remembers what was made of it, and gives up the content. Raises StorageFailed."""
        done = msgspec.structs.replace(self._known[upload.id], resource=resource, touched_at=now)
        try:
            self._write(done)
            self._known[upload.id] = done
            self._digests.pop(upload.id, None)
            with suppress(FileNotFoundError):
                self._disk.unlink(self._part(done))
        except OSError as error:
            raise _failed(error) from error

    def end(self, upload: Upload) -> None:
        """Removes an upload and what came of it; the caller holds `alone`. Raises StorageFailed."""
        try:
            self._forget(upload)
            self._disk.sync_folder(self._root)
        except OSError as error:
            raise _failed(error) from error

    def sweep(self, now: int) -> int:
        """Removes those whose time is over, but for those that are being sent; how many. Raises StorageFailed."""
        ended = 0
        for one in [one for one in list(self._known.values()) if now >= self.expires(one)]:
            try:
                with self.alone(one):
                    self.end(one)
                    ended += 1
            except (Locked, NotFound):
                continue
        return ended

    # -- the content ----------------------------------------------------------------------------------------------

    def content(self, upload: Upload, objects: Objects, large: int) -> bytes | Pointer:
        """All that came: the bytes or, where they are more than `large`, the workspace's large object. It may be asked
        for again until `complete`. Raises StorageFailed.
        """
        path = self._part(upload)
        try:
            if os.path.getsize(path) != upload.length:
                raise _lost(path)
            if upload.length <= large:
                with open(path, "rb") as file:
                    return file.read()
            digest = self._digests.get(upload.id)
            if digest is None:
                digest = hashlib.sha256()
                with open(path, "rb") as file:
                    while data := file.read(CHUNK):
                        digest.update(data)
            return objects.place(path, Pointer(digest.hexdigest(), upload.length))
        except OSError as error:
            raise _failed(error) from error

    def _moved(self, upload: Upload, offset: int, now: int, digest: Any) -> Upload:
        """Records that so much is durable; `digest` is that of all of it, None where it is not known."""
        moved = msgspec.structs.replace(self._known[upload.id], offset=offset, touched_at=now)
        self._write(moved)
        self._known[upload.id] = moved
        if digest is not None:
            self._digests[upload.id] = digest
        return moved

    def _part(self, upload: Upload) -> str:
        return f"{self._root}/{upload.id}.part"

    def _write(self, upload: Upload) -> None:
        path = f"{self._root}/{upload.id}.json"
        self._disk.overwrite(f"{path}.new", msgspec.json.encode(upload), 0o600)
        self._disk.sync_file(f"{path}.new")
        self._disk.rename(f"{path}.new", path)
        self._disk.sync_folder(self._root)

    def _forget(self, upload: Upload) -> None:
        with self._lock:
            self._known.pop(upload.id, None)
            self._digests.pop(upload.id, None)
        for suffix in ("json", "json.new", "part"):
            with suppress(FileNotFoundError):
                self._disk.unlink(f"{self._root}/{upload.id}.{suffix}")


class Reached(NamedTuple):
    """How far a piece was written: the offset, and the running digest of all before it, None where it is not known."""

    offset: int
    digest: Any


class Piece:
    """What one request adds to an upload. Ended by `finish` or, where it is not to count, by `abort`."""

    def __init__(self, owner: Uploads, upload: Upload, disk: Disk, path: str, digest: Any, checksum: Any) -> None:
        self._owner = owner
        self._upload = upload
        self._disk = disk
        self._path = path
        self._digest = digest.copy() if digest is not None else None
        self._before = digest
        self._checksum = checksum
        #: How much the upload has, with what was not made durable yet.
        self.offset = upload.offset
        fd = disk.reopen_append(path)
        try:
            if (size := os.fstat(fd).st_size) < upload.offset:
                raise _lost(path)  # to cut it there would fill it up with zeros
            if size > upload.offset:
                disk.truncate(fd, path, upload.offset)
        except OSError:
            disk.close(fd)
            raise
        self._fd: int | None = fd
        if self._digest is None and upload.offset == 0:
            self._digest = hashlib.sha256()

    def write(self, data: Data) -> None:
        """Adds bytes. Raises Conflict beyond the length, StorageFailed."""
        self.append(data)
        self.hash(data)

    def hash(self, data: Data) -> None:
        """The half of `write` that is for the digests; the two may be at work beside each other."""
        for running in (self._digest, self._checksum):
            if running is not None:
                running.update(data)

    def append(self, data: Data) -> None:
        """The half of `write` that puts the bytes on the disk. Raises as `write`."""
        fd = self._fd
        assert fd is not None
        if self.offset + len(data) > self._upload.length:
            raise Conflict(
                f"more came than the {self._upload.length} bytes that were announced",
                details={"length": self._upload.length},
            )
        try:
            self._disk.append(fd, self._path, data)
        except OSError as error:
            raise _failed(error) from error
        self.offset += len(data)

    def reached(self) -> Reached:
        """How far it is, for `sync`; not while `write` is at work."""
        return Reached(self.offset, self._digest.copy() if self._digest is not None else None)

    def sync(self, reached: Reached, now: int) -> Upload:
        """Makes what was written up to there durable, beside further writes: it stays, whatever becomes of the rest.

        Raises StorageFailed; then it has to be aborted.
        """
        fd = self._fd
        assert fd is not None
        try:
            self._disk.sync_data(fd, self._path)
            self._upload = self._owner._moved(self._upload, reached.offset, now, reached.digest)
        except OSError as error:
            raise _failed(error) from error
        self._before = self._owner._digests.get(self._upload.id)
        return self._upload

    def finish(self, now: int) -> Upload:
        """Makes all of it durable. Raises StorageFailed."""
        held = self.sync(self.reached(), now)
        self._close()
        return held

    @property
    def ended(self) -> bool:
        """Whether nothing more can be added to it."""
        return self._fd is None

    def abort(self) -> None:
        """Ends it; what was not made durable does not count. May be called after `finish`."""
        if self._fd is None:
            return
        try:
            self._disk.truncate(self._fd, self._path, self._upload.offset)
        except OSError:
            pass  # it is cut when the upload is taken up again
        self._close()
        if self._before is not None:
            self._owner._digests.setdefault(self._upload.id, self._before)

    def _close(self) -> None:
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None


def _lost(path: str) -> OSError:
    return OSError(errno.EIO, "bytes that had arrived were lost, so begin a new one", path)


def _failed(error: OSError) -> StorageFailed:
    where = f" at {error.filename}" if error.filename else ""
    return StorageFailed(f"the upload cannot be kept: {error.strerror or error}{where}")
