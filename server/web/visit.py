"""One request to a page as its view sees it, and the words in which views are declared and answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from gitstore import errors
from gitstore.changes import Workspace
from gitstore.model import Provenance
from gitstore.snapshot import Snapshot
from server.http import RANK, Answer, Raw, Scope

if TYPE_CHECKING:
    from gitstore.keys import KeyRecord
    from gitstore.store import Store
    from server.call import Call
    from server.dispatch import App
    from server.web.session import Session
    from server.web.site import Site


class Page(msgspec.Struct):
    """A page to be drawn from a template.

    `twin` is the address of the API that says the same in JSON; `request` is how to ask where no GET does.
    """

    template: str
    values: dict[str, Any]
    status: int = 200
    twin: str | None = None
    request: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Moved(msgspec.Struct):
    """Go and look there (303)."""

    to: str
    headers: tuple[tuple[str, str], ...] = ()


class Piece(msgspec.Struct):
    """Bytes as they are, with all their headers: a part of a page, or what is looked at in a frame."""

    content: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


Shown = Page | Moved | Piece | Raw


class Visit:
    """What a view gets: who asks, for what, with which fields. Views run in a thread and may wait."""

    __slots__ = ("call", "form", "grant", "params", "query", "session", "site")

    def __init__(
        self,
        site: Site,
        call: Call,
        params: Mapping[str, str],
        query: Mapping[str, str],
        session: Session | None,
        grant: KeyRecord | None,
    ) -> None:
        self.site = site
        self.call = call
        #: Parts of the path, percent-decoded; and the parameters of the query. Of two with one name, the last.
        self.params = params
        self.query = query
        #: The fields of the form that was sent.
        self.form: Mapping[str, str] = {}
        self.session = session
        self.grant = grant

    @property
    def app(self) -> App:
        """The server."""
        return self.call.app

    @property
    def store(self) -> Store:
        """The store."""
        return self.call.app.store

    @property
    def who(self) -> Provenance:
        """Who asks for a change."""
        return self.call.provenance

    @property
    def workspace(self) -> Workspace:
        """The workspace that the address names. Raises NotFound."""
        return self.store.load(self.params["id"])

    def may(self, scope: Scope) -> bool:
        """Whether the visitor's key is of this scope, or a stronger one."""
        return self.grant is not None and RANK[self.grant.scope] >= RANK[scope]

    def asked(self, name: str) -> str | None:
        """A parameter of the query; None where it is not there or blank."""
        return self.query.get(name, "").strip() or None

    def number(self, name: str, default: int = 1, high: int = 10_000) -> int:
        """A whole number of the query, from 1 to `high`. Raises Invalid."""
        text = self.asked(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= high):
            raise errors.Invalid(f"{name} must be a whole number from 1 to {high}")
        return int(text)

    def field(self, name: str) -> str:
        """A field of the form without blanks around it; empty where it was not sent."""
        return self.form.get(name, "").strip()


View = Callable[[Visit], Shown]
Direct = Callable[[Visit], Awaitable[Answer]]


class Place(msgspec.Struct, frozen=True):
    """One page: where it is, which scope it needs (None: no session at all), what draws it, what it is for.

    A view of a `quick` place waits for nothing and runs on the event loop; a `direct` one answers by itself.
    """

    method: Literal["GET", "POST"]
    path: str
    scope: Scope | None
    view: View | None
    summary: str
    quick: bool = False
    direct: Direct | None = None


def heading(snapshot: Snapshot) -> dict[str, Any]:
    """What every page of a workspace says of it."""
    fields = snapshot.context.fields
    return {
        "id": fields.id,
        "slug": fields.slug,
        "name": fields.name,
        "description": fields.description,
        "is_active": fields.is_active,
        "problems": len(snapshot.problems),
        "head": snapshot.main.head,
    }
