"""The workspaces of a store in memory: found by id, slug or former slug, and listed in any order, without the disk.

Thread-safe. Its content is what `catalog` has committed; nothing here is kept anywhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from gitstore import errors

Sort = Literal["newest", "oldest", "name", "updated"]


class OldSlug(msgspec.Struct, frozen=True):
    """A slug that a workspace had until the time given (ms)."""

    slug: str
    until: int


class WorkspaceRow(msgspec.Struct, frozen=True):
    """What the store as a whole knows about a workspace; `main` and `evidence` are the heads this reflects."""

    id: str
    slug: str
    name: str
    created_at: int
    updated_at: int
    description: str | None = None
    is_active: bool = True
    main: str | None = None
    evidence: str | None = None
    old_slugs: tuple[OldSlug, ...] = ()
    repository_url: str | None = None


class _Listed:
    """A row with what listing needs of it at hand; changed in place, so that sorted lists stay valid."""

    __slots__ = ("folded_name", "row", "text")

    def __init__(self, row: WorkspaceRow) -> None:
        self.take(row)

    def take(self, row: WorkspaceRow) -> None:
        self.row = row
        self.folded_name = row.name.casefold()
        # U+0000 is in no name and in no query, so a match never spans two fields.
        self.text = f"{self.folded_name}\0{row.slug.casefold()}\0{(row.description or '').casefold()}"


_ORDER: dict[str, Callable[[_Listed], Any]] = {
    "newest": lambda one: (-one.row.created_at, one.row.id),
    "oldest": lambda one: (one.row.created_at, one.row.id),
    "name": lambda one: (one.folded_name, one.row.id),
    "updated": lambda one: (-one.row.updated_at, one.row.id),
}
# Who answers to a text: whoever has the slug now (were there two, the older workspace), else who had it last.
_Claim = tuple[int, int, str]


class Directory:
    """The rows of all workspaces."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listed: dict[str, _Listed] = {}
        self._claims: dict[str, list[_Claim]] = {}
        self._sorted: dict[str, list[_Listed]] = {}
        self._stale: set[str] = set()

    def put(self, row: WorkspaceRow) -> None:
        """Add a workspace, or replace what was known of it."""
        with self._lock:
            listed = self._listed.get(row.id)
            if listed is None:
                self._listed[row.id] = _Listed(row)
                self._sorted.clear()
                self._claim(None, row)
                return
            old = listed.row
            before = {sort: order(listed) for sort, order in _ORDER.items()}
            listed.take(row)
            self._stale |= {sort for sort, order in _ORDER.items() if order(listed) != before[sort]}
            if (old.slug, old.created_at, old.old_slugs) != (row.slug, row.created_at, row.old_slugs):
                self._claim(old, row)

    def remove(self, id_: str) -> None:
        """Take a workspace out; one that is not there is no error."""
        with self._lock:
            listed = self._listed.pop(id_, None)
            if listed is not None:
                self._sorted.clear()
                self._claim(listed.row, None)

    def get(self, id_: str) -> WorkspaceRow | None:
        """The row of the workspace with this very id."""
        listed = self._listed.get(id_)
        return listed.row if listed else None

    def ids(self) -> list[str]:
        """All ids, in no order."""
        return list(self._listed)

    def find(self, ref: str) -> str | None:
        """The id of the workspace that answers to an id, a slug or a former slug, ignoring case."""
        claims = self._claims.get(ref.casefold())
        return claims[0][2] if claims else None

    def list(
        self,
        q: str | None = None,
        is_active: bool | None = None,
        sort: Sort = "newest",
        page: int = 1,
        per_page: int = 20,
    ) -> tuple[list[str], int]:
        """The ids on a page, and how many there are on all pages.

        `q`: part of the name, slug or description, taken literally, ignoring case. Ties are broken by id.
        Raises errors.Invalid for another `sort`, and for a page or a page size below 1.
        """
        order = _ORDER.get(sort)
        if order is None:
            raise errors.Invalid(f"sort is one of {', '.join(_ORDER)}")
        if page < 1 or per_page < 1:
            raise errors.Invalid("page and per_page begin at 1")
        wanted = q.casefold() if q else ""
        start = (page - 1) * per_page
        with self._lock:
            if sort not in self._sorted:
                self._sorted[sort] = sorted(self._listed.values(), key=order)
            elif sort in self._stale:
                self._sorted[sort].sort(key=order)
            self._stale.discard(sort)
            found = self._sorted[sort]
            if wanted and "\0" in wanted:
                return [], 0
            if wanted:
                found = [one for one in found if wanted in one.text]
            if is_active is not None:
                found = [one for one in found if one.row.is_active == is_active]
            return [one.row.id for one in found[start : start + per_page]], len(found)

    def _claim(self, old: WorkspaceRow | None, new: WorkspaceRow | None) -> None:
        """Who answers to what, once `new` is in the place of `old`.

        `find` takes no lock: at every moment somebody answers to what both have, and a list is replaced, never changed.
        """
        gone, come = ({} if row is None else _claims_of(row) for row in (old, new))
        for text in {**come, **gone}:
            claims = {*self._claims.get(text, ())} - gone.get(text, set()) | come.get(text, set())
            if claims:
                self._claims[text] = sorted(claims)
            else:
                self._claims.pop(text, None)


def _claims_of(row: WorkspaceRow) -> dict[str, set[_Claim]]:
    own: _Claim = (0, row.created_at, row.id)
    claims: dict[str, set[_Claim]] = {row.id.casefold(): {own}}
    claims.setdefault(row.slug.casefold(), set()).add(own)
    for old in row.old_slugs:
        claims.setdefault(old.slug.casefold(), set()).add((1, -old.until, row.id))
    return claims
