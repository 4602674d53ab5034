"""The work tree and `.git/index` as a real git sees them, and a person's edits that must survive every update."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gitstore.repository.commits import Signature, build
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk, Folder
from gitstore.repository.index import Index, IndexLocked
from gitstore.repository.objects import EMPTY_TREE, Blob, Object, Oid
from gitstore.repository.repository import Foreign, Repository
from gitstore.repository.trees import FILE_MODE, Node, rewrite

WHO = Signature("t", "t@t", 1_700_000_000)


class Bench:
    """A repository to publish to, and git beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        Repository.create(Disk(), str(root), "id")
        self.repository = Repository(Disk(), str(root), TreeCache())
        self.repository.open()
        self.head: Oid | None = None
        self.tree = EMPTY_TREE

    def commit(self, files: dict[str, bytes | None]) -> tuple[list[Object], Oid]:
        database = self.repository.database
        objects: list[Object] = []
        edits: dict[str, Node | None] = {}
        for path, data in files.items():
            if data is None:
                edits[path] = None
            else:
                blob = Blob(data)
                objects.append(blob)
                edits[path] = Node(FILE_MODE, blob.id)
        database.keep(objects)
        self.tree, trees = rewrite(database, self.tree, edits)
        for item, tree in trees:
            database.keep_tree(item, tree)
            objects.append(item)
        commit = build(self.tree, (self.head,) if self.head else (), WHO, WHO, "c\n")
        database.keep([commit])
        self.head = commit.id
        return [*objects, commit], commit.id

    def publish(self, files: dict[str, bytes | None]) -> None:
        objects, head = self.commit(files)
        self.repository.publish(objects, {"main": head})
        self.repository.database.drop(objects)

    def git(self, *words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(self.root), "-c", "user.name=p", "-c", "user.email=p@p", *words],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "ws")
    bench.publish({"workspace.yaml": b"id: 1\n", "memory/a.yaml": b"1\n", "files/x/y.md": b"# y\n"})
    return bench


def test_status_is_clean_and_fsck_agrees(bench: Bench) -> None:
    bench.publish({"memory/b.yaml": b"2\n", "memory/a.yaml": b"11\n"})
    bench.publish({"files/x/y.md": None})
    assert bench.git("status", "--porcelain") == ""
    assert not (bench.root / "files").exists()
    assert (bench.root / "memory/a.yaml").read_bytes() == b"11\n"
    assert bench.git("fsck", "--strict", "--full") == ""
    assert bench.git("log", "--format=%s") == "c\nc\nc\n"


def test_an_uncommitted_edit_stays_and_shows_as_an_edit(bench: Bench) -> None:
    (bench.root / "memory/a.yaml").write_bytes(b"mine\n")
    bench.publish({"memory/a.yaml": b"theirs\n", "memory/c.yaml": b"3\n"})
    assert (bench.root / "memory/a.yaml").read_bytes() == b"mine\n"
    assert bench.git("status", "--porcelain") == " M memory/a.yaml\n"
    assert bench.repository.left_alone == ["memory/a.yaml"]
    assert bench.git("show", "HEAD:memory/a.yaml") == "theirs\n"


def test_a_deletion_does_not_take_an_edit_with_it(bench: Bench) -> None:
    (bench.root / "files/x/y.md").write_bytes(b"mine\n")
    bench.publish({"files/x/y.md": None})
    assert (bench.root / "files/x/y.md").read_bytes() == b"mine\n"


def test_an_untracked_file_in_the_way_stays(bench: Bench) -> None:
    (bench.root / "memory/new.yaml").write_bytes(b"mine\n")
    bench.publish({"memory/new.yaml": b"theirs\n"})
    assert (bench.root / "memory/new.yaml").read_bytes() == b"mine\n"
    assert bench.git("status", "--porcelain") == " M memory/new.yaml\n"


