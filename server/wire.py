"""Bytes on the wire: heads and envelopes joined by hand, the clock's texts cached, and the two responses aiohttp sends.

aiohttp's own Response builds a multidict and formats every header for each answer; here a head is a few `bytes`
put together once, which is most of the difference between this frame and a plain aiohttp handler.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from http import HTTPStatus
from random import SystemRandom
from typing import Protocol, runtime_checkable

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

JSON_TYPE = b"Content-Type: application/json; charset=utf-8\r\n"
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_bits = SystemRandom().getrandbits


class Clock:
    """The present as the two texts every answer needs; each is made once per tick (1 ms, 1 s)."""

    __slots__ = ("_ms", "_second", "_second_text", "_stamp", "_when", "_when_text")

    def __init__(self) -> None:
        self._ms = self._second = self._when = -1
        self._stamp = self._second_text = self._when_text = b""

    @staticmethod
    def now() -> int:
        """ms since 1970."""
        return time.time_ns() // 1_000_000

    def stamp(self) -> bytes:
        """`2026-11-24T03:00:00.000Z`."""
        ms = time.time_ns() // 1_000_000
        if ms != self._ms:
            second, rest = divmod(ms, 1000)
            if second != self._second:
                self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
                self._second = second
            self._ms, self._stamp = ms, self._second_text + b".%03dZ" % rest
        return self._stamp

    def date(self) -> bytes:
        """The `Date` header's line (RFC 9110 §6.6.1)."""
        second = int(time.time())
        if second != self._when:
            self._when, self._when_text = second, b"Date: " + formatdate(second, usegmt=True).encode() + b"\r\n"
        return self._when_text


class Ids:
    """New request ids: random UUIDs (version 4), drawn from the system's generator in blocks."""

    __slots__ = ("_pool",)

    def __init__(self) -> None:
        self._pool: list[str] = []

    def new(self) -> str:
        """One UUID, lower case."""
        if not self._pool:
            text = f"{_bits(128 * 256):08192x}"
            for at in range(0, 8192, 32):
                variant = "89ab"[int(text[at + 16], 16) & 3]
                self._pool.append(
                    f"{text[at : at + 8]}-{text[at + 8 : at + 12]}-4{text[at + 13 : at + 16]}"
                    f"-{variant}{text[at + 17 : at + 20]}-{text[at + 20 : at + 32]}"
                )
        return self._pool.pop()


def status_line(status: int) -> bytes:
    """The first line of an answer."""
    return _LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


def line(name: str, value: str) -> bytes:
    """One header line. Characters that could end the line or that HTTP cannot carry become `?`."""
    if not (value.isascii() and value.isprintable()):
        value = "".join(char if char.isascii() and char.isprintable() else "?" for char in value)
    return f"{name}: {value}\r\n".encode("ascii")


class Whole(web.StreamResponse):
    """An answer whose head and body are there; one write sends both.

    `StreamResponse.__init__` is left out on purpose: it builds the header tables that the joined head replaces.
    """

    def __init__(self, status: int, head: bytes, body: bytes, keep: bool) -> None:
        self._status = status
        self._keep_alive = keep
        self._head = head
        self._content = body
        self._out: AbstractStreamWriter | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Called by aiohttp before write_eof."""
        self._out = request.writer
        return self._out

    async def write_eof(self, data: bytes = b"") -> None:
        """Sends everything; bodies too large to be worth copying go in a write of their own."""
        out = self._out
        assert out is not None
        if len(self._content) <= 65536:
            await out.write(self._head + self._content)
        else:
            await out.write(self._head)
            await out.write(self._content)
        await out.write_eof()


@runtime_checkable
class Direct(Protocol):
    """Pieces that can as well go to a socket without a way through here."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces."""

    async def direct(self, socket: int) -> None:
        """Sends all of them to the socket with this descriptor, which does not block."""


def _socket(transport: asyncio.Transport | None) -> int | None:
    """The descriptor of a connection that what is sent need not pass through: plain, and with nothing on its way."""
    if transport is None or transport.is_closing() or transport.get_write_buffer_size():
        return None
    socket = transport.get_extra_info("socket")
    return int(socket.fileno()) if socket is not None and transport.get_extra_info("sslcontext") is None else None


class Flow(web.StreamResponse):
    """An answer that comes piece by piece: chunked, counted by its Content-Length, or ended by closing (HTTP/1.0)."""

    def __init__(
        self, status: int, head: bytes, pieces: AsyncIterator[bytes] | Direct, keep: bool, chunked: bool
    ) -> None:
        self._status = status
        self._keep_alive = keep
        self._head = head
        self._pieces = pieces
        self._chunks = chunked
        self._out: AbstractStreamWriter | None = None
        self._transport: asyncio.Transport | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Called by aiohttp before write_eof."""
        self._out, self._transport = request.writer, request.transport
        return self._out

    async def write_eof(self, data: bytes = b"") -> None:
        """Sends the pieces as the client takes them. A failure after the head can only end the connection."""
        out = self._out
        assert out is not None
        await out.write(self._head)
        if isinstance(self._pieces, Direct) and not self._chunks and (socket := _socket(self._transport)) is not None:
            await self._pieces.direct(socket)
        else:
            await self._pass_on(out)
        await out.write_eof()

    async def _pass_on(self, out: AbstractStreamWriter) -> None:
        if self._chunks:
            out.enable_chunking()
        pieces = aiter(self._pieces)
        try:
            async for piece in pieces:
                if piece:
                    await out.write(piece)
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()
