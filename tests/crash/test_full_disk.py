"""A disk that is full, under a real server: what cannot be kept is refused and says so, nothing that was acknowledged
goes, and when there is room again everything works without a hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import started

from crash.doors import git
from crash.traffic import ABSENT, API, Client, Server

pytestmark = pytest.mark.crash
SIZE = 48 << 20
AT = f"{API}/workspaces/home"
TEXT = "content_type=text/plain"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def server(disk: Path, tmp_path: Path) -> Iterator[Server]:
    server = Server(disk / "data", tmp_path / "log")
    server.start()
    try:
        yield server
    finally:
        server.close()


def fill(disk: Path, left: int) -> None:
    """Leaves so many bytes."""
    with open(disk / "filler", "ab") as file:
        free = shutil.disk_usage(disk).free - left
        if free > 0:
            os.posix_fallocate(file.fileno(), file.tell(), free)


def remember(client: Client, key: str, value: object) -> int:
    return client.ask("PATCH", f"{AT}/memory", {"key": key, "value": value}).status


def remembered(client: Client, key: str, value: object) -> None:
    """What fits is kept, if not at once then when the journal has found that there is room."""
    until = time.monotonic() + 20
    while remember(client, key, value) != 200:
        assert time.monotonic() < until, "it does not recover"
        time.sleep(0.1)


def found(client: Client, word: str) -> list[str]:
    return [row["logical_path"] for row in client.pages(f"/workspaces/home/artifacts?q={word}")]


def test_uploads_and_writes_on_a_full_disk(server: Server, disk: Path) -> None:
    large = os.urandom(6 << 20)
    with server.client() as client:
        assert client.ask("POST", f"{API}/workspaces", {"name": "Home", "slug": "home"}).status == 201
        assert remember(client, "before", 1) == 200
        assert client.send(f"{AT}/artifacts?path=out/before.txt&{TEXT}", b"earlier words").status == 201
        fill(disk, 2 << 20)
        refused = client.send(f"{AT}/artifacts?path=out/large.bin", large)
        assert refused.status in (503, 507), refused.body
        assert b"no space" in refused.body.lower()
        assert found(client, "large") == []
        remembered(client, "beside", 2)
        fill(disk, 0)
        kept, number = {"before": 1, "beside": 2}, 0
        while number < 200:  # what has its place already may still take some
            number += 1
            status = remember(client, f"full-{number}", "x" * 2000)
            if status != 200:
                assert status in (503, 507)
                break
            kept[f"full-{number}"] = "x" * 2000  # type: ignore[assignment]
        assert number < 200, "the disk is never full"
        assert client.read("/workspaces/home")["memory"] == kept, "what was acknowledged is there, nothing else"
        (disk / "filler").unlink()
        remembered(client, "after", 3)
        kept["after"] = 3
        assert client.send(f"{AT}/artifacts?path=out/large.bin", large).status == 201
        assert client.send(f"{AT}/artifacts?path=out/later.txt&{TEXT}", b"later words").status == 201
        assert client.read("/workspaces/home")["memory"] == kept
        assert found(client, "words") == ["out/later.txt", "out/before.txt"]
        assert found(client, "large") == ["out/large.bin"]
    sound(server, disk)
    server.start()
    with server.client() as client:
        assert client.read("/workspaces/home")["memory"] == kept
        assert found(client, "words") == ["out/later.txt", "out/before.txt"]


def sound(server: Server, disk: Path) -> None:
    """Stops the server; git and `gitstore verify` find nothing wrong, and nothing half-written is left."""
    server.stop()
    done = started.run("verify", "--data", server.data)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = server.data / "workspaces/home"
    assert git(folder, "fsck", "--strict", "--full", "--no-dangling", "--no-progress") == ""
    assert git(folder, "status", "--porcelain") == ""
    incoming = server.data / "large/incoming"
    assert not incoming.exists() or not list(incoming.iterdir())


def test_a_kill_while_the_disk_is_full(server: Server, disk: Path) -> None:
    kept: dict[str, object] = {}
    with server.client() as client:
        assert client.ask("POST", f"{API}/workspaces", {"name": "Home", "slug": "home"}).status == 201
        fill(disk, 300_000)
        for number in range(200):
            value = f"{number} " * 400
            if remember(client, f"k{number}", value) != 200:
                break
            kept[f"k{number}"] = value
    server.kill()
    (disk / "filler").unlink()
    server.start()
    with server.client() as client:
        there = client.read("/workspaces/home")["memory"]
        assert {key: there.get(key, ABSENT) for key in kept} == kept
        assert set(there) - set(kept) <= {f"k{len(kept)}"}, "one write more may be in doubt"
        remembered(client, "after", 1)
    sound(server, disk)
