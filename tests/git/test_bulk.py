"""What the git program reads at once is what is read commit by commit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings

from git.conftest import git
from git.drawn import NAMES, ODD, Step, histories, make, opened
from gitstore import facts
from gitstore.errors import Damaged
from gitstore.repository import bulk
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository

HERE: dict[str, Repository] = {}


@pytest.fixture(scope="module", autouse=True)
def repository(tmp_path_factory: pytest.TempPathFactory) -> None:
    HERE["it"] = opened(tmp_path_factory.mktemp("drawn"))


def oid(text: str) -> Oid:
    return Oid(bytes.fromhex(text))


@given(histories(names=NAMES + ODD, most=8))
@settings(max_examples=15, deadline=None)
def test_the_same_facts_come_out(steps: list[Step]) -> None:
    repository = HERE["it"]
    commits = make(Path(repository.root), steps)
    repository.database.close()
    head = oid(commits[-1])
    line = facts.line(repository, head, None)
    slowly = list(facts.walk(repository, "main", line, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "WORTH_IT", 1)
        patch.setattr(bulk, "_AT_ONCE", 3)
        assert list(facts.catch_up(repository, "main", head, None, 0)) == slowly
        since = line[len(line) // 2][0]
        rest = slowly[len(line) // 2 + 1 :]
        assert list(facts.catch_up(repository, "main", head, since, 0)) == rest
        patch.setattr(bulk, "_CHUNK", 7)  # pieces that end anywhere
        assert list(facts.catch_up(repository, "main", head, None, 0)) == slowly
        patch.setattr(shutil, "which", lambda *_, **__: None)  # without the program it is slow, and the same
        assert list(facts.catch_up(repository, "main", head, None, 0)) == slowly


def test_a_person_s_settings_and_replacements_count_for_nothing(tmp_path: Path) -> None:
    repository = opened(tmp_path / "it")
    root = Path(repository.root)
    steps = [Step((), {"a": (0o100644, b"1\n")}), Step((0,), {"a": (0o100644, b"2\n")})]
    first, second = make(root, steps)
    run = tmp_path / "ran"
    (tmp_path / "evil").write_text(f"#!/bin/sh\ntouch {run}\n")
    os.chmod(tmp_path / "evil", 0o755)
    for name in ("diff.external", "core.fsmonitor", "core.sshCommand", "core.alternateRefsCommand", "diff.x.textconv"):
        git(root, "config", name, str(tmp_path / "evil"))
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/attributes").write_text("* diff=x\n")
    other = git(root, "commit-tree", "-m", "else", git(root, "rev-parse", f"{first}^{{tree}}"))
    git(root, "replace", second, other)
    found = list(bulk.read(repository.database.objects, oid(second), None))
    assert [one.oid.hex() for one in found] == [first, second]
    assert [one.path for one in found[1].differences] == ["a"]
    assert not run.exists()


def test_what_is_missing_is_said_and_left_to_the_slow_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = opened(tmp_path / "it")
    root = Path(repository.root)
    steps = [Step((), {"a": (0o100644, b"0\n")})]
    steps += [Step((n,), {"a": (0o100644, b"%d\n" % n)}) for n in range(6)]
    commits = make(root, steps)
    for pack in list((root / ".git/objects/pack").glob("*.pack")):
        data = pack.read_bytes()
        for name in pack.parent.glob(pack.stem + ".*"):
            name.unlink()
        git(root, "unpack-objects", "-q", data=data)
    place = root / ".git/objects" / commits[3][:2] / commits[3][2:]
    place.unlink()
    with pytest.raises(bulk.Unread):
        list(bulk.read(repository.database.objects, oid(commits[-1]), None))
    monkeypatch.setattr(bulk, "WORTH_IT", 1)
    with pytest.raises(Damaged, match=commits[3]):
        list(facts.catch_up(repository, "main", oid(commits[-1]), None, 0))
