"""One workspace: what it knows now, or knew at an earlier moment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from gitstore import record, values
from gitstore.context import GOVERNED, RESERVED, StoredFile
from gitstore.model import Touch
from gitstore.settings import GIT_TOKEN
from gitstore.snapshot import Snapshot
from server.web import links, tree
from server.web.moment import see
from server.web.paging import numbered
from server.web.visit import Page, Shown, Visit, heading

_KEYS = 100
_FILES = 100
_SMALL = 9  # a value with at most so many parts is shown unfolded
Touched = Callable[[str], Touch | None]
_SPEC = ("resources", "documents", "tools", "config", "instructions")


def show(visit: Visit) -> Shown:
    """The workspace as one page."""
    seen = see(visit)
    snapshot, slug = seen.snapshot, seen.slug
    context = snapshot.context
    q, page = visit.asked("q"), visit.number("page")
    touch = seen.touch if seen.past else _touches(visit, snapshot).get
    wanted = [one for one in context.memory.values() if q is None or q.casefold() in one.key.casefold()]
    budget = tree.Budget()
    memory = [
        _slot(entry.key, entry.path, values.decode(entry.value_json), touch, budget)
        for entry in wanted[(page - 1) * _KEYS : page * _KEYS]
    ]
    settings = values.decode(record.settings(context.settings_around, GIT_TOKEN in snapshot.sealed))
    spec = [
        _slot(part, f"spec/{part}.yaml", context.spec[part], touch, budget) for part in _SPEC if context.spec.get(part)
    ]
    shown = list(context.files.values())[:_FILES]

    def link(number: int) -> str:
        return links.workspace(slug, at=seen.asked, q=q, page=number if number > 1 else None)

    drawn = {
        "ws": heading(seen.workspace.visible),
        "tab": None if seen.past else "now",
        "seen": seen,
        "q": q,
        "memory": memory,
        "memory_total": len(context.memory),
        "pages": numbered(page, _KEYS, len(wanted), "key", link),
        "settings": _slot("settings", "settings.yaml", settings, touch, budget) if settings else None,
        "spec": spec,
        "spec_version": snapshot.spec_version,
        "files": _files(visit, snapshot, shown, touch),
        "files_total": len(context.files),
        "others": _others(snapshot),
        "problems": [] if seen.past else snapshot.problems,
        "fields": context.fields,
        "clone": f"git clone {base(visit)}/git/{slug}.git",
        "last": None if seen.past else visit.store.history.timeline(snapshot.workspace).entries[:6],
    }
    return Page("workspace.html", drawn, twin=links.api("workspaces", slug, at=seen.asked))


def base(visit: Visit) -> str:
    """How this server is reached from outside."""
    return visit.app.settings.public_url or f"http://{visit.call.header('Host') or 'localhost'}"


def _touches(visit: Visit, snapshot: Snapshot) -> dict[str, Touch]:
    history, identity = visit.store.history, snapshot.workspace
    found: dict[str, Touch] = {}
    for part in ("memory", "spec", "file"):
        found.update(history.last_touches(identity, "main", part))
    settings = history.last_touch(identity, "main", "settings.yaml")
    return {**found, "settings.yaml": settings} if settings is not None else found


def _slot(key: str, path: str, value: Any, touch: Touched, budget: tree.Budget) -> dict[str, Any]:
    full = budget.left > 0
    small = tree.weight(value, _SMALL + 1) <= _SMALL
    nested = isinstance(value, dict | list) and bool(value)
    return {
        "key": key,
        "path": path,
        "open": nested and small,
        "excerpt": tree.excerpt(value),
        "kind": tree.kind(value),
        "drawn": tree.draw(value, budget) if full and (nested or _long(value)) else None,
        "touch": touch(path),
    }


def _long(value: Any) -> bool:
    return isinstance(value, str) and (len(value) > 60 or "\n" in value)


def _files(visit: Visit, snapshot: Snapshot, wanted: Iterable[StoredFile], touch: Touched) -> list[dict[str, Any]]:
    listed = list(wanted)
    sizes = _sizes(visit, snapshot, [one.blob for one in listed if one.large is None])
    return [
        {
            "key": one.key,
            "name": one.file_name,
            "path": one.path,
            "content_type": one.content_type,
            "description": one.description,
            "size": one.large.size if one.large is not None else sizes[one.blob],
            "touch": touch(one.path),
        }
        for one in listed
    ]


def _sizes(visit: Visit, snapshot: Snapshot, blobs: list[str]) -> dict[str, int]:
    """Sizes by blob: known, or looked at and then known."""
    catalog = visit.store.catalog
    known = catalog.blobs(blobs)
    fresh = []
    for blob in set(blobs) - known.keys():
        data = snapshot.blob(blob)
        known[blob] = len(data), hashlib.sha256(data).hexdigest()
        fresh.append((blob, *known[blob]))
    if fresh:
        catalog.put_blobs(fresh)
    return {blob: size for blob, (size, _) in known.items()}


def _others(snapshot: Snapshot) -> list[str]:
    """What else lies at the top of the folder, which is nobody's business but the people's who put it there."""
    names = (entry.name for entry in snapshot.tree().entries(""))
    return [name for name in names if name not in GOVERNED and name != RESERVED]
