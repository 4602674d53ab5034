"""What is kept in memory: bounded, told, and no heavier than it says."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable

import pytest

from gitstore import documents, parsed
from gitstore.bounded import Bounded, held
from gitstore.repository.database import TreeCache
from gitstore.repository.objects import Oid
from gitstore.repository.trees import Tree

MIB = 1 << 20


def test_the_oldest_go_first() -> None:
    kept: Bounded[str, object] = Bounded("test", 100)
    for number in range(10):
        kept.put(str(number), number, 30)
        kept.put(str(number), "again", 30)
    assert [kept.get(str(number)) for number in range(10)] == [None] * 7 + [7, 8, 9]
    kept.put("big", "big", 1000)
    assert kept.get("big") == "big"
    assert kept.get("9") is None
    assert held()["test"] == 1000
    kept.clear()
    assert held()["test"] == 0
    kept.put("a", 1, 100)
    assert kept.get("a") == 1


def test_several_of_a_name_are_told_together_and_those_that_are_gone_no_more() -> None:
    one: Bounded[int, int] = Bounded("twins", 100)
    other: Bounded[int, int] = Bounded("twins", 100)
    one.put(1, 1, 10)
    other.put(1, 1, 20)
    assert held()["twins"] == 30
    del other
    gc.collect()
    assert held()["twins"] == 10


def _trees(names: int) -> Callable[[], object]:
    chance = random.Random(1)

    def fill() -> object:
        kept = TreeCache(2 * MIB)
        for _ in range(2 * MIB // (names * 40)):
            data = b"".join(b"100644 key-%04d.yaml\0" % at + chance.randbytes(20) for at in range(names))
            kept.put(Oid(chance.randbytes(20)), Tree.parse(data))
        return kept

    return fill


def _documents() -> object:
    for number in range(2 * MIB // 700):
        data = documents.dump({"number": number, "text": "x" * (number % 200)})
        parsed.parse(f"{number:040x}", data, "a.yaml")
    return None


@pytest.mark.parametrize("fill", [_trees(5), _trees(60), _trees(1000), _documents], ids=["5", "60", "1000", "yaml"])
def test_what_is_counted_is_what_it_takes(fill: Callable[[], object]) -> None:
    parsed.forget()
    gc.collect()
    before = sum(held().values())
    tracemalloc.start()
    try:
        kept = fill()
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    counted = sum(held().values()) - before
    assert counted > MIB
    assert 0.6 * counted < taken < 1.3 * counted, (taken, counted)
    del kept
    parsed.forget()
