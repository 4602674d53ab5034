"""A whole server, the git program of this machine as its client, and clones that people have."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from contract.client import Client
from contract.conftest import Place, Server, serving

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Rosa Vidal",
    "GIT_AUTHOR_EMAIL": "rosa@northgate.example",
    "GIT_COMMITTER_NAME": "Rosa Vidal",
    "GIT_COMMITTER_EMAIL": "rosa@northgate.example",
    "LC_ALL": "C",
}


class Done(NamedTuple):
    """How a run of git ended; `text` is everything it said."""

    code: int
    out: str
    text: str


def run(folder: Path, *words: str, environ: dict[str, str] | None = None, data: bytes | None = None) -> Done:
    done = subprocess.run(
        ["git", *words], cwd=folder, env=ENVIRONMENT | (environ or {}), capture_output=True, input=data, timeout=90
    )
    out, said = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    return Done(done.returncode, out.strip(), f"{out}{said}")


def git(folder: Path, *words: str, environ: dict[str, str] | None = None, data: bytes | None = None) -> str:
    done = run(folder, *words, environ=environ, data=data)
    assert done.code == 0, (words, done.text)
    return done.out


class Clone:
    """Somebody's clone of a workspace."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def write(self, path: str, text: str | bytes) -> None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(self, path: str | None = None, text: str | bytes = "", message: str = "edit") -> str:
        """Commits everything, after writing a file; the commit's id."""
        if path is not None:
            self.write(path, text)
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def git(self, *words: str, **options: dict[str, str]) -> str:
        return git(self.folder, *words, **options)  # type: ignore[arg-type]

    def run(self, *words: str, **options: dict[str, str]) -> Done:
        return run(self.folder, *words, **options)  # type: ignore[arg-type]

    def push(self, *words: str) -> Done:
        return self.run("push", "origin", *(words or ("HEAD:main",)))


def address(server: Server, name: str, scope: str = "admin") -> str:
    return f"http://x:{server.keys[scope]}@127.0.0.1:{server.port}/git/{name}.git"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("git") / "data") as running:
        yield running


@pytest.fixture
def admin(server: Server) -> Iterator[Client]:
    with server.client("admin") as made:
        yield made


@pytest.fixture
def place(server: Server, admin: Client) -> Place:
    return Place(server, admin)


@pytest.fixture
def clone(server: Server, place: Place, tmp_path: Path) -> Callable[..., Clone]:
    """Clones the workspace, with further words for `git clone`."""
    count = 0

    def make(*words: str, scope: str = "admin") -> Clone:
        nonlocal count
        count += 1
        folder, url = tmp_path / f"clone{count}", address(server, place.slug, scope)
        git(tmp_path, "clone", "-q", *words, url, str(folder))
        return Clone(folder, url)

    return make
