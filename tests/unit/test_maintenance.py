"""A store that is looked after keeps few files, and every object stays where any git finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from gitstore import maintenance, memory, workspaces
from gitstore.maintenance import Maintenance
from gitstore.model import Actor, Provenance
from gitstore.repository import gathering
from gitstore.store import Store

WHO = Provenance(Actor("admin", "k1", "ops"))
GIT = shutil.which("git") or "git"  # these tests ask it in any case


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(maintenance, "LOOSE", 256)  # one loose object in the folder that is looked at
    monkeypatch.setattr(maintenance, "PACKS", 4)
    with Store.open(tmp_path / "data") as opened:
        fields = {"name": "shop", "slug": "shop", "memory": {}}
        opened.create("shop", lambda d: workspaces.create(d, fields), WHO).result()
        yield opened


def write(store: Store, until: Any) -> None:
    """Changes, each published by itself, until there is enough to do."""
    for number in range(1000):
        store.apply("shop", "main", lambda d, n=number: memory.set(d, {f"k{n % 7}": n}), WHO).result()
        assert store.publisher.publish(store.load("shop"))
        if number > 60 and until():
            return
    raise AssertionError("there is never enough")


def git(store: Store, *words: str) -> str:
    folder = store.layout.workspaces / "shop"
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def sound(store: Store) -> set[str]:
    """The ids of all objects that the branches have, and every one of them is there."""
    assert git(store, "fsck", "--strict", "--full", "--no-dangling", "--no-progress") == ""
    assert git(store, "status", "--porcelain") == ""
    return {line[:40] for line in git(store, "rev-list", "--objects", "--all").splitlines()}


def loose(objects: Path) -> int:
    return sum(len(list(folder.iterdir())) for folder in objects.iterdir() if len(folder.name) == 2)


@pytest.mark.parametrize("program", [GIT, None], ids=["git", "none"])
def test_loose_objects_become_a_pack_and_writers_go_on(store: Store, program: str | None) -> None:
    objects = store.layout.workspaces / "shop/.git/objects"
    write(store, lambda: gathering.estimate(str(objects)) >= 256)
    before, count = sound(store), loose(objects)
    looked = Maintenance(store, git=program)
    stop, failed = threading.Event(), []

    def meanwhile() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                store.apply("shop", "main", lambda d, n=number: memory.set(d, {"meanwhile": n}), WHO).result()
                assert store.publisher.publish(store.load("shop"))
            except Exception as error:  # noqa: BLE001  (a thread's error would else be lost)
                failed.append(error)

    writer = threading.Thread(target=meanwhile)
    writer.start()
    looked.round()
    stop.set()
    writer.join()
    assert not failed
    assert looked.figures.gathered >= count
    assert looked.figures.failures == 0
    assert looked.figures.graphs == (1 if program else 0)
    assert "loose objects packed" in looked.figures.last
    assert before <= sound(store)
    if program:
        assert git(store, "commit-graph", "verify") == ""


def test_many_packs_become_one(store: Store) -> None:
    objects = store.layout.workspaces / "shop/.git/objects"
    for number in range(5):
        values = {f"v{n}": f"{number} {n}" for n in range(20)}
        store.apply("shop", "main", lambda d, values=values: memory.set(d, values), WHO).result()
        assert store.publisher.publish(store.load("shop"))
    assert len(gathering.stems(str(objects))) >= 4
    left = objects / "pack/tmp_pack_left"
    left.write_bytes(b"half a pack")
    os.utime(left, (1e9, 1e9))
    before = sound(store)
    looked = Maintenance(store, git=GIT)
    looked.round()
    assert looked.figures.repacked >= 4
    assert len(gathering.stems(str(objects))) == 1
    assert not left.exists()
    assert sound(store) == before
    store.apply("shop", "main", lambda d: memory.set(d, {"after": 1}), WHO).result()
    assert b"4 1" in (store.load("shop").visible.tree().read("memory/v1.yaml") or b"")
    looked.round()
    assert looked.figures.rounds == 2


def test_a_pack_goes_only_if_others_have_all_of_it(store: Store) -> None:
    objects = str(store.layout.workspaces / "shop/.git/objects")
    for number in range(2):
        values = {f"v{n}": f"{number} {n}" for n in range(20)}
        store.apply("shop", "main", lambda d, values=values: memory.set(d, values), WHO).result()
        assert store.publisher.publish(store.load("shop"))
    one, other = gathering.stems(objects)[:2]
    assert gathering.replace(store.disk, objects, [one], [other]) == 0
    assert gathering.replace(store.disk, objects, [one, other], []) == 0
    sound(store)


def test_what_a_request_brought_is_not_reclaimed_before_its_commit(store: Store) -> None:
    objects = store.objects("shop")
    pointer = objects.put(b"its commit comes next")
    maintenance.Maintenance(store, git=None, days=0)._reclaim()
    assert objects.has(pointer.oid)
    os.utime(objects.path(pointer.oid), (0, 0))
    maintenance.Maintenance(store, git=None, days=0)._reclaim()
    assert not objects.has(pointer.oid)


def test_a_huge_loose_object_is_not_held_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_BYTES", 100_000)
    workspace = store.load("shop")
    write(store, lambda: True)
    huge = store.layout.workspaces / "shop" / "huge.txt"
    huge.write_bytes(bytes(1_000_000))  # packed it is small
    name = git(store, "hash-object", "-w", str(huge)).strip()
    huge.unlink()
    database = workspace.repository.database
    assert gathering.gather(store.disk, database.objects, database.scratch) > 0
    database.close()
    assert loose(Path(database.objects)) == 1
    assert git(store, "cat-file", "-s", name).strip() == "1000000"


def test_a_full_disk_leaves_everything_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = store.layout.workspaces / "shop/.git/objects"
    write(store, lambda: gathering.estimate(str(objects)) >= 256)
    before = sound(store)
    looked = Maintenance(store, git=None)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.disk, "overwrite", full)
        looked.round()
    assert (looked.figures.failures, looked.figures.gathered) == (1, 0)
    assert sound(store) == before
    looked.round()
    assert looked.figures.gathered > 0
    assert sound(store) == before


def test_a_stop_does_not_wait_for_a_git(store: Store, tmp_path: Path) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\ntouch " + str(tmp_path / "begun") + "\nsleep 100\n")
    slow.chmod(0o755)
    objects = store.layout.workspaces / "shop/.git/objects"
    write(store, lambda: gathering.estimate(str(objects)) >= 256)
    looked = Maintenance(store, git=str(slow), every=0.01)
    looked.start()
    while not (tmp_path / "begun").exists():
        pass
    looked.stop()
    assert looked.figures.gathered > 0
    sound(store)


def test_packs_go_though_some_of_their_objects_are_in_one_that_stays(store: Store) -> None:
    """As while people push: the packs of a push are marked for some seconds, and have objects that others have too."""
    objects = store.layout.workspaces / "shop/.git/objects"
    write(store, lambda: True)
    looked = Maintenance(store, git=GIT)
    git(store, "repack", "-adq")
    (large,) = [path.stem for path in (objects / "pack").glob("*.pack")]
    every = git(store, "rev-list", "--objects", "--all").split("\n")
    shared = "\n".join(line[:40] for line in every[:5]) + "\n"
    made = subprocess.run(
        ["git", "pack-objects", "-q", str(objects / "pack/pack")],
        cwd=objects.parent.parent, input=shared, check=True, capture_output=True, text=True,
    )  # fmt: skip
    (objects / f"pack/pack-{made.stdout.strip()}.keep").touch()
    before = sound(store)
    for number in range(5):
        for at in range(13):
            store.apply("shop", "main", lambda d, n=number, at=at: memory.set(d, {f"m{at}": n}), WHO).result()
        assert store.publisher.publish(store.load("shop"))
    assert looked.look(store.find("shop"))
    assert sound(store) >= before
    left = {path.stem for path in (objects / "pack").glob("*.pack")}
    assert large not in left
    assert f"pack-{made.stdout.strip()}" in left
