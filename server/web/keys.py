"""The keys of the store: listed, made, revoked. Only for keys of scope admin or stronger."""

from __future__ import annotations

from typing import get_args

from gitstore import errors, values
from gitstore.keys import KeyRecord, Scope
from server.web import links, words
from server.web.visit import Moved, Page, Shown, Visit

_HERE = f"{links.UI}/keys"


def _state(record: KeyRecord, now: int) -> str:
    if record.revoked_at is not None:
        return "revoked"
    return "expired" if record.expires_at is not None and record.expires_at <= now else "in force"


def _page(visit: Visit, made: str | None = None, record: KeyRecord | None = None) -> Page:
    now = words.now()
    rows = [(one, _state(one, now)) for one in reversed(visit.app.keys.list())]
    headers = (("Cache-Control", "no-store"),) if made is not None else ()
    values_ = {"rows": rows, "scopes": get_args(Scope), "made": made, "record": record}
    return Page("keys.html", values_, twin=links.api("api-keys"), headers=headers)


def show(visit: Visit) -> Shown:
    """Every stored key, newest first; never its text."""
    return _page(visit)


def create(visit: Visit) -> Shown:
    """Makes a key, and shows its text this once."""
    day = visit.field("expires")
    expires = None
    if day:
        try:
            expires = values.parse_iso(f"{day}T00:00:00.000Z")
        except errors.Invalid:
            raise errors.Invalid(f"there is no day {day[:20]}; write it as YYYY-MM-DD") from None
    record, text = visit.app.keys.create(visit.field("scope"), visit.field("name"), expires)
    return _page(visit, text, record)


def revoke(visit: Visit) -> Shown:
    """Ends a key, and with it its tokens and sessions."""
    visit.app.keys.revoke(visit.params["key"])
    return Moved(_HERE)
