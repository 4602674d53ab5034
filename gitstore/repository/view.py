"""What the git programs that serve others are shown: a git folder of its own, with our refs and none of a person's
settings, hooks, stash or remotes.

It borrows the repository's objects. Its refs stand in one file that is replaced whole, so a program that is starting
sees one moment. Format: gitrepository-layout(5), git-pack-refs(1).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from gitstore.repository import refs, tags
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository

OBJECTS = "../../objects"  # the repository's objects, as seen from the view
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"


def served(repository: Repository) -> dict[str, Oid]:
    """Every ref that others see: the newest heads of this store's own branches, and all other branches and tags."""
    found = tags.shown(repository.git)
    for branch, ref in refs.HEADS.items():
        head = repository.kept[branch]
        if head is not None:
            found[ref] = head
        else:
            found.pop(ref, None)
    return found


def prepare(disk: Disk, repository: Repository) -> str:
    """Brings the view up to date and returns its folder. The caller holds the lock under which this is published."""
    folder = f"{repository.git}/gitstore/view"
    furnish(disk, folder, served(repository))
    return folder


def furnish(disk: Disk, folder: str, shown: Mapping[str, Oid]) -> None:
    """Makes `folder` a git folder with these refs; what is right already stays."""
    disk.makedirs(f"{folder}/refs")
    lines = "".join(f"{shown[ref].hex()} {ref}\n" for ref in sorted(shown, key=os.fsencode))
    for name, text in (
        ("config", _CONFIG),
        ("packed-refs", f"# pack-refs with: sorted \n{lines}"),
        ("HEAD", f"ref: {refs.MAIN}\n"),
    ):
        data = text.encode("utf-8", "surrogateescape")
        if _read(f"{folder}/{name}") != data:
            disk.overwrite(f"{folder}/new", data)
            disk.rename(f"{folder}/new", f"{folder}/{name}")


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
