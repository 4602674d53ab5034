"""Content on its way to the disk: what came is hashed, written and synced while more arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from gitstore.repository.disk import Data
from server.call import Call

SYNC: Final = 32 << 20
"""Bytes after which what was written is synced, so that little is left to the end."""
_AHEAD: Final = 6  # pieces that one work may have to do


class _Lane:
    """One work, on one piece after the other. Its thread takes some by itself, for the loop may be at other things;
    then whoever else waits for a thread gets it.

    `done` is called, in any thread, when there is less to do.
    """

    def __init__(self, call: Call, work: Callable[[Data], None], done: Callable[[], None]) -> None:
        self.waiting: deque[Data] = deque()  # the first is the one that is worked on
        self._call = call
        self._work = work
        self._done = done
        self._stopped = False
        self._task: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """Whether there is enough to do, and somebody at it."""
        return len(self.waiting) >= _AHEAD and self._task is not None and not self._task.done()

    async def put(self, data: Data) -> None:
        """Takes another piece. Raises what became of those before."""
        if self._task is not None and self._task.done():
            await self._task
            self._task = None
        self.waiting.append(data)
        if self._task is None:
            self._task = asyncio.ensure_future(self._go_on())

    async def end(self) -> None:
        """Waits until all is done. Raises what the work raised."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def settle(self) -> None:
        """Waits until nothing is at work any more, whatever becomes of it."""
        self._stopped = True
        await _settle(self._task)

    async def _go_on(self) -> None:
        try:
            while self.waiting and not self._stopped:
                await self._call.carry(self._run)
        finally:
            self._done()

    def _run(self) -> None:
        for _ in range(_AHEAD):
            if not self.waiting or self._stopped:
                return
            self._work(self.waiting[0])
            self.waiting.popleft()
            self._done()


class Pour:
    """Hands one piece after the other to each of `works`, which are at work beside each other in threads.

    `sync` (None: nothing is synced on the way) is called when each has done as much as the others, and returns what
    then runs beside the next ones. Ended by `end`, and in any case by `settle`.
    """

    def __init__(
        self, call: Call, works: Sequence[Callable[[Data], None]], sync: Callable[[], Callable[[], object]] | None
    ) -> None:
        self._call = call
        self._lanes = [_Lane(call, work, self._less) for work in works]
        self._sync = sync
        self._unsynced = 0
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._awaited = False
        self._syncing: asyncio.Future[object] | None = None

    async def put(self, data: Data) -> None:
        """Takes the next piece. Raises what became of those before."""
        if self._sync is not None and self._unsynced >= SYNC:
            await self.end()
            self._unsynced = 0
            self._syncing = asyncio.ensure_future(self._call.carry(self._sync()))
        while True:
            self._changed.clear()
            self._awaited = True  # before the look, or what ends right after it would wake nobody
            if not any(lane.full for lane in self._lanes):
                break
            await self._changed.wait()
        self._awaited = False
        for lane in self._lanes:
            await lane.put(data)
        self._unsynced += len(data)

    async def end(self) -> None:
        """Waits until all is done. Raises what the works and the syncs raised."""
        for lane in self._lanes:
            await lane.end()
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            await syncing

    async def settle(self) -> None:
        """Waits until nothing is at work any more, whatever becomes of it."""
        for lane in self._lanes:
            await lane.settle()
        await _settle(self._syncing)

    def _less(self) -> None:
        if self._awaited:
            self._awaited = False
            self._loop.call_soon_threadsafe(self._changed.set)


async def _settle(left: asyncio.Future[None] | asyncio.Future[object] | None) -> None:
    if left is not None:
        await asyncio.wait([left])
        if not left.cancelled():
            left.exception()  # looked at, so that nobody reports it: what ended the rest goes before it
