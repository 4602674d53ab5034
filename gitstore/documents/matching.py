"""Pairs the items of an old list with those of a new one, so that only what differs is rewritten."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

# Above this many pairs to compare, items are paired by position: a list of thousands must not take seconds.
_MOST_PAIRS = 250_000


def match(old: list[Any], new: list[Any]) -> list[int | None]:
    """Return for each new item the index of the old one it continues, or None if it is new; indexes only grow."""
    before = [repr(item) for item in old]
    after = [repr(item) for item in new]
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shorter - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    pairs: list[int | None] = list(range(head))
    pairs += _middle(before[head : len(before) - tail], after[head : len(after) - tail], head)
    pairs += range(len(before) - tail, len(before))
    return pairs


def _middle(before: list[str], after: list[str], offset: int) -> list[int | None]:
    if len(before) * len(after) > _MOST_PAIRS:
        return [offset + index if index < len(before) else None for index in range(len(after))]
    pairs: list[int | None] = []
    for kind, start, end, new_start, new_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "delete":
            continue
        both = end - start if kind in ("equal", "replace") else 0
        for index in range(new_end - new_start):
            pairs.append(offset + start + index if index < both else None)
    return pairs
