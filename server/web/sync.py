"""How following a remote stands, and exchanging with it now."""

from __future__ import annotations

import msgspec

from server.web import links
from server.web.visit import Moved, Page, Shown, Visit, heading


def show(visit: Visit) -> Shown:
    """What is followed, and how the last exchange went."""
    snapshot = visit.workspace.visible
    slug = snapshot.context.fields.slug
    report = visit.app.following.report(snapshot)
    counts = {name.replace("_", " "): count for name, count in msgspec.structs.asdict(report.counts).items()}
    drawn = {"ws": heading(snapshot), "tab": "sync", "report": report, "counts": counts}
    return Page("sync.html", drawn, twin=links.api("workspaces", slug, "sync"))


def run(visit: Visit) -> Shown:
    """Exchanges now, and tells how that went."""
    snapshot = visit.workspace.visible
    visit.app.following.ask(snapshot, msgspec.structs.replace(visit.who, door="git")).result()
    return Moved(links.under(snapshot.context.fields.slug, "sync"))
