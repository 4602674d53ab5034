"""Content on its way out: what is small at once, what is large from its file, a piece at a time.

A whole large object is checked while it is sent: where it is damaged, the connection breaks before the last piece.
That takes longer than all the rest, so a file that was written or found sound within the hour, and that the file system
says nobody touched since, is not checked again: it would be read from the same memory. What is cut out of an object
cannot be checked. No thread waits for a client, and one that takes nothing is cut off.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import BinaryIO, Final, NoReturn

from gitstore.content import Content
from gitstore.errors import Damaged, GitstoreError
from gitstore.lfs.objects import missing
from server import log
from server.call import Call
from server.wire import Direct

_PIECE: Final = 256 << 10
_LARGEST: Final = 1 << 20
_BURST: Final = 8 << 20  # bytes that are sent without a look at who else wants the thread
_QUICK: Final = 0.02  # seconds in which a client takes a piece that may have larger ones
_TRUST: Final = 3600.0  # seconds
_KEPT: Final = 10_000
_sound: dict[tuple[int, ...], float] = {}  # when a file was found sound


def body(call: Call, content: Content) -> bytes | Callable[[int, int], AsyncIterator[bytes] | Direct]:
    """The content as `Raw` takes it. To be called in a thread. Raises NotFound where it is missing."""
    if content.pointer is None:
        return content.read()
    if not content.there:
        raise missing(content.pointer.oid)
    trusted = content.path is not None and _trusted(content.path)

    def cut(start: int, stop: int) -> AsyncIterator[bytes] | Direct:
        if trusted or (start, stop) != (0, content.size):
            return _Slice(call, content.open, start, stop)
        return pieces(call, _checked(content))

    return cut


def found_sound(path: str, mark: tuple[int, ...] | None = None) -> None:
    """The file at this path was just written, hashed on the way, or read and found to be what it should.

    With a `mark` it counts only if the file is still the one that had it.
    """
    try:
        now = _mark(path)
    except OSError:
        return  # its workspace was renamed or deleted meanwhile: nothing is remembered of it
    if mark in (None, now):
        if len(_sound) >= _KEPT:
            _sound.clear()
        _sound[now] = time.monotonic()


class _Pace:
    """How many bytes are read at a time: each piece is a way to a thread and back, but what a slow client has not taken
    stays in memory.
    """

    def __init__(self) -> None:
        self.size = _PIECE

    def took(self, seconds: float) -> None:
        """The client took a piece in this time."""
        self.size = min(2 * self.size, _LARGEST) if seconds < _QUICK else _PIECE


class _Slice:
    """Bytes of a file that are not checked: the kernel sends them from where it has them (sendfile(2)), which takes a
    fifth of what it takes to read and to write them.
    """

    def __init__(self, call: Call, opened: Callable[[], BinaryIO], start: int, stop: int) -> None:
        self._call = call
        self._opened = opened
        self._start = start
        self._stop = stop

    def __aiter__(self) -> AsyncIterator[bytes]:
        pace = _Pace()
        return pieces(self._call, _range(self._opened, self._start, self._stop, pace), pace)

    async def direct(self, socket: int) -> None:
        """As `Direct` says. Raises ConnectionResetError where the client takes no more, or too little is there."""
        call, at, opened = self._call, self._start, ExitStack()
        own = os.dup(socket)  # that of the connection is its loop's alone
        try:
            file = await call.carry(lambda: opened.enter_context(self._opened()).fileno())
            while at < self._stop:
                sent, full = await call.carry(_send, own, file, at, min(self._stop - at, _BURST))
                at += sent
                if full:
                    await asyncio.wait_for(_writable(own), call.app.settings.body_timeout)
        except (ConnectionError, TimeoutError) as error:
            _cut_off(call)
            raise ConnectionResetError("the client takes no more") from error
        except (GitstoreError, OSError) as error:
            _break_off(call, error)
        finally:
            os.close(own)
            await call.carry(opened.close)


def _send(socket: int, file: int, at: int, count: int) -> tuple[int, bool]:
    """How many bytes were sent, and whether the client has to take some first. Raises OSError, Damaged."""
    sent = 0
    while sent < count:
        try:
            done = os.sendfile(socket, file, at + sent, count - sent)
        except BlockingIOError:
            return sent, True
        if not done:  # or else what is missing would be taken from the next answer
            raise Damaged(f"the large object ends {count - sent} bytes too early")
        sent += done
    return sent, False


async def _writable(socket: int) -> None:
    loop, room = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(socket, room.set)
    try:
        await room.wait()
    finally:
        loop.remove_writer(socket)


def _checked(content: Content) -> Iterator[bytes]:
    """The whole object, checked on the way."""
    path = content.path
    assert path is not None
    mark = _mark(path)
    yield from content.chunks(_PIECE)
    found_sound(path, mark)


def _trusted(path: str) -> bool:
    try:
        return time.monotonic() - _sound.get(_mark(path), -_TRUST) < _TRUST
    except OSError:
        return False


def _mark(path: str) -> tuple[int, ...]:
    """What changes with any change to a file, its names included."""
    state = os.stat(path)
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _range(opened: Callable[[], BinaryIO], start: int, stop: int, pace: _Pace) -> Iterator[bytes]:
    with opened() as file:
        file.seek(start)
        while start < stop and (data := file.read(min(pace.size, stop - start))):
            start += len(data)
            yield data
    if start < stop:  # or else what is missing would be taken from the next answer
        raise Damaged(f"the large object ends {stop - start} bytes too early")


async def pieces(call: Call, source: Iterator[bytes], pace: _Pace | None = None) -> AsyncIterator[bytes]:
    """What `source` gives, each piece made in a thread while the one before it is sent."""
    loop = asyncio.get_running_loop()
    patience = call.app.settings.body_timeout

    def close() -> None:
        if (end := getattr(source, "close", None)) is not None:
            end()

    ahead = asyncio.ensure_future(call.carry(next, source, b""))
    try:
        while piece := await ahead:
            ahead = asyncio.ensure_future(call.carry(next, source, b""))
            watch = loop.call_later(patience, _cut_off, call)
            begun = loop.time()
            try:
                yield piece
            finally:
                watch.cancel()
            if pace is not None:
                pace.took(loop.time() - begun)
    except (GitstoreError, OSError) as error:
        _break_off(call, error)
    finally:
        await asyncio.wait([ahead])
        if not ahead.cancelled():
            ahead.exception()  # looked at, so that nobody reports it a second time
        await call.carry(close)


def _break_off(call: Call, error: Exception) -> NoReturn:
    """The answer has begun: all that is left is to end it here, so that nobody takes it for whole."""
    log.server.error("an answer was broken off: %s", error, extra={"request_id": call.request_id})
    _cut_off(call)
    raise ConnectionResetError("the answer was broken off") from error


def _cut_off(call: Call) -> None:
    if call.request.transport is not None:
        call.request.transport.abort()
