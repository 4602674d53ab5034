"""From what a handler returns, or raises, to a response: envelope, lists, conditional answers, failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from aiohttp import HttpVersion10, hdrs, web

from gitstore import errors, values
from server import content
from server.call import encode
from server.http import MethodNotAllowed, Page, RangeNotSatisfiable, Raw, Reply, Stream
from server.validation import pairs
from server.wire import JSON_TYPE, Flow, Whole, line, status_line

if TYPE_CHECKING:
    from server.dispatch import App

_PRIVATE = JSON_TYPE + b"Cache-Control: private, no-cache\r\nX-Content-Type-Options: nosniff\r\n"
_TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
_UNSTORED = JSON_TYPE + b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"


class Context:
    """What every answer to one request carries, whatever it is."""

    __slots__ = ("_limit", "always", "app", "basic", "head", "plain", "request", "request_id")

    def __init__(self, app: App, request: web.BaseRequest, request_id: str) -> None:
        self.app = app
        self.request = request
        self.request_id = request_id
        self.head = request.method == "HEAD"
        #: Whether a 401 asks for Basic.
        self.basic = False
        #: Whether failures are plain text, for a client that is no program of ours.
        self.plain = False
        #: Header lines that the route owes every client.
        self.always = b""
        self._limit = b""

    def limited(self, limit: int, remaining: int, reset: int) -> None:
        """Adds the rate limit's headers; `reset` is in seconds."""
        self._limit = b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n" % (
            limit,
            remaining,
            reset,
        )

    def _common(self, keep: bool, cors: bool) -> bytes:
        app = self.app
        lines = b"X-Request-Id: " + self.request_id.encode() + b"\r\n" + app.clock.date()
        if self._limit:
            lines += self._limit
        if self.always:
            lines += self.always
        if cors and app.cors.on:
            lines += app.cors.answer(self.request.headers.get(hdrs.ORIGIN))
        if not keep:
            lines += b"Connection: close\r\n"
        elif self.request.version <= HttpVersion10:
            lines += b"Connection: keep-alive\r\n"
        return lines + b"\r\n"

    @property
    def keep(self) -> bool:
        """Whether the connection stays open after this answer."""
        # The latter: aiohttp ends it after this answer, whatever the client asked for.
        return self.request.keep_alive and not self.app.closing and not self.request.protocol._close

    def whole(self, status: int, lines: bytes, body: bytes, *, keep: bool | None = None, cors: bool = True) -> Whole:
        """An answer with its body there; 204 and 304 have none and no length."""
        keep = self.keep if keep is None else keep
        if status not in (204, 304):
            lines += b"Content-Length: %d\r\n" % len(body)
        head = status_line(status) + lines + self._common(keep, cors)
        return Whole(status, head, b"" if self.head else body, keep)

    def meta(self) -> bytes:
        """`"request_id":…,"timestamp":…`. The id has no character that JSON would escape."""
        return b'"request_id":"' + self.request_id.encode() + b'","timestamp":"' + self.app.clock.stamp() + b'"'


def reply(context: Context, answer: Reply) -> Whole:
    """JSON in the envelope; 304 when the client has it."""
    lines, status = _PRIVATE, answer.status
    if answer.headers:
        lines = b"".join((_PRIVATE, *(line(name, value) for name, value in answer.headers)))
        if any(name.lower() == "cache-control" for name, _ in answer.headers):
            lines = lines.replace(b"Cache-Control: private, no-cache\r\n", b"", 1)
    etag = answer.etag
    if etag is not None:
        lines += b'ETag: "' + etag.encode() + b'"\r\n'
        headers = context.request.headers
        conditional = hdrs.IF_NONE_MATCH in headers or hdrs.IF_MATCH in headers
        if conditional and status == 200 and context.request.method in ("GET", "HEAD"):
            try:
                content.evaluate(headers, etag, None)
            except content.NotModified:
                return context.whole(304, lines[len(JSON_TYPE) :], b"")
    if status == 204:
        return context.whole(204, lines[len(JSON_TYPE) :], b"")
    data = answer.data if type(answer.data) is bytes else encode(answer.data)
    meta = context.meta()
    if answer.meta is None and answer.page is None:
        return context.whole(status, lines, b'{"data":' + data + b',"meta":{' + meta + b"}}")
    more, tail = b"", b""
    if answer.page is not None:
        more, tail, link = _paged(context, answer.page)
        lines += link
    if answer.meta:
        more += b"," + values.encode(dict(answer.meta))[1:-1]
    return context.whole(status, lines, b'{"data":' + data + b',"meta":{' + meta + more + b"}" + tail + b"}")


