"""One document or file of `main`, now or earlier: what it says, who last set each part, and all that it ever said."""

from __future__ import annotations

from typing import Any

from gitstore import errors, media, names
from gitstore.history import Entry, TimelineQuery
from server.web import links, preview
from server.web.moment import Seen, see
from server.web.preview import Look
from server.web.visit import Page, Shown, Visit, heading

_STORY = 15
_STEPS = 200
_YAML = (".yaml", ".yml")


def key(visit: Visit) -> Shown:
    """One key of the memory, wherever its file is."""
    seen = see(visit)
    name = visit.params["key"]
    entry = seen.snapshot.context.memory.get(name)
    if entry is not None:
        return _show(visit, seen, entry.path)
    path = _last_path(visit, seen, name)
    if path is None:
        raise errors.NotFound(f"the memory has no key `{names.one_line(name, 80)}`, and never had one")
    return _show(visit, seen, path)


def _last_path(visit: Visit, seen: Seen, name: str) -> str | None:
    """Where a key that is not there was kept last."""
    found = visit.store.history.timeline(seen.workspace.id, TimelineQuery(key=name, per_page=1)).entries
    changes = found[0].facts.changes if found else ()
    return next((one.path for one in changes if one.key == name and one.part == "memory"), None)


def show(visit: Visit) -> Shown:
    """A file of `main` by its path; of a folder, what is in it."""
    return _show(visit, see(visit), visit.params["path"])


def _show(visit: Visit, seen: Seen, path: str) -> Shown:
    data = seen.snapshot.tree().read(path)
    if data is None and (listed := seen.snapshot.tree().entries(path)):
        return _folder(seen, path, [(one.name, one.is_tree) for one in listed])
    part, name = names.classify("main", path)
    story, total = _story(visit, seen, path)
    if data is None and not total:
        raise errors.NotFound(f"there is no file `{names.one_line(path, 120)}`, and never was one")
    drawn = {
        "ws": heading(seen.workspace.visible),
        "tab": "now",
        "seen": seen,
        "path": path,
        "folders": _folders(path),
        "part": part,
        "name": name if part == "memory" and name is not None else path.rsplit("/", 1)[-1],
        "look": _look(seen, path, data) if data is not None else None,
        "size": len(data) if data is not None else None,
        "touch": seen.touch(path),
        "total": total,
    }
    drawn |= _steps(visit, seen, path, story)
    return Page("document.html", drawn, twin=_twin(seen, path, part, name))


def _twin(seen: Seen, path: str, part: str, name: str | None) -> str:
    if part == "memory" and name is not None:
        return links.api("workspaces", seen.slug, "memory", name, at=seen.asked)
    if part == "file" and name is not None:
        return links.api("workspaces", seen.slug, "files", name, at=seen.asked)
    if part == "spec":
        return links.api("workspaces", seen.slug, "spec", at=seen.asked)
    return links.api("workspaces", seen.slug, "history", path=path)


def _folder(seen: Seen, path: str, listed: list[tuple[str, bool]]) -> Page:
    drawn = {
        "ws": heading(seen.workspace.visible),
        "tab": "now",
        "seen": seen,
        "path": path,
        "folders": _folders(path),
        "listed": [(name, f"{path}/{name}", is_tree) for name, is_tree in listed],
    }
    return Page("folder.html", drawn, twin=links.api("workspaces", seen.slug, "timeline", path=path))


def _folders(path: str) -> list[tuple[str, str]]:
    parts = path.split("/")[:-1]
    return [(name, "/".join(parts[: at + 1])) for at, name in enumerate(parts)]


def _type(seen: Seen, path: str) -> str:
    stored = next((one for one in seen.snapshot.context.files.values() if one.path == path), None)
    return stored.content_type if stored is not None else media.guess(path)


def _look(seen: Seen, path: str, data: bytes) -> Look:
    return preview.look(_type(seen, path), data, path.rsplit("/", 1)[-1])


def _content(visit: Visit) -> tuple[str, bytes, str]:
    """Type, bytes and name of the file that the address names. Raises NotFound."""
    seen, path = see(visit), visit.params["path"]
    data = seen.snapshot.tree().read(path)
    if data is None:
        raise errors.NotFound(f"there is no file `{names.one_line(path, 120)}`")
    return _type(seen, path), data, path.rsplit("/", 1)[-1]


def frame(visit: Visit) -> Shown:
    """The file for the frame in which it is looked at."""
    return preview.frame(*_content(visit))


def download(visit: Visit) -> Shown:
    """The file to be saved."""
    return preview.download(*_content(visit))


# --- all that it ever said ------------------------------------------------------------------------------------------


def _story(visit: Visit, seen: Seen, path: str) -> tuple[list[Entry], int]:
    """The commits that changed a path, newest first, and how many there are."""
    query = TimelineQuery(path=path, per_page=_STEPS)
    found = visit.store.history.timeline(seen.workspace.id, query)
    return [one for one in found.entries if one.facts.branch == "main"], found.total


def _steps(visit: Visit, seen: Seen, path: str, story: list[Entry]) -> dict[str, Any]:
    """Where in its story the document is looked at, the versions beside that one, and a page of the story."""
    here = 0
    if seen.past:
        touch = seen.touch(path)
        known = [at for at, one in enumerate(story) if touch is not None and one.facts.id == touch.commit]
        here = known[0] if known else len(story)
    first = max(0, here - 2)
    return {
        "here": here,
        "older": story[here + 1].facts if here + 1 < len(story) else None,
        "newer": story[here - 1].facts if seen.past and 0 < here <= len(story) else None,
        "story": [_version(seen, path, one, at == here) for at, one in enumerate(story[first : first + _STORY], first)],
        "story_first": first,
        "story_left": max(len(story) - first - _STORY, 0),
    }


def _version(seen: Seen, path: str, entry: Entry, here: bool) -> dict[str, Any]:
    data = seen.snapshot.tree_at(entry.facts.id).read(path)
    change = next((one for one in entry.facts.changes if one.path == path), None)
    shown: dict[str, Any] = {"facts": entry.facts, "here": here, "op": change.op if change is not None else "changed"}
    if data is None:
        return shown | {"excerpt": "not there", "drawn": None}
    if not path.endswith(_YAML):
        return shown | {"excerpt": f"{len(data):,} bytes", "drawn": None}
    found = preview.look("application/yaml", data, path)
    if found.kind != "values":
        return shown | {"excerpt": "cannot be read", "drawn": None}
    return shown | {"excerpt": "", "drawn": found.drawn}
