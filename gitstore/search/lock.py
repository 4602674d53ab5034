"""The folder of an index belongs to one search process at a time, its children included."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

LOCK: Final = "lock"
_WAIT: Final = 20.0  # seconds for a process that is ending


def hold(folder: Path) -> int:
    """Locks the folder, which is made where there is none; waits for a process that is ending.

    The lock lasts until every copy of the descriptor is closed. Raises OSError, TimeoutError among them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + _WAIT
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError(f"another search process has not let go of it for {_WAIT:.0f} s") from None
            time.sleep(0.01)
    except BaseException:
        os.close(descriptor)
        raise
