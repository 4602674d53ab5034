"""Git over HTTP: clone, fetch and push at `/git/<slug>.git`. This only carries bytes; `gitstore.transport` knows git.

Protocol: gitprotocol-http(5). Failures before the answer begins are plain text, which git shows to whoever runs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec

from gitstore import errors, transport
from gitstore.transport import alone, commands, fetch, push
from gitstore.transport.examine import ByGit, Examiner
from server.call import Call
from server.config import Settings
from server.http import RANK, Route, Stream
from server.validation import pairs

_FRESH = (("Cache-Control", "no-cache, max-age=0, must-revalidate"), ("X-Content-Type-Options", "nosniff"))
_REQUEST = 16 << 20  # bytes that a client may need to say what it wants and has


class Door:
    """The handlers, with what they share."""

    def __init__(self, settings: Settings) -> None:
        binary = shutil.which(settings.git_binary) if settings.git_binary else None
        self.git = transport.Git(binary) if binary is not None else None
        self.push_rank = RANK[settings.git_push_scope]
        self.limits = transport.Limits(
            push_bytes=settings.max_push_bytes, file_bytes=settings.max_file_bytes, seconds=settings.git_timeout
        )
        self.examiner: Examiner = ByGit(self.git, self.limits) if self.git is not None else alone.Alone()
        self.scope = settings.git_push_scope
        self.seconds = settings.git_timeout
        self._room = asyncio.Semaphore(settings.git_concurrency)

    async def info(self, call: Call) -> Stream:
        """Which refs there are. Without `service` it is a client that only reads files, which this cannot serve."""
        service = dict(pairs(call.text)).get("service")
        if service == commands.RECEIVE:
            self._may_push(call)
            refs = await call.offload(push.advertise, call.app.store, _name(call))
            return Stream(refs, f"application/x-{service}-advertisement", headers=_FRESH)
        if service != fetch.UPLOAD:
            raise errors.Forbidden(
                "this server speaks git's smart HTTP protocol only: use git 1.6.6 or newer, and no GIT_SMART_HTTP=0"
            )
        name = _name(call)
        if self.git is None:
            git, shown = await call.offload(fetch.shown, call.app.store, name)
            pieces = alone.upload_pack(git, shown, None, self.seconds)
        else:
            folder = await call.offload(fetch.show, call.app.store, name)
            pieces = fetch.advertise(self.git, folder, call.header("Git-Protocol"))
        return Stream(self._served(call, pieces), f"application/x-{service}-advertisement", headers=_FRESH)

    async def upload_pack(self, call: Call) -> Stream:
        """Sends what a client lacks."""
        _expect(call, fetch.UPLOAD)
        body = _counted(call, _REQUEST)
        name = _name(call)
        if self.git is None:
            git, shown = await call.offload(fetch.shown, call.app.store, name)
            pieces = alone.upload_pack(git, shown, body, self.seconds)
        else:
            folder = await call.offload(fetch.show, call.app.store, name)
            pieces = fetch.serve(self.git, folder, body, call.header("Git-Protocol"), self.seconds)
        return Stream(self._served(call, pieces), f"application/x-{fetch.UPLOAD}-result", headers=_FRESH)

    async def receive_pack(self, call: Call) -> Stream:
        """Takes in what a client pushes."""
        self._may_push(call)
        _expect(call, commands.RECEIVE)
        who = msgspec.structs.replace(call.provenance, door="git")
        body = _counted(call, 2 * self.limits.push_bytes + _REQUEST)
        async with self._turn():
            answer = await push.receive(
                call.app.store, self.examiner, _name(call), body, who, self.limits, call.offload
            )
        return Stream(answer, f"application/x-{commands.RECEIVE}-result", headers=_FRESH)

    def _may_push(self, call: Call) -> None:
        assert call.grant is not None
        if RANK[call.grant.scope] < self.push_rank:
            raise errors.Forbidden(
                f"pushing needs a key of scope {self.scope} or stronger; yours has scope {call.grant.scope}"
            )

    async def _served(self, call: Call, pieces: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
        """The pieces, once it is this request's turn; a client that takes none for too long is cut off."""
        loop = asyncio.get_running_loop()

        def cut_off() -> None:
            if call.request.transport is not None:
                call.request.transport.abort()

        try:
            async with self._turn(), contextlib.aclosing(pieces):
                async for piece in pieces:
                    watch = loop.call_later(self.seconds, cut_off)
                    try:
                        yield piece
                    finally:
                        watch.cancel()
        except errors.GitstoreError as error:
            yield transport.error(error.message)  # the answer has begun: from here on git is told in its own words

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.seconds):
                await self._room.acquire()
        except TimeoutError:
            raise errors.Unavailable("too many fetches and pushes at this time; try again in a moment") from None
        try:
            yield
        finally:
            self._room.release()


def routes(settings: Settings) -> tuple[Route, ...]:
    """These routes; `{name}` is a workspace's slug or id, with or without `.git`."""
    door = Door(settings)
    at = "/git/{name}"
    shared: dict[str, Any] = {"tag": "git", "basic": True, "plain": True, "hidden": True}
    return (
        Route("GET", f"{at}/info/refs", "agent", door.info, "Refs, for git", media="text/plain", **shared),
        Route("POST", f"{at}/git-upload-pack", "agent", door.upload_pack, "Fetch, by git", limit="none",
              media=f"application/x-{fetch.UPLOAD}-result", **shared),
        Route("POST", f"{at}/git-receive-pack", "agent", door.receive_pack, "Push, by git", limit="none",
              media=f"application/x-{commands.RECEIVE}-result", **shared),
    )  # fmt: skip


def _name(call: Call) -> str:
    return call.params["name"].removesuffix(".git")


def _expect(call: Call, service: str) -> None:
    """A browser of another origin cannot send this media type unasked."""
    if call.media_type != f"application/x-{service}-request":
        raise errors.UnsupportedType(f"the body must be application/x-{service}-request")


async def _counted(call: Call, limit: int) -> AsyncIterator[bytes]:
    total = 0
    async for piece in call.chunks():
        total += len(piece)
        if total > limit:
            raise errors.TooLarge(f"the request is larger than the {limit} bytes allowed here")
        yield piece
