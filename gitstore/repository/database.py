"""One repository's objects: those not yet published come from memory, the rest from disk, trees from a shared cache."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator

from dulwich.object_store import DiskObjectStore

from gitstore.bounded import Bounded
from gitstore.errors import Damaged
from gitstore.repository.disk import Disk
from gitstore.repository.objects import BLOB, COMMIT, EMPTY_TREE, TREE, Object, Oid
from gitstore.repository.packed import CACHED, Packed
from gitstore.repository.packs import FOLD_AT, fold, loose, read_loose, write_loose, write_pack
from gitstore.repository.standing import Standing, standing
from gitstore.repository.trees import Tree

_FEW = 12  # objects; up to here files of their own are cheaper than a pack and its index


class TreeCache:
    """Trees by id, shared by all repositories (an id says everything about its content), bounded in bytes."""

    def __init__(self, limit: int = 64 << 20) -> None:
        self._trees: Bounded[Oid, Tree] = Bounded("trees", limit)
        self.get = self._trees.get

    def put(self, oid: Oid, tree: Tree) -> None:
        """Keeps a tree; the oldest make room."""
        self._trees.put(oid, tree, 4 * len(tree.data) + 600)


class Database:
    """The objects of the repository at `git` (its `.git` folder)."""

    def __init__(self, disk: Disk, git: str, cache: TreeCache) -> None:
        self._disk = disk
        self._cache = cache
        self._lock = threading.Lock()
        self._fresh: dict[Oid, Object] = {}
        self._store: DiskObjectStore | None = None
        self._packed = Packed(f"{git}/objects")
        self.arrivals: list[tuple[str, float]] = []  # packs that git is to leave, and since when
        self._packs_written = FOLD_AT  # how many there are is not known until the first look
        self.relocate(git)

    def relocate(self, git: str) -> None:
        """The repository's folder was renamed."""
        with self._lock:
            self._close()
            self.git = git
            self.objects = f"{git}/objects"
            self._packed = Packed(self.objects)
            self.scratch = f"{git}/gitstore"

    def close(self) -> None:
        """Closes the packs; they open again when they are needed."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._packed.close()
        if self._store is not None:
            self._store.close()
            self._store = None

    # -- reading --------------------------------------------------------------------------------------------------

    def get(self, oid: Oid) -> tuple[int, bytes]:
        """Kind and data of an object. Raises Damaged where it is missing."""
        fresh = self._fresh.get(oid)
        if fresh is not None:
            return fresh.kind, fresh.data
        if oid == EMPTY_TREE:
            return TREE, b""
        with self._lock:
            try:
                found = self._packed.get(oid) or read_loose(self.objects, oid)
                if found is None and self._packed.follow():
                    found = self._packed.get(oid)
                if found is None:
                    # dulwich has the last word: it also looks in the places of alternates.
                    if self._store is None:
                        self._store = DiskObjectStore(self.objects, delta_base_cache_limit=CACHED)
                    found = self._store.get_raw(oid.hex().encode())  # type: ignore[arg-type]  # a NewType of bytes
            except KeyError:
                raise Damaged(f"object {oid.hex()} is missing from {self.git}") from None
            except OSError:
                raise
            except Exception as error:  # of what a damaged pack holds, dulwich makes any exception
                raise Damaged(
                    f"object {oid.hex()} in {self.git} cannot be read: {error or type(error).__name__}"
                ) from error
        return found

    def has(self, oid: Oid) -> bool:
        """Whether the object is here."""
        try:
            self.get(oid)
        except Damaged:
            return False
        return True

    def held(self, oids: Iterable[Oid]) -> set[Oid]:
        """Those that are here, without a look into them. Raises OSError, Damaged where an index of a pack is."""
        with self._lock:
            self._packed.follow()
            try:
                return {
                    oid for oid in oids
                    if oid in self._fresh or self._packed.has(oid) or os.path.exists(f"{self.objects}/{loose(oid)}")
                }  # fmt: skip
            except OSError:
                raise
            except Exception as error:  # of what a damaged pack holds, anything
                raise Damaged(f"the packs in {self.git} cannot be read: {error or type(error).__name__}") from error

    def commits(self, prefix: str) -> list[Oid]:
        """The commits whose ids begin with these digits (4 or more, in lower case), sorted."""
        found = {oid for oid, item in list(self._fresh.items()) if item.kind == COMMIT and oid.hex().startswith(prefix)}
        with self._lock:
            if self._store is None:
                self._store = DiskObjectStore(self.objects, delta_base_cache_limit=CACHED)
            named = [Oid(bytes.fromhex(name.decode("ascii"))) for name in self._store.iter_prefix(prefix.encode())]
        for oid in named:
            if oid not in found and self.get(oid)[0] == COMMIT:
                found.add(oid)
        return sorted(found)

    def tree(self, oid: Oid) -> Tree:
        """A tree, parsed."""
        tree = self._cache.get(oid)
        if tree is None:
            kind, data = self.get(oid)
            if kind != TREE:
                raise Damaged(f"object {oid.hex()} in {self.git} is no tree")
            tree = Tree.parse(data)
            self._cache.put(oid, tree)
        return tree

    def blob(self, oid: Oid) -> bytes:
        """The content of a blob."""
        kind, data = self.get(oid)
        if kind != BLOB:
            raise Damaged(f"object {oid.hex()} in {self.git} is no blob")
        return data

    def commit(self, oid: Oid) -> bytes:
        """The raw bytes of a commit."""
        kind, data = self.get(oid)
        if kind != COMMIT:
            raise Damaged(f"object {oid.hex()} in {self.git} is no commit")
        return data

    # -- writing --------------------------------------------------------------------------------------------------

    def keep(self, items: Iterable[Object]) -> None:
        """Holds objects in memory until they are published."""
        for item in items:
            self._fresh[item.id] = item

    def keep_tree(self, item: Object, tree: Tree) -> None:
        """The same for a tree that is parsed already."""
        self._fresh[item.id] = item
        self._cache.put(item.id, tree)

    def drop(self, items: Iterable[Object]) -> None:
        """Lets go of objects that are on disk now, or never will be."""
        for item in items:
            self._fresh.pop(item.id, None)

    def publish(self, items: Iterable[Object]) -> Standing:
        """Writes objects to disk, unsynced: loose ones if they are few, else one pack. Returns where they are."""
        wanted = list({item.id: item for item in reversed(list(items))}.values())[::-1]  # the first of each id
        if len(wanted) <= _FEW:
            return standing([write_loose(self._disk, self.objects, self.scratch, item) for item in wanted], wanted)
        index = self.write_entries(_entries(wanted))
        return standing([index], wanted)

    def mend(self, placed: Iterable[Standing]) -> int:
        """Writes again, as one pack, what was published and is not there any more; how many objects that were."""
        packed = Packed(self.objects)  # as it is now: a pack that is open still shows what was removed with it
        with self._lock:
            self._close()
        try:
            missing = [
                item for one in placed for item in one.items
                if not packed.has(item.id) and read_loose(self.objects, item.id) is None
            ]  # fmt: skip
        finally:
            packed.close()
        self.write_entries((item.id, item.base, item.entry()) for item in missing)
        return len(missing)

    def write(self, item: Object) -> None:
        """Writes one object to disk that no journal has: as a whole, or not at all."""
        write_loose(self._disk, self.objects, self.scratch, item, synced=True)

    def write_entries(self, entries: Iterable[tuple[Oid, Oid | None, bytes]], *, force: bool = False) -> str:
        """Writes pack entries (id, base of a delta, bytes) as one pack, in an order in which bases come first.
        Returns its index, below `objects`; nothing for no entries.

        A base that has not come yet goes in whole, even if it comes later as a delta: tree A changed to B and back
        to A would else be two deltas of each other.
        """
        pack: dict[Oid, bytes] = {}
        for oid, base, entry in entries:
            if oid in pack:
                continue
            if base is not None and base not in pack:
                kind, data = self.get(base)
                pack[base] = Object(kind, data, oid=base).entry()
            pack[oid] = entry
        if not pack:
            return ""
        index = write_pack(self._disk, self.objects, self.scratch, pack, force=force)
        self._packs_written += 1
        return index.removeprefix(f"{self.objects}/")

    def arrived(self, kept: Iterable[str] = ()) -> None:
        """Packs that others made were put among the repository's; they are found when an object of them is asked for.

        Beside each of the `kept` (`pack-<name>`) is a file that tells git to leave it, until `release`.
        """
        self._packs_written += 1
        self.arrivals += [(stem, time.monotonic()) for stem in kept]

    def release(self, age: float) -> None:
        """Packs that arrived more than `age` seconds ago are like others from now on. Raises OSError."""
        while self.arrivals and self.arrivals[0][1] <= time.monotonic() - age:
            with contextlib.suppress(FileNotFoundError):
                self._disk.unlink(f"{self.objects}/pack/{self.arrivals[0][0]}.keep")
            del self.arrivals[0]

    def fold(self) -> int:
        """Folds many small packs into one; how many it replaced. Costs nothing until enough were written."""
        if self._packs_written < FOLD_AT // 2:
            return 0
        self._packs_written = 0
        try:
            names = os.listdir(f"{self.objects}/pack")
        except FileNotFoundError:
            return 0
        kept = {name.rsplit(".", 1)[0] for name in names if name.endswith((".keep", ".promisor", ".mtimes", ".bitmap"))}
        stems = [name[:-4] for name in names if name.endswith(".idx") and name[:-4] not in kept]
        if len(stems) < FOLD_AT:
            return 0
        try:
            count = fold(self._disk, self.objects, self.scratch, stems)
        except FileNotFoundError:
            count = 0  # somebody's git repacked meanwhile, which makes them few as well
        self.close()
        return count


def _entries(items: Iterable[Object]) -> Iterator[tuple[Oid, Oid | None, bytes]]:
    """The pack entries of objects: a delta only of what came before it in the same pack, else the object whole."""
    there: set[Oid] = set()
    for item in items:
        if item.base is None or item.base in there:
            yield item.id, item.base, item.entry()
        else:
            yield item.id, None, Object(item.kind, item.data, oid=item.id).entry()
        there.add(item.id)
