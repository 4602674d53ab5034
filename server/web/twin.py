"""The JSON twin of a page: what the API answers to a GET, with the session in the place of a key.

The session's cookie is sent to the pages alone, so it never opens the API itself; only reads can be asked for here, and
each is held to the scope that its route has.
"""

from __future__ import annotations

import inspect
from typing import Any, cast

import msgspec

from gitstore import errors
from server.call import Call
from server.http import API, RANK, Answer, Stream
from server.web.links import UI
from server.web.visit import Visit

PREFIX = f"{UI}/json"
_SAFETY = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


async def show(visit: Visit) -> Answer:
    """What the API says. Raises NotFound where the API has no such read, Forbidden."""
    outer, grant = visit.call, visit.grant
    assert grant is not None
    path = API + outer.request.raw_path.partition("?")[0].removeprefix(PREFIX)
    bound, params = outer.app.router.find("GET", path)
    route = bound.route
    if not route.path.startswith(f"{API}/") or route.scope is None:
        raise errors.NotFound("the API has no such read")
    if RANK[grant.scope] < RANK[route.scope]:
        raise errors.Forbidden(f"this needs a key of scope {route.scope} or stronger; yours has scope {grant.scope}")
    call = Call(outer.app, outer.request, route, params, outer.text, outer.request_id, 0)
    call.grant = grant
    if bound.query is not None:
        call.query, faults = bound.query.read(outer.text)
        if faults:
            raise errors.WrongShape(faults)
    answer: Any = bound.handler(call)
    if inspect.isawaitable(answer):
        answer = await answer
    if isinstance(answer, Stream):
        answer = msgspec.structs.replace(answer, headers=(*answer.headers, *_SAFETY))
    return cast(Answer, answer)
