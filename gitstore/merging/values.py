"""Merging JSON values by their structure: keys of objects, items of lists that have an identity, else whole values.

Nothing is compared by `==`: 1, 1.0 and true are three values here, as they are in a document.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gitstore.documents import MISSING
from gitstore.merging.clash import Side
from gitstore.merging.sequences import Change, changes, regions

MOST_CLASHES = 1000  # beyond, two documents have so little in common that naming the places helps nobody
_IDENTITIES = ("id", "name", "key")


class Difference(NamedTuple):
    """A place that both sides changed differently: its JSON pointer in the merged value, and the values there."""

    pointer: str
    base: Any
    ours: Any
    theirs: Any


class TooMany(Exception):
    """There are more clashes than anybody wants to read."""


class Numbers:
    """Numbers values so that equal ones, and only those, have the same number, each part looked at once.

    `ordered`: whether the order of keys counts. The values must stay alive as long as this does.
    """

    def __init__(self, *, ordered: bool = True) -> None:
        self._ordered = ordered
        self._numbers: dict[Any, int] = {}
        self._known: dict[int, int] = {}  # by id() of a list or object

    def of(self, value: Any) -> int:
        """The number of a value."""
        kind = type(value)
        if kind is not dict and kind is not list:
            # -0.0 equals 0.0, and is another text in a document.
            return self._number((kind, repr(value) if kind is float else value))
        known = self._known.get(id(value))
        if known is None:
            if kind is list:
                parts: Any = tuple(map(self.of, value))
            else:
                pairs = [(key, self.of(item)) for key, item in value.items()]
                parts = tuple(pairs if self._ordered else sorted(pairs))
            known = self._known[id(value)] = self._number((kind, parts))
        return known

    def _number(self, what: Any) -> int:
        return self._numbers.setdefault(what, len(self._numbers))


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same but for the order of keys."""
    numbers = Numbers(ordered=False)
    return numbers.of(one) == numbers.of(other)


def merge_values(base: Any, ours: Any, theirs: Any, prefer: Side) -> tuple[Any, list[Difference]]:
    """The merged value, and the places where the preferred side's value stands because both changed it differently.

    MISSING stands for no value. At the pointer of each clash the merged value is exactly the preferred side's.
    Raises TooMany.
    """
    merge = _Merge(prefer)
    return merge.value(base, ours, theirs, ""), merge.clashes


