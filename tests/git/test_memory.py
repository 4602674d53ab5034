"""A server in a process of its own serves and takes fifty megabytes, and needs little memory for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.client import Client

from git.conftest import Clone, git

ROOT = Path(__file__).parents[2]
KEY = "bootstrap-admin-key-1"
MOST = 64 << 20


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


def resident(pid: int, field: str) -> int:
    """`VmRSS` or `VmHWM` (its highest) in bytes (proc(5))."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def test_fifty_megabytes_pass_through(process: tuple[int, int], tmp_path: Path) -> None:
    pid, port = process
    url = f"http://x:{KEY}@127.0.0.1:{port}/git/large.git"
    with Client(port, KEY) as admin:
        place = f"/workspaces/{admin.post('/workspaces', {'name': 'Large', 'slug': 'large'}).data['id']}"
        git(tmp_path, "clone", "-q", url, str(tmp_path / "first"))
        copy = Clone(tmp_path / "first", url)
        copy.commit("warm.md", "so that what is loaded once is loaded\n")
        assert copy.push().code == 0
        idle = resident(pid, "VmRSS")
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the highest mark begins anew
        for n in range(50):
            copy.write(f"noise/{n}.bin", os.urandom(1 << 20))
        head = copy.commit()
        done = copy.push()
        assert done.code == 0, done.text
        assert admin.get(place).data["head"] == head
        pushed = resident(pid, "VmHWM") - idle
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        git(tmp_path, "clone", "-q", url, str(tmp_path / "second"))
        cloned = resident(pid, "VmHWM") - idle
    assert git(tmp_path / "second", "rev-parse", "HEAD") == head
    assert pushed < MOST, f"a push needed {pushed >> 20} MiB"
    assert cloned < MOST, f"a clone needed {cloned >> 20} MiB"
