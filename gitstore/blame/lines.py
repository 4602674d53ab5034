"""Who last changed each line of a text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gitstore.blame.versions import Version, reach
from gitstore.diff.hunks import split
from gitstore.merging.sequences import Steps, changes

_STEPS = 5_000_000


class Line(NamedTuple):
    """A line without its end, and the commit that changed it last; None: one older than was read."""

    text: str
    commit: str | None


def blame_lines(versions: Iterable[Version]) -> list[Line]:
    """The lines of the newest version, each with the commit that made it what it is.

    A line is one that was there before where a diff shows it as the same. Raises UnicodeDecodeError where the newest
    version is no UTF-8.
    """
    every = reach(versions)
    newest = next(every, None)
    if newest is None or newest.data is None:
        return []
    lines = split(newest.data.decode())
    found: list[str | None] = [None] * len(lines)
    open_ = {index: index for index in range(len(lines))}  # by place in the version at hand, that in the newest
    commit, data, here = newest.commit, newest.data, lines
    steps = Steps(_STEPS)
    ended = True
    for version in every:
        if not open_:
            break
        if version is None:
            ended = False
            break
        if version.data is None:
            break
        if version.data != data:
            before = split(version.data.decode("utf-8", "surrogateescape"))
            carried: dict[int, int] = {}
            at = there = 0
            for change in [*changes(before, here, steps), None]:
                end, beyond = (change.start, change.first) if change else (len(before), len(here))
                for old, new in zip(range(at, end), range(there, beyond), strict=True):
                    if new in open_:
                        carried[old] = open_.pop(new)
                if change is not None:
                    at, there = change.end, change.last
            for place in open_.values():
                found[place] = commit
            open_, data, here = carried, version.data, before
        commit = version.commit
    if ended:
        for place in open_.values():
            found[place] = commit
    return [Line(line.removesuffix("\n"), by) for line, by in zip(lines, found, strict=True)]
