"""The search through history in small steps; that it finds what a look at every version finds is in tests/git."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitstore import memory, sightings, workspaces
from gitstore.errors import Invalid
from gitstore.model import Actor, Provenance
from gitstore.sightings import Look, Sighting, Sightings, Wanted
from gitstore.store import Store

WHO = Provenance(Actor("admin", "k3f", "ops"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        opened.create("one", lambda draft: workspaces.create(draft, {"name": "One", "slug": "one"}), WHO).result()
        yield opened


def put(store: Store, **updates: Any) -> str:
    return str(store.apply("one", "main", lambda draft: memory.set(draft, updates), WHO).result().snapshot.main.head)


def whole(store: Store, wanted: Wanted, most: int = 20) -> tuple[list[Sighting], int]:
    """Everything that is found, and in how many looks."""
    found: list[Sighting] = []
    cursor: str | None = None
    looks = 0
    while True:
        look: Look = Sightings(store).look(store.load("one"), wanted, cursor=cursor, most=most)
        found += look.rows
        looks += 1
        cursor = look.next_cursor
        if cursor is None:
            return found, looks


def test_a_look_has_an_end_and_the_next_one_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, **{f"k{n}": f"the needle {n}" for n in range(9)})
    for n in range(30):
        put(store, other=n)
    last = put(store, k3="nothing")
    everything, looks = whole(store, Wanted("NEEDLE"))
    assert looks == 1
    assert [one.key for one in everything] == [f"k{n}" for n in range(9)]
    assert [one.until and one.until.commit for one in everything] == [last if n == 3 else None for n in range(9)]
    for name, value, least in (("_LOOKED_AT", 4, 8), ("_READ", 300, 3)):
        with monkeypatch.context() as patch:
            patch.setattr(sightings, name, value)
            assert whole(store, Wanted("NEEDLE"))[0] == everything
            assert whole(store, Wanted("NEEDLE"))[1] >= least
    assert whole(store, Wanted("NEEDLE"), most=2)[0] == everything
    look = Sightings(store).look(store.load("one"), Wanted("nowhere"))
    assert (look.rows, look.next_cursor) == ([], None)


def test_an_end_that_is_too_far_away_is_not_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = put(store, a={"text": "needle", "n": 0})
    for n in range(1, 9):
        put(store, a={"text": "needle", "n": n})
    gone = put(store, a={"text": "", "n": 9})
    (one,) = whole(store, Wanted("needle"))[0]
    assert (one.since.commit, one.until and one.until.commit, one.cut) == (first, gone, False)
    monkeypatch.setattr(sightings, "_ONWARD", 5)
    (one,) = whole(store, Wanted("needle"))[0]
    assert (one.since.commit, one.until, one.cut) == (first, None, True)


def test_what_is_large_or_no_text_is_passed_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, a="needle " * 100, b="needle")
    assert [one.key for one in whole(store, Wanted("needle"))[0]] == ["a", "b"]
    monkeypatch.setattr(sightings, "_LARGEST", 200)
    assert [one.key for one in whole(store, Wanted("needle"))[0]] == ["b"]


def test_places_are_values_keys_and_lines(store: Store) -> None:
    put(store, doc={"plain": "x", "list": [1, {"deep": "NEEDLE\twith a tab"}]}, key={"the needle's": {"in": 1}})
    found = {one.key: one for one in whole(store, Wanted("needle"))[0]}
    assert (found["doc"].pointer, found["doc"].line) == ("/list/1/deep", None)
    assert found["doc"].excerpt == "NEEDLE with a tab"
    assert found["key"].pointer == "/the needle's/in"
    (comment,) = whole(store, Wanted("yaml-language-server", key="doc"))[0]
    assert (comment.pointer, comment.line) == (None, 1)
    put(store, long="é" * 500 + "Straße" + "é" * 500)
    (one,) = whole(store, Wanted("STRAßE"))[0]
    assert one.excerpt == f"…{'é' * 60}Straße{'é' * 60}…"


@pytest.mark.parametrize("cursor", ["", "x", "AAAA.1", "....1", "a" * 500, "-.0"])
def test_a_cursor_that_is_none(store: Store, cursor: str) -> None:
    with pytest.raises(Invalid):
        Sightings(store).look(store.load("one"), Wanted("x"), cursor=cursor)
