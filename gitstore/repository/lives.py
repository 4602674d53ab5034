"""What the journal tells of each workspace, and which folder is whose after a crash.

A folder's name, its id file, or what its repository holds says so. A folder that a power cut left without any of these
was being made: every folder like that belongs to one of the workspaces that the journal creates, and holds nothing that
the journal does not have; so each gets an owner by elimination, and none is in the way of another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gitstore import names
from gitstore.errors import Damaged
from gitstore.repository import journal, refs
from gitstore.repository.objects import BLOB, identify

ASIDE = ".moving-"  # and the workspace's id: a folder that waits for its new name to be free
_SURE = 1000  # what no other workspace's folder can hold counts for more than any number of things that one may


class Places:
    """Where recovery works: folders of one store."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.journal = f"{root}/journal"
        self.workspaces = f"{root}/workspaces"
        self.trash = f"{root}/trash"
        self.secrets = f"{root}/secrets"


class Life:
    """The records of one workspace, to its last one or to its end in the trash."""

    def __init__(self, first: journal.Record) -> None:
        self.workspace = first.workspace
        self.names = [first.folder]
        self.records: list[journal.Record] = []
        self.trashed: str | None = None
        self.found: str | None = None  # where its folder is

    def take(self, record: journal.Record) -> None:
        """One record further."""
        if record.trashed is not None:
            self.trashed = record.trashed
        else:
            self.records.append(record)
        if record.renamed is not None:
            self.names.append(record.renamed)

    @property
    def creates(self) -> bool:
        """Whether the workspace begins in the journal, so that all of it is there."""
        return any(move.old is None for record in self.records for move in record.moves if move.branch == "main")

    def place(self, places: Places) -> str:
        """Where the folder belongs."""
        if self.trashed is not None:
            return f"{places.trash}/{self.trashed}"
        return f"{places.workspaces}/{self.names[-1]}"


def lives(records: Sequence[journal.Record]) -> list[Life]:
    """The records by workspace; one that was deleted and made again lives twice."""
    found: list[Life] = []
    open_: dict[str, Life] = {}
    for record in records:
        if record.workspace not in open_:
            open_[record.workspace] = Life(record)
            found.append(open_[record.workspace])
        open_[record.workspace].take(record)
        if record.trashed is not None:
            del open_[record.workspace]
    return found


def find(places: Places, lives: Sequence[Life], *, restarted: bool) -> None:
    """Sets where the folder of each is: None where it was not made yet, or where a person took it away."""
    taken: set[str] = set()
    for life in lives:
        _settle(life, (path for path in _named(places, life) if os.path.isdir(path)), taken)
    for life in lives:
        if life.found is None:
            _settle(life, (path for path in _paths(places, life) if owner(path) == life.workspace), taken)
    for path, life in _eliminate(places, [life for life in lives if life.found is None], taken, restarted):
        _settle(life, (path,), taken)


def _settle(life: Life, paths: Iterable[str], taken: set[str]) -> None:
    life.found = next((path for path in paths if path not in taken), None)
    if life.found is not None:
        taken.add(life.found)


def _named(places: Places, life: Life) -> Iterator[str]:
    """Where a folder can only be this one's."""
    yield f"{places.workspaces}/{ASIDE}{life.workspace}"
    if life.trashed is not None:
        yield f"{places.trash}/{life.trashed}"


def _paths(places: Places, life: Life) -> list[str]:
    """Where the folder may be besides, the newest name first: a folder's renames reach the disk in their order."""
    return [f"{places.workspaces}/{name}" for name in dict.fromkeys(reversed(life.names))]


def owner(root: str) -> str | None:
    """The id of the workspace whose folder this is; None where that is not written, or not wholly."""
    written = _written(root)
    return written if names.is_uuid(written) else None


def _written(root: str) -> str:
    try:
        with open(f"{root}/.git/gitstore/id", encoding="utf-8", errors="replace") as file:
            return file.read(64).strip("\0\n ")
    except OSError:
        return ""  # not there, or a person put something else in its place


# -- folders that do not say whose they are -----------------------------------------------------------------------


def _eliminate(places: Places, lives: Sequence[Life], taken: set[str], restarted: bool) -> Iterator[tuple[str, Life]]:
    """An owner for each folder that does not say it: first by what it holds, then as they are left over."""
    wanted: dict[str, list[tuple[int, Life]]] = {}
    for life in lives:
        creates = life.creates
        for path in _paths(places, life):
            if path not in taken and os.path.isdir(path) and owner(path) is None:
                likeness = _likeness(path, life)
                # After the end of a process a folder without its id has nothing else in it yet.
                if likeness >= _SURE or (creates and (restarted or set(os.listdir(path)) <= {".git"})):
                    wanted.setdefault(path, []).append((likeness, life))
    choices: dict[str, list[Life]] = {}
    for path, found in wanted.items():
        found.sort(key=lambda one: -one[0])
        choices[path] = [life for likeness, life in found if likeness >= _SURE or found[0][0] < _SURE]
    holders: dict[int, tuple[str, Life]] = {}

    def give(path: str, asked: set[int]) -> bool:
        # An augmenting path of a bipartite matching: whoever holds a life takes another, if it can.
        for life in choices[path]:
            if id(life) not in asked:
                asked.add(id(life))
                if id(life) not in holders or give(holders[id(life)][0], asked):
                    holders[id(life)] = path, life
                    return True
        return False

    for path in sorted(choices, key=lambda path: -wanted[path][0][0]):
        give(path, set())
    yield from holders.values()


def _likeness(root: str, life: Life) -> int:
    """How much in a folder speaks for its being this one's."""
    git = f"{root}/.git"
    commits = {move.new for record in life.records for move in record.moves}
    commits |= {move.old for record in life.records for move in record.moves if move.old is not None}
    begun = _written(root)
    count = _SURE * (len(begun) >= 8 and life.workspace.startswith(begun))
    for ref in (*refs.KEPT.values(), *refs.HEADS.values()):
        try:
            count += _SURE * (refs.read(git, ref) in commits)
        except Damaged:
            pass  # torn: it says nothing
    objects = commits | {oid for record in life.records for oid, _, _ in record.entries}
    for oid in objects:
        if os.path.exists(f"{git}/objects/{oid.hex()[:2]}/{oid.hex()[2:]}"):
            count += _SURE if oid in commits else 1
    for path, data in _checked_out(root):
        if path == f"{root}/workspace.yaml" and life.workspace.encode() in data:
            count += _SURE
        count += identify(BLOB, data) in objects
    return count


def _checked_out(root: str) -> Iterator[tuple[str, bytes]]:
    for folder, inner, found in os.walk(root):
        if ".git" in inner:
            inner.remove(".git")
        for name in found:
            path = f"{folder}/{name}"
            if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) <= 1 << 20:
                with open(path, "rb") as file:
                    yield path, file.read()
