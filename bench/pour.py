"""Long histories and many files, brought by `git fast-import` into a workspace of a closed store."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

GIT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


class Pour:
    """What goes into one branch; the first commit follows the branch's newest, where there is one."""

    def __init__(self, root: Path, branch: str, stream: IO[bytes]) -> None:
        self._write = stream.write
        self._branch = branch.encode()
        known = subprocess.run(["git", "rev-parse", "-q", "--verify", f"refs/heads/{branch}"], cwd=root, env=GIT,
                               capture_output=True)  # fmt: skip
        self._from = b"from refs/heads/%s^0\n" % self._branch if known.returncode == 0 else b""

    def commit(self, when: int, subject: bytes) -> None:
        """Begins the next commit."""
        self._write(
            b"commit refs/heads/%s\ncommitter Ada <ada@example.org> %d +0000\ndata %d\n%s\n%s"
            % (self._branch, when, len(subject), subject, self._from)
        )
        self._from = b""

    def file(self, path: str, data: bytes) -> None:
        """A file of the commit."""
        self._write(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data))


@contextmanager
def poured(root: Path, branch: str) -> Iterator[Pour]:
    """Around what is brought in; the store then knows the branch as its own."""
    program = subprocess.Popen(["git", "fast-import", "--quiet"], cwd=root, env=GIT, stdin=subprocess.PIPE)
    assert program.stdin is not None
    yield Pour(root, branch, program.stdin)
    program.stdin.close()
    if program.wait():
        raise RuntimeError("git fast-import failed")
    subprocess.run(["git", "update-ref", f"refs/gitstore/{branch}", branch], cwd=root, env=GIT, check=True)