class _Merge:
    """One merge under way."""

    def __init__(self, prefer: Side) -> None:
        self.prefer = prefer
        self.clashes: list[Difference] = []
        self._numbers = Numbers()

    def value(self, base: Any, ours: Any, theirs: Any, pointer: str) -> Any:
        """The value of one place; MISSING where it is to be empty."""
        was, here, there = map(self._numbers.of, (base, ours, theirs))
        if here == there or was == there:
            return ours
        if was == here:
            return theirs
        if type(ours) is dict and type(theirs) is dict:
            return self._object(base if type(base) is dict else {}, ours, theirs, pointer)
        if type(ours) is list and type(theirs) is list:
            before = len(self.clashes)
            merged = self._list(base if type(base) is list else [], ours, theirs, pointer)
            if merged is not MISSING:
                return merged
            del self.clashes[before:]
        return self._clash(pointer, base, ours, theirs)

    def _clash(self, pointer: str, base: Any, ours: Any, theirs: Any) -> Any:
        if len(self.clashes) == MOST_CLASHES:
            raise TooMany
        self.clashes.append(Difference(pointer, base, ours, theirs))
        return ours if self.prefer == "ours" else theirs

    def _object(self, base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any], pointer: str) -> Any:
        merged: dict[str, Any] = {}
        for key in arranged(base, ours, theirs):
            place = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
            value = self.value(base.get(key, MISSING), ours.get(key, MISSING), theirs.get(key, MISSING), place)
            if value is not MISSING:
                merged[key] = value
        return merged

    # -- lists: MISSING from here on means that the whole list is a clash --------------------------------------------

    def _list(self, base: list[Any], ours: list[Any], theirs: list[Any], pointer: str) -> Any:
        lists = base, ours, theirs
        name = identity(lists)
        if name is not None:
            return self._items([{self._numbers.of(item[name]): item for item in items} for items in lists], pointer)
        numbers = [list(map(self._numbers.of, items)) for items in lists]
        if self._words(lists, numbers):
            if _rivals(*numbers):
                return MISSING
            keyed = [dict(zip(ids, items, strict=True)) for ids, items in zip(numbers, lists, strict=True)]
            return self._items(keyed, pointer)
        return self._sequence(lists, numbers, pointer)

    def _items(self, keyed: Sequence[dict[int, Any]], pointer: str) -> Any:
        base, ours, theirs = keyed
        merged: list[Any] = []
        for number in arranged(base, ours, theirs):
            item = self.value(
                base.get(number, MISSING),
                ours.get(number, MISSING),
                theirs.get(number, MISSING),
                f"{pointer}/{len(merged)}",
            )
            if item is not MISSING:
                merged.append(item)
        return merged

    @staticmethod
    def _words(lists: Iterable[Sequence[Any]], numbers: Iterable[Sequence[int]]) -> bool:
        """Whether the lists are texts and numbers that are there once each, so that an item is its own name."""
        return all(type(item) in (str, int, float) for items in lists for item in items) and all(
            len(set(ids)) == len(ids) for ids in numbers
        )

    def _sequence(self, lists: Sequence[Sequence[Any]], numbers: Sequence[Sequence[int]], pointer: str) -> Any:
        base, ours, theirs = lists
        old, left, right = numbers
        merged: list[Any] = []
        done = 0
        for region in regions(changes(old, left), changes(old, right)):
            merged += base[done : region.base.start]
            done = region.base.stop
            here, there = ours[region.left], theirs[region.right]
            if not region.theirs or left[region.left] == right[region.right]:
                merged += here
            elif not region.ours:
                merged += there
            elif _in_place(old, left, region.ours) and _in_place(old, right, region.theirs):
                for was, mine, yours in zip(base[region.base], here, there, strict=True):
                    merged.append(self.value(was, mine, yours, f"{pointer}/{len(merged)}"))
            else:
                return MISSING
        return merged + list(base[done:])


def identity(lists: Iterable[Sequence[Any]]) -> str | None:
    """The key that names the items of all the lists, each of them once in its list."""
    if not all(type(item) is dict for items in lists for item in items):
        return None
    for name in _IDENTITIES:
        if all(_once([item.get(name) for item in items]) for items in lists):
            return name
    return None


def _once(ids: list[Any]) -> bool:
    return all(type(one) in (str, int) for one in ids) and len(set(ids)) == len(ids)


def _rivals(base: Sequence[int], ours: Sequence[int], theirs: Sequence[int]) -> bool:
    """Whether both sides put something else in the place of the same item."""
    left, right = _replaced(base, ours), _replaced(base, theirs)
    return any(right.get(at, new) != new for at, new in left.items())


def _replaced(base: Sequence[int], side: Sequence[int]) -> dict[int, Sequence[int]]:
    """By the index of each item that has gone, what came in its place."""
    return {
        at: side[change.first : change.last]
        for change in changes(base, side)
        if change.first < change.last
        for at in range(change.start, change.end)
    }


def _in_place(old: Sequence[int], new: Sequence[int], changed: Sequence[Change]) -> bool:
    """Whether items were changed where they stood: none added, removed or moved."""
    for change in changed:
        if change.end - change.start != change.last - change.first:
            return False
        if not set(old[change.start : change.end]).isdisjoint(new[change.first : change.last]):
            return False
    return True


def arranged(base: Mapping[Any, Any], ours: Mapping[Any, Any], theirs: Mapping[Any, Any]) -> list[Any]:
    """All names of both sides: in our order, theirs behind the name they follow there, after what we added there.

    Where only the other side brought the base's names into another order, its order is the one that leads.
    """
    common = [name for name in base if name in ours and name in theirs]
    kept = set(common)
    if _order(ours, kept) == common != _order(theirs, kept):
        ours, theirs = theirs, ours
    following: dict[Any, list[Any]] = {}
    front: list[Any] = []
    group = front
    for name in theirs:
        if name in ours:
            group = following.setdefault(name, [])
        else:
            group.append(name)
    out: list[Any] = []
    pending = front
    for name in ours:
        if name in theirs:
            out += pending
            pending = following[name]
        out.append(name)
    return out + pending


def _order(names: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    return [name for name in names if name in kept]
