"""How many requests a key may make in a minute: one counter a caller, all dropped together when the minute ends."""

from __future__ import annotations

import time

from gitstore import errors


class Rate:
    """Fixed windows of a minute; `limit` 0 switches it off."""

    __slots__ = ("_ends", "_used", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._ends = 0.0
        self._used: dict[str, int] = {}

    def take(self, caller: str) -> tuple[int, int]:
        """Counts one request: (remaining, seconds until the window ends). Raises RateLimited when none is left."""
        now = time.monotonic()
        if now >= self._ends:
            self._ends = now + 60
            self._used.clear()
        used = self._used.get(caller, 0) + 1
        wait = max(1, int(self._ends - now + 0.999))
        if used > self.limit:
            raise errors.RateLimited(
                f"more than {self.limit} requests in a minute (rate_limit_per_minute); wait {wait} s", retry_after=wait
            )
        self._used[caller] = used
        return self.limit - used, wait
