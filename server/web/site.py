"""The frame around every page: one order of checks, one policy, and failures that a person can read.

Order: page (404) → rate limit (429) → session (to the sign-in form) → scope (403) → the form's own token (403) → view.
A page never runs a script that is not this server's, loads nothing from elsewhere, and is shown in no other site's
frame (CSP level 3; OWASP's cheat sheets on sessions and on cross-site request forgery).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from gitstore import errors
from gitstore.keys import KeyRecord
from server.call import Call
from server.http import RANK, Answer, Raw, Stream
from server.router import Router
from server.web import links
from server.web.activity import Activity
from server.web.render import Renderer
from server.web.session import COOKIE, VISITOR, Session, Sessions, cookies, same
from server.web.visit import Moved, Page, Piece, Place, Shown, Visit

_HTML = "text/html; charset=utf-8"
_FORM = "application/x-www-form-urlencoded"
_FIELDS = 200
_POLICY = (
    "default-src 'none'; script-src 'nonce-{}'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SAFETY = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "private, no-cache"),
)
_TITLES = {
    400: "That cannot be done",
    401: "Sign in again",
    403: "Not with this key",
    404: "Not here",
    409: "A conflict",
    412: "It has changed meanwhile",
    422: "That cannot be done",
    429: "Too many requests",
    503: "Not at the moment",
}


class Site:
    """The pages of one server."""

    def __init__(self, places: Iterable[Place], life: int, *, secure: bool) -> None:
        """`life` is how long a session lasts, in ms; `secure` says that browsers reach this server by https only."""
        self.places = tuple(places)
        self.secure = secure
        self.renderer = Renderer()
        self.activity = Activity()
        self.life = life
        self._router = Router(self.places)
        self._sessions: Sessions | None = None

    def sessions(self, call: Call) -> Sessions:
        """The sessions, made with the keys of the server that asks first."""
        if self._sessions is None:
            self._sessions = Sessions(call.app.keys, self.life)
        return self._sessions

    async def serve(self, call: Call) -> Answer:
        """Answers one request to a page. What is raised besides errors of the request is the frame's."""
        held = cookies(call.header("Cookie"))
        found = self.sessions(call).find(held.get(COOKIE), call.app.clock.now())
        session, grant = found if found is not None else (None, None)
        call.grant = grant
        visit = Visit(self, call, {}, {}, session, grant)
        try:
            place, visit.params = self._router.find(call.request.method, call.request.raw_path.partition("?")[0])
            self._limit(call, place, grant)
            if place.scope is not None:
                if grant is None:
                    return self._answer(visit, self._away(call))
                if RANK[grant.scope] < RANK[place.scope]:
                    raise errors.Forbidden(
                        f"This needs a key of scope {place.scope} or stronger; you are signed in with one of scope "
                        f"{grant.scope}."
                    )
            visit.query = _pairs(call.text)
            if place.method == "POST":
                visit.form = await self._form(call, held, session, place)
            if place.direct is not None:
                return await place.direct(visit)
            if place.quick:
                return self._run(place, visit)
            return await call.offload(self._run, place, visit)
        except errors.GitstoreError as error:
            if error.status_hint >= 500 and not isinstance(error, errors.Unavailable | errors.StorageFailed):
                raise  # the frame logs it
            return self._answer(visit, failure(visit, error))

    def _run(self, place: Place, visit: Visit) -> Answer:
        assert place.view is not None
        return self._answer(visit, place.view(visit))

    @staticmethod
    def _limit(call: Call, place: Place, grant: KeyRecord | None) -> None:
        if call.app.rate.limit and not place.path.startswith(f"{links.UI}/static/"):
            call.app.rate.take(grant.id if grant is not None else f"@{call.request.remote}")

    @staticmethod
    def _away(call: Call) -> Moved | Page:
        """To the sign-in form, and from there to where this request wanted to go, if it only wanted to look.

        Somebody who followed a link on another site may well be signed in: a strict cookie is not sent then. A page of
        ours that asks for the same again sends it (RFC 6265bis, section 5.2, on "site for cookies").
        Raises Unauthorized for a script that asks, which has no use for a form.
        """
        if call.header("Sec-Fetch-Dest") == "empty":
            raise errors.Unauthorized("the session has ended: load the page again to sign in")
        if call.header("Sec-Fetch-Site") == "cross-site" and call.header("Sec-Fetch-Dest") == "document":
            return Page("onward.html", {"to_": call.request.raw_path})
        wanted = call.request.raw_path if call.request.method in ("GET", "HEAD") else None
        return Moved(links.sign_in(wanted if wanted != links.home() else None))

    async def _form(self, call: Call, held: Mapping[str, str], session: Session | None, place: Place) -> dict[str, str]:
        """The fields of the body, after the proof that this server's own page sent them. Raises Forbidden."""
        if call.media_type != _FORM:
            raise errors.UnsupportedType(f"a form is sent as {_FORM}")
        form = _pairs((await call.content()).decode("ascii", "replace"))
        if call.header("Sec-Fetch-Site") not in (None, "same-origin", "none"):
            raise errors.Forbidden("this form was sent from another site")
        if place.scope is None:
            visitor = held.get(VISITOR)
            wanted = self.sessions(call).visitor(visitor) if visitor else None
        else:
            wanted = session.form if session is not None else None
        if wanted is None or not same(form.pop("form", ""), wanted):
            raise errors.Forbidden("this form is out of date: go back, load the page again, and send it again")
        return form

    def _answer(self, visit: Visit, shown: Shown) -> Answer:
        match shown:
            case Raw():
                return shown
            case Piece():
                return Stream(shown.content, shown.content_type, headers=shown.headers)
            case Moved():
                headers = (*_SAFETY, ("Location", shown.to), *shown.headers)
                return Stream(b"", _HTML, status=303, headers=headers)
            case Page():
                nonce = secrets.token_urlsafe(16)
                text = self.renderer.page(visit, shown, nonce)
                policy = ("Content-Security-Policy", _POLICY.format(nonce))
                safety = [one for one in _SAFETY if one[0] not in {name for name, _ in shown.headers}]
                return Stream(text, _HTML, status=shown.status, headers=(policy, *safety, *shown.headers))


def failure(visit: Visit, error: errors.GitstoreError) -> Page:
    """The page that says what went wrong."""
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, errors.RateLimited):
        headers = (("Retry-After", str(error.retry_after)),)
    values = {
        "title": _TITLES.get(error.status_hint, "That did not work"),
        "message": error.message,
        "status": error.status_hint,
        "code": error.code,
        "request_id": visit.call.request_id,
        "faults": _faults(error),
    }
    return Page("failure.html", values, status=error.status_hint, headers=headers)


def _faults(error: errors.GitstoreError) -> list[tuple[str, str]]:
    return list(error.faults) if isinstance(error, errors.WrongShape) else []


def _pairs(text: str) -> dict[str, str]:
    """The fields of a query or a form; of two with one name the last. Raises Malformed."""
    try:
        return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS))
    except ValueError:
        raise errors.Malformed("the fields cannot be read: they are no UTF-8, or there are too many") from None
