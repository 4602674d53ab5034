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
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import partial
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
        try:
            # Not by the event loop: uvloop forks, which copies the page tables of the whole server (10 ms at 70 MB,
            # measured, and nothing else runs meanwhile), where this is a vfork(2).
            process = subprocess.Popen(  # noqa: ASYNC220
                [self.binary, *options, *words],
                cwd=folder,
                env=environment,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
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
        program = Program(process)
        try:
            await program.connect()
        except BaseException:
            await program.__aexit__()
            raise
        return program


class Program:
    """A program that runs. Use it as an async context: whatever happens, it and its children are gone at the end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._told = bytearray()
        self._in: asyncio.StreamWriter | None = None
        self._out = asyncio.StreamReader(_CHUNK)
        self._err = asyncio.StreamReader(_CHUNK)
        self._pipes: list[asyncio.BaseTransport] = []
        self._listening: asyncio.Future[None] | None = None
        self._feeding: asyncio.Future[None] | None = None

    async def connect(self) -> None:
        """Hands its pipes to the event loop."""
        loop, process = asyncio.get_running_loop(), self._process
        for reader, pipe in ((self._out, process.stdout), (self._err, process.stderr)):
            transport, _ = await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), pipe)
            self._pipes.append(transport)
        writing, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), process.stdin
        )
        self._pipes.append(writing)
        self._in = asyncio.StreamWriter(writing, protocol, None, loop)
        self._listening = asyncio.ensure_future(self._listen())

    async def __aenter__(self) -> Program:
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        tasks = [task for task in (self._listening, self._feeding) if task is not None]
        if self._feeding is not None:
            self._feeding.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP):
                await self._status()
                await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            task.cancel()
        for pipe in self._pipes:
            pipe.close()

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
        stdin = self._in
        assert stdin is not None
        try:
            async for piece in pieces:
                stdin.write(piece)
                await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended, and how it did says why
        finally:
            stdin.close()

    def close(self) -> None:
        """It is fed nothing."""
        assert self._in is not None
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
        if self._listening is not None:
            await self._listening
        status = await self._status()
        if self._feeding is not None and self._feeding.done() and not self._feeding.cancelled():
            self._feeding.result()
        return Ended(status, self._told.decode("utf-8", "replace").strip())
