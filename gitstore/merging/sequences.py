"""Three sequences against each other: where each side changed the base, and where the two sides meet.

The lines of a text and the items of a list are compared the same way: common ends, then elements that occur once on
both sides (as in "patience diff"), then the shortest edit of what is left (E. W. Myers, "An O(ND) Difference Algorithm
and Its Variations", 1986) as far as a budget goes. What it does not reach counts as changed as a whole, so that the
time is bounded for any input and an answer is coarse at worst.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

_DEEPEST = 24  # rounds of unique elements within unique elements
_FURTHEST = 400  # edits in one gap
_BUDGET = 400_000  # steps in all gaps together


class Change(NamedTuple):
    """`base[start:end]` became `side[first:last]`."""

    start: int
    end: int
    first: int
    last: int


class Steps:
    """How many steps are left for the comparing of several sequences together."""

    def __init__(self, left: int = _BUDGET) -> None:
        self.left = left


class Region(NamedTuple):
    """A part of the base that at least one side changed, and what stands there on either side.

    Changes that overlap or touch are one region. `ours` and `theirs` are the changes inside it.
    """

    base: slice
    left: slice
    right: slice
    ours: tuple[Change, ...]
    theirs: tuple[Change, ...]


def changes(base: Sequence[Hashable], side: Sequence[Hashable], steps: Steps | None = None) -> list[Change]:
    """What a side changed, in order; between two changes at least one element is the same.

    `steps` bounds the search for the shortest edits, over all calls that it is given to.
    """
    same: list[tuple[int, int, int]] = []  # base index, side index, length
    waiting = [(0, len(base), 0, len(side), 0)]
    steps = steps or Steps()
    while waiting:
        start, end, first, last, depth = waiting.pop()
        head = _common(base, side, start, end, first, last)
        if head:
            same.append((start, first, head))
            start, first = start + head, first + head
        tail = 0
        while end > start and last > first and base[end - 1] == side[last - 1]:
            end, last, tail = end - 1, last - 1, tail + 1
        if tail:
            same.append((end, last, tail))
        if start == end or first == last or depth == _DEEPEST:
            continue
        anchors = _anchors(base, side, start, end, first, last)
        if anchors:
            for at, there in anchors:
                waiting.append((start, at, first, there, depth + 1))
                same.append((at, there, 1))
                start, first = at + 1, there + 1
            waiting.append((start, end, first, last, depth + 1))
        else:
            found, spent = _shortest(base[start:end], side[first:last], steps.left)
            steps.left -= spent
            same += [(start + at, first + there, 1) for at, there in found]
    same.sort()
    out: list[Change] = []
    at = there = 0
    for start, first, length in [*same, (len(base), len(side), 0)]:
        if start > at or first > there:
            out.append(Change(at, start, there, first))
        at, there = start + length, first + length
    return out


def _common(base: Sequence[Hashable], side: Sequence[Hashable], start: int, end: int, first: int, last: int) -> int:
    most = min(end - start, last - first)
    for length in range(most):
        if base[start + length] != side[first + length]:
            return length
    return most


def _anchors(
    base: Sequence[Hashable], side: Sequence[Hashable], start: int, end: int, first: int, last: int
) -> list[tuple[int, int]]:
    """The elements that occur once in both parts, as many of them as are in the same order."""
    ours, theirs = Counter(base[start:end]), Counter(side[first:last])
    there = {side[index]: index for index in range(first, last) if theirs[side[index]] == 1}
    pairs = [(at, there[base[at]]) for at in range(start, end) if ours[base[at]] == 1 and base[at] in there]
    # The longest increasing run by patience sorting: `tops` are the smallest ends of a run of each length.
    tops: list[int] = []
    piles: list[int] = []
    before: list[int] = []
    for number, (_, index) in enumerate(pairs):
        pile = bisect_left(tops, index)
        before.append(piles[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(index)
            piles.append(number)
        else:
            tops[pile] = index
            piles[pile] = number
    out: list[tuple[int, int]] = []
    number = piles[-1] if piles else -1
    while number >= 0:
        out.append(pairs[number])
        number = before[number]
    return out[::-1]


def _shortest(base: Sequence[Hashable], side: Sequence[Hashable], budget: int) -> tuple[list[tuple[int, int]], int]:
    """The pairs that a shortest edit keeps, none if that is out of reach; and how many steps it took."""
    width, height = len(base), len(side)
    ends: dict[int, int] = {1: 0}
    trace: list[dict[int, int]] = []
    spent = 0
    for edits in range(min(_FURTHEST, width + height) + 1):
        trace.append(ends)
        ends = dict(ends)
        for diagonal in range(-edits, edits + 1, 2):
            down = diagonal == -edits or (diagonal != edits and ends.get(diagonal - 1, -1) < ends.get(diagonal + 1, -1))
            x = ends[diagonal + 1] if down else ends[diagonal - 1] + 1
            y = x - diagonal
            from_x = x
            while x < width and y < height and base[x] == side[y]:
                x, y = x + 1, y + 1
            ends[diagonal] = x
            spent += 1 + x - from_x
            if x >= width and y >= height:
                return _backtrack(trace, width, height), spent
        spent += len(ends)
        if spent > budget:
            break
    return [], spent


def _backtrack(trace: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for edits in range(len(trace) - 1, -1, -1):
        ends = trace[edits]
        diagonal = x - y
        down = diagonal == -edits or (diagonal != edits and ends.get(diagonal - 1, -1) < ends.get(diagonal + 1, -1))
        before = diagonal + 1 if down else diagonal - 1
        old_x = ends[before] if edits else 0
        old_y = old_x - before if edits else 0
        while x > old_x and y > old_y:
            x, y = x - 1, y - 1
            pairs.append((x, y))
        x, y = old_x, old_y
    return pairs[::-1]


def regions(ours: Sequence[Change], theirs: Sequence[Change], *, near: bool = False) -> Iterator[Region]:
    """The changed parts of the base, in order; what stands between them is the same everywhere.

    With `near`, changes that only touch are regions of their own, an insertion before what it touches; two insertions
    at one place are one region.
    """
    i = j = 0
    left = right = 0  # how much longer each side is than the base, up to here
    while i < len(ours) or j < len(theirs):
        start, end = min([change[:2] for change in (*ours[i : i + 1], *theirs[j : j + 1])])
        from_i, from_j = i, j
        if not near:
            end = start
        moved = True
        while moved:
            moved = False
            while i < len(ours) and _meets(ours[i], start, end, near):
                end, i, moved = max(end, ours[i].end), i + 1, True
            while j < len(theirs) and _meets(theirs[j], start, end, near):
                end, j, moved = max(end, theirs[j].end), j + 1, True
        here, there = tuple(ours[from_i:i]), tuple(theirs[from_j:j])
        more, also = left + _growth(here), right + _growth(there)
        yield Region(slice(start, end), slice(start + left, end + more), slice(start + right, end + also), here, there)
        left, right = more, also


def _meets(change: Change, start: int, end: int, near: bool) -> bool:
    return change.start < end or change[:2] == (start, end) if near else change.start <= end


def _growth(changed: Sequence[Change]) -> int:
    return sum((change.last - change.first) - (change.end - change.start) for change in changed)
