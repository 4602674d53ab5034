"""After a crash each folder has the owner that it had, whatever of it reached the disk."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from gitstore.repository import journal, recovery
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.journal import Entry, Journal, Move, Record, encode
from gitstore.repository.lives import ASIDE, Places, find, lives, owner
from gitstore.repository.objects import BLOB, COMMIT, TREE, Object, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import FILE_MODE, encode_path

A, B, C = (f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}" for digit in "abc")
OLD, NEW, OTHER = (bytes([number]) * 20 for number in (1, 2, 3))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in ("workspaces", "trash", "journal", "secrets"):
        (tmp_path / name).mkdir()
    return Places(tmp_path)


def folder(places: Places, name: str, identity: str | None = None, **refs: bytes) -> Path:
    """A workspace's folder as a cut left it: with this in its id file, and these branches."""
    root = Path(places.workspaces, name)
    (root / ".git/gitstore").mkdir(parents=True)
    if identity is not None:
        (root / ".git/gitstore/id").write_text(identity)
    for branch, head in refs.items():
        (root / ".git/refs/gitstore").mkdir(parents=True, exist_ok=True)
        (root / f".git/refs/gitstore/{branch}").write_text(head.hex() + "\n")
    return root


def created(identity: str, *names: str, head: bytes = NEW) -> list[Record]:
    """The records of a workspace that begins and is then renamed."""
    records = [Record(identity, names[0], (Move("main", None, head),))]
    return records + [Record(identity, old, renamed=new) for old, new in itertools.pairwise(names)]


def changed(identity: str, *names: str) -> list[Record]:
    """The records of one that was there before."""
    records = [Record(identity, names[0], (Move("main", OLD, OTHER),))]
    return records + [Record(identity, old, renamed=new) for old, new in itertools.pairwise(names)]


def found(places: Places, *records: Record, restarted: bool = True) -> dict[str, str | None]:
    told = lives(records)
    find(places, told, restarted=restarted)
    return {life.workspace: Path(life.found).name if life.found is not None else None for life in told}


def write(places: Places, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal with this record, from before the machine went down."""
    with monkeypatch.context() as patch:
        patch.setattr(journal, "boot_id", lambda: "before")
        log = Journal(Disk(), places.journal, lambda group: None)
        log.start()
        log.submit(Entry(encode(record), lambda: None, lambda error: None))
        log.stop()


@pytest.mark.parametrize("left", [None, "", "\0" * 37, B[:4], B[:20] + "\0" * 17])
def test_a_circle_of_names_and_a_torn_id(places: Places, left: str | None) -> None:
    folder(places, "away", A + "\n")
    folder(places, "home", left)
    records = [*created(B, "other", "home"), *changed(A, "home", "away", "other")]
    assert found(places, *records) == {A: "away", B: "home"}


def test_of_two_that_do_not_say_it_each_gets_a_name_it_had(places: Places) -> None:
    folder(places, "one")
    folder(places, "two")
    records = [*created(A, "one", "two"), *created(B, "one")]  # B can only be `one`
    assert found(places, *records) == {A: "two", B: "one"}
    records = [*created(A, "two", "one"), *created(B, "one", "three")]
    assert found(places, *records) == {A: "two", B: "one"}


def test_what_a_folder_holds_says_whose_it_is(places: Places) -> None:
    folder(places, "one", main=OTHER)
    folder(places, "two")
    records = [*created(A, "two", "one", head=NEW), *created(B, "one", "two", head=OTHER)]
    assert found(places, *records) == {A: "two", B: "one"}
    Path(places.workspaces, "two/workspace.yaml").write_text(f"id: {C}\nname: C\n")
    records = [*created(A, "two", head=NEW), *created(B, "one", head=OTHER), *created(C, "two", head=OLD)]
    assert found(places, *records) == {A: None, B: "one", C: "two"}


def test_a_workspace_whose_id_file_a_person_removed_is_known_by_its_branch(places: Places) -> None:
    folder(places, "home", main=OLD)
    folder(places, "away", main=bytes(20))
    assert found(places, *changed(A, "home", "away")) == {A: "home"}
    assert found(places, *changed(A, "away")) == {A: None}


def test_a_folder_with_another_ones_id_is_never_taken(places: Places) -> None:
    folder(places, "home", B)
    assert found(places, *created(A, "home")) == {A: None}


def test_after_a_kill_a_persons_folder_is_not_moved(places: Places) -> None:
    (Path(places.workspaces) / "old").mkdir()
    (Path(places.workspaces) / "old" / "mine.txt").write_text("mine")
    assert found(places, *created(A, "old", "new"), restarted=False) == {A: None}


def test_a_workspace_that_lived_twice_has_two_folders(places: Places) -> None:
    Path(places.trash, "gone").mkdir()
    folder(places, "home", A)
    records = [*changed(A, "home"), Record(A, "home", trashed="gone"), *created(A, "home")]
    told = lives(records)
    find(places, told, restarted=True)
    assert [life.found for life in told] == [f"{places.trash}/gone", f"{places.workspaces}/home"]


def test_a_lost_id_is_written_again(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    tree = Object(TREE, b"")
    text = b"tree %s\nauthor A <a> 0 +0000\ncommitter A <a> 0 +0000\n\none\n" % tree.id.hex().encode()
    commit = Object(COMMIT, text)
    record = Record(
        A, "home", (Move("main", None, commit.id),), tuple((one.id, None, one.entry()) for one in (tree, commit))
    )
    folder(places, "home", A[:9])
    write(places, record, monkeypatch)
    recovery.recover(disk, places, TreeCache())
    assert owner(f"{places.workspaces}/home") == A
    repository = Repository(disk, f"{places.workspaces}/home", TreeCache())
    repository.open()
    assert repository.kept["main"] == Oid(commit.id)
    repository.database.close()


def test_a_folder_that_had_to_wait_comes_home_later(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    blob = Object(BLOB, f"id: {A}\nslug: home\n".encode())
    tree = Object(TREE, b"%o %s\0%s" % (FILE_MODE, encode_path("workspace.yaml"), blob.id))
    text = b"tree %s\nauthor A <a> 0 +0000\ncommitter A <a> 0 +0000\n\none\n" % tree.id.hex().encode()
    commit = Object(COMMIT, text)
    root = f"{places.workspaces}/{ASIDE}{A}"
    repository = Repository(disk, root, TreeCache(), workspace=A)
    repository.kept = {"main": None, "evidence": None}
    repository.shown = dict(repository.kept)
    repository.publish([blob, tree, commit], {"main": commit.id})
    repository.database.close()
    stranger = Path(places.workspaces, "home")
    stranger.mkdir()
    recovery.recover(disk, places, TreeCache())
    assert Path(root).is_dir()
    assert "is in the way" in caplog.text
    stranger.rmdir()
    recovery.recover(disk, places, TreeCache())
    assert owner(str(stranger)) == A
    assert not Path(root).exists()
