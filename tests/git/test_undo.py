"""Properties of undoing, over random histories of several actors on a real store."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.draft import assert_same

from git.drawn import NAMES, ODD
from git.drawn import edited as drawn_edit
from gitstore import files, memory, workspaces
from gitstore.causes import Cause
from gitstore.changes import Workspace
from gitstore.context import Context
from gitstore.documents import load
from gitstore.joining import Turn, turn
from gitstore.merging import Merged
from gitstore.model import Actor, Provenance
from gitstore.repository.objects import Blob, Oid
from gitstore.repository.trees import Node, rewrite
from gitstore.restoring import Selection, restore
from gitstore.reverting import _Undoing, revert, select
from gitstore.snapshot import Snapshot
from gitstore.store import Store
from gitstore.undo import Undone
from gitstore.verify import verify

MAKER = Provenance(Actor("admin", "kmaker", "maker"))
WHO = {name: Provenance(Actor("agent", f"k{name}", name), workflow_id=f"w-{name}") for name in "abc"}
KEYS = ["one", "two", "Three/é"]
FIELDS = ["f0", "f1", "f2"]
numbers = itertools.count(1)

acts = st.lists(
    st.tuples(
        st.sampled_from("aabc"),
        st.sampled_from(["set", "set", "set", "drop", "replace", "delete", "list", "hand", "line", "line", "unfile"]),
        st.sampled_from(KEYS),
        st.sampled_from(FIELDS),
    ),
    min_size=2,
    max_size=14,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    data = tmp_path_factory.mktemp("undo") / "data"
    with Store.open(data) as opened:
        yield opened


Acts = list[tuple[str, str, str, str]]


def history(store: Store, drawn: Acts) -> tuple[Workspace, dict[str, set[int]]]:
    """Makes a workspace of what was drawn. Every value is a number of its own, so that it tells who wrote it."""
    slug = f"w{next(numbers)}"
    made = store.create(slug, lambda draft: workspaces.create(draft, {"name": slug, "slug": slug}), MAKER).result()
    wrote: dict[str, set[int]] = {name: set() for name in WHO}
    play(store, made.snapshot.workspace, drawn, wrote)
    return store.load(made.snapshot.workspace), wrote


def play(store: Store, identity: str, drawn: Acts, wrote: dict[str, set[int]]) -> None:
    for name, act, key, field in drawn:
        number = next(numbers)
        wrote[name].add(number)
        store.apply(identity, "main", lambda draft, a=(act, key, field, number): step(draft, *a), WHO[name]).result()


def step(draft: Any, act: str, key: str, field: str, number: int) -> None:
    entry = draft.context.memory.get(key)
    value = load(draft.read(entry.path)) if entry is not None else {}
    if act == "set":
        memory.set(draft, {key: {**value, field: number}})
    elif act == "replace":
        memory.set(draft, {key: {field: number}})
    elif act == "list":
        memory.set(draft, {key: {**value, "list": [*value.get("list", []), {"id": number, "n": number}]}})
    elif act == "drop" and field in value:
        memory.set(draft, {key: {name: held for name, held in value.items() if name != field}})
    elif act == "delete":
        memory.delete(draft, key)
    elif act == "hand" and entry is not None:
        text = (draft.read(entry.path) or b"").removesuffix(b"\n")
        draft.write(entry.path, b"# by hand\n" + text + b"\n" if text != b"{}" else f"{field}: {number}\n".encode())
    elif act == "line":
        stored = draft.context.files.get(key)
        lines = (draft.read(stored.path) or b"").splitlines(keepends=True) if stored is not None else []
        at = FIELDS.index(field) * len(lines) // len(FIELDS)
        lines[at:at] = [b"%d\n" % number, b"--\n"]
        files.put(draft, [files.upload(file_name=f"{key[:3]}.txt", content=b"".join(lines), key=key)])
    elif act == "unfile" and key in draft.context.files:
        files.delete(draft, key)


def tree(store: Store, found: Workspace) -> dict[str, str]:
    return {path: node.id.hex() for path, node in store.load(found.id).visible.tree().walk()}


def written(store: Store, found: Workspace) -> set[int]:
    """Every number that stands anywhere."""
    view = store.load(found.id).visible.tree()
    words: set[int] = set()
    for path, _ in view.walk():
        if path.startswith(("memory/", "files/")):
            text = (view.read(path) or b"").decode()
            for mark in ":,[]{}#\n":
                text = text.replace(mark, " ")
            words |= {int(word) for word in text.split() if word.isdecimal()}
    return words


def agrees(store: Store, found: Workspace) -> None:
    """What is known of the newest state without reading it is what reading it gives."""
    now = store.load(found.id).visible
    assert_same(now.context, Context.load(now.tree(), previous=None, now=now.main.time))


def told(undone: Undone) -> Any:
    return undone.changes(1000)


def touched(store: Store, found: Workspace, name: str) -> set[str]:
    until = store.history.position(found.id, found.visible.main.head or "")
    assert until is not None
    return {
        path
        for _, facts in store.history.caused(found.id, Cause(actor=name), until)
        for one in facts.changes
        for path in one.paths
    }


quickly = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@quickly
@given(acts)
def test_what_an_actor_wrote_is_gone_and_nothing_else(store: Store, drawn: Acts) -> None:
    found, wrote = history(store, drawn)
    before = tree(store, found)
    theirs = touched(store, found, "a")
    if not theirs:
        return
    cause = Cause(actor="a")
    dry = revert(store, found.id, cause, MAKER, on_conflict="force", dry_run=True).result()
    assert tree(store, found) == before
    done = revert(store, found.id, cause, MAKER, on_conflict="force").result()
    assert told(done.undone) == told(dry.undone)
    assert done.obstacles == dry.obstacles
    assert [one.actor.name for one in done.commits] == ["a"] * len(done.commits)
    after = tree(store, found)
    # Nothing that only this actor wrote is left; a file is a place of its own where its lines clash.
    assert not written(store, found) & wrote["a"]
    # What it never touched is the same, byte for byte.
    assert {path: blob for path, blob in before.items() if path not in theirs} == {
        path: blob for path, blob in after.items() if path not in theirs
    }
    agrees(store, found)
    assert not store.load(found.id).visible.problems
    if done.undone.commit is None:
        assert after == before
        return
    again = revert(store, found.id, [done.undone.commit.id], MAKER).result()
    assert again.undone.commit is not None
    assert tree(store, found) == before


@quickly
@given(acts)
def test_what_others_wrote_stays(store: Store, drawn: Acts) -> None:
    found, wrote = history(store, drawn)
    if not touched(store, found, "a"):
        return
    before = written(store, found)
    cause = Cause(workflow_id="w-a")
    dry = revert(store, found.id, cause, MAKER, dry_run=True).result()
    done = revert(store, found.id, cause, MAKER, on_conflict="keep").result()
    assert told(done.undone) == told(dry.undone)
    assert (wrote["b"] | wrote["c"]) & before <= written(store, found)
    if not done.obstacles:
        assert not written(store, found) & wrote["a"]


@quickly
@given(acts, st.data())
def test_any_state_comes_back(store: Store, drawn: list[tuple[str, str, str, str]], data: st.DataObject) -> None:
    found, _ = history(store, drawn)
    history_index, head = store.history, found.visible.main.head or ""
    until = history_index.position(found.id, head)
    assert until is not None
    commits = [facts.id for _, facts in history_index.caused(found.id, Cause(), until)]
    commit = data.draw(st.sampled_from(commits))
    paths = data.draw(st.sampled_from([(), ("memory",), ("files",), ("memory/one.yaml",), ("files/one.txt",)]))
    view = found.repository.tree(Oid(bytes.fromhex(commit)))
    then = {path: node.id.hex() for path, node in view.walk()}
    before = tree(store, found)

    def selected(path: str) -> bool:
        names = [*paths, *(f"{one}.meta.yaml" for one in paths if one.startswith("files/"))]
        return not paths or path in names or path.startswith(tuple(f"{one}/" for one in paths))

    if paths and not any(selected(path) for path in (*before, *then)):
        return
    selection = Selection(tuple(paths))
    dry = restore(store, found.id, commit, MAKER, selection=selection, dry_run=True).result()
    done = restore(store, found.id, commit, MAKER, selection=selection).result()
    assert told(done) == told(dry)
    assert tree(store, found) == {path: blob for path, blob in then.items() if selected(path)} | {
        path: blob for path, blob in before.items() if not selected(path)
    }
    if done.commit is not None:
        agrees(store, found)
        revert(store, found.id, [done.commit.id], MAKER).result()
        assert tree(store, found) == before
        agrees(store, found)


@quickly
@given(acts, acts)
def test_what_is_written_meanwhile_makes_no_difference(store: Store, drawn: Acts, later: Acts) -> None:
    """Worked out on one state and carried to a later one: the same as worked out there."""
    found, wrote = history(store, drawn)
    base = found.visible
    if not touched(store, found, "a"):
        return
    planned = select(store.history, base, Cause(actor="a"))
    carried = _Undoing(planned, "keep")
    carried.on(base)
    for start in range(0, len(later), 3):
        play(store, found.id, later[start : start + 3], wrote)
        now = store.load(found.id).visible
        anew = _Undoing(planned, "keep")
        assert carried.on(now).merged.root == anew.on(now).merged.root
        assert carried.obstacles == anew.obstacles


@st.composite
def states(draw: st.DrawFn) -> list[Mapping[str, tuple[int, bytes]]]:
    """What a person keeps beside the governed parts, state after state: files, folders, modes, names of all kinds."""
    names = [name for name in (*NAMES, *ODD) if not name.startswith(("memory/", "spec/")) and "\udce9" not in name]
    names = [name for name in names if all(part.strip(" .") == part and part.isprintable() for part in name.split("/"))]
    found: list[Mapping[str, tuple[int, bytes]]] = [{}]
    for _ in range(draw(st.integers(1, 6))):
        state = draw(drawn_edit(found[-1], [name for name in names if '"' not in name]))
        found.append({path: (mode if mode != 0o120000 else 0o100644, data) for path, (mode, data) in state.items()})
    return found


@quickly
@given(states(), st.data())
def test_any_commit_and_any_row_of_them(store: Store, drawn: Any, data: st.DataObject) -> None:
    """Nobody between: what is undone is exactly what there was, folders, modes, renames and all."""
    found, _ = history(store, [])
    heads = []
    for files_ in drawn:
        blobs = {path: Blob(content) for path, (_, content) in files_.items()}

        def made(base: Snapshot, wanted: Any = files_, blobs: Any = blobs) -> Turn:
            view = base.tree()
            edits = {path: None for path, _ in view.walk() if path != "workspace.yaml" and path[0] != "."}
            edits |= {path: Node(mode, blobs[path].id) for path, (mode, _) in wanted.items()}  # type: ignore[misc]
            root, trees = rewrite(view.source, view.root, edits)
            return Turn(Merged(root, [*blobs.values(), *(one for one, _ in trees)], trees, ()), "edit", "by hand")

        done = turn(store.load(found.id), made, WHO["a"]).result()
        if done.commit is not None:
            heads.append(done.commit.id)
    if len(heads) < 2:
        return

    def root() -> bytes:
        return store.load(found.id).visible.main.root

    def of(commit: str) -> bytes:
        return found.repository.tree(Oid(bytes.fromhex(commit))).root

    first = data.draw(st.integers(1, len(heads) - 1))
    now = root()
    assert tree(store, found) == {path: node.id.hex() for path, node in found.repository.tree(
        Oid(bytes.fromhex(heads[-1]))).walk()}  # fmt: skip
    dry = revert(store, found.id, heads[first:], MAKER, dry_run=True).result()
    done = revert(store, found.id, heads[first:], MAKER).result()
    assert root() == of(heads[first - 1])
    assert told(done.undone) == told(dry.undone)
    if done.undone.commit is not None:
        revert(store, found.id, [done.undone.commit.id], MAKER).result()
        assert root() == now
    restore(store, found.id, heads[first], MAKER).result()
    assert root() == of(heads[first])
    agrees(store, found)


def test_all_of_it_is_sound(store: Store) -> None:
    """Git's own check of everything that the tests above left, and the indexes against git."""
    found, _ = history(store, [("a", "set", "one", "f0"), ("b", "set", "one", "f1"), ("a", "line", "two", "f0")])
    revert(store, found.id, Cause(actor="a"), MAKER, on_conflict="force").result()
    for folder in store.homes.all():
        assert store.publisher.publish(store.load(folder))
        place = store.layout.workspaces / folder
        done = subprocess.run(["git", "fsck", "--full", "--strict"], cwd=place, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert subprocess.run(["git", "status", "--porcelain"], cwd=place, capture_output=True).stdout == b""
    assert [one for one in verify(store.layout.root) if one.severity == "error"] == []
