"""Blame that goes on from what it found before, and never takes one file's for another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitstore import memory, workspaces
from gitstore.changes import Draft, Workspace
from gitstore.model import Actor, Provenance
from gitstore.past import Past
from gitstore.retrospect import Retrospect
from gitstore.store import Store

WHO = Provenance(Actor("admin", "k3f", "ops"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        opened.create("one", lambda draft: workspaces.create(draft, {"name": "One", "slug": "one"}), WHO).result()
        yield opened


def act(store: Store, operation: Any) -> str:
    return str(store.apply("one", "main", operation, WHO).result().snapshot.main.head)


def put(store: Store, **updates: Any) -> str:
    return act(store, lambda draft: memory.set(draft, updates))


def blamed(told: Retrospect, workspace: Workspace, key: str) -> dict[str, str | None]:
    return {str(row.place): row.stamp and row.stamp.commit for row in told.key_blame(workspace, key)}


def test_what_was_found_before_is_gone_on_from(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, past = store.load("one"), Past(store)
    told = Retrospect(store, past)
    value: dict[str, Any] = {}
    commits = []
    for n in range(30):
        value = {**value, f"k{n % 7}": n, "list": [{"id": m, "n": m} for m in range(n % 5, 5)]}
        commits.append(put(store, plan=value))
        if n % 3 == 0:
            assert blamed(told, workspace, "plan") == blamed(Retrospect(store, past), workspace, "plan")
    moment = past.moment(workspace, commits[11])
    then = {str(row.place): row.stamp and row.stamp.commit for row in told.key_blame(workspace, "plan", "", moment)}
    assert set(then.values()) <= set(commits[:12])
    assert blamed(told, workspace, "plan") == blamed(Retrospect(store, past), workspace, "plan")
    put(store, plan={**value, "k0": "new"})
    read: list[str] = []
    real = Workspace.read_blob
    monkeypatch.setattr(Workspace, "read_blob", lambda self, blob: read.append(blob) or real(self, blob))
    blamed(told, workspace, "plan")
    assert len(read) == 2
    blamed(told, workspace, "plan")
    assert len(read) == 2


def test_a_path_that_another_file_took_over_has_that_ones_story(store: Store) -> None:
    workspace, told = store.load("one"), Retrospect(store, Past(store))
    put(store, p={"a": 1, "b": 0}, q={"a": 1, "b": 0})
    both = put(store, p={"a": 1, "b": 2}, q={"a": 2, "b": 0})
    assert blamed(told, workspace, "p")["/b"] == both
    act(store, lambda draft: memory.delete(draft, "p"))
    value = {"a": 2, "b": 0}

    def move(draft: Draft) -> None:
        memory.set(draft, {"p": value})
        memory.delete(draft, "q")

    moved = act(store, move)
    assert [row.turn.op for row in told.key_history(workspace, "p").rows][:2] == ["renamed", "changed"]
    assert moved not in blamed(told, workspace, "p").values()
    fresh = blamed(Retrospect(store, Past(store)), workspace, "p")
    assert blamed(told, workspace, "p") == fresh
    assert fresh["/a"] == both
    assert fresh["/b"] != both


def test_values_of_a_page_have_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, told = store.load("one"), Retrospect(store, Past(store))
    for n in range(4):
        put(store, big={"n": n, "text": "x" * 1000})
    monkeypatch.setattr("gitstore.retrospect._VALUES_MAX", 2500)
    rows = told.key_history(workspace, "big").rows
    assert [row.cut for row in rows] == [False, False, True, True]
    assert [row.value["n"] for row in rows[:2]] == [3, 2]