def test_nothing_is_written_or_read_through_a_link(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.yaml").write_bytes(b"secret\n")
    for name in os.listdir(bench.root / "memory"):
        os.unlink(bench.root / "memory" / name)
    os.rmdir(bench.root / "memory")
    os.symlink(outside, bench.root / "memory")
    bench.publish({"memory/a.yaml": b"new\n", "memory/z.yaml": b"new\n"})
    assert sorted(os.listdir(outside)) == ["a.yaml"]
    assert (outside / "a.yaml").read_bytes() == b"secret\n"
    os.symlink(outside / "a.yaml", bench.root / "settings.yaml")
    bench.publish({"settings.yaml": b"{}\n"})
    assert (outside / "a.yaml").read_bytes() == b"secret\n"
    assert os.path.islink(bench.root / "settings.yaml")


def test_a_fifo_in_the_way_does_not_hang(bench: Bench) -> None:
    os.unlink(bench.root / "memory/a.yaml")
    os.mkfifo(bench.root / "memory/a.yaml")
    bench.publish({"memory/a.yaml": b"new\n"})
    assert bench.repository.left_alone == ["memory/a.yaml"]


def test_a_lock_of_somebody_else_is_waited_for(bench: Bench) -> None:
    lock = bench.root / ".git/index.lock"
    lock.write_bytes(b"")
    objects, head = bench.commit({"memory/a.yaml": b"2\n"})
    with pytest.raises(IndexLocked):
        bench.repository.publish(objects, {"main": head})
    lock.unlink()
    bench.repository.publish(objects, {"main": head})
    assert bench.git("status", "--porcelain") == ""
    assert bench.git("rev-parse", "HEAD").strip() == head.hex()


def test_a_commit_by_somebody_else_is_noticed(bench: Bench) -> None:
    (bench.root / "memory/a.yaml").write_bytes(b"person\n")
    bench.git("commit", "-qam", "person")
    objects, head = bench.commit({"memory/b.yaml": b"2\n"})
    with pytest.raises(Foreign):
        bench.repository.publish(objects, {"main": head})
    assert bench.git("log", "-1", "--format=%s") == "person\n"


def test_during_a_merge_the_checkout_is_left_alone(bench: Bench) -> None:
    shown = bench.git("rev-parse", "main")
    (bench.root / ".git/MERGE_HEAD").write_text(shown)
    bench.publish({"memory/a.yaml": b"2\n"})
    assert bench.git("rev-parse", "main") == shown
    assert (bench.root / "memory/a.yaml").read_bytes() == b"1\n"
    again = Repository(Disk(), str(bench.root), TreeCache())
    again.open()
    assert again.foreign() is None
    (bench.root / ".git/MERGE_HEAD").unlink()
    again.publish([], {})
    assert (bench.root / "memory/a.yaml").read_bytes() == b"2\n"
    assert bench.git("status", "--porcelain") == ""


def test_on_another_branch_main_goes_on_and_the_files_stay(bench: Bench) -> None:
    bench.git("checkout", "-qb", "side")
    bench.publish({"memory/a.yaml": b"2\n"})
    assert (bench.root / "memory/a.yaml").read_bytes() == b"1\n"
    assert bench.git("status", "--porcelain") == ""
    assert bench.git("show", "main:memory/a.yaml") == "2\n"


@pytest.mark.parametrize("version", ["3", "4"])
def test_an_index_of_another_version_is_understood(bench: Bench, version: str) -> None:
    bench.git("update-index", "--index-version", version)
    if version == "3":
        bench.git("update-index", "--skip-worktree", "files/x/y.md")  # an extended flag: needs version 3
    bench.publish({"memory/a.yaml": b"2\n", "memory/b.yaml": b"3\n"})
    assert bench.git("status", "--porcelain") == ""
    assert bench.git("ls-files").split() == ["files/x/y.md", "memory/a.yaml", "memory/b.yaml", "workspace.yaml"]


def test_a_damaged_index_is_made_again(bench: Bench) -> None:
    (bench.root / ".git/index").write_bytes(b"DIRC garbage that ends nowhere and has no checksum")
    bench.publish({"memory/b.yaml": b"2\n"})
    assert bench.git("status", "--porcelain") == ""


def test_an_index_changed_in_between_is_not_overwritten(bench: Bench) -> None:
    index = Index.read(f"{bench.root}/.git")
    index.set(b"zzz", FILE_MODE, Blob(b"").id, None)
    (bench.root / "other").write_bytes(b"o")
    bench.git("add", "other")
    with pytest.raises(IndexLocked):
        index.write(Disk(), f"{bench.root}/.git/gitstore")
    assert "other" in bench.git("ls-files")


# -- a person who saves in the same moment -----------------------------------------------------------------------------


class Busy(Disk):
    """A disk on which a person does something right before or after a step of ours, once."""

    def __init__(self) -> None:
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}

    def _do(self, step: str, work: Callable[[], None]) -> None:
        self.before.pop(step, lambda: None)()
        work()
        self.after.pop(step, lambda: None)()

    def exchange(self, source: str, folder: Folder, name: str) -> None:
        self._do("exchange", lambda: Disk.exchange(self, source, folder, name))

    def place(self, source: str, folder: Folder, name: str) -> None:
        self._do("place", lambda: Disk.place(self, source, folder, name))

    def take_out(self, folder: Folder, name: str, target: str) -> None:
        self._do("take_out", lambda: Disk.take_out(self, folder, name, target))

    def rmdir_in(self, folder: Folder, name: str) -> None:
        self._do("rmdir", lambda: Disk.rmdir_in(self, folder, name))


