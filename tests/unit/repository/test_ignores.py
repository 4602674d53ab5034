"""What is ignored, held against git itself; and patterns that would take for ever."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from gitstore.repository.ignores import LARGEST, Ignores, temporary

PATTERNS = [
    "*.log", "/top.txt", "build/", "!keep.log", "docs/**/draft", "a?c", "[xy].z", "\\!odd", "trailing\\ ", "blank   ",
    "# comment", "**/deep", "deeper/**", "x/*/y", "",
]  # fmt: skip
PATHS = [
    "a.log", "keep.log", "sub/a.log", "top.txt", "sub/top.txt", "build/x", "sub/build/x", "docs/draft",
    "docs/a/b/draft", "abc", "ac", "x.z", "q.z", "!odd", "trailing ", "blank", "# comment", "p/q/deep", "deeper/a/b",
    "x/1/y", "x/1/2/y", "README.md",
]  # fmt: skip


def ignored(rules: Ignores, path: str) -> bool:
    parts = path.split("/")
    above = any(rules.match("/".join(parts[:depth]), folder=True) for depth in range(1, len(parts)))
    return above or rules.match(path, folder=False)


def test_as_git_sees_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    text = "\n".join(PATTERNS) + "\n"
    (tmp_path / ".gitignore").write_text(text)
    rules = Ignores().below("", text.encode())
    done = subprocess.run(
        ["git", "-C", str(tmp_path), "check-ignore", "--no-index", "-z", "--stdin"],
        input="\0".join(PATHS).encode(), capture_output=True,
    )  # fmt: skip
    wanted = set(done.stdout.decode().split("\0")) - {""}
    assert {path for path in PATHS if ignored(rules, path)} == wanted
    assert ignored(Ignores().below("", text.replace("\n", "\r\n").encode()), "a.log")


def test_the_nearest_file_decides() -> None:
    top = Ignores().below("", b"*.log\n")
    assert top.match("a.log", folder=False)
    rules = top.below("sub", b"!*.log\n/here.txt\n")
    assert not rules.match("sub/a.log", folder=False)
    assert rules.match("sub/here.txt", folder=False)
    assert not rules.match("sub/deep/here.txt", folder=False)
    assert rules.below("sub/x", None) is rules


@pytest.mark.parametrize(
    "name", ["a.yaml~", ".a.yaml.swp", ".swp", "#a#", ".#a", "4913", "A.BAK", "x.tmp", "~$a.docx", ".DS_Store", "._a"]
)
def test_what_editors_leave(name: str) -> None:
    assert temporary(name)


@pytest.mark.parametrize("name", ["a.yaml", "4914", "swp", "tmp", "a.swpx", "~", "a~b", ".gitignore", "bak", "#a"])
def test_what_people_keep(name: str) -> None:
    assert temporary(name) is (name == "~")  # an empty name's backup


def test_no_pattern_takes_for_ever() -> None:
    began = time.monotonic()
    for data in (
        b"*a" * 500 + b"b",
        b"**/" * 500 + b"b",
        b"*" * LARGEST,
        b"*a*a*a*b\n" * 50_000,
        b"[[[*\n[!\n\\\n" * 999,
    ):
        rules = Ignores().below("", data)
        for _ in range(20):
            rules.match("a" * 255, folder=False)
            rules.match("/".join("a" * 16), folder=True)
    assert time.monotonic() - began < 20


def test_names_that_are_not_utf_8() -> None:
    assert Ignores().below("", b"*.log\n").match("\udcff.log", folder=False)
    assert not Ignores().below("", b"*.log\n").match("\udcff.txt", folder=False)
