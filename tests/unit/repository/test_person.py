"""Whose name an edit gets."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from gitstore.repository.person import Person, person


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the user 4711, who is called Tom Reuter."""
    folder = tmp_path / "home"
    folder.mkdir()
    entry = pwd.struct_passwd(("tom", "x", 4711, 4711, "Tom Reuter,Room 3,,", str(folder), "/bin/sh"))

    def getpwuid(uid: int) -> pwd.struct_passwd:
        if uid != 4711:
            raise KeyError(uid)
        return entry

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "nobody's business")
    return folder


@pytest.fixture
def git(tmp_path: Path) -> Path:
    folder = tmp_path / ".git"
    folder.mkdir()
    return folder


def config(place: Path, name: str | None = None, email: str | None = None) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    lines = ["[user]", *([f"\tname = {name}"] if name else []), *([f"\temail = {email}"] if email else [])]
    place.write_text("\n".join(lines) + "\n")


def test_the_repository_comes_first(git: Path, home: Path) -> None:
    config(git / "config", "Repo", "repo@x")
    config(home / ".gitconfig", "Home", "home@x")
    assert person(str(git), 4711) == Person("Repo", "repo@x")


def test_each_is_the_nearest(git: Path, home: Path) -> None:
    config(git / "config", email="repo@x")
    config(home / ".config/git/config", "Elsewhere", "else@x")
    assert person(str(git), 4711) == Person("Elsewhere", "repo@x")
    config(home / ".gitconfig", "Home")
    assert person(str(git), 4711) == Person("Home", "repo@x")


def test_without_any(git: Path, home: Path) -> None:
    found = person(str(git), 4711)
    assert found.name == "Tom Reuter"
    assert found.email.startswith("tom@")
    assert person(str(git), 12).name == "user-12"


@pytest.mark.parametrize(
    "data", [b"[user\nname = x", b"\xff\xfe\0", b"[user]\nname = \n", b"", b"[include]\npath=/etc/x\n"]
)
def test_a_configuration_that_says_nothing(git: Path, home: Path, data: bytes) -> None:
    (git / "config").write_bytes(data)
    assert person(str(git), 4711).name == "Tom Reuter"


def test_a_pipe_is_not_waited_for(git: Path, home: Path) -> None:
    os.mkfifo(git / "config")
    assert person(str(git), 4711).name == "Tom Reuter"
