"""What differs between two states, against what git says of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from git.conftest import git
from git.drawn import NAMES, ODD, Step, histories, make, opened
from gitstore.diff import moved, unified
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository

HERE: dict[str, Repository] = {}


@pytest.fixture(scope="module", autouse=True)
def repository(tmp_path_factory: pytest.TempPathFactory) -> None:
    HERE["it"] = opened(tmp_path_factory.mktemp("drawn"))


def status(root: str, old: str, new: str) -> list[tuple[str, ...]]:
    """`git diff --name-status -M100%`, paths as this project has them."""
    out = git(Path(root), "diff", "-z", "-M100%", "-l0", "--name-status", old, new)
    words = out.split("\0")
    found = []
    while words and words[0]:
        word = words.pop(0)
        found.append((word, *(words.pop(0) for _ in range(2 if word[0] == "R" else 1))))
    return found


def told(repository: Repository, old: str, new: str) -> list[tuple[str, ...]]:
    trees = [repository.tree(Oid(bytes.fromhex(one))) for one in (old, new)]
    found = []
    for one in moved(*trees):
        path = one.path
        if one.came_from is not None:
            found.append(("R100", one.came_from, path))
        else:
            kinds = {node.mode & 0o170000 for node in (one.old, one.new) if node is not None}
            word = "A" if one.old is None else "D" if one.new is None else "M" if len(kinds) == 1 else "T"
            found.append((word, path))
    return found


@given(histories(names=NAMES + ODD[:3], most=4))
@settings(max_examples=25, deadline=None)
def test_the_files_that_differ_are_those_git_names(steps: list[Step]) -> None:
    repository = HERE["it"]
    commits = make(Path(repository.root), steps)
    repository.database.close()
    assert told(repository, commits[0], commits[-1]) == status(repository.root, commits[0], commits[-1])
    assert told(repository, commits[-1], commits[0]) == status(repository.root, commits[-1], commits[0])


@given(histories(names=NAMES + ODD, most=3))
@example([Step((), {"docs": (0o120000, b"x")}), Step((0,), {"docs/a.md": (0o120000, b"x")})])
@example([Step((), {"docs": (0o120000, b"x")}), Step((0,), {"z": (0o120000, b"x"), "docs/a.md": (0o100644, b"y")})])
@settings(max_examples=25, deadline=None)
def test_git_applies_the_patch(steps: list[Step]) -> None:
    repository = HERE["it"]
    root = Path(repository.root)
    commits = make(root, steps)
    repository.database.close()
    trees = [repository.tree(Oid(bytes.fromhex(one))) for one in (commits[0], commits[-1])]
    text = "".join(unified(*trees))
    environ = {"GIT_INDEX_FILE": str(root / ".git" / "scratch")}
    git(root, "read-tree", commits[0], environ=environ)
    if text:
        git(root, "apply", "--cached", "--whitespace=nowarn", "-", environ=environ, data=text.encode())
    assert git(root, "write-tree", environ=environ) == git(root, "rev-parse", f"{commits[-1]}^{{tree}}")
    os.unlink(environ["GIT_INDEX_FILE"])


def test_the_patch_of_a_text_is_gits_own() -> None:
    repository = HERE["it"]
    old = "".join(f"{n}\n" for n in range(1, 60))
    new = old.replace("\n7\n", "\nseven\n").replace("\n40\n41\n", "\n").removesuffix("\n")
    steps = [Step((), {"a b.txt": (0o100644, old.encode())}), Step((0,), {"a b.txt": (0o100755, new.encode())})]
    commits = make(Path(repository.root), steps)
    repository.database.close()
    trees = [repository.tree(Oid(bytes.fromhex(one))) for one in commits]
    mine = "".join(unified(*trees))
    theirs = git(Path(repository.root), "diff", "--full-index", *commits)
    assert mine.strip() == re.sub(r"(?m)^(@@ .*? @@).*$", r"\1", theirs)
