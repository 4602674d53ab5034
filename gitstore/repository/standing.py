"""Objects that were published are looked at once more before the journal forgets them.

A git that cleans up (`git gc --prune=now`, `git prune`, `git repack -ad`) decides at its start what nothing names, and
removes it at its end: also what was published between the two and is named by a branch then (git-gc(1), NOTES). By
itself git waits two weeks before it removes anything.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from typing import NamedTuple

from gitstore.repository.objects import Object
from gitstore.repository.processes import began

_CLOCKS_APART = 2.0  # seconds by which the times of a process and of a file may be wrong
_GC_LONGEST = 12 * 3600  # seconds after which git itself takes no notice of gc.pid (builtin/gc.c)


class Standing(NamedTuple):
    """What one publication put on disk."""

    names: tuple[str, ...]
    """The files, below `objects`."""
    items: tuple[Object, ...]
    """What is needed to write the objects again (Object.lean)."""

    @property
    def size(self) -> int:
        """Bytes that this keeps in memory."""
        return sum(len(item.data) + len(item.delta or b"") + len(item.ready or b"") + 300 for item in self.items)


def standing(names: Iterable[str], items: Iterable[Object]) -> Standing:
    """The files that hold the objects."""
    return Standing(tuple(names), tuple(item.lean() for item in items))


def stands(objects: str, one: Standing) -> bool:
    """Whether every file is where it was put."""
    return all(os.path.exists(f"{objects}/{name}") for name in one.names)


def collecting(git: str) -> bool:
    """Whether a `git gc` is at work in the repository, as git tells it: `.git/gc.pid` names a process that lives.

    After a restart of the machine or its container the number may be that of another one, which is younger than the
    file.
    """
    try:
        with open(f"{git}/gc.pid", "rb") as file:
            written = os.fstat(file.fileno()).st_mtime
            words = file.read(4096).split()
    except OSError:
        return False
    if time.time() - written > _GC_LONGEST or len(words) != 2 or not words[0].isdigit():
        return False
    if words[1].decode("utf-8", "replace") != socket.gethostname():
        return False  # of another machine, which came with a copy: two machines never share a store
    since = began(int(words[0]))
    return since is not None and since <= written + _CLOCKS_APART
