"""What a clone, fetch or pull is sent: everything acknowledged so far, streamed by `git upload-pack`.

Formats: gitprotocol-http(5), gitprotocol-v2(5). The git folder that is served: gitstore/repository/view.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator

from gitstore.changes import Workspace
from gitstore.errors import StorageFailed, Unavailable
from gitstore.repository import view
from gitstore.repository.objects import Oid
from gitstore.store import Store
from gitstore.transport.git import Git
from gitstore.transport.lines import FLUSH, error, line

UPLOAD = "git-upload-pack"
_PATIENCE = 10.0  # seconds that somebody's git may hold a lock
_SETTINGS = {
    "uploadpack.allowFilter": "true",
    "uploadpackfilter.sparse:oid.allow": "false",  # its cost has no bound
    # Version 2 of the protocol gives any object whose id is known; a partial clone by an older one needs the same.
    "uploadpack.allowAnySHA1InWant": "true",
    "uploadpack.keepAlive": "2",
    "pack.windowMemory": "64m",
    "pack.deltaCacheSize": "32m",
    "core.bigFileThreshold": "16m",
}

log = logging.getLogger("gitstore.transport")


def publish(store: Store, reference: str) -> Workspace:
    """The workspace, with everything acknowledged so far on disk. Raises NotFound, Unavailable, Damaged."""
    until = time.monotonic() + _PATIENCE
    while True:
        workspace = store.load(reference)
        try:
            done = store.publisher.publish(workspace)
        except OSError as failed:
            raise StorageFailed(f"the workspace cannot be published: {failed.strerror or failed}") from failed
        if done and not workspace.closed:
            return workspace
        if time.monotonic() > until:
            raise Unavailable("somebody's git holds a lock in the workspace's folder; try again in a moment")
        time.sleep(0.02)


def show(store: Store, reference: str) -> str:
    """Publishes the workspace and returns the git folder to serve. Raises NotFound, Unavailable, Damaged."""
    workspace = publish(store, reference)
    with workspace.publishing:
        try:
            return view.prepare(store.disk, workspace.repository)
        except OSError as failed:
            raise StorageFailed(f"the workspace cannot be served: {failed.strerror or failed}") from failed


def shown(store: Store, reference: str) -> tuple[str, dict[str, Oid]]:
    """Publishes the workspace and returns its git folder and the refs to serve. Raises as `show`."""
    workspace = publish(store, reference)
    with workspace.publishing:
        return workspace.repository.git, view.served(workspace.repository)


async def advertise(git: Git, folder: str, protocol: str | None) -> AsyncGenerator[bytes]:
    """The answer to `info/refs?service=git-upload-pack`."""
    words = ["upload-pack", "--stateless-rpc", "--advertise-refs", "."]
    first = True
    async with await git.start(folder, words, _SETTINGS, protocol=protocol, objects=view.OBJECTS) as program:
        program.close()
        async for piece in program.output():
            if first and not piece.startswith(b"000eversion 2\n"):
                yield line(f"# service={UPLOAD}\n") + FLUSH
            first = False
            yield piece
        ended = await program.end()
    if ended.status != 0:
        yield _failed(ended.status, ended.told)


async def serve(
    git: Git, folder: str, body: AsyncIterator[bytes], protocol: str | None, seconds: float
) -> AsyncGenerator[bytes]:
    """The answer to one `git-upload-pack` request. The program is gone when the caller closes this, or is too slow.

    `seconds`: how long git may think without a word.
    """
    words = ["upload-pack", "--stateless-rpc", "."]
    async with await git.start(folder, words, _SETTINGS, protocol=protocol, objects=view.OBJECTS) as program:
        program.feed(body)
        sent = False
        pieces = program.output()
        try:
            while True:
                async with asyncio.timeout(seconds):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                sent = True
                yield piece
        except TimeoutError:
            yield error("the server's git took too long; try again")
            return
        ended = await program.end()
    if ended.status != 0 and not sent:
        yield _failed(ended.status, ended.told)


def _failed(status: int, told: str) -> bytes:
    log.warning("git upload-pack ended with %d: %s", status, told[-2000:])
    return error("the server's git failed; the server's log says why")
