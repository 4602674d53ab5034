"""The packs of one repository, looked through without a look at the disk."""

from __future__ import annotations

import os

from dulwich.object_format import SHA1
from dulwich.objects import RawObjectID
from dulwich.pack import Pack, PackFileDisappeared

from gitstore.repository.objects import Oid


class Packed:
    """The packs in `<objects>/pack` as they were when they were first asked for; what came since is not seen.

    dulwich's own store asks the disk and adds up the sizes of all packs for every object. Not for several threads at
    once. Damaged packs raise anything.
    """

    def __init__(self, objects: str) -> None:
        self._folder = f"{objects}/pack"
        self._packs: list[Pack] | None = None
        self._known: list[str] = []

    def get(self, oid: Oid) -> tuple[int, bytes] | None:
        """Kind and data of an object; None where no pack has it."""
        if self._packs is None:
            self._known = self._stems()
            self._packs = [Pack(stem, object_format=SHA1) for stem in self._known]
        for place, pack in enumerate(self._packs):
            try:
                found = pack.get_raw(RawObjectID(oid))
            except KeyError:
                continue
            except (FileNotFoundError, PackFileDisappeared):  # folded or repacked meanwhile
                self.close()
                return None
            if place:  # the next one is likely to be where this one was
                self._packs.insert(0, self._packs.pop(place))
            return found
        return None

    def follow(self) -> None:
        """Lets go of the packs where there are others by now."""
        if self._packs is not None and self._stems() != self._known:
            self.close()

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
