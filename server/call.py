"""One request as a handler sees it, and the reading of its body under a limit."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gitstore import errors, precondition, values
from gitstore.model import Actor, Provenance
from gitstore.repository.disk import Data
from server import inflow, validation

if TYPE_CHECKING:
    from gitstore.keys import KeyRecord
    from gitstore.pending import Pending
    from server.dispatch import App
    from server.http import Route

T = TypeVar("T")

MAX_TEXT_PART = 1024 * 1024
MAX_PARTS = 100
_CUT = "the body cannot be read: it is cut off, or its encoding is wrong"
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)


class Call:
    """What a handler gets. Everything that most requests do not need is worked out when asked for."""

    __slots__ = (
        "_expects",
        "_limit",
        "app",
        "body",
        "grant",
        "params",
        "query",
        "request",
        "request_id",
        "route",
        "text",
    )

    def __init__(
        self,
        app: App,
        request: web.BaseRequest,
        route: Route,
        params: Mapping[str, str],
        text: str,
        request_id: str,
        limit: int,
    ) -> None:
        self.app = app
        self.request = request
        self.route = route
        #: Path parameters, percent-decoded.
        self.params = params
        #: The query string as it was sent.
        self.text = text
        self.request_id = request_id
        self.grant: KeyRecord | None = None
        self.query: Any = None
        self.body: Any = None
        self._limit = limit
        self._expects = True

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers; names in any case."""
        return self.request.headers

    def header(self, name: str) -> str | None:
        """One header's value, or None."""
        return self.request.headers.get(name)

    @property
    def media_type(self) -> str:
        """The body's media type in lower case without parameters; empty if none was sent."""
        return self.request.headers.get("Content-Type", "").split(";", 1)[0].strip().lower()

    @property
    def precondition(self) -> precondition.Precondition:
        """If-Match and If-None-Match, to be checked inside the lock that guards the write."""
        headers = self.request.headers
        match, none = headers.get("If-Match"), headers.get("If-None-Match")
        if match is None and none is None:
            return precondition.NONE
        return precondition.parse(match, none)

    @property
    def actor(self) -> Actor:
        """The key as the author of a change. Only on routes with a scope."""
        grant = self.grant
        if grant is None:
            raise RuntimeError(f"{self.route.path} has no scope, so it has no actor")
        return Actor(grant.scope, grant.prefix, grant.name)

    @property
    def provenance(self) -> Provenance:
        """Who asks for a change and on whose behalf. Raises Invalid for X-Workflow-Id or X-Task-Id out of 1..255."""
        return Provenance(
            actor=self.actor,
            request_id=self.request_id,
            workflow_id=self._behalf("X-Workflow-Id"),
            task_id=self._behalf("X-Task-Id"),
        )

    def _behalf(self, name: str) -> str | None:
        text = self.request.headers.get(name)
        if text is None:
            return None
        if not 1 <= len(text) <= 255 or not text.isprintable():
            raise errors.Invalid(f"{name} must be 1 to 255 printable characters", details={"header": name})
        return text

    async def settle(self, pending: Pending[T]) -> T:
        """Waits for a change to be durable; returns its outcome or raises its error."""
        return await self.app.bridge.settle(pending)

    async def turn(self) -> None:
        """Waits for its turn, before what takes the loop a while."""
        await self.app.bridge.turn()

    async def offload(self, fn: Callable[..., T], *args: Any) -> T:
        """Runs `fn(*args)` in the thread pool."""
        return await self.app.bridge.offload(fn, *args)

    async def carry(self, fn: Callable[..., T], *args: Any) -> T:
        """Runs one step of a body that comes or goes in the threads for bodies."""
        return await self.app.bridge.carry(fn, *args)

    def convert(self, value: Any, kind: type[T]) -> T:
        """`value`, plain JSON, as `kind`; raises WrongShape with every fault."""
        return validation.convert(value, kind)

    async def content(self) -> bytes:
        """The whole body. Raises TooLarge over the route's limit, Malformed if it breaks off."""
        self.check_size()
        stream = self.request.content
        if stream.is_eof() and stream.exception() is None:
            data = stream.read_nowait(-1)
            self.check(len(data))
            return data
        pieces = [piece async for piece in self.chunks()]
        return b"".join(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises TooLarge over the route's limit, Malformed if it breaks off or stops."""
        self.check_size()
        await self._go_on()
        total = 0
        stream, patience = self.request.content, self.app.settings.body_timeout
        try:
            while True:
                async with asyncio.timeout(patience):
                    piece = await stream.readany()
                if not piece:
                    if stream.at_eof():
                        return
                    continue
                total += len(piece)
                self.check(total)
                yield piece
        except TimeoutError:
            raise self._late() from None
        except (web.RequestPayloadError, ConnectionError):
            raise errors.Malformed(_CUT) from None

    async def blocks(self) -> AsyncGenerator[Data, None]:
        """The body in fewer, larger pieces, also what came before it broke off. Close it. Raises as `chunks`."""
        self.check_size()
        await self._go_on()
        flow = inflow.divert(self.request)
        if flow is None:
            async with contextlib.aclosing(gathered(self.chunks())) as pieces:
                async for piece in pieces:
                    yield piece
            return
        try:
            async with contextlib.aclosing(flow.blocks(self.app.settings.body_timeout)) as blocks:
                async for block in blocks:
                    yield block
        except TimeoutError:
            raise self._late() from None
        except ConnectionError:
            raise errors.Malformed(_CUT) from None

    def _late(self) -> errors.Malformed:
        seconds = self.app.settings.body_timeout
        return errors.Malformed(f"the body did not arrive: nothing came for {seconds:g} seconds")

    async def parts(self) -> AsyncIterator[Part]:
        """The parts of a multipart/form-data body in their order; read one before asking for the next.

        Raises Malformed for a body that is not multipart, TooLarge over the route's limit or over 100 parts.
        """
        self.check_size()
        await self._go_on()
        async with self.patience():
            reader = MultipartReader(self.request.headers, self.request.content)
        for _ in range(MAX_PARTS):
            async with self.patience():
                part = await reader.next()
            if part is None:
                return
            if not isinstance(part, BodyPartReader):
                raise errors.Malformed("a multipart body inside a multipart body is not read here")
            coding = part.headers.get("Content-Transfer-Encoding", "binary").lower()
            if coding not in ("7bit", "8bit", "binary") or "Content-Encoding" in part.headers:
                raise errors.Malformed("a part is encoded; send the bytes as they are (RFC 7578)")
            yield Part(part, self)
        raise errors.TooLarge(f"a multipart body may have at most {MAX_PARTS} parts")

    @contextlib.asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """Around one read of a multipart body: what was sent wrongly, or does not arrive, becomes Malformed."""
        try:
            async with asyncio.timeout(self.app.settings.body_timeout):
                yield
        except TimeoutError:
            raise self._late() from None
        except (
            ValueError,
            AssertionError,
            LookupError,
            RuntimeError,
            web.RequestPayloadError,
            ConnectionError,
            HttpProcessingError,
        ) as e:
            # What aiohttp's reader raises for boundaries, headers and encodings that are wrong: all of it was sent.
            raise errors.Malformed("the multipart body cannot be read") from e

    async def json(self) -> Any:
        """The body as JSON. Raises TooLarge, Malformed."""
        return values.decode(await self.content())

    @property
    def limit(self) -> int:
        """The bytes that the body may have."""
        return self._limit

    def limit_to(self, size: int) -> None:
        """Sets the bytes that the body may have, where they depend on what it is; before any of it is read."""
        self._limit = size

    def check_size(self) -> None:
        """Raises TooLarge if the announced length is over the route's limit."""
        length = self.request.headers.get("Content-Length")
        if length is not None:
            self.check(int(length))

    def check(self, size: int) -> None:
        """Raises TooLarge if `size` bytes are over the route's limit."""
        if size > self._limit:
            raise errors.TooLarge(
                f"the body is larger than the {self._limit} bytes allowed here", details={"limit": self._limit}
            )

    def is_json(self) -> bool:
        """Whether the body says that it is JSON in UTF-8."""
        full = self.request.headers.get("Content-Type", "")
        if full == "application/json":
            return True
        kind = full.split(";", 1)[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            return False
        charset = _CHARSET.search(full)
        return charset is None or charset[1].lower() in ("utf-8", "utf8")

    async def _go_on(self) -> None:
        """RFC 9110 §10.1.1: a client that asked whether to send the body at all is told once that it may."""
        if self._expects:
            self._expects = False
            if self.request.headers.get("Expect", "").lower() == "100-continue":
                await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


class Part:
    """One part of a multipart body."""

    __slots__ = ("_call", "_reader", "content_type", "file_name", "headers", "name")

    def __init__(self, reader: BodyPartReader, call: Call) -> None:
        self._reader = reader
        self._call = call
        self.name: str = reader.name or ""
        self.file_name: str | None = reader.filename
        self.headers: Mapping[str, str] = reader.headers
        self.content_type: str | None = reader.headers.get("Content-Type")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content as it arrives; raises TooLarge over the route's limit."""
        total = 0
        while True:
            async with self._call.patience():
                piece = await self._reader.read_chunk(65536)
            if not piece:
                return
            total += len(piece)
            self._call.check(total)
            yield bytes(piece)

    def blocks(self) -> AsyncGenerator[Data, None]:
        """The content in fewer, larger pieces. Close it. Raises as `chunks`."""
        return gathered(self.chunks())

    async def content(self) -> bytes:
        """The whole content."""
        return b"".join([piece async for piece in self.chunks()])

    async def text(self) -> str:
        """The content of a text field. Raises TooLarge over 1 MiB, Malformed if it is not UTF-8 or holds U+0000."""
        data = bytearray()
        async for piece in self.chunks():
            data += piece
            if len(data) > MAX_TEXT_PART:
                raise errors.TooLarge(f"the field {self.name!r} is larger than {MAX_TEXT_PART} bytes")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise errors.Malformed(f"the field {self.name!r} is not UTF-8") from None
        if "\0" in text:
            raise errors.Malformed(f"the field {self.name!r} holds U+0000")
        return text


async def gathered(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Data, None]:
    """The same bytes in pieces of a mebibyte and more; also what came before `pieces` failed. Close it."""
    held = bytearray()
    try:
        async for piece in pieces:
            held += piece
            if len(held) >= inflow.BLOCK:
                yield held
                held = bytearray()
    except errors.Malformed:
        if held:
            yield held
        raise
    if held:
        yield held


def encode(data: Any) -> bytes:
    """`data` as JSON: bytes as they are, Structs by msgspec, all else by the library's encoder."""
    if type(data) is bytes:
        return data
    if isinstance(data, msgspec.Struct) or (
        isinstance(data, list | tuple) and data and isinstance(data[0], msgspec.Struct)
    ):
        return msgspec.json.encode(data)
    return values.encode(data)
