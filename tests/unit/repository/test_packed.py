"""What packs hold is read as git reads it, whoever made the pack; what is damaged raises Damaged."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from gitstore.errors import Damaged
from gitstore.repository import packed
from gitstore.repository.database import Database, TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import KINDS, Blob, Oid
from gitstore.repository.trees import FILE_MODE, Node, rewrite


def git(folder: Path, *words: str, data: bytes = b"") -> bytes:
    who = ("-c", "user.name=Pat", "-c", "user.email=pat@example.org")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, input=data).stdout


def every(folder: Path) -> dict[Oid, tuple[int, bytes]]:
    """What git says that all objects are."""
    out = git(folder, "cat-file", "--batch-all-objects", "--batch")
    found, at = {}, 0
    while at < len(out):
        end = out.index(b"\n", at)
        oid, kind, size = out[at:end].split()
        found[Oid(bytes.fromhex(oid.decode()))] = KINDS[kind], out[end + 1 : end + 1 + int(size)]
        at = end + 2 + int(size)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with long chains, both kinds of deltas, large content, a tag, and packs of ours."""
    git(tmp_path, "init", "-q", "-b", "main")
    chance = random.Random(3)
    lines = [chance.randbytes(20).hex() for _ in range(300)]
    for number in range(60):
        lines[chance.randrange(300)] = f"changed {number}"
        (tmp_path / "notes.txt").write_text("\n".join(lines))
        (tmp_path / f"{number}.txt").write_text(f"{number}\n")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", str(number))
        if number == 20:
            (tmp_path / "large.bin").write_bytes(chance.randbytes(300_000) + bytes(400_000))
            (tmp_path / "empty").touch()
    git(tmp_path, "tag", "-a", "-m", "a tag", "one")
    git(tmp_path, "repack", "-q", "-adf", "--depth=250", "--window=60")
    (tmp_path / ".git/gitstore").mkdir()
    database = Database(Disk(), str(tmp_path / ".git"), TreeCache())
    root = Oid(bytes.fromhex(git(tmp_path, "rev-parse", "HEAD^{tree}").decode().strip()))
    for batch in range(3):
        made = []
        for number in range(30):
            blob = Blob(f"{batch} {number}".encode())
            root, trees = rewrite(database, root, {f"more/{number}.md": Node(FILE_MODE, blob.id)})
            for item, tree in trees:
                database.keep_tree(item, tree)
            made += [blob, *(item for item, _ in trees)]
        database.publish(made)
        database.drop(made)
    database.close()
    return tmp_path


def test_every_object_is_what_git_says(folder: Path) -> None:
    wanted = every(folder)
    assert len(wanted) > 400
    for seed in range(3):
        database = Database(Disk(), str(folder / ".git"), TreeCache())
        for oid in random.Random(seed).sample(sorted(wanted), len(wanted)):
            assert database._packed.get(oid) == wanted[oid]
        database.close()
    assert database._packed.get(Oid(bytes(20))) is None
    database.close()


def test_every_object_is_what_git_says_where_nothing_is_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed._made, "_limit", 1)
    wanted, database = every(folder), Database(Disk(), str(folder / ".git"), TreeCache())
    assert {oid: database._packed.get(oid) for oid in wanted} == wanted
    database.close()


def test_damage_is_said_and_never_read(folder: Path) -> None:
    """Any byte of a pack may be another one: what is read has at least the length it should, or it is Damaged. (Whether
    it is what its id says, `gitstore verify` and git look at.)"""
    wanted = every(folder)
    paths = sorted((folder / ".git/objects/pack").glob("*.pack"))
    chance, said = random.Random(5), 0
    for path in paths:
        path.chmod(0o600)
        sound = path.read_bytes()
        for _ in range(25):
            data = bytearray(sound)
            for _ in range(chance.choice((1, 1, 40))):
                data[chance.randrange(12, len(data) - 20)] ^= 1 << chance.randrange(8)
            if chance.random() < 0.2:
                del data[chance.randrange(40, len(data)) :]
            path.unlink()  # another file, as after a restart
            path.write_bytes(data)
            database = Database(Disk(), str(folder / ".git"), TreeCache())
            for oid in chance.sample(sorted(wanted), 40):
                try:
                    kind, found = database.get(oid)
                except Damaged:
                    said += 1
                else:
                    assert len(found) == len(wanted[oid][1])
                    assert kind in KINDS.values()
            database.close()
        path.unlink()
        path.write_bytes(sound)
    assert said > 20


def test_what_came_in_a_new_pack_is_found_without_opening_all_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("every pack is opened a second time")

    monkeypatch.setattr("gitstore.repository.database.DiskObjectStore", never)
    git_folder = str(folder / ".git")
    writer, reader = (Database(Disk(), git_folder, TreeCache()) for _ in range(2))
    for batch in range(3):
        made = [Blob(f"new {batch} {number}".encode()) for number in range(20)]
        writer.publish(made)
        for database in (reader, writer):
            assert [database.get(one.id)[1] for one in made] == [one.data for one in made]
    for database in (reader, writer):
        database.close()
