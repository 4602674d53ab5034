"""Reads the URL of a repository into its parts, and refuses every form that could mean something else to git or ssh."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import msgspec

from gitstore import credentials
from gitstore.remotes.report import Failed

Scheme = Literal["http", "https", "ssh"]
_PORTS: dict[str, int] = {"http": 80, "https": 443, "ssh": 22}
URL_MAX = 2048
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff\\]")
_USER = re.compile(r"[A-Za-z0-9_.+][A-Za-z0-9_.+-]*")
# `[user@]host:path`, as git-clone(1) has it: a colon before the first slash.
_SCP = re.compile(r"(?:(?P<user>[^@/:\[\]]+)@)?(?P<host>\[[0-9A-Fa-f]*:[0-9A-Fa-f:.]+\]|[^@/:\[\]]+):(?P<path>[^:].*)")
_PATH_SAFE = "".join(chr(code) for code in range(0x21, 0x7F))


class Remote(msgspec.Struct, frozen=True):
    """Where a repository is. For http(s) `path` is ready for a request line; for ssh it is the path on the host.

    `host` is in lower case, without the brackets of an IPv6 address and the final dot of a name; `user` is None where
    the URL names none.
    """

    scheme: Scheme
    user: str | None
    host: str
    port: int
    path: str

    def same_origin(self, other: Remote) -> bool:
        """Whether scheme, host and port are equal."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)

    @property
    def default_port(self) -> bool:
        """Whether the port is the one that the scheme implies."""
        return self.port == _PORTS[self.scheme]


def parse(url: str) -> Remote:
    """The parts of an http(s) or ssh URL, or of the scp form `user@host:path` (the user may be left out if the host has
    a dot).

    Raises Failed("refused_scheme") for every other scheme and transport (`ext::`, `file:`, `git:` …), a leading dash
    anywhere an option could start, white space, control characters, a password or token, a query and a fragment.
    """
    if len(url) > URL_MAX:
        raise Failed("refused_scheme", f"the URL is longer than {URL_MAX} characters")
    if not url or _CONTROL.search(url):
        raise Failed("refused_scheme", "the URL is empty, or holds white space, a backslash or a control character")
    if credentials.url_secret(url):
        raise Failed("refused_scheme", "the URL has a password or token inside; take it out and give it as git_token")
    if url.startswith("-"):
        raise Failed("refused_scheme", "the URL begins with a dash")
    scheme, mark, _ = url.partition("://")
    if not mark:
        return _scp(url)
    scheme = scheme.lower()
    if scheme not in _PORTS:
        raise Failed("refused_scheme", "only http, https and ssh URLs and the form user@host:path are understood")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        user = unquote(parts.username, errors="strict") if parts.username else None
    except ValueError:
        raise Failed("refused_scheme", "the URL cannot be read") from None
    if "[" in parts.netloc and ":" not in host:
        raise Failed("refused_scheme", "the URL has brackets around something that is not an IPv6 address")
    if not host or port == 0 or parts.password is not None or "?" in url or "#" in url:
        raise Failed(
            "refused_scheme",
            "the URL has no host, an impossible port, a password, a query or a fragment; leave them out",
        )
    if user is not None and not _USER.fullmatch(user) and (scheme == "ssh" or not _http_user(user)):
        raise Failed("refused_scheme", "the URL has a user name that is not plain")
    number = port or _PORTS[scheme]
    host = host.lower().removesuffix(".")
    if scheme == "ssh":
        return _ssh(user, host, number, unquote(parts.path, errors="surrogateescape"))
    web: Scheme = "https" if scheme == "https" else "http"
    return Remote(web, user, host, number, quote(parts.path.rstrip("/"), safe=_PATH_SAFE))


def shown(url: str) -> str:
    """`url` as it may be shown: without the user part of an http(s) URL, and not at all if a credential remains."""
    scheme, mark, rest = url[:URL_MAX].partition("://")
    if mark and scheme.lower() in ("http", "https"):
        authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
        url = scheme + mark + authority.rpartition("@")[2] + rest[len(authority) :]
    if credentials.url_secret(url):
        return "(not shown: it holds a credential)"
    return url[:URL_MAX].encode("utf-8", "replace").decode("utf-8")


def same_server(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port; False where either cannot be read."""
    try:
        left, right = parse(one), parse(other)
    except Failed:
        return False
    return (left.scheme, left.host, left.port) == (right.scheme, right.host, right.port)


def redirected(remote: Remote, location: str) -> Remote | None:
    """Where a redirect of `remote`'s ref listing leads, if git would follow it and it stays on the same origin.

    A `location` counts only if it is the ref listing of another path (git-http-protocol: the client strips
    `/info/refs` from the final URL). Raises Failed if it leads to another scheme, host or port.
    """
    try:
        place = urlsplit(location)
    except ValueError:
        return None
    authority = place.netloc or ""
    if place.scheme or authority:
        scheme = (place.scheme or remote.scheme).lower()
        if scheme not in ("http", "https"):
            raise Failed("refused_scheme", "the host redirects to another scheme, which was not followed")
        try:
            target = parse(urlunsplit((scheme, authority, place.path, "", "")))
        except Failed:
            return None
        if not target.same_origin(remote):
            upgrade = remote.scheme == "http" and target.scheme == "https" and target.host == remote.host
            where = "https; use the https URL" if upgrade else "another host, scheme or port, which was not followed"
            raise Failed("refused_address", f"the host redirects to {where}")
    if not place.path.startswith("/") or not place.path.endswith("/info/refs") or _CONTROL.search(place.path):
        return None
    if place.query != "service=git-upload-pack":
        return None
    path = quote(place.path.removesuffix("/info/refs").rstrip("/"), safe=_PATH_SAFE)
    return msgspec.structs.replace(remote, path=path)


def _http_user(user: str) -> bool:
    # An e-mail address is a common user name. A colon would end the name in Basic authentication (RFC 7617).
    return re.fullmatch(r"[A-Za-z0-9_.+@-]+", user) is not None


def _scp(url: str) -> Remote:
    found = _SCP.fullmatch(url)
    # A bare `word:rest` is a scheme (`file:`, `ext:`) or a drive as often as a host: without a user it needs a dot.
    if found is None or (found["user"] is None and "." not in found["host"]):
        raise Failed("refused_scheme", "only http, https and ssh URLs and the form user@host:path are understood")
    user = found["user"]
    if user is not None and not _USER.fullmatch(user):
        raise Failed("refused_scheme", "the URL has a user name that is not plain")
    return _ssh(user, found["host"].strip("[]").lower().removesuffix("."), _PORTS["ssh"], found["path"])


def _ssh(user: str | None, host: str, port: int, path: str) -> Remote:
    path = path.removeprefix("/") if path.startswith("/~") else path
    if not path.strip("/") or path.startswith("-") or host.startswith("-"):
        raise Failed("refused_scheme", "the URL has no path, or a host or path that begins with a dash")
    if re.search(r"[\x00-\x1f\x7f]", path):
        raise Failed("refused_scheme", "the URL has a control character in its path")
    return Remote("ssh", user, host, port, path)
