"""A live folder where the system says no: files that may not be read or written, and a disk that is full. Nothing is
lost, a problem says what is wrong, and it goes away with its cause.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitstore.errors import StorageFailed

from .living import API, Living, git, save, sound, until

NOBODY = 65534


def as_nobody(work: Callable[[Living, Path], None], other: Callable[[str, Path], None]) -> None:
    """Runs `work` in a process that has no more rights than anybody; `other` is what root does when it says a word."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as folder:
        _as_nobody(Path(folder), work, other)


def _as_nobody(folder: Path, work: Callable[[Living, Path], None], other: Callable[[str, Path], None]) -> None:
    warm = Living(folder / "warm").start()  # nobody may not even import what is not in memory yet
    warm.make()
    warm.set("k", 1)
    warm.stop()
    for encoding in ("ascii", "idna", "utf-8"):
        codecs.lookup(encoding)
    os.chown(folder, NOBODY, NOBODY)
    ask_read, ask_write = os.pipe()
    done_read, done_write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(ask_read)
            os.close(done_write)
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            living = Living(folder / "data").start()

            def say(word: str) -> None:
                os.write(ask_write, f"{word}\n".encode())
                assert os.read(done_read, 1) == b"."

            living.say = say  # type: ignore[attr-defined]
            work(living, living.make(policy=1, other=1))
            living.stop()
            code = 0
        except BaseException:  # noqa: BLE001  (the other process tells of it)
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(ask_write)
    os.close(done_read)
    try:
        with open(ask_read) as words:
            for word in words:
                other(word.strip(), folder / "data/workspaces/shop")
                os.write(done_write, b".")
    finally:
        os.close(done_write)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_files_that_may_not_be_read() -> None:
    def other(word: str, shop: Path) -> None:
        match word:
            case "lock":
                save(shop / "memory/secret.yaml", "1\n")
                save(shop / "memory/policy.yaml", "2\n")
                save(shop / "private/a.txt", "a\n")
                os.chmod(shop / "memory/secret.yaml", 0o600)
                os.chmod(shop / "memory/policy.yaml", 0o600)
                os.chmod(shop / "private", 0o700)
            case "open":
                os.chmod(shop / "memory/secret.yaml", 0o644)
                os.chmod(shop / "memory/policy.yaml", 0o644)
                os.chmod(shop / "private", 0o755)

    def work(living: Living, shop: Path) -> None:
        living.say("lock")  # type: ignore[attr-defined]
        until(lambda: len(living.problems()) == 3, what=living.problems)
        assert {one.path for one in living.problems()} == {"memory/policy.yaml", "memory/secret.yaml", "private"}
        assert {(one.kind, one.code) for one in living.problems()} == {("disk", "unreadable")}
        save(shop / "memory/other.yaml", "2\n")
        until(lambda: living.memory() == {"other": 2, "policy": 1})
        living.set("api", 1)
        living.set("policy", {"api": 1})
        living.say("open")  # type: ignore[attr-defined]
        until(lambda: living.memory().get("secret") == 1)
        told = until(lambda: [one for one in living.problems() if one.kind == "conflict"], what=living.problems)
        assert [one.values for one in told] == [{"file": 2, "main": {"api": 1}}]
        living.resolve(told[0], take="file")
        assert "private/a.txt" in living.files()
        until(lambda: not living.problems(), what=living.problems)
        living.rest()
        sound_as_owner(shop)

    as_nobody(work, other)


def test_a_folder_that_may_not_be_written() -> None:
    """The API goes on from the journal, and the folder follows when it may."""

    def other(word: str, shop: Path) -> None:
        owner = {"lock": 0, "open": NOBODY}[word]
        os.chown(shop / "memory", owner, owner)
        os.chmod(shop / "memory", 0o755)

    def work(living: Living, shop: Path) -> None:
        living.say("lock")  # type: ignore[attr-defined]
        living.set("policy", 2, publish=False)
        living.set("api", 3, publish=False)
        until(lambda: [one for one in living.problems() if one.kind == "disk"], what=living.problems)
        assert living.memory() == {"api": 3, "other": 1, "policy": 2}
        assert (shop / "memory/policy.yaml").read_text().endswith("1\n")
        living.say("open")  # type: ignore[attr-defined]
        until(lambda: (shop / "memory/api.yaml").exists() and not living.problems(), what=living.problems)
        living.rest()
        sound_as_owner(shop)

    as_nobody(work, other)


def sound_as_owner(shop: Path) -> None:
    assert git(shop, "status", "--porcelain") == ""
    assert git(shop, "fsck", "--strict", "--full", "--no-dangling") == ""


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, piece: int) -> None:
    """Writes until there is no room for a piece."""
    fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        with contextlib.suppress(OSError):
            while True:
                os.write(fd, b"x" * piece)
    finally:
        os.close(fd)


def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk:
        living = Living(disk / "data").start()
        try:
            shop = living.make(policy=1, other=1)
            fill(disk / "ballast", 65536)
            text = "days: 5   # saved on a full disk\n"
            mine = shop / "memory/mine.yaml"
            with contextlib.suppress(OSError):
                mine.write_text(text)
            os.truncate(disk / "ballast", os.path.getsize(disk / "ballast") - 4096)
            mine.write_text(text)
            fill(disk / "ballast", 512)
            told = until(lambda: [one for one in living.problems() if one.kind == "disk"], 30, what=living.problems)
            assert "space" in told[0].message.lower()
            assert told[0].hint
            assert mine.read_text() == text
            assert living.memory().items() >= {"other": 1, "policy": 1}.items()  # it is still answered
            with pytest.raises(Exception, match=r"(?i)space"):
                living.store.apply("shop", "main", lambda draft: draft.write("big", os.urandom(1 << 20)), API).result()
            os.unlink(disk / "ballast")
            until(lambda: living.memory().get("mine") == {"days": 5}, 30, what=living.problems)
            until(lambda: not living.problems(), 30, what=living.problems)
            assert mine.read_text() == text
            until(lambda: accepted(living), 30)
            living.rest()
            sound(shop)
        finally:
            living.stop()


def accepted(living: Living) -> bool:
    """Whether the journal, which failed a moment ago, takes writes again."""
    try:
        living.set("after", 1)
    except StorageFailed:
        return False
    return True


def test_a_file_over_the_limit(tmp_path: Path) -> None:
    living = Living(tmp_path / "data", file_limit=1000).start()
    try:
        shop = living.make()
        save(shop / "files/large.bin", b"x" * 1001)
        save(shop / "files/small.bin", b"x" * 1000)
        until(lambda: "files/small.bin" in living.files())
        until(lambda: living.codes() == {"files/large.bin": "too_large"}, what=living.problems)
        save(shop / "files/large.bin", b"x" * 999)
        until(lambda: "files/large.bin" in living.files())
        until(lambda: not living.problems())
    finally:
        living.stop()
