"""The pages for people, as routes: what lies below /ui is the business of `server.web`."""

from __future__ import annotations

from typing import Literal

from gitstore import errors
from server.call import Call
from server.config import Settings
from server.http import Answer, Route, Stream
from server.web.links import UI
from server.web.site import Site
from server.web.table import PLACES


def front(call: Call) -> Stream:
    """Sends a browser to the pages; nobody else has any business here."""
    if "text/html" not in (call.header("Accept") or ""):
        raise errors.NotFound("no route has this path; /openapi.json lists them")
    return Stream(b"", "text/plain; charset=utf-8", status=303, headers=(("Location", f"{UI}/"),))


def routes(settings: Settings) -> tuple[Route, ...]:
    """These routes. The pages count requests, look at sessions and tell failures in their own way."""
    secure = (settings.public_url or "").startswith("https:")
    site = Site(PLACES, int(settings.token_hours * 3_600_000), secure=secure)

    async def page(call: Call) -> Answer:
        """A page for people; docs/pages.md lists them."""
        return await site.serve(call)

    def below(method: Literal["GET", "POST"], path: str, summary: str) -> Route:
        return Route(method, path, None, page, summary, media="text/html", limited=False, plain=True, hidden=True)

    return (
        Route("GET", "/", None, front, "To the pages", media="text/html", limited=False, hidden=True),
        below("GET", UI, "To the pages"),
        below("GET", f"{UI}/", "The pages"),
        below("GET", f"{UI}/{{page+}}", "A page"),
        below("POST", f"{UI}/{{page+}}", "A form of a page"),
    )
