"""What some commits did to each path, as few steps, and the files of `main` with these steps undone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from gitstore.documents import MISSING
from gitstore.errors import Conflict
from gitstore.history import History
from gitstore.merging import Clash, Layer, Side, merge_trees
from gitstore.merging.clash import content
from gitstore.model import ChangedPath, CommitFacts
from gitstore.names import classify
from gitstore.repository.objects import BLOB, Blob, Object, Oid, identify
from gitstore.repository.trees import Node, Source, TreeView, compare, rewrite
from gitstore.repository.worktree import regular
from gitstore.snapshot import Snapshot

_DIRECTORY = 0o40000
_NO_BYTES = identify(BLOB, b"")
_ROUNDS = 50  # in which a file that somebody renamed later is looked for
_ROOTS = 4096  # trees of commits that are remembered
_TIDIED = 32  # rounds after which what is not needed any more is let go


class Step(NamedTuple):
    """What there was at a path before, and what was left there; `commit` is the one that left it.

    `undone`: a revert or a restore put it back at once. Where it is there again, it is undone as any other; but what
    was written there instead is in nobody's way.
    """

    before: Node | None
    after: Node | None
    commit: str
    undone: bool = False


class Plan(msgspec.Struct, frozen=True):
    """The commits, oldest first and without their changes; the steps of each path, oldest first; keys by path."""

    commits: tuple[CommitFacts, ...]
    steps: Mapping[str, list[Step]]
    keys: Mapping[str, str]


class Undoing(NamedTuple):
    """What undoing the steps makes of the files: path → what is there then, and the blobs that are not stored yet.

    Where a later value is in the way, there is one clash: `base` is what the step left, `ours` what there is now,
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
    undoings = history.undoings(base.workspace, until)
    steps = {}
    for path, entries in met.items():
        found = _steps(path, entries, history.touches(base.workspace, path, until), undoings, now, at.node)
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
    path: str,
    entries: list[_Met],
    touched: list[int],
    undoings: Mapping[int, str],
    now: TreeView,
    at: Callable[[str, str], Node | None],
) -> list[Step]:
    runs: list[tuple[_Met, _Met, int]] = []  # the first and the last commit, and the next one's place among all
    for entry in entries:
        here = bisect_left(touched, entry.position)
        first = runs.pop()[0] if runs and runs[-1][2] == here else entry
        runs.append((first, entry, here + 1))
    steps: list[Step] = []
    for first, last, following in runs:
        before = None if first.came else at(first.parent, path)
        if last.went:
            after = None
        elif following == len(touched):
            after = _file(now, path)
        else:
            after = at(last.commit, path)
        if steps and steps[-1].after == before:
            before = steps.pop().before  # others came between, and left it as it was
        if before != after:
            undoing = undoings.get(touched[following]) if following < len(touched) else None
            undone = undoing is not None and at(undoing, path) == before
            steps.append(Step(before, after, last.commit, undone))
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
    source = base.tree().source
    layer = Layer(source)
    here = base.main.root
    at = _Trees(base)
    clashes: dict[tuple[str, str, int | None], Clash] = {}
    stuck: set[str] = set()
    waiting = list(planned.steps.items())
    turn = 0
    while waiting:
        steps = {path: known[-1 - turn] for path, known in waiting}
        for undone in (False, True):
            some = {path: step for path, step in steps.items() if step.undone is undone}
            if not some:
                continue
            now = TreeView(layer, here)
            was, unfit = _left(layer, now, some, at.node if turn < _ROUNDS else None)
            wanted, more = _fitted(layer, was, {path: step.before for path, step in some.items() if path not in unfit})
            side: Side = "theirs" if force and not undone else "ours"
            merged = merge_trees(layer, was, now, wanted, prefer=side, moves=may_move)
            layer.add(merged)
            here = merged.root
            if undone:
                continue
            for path in (*unfit, *more):
                step = steps[path]
                _note(clashes, Clash(path, "", _shown(layer, step.after), MISSING, _shown(layer, step.before)))
                stuck.add(path)
            for clash in merged.clashes:
                _note(clashes, clash)
        turn += 1
        waiting = [one for one in waiting if len(one[1]) > turn]
        if turn % _TIDIED == 0 or not waiting:
            layer = _needed(layer, source, here)
    edits = {one.path: one.new for one in compare(layer, base.main.root, here)}
    return Undoing(edits, [Blob(data) for data in layer.blobs.values()], list(clashes.values()), stuck)


def _note(clashes: dict[tuple[str, str, int | None], Clash], clash: Clash) -> None:
    """Each place once: what there was before the oldest step, what the newest one wrote, and what there is now."""
    place = clash.path, clash.pointer, clash.line
    first = clashes.get(place)
    if first is not None:
        clash = Clash(clash.path, clash.pointer, first.base, first.ours, clash.theirs, clash.line)
    clashes[place] = clash


def _needed(layer: Layer, source: Source, root: Oid) -> Layer:
    """Only what is not stored of the files below a root; what was made on the way is let go."""
    kept = Layer(source)
    waiting = [root]
    while waiting:
        oid = waiting.pop()
        tree = layer.trees.get(oid)
        if tree is None:
            continue
        kept.trees[oid] = tree
        for _, node in tree.nodes():
            if node.mode == _DIRECTORY:
                waiting.append(node.id)
            elif node.id in layer.blobs:
                kept.blobs[node.id] = layer.blobs[node.id]
    return kept


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
