"""Files that moved: a path that went and one that came with the very same content are one rename.

Which of several equal files is taken for which is git's own choice (diffcore-rename, `git log -M100%`): paths in the
order of trees, and one of the same base name before all others. Nothing is guessed from contents that are merely alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from gitstore.repository.objects import Oid
from gitstore.repository.trees import Difference, Node, encode_path

_LOOKED_AT = 102  # equal files that are considered for one path, as git does


class Move(NamedTuple):
    """One path that differs; `came_from` is where a renamed file was, then `old` is what was there."""

    path: str
    old: Node | None
    new: Node | None
    came_from: str | None = None


def moves(differences: Iterable[Difference]) -> list[Move]:
    """The differences in their order, a deletion and an addition of one content as one: it stands at the new path."""
    found = list(differences)
    if all(one.new is not None for one in found) or all(one.old is not None for one in found):
        return [Move(*one) for one in found]
    ordered = sorted(found, key=lambda one: encode_path(one.path))
    gone: dict[tuple[Oid, int], list[str]] = {}
    for path, old, new in ordered:
        if new is None and old is not None:
            gone.setdefault(_sort(old), []).append(path)
    pools = {sort: _Pool(paths) for sort, paths in gone.items()}
    moved: dict[str, str] = {}
    for path, old, new in ordered:
        if old is None and new is not None and (pool := pools.get(_sort(new))) is not None:
            source = pool.take(path)
            if source is not None:
                moved[path] = source
    used = {one.path: one.old for one in found if one.old is not None and one.new is None}
    sources = set(moved.values())
    return [
        Move(one.path, used[moved[one.path]], one.new, moved[one.path]) if one.path in moved else Move(*one)
        for one in found
        if one.path not in sources
    ]


class _Pool:
    """Equal files that went, in their order; those that come next are looked at."""

    def __init__(self, paths: list[str]) -> None:
        self._rest = ((path.rsplit("/", 1)[-1], path) for path in paths)
        self._next = list(islice(self._rest, _LOOKED_AT))

    def take(self, path: str) -> str | None:
        """The file that the one at `path` was before."""
        if not self._next:
            return None
        name = path.rsplit("/", 1)[-1]
        at = next((at for at, other in enumerate(self._next) if other[0] == name), 0)
        source = self._next.pop(at)
        self._next += islice(self._rest, 1)
        return source[1]


def _sort(node: Node) -> tuple[Oid, int]:
    """What two files must have in common: the content, and of what is no plain file the mode."""
    return node.id, 0 if node.mode & 0o170000 == 0o100000 else node.mode
