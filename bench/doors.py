"""The benchmarks of the other doors: a folder that is edited, clone and push, many folders that are watched."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench import backend
from bench.place import KEY, ROUNDS, SECONDS, Row, Server, folder, make_workspaces, patch, serving

KEYS = 15  # beside the rest of a new workspace, these make 28 files
WATCHED = int(os.environ.get("BENCH_WATCHED", "2000"))
COMMITS = int(os.environ.get("BENCH_COMMITS", "20000"))
SIZE = 48 << 20
_GIT = {
    **os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
}  # fmt: skip


def _git(where: Path, *words: str) -> float:
    """Runs git; the seconds it took."""
    start = time.perf_counter()
    subprocess.run(["git", *words], cwd=where, env=_GIT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.perf_counter() - start


# -- the folder -------------------------------------------------------------------------------------------------------


def _save(server: Server, root: Path, key: str) -> float:
    """Saves a file as an editor does, and asks until the API has it; the seconds from the save to the answer."""
    token = f"token-{random.getrandbits(60):x}"
    with open(root / f"memory/{key}.yaml", "w") as file:
        file.write(f"# by hand\nowner: {token}\n")
    saved, wanted = time.perf_counter(), token.encode()
    while wanted not in server.ask(f"/api/v1/workspaces/{root.name}"):
        if time.perf_counter() - saved > 30:
            raise RuntimeError(f"an edit in {root} was not taken in")
        time.sleep(0.002)
    return time.perf_counter() - saved


def saves() -> Iterator[Row]:
    """From the save of a file to its being in the API."""
    for settle, count in ((1.0, 4 * ROUNDS), (0.2, 10 * ROUNDS)):
        with folder() as where:
            make_workspaces(where / "data", 1, keys=KEYS)
            root = where / "data/workspaces/w0"
            with serving(where / "data", checkout_settle=str(settle)) as server:
                time.sleep(1)
                seen = []
                for n in range(count):
                    time.sleep(random.random() / 4)  # so that no step of the server's clock is met each time
                    seen.append(_save(server, root, f"key-{n % KEYS}") * 1e3 - settle * 1e3)
            yield (
                f"save → in the API, settle time {settle:g} s",
                f"p50 {median(seen):.0f} ms, most {max(seen):.0f} ms after the settle time",
                "settle time", "–", "p50 ≤ 100 ms after it",
            )  # fmt: skip


def checkout() -> Iterator[Row]:
    """API writes to a workspace whose folder is live, and to one where nothing is checked out or nobody watches."""
    seen: dict[str, list[tuple[float, float, float]]] = {}
    with folder() as where, ExitStack() as stack:
        servers = {}
        for name, watch in (("watched", "true"), ("unwatched", "false")):
            make_workspaces(where / name, 2, keys=KEYS)
            _git(where / name / "workspaces/w1", "checkout", "-q", "-b", "mine")
            servers[name] = stack.enter_context(serving(where / name, checkout_watch=watch))
        runs = [(f"{name} {slug}", servers[name], slug) for name in servers for slug in ("w0", "w1")]
        for _, server, slug in runs:
            server.load(32, 1, [patch(slug, f"key-{n}", n) for n in range(KEYS)])
        for turn in range(2 * ROUNDS):
            for name, server, slug in runs if turn % 2 else reversed(runs):
                requests = [patch(slug, f"key-{n}", n) for n in range(KEYS)]
                before = server.cpu
                many = server.load(32, SECONDS / 4, requests)
                cpu = (server.cpu - before) / many["count"] * 1e3
                one = server.load(1, SECONDS / 4, requests)
                seen.setdefault(name, []).append((many["rate"], one["p50"], cpu))
    for work, with_, without, reference, aim in (
        ("PATCH with a live checkout of 28 files", "watched w0", "watched w1", "HEAD on another branch", "≤ 1.6 ×"),
        ("the same, nobody watching either", "unwatched w0", "unwatched w1", "HEAD on another branch", "≤ 1.6 ×"),
        ("PATCH with a live checkout, watched", "watched w0", "unwatched w0", "checkout_watch = false", "≤ 1.05 ×"),
    ):
        rate, p50, cpu = (median(column) for column in zip(*seen[with_], strict=True))
        rate_, p50_, cpu_ = (median(column) for column in zip(*seen[without], strict=True))
        pairs = list(zip(seen[with_], seen[without], strict=True))
        ratios = [
            median(other[0] / one[0] for one, other in pairs),
            median(one[1] / other[1] for one, other in pairs),
            median(one[2] / other[2] for one, other in pairs),
        ]
        yield (
            work, f"{rate:.0f}/s, p50 at one {p50:.2f} ms, {cpu:.2f} ms CPU each",
            f"{reference}: {rate_:.0f}/s, {p50_:.2f} ms, {cpu_:.2f} ms",
            "{:.2f} × (rate), {:.2f} × (p50 at one), {:.2f} × (CPU)".format(*ratios), aim,
        )  # fmt: skip


# -- git --------------------------------------------------------------------------------------------------------------


def _lengthen(data: Path, slug: str, commits: int, size: int) -> None:
    """Gives a workspace of a closed store a long history and large files, as somebody's git would."""
    root = data / "workspaces" / slug
    chance = random.Random(1)
    program = subprocess.Popen(["git", "fast-import", "--quiet"], cwd=root, env=_GIT, stdin=subprocess.PIPE)
    assert program.stdin is not None
    write, when = program.stdin.write, int(time.time())

    def blob(path: str, content: bytes) -> None:
        write(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content))

    for n in range(commits):
        write(b"commit refs/heads/main\ncommitter Ada <ada@example.org> %d +0000\ndata 9\nset a key\n" % when)
        if n == 0:
            write(b"from refs/heads/main^0\n")
            for part in range(size >> 19):
                blob(f"files/part-{part}.bin", chance.randbytes(1 << 19))
        else:
            text = f"owner: team-{n % 7}\nn: {n}\nnote: {chance.getrandbits(60)}\n"
            blob(f"memory/key-{n % 50}.yaml", text.encode())
    program.stdin.close()
    if program.wait():
        raise RuntimeError("git fast-import failed")
    _git(root, "reset", "-q", "--hard", "main")
    _git(root, "update-ref", "refs/gitstore/main", "main")


