"""Packs that git made are folded like our own: nothing that is in them is lost or altered."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gitstore.repository import packs
from gitstore.repository.disk import Disk


def git(folder: Path, *words: str, text: str | None = None) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=folder, text=True, input=text,
        capture_output=True, check=True, env={"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/none"},
    )  # fmt: skip
    return done.stdout.strip()


def test_deltas_by_offset_come_to_name_their_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    lines = [f"line {n}: {n * n}" for n in range(2000)]
    for n in range(6):
        lines[n * 300] = f"changed {n}"
        (tmp_path / "file.txt").write_text("\n".join(lines))
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", str(n))
        if n == 2:
            git(tmp_path, "repack", "-q", "-d")
    folder = tmp_path / ".git/objects"
    first = [path.stem for path in (folder / "pack").glob("*.idx")]
    git(
        tmp_path, "repack", "-q", "-a"
    )  # once more, with what is in the first one: that is left out of it, and all shifts
    stems = [*first, *(path.stem for path in (folder / "pack").glob("*.idx") if path.stem not in first)]
    assert len(stems) == 2
    shown = git(tmp_path, "verify-pack", "-v", *(f".git/objects/pack/{stem}.idx" for stem in stems))
    assert sum(len(line.split()) == 7 for line in shown.splitlines()) >= 3, "the test needs deltas"
    before = git(tmp_path, "cat-file", "--batch-all-objects", "--batch-check")
    monkeypatch.setattr(packs, "FOLD_AT", 2)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert packs.fold(Disk(), str(folder), str(scratch), stems) == 2
    assert len(list((folder / "pack").glob("*.pack"))) == 1
    assert git(tmp_path, "fsck", "--strict") == ""
    assert git(tmp_path, "cat-file", "--batch-all-objects", "--batch-check") == before
    assert git(tmp_path, "show", "HEAD~3:file.txt").count("changed") == 3
