"""A folder with a Whoosh index and the markers of what it holds; used by one writing thread and locked readers.

Whoosh never syncs, keeps no checksums and leaves orphan files behind: all three are done here. The order on disk is
always segments, table of contents, markers, each synced before the next, so that a marker is never ahead of the index,
whatever kills the process. Anything but OSError that is raised here means that the folder is worthless.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from secrets import SystemRandom
from typing import Any

import msgspec
import whoosh
import whoosh.util
from whoosh.fields import ID, Schema
from whoosh.filedb.filestore import FileStorage
from whoosh.index import TOC, FileIndex, clean_files
from whoosh.reading import SegmentReader, TermNotFound
from whoosh.writing import SegmentWriter

FORMAT = f"1 whoosh {'.'.join(map(str, whoosh.__version__))}"
STATE = "state.json"
FAN = 8
MERGE_MAX = 4096  # a larger segment is left alone: merging costs as much as indexing again
_NAME = "MAIN"
# Whoosh names its files by the `random` module: two would share a name if somebody seeded that.
whoosh.util.random = SystemRandom()
_CACHED_IDS = 500_000


class State(msgspec.Struct):
    """`state.json`: the marker of each workspace, and size and CRC-32 of the segment files when it was written."""

    format: str = FORMAT
    markers: dict[str, str] = {}
    files: dict[str, tuple[int, int]] = {}


def _schema() -> Any:
    return Schema(key=ID(sortable=True), text=ID())


class Leaf:
    """One immutable segment, with the ids of its documents and the term look-ups made so far."""

    def __init__(self, storage: Any, segment: Any) -> None:
        self.segment = segment
        self.identity = _identity(segment)
        self._reader = SegmentReader(storage, _schema(), segment)
        # Readers move file positions about, so the writing thread has one of its own.
        self._writing: Any = None
        self._storage = storage
        self._ids: list[str] | None = None
        self._found: dict[str, frozenset[str]] = {}
        self._cached = 0

    def match(self, term: str) -> frozenset[str]:
        """The ids of the live documents with this term. Call it under the lock of all readers."""
        if (found := self._found.get(term)) is not None:
            return found
        if self._ids is None:
            self._ids = [value.decode() for value in self._reader.column_reader("key", translate=False)]
        ids = self._ids
        found = frozenset(ids[number] for number in _numbers(self._reader, "text", term))
        if self._cached + len(found) > _CACHED_IDS:
            self._found.clear()
            self._cached = 0
        self._found[term] = found
        self._cached += len(found) + 8
        return found

    def numbers(self, keys: Iterable[str], prefixes: Iterable[str]) -> Iterator[int]:
        """The numbers of the live documents with one of the keys or prefixes of keys. For the writing thread only."""
        if self._writing is None:
            self._writing = SegmentReader(self._storage, _schema(), self.segment)
        for prefix in prefixes:
            for key in self._writing.expand_prefix("key", prefix):
                yield from _numbers(self._writing, "key", key)
        for key in keys:
            yield from _numbers(self._writing, "key", key)


def _numbers(reader: Any, field: str, term: str | bytes) -> list[int]:
    try:
        return list(reader.postings(field, term).all_ids())
    except TermNotFound:
        return []


def _identity(segment: Any) -> tuple[str, int]:
    return segment.segment_id(), segment.deleted_count()


class _Tracked(FileStorage):  # type: ignore[misc]
    """A storage that remembers what it opened: Whoosh leaves a table of contents open when it cannot read it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.opened: list[Any] = []

    def open_file(self, name: str, **options: Any) -> Any:
        file = super().open_file(name, **options)
        self.opened.append(file)
        return file


def _contents(folder: Path) -> Any:
    """The table of contents. Damaged ones raise anything."""
    storage = _Tracked(folder)
    try:
        return TOC.read(storage, _NAME, schema=_schema())
    finally:
        for file in storage.opened:
            if not file.is_closed:
                file.close()


class Abandoned(Exception):
    """A merge was given up half-way because the process stops; the index is as before."""


class _Writer(SegmentWriter):  # type: ignore[misc]
    """Whoosh's writer, with a table of contents that never names a segment which is not on disk."""

    def __init__(self, index: Any, stop: Callable[[], bool]) -> None:
        # The store's own lock keeps other processes out, and only one thread writes: Whoosh need not lock.
        super().__init__(index, _lk=False)
        self._stop = stop
        sorted_postings = self.pool.iter_postings
        self.pool.iter_postings = lambda: self._watch(sorted_postings())

    def _watch(self, items: Iterable[Any]) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number & 0x1FF == 0 and self._stop():
                raise Abandoned
            yield item

    def _process_posts(self, items: Iterable[Any], startdoc: int, docmap: Any) -> Iterator[Any]:
        return self._watch(super()._process_posts(items, startdoc, docmap))

    def _commit_toc(self, segments: list[Any]) -> None:
        folder = Path(self.storage.folder)
        ids = {segment.segment_id() for segment in segments}
        for name in os.listdir(folder):
            if name.split(".", 1)[0] in ids:
                sync(folder / name)
        TOC(self.schema, segments, self.generation).write(self.storage, self.indexname)
        sync(folder / TOC._filename(self.indexname, self.generation))
        sync(folder)
        clean_files(self.storage, self.indexname, self.generation, segments)


