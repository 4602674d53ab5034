"""A large body, read from the socket into blocks with nothing between them.

aiohttp hands a body on in pieces of some 64 KiB, each copied four times, which is most of the work for a large one. So
the rest of it is taken from aiohttp, by asyncio's own means: the transport gets another protocol, into which it reads.
aiohttp's parser does not know of what was so taken, hence the request is the last one of its connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from gitstore.repository.disk import Data

LEAST: Final = 16 << 20
"""Bytes that must be left of a body: for fewer, a connection that can be used again is worth more."""
BLOCK: Final = 1 << 20
_AHEAD: Final = 2  # blocks that wait to be asked for


class Inflow(asyncio.BufferedProtocol):
    """The rest of one body: `left` bytes, after the `first` that aiohttp has read already."""

    def __init__(
        self, connection: RequestHandler, transport: asyncio.Transport, body: StreamReader, first: bytes, left: int
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._body = body
        self._left = left
        self._ready: deque[Data] = deque([first] if first else [])
        self._block = bytearray(min(BLOCK, left))
        self._at = 0
        self._dropping = False
        self._error: ConnectionError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._swap(self)

    def _swap(self, protocol: asyncio.BaseProtocol) -> None:
        """Lets another protocol have what comes from now on."""
        self._transport.pause_reading()
        self._transport.set_protocol(protocol)
        self._transport.resume_reading()

    async def blocks(self, patience: float) -> AsyncGenerator[Data, None]:
        """The body, in pieces of a mebibyte but for the first and the last; they are the caller's to keep.

        Raises TimeoutError where nothing came for `patience` seconds, ConnectionError after all that came. Close it.
        """
        try:
            while True:
                while not self._ready:
                    await self._more(patience)
                yield self._ready.popleft()
                if not self._left and not self._ready:
                    return
                if self._left and len(self._ready) < _AHEAD and not self._transport.is_closing():
                    self._transport.resume_reading()
        finally:
            if self._left:
                self._drop()
            else:
                self._end()

    def _end(self) -> None:
        """Says to aiohttp that the body is over, and the connection once the request is answered."""
        self._body.feed_eof()
        self._connection.close()
        if not self._transport.is_closing():
            self._swap(self._connection)

    def _drop(self) -> None:
        """Nobody wants the rest. It is read all the same: a client that still sends would not see the answer, and
        aiohttp waits for the end of the body for some seconds before it closes the connection.
        """
        self._dropping = True
        self._ready.clear()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def _more(self, patience: float) -> None:
        if self._error is not None:
            raise self._error
        before = self._left
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(patience):
                await self._waiter
        except TimeoutError:
            if self._left == before:
                raise

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _hand_over(self) -> None:
        """The block as far as it is filled."""
        self._ready.append(self._block if self._at == len(self._block) else memoryview(self._block)[: self._at])
        self._block = bytearray(min(BLOCK, self._left))
        self._at = 0
        self._wake()

    # -- what the transport calls ---------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return memoryview(self._block)[self._at : self._at + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """So many came."""
        self._left -= nbytes
        if self._dropping:
            self._at = 0
            if not self._left:
                self._end()
            return
        self._at += nbytes
        if self._at == len(self._block):
            self._hand_over()
            if not self._left or len(self._ready) >= _AHEAD:
                self._transport.pause_reading()

    def eof_received(self) -> None:
        """The client sends no more: the transport closes itself, as it does for aiohttp."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._at:
            self._hand_over()
        if self._left:
            self._error = ConnectionResetError("the connection ended inside the body")
        self._wake()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """For aiohttp."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """For aiohttp."""
        self._connection.resume_writing()


def divert(request: web.BaseRequest) -> Inflow | None:
    """Takes the rest of a body from aiohttp; None where it is small, or has to go through aiohttp to be decoded."""
    headers, body, connection = request.headers, request.content, request.protocol
    transport = connection.transport
    length = headers.get("Content-Length", "")
    if not length.isdecimal() or "Content-Encoding" in headers or "Transfer-Encoding" in headers:
        return None
    if int(length) - body.total_bytes < LEAST or body.exception() is not None or body.is_eof():
        return None
    if transport is None or transport.is_closing() or transport.get_extra_info("sslcontext") is not None:
        return None
    first = []
    while data := body.read_nowait(-1):  # which makes aiohttp's parser go on with what it holds back
        first.append(data)
    return Inflow(connection, transport, body, b"".join(first), int(length) - body.total_bytes)
