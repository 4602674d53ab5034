"""Refs: read them, and move one only from the value it is known to have.

A ref is moved as git does it: take `<ref>.lock`, look again, rename (gitrepository-layout(5)).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from hashlib import sha1
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

# Where refs/heads/<branch> was left while it waits for a person: in the middle of something, or having moved it.
SHOWN = {"main": "refs/gitstore/shown", "evidence": "refs/gitstore/shown-evidence"}


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


def _lines(git: str) -> list[bytes]:
    try:
        with open(f"{git}/packed-refs", "rb") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _packed(git: str, ref: str) -> Oid | None:
    lines = _lines(git)
    wanted = b" " + ref.encode()
    for line in lines:
        if line.endswith(wanted) and len(line) == 40 + len(wanted):
            return Oid(bytes.fromhex(line[:40].decode("ascii")))
    return None


def swap(disk: Disk, git: str, scratch: str, ref: str, old: Oid | None, new: Oid, *, synced: bool = False) -> None:
    """Moves a ref from `old` (None: it does not exist) to `new`. Raises RefLocked or RefMoved and leaves it alone.

    `synced`: no power cut leaves the file of the ref torn, though no journal has it.
    """
    try:
        with Lock(disk, _scratch(scratch, ref), f"{git}/{ref}", new.hex().encode() + b"\n") as lock:
            found = read(git, ref)
            if found != old:
                raise RefMoved(found)
            _clear(disk, f"{git}/{ref}")
            if synced:
                disk.sync_file(_scratch(scratch, ref))
            lock.put()
    except Locked:
        raise RefLocked(ref) from None


def delete(disk: Disk, git: str, scratch: str, ref: str, old: Oid) -> None:
    """Removes a ref that is at `old`, wherever it is kept. Raises RefLocked or RefMoved and leaves it alone.

    It goes from `packed-refs` first: the other way round, what stands there would come back after a crash.
    """
    try:
        with Lock(disk, _scratch(scratch, ref), f"{git}/{ref}", b""):
            found = read(git, ref)
            if found != old:
                raise RefMoved(found)
            if _packed(git, ref) is not None:
                lines = _lines(git)
                with Lock(disk, f"{scratch}/packed-refs", f"{git}/packed-refs", _without(lines, ref)) as whole:
                    if _lines(git) != lines:
                        raise RefLocked(ref)  # somebody's git packed refs between the look and the lock
                    disk.sync_file(f"{scratch}/packed-refs")
                    whole.put()
            for gone in (f"{git}/{ref}", f"{git}/logs/{ref}"):
                if os.path.isfile(gone):
                    disk.unlink(gone)
    except Locked:
        raise RefLocked(ref) from None


def _scratch(scratch: str, ref: str) -> str:
    """The scratch file of a ref's lock: one for each ref, so that a lock which was left over is known again."""
    return f"{scratch}/ref-{sha1(ref.encode('utf-8', 'surrogateescape'), usedforsecurity=False).hexdigest()[:16]}"


def _clear(disk: Disk, place: str) -> None:
    """Removes folders without a ref in them that stand where a ref is to be, as git leaves them behind."""
    if os.path.isdir(place):
        for folder, _, _ in os.walk(place, topdown=False):
            try:
                disk.rmdir(folder)
            except OSError:
                return  # not empty: the rename that follows says so


def _without(lines: list[bytes], ref: str) -> bytes:
    """`packed-refs` without one ref and the line that says what its tag names (git-pack-refs(1))."""
    kept: list[bytes] = []
    wanted, skipped = b" " + ref.encode("utf-8", "surrogateescape"), False
    for line in lines:
        if line.startswith(b"^") and skipped:
            continue
        skipped = line.endswith(wanted) and len(line) == 40 + len(wanted)
        if not skipped:
            kept.append(line + b"\n")
    return b"".join(kept)


def listed(git: str, tops: Sequence[str] = ("refs/heads", "refs/tags")) -> dict[str, Oid]:
    """Every branch and tag with what it names. Symbolic refs, and files that hold no id, are left out."""
    found: dict[str, Oid] = {}
    wanted = tuple(f"{top}/".encode() for top in tops)
    for line in _lines(git):
        oid, _, name = line.partition(b" ")
        if len(oid) == 40 and name.startswith(wanted):
            try:
                found[name.decode("utf-8", "surrogateescape")] = Oid(bytes.fromhex(oid.decode("ascii")))
            except ValueError:
                continue
    for ref in _loose(git, tops):
        try:
            oid_or_none = read(git, ref)
        except (Damaged, OSError):
            oid_or_none = None
        if oid_or_none is None:
            found.pop(ref, None)
        else:
            found[ref] = oid_or_none
    return {ref: oid for ref, oid in found.items() if fault(ref) is None}


def _loose(git: str, tops: Sequence[str]) -> Iterator[str]:
    for top in tops:
        for folder, _, files in os.walk(f"{git}/{top}"):
            for name in files:
                if not name.endswith(".lock"):
                    yield f"{os.path.relpath(folder, git)}/{name}"


_ODD = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/$|\.$")


def fault(ref: str) -> str | None:
    """Why this cannot be the name of a branch or tag, or None (git-check-ref-format(1), and what a disk can hold)."""
    if _ODD.search(ref):
        return "git allows no such name (git check-ref-format says which it allows)"
    parts = ref.split("/")
    if any(part.startswith((".", "-")) or part.endswith(".lock") for part in parts):
        return "no part of a name may begin with `.` or `-`, or end with `.lock`"
    try:
        if any(len(part.encode("utf-8")) > 200 for part in parts) or len(ref) > 512:
            return "it is too long"
    except UnicodeEncodeError:
        return "it is not UTF-8"
    return "it is reserved" if parts[-1] == "HEAD" and len(parts) == 3 else None


def checked_out(git: str) -> str | None:
    """The ref that HEAD names, or None where it is detached."""
    with open(f"{git}/HEAD", "rb") as file:
        text = file.read(1024).strip()
    return text[4:].strip().decode("utf-8", "surrogateescape") if text.startswith(b"ref:") else None


def in_use(git: str, ref: str) -> bool:
    """Whether a person has this ref checked out, in the folder or in another work tree (git-worktree(1))."""
    heads = [git]
    try:
        heads += [entry.path for entry in os.scandir(f"{git}/worktrees")]
    except FileNotFoundError:
        pass
    for place in heads:
        try:
            if checked_out(place) == ref:
                return True
        except OSError:
            continue
    return False


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


def rebased(git: str) -> str | None:
    """The ref that a rebase is about to move, while HEAD is detached (git-rebase(1))."""
    for name in ("rebase-merge", "rebase-apply"):
        try:
            with open(f"{git}/{name}/head-name", "rb") as file:
                return file.read(1024).strip().decode("utf-8", "surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None


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
    nested = [
        os.path.relpath(one[0], git) for top in ("heads", "tags", "gitstore") for one in os.walk(f"{git}/refs/{top}")
    ]
    for folder in ("", *nested):
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
