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
from typing import BinaryIO, Final

from gitstore.content import Content
from gitstore.errors import Damaged, GitstoreError
from gitstore.lfs.objects import missing
from server import log
from server.call import Call

_PIECE: Final = 256 << 10
_LARGEST: Final = 1 << 20
_QUICK: Final = 0.02  # seconds in which a client takes a piece that may have larger ones
_TRUST: Final = 3600.0  # seconds
_KEPT: Final = 10_000
_sound: dict[tuple[int, ...], float] = {}  # when a file was found sound


def body(call: Call, content: Content) -> bytes | Callable[[int, int], AsyncIterator[bytes]]:
    """The content as `Raw` takes it. To be called in a thread. Raises NotFound where it is missing."""
    if content.pointer is None:
        return content.read()
    if not content.there:
        raise missing(content.pointer.oid)

    def cut(start: int, stop: int) -> AsyncIterator[bytes]:
        pace = _Pace()
        whole = (start, stop) == (0, content.size)
        source = _whole(content, pace) if whole else _range(content.open, start, stop, pace)
        return pieces(call, source, pace)

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


def _whole(content: Content, pace: _Pace) -> Iterator[bytes]:
    """The whole object, checked on the way unless it was lately."""
    path = content.path
    assert path is not None
    mark = _mark(path)
    if time.monotonic() - _sound.get(mark, -_TRUST) < _TRUST:
        yield from _range(content.open, 0, content.size, pace)
        return
    yield from content.chunks(_PIECE)
    found_sound(path, mark)


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

    def cut_off() -> None:
        if call.request.transport is not None:
            call.request.transport.abort()

    def close() -> None:
        if (end := getattr(source, "close", None)) is not None:
            end()

    ahead = asyncio.ensure_future(call.carry(next, source, b""))
    try:
        while piece := await ahead:
            ahead = asyncio.ensure_future(call.carry(next, source, b""))
            watch = loop.call_later(patience, cut_off)
            begun = loop.time()
            try:
                yield piece
            finally:
                watch.cancel()
            if pace is not None:
                pace.took(loop.time() - begun)
    except (GitstoreError, OSError) as error:
        # The answer has begun: all that is left is to break it off, so that nobody takes it for whole.
        log.server.error("an answer was broken off: %s", error, extra={"request_id": call.request_id})
        cut_off()
        raise ConnectionResetError("the answer was broken off") from error
    finally:
        await asyncio.wait([ahead])
        if not ahead.cancelled():
            ahead.exception()  # looked at, so that nobody reports it a second time
        await call.carry(close)
