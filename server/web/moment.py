"""Which moment a page shows: the present, or (`?at=`) the past, which every page marks as such."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gitstore.changes import Workspace
from gitstore.model import Touch
from gitstore.snapshot import Snapshot
from gitstore.story import Story
from server.web.visit import Visit


class Seen(msgspec.Struct, frozen=True):
    """A workspace at the moment that was asked for; `asked` is None for the present, `time` in ms.

    `touch` gives the commit that had last changed a path of `main` by then, `story` what a file had been through.
    """

    workspace: Workspace
    snapshot: Snapshot
    slug: str
    asked: str | None
    time: int
    commit: str | None
    touch: Callable[[str], Touch | None]
    story: Callable[[str], Story | None]

    @property
    def past(self) -> bool:
        """Whether this is not the present."""
        return self.asked is not None


def see(visit: Visit) -> Seen:
    """The moment that the address names. Raises NotFound that says what was looked for."""
    workspace = visit.workspace
    now = workspace.visible
    slug, at = now.context.fields.slug, visit.asked("at")
    if at is None:
        return Seen(
            workspace, now, slug, None, now.updated_at, now.main.head,
            lambda path: visit.store.last_touch(workspace.id, "main", path),
            lambda path: visit.store.history.story(workspace.id, "main", path),
        )  # fmt: skip
    then = visit.app.past.at(workspace, at)
    told = then.story
    return Seen(workspace, then.snapshot, slug, at, then.moment.time, then.moment.main, told.touch, told.story)
