"""Signing in with an API key, and out again."""

from __future__ import annotations

import secrets

from gitstore import errors
from server.web import links, words
from server.web.session import COOKIE, VISITOR, cookie, cookies
from server.web.visit import Moved, Page, Shown, Visit

_HOUR = 3600


def show(visit: Visit) -> Shown:
    """The form; for a visitor who is signed in already, the way on."""
    if visit.grant is not None:
        return Moved(links.local(visit.query.get("next")))
    return _form(visit, visit.query.get("next"), None)


def _form(visit: Visit, next_: str | None, refused: str | None, status: int = 200) -> Page:
    known = cookies(visit.call.header("Cookie")).get(VISITOR)
    visitor = known or secrets.token_urlsafe(24)
    headers = (cookie(VISITOR, visitor, seconds=_HOUR, secure=visit.site.secure), ("Cache-Control", "no-store"))
    values = {
        "proof": visit.site.sessions(visit.call).visitor(visitor),
        "next": links.local(next_),
        "refused": refused,
        "hours": f"{visit.site.life / 3_600_000:g}",
    }
    return Page("sign_in.html", values, status=status, headers=headers)


def begin(visit: Visit) -> Shown:
    """Begins a session with the key of the form."""
    now = words.now()
    try:
        name, session = visit.site.sessions(visit.call).begin(visit.field("key"), now)
    except errors.Unauthorized as error:
        return _form(visit, visit.field("next"), f"{error.message[:1].upper()}{error.message[1:]}.", status=401)
    life = max((session.expires_at - now) // 1000, 1)
    secure = visit.site.secure
    headers = (
        cookie(COOKIE, name, seconds=life, secure=secure),
        cookie(VISITOR, "", seconds=0, secure=secure),
    )
    return Moved(links.local(visit.field("next")), headers)


def end(visit: Visit) -> Shown:
    """Ends the session; what the browser has kept of the pages is dropped too."""
    visit.site.sessions(visit.call).end(cookies(visit.call.header("Cookie")).get(COOKIE, ""))
    gone = cookie(COOKIE, "", seconds=0, secure=visit.site.secure)
    return Moved(links.sign_in(), (gone, ("Clear-Site-Data", '"cache"')))
