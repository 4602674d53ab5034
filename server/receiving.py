"""Content on its way in: in memory while it is small, on the disk as soon as it is not, nowhere if it does not arrive.

What is over the store's bound for large objects is written into one while it arrives, hashed on the way; less than that
has to be in memory anyway to become a blob.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Final

from gitstore.errors import TooLarge, UnsupportedType
from gitstore.lfs import Pointer, Sink
from gitstore.repository.disk import Data
from server import sending
from server.call import Call
from server.digests import NAMES, Digests
from server.pouring import Pour

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
        self._pieces: list[Data] = []
        self._sink: Sink | None = None
        self._pour: Pour | None = None

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
        if self._pour is not None:
            await self._pour.settle()
        if self._sink is not None:
            await self._call.carry(self._sink.abort)  # after `keep` it takes nothing back

    async def take(self, pieces: AsyncGenerator[Data, None]) -> None:
        """Takes in all the pieces. Raises TooLarge, StorageFailed, what `pieces` raises, and Invalid for a digest."""
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                self.size += len(piece)
                if self.size > self._limit:
                    raise TooLarge(
                        f"the content is larger than the {self._limit} bytes that are allowed",
                        details={"limit": self._limit},
                    )
                self._pieces.append(piece)
                if self.large:
                    await self._flush()
        if self._pour is not None:
            await self._pour.end()
        elif self._digests:
            await self._call.carry(self._digests.update, b"".join(self._pieces))
        self._digests.check()

    async def keep(self) -> bytes | Pointer:
        """The content as the library takes it: the bytes or, where they are many, the large object they are now."""
        if self._sink is not None:
            return await self._call.carry(self._finish, self._sink)
        return b"".join(self._pieces)

    async def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if self._pour is None:
            self._sink = await self._call.carry(self._begin)
            self._pour = Pour(self._call, (self._sink.append, self._hash), lambda: self._sync)
        for piece in pieces:
            await self._pour.put(piece)

    def _begin(self) -> Sink:
        return self._call.app.store.objects(self._workspace).receive()

    def _hash(self, piece: Data) -> None:
        assert self._sink is not None
        self._digests.update(piece)
        self._sink.hash(piece)

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
