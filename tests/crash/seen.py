"""What was promised about a workspace, in a form that two moments can be compared in; and what plain git says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from gitstore import snapshots
from gitstore.history import TimelineQuery
from gitstore.model import Actor, Provenance
from gitstore.repository import check, refs, tags
from gitstore.repository.index import Index
from gitstore.repository.trees import decode_path
from gitstore.snapshot import Snapshot
from gitstore.store import Store

WHO = Provenance(Actor("admin", "kabc1234", "The admin's key"))
HOME = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
KEY = f"gitstore-key-1-{'A' * 43}"  # the form of a key that was made here: it needs no stretching, which costs 0.1 s

View = dict[str, Any] | None


def view(snapshot: Snapshot, store: Store) -> View:
    """Everything that was promised about a workspace. The heads stand for the commits, and must reach them all."""
    files_ = {name: snapshot.blob(one.blob) for name, one in snapshot.context.files.items()}
    evidence = {path: snapshot.blob(node.id.hex()) for path, node in snapshot.tree("evidence").walk()}
    return {
        "slug": snapshot.context.fields.slug,
        "name": snapshot.context.fields.name,
        "heads": (snapshot.main.head, snapshot.evidence.head),
        "memory": snapshot.context.memory_json(),
        "settings": snapshot.context.settings_json,
        "spec": dict(snapshot.context.spec),
        "files": files_,
        "evidence": evidence,
        "sealed": {name: store.vault.unseal(snapshot.workspace, name, text) for name, text in snapshot.sealed.items()},
        "generation": snapshot.sealed_generation,
        "spec_version": snapshot.spec_version,
        "times": (snapshot.created_at, snapshot.updated_at),
        "snapshots": named(snapshot.workspace, store),
    }


def named(workspace: str, store: Store) -> list[tuple[str, str, str | None, bool]]:
    """The snapshots, each with what it names, its message, and whether git's tag of this name is the same."""
    git_folder = store.load(workspace).repository.git
    found = [(snapshots.find(store, workspace, name), oid) for name, oid in sorted(tags.marked(git_folder).items())]
    return [
        (one.name, one.commit, one.message, refs.read(git_folder, f"refs/tags/{one.name}") == oid) for one, oid in found
    ]


def git(folder: Path, *words: str) -> str:
    """What git prints in a folder; it must succeed."""
    done = subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=Pat", "-c", "user.email=pat@example.org", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def plain_git(data: Path, views: dict[str, View]) -> None:
    """Git finds every object whole, the checkouts clean, and the branches where they were promised."""
    for seen in views.values():
        assert seen is not None
        folder = data / "workspaces" / seen["slug"]
        assert git(folder, "fsck", "--strict", "--full", "--no-dangling", "--no-progress") == ""
        assert git(folder, "status", "--porcelain") == ""
        main, evidence = seen["heads"]
        assert git(folder, "rev-parse", "refs/heads/main", "HEAD") == f"{main}\n{main}\n"
        if evidence is not None:
            assert git(folder, "rev-parse", "refs/heads/evidence") == f"{evidence}\n"


def history(store: Store, data: Path, views: dict[str, View]) -> None:
    """The timeline tells each commit of the branches once."""
    for identity, seen in views.items():
        assert seen is not None
        heads = [head for head in seen["heads"] if head is not None]
        line = git(data / "workspaces" / seen["slug"], "rev-list", "--first-parent", *heads).split()
        told = store.history.timeline(identity, TimelineQuery(per_page=500)).entries
        assert sorted(entry.facts.id for entry in told) == sorted(line)


def sound(store: Store, identity: str) -> None:
    """Every object is there and whole, and the checkout is the branch: what `fsck` and `status` would say."""
    repository = store.load(identity).repository
    tips = [head for head in repository.kept.values() if head is not None]
    assert list(check.walk(repository.database, tips)) == []
    assert repository.shown == repository.kept
    assert repository.foreign() is None
    root = Path(repository.root)
    there = {
        os.path.relpath(os.path.join(folder, name), root): Path(folder, name).read_bytes()
        for folder, inner, names in os.walk(root)
        for name in names
        if not (".git" in inner and inner.remove(".git"))
    }
    tree = repository.tree(repository.kept["main"])
    wanted = {path: repository.database.blob(node.id) for path, node in tree.walk()}
    assert there == wanted, [
        (p, there.get(p), wanted.get(p)) for p in {*there, *wanted} if there.get(p) != wanted.get(p)
    ]
    index = Index.read(repository.git)
    assert {decode_path(path): index.get(path) for path in index.paths()} == {p: n.id for p, n in tree.walk()}
