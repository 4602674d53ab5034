"""The stylesheet, the script and the icon: read once, named by their content, so that browsers may keep them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from gitstore import errors
from server.web import links
from server.web.visit import Piece, Shown, Visit

_TYPES = {
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


@cache
def read(name: str) -> bytes:
    """The content of one of them."""
    return resources.files("server.web").joinpath("static", name).read_bytes()


@cache
def address(name: str) -> str:
    """Where it is, for as long as it says what it says now."""
    return links.with_query(f"{links.UI}/static/{name}", v=hashlib.sha256(read(name)).hexdigest()[:16])


def show(visit: Visit) -> Shown:
    """One of them."""
    name = visit.params["name"]
    if name not in _TYPES:
        raise errors.NotFound("there is no such part of the pages")
    lasting = visit.call.text == address(name).partition("?")[2]
    headers = (
        ("Cache-Control", "public, max-age=31536000, immutable" if lasting else "no-cache"),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Content-Security-Policy", _POLICY),
    )
    return Piece(read(name), _TYPES[name], headers)
