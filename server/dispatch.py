"""The frame around every handler: one order of checks, one way to answer, one place where exceptions end.

Order, and nothing may be checked out of it: route (404, 405) → rate limit (429) → key (401) → scope (403) → size,
media type, JSON (413, 415, 400) → shape (422) → handler.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import re
from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import hdrs, web
from multidict import istr

from gitstore import errors, values
from gitstore.diff import Compared
from gitstore.explorer import Explorer
from gitstore.following import Following
from gitstore.past import Past
from gitstore.records import Evidence
from gitstore.retrospect import Retrospect
from gitstore.sightings import Sightings
from gitstore.uploads import Uploads
from gitstore.work import Work
from server import log, validation
from server.answer import Context, failure, raw, reply, stream
from server.bridge import Bridge
from server.call import Call
from server.cors import Cors
from server.data import means, open_live, open_maintenance, open_uploads
from server.digests import Digests
from server.http import RANK, Answer, MethodNotAllowed, Raw, Reply, Route
from server.metrics import Metrics
from server.pulse import Pulse
from server.rate import Rate
from server.router import Router
from server.shapes.common import Shape
from server.wire import Clock, Ids, Whole, line

if TYPE_CHECKING:
    from gitstore.keys import KeyRecord, Keys
    from gitstore.live import Live
    from gitstore.store import Store
    from server.config import Settings

_REQUEST_ID = istr("X-Request-Id")
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class Bound:
    """A route with everything about it worked out once."""

    __slots__ = (
        "always",
        "body",
        "checks",
        "form",
        "handler",
        "limit",
        "method",
        "path",
        "query",
        "rank",
        "raw",
        "reads",
        "route",
        "tally",
        "waits",
    )

    def __init__(self, route: Route, settings: Settings, metrics: Metrics) -> None:
        self.route = route
        self.method = route.method
        self.path = route.path
        self.handler = route.handler
        self.waits = inspect.iscoroutinefunction(route.handler)
        self.rank = -1 if route.scope is None else RANK[route.scope]
        self.query = None if route.query is None else validation.Query(route.query)
        self.body = route.body
        self.reads = route.body is not None or bool(route.uploads)
        self.checks = route.body is not None and issubclass(route.body, Shape) and route.body.faults is not Shape.faults
        self.limit = {
            "body": settings.max_body_bytes,
            "upload": settings.upload_bytes,
            "batch": settings.batch_bytes,
            "artifact": settings.max_json_upload_bytes,
            "file": settings.max_file_bytes,
            "none": 1 << 62,
        }[route.limit]
        # Of a body that is the content itself, and of one that has the content as a part among others.
        self.raw = settings.max_artifact_bytes if route.limit == "artifact" else self.limit
        self.form = self.raw + settings.max_body_bytes if route.limit == "artifact" else self.limit
        self.always = b"".join(line(name, value) for name, value in route.always)
        self.tally = metrics.tally(route.method, route.path)


class App:
    """The routes, what their handlers may use, and `serve`, which aiohttp calls for each request."""

    def __init__(
        self,
        routes: Iterable[Route],
        settings: Settings,
        keys: Keys,
        store: Store | None,
        metrics: Metrics | None = None,
    ) -> None:
        self.routes = tuple(routes)
        self.settings = settings
        self.keys = keys
        self._store = store
        self._following = Following(store, means(settings)) if store is not None else None
        self._work = Work(store) if store is not None else None
        self._explorer = Explorer(store.catalog, store.search, store.derived.standing) if store is not None else None
        self._past = Past(store) if store is not None else None
        self._retrospect = Retrospect(store, self._past) if store is not None and self._past is not None else None
        #: What differs between trees.
        self.compared = Compared()
        self._sightings = Sightings(store) if store is not None else None
        self._evidence = Evidence(store) if store is not None else None
        self._live = open_live(settings, store) if store is not None else None
        #: What looks after the disk, if anything does.
        self.maintenance = open_maintenance(settings, store) if store is not None else None
        self._uploads = open_uploads(settings, store) if store is not None else None
        self.metrics = metrics or Metrics()
        self.router = Router(Bound(route, settings, self.metrics) for route in self.routes)
        self.clock = Clock()
        self.ids = Ids()
        self.cors = Cors(settings.cors_origins)
        self.rate = Rate(settings.rate_limit_per_minute)
        #: Set when the server stops: from then on every new request is answered with 503.
        self.closing = False
        #: Requests that are being answered.
        self.busy = 0
        self._pulse = Pulse(self.metrics)
        self.metrics.gauge("http_requests_in_flight", "Requests being answered", lambda: float(self.busy))
        self._bridge: Bridge | None = None
        self._lost = self.metrics.tally("", "unknown")
        self._logs = log.access.isEnabledFor(20)

    @property
    def store(self) -> Store:
        """The store. Raises RuntimeError where the frame runs without one (tests of the frame alone)."""
        if self._store is None:
            raise RuntimeError("this server has no store")
        return self._store

    @property
    def stored(self) -> bool:
        """Whether there is a store (tests of the frame alone have none)."""
        return self._store is not None

    @property
    def work(self) -> Work:
        """Workflows, tasks and artifacts of the store."""
        if self._work is None:
            raise RuntimeError("this server has no store")
        return self._work

    @property
    def following(self) -> Following:
        """The workspaces that follow a remote."""
        if self._following is None:
            raise RuntimeError("this server has no store")
        return self._following

    @property
    def explorer(self) -> Explorer:
        """The search over artifacts."""
        if self._explorer is None:
            raise RuntimeError("this server has no store")
        return self._explorer

    @property
    def past(self) -> Past:
        """The workspaces as they were."""
        if self._past is None:
            raise RuntimeError("this server has no store")
        return self._past

    @property
    def retrospect(self) -> Retrospect:
        """What history tells of files and keys."""
        if self._retrospect is None:
            raise RuntimeError("this server has no store")
        return self._retrospect

    @property
    def sightings(self) -> Sightings:
        """The search through history."""
        if self._sightings is None:
            raise RuntimeError("this server has no store")
        return self._sightings

    @property
    def evidence(self) -> Evidence:
        """The evidence as it was."""
        if self._evidence is None:
            raise RuntimeError("this server has no store")
        return self._evidence

    @property
    def live(self) -> Live:
        """The folders that people edit."""
        if self._live is None:
            raise RuntimeError("this server has no store")
        return self._live

    @property
    def uploads(self) -> Uploads:
        """The uploads that are not finished."""
        if self._uploads is None:
            raise RuntimeError("this server has no store")
        return self._uploads

    @property
    def bridge(self) -> Bridge:
        """Made at first use, on the loop that uses it."""
        if self._bridge is None:
            self._bridge = Bridge(self.settings.threads)
        return self._bridge

    def start(self) -> None:
        """Begins what goes on without a request; call it once, on the loop, when connections are taken."""
        self._pulse.start()
        if self._live is not None:
            self._live.start()
        if self._following is not None:
            self._following.start()
        if self.maintenance is not None:
            self.maintenance.start()

    def halt(self) -> None:
        """Takes no new requests, and breaks off what would keep those under way waiting for other hosts."""
        self.closing = True
        self._pulse.stop()
        if self._following is not None:
            self._following.halt()

    def close(self) -> None:
        """Ends the threads; call it after the last request."""
        if self.maintenance is not None:
            self.maintenance.stop()
        if self._following is not None:
            self._following.stop()
        if self._live is not None:
            self._live.stop()
        if self._bridge is not None:
            self._bridge.close()
            self._bridge = None

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request. Raises nothing but cancellation and the loss of the connection."""
        started = perf_counter()
        headers = request.headers
        sent = headers.get(_REQUEST_ID)
        request_id = sent if sent is not None and _ID.fullmatch(sent) else self.ids.new()
        context = Context(self, request, request_id)
        tally, call = self._lost, None
        response: web.StreamResponse
        self.busy += 1
        try:
            if self.closing:
                raise errors.Unavailable("the server is stopping; try again in a moment")
            path, text = _target(request.raw_path)
            if request.method == "OPTIONS":
                return self._options(context, path)
            bound, params = self.router.find(request.method, path)
            tally = bound.tally
            context.plain = bound.route.plain
            context.always = bound.always
            call = Call(self, request, bound.route, params, text, request_id, bound.limit)
            self._admit(bound, call, context)
            if bound.reads:
                await self._read(bound, call)
            elif bound.query is not None:
                call.query, faults = bound.query.read(text)
                if faults:
                    raise errors.WrongShape(faults)
            if bound.waits:
                answer = await cast(Any, bound.handler)(call)
            else:
                answer = cast(Answer, bound.handler(call))
            if isinstance(answer, Reply):
                response = reply(context, answer)
            elif isinstance(answer, Raw):
                response = raw(context, answer)
            else:
                response = stream(context, answer)
        except errors.GitstoreError as error:
            response = self._failed(context, error, call)
        except ConnectionError:
            if request.transport is None or request.transport.is_closing():
                raise  # the client is gone; aiohttp ends the connection without a line in the log
            response = self._broken(context)
        except Exception:  # noqa: BLE001  (the last line of defence: whatever it is, it is logged and becomes a 500)
            response = self._broken(context)
        finally:
            self.busy -= 1
        taken = perf_counter() - started
        tally.add(response.status, taken)
        if self._logs:
            self._log(request, request_id, response.status, taken, call)
        return response

    def _admit(self, bound: Bound, call: Call, context: Context) -> None:
        """Rate limit, key, scope, in this order; the limit is per key, so the key is looked up before it is judged."""
        grant: KeyRecord | None = None
        refused: errors.Unauthorized | None = None
        if bound.rank >= 0:
            try:
                grant = self._grant(call.request.headers.get(hdrs.AUTHORIZATION))
            except errors.Unauthorized as error:
                refused = error
        if self.rate.limit and bound.route.limited:
            caller = grant.id if grant is not None else f"@{call.request.remote}"
            try:
                remaining, wait = self.rate.take(caller)
            except errors.RateLimited as error:
                context.limited(self.rate.limit, 0, error.retry_after)
                raise
            context.limited(self.rate.limit, remaining, wait)
        if refused is not None:
            context.basic = bound.route.basic
            raise refused
        if grant is not None:
            call.grant = grant
            if RANK[grant.scope] < bound.rank:
                raise errors.Forbidden(
                    f"this needs a key of scope {bound.route.scope} or stronger; yours has scope {grant.scope}"
                )

    def _grant(self, header: str | None) -> KeyRecord:
        """The key of an Authorization header: Bearer, or Basic with the key as password. Raises Unauthorized."""
        if header is None:
            raise errors.Unauthorized("send your key as `Authorization: Bearer <key>`")
        scheme, _, rest = header.partition(" ")
        if scheme == "Bearer" or (scheme := scheme.lower()) == "bearer":
            return self.keys.authenticate(rest.strip(), self.clock.now())
        if scheme != "basic":
            raise errors.Unauthorized(
                "the Authorization header must say `Bearer <key>` or Basic with the key as password"
            )
        try:
            pair = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise errors.Unauthorized("the Basic credentials are not base64 of `name:key`") from None
        return self.keys.authenticate(pair.partition(":")[2], self.clock.now())

    async def _read(self, bound: Bound, call: Call) -> None:
        """Size, media type and JSON of the body, then the shape of body and query together."""
        headers = call.request.headers
        if bound.raw != bound.limit and not (bound.body is not None and call.is_json()):
            # A coded body may unpack to as much as there is room in memory for, not to what a disk holds.
            coded = headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity"
            call.limit_to(
                bound.limit if coded else bound.form if call.media_type == "multipart/form-data" else bound.raw
            )
        call.check_size()
        length = headers.get(hdrs.CONTENT_LENGTH)
        empty = length == "0" or (length is None and hdrs.TRANSFER_ENCODING not in headers)
        typed = hdrs.CONTENT_TYPE in headers
        value: Any = msgspec.UNSET  # None is a body too: the JSON text `null`
        uploaded = False
        if empty and (bound.route.body_optional or not typed):
            if bound.route.body_optional:
                value = {}
        elif bound.body is not None and call.is_json():
            data = await call.content()
            if bound.route.uploads and (digests := Digests(headers)):
                digests.update(data)
                digests.check()
            value = values.decode(data)
        elif not self._takes(bound.route, call.media_type):
            accepted = ", ".join((*(("application/json",) if bound.body else ()), *bound.route.uploads))
            said = f"{call.media_type!r}" if typed else "nothing"
            raise errors.UnsupportedType(f"the body must be {accepted} (UTF-8); the Content-Type says {said}")
        else:
            uploaded = True

        faults: list[tuple[str, str]] = []
        if bound.query is not None:
            call.query, faults = bound.query.read(call.text)
        if uploaded:
            pass
        elif value is msgspec.UNSET:
            faults.append(("", "a body is required"))
        elif bound.body is not None:
            try:
                call.body = msgspec.convert(value, bound.body)
            except msgspec.ValidationError as error:
                faults += validation.explain(value, bound.body, error)
            else:
                if bound.checks:
                    faults += call.body.faults()
        if faults:
            raise errors.WrongShape(faults)

    @staticmethod
    def _takes(route: Route, media_type: str) -> bool:
        if not media_type and route.body is None:
            return "*/*" in route.uploads  # RFC 9110 §8.3: a body may come without a type
        return any(each in (media_type, "*/*") for each in route.uploads) and bool(media_type)

    def _options(self, context: Context, path: str) -> Whole:
        allow: tuple[str, ...] = ("GET", "HEAD", "OPTIONS")
        if path != "*":
            try:
                self.router.find("OPTIONS", path)
            except MethodNotAllowed as refusal:
                allow = refusal.allow
            except errors.NotFound as error:
                return failure(context, error)
        lines = b"Allow: " + ", ".join(allow).encode() + b"\r\n"
        if path != "*":
            known = next((each for each in allow if each not in ("HEAD", "OPTIONS")), "GET")
            lines += b"".join(line(*each) for each in self.router.find(known, path)[0].route.options)
        return context.whole(204, lines + self.cors.preflight(context.request.headers, allow), b"", cors=False)

    def _failed(self, context: Context, error: errors.GitstoreError, call: Call | None) -> Whole:
        if error.status_hint >= 500 and not isinstance(error, errors.Unavailable):
            return self._broken(context)
        if isinstance(error, errors.StorageFailed):
            log.server.error("the store refused a request: %s", error, extra={"request_id": context.request_id})
        return failure(context, error)

    def _broken(self, context: Context) -> Whole:
        """500 for what nobody foresaw; the log has the story, the client gets the request id to ask with."""
        log.server.exception(
            "a request failed unexpectedly",
            extra={
                "request_id": context.request_id,
                "method": context.request.method,
                "path": context.request.raw_path[:500],
            },
        )
        return failure(context, errors.Damaged("the server failed; its log has the request id of this answer"))

    def _log(self, request: web.BaseRequest, request_id: str, status: int, taken: float, call: Call | None) -> None:
        path = request.raw_path.partition("?")[0][:500]  # no query: it is where people put what should not be logged
        extra = {"request_id": request_id, "method": request.method, "path": path, "status": status}
        extra |= {"ms": round(taken * 1000, 3), "remote": request.remote or ""}
        if call is not None and call.grant is not None:
            extra["actor"] = call.grant.prefix
        log.access.info("request", extra=extra)


def _target(target: str) -> tuple[str, str]:
    """The raw path and query of a request target (RFC 9112 §3.2: origin, absolute or asterisk form)."""
    if not target.startswith("/") and (match := _ABSOLUTE.match(target)):
        target = target[match.end() :]
        if not target.startswith("/"):
            target = "/" + target
    if "#" in target:
        target = target.partition("#")[0]
    path, _, text = target.partition("?")
    return path, text
