from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitstore import memory, steps, workspaces
from gitstore.causes import Cause
from gitstore.changes import Draft
from gitstore.model import Actor, Provenance
from gitstore.repository.objects import Oid
from gitstore.repository.trees import FILE_MODE, Node
from gitstore.restoring import restore
from gitstore.reverting import revert, select
from gitstore.snapshot import Snapshot
from gitstore.steps import Plan
from gitstore.store import Store

A, B = (Provenance(Actor("agent", f"k{name}", name)) for name in "ab")


class Place:
    """A workspace on a real store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        operation: Callable[[Draft], Any] = lambda draft: workspaces.create(draft, {"name": "W", "slug": "w"})  # noqa: E731
        self.id = store.create("w", operation, B).result().snapshot.workspace

    def put(self, who: Provenance, **updates: Any) -> str:
        done = self.store.apply(self.id, "main", lambda draft: memory.set(draft, updates), who).result()
        return done.snapshot.main.head or ""

    def write(self, who: Provenance, **files: bytes | None) -> str:
        def operation(draft: Draft) -> None:
            for path, data in files.items():
                if data is None:
                    draft.remove(path)
                else:
                    draft.write(path, data)

        return self.store.apply(self.id, "main", operation, who).result().snapshot.main.head or ""

    @property
    def now(self) -> Snapshot:
        return self.store.load(self.id).visible

    def plan(self, **cause: Any) -> Plan:
        return select(self.store.history, self.now, Cause(**cause))

    def files(self) -> dict[str, bytes | None]:
        view = self.now.tree()
        return {path: view.read(path) for path, _ in view.walk() if "/" not in path and path != "workspace.yaml"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Store.open(tmp_path / "data") as store:
        yield Place(store)


def test_commits_that_follow_each_other_are_one_step(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        place.put(A, own=number)
    before = place.put(B, shared=0)
    for number in range(30):
        place.put(A, shared=number, other=number)
    read: list[tuple[str, str]] = []
    plain = steps._Trees.node
    monkeypatch.setattr(
        steps._Trees, "node", lambda self, commit, path: read.append((commit, path)) or plain(self, commit, path)
    )
    found = place.plan(actor="a")
    assert {path: len(known) for path, known in found.steps.items()} == {
        "memory/own.yaml": 1, "memory/shared.yaml": 1, "memory/other.yaml": 1
    }  # fmt: skip
    assert len(found.commits) == 59 + 1  # setting 0 again changed nothing of what is shared, and made the other
    assert len(read) <= 1, "trees are read only where history does not tell"
    shared = found.steps["memory/shared.yaml"][0]
    assert shared.before == place.now.tree_at(before).node("memory/shared.yaml")
    assert found.keys["memory/own.yaml"] == "own"


def test_somebody_between_parts_the_steps_unless_it_was_put_back(place: Place) -> None:
    place.put(B, x=0)
    place.put(A, x=1)
    place.put(B, x=2)
    place.put(A, x=3)
    assert len(place.plan(actor="a").steps["memory/x.yaml"]) == 2
    place.put(B, x=9)
    place.put(B, x=3)
    place.put(A, x=4)
    found = place.plan(actor="a").steps["memory/x.yaml"]
    assert len(found) == 2, "what was put back is as if nobody had been there"
    assert place.plan(actor="b").steps["memory/x.yaml"][0].before is None


def test_what_was_undone_before_is_in_nobodys_way(place: Place) -> None:
    place.put(B, x={"n": 0, "m": 0})
    place.put(A, x={"n": 1, "m": 0})
    revert(place.store, place.id, Cause(actor="a"), B).result()
    place.put(B, x={"n": 2, "m": 0})
    place.put(A, x={"n": 3, "m": 3})
    for way in ("refuse", "keep", "force"):
        tried = revert(place.store, place.id, Cause(actor="a"), B, on_conflict=way, dry_run=True).result()
        assert tried.obstacles == ()
        assert tried.undone.after.read("memory/x.yaml") == place.now.tree_at(_before_last(place)).read("memory/x.yaml")
    revert(place.store, place.id, Cause(actor="a"), B).result()
    assert place.now.context.memory_json() == b'{"x":{"n":2,"m":0}}'
    # Twice is once.
    assert revert(place.store, place.id, Cause(actor="a"), B).result().undone.commit is None


def _before_last(place: Place) -> str:
    facts = place.store.history.commit(place.id, place.now.main.head or "")
    assert facts is not None
    return facts.parents[0]


def test_what_came_back_is_undone_again(place: Place) -> None:
    place.put(B, x=0)
    bad = place.put(A, x=1)
    first = revert(place.store, place.id, [bad], B).result().undone.commit
    assert first is not None
    revert(place.store, place.id, [first.id], B).result()
    assert place.now.context.memory_json() == b'{"x":1}'
    revert(place.store, place.id, [bad], B).result()
    assert place.now.context.memory_json() == b'{"x":0}'


def test_what_was_undone_by_itself_is_no_step(place: Place) -> None:
    place.put(A, x=1)
    place.write(A, **{"memory/x.yaml": None})
    assert place.plan(actor="a").steps == {}
    done = revert(place.store, place.id, Cause(actor="a"), B).result()
    assert done.undone.commit is None
    assert len(done.commits) == 2


def test_a_file_that_was_renamed_since_is_followed(place: Place) -> None:
    place.write(B, notes=b"one\ntwo\n")
    place.write(A, notes=b"one\n2\n")
    place.write(B, notes=None, letters=b"one\n2\n")
    revert(place.store, place.id, Cause(actor="a"), B).result()
    assert place.files() == {"letters": b"one\ntwo\n"}


def test_an_equal_file_that_was_there_already_is_no_rename(place: Place) -> None:
    place.write(B, notes=b"1\n", letters=b"2\n")
    place.write(A, notes=b"2\n")
    place.write(B, notes=None)
    done = revert(place.store, place.id, Cause(actor="a"), B, on_conflict="keep").result()
    assert [one.path for one in done.obstacles] == ["notes"]
    assert place.files() == {"letters": b"2\n"}
    revert(place.store, place.id, Cause(actor="a"), B, on_conflict="force").result()
    assert place.files() == {"letters": b"2\n", "notes": b"1\n"}


def test_equal_values_of_keys_are_no_renames(place: Place) -> None:
    place.put(B, a=1)
    place.put(A, a=2)
    place.write(B, **{"memory/a.yaml": None, "memory/b.yaml": b"2\n"})
    done = revert(place.store, place.id, Cause(actor="a"), B, on_conflict="keep").result()
    assert [one.key for one in done.obstacles] == ["a"]
    assert place.now.context.memory_json() == b'{"b":2}'


def test_a_file_where_a_folder_was_and_the_reverse(place: Place) -> None:
    place.write(B, **{"thing/a": b"a\n", "thing/b": b"b\n"})
    place.write(A, **{"thing/a": None, "thing/b": None, "thing": b"file\n"})
    revert(place.store, place.id, Cause(actor="a"), B).result()
    view = place.now.tree()
    assert (view.read("thing/a"), view.read("thing/b")) == (b"a\n", b"b\n")
    again = revert(place.store, place.id, [place.now.main.head or ""], B).result()
    assert again.undone.commit is not None
    assert place.now.tree().read("thing") == b"file\n"


def test_the_mode_of_a_file_comes_back(place: Place) -> None:
    """A file that came executable, by a push, is so again after it was replaced through the API."""
    from gitstore.joining import Turn, turn
    from gitstore.merging import Merged
    from gitstore.repository.trees import rewrite

    place.write(B, tool=b"#!/bin/sh\n")
    found = place.store.load(place.id)

    def executable(base: Snapshot) -> Turn:
        view = base.tree()
        node = view.node("tool")
        assert node is not None
        root, trees = rewrite(view.source, view.root, {"tool": Node(0o100755, node.id)})
        return Turn(Merged(root, [item for item, _ in trees], trees, ()), "edit", "made executable")

    then = turn(found, executable, A).result().snapshot.main.head or ""
    place.write(B, tool=b"other\n")
    plain = place.now.tree().node("tool")
    assert plain is not None
    assert plain.mode == FILE_MODE
    restore(place.store, place.id, then, B).result()
    node = place.now.tree().node("tool")
    assert node is not None
    assert (node.mode, place.now.tree().read("tool")) == (0o100755, b"#!/bin/sh\n")
    revert(place.store, place.id, Cause(actor="a"), B).result()
    back = place.now.tree().node("tool")
    assert back is not None
    assert back.mode == FILE_MODE


def test_a_workspace_keeps_its_id(place: Place) -> None:
    first = place.now
    data = first.tree().read("workspace.yaml") or b""
    other = b"# of another\n" + data.replace(place.id.encode(), b"00000000-0000-4000-8000-000000000000")
    then = place.write(B, **{"workspace.yaml": other})
    place.write(B, **{"workspace.yaml": data.replace(b"name: W", b"name: X")})
    restore(place.store, place.id, then, B).result()
    now = place.now.tree().read("workspace.yaml")
    assert now == b"# of another\n" + data
    assert place.now.context.problems == ()


def test_a_part_of_main_that_cannot_be_read_is_in_nobodys_way(place: Place) -> None:
    fine = place.put(B, x=1)
    broken = place.write(A, **{"memory/y.yaml": b"a: [\n"})
    assert len(place.now.problems) == 1
    bad = place.put(A, x=2)
    revert(place.store, place.id, [bad], B).result()
    assert place.now.context.memory_json() == b'{"x":1}'
    restore(place.store, place.id, bad, B).result()
    assert place.now.context.memory_json() == b'{"x":2}'
    revert(place.store, place.id, [broken], B).result()
    assert place.now.problems == ()
    restore(place.store, place.id, fine, B).result()
    assert place.now.tree().root == place.now.tree_at(fine).root


def test_the_blobs_of_then_are_not_written_again(place: Place) -> None:
    big = b"x" * 5_000_000
    then = place.write(B, big=big)
    place.write(B, big=b"small\n")
    journal = place.store.layout.journal
    before = sum(one.stat().st_blocks for one in journal.iterdir()), place.store.journal.backlog
    restore(place.store, place.id, then, B).result()
    assert place.store.journal.backlog - before[1] < 100_000
    assert place.now.tree().read("big") == big
    assert place.now.commit(place.now.main.head or "").parents == (Oid(bytes.fromhex(_before_last(place))),)
