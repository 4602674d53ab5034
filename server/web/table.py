"""Which pages there are. `docs/pages.md` lists the same ones."""

from __future__ import annotations

from server.web import assets, sign, timeline, workspace, workspaces
from server.web.links import UI
from server.web.visit import Place

_ONE = f"{UI}/w/{{id}}"

PLACES = (
    Place("GET", UI, None, workspaces.home, "To the workspaces", quick=True),
    Place("GET", f"{UI}/", "agent", workspaces.show, "The workspaces"),
    Place("GET", f"{UI}/sign-in", None, sign.show, "The sign-in form", quick=True),
    Place("POST", f"{UI}/sign-in", None, sign.begin, "Sign in", quick=True),
    Place("POST", f"{UI}/sign-out", "agent", sign.end, "Sign out", quick=True),
    Place("GET", f"{UI}/static/{{name}}", None, assets.show, "Stylesheet, script, icon", quick=True),
    Place("GET", _ONE, "agent", workspace.show, "One workspace, now or as it was"),
    Place("GET", f"{_ONE}/timeline", "agent", timeline.show, "The timeline"),
    Place("GET", f"{_ONE}/timeline/new", "agent", timeline.new, "What is new on it, for the script"),
)
