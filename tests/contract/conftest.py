"""One server with a real data folder for the whole run, a workspace for each test, and a watch on the server's log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import uvloop

from contract.client import Answer, Client, slug
from gitstore.keys import Keys
from gitstore.store import Options, Store
from server.app import make_app
from server.config import Settings
from server.dispatch import App
from server.http import Route
from server.listen import listening

ADMIN = "bootstrap-admin-key-1"
SCOPES = ("agent", "worker", "admin", "service")


class Server:
    """A server that listens; `keys` has one key of each scope."""

    def __init__(self, app: App, store: Store, stored: Keys) -> None:
        self.app = app
        self.store = store
        self.stored = stored
        self.port = 0
        self.keys = {scope: stored.create(scope, f"the {scope}")[1] for scope in SCOPES}
        self.document: dict[str, Any] = {}

    @property
    def routes(self) -> tuple[Route, ...]:
        return self.app.routes

    def client(self, scope: str = "admin") -> Client:
        """A client whose every answer is held against the OpenAPI document."""
        return Client(self.port, self.keys[scope], self.valid if self.document else None)

    def folder(self, slug_: str) -> Path:
        return self.store.layout.workspaces / slug_

    def valid(self, method: str, target: str, answer: Answer) -> None:
        """Raises ValidationError unless a success is what the document says it is."""
        if not 200 <= answer.status < 300 or method == "HEAD" or method == "OPTIONS":
            return
        bound, _ = self.app.router.find(method, target.partition("?")[0])
        route = bound.route
        expected = 206 if answer.status == 206 and route.media is not None else route.status
        assert answer.status == expected, (method, target, answer.status)
        if route.also is not None and answer.headers.get_content_type() == route.also:
            return
        if route.media is None and route.status != 204:
            self._validator(route.path, method.lower(), route.status).validate(answer.json)

    @cache  # noqa: B019  (there is one server in a run)
    def _validator(self, path: str, method: str, status: int) -> Any:
        content = self.document["paths"][path][method]["responses"][str(status)]["content"]
        schema = {**content["application/json"]["schema"], "components": self.document["components"]}
        return jsonschema.Draft202012Validator(schema)


@contextlib.contextmanager
def serving(data: Path, **settings: Any) -> Iterator[Server]:
    """A whole server over `data` while the block runs."""
    configured = Settings(
        **{"data": data, "port": 0, "admin_key": ADMIN, "shutdown_grace": 3.0, "checkout_settle": 3.0, **settings}
    )
    store = Store.open(data, Options(secrets=configured.secret_policy))
    keys = Keys.open(store.layout.keys, token_key=store.vault.derive("tokens"))
    server = Server(make_app(configured, store, keys), store, keys)
    ready, ends = threading.Event(), []

    async def main() -> None:
        stop = asyncio.Event()
        ends.append((asyncio.get_running_loop(), stop))
        async with listening(server.app) as port:
            server.port = port
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    try:
        assert ready.wait(10)
        yield server
    finally:
        loop, stop = ends[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive()
        store.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("contract") / "data"
    with serving(data) as running:
        with Client(running.port, None) as plain:
            running.document = plain.root("GET", "/openapi.json", key=None).json
        yield running
    shutil.rmtree(data)


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """Makes a server with other settings."""

    def make(**settings: Any) -> contextlib.AbstractContextManager[Server]:
        return serving(tmp_path_factory.mktemp("second") / "data", **settings)

    return make


class Errors(logging.Handler):
    """Keeps what the server logs as an error: in these tests it never should."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[Errors]:
    """No request of these tests makes the server or the store log an error; one that shall takes it out of `found`."""
    errors = Errors()
    loggers = [logging.getLogger(name) for name in ("", "gitstore")]
    for each in loggers:
        each.addHandler(errors)
    yield errors
    for each in loggers:
        each.removeHandler(errors)
    assert not errors.found, "\n".join(errors.found)


@pytest.fixture
def admin(server: Server) -> Iterator[Client]:
    with server.client("admin") as made:
        yield made


@pytest.fixture
def agent(server: Server) -> Iterator[Client]:
    with server.client("agent") as made:
        yield made


class Place:
    """A fresh workspace."""

    def __init__(self, server: Server, admin: Client, **fields: Any) -> None:
        self.slug = fields.setdefault("slug", slug())
        fields.setdefault("name", "A workspace")
        self.record = admin.post("/workspaces", fields).data
        self.id = self.record["id"]
        self.at = f"/workspaces/{self.id}"
        self.folder = server.folder(self.slug)
        self._server = server
        self._admin = admin

    def read(self) -> Any:
        return self._admin.get(self.at).data

    def git(self, *words: str) -> str:
        """The output of plain git in the workspace's folder; fails if git does."""
        done = subprocess.run(["git", *words], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def published(self) -> Path:
        """Waits until git shows the newest commit of both branches; the promise is two seconds."""
        head = self.read()["head"]
        evidence = self._server.store.load(self.id).visible.evidence.head
        end = time.monotonic() + 2
        while True:
            refs = {}
            if (self.folder / ".git").is_dir():
                done = subprocess.run(["git", "for-each-ref", "--format=%(objectname) %(refname:short)"],
                                      cwd=self.folder, capture_output=True, text=True, check=False)  # fmt: skip
                refs = dict(reversed(line.split(" ", 1)) for line in done.stdout.splitlines())  # type: ignore[misc]
            if refs.get("main") == head and (evidence is None or refs.get("evidence") == evidence):
                return self.folder
            assert time.monotonic() < end, (refs, head, evidence)
            time.sleep(0.02)


@pytest.fixture
def place(server: Server, admin: Client) -> Place:
    return Place(server, admin)


@pytest.fixture
def make(server: Server, admin: Client) -> Callable[..., Place]:
    """Makes further workspaces."""
    return lambda **fields: Place(server, admin, **fields)
