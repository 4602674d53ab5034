"""Sessions at the pages: begun with an API key; ended by signing out, by time, by a restart, or with the key.

A session lives in memory. The browser holds a random name of it and nothing else, so that what is stolen from a browser
is no key of the API and is worth nothing once the session has ended.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

import msgspec

from gitstore import errors, keys
from gitstore.keys import KeyRecord, Keys

COOKIE = "gitstore-session"
#: Names the browser that was shown the sign-in form.
VISITOR = "gitstore-visitor"
PATH = "/ui"
#: How many sessions one key may have; one more ends its oldest.
MOST = 20


class Session(msgspec.Struct, frozen=True):
    """One person at the pages. `token` stands for the key, `form` comes back with every form; `expires_at` in ms."""

    key: str
    token: str
    form: str
    expires_at: int


class Sessions:
    """The sessions of one server. Only its event loop may use them."""

    def __init__(self, keys: Keys, life: int) -> None:
        """`life` is how long a session lasts at most, in ms."""
        self._keys = keys
        self._life = life
        self._known: dict[bytes, Session] = {}
        self._secret = secrets.token_bytes(32)

    def begin(self, presented: str, now: int) -> tuple[str, Session]:
        """A session for an API key, and the name the browser is to hold. Raises errors.Unauthorized."""
        if keys.is_token(presented):
            raise errors.Unauthorized("a token opens no session; sign in with the API key itself")
        record = self._keys.authenticate(presented, now)
        token, expires_at = self._keys.issue_token(record, self._life, now)
        self._tidy(record.id, now)
        name = secrets.token_urlsafe(32)
        session = Session(record.id, token, secrets.token_urlsafe(32), expires_at)
        self._known[_digest(name)] = session
        return name, session

    def find(self, name: str | None, now: int) -> tuple[Session, KeyRecord] | None:
        """The session that a browser names, and its key; None where it has ended, or its key is no longer in force."""
        session = self._known.get(_digest(name)) if name else None
        if session is None or name is None:
            return None
        try:
            return session, self._keys.authenticate(session.token, now)
        except errors.Unauthorized:
            self.end(name)
            return None

    def end(self, name: str) -> None:
        """Ends a session; one that is not known is no error."""
        self._known.pop(_digest(name), None)

    def visitor(self, name: str) -> str:
        """What the sign-in form must bring back from the browser that holds the visitor's cookie `name`."""
        return hmac.digest(self._secret, name.encode("utf-8", "surrogatepass"), "sha256").hex()

    def _tidy(self, key: str, now: int) -> None:
        """Drops what has expired, and makes room for one more session of a key."""
        for name in [name for name, one in self._known.items() if one.expires_at <= now]:
            del self._known[name]
        for name in [name for name, one in self._known.items() if one.key == key][: -(MOST - 1)]:
            del self._known[name]


def same(one: str, other: str) -> bool:
    """Whether two texts are the same, in a time that tells nothing about where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _digest(name: str) -> bytes:
    # Looked up by a digest: how long the look-up takes tells nothing about any name.
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def cookie(name: str, value: str, *, seconds: int, secure: bool) -> tuple[str, str]:
    """A Set-Cookie header: no script reads it, no other site sends it, only the pages get it. 0 `seconds` end it."""
    text = f"{name}={value}; Path={PATH}; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return "Set-Cookie", f"{text}; Secure" if secure else text


def cookies(header: str | None) -> dict[str, str]:
    """The cookies of a request (RFC 6265, section 4.2.1); of two with one name the first."""
    found: dict[str, str] = {}
    for pair in (header or "").split(";"):
        name, equals, value = pair.strip().partition("=")
        if equals:
            found.setdefault(name, value.strip('"'))
    return found
