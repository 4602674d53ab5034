"""Who did something, and which change it was, in the few words that stand on every page.

A page may say this hundreds of times, so it is put together here and not in a template.
"""

from __future__ import annotations

from functools import lru_cache

from markupsafe import Markup, escape

from gitstore.model import Actor, Touch
from server.web import links, words


def actor(who: Actor) -> Markup:
    """A name; who that is exactly, on hovering."""
    return Markup(_actor(who))  # noqa: S704  (every text in it goes through `escape`)


def commit(slug: str, identity: str) -> Markup:
    """The first digits of a commit, as a link to the change."""
    return Markup(_commit(slug, identity))  # noqa: S704


def touched(slug: str, touch: Touch | None) -> Markup:
    """When and by whom something was last changed; nothing where that is not known."""
    if touch is None:
        return Markup()
    told = f"{words.when(touch.time)} by {_actor(touch.actor)} {_commit(slug, touch.commit)}"
    return Markup(f'<span class="touched">{told}</span>')  # noqa: S704


@lru_cache(2048)
def _actor(who: Actor) -> str:
    title = escape(f"{who.type} {who.id}")
    return f'<span class="actor {escape(who.type)}" title="{title}">{escape(who.name)}</span>'


@lru_cache(4096)
def _commit(slug: str, identity: str) -> str:
    address = escape(links.change(slug, identity))
    return f'<a class="commit" href="{address}"><code>{escape(words.short(identity))}</code></a>'
