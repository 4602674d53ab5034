"""The text of contents: plain text at once, other formats when a child process has read them.

A document whose text is not there yet is put without it, and put again with it, unless something else was put in its
place meanwhile. Whatever a document does to the child, the store goes on, and that document has no text.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from gitstore.bounded import Bounded
from gitstore.errors import Damaged, GitstoreError, NotFound
from gitstore.extraction.child import Child
from gitstore.extraction.forms import INPUT_MAX, TEXT_MAX, Extracted, Indexed, blob_of, form, key, plain
from gitstore.extraction.kept import Entry, Kept, Waiting
from gitstore.extraction.worker import Result
from gitstore.model import Artifact
from gitstore.search.documents import Document, Kind

log = logging.getLogger("gitstore.extraction")

_PLAIN_BYTES: Final = 16 << 20  # of plain texts that stay in memory, for the passages that searches show
_LULL: Final = 2.0  # seconds without work until the index is asked to write what was put
_FLUSH: Final = 500  # documents after which it is asked all the same
_IDLE: Final = 30.0  # seconds without work until the child is ended
_RETRY: Final = 5.0  # and until something that failed through no fault of a document is tried again


Read = Callable[[str, int], bytes]
"""The first so many bytes of the content of a blob."""


class Index(Protocol):
    """What documents are put into."""

    def put(self, workspace: str, document: Document, /) -> None:
        """Make a document findable, in place of what was put under its kind and id before."""

    def remove(self, workspace: str, kind: Kind, id_: str, /) -> None:
        """The document is found no more."""

    def forget(self, workspace: str, /) -> None:
        """Nothing of the workspace is found any more."""

    def flush(self) -> None:
        """Wait until everything put before the call is on disk."""


class Extraction:
    """The texts of one store. All methods may be called from any thread.

    `read` gives the first so many bytes of the content of a workspace's blob (NotFound where that is gone). Nothing is
    read in the background before `start`. Raises StorageFailed where the file of kept texts cannot be opened.
    """

    def __init__(
        self, path: Path, index: Index, read: Callable[[str, str, int], bytes], *, child: Child | None = None
    ) -> None:
        self._kept = Kept(path)
        self._index = index
        self._read = read
        self._child = child if child is not None else Child()
        self._lock = threading.RLock()  # around what waits and what is put: a text must not come after its document
        self._put = 0  # the number of the last entry that was put with its text
        self._safe = 0  # and of the last that the index has on disk: up to there nothing waits any more
        self._plain: Bounded[tuple[str, str], Extracted] = Bounded("plain texts", _PLAIN_BYTES)
        self._work = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="extract", daemon=True)
        self.opened_empty = self._kept.opened_empty

    # -- texts ----------------------------------------------------------------------------------------------------

    def of(self, content_type: str, blob: str, read: Read) -> Extracted:
        """The text of a blob; `pending`, and without a text, where it was not read yet."""
        how = form(content_type)
        if how is None:
            return Extracted("", "none")
        known = key(content_type, blob)
        if how != "text":
            return self._kept.text(known, how) or Extracted("", "pending")
        if (remembered := self._plain.get((content_type, blob))) is not None:
            return remembered
        try:
            data = read(blob, TEXT_MAX + 1)
        except Damaged as error:
            # One content that is lost must not take the rest of its workspace with it; `verify` tells of it.
            log.error("the content %s cannot be read, and has no text for search: %s", blob, error)
            return Extracted("", "none")
        found = plain(content_type, data)
        self._plain.put((content_type, blob), found, len(data) + 200)
        if found.indexed == "none" and (known, how) not in self._kept.indexed([known]):
            self._kept.keep(known, how, found)  # its type says otherwise, so it is remembered for `indexed`
        return found

    def indexed(self, contents: Sequence[tuple[str, str, int]]) -> list[Indexed]:
        """How far search has the texts of (content type, blob, size in bytes), without reading any."""
        read = [self._plain.get((content_type, blob)) for content_type, blob, _ in contents]
        asked = [
            key(content_type, blob)
            for (content_type, blob, _), text in zip(contents, read, strict=True)
            if text is None and form(content_type) is not None
        ]
        known = self._kept.indexed(asked)
        found: list[Indexed] = []
        for (content_type, blob, size), text in zip(contents, read, strict=True):
            how = form(content_type)
            if text is not None:
                found.append(text.indexed)
            elif how is None:
                found.append("none")
            elif (kept := known.get((key(content_type, blob), how))) is not None:
                found.append(kept)
            elif how != "text":
                found.append("pending")
            else:
                found.append("full" if size <= TEXT_MAX else "partial")
        return found

    def tell(self, rows: Sequence[dict[str, Any]], artifacts: Sequence[Artifact | None]) -> None:
        """Says in rows (JSON) of artifacts how far search has each content, as `content_indexed`."""
        known = [(row, found) for row, found in zip(rows, artifacts, strict=True) if found is not None]
        indexed = self.indexed([(one.content_type, one.blob, one.size) for _, one in known])
        for (row, _), how in zip(known, indexed, strict=True):
            row["content_indexed"] = how

    def lose(self, gone: Callable[[set[bytes]], Iterable[bytes]]) -> None:
        """Keeps no text any more of the blobs that `gone` picks out of all that there are texts of.

        Raises StorageFailed, and what `gone` raises.
        """
        keys: dict[bytes, list[str]] = {}
        for one in self._kept.known():
            keys.setdefault(blob_of(one), []).append(one)
        self._kept.lose(one for blob in gone(set(keys)) for one in keys[blob])

    def reader(self, read: Read) -> Reader:
        """What gives the text of one document's content, and says whether it has to be waited for."""
        return Reader(self, read)

    # -- documents ------------------------------------------------------------------------------------------------

    def put(self, workspace: str, document: Document, waiting: Waiting | None) -> None:
        """Puts a document. With `waiting` it has no text of its content yet, and is put again when there is one."""
        with self._lock:
            if waiting is not None:
                self._kept.wait(workspace, document, waiting)
                self._work.set()
            else:
                self._kept.drop(workspace, document.kind, document.id)
            self._index.put(workspace, document)

    def remove(self, workspace: str, kind: Kind, id_: str) -> None:
        """Removes a document."""
        with self._lock:
            self._kept.drop(workspace, kind, id_)
            self._index.remove(workspace, kind, id_)

    def forget(self, workspace: str) -> None:
        """Removes everything of a workspace."""
        with self._lock:
            self._kept.forget(workspace)
            self._index.forget(workspace)

    # -- in the background ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with what waits."""
        self._work.set()
        self._thread.start()

    def pause(self) -> None:
        """Read nothing more: what waits, and what is still put, is read after the next start."""
        self._stop.set()  # first: who clears the other looks at this one before it waits
        self._work.set()
        self._child.kill()
        if self._thread.ident is not None:
            self._thread.join()

    def stop(self) -> None:
        """End, in the midst of a document if need be."""
        self.pause()
        self._kept.close()

    @property
    def backlog(self) -> int:
        """How many documents wait for their text."""
        return self._kept.count(self._put)

    @property
    def waiting(self) -> int:
        """How many are kept for the next start, because their text is not read or not on disk."""
        return self._kept.count(0)

    @property
    def process(self) -> int | None:
        """The id of the child process, while there is one."""
        return self._child.pid

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._work.clear()
                try:
                    while not self._stop.is_set() and (entry := self._kept.next(self._put)) is not None:
                        self._one(entry)
                        if self._put - self._safe >= _FLUSH:
                            self._settle()
                    if self._safe < self._put and not self._stop.is_set() and not self._work.wait(_LULL):
                        self._settle()
                except Exception as error:
                    # Whatever it is, without this thread every document would wait for its text until the next start.
                    expected = isinstance(error, (GitstoreError, OSError))
                    log.warning("texts cannot be extracted now, it is tried again: %s", error, exc_info=not expected)
                    self._stop.wait(_RETRY)
                    continue
                if self._safe == self._put and not self._stop.is_set() and not self._work.wait(_IDLE):
                    self._child.close()
                    self._work.wait()
        finally:
            self._child.close()

    def _one(self, entry: Entry) -> None:
        waiting, document = entry.waiting, entry.document
        known = key(waiting.content_type, waiting.blob)
        found = self._kept.text(known, waiting.form)
        if found is None:
            try:
                data = self._read(entry.workspace, waiting.blob, INPUT_MAX + 1)
            except NotFound:  # the workspace was deleted meanwhile
                self._put = entry.number
                return
            except Damaged as error:
                log.error("the content of %s %s cannot be read: %s", document.kind, document.id, error)
                self._put = entry.number
                return
            found = self._extracted(entry, data)
            if self._stop.is_set():
                return  # the process was ended: that says nothing of the document
            self._kept.keep(known, waiting.form, found)
        text = f"{document.text}\n{found.text}" if document.text and found.text else document.text or found.text
        with self._lock:
            if self._kept.waits(entry.number):
                self._index.put(entry.workspace, msgspec.structs.replace(document, text=text))
        self._put = entry.number

    def _settle(self) -> None:
        """What was put is on disk, and waits no more. Raises StorageFailed."""
        done = self._put
        self._index.flush()
        self._kept.done(done)
        self._safe = done

    def _extracted(self, entry: Entry, data: bytes) -> Extracted:
        waiting = entry.waiting
        if len(data) > INPUT_MAX:
            return Extracted("", "none")
        result: Result = self._child.extract(waiting.form, waiting.content_type, data)
        if result.failure is not None:
            log.info(
                "%s %s of workspace %s has no text that can be read: %s",
                entry.document.kind, entry.document.id, entry.workspace, result.failure,
            )  # fmt: skip
        return result.extracted


class Reader:
    """Gives the text of one document's content. `waiting`: what it waits for; None where it has what there is."""

    def __init__(self, extraction: Extraction, read: Read) -> None:
        self._extraction = extraction
        self._read = read
        self.waiting: Waiting | None = None

    def __call__(self, content_type: str, blob: str) -> str:
        """The searchable text; empty where there is none, or none yet."""
        found = self._extraction.of(content_type, blob, self._read)
        how = form(content_type)
        if found.indexed == "pending" and how is not None:
            self.waiting = Waiting(blob, how, content_type)
        return found.text
