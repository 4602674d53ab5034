"""Objects carried from one repository into another, in packs of a bounded size, deltas and all.

Both repositories may be in use: packs that are folded meanwhile are looked for again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Iterator

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import apply_delta

from gitstore.errors import Damaged
from gitstore.repository.database import Database
from gitstore.repository.objects import BLOB, COMMIT, REF_DELTA, TAG, TREE, Object, Oid, entry_header

_BATCH = 32 << 20  # bytes of entries that are held at once, and so the size of a pack
_WHOLE = (COMMIT, TREE, BLOB, TAG)

Entry = tuple[Oid, Oid | None, bytes]
Progress = Callable[[int, int], None]


def copy(source: Database, wanted: Collection[Oid], write: Callable[[list[Entry]], object], progress: Progress) -> None:
    """Hands the entries of all `wanted` objects to `write`, in batches whose deltas have their bases before them.

    `progress` is told how many of how many. Raises Damaged where an object is missing.
    """
    batch: dict[Oid, tuple[Oid | None, bytes]] = {}
    size = done = 0
    for oid, base, entry in _entries(source, set(wanted)):
        batch[oid] = (base, entry)
        size += len(entry)
        done += 1
        if size >= _BATCH:
            write(_ordered(source, batch))
            batch, size = {}, 0
            progress(done, len(wanted))
    if batch:
        write(_ordered(source, batch))
    progress(done, len(wanted))


def _entries(source: Database, wanted: set[Oid]) -> Iterator[Entry]:
    left = set(wanted)
    store = DiskObjectStore(source.objects)
    try:
        packed = store.iter_unpacked_subset(
            {ObjectID(oid.hex().encode()) for oid in wanted}, include_comp=True, allow_missing=True
        )
        for item in packed:
            oid = Oid(bytes(item.sha()))
            if oid not in left:
                continue
            data = b"".join(item.comp_chunks or ())
            length = item.decomp_len if item.decomp_len is not None else sum(map(len, item.decomp_chunks))
            if item.pack_type_num == REF_DELTA and isinstance(item.delta_base, bytes):
                left.discard(oid)
                base = Oid(item.delta_base)
                yield oid, base, entry_header(REF_DELTA, length) + base + data
            elif item.pack_type_num in _WHOLE:
                left.discard(oid)
                yield oid, None, entry_header(item.pack_type_num, length) + data
    except (KeyError, OSError, AssertionError):
        pass  # a pack went while it was read (folded, or `git gc`): what is left is fetched one by one
    finally:
        store.close()
    for oid in sorted(left):
        yield oid, None, _whole(source, oid)


def _whole(source: Database, oid: Oid) -> bytes:
    try:
        kind, data = source.get(oid)
    except (Damaged, OSError):
        kind, data = 0, b""
    if not kind:
        source.close()  # the packs that were known may be gone, and others there
        kind, data = source.get(oid)
    return Object(kind, data, oid=oid).entry()


def _ordered(source: Database, batch: dict[Oid, tuple[Oid | None, bytes]]) -> list[Entry]:
    """The batch with every base before its deltas; a delta whose base is not in it becomes a whole object."""
    done: dict[Oid, Entry] = {}
    for start in batch:
        chain: list[Oid] = []
        here: Oid | None = start
        while here is not None and here not in done and here not in chain:
            chain.append(here)
            here = batch[here][0] if here in batch else None
        for oid in reversed(chain):
            if oid not in batch:
                continue
            base, entry = batch[oid]
            done[oid] = (oid, base, entry) if base is None or base in done else (oid, None, _whole(source, oid))
    return list(done.values())


def unpack(entries: Iterable[tuple[bytes, bytes | None, bytes]], source: Database) -> Iterator[Object]:
    """The objects that a journal record's entries stand for; bases come before their deltas, or are in `source`.

    Raises Damaged where a base is missing or an entry cannot be read.
    """
    known: dict[bytes, tuple[int, bytes]] = {}
    for oid, _, entry in entries:
        try:
            kind, at = entry[0] >> 4 & 7, 1
            while entry[at - 1] & 0x80:
                at += 1
            if kind == REF_DELTA:
                named = entry[at : at + 20]
                kind, before = known.get(named) or source.get(Oid(named))
                data = b"".join(apply_delta(before, zlib.decompress(entry[at + 20 :])))
            else:
                data = zlib.decompress(entry[at:])
        except (IndexError, zlib.error, ValueError) as error:
            raise Damaged(f"the journal's copy of object {oid.hex()} cannot be read: {error}") from error
        known[oid] = kind, data
        item = Object(kind, data)
        if item.id != oid:
            raise Damaged(f"the journal's copy of object {oid.hex()} does not have this id")
        yield item
