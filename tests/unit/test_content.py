"""The beginning of a content, whether it stands in git or is a large object."""

from __future__ import annotations

from pathlib import Path

from gitstore.content import beginnings
from gitstore.lfs import Objects, Pointer
from gitstore.repository.disk import Disk


def test_the_beginning_of_a_large_object_is_its_own_and_not_its_pointers(tmp_path: Path) -> None:
    git = tmp_path / "workspaces/one/.git"
    git.mkdir(parents=True)
    objects = Objects(Disk(), str(git))
    with objects.receive() as sink:
        sink.write(b"large content")
        pointer = sink.finish()
    absent = Pointer("ab" * 32, 13)
    blobs = {"large": pointer.encode(), "absent": absent.encode(), "plain": b"plain content"}
    read = beginnings(blobs.__getitem__, lambda: objects)
    assert (read("large", 5), read("large", 99)) == (b"large", b"large content")
    assert (read("plain", 5), read("absent", 7)) == (b"plain", b"version")
