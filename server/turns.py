"""The event loop's time, dealt out: when many requests come at once, whatever else is due comes between them."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

_SLICE: Final = 0.003  # seconds of one round of the loop in which requests may begin


class Turns:
    """Who may begin in this round of one event loop. Make it on the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None  # when the first request of this round began

    async def mine(self) -> None:
        """Returns at once, or in a later round if this one has gone on for long: until then timers come, and answers
        go."""
        while True:
            now = monotonic()
            if self._since is None:
                self._since = now
                self._loop.call_soon(self._next)
            if now - self._since < _SLICE:
                return
            await asyncio.sleep(0)

    def _next(self) -> None:
        self._since = None
