"""Reverting: undoing what some commits of `main` wrote, whatever came after them, by merging as everywhere else.

Of each path the commits that follow each other without anybody between them are one step, so that what they wrote over
their own is no conflict. The steps are undone from the newest to the oldest, each by a merge whose base is what the
step left, whose one side is what there is now, and whose other side is what there was before the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gitstore import names
from gitstore.causes import Cause
from gitstore.documents import MISSING
from gitstore.errors import Conflict, Invalid, NotFound
from gitstore.history import History
from gitstore.joining import Turn
from gitstore.merging import Clash
from gitstore.merging.clash import shown
from gitstore.model import CommitFacts, Provenance
from gitstore.pending import Pending
from gitstore.precondition import NONE, Precondition
from gitstore.reading import shown as legible
from gitstore.repository.trees import compare
from gitstore.snapshot import Snapshot
from gitstore.steps import Plan, Undoing, may_move, plan, undo
from gitstore.store import Store
from gitstore.undo import Files, Undone, apply, edited, subject, tried

OnConflict = Literal["refuse", "keep", "force"]

_TRAILED = 50  # commits that the revert's own commit names
_LISTED = 20  # conflicts that a message names
_TOLD = 1000  # and that its details list


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
        return Pending.of(Reverted(tried(base, first.merged), commits, undoing.obstacles))
    ids = [facts.id for facts in planned.commits]
    more = {"Reverts": " ".join(ids[-_TRAILED:])}
    if len(ids) > _TRAILED:
        more["Reverts-Total"] = str(len(ids))
    undoing.decide()

    def make(tip: Snapshot) -> Turn:
        precondition.check(tip.etag)
        files = undoing.on(tip)
        undoing.decide()
        return Turn(files.merged, "revert", name, more, files.context)

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
        self._base: Snapshot | None = None
        self._files: Files | None = None
        self._known = Undoing({}, [], [], set())

    @property
    def obstacles(self) -> tuple[Obstacle, ...]:
        """The later values that are in the way of what was worked out last."""
        return tuple(_obstacles(self.planned, self._known.clashes))

    def on(self, base: Snapshot) -> Files:
        """The files of `main` without what is undone. Raises Refused, Conflict."""
        old = self._base
        if old is not None and self._files is not None and old.main.root == base.main.root:
            return self._files
        force = self.on_conflict == "force"
        anew = self._touched(old, base) if old is not None else None
        if anew is None:
            self._known = undo(base, self.planned, force=force)
        elif anew:
            steps = {path: steps for path, steps in self.planned.steps.items() if path in anew}
            more = undo(base, msgspec.structs.replace(self.planned, steps=steps), force=force)
            self._known = self._known.without(anew).also(more)
        self._base = base
        self._files = edited(base, self._known.edits, self._known.blobs)
        return self._files

    def decide(self) -> None:
        """Raises Conflict where something is in the way that is not to be decided by itself."""
        refuse = self.on_conflict == "refuse" or (self._known.stuck and self.on_conflict == "force")
        if not self._known.clashes or not refuse:
            return
        found = self.obstacles
        lines = "".join(f"\n  {one.text()}" for one in found[:_LISTED])
        more = f"\n  … and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise Conflict(
            f"later values are in the way:{lines}{more}",
            details={"conflicts": [msgspec.to_builtins(one) for one in found[:_TOLD]], "conflicts_total": len(found)},
        )

    def _touched(self, old: Snapshot, new: Snapshot) -> set[str] | None:
        """What was written since of that which is undone; None: files came or went, and may have been renamed."""
        touched = set()
        for path, was, now in compare(new.tree().source, old.main.root, new.main.root):
            if may_move(path) and (was is None or now is None):
                return None
            if path in self.planned.steps:
                touched.add(path)
            elif path in self._known.edits:
                return None
        return touched


def _obstacles(planned: Plan, clashes: Iterable[Clash]) -> Iterable[Obstacle]:
    for clash in sorted(clashes, key=lambda one: one.path):
        key = planned.keys.get(clash.path)
        sides = {"before": clash.theirs, "written": clash.base, "now": clash.ours}
        yield Obstacle(
            path=legible(clash.path),
            key=key if key is not None else UNSET,
            pointer=clash.pointer,
            line=clash.line if clash.line is not None else UNSET,
            **{side: value for side, value in sides.items() if value is not MISSING},
        )
