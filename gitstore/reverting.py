"""Reverting: undoing what some commits of `main` wrote, whatever came after them, by merging as everywhere else.

Of each path the commits that follow each other without anybody between them are one step, so that what they wrote over
their own is no conflict. The steps are undone from the newest to the oldest, each by a merge whose base is what the
step left, whose one side is what there is now, and whose other side is what there was before the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gitstore import names
from gitstore.causes import Cause
from gitstore.documents import MISSING
from gitstore.errors import Conflict, Invalid, NotFound
from gitstore.history import History
from gitstore.joining import Turn
from gitstore.merging import Clash, Merged
from gitstore.merging.clash import shown
from gitstore.model import CommitFacts, Provenance
from gitstore.pending import Pending
from gitstore.precondition import NONE, Precondition
from gitstore.reading import shown as legible
from gitstore.repository.objects import Object
from gitstore.repository.trees import Node, compare
from gitstore.snapshot import Snapshot
from gitstore.steps import Plan, plan, undo
from gitstore.store import Store
from gitstore.undo import Undone, apply, edited, subject, tried

OnConflict = Literal["refuse", "keep", "force"]

_TRAILED = 50  # commits that the revert's own commit names
_LISTED = 20  # conflicts that a message names


class Obstacle(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A later value that stands in the way: what there was `before`, what was `written`, what there is `now`.

    As in `merging.Clash`; each is left out where there was, or is, nothing.
    """

    path: str
    key: str | UnsetType = UNSET
    pointer: str
    line: int | UnsetType = UNSET
    before: Any = UNSET
    written: Any = UNSET
    now: Any = UNSET

    def text(self) -> str:
        """One line for people."""
        place = f" at {self.pointer}" if self.pointer else "" if self.line is UNSET else f", line {self.line}"
        sides = (("before", self.before), ("written", self.written), ("now", self.now))
        said = ", ".join(f"{'nothing' if value is UNSET else shown(value)} {side}" for side, value in sides)
        return names.one_line(f"{self.path}{place}: {said}", 1000)


class Reverted(msgspec.Struct, frozen=True):
    """What became of it. `commits` are those that were undone, newest first, their changes left out."""

    undone: Undone
    commits: tuple[CommitFacts, ...]
    obstacles: tuple[Obstacle, ...]


def revert(
    store: Store,
    reference: str,
    what: Cause | Sequence[str],
    who: Provenance,
    *,
    on_conflict: OnConflict = "refuse",
    message: str | None = None,
    precondition: Precondition = NONE,
    dry_run: bool = False,
) -> Pending[Reverted]:
    """Undoes the commits of `main` that are named (by 4 digits of their ids or more) or that a cause made.

    Later values in the way: "refuse" raises Conflict, "keep" leaves them, "force" takes what there was before. What the
    cause writes while it is undone stays. The commit that made the workspace is never undone: a cause leaves it out.
    `precondition` is held against the ETag of the workspace. With `dry_run` nothing happens but the answer, which under
    "refuse" is that of "keep".
    Raises NotFound where there is no such commit; Invalid for one that cannot be undone; PreconditionFailed; Conflict,
    with `details.conflicts`, and where the slug of before is taken; Refused for files that today's rules refuse.
    """
    base = store.load(reference).visible
    planned = select(store.history, base, what)
    name = names.one_line(subject(message, _name(planned, what)))
    undoing = _Undoing(planned, on_conflict)
    precondition.check(base.etag)
    commits = planned.commits[::-1]
    first = undoing.on(base)
    if dry_run:
        return Pending.of(Reverted(tried(base, first), commits, undoing.obstacles))
    ids = [facts.id for facts in planned.commits]
    more = {"Reverts": " ".join(ids[-_TRAILED:])}
    if len(ids) > _TRAILED:
        more["Reverts-Total"] = str(len(ids))
    undoing.decide()

    def make(tip: Snapshot) -> Turn:
        precondition.check(tip.etag)
        merged = undoing.on(tip)
        undoing.decide()
        return Turn(merged, "revert", name, more)

    return apply(store, base.workspace, make, who).then(lambda done: Reverted(done[1], commits, undoing.obstacles))


