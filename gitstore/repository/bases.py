"""What a person's uncommitted edits began from: for a file of the checkout that is not ours to replace, the blob that
this store last wrote there, however far the branch has come since.

Kept in `.git/gitstore/bases`, written before the index and the ref that follow it; a torn one (a power cut) is an empty
one, and the journal's replay finds the same again. Form: `<40 hex digits, zeros for "no file"> <path>` and a NUL each,
then 20 bytes of SHA-1 over all of it. `.git/gitstore/taken` has the same form: see `Repository.taken`.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha1

from gitstore.repository.disk import Disk
from gitstore.repository.objects import Oid
from gitstore.repository.trees import decode_path, encode_path

_NOTHING = b"0" * 40


def read(scratch: str, name: str = "bases") -> dict[str, Oid | None]:
    """The bases by path; None: there was no file."""
    try:
        with open(f"{scratch}/{name}", "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    body = data[:-20]
    if sha1(body, usedforsecurity=False).digest() != data[-20:]:
        return {}
    found: dict[str, Oid | None] = {}
    for line in body.split(b"\0")[:-1]:
        oid, _, path = line.partition(b" ")
        found[decode_path(path)] = None if oid == _NOTHING else Oid(bytes.fromhex(oid.decode("ascii")))
    return found


def write(disk: Disk, scratch: str, bases: Mapping[str, Oid | None], name: str = "bases") -> None:
    """Puts the bases in place, unsynced."""
    body = b"".join(
        b"%b %b\0" % (oid.hex().encode() if oid is not None else _NOTHING, encode_path(path))
        for path, oid in sorted(bases.items())
    )
    disk.overwrite(f"{scratch}/{name}.new", body + sha1(body, usedforsecurity=False).digest())
    disk.rename(f"{scratch}/{name}.new", f"{scratch}/{name}")
