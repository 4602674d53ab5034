"""Snapshots in git: tags as git makes them, marks that count, and what is left of them after a crash in between."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gitstore.errors import Damaged
from gitstore.repository import refs, tags
from gitstore.repository.commits import Signature
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository
from gitstore.repository.tags import Tag

WHO = Signature("Ada L", "ada@example.org", 1_700_000_000)


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "two")
    (tmp_path / ".git/gitstore").mkdir()
    return Repository(Disk(), str(tmp_path), TreeCache())


def tag(repository: Repository, name: str = "v1", rev: str = "HEAD", text: str = "Hello") -> Tag:
    commit = Oid(bytes.fromhex(git(Path(repository.root), "rev-parse", rev)))
    return Tag(commit, name, WHO, f"{text}\n\nGitstore-Evidence: {'1' * 40}\nGitstore-Time: 5\n")


def test_it_is_what_git_makes_of_it(repository: Repository) -> None:
    root, one = Path(repository.root), tag(repository, text="Hello\n\nmore: words")
    oid = tags.put(Disk(), repository, one, None)
    assert git(root, "rev-parse", "v1") == oid.hex()
    assert git(root, "cat-file", "-t", "v1") == "tag"
    assert git(root, "for-each-ref", "--format=%(taggername)|%(contents:subject)", "refs/tags") == "Ada L|Hello"
    git(root, "fsck", "--strict")
    again = tags.read(repository.database, oid)
    assert again == one
    assert (again.text, again.trailers["Gitstore-Time"]) == ("Hello\n\nmore: words", "5")
    assert tags.marked(repository.git) == {"v1": oid}
    assert tags.mark(repository.git, "v1") == oid


def test_what_git_made_is_read_too(repository: Repository) -> None:
    root = Path(repository.root)
    git(root, "tag", "-a", "-m", "by hand", "v2")
    made = tags.read(repository.database, Oid(bytes.fromhex(git(root, "rev-parse", "v2"))))
    assert (made.name, made.message, made.trailers) == ("v2", "by hand\n", {})
    git(root, "tag", "-a", "-m", "of a tree", "v3", "HEAD^{tree}")
    for what in ("v3", "HEAD", "HEAD^{tree}"):
        with pytest.raises(Damaged):
            tags.read(repository.database, Oid(bytes.fromhex(git(root, "rev-parse", what))))


def test_moving_needs_to_know_from_where_and_can_be_repeated(repository: Repository) -> None:
    first = tags.put(Disk(), repository, tag(repository), None)
    second = tag(repository, rev="HEAD~1")
    with pytest.raises(refs.RefMoved):
        tags.put(Disk(), repository, second, None)
    moved = tags.put(Disk(), repository, second, first)
    assert tags.put(Disk(), repository, second, first) == moved  # as after a lock half-way
    assert git(Path(repository.root), "rev-parse", "v1") == moved.hex()


@pytest.mark.parametrize("packed", [False, True])
def test_a_start_completes_what_a_crash_left_between_mark_and_tag(repository: Repository, packed: bool) -> None:
    root = Path(repository.root)
    oid = tags.put(Disk(), repository, tag(repository), None)
    if packed:
        git(root, "pack-refs", "--all")
    git(root, "tag", "-d", "v1")
    assert tags.shown(repository.git)["refs/tags/v1"] == oid
    assert tags.restore(Disk(), repository) == ["v1"]
    assert git(root, "rev-parse", "v1") == oid.hex()
    assert tags.restore(Disk(), repository) == []
    git(root, "tag", "-f", "v1", "HEAD~1")
    assert tags.restore(Disk(), repository) == ["v1"]
    (root / ".git/refs/tags/v1").write_bytes(b"\0" * 41)  # torn
    assert tags.restore(Disk(), repository) == ["v1"]
    assert git(root, "rev-parse", "v1") == oid.hex()
    tags.delete(Disk(), repository, "v1", oid)
    assert git(root, "for-each-ref", "refs/tags", "refs/gitstore") == ""
    assert tags.restore(Disk(), repository) == []


def test_a_mark_that_a_power_cut_tore_was_never_there(repository: Repository) -> None:
    place = Path(repository.git) / tags.MARKS / "v1"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"")
    assert tags.mark(repository.git, "v1") is None
    assert tags.marked(repository.git) == {}
    oid = tags.put(Disk(), repository, tag(repository), None)
    assert tags.mark(repository.git, "v1") == oid


def test_a_tag_that_somebody_moved_stays_when_the_snapshot_goes(repository: Repository) -> None:
    root = Path(repository.root)
    oid = tags.put(Disk(), repository, tag(repository), None)
    git(root, "tag", "-f", "v1", "HEAD~1")
    tags.delete(Disk(), repository, "v1", oid)
    assert tags.marked(repository.git) == {}
    assert git(root, "rev-parse", "v1") == git(root, "rev-parse", "HEAD~1")


@pytest.mark.parametrize("name", ["../main", "..", "/etc/passwd", "a\0b", "", ".", "x" * 300, "a//b", "shown/../main"])
def test_no_name_leads_out_of_the_marks(repository: Repository, name: str) -> None:
    assert tags.mark(repository.git, name) is None
