"""Refs: read them, and move one only from the value it is known to have.

A ref is moved as git does it: take `<ref>.lock`, look again, rename (gitrepository-layout(5)).
"""

from __future__ import annotations

import os
from typing import Literal

from gitstore.errors import Damaged
from gitstore.repository.disk import Disk
from gitstore.repository.locks import Lock, Locked
from gitstore.repository.objects import Oid

MAIN = "refs/heads/main"
EVIDENCE = "refs/heads/evidence"
HEADS = {"main": MAIN, "evidence": EVIDENCE}
# What this store last published: where refs/heads/<branch> differs from it, somebody else moved the branch.
KEPT = {"main": "refs/gitstore/main", "evidence": "refs/gitstore/evidence"}

SHOWN = "refs/gitstore/shown"  # where refs/heads/main was left while a person was in the middle of something


class RefLocked(Exception):
    """Somebody's git holds the lock of the ref."""


class RefMoved(Exception):
    """The ref is not where it was; `found` is where it is (None: gone)."""

    def __init__(self, found: Oid | None) -> None:
        super().__init__(found.hex() if found else "gone")
        self.found = found


def read(git: str, ref: str) -> Oid | None:
    """The commit a ref names, or None. Raises Damaged where the file holds something else."""
    try:
        with open(f"{git}/{ref}", "rb") as file:
            text = file.read(64).strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return _packed(git, ref)
    try:
        if len(text) != 40:
            raise ValueError
        return Oid(bytes.fromhex(text.decode("ascii")))
    except ValueError:
        raise Damaged(f"{git}/{ref} does not name a commit: {text[:48]!r}") from None


def _packed(git: str, ref: str) -> Oid | None:
    try:
        with open(f"{git}/packed-refs", "rb") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    wanted = b" " + ref.encode()
    for line in lines:
        if line.endswith(wanted) and len(line) == 40 + len(wanted):
            return Oid(bytes.fromhex(line[:40].decode("ascii")))
    return None


def swap(disk: Disk, git: str, scratch: str, ref: str, old: Oid | None, new: Oid) -> None:
    """Moves a ref from `old` (None: it does not exist) to `new`. Raises RefLocked or RefMoved and leaves it alone."""
    temporary = f"{scratch}/{ref.replace('/', '-')}"
    try:
        with Lock(disk, temporary, f"{git}/{ref}", new.hex().encode() + b"\n") as lock:
            found = read(git, ref)
            if found != old:
                raise RefMoved(found)
            lock.put()
    except Locked:
        raise RefLocked(ref) from None


def checked_out(git: str) -> str | None:
    """The ref that HEAD names, or None where it is detached."""
    with open(f"{git}/HEAD", "rb") as file:
        text = file.read(1024).strip()
    return text[4:].strip().decode("utf-8", "surrogateescape") if text.startswith(b"ref:") else None


_UNDER_WAY = (
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "BISECT_LOG",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
)


def under_way(git: str) -> bool:
    """Whether a person is in the middle of a merge, rebase, cherry-pick, revert or bisect."""
    return any(os.path.lexists(f"{git}/{name}") for name in _UNDER_WAY)


def doing(git: str) -> Literal["merge", "rebase"] | None:
    """What a person is in the middle of: `rebase`, `merge` (also a cherry-pick, revert or bisect), or nothing."""
    if any(os.path.lexists(f"{git}/{name}") for name in ("rebase-merge", "rebase-apply")):
        return "rebase"
    return "merge" if under_way(git) else None


def clear_locks(disk: Disk, git: str, scratch: str, booted: float) -> list[str]:
    """Removes locks that nobody can hold any more, and says which: our own, and those older than the machine's start.

    A lock of a person's git that may still be running is left alone. To be called before any writer is let in.
    """
    try:
        ours = {entry.stat(follow_symlinks=False).st_ino for entry in os.scandir(scratch)}
    except FileNotFoundError:
        ours = set()
    gone = []
    for folder in ("", "refs/heads", "refs/gitstore"):
        try:
            names = [entry.name for entry in os.scandir(f"{git}/{folder}") if entry.name.endswith(".lock")]
        except FileNotFoundError:
            continue
        for name in names:
            path = os.path.join(git, folder, name)
            state = os.lstat(path)
            if state.st_ino in ours or state.st_mtime < booted:
                disk.unlink(path)
                gone.append(path)
    return gone
