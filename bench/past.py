"""The benchmarks of history: a workspace of 100,000 commits, each answer beside the git command that gives it."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.place import ROOT, ROUNDS, WHO, Row, Server, folder, make_workspaces, serving
from bench.pour import GIT, poured
from gitstore import memory
from gitstore.store import Store

COMMITS = int(os.environ.get("BENCH_PAST", "100000"))
KEYS = 200
_DOCUMENT = 500  # commits between two changes of the large document
_SPEC = 200  # and between two versions of the spec
_APART = 5000
_WRITES = 5_000
_ASKED = 30  # requests in a round
_ONE = "/api/v1/workspaces/w0"


def _git(where: Path, *words: str) -> float:
    """Runs git; the milliseconds it took."""
    start = time.perf_counter()
    subprocess.run(["git", *words], cwd=where, env=GIT, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1e3


def _lengthen(root: Path, commits: int) -> None:
    """Gives a workspace of a closed store its history, as somebody's git would."""
    chance = random.Random(1)
    when = int(time.time()) - commits
    document = {n: f"{{owner: team {n}, limit: {n}}}" for n in range(KEYS)}
    with poured(root, "main") as into:
        for n in range(commits):
            into.commit(when + n, b"set a key")
            if n % _DOCUMENT == 0:
                document[chance.randrange(KEYS)] = f"{{owner: team {n}, limit: {n}}}"
                text = "".join(f"key-{at}: {value}\n" for at, value in document.items())
                into.file("memory/document.yaml", text.encode())
            if n % _SPEC == 1:
                into.file("spec/config.yaml", f"turn: {n}\n".encode())
            if n % _SPEC != 1 and n % _DOCUMENT:
                text = f"owner: team-{n % 7}\nn: {n}\nnote: {chance.getrandbits(60)}\n"
                into.file(f"memory/key-{n % KEYS}.yaml", text.encode())
    _git(root, "reset", "-q", "--hard", "main")


@contextmanager
def _long() -> Iterator[tuple[Path, Path]]:
    """A store with the long workspace, and the workspace's folder."""
    with folder() as where:
        data = where / "data"
        make_workspaces(data, 1)
        root = data / "workspaces/w0"
        _lengthen(root, COMMITS)
        shutil.rmtree(data / "derived")
        yield data, root


