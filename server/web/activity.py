"""How much was going on in a workspace, day by day; what was counted once is kept as long as nothing changes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from gitstore.history import History, TimelineQuery
from server.web import words
from server.web.chart import Day, days

_KEPT = 512


class Activity:
    """Counts of the last days by workspace. Threads may share one."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Any, ...], dict[tuple[int, str], int]] = OrderedDict()

    def days(self, history: History, workspace: str, first: int, last: int, query: TimelineQuery) -> list[Day]:
        """Every day from `first` to `last` (numbers since 1970) with the changes that the filters let through."""
        heads = (history.head(workspace, "main"), history.head(workspace, "evidence"))
        key = (workspace, heads, first, last, query)
        counted = self._known.get(key)
        if counted is None:
            counted = history.activity(workspace, query, words.DAY)
            self._known[key] = counted
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return days(counted, first, last)
