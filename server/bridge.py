"""From the library's threads to the event loop and back: waiting for a durable write costs no thread hop a request."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gitstore import errors
from gitstore.pending import Pending

T = TypeVar("T")
_BODIES = 4
_TOGETHER = 4  # requests that go on in one turn of the loop: 1 to 2 ms of work


class Bridge:
    """One event loop's side of the library. Make it on the loop; `close` it when the loop stops."""

    def __init__(self, threads: int, waiting: int = 1024) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gitstore-offload")
        self._bodies = ThreadPoolExecutor(_BODIES, thread_name_prefix="gitstore-bodies")
        self._room = threads + waiting
        self._busy = 0

    async def settle(self, pending: Pending[T]) -> T:
        """The outcome of `pending`, or its error. One wake-up of the loop serves all that settled meanwhile."""
        if pending.settled:
            return pending.result()
        future: asyncio.Future[None] = self._loop.create_future()
        pending.add_done_callback(lambda _: self._post(future))
        await future
        return pending.result()

    async def turn(self) -> None:
        """Waits until nobody is before this request: what it does next takes the loop a while.

        Many writes come at once, as many answers went out at once. All of them in one turn of the loop would keep
        everybody else waiting, and the timers; so a few go on in each.
        """
        if self._scheduled:
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(future)
            await future
        else:
            self._scheduled = True
            self._loop.call_soon(self._go_on)

    def _post(self, future: asyncio.Future[None]) -> None:
        # Appending comes before the look at the flag, and _go_on clears the flag before it looks at the queue: so
        # whoever sees the flag set knows that a look is still to come which will see this future.
        self._waiting.append(future)
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._go_on)
            except RuntimeError:
                # The loop is closed, so nobody waits any more; the writer's thread must not fail for that.
                self._waiting.clear()

    def _go_on(self) -> None:
        self._scheduled = False
        left = _TOGETHER
        while left and self._waiting:
            future = self._waiting.popleft()
            if not future.done():  # a request that was cancelled
                future.set_result(None)
                left -= 1
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._go_on)

    async def offload(self, fn: Callable[..., T], *args: Any) -> T:
        """`fn(*args)` in the thread pool. Raises Unavailable when too many wait for a thread already."""
        if self._busy >= self._room:
            raise errors.Unavailable("the server is busy; try again in a moment")
        self._busy += 1
        try:
            return await self._loop.run_in_executor(self._pool, fn, *args)
        finally:
            self._busy -= 1

    async def carry(self, fn: Callable[..., T], *args: Any) -> T:
        """`fn(*args)`, one step of a body that comes or goes, in the few threads that are kept for those.

        They are apart from the others so that no number of bodies holds up anything else. A request takes three steps
        at a time at most, so what waits here is bounded by the connections. Who is cancelled meanwhile learns of it
        when the step is over, for what comes next closes the file that the step writes to.
        """
        running = self._bodies.submit(fn, *args)
        future = asyncio.wrap_future(running, loop=self._loop)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            running.cancel()  # if it has not begun
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise

    def close(self) -> None:
        """Ends the threads once they have finished what they do."""
        self._bodies.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