def select(history: History, base: Snapshot, what: Cause | Sequence[str]) -> Plan:
    """The commits, and what is to be undone of each path. Raises NotFound, Invalid."""
    workspace, head = base.workspace, base.main.head
    until = history.position(workspace, head) if head is not None else None
    if until is None:
        raise NotFound("the workspace has no history yet")
    if isinstance(what, Cause):
        found = [one for one in history.caused(workspace, what, until) if one[1].parents]
        if not found:
            raise NotFound(f"no commit of main was made by {names.one_line(what.text() or 'anybody then', 120)}")
    else:
        found = sorted({_named(history, workspace, text, until) for text in what}, key=lambda one: one[0])
    return plan(history, base, found, until)


def _named(history: History, workspace: str, text: str, until: int) -> tuple[int, CommitFacts]:
    commit = history.find_commit(workspace, text)
    facts = history.commit(workspace, commit) if commit is not None else None
    if facts is None:
        raise NotFound(
            f"no commit of the workspace begins with `{names.one_line(text, 60)}`; "
            "what was merged in is undone by the commit that merged it"
        )
    if facts.branch != "main":
        raise Invalid(f"{facts.id[:12]} is a commit of evidence, which is never undone")
    if not facts.parents:
        raise Invalid(f"{facts.id[:12]} made the workspace and cannot be undone; delete the workspace instead")
    position = history.position(workspace, facts.id)
    if position is None or position > until:
        raise Conflict(f"{facts.id[:12]} was made just now: try again")
    return position, facts


def _name(planned: Plan, what: Cause | Sequence[str]) -> str:
    if len(planned.commits) == 1:
        return f"revert: {planned.commits[0].name}"
    if isinstance(what, Cause) and what.named:
        return f"revert: {len(planned.commits)} commits of {what.text()}"
    return f"revert: {len(planned.commits)} commits"


class _Undoing:
    """One revert under way: worked out on one state, and again, as far as need be, where `main` has moved since."""

    def __init__(self, planned: Plan, on_conflict: OnConflict) -> None:
        self.planned = planned
        self.on_conflict = on_conflict
        self.obstacles: tuple[Obstacle, ...] = ()
        self._stuck = False
        self._base: Snapshot | None = None
        self._merged: Merged | None = None
        self._edits: Mapping[str, Node | None] = {}
        self._made: Sequence[Object] = ()

    def on(self, base: Snapshot) -> Merged:
        """The files of `main` without what is undone. Raises Refused, Conflict."""
        if self._merged is not None and self._base is not None and self._base.main.root == base.main.root:
            return self._merged
        if self._base is None or not self._apart(self._base, base):
            done = undo(base, self.planned, force=self.on_conflict == "force")
            self._edits, self._made, self._stuck = done.edits, done.blobs, done.stuck
            self.obstacles = tuple(_obstacles(self.planned, done.clashes))
        self._base = base
        self._merged = edited(base, self._edits, self._made)
        return self._merged

    def decide(self) -> None:
        """Raises Conflict where something is in the way that is not to be decided by itself."""
        if self.obstacles and (self.on_conflict == "refuse" or (self._stuck and self.on_conflict == "force")):
            lines = "".join(f"\n  {one.text()}" for one in self.obstacles[:_LISTED])
            more = f"\n  … and {len(self.obstacles) - _LISTED} more" if len(self.obstacles) > _LISTED else ""
            raise Conflict(
                f"later values are in the way:{lines}{more}",
                details={"conflicts": [msgspec.to_builtins(one) for one in self.obstacles]},
            )

    def _apart(self, old: Snapshot, new: Snapshot) -> bool:
        """Whether what was written since has nothing to do with what is undone."""
        mine = self.planned.steps.keys() | self._edits.keys()
        source = new.tree().source
        return all(
            one.path not in mine and (one.old is None) == (one.new is None)
            for one in compare(source, old.main.root, new.main.root)
        )


def _obstacles(planned: Plan, clashes: Iterable[Clash]) -> Iterable[Obstacle]:
    """Each place once: what there was before the oldest step, what the newest wrote, and what there is now."""
    found: dict[tuple[str, str, int | None], Clash] = {}
    for clash in clashes:
        place = clash.path, clash.pointer, clash.line
        first = found.get(place)
        found[place] = clash if first is None else Clash(*place[:2], first.base, first.ours, clash.theirs, place[2])
    for clash in sorted(found.values(), key=lambda one: one.path):
        key = planned.keys.get(clash.path)
        sides = {"before": clash.theirs, "written": clash.base, "now": clash.ours}
        yield Obstacle(
            path=legible(clash.path),
            key=key if key is not None else UNSET,
            pointer=clash.pointer,
            line=clash.line if clash.line is not None else UNSET,
            **{side: value for side, value in sides.items() if value is not MISSING},
        )
