"""`gitstore …` as a process of its own, forked from one that has loaded everything, which makes its start cheap.

What is started has an environment, a folder and streams of its own and ends as any process does. A test of the
interpreter's own start, or of the memory a server takes, starts it in the usual way.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT
ROOT = Path(__file__).parents[1]


class Started:
    """A running `gitstore`, with the part of `subprocess.Popen` that tests use; streams are text."""

    def __init__(
        self,
        words: list[str],
        *,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        mine: list[int] = []

        def stream(wanted: int | IO[bytes] | None, usual: int) -> tuple[int, IO[str] | None]:
            if wanted is None:
                return usual, None
            if wanted == DEVNULL:
                mine.append(os.open(os.devnull, os.O_RDWR))
                return mine[-1], None
            if wanted == PIPE:
                ours, theirs = os.pipe()
                mine.append(theirs)
                return theirs, os.fdopen(ours, encoding="utf-8")
            return wanted if isinstance(wanted, int) else wanted.fileno(), None

        out, self.stdout = stream(stdout, 1)
        err, self.stderr = (out, None) if stderr == STDOUT else stream(stderr, 2)
        self._link, theirs = socket.socketpair()
        about = json.dumps([words, dict(os.environ if env is None else env), str(cwd or Path.cwd())])
        with theirs:
            socket.send_fds(_nursery(), [about.encode()], [theirs.fileno(), out, err])
        for fd in mine:
            os.close(fd)
        self._said = self._link.makefile("r")
        self.pid = int(self._said.readline())

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.returncode is None and self._ended(0):
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not self._ended(timeout):
                raise subprocess.TimeoutExpired("gitstore", timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def _ended(self, timeout: float | None) -> bool:
        ready = select.poll()  # of any descriptor, however many are open
        ready.register(self._link, select.POLLIN)
        return bool(ready.poll(None if timeout is None else timeout * 1000))

    def _end(self) -> None:
        line = self._said.readline()
        assert line, "the process that started it has gone"
        self.returncode = int(line)
        self._said.close()
        self._link.close()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Everything it still says, once it has ended."""
        said = ["", ""]

        def read(at: int, stream: IO[str]) -> None:
            said[at] = stream.read()

        readers = [
            threading.Thread(target=read, args=(at, stream), daemon=True)
            for at, stream in enumerate((self.stdout, self.stderr))
            if stream is not None and not stream.closed
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        self.close()
        return said[0], said[1]

    def close(self) -> None:
        """Lets go of its streams."""
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.wait()


def run(*words: object, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 60) -> Any:
    """One command from its start to its end, as `subprocess.run(capture_output=True, text=True)` would tell it."""
    process = Started([str(word) for word in words], stdout=PIPE, stderr=PIPE, env=env, cwd=cwd)
    try:
        out, err = process.communicate(timeout)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(["gitstore", *map(str, words)], process.wait(), out, err)


_started: tuple[subprocess.Popen[bytes], socket.socket] | None = None


def _nursery() -> socket.socket:
    """Where to say what is to be started: a process that is made when first asked for, and ends with this one."""
    global _started
    if _started is None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], cwd=ROOT, pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        _started = process, ours
        atexit.register(_end_nursery)
    return _started[1]


def _end_nursery() -> None:
    if _started is not None:
        _started[1].close()
        _started[0].wait(10)


# -- the process that the others are forked from ----------------------------------------------------------------------


def _serve(control: socket.socket) -> tuple[list[str], dict[str, str], str] | None:
    """Starts what it is told to. Returns in each process that it started, with what that is to be, or at the end."""
    ready = select.poll()
    ready.register(control, select.POLLIN)
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for fd, _ in ready.poll():
            if fd != control.fileno():
                pid, link = running.pop(fd)
                ready.unregister(fd)
                os.close(fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with link:
                    _say(link, code)
                continue
            about, fds, _, _ = socket.recv_fds(control, 1 << 20, 3)
            if not about:
                return None
            pid = os.fork()
            if pid == 0:
                os.dup2(fds[1], 1)
                os.dup2(fds[2], 2)
                os.closerange(3, max(4096, *fds) + 1)
                words, environ, folder = json.loads(about)
                return words, environ, folder
            link = socket.socket(fileno=fds[0])
            for one in fds[1:]:
                os.close(one)
            _say(link, pid)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = pid, link
            ready.register(pidfd, select.POLLIN)


def _say(link: socket.socket, number: int) -> None:
    try:
        link.sendall(f"{number}\n".encode())
    except OSError:
        pass  # whoever asked has let go of it


def _nurse(control: socket.socket) -> None:
    from server import serve  # noqa: F401
    from server.cli import main

    gc.collect()
    gc.freeze()  # so that the collector of a child does not copy what they share
    wanted = _serve(control)
    if wanted is None:
        os._exit(0)
    control.detach()
    words, environ, folder = wanted
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    time.tzset()
    sys.argv = ["gitstore", *words]
    main(prog_name="gitstore")


if __name__ == "__main__":
    del sys.path[0]  # the folder of the tests
    _nurse(socket.socket(fileno=int(sys.argv[1])))
