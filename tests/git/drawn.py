"""Histories that hypothesis draws and the git program makes: edits, renames, copies, merges, odd names and contents."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from git.conftest import ENVIRONMENT, git
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.repository import Repository
from gitstore.repository.trees import encode_path

Files = Mapping[str, tuple[int, bytes]]  # path → mode, content

NAMES = [
    "memory/a.yaml",
    "memory/b.yaml",
    "memory/c.yaml",
    "spec/tools.yaml",
    "files/a.md",
    "files/sub/a.md",
    "docs",
    "docs/a.md",
    "docs/deep/a.md",
    "docs-a.md",
    "a.md",
]
ODD = ["with space.md", " lead", "tab\there", 'quo"te\\', "new\nline", "ünï.md", "caf\udce9", "a.md ", "b/a b"]
CONTENTS = [
    b"",
    b"a: 1\n",
    b"a: 2\nb: 1\n",
    b"a: 2\nb: 2\n",
    b"one\ntwo\nthree\n",
    b"one\n2\nthree",
    b"one\r\n2\r\nthree\r\n",
    b"\0binary",
    b"caf\xe9\n",
    b"".join(b"%d\n" % n for n in range(40)),
    b"".join(b"%d\n" % (n * n % 17 or n) for n in range(40)),
    b" \n\n--- x\n+++ y\n",
]
MODES = [0o100644, 0o100644, 0o100644, 0o100755, 0o120000]
numbers = count(1)


class Step(NamedTuple):
    """One commit: the places of its parents among the steps, and all its files."""

    parents: tuple[int, ...]
    files: Files


def put(files: dict[str, tuple[int, bytes]], path: str, what: tuple[int, bytes]) -> None:
    """Sets a file; what stands in its way goes."""
    for other in list(files):
        if other.startswith(path + "/") or path.startswith(other + "/"):
            del files[other]
    files[path] = what


@st.composite
def edited(draw: st.DrawFn, files: Files, names: Sequence[str], most: int = 3) -> Files:
    now = dict(files)
    for _ in range(draw(st.integers(0, most))):
        act = draw(st.sampled_from(["set", "set", "rename", "rename", "delete", "copy", "swap"]))
        path = draw(st.sampled_from(names))
        if act == "set" or not now:
            put(now, path, (draw(st.sampled_from(MODES)), draw(st.sampled_from(CONTENTS))))
            continue
        source = draw(st.sampled_from(sorted(now)))
        if act == "delete":
            del now[source]
        elif act == "swap" and path in now:
            now[source], now[path] = now[path], now[source]
        elif act in ("rename", "copy") and path != source:
            what = now[source] if act == "copy" else now.pop(source)
            put(now, path, what)
    return now


@st.composite
def histories(draw: st.DrawFn, names: Sequence[str] = NAMES, most: int = 12) -> list[Step]:
    """A first-parent line, the last step its end; others are merged into it."""
    steps: list[Step] = [Step((), draw(edited({}, names, 6)))]
    line = [0]
    for _ in range(draw(st.integers(1, most))):
        tip = line[-1]
        if draw(st.integers(0, 4)) == 0:
            base = draw(st.sampled_from(line))
            steps.append(Step((base,), draw(edited(steps[base].files, names))))
            side = len(steps) - 1
            merged = {**steps[tip].files} if draw(st.booleans()) else {**steps[side].files}
            steps.append(Step((tip, side), draw(edited(merged, names, 1))))
        else:
            steps.append(Step((tip,), draw(edited(steps[tip].files, names))))
        line.append(len(steps) - 1)
    return steps


def quoted(path: str) -> bytes:
    return b'"' + b"".join(b"\\%03o" % byte for byte in encode_path(path)) + b'"'


def make(folder: Path, steps: Sequence[Step], *, start: int = 1_700_000_000, base: str | None = None) -> list[str]:
    """Has git make the commits; their ids. One of them is on each of the refs it leaves, so that none is collected.

    `base`: the commit that those without a parent go on from.
    """
    ref, out = f"refs/heads/drawn-{next(numbers)}", []
    for place, step in enumerate(steps):
        out.append(b"commit %s\nmark :%d\n" % (ref.encode(), place + 1))
        out.append(b"committer Rosa Vidal <rosa@northgate.example> %d +0000\n" % (start + 60 * place))
        out.append(b"data 4\nstep\n")
        if step.parents:
            out.append(b"from :%d\n" % (step.parents[0] + 1))
        elif base is not None:
            out.append(b"from %s\n" % base.encode())
        out += [b"merge :%d\n" % (parent + 1) for parent in step.parents[1:]]
        out.append(b"deleteall\n")
        for path, (mode, data) in step.files.items():
            out.append(b"M %o inline %s\ndata %d\n%s\n" % (mode, quoted(path), len(data), data))
    out += [b"get-mark :%d\n" % (place + 1) for place in range(len(steps))]
    done = subprocess.run(
        ["git", "fast-import", "--quiet", "--force", "--done"],
        cwd=folder, env=ENVIRONMENT, input=b"".join(out) + b"done\n", capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.decode().split()


def opened(folder: Path) -> Repository:
    """A repository of git's, as this project reads it."""
    if not (folder / ".git").exists():
        folder.mkdir(parents=True, exist_ok=True)
        git(folder, "init", "-q", "-b", "main")
    return Repository(Disk(), str(folder), TreeCache())
