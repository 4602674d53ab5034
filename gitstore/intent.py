"""What a commit by hand says without its author having meant it.

`git commit` reads the index before it takes its lock, and this store brings the index up to date before the branch: so
a commit may have in it files as they were before, or as they are only to be. And a file with an edit in it is not
brought up to date, so that a commit of it says again what the store has changed since. The work tree, the branch, and
what the edits began from (`repository.bases`) tell what was meant.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from gitstore.merging import merge_file
from gitstore.repository.ancestry import leads_to
from gitstore.repository.journal import Files
from gitstore.repository.objects import BLOB, Blob, Oid, identify
from gitstore.repository.repository import Repository
from gitstore.repository.trees import Node, TreeView, compare
from gitstore.repository.worktree import regular

_LOOKED_BACK = 1000  # commits between the reading of an index and its commit


class Slips:
    """The slips of one commit `found` that somebody made on top of `since`, while the branch came to be at `old`."""

    def __init__(self, repository: Repository, since: Oid | None, found: Oid, old: Oid | None) -> None:
        self._repository = repository
        self._since = since
        self._found = found
        self._old = old
        self._stale: dict[str, Blob | None] = {}  # older in the commit than before it: what to bring back
        self._early: dict[str, Oid | None] = {}  # newer in the commit than before it, though its author knows nothing

    def look(self) -> None:
        """Finds them. Raises Damaged."""
        repository, since, old = self._repository, self._since, self._old
        if since is None or not leads_to(repository, since, self._found):
            return  # rewritten: what is in it was chosen
        before, after = repository.tree(since), repository.tree(self._found)
        there = repository.on_main() and not repository.busy()
        for path, was, now in compare(repository.database, before.root, after.root):
            if any(node is not None and not regular(node) for node in (was, now)):
                continue
            if old is not None and self._ahead(path, was, now, old):
                self._early[path] = now.id if now is not None else None
            elif there and self._behind(path, was, now, since):
                self._stale[path] = Blob(repository.database.blob(was.id)) if was is not None else None

    def _ahead(self, path: str, was: Node | None, now: Node | None, old: Oid) -> bool:
        blob = now.id if now is not None else None
        if old == self._since or (path in self._repository.bases and self._holds(path) == blob):
            return False
        return any(blob_at(view, path) == blob for view in self._views(old, self._since))

    def _behind(self, path: str, was: Node | None, now: Node | None, since: Oid) -> bool:
        repository = self._repository
        if was is not None and now is not None and was.id == now.id:
            return False
        holds = self._holds(path)
        edited = path in repository.bases
        if was is not None and not edited:
            return holds == was.id
        if now is None or (was is None and (edited or os.path.lexists(f"{repository.root}/{path}"))):
            return False
        return holds != now.id and any(blob_at(view, path) == now.id for view in self._views(since, None))

    def _holds(self, path: str) -> Oid | None:
        data = self._repository.work_file(path)
        return identify(BLOB, data) if data is not None else None

    def _views(self, here: Oid | None, end: Oid | None) -> Iterator[TreeView]:
        """The files of the branch, commit by commit back from `here`."""
        for _ in range(_LOOKED_BACK):
            if here is None or here == end:
                return
            commit = self._repository.commit(here)
            yield TreeView(self._repository.database, commit.tree)
            here = commit.parents[0] if commit.parents else None

    def mended(self) -> dict[str, Blob | None]:
        """The edits which make of the commit what its author meant."""
        repository, since = self._repository, self._since
        edits = dict(self._stale)
        if since is None or not leads_to(repository, since, self._found):
            return edits
        before, after = repository.tree(since), repository.tree(self._found)
        for path in self._early:
            was = blob_at(before, path)
            edits[path] = Blob(repository.database.blob(was)) if was is not None else None
        for path in repository.begun():
            ours, theirs = blob_at(before, path), blob_at(after, path)
            if path in edits or theirs == ours:
                continue
            began = self._began(path, ours, theirs)
            texts = [repository.database.blob(oid) if oid is not None else None for oid in (began, ours, theirs)]
            merged = merge_file(path, texts[0], texts[1], texts[2], prefer="theirs").data
            if merged != texts[2]:
                edits[path] = Blob(merged) if merged is not None else None
        return edits

    def _began(self, path: str, ours: Oid | None, theirs: Oid | None) -> Oid | None:
        """What the commit's file began from, where `ours` is what it changed."""
        repository = self._repository
        if theirs is None:
            return repository.bases[path] if path in repository.bases else repository.origin(path, ours, None)
        # The edit that is in the file by now may be another than the one that was committed.
        return repository.likest(path, repository.bases.get(path, ours), repository.database.blob(theirs))

    def _newest(self, path: str, blob: Oid | None) -> bool:
        """Whether what the file says now began from what the commit says, and not from what was written there since."""
        repository = self._repository
        data = repository.work_file(path)
        return (repository.origin(path, blob, None) if data is None else repository.likest(path, blob, data)) == blob

    def taken(self, kept: Files) -> dict[str, Oid | None]:
        """Of the files with edits in them, but those that are `kept`: what of their edits the commit has in it. Of the
        others with a slip: what this store has in the work tree, though the commit does not say so; by now that may be
        something newer than the index had when the commit read it.
        """
        repository = self._repository
        before, after = repository.tree(self._since), repository.tree(self._found)
        others = {*kept, *self._stale, *self._early}
        blobs = {path: blob_at(after, path) for path in repository.begun() if path not in others}
        taken = {
            path: blob for path, blob in blobs.items() if blob != blob_at(before, path) and self._newest(path, blob)
        }
        own = {path: blob.id if blob is not None else None for path, blob in self._stale.items()} | self._early
        there = {path: blob for path, blob in own.items() if path not in repository.bases}
        return taken | {path: repository.origin(path, blob, repository.work_file(path)) for path, blob in there.items()}


def slips(repository: Repository, since: Oid | None, found: Oid, old: Oid | None) -> Slips:
    """The slips of a commit on `main`; `since`: the newest commit of the branch that its author started from."""
    made = Slips(repository, since, found, old)
    made.look()
    return made


def blob_at(view: TreeView, path: str) -> Oid | None:
    """The file at a path; None where there is none."""
    node = view.node(path)
    return node.id if node is not None and regular(node) else None
