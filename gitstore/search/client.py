"""The search of one store, as its process sees it: changes are handed over, questions are answered, by a process aside.

A change is never waited for, unless very many are on their way to the disk. What is not on disk yet is remembered here
and told again when the search process dies, so that a death costs a moment and no document. The marker of a branch is
the commit up to which everything was put; on disk it is never ahead of the index. Where the index itself was lost,
`rebuild_needed` says that everything has to be fed again, and `missing` which workspaces, where it was a part of it.
Nothing here is ever the only copy of anything.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from gitstore.errors import Away, GitstoreError, StorageFailed, TooSlow
from gitstore.search import messages, state
from gitstore.search.documents import Document, Hits, Kind, Order
from gitstore.search.lock import hold
from gitstore.search.messages import Message
from gitstore.search.query import Phrase, Prefix, Query, Word
from gitstore.search.ready import ready

LIMIT: Final = 2.0
"""Seconds that a question may take."""
WAITING_MAX: Final = 100_000
"""Documents that may wait for the disk; beyond, a change waits."""
WAITING_BYTES_MAX: Final = 128 << 20
_GATHERED_MAX: Final = 1 << 20  # bytes of changes that are sent together
_START: Final = 1.0  # seconds after which the process is started though nobody asked
_STOP: Final = 3.0  # seconds for what is flushed at the end
_SLACK: Final = 0.5  # seconds by which an answer may be late before nobody waits for it any more
_ROOT: Final = str(Path(__file__).resolve().parents[2])
_CODE: Final = (
    "import os,sys; os.environ['OPENBLAS_NUM_THREADS']='1'; sys.path.insert(0,sys.argv[1]);"
    "from gitstore.searching import main; main(int(sys.argv[2]),sys.argv[3])"
)
log = logging.getLogger("gitstore.search")


def begin(descriptor: int, options: str) -> subprocess.Popen[bytes]:
    """Starts the process: it serves the socket with this descriptor."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _CODE, _ROOT, str(descriptor), options],
        pass_fds=(descriptor,),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is for the store, which then stops this one
    )


class _Question:
    """A question under way."""

    def __init__(self, frame: bytes, deadline: float) -> None:
        self.frame = frame
        self.deadline = deadline
        self.done = threading.Event()
        self.body: bytes | None = None
        self.error: GitstoreError | None = None


