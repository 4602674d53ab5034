"""Large objects: what a pointer is, and that only the bytes with the right digest ever become an object."""

import hashlib
import io
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstore.errors import Damaged, Invalid, NotFound, TooLarge
from gitstore.lfs import POINTER_MAX, Objects, Pointer
from gitstore.lfs import filter as program
from gitstore.lfs.objects import sweep
from gitstore.lfs.pointer import decode
from gitstore.repository.disk import Disk

_OIDS = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(_OIDS, st.integers(0, (1 << 63) - 1))
def test_a_pointer_is_read_as_it_was_written(oid: str, size: int) -> None:
    pointer = Pointer(oid, size)
    assert decode(pointer.encode()) == pointer
    assert decode(pointer.encode().replace(b"\n", b"\r\n") + b" \n") == pointer


@given(st.binary(max_size=2000), st.integers(0, 200), st.integers(0, 200))
def test_what_is_no_pointer_never_becomes_one_that_is_written_otherwise(data: bytes, start: int, end: int) -> None:
    text = Pointer("ab" * 32, 7).encode()
    for changed in (data, text[:start] + data[:5] + text[end:]):
        found = decode(changed)
        if found is not None:
            assert len(changed) <= POINTER_MAX
            assert f"sha256:{found.oid}".encode() in changed
            assert decode(found.encode()) == found


@pytest.mark.parametrize(
    "wrong",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:../../../../etc/passwd\nsize 1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"AB" * 32 + b"\nsize 1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize -1\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 99999999999999999999\n",
        b"version https://git-lfs.github.com/spec/v1\nsize 1\noid sha256:" + b"ab" * 32 + b"\n",
        b"version https://git-lfs.github.com/spec/v1\next-0-x sha256:" + b"ab" * 32 + b"\noid sha256:" + b"ab" * 32
        + b"\nsize 1\n",
        b"version https://git-lfs.github.com/spec/v2\noid sha256:" + b"ab" * 32 + b"\nsize 1\n",
        Pointer("ab" * 32, 1).encode() + b" " * 1024,
        b"",
    ],
)  # fmt: skip
def test_hostile_pointers_are_none(wrong: bytes) -> None:
    assert decode(wrong) is None


def _objects(root: Path, name: str = "one") -> Objects:
    (root / "store.yaml").write_text("format: 1\n")
    git = root / "workspaces" / name / ".git"
    git.mkdir(parents=True, exist_ok=True)
    (root / "large").mkdir(exist_ok=True)
    return Objects(Disk(), str(git))


def test_identical_content_of_two_workspaces_is_on_disk_once_and_neither_sees_the_others(tmp_path: Path) -> None:
    one, other = _objects(tmp_path), _objects(tmp_path, "other")
    pointer = one.put(b"much")
    assert pointer == Pointer(hashlib.sha256(b"much").hexdigest(), 4)
    assert not other.has(pointer.oid)
    with pytest.raises(NotFound):
        other.open(pointer.oid)
    assert other.put(b"much") == pointer
    assert os.path.samefile(one.path(pointer.oid), other.path(pointer.oid))
    assert os.stat(one.path(pointer.oid)).st_nlink == 3
    assert os.stat(one.path(pointer.oid)).st_mode & 0o777 == 0o444
    assert list(one.oids()) == [pointer.oid]
    assert b"".join(one.chunks(pointer, 3)) == b"much"
    assert os.listdir(tmp_path / "large" / "incoming") == []


def test_what_is_not_what_was_announced_leaves_nothing(tmp_path: Path) -> None:
    objects = _objects(tmp_path)
    wrong = Pointer("0" * 64, 4)
    with objects.receive(wrong) as sink:
        sink.write(b"much")
        with pytest.raises(Invalid, match="announced"):
            sink.finish()
    with objects.receive(wrong) as sink, pytest.raises(Invalid, match="longer"):
        sink.write(b"too much")
    with objects.receive(limit=3) as sink, pytest.raises(TooLarge):
        sink.write(b"much")
    with objects.receive() as sink:
        sink.write(b"given up")
    assert list(objects.oids()) == []
    assert os.listdir(tmp_path / "large" / "incoming") == []
    assert [name for name in os.listdir(tmp_path / "large") if name != "incoming"] == []


