"""pkt-lines: four hexadecimal digits of length, then the data; `0000` ends a part (gitprotocol-common(5))."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gitstore.errors import Malformed

FLUSH = b"0000"
_LONGEST = 65516  # bytes of data in one line
_BAND = 65515  # the same on a side band, whose number takes one


def line(data: bytes | str) -> bytes:
    """One pkt-line. Text is sent as UTF-8; at most 65,516 bytes."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    return b"%04x" % (len(data[:_LONGEST]) + 4) + data[:_LONGEST]


def error(text: str) -> bytes:
    """What ends a conversation with a reason that git shows (`ERR`, gitprotocol-pack(5))."""
    return line(f"ERR {text}\n")


def band(number: int, data: bytes) -> bytes:
    """Data on a side band: 1 is the answer, 2 for people to read, 3 the end with an error."""
    pieces = (data[at : at + _BAND] for at in range(0, len(data), _BAND))
    return b"".join(line(bytes((number,)) + piece) for piece in pieces)


class Reader:
    """The body of a request: pkt-lines first, then whatever comes."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._held = bytearray()
        self._ended = False

    async def _need(self, count: int) -> bool:
        while len(self._held) < count:
            piece = await anext(self._chunks, None)
            if piece is None:
                self._ended = True
                return False
            self._held += piece
        return True

    async def line(self) -> bytes | None:
        """The next line, without its newline; None for a flush. Raises Malformed where there is none."""
        if not await self._need(4):
            raise Malformed("the request ends in the middle of a pkt-line")
        try:
            size = int(bytes(self._held[:4]).decode("ascii"), 16) if self._held[:4].isalnum() else -1
        except ValueError:
            size = -1
        if size == 0:
            del self._held[:4]
            return None
        if not 4 <= size <= _LONGEST + 4:
            raise Malformed("the request is no git request: a pkt-line has no length")
        if not await self._need(size):
            raise Malformed("the request ends in the middle of a pkt-line")
        data = bytes(self._held[4:size])
        del self._held[:size]
        return data.removesuffix(b"\n")

    async def empty(self) -> bool:
        """Whether nothing more comes."""
        return not await self._need(1)

    async def rest(self) -> AsyncIterator[bytes]:
        """Everything that follows, as it arrives."""
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            yield held
        if not self._ended:
            async for piece in self._chunks:
                yield piece
