"""A clone with the documented set-up: git merges YAML by its keys, and a true conflict looks like one."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gitstore.documents import load

COMMAND = Path(sys.executable).with_name("gitstore")
DOCS = (Path(__file__).parents[2] / "docs/git.md").read_text()
BASE = """\
# Who may release, and when.
owner: platform-team
freeze: [fri, sat]
steps:
  - id: build
  - id: canary
"""


class Clone:
    """A repository with two branches, set up as docs/git.md says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "-q", "-b", "main")
        line = re.search(r"^git config .*$", DOCS, re.MULTILINE)
        attributes = re.search(r"^\*\.yaml .*$", DOCS, re.MULTILINE)
        assert line is not None
        assert attributes is not None
        subprocess.run(line[0], shell=True, check=True, cwd=folder, env=self.environment)
        (folder / ".gitattributes").write_text(attributes[0] + "\n")

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITSTORE_", "GIT_"))}
        return kept | {
            "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def git(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        done = subprocess.run(
            ["git", *who, *words], cwd=self.folder, capture_output=True, text=True, timeout=60, env=self.environment
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def commit(self, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / f"{name}.yaml"
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "a change")

    def diverge(self, base: str, ours: str, theirs: str) -> None:
        self.commit(policy=base)
        self.git("checkout", "-q", "-b", "side")
        self.commit(policy=theirs)
        self.git("checkout", "-q", "main")
        self.commit(policy=ours)

    def read(self) -> str:
        return (self.folder / "policy.yaml").read_text()


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    folder = tmp_path / "a clone"
    folder.mkdir()
    return Clone(folder)


def test_different_keys_on_adjacent_lines_and_items_at_one_place_merge(clone: Clone) -> None:
    ours = BASE.replace("platform-team", "core  # since May") + "  - id: all\n"
    theirs = BASE.replace("[fri, sat]", "[fri]") + "  - id: half # first\n"
    clone.diverge(BASE, ours, theirs)
    clone.git("merge", "side", "-m", "joined")
    assert clone.read() == (
        "# Who may release, and when.\nowner: core  # since May\nfreeze: [fri]\n"
        "steps:\n  - id: build\n  - id: canary\n  - id: all\n  - id: half # first\n"
    )
    assert clone.git("status", "--porcelain").stdout == ""


def test_without_the_driver_git_has_a_conflict_there(clone: Clone) -> None:
    clone.diverge(BASE, BASE.replace("platform-team", "core"), BASE.replace("[fri, sat]", "[fri]"))
    clone.git("config", "--unset", "merge.gitstore.driver")
    clone.git("merge", "side", "-m", "joined", code=1)


def test_the_same_key_is_a_conflict_with_both_values(clone: Clone) -> None:
    ours, theirs = BASE.replace("platform-team", "core"), BASE.replace("platform-team", "release")
    clone.diverge(BASE, ours, theirs.replace("[fri, sat]", "[fri]"))
    done = clone.git("merge", "side", "-m", "joined", code=1)
    assert clone.read() == BASE.replace(
        "owner: platform-team", "<<<<<<< ours\nowner: core\n=======\nowner: release\n>>>>>>> theirs"
    ).replace("[fri, sat]", "[fri]")
    assert 'gitstore: policy.yaml at /owner: "core" ours, "release" theirs' in done.stdout + done.stderr
    assert clone.git("status", "--porcelain").stdout == "UU policy.yaml\n"
    block = re.search(r"^<<<<<<<.*^>>>>>>> theirs$", clone.read(), re.MULTILINE | re.DOTALL)
    documented = re.search(r"^<<<<<<<.*^>>>>>>> theirs$", DOCS, re.MULTILINE | re.DOTALL)
    assert block is not None
    assert documented is not None
    assert block[0] == documented[0]


def test_a_rebase_uses_it_too(clone: Clone) -> None:
    clone.diverge(BASE, BASE.replace("platform-team", "core"), BASE.replace("[fri, sat]", "[fri]"))
    clone.git("rebase", "-q", "side")
    assert load(clone.read().encode())["owner"] == "core"
    assert load(clone.read().encode())["freeze"] == ["fri"]


def test_both_add_the_file(clone: Clone) -> None:
    clone.commit(other="a: 1\n")
    clone.git("checkout", "-q", "-b", "side")
    clone.commit(policy="a: 1\nt: {x: 1}\n")
    clone.git("checkout", "-q", "main")
    clone.commit(policy="a: 1\no: 1\nt: {y: 2}\n")
    clone.git("merge", "side", "-m", "joined")
    assert load(clone.read().encode()) == {"a": 1, "o": 1, "t": {"y": 2, "x": 1}}


@pytest.mark.parametrize("broken", ["owner: [\n", "owner: \0\n", ""])
def test_a_broken_file_is_a_conflict(clone: Clone, broken: str) -> None:
    clone.diverge(BASE, broken, BASE.replace("platform-team", "release"))
    clone.git("merge", "side", "-m", "joined", code=1)
    assert clone.git("status", "--porcelain").stdout == "UU policy.yaml\n"
    assert "\0" in broken or {broken.strip(), "owner: release"} <= {*clone.read().split("\n"), ""}


def test_it_fails_aloud_where_a_file_is_not_there(tmp_path: Path) -> None:
    words = f"{shlex.quote(str(COMMAND))} merge-driver no-base no-ours no-theirs a.yaml"
    done = subprocess.run(shlex.split(words), capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 129
    assert done.stderr == "gitstore: a.yaml cannot be merged: no-base: No such file or directory\n"
