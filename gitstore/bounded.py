"""What is kept in memory as long as there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """Values by key, `limit` bytes of them; what was put first makes room. May be used from any thread."""

    def __init__(self, limit: int) -> None:
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._limit = limit
        self._size = 0

    def get(self, key: K) -> V | None:
        """The value, if it is here."""
        found = self._values.get(key)
        return found[0] if found is not None else None

    def put(self, key: K, value: V, size: int) -> None:
        """Keeps a value of about so many bytes, unless there is one."""
        with self._lock:
            if key in self._values:
                return
            self._values[key] = value, size
            self._size += size
            while self._size > self._limit and len(self._values) > 1:
                self._size -= self._values.popitem(last=False)[1][1]
