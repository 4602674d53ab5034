"""The folder of the index: immutable segments, Whoosh's table of contents, and the state with markers and sums.

The order on disk is always segments, table of contents, state, each synced before the next, so that a marker is never
ahead of the index, whatever kills the process. Anything but OSError that is raised here means that the folder is
worthless. What writes segments runs in a child of the search process and only reads what is in memory.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from secrets import SystemRandom
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import whoosh.util
from whoosh.codec.whoosh3 import W3Codec, W3Segment
from whoosh.fields import ID, Schema
from whoosh.filedb.filestore import FileStorage
from whoosh.index import TOC

from gitstore.search import state
from gitstore.search.lock import LOCK
from gitstore.search.merging import Source, merged, of_tail, write
from gitstore.search.postings import Posting, TermReader, encoded
from gitstore.search.rows import DOCUMENTS, OWNERS, Key, Rows
from gitstore.search.state import STATE, State
from gitstore.search.tail import Tail

FAN: Final = 8
MERGE_MAX: Final = 1 << 18  # documents; a larger segment is left alone
_NAME: Final = "MAIN"
_REMEMBERED: Final = 20_000  # terms a segment
# A disk that is full or out of reach now, or no memory, is no reason to throw the index away; anything else is.
_PASSING: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS, errno.EACCES}
)
# Whoosh names its files by the `random` module: two would share a name if somebody seeded that.
whoosh.util.random = SystemRandom()


class Broken(Exception):
    """Segments cannot be trusted; those that stand beside them can."""

    def __init__(self, segments: Iterable[str], why: str) -> None:
        super().__init__(why)
        self.segments = sorted(set(segments))


def passing(error: Exception) -> bool:
    """Whether an error says nothing of the files, so that it may go well the next time."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _PASSING)


class Leaf:
    """One immutable segment, and which of its documents are still alive. Damaged files raise anything."""

    def __init__(self, folder: Path, segment: Any, codes: Callable[[str], int]) -> None:
        self.segment = segment
        self.name: str = segment.segment_id()
        self.terms = TermReader(folder, self.name)
        self.rows = Rows(folder / (self.name + DOCUMENTS))
        self.count = self.rows.count
        self.kinds, self.times, self.lengths = self.rows.kinds, self.rows.times, self.rows.lengths
        self.spans = self.rows.spans
        self.live: npt.NDArray[np.bool_] = np.ones(self.count, np.bool_)
        for number in segment.deleted_docs():
            self.live[number] = False
        self.alive = int(self.live.sum())
        starts = self.rows.starts
        numbers = np.array([codes(workspace) for workspace in self.rows.workspaces], np.int32)
        self.codes: npt.NDArray[np.int32] = np.repeat(numbers, np.diff(starts))
        self._known: dict[str, Posting] = {}

    def get(self, term: str) -> Posting:
        """The documents that have a term, dead ones included."""
        found = self._known.get(term)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[term] = self.terms.get(encoded(term))
        return found

    def beginning(self, prefix: str) -> Iterator[str]:
        """The terms that begin so, in order."""
        return (term.decode("utf-8", "surrogatepass") for term in self.terms.beginning(encoded(prefix)))

    def words_of(self, number: int) -> bytes:
        """The words of a document in their order; see `tail.stamp`."""
        return self.rows.text("tokens", number)

    def title_of(self, number: int) -> bytes:
        """The folded title of a document."""
        return self.rows.text("titles", number)

    def key(self, number: int) -> Key:
        """The key of a document."""
        return self.rows.key(number)

    def kill(self, number: int) -> None:
        """The document is found no more."""
        if self.live[number]:
            self.live[number] = False
            self.alive -= 1

    def forget(self, workspace: str) -> None:
        """Nothing of a workspace is found any more."""
        low, high = self.spans.get(workspace, (0, 0))
        self.live[low:high] = False
        self.alive = int(self.live.sum())


