"""Runs every benchmark (or those named) and prints a table: what was measured, its reference, their ratio, the aim."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import bare, doors, pages, past, place, search, then
from bench.place import ROUNDS, SECONDS, Row, fdatasync, folder, git_loop, make_workspaces, patch, serving


def writes(name: str, workspaces: int, aim: str) -> Iterator[Row]:
    """PATCH memory, 32 connections, against `git add` + `git commit`."""
    with folder() as where:
        make_workspaces(where / "data", workspaces)
        requests = [patch(f"w{n % workspaces}", f"key-{n // workspaces % 200}", n) for n in range(200 * workspaces)]
        if workspaces > 1:
            requests = [patch(f"w{n % workspaces}", f"key-{n // workspaces % 20}", n) for n in range(20 * workspaces)]
        ratios, seen, cpus = [], [], []
        with serving(where / "data") as server:
            server.load(32, 1, requests)
            for _ in range(ROUNDS):
                reference = git_loop(where)
                before = server.cpu
                one = server.load(32, SECONDS, requests)
                cpus.append((server.cpu - before) / one["count"] * 1e3)
                ratios.append(one["rate"] / reference)
                seen.append((one["rate"], one["p50"], one["p99"], reference))
        rate, p50, p99, reference = (statistics.median(column) for column in zip(*seen, strict=True))
        yield (
            name,
            f"{rate:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {statistics.median(cpus):.2f} ms CPU each",
            f"git add + commit {reference:.0f}/s", f"{statistics.median(ratios):.1f} ×", aim,
        )  # fmt: skip


def many() -> Iterator[Row]:
    """Writes to many workspaces."""
    yield from writes("PATCH memory, 32 connections, 50 workspaces", 50, "≥ 10 ×")


def one() -> Iterator[Row]:
    """Writes to one workspace."""
    yield from writes("PATCH memory, 32 connections, 1 workspace", 1, "≥ 15 ×")


def single() -> Iterator[Row]:
    """One write at a time, against one sync."""
    with folder() as where:
        make_workspaces(where / "data", 1)
        requests = [patch("w0", f"key-{n % 20}", n) for n in range(1000)]
        seen = []
        with serving(where / "data") as server:
            server.load(1, 1, requests)
            for _ in range(ROUNDS):
                sync = fdatasync(where)
                seen.append((server.load(1, SECONDS, requests)["p50"], sync))
        p50, sync = (statistics.median(column) for column in zip(*seen, strict=True))
        limit = 3 * sync + 1.5
        yield (
            "one PATCH at a time", f"p50 {p50:.2f} ms", f"fdatasync {sync:.2f} ms", f"{p50 / limit:.2f} of the limit",
            f"≤ 3 × fdatasync + 1.5 ms = {limit:.2f} ms",
        )  # fmt: skip


def reads() -> Iterator[Row]:
    """GET of a workspace against a bare aiohttp handler with the same bytes."""
    with folder() as where:
        make_workspaces(where / "data", 1)
        requests = [("GET", "/api/v1/workspaces/w0", None)]
        ratios, seen = [], []
        with serving(where / "data") as server, bare.serving(server.port, place.KEY) as reference:
            for _ in range(ROUNDS):
                base = place.drive(reference, 32, SECONDS, requests)["rate"]
                rate = server.load(32, SECONDS, requests)["rate"]
                ratios.append(rate / base)
                seen.append((rate, base))
        rate, base = (statistics.median(column) for column in zip(*seen, strict=True))
        yield (
            "GET workspace, 32 connections", f"{rate:.0f}/s", f"bare aiohttp {base:.0f}/s",
            f"{statistics.median(ratios):.2f} ×", "≥ 0.6 ×",
        )  # fmt: skip


def lists() -> Iterator[Row]:
    """The list of 5,000 workspaces."""
    with folder() as where:
        make_workspaces(where / "data", 5000)
        requests = [("GET", f"/api/v1/workspaces?q=number+{n}&per_page=20", None) for n in range(50)]
        with serving(where / "data") as server:
            seen = [server.load(1, SECONDS, requests) for _ in range(ROUNDS)]
        p50 = statistics.median(round_["p50"] for round_ in seen)
        p99 = statistics.median(round_["p99"] for round_ in seen)
        yield (
            "GET list, 5,000 workspaces, 20 a page, q",
            f"p50 {p50:.2f} ms, p99 {p99:.2f} ms",
            "–",
            "–",
            "p50 ≤ 5 ms",
        )


def slowdown() -> Iterator[Row]:
    """PATCH memory in a workspace with 20,000 commits and 2,000 files, against an empty one."""
    with folder() as where:
        make_workspaces(where / "data", 2)
        place.grow(where / "data", "w1", 20_000, 2_000)
        ratios, seen = [], []
        with serving(where / "data") as server:
            for slug in ("w0", "w1"):
                server.load(32, 1, [patch(slug, f"key-{n % 50}", n) for n in range(500)])
            for _ in range(ROUNDS):
                rates = [
                    server.load(32, SECONDS, [patch(slug, f"key-{n % 50}", n) for n in range(500)])["rate"]
                    for slug in ("w0", "w1")
                ]
                ratios.append(rates[0] / rates[1])
                seen.append(rates)
        empty, full = (statistics.median(column) for column in zip(*seen, strict=True))
        yield (
            "PATCH memory at 20,000 commits and 2,000 files", f"{full:.0f}/s", f"empty workspace {empty:.0f}/s",
            f"{statistics.median(ratios):.2f} × slower", "≤ 2 ×",
        )  # fmt: skip


def start() -> Iterator[Row]:
    """Start with 2,000 workspaces."""
    with folder() as where:
        make_workspaces(where / "data", 2000)
        seen = []
        for _ in range(ROUNDS):
            with serving(where / "data") as server:
                time.sleep(0.2)
                seen.append((server.ready, server.resident))
            with folder() as other, serving(other / "data") as server:
                empty = server.ready
        ready, resident = (statistics.median(column) for column in zip(*seen, strict=True))
        yield (
            "start with 2,000 workspaces", f"{ready:.2f} s, {resident:.0f} MiB", f"empty store {empty:.2f} s", "–",
            "≤ 2 s, ≤ 150 MB",
        )  # fmt: skip


ALL: dict[str, Callable[[], Iterator[Row]]] = {
    "many": many, "one": one, "single": single, "reads": reads, "lists": lists, "slowdown": slowdown, "start": start,
    **doors.ALL, **past.ALL, **then.ALL, **pages.ALL, **search.ALL,
}  # fmt: skip


def main() -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=place.ROOT)
    print(f"commit {commit.stdout.strip()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {ROUNDS} rounds\n")
    print("| work | seen | reference | ratio | aim |\n|---|---|---|---|---|", flush=True)
    for name in sys.argv[1:] or ALL:
        for row in ALL[name]():
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    Path(place.ROOT / "build").mkdir(exist_ok=True)
    main()
