"""The explorer as the server asks it: answered by the search process, or without it by a look at everything."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from gitstore.database import Unpacker, pack
from gitstore.errors import StorageFailed
from gitstore.explorer.joined import row_json
from gitstore.explorer.page import Explored, ExplorerPage, highlight, sought
from gitstore.explorer.scan import Reading, Records, Scan, Text
from gitstore.model import Artifact
from gitstore.query import ExplorerQuery
from gitstore.search import Away, Search
from gitstore.search.documents import Standing
from gitstore.search.query import parse

log = logging.getLogger("gitstore.explorer")

_READING: Final = 30.0  # seconds that the columns of a workspace may take which that process has not read yet
_REMEMBERED: Final = 10_000  # workspaces
_PATIENCE: Final = 2.0  # seconds for a search process that starts, before it is done without

_explored: Unpacker[Explored] = Unpacker(Explored)


class Explorer:
    """Answers queries over a catalog and a search index. May be called from any thread.

    `standing` says how far the index is for a workspace. Where it does not have everything, contents are read from git
    instead; where the search process is away, the records are gone through one by one: the answer is the same.
    """

    def __init__(
        self, catalog: Records, search: Search, standing: Callable[[str | None], Standing] = lambda _: Standing()
    ) -> None:
        self._catalog = catalog
        self._search = search
        self._standing = standing
        self._scan = Scan(catalog, search)
        self._read: set[tuple[int | None, str]] = set()  # search process and workspace, whose columns it has

    def explore(self, workspace: str, query: ExplorerQuery, now: int, text: Text = lambda _: None) -> ExplorerPage:
        """The page of a workspace's artifacts that the query asks for, at `now` (ms).

        `text` gives the content of an artifact for the highlights of the rows on the page, and is asked for no other
        as long as the index has everything. Raises TooSlow at the search's time limit.
        """
        return whole(
            self._search,
            self._standing,
            workspace,
            query,
            lambda: self._columns(workspace, query, now, text),
            lambda deadline: self._scan.explore(workspace, query, now, text, Reading(self._catalog, text, deadline)),
        )

    def count(self, workspace: str, now: int) -> int:
        """How many artifacts the workspace has that have not expired at `now` (ms)."""
        try:
            return self._ask(workspace, None, now).total
        except (Away, StorageFailed):
            return self._scan.count(workspace, now)

    def _ask(self, workspace: str, query: ExplorerQuery | None, now: int) -> Explored:
        search = self._search
        asked = pack((workspace, now, query, search.limit))
        first = (search.process, workspace) not in self._read
        body = search.ask("explore", asked, search.limit + _READING if first else None, patience=_PATIENCE)
        if first:
            if len(self._read) >= _REMEMBERED:
                self._read.clear()
            self._read.add((search.process, workspace))
        return _explored(body)

    def _columns(self, workspace: str, query: ExplorerQuery, now: int, text: Text) -> ExplorerPage:
        found = self._ask(workspace, query, now)
        parts = sought(parse(query.q)) if query.q else None
        rows = []
        until = time.monotonic() + self._search.limit
        for row, artifact in found.rows:
            # A page of long contents must not take longer than a search: the rest of it is shown by its names.
            said = text(artifact) if parts is not None and time.monotonic() < until else None
            passage = highlight(row, parts, said) if parts is not None else None
            rows.append(row_json(row, workspace, artifact.metadata, passage))
        shown: list[Artifact | None] = [artifact for _, artifact in found.rows]
        return ExplorerPage(rows, found.total, found.summary, found.filters, shown)


def whole(
    search: Search,
    standing: Callable[[str | None], Standing],
    workspace: str,
    query: ExplorerQuery,
    indexed: Callable[[], ExplorerPage],
    read: Callable[[float], ExplorerPage],
) -> ExplorerPage:
    """The answer of the search index, or where it is away or has not everything, what `read` finds without it.

    `read` is given the moment (monotonic seconds) at which it has to give up.
    """
    before, losses = standing(workspace), search.losses
    if before.index == "ready" or not query.q:
        try:
            found = indexed()
            if losses == search.losses or not query.q:
                return replace(found, standing=before)
        except (Away, StorageFailed) as error:
            log.warning("workspace %s is explored without the search process: %s", workspace, error)
    found = read(time.monotonic() + search.limit)
    after = standing(workspace)
    return replace(found, standing=after if after.index == "rebuilding" else Standing("rebuilding", 0.0))
