"""Packs and loose objects: written whole, read back entry by entry, many small packs folded into one.

Format: gitformat-pack(5), pack version 2, index version 2. Deltas name their base by id (REF_DELTA), never by
offset, so that entries keep their meaning when they are copied into another pack.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from hashlib import sha1

from gitstore.errors import Damaged
from gitstore.repository.disk import Disk
from gitstore.repository.objects import KINDS, NAMES, OFS_DELTA, REF_DELTA, Object, Oid, deflate, entry_header

FOLD_AT = 50  # packs of our own in one repository before they become one
FOLD_BELOW = 8 << 20  # a pack of this many bytes is left alone


def loose(oid: Oid) -> str:
    """The file of an object that has one of its own, below `objects`."""
    digits = oid.hex()
    return f"{digits[:2]}/{digits[2:]}"


def read_loose(objects: str, oid: Oid) -> tuple[int, bytes] | None:
    """Kind and data of an object that has a file of its own; None where it has none that can be read."""
    try:
        with open(f"{objects}/{loose(oid)}", "rb") as file:
            header, _, data = zlib.decompress(file.read()).partition(b"\0")
        kind, size = header.split(b" ")
        return (KINDS[kind], data) if int(size) == len(data) else None
    except (OSError, zlib.error, ValueError, KeyError):
        return None


def write_loose(disk: Disk, objects: str, scratch: str, item: Object, *, synced: bool = False) -> str:
    """Stores one object as a file of its own, unless it is there; the name of the file below `objects`.

    `synced`: it is never in its place without its content, whatever a power cut leaves. Else a journal must have it.
    """
    name = loose(item.id)
    target = f"{objects}/{name}"
    if os.path.exists(target):
        return name
    data = deflate(b"%s %d\0" % (NAMES[item.kind], len(item.data)) + item.data)
    temporary = f"{scratch}/object"
    disk.overwrite(temporary, data, 0o444)
    if synced:
        disk.sync_file(temporary)
    try:
        disk.rename(temporary, target)
    except FileNotFoundError:
        disk.makedirs(os.path.dirname(target), below=objects)
        disk.rename(temporary, target)
    return name


def write_pack(disk: Disk, objects: str, scratch: str, entries: Mapping[Oid, bytes], *, force: bool = False) -> str:
    """Stores entries (id → pack entry; every delta's base among them) as one pack; the path of its index.

    The pack is put in place before its index: git looks for the index first. `force` writes also what is there
    already, for one cannot trust what was not synced before a power cut.
    """
    body, places, offset = [], [], 12
    for oid, entry in entries.items():
        places.append((oid, zlib.crc32(entry), offset))
        body.append(entry)
        offset += len(entry)
    pack = b"".join((b"PACK", struct.pack(">II", 2, len(body)), *body))
    checksum = sha1(pack, usedforsecurity=False).digest()
    places.sort()
    name = sha1(b"".join(place[0] for place in places), usedforsecurity=False).hexdigest()
    stem = f"{objects}/pack/pack-{name}"
    if not force and os.path.exists(f"{stem}.idx"):
        return f"{stem}.idx"
    for suffix, data in (("pack", pack + checksum), ("idx", _index(places, checksum))):
        temporary = f"{scratch}/{suffix}"
        disk.overwrite(temporary, data, 0o444)
        try:
            disk.rename(temporary, f"{stem}.{suffix}")
        except FileNotFoundError:
            disk.makedirs(f"{objects}/pack", below=objects)
            disk.rename(temporary, f"{stem}.{suffix}")
    return f"{stem}.idx"


def _index(places: list[tuple[Oid, int, int]], checksum: bytes) -> bytes:
    fan = [0] * 256
    for oid, _, _ in places:
        fan[oid[0]] += 1
    total = 0
    for byte in range(256):
        total += fan[byte]
        fan[byte] = total
    large = [offset for _, _, offset in places if offset >= 1 << 31]
    large_at = {offset: at for at, offset in enumerate(large)}
    offsets = (offset if offset < 1 << 31 else (1 << 31) | large_at[offset] for _, _, offset in places)
    data = b"".join(
        (
            b"\377tOc\0\0\0\2",
            struct.pack(">256I", *fan),
            *(oid for oid, _, _ in places),
            struct.pack(f">{len(places)}I", *(crc for _, crc, _ in places)),
            struct.pack(f">{len(places)}I", *offsets),
            struct.pack(f">{len(large)}Q", *large),
            checksum,
        )
    )
    return data + sha1(data, usedforsecurity=False).digest()


def read_pack(path: str) -> dict[Oid, bytes]:
    """The entries of a pack, in their order; a delta that names its base by offset comes to name it by id.

    Raises Damaged where a checksum does not hold.
    """
    with open(f"{path}.idx", "rb") as file:
        index = file.read()
    with open(f"{path}.pack", "rb") as file:
        pack = file.read()
    if index[:8] != b"\377tOc\0\0\0\2" or sha1(pack[:-20], usedforsecurity=False).digest() != pack[-20:]:
        raise Damaged(f"{path}.pack is damaged: its checksum does not hold")
    (count,) = struct.unpack(">I", index[1028:1032])
    ids = 1032
    crcs = ids + 20 * count
    offsets = crcs + 4 * count
    places = sorted(
        (
            struct.unpack_from(">I", index, offsets + 4 * at)[0],
            Oid(index[ids + 20 * at : ids + 20 * at + 20]),
            struct.unpack_from(">I", index, crcs + 4 * at)[0],
        )
        for at in range(count)
    )
    at = {offset: oid for offset, oid, _ in places}
    ends = [offset for offset, _, _ in places[1:]] + [len(pack) - 20]
    entries = {}
    for (offset, oid, crc), end in zip(places, ends, strict=True):
        entry = pack[offset:end]
        if zlib.crc32(entry) != crc:
            raise Damaged(f"{path}.pack is damaged at byte {offset}: the checksum of object {oid.hex()} does not hold")
        entries[oid] = _named(entry, offset, at)
    return entries


def _named(entry: bytes, offset: int, at: Mapping[int, Oid]) -> bytes:
    """The entry as it may stand in any pack: an OFS_DELTA becomes a REF_DELTA (gitformat-pack(5))."""
    if entry[0] >> 4 & 7 != OFS_DELTA:
        return entry
    place, size, shift = 0, entry[0] & 15, 4
    while entry[place] & 0x80:
        place += 1
        size |= (entry[place] & 0x7F) << shift
        shift += 7
    place += 1
    back = entry[place] & 0x7F
    while entry[place] & 0x80:
        place += 1
        back = (back + 1) << 7 | entry[place] & 0x7F
    base = at.get(offset - back)
    if base is None:
        raise Damaged(f"a pack is damaged: the delta at byte {offset} has no base")
    return entry_header(REF_DELTA, size) + base + entry[place + 1 :]


def checksum_holds(stem: str) -> bool:
    """Whether a pack and its index are both there and whole (each ends in the SHA-1 of what comes before)."""
    try:
        for suffix in (".pack", ".idx"):
            digest = sha1(usedforsecurity=False)
            with open(stem + suffix, "rb") as file:
                left = os.fstat(file.fileno()).st_size - 20
                while left > 0 and (chunk := file.read(min(left, 1 << 20))):
                    digest.update(chunk)
                    left -= len(chunk)
                if left or file.read() != digest.digest():
                    return False
    except FileNotFoundError:
        return False
    return True


def fold(disk: Disk, objects: str, scratch: str, ours: Iterable[str]) -> int:
    """Makes one pack of the small ones among `ours` (stems `pack-<name>`), durably, then removes them; how many went.

    Of an object that stands in several packs the entry of the first is kept: each pack is closed under its deltas,
    so what is kept never leans on what comes later. Raises FileNotFoundError where a git repacks meanwhile.
    """
    stems = [f"{objects}/pack/{name}" for name in ours]
    stems = [stem for stem in stems if os.path.getsize(f"{stem}.pack") < FOLD_BELOW]
    if len(stems) < FOLD_AT:
        return 0
    entries: dict[Oid, bytes] = {}
    for stem in stems:
        for oid, entry in read_pack(stem).items():
            entries.setdefault(oid, entry)
    index = write_pack(disk, objects, scratch, entries)
    disk.sync_file(index.removesuffix(".idx") + ".pack")
    disk.sync_file(index)
    disk.sync_folder(f"{objects}/pack")
    for stem in stems:
        if f"{stem}.idx" != index:
            disk.unlink(f"{stem}.idx")
            disk.unlink(f"{stem}.pack")
    return len(stems)