@pytest.mark.parametrize("oid", ["../../../etc/passwd", "AB" * 32, "ab" * 31, "ab" * 32 + "/..", ""])
def test_no_name_of_an_object_is_a_path(tmp_path: Path, oid: str) -> None:
    with pytest.raises(Invalid):
        _objects(tmp_path).path(oid)


def test_damage_is_found_before_the_last_byte_is_given_and_mended_by_the_same_upload(tmp_path: Path) -> None:
    objects = _objects(tmp_path)
    pointer = objects.put(b"0123456789")
    for place in (objects.path(pointer.oid), tmp_path / "large" / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid):
        os.chmod(place, 0o644)
        Path(place).write_bytes(b"0123456780")
    given = []
    with pytest.raises(Damaged, match="damaged"):
        given.extend(objects.chunks(pointer, 4))
    assert b"".join(given) == b"01234567"
    assert objects.put(b"0123456789") == pointer
    assert b"".join(objects.chunks(pointer, 4)) == b"0123456789"
    Path(objects.path(pointer.oid)).unlink()
    Path(objects.path(pointer.oid)).write_bytes(b"short")
    with pytest.raises(Damaged, match="5 bytes, not 10"):
        next(objects.chunks(pointer))


def test_many_uploads_of_one_object_at_once_are_one_object(tmp_path: Path) -> None:
    objects = [_objects(tmp_path, name) for name in ("one", "other")]
    found: list[Pointer] = []

    def upload(which: Objects) -> None:
        for _ in range(10):
            found.append(which.put(b"x" * 70_000))

    threads = [threading.Thread(target=upload, args=(objects[number % 2],)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 60
    assert len(set(found)) == 1
    assert os.path.samefile(objects[0].path(found[0].oid), objects[1].path(found[0].oid))
    assert os.listdir(tmp_path / "large" / "incoming") == []


def test_an_object_that_a_client_put_into_the_folder_becomes_one_of_the_stores(tmp_path: Path) -> None:
    objects = _objects(tmp_path)
    oid = hashlib.sha256(b"from git-lfs").hexdigest()
    place = Path(objects.path(oid))
    place.parent.mkdir(parents=True)
    place.write_bytes(b"from git-lfs")
    assert objects.adopt(oid)
    assert os.stat(place).st_nlink == 2
    liar = "f" * 64
    Path(objects.path(liar)).parent.mkdir(parents=True)
    Path(objects.path(liar)).write_bytes(b"not that")
    assert not objects.adopt(liar)
    assert not objects.adopt("e" * 64)


def test_what_a_crash_left_half_received_is_swept(tmp_path: Path) -> None:
    objects = _objects(tmp_path)
    sink = objects.receive()
    sink.write(b"half")
    (tmp_path / "large/incoming/somebody's").mkdir()
    sweep(Disk(), str(tmp_path / "large"))
    assert os.listdir(tmp_path / "large" / "incoming") == ["somebody's"]
    sink.abort()


def _smudged(folder: Path, text: bytes) -> tuple[bytes, list[str]]:
    """What git gets of the filter for a pointer, and the status at the end."""
    said = io.BytesIO()
    for lines in (("git-filter-client", "version=2"), ("capability=smudge",), ("command=smudge", "pathname=a.bin")):
        program._say(said, *lines)
    program._send(said, text)
    program._say(said)
    answer = io.BytesIO()
    here = os.getcwd()
    os.chdir(folder)
    try:
        with pytest.raises(EOFError):
            program.serve(io.BytesIO(said.getvalue()), answer)
    finally:
        os.chdir(here)
    answer.seek(0)
    program._lines(answer)
    program._lines(answer)
    assert program._lines(answer) == ["status=success"]
    return b"".join(program._packets(answer)), program._lines(answer)


def test_the_checkout_never_gets_an_object_that_is_damaged_or_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(3 * program._CHUNK)
    objects = _objects(tmp_path)
    pointer = objects.put(data)
    folder = Path(objects.root).parents[2]
    assert _smudged(folder, pointer.encode()) == (data, [])
    place = Path(objects.path(pointer.oid))
    place.chmod(0o644)
    place.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert _smudged(folder, pointer.encode())[1] == ["status=error"]

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read(size)

        def fileno(self) -> int:
            return sized.fileno()

    with place.open("rb") as sized:
        monkeypatch.setattr(program, "open", lambda *_: Failing(data), raising=False)
        got, status = _smudged(folder, pointer.encode())
    assert status == ["status=error"]
    assert pointer.encode() not in got, "no pointer behind half of the content"
