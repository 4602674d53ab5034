"""Content on its way in: in memory while it is small, on the disk as soon as it is not, nowhere if it does not arrive.

What is over the store's bound for large objects is written into one while it arrives, hashed on the way; less than that
has to be in memory anyway to become a blob.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Final

from gitstore.errors import TooLarge, UnsupportedType
from gitstore.lfs import Pointer, Sink
from server import sending
from server.call import Call
from server.digests import NAMES, Digests

_PIECE: Final = 1 << 20
_SYNC: Final = 32 << 20  # so much is left to the sync at the end; what came before it is on the disk by then
# Credentials are looked for in text of up to so many bytes, which must be in memory for that.
_HELD: Final = 1 << 20


class Receipt:
    """One content that a request brings for a workspace. Leaving the block without `keep` takes everything back."""

    def __init__(self, call: Call, workspace: str, limit: int, headers: Mapping[str, str]) -> None:
        """At most `limit` bytes are taken; `headers` (of the body, or of its part) may hold digests.

        Raises Malformed for digests that cannot be read.
        """
        self.size = 0
        self._call = call
        self._workspace = workspace
        self._limit = limit
        self._digests = Digests(headers)
        self._large = call.app.store.large_bytes
        self._held = max(self._large, _HELD)
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._unsynced = 0
        self._sink: Sink | None = None
        self._writing: asyncio.Task[None] | None = None
        self._syncing: asyncio.Task[None] | None = None

    @property
    def large(self) -> bool:
        """Whether the content goes to the disk."""
        return self.size > self._held

    async def __aenter__(self) -> Receipt:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pieces.clear()
        for left in (self._writing, self._syncing):
            if left is not None:
                await asyncio.wait([left])
                left.exception()  # looked at, so that nobody reports it: what ended the block goes before it
        if self._sink is not None:
            await self._call.carry(self._sink.abort)  # after `keep` it takes nothing back

    async def take(self, pieces: AsyncIterator[bytes]) -> None:
        """Takes in all the pieces. Raises TooLarge, StorageFailed, what `pieces` raises, and Invalid for a digest."""
        async for piece in pieces:
            self.size += len(piece)
            if self.size > self._limit:
                raise TooLarge(
                    f"the content is larger than the {self._limit} bytes that are allowed",
                    details={"limit": self._limit},
                )
            self._pieces.append(piece)
            self._gathered += len(piece)
            if self.size > self._held and self._gathered >= _PIECE:
                await self._flush()
        if not self.large:
            if self._digests:
                await self._call.carry(self._digests.update, b"".join(self._pieces))
        else:
            await self._flush()
            await self._written()
            await self._synced()
        self._digests.check()

    async def keep(self) -> bytes | Pointer:
        """The content as the library takes it: the bytes or, where they are many, the large object they are now."""
        if self._sink is not None:
            return await self._call.carry(self._finish, self._sink)
        return b"".join(self._pieces)

    async def _flush(self) -> None:
        """Hands what was gathered to a thread, and goes on receiving meanwhile."""
        pieces, self._pieces = self._pieces, []
        self._unsynced += self._gathered
        self._gathered = 0
        await self._written()
        if self._unsynced >= _SYNC:
            await self._synced()
            self._unsynced = 0
            self._syncing = asyncio.ensure_future(self._call.carry(self._sync))
        self._writing = asyncio.ensure_future(self._call.carry(self._write, pieces))

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def _synced(self) -> None:
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            await syncing

    def _write(self, pieces: list[bytes]) -> None:
        if self._sink is None:
            self._sink = self._call.app.store.objects(self._workspace).receive()
        for piece in pieces:
            self._digests.update(piece)
            self._sink.write(piece)

    def _finish(self, sink: Sink) -> Pointer:
        objects = self._call.app.store.objects(self._workspace)
        pointer = sink.finish(objects)
        sending.found_sound(objects.path(pointer.oid))
        return pointer

    def _sync(self) -> None:
        assert self._sink is not None
        self._sink.sync()


def whole(call: Call) -> None:
    """Refuses digests of a body whose parts are what is stored: nothing would be checked. Raises UnsupportedType."""
    for name in NAMES:
        if name in call.headers:
            raise UnsupportedType(
                f"{name} of a multipart body is not checked: send it as a header of the part `file`, "
                "or the content as a raw body"
            )
