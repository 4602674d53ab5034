"""Where a benchmark runs: a data folder on the project's disk, a real server process, and the references."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gitstore import files, memory, workspaces
from gitstore.model import Actor, Provenance
from gitstore.store import Store

KEY = "bench-key-that-is-only-used-here"
WHO = Provenance(Actor("admin", "bench", "bench"))
ROOT = Path(__file__).resolve().parent.parent
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "5"))
Row = tuple[str, str, str, str, str]  # what was measured, what was seen, its reference, their ratio, the aim


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder on the disk the project is on: a disk in memory would make every sync free."""
    (ROOT / "build").mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "build"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """A server process; `ready` is how long it took to answer, `cpu` what it has used since, in seconds.

    Settings are given by name: `checkout_settle="0.2"`.
    """

    def __init__(self, data: Path, *arguments: str, **settings: str) -> None:
        self.port = free_port()
        given = {f"GITSTORE_{name.upper()}": value for name, value in settings.items()}
        environment = {**os.environ, "GITSTORE_ADMIN_KEY": KEY, **given}
        self.begun = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", "serve", "--data", str(data), "--port", str(self.port), *arguments],
            env=environment, stdout=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
                    link.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    if link.recv(15).startswith(b"HTTP/1.1 200"):
                        break
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError("the server ended") from None
            time.sleep(0.005)
        self.ready = time.perf_counter() - self.begun
        self._link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, path: str) -> bytes:
        """What a GET answers with, on a connection that is kept."""
        self._link.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
        answer = self._link.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"GET {path} is answered with {answer.status}: {body[:200]!r}")
        return body

    def figure(self, name: str) -> float:
        """One of the figures of /metrics."""
        lines = (line.split() for line in self.ask("/metrics").decode().splitlines())
        return next(float(words[1]) for words in lines if words and words[0] == f"gitstore_{name}")

    def lag(self) -> dict[float, float]:
        """How many looks at the event loop found it at most so many seconds late, since the start."""
        found = {}
        for text in self.ask("/metrics").decode().splitlines():
            if text.startswith("gitstore_loop_lag_seconds_bucket"):
                bound, count = text.partition('le="')[2].split('"} ')
                found[float(bound)] = float(count)
        return found

    def url(self, slug: str) -> str:
        """Where git finds a workspace."""
        return f"http://bench:{KEY}@127.0.0.1:{self.port}/git/{slug}.git"

    @property
    def cpu(self) -> float:
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident(self) -> float:
        """MiB of memory in use."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096 / 2**20

    def forget_peak(self) -> None:
        """From here on `peak` counts anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    @property
    def peak(self) -> float:
        """The most MiB of memory that were in use at a time."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024

    def load(self, connections: int, seconds: float, requests: list[tuple[str, str, Any]]) -> dict[str, float]:
        return drive(self.port, connections, seconds, requests)

    def stop(self) -> None:
        self._link.close()
        self.process.terminate()
        self.process.wait(30)


@contextmanager
def serving(data: Path, *arguments: str, **settings: str) -> Iterator[Server]:
    server = Server(data, *arguments, **settings)
    try:
        yield server
    finally:
        server.stop()


def drive(port: int, connections: int, seconds: float, requests: list[tuple[str, str, Any]]) -> dict[str, float]:
    lines = "\n".join(json.dumps(one) for one in requests)
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", str(port), str(connections), str(seconds), KEY],
        input=lines, capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    seen: dict[str, float] = json.loads(done.stdout)
    if seen["failed"]:
        raise RuntimeError(f"{seen['failed']} of {seen['count']} requests failed")
    return seen


def git_loop(where: Path, count: int = 100) -> float:
    """Commits a second of `git add` + `git commit`, one small YAML change each: the reference of every write."""
    path = where / "git-loop"
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    (path / "memory").mkdir()
    git = ["git", "-C", str(path), "-c", "user.name=b", "-c", "user.email=b@b"]
    start = time.perf_counter()
    for n in range(count):
        (path / f"memory/key-{n % 20}.yaml").write_text(f"owner: team\nn: {n}\n")
        subprocess.run([*git, "add", "memory"], check=True)
        subprocess.run([*git, "commit", "-qm", f"memory: set key-{n % 20}"], check=True)
    rate = count / (time.perf_counter() - start)
    shutil.rmtree(path)
    return rate


def fdatasync(where: Path, count: int = 200) -> float:
    """Median ms of appending 400 bytes to a file and syncing it."""
    fd = os.open(where / "sync", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        os.write(fd, b"x" * 400)
        os.fdatasync(fd)
        taken.append((time.perf_counter() - start) * 1e3)
    os.close(fd)
    return statistics.median(taken)


def patch(slug: str, key: str, n: int) -> tuple[str, str, Any]:
    """The small change all write benchmarks make."""
    return (
        "PATCH",
        f"/api/v1/workspaces/{slug}/memory",
        {
            "key": key,
            "value": {"owner": "platform-team", "n": n, "turn": "TURN", "note": "a short text of thirty bytes"},
        },
    )


def make_workspaces(data: Path, count: int, prefix: str = "w", *, keys: int = 0) -> None:
    """Workspaces with a little memory, and `keys` keys more, made through the library."""
    with Store.open(data) as store:
        pending = []
        for n in range(count):
            more = {f"key-{at}": {"owner": "team", "n": at} for at in range(keys)}
            wanted = {
                "name": f"Workspace {n}", "slug": f"{prefix}{n}", "description": f"number {n} of many",
                "memory": {"domain": "platform", "n": n, **more}, "settings": {"workspace_brief": "a brief"},
            }  # fmt: skip
            slug = f"{prefix}{n}"
            pending.append(store.create(slug, lambda draft, wanted=wanted: workspaces.create(draft, wanted), WHO))
            if len(pending) == 100:
                pending[-1].result()
                pending = []
        for one in pending:
            one.result()


def grow(data: Path, slug: str, commits: int, stored: int) -> None:
    """Gives a workspace many files and a long history, through the library."""
    with Store.open(data) as store:
        for at in range(0, stored, 10):
            uploads = [files.upload(file_name=f"note-{n}.md", content=b"# note %d\n" % n) for n in range(at, at + 10)]
            pending = store.apply(slug, "main", lambda draft, uploads=uploads: files.put(draft, uploads), WHO)
        for n in range(commits):
            pending = store.apply(slug, "main", lambda draft, n=n: memory.set(draft, {f"key-{n % 50}": {"n": n}}), WHO)
            if n % 500 == 0:
                pending.result()
        pending.result()
