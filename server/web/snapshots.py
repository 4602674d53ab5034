"""Named states of a workspace: listed, made, taken away; each is a door into the past."""

from __future__ import annotations

from gitstore import snapshots
from server.web import links
from server.web.visit import Moved, Page, Shown, Visit, heading


def show(visit: Visit) -> Shown:
    """Every snapshot, the newest first."""
    snapshot = visit.workspace.visible
    slug = snapshot.context.fields.slug
    drawn = {
        "ws": heading(snapshot),
        "tab": "snapshots",
        "rows": snapshots.contents(visit.store, snapshot.workspace),
        "at": visit.asked("of"),
    }
    return Page("snapshots.html", drawn, twin=links.api("workspaces", slug, "snapshots"))


def make(visit: Visit) -> Shown:
    """Names the state now, or at a moment."""
    workspace = visit.workspace
    snapshots.put(
        visit.store,
        workspace.id,
        visit.field("name"),
        at=visit.field("at") or None,
        message=visit.field("message") or None,
        who=visit.who,
    )
    return Moved(links.under(workspace.visible.context.fields.slug, "snapshots"))


def delete(visit: Visit) -> Shown:
    """Takes a name away; what it named stays in history."""
    workspace = visit.workspace
    snapshots.delete(visit.store, workspace.id, visit.params["name"])
    return Moved(links.under(workspace.visible.context.fields.slug, "snapshots"))
