"""`gitstore …` and search processes, forked from processes that have loaded everything, which makes their start cheap.

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


class Forked:
    """A process that a nursery was told to start, with the part of `subprocess.Popen` that the product uses."""

    def __init__(self, nursery: socket.socket, about: Any, fds: list[int]) -> None:
        self.returncode: int | None = None
        self._link, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(nursery, [json.dumps(about).encode()], [theirs.fileno(), *fds])
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


class Started(Forked):
    """A running `gitstore`; streams are text."""

    def __init__(
        self,
        words: list[str],
        *,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
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
        about = words, dict(os.environ if env is None else env), str(cwd or Path.cwd())
        super().__init__(_nursery("gitstore"), about, [out, err])
        for fd in mine:
            os.close(fd)

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


def searching(descriptor: int, options: str) -> Any:
    """The search process of a store, in the place of `gitstore.search.client.begin`."""
    return Forked(_nursery("searching"), options, [1, 2, descriptor])


_nurseries: dict[str, socket.socket] = {}
_processes: list[subprocess.Popen[bytes]] = []


def _nursery(kind: str) -> socket.socket:
    """Where to say what is to be started: a process that is made when first asked for, and ends with this one."""
    if kind not in _nurseries:
        # What is forked as a `gitstore` has its own search process forked as well.
        more = [_nursery("searching").fileno()] if kind == "gitstore" else []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            given = [theirs.fileno(), *more]
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", __file__, kind, *map(str, given)], cwd=ROOT, pass_fds=given,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
        if not _processes:
            atexit.register(_end)
        _processes.append(process)
        _nurseries[kind] = ours
    return _nurseries[kind]


def _end() -> None:
    while _nurseries:  # the search processes end with their stores
        _nurseries.popitem()[1].close()
        _processes.pop().wait(10)


# -- the processes that the others are forked from --------------------------------------------------------------------


def _serve(control: socket.socket, keep: int | None) -> Any:
    """Starts what it is told to. Returns in each process that it started, with what that is to be, or at the end.

    What is started has its streams, and as descriptor 3 that which came with them, or the one to `keep`.
    """
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
            about, fds, _, _ = socket.recv_fds(control, 1 << 20, 4)
            if not about:
                return None
            pid = os.fork()
            if pid == 0:
                for _, other in running.values():
                    other.detach()  # its descriptor is closed, or another's, from here on
                mine = [os.dup(one) for one in (fds[1], fds[2], *fds[3:], *([keep] if keep is not None else []))]
                for place, one in enumerate(mine, 1):
                    os.dup2(one, place)
                os.closerange(len(mine) + 1, max(4096, *mine) + 1)
                return json.loads(about)
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


def _nurse(control: socket.socket, search: int) -> None:
    import gitstore.search.client
    from server import serve  # noqa: F401
    from server.cli import main

    gitstore.search.client.begin = searching
    gc.collect()
    gc.freeze()  # so that the collector of a child does not copy what they share
    wanted = _serve(control, search)
    if wanted is None:
        os._exit(0)
    control.detach()
    words, environ, folder = wanted
    _nurseries["searching"] = socket.socket(fileno=3)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    time.tzset()
    sys.argv = ["gitstore", *words]
    main(prog_name="gitstore")


def _nurse_search(control: socket.socket) -> None:
    from gitstore.searching import main

    gc.collect()
    gc.freeze()
    options = _serve(control, None)
    if options is None:
        os._exit(0)
    control.detach()
    os.setsid()
    main(3, options)


if __name__ == "__main__":
    del sys.path[0]  # the folder of the tests
    kind, fd, *more = sys.argv[1:]
    where = socket.socket(fileno=int(fd))
    if kind == "gitstore":
        _nurse(where, int(more[0]))
    _nurse_search(where)
