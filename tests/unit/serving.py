"""A server that really listens, on its own thread and loop, and a client that speaks bytes."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from gitstore.keys import Keys
from server.app import make_app
from server.config import Settings
from server.dispatch import App
from server.http import Route
from server.listen import listening

ADMIN = "bootstrap-admin-key-1"


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


class Served:
    """A running server; `ask` makes one request on a connection of its own."""

    def __init__(self, app: App, keys: Keys) -> None:
        self.app = app
        self.keys = keys
        self.port = 0
        self.loop: asyncio.AbstractEventLoop
        self.stopping: asyncio.Event

    def ask(self, method: str, path: str, body: Any = None, *, key: str | None = ADMIN, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def raw(self, data: bytes, *, then: bytes = b"") -> bytes:
        """Everything the server sends back for these bytes until it closes (or falls silent for two seconds)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as link:
            link.sendall(data)
            got = b""
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while piece := link.recv(65536):
                    got += piece
                    if then and b"100 Continue" in got:
                        link.sendall(then)
                        then = b""
            return got

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self.loop.call_soon_threadsafe(self.stopping.set)


@contextlib.contextmanager
def serve(tmp_path: Path, *more: Route, **settings: Any) -> Iterator[Served]:
    """Serves the frame's own routes and `more` while the block runs."""
    keys = Keys.open(tmp_path / "keys.yaml", token_key=b"k" * 32)
    configured = Settings(**{"data": tmp_path, "port": 0, "admin_key": ADMIN, "shutdown_grace": 3.0, **settings})
    served = Served(make_app(configured, None, keys, more=more), keys)
    ready = threading.Event()

    async def main() -> None:
        served.loop, served.stopping = asyncio.get_running_loop(), asyncio.Event()
        async with listening(served.app) as port:
            served.port = port
            ready.set()
            await served.stopping.wait()

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    try:
        assert ready.wait(5)
        yield served
    finally:
        served.stop()
        thread.join(20)
        assert not thread.is_alive()
