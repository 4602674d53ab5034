"""Which commit two lines have in common: the base of a merge, found by reading no more history than it takes.

Both ends are walked back together, the latest commit first, as git-merge-base(1) does: a commit reached from both ends
is common, and whatever lies behind a common commit is of no interest. The walk ends when nothing else is left. Dates
only steer it: clocks that were wrong cost time, not the right answer.
"""

from __future__ import annotations

from heapq import heappop, heappush

from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository

_OURS, _THEIRS, _BEHIND = 1, 2, 4
_BOTH = _OURS | _THEIRS


def base(repository: Repository, ours: Oid, theirs: Oid) -> Oid | None:
    """The best common ancestor of two commits, one of them where it is behind the other; None: they share nothing.

    "Best": no other common ancestor descends from it. Where there are several (each line was merged into the other),
    the latest is taken, of equally late ones the one with the smallest id. Raises Damaged where a commit is missing.
    """
    found = _Walk(repository, ours, [theirs]).run()
    # With wrong clocks, one of several may be an ancestor of another.
    while len(found) > 1 and found[0] in _Walk(repository, found[0], found[1:]).run():
        found.pop(0)
    return found[0] if found else None


def is_ancestor(repository: Repository, old: Oid, new: Oid) -> bool:
    """Whether `new` is `old` or descends from it. Raises Damaged where a commit is missing."""
    return old == new or old in _Walk(repository, old, [new]).run()


def leads_to(repository: Repository, old: Oid, new: Oid) -> bool:
    """Whether `old` is on the first-parent line of `new`. Raises Damaged where a commit is missing.

    Both lines are walked back together: where they meet first they are one from there on, and what lies behind is of no
    interest.
    """

    def before(oid: Oid) -> Oid | None:
        parents = repository.commit(oid).parents
        return parents[0] if parents else None

    here: Oid | None = new
    there: Oid | None = old
    ours, theirs = {old}, set[Oid]()
    while here is not None and here not in ours and there not in theirs:
        theirs.add(here)
        here = before(here)
        there = before(there) if there is not None else None
        if there is not None:
            ours.add(there)
    return here == old


class _Walk:
    """One walk back from a commit and from others; what it holds is an entry for each commit it has seen."""

    def __init__(self, repository: Repository, ours: Oid, theirs: list[Oid]) -> None:
        self._repository = repository
        self._colours: dict[Oid, int] = {}
        self._waiting: list[tuple[int, Oid]] = []
        self._parents: dict[Oid, tuple[Oid, ...]] = {}  # of those that wait
        self._open = 0  # those that wait and are not behind a common commit
        self._reach(ours, _OURS)
        for oid in theirs:
            self._reach(oid, _THEIRS)

    def run(self) -> list[Oid]:
        """The commits where both meet, the latest first."""
        met: list[tuple[int, Oid]] = []
        while self._open:
            late, oid = heappop(self._waiting)
            colour = self._colours[oid]
            if not colour & _BEHIND:
                self._open -= 1
                if colour == _BOTH:
                    met.append((late, oid))
                    colour |= _BEHIND
            for parent in self._parents.pop(oid):
                self._reach(parent, colour)
        return [oid for _, oid in sorted(set(met)) if not self._colours[oid] & _BEHIND]

    def _reach(self, oid: Oid, colour: int) -> None:
        old = self._colours.get(oid, 0)
        new = old | colour
        if new == old:
            return
        self._colours[oid] = new
        if oid in self._parents:
            self._open -= bool(new & _BEHIND and not old & _BEHIND)
            return
        commit = self._repository.commit(oid)
        self._parents[oid] = commit.parents
        self._open += not new & _BEHIND
        heappush(self._waiting, (-commit.committer.time, oid))
