"""Restoring: `main`, or some of it, made again what it was at an earlier commit, byte for byte, as a new commit."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gitstore import names
from gitstore.context import Context
from gitstore.errors import NotFound
from gitstore.joining import Turn
from gitstore.model import Provenance
from gitstore.pending import Pending
from gitstore.precondition import NONE, Precondition
from gitstore.repository.trees import Node, TreeView, compare
from gitstore.snapshot import Snapshot
from gitstore.store import Store
from gitstore.undo import Undone, apply, edited, subject, tried

_NAMED = 3


class Selection(msgspec.Struct, frozen=True):
    """What is restored: files and folders by path, memory keys; everything where neither is given.

    The meta file of a file goes with it.
    """

    paths: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def text(self) -> str:
        """What is restored, for people."""
        some = self.paths + self.keys
        if not some:
            return "everything"
        return ", ".join(some[:_NAMED]) + (f" and {len(some) - _NAMED} more" if len(some) > _NAMED else "")


def restore(
    store: Store,
    reference: str,
    commit: str,
    who: Provenance,
    *,
    selection: Selection | None = None,
    message: str | None = None,
    precondition: Precondition = NONE,
    dry_run: bool = False,
) -> Pending[Undone]:
    """Makes what is selected what it was at `commit` of `main`: what came since goes, what went comes back.

    `precondition` is held against the ETag of the workspace. With `dry_run` nothing happens but the answer.
    Raises NotFound for a path or key that is neither there now nor was then, PreconditionFailed, Conflict where the
    slug of then is taken, Refused for files that today's rules refuse.
    """
    workspace, selection = store.load(reference), selection or Selection()
    name = names.one_line(subject(message, f"restore: {selection.text()} as of {commit[:12]}"))

    def make(base: Snapshot) -> Turn:
        precondition.check(base.etag)
        edits = _edits(base, base.tree_at(commit), selection)
        return Turn(edited(base, edits), "restore", name, {"Restores": commit})

    if dry_run:
        base = workspace.visible
        return Pending.of(tried(base, make(base).merged))
    make(workspace.visible)  # what it reads is read by then, and what is wrong is told without the lock
    return apply(store, reference, make, who).then(lambda done: done[1])


def _edits(base: Snapshot, then: TreeView, selection: Selection) -> dict[str, Node | None]:
    now = base.tree()
    edits = {one.path: one.new for one in compare(now.source, now.root, then.root)}
    if not selection.paths and not selection.keys:
        return edits
    wanted = [path.strip("/") for path in selection.paths]
    wanted += [path + names.META_SUFFIX for path in wanted if path.startswith("files/")]
    exact = _of_keys(base, then, selection.keys)
    for path in selection.paths:
        inside = path.strip("/")
        if not inside or (now.node(inside) is None and then.node(inside) is None):
            raise NotFound(f"`{names.one_line(path, 80)}` is not there, and was not then")
    below = tuple(f"{path}/" for path in wanted)
    exact.update(wanted)
    return {path: node for path, node in edits.items() if path in exact or path.startswith(below)}


def _of_keys(base: Snapshot, then: TreeView, keys: Sequence[str]) -> set[str]:
    """The files that hold memory keys, now and then."""
    if not keys:
        return set()
    was = Context.load(then, previous=None, now=base.main.time, policy="allow").memory
    paths: set[str] = set()
    for key in keys:
        held = [memory[key].path for memory in (base.context.memory, was) if key in memory]
        if not held:
            raise NotFound(f"the memory has no key `{names.one_line(key, 80)}`, and had none then")
        paths.update(held)
    return paths
