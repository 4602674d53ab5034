"""Who last set each leaf of a YAML document.

Of two versions only the top-level keys between their first and their last differing byte are parsed, where the
document is a block mapping whose keys stand at the beginning of lines: a document of hundreds of keys then costs no
more for each version than the key that was changed in it. Else the whole document is parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import UNSET

from gitstore.blame.versions import Version, reach
from gitstore.diff.members import NotPlain, heads, members, window
from gitstore.diff.structure import step
from gitstore.documents import DocumentError, load
from gitstore.errors import Malformed
from gitstore.merging.sequences import Steps, changes
from gitstore.merging.values import Numbers, identity

_STEPS = 2_000_000
_PARSED = 16 << 20  # bytes of older versions that are parsed; what is older has no commit named
_BEFORE_ALL = Version("", None)


class Leaf(NamedTuple):
    """A value without parts, or an empty list or object, and the commit that set it; None: one older than was read."""

    pointer: str
    value: Any
    commit: str | None


def blame_leaves(
    versions: Iterable[Version], known: Mapping[str, Mapping[str, str | None]] | None = None, value: Any = UNSET
) -> list[Leaf]:
    """The leaves of the newest version in their order, each with the commit that made it what it is.

    A member of an object is known by its key, an item of a list as a diff knows it. A version that cannot be read is
    passed over: what it broke went on being what it was. `known`: of commits on the way, what came out for the version
    that each made, by pointer. `value`: what the newest version holds, where it was read already. Raises
    DocumentError or Malformed where the newest version is no document.
    """
    every = reach(versions)
    newest = next(every, None)
    if newest is None or newest.data is None:
        return []
    blame = _Blame(newest.commit, newest.data, load(newest.data) if value is UNSET else value, known or {})
    while not blame.done:
        version = next(every, _BEFORE_ALL)
        if version is None:
            break
        blame.go_back(version)
    return blame.leaves()


def leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a value, with its pointer."""
    if type(value) is dict and value:
        for key, item in value.items():
            yield from leaves(item, step(pointer, key))
    elif type(value) is list and value:
        for index, item in enumerate(value):
            yield from leaves(item, step(pointer, index))
    else:
        yield pointer, value


