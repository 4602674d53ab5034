"""Names in zip archives: safe to unpack anywhere, each its own; and what is longer or shorter than announced."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore import names
from gitstore.archive import Entry, safe_path, zip_names, zipped
from gitstore.errors import Damaged


def entry(path: str, data: bytes = b"x", size: int | None = None, time: int = 0) -> Entry:
    return Entry(path, time, len(data) if size is None else size, lambda: iter([data]))


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("a/b.txt", "a/b.txt"), ("../../etc/passwd", "etc/passwd"), ("/etc/passwd", "etc/passwd"),
        ("..\\..\\windows", "windows"), ("C:\\x", "C_/x"), ("a//./b", "a/b"), ("", "file"), ("..", "file"),
        ("con", "_con"), ("a/NUL.txt", "a/_NUL.txt"), ("x. . ", "x"),
        ("a\0b\nc", "a_b_c"), ("a\u202etxt.exe", "a_txt.exe"),
        ("x" * 300 + ".txt", "x" * 251 + ".txt"), ("π" * 200, "π" * 127),
    ],
)  # fmt: skip
def test_paths_are_made_safe(path: str, safe: str) -> None:
    assert safe_path(path) == safe


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.sampled_from("aA/.\\ :é\0é(2)"), max_size=8), max_size=12))
def test_no_two_entries_are_in_each_others_way(paths: list[str]) -> None:
    packed = zipfile.ZipFile(io.BytesIO(b"".join(zipped([entry(path, path.encode()) for path in paths]))))
    found = packed.namelist()
    assert [packed.read(name) for name in found] == [path.encode() for path in paths]
    folded = [names.fold(name) for name in found]
    assert len(set(folded)) == len(paths)
    for name in folded:
        steps = name.split("/")
        assert not {"", ".", ".."} & set(steps)
        assert not any("/".join(steps[:end]) in folded for end in range(1, len(steps)))


def test_thousands_of_one_name_are_quickly_numbered() -> None:
    found = [name for name, _ in zip_names([entry("log.txt")] * 5000)]
    assert found[:2] + found[-1:] == ["log.txt", "log (2).txt", "log (5000).txt"]


def test_thousands_in_the_place_of_a_file_are_quickly_numbered() -> None:
    many = ["a", *(f"a ({number})" for number in range(2, 3000)), *(f"a/{number}" for number in range(3000))]
    began = time.process_time()
    found = [name for name, _ in zip_names(entry(path) for path in many)]
    assert time.process_time() - began < 5
    assert found[-1] == "a (3000)/2999", "what was in one folder is still in one"


def test_dates_are_those_a_zip_can_have() -> None:
    times = [0, 1_700_000_001_000, 10**15]
    packed = zipfile.ZipFile(io.BytesIO(b"".join(zipped([entry(str(time), time=time) for time in times]))))
    assert [info.date_time for info in packed.infolist()] == [
        (1980, 1, 1, 0, 0, 0), (2023, 11, 14, 22, 13, 20), (2107, 12, 31, 23, 59, 58),
    ]  # fmt: skip


def test_large_ones_are_zip64_and_never_in_memory_whole() -> None:
    piece = bytes(1 << 22)

    def chunks() -> Iterator[bytes]:
        for _ in range(8):
            yield piece

    size = most = 0
    for data in zipped([Entry("big", 0, len(piece) * 8, chunks)] * 2):
        size += len(data)
        most = max(most, len(data))
    assert size > len(piece) * 16
    assert most < 2 * len(piece)
    # The sizes alone decide about the form: nothing of five gigabytes is needed to see it.
    pieces = zipped([Entry("huge", 0, 5 << 30, lambda: iter([b"x"]))])
    with pytest.raises(Damaged):
        list(pieces)
    head = next(zipped([Entry("huge", 0, 5 << 30, lambda: iter([piece]))]))
    assert head[4:6] == b"\x2d\x00"  # version needed: 4.5, Zip64 (APPNOTE 4.4.3)


def test_a_wrong_size_is_no_archive() -> None:
    for size in (0, 2):
        pieces = []
        with pytest.raises(Damaged):
            pieces.extend(zipped([entry("a", b"x", size)]))
        assert not zipfile.is_zipfile(io.BytesIO(b"".join(pieces)))
