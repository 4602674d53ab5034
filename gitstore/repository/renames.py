"""Files that moved: a path that went and one that came with the very same content are one rename.

Which of several equal files is taken for which is git's own choice (diffcore-rename, `git log -M100%`): paths in the
order of trees, and one of the same base name before all others. Nothing is guessed from contents that are merely alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gitstore.repository.objects import Oid
from gitstore.repository.trees import Difference, Node, encode_path

_LOOKED_AT = 100  # equal files that are considered for one path, as git does


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
    gone: dict[Oid, list[Difference]] = {}
    for difference in ordered:
        if difference.new is None and difference.old is not None:
            gone.setdefault(difference.old.id, []).append(difference)
    moved: dict[str, Difference] = {}
    used: set[str] = set()
    for difference in ordered:
        if difference.old is None and difference.new is not None and difference.new.id in gone:
            source = _source(difference, gone[difference.new.id], used)
            if source is not None:
                used.add(source.path)
                moved[difference.path] = source
    return [
        Move(one.path, moved[one.path].old, one.new, moved[one.path].path) if one.path in moved else Move(*one)
        for one in found
        if one.path not in used
    ]


def _source(target: Difference, candidates: list[Difference], used: set[str]) -> Difference | None:
    """The file that the target was before."""
    assert target.new is not None
    name = target.path.rsplit("/", 1)[-1]
    best: Difference | None = None
    looked = 0
    for candidate in candidates:
        assert candidate.old is not None
        if not (_is_file(candidate.old) and _is_file(target.new)) and candidate.old.mode != target.new.mode:
            continue
        if candidate.path in used:
            continue
        if candidate.path.rsplit("/", 1)[-1] == name:
            return candidate
        best = best or candidate
        looked += 1
        if looked > _LOOKED_AT:
            break
    return best


def _is_file(node: Node) -> bool:
    return node.mode & 0o170000 == 0o100000
