"""Keys: made, listed, revoked; tokens; and who the caller is."""

from __future__ import annotations

from typing import Any

from gitstore import errors, keys, values
from server.call import Call
from server.http import API, Reply, Route
from server.shapes.common import Paging
from server.shapes.keys import ApiKey, CreatedKey, CreateKey, CreateToken, Identity, Token

_SECRET = (("Cache-Control", "no-store"),)


def _iso(ms: int | None) -> str | None:
    return None if ms is None else values.iso(ms)


def _shown(record: keys.KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "scope": record.scope,
        "prefix": record.prefix,
        "created_at": values.iso(record.created_at),
        "expires_at": _iso(record.expires_at),
        "last_used_at": _iso(record.last_used_at),
        "revoked_at": _iso(record.revoked_at),
    }


def list_keys(call: Call) -> Reply:
    """Every stored key, newest first; never their text."""
    query: Paging = call.query
    everything = [_shown(record) for record in reversed(call.app.keys.list())]
    return paged(everything, query)


async def create_key(call: Call) -> Reply:
    """The one answer that ever shows the key."""
    body: CreateKey = call.body
    expires_at = None if body.expires_at is None else values.parse_iso(body.expires_at)
    record, text = await call.offload(call.app.keys.create, body.scope, body.name, expires_at)
    return Reply({**_shown(record), "key": text}, status=201, headers=_SECRET)


async def revoke_key(call: Call) -> Reply:
    """Revoking twice is one revocation."""
    record = await call.offload(call.app.keys.revoke, call.params["id"])
    return Reply(_shown(record))


def create_token(call: Call) -> Reply:
    """A token for a key; a token gives no further token, or none would ever end."""
    body: CreateToken = call.body
    app, now = call.app, call.app.clock.now()
    if keys.is_token(body.api_key):
        raise errors.Unauthorized("a token gives no further token; send the API key itself")
    record = app.keys.authenticate(body.api_key, now)
    token, expires_at = app.keys.issue_token(record, int(app.settings.token_hours * 3_600_000), now)
    return Reply({"token": token, "expires_at": values.iso(expires_at), "scope": record.scope}, headers=_SECRET)


def read_identity(call: Call) -> Reply:
    """The key of this request."""
    grant = call.grant
    assert grant is not None
    data = values.encode(
        {
            "id": grant.id,
            "name": grant.name,
            "scope": grant.scope,
            "prefix": grant.prefix,
            "expires_at": _iso(grant.expires_at),
        }
    )
    return Reply(data, etag=values.etag(data))


def paged(everything: list[Any], query: Paging) -> Reply:
    """One page of a list that is in memory as a whole."""
    start = (query.page - 1) * query.per_page
    return Reply(everything[start : start + query.per_page], page=query.of(len(everything)))


ROUTES = (
    Route(
        "GET",
        f"{API}/api-keys",
        "admin",
        list_keys,
        "List keys",
        query=Paging,
        response=list[ApiKey],
        paged=True,
        tag="keys",
    ),
    Route(
        "POST",
        f"{API}/api-keys",
        "admin",
        create_key,
        "Make a key",
        body=CreateKey,
        response=CreatedKey,
        status=201,
        tag="keys",
    ),
    Route("DELETE", f"{API}/api-keys/{{id}}", "admin", revoke_key, "Revoke a key", response=ApiKey, tag="keys"),
    Route(
        "POST",
        f"{API}/auth/token",
        None,
        create_token,
        "Exchange a key for a token",
        body=CreateToken,
        response=Token,
        tag="keys",
    ),
    Route("GET", f"{API}/auth/me", "agent", read_identity, "Who this key is", response=Identity, tag="keys"),
)
