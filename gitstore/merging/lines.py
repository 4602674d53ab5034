"""Merging texts line by line: what only one side changed is taken, what both changed in one place is a clash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gitstore.merging.clash import Side
from gitstore.merging.sequences import changes, regions

_MOST_BYTES = 16 << 20
MOST_LINES = 400_000


class Lines(NamedTuple):
    """Lines that both sides changed: where they stand in the merged text (from 1), and what each side has."""

    line: int
    base: bytes
    ours: bytes
    theirs: bytes


def merge_lines(
    base: bytes, ours: bytes, theirs: bytes, prefer: Side, *, near: bool = False
) -> tuple[bytes, list[Lines]] | None:
    """The merged text and its clashes, where the preferred side's lines stand; None for texts too long to compare.

    Changes that touch without a line between them clash, as they do for git. With `near` they do not, and lines that
    both sides inserted at one place follow each other, ours first: for a caller who can tell whether that makes sense.
    """
    if max(map(len, (base, ours, theirs))) > _MOST_BYTES:
        return None
    old, left, right = (text.splitlines(keepends=True) for text in (base, ours, theirs))
    if max(map(len, (old, left, right))) > MOST_LINES:
        return None
    out: list[bytes] = []
    clashes: list[Lines] = []
    done = 0
    for region in regions(changes(old, left), changes(old, right), near=near):
        out += old[done : region.base.start]
        done = region.base.stop
        here, there = left[region.left], right[region.right]
        if not region.theirs or here == there:
            out += here
        elif not region.ours:
            out += there
        elif near and region.base.start == region.base.stop:
            out += ended(here) + there
        else:
            head, tail = _ends(here, there)
            mine, yours = here[head : len(here) - tail], there[head : len(there) - tail]
            out += here[:head]
            clashes.append(Lines(len(out) + 1, b"".join(old[region.base]), b"".join(mine), b"".join(yours)))
            out += mine if prefer == "ours" else yours
            out += here[len(here) - tail :]
    out += old[done:]
    return b"".join(out), clashes


def _ends(one: Sequence[bytes], other: Sequence[bytes]) -> tuple[int, int]:
    """How many lines two parts have in common at their beginning, and how many at their end."""
    shorter = min(len(one), len(other))
    head = tail = 0
    while head < shorter and one[head] == other[head]:
        head += 1
    while tail < shorter - head and one[-1 - tail] == other[-1 - tail]:
        tail += 1
    return head, tail


def ended(lines: list[bytes]) -> list[bytes]:
    """Lines that something can follow."""
    return [line if line.endswith((b"\n", b"\r")) else line + b"\n" for line in lines]
