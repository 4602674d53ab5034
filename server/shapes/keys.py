"""Bodies and answers of keys and tokens."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from server.shapes.common import Scope, Shape, Text255, Time


class CreateKey(Shape):
    """What a new key is to be."""

    scope: Scope
    name: Text255
    expires_at: Time | None = None


class CreateToken(Shape):
    """The key to exchange."""

    api_key: Annotated[str, Meta(min_length=1, max_length=4096)]


class ApiKey(msgspec.Struct):
    """A key without its text."""

    id: str
    name: str
    scope: Scope
    prefix: str
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    revoked_at: Time | None


class CreatedKey(ApiKey):
    """A key with its text, shown this once."""

    key: str


class Token(msgspec.Struct):
    """A token that is accepted as Bearer until it expires."""

    token: str
    expires_at: Time
    scope: Scope


class Identity(msgspec.Struct):
    """The key that a request was made with."""

    id: str
    name: str
    scope: Scope
    prefix: str
    expires_at: Time | None