class _Blame:
    """The leaves that are not accounted for yet (`open`), seen from one version, newer ones done with.

    `open` has them by top-level key (None: the document has none), each with its pointer in this version and in the
    newest one.
    """

    def __init__(self, commit: str, data: bytes, value: Any, known: Mapping[str, Mapping[str, str | None]]) -> None:
        self.commit = commit
        self._data = data
        self._value: Any = dict(value) if type(value) is dict else value  # its members come and go
        self._known = known
        self._leaves = dict(leaves(self._value))
        self._found: dict[str, str | None] = {}
        self._steps = Steps(_STEPS)
        self._room = _PARSED
        self._open: dict[str | None, dict[str, str]] = {}
        for pointer, _ in self._leaves.items():
            self._open.setdefault(self._top(pointer), {})[pointer] = pointer
        self._whole = self._is_block()
        self._look_up()

    @property
    def done(self) -> bool:
        """Whether every leaf is accounted for."""
        return not self._open

    def leaves(self) -> list[Leaf]:
        """What came out."""
        return [Leaf(pointer, value, self._found.get(pointer)) for pointer, value in self._leaves.items()]

    def go_back(self, version: Version) -> None:
        """Looks at the version before."""
        if version.data is None:  # what is left was so from the beginning
            self._blame(self._open)
            self._open = {}
            return
        if version.data != self._data:
            try:
                changed = self._by_lines(version.data)
            except NotPlain:
                self._room -= len(version.data)
                if self._room < 0:
                    self._open = {}
                    return
                try:
                    value = load(version.data)
                except (DocumentError, Malformed):
                    return
                changed = self._as_whole(value)
                self._value, self._data = value, version.data
                self._whole = self._is_block()
            self._compare(*changed)
        self.commit = version.commit
        self._look_up()

    def _top(self, pointer: str) -> str | None:
        if type(self._value) is not dict:
            return None
        return pointer.split("/", 2)[1].replace("~1", "/").replace("~0", "~") if pointer else None

    def _look_up(self) -> None:
        """Takes the rest from what is known of this version."""
        known = self._known.get(self.commit)
        if known is not None:
            for group in self._open.values():
                self._found.update((newest, known.get(here)) for here, newest in group.items())
            self._open = {}

    def _blame(self, groups: Mapping[str | None, Mapping[str, str]]) -> None:
        for group in groups.values():
            self._found.update(dict.fromkeys(group.values(), self.commit))

    # -- what differs -------------------------------------------------------------------------------------------------

    def _as_whole(self, old: Any) -> tuple[Any, Any]:
        """The two values, less the members that are the same."""
        new = self._value
        if type(old) is dict and type(new) is dict and old and new:
            numbers = Numbers(ordered=False)
            same = {key for key in new if key in old and numbers.of(new[key]) == numbers.of(old[key])}
            return (
                {key: item for key, item in old.items() if key not in same},
                {key: item for key, item in new.items() if key not in same},
            )
        return old, new

    def _compare(self, old: Any, new: Any) -> None:
        """Goes on with what is the same in the older value; this version's commit set the rest."""
        both = type(old) is dict and type(new) is dict
        if both and None not in self._open:
            for key, item in new.items():
                group = self._open.pop(key, None)
                if group is not None:
                    carried = self._carried(old[key], item, step("", key)) if key in old else {}
                    self._regroup(group, carried)
            return
        groups, self._open = self._open, {}
        carried = self._carried(old, new, "")
        for group in groups.values():
            self._regroup(group, carried)

    def _regroup(self, group: Mapping[str, str], carried: Mapping[str, str]) -> None:
        for here, newest in group.items():
            there = carried.get(here)
            if there is None:
                self._found[newest] = self.commit
            else:
                self._open.setdefault(self._top(there), {})[there] = newest

    def _carried(self, old: Any, new: Any, pointer: str) -> dict[str, str]:
        """The leaves of the newer value that are as they were: pointer there → pointer in the older one."""
        out: dict[str, str] = {}
        numbers = Numbers(ordered=False)
        waiting = [(old, new, pointer, pointer)]
        while waiting:
            was, now, before, after = waiting.pop()
            if numbers.of(was) == numbers.of(now):
                start = len(after)
                out.update((place, before + place[start:]) for place, _ in leaves(now, after))
            elif type(was) is dict and type(now) is dict:
                waiting += [(was[key], now[key], step(before, key), step(after, key)) for key in now if key in was]
            elif type(was) is list and type(now) is list:
                waiting += [
                    (was[at], now[there], step(before, at), step(after, there))
                    for at, there in self._pairs(was, now, numbers)
                ]
        return out

    def _pairs(self, old: list[Any], new: list[Any], numbers: Numbers) -> Iterator[tuple[int, int]]:
        """The items of two lists that are the same ones, by index."""
        name = identity((old, new))
        before, after = (
            [numbers.of(item[name] if name is not None else item) for item in items] for items in (old, new)
        )
        at = there = 0
        for change in changes(before, after, self._steps):
            yield from zip(range(at, change.start), range(there, change.first), strict=True)
            at, there = change.end, change.last
            if name is None and change.end - change.start == change.last - change.first:
                yield from zip(range(change.start, at), range(change.first, there), strict=True)
        yield from zip(range(at, len(old)), range(there, len(new)), strict=True)

    # -- documents taken apart by lines -------------------------------------------------------------------------------

    def _is_block(self) -> bool:
        """Whether the top-level keys are what stands at the beginning of lines."""
        try:
            return type(self._value) is dict and bool(self._value) and heads(self._data) == list(self._value)
        except NotPlain:
            return False

    def _by_lines(self, older: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        """The members of both versions around what differs, parsed apart from the rest. Raises NotPlain."""
        newer = self._data
        if not self._whole:
            raise NotPlain
        start, old_end, end = window(older, newer)
        self._room -= old_end - start
        if self._room < 0:
            raise NotPlain
        old = members(older[start:old_end])
        new = {key: self._value.pop(key) for key in heads(newer[start:end])}
        if not self._value.keys().isdisjoint(old) or not (self._value or old):
            self._value.update(new)
            raise NotPlain  # a key twice, or an empty document: which is no mapping
        self._value.update(old)
        self._data = older
        return old, new
