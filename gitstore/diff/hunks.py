"""Two texts against each other, line by line: the runs that changed, with the lines around them.

A line ends with LF and nothing else, as git counts them. Format: "diff-generate-patch" in git's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from gitstore.merging.sequences import Change, Steps, changes

CONTEXT = 3
NO_END = "\\ No newline at end of file"


class Hunk(msgspec.Struct, frozen=True):
    """One run of lines: where it is in the old and in the new text (from 1; 0 where there is no line to name).

    Each of `lines` begins with `-` (was there), `+` (is there), ` ` (both) or, behind a last line without a line end,
    is `\\ No newline at end of file`.
    """

    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    lines: list[str]


def split(text: str) -> list[str]:
    """The lines of a text, each with its LF; the last one may have none."""
    lines = text.split("\n")
    rest = lines.pop()
    out = [line + "\n" for line in lines]
    if rest:
        out.append(rest)
    return out


def hunks(old: str, new: str, steps: Steps | None = None) -> Iterator[Hunk]:
    """What changed between two texts, in order; empty for equal ones. Beyond `steps` runs are told coarsely."""
    before, after = split(old), split(new)
    near: list[Change] = []
    for change in changes(before, after, steps):
        if near and change.start - near[-1].end > 2 * CONTEXT:
            yield _hunk(before, after, near)
            near = []
        near.append(change)
    if near:
        yield _hunk(before, after, near)


def _hunk(before: Sequence[str], after: Sequence[str], near: Sequence[Change]) -> Hunk:
    start, first = max(near[0].start - CONTEXT, 0), max(near[0].first - CONTEXT, 0)
    end, last = min(near[-1].end + CONTEXT, len(before)), min(near[-1].last + CONTEXT, len(after))
    # As many lines of context on either side: what stands before the first and after the last change is the same.
    lines: list[str] = []
    at = start
    for change in near:
        lines += _told(" ", before[at : change.start])
        lines += _told("-", before[change.start : change.end])
        lines += _told("+", after[change.first : change.last])
        at = change.end
    lines += _told(" ", before[at:end])
    return Hunk(
        start + 1 if end > start else start, end - start, first + 1 if last > first else first, last - first, lines
    )


def _told(mark: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        if line.endswith("\n"):
            yield mark + line[:-1]
        else:
            yield mark + line
            yield NO_END
