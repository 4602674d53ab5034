"""Loose objects become packs: durably first, then the files of their own go. Nothing that reads or writes waits.

A git of any kind may run beside it: an object is always in one of the two places, and git looks into both.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha1

from gitstore.repository.disk import Disk
from gitstore.repository.objects import NAMES, Object, Oid, identify
from gitstore.repository.packs import write_pack

_HEADER = re.compile(rb"(blob|tree|commit|tag) ([0-9]{1,20})\0")
_KINDS = {name: kind for kind, name in NAMES.items()}
_OBJECTS = 4_000  # of one pack
_BYTES = 32 << 20
_SHARE = "17"  # git looks at this one of 256 folders to know how many there are (git-gc(1))


def estimate(objects: str) -> int:
    """About how many loose objects there are, for the price of a look into one folder."""
    try:
        return 256 * len(os.listdir(f"{objects}/{_SHARE}"))
    except FileNotFoundError:
        return 0


def gather(disk: Disk, objects: str, scratch: str, stopping: Callable[[], bool] = lambda: False) -> int:
    """Packs the loose objects; how many became part of packs. One that cannot be read stays for `verify` to find, and a
    huge one, which somebody's git made, for git to pack.
    """
    place = f"{scratch}/gathering"  # apart from where the publisher writes, which goes on meanwhile
    disk.makedirs(place, below=scratch)
    count = 0
    entries: dict[Oid, bytes] = {}
    paths: list[str] = []
    size = 0
    for oid, path in _loose(objects):
        if stopping():
            break
        item = _read(oid, path)
        if item is None:
            continue
        entries[oid] = entry = item.entry()
        paths.append(path)
        size += len(entry)
        if len(entries) >= _OBJECTS or size >= _BYTES:
            count += _pack(disk, objects, place, entries, paths)
            entries, paths, size = {}, [], 0
    return count + (_pack(disk, objects, place, entries, paths) if entries else 0)


def _pack(disk: Disk, objects: str, place: str, entries: dict[Oid, bytes], paths: list[str]) -> int:
    index = write_pack(disk, objects, place, entries, force=True)
    disk.sync_file(index.removesuffix(".idx") + ".pack")
    disk.sync_file(index)
    disk.sync_folder(f"{objects}/pack")
    for path in paths:
        try:
            disk.unlink(path)
        except FileNotFoundError:
            pass  # another git packs as well
    return len(entries)


def _loose(objects: str) -> Iterator[tuple[Oid, str]]:
    for first in range(256):
        folder = f"{objects}/{first:02x}"
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            continue
        for name in names:
            if len(name) == 38 and not name.startswith("tmp"):
                try:
                    yield Oid(bytes.fromhex(f"{first:02x}{name}")), f"{folder}/{name}"
                except ValueError:
                    continue


def _read(oid: Oid, path: str) -> Object | None:
    try:
        with open(path, "rb") as file:
            packed = file.read(_BYTES + 1)
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(packed, _BYTES)
    except (OSError, zlib.error):
        return None
    if not unpacking.eof:
        return None
    header = _HEADER.match(data)
    if header is None:
        return None
    kind, body = _KINDS[header[1]], data[header.end() :]
    return Object(kind, body, oid=oid) if len(body) == int(header[2]) and identify(kind, body) == oid else None


def stems(objects: str) -> list[str]:
    """The names of the packs that may be folded into others (`pack-<name>`): not those that somebody wants to stay."""
    try:
        names = os.listdir(f"{objects}/pack")
    except FileNotFoundError:
        return []
    kept = {name.rsplit(".", 1)[0] for name in names if name.endswith((".keep", ".promisor", ".mtimes"))}
    return sorted(name[:-4] for name in names if name.endswith(".idx") and name[:-4] not in kept)


def kept(objects: str) -> list[str]:
    """The names of the packs that a `.keep` tells git to leave."""
    names = set(os.listdir(f"{objects}/pack"))
    return [name[:-5] for name in names if name.endswith(".keep") and f"{name[:-5]}.idx" in names]


def ids(objects: str, stem: str) -> set[bytes]:
    """The ids of the objects in a pack, from its index (version 2, gitformat-pack(5)); empty for any other index."""
    with open(f"{objects}/pack/{stem}.idx", "rb") as file:
        data = file.read()
    if data[:8] != b"\377tOc\0\0\0\2" or sha1(data[:-20], usedforsecurity=False).digest() != data[-20:]:
        return set()
    (count,) = struct.unpack_from(">I", data, 8 + 255 * 4)
    start = 8 + 256 * 4
    return {data[start + 20 * at : start + 20 * at + 20] for at in range(count)}


def replace(disk: Disk, objects: str, old: list[str], new: list[str]) -> int:
    """Removes those of the `old` packs whose every object is in the `new` ones, durable by now, or in those that stay
    because of a `.keep`, whose objects git does not pack again; how many went.
    """
    held: set[bytes] = set().union(*(ids(objects, stem) for stem in [*new, *kept(objects)]))
    gone = 0
    for stem in old:
        try:
            inside = ids(objects, stem)
        except FileNotFoundError:
            continue
        if not inside or not inside <= held:
            continue
        for suffix in ("idx", "pack", "rev", "bitmap"):
            try:
                disk.unlink(f"{objects}/pack/{stem}.{suffix}")
            except FileNotFoundError:
                pass
        gone += 1
    return gone
