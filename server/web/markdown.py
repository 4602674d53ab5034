"""Markdown that somebody wrote, as HTML that can do nothing: no scripts, no forms, no pictures, no links to follow.

It is shown in a sandboxed frame under a policy that forbids everything but its own stylesheet (HTML, "The iframe
element", sandbox; CSP level 3). That a link is text with its address behind it is on purpose: in such a frame it could
lead nowhere, and a person should see where it wants to go.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import MutableMapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import escape

#: Bytes of a text that is laid out. What is written to be hard takes some 5 seconds at this length.
LONGEST = 64 << 10
_TAGS = {
    "h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong",
    "s", "table", "thead", "tbody", "tr", "th", "td", "span",
}  # fmt: skip
_ATTRIBUTES = {"span": {"class"}, "ol": {"start"}}
_PAGE = (
    '<!DOCTYPE html><html lang="und"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    "<title>{}</title><style>{}</style></head><body>{}</body></html>"
)

_Env = MutableMapping[str, Any]


def _link_open(_: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: _Env) -> str:
    env.setdefault("addresses", []).append(str(tokens[at].attrGet("href") or ""))
    return '<span class="link">'


def _link_close(_: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: _Env) -> str:
    address = env["addresses"].pop() if env.get("addresses") else ""
    same = at > 0 and tokens[at - 1].content == address
    return "</span>" if same or not address else f'</span> <span class="address">({escape(address)})</span>'


def _image(_: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: _Env) -> str:
    token = tokens[at]
    return f'<span class="image">[picture: {escape(token.content or str(token.attrGet("src") or ""))}]</span>'


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "typographer": False})
    parser.enable(["table", "strikethrough"])
    for name, rule in (("link_open", _link_open), ("link_close", _link_close), ("image", _image)):
        parser.add_render_rule(name, rule)
    return parser


@cache
def _style() -> str:
    return resources.files("server.web").joinpath("static", "markdown.css").read_text("utf-8")


@cache
def policy() -> str:
    """The policy under which it is shown: nothing but the one stylesheet, by its digest."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; sandbox; frame-ancestors 'self'; base-uri 'none'"


def clean(text: str) -> str:
    """The text as HTML, without anything that could act."""
    drawn = _parser().render(text)
    return nh3.clean(drawn, tags=_TAGS, attributes=_ATTRIBUTES, url_schemes=set(), link_rel=None)


def page(text: str, title: str) -> bytes:
    """A whole document for the frame."""
    return _PAGE.format(escape(title), _style(), clean(text)).encode("utf-8", "replace")
