"""What a person must mend in a workspace, how its folder stands, and the forms that settle a conflict."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, cast

from gitstore import diff, documents, errors, resolving, values
from gitstore.documents import DocumentError
from gitstore.model import Problem
from server.web import difference, links, tree
from server.web.visit import Moved, Page, Shown, Visit, heading

_TAKE = ("file", "main")
_PLACES = 100


def _row(one: Problem) -> dict[str, Any]:
    sides = one.values or {}
    sided = one.kind in ("conflict", "rewrite")
    return {
        "id": one.id,
        "kind": one.kind,
        "path": one.path,
        "key": one.key,
        "line": one.line,
        "column": one.column,
        "message": one.message,
        "hint": one.hint,
        "since": values.parse_iso(one.since),
        "sides": [(name, tree.draw(value) if value is not None else None) for name, value in sides.items()],
        "places": _places(sides) if one.kind == "conflict" else None,
        "takes": _takes(one) if sided else (),
        "text": _text(sides.get("file")) if one.kind == "conflict" and "file" in sides else None,
    }


def _places(sides: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Where the two sides of a conflict differ; None where they cannot be held against each other by key."""
    main, file = sides.get("main"), sides.get("file")
    if not isinstance(main, dict | list) or not isinstance(file, dict | list):
        return None
    budget = tree.Budget()
    return [difference.place(one, budget) for one in islice(diff.differences(main, file), _PLACES)]


def _takes(one: Problem) -> tuple[tuple[str, str], ...]:
    if one.kind == "rewrite":
        return (("main", "Bring back what was dropped"), ("file", "Leave it dropped"))
    return (("file", "Take the file in the folder"), ("main", "Take what main has"))


def _text(value: Any) -> str | None:
    """What the form offers to be edited: the file's own side, as YAML."""
    if isinstance(value, str):
        return None
    try:
        return documents.dump(value).decode()
    except (errors.GitstoreError, ValueError):
        return None


def show(visit: Visit) -> Shown:
    """Every problem, and the edits in the folder that are no commit yet."""
    workspace = visit.workspace
    snapshot = workspace.visible
    slug = snapshot.context.fields.slug
    drawn = {
        "ws": heading(snapshot),
        "tab": "problems",
        "rows": [_row(one) for one in snapshot.problems],
        "folder": visit.app.live.checkouts.state(workspace),
    }
    return Page("problems.html", drawn, twin=links.api("workspaces", slug, "problems"))


def settle(visit: Visit) -> Shown:
    """Settles one by a side, or by a value."""
    workspace = visit.workspace
    slug, take, wanted = workspace.visible.context.fields.slug, visit.field("take"), visit.form.get("value")
    more: dict[str, Any] = {}
    if take == "value" and wanted is not None:
        try:
            more["value"] = documents.load(wanted.replace("\r\n", "\n").encode(), "the value")
        except DocumentError as error:
            raise errors.Invalid(f"the value cannot be read: {error.message}") from error
    elif take not in _TAKE:
        raise errors.Invalid(f"take must be one of {', '.join(_TAKE)}, or value with a value")
    resolving.resolve(
        visit.store,
        visit.app.live.checkouts,
        workspace,
        visit.params["problem"],
        take=cast(resolving.Take, take) if take in _TAKE else None,
        who=visit.who,
        **more,
    )
    return Moved(links.under(slug, "problems"))


def commit(visit: Visit) -> Shown:
    """Commits what is edited in the folder."""
    workspace = visit.workspace
    slug = workspace.visible.context.fields.slug
    outcome = visit.app.live.checkouts.commit(workspace, visit.field("message") or None, visit.who)
    if outcome is not None and outcome.commit is not None:
        return Moved(links.change(slug, outcome.commit.id))
    return Moved(links.under(slug, "problems"))
