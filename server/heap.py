"""Memory that Python gave back and the C library keeps: with many threads that is soon more than what is in use.

glibc alone can be told (mallopt(3), malloc_trim(3)); with another C library nothing is done.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
_LARGE: Final = 4 << 20  # bytes of a block that is a mapping of its own; by itself the bound would grow
_ARENAS: Final = 2  # threads share these; each has holes of its own
_SPARE: Final = 16 << 20  # bytes at the end that are given back only by `trim`: to get them anew costs a fault a page


def settle() -> None:
    """Tells the library how to go about it; to be called before there are threads."""
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_ARENA_MAX, _ARENAS)
        mallopt(_TRIM_THRESHOLD, _SPARE)


def trim() -> None:
    """Gives the system back what is not in use. Often is better: other threads wait for it when they need memory."""
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None)
