"""Which descriptors are ready: as select(2), for any number of open files (poll(2))."""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any


def ready(reading: Sequence[Any], writing: Sequence[Any], seconds: float | None) -> tuple[list[Any], list[Any]]:
    """Those of the first that can be read, or have ended, and those of the second that can be written to.

    Waits so many seconds at most (None: for ever). Each is a number or has a `fileno`.
    """
    wanted: dict[int, int] = {}
    for ones, event in ((reading, select.POLLIN), (writing, select.POLLOUT)):
        for one in ones:
            wanted[_number(one)] = wanted.get(_number(one), 0) | event
    poll = select.poll()
    for number, events in wanted.items():
        poll.register(number, events)
    found = dict(poll.poll(None if seconds is None else max(0.0, seconds) * 1000))
    over = select.POLLHUP | select.POLLERR | select.POLLNVAL
    return (
        [one for one in reading if found.get(_number(one), 0) & (select.POLLIN | over)],
        [one for one in writing if found.get(_number(one), 0) & (select.POLLOUT | over)],
    )


def _number(one: Any) -> int:
    return one if isinstance(one, int) else int(one.fileno())
