"""From a socket to `App.serve`, and an orderly end: what was begun is finished, what comes later is refused."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gitstore import errors
from server import log
from server.answer import Context, failure
from server.dispatch import App

# A key of 256 characters of four bytes, percent-encoded, is 3 KiB of path; an artifact's path as a query 12 KiB.
_LINE = 32 * 1024
_FIELD = 16 * 1024


class Connection(RequestHandler):
    """aiohttp's connection, except that what it refuses by itself is answered in our envelope and logged briefly."""

    __slots__ = ("_app",)

    def __init__(self, manager: Server, app: App, **options: Any) -> None:
        super().__init__(manager, **options)
        self._app = app

    def data_received(self, data: bytes) -> None:
        """A body whose encoding breaks ends there: aiohttp would let its reader wait for what can never come."""
        super().data_received(data)
        request = self._current_request
        if request is not None and self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            body = request.content
            if not body.is_eof() and body.exception() is None:
                body.set_exception(web.RequestPayloadError("the encoding of the body is wrong"))

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A body that cannot be read is the client's doing, whichever part of us met it: no line in the log."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that is not HTTP as we read it; the connection ends with it."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; it cannot become another one")
        context = Context(self._app, request, self._app.ids.new())
        if status >= 500:
            log.server.error("a request failed", exc_info=exc, extra={"request_id": context.request_id})
            response = failure(context, errors.Damaged("the server failed; its log has the request id of this answer"))
        elif isinstance(exc, LineTooLong):
            response = failure(
                context,
                errors.Malformed(
                    f"the request line is over {_LINE} bytes, a header over {_FIELD}, or there are too many"
                ),
            )
        else:
            response = failure(context, errors.Malformed("this is not a well-formed HTTP/1.1 request"))
        response.force_close()
        return response


class Server(web.Server):
    """Makes a Connection for each socket that connects."""

    def __init__(self, app: App) -> None:
        super().__init__(app.serve)
        self._app = app
        self._options = {
            "loop": asyncio.get_running_loop(),
            "access_log": None,
            "keepalive_timeout": app.settings.keep_alive,
            "max_line_size": _LINE,
            "max_field_size": _FIELD,
            "lingering_time": 5.0,
        }

    def __call__(self) -> RequestHandler:
        """Called by the event loop."""
        return Connection(self, self._app, **self._options)


@contextlib.asynccontextmanager
async def listening(app: App) -> AsyncIterator[int]:
    """Listens while the block runs and yields the port; then ends in order, within `shutdown_grace` seconds.

    Raises OSError when the address cannot be had.
    """
    settings = app.settings
    loop = asyncio.get_running_loop()
    server = Server(app)
    sockets = await loop.create_server(server, settings.host, settings.port, backlog=1024)
    app.start()
    try:
        yield sockets.sockets[0].getsockname()[1]
    finally:
        app.halt()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.shutdown_grace):
                while app.busy:  # noqa: ASYNC110  (once a life; an event would cost every request)
                    await asyncio.sleep(0.01)
        sockets.close()
        server.pre_shutdown()
        await server.shutdown(1.0)
        await sockets.wait_closed()
        await loop.run_in_executor(None, app.close)


async def run(app: App, started: Callable[[int], None]) -> None:
    """Serves until SIGTERM or SIGINT; `started` is told the port once connections are taken."""
    # What a server holds lives long and makes hardly any circles: looking through all of it again and again for garbage
    # costs a fifth of the writes. What is new is looked at soon, for to look at much of it takes a tenth of a second.
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 500, 100)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with listening(app) as port:
            started(port)
            await stop.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
