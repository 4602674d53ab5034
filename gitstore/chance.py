"""Random bytes as the system gives them, fetched some at a time: each call of it lets go of the interpreter's lock, and
to have that back can take longer than the change that wants an id.
"""

from __future__ import annotations

import os
import threading
from typing import Final

_SIZE: Final = 16
_FETCHED: Final = 256 * _SIZE


class _Drawn:
    """What was fetched and not given out yet."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._left = b""

    def draw(self) -> bytes:
        with self._lock:
            if not self._left:
                self._left = os.urandom(_FETCHED)
            given, self._left = self._left[:_SIZE], self._left[_SIZE:]
            return given


_drawn = _Drawn()
os.register_at_fork(after_in_child=_drawn.forget)  # a child must not draw what its parent draws


def draw() -> bytes:
    """16 bytes that nobody had before. May be called from any thread."""
    return _drawn.draw()
