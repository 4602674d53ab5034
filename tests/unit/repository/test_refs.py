"""Refs move and go only from where they are known to be, wherever git keeps them, and names are those git allows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gitstore.repository import refs
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Oid

ONE, TWO = Oid(b"\x11" * 20), Oid(b"\x22" * 20)


@pytest.fixture
def git(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    (tmp_path / ".git/gitstore").mkdir()
    return tmp_path / ".git"


def swap(git: Path, ref: str, old: Oid | None, new: Oid) -> None:
    refs.swap(Disk(), str(git), f"{git}/gitstore", ref, old, new)


def delete(git: Path, ref: str, old: Oid) -> None:
    refs.delete(Disk(), str(git), f"{git}/gitstore", ref, old)


def pack(git: Path, *refs_: tuple[str, Oid]) -> None:
    rows = [f"{oid.hex()} {ref}\n^{TWO.hex()}\n" if "tags" in ref else f"{oid.hex()} {ref}\n" for ref, oid in refs_]
    (git / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + "".join(rows))


def test_a_deleted_ref_does_not_come_back_from_packed_refs(git: Path) -> None:
    pack(git, ("refs/heads/a", ONE), ("refs/heads/a/b/c", ONE), ("refs/tags/v1", ONE), ("refs/tags/v10", ONE))
    swap(git, "refs/tags/v1", ONE, TWO)
    delete(git, "refs/tags/v1", TWO)
    assert refs.read(str(git), "refs/tags/v1") is None
    assert refs.listed(str(git)) == {"refs/heads/a": ONE, "refs/heads/a/b/c": ONE, "refs/tags/v10": ONE}
    assert (git / "packed-refs").read_text().count("^") == 1
    assert sorted(path.name for path in (git / "gitstore").iterdir()) == []
    assert not list(git.rglob("*.lock"))


def test_what_is_not_where_it_was_stays(git: Path) -> None:
    swap(git, "refs/heads/a", None, ONE)
    with pytest.raises(refs.RefMoved):
        delete(git, "refs/heads/a", TWO)
    with pytest.raises(refs.RefMoved):
        swap(git, "refs/heads/a", None, TWO)
    assert refs.read(str(git), "refs/heads/a") == ONE
    (git / "refs/heads/a.lock").touch()
    with pytest.raises(refs.RefLocked):
        delete(git, "refs/heads/a", ONE)
    (git / "refs/heads/a.lock").unlink()
    pack(git, ("refs/heads/a", ONE))
    (git / "packed-refs.lock").touch()
    with pytest.raises(refs.RefLocked):
        delete(git, "refs/heads/a", ONE)
    assert refs.read(str(git), "refs/heads/a") == ONE
    assert not (git / "refs/heads/a.lock").exists()


def test_a_branch_takes_the_place_of_the_empty_folders_of_another(git: Path) -> None:
    swap(git, "refs/heads/topic/one/deep", None, ONE)
    delete(git, "refs/heads/topic/one/deep", ONE)
    swap(git, "refs/heads/topic", None, TWO)
    assert refs.listed(str(git)) == {"refs/heads/topic": TWO}


def test_what_is_no_branch_or_tag_is_not_listed(git: Path) -> None:
    swap(git, "refs/heads/good", None, ONE)
    (git / "refs/heads/torn").write_text("")
    (git / "refs/heads/symbolic").write_text("ref: refs/heads/good\n")
    (git / "refs/heads/x.lock").write_text(ONE.hex())
    swap(git, "refs/remotes/origin/main", None, ONE)
    assert refs.listed(str(git)) == {"refs/heads/good": ONE}


@pytest.mark.parametrize("name", [
    "a", "a/b", "ü", "a.b", "@", "a@b", "a..b", "a b", ".a", "a/.b", "a.lock", "a.lock/b", "a/", "a//b", "a.", "a~1",
    "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a@{1}", "a\x7fb", "a\tb",
])  # fmt: skip
def test_names_are_those_that_git_allows(name: str) -> None:
    ref = f"refs/heads/{name}"
    allowed = subprocess.run(["git", "check-ref-format", ref], check=False).returncode == 0
    assert (refs.fault(ref) is None) == allowed


@pytest.mark.parametrize("name", ["-a", "HEAD", "x" * 201, "\udcff", "/".join("x" * 100 for _ in range(6))])
def test_names_that_git_allows_and_this_store_does_not(name: str) -> None:
    assert refs.fault(f"refs/heads/{name}") is not None
