"""One document or file of `main`, now or earlier: what it says, who last set each part, and all that it ever said."""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec
from markupsafe import Markup

from gitstore import errors, media, names
from gitstore.model import Stamp
from gitstore.story import Story, Turn
from server.web import gutter, links, preview, words
from server.web.moment import Seen, see
from server.web.preview import Look
from server.web.visit import Page, Shown, Visit, heading

_STORY = 15
_BLAMED = ("values", "text")
_BLAME_MAX = 256 * 1024
_YAML = (".yaml", ".yml")


def key(visit: Visit) -> Shown:
    """One key of the memory, wherever its file is."""
    seen = see(visit)
    name = visit.params["key"]
    entry = seen.snapshot.context.memory.get(name)
    if entry is not None:
        return _show(visit, seen, entry.path)
    path = visit.store.history.path_of_key(seen.workspace.id, "memory", name)
    if path is None:
        raise errors.NotFound(f"the memory has no key `{names.one_line(name, 80)}`, and never had one")
    return _show(visit, seen, path)


def show(visit: Visit) -> Shown:
    """A file of `main` by its path; of a folder, what is in it."""
    return _show(visit, see(visit), visit.params["path"])


def _show(visit: Visit, seen: Seen, path: str) -> Shown:
    data = seen.snapshot.tree().read(path)
    if data is None and (listed := seen.snapshot.tree().entries(path)):
        return _folder(seen, path, [(one.name, one.is_tree) for one in listed])
    part, name = names.classify("main", path)
    if part == "memory":
        name = _key_of(seen, path) or name
    story = visit.store.history.story(seen.workspace.id, "main", path)
    total = story.length if story is not None else 0
    if data is None and not total:
        raise errors.NotFound(f"there is no file `{names.one_line(path, 120)}`, and never was one")
    look = _look(seen, path, data) if data is not None else None
    view = visit.asked("view")
    drawn: dict[str, Any] = {
        "ws": heading(seen.workspace.visible),
        "tab": None if seen.past else "now",
        "seen": seen,
        "path": path,
        "folders": _folders(path),
        "part": part,
        "name": name if part == "memory" and name is not None else path.rsplit("/", 1)[-1],
        "look": look,
        "blame": _blame(visit, seen, path) if data is not None and _blamed(look, data, view) else None,
        "view": view,
        "size": len(data) if data is not None else None,
        "touch": seen.touch(path),
        "total": total,
    }
    drawn |= _steps(visit, seen, path, story, total)
    return Page("document.html", drawn, twin=_twin(seen, path, part if data is not None else "gone", name))


def _key_of(seen: Seen, path: str) -> str | None:
    """The key that a file holds; one that is too long for a file name stands inside the file."""
    return next((one.key for one in seen.snapshot.context.memory.values() if one.path == path), None)


def _blamed(look: Look | None, data: bytes, view: str | None) -> bool:
    """Whether it is shown with who set each part: not where that is not wanted (`view=plain`), or too much to tell."""
    return view != "plain" and look is not None and look.kind in _BLAMED and len(data) <= _BLAME_MAX


def _blame(visit: Visit, seen: Seen, path: str) -> Markup | None:
    moment = visit.app.past.moment(seen.workspace, seen.asked) if seen.asked is not None else None
    try:
        return gutter.draw(seen.slug, visit.app.retrospect.blame(seen.workspace, path, moment=moment))
    except (errors.NotFound, errors.Invalid):
        return None  # no plain file, or nothing that can be taken apart: it is shown without


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
        "tab": None if seen.past else "now",
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


class Version(msgspec.Struct):
    """One version of the file: who made it, what it did, where the file was then, and what it said in short."""

    stamp: Stamp
    op: str
    path: str
    old_path: str | None
    here: bool
    excerpt: str = ""
    drawn: Markup | None = None


def _steps(visit: Visit, seen: Seen, path: str, story: Story | None, total: int) -> dict[str, Any]:
    """Where in its story the document is looked at, the versions beside that one, and a page of the story."""
    here, first, turns = _page(seen, path, story, total)
    shown = turns[:_STORY]
    around = dict(enumerate(turns, first))
    stamps = visit.store.history.stamps(seen.workspace.id, [one.commit for one in shown])
    versions = [
        _version(seen, stamps[one.commit], one, at == here)
        for at, one in enumerate(shown, first)
        if one.commit in stamps
    ]
    return {
        "here": here,
        "older": _at(seen, around[here + 1]) if here + 1 in around else None,
        "newer": (_at(seen, around[here - 1]) if here > 1 else links.document(seen.slug, path)) if here else None,
        "story": versions,
        "story_left": total > len(shown),
    }


def _page(seen: Seen, path: str, story: Story | None, total: int) -> tuple[int, int, list[Turn]]:
    """How many turns are newer than the one that is looked at, all where it is none of them; and the turns around it.

    The second number is how many are newer than the first of those.
    """

    def around(here: int) -> tuple[int, int, list[Turn]]:
        first = max(here - 2, 0)
        return here, first, list(islice(story.turns(skip=first), _STORY + 1)) if story is not None else []

    if not seen.past:
        return around(0)
    then, touch = seen.story(path), seen.touch(path)
    here, first, turns = around(total - (then.length if then is not None else 0))
    if touch is not None and any(at == here and one.commit == touch.commit for at, one in enumerate(turns, first)):
        return here, first, turns
    return around(total)  # another file was there then, or it stood on a line that was merged in later


def _at(seen: Seen, turn: Turn) -> str:
    return links.document(seen.slug, turn.path, at=turn.commit)


def _version(seen: Seen, stamp: Stamp, turn: Turn, here: bool) -> Version:
    version = Version(stamp, turn.op, turn.path, turn.old_path, here)
    if turn.blob is None:
        version.excerpt = "not there any more" if turn.op == "deleted" else ""
        return version
    data = seen.snapshot.blob(turn.blob)
    if not turn.path.endswith(_YAML):
        version.excerpt = words.size(len(data))
        return version
    known = preview.look("application/yaml", data, turn.path)
    if known.kind == "values":
        version.drawn = known.drawn
    else:
        version.excerpt = "cannot be read"
    return version
