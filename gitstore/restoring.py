"""Restoring: `main`, or some of it, made again what it was at an earlier commit, byte for byte, as a new commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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

    held = _held(workspace.visible, commit, selection.keys)

    def make(base: Snapshot) -> Turn:
        precondition.check(base.etag)
        files = edited(base, _edits(base, base.tree_at(commit), selection, held))
        return Turn(files.merged, "restore", name, {"Restores": commit}, files.context)

    if dry_run:
        base = workspace.visible
        return Pending.of(tried(base, make(base).merged))
    make(workspace.visible)  # what it reads is read by then, and what is wrong is told without the lock
    return apply(store, reference, make, who).then(lambda done: done[1])


def _held(base: Snapshot, commit: str, keys: Sequence[str]) -> dict[str, str]:
    """The files that held memory keys at a commit."""
    if not keys:
        return {}
    now, then, time = base.tree(), base.tree_at(commit), base.main.time
    context = base.context
    if not context.problems:
        context = context.elsewhere(then, compare(now.source, now.root, then.root), time)
    if context.problems:
        context = Context.load(then, previous=None, now=time, policy="allow")
    return {key: context.memory[key].path for key in keys if key in context.memory}


def _edits(base: Snapshot, then: TreeView, selection: Selection, held: Mapping[str, str]) -> dict[str, Node | None]:
    now = base.tree()
    edits = {one.path: one.new for one in compare(now.source, now.root, then.root)}
    if not selection.paths and not selection.keys:
        return edits
    exact: set[str] = set()
    for key in selection.keys:
        entry = base.context.memory.get(key)
        if entry is None and key not in held:
            raise NotFound(f"the memory has no key `{names.one_line(key, 80)}`, and had none then")
        exact.update(path for path in (entry.path if entry is not None else None, held.get(key)) if path is not None)
    for path in selection.paths:
        inside = path.strip("/")
        if not inside or (now.node(inside) is None and then.node(inside) is None):
            raise NotFound(f"`{names.one_line(path, 80)}` is not there, and was not then")
        exact.add(inside)
        if inside.startswith("files/"):
            exact.add(names.meta_path(inside))
    below = tuple(f"{path.strip('/')}/" for path in selection.paths)
    return {path: node for path, node in edits.items() if path in exact or path.startswith(below)}
