"""Large objects and sudden ends: what was acknowledged is whole, what was not leaves nothing, whatever came between."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from crash.powercut import Mark, Recorder, State, cuts
from gitstore import workspaces
from gitstore.errors import StorageFailed
from gitstore.lfs import Objects, Pointer
from gitstore.lfs.objects import sweep
from gitstore.model import Actor, Provenance
from gitstore.repository.disk import Disk
from gitstore.store import Options, Store
from gitstore.verify import sound, verify

LONG = "CRASH_ROUNDS" in os.environ
WHO = Provenance(Actor("admin", "k1", "ops"))
pytestmark = pytest.mark.crash


def _home(root: Path, disk: Disk, name: str = "one") -> Objects:
    disk.makedirs(f"{root}/workspaces/{name}/.git")
    disk.overwrite(f"{root}/store.yaml", b"format: 1\n")
    return Objects(disk, f"{root}/workspaces/{name}/.git")


def test_a_power_cut_at_any_point_leaves_whole_objects_and_all_that_were_acknowledged(tmp_path: Path) -> None:
    root, rng = tmp_path / "data", random.Random(5)
    root.mkdir()
    recorder = Recorder(root)
    one, other = _home(root, recorder), _home(root, recorder, "other")
    recorder.sync_all(str(root))
    contents = [bytes([number]) * 9000 for number in range(2)]
    for number, data in enumerate(contents):
        recorder.mark((number, "one", one.put(data)))
    recorder.mark((9, "other", other.put(contents[0])))
    state, promised, count = State(recorder.modes), [], 0
    for at, event in enumerate(recorder.events):
        state.take(event)
        if isinstance(event, Mark):
            promised.append(event.what)
        for cut in cuts(at, rng, 3 if LONG else 0):
            with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
                target = Path(folder) / "data"
                state.build(target, names=cut.names, content=cut.content)
                count += 1
                for _, name, pointer in promised:
                    held = Objects(Disk(), f"{target}/workspaces/{name}/.git")
                    assert b"".join(held.chunks(pointer)), (at, cut.name)
                for name in ("one", "other"):
                    held = Objects(Disk(), f"{target}/workspaces/{name}/.git")
                    for oid in held.oids():  # a name in the folder is a promise too
                        with held.open(oid) as file:
                            assert hashlib.sha256(file.read()).hexdigest() == oid, (at, cut.name)
                if (target / "large").is_dir():
                    sweep(Disk(), f"{target}/large")
    assert count > 30


class Full(Disk):
    """A disk that has no room from the n-th change on."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def append(self, fd: int, path: str, data: bytes) -> None:
        self._spend()
        super().append(fd, path, data)

    def open_append(self, path: str) -> int:
        self._spend()
        return super().open_append(path)

    def link(self, source: str, target: str) -> None:
        self._spend()
        super().link(source, target)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        self._spend()
        super().mkdir(path, mode)

    def sync_data(self, fd: int, path: str) -> None:
        self._spend()


def test_a_full_disk_is_told_leaves_nothing_half_and_heals(tmp_path: Path) -> None:
    root = tmp_path / "data"
    _home(root, Disk())
    data = b"x" * 5000
    for left in range(40):
        full = Objects(Full(left), f"{root}/workspaces/one/.git")
        try:
            pointer = full.put(data)
        except StorageFailed:
            assert list((root / "large/incoming").glob("*")) == []
            held = Objects(Disk(), f"{root}/workspaces/one/.git")
            assert all(b"".join(held.chunks(Pointer(oid, len(data)))) == data for oid in held.oids())
            continue
        break
    assert left > 5
    assert b"".join(full.chunks(pointer)) == data


_CHILD = """
import sys
from pathlib import Path
from gitstore import files
from gitstore.model import Actor, Provenance
from gitstore.store import Options, Store
store = Store.open(Path(sys.argv[1]), Options(large_bytes=4096))
who = Provenance(Actor("admin", "k1", "ops"))
for number in range(int(sys.argv[2]), 10_000):
    data = number.to_bytes(4, "big") * 20_000
    with store.objects("shop").receive() as sink:
        for at in range(0, len(data), 8000):
            sink.write(data[at:at + 8000])
        pointer = sink.finish()
    one = files.upload(file_name=f"f{number % 5}.bin", content=pointer)
    store.apply("shop", "main", lambda draft: files.put(draft, [one]), who).result()
    print(number, flush=True)
"""


def test_a_kill_at_any_moment_loses_no_large_file_that_was_acknowledged(tmp_path: Path) -> None:
    data, rng, first = tmp_path / "data", random.Random(11), 0
    with Store.open(data, Options(large_bytes=4096)) as store:
        fields = {"name": "shop", "slug": "shop"}
        store.create("shop", lambda draft: workspaces.create(draft, fields), WHO).result()
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(data), str(first)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(rng.randrange(3, 12))]
        child.send_signal(signal.SIGKILL)
        told += [int(number) for number in child.stdout.read().split()]
        child.wait()
        child.stdout.close()
        with Store.open(data, Options(large_bytes=4096)) as store:
            workspace = store.load("shop")
            until_shown = store.publisher.publish(workspace)
            assert until_shown
            found = workspace.visible.context.files
            for number in told[-4:]:
                stored = found[f"f{number % 5}-bin"]
                assert stored.large is not None
                held = b"".join(workspace.visible.objects.chunks(stored.large))
                assert int.from_bytes(held[:4], "big") >= number
                assert (data / "workspaces/shop" / stored.path).read_bytes() == held
            assert list((data / "large/incoming").iterdir()) == []
        assert sound(verify(data))
        first = told[-1] + 1
