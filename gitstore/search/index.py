"""Which artifacts contain a word. What is put is found at once; what is marked survives a kill; the rest is put again.

A put waits in memory, where queries look too, until one background thread adds it to the index in batches. The marker
of a workspace is the commit of the evidence branch up to which everything was put; on disk it is never ahead of the
index. Whatever goes wrong with the files, the folder is thrown away and `rebuild_needed` is set: the caller then feeds
everything again. Nothing here is ever the only copy of anything.
"""

from __future__ import annotations

import base64
import errno
import functools
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from gitstore.errors import StorageFailed
from gitstore.search.segments import Abandoned, Segments
from gitstore.search.words import terms

TEXT_MAX = 256 * 1024
_TEXT_TYPES = re.compile(
    r"text/.*|application/(?:.*\+)?(?:json|yaml|xml|toml|sql)|image/svg\+xml"
    r"|application/(?:x-yaml|x-ndjson|ndjson|jsonl|x-sh|javascript|x-tex)|message/.*"
)
# A disk that is full or out of reach now is no reason to throw the index away; anything else is.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS, errno.EACCES})


def text_of(content_type: str, data: bytes) -> str | None:
    """The text of an artifact that search indexes: the first 256 KiB of a text type in UTF-8; None for all else."""
    if not _TEXT_TYPES.fullmatch(content_type.split(";", 1)[0].strip().lower()):
        return None
    head = data[:TEXT_MAX]
    for cut in range(4 if len(data) > TEXT_MAX else 1):  # a character may straddle the limit
        try:
            return head[: len(head) - cut].decode().removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    return None


@functools.lru_cache(maxsize=65_536)
def _short(workspace: str) -> str:
    """The prefix of a workspace's terms: 60 bits, so that two of them all but never fall together."""
    return base64.urlsafe_b64encode(hashlib.sha256(workspace.encode()).digest()[:9]).decode()[:10]


class _Layer:
    """Changes not in the index yet, newest wins: workspace -> artifact id -> its terms, or None when removed.

    The terms of a document are one text with blanks around each, a tenth of the memory of a set.
    """

    def __init__(self) -> None:
        self.docs: dict[str, dict[str, str | None]] = {}
        self.forgotten: set[str] = set()
        self.marks: dict[str, str] = {}
        self.count = 0

    def __bool__(self) -> bool:
        return bool(self.docs or self.forgotten or self.marks)

    def forget(self, workspace: str) -> None:
        self.count -= len(self.docs.pop(workspace, ()))
        self.marks.pop(workspace, None)
        self.forgotten.add(workspace)

    def set(self, workspace: str, artifact_id: str, text: str | None) -> None:
        docs = self.docs.setdefault(workspace, {})
        self.count += artifact_id not in docs
        docs[artifact_id] = text

    def update(self, newer: _Layer) -> None:
        for workspace in newer.forgotten:
            self.forget(workspace)
        for workspace, docs in newer.docs.items():
            for artifact_id, text in docs.items():
                self.set(workspace, artifact_id, text)
        self.marks.update(newer.marks)

    def keys(self) -> Iterator[str]:
        for workspace, docs in self.docs.items():
            if workspace not in self.forgotten:
                short = _short(workspace)
                yield from (short + artifact_id for artifact_id in docs)

    def documents(self) -> Iterator[tuple[str, str, list[str]]]:
        for workspace, docs in self.docs.items():
            short = _short(workspace)
            for artifact_id, text in docs.items():
                if text is not None:
                    yield short + artifact_id, artifact_id, [short + term for term in text.split()]


