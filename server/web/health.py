"""Whether the store is well, for a person: what waits, what fails, what is derived and how far it has come."""

from __future__ import annotations

from server.web import workspaces
from server.web.visit import Page, Shown, Visit


def show(visit: Visit) -> Shown:
    """The store as a whole."""
    store, app = visit.store, visit.app
    journal, publisher = store.journal, store.publisher
    ids = store.catalog.workspaces()
    troubled = [
        (row, count)
        for identity, record in store.catalog.records_with(b'"problems":[{').items()
        if (row := store.catalog.workspace(identity)) is not None and (count := _problems(visit, identity, record))
    ]
    lights = [
        ("Keys can be read", app.keys.problem is None, str(app.keys.problem or "")),
        ("The disk takes what is written", not journal.failing, "reads are served, writes are refused"),
        ("Every workspace can be published", not publisher.failures, f"{len(publisher.failures)} cannot"),
    ]
    figures = [
        ("Workspaces", len(ids)),
        ("Workspaces in memory", store.in_memory),
        ("Commits in history", _commits(visit)),
        ("Changes made durable since the start", journal.records),
        ("Changes published since the start", publisher.published),
        ("Workspaces that wait for publication", publisher.waiting),
        ("Documents that wait for the search index", store.search.backlog),
        ("Commits taken in from folders", app.live.checkouts.committed),
        ("Requests being answered", app.busy),
    ]
    kept = app.maintenance.figures if app.maintenance is not None else None
    if kept is not None:
        figures += [
            ("Loose objects that were packed", kept.gathered),
            ("Packs that became part of others", kept.repacked),
            ("Bytes that were reclaimed", kept.reclaimed_bytes),
        ]
    drawn = {"lights": lights, "figures": figures, "troubled": troubled, "kept": kept}
    return Page("health.html", drawn, twin="/health")


def _problems(visit: Visit, identity: str, record: bytes) -> int:
    hot = visit.store.hot(identity)
    return len(hot.visible.problems) if hot is not None else len(workspaces.listed(record).problems)


def _commits(visit: Visit) -> int:
    history = visit.store.history
    found = (history.bounds(workspace, branch) for workspace, branch in history.heads())
    return sum(one.count for one in found if one is not None)
