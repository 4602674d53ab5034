"""The index in the search process: segments on disk, the tail that is being flushed, the tail that grows.

One thread serves it. Whatever takes long and only reads (flushes, merges, the look at the sums) runs in a forked child;
what the child wrote is taken in when it has ended. Where segments are found damaged, the workspaces that have documents
in them are dropped; whatever else goes wrong with the files, the folder is begun anew. `lost` is told, and the store
then feeds that again. Nothing here is ever the only copy of anything.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from gitstore.search.documents import Document
from gitstore.search.rows import Key, digest
from gitstore.search.segments import Broken, Leaf, Segments, passing
from gitstore.search.tail import Tail

_BATCH_BYTES = 8 << 20  # of words in a tail; in memory they may be thirty times that
_NICE = 5  # how much a flush gives way to answers
_NICE_MERGE = 10


Part = Leaf | Tail


class _Result(msgspec.Struct, array_like=True):
    """How a child ended."""

    state: Literal["done", "refused", "damaged", "gone"]
    text: str = ""
    segments: list[str] = []  # those that are damaged, where that is known


class _Job:
    """A child at work. Its end shows in `pipe`."""

    def __init__(self, kind: str, work: Callable[[Callable[[], None]], None], nice: int, close: Sequence[int]) -> None:
        self.kind = kind
        self.pipe, out = os.pipe()
        parent = os.getpid()
        gc.freeze()  # so that the collector does not write into every page that the two share
        self.pid = os.fork()
        if self.pid:
            os.close(out)
            return
        status = 1
        try:
            for descriptor in close:
                os.close(descriptor)
            os.nice(nice)

            def step() -> None:
                if os.getppid() != parent:
                    os._exit(1)

            os.write(out, msgspec.msgpack.encode(_run(work, step)))
            status = 0
        finally:
            os._exit(status)

    def result(self) -> _Result:
        """Waits for the child. It must have been seen to end, or to be ending."""
        data = b""
        while piece := os.read(self.pipe, 65_536):
            data += piece
        os.close(self.pipe)
        os.waitpid(self.pid, 0)
        return msgspec.msgpack.decode(data, type=_Result) if data else _Result("gone", f"the {self.kind} was killed")


def _run(work: Callable[[Callable[[], None]], None], step: Callable[[], None]) -> _Result:
    try:
        work(step)
    except Broken as error:
        return _Result("damaged", str(error), error.segments)
    except Exception as error:  # noqa: BLE001  damaged files raise anything; the answer is an index begun anew
        return _Result("refused" if passing(error) else "damaged", f"{type(error).__name__}: {error}")
    return _Result("done")


class Events(Protocol):
    """Who is told what becomes of the index."""

    def flushed(self, number: int, /) -> None:
        """The changes up to this number are on disk."""

    def failed(self, text: str, /) -> None:
        """The disk refused."""

    def lost(self, damage: str, workspaces: list[str] | None, /) -> None:
        """Nothing of these workspaces is in the index any more; None: it was begun anew."""


class Index:
    """Opens the index in a folder. `batch` documents or `interval` seconds, whichever comes first, start a flush.

    `close` are file descriptors that a child must not keep. Raises OSError where the folder can be neither opened nor
    made anew.
    """

    def __init__(self, folder: Path, events: Events, *, batch: int, interval: float, close: Sequence[int] = ()) -> None:
        self.damage: str | None = None
        self.missing: list[str] | None = None  # the workspaces that were dropped at the opening; None: all
        self.codes: dict[str, int] = {}
        self.names: list[str] = []
        self.changes = 0  # the number of the last change that was handled
        self.segments = Segments(folder, self.code)
        self.tail = Tail()
        self.flushing: Tail | None = None
        self.version = 0  # counts up when the parts are others
        self.epoch = 0
        self._events = events
        self._batch = batch
        self._interval = interval
        self._close = close
        self._since: float | None = None
        self._again = 0.0  # no flush before that, after a failure
        self._wanted = False
        self._reached = 0  # the last change that the flush under way has
        self._seek: list[Key] = []
        self._alive: dict[int, npt.NDArray[np.bool_]] = {}
        self.job: _Job | None = None
        self._merging: list[Leaf] = []
        self._check = True
        self._due: list[Leaf] = []
        try:
            self.segments.open()
        except Broken as error:
            self.damage = str(error)
            self._drop(error.segments)
        except Exception as error:
            if passing(error):
                raise
            self.damage = f"{type(error).__name__}: {error}"
            self.segments.renew()
        self._due = self.segments.due()

    def _drop(self, segments: list[str]) -> None:
        """Does without segments that are found damaged at the opening. Raises OSError where the disk refuses."""
        try:
            self.missing = sorted(self.segments.drop(segments))
        except Exception as error:
            # As in __init__: what is damaged raises anything, and nothing of it is worth keeping.
            if passing(error):
                raise
            self.damage = f"{self.damage}; {type(error).__name__}: {error}"
            self.segments.renew()

    def code(self, workspace: str) -> int:
        """The number of a workspace, in this process."""
        found = self.codes.get(workspace)
        if found is None:
            found = self.codes[workspace] = len(self.names)
            self.names.append(workspace)
        return found

    # -- changes --------------------------------------------------------------------------------------------------

    def put(self, workspace: str, document: Document) -> None:
        """A document, in place of what was put under its key before."""
        key = (workspace, document.kind, document.id)
        if key not in self.tail.numbers:
            self._seek.append(key)
        self.tail.put(key, self.code(workspace), document)
        self._touch()

    def remove(self, key: Key) -> None:
        """A document is there no more."""
        self.tail.kill(key)
        self._seek.append(key)
        self._touch()

    def forget(self, workspace: str) -> None:
        """Nothing of a workspace is there any more, and it has no marker."""
        self._settled()
        self.tail.forget(workspace)
        if self.flushing is not None:
            for number in self.flushing.of.get(workspace, ()):
                self.flushing.kill(self.flushing.keys[number])
        for leaf in self.segments.leaves:
            leaf.forget(workspace)
        self._touch()

    def mark(self, workspace: str, branch: str, commit: str) -> None:
        """Everything of a branch up to a commit was put."""
        self.tail.marks[f"{workspace} {branch}"] = commit
        self._touch()

    def _touch(self) -> None:
        if self._since is None:
            self._since = time.monotonic()

    def settle(self) -> None:
        """The documents that were put again or removed die where they were before."""
        seek = self._seek
        if not seek:
            return
        if self.flushing is not None:
            for key in seek:
                self.flushing.kill(key)
        if self.segments.leaves:
            digests = np.fromiter(map(digest, seek), np.uint64, len(seek))
            for leaf in self.segments.leaves:
                for place, number in leaf.rows.find(digests):
                    if leaf.live[number] and leaf.key(number) == seek[place]:
                        leaf.kill(number)
        self._seek = []  # last: where memory ran out half-way, they are sought again

    @property
    def parts(self) -> list[Part]:
        """Everything there is to look in."""
        self.settle()
        tails = (self.flushing, self.tail) if self.flushing is not None else (self.tail,)
        return [*self.segments.leaves, *tails]

    # -- the disk -------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Begin a flush as soon as can be."""
        self._wanted = True
        self._again = 0.0

    def wait(self) -> float | None:
        """The seconds until `turn` has something to do, if nothing else happens; None: nothing."""
        if self.job is not None:
            return None
        if self._check or self._due:
            return max(0.0, self._again - time.monotonic())
        if self._since is None and not self._wanted:
            return None
        now = time.monotonic()
        ready = self._since is None or self._wanted or self._full
        at = now if ready or self._since is None else self._since + self._interval
        return max(0.0, self._again - now, at - now)

    @property
    def _full(self) -> bool:
        return self.tail.count >= self._batch or self.tail.bytes >= _BATCH_BYTES

    def turn(self) -> None:
        """Begin what is due. Call it when `wait` is over."""
        if self.job is not None:
            return
        now = time.monotonic()
        due = self._since is not None and (now - self._since >= self._interval or self._full)
        if (due or self._wanted) and now >= self._again:
            self._wanted = False
            self._begin_flush()
        elif now < self._again:
            return
        elif self._check:
            self._check = False
            self.job = _Job("check", lambda _: self.segments.check(), _NICE_MERGE, self._close)
        elif self._due:
            chosen, self._due = self._due, []
            if not self._settled():
                return
            forgotten = set(self.tail.forgotten)
            self._merging = chosen
            self._alive = {id(leaf): leaf.live.copy() for leaf in chosen}
            work = partial(self.segments.merge, chosen, forgotten)
            self.job = _Job("merge", work, _NICE_MERGE, self._close)

    def _begin_flush(self) -> None:
        if self._since is None:
            self._events.flushed(self.changes)
            return
        if not self._settled():
            return
        tail = self.flushing = self.tail
        self.tail, self._since, self._reached = Tail(), None, self.changes
        self._alive = {id(tail): tail.live}
        self.version += 1
        self.job = _Job("flush", lambda step: self.segments.flush(tail, step), _NICE, self._close)

    def ended(self) -> None:
        """The child has ended: take in what it wrote."""
        assert self.job is not None
        job, self.job = self.job, None
        result = job.result()
        try:
            if result.state == "done" and job.kind != "check":
                self._take_in(job.kind)
        except Exception as error:  # noqa: BLE001  as in __init__
            result = _Result("damaged", f"{type(error).__name__}: {error}")
        if result.state == "damaged" and result.segments:
            self._lose(result.text, result.segments)
        elif result.state == "damaged":
            self.spoil(result.text)
        elif result.state != "done":
            self._put_back(job.kind)
            self._again = time.monotonic() + self._interval
            if result.state == "refused":
                self._events.failed(result.text)
        elif job.kind == "flush":
            self._events.flushed(self._reached)

    def _take_in(self, kind: str) -> None:
        old: list[Part] = [*self._merging] if kind == "merge" else [self.flushing] if self.flushing else []
        self.settle()
        new = self.segments.refresh()
        dead: list[Key] = []
        for part in old:  # what died while the child was at work is alive in what it wrote
            dead += (part.key(int(at)) for at in np.flatnonzero(self._alive[id(part)] & ~part.live))
        digests = np.fromiter(map(digest, dead), np.uint64, len(dead))
        for leaf in new:
            for place, number in leaf.rows.find(digests):
                if leaf.key(number) == dead[place]:
                    leaf.kill(number)
        self._alive, self._merging = {}, []
        if kind == "flush":
            self.flushing = None
        self._due = self.segments.due()
        self.version += 1

    def _put_back(self, kind: str) -> None:
        """A flush did not get through: its tail is kept, before what came since. Nothing is lost."""
        self._alive, self._merging = {}, []
        if kind != "flush" or self.flushing is None:
            return
        old, new = self.flushing, self.tail
        for key in self._seek:
            old.kill(key)
        self.tail = old.and_then(new)
        self.flushing = None
        self._since = time.monotonic()
        self.version += 1

    def _lose(self, damage: str, segments: list[str]) -> None:
        """Some segments were found damaged: their workspaces are dropped, and fed again."""
        try:
            lost = self.segments.drop(segments, self.tail.forgotten)
        except Exception as error:  # noqa: BLE001  as in __init__
            if passing(error):
                self._events.failed(f"{type(error).__name__}: {error}")
                self._check, self._again = True, time.monotonic() + self._interval
            else:
                self.spoil(f"{damage}; {type(error).__name__}: {error}")
            return
        self.damage = damage
        for name in [name for name in self.tail.marks if name.split(" ", 1)[0] in lost]:
            del self.tail.marks[name]
        self._due = self.segments.due()
        self.epoch += 1
        self.version += 1
        self._events.lost(damage, sorted(lost))

    def _settled(self) -> bool:
        """Settles; False where that met damage, and nothing is left."""
        try:
            self.settle()
        except Exception as error:
            # Damaged rows raise anything; passed on, it would end every search process that is told the same changes.
            if passing(error):
                raise
            self.spoil(f"{type(error).__name__}: {error}")
            return False
        return True

    def spoil(self, damage: str) -> None:
        """The index is worthless: nothing is read from it any more, and a new one begins."""
        if self.job is not None:
            self.stop_job()
        self.damage = damage
        self._put_back("flush")
        self.tail.marks.clear()
        self._seek, self._due, self._check = [], [], False
        self.epoch += 1
        self.version += 1
        failure = None
        try:
            self.segments.renew()
        except OSError as error:
            failure = str(error)
        self._events.lost(damage, None)
        if failure is not None:
            self._events.failed(failure)

    def stop_job(self) -> None:
        """End the child; what it was at is as if it had not begun."""
        if self.job is not None:
            job, self.job = self.job, None
            os.kill(job.pid, 9)
            job.result()
            self._put_back(job.kind)
