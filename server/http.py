"""The words in which routes are written: Route, Call, and the three kinds of answer. Start here to add a route.

**A handler** takes one `Call` and returns an answer. It is a plain function where it only reads what is in memory
(no coroutine is made, which is what keeps cached reads fast), and `async def` where it waits:

    def read_memory(call: Call) -> Reply:
        snapshot = call.app.store.find(call.params["id"])        # raises errors.NotFound
        data = snapshot.context.memory_json()
        return Reply(data, etag=values.etag(data))                # bytes: already JSON

    async def set_memory(call: Call) -> Reply:
        body: SetMemory = call.body                                # validated
        outcome = await call.settle(workspace.apply("main", op, call.provenance))
        return Reply(record(outcome.snapshot), etag=...)

    ROUTES = (
        Route("GET", "/api/v1/workspaces/{id}/memory", "agent", read_memory, "Read the memory", response=Memory),
        Route("PATCH", "/api/v1/workspaces/{id}/memory", "agent", set_memory, "Set memory", body=SetMemory),
    )

A Route is declared once; the dispatcher, the checks and the OpenAPI document are made from it. Each file in
`server/routes/` has one tuple `ROUTES`; `server/app.py` joins them.

**Before the handler runs** the frame has checked, in this order: route (404, 405), rate limit (429), key (401),
scope (403), size (413), media type (415), JSON (400), shape of body and query together (422, every fault at once).

* `call.params["id"]`: path parameters, percent-decoded; they may hold any character (`/` from `%2F`, NUL too), so look
  them up and never build a file path from one. `{rest+}` at the end of a template takes the rest of the path.
* `call.query`, `call.body`: the msgspec Structs named in the Route (None where it names none). A Struct based on
  `server.shapes.Shape` may define `faults()` for rules that span fields; they are 422 too.
* `call.grant` is the key (None on routes without scope), `call.provenance` who asks and on whose behalf,
  `call.precondition` the If-Match / If-None-Match of a write, `call.request_id`, `call.header("Name")`.
* `call.app` has `store`, `keys`, `settings`, `metrics`.
* `await call.settle(pending)` waits for a durable write without a thread; `await call.offload(fn, *args)` runs
  `fn` in the thread pool. Anything that may take more than about 100 µs (disk, search, history) belongs there.
* A Route with `uploads` also takes the media types named there (`multipart/form-data`, `*/*`). For those `call.body`
  is None, `call.media_type` tells which it is, and the handler reads `call.parts()` or `call.chunks()` itself: both
  stop with TooLarge at the route's limit. `call.convert(value, Type)` checks the shape of what it has put together.

**Failures** are raised as `gitstore.errors`; they carry code, status and details. Anything else that escapes is a 500
that is logged with the request id and tells the client nothing.

**Answers.** `Reply` is JSON in the envelope: `bytes` is taken as JSON that is already encoded, anything else is
encoded. `etag` (without quotes) answers If-None-Match on GET with 304 by itself. `page` makes it a list: meta,
`pagination` and `Link` are added. `Raw` is content with Range, conditional requests and the headers that make
a stored file safe to open. `Stream` is bytes as they come (git, event streams). HEAD, request id, CORS, rate limit
headers, `Connection` and dates are the frame's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from gitstore import errors
from server.wire import Direct

if TYPE_CHECKING:
    from server.call import Call

Scope = Literal["agent", "worker", "admin", "service"]
RANK: Mapping[str, int] = {"agent": 0, "worker": 1, "admin": 2, "service": 3}
API = "/api/v1"


class Page(msgspec.Struct, frozen=True, gc=False):
    """Which part of a list this is: `page` counts from 1, `total` is the size of the whole list."""

    page: int
    per_page: int
    total: int

    @property
    def pages(self) -> int:
        """How many pages there are; 0 for an empty list."""
        return -(-self.total // self.per_page)


class Reply(msgspec.Struct):
    """JSON in the envelope. With status 204 there is no body. `meta` is added to the envelope's meta.

    `etag` is the opaque text of the strong ETag of `data`, without quotes.
    """

    data: Any = None
    status: int = 200
    etag: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    meta: Mapping[str, Any] | None = None
    page: Page | None = None


class Raw(msgspec.Struct):
    """Stored content, whole or by range, with the headers that make it safe to open in a browser.

    `data` is the bytes, or a function of (start, stop) that gives them piece by piece; then `size` and `sha256`
    (hexadecimal) must be given. `modified` is ms since 1970.
    """

    data: bytes | Callable[[int, int], AsyncIterator[bytes] | Direct]
    content_type: str
    file_name: str
    disposition: Literal["inline", "attachment"] = "inline"
    size: int = -1
    sha256: str | None = None
    etag: str | None = None
    modified: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Stream(msgspec.Struct):
    """Bytes as they come, without envelope; `size` gives a Content-Length, else the answer is chunked."""

    chunks: AsyncIterator[bytes] | bytes
    content_type: str
    status: int = 200
    size: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


Answer = Reply | Raw | Stream
Handler = Callable[["Call"], Answer] | Callable[["Call"], Awaitable[Answer]]


class Route(msgspec.Struct, frozen=True):
    """One method of one path template; `scope` None needs no key. See the top of this file."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    scope: Scope | None
    handler: Handler
    summary: str
    #: Shape of the JSON body and of the query.
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    #: A request without any body is taken as `{}`.
    body_optional: bool = False
    #: Media types beside JSON that the handler reads itself.
    uploads: tuple[str, ...] = ()
    #: Which limit of the settings the body is under; "none" only for handlers that count for themselves.
    limit: Literal["body", "upload", "batch", "artifact", "file", "none"] = "body"
    #: Type of `data` in the answer, for OpenAPI; `media` instead where the answer is not JSON.
    response: Any = None
    media: str | None = None
    #: A media type that the answer has instead where the request's Accept names it.
    also: str | None = None
    status: int = 200
    paged: bool = False
    tag: str = "workspaces"
    #: Probes are never limited.
    limited: bool = True
    #: A git client needs a Basic challenge; a browser would open a dialog, so the API has none.
    basic: bool = False
    #: Failures are plain text, which a git client shows, instead of the envelope.
    plain: bool = False
    #: Headers of every answer of this route, failures too.
    always: tuple[tuple[str, str], ...] = ()
    #: Headers of the answer to OPTIONS for this path.
    options: tuple[tuple[str, str], ...] = ()
    #: Left out of OpenAPI.
    hidden: bool = False


class MethodNotAllowed(errors.GitstoreError):
    """The path is known, the method is not; `allow` are the methods it has."""

    code: ClassVar[str] = "METHOD_NOT_ALLOWED"
    status_hint: ClassVar[int] = 405

    def __init__(self, allow: tuple[str, ...]) -> None:
        super().__init__(f"this path answers {', '.join(allow)}")
        self.allow = allow


class RangeNotSatisfiable(errors.GitstoreError):
    """No byte of the asked range exists; `size` is how many there are."""

    code: ClassVar[str] = "RANGE_NOT_SATISFIABLE"
    status_hint: ClassVar[int] = 416

    def __init__(self, size: int) -> None:
        super().__init__(f"the range lies outside the {size} bytes there are", details={"size": size})
        self.size = size
