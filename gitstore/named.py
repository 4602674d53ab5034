"""Which large objects a repository still needs: those that any commit names which anything in `.git` leads to.

What git itself may come back to counts: branches, tags, the stash, reflogs, a merge or rebase under way, other work
trees, their indexes. Only of the evidence branch the history counts no longer than a time of grace: what an artifact
held that was taken off the branch before is named by nothing else, unless a snapshot is of a state that had it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator

from gitstore.errors import Damaged
from gitstore.facts import time_of
from gitstore.lfs.pointer import POINTER_MAX
from gitstore.repository import tags
from gitstore.repository.commits import Commit
from gitstore.repository.index import Index, IndexForeign
from gitstore.repository.objects import BLOB, COMMIT, TAG, TREE, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import Tree

_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")
_OID = re.compile(rb"^oid sha256:([0-9a-f]{64})\r?$", re.MULTILINE)
_EVIDENCE = "Gitstore-Evidence"  # of a snapshot (moments.py)
_PIECE = 1 << 20
_ELSEWHERE = frozenset({"objects", "lfs", "hooks"})  # of `.git`: no refs there
_FOLDER, _SUBMODULE = b"40000", b"160000"


class Named:
    """The ids of the large objects that one repository names. `look` may be called again, and adds what is new."""

    def __init__(self, repository: Repository) -> None:
        self.oids: set[str] = set()
        self._repository = repository
        self._seen: set[Oid] = set()
        self._whole: set[Oid] = set()  # commits whose history was followed to its end
        self._times: dict[Oid, int] = {}  # effective times of commits up to which the evidence was followed
        self._sure = True  # whether what is followed must be here

    def look(self, heads: Iterable[Oid], evidence: Oid | None, since: int) -> None:
        """Follows everything in `.git` and `heads` to its beginning, and `evidence` back to `since` (ms).

        Raises Damaged where an object cannot be read, or one that a branch or a tag leads to is missing: then nothing
        may be said about what is not named. OSError.
        """
        git = self._repository.git
        left = (self._repository.kept.get("evidence"), self._repository.shown.get("evidence"))
        of_evidence = {head for head in (evidence, *left) if head is not None}
        self._sure = True
        for head in of_evidence:
            self._recent(head, since)
        surely: set[Oid] = set(heads)
        perhaps: set[Oid] = set()
        for oid, sure in _ids(git):
            (surely if sure else perhaps).add(oid)
        for oid in surely - of_evidence:
            self._follow(oid)
        self._sure = False
        for oid in perhaps - of_evidence:
            self._follow(oid)
        for blob in _indexed(git):
            self._blob(blob)

    def _get(self, oid: Oid) -> tuple[int, bytes] | None:
        """An object; None where it is not here, as what a reflog names may be. Raises Damaged where it has to be."""
        try:
            return self._repository.database.get(oid)
        except Damaged as error:
            if not self._sure and "is missing" in error.message:
                return None
            raise

    def _follow(self, oid: Oid) -> None:
        """Everything that an object leads to, however far back."""
        waiting = [oid]
        while waiting:
            here = waiting.pop()
            if here in self._whole:
                continue
            self._whole.add(here)
            found = self._get(here)
            if found is None:
                continue
            kind, data = found
            if kind == COMMIT:
                commit = self._repository.commit(here)
                self._tree(commit.tree)
                waiting.extend(commit.parents)
            elif kind == TAG:
                waiting.append(Oid(bytes.fromhex(data[7:47].decode("ascii"))))
                self._snapshot(here)
            elif kind == TREE:
                self._tree(here)
            elif kind == BLOB:
                self._blob(here)

    def _snapshot(self, oid: Oid) -> None:
        """The state of the evidence that a tag names beside its commit, if it is a snapshot."""
        database = self._repository.database
        try:
            said = tags.read(database, oid).trailers.get(_EVIDENCE, "").lower()
        except Damaged:
            return  # of something else than a commit, which no snapshot is
        if _ID.fullmatch(said.encode()) is None:
            return
        head = Oid(bytes.fromhex(said))
        if database.has(head) and database.get(head)[0] == COMMIT:  # a tag of somebody else may say anything there
            self._tree(self._repository.commit(head).tree)

    def _recent(self, head: Oid, since: int) -> None:
        """The evidence branch as it was at `since`, and every state after that; of what was followed, nothing again.

        Whoever looks a second time holds up the writers meanwhile, and the branch may be long.
        """
        news: list[Commit] = []
        here: Oid | None = head
        while here is not None and here not in self._times:
            commit = self._repository.commit(here)
            news.append(commit)
            here = commit.parents[0] if commit.parents else None
        latest = self._times[here] if here is not None else 0
        before: Oid | None = None
        for commit in reversed(news):
            latest = max(latest, time_of(commit))  # the effective time: what is dated back came when it came
            if latest < since:
                before = commit.tree
                continue
            self._tree(commit.tree)
            for parent in commit.parents[1:]:
                self._follow(parent)
        if before is not None:
            self._tree(before)
        self._times[head] = latest

    def _tree(self, oid: Oid) -> None:
        waiting = [oid]
        while waiting:
            here = waiting.pop()
            if here in self._seen:
                continue
            self._seen.add(here)
            found = self._get(here)
            if found is None:
                continue
            for entry in Tree.parse(found[1]).entries:  # `<mode> <name>\0<20 bytes>`
                mode, oid = entry.partition(b" ")[0].lstrip(b"0"), Oid(entry[-20:])
                if mode == _FOLDER:
                    waiting.append(oid)
                elif mode != _SUBMODULE:
                    self._blob(oid)

    def _blob(self, oid: Oid) -> None:
        if oid in self._seen:
            return
        self._seen.add(oid)
        found = self._get(oid)
        if found is not None and len(found[1]) <= POINTER_MAX:
            # A pointer with extensions names an object as well, although only others can say what it stands for.
            self.oids.update(oid.decode() for oid in _OID.findall(found[1]))


def _ids(git: str) -> Iterator[tuple[Oid, bool]]:
    """Every object id that a file of `.git` outside the objects says, and whether it is one of a ref, not of a log or
    of what is under way.
    """
    for folder, folders, files in os.walk(git):
        if folder == git:
            folders[:] = [name for name in folders if name not in _ELSEWHERE]
        refs = folder == f"{git}/refs" or folder.startswith(f"{git}/refs/")
        for name in files:
            if name == "index" or name.endswith((".lock", ".pack", ".idx")):
                continue
            sure = refs or (folder == git and name == "packed-refs")
            for text in _texts(f"{folder}/{name}"):
                yield Oid(bytes.fromhex(text.decode("ascii"))), sure


def _texts(path: str) -> Iterator[bytes]:
    """What looks like an id in a file, which may be large; nothing of what is no file (git puts sockets there)."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return
        with open(path, "rb") as file:
            held = b""
            while data := file.read(_PIECE):
                held += data
                yield from set(_ID.findall(held))
                held = held[-41:]  # an id that goes on in the next piece, and what stands before it
    except FileNotFoundError:
        return


def _indexed(git: str) -> Iterator[Oid]:
    """The blobs in the index of every work tree. Raises Damaged for one that cannot be read."""
    places = [git]
    if os.path.isdir(f"{git}/worktrees"):
        places += [entry.path for entry in os.scandir(f"{git}/worktrees") if entry.is_dir(follow_symlinks=False)]
    for place in places:
        try:
            yield from Index.read(place).blobs()
        except IndexForeign as error:
            raise Damaged(f"the index in {place} cannot be read: {error}") from error
