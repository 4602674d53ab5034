"""Somebody's git removes what nothing names, or packs everything again, while others write: nothing is lost."""

from __future__ import annotations

import gc
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract.conftest import Place

from gitstore import memory, publisher, snapshots, workspaces
from gitstore.changes import Change
from gitstore.model import Actor, Provenance
from gitstore.repository import database, packs, processes, recovery
from gitstore.repository.objects import Blob
from gitstore.repository.quarantine import KEPT, Quarantine
from gitstore.store import Store

from .conftest import Clone, run
from .conftest import git as git_of

WHO = Provenance(Actor("admin", "k1", "ops"))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(publisher, "CHECKPOINT", 0.2)
    monkeypatch.setattr(publisher, "AGE", 0.2)
    with Store.open(tmp_path / "data") as made:
        made.create("shop", lambda d: workspaces.create(d, {"name": "shop", "slug": "shop"}), WHO).result()
    return tmp_path / "data"


@pytest.fixture
def store(data: Path) -> Iterator[Store]:
    with Store.open(data) as opened:
        yield opened


def git(data: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=data / "workspaces/shop", check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def sound(data: Path) -> None:
    assert git(data, "fsck", "--strict", "--full", "--no-dangling", "--no-progress") == ""
    assert git(data, "status", "--porcelain") == ""


def write(store: Store, values: dict[str, int]) -> None:
    """A commit of each value, all published together."""
    waiting = [
        store.apply("shop", "main", lambda d, key=key, value=value: memory.set(d, {key: value}), WHO)
        for key, value in values.items()
    ]
    for one in waiting:
        one.result()
    assert store.publisher.publish(store.load("shop"))


def remembered(store: Store) -> dict[str, int]:
    found: dict[str, int] = json.loads(store.load("shop").visible.context.memory_json())
    return found


def objects(data: Path, workspace: Path | None = None) -> set[Path]:
    place = (workspace or data / "workspaces/shop") / ".git/objects"
    return {*place.glob("??/*"), *place.glob("pack/pack-*")}


def missed(data: Path, before: set[Path]) -> None:
    """Removes what came since, as a git does that looked for names before it came."""
    for path in objects(data) - before:
        path.unlink()


def logs(data: Path) -> set[str]:
    return {path.name for path in (data / "journal").glob("*.log")}


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("count", [1, 30], ids=["loose objects", "a pack"])
def test_what_was_just_published_is_written_again(data: Path, store: Store, count: int) -> None:
    before = objects(data)
    values = {f"k{n}": n for n in range(count)}
    write(store, values)
    missed(data, before)
    until(lambda: not store.load("shop").placed)
    sound(data)
    assert remembered(store) == values


def test_a_change_that_follows_finds_it_missing_and_goes_on(
    data: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "AGE", 60.0)  # so that nobody looks before
    monkeypatch.setattr(publisher, "CHECKPOINT", 60.0)
    before = objects(data)
    write(store, {"a": 1})
    missed(data, before)
    write(store, {"b": 2})
    sound(data)


def gc_runs(data: Path, pid: int, host: str | None = None, since: float = 0.0) -> Path:
    """What git leaves in a repository while a `git gc` is at work (git-gc(1))."""
    place = data / "workspaces/shop/.git/gc.pid"
    place.write_text(f"{pid} {host or socket.gethostname()}")
    os.utime(place, (time.time() - since,) * 2)
    return place


def test_the_journal_keeps_it_while_a_git_cleans_up(data: Path) -> None:
    held = gc_runs(data, os.getpid())
    with Store.open(data) as store:
        write(store, {"a": 1})
        first = min(logs(data))
        time.sleep(1.0)  # two looks and a checkpoint; nothing happens that could be waited for
        assert first in logs(data)
        assert store.load("shop").placed
        held.unlink()
        until(lambda: first not in logs(data))


def test_a_store_that_stops_meanwhile_leaves_it_to_the_next_start(data: Path) -> None:
    before = objects(data)
    held = gc_runs(data, os.getpid())
    with Store.open(data) as store:
        write(store, {"a": 1})
    missed(data, before)
    held.unlink()
    with Store.open(data) as store:
        assert remembered(store) == {"a": 1}
        sound(data)


def test_a_start_outlasts_a_git_that_cleans_up(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = objects(data)
    held = gc_runs(data, os.getpid())
    with Store.open(data) as store:
        write(store, {"a": 1})
    assert logs(data), "it is left to the next start"

    def ends() -> None:
        time.sleep(0.5)  # the start has published again what the journal has
        missed(data, before)
        held.unlink()

    git_gc = threading.Thread(target=ends)
    git_gc.start()
    with Store.open(data) as store:
        assert not git_gc.is_alive()
        assert remembered(store) == {"a": 1}
        sound(data)
    git_gc.join()
    # One that does not end holds nothing up for ever.
    monkeypatch.setattr(recovery, "_PATIENCE", 0.3)
    gc_runs(data, os.getpid())
    with Store.open(data) as store:
        write(store, {"b": 2})
    with Store.open(data) as store:
        assert remembered(store) == {"a": 1, "b": 2}


def test_a_start_outlasts_a_lock_of_somebodys_git(data: Path) -> None:
    held = gc_runs(data, os.getpid())
    with Store.open(data) as store:
        write(store, {"a": 1})
    held.unlink()
    for ref in ("refs/gitstore/main", "refs/heads/main"):  # a kill came before these moved
        git(data, "update-ref", ref, "refs/heads/main^")
    lock = data / "workspaces/shop/.git/refs/gitstore/main.lock"
    lock.touch()
    letting_go = threading.Timer(0.5, lock.unlink)
    letting_go.start()
    with Store.open(data) as store:
        assert remembered(store) == {"a": 1}
        sound(data)
    letting_go.join()


def test_a_workspace_that_is_deleted_meanwhile_is_whole_in_the_trash(data: Path, store: Store) -> None:
    before = {path.relative_to(data / "workspaces/shop") for path in objects(data)}
    held = gc_runs(data, os.getpid())
    write(store, {"a": 1})
    store.delete("shop", lambda _: None).result()
    (trashed,) = (data / "trash").iterdir()
    for path in objects(data, trashed):
        if path.relative_to(trashed) not in before:
            path.unlink()
    (trashed / held.relative_to(data / "workspaces/shop")).unlink()
    until(lambda: subprocess.run(["git", "fsck", "--strict"], cwd=trashed, capture_output=True).returncode == 0)
    shown = subprocess.run(["git", "show", "main:memory/a.yaml"], cwd=trashed, check=True, capture_output=True)
    assert shown.stdout.endswith(b"\n1\n")
    until(lambda: len(logs(data)) == 1)


@pytest.mark.parametrize(
    "left",
    [
        {"pid": 4_194_305},  # larger than any
        {"pid": os.getpid(), "host": "another.example.org"},
        {"pid": os.getpid(), "since": 13 * 3600.0},
    ],
    ids=["of one that was killed", "of another machine", "of long ago"],
)
def test_what_a_git_left_behind_holds_nothing_up(data: Path, store: Store, left: dict[str, object]) -> None:
    gc_runs(data, **left)  # type: ignore[arg-type]
    write(store, {"a": 1})
    until(lambda: not store.load("shop").placed)


def test_what_a_git_left_behind_may_name_another_process_by_now(data: Path, store: Store) -> None:
    began = processes.began(os.getpid())
    assert began is not None
    gc_runs(data, os.getpid(), since=time.time() - began + 60)
    write(store, {"a": 1})
    until(lambda: not store.load("shop").placed)


def test_one_that_ended_and_was_not_asked_how_is_not_at_work(data: Path, store: Store) -> None:
    with subprocess.Popen(["true"]) as ended:
        until(lambda: b") Z " in Path(f"/proc/{ended.pid}/stat").read_bytes())
        gc_runs(data, ended.pid)
        write(store, {"a": 1})
        until(lambda: not store.load("shop").placed)


def test_packs_that_go_while_they_are_folded_harm_nothing(
    data: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "FOLD_AT", 4)
    monkeypatch.setattr(database, "FOLD_AT", 4)
    real, went = packs.read_pack, []

    def read(path: str) -> object:
        if not went:
            went.append(git(data, "repack", "-adq"))
        return real(path)

    monkeypatch.setattr(packs, "read_pack", read)
    for number in range(8):
        write(store, {f"k{number}-{n}": n for n in range(12)})
    assert went
    sound(data)


@pytest.mark.parametrize("words", [("gc", "--prune=now", "-q"), ("repack", "-adq"), ("prune",)], ids=" ".join)
def test_writers_beside_a_git_that_cleans_up_all_the_time(
    data: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "FOLD_AT", 6)
    monkeypatch.setattr(database, "FOLD_AT", 6)
    binary = shutil.which("git")
    assert binary is not None
    stop, runs = threading.Event(), []

    def clean() -> None:
        while not stop.is_set():  # it may fail: what it does meanwhile is its own business
            runs.append(subprocess.run([binary, *words], cwd=data / "workspaces/shop", capture_output=True).returncode)

    written: dict[str, int] = {}
    with Store.open(data) as store:
        cleaner = threading.Thread(target=clean)
        cleaner.start()
        try:
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                values = {f"k{(len(written) + n) % 90}": len(written) + n for n in range((1, 1, 30)[len(written) % 3])}
                write(store, values)
                written |= values
        finally:
            stop.set()
            cleaner.join()
    assert len(runs) > 3
    sound(data)
    with Store.open(data) as store:
        assert remembered(store) == written


def test_a_disk_that_refuses_the_look_is_looked_at_again(
    data: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = database.Database.mend, []

    def mend(self: database.Database, placed: object) -> int:
        if not failures:
            failures.append(OSError(28, "No space left on device"))
            raise failures[0]
        return real(self, placed)  # type: ignore[arg-type]

    monkeypatch.setattr(database.Database, "mend", mend)
    before = objects(data)
    write(store, {"a": 1})
    missed(data, before)
    until(lambda: not store.load("shop").placed)
    assert failures
    sound(data)


def test_a_renamed_folder_is_looked_at_where_it_is(data: Path, store: Store) -> None:
    before = objects(data)
    write(store, {"a": 1})
    missed(data, before)
    store.apply("shop", "main", lambda d: workspaces.update(d, {"slug": "store"}), WHO).result()
    workspace = store.load("store")
    assert store.publisher.publish(workspace)
    until(lambda: not workspace.placed)
    os.rename(data / "workspaces/store", data / "workspaces/shop")  # only to be looked at
    sound(data)
    os.rename(data / "workspaces/shop", data / "workspaces/store")


@pytest.mark.parametrize("words", [("repack", "-adq"), ("gc", "--prune=now", "-q")], ids=" ".join)
def test_pushes_beside_a_git_that_cleans_up_all_the_time(
    place: Place, clone: Callable[..., Clone], words: tuple[str, ...]
) -> None:
    """The packs of a push are there before a branch has them."""
    copy, stop, runs = clone(), threading.Event(), []

    def clean() -> None:
        while not stop.is_set():
            runs.append(run(place.folder, *words).code)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for number in range(20):
            head = copy.commit("memory/a.yaml", f"{number}\n")
            done = copy.push()
            assert done.code == 0, done.text
    finally:
        stop.set()
        cleaner.join()
    assert len(runs) > 3
    assert git_of(place.folder, "rev-parse", "main") == head
    assert run(place.folder, "fsck", "--full", "--no-dangling", "--no-progress").text == ""
    kept = list((place.folder / ".git/objects/pack").glob("*.keep"))
    assert kept
    assert {path.read_bytes() for path in kept} == {KEPT}


def test_the_packs_of_a_push_are_like_others_after_a_while(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "ARRIVED", 0.3)
    packs_ = data / "workspaces/shop/.git/objects/pack"
    with Store.open(data) as store:
        for wait in (True, False):
            arrive(store, str(wait))
            assert list(packs_.glob("*.keep"))
            write(store, {"a": int(wait)})
            if wait:  # also while changes come all the time
                workspace = store.load("shop")
                monkeypatch.setattr(store.publisher, "_due", lambda *_: False)
                store.apply("shop", "main", lambda d: memory.set(d, {"b": 2}), WHO).result()
                workspace.since = time.monotonic() + 60
                until(lambda: not list(packs_.glob("*.keep")))
                assert workspace.unpublished
    assert not list(packs_.glob("*.keep"))
    (packs_ / "pack-1.keep").write_bytes(KEPT)  # of a process that was killed
    (packs_ / "pack-2.keep").write_bytes(b"mine")
    with Store.open(data) as store:
        store.load("shop")
        assert [path.name for path in packs_.glob("*.keep")] == ["pack-2.keep"]


def arrive(store: Store, text: str) -> None:
    """Objects come in as those of a push do."""
    quarantine = Quarantine(store.disk, store.load("shop").repository)
    quarantine.open({})
    try:
        quarantine.keep([Blob(text.encode())])
        quarantine.admit()
    finally:
        quarantine.discard()


def test_a_snapshot_is_looked_at_again_as_well(data: Path, store: Store) -> None:
    write(store, {"a": 1})
    before = objects(data)
    snapshots.put(store, "shop", "one", message="whole", who=WHO)
    missed(data, before)
    until(lambda: not store.load("shop").placed)
    sound(data)
    assert [one.name for one in snapshots.contents(store, "shop")] == ["one"]


def test_a_folder_that_goes_and_comes_back_leaves_nothing_in_the_journal(data: Path, store: Store) -> None:
    place, away = data / "workspaces/shop", data / "away"
    for number in range(3):
        write(store, {"a": number})
        identity = store.load("shop").id
        place.rename(away)
        assert store.leave(identity)
        away.rename(place)
        store.admit("shop")
    write(store, {"a": 9})
    first = min(logs(data))
    until(lambda: first not in logs(data))
    store.publisher.look_again(at_once=True)
    until(lambda: not store.load("shop").placed)


def test_what_waits_for_the_second_look_is_little(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "AGE", 60.0)
    with Store.open(data) as store:
        write(store, {f"key-{number}": number for number in range(400)})
        workspace = store.load("shop")
        for number in range(20):
            write(store, {"a": number})
        assert len(workspace.placed) > 20
        kept = [item for one in list(workspace.placed)[-20:] for item in one.standing.items]
        assert len(kept) > 60
        assert sum(len(item.data) for item in kept) < 40_000  # and not twenty times the tree of all keys
        until(lambda: sum(isinstance(one, Change) and one.owner is workspace for one in gc.get_objects()) < 10)
