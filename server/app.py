"""The whole server in one place: which routes there are, and what their handlers may use."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from gitstore import values
from gitstore.bounded import held
from server import git_http, lfs_http, openapi
from server.call import Call
from server.dispatch import App
from server.http import Raw, Route
from server.routes import (
    archives,
    artifacts,
    changes,
    checkout,
    diff,
    files,
    health,
    history,
    keys,
    memory,
    pages,
    pins,
    problems,
    remotes,
    search,
    snapshots,
    spec,
    timeline,
    undo,
    uploads,
    workflows,
    workspaces,
)

if TYPE_CHECKING:
    from gitstore.keys import Keys
    from gitstore.store import Store
    from server.config import Settings
    from server.metrics import Metrics


def routes(settings: Settings, more: Iterable[Route] = ()) -> tuple[Route, ...]:
    """The route table. `more` is added to it; tests of the frame add small routes of their own."""
    resources = (
        workspaces,
        memory,
        spec,
        files,
        workflows,
        archives,
        artifacts,
        pins,
        timeline,
        search,
        changes,
        undo,
        diff,
        history,
        problems,
        checkout,
        snapshots,
        remotes,
        keys,
    )

    @cache
    def written() -> tuple[bytes, str]:
        text = msgspec.json.encode(openapi.document(table, settings.public_url))
        return text, values.etag(text)

    def document(call: Call) -> Raw:
        """This document."""
        text, tag = written()
        return Raw(text, "application/json", "openapi.json", etag=tag)

    about = Route(
        "GET", "/openapi.json", None, document, "The OpenAPI document", media="application/json", tag="health"
    )
    doors = (
        *health.routes(settings.metrics_open),
        *git_http.routes(settings),
        *lfs_http.routes(settings),
        *pages.routes(settings),
        *uploads.routes(settings),
    )
    table = (*doors, *(route for one in resources for route in one.ROUTES), *more, about)
    return table


def make_app(
    settings: Settings,
    store: Store | None,
    keys: Keys,
    *,
    metrics: Metrics | None = None,
    more: Iterable[Route] = (),
) -> App:
    """An App ready to be listened for (`server.listen`). Accepts the admin key of the settings. Makes no thread yet."""
    if settings.admin_key:
        keys.bootstrap(settings.admin_key)
    app = App(routes(settings, more), settings, keys, store, metrics)
    if store is not None:
        _watch(app, store)
    return app


def _watch(app: App, store: Store) -> None:
    """The store's figures, read at each scrape."""
    journal, publisher = store.journal, store.publisher
    gauge = app.metrics.gauge
    gauge("journal_records", "Changes made durable since the start", lambda: float(journal.records))
    gauge("journal_groups", "Syncs that made them durable", lambda: float(journal.groups))
    gauge("journal_bytes", "Bytes of the journal file in use", lambda: float(journal.backlog))
    gauge("published_changes", "Changes published since the start", lambda: float(publisher.published))
    gauge("publication_waiting", "Workspaces that wait for publication", lambda: float(publisher.waiting))
    gauge("publication_failures", "Workspaces that cannot be published", lambda: float(len(publisher.failures)))
    gauge("extraction_backlog", "Documents whose text is not read yet", lambda: float(store.extraction.backlog))
    gauge("search_backlog", "Documents that wait for the search index", lambda: float(store.search.backlog))
    live = app.live
    gauge("checkout_commits", "Changes taken in from the folders", lambda: float(live.checkouts.committed))
    gauge("checkout_rounds", "Looks at every folder", lambda: float(live.settling.rounds))
    if (watching := live.watching) is not None:
        gauge("watched_folders", "Folders that are watched", lambda: float(watching.watched))
        gauge("watch_overflows", "Times that events of the folders were lost", lambda: float(watching.overflows))
    if (maintenance := app.maintenance) is not None:
        done = maintenance.figures
        gauge("maintenance_rounds", "Looks at the disk use of every workspace", lambda: float(done.rounds))
        gauge("maintenance_packed_objects", "Loose objects that became part of packs", lambda: float(done.gathered))
        gauge("maintenance_folded_packs", "Packs that git folded into others", lambda: float(done.repacked))
        gauge("maintenance_commit_graphs", "Commit graphs that were written", lambda: float(done.graphs))
        gauge(
            "maintenance_reclaimed", "Artifacts and large objects that were taken away", lambda: float(done.reclaimed)
        )
        gauge("maintenance_reclaimed_bytes", "Bytes that this gave back", lambda: float(done.reclaimed_bytes))
        gauge("maintenance_failures", "Workspaces that could not be looked after", lambda: float(done.failures))
    gauge("workspaces_in_memory", "Workspaces that are in memory", lambda: float(store.in_memory))
    app.metrics.gauges("cache_bytes", "Memory that is kept for what may be read again, by what it is", "cache", held)