class Search:
    """The index of one store, in one folder of its own. All methods may be called from any thread.

    `batch` documents or `interval` seconds, whichever comes first, start a flush. Only one process may have the folder
    open. `damage` says why the index was last thrown away, `failure` why the last flush did not get through.
    Raises StorageFailed if the folder can be neither opened nor made anew.
    """

    def __init__(self, folder: Path, *, batch: int = 1000, interval: float = 5.0) -> None:
        self.rebuild_needed = False
        self.damage: str | None = None
        self.failure: str | None = None
        self._batch = batch
        self._interval = interval
        self._changed = threading.Condition(threading.RLock())
        self._segments = Segments(folder)
        self._tail = _Layer()
        self._flushing = _Layer()
        self._since: float | None = None
        self._wanted = 0
        self._flushed = 0
        self._stopping = False
        self._broken = False
        try:
            try:
                self._segments.open()
            except Exception as error:  # noqa: BLE001  Whoosh unpickles what it finds, so damaged files raise anything
                self._spoil(error)
                self._renew()
        except OSError as error:
            raise StorageFailed(f"the search index cannot be made in {folder}: {error}") from error
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def put(self, workspace: str, artifact_id: str, text: str) -> None:
        """Make the artifact findable by its text, in place of what was put before. At once visible, later durable."""
        found = " ".join(terms(text))
        with self._changed:
            self._tail.set(workspace, artifact_id, f" {found} ")
            self._touch()

    def remove(self, workspace: str, artifact_id: str) -> None:
        """The artifact is found no more."""
        with self._changed:
            self._tail.set(workspace, artifact_id, None)
            self._touch()

    def forget(self, workspace: str) -> None:
        """Nothing of the workspace is found any more, and it has no marker: the way to begin it anew."""
        with self._changed:
            self._tail.forget(workspace)
            self._touch()

    def mark(self, workspace: str, commit: str, previous: str | None) -> bool:
        """Everything of the workspace up to `commit` was put, given that everything up to `previous`, the marker, was.

        False, and nothing is marked, when `previous` is not the marker, or the index was lost meanwhile and
        `claim_rebuild` was not called yet: what was put before is gone, so the claim would not hold.
        """
        with self._changed:
            if self.rebuild_needed or self.marker(workspace) != previous:
                return False
            self._tail.marks[workspace] = commit
            self._touch()
            return True

    def marker(self, workspace: str) -> str | None:
        """The commit up to which everything of the workspace is findable, counting what is still in memory."""
        with self._changed:
            for layer in (self._tail, self._flushing):
                if workspace in layer.marks:
                    return layer.marks[workspace]
                if workspace in layer.forgotten:
                    return None
            return None if self._broken else self._segments.state.markers.get(workspace)

    def workspaces(self) -> set[str]:
        """The workspaces that have a marker."""
        with self._changed:
            every = {*self._segments.state.markers, *self._flushing.marks, *self._tail.marks}
            return {workspace for workspace in every if self.marker(workspace) is not None}

    def match(self, workspace: str, word: str) -> set[str]:
        """The ids of the workspace's artifacts whose text has this term (one of `words.words`)."""
        needle = f" {word} "
        with self._changed:
            layers = (self._flushing, self._tail)
            found: set[str] = set()
            if not self._broken and not any(workspace in layer.forgotten for layer in layers):
                try:
                    term = _short(workspace) + word
                    found = found.union(*(leaf.match(term) for leaf in self._segments.leaves))
                except Exception as error:  # noqa: BLE001  damaged files raise anything; the answer is a rebuild
                    self._spoil(error)
            for layer in layers:
                if workspace in layer.forgotten:
                    found.clear()
                if docs := layer.docs.get(workspace):
                    found.difference_update(docs)
                    found.update(name for name, text in docs.items() if text is not None and needle in text)
            return found

    @property
    def backlog(self) -> int:
        """How many documents wait in memory for the index. A caller that feeds very many pauses with `flush`."""
        with self._changed:
            return self._tail.count + self._flushing.count

    def claim_rebuild(self) -> bool:
        """True once after the index was lost: the caller now feeds every workspace from nothing (`marker` is None)."""
        with self._changed:
            claimed, self.rebuild_needed = self.rebuild_needed, False
            return claimed

    def flush(self) -> None:
        """Wait until everything put before the call is in the index and synced; StorageFailed if the disk refuses."""
        with self._changed:
            goal = self._wanted = self._wanted + 1
            self.failure = None
            self._changed.notify_all()
            while self._flushed < goal:
                if self.failure is not None:
                    raise StorageFailed(f"the search index cannot be written: {self.failure}")
                if not self._thread.is_alive():
                    raise StorageFailed("the search index is closed")
                self._changed.wait(1.0)

    def hasten(self) -> None:
        """Begins a flush without waiting for it."""
        with self._changed:
            self._wanted += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Flush and stop. What the disk refuses now is put again after the next start: its marker stays behind."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    # The rest runs in the background thread, the only one that writes files.

    def _touch(self) -> None:
        if self._since is None:
            self._since = time.monotonic()
            self._changed.notify_all()
        elif self._tail.count >= self._batch:
            self._changed.notify_all()

    def _wait(self) -> None:
        while not (self._stopping or self._broken or self._wanted > self._flushed):
            left = None if self._since is None else self._since + self._interval - time.monotonic()
            if left is not None and (left <= 0 or self._tail.count >= self._batch):
                return
            self._changed.wait(left)

    def _run(self) -> None:
        try:
            self._segments.check()
        except (OSError, ValueError) as error:
            self._spoil(error)
        while True:
            with self._changed:
                self._wait()
                stopping, goal = self._stopping, self._wanted
            done = self._turn() or (self.failure is None and self._turn())
            with self._changed:
                if done:
                    self._flushed = max(self._flushed, goal)
                self._changed.notify_all()
                if stopping:
                    return
                if not done and not self._stopping:
                    self._changed.wait(self._interval)
            self._tidy()

    def _turn(self) -> bool:
        """One flush. False when it did not get through; nothing is lost then.

        `failure` is set if the disk is the reason; else the index was damaged and the next turn starts an empty one.
        """
        try:
            if self._broken:
                self._renew()
            with self._changed:
                self._flushing, self._tail, self._since = self._tail, _Layer(), None
            if self._flushing:
                self._write(self._flushing)
            with self._changed:
                self._flushing = _Layer()
        except Exception as error:  # noqa: BLE001  damaged files raise anything; what waits for the index stays in memory
            with self._changed:
                self._flushing.update(self._tail)
                self._tail, self._flushing = self._flushing, _Layer()
                self._since = time.monotonic()
                if isinstance(error, OSError) and error.errno in _PASSING:
                    self.failure = str(error)
                else:
                    self._spoil(error)
            return False
        with self._changed:
            self.failure = None
        return True

    def _tidy(self) -> None:
        """The merges that have become due; they give way to a flush and to a stop."""
        try:
            while not self._broken and self._tail.count < self._batch and self._segments.merge(lambda: self._stopping):
                pass
        except Abandoned:
            return
        except Exception as error:  # noqa: BLE001  as in _turn
            if isinstance(error, OSError) and error.errno in _PASSING:
                self.failure = str(error)
            else:
                self._spoil(error)

    def _write(self, layer: _Layer) -> None:
        segments = self._segments
        # Markers go before their documents do: a kill between the two must not leave a marker alone.
        segments.unmark(layer.forgotten)
        if layer.docs or layer.forgotten:
            segments.write(layer.documents(), layer.keys(), map(_short, layer.forgotten))
        with self._changed:
            if self._broken:
                raise RuntimeError(self.damage)  # a reader met damage meanwhile: nothing may be marked
            marks = dict(layer.marks)
        segments.mark(marks)

    def _spoil(self, error: BaseException) -> None:
        """The index is worthless: nothing is read from it any more, and the thread will make a new one."""
        with self._changed:
            self.damage = f"{type(error).__name__}: {error}"
            self.rebuild_needed = True
            self._broken = True
            for layer in (self._flushing, self._tail):
                layer.marks.clear()
            self._changed.notify_all()

    def _renew(self) -> None:
        self._segments.renew()
        with self._changed:
            self._broken = False