class Segments:
    """The folder. `leaves` is replaced, never changed: whoever holds the old list may go on reading from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.leaves: list[Leaf] = []
        self.state = State()

    def open(self) -> None:
        """Open what is there, sweeping files that belong to nothing; an absent or never used folder is made anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / STATE
        if not path.exists():
            # The first start, or a kill before anything was promised: whatever lies here speaks for nothing.
            self.renew()
            return
        state = msgspec.json.decode(path.read_bytes(), type=State)
        if state.format != FORMAT:
            raise ValueError(f"written as format {state.format!r}; this release writes {FORMAT!r}")
        toc = _contents(self.folder)
        segments = self._names(segment.segment_id() for segment in toc.segments)
        for name in os.listdir(self.folder):
            if name not in segments and name not in (STATE, TOC._filename(_NAME, toc.generation)):
                entry = self.folder / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        state.files = {name: check for name, check in state.files.items() if name in segments}
        for name, (size, _) in state.files.items():
            if (self.folder / name).stat().st_size != size:
                raise ValueError(f"{name} has the wrong size")
        self.leaves = [Leaf(self._storage(), segment) for segment in toc.segments]
        self.state = state

    def check(self) -> None:
        """Compare the segment files with their sums; raises ValueError for the first that differs."""
        for name, (_, total) in self.state.files.items():
            if _sum(self.folder / name) != total:
                raise ValueError(f"{name} was damaged on disk")

    def renew(self) -> None:
        """An empty folder with an empty index. The state goes first, so a kill half-way leaves no marker behind."""
        self.leaves = []
        (self.folder / STATE).unlink(missing_ok=True)
        if self.folder.exists():
            sync(self.folder)
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        TOC.create(self._storage(), _schema(), _NAME)
        self._save(State())

    def unmark(self, workspaces: Iterable[str]) -> None:
        """Take these markers away, durably."""
        gone = set(workspaces)
        if gone & self.state.markers.keys():
            kept = {workspace: commit for workspace, commit in self.state.markers.items() if workspace not in gone}
            self._save(State(FORMAT, kept, self.state.files))

    def write(
        self, documents: Iterable[tuple[str, str, list[str]]], keys: Iterable[str], prefixes: Iterable[str]
    ) -> None:
        """Delete the documents with these keys or prefixes of keys, then add (key, id, terms): one step, synced."""
        keys, prefixes = list(keys), list(prefixes)
        writer = self._writer()
        try:
            base = 0
            for leaf in self.leaves:
                for number in leaf.numbers(keys, prefixes):
                    writer.delete_document(base + number)
                base += leaf.segment.doc_count_all()
            for key, name, found in documents:
                writer.add_document(key=key, _stored_key=name, text=found)
        except BaseException:
            writer.cancel()
            raise
        writer.commit(mergetype=_drop_dead)
        self._refresh()

    def mark(self, markers: Mapping[str, str]) -> None:
        """Store these markers, and the sums of all segment files, durably."""
        self._save(State(FORMAT, {**self.state.markers, **markers}, self._sums()))

    def merge(self, stop: Callable[[], bool]) -> bool:
        """Eight segments of one size class become one; one with more dead documents than live is written anew.

        At most one such step a call; True if there was one. Raises Abandoned soon after `stop` has become true.
        """
        tiers: dict[int, list[Any]] = {}
        for leaf in self.leaves:
            live = leaf.segment.doc_count()
            if live * 2 < leaf.segment.doc_count_all():
                tiers.setdefault(-1, []).append(leaf.segment)
            elif live < MERGE_MAX:
                tiers.setdefault(live.bit_length() // 3, []).append(leaf.segment)
        ripe = next((tier for size, tier in sorted(tiers.items()) if size < 0 or len(tier) >= FAN), None)
        if ripe is None:
            return False
        chosen = {segment.segment_id() for segment in ripe}

        def policy(writer: Any, segments: list[Any]) -> list[Any]:
            for segment in segments:
                if segment.segment_id() in chosen:
                    reader = SegmentReader(writer.storage, writer.schema, segment)
                    writer.add_reader(reader)
            return [segment for segment in segments if segment.segment_id() not in chosen]

        writer = self._writer(stop)
        try:
            writer.commit(mergetype=policy)
        except Abandoned:
            writer.cancel()
            raise
        self._refresh()
        self.mark({})
        return True

    def _storage(self) -> Any:
        return FileStorage(str(self.folder))

    def _writer(self, stop: Callable[[], bool] = lambda: False) -> Any:
        return _Writer(FileIndex(self._storage(), _schema(), _NAME), stop)

    def _refresh(self) -> None:
        segments = _contents(self.folder).segments
        known = {leaf.identity: leaf for leaf in self.leaves}
        self.leaves = [known.get(_identity(segment)) or Leaf(self._storage(), segment) for segment in segments]

    def _names(self, ids: Iterable[str]) -> set[str]:
        wanted = set(ids)
        return {name for name in os.listdir(self.folder) if name.split(".", 1)[0] in wanted}

    def _sums(self) -> dict[str, tuple[int, int]]:
        known = self.state.files
        names = self._names(leaf.identity[0] for leaf in self.leaves)
        return {
            name: known.get(name) or ((self.folder / name).stat().st_size, _sum(self.folder / name)) for name in names
        }

    def _save(self, state: State) -> None:
        fresh = self.folder / f"{STATE}.new"
        with fresh.open("wb") as out:
            out.write(msgspec.json.encode(state))
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(self.folder / STATE)
        sync(self.folder)
        self.state = state


def _drop_dead(writer: Any, segments: list[Any]) -> list[Any]:
    """A merge policy of Whoosh: no merging, but a segment without a live document goes."""
    return [segment for segment in segments if segment.doc_count()]


def _sum(path: Path) -> int:
    total = 0
    with path.open("rb") as data:
        while chunk := data.read(1 << 20):
            total = zlib.crc32(chunk, total)
    return total


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
