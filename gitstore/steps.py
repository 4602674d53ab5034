"""What some commits did to each path, as few steps, and the files of `main` with these steps undone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from gitstore.documents import MISSING
from gitstore.errors import Conflict
from gitstore.history import History
from gitstore.merging import Clash, Layer, merge_trees
from gitstore.merging.clash import content
from gitstore.model import ChangedPath, CommitFacts
from gitstore.names import classify
from gitstore.repository.objects import BLOB, Object, Oid, identify
from gitstore.repository.trees import Node, TreeView, compare, rewrite
from gitstore.repository.worktree import regular
from gitstore.snapshot import Snapshot

_DIRECTORY = 0o40000
_NO_BYTES = identify(BLOB, b"")
_ROUNDS = 50  # in which a file that somebody renamed later is looked for
_ROOTS = 4096  # trees of commits that are remembered


class Step(NamedTuple):
    """What there was at a path before, and what was left there; `commit` is the one that left it."""

    before: Node | None
    after: Node | None
    commit: str


class Plan(msgspec.Struct, frozen=True):
    """The commits, oldest first and without their changes; the steps of each path, oldest first; keys by path."""

    commits: tuple[CommitFacts, ...]
    steps: Mapping[str, list[Step]]
    keys: Mapping[str, str]


class Undoing(NamedTuple):
    """What undoing the steps makes of the files: path → what is there then, and the blobs that are not stored yet.

    Where a later value is in the way, there is a clash: `base` is what the step left, `ours` what there is now,
    `theirs` what there was before. `stuck`: where it cannot be undone by force, for it needs a folder's place.
    """

    edits: dict[str, Node | None]
    blobs: list[Object]
    clashes: list[Clash]
    stuck: set[str]

    def without(self, paths: set[str]) -> Undoing:
        """All of it but these paths."""
        return Undoing(
            {path: node for path, node in self.edits.items() if path not in paths},
            self.blobs,
            [clash for clash in self.clashes if clash.path not in paths],
            self.stuck - paths,
        )

    def also(self, other: Undoing) -> Undoing:
        """Both, which have no path in common."""
        return Undoing(
            self.edits | other.edits, self.blobs + other.blobs, self.clashes + other.clashes, self.stuck | other.stuck
        )


class _Met(NamedTuple):
    """A commit that changed a path: its position on the line, and whether the path came, or went, by it."""

    position: int
    commit: str
    parent: str
    came: bool
    went: bool


def plan(history: History, base: Snapshot, commits: Iterable[tuple[int, CommitFacts]], until: int) -> Plan:
    """The steps of these commits of `main` (with their positions, oldest first), which is at `base`, at `until`.

    What history says of the paths is enough for most of them; trees are read only where somebody else wrote between.
    """
    met: dict[str, list[_Met]] = {}
    keys: dict[str, str] = {}
    plain = []
    for position, facts in commits:
        plain.append(msgspec.structs.replace(facts, changes=()))
        for change in facts.changes:
            for path, key, came, went in _sides(change):
                met.setdefault(path, []).append(_Met(position, facts.id, facts.parents[0], came, went))
                if key is not None:
                    keys[path] = key
    now = base.tree()
    at = _Trees(base)
    steps = {}
    for path, entries in met.items():
        found = _steps(path, entries, history.touches(base.workspace, path, until), now, at.node)
        if found:
            steps[path] = found
    return Plan(tuple(plain), steps, keys)


def _sides(change: ChangedPath) -> list[tuple[str, str | None, bool, bool]]:
    """(path, key, whether it came, whether it went) of one change; a rename is two."""
    sides = [(change.path, change.key, change.op in ("added", "renamed"), change.op == "deleted")]
    if change.old_path is not None:
        sides.append((change.old_path, change.old_key, False, True))
    return sides


def _steps(
    path: str, entries: list[_Met], touched: list[int], now: TreeView, at: Callable[[str, str], Node | None]
) -> list[Step]:
    runs: list[tuple[_Met, _Met]] = []
    last = -2  # where the commit before stands among all that changed the path
    for entry in entries:
        here = bisect_left(touched, entry.position)
        if runs and here == last + 1:
            runs[-1] = (runs[-1][0], entry)
        else:
            runs.append((entry, entry))
        last = here
    steps: list[Step] = []
    for number, (first, end) in enumerate(runs):
        before = None if first.came else at(first.parent, path)
        if end.went:
            after = None
        elif number == len(runs) - 1 and last == len(touched) - 1:
            after = _file(now, path)
        else:
            after = at(end.commit, path)
        if steps and steps[-1].after == before:
            before = steps.pop().before  # others came between, and left it as it was
        if before != after:
            steps.append(Step(before, after, end.commit))
    return steps


class _Trees:
    """Paths of commits, the commits read once."""

    def __init__(self, base: Snapshot) -> None:
        self._base = base
        self._roots: dict[str, TreeView] = {}

    def node(self, commit: str, path: str) -> Node | None:
        """What file a commit has at a path."""
        view = self._roots.get(commit)
        if view is None:
            if len(self._roots) >= _ROOTS:
                self._roots.clear()
            view = self._roots[commit] = self._base.tree_at(commit)
        return _file(view, path)


def _file(view: TreeView, path: str) -> Node | None:
    node = view.node(path)
    return None if node is None or node.mode == _DIRECTORY else node


# -- undoing -----------------------------------------------------------------------------------------------------------


def undo(base: Snapshot, planned: Plan, *, force: bool = False) -> Undoing:
    """The files of `main` at `base` without the steps; in the way of which later values stay, unless `force`."""
    layer = Layer(base.tree().source)
    before = here = TreeView(layer, base.main.root)
    at = _Trees(base)
    blobs: dict[Oid, Object] = {}
    clashes: list[Clash] = []
    stuck: set[str] = set()
    waiting = [(path, steps) for path, steps in planned.steps.items()]
    turn = 0
    while waiting:
        steps = {path: known[-1 - turn] for path, known in waiting}
        was, unfit = _left(layer, here, steps, at.node if turn < _ROUNDS else None)
        wanted, more = _fitted(layer, was, {path: step.before for path, step in steps.items() if path not in unfit})
        for path in (*unfit, *more):
            step = steps[path]
            clashes.append(Clash(path, "", _shown(layer, step.after), MISSING, _shown(layer, step.before)))
            stuck.add(path)
        merged = merge_trees(layer, was, here, wanted, prefer="theirs" if force else "ours", moves=may_move)
        layer.add(merged)
        blobs.update((item.id, item) for item in merged.objects if item.kind == BLOB)
        clashes += merged.clashes
        here = TreeView(layer, merged.root)
        turn += 1
        waiting = [one for one in waiting if len(one[1]) > turn]
    edits = {one.path: one.new for one in compare(layer, before.root, here.root)}
    return Undoing(edits, list(blobs.values()), clashes, stuck)


def _left(
    layer: Layer, here: TreeView, steps: Mapping[str, Step], at: Callable[[str, str], Node | None] | None
) -> tuple[TreeView, list[str]]:
    """What there is now, with what the steps left where they left it: the base of the merge; and what fits nowhere.

    A file that somebody renamed since, unchanged, is not there yet under its new name: so the merge sees the rename.
    """
    edits = {path: step.after for path, step in steps.items()}
    gone = [path for path, one in steps.items() if may_move(path) and _plain(one.after) and here.node(path) is None]
    if gone and at is not None:
        places: dict[Oid, list[str]] = {}
        for path, node in here.walk():
            places.setdefault(node.id, []).append(path)
        for path in gone:
            after, commit = steps[path].after, steps[path].commit
            found = places.get(after.id, []) if after is not None else []
            if len(found) == 1 and found[0] not in steps and may_move(found[0]) and at(commit, found[0]) is None:
                edits[found[0]] = None
    return _fitted(layer, here, edits)


def may_move(path: str) -> bool:
    """Whether a file there may be taken for one that was renamed; a key that has another's value is no such thing."""
    return classify("main", path)[0] in ("file", "other")


def _plain(node: Node | None) -> bool:
    return node is not None and regular(node) and node.id != _NO_BYTES


def _fitted(layer: Layer, view: TreeView, edits: Mapping[str, Node | None]) -> tuple[TreeView, list[str]]:
    """The tree with the edits, and the paths of those that need the place of a folder, or a file for a folder."""
    try:
        root, trees = rewrite(layer, view.root, edits)
    except Conflict:
        pass
    else:
        layer.trees.update((item.id, tree) for item, tree in trees)
        return TreeView(layer, root), []
    unfit = []
    for path, node in edits.items():
        try:
            root, trees = rewrite(layer, view.root, {path: node})
        except Conflict:
            unfit.append(path)
            continue
        layer.trees.update((item.id, tree) for item, tree in trees)
        view = TreeView(layer, root)
    return view, unfit


def _shown(layer: Layer, node: Node | None) -> object:
    if node is None:
        return MISSING
    return content(layer.blob(node.id)) if regular(node) else {"mode": f"{node.mode:o}", "id": node.id.hex()}
