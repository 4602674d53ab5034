"""Whether the store is well, for a person: what waits, what fails, what is derived and how far it has come."""

from __future__ import annotations

from server.web.visit import Page, Shown, Visit

_MOST = 200


def show(visit: Visit) -> Shown:
    """The store as a whole."""
    store, app = visit.store, visit.app
    journal, publisher = store.journal, store.publisher
    ids = store.catalog.workspaces()
    troubled = []
    for identity in ids[:_MOST]:
        hot, row = store.hot(identity), store.catalog.workspace(identity)
        if hot is not None and row is not None and hot.visible.problems:
            troubled.append((row, len(hot.visible.problems)))
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
    drawn = {"lights": lights, "figures": figures, "troubled": troubled}
    return Page("health.html", drawn)


def _commits(visit: Visit) -> int:
    history = visit.store.history
    found = (history.bounds(workspace, branch) for workspace, branch in history.heads())
    return sum(one.count for one in found if one is not None)
