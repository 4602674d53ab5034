"""A store with live folders in this process, and what a person does in one of them with an editor and with git."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gitstore import memory, resolving, workspaces
from gitstore.changes import Workspace
from gitstore.documents import MISSING
from gitstore.history import TimelineQuery
from gitstore.live import Live
from gitstore.model import Actor, Problem, Provenance
from gitstore.store import Store

T = TypeVar("T")
SETTLE = 0.1
API = Provenance(Actor("admin", "k1", "ops"))
PERSON = {"GIT_AUTHOR_NAME": "Rosa", "GIT_AUTHOR_EMAIL": "rosa@northgate.example", "GIT_EDITOR": "true"}
PERSON |= {"GIT_COMMITTER_NAME": "Rosa", "GIT_COMMITTER_EMAIL": "rosa@northgate.example"}
PERSON |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C", "HOME": "/nonexistent"}


def until(ready: Callable[[], T], seconds: float = 40.0, *, what: Callable[[], object] = lambda: "") -> T:
    """What `ready` answers once that is true of it; the deadline is for a machine with too much to do."""
    end = time.monotonic() + seconds
    while True:
        found = ready()
        if found:
            return found
        assert time.monotonic() < end, what()
        time.sleep(0.01)


class Living:
    """A store, its live folders, and one workspace called `shop`."""

    def __init__(self, data: Path, **options: Any) -> None:
        self.data = data
        self.options = {"settle": SETTLE, "sweep": 3600.0, **options}
        self.store = Store.open(data)
        self.live = Live(self.store, **self.options)

    def start(self) -> Living:
        self.live.start()
        return self

    def stop(self) -> None:
        self.live.stop()
        self.store.close()

    def restart(self, between: Callable[[], object] = lambda: None) -> None:
        self.stop()
        between()
        self.store = Store.open(self.data)
        self.live = Live(self.store, **self.options)
        self.live.start()

    def crash(self) -> None:
        """Goes on from a copy of what is on the disk at this moment, as after a kill."""
        other = self.data.with_name(self.data.name + "+")
        shutil.copytree(self.data, other, symlinks=True)
        self.stop()
        self.data = other
        self.store = Store.open(other)
        self.live = Live(self.store, **self.options)
        self.live.start()

    # -- the API ----------------------------------------------------------------------------------------------------

    def make(self, slug: str = "shop", **values: Any) -> Path:
        """A workspace with these memory keys; its folder, published."""
        fields = {"name": slug, "slug": slug, "memory": values or {"policy": {"days": 5, "who": "ada"}}}
        self.store.create(slug, lambda draft: workspaces.create(draft, fields), API).result()
        self.publish(slug)
        return self.folder(slug)

    def folder(self, slug: str = "shop") -> Path:
        return self.store.layout.workspaces / slug

    def workspace(self, slug: str = "shop") -> Workspace:
        return self.store.load(slug)

    def publish(self, slug: str = "shop") -> None:
        until(lambda: self.store.publisher.publish(self.workspace(slug)))

    def set(self, key: str, value: Any, slug: str = "shop", *, publish: bool = True) -> str:
        """Sets a key as the API does; the commit."""
        outcome = self.store.apply(slug, "main", lambda draft: memory.set(draft, {key: value}), API).result()
        if publish:
            self.publish(slug)
        return str(outcome.snapshot.main.head)

    def delete(self, key: str, slug: str = "shop") -> None:
        self.store.apply(slug, "main", lambda draft: memory.delete(draft, key), API).result()
        self.publish(slug)

    def memory(self, slug: str = "shop") -> dict[str, Any]:
        return dict(msgspec.json.decode(self.workspace(slug).visible.context.memory_json()))

    def main(self, path: str, slug: str = "shop") -> bytes | None:
        return self.workspace(slug).visible.tree().read(path)

    def files(self, slug: str = "shop") -> set[str]:
        return {path for path, _ in self.workspace(slug).visible.tree().walk()}

    def head(self, slug: str = "shop") -> str:
        return str(self.workspace(slug).visible.main.head)

    def problems(self, slug: str = "shop") -> tuple[Problem, ...]:
        return self.workspace(slug).visible.problems

    def codes(self, slug: str = "shop") -> dict[str, str]:
        return {problem.path: problem.code for problem in self.problems(slug)}

    def resolve(self, problem: Problem, *, take: Any = None, value: Any = MISSING, slug: str = "shop") -> None:
        checkouts, workspace = self.live.checkouts, self.workspace(slug)
        resolving.resolve(self.store, checkouts, workspace, problem.id, take=take, value=value, who=API)

    def timeline(self, slug: str = "shop") -> list[Any]:
        workspace = self.workspace(slug).id
        return [entry.facts for entry in self.store.history.timeline(workspace, TimelineQuery(per_page=100)).entries]

    def slugs(self) -> dict[str, str]:
        """Each workspace's id by its slug."""
        rows = [self.store.catalog.workspace(identity) for identity in self.store.catalog.workspaces()]
        return {row.slug: row.id for row in rows if row is not None}

    def rest(self, slug: str = "shop") -> None:
        """Waits until nothing is left to take in, and what was is in the folder."""

        def still() -> bool:
            if self.live.settling.waiting:
                return False
            workspace = self.workspace(slug)
            self.publish(slug)
            state = self.live.checkouts.state(workspace)
            told = {problem.path for problem in workspace.visible.problems}
            return state.busy is not None or all(one.path in told for one in state.pending)

        until(still, what=lambda: self.live.checkouts.state(self.workspace(slug)))


def git(folder: Path, *words: str, check: bool = True, environ: dict[str, str] | None = None) -> str:
    """What git prints, to a person in the folder."""
    about = {"PATH": os.environ["PATH"], **PERSON, **(environ or {})}
    done = subprocess.run(["git", *words], cwd=folder, env=about, capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.rstrip("\n") if check else f"{done.returncode}\n{done.stdout}{done.stderr}"


def save(place: Path, text: str | bytes) -> None:
    """As editors do: beside the file, then in its place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.saving.tmp")
    beside.write_bytes(text.encode() if isinstance(text, str) else text)
    os.rename(beside, place)


def sound(folder: Path) -> None:
    """The checkout is clean, and git finds no fault."""
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "fsck", "--strict", "--full", "--no-dangling") == ""