def atomically(place: Path, data: bytes) -> None:
    (place.parent.parent / "beside").write_bytes(data)
    os.rename(place.parent.parent / "beside", place)


SAVES: dict[str, Callable[[Path], object]] = {
    "in place": lambda place: place.write_bytes(b"mine, just now\n"),
    "by renaming": lambda place: atomically(place, b"mine, just now\n"),
}


@pytest.mark.parametrize("how", SAVES)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("step", "change"), [("exchange", b"theirs\n"), ("take_out", None)])
def test_a_save_in_the_middle_of_an_update_stays(
    bench: Bench, how: str, when: str, step: str, change: bytes | None
) -> None:
    place = bench.root / "memory/a.yaml"
    disk = Busy()
    bench.repository._disk = disk
    getattr(disk, when)[step] = lambda: SAVES[how](place)
    bench.publish({"memory/a.yaml": change, "memory/z.yaml": b"z\n"})
    assert not disk.before
    assert not disk.after
    assert place.read_bytes() == b"mine, just now\n"
    shown = bench.git("status", "--porcelain")
    assert shown == (" M memory/a.yaml\n" if change is not None else "?? memory/a.yaml\n")
    assert not list((bench.root / ".git").rglob("*.lock"))
    bench.publish({"memory/a.yaml": b"again\n"})
    assert place.read_bytes() == b"mine, just now\n"


def test_a_new_file_in_the_middle_of_an_update_stays(bench: Bench) -> None:
    place = bench.root / "memory/new.yaml"
    disk = Busy()
    bench.repository._disk = disk
    disk.before["place"] = lambda: place.write_bytes(b"mine\n")
    bench.publish({"memory/new.yaml": b"theirs\n"})
    assert place.read_bytes() == b"mine\n"
    assert bench.repository.bases == {"memory/new.yaml": None}


def test_a_file_that_goes_while_it_is_exchanged_stays_away(bench: Bench) -> None:
    place = bench.root / "memory/a.yaml"
    disk = Busy()
    bench.repository._disk = disk
    disk.before["exchange"] = place.unlink
    bench.publish({"memory/a.yaml": b"theirs\n"})
    assert not place.exists()
    assert bench.git("status", "--porcelain") == " D memory/a.yaml\n"


def test_a_file_that_comes_into_a_folder_that_is_being_emptied_stays(bench: Bench) -> None:
    disk = Busy()
    bench.repository._disk = disk
    disk.before["rmdir"] = lambda: (bench.root / "files/x/mine.md").write_bytes(b"mine\n")
    bench.publish({"files/x/y.md": None})
    assert (bench.root / "files/x/mine.md").read_bytes() == b"mine\n"


@pytest.mark.parametrize("then", ["gone", "saved"])
@pytest.mark.parametrize(("step", "change"), [("exchange", b"theirs\n"), ("take_out", None)])
def test_two_saves_in_a_row_while_the_first_is_put_back(
    bench: Bench, step: str, change: bytes | None, then: str
) -> None:
    """The first one comes between judging and exchanging, the second before the first is in its place again."""
    place = bench.root / "memory/a.yaml"
    disk = Busy()
    bench.repository._disk = disk

    def first() -> None:
        atomically(place, b"first\n")
        disk.after[step] = second

    def second() -> None:
        if then == "saved":
            atomically(place, b"second\n")
        else:
            place.unlink(missing_ok=True)

    disk.before[step] = first
    bench.publish({"memory/a.yaml": change})
    # At worst what was deleted is there again; the last save is never lost.
    assert place.read_bytes() == (b"second\n" if then == "saved" else b"first\n")


def test_on_a_disk_that_cannot_exchange(bench: Bench) -> None:
    class Old(Disk):
        def exchange(self, source: str, folder: Folder, name: str) -> None:
            raise OSError(errno.EINVAL, "no RENAME_EXCHANGE here")

    bench.repository._disk = Old()
    bench.publish({"memory/a.yaml": b"2\n"})
    assert (bench.root / "memory/a.yaml").read_bytes() == b"2\n"
    (bench.root / "memory/a.yaml").write_bytes(b"mine\n")
    bench.publish({"memory/a.yaml": b"3\n"})
    assert (bench.root / "memory/a.yaml").read_bytes() == b"mine\n"


def test_a_file_that_a_crash_left_in_the_scratch_place_too(bench: Bench) -> None:
    """A power cut may keep one half of a rename: the file then has both names, and renaming it does nothing."""
    os.link(bench.root / "files/x/y.md", bench.root / ".git/gitstore/work")
    bench.publish({"files/x/y.md": None})
    assert not (bench.root / "files").exists()
    assert bench.git("status", "--porcelain") == ""
