"""A server in a process of its own serves and takes fifty megabytes, and needs little memory for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.client import Client

from git.conftest import Clone, git

ROOT = Path(__file__).parents[2]
KEY = "bootstrap-admin-key-1"
MOST = 32 << 20


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """(process id, port)."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "GITSTORE_ADMIN_KEY": KEY}
    command = [sys.executable, "-m", "server", "serve", "--data", str(tmp_path / "data"), "--port", "0"]
    with subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = ""
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", said)):
            text = child.stdout.readline()
            assert text, said
            said += text
        yield child.pid, int(found[1])
        child.terminate()
        child.wait(20)


class Watch:
    """The most memory that a process had of its own while the block ran, in bytes: `RssAnon`, looked at all the time.

    What is mapped of a pack is not counted: that is the system's cache of a file, and goes when it is needed.
    """

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.highest = 0

    def now(self) -> int:
        found = re.search(r"^RssAnon:\s+(\d+) kB", self._status.read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            self.highest = max(self.highest, self.now())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_fifty_megabytes_pass_through(process: tuple[int, int], tmp_path: Path) -> None:
    pid, port = process
    url = f"http://x:{KEY}@127.0.0.1:{port}/git/large.git"
    with Client(port, KEY) as admin:
        place = f"/workspaces/{admin.post('/workspaces', {'name': 'Large', 'slug': 'large'}).data['id']}"
        git(tmp_path, "clone", "-q", url, str(tmp_path / "first"))
        copy = Clone(tmp_path / "first", url)
        for name, value in (("core.compression", "0"), ("pack.window", "0")):  # noise is not made smaller by work
            copy.git("config", name, value)
        copy.commit("warm.md", "so that what is loaded once is loaded\n")
        assert copy.push().code == 0
        idle = Watch(pid).now()
        for n in range(50):
            copy.write(f"noise/{n}.bin", os.urandom(1 << 20))
        head = copy.commit()
        with Watch(pid) as pushing:
            done = copy.push()
        assert done.code == 0, done.text
        assert admin.get(place).data["head"] == head
        with Watch(pid) as cloning:
            git(tmp_path, "clone", "-q", url, str(tmp_path / "second"))
    assert git(tmp_path / "second", "rev-parse", "HEAD") == head
    for what, watch in (("push", pushing), ("clone", cloning)):
        assert watch.highest, "nobody looked"
        assert watch.highest - idle < MOST, f"a {what} needed {watch.highest - idle >> 20} MiB"
