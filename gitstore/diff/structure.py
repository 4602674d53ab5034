"""Two JSON values against each other: which places were added, removed or changed, named by JSON pointers (RFC 6901).

What names an item of a list is decided as a merge decides it: its `id`, `name` or `key` where all items have one of
their own, else its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gitstore.merging.sequences import Steps, changes
from gitstore.merging.values import Numbers, identity


class ValueDiff(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place. The pointer of what was removed is that in the old value, every other is that in the new one.

    `old` and `new` are there where there was and is a value.
    """

    op: Literal["added", "removed", "changed"]
    pointer: str
    old: Any | UnsetType = UNSET
    new: Any | UnsetType = UNSET


def differences(old: Any, new: Any, steps: Steps | None = None) -> Iterator[ValueDiff]:
    """Every place where two values differ, in the order of the new one, what was removed before what came after it.

    Objects whose keys are in another order are the same. An item that was moved in a list is removed and added.
    `steps` bounds the comparing of lists; beyond it they are told coarsely.
    """
    return _Comparison(steps or Steps()).values(old, new, "", "")


def step(pointer: str, name: str | int) -> str:
    """The pointer to a member or an item."""
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1') if isinstance(name, str) else name}"


class _Comparison:
    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._numbers = Numbers(ordered=False)

    def values(self, old: Any, new: Any, was: str, now: str) -> Iterator[ValueDiff]:
        """What differs between the value at the pointer `was` of the old, and that at `now` of the new document."""
        if self._numbers.of(old) == self._numbers.of(new):
            return
        if type(old) is dict and type(new) is dict:
            yield from self._objects(old, new, was, now)
        elif type(old) is list and type(new) is list:
            yield from self._lists(old, new, was, now)
        else:
            yield ValueDiff("changed", now, old, new)

    def _objects(self, old: dict[str, Any], new: dict[str, Any], was: str, now: str) -> Iterator[ValueDiff]:
        for key, value in old.items():
            if key not in new:
                yield ValueDiff("removed", step(was, key), value)
        for key, value in new.items():
            if key in old:
                yield from self.values(old[key], value, step(was, key), step(now, key))
            else:
                yield ValueDiff("added", step(now, key), UNSET, value)

    def _lists(self, old: list[Any], new: list[Any], was: str, now: str) -> Iterator[ValueDiff]:
        name = identity((old, new))
        if name is not None:
            before = [self._numbers.of(item[name]) for item in old]
            after = [self._numbers.of(item[name]) for item in new]
        else:
            before, after = list(map(self._numbers.of, old)), list(map(self._numbers.of, new))
        at = there = 0
        for change in [*changes(before, after, self._steps), None]:
            start, first = (change.start, change.first) if change else (len(old), len(new))
            for index in range(start - at):  # the same items, though what they hold may differ
                yield from self.values(
                    old[at + index], new[there + index], step(was, at + index), step(now, there + index)
                )
            if change is None:
                return
            yield from self._replaced(
                old[start : change.end], new[first : change.last], was, now, start, first, by_name=name is not None
            )
            at, there = change.end, change.last

    def _replaced(
        self, gone: Sequence[Any], come: Sequence[Any], was: str, now: str, start: int, first: int, *, by_name: bool
    ) -> Iterator[ValueDiff]:
        """Items that gave way to others. As many for as many, and nothing to tell them by: they changed in place."""
        if not by_name and len(gone) == len(come):
            for index, (old, new) in enumerate(zip(gone, come, strict=True)):
                yield from self.values(old, new, step(was, start + index), step(now, first + index))
            return
        for index, old in enumerate(gone):
            yield ValueDiff("removed", step(was, start + index), old)
        for index, new in enumerate(come):
            yield ValueDiff("added", step(now, first + index), UNSET, new)
