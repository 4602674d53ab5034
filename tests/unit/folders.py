"""Workspace folders, stores and git for the tests of what goes in and out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from gitstore import memory, workspaces
from gitstore.model import SYSTEM, Provenance
from gitstore.store import Store

ID = "8f4c1c52-6a0d-4b7e-9d35-1f0a7b7c2e10"
ARTIFACT = "d7c681d2-e3aa-55e6-b20b-9ed65bba517e"
WHO = Provenance(SYSTEM, "api")
TOKEN = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n" + "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAE" * 8 + "\n"
TOKEN += "-----END OPENSSH " + "PRIVATE KEY-----\n"


def git(folder: Path, *words: str, check: bool = True) -> str:
    about = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    for role in ("AUTHOR", "COMMITTER"):
        about |= {f"GIT_{role}_NAME": "Ada", f"GIT_{role}_EMAIL": "ada@example.org"}
    done = subprocess.run(["git", "-C", str(folder), *words], env=about, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def sound(folder: Path) -> None:
    """The checkout is clean and git finds no fault."""
    assert git(folder, "status", "--porcelain") == ""
    git(folder, "fsck", "--strict", "--full", "--no-dangling")


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def plain(folder: Path, **more: str | bytes) -> Path:
    """A workspace as a person keeps it, with evidence."""
    return write(
        folder,
        {
            "workspace.yaml": f"# ours\nid: {ID}\nname: The shop\nslug: shop\n",
            "settings.yaml": "default_branch: main   # as ever\n",
            "memory/release-policy.yaml": "days: [mon, tue]\nwho: 'Ada'  # asks first\n",
            "memory/a%2Fb.yaml": "1.50\n",
            "spec/instructions.yaml": "content: Be brief.\n",
            "files/notes.md": b"# Notes\r\nwith CRLF\r\n",
            "files/deep/data.bin": bytes(range(256)),
            "README.md": "Hello\n",
            ".gitignore": "*.tmp\n",
            "evidence/workflows/release.yaml": "name: Release\nstate: active\nmetadata: {workspace: " + ID + "}\n",
            "evidence/tasks/build.yaml": "title: Build it\nworkflow_id: release\n",
            f"evidence/artifacts/{ARTIFACT}/artifact.yaml": "path: out/report.md\ntask_id: build  # it\n",
            f"evidence/artifacts/{ARTIFACT}/report.md": "Everything is green, said the zebra.\n",
            **more,
        },
    )


def fill(store: Store, slug: str = "live", keys: int = 3, **fields: Any) -> str:
    """A workspace made through the write path; its id."""
    made = store.create(
        slug, lambda draft: workspaces.create(draft, {"name": slug, "slug": slug, **fields}), WHO
    ).result()
    for number in range(keys):
        change(store, slug, f"key-{number}", number)
    return made.snapshot.workspace


def change(store: Store, slug: str, key: str, value: Any) -> None:
    store.apply(slug, "main", lambda draft: memory.set(draft, {key: value}), WHO).result()


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but `.git`, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != ".git"
    }
