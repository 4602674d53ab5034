"""One change: who made it and why, what it changed by key and by line; and the difference between any two moments."""

from __future__ import annotations

from typing import Any

from gitstore.moments import commit_facts
from gitstore.repository.objects import EMPTY_TREE
from gitstore.repository.trees import TreeView
from server.web import difference, links
from server.web.paging import numbered
from server.web.visit import Page, Shown, Visit, heading


def show(visit: Visit) -> Shown:
    """One change."""
    workspace = visit.workspace
    snapshot = workspace.visible
    slug, path, page = snapshot.context.fields.slug, visit.asked("path"), visit.number("page")
    facts = commit_facts(visit.store, workspace, visit.params["commit"])
    after = snapshot.tree_at(facts.id)
    before = snapshot.tree_at(facts.parents[0]) if facts.parents else TreeView(after.source, EMPTY_TREE)
    files, total = difference.files(before, after, facts.branch, prefix=path or "", page=page)

    def link(number: int) -> str:
        return links.change(slug, facts.id, path=path, page=number if number > 1 else None)

    drawn = {
        "ws": heading(snapshot),
        "tab": "timeline",
        "one": facts,
        "files": files,
        "path": path,
        "pages": numbered(page, difference.PER_PAGE, total, "file", link),
        # What a merge brought in has no position: it is undone by the commit that merged it.
        "revertible": bool(facts.parents) and visit.store.history.position(snapshot.workspace, facts.id) is not None,
    }
    return Page("change.html", drawn, twin=links.api("workspaces", slug, "timeline", facts.id, path=path))


def compare(visit: Visit) -> Shown:
    """What differs between two moments of `main`."""
    workspace = visit.workspace
    snapshot = workspace.visible
    slug, path, page = snapshot.context.fields.slug, visit.asked("path"), visit.number("page")
    since, until = visit.asked("from"), visit.asked("to") or "now"
    drawn: dict[str, Any] = {"ws": heading(snapshot), "tab": "timeline", "since": since, "until": until, "path": path}
    if since is None:
        return Page("compare.html", drawn | {"files": None, "before": None, "after": None, "pages": None})
    before, after = (visit.app.past.moment(workspace, at) for at in (since, until))
    was, now = (
        snapshot.tree_at(one.main) if one.main is not None else TreeView(snapshot.tree().source, EMPTY_TREE)
        for one in (before, after)
    )
    files, total = difference.files(was, now, "main", prefix=path or "", page=page)

    def link(number: int) -> str:
        here = {"from": since, "to": visit.asked("to"), "path": path, "page": number if number > 1 else None}
        return links.under(slug, "compare", **here)

    drawn |= {
        "files": files,
        "before": before,
        "after": after,
        "pages": numbered(page, difference.PER_PAGE, total, "file", link),
    }
    twin = links.api("workspaces", slug, "diff", **{"from": since, "to": visit.asked("to"), "path": path})
    return Page("compare.html", drawn, twin=twin)
