"""How late the event loop is: whatever holds it up holds up every request."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from server.metrics import Metrics

EVERY: Final = 0.05
"""Seconds between two looks."""


class Pulse:
    """A timer of one event loop, and how much too late it came each time. `start` and `stop` are called on the loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._late = metrics.times("loop_lag", "How much too late a timer of the event loop came, twenty a second")
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins."""
        self._await(asyncio.get_running_loop())

    def stop(self) -> None:
        """Ends."""
        if self._timer is not None:
            self._timer.cancel()

    def _await(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = time.monotonic() + EVERY
        self._timer = loop.call_later(EVERY, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._late.add(max(0.0, time.monotonic() - self._due))
        self._await(loop)
