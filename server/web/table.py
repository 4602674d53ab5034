"""Which pages there are. `docs/pages.md` lists the same ones."""

from __future__ import annotations

from server.web import (
    artifacts,
    assets,
    change,
    document,
    find,
    health,
    keys,
    problems,
    search,
    sign,
    snapshots,
    sync,
    timeline,
    twin,
    undo,
    workspace,
    workspaces,
)
from server.web.links import UI
from server.web.visit import Place

_ONE = f"{UI}/w/{{id}}"
_ARTIFACT = f"{_ONE}/artifacts/{{artifact}}"

PLACES = (
    Place("GET", UI, None, workspaces.home, "To the workspaces", quick=True),
    Place("GET", f"{UI}/", "agent", workspaces.show, "The workspaces"),
    Place("GET", f"{UI}/sign-in", None, sign.show, "The sign-in form", quick=True),
    Place("POST", f"{UI}/sign-in", None, sign.begin, "Sign in", quick=True),
    Place("POST", f"{UI}/sign-out", "agent", sign.end, "Sign out", quick=True),
    Place("GET", f"{UI}/static/{{name}}", None, assets.show, "Stylesheet, script, icon", quick=True),
    Place("GET", f"{UI}/json/{{path+}}", "agent", None, "The JSON twin of a page", direct=twin.show),
    Place("GET", f"{UI}/search", "agent", find.show, "Search across everything"),
    Place("GET", f"{UI}/keys", "admin", keys.show, "The keys"),
    Place("POST", f"{UI}/keys", "admin", keys.create, "Make a key"),
    Place("POST", f"{UI}/keys/{{key}}/revoke", "admin", keys.revoke, "Revoke a key"),
    Place("GET", f"{UI}/health", "agent", health.show, "How the store is"),
    Place("GET", _ONE, "agent", workspace.show, "One workspace, now or as it was"),
    Place("GET", f"{_ONE}/timeline", "agent", timeline.show, "The timeline"),
    Place("GET", f"{_ONE}/timeline/new", "agent", timeline.new, "What is new on it, for the script"),
    Place("GET", f"{_ONE}/changes/{{commit}}", "agent", change.show, "One change"),
    Place("GET", f"{_ONE}/compare", "agent", change.compare, "What differs between two moments"),
    Place("GET", f"{_ONE}/search", "agent", search.show, "When files held a text"),
    Place("GET", f"{_ONE}/memory/{{key}}", "agent", document.key, "One key of the memory, now or as it was"),
    Place("GET", f"{_ONE}/tree/{{path+}}", "agent", document.show, "One file or folder, now or as it was"),
    Place("GET", f"{_ONE}/frame/{{path+}}", "agent", document.frame, "A file, in a frame to look at"),
    Place("GET", f"{_ONE}/download/{{path+}}", "agent", document.download, "A file, to be saved"),
    Place("GET", f"{_ONE}/undo", "admin", undo.propose, "What undoing a change or a cause would do"),
    Place("POST", f"{_ONE}/undo", "admin", undo.undo, "Undo it"),
    Place("GET", f"{_ONE}/restore", "admin", undo.look_back, "What restoring an earlier state would do"),
    Place("POST", f"{_ONE}/restore", "admin", undo.bring_back, "Restore it"),
    Place("GET", f"{_ONE}/artifacts", "agent", artifacts.show, "The evidence explorer"),
    Place("GET", _ARTIFACT, "agent", artifacts.one, "One artifact"),
    Place("GET", f"{_ARTIFACT}/frame", "agent", artifacts.frame, "An artifact, in a frame to look at"),
    Place("GET", f"{_ARTIFACT}/download", "agent", artifacts.download, "An artifact, to be saved"),
    Place("GET", f"{_ONE}/problems", "agent", problems.show, "What is wrong, and the folder's edits"),
    Place("POST", f"{_ONE}/problems/{{problem}}", "admin", problems.settle, "Settle a problem"),
    Place("POST", f"{_ONE}/commit", "admin", problems.commit, "Commit the folder's edits"),
    Place("GET", f"{_ONE}/snapshots", "agent", snapshots.show, "The snapshots"),
    Place("POST", f"{_ONE}/snapshots", "admin", snapshots.make, "Take a snapshot"),
    Place("POST", f"{_ONE}/snapshots/{{name}}/delete", "admin", snapshots.delete, "Delete a snapshot"),
    Place("GET", f"{_ONE}/sync", "agent", sync.show, "How following a remote stands"),
    Place("POST", f"{_ONE}/sync", "admin", sync.run, "Exchange with the remote now"),
)
