"""When a folder is looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gitstore.errors import Unavailable
from gitstore.settling import Settling

Looks = list[tuple[str, "set[str] | None"]]


@contextmanager
def settling(
    look: Callable[[str, Collection[str] | None], float | None],
    folders: Callable[[], list[str]] = list,
    suspect: Callable[[str], bool] = lambda _: True,
    settle: float = 0.05,
    sweep: float = 3600.0,
) -> Iterator[Settling]:
    made = Settling(look, folders, suspect, settle=settle, sweep=sweep)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def until(ready: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_happens_within_a_settle_time_is_one_look() -> None:
    looks: Looks = []
    with settling(lambda folder, only: looks.append((folder, set(only) if only else None))) as made:
        made.touched("a", "x")
        made.touched("a", "y")
        made.touched("b")
        made.touched("b", "z")
        until(lambda: len(looks) == 2)
    assert sorted(looks) == [("a", {"x", "y"}), ("b", None)]


def test_a_folder_that_never_rests_is_looked_at_all_the_same() -> None:
    looks: Looks = []
    with settling(lambda folder, only: looks.append((folder, set(only or ())))) as made:
        end = time.monotonic() + 5
        while len(looks) < 3:
            assert time.monotonic() < end
            made.touched("a", "x")
            time.sleep(0.005)


def test_a_look_that_wants_another_gets_it_with_its_paths() -> None:
    looks: Looks = []

    def look(folder: str, only: Collection[str] | None) -> float | None:
        looks.append((folder, set(only) if only is not None else None))
        return 0.01 if len(looks) < 3 else None

    with settling(look) as made:
        made.touched("a", "x")
        until(lambda: len(looks) == 3)
    assert looks == [("a", {"x"})] * 3


def test_what_is_touched_does_not_wait_for_a_look_that_was_put_off() -> None:
    looks: Looks = []

    def look(folder: str, only: Collection[str] | None) -> float | None:
        looks.append((folder, set(only) if only is not None else None))
        return 3600.0 if len(looks) == 1 else None

    with settling(look) as made:
        made.touched("a", "x")
        until(lambda: looks)
        made.touched("a", "y")
        until(lambda: len(looks) == 2)
    assert looks[1] == ("a", {"y"})


@pytest.mark.parametrize("error", [Unavailable("a"), OSError(5, "b"), RuntimeError("c")])
def test_one_folder_that_cannot_be_looked_at_does_not_end_it(error: Exception) -> None:
    looks: list[str] = []

    def look(folder: str, only: Collection[str] | None) -> float | None:
        looks.append(folder)
        if folder == "bad":
            raise error
        return None

    with settling(look) as made:
        made.touched("bad")
        made.touched("good")
        until(lambda: {"bad", "good"} <= set(looks))
        made.touched("bad")  # sooner than after a worry
        until(lambda: looks.count("bad") == 2)


def test_a_round_looks_at_what_is_suspect_and_comes_again() -> None:
    looks: list[str] = []
    with settling(
        lambda folder, only: looks.append(folder), lambda: ["a", "b"], lambda folder: folder == "b", sweep=0.05
    ) as made:
        until(lambda: made.rounds >= 3)
    assert set(looks) == {"b"}


def test_lost_events_make_a_round_at_once_and_a_round_lets_others_go_first() -> None:
    looks: list[str] = []
    slow = threading.Event()

    def look(folder: str, only: Collection[str] | None) -> None:
        looks.append(folder)
        if folder.startswith("f"):
            slow.wait(0.02)

    with settling(look, lambda: [f"f{number}" for number in range(50)]) as made:
        until(lambda: len(looks) > 2)
        made.touched("urgent")
        until(lambda: "urgent" in looks)
        assert made.rounds == 0
        slow.set()
        until(lambda: made.rounds == 1)
        made.lost()
        until(lambda: made.rounds == 2)


def test_it_can_be_stopped_before_it_began() -> None:
    Settling(lambda *_: None, list, lambda _: False, settle=1, sweep=1).stop()