class Search:
    """The index of one store, in one folder of its own. All methods may be called from any thread.

    `catalog` is the database that the explorer's part of the search process reads. `batch` documents or `interval`
    seconds, whichever comes first, start a flush. `damage` says why the index was last thrown away, `failure` why the
    last flush did not get through. Raises StorageFailed where the folder cannot be made, or is not let go of.
    """

    def __init__(
        self,
        folder: Path,
        *,
        catalog: Path | None = None,
        batch: int = 1000,
        interval: float = 5.0,
        limit: float = LIMIT,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self.limit = limit
        self.rebuild_needed = False
        self.missing: frozenset[str] = frozenset()
        self.damage: str | None = None
        self.failure: str | None = None
        self.restarts = 0
        self._folder = folder
        self._batch = batch
        self._waiting_max = waiting_max
        self._options = msgspec.json.encode(
            {
                "folder": str(folder.absolute()),
                "catalog": str(catalog.absolute()) if catalog is not None else None,
                "batch": batch,
                "interval": interval,
            }
        ).decode()
        self._changed = threading.Condition(threading.RLock())
        self._log: deque[tuple[bytes, int, bool]] = deque()  # changes that are not on disk; 1 for a document; a mark?
        self._number = 0  # of the last change
        self._durable = 0  # of the last change that is on disk
        self._backlog = 0
        self._bytes = 0
        self._epoch = 0  # how often something of the index was lost,
        self._renewals = 0  # and all of it
        self._questions: dict[int, _Question] = {}
        self._asked = 0
        self._out = bytearray()
        self._gathering = 0  # how many are under way
        self._gathered = bytearray()
        self._ready = False
        self._wanted = False
        self._stopping = False
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._markers: dict[str, str] = {}
        self._id: str | None = None  # of the state of the index, as far as was heard
        try:
            self._markers, self._id = _known(folder)
        except OSError as error:
            raise StorageFailed(f"the search index in {folder} cannot be opened: {error}") from error
        self._wake, self._woken = socket.socketpair()
        for one in (self._wake, self._woken):
            one.setblocking(False)
        self._opened = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # -- changes --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is changed inside goes to the process in one piece, at the end or before whatever else is asked of it.

        Every piece wakes the process, and sending one lets go of the interpreter's lock.
        """
        with self._changed:
            self._gathering += 1
        try:
            yield
        finally:
            with self._changed:
                self._gathering -= 1
                if not self._gathering:
                    self._send(b"")

    def put(self, workspace: str, document: Document) -> None:
        """Make a document findable, in place of what was put under its kind and id before. At once, durably later.

        Waits only while very many documents are not on disk yet.
        """
        self._change(messages.Put(workspace, document), 1)

    def remove(self, workspace: str, kind: Kind, id_: str) -> None:
        """The document is found no more."""
        self._change(messages.Remove(workspace, kind, id_), 1)

    def forget(self, workspace: str) -> None:
        """Nothing of the workspace is found any more, and it has no marker: the way to begin it anew."""
        with self._changed:
            for name in [name for name in self._markers if name.startswith(workspace + " ")]:
                del self._markers[name]
            self._change(messages.Forget(workspace))

    def mark(self, workspace: str, branch: str, commit: str, previous: str | None) -> bool:
        """Everything of a branch up to `commit` was put, given that everything up to `previous`, the marker, was.

        False, and nothing is marked, when `previous` is not the marker, or what was put before was lost meanwhile and
        `claim_rebuild` or `claim` was not called yet, so that the claim would not hold.
        """
        with self._changed:
            if self.rebuild_needed or workspace in self.missing or self.marker(workspace, branch) != previous:
                return False
            self._markers[f"{workspace} {branch}"] = commit
            self._change(messages.Mark(workspace, branch, commit, self._epoch))
            return True

    def marker(self, workspace: str, branch: str) -> str | None:
        """The commit up to which everything of a branch is findable, counting what is still in memory."""
        with self._changed:
            return self._markers.get(f"{workspace} {branch}")

    def workspaces(self) -> set[str]:
        """The workspaces that have a marker."""
        with self._changed:
            return {name.split(" ", 1)[0] for name in self._markers}

    def tell(self, name: str, body: bytes) -> None:
        """Tell something to another part of the search process, in order with all else; lost where it is away."""
        with self._changed:
            if self._ready:
                self._pass_on(messages.frame(messages.Tell(name, body)))

    # -- questions ------------------------------------------------------------------------------------------------

    def query(
        self,
        workspaces: Sequence[str] | None,
        query: Query,
        *,
        kinds: Sequence[Kind] | None = None,
        sort: Order = "relevance",
        offset: int = 0,
        limit: int = 20,
        now: int = 0,
        deadline: float | None = None,
    ) -> Hits:
        """The documents of these workspaces (None: of all) that match, best first, then newest, then by key.

        Every document put before the call is seen. `Hits.total` and the counts are exact, over all that matched, also
        where the page is empty; `Hits.kinds` counts as if `kinds` had not been given. Pages do not overlap as long as
        nothing changes. Artifacts that have expired at `now` (ms) are left out. `deadline` is in seconds from now, at
        most and by default `self.limit`.
        Raises TooSlow (SERVICE_UNAVAILABLE) at the deadline, Invalid where a `word*` stands for too many words,
        StorageFailed where the index was just found damaged: it is made again, and the same call succeeds later.
        """
        asked = (
            list(workspaces) if workspaces is not None else None,
            query,
            list(kinds) if kinds is not None else None,
            sort,
            offset,
            limit,
            now,
        )
        body = self.ask("query", msgspec.msgpack.encode(asked), deadline)
        return msgspec.msgpack.decode(body, type=Hits)

    def having(self, workspace: str, node: Word | Phrase | Prefix) -> set[str]:
        """The ids of the workspace's artifacts whose content has a word, a phrase, or a word that begins so."""
        body = self.ask("having", msgspec.msgpack.encode((workspace, node)))
        return set(msgspec.msgpack.decode(body, type=list[str]))

    def ask(self, name: str, body: bytes, deadline: float | None = None, *, patience: float | None = None) -> bytes:
        """The answer of a part of the search process. Raises what `query` raises.

        Where the process is away (it starts, or just died) it is waited for until the deadline, or for `patience`
        seconds, and then Away is raised.
        """
        ends = time.monotonic() + (deadline if deadline is not None else self.limit)
        if not self._ready:
            self._await(ends if patience is None else min(ends, time.monotonic() + patience))
        with self._changed:
            self._asked += 1
            number = self._asked
            asked = _Question(messages.frame(messages.Ask(number, name, ends, body)), ends)
            self._questions[number] = asked
            if self._ready:
                self._send(asked.frame)
        try:
            if not asked.done.wait(max(0.0, ends + _SLACK - time.monotonic())):
                raise TooSlow("the search took too long and was given up; try again")
        finally:
            with self._changed:
                self._questions.pop(number, None)
        if asked.error is not None:
            raise asked.error
        assert asked.body is not None
        return asked.body

    def _await(self, until: float) -> None:
        if self._stopping:
            raise StorageFailed("the search index is closed")
        self.start()
        with self._changed:
            while not self._ready:
                left = until - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    raise Away("the search process is not there now; try again")
                self._changed.wait(left)

    # -- how it is ------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the search process is there."""
        return self._ready

    @property
    def losses(self) -> int:
        """How often the index was lost. An answer between two looks at the same number is of a whole index."""
        return self._epoch

    @property
    def process(self) -> int | None:
        """The id of the search process, while there is one."""
        process = self._process
        return process.pid if process is not None else None

    @property
    def backlog(self) -> int:
        """How many documents are not on disk yet."""
        return self._backlog

    def start(self) -> None:
        """Start the search process now; a second after opening it starts by itself."""
        if not self._wanted:
            with self._changed:
                self._wanted = True
                self._rouse()

    def claim_rebuild(self) -> bool:
        """True once after the index was lost: the caller now feeds every workspace from nothing (no marker is left)."""
        with self._changed:
            claimed, self.rebuild_needed = self.rebuild_needed, False
            return claimed

    def claim(self, missing: frozenset[str]) -> None:
        """The caller now feeds these of the `missing`, which were lost with a part of the index, from nothing."""
        with self._changed:
            self.missing -= missing

    def renew(self) -> None:
        """Throw the index away and begin a new one; `rebuild_needed` then says that everything has to be fed again."""
        self._await(time.monotonic() + 30.0)
        with self._changed:
            losses = self._renewals
            self._send(messages.frame(messages.Renew()))
            while self._renewals == losses and self._thread.is_alive() and not self._stopping:
                self._changed.wait(1.0)

    def proofs(self) -> dict[str, dict[tuple[Kind, str], int | None]]:
        """What the index holds, by workspace and key: see `stamps.proof`; None where its own files disagree on it."""
        body = self.ask("proofs", b"", 3600.0)
        held: dict[str, dict[tuple[Kind, str], int | None]] = {}
        for workspace, kind, id_, proof in msgspec.msgpack.decode(body, type=list[tuple[str, Kind, str, int | None]]):
            held.setdefault(workspace, {})[kind, id_] = proof
        return held

    def flush(self) -> None:
        """Wait until everything put before the call is in the index and synced; StorageFailed if the disk refuses."""
        self._await(time.monotonic() + 30.0)
        with self._changed:
            goal, losses = self._number, self._renewals
            self.failure = None
            self._send(messages.frame(messages.Flush()))
            while self._durable < goal and losses == self._renewals:
                if self.failure is not None:
                    raise StorageFailed(f"the search index cannot be written: {self.failure}")
                if not self._thread.is_alive() or self._stopping:
                    raise StorageFailed("the search index is closed")
                self._changed.wait(1.0)

    def hasten(self) -> None:
        """Begins a flush without waiting for it."""
        with self._changed:
            if self._ready:
                self._send(messages.frame(messages.Flush()))

    def close(self) -> None:
        """Flush for some seconds and stop. What did not reach the disk is put again after the next start."""
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            if self._ready:
                self._send(messages.frame(messages.Stop(_STOP)))
            self._rouse()
            self._changed.notify_all()
        self._thread.join()
        self._wake.close()
        self._woken.close()

    # -- the socket -----------------------------------------------------------------------------------------------

    def _change(self, message: Message, documents: int = 0) -> None:
        data = messages.frame(message)
        with self._changed:
            while documents and (self._backlog >= self._waiting_max or self._bytes > WAITING_BYTES_MAX):
                if self._stopping:
                    break
                self.start()
                self._send(b"")
                self._changed.wait(1.0)
            self._number += 1
            self._log.append((data, documents, isinstance(message, messages.Mark)))
            self._backlog += documents
            self._bytes += len(data)
            if self._ready:
                self._pass_on(data)
            elif self._backlog >= self._batch:
                self.start()

    def _pass_on(self, data: bytes) -> None:
        """Sends a change, or gathers it. The lock is held."""
        if self._gathering and len(self._gathered) < _GATHERED_MAX:
            self._gathered += data
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        """Sends what was gathered, then this. The lock is held."""
        if self._gathered:
            data = bytes(self._gathered) + data
            self._gathered.clear()
        if not data:
            return
        sent = 0
        if not self._out and self._socket is not None:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                return  # the process just died; the next one is told what has to be told
        if sent < len(data):
            self._out += data[sent:]
            self._rouse()

    def _rouse(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.send(b"\0")

    def _run(self) -> None:
        pause = 0.1
        while self._idle():
            began = time.monotonic()
            try:
                self._serve()
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                log.warning("the search process cannot be spoken to: %s", error)
            finally:
                self._end()
            if self._stopping:
                break
            self.restarts += 1
            self._wanted = False  # whoever asks from now on ends the pause
            log.warning("the search process ended; it is started again")
            pause = 0.1 if time.monotonic() - began > 10 else min(pause * 2, 5.0)
            self._pause(pause)
        with self._changed:
            for asked in self._questions.values():
                asked.error = Away("the store is closing")
                asked.done.set()
            self._changed.notify_all()

    def _idle(self) -> bool:
        """Waits for a reason to start the process; False where the end comes first."""
        while not (self._wanted or self._stopping):
            left = self._opened + _START - time.monotonic()
            if left <= 0:
                break
            self._pause(left)
        return not self._stopping

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            if ready([self._woken], [], left)[0]:
                self._drain()
                if self._wanted:
                    return

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass

    def _serve(self) -> None:
        """One search process, from its start to its end."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = begin(theirs.fileno(), self._options)
        self._socket = ours
        ours.setblocking(False)
        frames = messages.Frames()
        ends = 0.0
        while True:
            if self._stopping and not ends:
                ends = time.monotonic() + _STOP + 1.0
                if not self._ready:
                    return
            if ends and time.monotonic() > ends:
                return
            writing = [ours] if self._out else []
            readable, writable = ready([ours, self._woken], writing, 0.5 if ends else None)
            if self._woken in readable:
                self._drain()
            if writable:
                with self._changed:
                    if self._out:
                        del self._out[: ours.send(self._out[: 1 << 18])]
            if ours in readable:
                data = ours.recv(1 << 20)
                if not data:
                    return
                frames.feed(data)
                while (message := frames.next()) is not None:
                    self._hear(messages.from_worker.decode(message))

    def _end(self) -> None:
        """The process is gone, or is made to go."""
        with self._changed:
            was_ready, self._ready = self._ready, False
            self._out.clear()
            self._gathered.clear()
            ours, self._socket = self._socket, None
            process, self._process = self._process, None
        if ours is not None:
            ours.close()
        if process is not None:
            if not was_ready:
                process.kill()  # it has done nothing yet
            try:
                process.wait(_STOP if self._stopping else 1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _hear(self, message: Any) -> None:
        with self._changed:
            if isinstance(message, messages.Answer):
                if (asked := self._questions.get(message.number)) is not None:
                    asked.body = message.body
                    asked.done.set()
            elif isinstance(message, messages.Refusal):
                if (asked := self._questions.get(message.number)) is not None:
                    asked.error = message.error()
                    asked.done.set()
            elif isinstance(message, messages.Flushed):
                self._is_durable(message.number)
            elif isinstance(message, messages.Failed):
                self.failure = message.text
                log.warning("the search index cannot be written: %s", message.text)
                self._changed.notify_all()
            elif isinstance(message, messages.Lost):
                self._lost(message.damage, message.workspaces)
                self._id = message.id
            elif isinstance(message, messages.Hello):
                self._greet(message)

    def _greet(self, hello: messages.Hello) -> None:
        """The process has the index open: it is told what the one before it may not have brought to the disk."""
        if self._id is not None and hello.found != self._id:
            # One before it lost something, and died before that was heard.
            self._lost(hello.damage or "it is another one than it was", None)
        elif hello.damage is not None:
            self._lost(hello.damage, hello.workspaces)
        self._id = hello.id
        self._ready = True
        self._send(messages.frame(messages.Begin(self._durable, self._epoch)))
        for data, _, _ in self._log:
            self._send(data)
        for asked in self._questions.values():
            self._send(asked.frame)
        self._changed.notify_all()

    def _is_durable(self, number: int) -> None:
        while self._durable < number and self._log:
            data, documents, _ = self._log.popleft()
            self._durable += 1
            self._backlog -= documents
            self._bytes -= len(data)
        self.failure = None
        self._changed.notify_all()

    def _lost(self, damage: str, workspaces: list[str] | None) -> None:
        self.damage = damage
        self._epoch += 1
        if workspaces is None:
            log.warning("the search index was damaged and begins anew: %s", damage)
            self.rebuild_needed = True
            self._renewals += 1
            self._markers.clear()
        else:
            log.warning("the search index was damaged, %d workspaces are put there again: %s", len(workspaces), damage)
            self.missing |= set(workspaces)
            for name in [name for name in self._markers if name.split(" ", 1)[0] in self.missing]:
                del self._markers[name]
        # What a mark promised is gone, for the next process as well.
        nothing = messages.frame(messages.Mark("", "", "", -1))
        self._log = deque((nothing if mark else data, documents, mark) for data, documents, mark in self._log)
        self._bytes = sum(len(data) for data, _, _ in self._log)
        self._changed.notify_all()


def _known(folder: Path) -> tuple[dict[str, str], str | None]:
    """The markers on the disk, and the id of their state. Raises OSError.

    The search process of a store that was killed may still flush for a moment: read before that, the markers would not
    be those of what it leaves.
    """
    lock = hold(folder)
    try:
        known = state.read(folder)
    except (FileNotFoundError, ValueError, msgspec.MsgspecError):
        return {}, None  # none yet; or the search process finds the same, and says so
    finally:
        os.close(lock)
    return dict(known.markers), known.id


def running(process: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
