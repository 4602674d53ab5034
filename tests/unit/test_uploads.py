"""What is kept of uploads: over restarts, kills at any moment, and what the disk has beyond what was synced."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from gitstore.errors import Conflict, Gone, Locked, NotFound, RateLimited, StorageFailed
from gitstore.lfs import Objects, Pointer
from gitstore.repository.disk import Disk
from gitstore.uploads import Bounds, Upload, Uploads

NOW = 1_700_000_000_000
BOUNDS = Bounds(uploads=3, size=1_000_000, seconds=60)


def opened(tmp_path: Path, disk: Disk | None = None) -> Uploads:
    return Uploads(tmp_path / "uploads", BOUNDS, disk)


def begun(uploads: Uploads, length: int = 10) -> Upload:
    return uploads.create("w", "artifact", "agent", length, {"path": "a"}, "path YQ==", NOW)


def sent(uploads: Uploads, upload: Upload, offset: int, data: bytes) -> Upload:
    with uploads.alone(upload):
        piece = uploads.append(upload, offset)
        piece.write(data)
        return piece.finish(NOW)


def test_a_restart_goes_on_where_it_stood(tmp_path: Path) -> None:
    upload = begun(opened(tmp_path))
    for at, byte in enumerate(b"0123456789"):
        uploads = opened(tmp_path)  # another process each time
        found = uploads.find("w", upload.id, NOW)
        assert (found.offset, found.fields, found.sent) == (at, {"path": "a"}, "path YQ==")
        sent(uploads, found, at, bytes([byte]))
    whole = opened(tmp_path)
    content = whole.content(whole.find("w", upload.id, NOW), Objects(Disk(), str(tmp_path / ".git")), 100)
    assert content == b"0123456789"
    whole.complete(upload, "/there", NOW)
    assert os.listdir(tmp_path / "uploads") == [f"{upload.id}.json"]
    done = opened(tmp_path).find("w", upload.id, NOW)
    assert (done.resource, done.offset) == ("/there", 10)
    assert opened(tmp_path).unfinished == (0, 0)


def test_what_is_no_file_in_the_folder_stays_and_stops_no_start(tmp_path: Path) -> None:
    upload = begun(opened(tmp_path))
    for name in ("a folder", f"{'0' * 32}.json", f"{'1' * 32}.part"):
        (tmp_path / "uploads" / name).mkdir()
    (tmp_path / "uploads" / f"{'2' * 32}.json").symlink_to(tmp_path / "nowhere")
    assert opened(tmp_path).find("w", upload.id, NOW).offset == 0
    assert len(os.listdir(tmp_path / "uploads")) == 6


def test_what_came_after_the_last_sync_does_not_count(tmp_path: Path) -> None:
    upload = sent(first := opened(tmp_path), begun(first), 0, b"abc")
    with open(tmp_path / "uploads" / f"{upload.id}.part", "ab") as file:
        file.write(b"\0\0\0garbage of a power cut")
    uploads = opened(tmp_path)
    upload = sent(uploads, uploads.find("w", upload.id, NOW), 3, b"defghij")
    assert uploads.content(upload, Objects(Disk(), str(tmp_path / ".git")), 100) == b"abcdefghij"


@pytest.mark.parametrize("restarts", [False, True])
def test_many_pieces_become_one_object(tmp_path: Path, restarts: bool) -> None:
    (tmp_path / ".git").mkdir()
    objects = Objects(Disk(), str(tmp_path / ".git"))
    drawn = random.Random(7)
    data = drawn.randbytes(300_000)
    uploads = opened(tmp_path)
    upload = begun(uploads, len(data))
    while upload.offset < len(data):
        if restarts and drawn.random() < 0.3:
            uploads = opened(tmp_path)
        size = drawn.randrange(1, 40_000)
        if drawn.random() < 0.3:  # a piece that is taken back
            with uploads.alone(upload):
                piece = uploads.append(upload, upload.offset, hashlib.sha1())
                piece.write(b"x" * min(size, len(data) - upload.offset))
                piece.abort()
        upload = sent(uploads, upload, upload.offset, data[upload.offset : upload.offset + size])
    for _ in range(2):  # it can be asked for again, until it is noted that all is done
        pointer = uploads.content(upload, objects, 1000)
        assert pointer == Pointer(hashlib.sha256(data).hexdigest(), len(data))
    assert b"".join(objects.chunks(pointer)) == data
    uploads.complete(upload, "/there", NOW)
    assert b"".join(objects.chunks(pointer)) == data


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    uploads = opened(tmp_path)
    upload = begun(uploads)
    with uploads.alone(upload), pytest.raises(Locked):
        uploads.alone(upload).__enter__()
    with uploads.alone(upload), pytest.raises(Conflict):
        uploads.append(upload, 1)
    with uploads.alone(upload):
        piece = uploads.append(upload, 0)
        with pytest.raises(Conflict):
            piece.write(b"eleven bytes")
        piece.abort()
    assert uploads.find("w", upload.id, NOW).offset == 0
    with pytest.raises(NotFound):
        uploads.find("v", upload.id, NOW)
    with pytest.raises(RateLimited):
        begun(uploads, 1_000_000)
    begun(uploads)
    begun(uploads)
    with pytest.raises(RateLimited):
        begun(uploads)


def test_time_ends_them(tmp_path: Path) -> None:
    uploads = opened(tmp_path)
    upload, other = begun(uploads), begun(uploads)
    assert uploads.find("w", upload.id, NOW + 59_999)
    with pytest.raises(Gone):
        uploads.find("w", upload.id, NOW + 60_000)
    with uploads.alone(other):
        assert uploads.sweep(NOW + 60_000) == 1  # what is being sent stays
    assert uploads.sweep(NOW + 60_000) == 1
    assert os.listdir(tmp_path / "uploads") == []


def test_what_cannot_be_read_is_removed(tmp_path: Path) -> None:
    upload = begun(opened(tmp_path))
    folder = tmp_path / "uploads"
    (folder / f"{'0' * 32}.part").write_bytes(b"of nothing")
    (folder / f"{'1' * 32}.json").write_bytes(b"{")
    (folder / f"{upload.id}.json.new").write_bytes(b"half")
    uploads = opened(tmp_path)
    assert uploads.find("w", upload.id, NOW)
    assert sorted(os.listdir(folder)) == [f"{upload.id}.json", f"{upload.id}.part"]


class Full(Disk):
    """A disk with room for so many bytes."""

    room = 1 << 30

    def append(self, fd: int, path: str, data: bytes) -> None:
        if len(data) > self.room:
            super().append(fd, path, data[: self.room])
            raise OSError(28, "No space left on device", path)
        super().append(fd, path, data)


def test_a_full_disk_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    disk = Full()
    uploads = opened(tmp_path, disk)
    upload = sent(uploads, begun(uploads), 0, b"abc")
    disk.room = 2
    with uploads.alone(upload):
        piece = uploads.append(upload, 3)
        with pytest.raises(StorageFailed):
            piece.write(b"defg")
        piece.abort()
    disk.room = 100
    upload = sent(uploads, uploads.find("w", upload.id, NOW), 3, b"defghij")
    assert uploads.content(upload, Objects(disk, str(tmp_path / ".git")), 100) == b"abcdefghij"


def test_what_was_synced_on_the_way_stays_where_the_rest_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    objects = Objects(Disk(), str(tmp_path / ".git"))
    uploads = opened(tmp_path)
    upload = begun(uploads)
    with uploads.alone(upload):
        piece = uploads.append(upload, 0)
        piece.write(b"012")
        reached = piece.reached()
        piece.write(b"34")  # beside the sync
        piece.sync(reached, NOW)
        piece.write(b"wrong")
        piece.abort()
    assert uploads.find("w", upload.id, NOW).offset == 3
    upload = sent(uploads, upload, 3, b"3456789")
    assert uploads.content(upload, objects, 1) == Pointer(hashlib.sha256(b"0123456789").hexdigest(), 10)


@pytest.mark.parametrize("large", [1, 100])
def test_bytes_that_were_lost_are_never_made_up(tmp_path: Path, large: int) -> None:
    uploads = opened(tmp_path)
    (tmp_path / ".git").mkdir()
    objects = Objects(Disk(), str(tmp_path / ".git"))
    half, whole = sent(uploads, begun(uploads), 0, b"01234"), sent(uploads, begun(uploads), 0, b"0123456789")
    for one in (half, whole):
        os.truncate(tmp_path / "uploads" / f"{one.id}.part", 3)  # a file system that was repaired
    with pytest.raises(StorageFailed, match="lost"):
        sent(uploads, half, 5, b"56789")
    with pytest.raises(StorageFailed, match="lost"):
        uploads.content(whole, objects, large)
    assert list(objects.oids()) == []
