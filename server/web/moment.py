"""Which moment a page shows: the present, or (`?at=`) the past, which every page marks as such."""

from __future__ import annotations

import msgspec

from gitstore.snapshot import Snapshot
from server.web.visit import Visit


class Seen(msgspec.Struct, frozen=True):
    """A workspace at the moment that was asked for; `asked` is None for the present, `time` in ms."""

    snapshot: Snapshot
    slug: str
    asked: str | None
    time: int
    commit: str | None

    @property
    def past(self) -> bool:
        """Whether this is not the present."""
        return self.asked is not None


def see(visit: Visit) -> Seen:
    """The moment that the address names. Raises NotFound."""
    now = visit.workspace.visible
    slug = now.context.fields.slug
    return Seen(now, slug, None, now.updated_at, now.main.head)
