"""`.git/index`: read, changed entry by entry, and put back with its lock held for microseconds.

Format: gitformat-index(5). Versions 2 and 3 are changed as bytes; version 4 is read through dulwich and written as 2.
Extensions are left out when writing: git makes the optional ones again.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left, insort
from hashlib import sha1

from dulwich.index import IndexEntry, read_index_dict

from gitstore.repository.disk import Disk
from gitstore.repository.locks import Lock, Locked
from gitstore.repository.objects import Oid

_STAT = struct.Struct(">10L20sH")
_MANDATORY = frozenset({b"link", b"sdir"})  # a split or sparse index: not ours to rewrite


class IndexLocked(Exception):
    """Somebody's git holds `index.lock`, or changed the index between our reading and our writing."""


class IndexForeign(Exception):
    """The index uses a feature that this release does not write (split or sparse)."""


class Index:
    """The entries of one index, by path; stages above 0 (a merge in progress) are kept as they are."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._keys: list[tuple[bytes, int]] = []
        self._entries: dict[tuple[bytes, int], bytes] = {}
        self._signature: tuple[int, int, int] | None = None
        self._version = 2
        self.changed = False

    @classmethod
    def read(cls, git: str) -> Index:
        """Reads `git/index`; an absent or damaged one (a power cut) is an empty one. Raises IndexForeign."""
        self = cls(f"{git}/index")
        try:
            with open(self._path, "rb") as file:
                state = os.fstat(file.fileno())
                data = file.read()
        except FileNotFoundError:
            return self
        self._signature = (state.st_ino, state.st_mtime_ns, state.st_size)
        if len(data) < 32 or data[:4] != b"DIRC" or sha1(data[:-20], usedforsecurity=False).digest() != data[-20:]:
            self.changed = True
            return self
        self._version, count = struct.unpack(">LL", data[4:12])
        if self._version not in (2, 3):
            self._read_other()
            return self
        at = 12
        for _ in range(count):
            (flags,) = struct.unpack_from(">H", data, at + 60)
            name = at + (64 if flags & 0x4000 else 62)
            end = data.index(b"\0", name)
            size = end - at
            size += 8 - size % 8
            key = (data[name:end], flags >> 12 & 3)
            self._keys.append(key)
            self._entries[key] = data[at : at + size]
            at += size
        while at < len(data) - 20:
            if data[at : at + 4] in _MANDATORY:
                raise IndexForeign(data[at : at + 4].decode())
            at += 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        return self

    def _read_other(self) -> None:
        self._version = 2
        with open(self._path, "rb") as file:
            found = read_index_dict(file)
        for path, item in found.items():
            if not isinstance(item, IndexEntry):
                raise IndexForeign("version 4 with conflicts")
            self.set(path, item.mode, Oid(bytes.fromhex(item.sha.decode())), None)

    def get(self, path: bytes) -> Oid | None:
        """The blob id recorded for a path (stage 0)."""
        entry = self._entries.get((path, 0))
        return Oid(entry[40:60]) if entry is not None else None

    def blobs(self) -> list[Oid]:
        """The ids of all entries, those of a merge in progress among them."""
        return [Oid(entry[40:60]) for entry in self._entries.values()]

    def hidden(self, path: bytes) -> bool:
        """Whether a person told git not to look at the file: assume-unchanged, or skip-worktree (a sparse checkout)."""
        entry = self._entries.get((path, 0))
        if entry is None:
            return False
        (flags,) = struct.unpack_from(">H", entry, 60)
        return bool(flags & 0x8000) or (bool(flags & 0x4000) and bool(entry[62] & 0x40))

    def paths(self) -> list[bytes]:
        """Every path at stage 0, in git's order."""
        return [path for path, stage in self._keys if stage == 0]

    def unmerged(self) -> bool:
        """Whether conflicts stand in the index."""
        return any(stage for _, stage in self._keys)

    def unchanged(self, path: bytes, state: os.stat_result) -> bool:
        """Whether the file is surely the one recorded: same inode, size and times, and older than the index.

        A file not older than the index may have changed within one clock tick (git: "racy git problem").
        """
        entry = self._entries.get((path, 0))
        if entry is None or self._signature is None or state.st_mtime_ns >= self._signature[1]:
            return False
        return entry[:8] == _time(state.st_ctime_ns) and entry[8:40] == _stat(state, entry[24:28])

    def set(self, path: bytes, mode: int, oid: Oid, state: os.stat_result | None) -> None:
        """Records a blob for a path; without `state` the entry says "look at the file"."""
        key = (path, 0)
        if state is None:
            head = struct.pack(">6L", 0, 0, 0, 0, 0, 0) + struct.pack(">4L", mode, 0, 0, 0)
        else:
            head = _time(state.st_ctime_ns) + _stat(state, struct.pack(">L", mode))
        entry = head + oid + struct.pack(">H", min(len(path), 0xFFF)) + path
        if key not in self._entries:
            insort(self._keys, key)
        self._entries[key] = entry + b"\0" * (8 - len(entry) % 8)
        self.changed = True

    def remove(self, path: bytes) -> None:
        """Forgets a path."""
        key = (path, 0)
        if self._entries.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]
            self.changed = True

    def write(self, disk: Disk, scratch: str) -> None:
        """Puts the index in place. Raises IndexLocked, leaving everything as it was, if somebody else was there."""
        body = b"".join(
            (struct.pack(">4sLL", b"DIRC", self._version, len(self._keys)), *(self._entries[key] for key in self._keys))
        )
        data = body + sha1(body, usedforsecurity=False).digest()
        try:
            with Lock(disk, f"{scratch}/index", self._path, data) as lock:
                try:
                    state = os.stat(self._path)
                    now = (state.st_ino, state.st_mtime_ns, state.st_size)
                except FileNotFoundError:
                    now = None
                if now != self._signature:
                    raise IndexLocked(self._path)
                lock.put()
        except Locked:
            raise IndexLocked(f"{self._path}.lock") from None
        state = os.stat(self._path)
        self._signature = (state.st_ino, state.st_mtime_ns, state.st_size)
        self.changed = False


def _time(ns: int) -> bytes:
    return struct.pack(">LL", ns // 1_000_000_000 & 0xFFFFFFFF, ns % 1_000_000_000)


def _stat(state: os.stat_result, mode: bytes) -> bytes:
    return b"".join(
        (
            _time(state.st_mtime_ns),
            struct.pack(">LL", state.st_dev & 0xFFFFFFFF, state.st_ino & 0xFFFFFFFF),
            mode,
            struct.pack(">LLL", state.st_uid & 0xFFFFFFFF, state.st_gid & 0xFFFFFFFF, state.st_size & 0xFFFFFFFF),
        )
    )
