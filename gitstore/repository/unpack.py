"""A pack that somebody sent, unpacked without a git program: every object read, bounded, and held against git's rules.

Formats: gitformat-pack(5); what is checked: gitstore/repository/check.py. All of it is in memory at once, so this is
for small packs.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from hashlib import sha1

from dulwich.errors import ApplyDeltaError
from dulwich.pack import apply_delta

from gitstore.errors import Damaged, Malformed, TooLarge
from gitstore.repository.check import examine
from gitstore.repository.database import Database
from gitstore.repository.entries import header, inflate, offset
from gitstore.repository.objects import COMMIT, EMPTY_TREE, NAMES, OFS_DELTA, REF_DELTA, TAG, TREE, Object, Oid

INFLATED = 256 << 20  # bytes of all objects of one pack
_TAG = re.compile(rb"object ([0-9a-f]{40})\ntype (commit|tree|blob|tag)\ntag [^\n]+\n")
_KINDS = {name: kind for kind, name in NAMES.items()}


def unpack(pack: bytes, source: Database) -> list[Object]:
    """The objects of a pack; bases that it lacks come from `source`. Raises Malformed, TooLarge."""
    if len(pack) < 32 or pack[:8] != b"PACK\0\0\0\2" or sha1(pack[:-20], usedforsecurity=False).digest() != pack[-20:]:
        raise Malformed("the pack is not sound: its checksum does not hold")
    (count,) = struct.unpack(">I", pack[8:12])
    if count > len(pack):
        raise Malformed("the pack is not sound: it says that it holds more than it can")
    done: dict[int | Oid, Object] = {}
    waiting: dict[int | Oid, list[tuple[int, bytes]]] = {}
    room, at = INFLATED, 12
    for _ in range(count):
        start = at
        kind, size, at = header(pack, at)
        if size > room:
            raise TooLarge("the pack holds an object that is too large to be unpacked")
        base: int | Oid = 0
        if kind == OFS_DELTA:
            back, at = offset(pack, at)
            base = start - back
        elif kind == REF_DELTA:
            base, at = Oid(pack[at : at + 20]), at + 20
        data, at = inflate(pack, at, size)
        room -= size
        if kind in NAMES:
            done[start] = Object(kind, data)
        elif kind in (OFS_DELTA, REF_DELTA):
            waiting.setdefault(base, []).append((start, data))
        else:
            raise Malformed(f"the pack is not sound: an entry has the kind {kind}")
    if at != len(pack) - 20:
        raise Malformed("the pack is not sound: something follows its last object")
    for item in list(done.values()):
        done.setdefault(item.id, item)
    _resolve(done, waiting, source, room)
    return list({item.id: item for item in done.values()}.values())


def _resolve(
    done: dict[int | Oid, Object], waiting: dict[int | Oid, list[tuple[int, bytes]]], source: Database, room: int
) -> None:
    ready = [key for key in waiting if key in done]
    while waiting:
        if not ready:
            outside = [key for key in waiting if isinstance(key, bytes)]
            for oid in map(Oid, outside):
                try:
                    kind, data = source.get(oid)
                except Damaged:
                    continue
                done[oid] = Object(kind, data, oid=oid)
                ready.append(oid)
            if not ready:
                raise Malformed("the pack lacks objects that it needs (git fsck in your clone says which)")
        key = ready.pop()
        base = done[key]
        for start, delta in waiting.pop(key, ()):
            size = _result(delta)
            if size > room:
                raise TooLarge("the pack holds an object that is too large to be unpacked")
            room -= size
            try:
                item = Object(base.kind, b"".join(apply_delta(base.data, delta)))
            except (ApplyDeltaError, ValueError, IndexError, AssertionError):
                raise Malformed("the pack is not sound: a delta cannot be applied") from None
            done[start] = done[item.id] = item
            ready += [one for one in (start, item.id) if one in waiting]


def _result(delta: bytes) -> int:
    """The size that a delta says its result has."""
    at, sizes = 0, []
    for _ in range(2):
        size = shift = 0
        while True:
            if at >= len(delta) or shift > 60:
                raise Malformed("the pack is not sound: a delta cannot be read")
            size |= (delta[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not delta[at - 1] & 0x80:
                break
        sizes.append(size)
    return sizes[1]


def faults(items: Iterable[Object], source: Database) -> Iterator[str]:
    """What is wrong with the objects: against git's rules, or naming what is neither among them nor in `source`."""
    known = {item.id: item.kind for item in items}
    for item in items:
        wrong, links = examine(item.id, item.kind, item.data)
        for text in wrong:
            yield f"the pack breaks git's rules: {NAMES[item.kind].decode()} {item.id.hex()}: {text}"
        named = [(link.oid, link.kind) for link in links]
        if item.kind == TAG:
            match = _TAG.match(item.data)
            if match is None:
                yield f"the pack breaks git's rules: tag {item.id.hex()} cannot be read"
            else:
                named.append((Oid(bytes.fromhex(match[1].decode())), _KINDS[match[2]]))
        for oid, kind in named:
            if (known.get(oid) or kind_of(source, oid)) != kind:
                yield "the pack lacks objects that it needs (git fsck in your clone says which)"


def kind_of(source: Database, oid: Oid) -> int | None:
    """The kind of an object, or None where it is not there."""
    try:
        return source.get(oid)[0]
    except Damaged:
        return None


def reached(source: Database, tip: Oid, known: Iterable[Oid], most: int) -> Iterator[tuple[Oid, int, int, str]]:
    """(id, kind, size, path) of what `tip` leads to and the `known` commits do not; see git-rev-list(1), `--objects`.

    Objects of the commits that the new ones stand on may be among them. Raises TooLarge over `most`.
    """
    old = _ancestors(source, known, set())
    seen: set[Oid] = set()
    for oid in _ancestors(source, [tip], old):
        if oid in old:
            continue
        data = source.commit(oid)
        yield oid, COMMIT, len(data), ""
        todo = [(Oid(bytes.fromhex(data[5:45].decode("ascii"))), "")]
        while todo:
            tree, folder = todo.pop()
            if tree in seen or tree == EMPTY_TREE:
                continue
            seen.add(tree)
            yield tree, TREE, 0, folder
            for name, node in source.tree(tree).nodes():
                path = f"{folder}/" * bool(folder) + name.decode("utf-8", "surrogateescape")
                if node.mode == 0o40000:
                    todo.append((node.id, path))
                elif node.mode != 0o160000 and node.id not in seen:
                    seen.add(node.id)
                    kind, content = source.get(node.id)
                    yield node.id, kind, len(content), path
            if len(seen) > most:
                raise TooLarge(f"a push may bring at most {most} objects; push it in parts")


def _ancestors(source: Database, tips: Iterable[Oid], stop: set[Oid]) -> set[Oid]:
    found: set[Oid] = set()
    todo = list(tips)
    while todo:
        here = todo.pop()
        if here in found or here in stop:
            continue
        found.add(here)
        for line in source.commit(here).split(b"\n\n", 1)[0].split(b"\n"):
            if line.startswith(b"parent "):
                todo.append(Oid(bytes.fromhex(line[7:47].decode("ascii"))))
    return found