def _hosted(where: Path, data: Path, slug: str) -> None:
    """Two bare repositories with what a workspace has, which check what is pushed, or do not."""
    for name, check in (("checked", "true"), ("unchecked", "false")):
        source = f"file://{data}/workspaces/{slug}"
        _git(where, "clone", "-q", "--bare", "--single-branch", "-b", "main", source, f"hosted/{name}.git")
        _git(where / f"hosted/{name}.git", "config", "receive.fsckObjects", check)


def _pushes(where: Path, urls: dict[str, str], count: int) -> dict[str, list[float]]:
    """Seconds that a push of one commit takes, in turns."""
    seen: dict[str, list[float]] = {name: [] for name in urls}
    for name, url in urls.items():
        _git(where, "clone", "-q", url, f"clone-{name}")
    for turn in range(count + 1):
        for name in list(urls) if turn % 2 else reversed(list(urls)):
            clone = where / f"clone-{name}"
            (clone / "memory/key-3.yaml").write_text(f"owner: turn-{turn}\n")
            _git(clone, "commit", "-qam", "another owner")
            taken = _git(clone, "push", "-q", "origin", "main")
            if turn:
                seen[name].append(taken * 1e3)
    for name in urls:
        shutil.rmtree(where / f"clone-{name}")
    return seen


def _pushed(work: str, seen: dict[str, list[float]]) -> Iterator[Row]:
    for name in ("checked", "unchecked"):
        ratio = median(one / other for one, other in zip(seen["store"], seen[name], strict=True))
        yield (
            work, f"p50 {median(seen['store']):.0f} ms",
            f"git http-backend, fsckObjects {'on' if name == 'checked' else 'off'}: {median(seen[name]):.0f} ms",
            f"{ratio:.2f} ×", "≤ 1.5 ×",
        )  # fmt: skip


def push() -> Iterator[Row]:
    """A push of one commit to a workspace of 28 files."""
    with folder() as where:
        make_workspaces(where / "data", 1, keys=KEYS)
        _hosted(where, where / "data", "w0")
        with serving(where / "data") as server, backend.serving(where / "hosted") as port:
            seen = _pushes(where, _urls(server, port), 8 * ROUNDS)
        yield from _pushed("push of one commit", seen)


