"""What edits began from, on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitstore.repository import bases
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Blob, Oid

KEPT: dict[str, Oid | None] = {
    "memory/a.yaml": Blob(b"1\n").id,
    "memory/new.yaml": None,
    "files/sp ace\nand\udcff.txt": Blob(b"").id,
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert bases.read(str(tmp_path)) == {}
    bases.write(Disk(), str(tmp_path), KEPT)
    assert bases.read(str(tmp_path)) == KEPT
    bases.write(Disk(), str(tmp_path), {})
    assert bases.read(str(tmp_path)) == {}


@pytest.mark.parametrize("size", range(0, 200, 7))
def test_a_torn_one_is_an_empty_one(tmp_path: Path, size: int) -> None:
    bases.write(Disk(), str(tmp_path), KEPT)
    place = tmp_path / "bases"
    whole = place.read_bytes()
    place.write_bytes(whole[:size] + b"\0" * (len(whole) - size))
    assert bases.read(str(tmp_path)) == ({} if size < len(whole) else KEPT)
    place.write_bytes(whole[:size])
    assert bases.read(str(tmp_path)) == ({} if size < len(whole) else KEPT)
