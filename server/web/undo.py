"""Undoing, looked at before it is done: reverting what a commit or a cause wrote, and restoring an earlier state.

The first page only tells what would change and what stands in the way; its form does it.
"""

from __future__ import annotations

from typing import Any, cast, get_args

from msgspec import UNSET

from gitstore import errors, values
from gitstore.causes import Cause
from gitstore.restoring import Selection, restore
from gitstore.reverting import Obstacle, OnConflict, revert
from server.web import difference, links, tree, words
from server.web.visit import Moved, Page, Shown, Visit, heading

_CAUSES = ("workflow_id", "task_id", "request_id", "actor", "since", "until")
_SHOWN = 30


def _what(fields: dict[str, str]) -> Cause | list[str]:
    """What is to be undone, by the fields of a query or a form. Raises Invalid."""
    if fields.get("commit"):
        return fields["commit"].split()
    since, until = (_time(fields.get(name), end) for name, end in (("since", False), ("until", True)))
    cause = Cause(
        actor=fields.get("actor"), workflow_id=fields.get("workflow_id"), task_id=fields.get("task_id"),
        request_id=fields.get("request_id"), since=since, until=until,
    )  # fmt: skip
    if not cause.named:
        raise errors.Invalid("say what to undo: a commit, a workflow, a task, a request or an actor")
    return cause


def _time(text: str | None, end: bool) -> int | None:
    if not text:
        return None
    if len(text) == 10:
        return values.parse_iso(f"{text}T00:00:00.000Z") + (words.DAY - 1 if end else 0)
    return values.parse_iso(text)


def _choice(text: str | None) -> OnConflict:
    wanted = text or "refuse"
    if wanted not in get_args(OnConflict):
        raise errors.Invalid(f"on_conflict must be one of {', '.join(get_args(OnConflict))}")
    return cast(OnConflict, wanted)


def _side(value: Any, budget: tree.Budget) -> Any:
    return tree.draw(value, budget) if value is not UNSET else None


def _obstacle(one: Obstacle, budget: tree.Budget) -> dict[str, Any]:
    return {
        "path": one.path,
        "key": None if one.key is UNSET else one.key,
        "place": difference.readable(one.pointer) if one.line is UNSET else f"line {one.line}",
        "before": _side(one.before, budget),
        "written": _side(one.written, budget),
        "now": _side(one.now, budget),
    }


def propose(visit: Visit) -> Shown:
    """What a revert would change, and which later values are in its way."""
    workspace = visit.workspace
    snapshot = workspace.visible
    slug = snapshot.context.fields.slug
    fields = {name: value for name in ("commit", *_CAUSES) if (value := visit.asked(name)) is not None}
    tried = revert(visit.store, workspace.id, _what(fields), visit.who, dry_run=True).result()
    changes, total = tried.undone.changes(_SHOWN)
    budget = tree.Budget()
    drawn = {
        "ws": heading(snapshot),
        "tab": "timeline",
        "fields": fields,
        "commits": tried.commits[:_SHOWN],
        "commits_total": len(tried.commits),
        "files": difference.drawn(changes),
        "files_total": total,
        "obstacles": [_obstacle(one, budget) for one in tried.obstacles],
    }
    request = f"POST {links.api('workspaces', slug, 'revert', dry_run='true')}"
    return Page("undo.html", drawn, request=request)


def undo(visit: Visit) -> Shown:
    """Reverts, and shows the change that this made."""
    workspace = visit.workspace
    slug = workspace.visible.context.fields.slug
    fields = {name: visit.field(name) for name in ("commit", *_CAUSES) if visit.field(name)}
    done = revert(
        visit.store, workspace.id, _what(fields), visit.who,
        on_conflict=_choice(visit.field("on_conflict")), message=visit.field("message") or None,
    ).result()  # fmt: skip
    made = done.undone.commit
    return Moved(links.change(slug, made.id) if made is not None else links.timeline(slug))


def _selection(paths: str | None, key: str | None) -> Selection:
    return Selection(paths=(paths,) if paths else (), keys=(key,) if key else ())


def look_back(visit: Visit) -> Shown:
    """What a restore would change."""
    workspace = visit.workspace
    snapshot = workspace.visible
    slug = snapshot.context.fields.slug
    at, path, key = visit.asked("at"), visit.asked("path"), visit.asked("key")
    if at is None:
        raise errors.Invalid("say to which moment: at=<commit, snapshot or time>")
    moment = visit.app.past.moment(workspace, at)
    if moment.main is None:
        raise errors.NotFound("the workspace had no context then")
    selection = _selection(path, key)
    tried = restore(visit.store, workspace.id, moment.main, visit.who, selection=selection, dry_run=True).result()
    changes, total = tried.changes(_SHOWN)
    drawn = {
        "ws": heading(snapshot),
        "tab": "timeline",
        "moment": moment,
        "path": path,
        "key": key,
        "what": selection.text(),
        "files": difference.drawn(changes),
        "files_total": total,
    }
    request = f"POST {links.api('workspaces', slug, 'restore', dry_run='true')}"
    return Page("restore.html", drawn, request=request)


def bring_back(visit: Visit) -> Shown:
    """Restores, and shows the change that this made."""
    workspace = visit.workspace
    slug = workspace.visible.context.fields.slug
    moment = visit.app.past.moment(workspace, visit.field("at"))
    if moment.main is None:
        raise errors.NotFound("the workspace had no context then")
    done = restore(
        visit.store, workspace.id, moment.main, visit.who,
        selection=_selection(visit.field("path") or None, visit.field("key") or None),
        message=visit.field("message") or None,
    ).result()  # fmt: skip
    made = done.commit
    return Moved(links.change(slug, made.id) if made is not None else links.workspace(slug))