def clone() -> Iterator[Row]:
    """A clone of a workspace with a long history and large files, and pushes to it."""
    with folder() as where:
        make_workspaces(where / "data", 1, keys=KEYS)
        _lengthen(where / "data", "w0", COMMITS, SIZE)
        with serving(where / "data") as server:  # which takes in what it finds
            server.load(8, 1, [patch("w0", f"key-{n}", n) for n in range(KEYS)])  # so that its packs are as in life
        _hosted(where, where / "data", "w0")
        seen = []
        with serving(where / "data") as server, backend.serving(where / "hosted") as port:
            urls = _urls(server, port)
            while not server.figure("checkout_rounds"):
                time.sleep(0.1)
            idle, most = server.resident, 0.0
            for turn in range(ROUNDS + 1):
                taken = {}
                for name in ("store", "checked") if turn % 2 else ("checked", "store"):
                    server.forget_peak()
                    taken[name] = _git(where, "clone", "-q", "--no-checkout", urls[name], "clone")
                    if name == "store":
                        most = max(most, server.peak)
                    shutil.rmtree(where / "clone")
                if turn:  # the first one finds nothing in the system's cache
                    seen.append((taken["store"], taken["checked"]))
            ours, plain = (median(column) for column in zip(*seen, strict=True))
            yield (
                f"clone of {COMMITS:,} commits, {SIZE >> 20} MiB of files", f"{ours:.2f} s",
                f"git http-backend {plain:.2f} s", f"{median(one / other for one, other in seen):.2f} ×", "≤ 1.3 ×",
            )  # fmt: skip
            yield (
                "the same: memory of the server at its most", f"{most:.0f} MiB", f"idle {idle:.0f} MiB",
                f"{most - idle:+.1f} MiB", "≤ 64 MB above idle",
            )  # fmt: skip
            yield from _pushed("push of one commit to it", _pushes(where, urls, 4 * ROUNDS))


def _urls(server: Server, port: int) -> dict[str, str]:
    plain = f"http://bench:{KEY}@127.0.0.1:{port}"
    return {"store": server.url("w0"), "checked": f"{plain}/checked.git", "unchecked": f"{plain}/unchecked.git"}


# -- many folders -----------------------------------------------------------------------------------------------------


def watched() -> Iterator[Row]:
    """A server that watches many workspaces, and one that does not."""
    with folder() as where:
        data = where / "data"
        make_workspaces(data, WATCHED, keys=KEYS)
        folders = 1 + 7 * WATCHED  # each, its .git, refs, heads, memory, .gitstore, schemas
        ready, started, empty, more, idle, rounds, waits = [], [], [], [], [], [], []
        for turn in range(ROUNDS):
            resident = {}
            for watch in ("true", "false"):
                with serving(data, checkout_watch=watch, checkout_sweep="3600") as server:
                    if watch == "true":
                        while server.figure("watched_folders") < folders:
                            time.sleep(0.02)
                        ready.append(server.ready)
                        started.append(time.perf_counter() - server.begun)
                    before = server.cpu
                    while not server.figure("checkout_rounds"):
                        time.sleep(0.2)
                    rounds.append(server.cpu - before)
                    time.sleep(2)
                    resident[watch] = server.resident
                    if watch == "true":
                        waits += [_save(server, data / f"workspaces/w{WATCHED - 1 - n}", "key-1") for n in range(3)]
                    if turn == 0 and watch == "true":
                        time.sleep(2)
                        before = server.cpu
                        time.sleep(30)
                        idle.append((server.cpu - before) / 30 * 100)
            more.append(resident["true"] - resident["false"])
            with folder() as other, serving(other / "data") as server:
                empty.append(server.ready)
        count = f"{WATCHED:,} watched workspaces of 28 files"
        yield (
            f"start with {count}", f"ready after {median(ready):.2f} s, all watched after {median(started):.2f} s",
            f"empty store {median(empty):.2f} s", "–", "≤ 2 s",
        )  # fmt: skip
        yield (
            f"memory, {count}", f"{resident['true']:.0f} MiB", f"unwatched {resident['false']:.0f} MiB",
            f"{median(more):+.1f} MiB", "≤ 60 MB more",
        )  # fmt: skip
        yield (
            f"CPU, {count}", f"idle {idle[0]:.1f} %, one round over all {median(rounds):.1f} s of CPU",
            "–", "–", "–",
        )  # fmt: skip
        yield (
            f"save in one of {count}", f"p50 {median(waits) * 1e3 - 1000:.0f} ms after the settle time",
            "settle time 1 s", "–", "≤ 100 ms after it",
        )  # fmt: skip


ALL: dict[str, Callable[[], Iterator[Row]]] = {
    "saves": saves, "checkout": checkout, "push": push, "clone": clone, "watched": watched,
}  # fmt: skip
