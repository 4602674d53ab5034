"""What is edited in a work tree: against git's own opinion, one path at a time and all of them, and when it changed."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from gitstore.lfs import Pointer
from gitstore.repository import measure
from gitstore.repository.commits import Signature, build
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import EMPTY_TREE, Blob, Object
from gitstore.repository.repository import Repository
from gitstore.repository.status import Status, status
from gitstore.repository.trees import FILE_MODE, Node, rewrite

WHO = Signature("t", "t@t", 1_700_000_000)
FILES = {f"{folder}{name}": name.encode() for folder in ("", "a/", "a/b/", "c/d/e/") for name in ("x", "y", "z")}


def test_a_file_that_grows_while_it_is_read_is_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "WHOLE", 1000)
    place = tmp_path / "a"
    place.write_bytes(b"x")
    looked = os.fstat

    def later(fd: int) -> os.stat_result:
        state = looked(fd)
        if state.st_size == 1:
            place.write_bytes(bytes(100_000))  # a download goes on
        return state

    folder = Disk().folder(str(tmp_path), [])
    assert folder is not None
    with monkeypatch.context() as patched, folder:
        patched.setattr(measure.os, "fstat", later)
        held = measure.measure(folder, "a")
    assert held.data is None
    assert held.large == Pointer(hashlib.sha256(bytes(100_000)).hexdigest(), 100_000)
    assert held.raw == Blob(bytes(100_000)).id


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "ws"
    Repository.create(Disk(), str(root), "id")
    made = Repository(Disk(), str(root), TreeCache())
    made.open()
    blobs = {path: Blob(data) for path, data in FILES.items()}
    made.database.keep(blobs.values())
    tree, trees = rewrite(made.database, EMPTY_TREE, {path: Node(FILE_MODE, blob.id) for path, blob in blobs.items()})
    for item, parsed in trees:
        made.database.keep_tree(item, parsed)
    commit = build(tree, (), WHO, WHO, "c\n")
    objects: list[Object] = [*blobs.values(), *(item for item, _ in trees), commit]
    made.publish(objects, {"main": commit.id})
    return made


def look(repository: Repository, only: set[str] | None = None, limit: int = 1000) -> Status:
    return status(Disk(), repository, limit=limit, only=only)


def said(found: Status) -> dict[str, bytes | None]:
    return {edit.path: edit.blob.data if edit.blob is not None else None for edit in found.edits}


def as_git(repository: Repository) -> dict[str, bytes | None]:
    words = ["git", "-C", repository.root, "status", "--porcelain", "-z", "-uall", "--no-renames"]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split("\0")
    paths = [line[3:] for line in lines if line]
    return {path: place.read_bytes() if (place := Path(repository.root, path)).is_file() else None for path in paths}


def test_nothing_is_edited(repository: Repository) -> None:
    assert look(repository) == Status([], [], set())
    assert look(repository, set(FILES)) == Status([], [], set())


@pytest.mark.parametrize("seed", range(25))
def test_random_edits_as_git_sees_them(repository: Repository, seed: int) -> None:
    chance = random.Random(seed)
    root = Path(repository.root)
    touched: set[str] = set()
    for _ in range(8):
        path = chance.choice([*FILES, "n", "a/n", "new/n", "c", "c/d", "a"])
        place = root / path
        touched.add(path)
        match chance.choice(("write", "delete", "move")):
            case "write":
                if place.is_dir():
                    subprocess.run(["rm", "-r", str(place)], check=True)
                while not place.parent.is_dir():
                    for blocking in place.parents:
                        if blocking.is_file():
                            touched.add(str(blocking.relative_to(root)))
                            blocking.unlink()
                    place.parent.mkdir(parents=True)
                place.write_bytes(b"%d" % chance.randrange(10**6))
            case "delete" if place.exists():
                subprocess.run(["rm", "-r", str(place)], check=True)
            case "move" if place.exists():
                target = f"moved{chance.randrange(99)}"
                if not (root / target).exists():
                    os.rename(place, root / target)
                    touched.add(target)
    wanted = as_git(repository)
    assert said(look(repository)) == wanted
    assert said(look(repository, touched)) == wanted
    for path in FILES:
        assert said(look(repository, {path})).items() <= wanted.items()


def test_staged(repository: Repository) -> None:
    root = Path(repository.root)
    (root / "x").write_bytes(b"staged")
    (root / "new").write_bytes(b"staged")
    (root / "y").write_bytes(b"not staged")
    subprocess.run(["git", "-C", str(root), "add", "x", "new"], check=True)
    subprocess.run(["git", "-C", str(root), "rm", "-q", "a/x"], check=True)
    (root / "a/y").unlink()
    assert {edit.path: edit.staged for edit in look(repository).edits} == {
        "x": True, "new": True, "a/x": True, "y": False, "a/y": False,
    }  # fmt: skip
    (root / "x").write_bytes(b"edited again")
    assert not next(edit for edit in look(repository).edits if edit.path == "x").staged


def test_when_it_changed(repository: Repository) -> None:
    root = Path(repository.root)
    before = time.time() - 0.1
    (root / "x").write_bytes(b"1")
    os.utime(root / "x", (before + 9999, before + 9999))
    os.unlink(root / "a/b/x")
    subprocess.run(["rm", "-r", str(root / "c")], check=True)
    for edit in look(repository).edits:
        assert before <= edit.time <= time.time() + 0.1, edit.path


def test_a_base_is_sound_only_where_it_was_seen_to_be(repository: Repository) -> None:
    root = Path(repository.root)
    shown = repository.tree(repository.shown["main"]).node("x")
    assert shown is not None
    old = Blob(b"old").id
    repository.bases = {"x": old, "a/y": old, "gone": old, "c/d/e/z": old, "sub/n": old}
    assert look(repository).sound == set(repository.bases)
    assert look(repository, {"x"}).sound == {"x"}
    assert look(repository, {"gone"}).sound == {"gone"}
    (root / "x").write_bytes(b"an edit")
    os.link(root / "a/y", root.parent / "other")  # the index says it is another file by now
    os.utime(root / "a/y")
    subprocess.run(["git", "init", "-q", str(root / "sub")], check=True)
    found = look(repository)
    assert found.sound == {"gone", "c/d/e/z"}
    assert [edit.base for edit in found.edits if edit.path == "x"] == [old]
    assert {trouble.path: trouble.code for trouble in found.troubles} == {"a/y": "hard_link", "sub": "repository"}


def test_hidden_files_are_not_looked_at(repository: Repository) -> None:
    root = Path(repository.root)
    git = ["git", "-C", str(root), "update-index"]
    subprocess.run([*git, "--assume-unchanged", "x"], check=True)
    subprocess.run([*git, "--skip-worktree", "y"], check=True)
    (root / "x").write_bytes(b"hidden")
    (root / "y").unlink()
    assert look(repository).edits == []
    assert look(repository, {"x", "y"}).edits == []


@pytest.mark.parametrize(
    "path", ["", ".git", ".git/config", ".git/refs/heads", "evidence", "evidence/x", "a/../x", "nowhere", "a/", "."]
)
def test_paths_that_are_none_of_ours(repository: Repository, path: str) -> None:
    Path(repository.root, "evidence").mkdir()
    Path(repository.root, "evidence/x").write_bytes(b"e")
    assert look(repository, {path}) == Status([], [], set())
