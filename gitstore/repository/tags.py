"""Snapshots in git: annotated tags that this store made, each held by a ref of its own, which nobody's git moves.

`refs/gitstore/snapshots/<name>` is what counts. `refs/tags/<name>` says the same to git; where somebody moved or
deleted it in the folder, others still see the snapshot, and a start puts it back. Format: git-mktag(1).
"""

from __future__ import annotations

from typing import NamedTuple

from gitstore.errors import Damaged
from gitstore.repository import refs
from gitstore.repository.commits import Signature, read_signature, sign, trailers
from gitstore.repository.database import Database
from gitstore.repository.disk import Disk
from gitstore.repository.objects import COMMIT, TAG, Object, Oid
from gitstore.repository.repository import Repository

MARKS = "refs/gitstore/snapshots"
TAGS = "refs/tags"


class Tag(NamedTuple):
    """What an annotated tag of a commit says."""

    commit: Oid
    name: str
    tagger: Signature
    message: str

    @property
    def trailers(self) -> dict[str, str]:
        """The trailers of the last paragraph (git-interpret-trailers(1))."""
        return trailers(self.message)

    @property
    def text(self) -> str:
        """The message without its last paragraph."""
        return self.message.rstrip().rpartition("\n\n")[0]


def build(tag: Tag) -> Object:
    """The tag object."""
    lines = (
        b"object " + tag.commit.hex().encode(),
        b"type commit",
        b"tag " + tag.name.encode(),
        b"tagger " + sign(tag.tagger),
    )
    return Object(TAG, b"\n".join(lines) + b"\n\n" + tag.message.encode("utf-8", "surrogateescape"))


def read(database: Database, oid: Oid) -> Tag:
    """The tag in an object. Raises Damaged where there is none of a commit."""
    kind, data = database.get(oid)
    head, _, message = data.partition(b"\n\n")
    said = dict(line.split(b" ", 1) for line in head.split(b"\n") if b" " in line)
    if kind != TAG or said.get(b"type") != b"commit" or not {b"object", b"tag", b"tagger"} <= said.keys():
        raise Damaged(f"{oid.hex()} is no annotated tag of a commit")
    try:
        commit = Oid(bytes.fromhex(said[b"object"].decode("ascii", "replace")))
    except ValueError:
        raise Damaged(f"the tag {oid.hex()} names no commit") from None
    if database.get(commit)[0] != COMMIT:
        raise Damaged(f"the tag {oid.hex()} names {commit.hex()}, which is no commit")
    name = said[b"tag"].decode("utf-8", "replace")
    return Tag(commit, name, read_signature(said[b"tagger"]), message.decode("utf-8", "replace"))


def marked(git: str) -> dict[str, Oid]:
    """Every snapshot: name → tag object."""
    found = refs.listed(git, (MARKS,))
    return {ref.removeprefix(f"{MARKS}/"): oid for ref, oid in found.items()}


def mark(git: str, name: str) -> Oid | None:
    """The tag object of one snapshot, or None."""
    if refs.fault(f"{TAGS}/{name}") is not None:
        return None
    try:
        return refs.read(git, f"{MARKS}/{name}")
    except (Damaged, OSError):
        return None  # what a power cut left of one that was never acknowledged


def shown(git: str) -> dict[str, Oid]:
    """Every branch and tag; a snapshot as the store has it, whatever somebody's git made of its tag."""
    found = refs.listed(git)
    for name, oid in marked(git).items():
        ref = f"{TAGS}/{name}"
        found = {other: held for other, held in found.items() if not other.startswith(f"{ref}/")}
        found[ref] = oid
    return found


def put(disk: Disk, repository: Repository, tag: Tag, old: Oid | None) -> Oid:
    """Makes a snapshot, durably, or moves it from the tag object `old`; the new tag object.

    The object is on disk before a ref names it, and the mark before the tag: after a crash the snapshot is there as a
    whole, or not at all. Raises RefLocked, RefMoved, OSError; then it may be there or not, and it can be called again.
    """
    git, made = repository.git, build(tag)
    repository.database.write(made)
    disk.sync_all(git)
    if mark(git, tag.name) != made.id:
        _swap(disk, repository, f"{MARKS}/{tag.name}", old, made.id)
        disk.sync_all(git)
    show(disk, repository, tag.name, made.id)
    return made.id


def delete(disk: Disk, repository: Repository, name: str, old: Oid) -> None:
    """Removes a snapshot, durably. A tag that somebody's git made of it stays. Raises as `put`.

    The tag goes before the mark: after a crash a start puts the tag back, or both are gone.
    """
    git, scratch = repository.git, repository.database.scratch
    if _held(git, name) == old:
        refs.delete(disk, git, scratch, f"{TAGS}/{name}", old)
        disk.sync_all(git)
    if mark(git, name) is not None:
        refs.delete(disk, git, scratch, f"{MARKS}/{name}", old)
    disk.sync_all(git)


def restore(disk: Disk, repository: Repository) -> list[str]:
    """Puts the tags of snapshots back that are not as the store has them; which. To be called at a start."""
    found = []
    for name, oid in marked(repository.git).items():
        try:
            if show(disk, repository, name, oid):
                found.append(name)
        except (refs.RefLocked, refs.RefMoved, OSError):
            continue  # others are shown the snapshot all the same
    return found


def show(disk: Disk, repository: Repository, name: str, oid: Oid) -> bool:
    """Brings the tag of a snapshot to where the snapshot is, durably; whether it was elsewhere. Raises as `put`."""
    ref = f"{TAGS}/{name}"
    held = _held(repository.git, name)
    if held == oid:
        return False
    _swap(disk, repository, ref, held, oid)
    disk.sync_all(repository.git)
    return True


def _held(git: str, name: str) -> Oid | None:
    try:
        return refs.read(git, f"{TAGS}/{name}")
    except Damaged:
        return None


def _swap(disk: Disk, repository: Repository, ref: str, old: Oid | None, new: Oid) -> None:
    try:
        refs.read(repository.git, ref)
    except Damaged:
        disk.unlink(f"{repository.git}/{ref}")  # torn by a power cut: it was never acknowledged
    refs.swap(disk, repository.git, repository.database.scratch, ref, old, new, synced=True)
