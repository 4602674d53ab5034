"""The journal: what was promised is read back, what was not is not, whatever the disk does in between."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from gitstore.errors import StorageFailed
from gitstore.repository import journal
from gitstore.repository.disk import Disk
from gitstore.repository.journal import Entry, Journal, Record


class Failing(Disk):
    """A disk that is full while `full` is set, after letting some bytes through."""

    def __init__(self) -> None:
        self.full = False
        self.sync_fails = False

    def append(self, fd: int, path: str, data: bytes) -> None:
        if self.full:
            super().append(fd, path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().append(fd, path, data)

    def sync_data(self, fd: int, path: str) -> None:
        if self.sync_fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_data(fd, path)


class Writer:
    """Submits records and remembers what became of them."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self.groups: list[int] = []
        self.journal = Journal(disk, str(folder), lambda group: self._settled(group))
        self.done: list[str] = []
        self.failed: list[str] = []
        self.journal.start()

    def _settled(self, group: list[Entry]) -> None:
        self.groups.append(len(group))
        for entry in group:
            entry.done()

    def write(self, name: str) -> None:
        finished = threading.Event()

        def done() -> None:
            self.done.append(name)
            finished.set()

        def failed(error: BaseException) -> None:
            assert isinstance(error, StorageFailed)
            self.failed.append(name)
            finished.set()

        self.journal.submit(Entry(journal.encode(Record(name, "folder")), done, failed))
        assert finished.wait(10)


def names(folder: Path) -> list[str]:
    return [record.workspace for record in journal.read(str(folder))[0]]


def test_what_was_promised_is_read_back_in_order(tmp_path: Path) -> None:
    writer = Writer(Disk(), tmp_path)
    for n in range(20):
        writer.write(str(n))
    assert names(tmp_path) == [str(n) for n in range(20)]
    writer.journal.stop()
    assert names(tmp_path) == [str(n) for n in range(20)]
    assert journal.read(str(tmp_path))[1] is False


def test_many_writers_share_a_sync(tmp_path: Path) -> None:
    class Slow(Disk):
        def sync_data(self, fd: int, path: str) -> None:
            threading.Event().wait(0.01)
            super().sync_data(fd, path)

    writer = Writer(Slow(), tmp_path)
    threads = [threading.Thread(target=lambda n=n: [writer.write(f"{n}-{i}") for i in range(10)]) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.journal.stop()
    assert sorted(names(tmp_path)) == sorted(writer.done)
    assert len(writer.done) == 160
    assert len(writer.groups) < 80


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 30])
def test_a_torn_tail_is_no_record(tmp_path: Path, cut: int) -> None:
    writer = Writer(Disk(), tmp_path)
    for n in range(3):
        writer.write(str(n))
    writer.journal.stop()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert names(tmp_path)[:1] == ["0"]
    assert "2" not in names(tmp_path)
    file.write_bytes(whole[:-4] + b"\0\0\0\0")
    assert names(tmp_path) == ["0", "1"]


@pytest.mark.parametrize("kind", ["append", "sync"])
def test_what_was_refused_never_comes_back(tmp_path: Path, kind: str) -> None:
    disk = Failing()
    writer = Writer(disk, tmp_path)
    writer.write("before")
    disk.full, disk.sync_fails = kind == "append", kind == "sync"
    writer.write("refused")
    assert writer.failed == ["refused"]
    with pytest.raises(StorageFailed):
        writer.write("while full")
    disk.full = disk.sync_fails = False
    for _ in range(100):
        try:
            writer.write("after")
            break
        except StorageFailed:
            threading.Event().wait(0.02)
    assert writer.done == ["before", "after"]
    writer.journal.stop()
    assert names(tmp_path) == ["before", "after"]


def test_files_are_forgotten_oldest_first_and_only_when_published(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    entries: list[Entry] = []
    wrote = threading.Event()

    def settled(group: list[Entry]) -> None:
        entries.extend(group)
        wrote.set()

    book = Journal(Disk(), str(folder), settled)
    book.start()
    for n in range(4):
        wrote.clear()
        book.submit(Entry(journal.encode(Record("x" * 300, str(n))), lambda: None, lambda _: None))
        assert wrote.wait(10)
        book.rotate()
        for _ in range(500):
            if len(list(folder.iterdir())) == n + 2:
                break
            threading.Event().wait(0.01)
    book.published([entries[1].segment, entries[2].segment])
    assert book.checkpoint(str(tmp_path)) == 0  # the oldest file still holds a promise
    book.published([entries[0].segment])
    assert book.checkpoint(str(tmp_path)) == 3
    assert [record.folder for record in journal.read(str(folder))[0]] == ["3"]
    book.stop()


def test_a_stopped_journal_lets_nobody_in(tmp_path: Path) -> None:
    writer = Writer(Disk(), tmp_path)
    writer.write("one")
    writer.journal.stop()
    with pytest.raises(StorageFailed):
        writer.write("two")
    assert names(tmp_path) == ["one"]