def _used(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that child processes take for something, and seconds of CPU that they use."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _reindex(data: Path) -> None:
    """Has a store whose derived data is gone make it again, and end."""
    shutil.rmtree(data / "derived", ignore_errors=True)
    program = "import sys, pathlib, gitstore.store as s; s.Store.open(pathlib.Path(sys.argv[1])).close()"
    subprocess.run([sys.executable, "-c", program, str(data)], check=True, cwd=ROOT)


def _asked(server: Server, paths: list[str]) -> float:
    """The median milliseconds of these requests, one at a time."""
    seen = []
    for path in paths:
        start = time.perf_counter()
        server.ask(path)
        seen.append((time.perf_counter() - start) * 1e3)
    return median(seen)


def past() -> Iterator[Row]:
    """Timeline, histories, versions, differences and blame, and the index that they come from."""
    with _long() as (data, root):
        rebuilt = [
            (*_used(lambda: _reindex(data)), *_used(lambda: _git(root, "log", "--name-status", "main")))
            for _ in range(ROUNDS)
        ]
        with serving(data, checkout_watch="false") as server:
            yield from _rows(server, root)
        yield _kept(data)
    ours, cpu, theirs, their_cpu = (median(column) for column in zip(*rebuilt, strict=True))
    yield (
        "a start that makes the index again", f"{ours:.1f} s, {cpu:.1f} s of CPU",
        f"git log --name-status: {theirs:.1f} s, {their_cpu:.1f} s of CPU",
        f"{ours / theirs:.2f} ×, {cpu / their_cpu:.2f} × (CPU)", "≤ 3 ×",
    )  # fmt: skip


def _rate(data: Path, *, indexed: bool) -> float:
    """Changes a second through the library, 32 waiting at a time, with the history index kept or left behind."""
    with Store.open(data) as store:
        store.load("w0")
        if not indexed:
            store.history.append = lambda batch: None  # type: ignore[method-assign]
        waiting: deque[Future[Any]] = deque()
        start = time.perf_counter()
        for n in range(_WRITES):
            value = {f"key-{n % KEYS}": {"n": n, "note": f"turn {n}"}}
            waiting.append(store.apply("w0", "main", lambda draft, value=value: memory.set(draft, value), WHO))
            if len(waiting) == 32:
                waiting.popleft().result()
        for one in waiting:
            one.result()
        return _WRITES / (time.perf_counter() - start)


def _kept(data: Path) -> Row:
    rates = [(_rate(data, indexed=True), _rate(data, indexed=False)) for _ in range(ROUNDS)]
    kept, left = (median(column) for column in zip(*rates, strict=True))
    return (
        "PATCH memory through the library, the index kept", f"{kept:.0f}/s", f"left behind: {left:.0f}/s",
        f"{1 - kept / left:.1%} less", "≤ 15 % less",
    )  # fmt: skip


def _rows(server: Server, root: Path) -> Iterator[Row]:
    chance = random.Random(2)
    versions = COMMITS // _SPEC

    def key() -> int:
        return chance.randrange(2, KEYS)

    works: list[tuple[str, Callable[[], str], tuple[str, ...], str]] = [
        ("timeline, a page of 20", lambda: f"{_ONE}/timeline", ("log", "-20", "main"), "p50 ≤ 5 ms, ≤ 1 ×"),
        (
            "timeline of one path", lambda: f"{_ONE}/timeline?path=memory/key-{key()}.yaml",
            ("log", "-20", "--name-status", "main", "--", "memory/key-7.yaml"), "p50 ≤ 10 ms, ≤ 0.2 ×",
        ),
        (
            "history of a path", lambda: f"{_ONE}/history?path=memory/key-{key()}.yaml",
            ("log", "--name-status", "main", "--", "memory/key-7.yaml"), "p50 ≤ 10 ms, ≤ 0.2 ×",
        ),
        (
            "history of a key", lambda: f"{_ONE}/memory/key-{key()}/history?page={chance.randrange(1, 9)}",
            ("log", "--name-status", "main", "--", "memory/key-7.yaml"), "p50 ≤ 10 ms, ≤ 0.2 ×",
        ),
        (
            "version N of the spec", lambda: f"{_ONE}/spec?version={chance.randrange(1, versions)}",
            ("log", "-1", "--skip=250", "-p", "main", "--", "spec"), "p50 ≤ 10 ms, ≤ 0.2 ×",
        ),
    ]  # fmt: skip
    for work, ask, words, aim in works:
        _asked(server, [ask() for _ in range(3)])
        seen = [(_asked(server, [ask() for _ in range(_ASKED)]), _git(root, *words)) for _ in range(ROUNDS)]
        yield _row(work, seen, f"git {' '.join(words[:1])}", aim)
    apart = [(f"main~{n + _APART}", f"main~{n}") for n in range(0, COMMITS - _APART - 1, max(COMMITS // 20, 1))]
    ids = [[_commit(root, name) for name in pair] for pair in apart]
    seen = [
        (_asked(server, [f"{_ONE}/diff?from={a}&to={b}"]), _git(root, "diff", "--name-status", a, b)) for a, b in ids
    ]
    yield _row(f"two commits {_APART} apart, what differs in 20 files", seen, "git diff --name-status", "–")
    names = [
        (_asked(server, [f"{_ONE}/diff?from={a}&to={b}&name_status=true&per_page=100"]), theirs)
        for (a, b), (_, theirs) in zip([[_commit(root, f"{one}~1") for one in pair] for pair in ids], seen, strict=True)
    ]
    yield _row(f"two commits {_APART} apart, which files differ", names, "git diff --name-status", "≤ 2 ×")
    again = [
        (_asked(server, [f"{_ONE}/diff?from={a}&to={b}"]), theirs)
        for (a, b), (_, theirs) in zip(ids, seen, strict=True)
    ]
    yield _row("the same again", again, "git diff --name-status", "≤ 2 ×")
    blame = f"{_ONE}/memory/document/blame"
    first = _asked(server, [blame])
    yield _row(
        f"blame of {KEYS} keys, {COMMITS // _DOCUMENT} versions, the first after the start",
        [(first, _git(root, "blame", "main", "--", "memory/document.yaml"))], "git blame", "p50 ≤ 50 ms",
    )  # fmt: skip
    moments = [_commit(root, f"main~{_DOCUMENT * n + 7}") for n in range(1, min(COMMITS // _DOCUMENT, 20))]
    _asked(server, [f"{blame}?at={one}" for one in moments[:1]])
    seen = [
        (_asked(server, [f"{blame}?at={one}"]), _git(root, "blame", one, "--", "memory/document.yaml"))
        for one in moments
    ]
    yield _row("blame at other moments", seen, "git blame", "p50 ≤ 50 ms")
    again = [(_asked(server, [blame] * _ASKED), _git(root, "blame", "main", "--", "memory/document.yaml"))]
    yield _row("blame of now again", again, "git blame", "p50 ≤ 50 ms")


def _commit(root: Path, name: str) -> str:
    done = subprocess.run(["git", "rev-parse", name], cwd=root, env=GIT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _row(work: str, seen: list[tuple[float, float]], reference: str, aim: str) -> Row:
    ours, theirs = (median(column) for column in zip(*seen, strict=True))
    return (work, f"p50 {ours:.2f} ms", f"{reference}: {theirs:.1f} ms", f"{ours / theirs:.3f} ×", aim)


ALL: dict[str, Callable[[], Iterator[Row]]] = {"past": past}
