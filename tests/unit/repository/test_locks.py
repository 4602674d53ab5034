"""A lock of ours never stays behind for good, and one of somebody's git is never touched."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gitstore.repository.disk import Disk
from gitstore.repository.locks import Lock, Locked


class Stuck(Disk):
    """A disk that neither renames nor removes while it is `stuck`."""

    stuck = False

    def rename(self, source: str, target: str) -> None:
        self._check(target)
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self._check(path)
        super().unlink(path)

    def _check(self, path: str) -> None:
        if self.stuck:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)


def write(disk: Disk, folder: Path, data: bytes) -> None:
    with Lock(disk, f"{folder}/scratch", f"{folder}/deep/file", data) as lock:
        lock.put()


def test_the_lock_becomes_the_file(tmp_path: Path) -> None:
    write(Disk(), tmp_path, b"one")
    write(Disk(), tmp_path, b"two")
    assert (tmp_path / "deep/file").read_bytes() == b"two"
    assert sorted(os.listdir(tmp_path)) == ["deep"]
    assert os.listdir(tmp_path / "deep") == ["file"]


def test_what_is_not_put_in_place_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Lock(Disk(), f"{tmp_path}/scratch", f"{tmp_path}/file", b"one"):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_a_lock_that_could_not_be_removed_goes_with_the_next_attempt(tmp_path: Path) -> None:
    disk = Stuck()
    write(disk, tmp_path, b"one")
    disk.stuck = True
    with pytest.raises(OSError, match="deep/file"):
        write(disk, tmp_path, b"two")
    assert (tmp_path / "deep/file.lock").exists()
    disk.stuck = False
    write(disk, tmp_path, b"three")
    assert (tmp_path / "deep/file").read_bytes() == b"three"
    assert os.listdir(tmp_path / "deep") == ["file"]


def test_scratch_that_cannot_be_removed_does_not_undo_the_file(tmp_path: Path) -> None:
    disk = Stuck()
    with Lock(disk, f"{tmp_path}/scratch", f"{tmp_path}/file", b"one") as lock:
        lock.put()
        disk.stuck = True
    assert (tmp_path / "file").read_bytes() == b"one"


def test_somebody_elses_lock_is_respected(tmp_path: Path) -> None:
    (tmp_path / "file.lock").write_bytes(b"theirs")
    for _ in range(2):
        with pytest.raises(Locked), Lock(Disk(), f"{tmp_path}/scratch", f"{tmp_path}/file", b"one"):
            raise AssertionError("the lock was taken")
    assert (tmp_path / "file.lock").read_bytes() == b"theirs"


def test_a_lock_that_took_the_place_of_ours_is_respected(tmp_path: Path) -> None:
    with Lock(Disk(), f"{tmp_path}/scratch", f"{tmp_path}/file", b"one"):
        (tmp_path / "file.lock").unlink()
        (tmp_path / "file.lock").write_bytes(b"theirs")
    assert (tmp_path / "file.lock").read_bytes() == b"theirs"
