"""Fetch and push without a git program on the server: the same answers for small workspaces, made in threads."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence

from gitstore.errors import Malformed, TooLarge
from gitstore.repository import unpack, upload
from gitstore.repository.objects import COMMIT, Oid
from gitstore.repository.quarantine import Quarantine
from gitstore.transport.examine import OBJECTS
from gitstore.transport.judge import Item
from gitstore.transport.lines import FLUSH, error, line

LARGEST = 64 << 20  # bytes of packs; what is served is held in memory several times over
LARGEST_PUSH = 16 << 20
_REQUEST = 16 << 20
_QUEUE = 16

log = logging.getLogger("gitstore.transport")


async def upload_pack(
    git: str, shown: Mapping[str, Oid], body: AsyncIterator[bytes] | None, seconds: float
) -> AsyncGenerator[bytes]:
    """The answer to `git-upload-pack`, or, without a body, to `info/refs`; at most `seconds` between two pieces.

    Raises TooLarge for a request over 16 MiB.
    """
    if body is None:
        yield line("# service=git-upload-pack\n") + FLUSH
    elif upload.size(git) > LARGEST:
        yield error(
            f"this workspace is larger than the {LARGEST >> 20} MiB that this server serves without git; "
            "ask whoever runs it to install git there"
        )
        return
    request = io.BytesIO(await _whole(body) if body is not None else b"")
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE)
    gone = False

    def send(data: bytes) -> None:
        if gone:
            raise ConnectionError("nobody wants the answer any more")
        asyncio.run_coroutine_threadsafe(queue.put(bytes(data)), loop).result(seconds)

    def run() -> None:
        try:
            upload.serve(git, shown, request.read, send, advertise=body is None)
        except Exception as failed:
            # Whatever dulwich makes of a request or of a damaged pack: the client is told, the log has the story.
            if not gone:
                log.warning("a fetch failed", exc_info=failed)
                send(error("the server cannot serve this; its log says why"))
        finally:
            if not gone:
                asyncio.run_coroutine_threadsafe(queue.put(None), loop)

    work = loop.run_in_executor(None, run)
    try:
        while (piece := await queue.get()) is not None:
            yield piece
    finally:
        gone = True
        while not queue.empty():  # lets a `send` that waits for room go on, and find that nobody wants it
            queue.get_nowait()
        await asyncio.wait({asyncio.ensure_future(work)}, timeout=seconds)


async def _whole(body: AsyncIterator[bytes]) -> bytes:
    data = bytearray()
    async for piece in body:
        data += piece
        if len(data) > _REQUEST:
            raise TooLarge(f"the request is larger than {_REQUEST} bytes")
    return bytes(data)


class Alone:
    """Examiner (transport.examine) that needs no program."""

    async def take(self, quarantine: Quarantine, pack: AsyncIterator[bytes]) -> str | None:
        """See Examiner."""
        data = bytearray()
        async for piece in pack:
            if len(data) <= LARGEST_PUSH:
                data += piece
        if len(data) > LARGEST_PUSH:
            return f"the pack is larger than the {LARGEST_PUSH} bytes that this server takes without git"
        return await asyncio.to_thread(self._take, quarantine, bytes(data))

    @staticmethod
    def _take(quarantine: Quarantine, data: bytes) -> str | None:
        try:
            items = unpack.unpack(data, quarantine.database)
        except (Malformed, TooLarge) as wrong:
            return wrong.message
        if (fault := next(unpack.faults(items, quarantine.database), None)) is not None:
            return fault
        quarantine.keep(items)
        return None

    async def connected(self, quarantine: Quarantine, tips: Iterable[Oid]) -> str | None:
        """What was sent names only what is there (`take`), and so does what the repository had."""
        return None

    async def kinds(self, quarantine: Quarantine, oids: Sequence[Oid]) -> dict[Oid, int]:
        """See Examiner."""

        def asked() -> dict[Oid, int]:
            found = ((oid, unpack.kind_of(quarantine.database, oid)) for oid in oids)
            return {oid: kind for oid, kind in found if kind is not None}

        return await asyncio.to_thread(asked)

    async def listing(self, quarantine: Quarantine, tip: Oid, known: Iterable[Oid]) -> list[Item] | None:
        """See Examiner."""

        def walked() -> list[Item] | None:
            kind = unpack.kind_of(quarantine.database, tip)
            if kind != COMMIT:
                return [Item(tip, kind, 0, "")] if kind is not None else None
            return [Item(*one) for one in unpack.reached(quarantine.database, tip, known, OBJECTS)]

        return await asyncio.to_thread(walked)
