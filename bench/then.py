"""Reads of the past against the same reads of now: what lies in memory against that, and what was read from git for it
against a read of now that has to read from git as well, the first after a start.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bench.place import ROUNDS, SECONDS, WHO, Row, folder, grow, make_workspaces, serving
from gitstore import artifacts, files, spec
from gitstore.store import Store

COMMITS = int(os.environ.get("BENCH_COMMITS", "20000"))
STORED = 200
STARTS = 5
READS = {
    "workspace": "",
    "memory": "/memory",
    "one key": "/memory/key-7",
    "spec": "/spec",
    "files": "/files",
    "one file": "/files/note-7-md",
    "file content": "/files/note-7-md/content",
    "artifacts": "/artifacts",
}


def _fill(data: Path) -> list[str]:
    """A workspace with a long history, evidence, and a spec; commits of `main` all over it, oldest first."""
    make_workspaces(data, 1)
    with Store.open(data) as store:
        store.apply("w0", "main", lambda draft: spec.put(draft, {"tools": {"available": ["git"]}}), WHO).result()
        for n in range(500):
            new = artifacts.check(artifacts.New(f"reports/{n % 20}/report-{n}.md", b"# report %d\n" % n))
            pending = store.apply("w0", "evidence", lambda draft, new=new: artifacts.add(draft, new), WHO)
        pending.result()
    grow(data, "w0", COMMITS, STORED)
    with Store.open(data) as store:
        content = files.upload(file_name="note-7.md", content=b"# another\n")
        store.apply("w0", "main", lambda draft: files.put(draft, [content]), WHO).result()
    words = ["git", "-C", str(data / "workspaces/w0"), "rev-list", "--first-parent", "main"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.split()[::-1][STORED // 10 + 100 :]


def _first(data: Path, path: str) -> float:
    """Milliseconds of the first read of a workspace after a start."""
    with serving(data, checkout_watch="false") as server:
        server.ask("/readyz")  # a connection, and a server that has answered before
        start = time.perf_counter()
        server.ask(path)
        return (time.perf_counter() - start) * 1e3


def then() -> Iterator[Row]:
    """GET with `at` against GET without, one connection."""
    with folder() as where:
        commits = _fill(where / "data")
        chance, rows = random.Random(1), {}
        with serving(where / "data", checkout_watch="false") as server:
            for name, what in READS.items():
                path = f"/api/v1/workspaces/w0{what}"
                sep = "?at="
                once = [("GET", f"{path}{sep}{commits[len(commits) // 2]}", None)]
                seen: dict[str, list[float]] = {"now": [], "again": [], "anywhere": []}
                for _ in range(ROUNDS):
                    anywhere = [("GET", f"{path}{sep}{one}", None) for one in chance.sample(commits, 2_000)]
                    for kind, requests in (("now", [("GET", path, None)]), ("again", once), ("anywhere", anywhere)):
                        server.ask(requests[0][1])
                        seen[kind].append(server.load(1, SECONDS / 5, requests)["p50"])
                now, again, anywhere_ = (median(seen[kind]) for kind in ("now", "again", "anywhere"))
                rows[name] = now, again, anywhere_
        for name, (now, again, anywhere_) in rows.items():
            first = median(_first(where / "data", f"/api/v1/workspaces/w0{READS[name]}") for _ in range(STARTS))
            yield (
                f"GET {name} with `at`, {COMMITS} commits",
                f"p50 {again:.2f} ms asked again, {anywhere_:.2f} ms for the first time",
                f"without {now:.2f} ms asked again, {first:.2f} ms for the first time",
                f"{again / now:.2f} ×, {anywhere_ / now:.1f} ×; of the first {anywhere_ / first:.2f} ×", "≤ 3 ×",
            )  # fmt: skip


ALL: dict[str, Callable[[], Iterator[Row]]] = {"then": then}
