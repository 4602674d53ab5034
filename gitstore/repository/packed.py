"""The packs of one repository, looked through without a look at the disk.

dulwich reads them too. But it keeps up to 96 MiB of each pack that is open, so that what many repositories take has no
bound, and an object that is a delta costs several times as much. Format: gitformat-pack(5).
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from dulwich.object_format import SHA1
from dulwich.objects import RawObjectID
from dulwich.pack import PackIndex, apply_delta, load_pack_index

from gitstore.bounded import Bounded
from gitstore.errors import Malformed
from gitstore.repository.entries import header, inflate, offset
from gitstore.repository.objects import NAMES, OFS_DELTA, REF_DELTA, Oid

CACHED: Final = 1 << 20
"""Bytes of objects that dulwich may keep of a pack, where it is asked after all."""
_CHAIN_MAX: Final = 10_000
_Found = tuple[int, bytes]
# What was made of deltas lately, and their bases, by pack and place: neighbours are made of them again.
_made: Final[Bounded[tuple[tuple[int, int, int], int], _Found]] = Bounded("packs", 32 << 20)


class _Pack:
    """One pack and its index. Raises OSError, ValueError."""

    def __init__(self, stem: str) -> None:
        self._path = f"{stem}.pack"
        self._index: PackIndex = load_pack_index(f"{stem}.idx", SHA1)
        self._data: mmap.mmap | None = None
        self.mark = (0, 0, 0)

    @property
    def data(self) -> mmap.mmap:
        """The pack; its file is opened when it is asked for first, and `mark` then says which it is."""
        if self._data is None:
            with open(self._path, "rb") as file:
                state = os.fstat(file.fileno())
                self.mark = state.st_dev, state.st_ino, state.st_mtime_ns
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._data

    def place(self, oid: Oid) -> int | None:
        """Where the entry of an object begins."""
        try:
            return self._index.object_offset(RawObjectID(oid))
        except KeyError:
            return None

    def close(self) -> None:
        self._index.close()
        if self._data is not None:
            self._data.close()


class Packed:
    """The packs in `<objects>/pack` as they were when they were first asked for; what came since is not seen.

    Not for several threads at once. Damaged packs raise anything.
    """

    def __init__(self, objects: str) -> None:
        self._folder = f"{objects}/pack"
        self._packs: list[_Pack] | None = None
        self._known: list[str] = []

    def get(self, oid: Oid) -> _Found | None:
        """Kind and data of an object; None where no pack has it."""
        try:
            packs = self._packs
            if packs is None:
                packs = self._packs = self._open()
            for number, pack in enumerate(packs):
                place = pack.place(oid)
                if place is None:
                    continue
                found = self._read(pack, place)
                if number:  # the next one is likely to be where this one was
                    packs.insert(0, packs.pop(number))
                return found
        except FileNotFoundError:  # folded or repacked meanwhile
            self.close()
        return None

    def has(self, oid: Oid) -> bool:
        """Whether a pack has an object. Raises FileNotFoundError where packs keep going meanwhile."""
        if self._packs is None:
            try:
                self._packs = self._open()
            except FileNotFoundError:  # folded or repacked between the list and the look
                self._packs = self._open()
        return any(pack.place(oid) is not None for pack in self._packs)

    def _read(self, pack: _Pack, place: int) -> _Found:
        """The object whose entry begins at a place: what is there or, of a delta, what its chain makes of its base."""
        deltas: list[tuple[int, bytes]] = []
        every = pack.data
        while (found := _made.get((pack.mark, place))) is None:
            kind, size, at = header(every, place)
            begin = place
            if kind == OFS_DELTA:
                back, at = offset(every, at)
                place -= back
            elif kind == REF_DELTA:
                base, at = Oid(every[at : at + 20]), at + 20
                there = pack.place(base)
                if there is None:
                    raise Malformed(f"the pack lacks {base.hex()}, of which it has a delta")
                place = there
            data, _ = inflate(every, at, size)
            if kind in NAMES:
                found = kind, data
                if deltas:
                    _made.put((pack.mark, begin), found, len(data) + 450)
                break
            if kind not in (OFS_DELTA, REF_DELTA) or place < 12 or len(deltas) == _CHAIN_MAX:
                raise Malformed(f"the entry at byte {begin} of the pack cannot be read")
            deltas.append((begin, data))
        for begin, delta in reversed(deltas):
            found = found[0], b"".join(apply_delta(found[1], delta))
            _made.put((pack.mark, begin), found, len(found[1]) + 450)
        return found

    def follow(self) -> bool:
        """Lets go of the packs where there are others by now, or of some that are gone, and says so."""
        if self._packs is None:
            return True
        if self._stems() == self._known:
            return False
        self.close()
        return True

    def _open(self) -> list[_Pack]:
        self._known = self._stems()
        opened: list[_Pack] = []
        try:
            for stem in self._known:
                opened.append(_Pack(stem))
        except BaseException:
            for pack in opened:
                pack.close()
            raise
        return opened

    def _stems(self) -> list[str]:
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        return sorted(f"{self._folder}/{name[:-4]}" for name in names if name.endswith(".idx"))

    def close(self) -> None:
        """Lets go of the files; they are looked for again when an object is asked for."""
        packs, self._packs = self._packs, None
        for pack in packs or ():
            pack.close()
