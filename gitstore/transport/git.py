"""The git program of this machine, run so that nothing which a repository or a person's account holds can make it run
another one, and so that it ends when it is not wanted any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from threading import Event
from typing import NamedTuple

import msgspec

from gitstore.errors import Unavailable

_CHUNK = 256 << 10
_PROTOCOL = re.compile(r"[a-z0-9=:._-]{1,200}")
_STOP = 2.0  # seconds a killed program has to be gone
_TOLD = 16 << 10  # bytes of what it says that are kept

# Nothing of the system's or a user's configuration counts, no address can be reached, no other program is named.
_ENVIRONMENT = {
    "PATH": os.defpath,
    "HOME": "/nonexistent",
    "XDG_CONFIG_HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}
_SETTINGS = {
    "safe.directory": "*",  # the data folder may belong to somebody else than the server's user
    "protocol.allow": "never",
    "core.hooksPath": os.devnull,
    "core.packedGitWindowSize": "16m",
    "core.packedGitLimit": "128m",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


class Limits(msgspec.Struct, frozen=True):
    """What a push may use: its bytes, those of one file, refs it may move. Seconds anything may stand still."""

    push_bytes: int = 512 << 20
    file_bytes: int = 10 << 20
    refs: int = 1000
    seconds: float = 120.0


class Bounds(NamedTuple):
    """What one program may use: bytes of memory, bytes of one file that it writes, seconds of CPU."""

    memory: int
    file: int
    cpu: int


class Ended(NamedTuple):
    """How a program ended: its exit status (negative: the signal), and what it said."""

    status: int
    told: str


class Git:
    """The program at `binary`, an absolute path."""

    def __init__(self, binary: str) -> None:
        self.binary = binary

    async def start(
        self,
        folder: str,
        words: Sequence[str],
        settings: Mapping[str, str],
        *,
        protocol: str | None = None,
        objects: str | None = None,
        bounds: Bounds | None = None,
    ) -> Program:
        """Starts `git <words>` in a git folder. Raises Unavailable where that cannot be done.

        `protocol` is what a client sent as Git-Protocol; `objects` is where the objects are, seen from the folder.
        """
        options = [word for item in {**_SETTINGS, **settings}.items() for word in ("-c", "=".join(item))]
        environment = {**_ENVIRONMENT, "GIT_DIR": "."}
        if protocol is not None and _PROTOCOL.fullmatch(protocol):
            environment["GIT_PROTOCOL"] = protocol
        if objects is not None:
            environment["GIT_OBJECT_DIRECTORY"] = objects
        # Sockets, not pipes: uvloop closes a pipe's descriptor twice, and the second time it may be somebody else's.
        # Three, for one that breaks while it is written to takes what is still to be read with it.
        with ExitStack() as stack:
            pairs = [socket.socketpair() for _ in range(3)]
            for _, theirs in pairs:
                stack.enter_context(theirs)
            try:
                # Not by the event loop: uvloop forks, which copies the page tables of the whole server (10 ms at 70 MB,
                # measured, and nothing else runs meanwhile), where this is a vfork(2).
                process = subprocess.Popen(  # noqa: ASYNC220
                    [self.binary, *options, *words],
                    cwd=folder,
                    env=environment,
                    stdin=pairs[0][1].fileno(),
                    stdout=pairs[1][1].fileno(),
                    stderr=pairs[2][1].fileno(),
                    start_new_session=True,
                )
            except OSError as error:
                for ours, _ in pairs:
                    ours.close()
                raise Unavailable(f"git cannot be run on the server: {error.strerror or error}") from error
        if bounds is not None:
            # It has read nothing yet, so nothing that was sent can have used anything.
            for kind, value in (
                (resource.RLIMIT_AS, bounds.memory),
                (resource.RLIMIT_FSIZE, bounds.file),
                (resource.RLIMIT_CPU, bounds.cpu),
                (resource.RLIMIT_CORE, 0),
            ):
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(process.pid, kind, (value, value))
        ends = [ours for ours, _ in pairs]
        connecting: asyncio.Future[Program] = asyncio.ensure_future(Program.connect(process, ends))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            async with await connecting:
                raise

    def run(
        self, folder: str, words: Sequence[str], settings: Mapping[str, str], *, seconds: float, stop: Event
    ) -> Ended:
        """Runs `git <words>` in a git folder to its end, at most so long, or until `stop` is set: then it is killed.

        It has the priority of the thread that asks. Raises Unavailable where that cannot be done.
        """
        options = [word for item in {**_SETTINGS, **settings}.items() for word in ("-c", "=".join(item))]
        with tempfile.TemporaryFile() as told:
            try:
                process = subprocess.Popen(
                    [self.binary, *options, *words],
                    cwd=folder,
                    env={**_ENVIRONMENT, "GIT_DIR": "."},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=told,
                    start_new_session=True,
                )
            except OSError as error:
                raise Unavailable(f"git cannot be run on the server: {error.strerror or error}") from error
            end = time.monotonic() + seconds
            while True:
                try:
                    status = process.wait(0.2)
                    break
                except subprocess.TimeoutExpired:
                    if stop.is_set() or time.monotonic() > end:
                        with contextlib.suppress(ProcessLookupError, PermissionError):
                            os.killpg(process.pid, signal.SIGKILL)
            told.seek(0)
            return Ended(status, told.read(_TOLD).decode("utf-8", "replace").strip())


class Program:
    """A program that runs. Use it as an async context: whatever happens, it and its children are gone at the end."""

    def __init__(
        self, process: subprocess.Popen[bytes], streams: Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    ) -> None:
        self._process = process
        self._in, self._out, self._err = streams[0][1], streams[1][0], streams[2][0]
        self._writers = [writer for _, writer in streams]
        self._told = bytearray()
        self._listening = asyncio.ensure_future(self._listen())
        self._feeding: asyncio.Future[None] | None = None

    @classmethod
    async def connect(cls, process: subprocess.Popen[bytes], ours: Sequence[socket.socket]) -> Program:
        """Our ends of the sockets that are its input, output and what it tells, handed to the event loop."""
        return cls(process, [await asyncio.open_unix_connection(sock=one, limit=_CHUNK) for one in ours])

    async def __aenter__(self) -> Program:
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        tasks = [self._listening] if self._feeding is None else [self._listening, self._feeding]
        if self._feeding is not None:
            self._feeding.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP):
                await self._status()
                await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()

    async def _status(self) -> int:
        """Its exit status, once it has ended. It is about to: it is killed, or has closed what it writes to."""
        pause = 0.0005
        while (status := self._process.poll()) is None:
            await asyncio.sleep(pause)  # a watcher of processes costs more than the one look that is mostly needed
            pause = min(2 * pause, 0.05)
        return status

    async def _listen(self) -> None:
        while piece := await self._err.read(_CHUNK):
            if len(self._told) < _TOLD:
                self._told += piece[: _TOLD - len(self._told)]

    async def give(self, pieces: AsyncIterator[bytes]) -> None:
        """Feeds it, as fast as it takes the pieces, and closes its input. What the pieces raise is raised.

        Where it ends before it has read everything, the rest is not asked for.
        """
        try:
            async for piece in pieces:
                self._in.write(piece)
                await self._in.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended, and how it did says why
        finally:
            self._in.close()

    def close(self) -> None:
        """It is fed nothing."""
        self._in.close()

    def feed(self, pieces: AsyncIterator[bytes]) -> None:
        """`give`, while its output is read. What the pieces raise ends its input."""
        self._feeding = asyncio.ensure_future(self.give(pieces))

    async def output(self) -> AsyncGenerator[bytes]:
        """What it writes, as it is asked for."""
        while piece := await self._out.read(_CHUNK):
            yield piece

    async def end(self) -> Ended:
        """Waits for its end. Its output must have been read. Raises what the pieces raised that it was fed with."""
        await self._listening
        status = await self._status()
        if self._feeding is not None and self._feeding.done() and not self._feeding.cancelled():
            self._feeding.result()
        return Ended(status, self._told.decode("utf-8", "replace").strip())
