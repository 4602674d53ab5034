"""Folding: many small packs become one, and nothing that a person's git packed is harmed."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from gitstore.repository.database import Database, TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Blob, Object, Oid
from gitstore.repository.packs import FOLD_AT


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=Pat", "-c", "user.email=pat@example.org")
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_folding_keeps_what_points_by_places(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    chance = random.Random(7)
    lines = [chance.randbytes(20).hex() for _ in range(200)]
    for number in range(10):
        lines[number] = f"changed {number}"
        (tmp_path / "notes.txt").write_text("\n".join(lines))
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", str(number))
    git(tmp_path, "gc", "-q")
    (packed,) = (tmp_path / ".git/objects/pack").glob("*.idx")
    theirs = [
        line.split()[0] for line in git(tmp_path, "verify-pack", "-v", str(packed)).splitlines() if " blob " in line
    ]
    (tmp_path / ".git/gitstore").mkdir()
    database = Database(Disk(), str(tmp_path / ".git"), TreeCache())
    ours = []
    for number in range(FOLD_AT + 5):
        # Each pack holds an object of the person's pack too, as a delta's base does.
        kind, data = database.get(Oid(bytes.fromhex(theirs[number % len(theirs)])))
        ours += (made := [Blob(f"{number} {at}".encode()) for at in range(13)])
        database.publish([Object(kind, data), *made])
    assert database.fold() == FOLD_AT + 6
    assert not packed.exists()
    assert len(list((tmp_path / ".git/objects/pack").glob("*.pack"))) == 1
    assert all(database.get(blob.id) == (blob.kind, blob.data) for blob in ours)
    assert git(tmp_path, "fsck", "--strict", "--full", "--no-dangling", "--no-progress") == ""
    database.close()


def test_objects_are_found_wherever_a_persons_git_puts_them_meanwhile(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.mkdir()
    git(shared, "init", "-q", "-b", "main")

    def commit(number: int) -> Oid:
        (shared / "notes.txt").write_text(f"{number}\n" * 300)
        git(shared, "add", ".")
        git(shared, "commit", "-q", "-m", str(number))
        return Oid(bytes.fromhex(git(shared, "rev-parse", "HEAD:notes.txt").strip()))

    first = commit(0)
    git(tmp_path, "clone", "-q", "--shared", str(shared), str(own))
    databases = [Database(Disk(), str(each / ".git"), TreeCache()) for each in (shared, own)]
    wanted = [first]
    for number in range(1, 12):
        wanted.append(commit(number))
        if number % 3 == 0:
            git(shared, "repack", "-q", *(("-a", "-d") if number % 2 else ("-d",)))
        for database in databases:  # of which one has all of it from the other's folder
            for place, oid in enumerate(wanted):
                assert database.blob(oid) == (f"{place}\n" * 300).encode()
    git(shared, "repack", "-q", "-a", "-d")
    pack = next((shared / ".git/objects/pack").glob("*.idx"))
    for database in databases:
        assert database.has(wanted[0])
        assert not database.has(Oid(b"\x11" * 20))
    pack.unlink()
    pack.with_suffix(".pack").unlink()
    for database in databases:
        database.close()
        assert not database.has(wanted[0])