def _paged(context: Context, page: Page) -> tuple[bytes, bytes, bytes]:
    """A list's part of meta, its `pagination`, and its Link header (RFC 8288)."""
    pages = page.pages
    facts = {
        "total": page.total,
        "page": page.page,
        "per_page": page.per_page,
        "pages": pages,
        "total_pages": pages,
        "has_more": page.page < pages,
    }
    short = {"page": page.page, "per_page": page.per_page, "total": page.total, "total_pages": pages}
    path, _, text = context.request.raw_path.partition("?")
    kept = [(n, v) for n, v in pairs(text.partition("#")[0]) if n not in ("page", "per_page")]
    asked = urlencode(kept, quote_via=quote, safe="") + "&" if kept else ""
    base = (context.app.settings.public_url or "") + quote(path, safe="/%:@!$&'()*+,;=~-._")

    def at(number: int, rel: str) -> str:
        return f'<{base}?{asked}page={number}&per_page={page.per_page}>; rel="{rel}"'

    links = [at(1, "first")]
    if page.page > 1:
        links.append(at(max(1, min(page.page - 1, pages)), "prev"))
    if page.page < pages:
        links.append(at(page.page + 1, "next"))
    links.append(at(max(pages, 1), "last"))
    return (
        b"," + values.encode(facts)[1:-1],
        b',"pagination":' + values.encode(short),
        line("Link", ", ".join(links)),
    )


def raw(context: Context, answer: Raw) -> web.StreamResponse:
    """Stored content: 200, 206 or 304. Raises PreconditionFailed, RangeNotSatisfiable."""
    headers = context.request.headers
    shared = content.headers_of(answer)
    try:
        content.evaluate(headers, answer.etag, answer.modified)
    except content.NotModified:
        return context.whole(304, shared, b"")
    except errors.GitstoreError as error:
        return failure(context, error)
    size, status, start = content.size_of(answer), 200, 0
    stop = size
    if context.request.method == "GET":
        try:
            asked = content.byte_range(headers, size, answer.etag, answer.modified)
        except RangeNotSatisfiable as error:
            return failure(context, error)
        if asked is not None:
            status, (start, stop) = 206, asked
            shared += b"Content-Range: bytes %d-%d/%d\r\n" % (start, stop - 1, size)
    lines = shared + content.describe(answer)
    if context.head and not isinstance(answer.data, bytes):
        return context.whole(status, lines + b"Content-Length: %d\r\n" % size, b"")
    data = content.cut(answer, start, stop)
    if isinstance(data, bytes):
        return context.whole(status, lines, data)
    keep = context.keep
    head = status_line(status) + lines + b"Content-Length: %d\r\n" % (stop - start) + context._common(keep, True)
    return Flow(status, head, data, keep, chunked=False)


def stream(context: Context, answer: Stream) -> web.StreamResponse:
    """Bytes as they come."""
    lines = line("Content-Type", answer.content_type) + b"".join(line(n, v) for n, v in answer.headers)
    if isinstance(answer.chunks, bytes):
        return context.whole(answer.status, lines, answer.chunks)
    keep = context.keep
    chunked = False
    if answer.size is not None:
        lines += b"Content-Length: %d\r\n" % answer.size
    elif context.request.version > HttpVersion10:
        lines += b"Transfer-Encoding: chunked\r\n"
        chunked = True
    else:
        keep = False
    head = status_line(answer.status) + lines + context._common(keep, True)
    if context.head:
        return Whole(answer.status, head, b"", keep)
    return Flow(answer.status, head, answer.chunks, keep, chunked)


def failure(context: Context, error: errors.GitstoreError) -> Whole:
    """The failure envelope, with the headers that some statuses owe the client."""
    lines = _UNSTORED
    match error:
        case errors.Unauthorized():
            lines += b'WWW-Authenticate: Bearer realm="gitstore"\r\n'
            if context.basic:
                lines += b'WWW-Authenticate: Basic realm="gitstore", charset="UTF-8"\r\n'
        case MethodNotAllowed():
            lines += line("Allow", ", ".join(error.allow))
        case errors.RateLimited():
            lines += b"Retry-After: %d\r\n" % error.retry_after
        case RangeNotSatisfiable():
            lines += b"Content-Range: bytes */%d\r\n" % error.size
        case errors.Unavailable():
            lines += b"Retry-After: 1\r\n"
        case _:
            pass
    if context.plain:
        body = f"{error.message}\n".encode("utf-8", "replace")
        lines = _TEXT + lines.removeprefix(JSON_TYPE)
    else:
        body = envelope(error.code, error.message, error.details, context.meta())
    # A body that has not arrived is not waited for: what is left of it would be read as the next request.
    return context.whole(error.status_hint, lines, body, keep=context.keep and context.request.content.is_eof())


def envelope(code: str, message: str, details: Mapping[str, Any] | None, meta: bytes) -> bytes:
    """`{"error": {code, message, details?}, "meta": {…}}`."""
    shown: dict[str, Any] = {"code": code, "message": message.encode("utf-8", "replace").decode()}
    if details is not None:
        shown["details"] = dict(details)
    return b'{"error":' + values.encode(shown) + b',"meta":{' + meta + b"}}"
