"""Large objects that `main` points to and that are not here: told as problems, for only a person can bring them."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from itertools import islice

from gitstore import values
from gitstore.lfs.attributes import NAME
from gitstore.model import Problem
from gitstore.reading import shown
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository

SOURCE = "large"
_MOST = 100


def standing(repository: Repository, head: Oid | None, now: int, known: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems as they are now, at most 100; one of those `known` keeps its time. Raises Damaged."""
    if b"filter=lfs" not in (repository.tree(head).read(NAME) or b""):
        return ()  # nobody asked for any, and every file would have to be looked at
    objects, since = repository.objects, {problem.id: problem.since for problem in known}
    gone = ((path, pointer) for path, pointer in repository.pointers(head) if not objects.has(*pointer))
    found = []
    for path, pointer in islice(gone, _MOST):
        identity = sha256(f"large\0{path}\0{pointer.oid}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        found.append(
            Problem(
                identity,
                "invalid",
                shown(path),
                "large_missing",
                f"the content of `{shown(path)}` ({pointer.size} bytes) is not here, only its pointer of Git LFS is",
                "Push it from a clone that has it with `git lfs push --all`, or store the file again.",
                since.get(identity, values.iso(now)),
            )
        )
    return tuple(found)
