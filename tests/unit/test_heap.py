"""Memory that was given back is the system's again, though what lies between it is still in use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from server import heap

PROGRAM = """
import random, threading
from server import heap
heap.settle()
def used():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
kept = []
def work(seed):
    chance = random.Random(seed)
    made = [bytes(chance.choice((600, 5_000, 20_000))) for _ in range(2_000)]
    kept.extend(made[::7])
for _ in range(4):
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for one in threads: one.start()
    for one in threads: one.join()
before = used()
heap.trim()
print(before, used(), sum(map(len, kept)) // 1024)
"""


@pytest.mark.skipif(heap._function("malloc_trim") is None, reason="needs glibc")
def test_what_was_given_back_is_the_systems_again() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=root, env={}, check=True, capture_output=True, text=True, timeout=60
    )
    before, after, kept = map(int, done.stdout.split())
    assert after < before - 10_000, done.stdout
    assert after < kept + 20_000, done.stdout


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_function", lambda _: None)
    heap.settle()
    heap.trim()
