"""What `make demo` shows: the sample workspaces in a new store, one of them with a past of some weeks.

`python -m server.demo SAMPLES DATA`. The past is written down in `demo.yaml`; the commits of people are made by git,
dated back from now, and imported like anybody's repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from gitstore import documents, importing, memory, values, workflows
from gitstore.changes import Draft
from gitstore.model import Actor, Provenance
from gitstore.store import Store

_HISTORY = Path(__file__).with_name("demo.yaml")
_DAY = 86_400
_GIT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In the file at `path` a commit put `after` in the place of `before`."""

    path: str
    before: str
    after: str


class Commit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person (`Name <mail>`) changed; the first commit has everything else."""

    days_ago: float
    author: str
    subject: str
    changes: list[Edit] = []


class Writing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A workflow, and what it merged into slots of the memory, one commit each, with the agent key of this name."""

    id: str
    name: str
    key: str
    memory: list[dict[str, Any]]


class Past(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`demo.yaml`."""

    workspace: str
    commits: list[Commit]
    workflow: Writing


def fill(samples: Path, store: Store) -> list[importing.Imported]:
    """Imports every folder of `samples`, the one with a past first. Raises as `importing.import_folder`."""
    past = msgspec.convert(documents.load(_HISTORY.read_bytes(), _HISTORY.name), Past)
    done = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / past.workspace
        _commit(samples / past.workspace, folder, past.commits)
        done.append(importing.import_folder(store, folder))
    _write(store, past.workspace, past.workflow)
    others = sorted(one for one in samples.iterdir() if one.is_dir() and one.name != past.workspace)
    return done + [importing.import_folder(store, one) for one in others]


def _commit(sample: Path, folder: Path, commits: list[Commit]) -> None:
    """A copy of the sample whose history these commits are."""
    shutil.copytree(sample, folder)
    for edit in (edit for commit in reversed(commits) for edit in reversed(commit.changes)):
        _replace(folder / edit.path, edit.after, edit.before)
    _git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / ".git/info/exclude").write_text("/evidence/\n")
    for commit in commits:
        for edit in commit.changes:
            _replace(folder / edit.path, edit.before, edit.after)
        name, _, mail = commit.author.removesuffix(">").partition(" <")
        when = f"@{time.time() - commit.days_ago * _DAY:.0f} +0000"
        who = {"NAME": name, "EMAIL": mail, "DATE": when}
        signed = {f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER") for part, text in who.items()}
        _git(folder, "add", "--all")
        _git(folder, "commit", "--quiet", "--message", commit.subject, **signed)


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_bytes().decode()
    if text.count(old) != 1:
        raise ValueError(f"{_HISTORY.name}: {file.name} has {old!r} {text.count(old)} times, not once")
    file.write_bytes(text.replace(old, new).encode())


def _git(folder: Path, *words: str, **environ: str) -> None:
    subprocess.run(["git", *words], cwd=folder, env={**_GIT, **environ}, check=True)


def _write(store: Store, workspace: str, writing: Writing) -> None:
    actor = Actor("agent", writing.key, writing.key)
    who = Provenance(actor, workflow_id=writing.id)

    def begin(draft: Draft) -> None:
        workflows.create(draft, workflows.New(name=writing.name, id=writing.id, state="completed"))

    store.apply(workspace, "evidence", begin, who).result()
    for updates in writing.memory:

        def merge(draft: Draft, updates: dict[str, Any] = updates) -> None:
            held = {key: entry.value_json for key, entry in draft.context.memory.items()}
            merged = {
                key: {**values.decode(held[key]), **value} if key in held else value for key, value in updates.items()
            }
            memory.set(draft, merged)

        store.apply(workspace, "main", merge, who).result()


def main() -> None:
    """The command of the Makefile."""
    samples, data = (Path(word) for word in sys.argv[1:])
    with Store.open(data) as store:
        for one in fill(samples, store):
            counts = f"{one.commits} commits, {one.workflows} workflows, {one.tasks} tasks, {one.artifacts} artifacts"
            print(f"imported {one.slug}: {counts}")


if __name__ == "__main__":
    main()