class Segments:
    """The folder. `leaves` is replaced, never changed."""

    def __init__(self, folder: Path, codes: Callable[[str], int]) -> None:
        self.folder = folder
        self.leaves: list[Leaf] = []
        self.state = State()
        self.opened = ""  # the id of the state that was found
        self._codes = codes

    def open(self) -> None:
        """Open what is there, sweeping files that belong to nothing; an absent or never used folder is made anew.

        Raises Broken where only some of it is damaged; then the rest is open, and `drop` is to be called.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / STATE).exists():
            # The first start, or a kill before anything was promised: whatever lies here speaks for nothing.
            self.renew()
            self.opened = self.state.id
            return
        self.state = state.read(self.folder)
        self.opened = self.state.id
        contents = _contents(self.folder)
        kept = {segment.segment_id() for segment in contents.segments}
        own = {STATE, TOC._filename(_NAME, contents.generation)}
        for name in os.listdir(self.folder):
            if name.split(".", 1)[0] not in kept and name not in own and name != LOCK:
                entry = self.folder / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.state.files = {name: sums for name, sums in self.state.files.items() if name.split(".", 1)[0] in kept}
        broken: dict[str, str] = {}
        for segment in contents.segments:
            name = segment.segment_id()
            try:
                self._measure(name)
                self.leaves.append(Leaf(self.folder, segment, self._codes))
            except Exception as error:
                # Damaged files raise anything, and the other segments are as good as before.
                if passing(error):
                    raise
                broken[name] = f"{type(error).__name__}: {error}"
        if broken:
            raise Broken(broken, "; ".join(broken.values()))

    def _measure(self, segment: str) -> None:
        for name, (size, _) in self.state.files.items():
            if name.split(".", 1)[0] == segment and (self.folder / name).stat().st_size != size:
                raise ValueError(f"{name} has the wrong size")

    def check(self) -> None:
        """Compare the segment files with their sums. Raises Broken."""
        if names := state.damaged(self.folder, self.state):
            raise Broken((name.split(".", 1)[0] for name in names), f"{', '.join(names)} was damaged on disk")

    def drop(self, segments: Collection[str], forgotten: Iterable[str] = ()) -> set[str]:
        """Does without some segments, and without everything of the workspaces that they had documents of: which those
        are. `forgotten` are those that were emptied in memory, which comes to the disk as well. Raises anything; then
        all of it is to be thrown away.
        """
        lost: set[str] = set()
        for segment in segments:
            name = segment + OWNERS
            if not state.sound(self.folder, self.state, name):
                raise ValueError(f"{name} is damaged as well")
            lost.update(msgspec.json.decode((self.folder / name).read_bytes(), type=list[str]))
        # First: a kill half-way must not leave a marker without its documents.
        kept = self._markers_without({*lost, *forgotten})
        self._save(msgspec.structs.replace(self.state, id=State().id, markers=kept))
        for leaf in self.leaves:
            for workspace in lost:
                leaf.forget(workspace)
        self.leaves = [leaf for leaf in self.leaves if leaf.name not in segments and leaf.alive]
        self._write((), (), lambda: None)
        self._save(msgspec.structs.replace(self.state, files=self._sums()))
        return lost

    def renew(self) -> None:
        """An empty index. The state goes first, so a kill half-way leaves no marker behind."""
        # Here as well: where the disk refuses what follows, the next flush must not write the old markers again.
        self.leaves, self.state = [], State()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / STATE).unlink(missing_ok=True)
        sync(self.folder)
        for name in os.listdir(self.folder):
            if name != LOCK:
                entry = self.folder / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        TOC.create(FileStorage(str(self.folder)), _schema(), _NAME)
        self._save(State())

    def refresh(self) -> list[Leaf]:
        """Read what a child wrote; the leaves that are new."""
        self.state = state.read(self.folder)
        known = {leaf.name: leaf for leaf in self.leaves}
        leaves, new = [], []
        for segment in _contents(self.folder).segments:
            leaf = known.get(segment.segment_id())
            if leaf is None:
                leaf = Leaf(self.folder, segment, self._codes)
                new.append(leaf)
            leaves.append(leaf)
        self.leaves = leaves
        return new

    # -- in the child ---------------------------------------------------------------------------------------------

    def flush(self, tail: Tail, step: Callable[[], None]) -> None:
        """Bring a tail to the disk: deaths, documents, markers. `step` is called now and then, and may raise."""
        # Markers go before their documents do: a kill between the two must not leave a marker alone.
        self._unmark(tail.forgotten)
        self._write([of_tail(tail)] if tail.live.any() else [], (), step)
        marks = {**self.state.markers, **tail.marks}
        self._save(msgspec.structs.replace(self.state, markers=marks, files=self._sums()))

    def merge(self, chosen: Sequence[Leaf], forgotten: Iterable[str], step: Callable[[], None]) -> None:
        """Make one segment of several. `forgotten` as for `drop`."""
        self._unmark(forgotten)
        sources = [Source.of_leaf(leaf) for leaf in chosen if leaf.alive]
        self._write([merged(sources)] if sources else [], chosen, step)
        self._save(msgspec.structs.replace(self.state, files=self._sums()))

    def due(self) -> list[Leaf]:
        """The segments to merge next: eight of one size class, or one with more dead documents than live."""
        tiers: dict[int, list[Leaf]] = {}
        for leaf in self.leaves:
            if leaf.alive * 2 < leaf.count:
                return [leaf]
            if leaf.alive < MERGE_MAX:
                tiers.setdefault(leaf.alive.bit_length() // 3, []).append(leaf)
        return next((tier for _, tier in sorted(tiers.items()) if len(tier) >= FAN), [])

    def _write(self, made: Sequence[Any], gone: Iterable[Leaf], step: Callable[[], None]) -> None:
        dropped = {leaf.name for leaf in gone}
        segments = []
        for leaf in self.leaves:
            if leaf.name not in dropped and leaf.alive:
                leaf.segment._deleted = set(map(int, np.flatnonzero(~leaf.live))) or None
                segments.append(leaf.segment)
        for source in made:
            segment = W3Segment(W3Codec(), _NAME)
            names = write(self.folder, segment.segment_id(), source, step)
            segment.set_doc_count(source.size)
            for name in names:
                sync(self.folder / name)
            segments.append(segment)
        self._contain(segments)

    def _contain(self, segments: Sequence[Any]) -> None:
        """The new table of contents, and nothing that it does not name."""
        storage = FileStorage(str(self.folder))
        generation = TOC._latest_generation(storage, _NAME) + 1
        TOC(_schema(), list(segments), generation).write(storage, _NAME)
        sync(self.folder / TOC._filename(_NAME, generation))
        sync(self.folder)
        self.kept = {segment.segment_id() for segment in segments}
        for name in os.listdir(self.folder):
            old = name.startswith(f"_{_NAME}_") and name != TOC._filename(_NAME, generation)
            if old or (name.startswith(f"{_NAME}_") and name.split(".", 1)[0] not in self.kept):
                (self.folder / name).unlink()

    def _unmark(self, workspaces: Iterable[str]) -> None:
        kept = self._markers_without(set(workspaces))
        if len(kept) < len(self.state.markers):
            self._save(msgspec.structs.replace(self.state, markers=kept))

    def _markers_without(self, gone: Collection[str]) -> dict[str, str]:
        return {name: commit for name, commit in self.state.markers.items() if name.split(" ", 1)[0] not in gone}

    def _sums(self) -> dict[str, tuple[int, int]]:
        known = self.state.files
        return {
            name: known.get(name) or state.total(self.folder / name)
            for name in os.listdir(self.folder)
            if name.split(".", 1)[0] in self.kept
        }

    def _save(self, new: State) -> None:
        fresh = self.folder / f"{STATE}.new"
        with fresh.open("wb") as out:
            out.write(msgspec.json.encode(new))
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(self.folder / STATE)
        sync(self.folder)
        self.state = new


def _schema() -> Any:
    return Schema(term=ID())


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


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
