"""In which order and where the tests are run, and what the processes find that they start."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections import deque
from pathlib import Path

import pytest
import started
from hypothesis import HealthCheck, settings

import gitstore.search.client

# Hundreds of processes are started: what Python has compiled once it keeps, whatever this machine is set up for.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Tests write some hundred thousand files, and sync them. Where there is room they do so in memory; those of crashes,
# which are about the disk, have one (tests/crash/conftest.py).
MEMORY, ROOM = Path("/dev/shm"), 4 << 30
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
# Most tests have a search process, half of whose work would be its imports.
gitstore.search.client.begin = started.searching

# Where a test does not say how many examples it takes; `--hypothesis-profile default` takes twice as many.
# How long it takes to draw them is a matter of what else the machine does.
settings.register_profile("suite", settings(), max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Those that take longest, in this order: a process that got one of them last would be waited for.
LONG = (
    "crash/test_soak", "crash/test_kill", "crash/test_doors", "test_checks", "crash/test_powercut", "git/test_memory",
    "crash/", "web/", "cli/",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each process gets an equal row of the tests (pytest-xdist, `worksteal`): the long ones are dealt out to the
    beginnings of some of the rows, for they keep a processor busy, and the others wait for the disk or a clock. Those
    keep their order, so that a module's server is started once.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    busy = max(1, count * 3 // 5)
    dealt: list[list[pytest.Item]] = [[] for _ in range(count)]
    ranked = sorted(((_rank(item), number, item) for number, item in enumerate(items)), key=lambda one: one[:2])
    for at, (_, _, item) in enumerate(one for one in ranked if one[0] < len(LONG)):
        dealt[1 % busy if item.nodeid.startswith("tests/web/") else at % busy].append(item)  # one browser is enough
    rest = deque(item for rank, _, item in ranked if rank == len(LONG))
    left = len(items)
    for number, row in enumerate(dealt):
        size = left // (count - number)
        left -= size
        while len(row) < size and rest:
            row.append(rest.popleft())
    items[:] = [item for row in dealt for item in row] + list(rest)


def pytest_collection_finish() -> None:
    """Thousands of tests and all that they need stay until the end: nobody need look for garbage among them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)  # nor so often among what a test makes


def _rank(item: pytest.Item) -> int:
    place = item.nodeid.removeprefix("tests/")
    return next((rank for rank, start in enumerate(LONG) if place.startswith(start)), len(LONG))
