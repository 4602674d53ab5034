"""What is kept in memory as long as there is room."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_all: Final[weakref.WeakSet[Bounded[Any, Any]]] = weakref.WeakSet()


class Bounded(Generic[K, V]):
    """Values by key, `limit` bytes of them; what was put first makes room. May be used from any thread.

    `name` says what is kept (`held`). Sizes are the caller's, in bytes of memory, with what Python takes around them.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._limit = limit
        self.size = 0
        _all.add(self)

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
            self.size += size
            while self.size > self._limit and len(self._values) > 1:
                self.size -= self._values.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Lets go of everything."""
        with self._lock:
            self._values.clear()
            self.size = 0


def held() -> dict[str, int]:
    """What all of them keep, in bytes by name."""
    found: dict[str, int] = {}
    for one in list(_all):
        found[one.name] = found.get(one.name, 0) + one.size
    return found
