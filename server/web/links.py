"""Where the pages are: every address that a page or a redirection names is made here, each part percent-encoded."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote, urlencode

from server.http import API

UI = "/ui"


@lru_cache(8192)
def _part(text: str) -> str:
    return quote(text, safe="~", errors="surrogatepass")


def with_query(address: str, **query: object) -> str:
    """The address with the parameters that are given; None and empty ones are left out."""
    pairs = [(name.rstrip("_"), str(value)) for name, value in query.items() if value not in (None, "")]
    return f"{address}?{urlencode(pairs, quote_via=quote, errors='surrogatepass')}" if pairs else address


def home(**query: object) -> str:
    """The list of workspaces."""
    return with_query(f"{UI}/", **query)


def find(**query: object) -> str:
    """The search across everything."""
    return with_query(f"{UI}/search", **query)


def sign_in(next_: str | None = None) -> str:
    """The sign-in form; `next_` is where to go after it."""
    return with_query(f"{UI}/sign-in", next=next_)


def workspace(slug: str, **query: object) -> str:
    """One workspace, now or (`at`) as it was."""
    return with_query(f"{UI}/w/{_part(slug)}", **query)


def under(slug: str, *parts: str, **query: object) -> str:
    """A page of a workspace: `under("platform", "timeline", door="git")`."""
    return with_query("/".join([f"{UI}/w/{_part(slug)}", *(_part(one) for one in parts)]), **query)


def timeline(slug: str, **query: object) -> str:
    """The timeline of a workspace."""
    return under(slug, "timeline", **query)


def change(slug: str, commit: str, **query: object) -> str:
    """One change."""
    return under(slug, "changes", commit, **query)


def key(slug: str, name: str, **query: object) -> str:
    """One key of the memory."""
    return under(slug, "memory", name, **query)


def document(slug: str, path: str, **query: object) -> str:
    """One file of `main`, by its path."""
    return beside(slug, "tree", path, **query)


def beside(slug: str, what: str, path: str, **query: object) -> str:
    """What belongs to a file of `main`: `tree` (its page), `frame` or `download`."""
    return with_query(f"{UI}/w/{_part(slug)}/{what}/" + "/".join(_part(one) for one in path.split("/")), **query)


def artifact(slug: str, identity: str, *more: str, **query: object) -> str:
    """One artifact, and what belongs to it."""
    return under(slug, "artifacts", identity, *more, **query)


def twin(address: str) -> str:
    """The page's way to what the API answers at `address`, with the session in place of a key."""
    return f"{UI}/json{address.removeprefix(API)}" if address.startswith(f"{API}/") else address


def api(*parts: str, **query: object) -> str:
    """An address of the API: `api("workspaces", "platform")`."""
    return with_query("/".join([API, *(_part(one) for one in parts)]), **query)


def local(address: str | None) -> str:
    """The address if it is one of the pages, else that of the first page: a redirection never leaves the pages."""
    if address is None or not address.startswith(f"{UI}/") or "\\" in address or not address.isprintable():
        return home()
    return address
