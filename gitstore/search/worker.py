"""The search process: one thread that takes messages in order, and children for what takes long.

It ends with the process that started it, whose end it sees as the end of the socket; only one has a folder at a time.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from gitstore.search import messages, proving, ranking
from gitstore.search.documents import Hits, Kind, Order
from gitstore.search.hidden import Hidden
from gitstore.search.index import Index
from gitstore.search.lock import hold
from gitstore.search.query import Phrase, Prefix, Query, Word
from gitstore.search.ready import ready
from gitstore.search.segments import passing

log = logging.getLogger("gitstore.search")

Answering = Callable[[bytes, ranking.Clock], bytes]
Listening = Callable[[bytes], None]


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """The body of a question for documents."""

    workspaces: list[str] | None
    query: Query
    kinds: list[Kind] | None
    order: Order
    offset: int
    limit: int
    now: int


class Options(msgspec.Struct, frozen=True):
    """What a search process is told on its command line."""

    folder: str
    catalog: str | None
    batch: int
    interval: float


class Elsewhere(Exception):
    """What the answer takes cannot be had in this process; says why."""


class Worker:
    """Serves one socket until it ends. `answers` and `listeners` are those of the other parts of the process; `ahead`
    is what they do while nobody asks for anything, a step at a time, and `hidden` says what is not to be found in
    workspaces (None: in all) at a moment (ms).
    """

    def __init__(self, connection: socket.socket, options: Options) -> None:
        self.options = options
        self._socket = connection
        self._frames = messages.Frames()
        self._out = bytearray()
        self.index = Index(
            Path(options.folder),
            self,
            batch=options.batch,
            interval=options.interval,
            close=(connection.fileno(),),
        )
        self.answers: dict[str, Answering] = {"query": self._query, "having": self._having, "proofs": self._proofs}
        self.listeners: dict[str, Listening] = {}
        self.ahead: Iterator[None] | None = None
        self.hidden: Callable[[list[str] | None, int], Hidden | None] | None = None
        self._begun = False
        self._stopping: float | None = None
        self._ask = msgspec.msgpack.Decoder(Asked)

    def serve(self) -> None:
        """Until the socket ends or everything is flushed after a `Stop`."""
        index, segments = self.index, self.index.segments
        markers = dict(segments.state.markers)
        self._send(messages.Hello(markers, index.damage, index.missing, segments.opened, segments.state.id))
        self._socket.setblocking(False)
        while True:
            wait = self.index.wait()
            if self._stopping is not None:
                left = self._stopping - time.monotonic()
                if (wait is None and self.index.job is None) or left <= 0:
                    self.index.stop_job()
                    self._socket.setblocking(True)
                    self._socket.sendall(self._out)
                    return
                wait = left if wait is None else min(wait, left)
            reading: list[Any] = [self._socket]
            if self.index.job is not None:
                reading.append(self.index.job.pipe)
            if wait is None or wait > 0.5:
                gc.collect(1)
            ahead = self.ahead if self._begun and self._stopping is None else None
            readable, _ = ready(reading, [self._socket] if self._out else [], wait if ahead is None else 0.0)
            self._write()
            if ahead is not None and not readable:
                self._step(ahead)
            if self.index.job is not None and self.index.job.pipe in readable:
                self.index.ended()
            if self._socket in readable and not self._read():
                self.index.stop_job()
                return
            if self.index.wait() == 0.0:
                self.index.turn()

    def _step(self, ahead: Iterator[None]) -> None:
        try:
            next(ahead)
        except StopIteration:
            self.ahead = None
        except Exception as error:  # noqa: BLE001  whatever it is, the next question meets it too, and answers for it
            log.warning("nothing more is read ahead: %s", error)
            self.ahead = None

    def _read(self) -> bool:
        try:
            data = self._socket.recv(1 << 20)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not data:
            return False
        self._frames.feed(data)
        while (message := self._frames.next()) is not None:
            self._handle(messages.to_worker.decode(message))
        return True

    def _handle(self, message: Any) -> None:
        index = self.index
        if isinstance(message, messages.Put):
            index.changes += 1
            self._put(message)
        elif isinstance(message, messages.Ask):
            self._answer(message)
        elif isinstance(message, messages.Tell):
            if (listener := self.listeners.get(message.name)) is not None:
                listener(message.body)
        elif isinstance(message, messages.Mark):
            index.changes += 1
            if message.epoch == index.epoch:
                index.mark(message.workspace, message.branch, message.commit)
        elif isinstance(message, messages.Remove):
            index.changes += 1
            index.remove((message.workspace, message.kind, message.id))
        elif isinstance(message, messages.Forget):
            index.changes += 1
            index.forget(message.workspace)
        elif isinstance(message, messages.Flush):
            index.flush()
        elif isinstance(message, messages.Renew):
            index.spoil("it was asked to begin anew")
        elif isinstance(message, messages.Begin):
            self._begun = True
            index.changes = message.number
            index.epoch += message.epoch  # it may have been lost since it was opened, which the other side counts too
        elif isinstance(message, messages.Stop):
            self._stopping = time.monotonic() + message.seconds
            index.flush()

    def _put(self, message: messages.Put) -> None:
        try:
            self.index.put(message.workspace, message.document)
        except Exception:  # it would be told again to every process after this one, and end each
            key = (message.workspace, message.document.kind, message.document.id)
            log.exception("a document cannot be indexed: %s", " ".join(key))
            self.index.tail.kill(key)

    def _answer(self, message: messages.Ask) -> None:
        try:
            clock = ranking.Clock(message.deadline)
            clock.check()
            self._send(messages.Answer(message.number, self.answers[message.name](message.body, clock)))
        except ranking.Late:
            text = "the search took too long and was given up: use more or longer words, or fewer workspaces"
            self._send(messages.Refusal(message.number, "late", text))
        except Elsewhere as error:
            self._send(messages.Refusal(message.number, "away", str(error)))
        except ranking.TooMany as error:
            self._send(messages.Refusal(message.number, "invalid", str(error)))
        except Exception as error:  # noqa: BLE001  damaged files raise anything; the answer is an index begun anew
            text = f"{type(error).__name__}: {error}"
            if passing(error):
                self._send(messages.Refusal(message.number, "broken", f"the search index cannot be read ({text})"))
                return
            self._send(messages.Refusal(message.number, "broken", f"the search index is damaged ({text})"))
            self.index.spoil(text)

    def _query(self, body: bytes, clock: ranking.Clock) -> bytes:
        asked = self._ask.decode(body)
        hits: Hits = ranking.query(
            self.index,
            asked.workspaces,
            asked.query,
            asked.kinds,
            asked.order,
            asked.offset,
            asked.limit,
            clock,
            self.hidden(asked.workspaces, asked.now) if self.hidden is not None else None,
        )
        return msgspec.msgpack.encode(hits)

    def _having(self, body: bytes, clock: ranking.Clock) -> bytes:
        workspace, node = msgspec.msgpack.decode(body, type=tuple[str, Word | Phrase | Prefix])
        return msgspec.msgpack.encode(ranking.having(self.index, workspace, node, clock))

    def _proofs(self, body: bytes, clock: ranking.Clock) -> bytes:
        return msgspec.msgpack.encode(proving.proofs(self.index))

    # -- what the index tells -------------------------------------------------------------------------------------

    def flushed(self, number: int) -> None:
        """The changes up to this number are on disk."""
        self._send(messages.Flushed(number))

    def failed(self, text: str) -> None:
        """The disk refused."""
        self._send(messages.Failed(text))

    def lost(self, damage: str, workspaces: list[str] | None) -> None:
        """Nothing of these workspaces is in the index any more; None: it was begun anew."""
        self._send(messages.Lost(damage, workspaces, self.index.segments.state.id))

    def _send(self, message: messages.Message) -> None:
        self._out += messages.frame(message)
        self._write()

    def _write(self) -> None:
        if self._out:
            try:
                sent = self._socket.send(self._out)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                sent = len(self._out)  # nobody reads any more; the next look at the socket says so
            del self._out[:sent]


def run(descriptor: int, options: Options, extend: Callable[[Worker], None]) -> NoReturn:
    """Serves the socket with this descriptor, then ends the process: 0, or 3 where the disk refuses."""
    gc.disable()  # nothing here is cyclic but what Whoosh makes; `serve` collects when there is nothing to do
    connection = socket.socket(fileno=descriptor)
    try:
        hold(Path(options.folder))
        worker = Worker(connection, options)
    except OSError as error:
        connection.sendall(messages.frame(messages.Failed(str(error))))
        sys.exit(3)
    extend(worker)
    worker.serve()
    os._exit(0)
