"""Pages from templates: everything that is put into one is escaped, unless this server drew it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jinja2

from server.routes.health import VERSION
from server.web import assets, links, people, words

if TYPE_CHECKING:
    from server.web.visit import Page, Visit


class Renderer:
    """The templates of the pages, compiled when they are first drawn. Threads may share one."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("server.web"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(to=links, words=words, people=people, asset=assets.address, VERSION=VERSION)
        self._environment.filters.update(
            when=words.when, clock=words.clock, stamp=words.stamp, size=words.size, short=words.short,
            coded=words.coded, door=words.door, count=words.count,
        )  # fmt: skip

    def page(self, visit: Visit, page: Page, nonce: str) -> bytes:
        """A whole page."""
        return self.text(visit, page.template, page.values, nonce=nonce, twin=page.twin, request=page.request)

    def text(self, visit: Visit, template: str, values: dict[str, Any], **more: Any) -> bytes:
        """What a template makes of the values, and of what every template knows of the visitor."""
        known = {
            "me": visit.grant,
            "admin": visit.may("admin"),
            "form": visit.session.form if visit.session is not None else None,
        }
        drawn = self._environment.get_template(template).render(**known, **more, **values)
        return drawn.encode("utf-8", "replace")
