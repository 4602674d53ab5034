"""Which paths are large objects: as git itself reads `.gitattributes`, whatever is drawn."""

import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitstore.lfs.attributes import Attributes, added, line, merged, removed

_WORDS = st.text(alphabet="ab.- *?[]!/\\é", min_size=1, max_size=6)
_PIECES = st.sampled_from(["*", "**", "?", "a", "b", "ab", "*.bin", "[ab]", "[!a]", "[^b]*", "\\*", "/", "**/", "/**"])
# A pattern with more stars than three is passed over, for it would take long to match.
_PATTERNS = st.one_of(
    st.lists(_PIECES, min_size=1, max_size=4).map("".join).filter(lambda made: len(re.findall(r"\*+", made)) <= 3),
    st.sampled_from(["*.psd", "/files/a.bin", "files/*.bin", "files/**", "**/a", "a/**/b", '"a b.bin"', "[attr]big"]),
)
_SETTINGS = st.sampled_from(
    [
        "filter=lfs",
        "-filter",
        "!filter",
        "filter",
        "filter=other",
        "text",
        "filter=lfs -text",
        "big",
        "-text filter=lfs",
    ]
)
_LINES = st.lists(st.tuples(_PATTERNS, _SETTINGS).map(" ".join), max_size=5)
_NAMES = st.text(alphabet="ab*.[]", min_size=1, max_size=4).filter(lambda name: name.strip(".") != "")
_PATHS = st.lists(
    st.one_of(_NAMES, st.sampled_from(["files", "a", "b", "a.bin", "a b.bin"])), min_size=1, max_size=3
).map("/".join)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attributes")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def asked(folder: Path, paths: list[str]) -> list[bool]:
    """What git says."""
    done = subprocess.run(
        ["git", "check-attr", "-z", "--stdin", "filter"],
        cwd=folder, input="\0".join(paths).encode() + b"\0", capture_output=True, check=True,
    )  # fmt: skip
    return [value == b"lfs" for value in done.stdout.split(b"\0")[2::3]]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_LINES, st.lists(_PATHS, min_size=1, max_size=12, unique=True))
def test_paths_are_covered_as_git_says(repository: Path, lines: list[str], paths: list[str]) -> None:
    text = "".join(f"{one}\n" for one in lines)
    (repository / ".gitattributes").write_text(text)
    found = Attributes(lambda path: text.encode() if path == ".gitattributes" else None)
    assert [found.covers(path) for path in paths] == asked(repository, paths), text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet="ab *?[]!#\"'$é\u3000-", min_size=1, max_size=8).map("files/{}".format), unique=True))
def test_a_line_is_for_exactly_its_path(repository: Path, paths: list[str]) -> None:
    wanted, others = paths[::2], paths[1::2]
    data: bytes | None = None
    for path in wanted:
        data = added(data, path)
    (repository / ".gitattributes").write_bytes(data or b"")
    found = Attributes(lambda path: data if path == ".gitattributes" else None)
    assert [found.covers(path) for path in paths] == [path in wanted for path in paths]
    if paths:
        assert asked(repository, [*wanted, *others]) == [True] * len(wanted) + [False] * len(others)
    for path in wanted:
        assert data is not None
        data = removed(data, path)
    assert not data


def test_two_stars_after_the_first_slash_are_everything(repository: Path) -> None:
    for pattern in (
        "/**",
        "**",
        "a/**",
        "/a/**",
        "**/",
        "/**/b",
        "//**",
        "//a",
        "/***",
        "***",
        "/***/b",
        "a/***b",
        "a**/b",
        "a/b**",
        "b**//**",
    ):
        text = f"{pattern} filter=lfs\n"
        (repository / ".gitattributes").write_text(text)
        found = Attributes(lambda path, text=text: text.encode() if path == ".gitattributes" else None)  # type: ignore[misc]
        paths = ["a", "b", "a/b", "a/b/c", "c/a/b"]
        assert [found.covers(path) for path in paths] == asked(repository, paths), pattern


def test_the_nearest_file_decides_and_documents_are_never_large() -> None:
    files = {
        ".gitattributes": b"*.bin filter=lfs\n*.yaml filter=lfs\n",
        "files/.gitattributes": b"a.bin -filter\n",
        "files/deep/.gitattributes": b"* filter=lfs\n",
    }
    found = Attributes(files.get)
    assert found.covers("files/b.bin")
    assert not found.covers("files/a.bin")
    assert found.covers("files/deep/a.bin")
    for path in ("memory/x.bin", "spec/tools.yaml", "workspace.yaml", "files/deep/a.meta.yaml", ".gitattributes"):
        assert not found.covers(path)


def test_hostile_patterns_cost_nothing() -> None:
    text = ("*a" * 400 + "b filter=lfs\n" + "[" * 900 + " filter=lfs\n" + "*?" * 300 + "x filter=lfs\n").encode() * 50
    assert not Attributes(lambda path: text if path == ".gitattributes" else None).covers("a" * 250)
    slow = b"".join(b"*a*a*%d filter=lfs\n" % number for number in range(1000))
    began = time.process_time()
    assert not Attributes(lambda path: slow if path == ".gitattributes" else None).covers("/".join(["a" * 250] * 8))
    assert time.process_time() - began < 2, "it was a minute"


def test_lines_of_both_sides_stay() -> None:
    base = f"{line('a')}\n{line('b')}\n".encode()
    ours, theirs = added(base, "c"), added(removed(base, "a"), "d")
    assert merged(base, ours, theirs) == f"{line('b')}\n{line('c')}\n{line('d')}\n".encode()
