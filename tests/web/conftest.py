"""A real `gitstore serve` with a store that has a story, visitors without a browser, and Debian's Chromium.

Server and browser are started once a session. Without Chromium the browser tests are skipped and say so; where
REQUIRE_BROWSER is set, as it is in CI, they fail instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright
from started import DEVNULL, PIPE, Started

from web import story

# The first is Chromium without a window to draw: half the work for the same pages.
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("chromium-browser")
SESSION = "gitstore-session"
_PATIENCE = 30_000  # ms that a page may take on a busy machine before a test gives it up
expect.set_options(timeout=_PATIENCE)


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def cookies(self) -> dict[str, str]:
        """Set-Cookie headers, whole, by the cookie's name."""
        return {line.partition("=")[0]: line for line in self.headers.get_all("Set-Cookie") or []}

    @property
    def proof(self) -> str:
        """What the page's forms must bring back."""
        found = re.search(r'name="form" value="([^"]+)"', self.text)
        assert found is not None, self.text
        return found[1]


class Visitor:
    """Somebody with a cookie jar and no browser; redirections are told, not followed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.jar: dict[str, str] = {}

    def ask(self, method: str, path: str, fields: dict[str, str] | bytes | None = None, **headers: str) -> Answer:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.jar:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        body = urlencode(fields).encode() if isinstance(fields, dict) else fields
        if body is not None:
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        try:
            link.request(method, path, body, sent)
            got = link.getresponse()
            answer = Answer(got.status, got.headers, got.read())
        finally:
            link.close()
        for name, line in answer.cookies.items():
            value = line.partition("=")[2].partition(";")[0]
            self.jar[name] = value
            if "Max-Age=0" in line:
                del self.jar[name]
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def send(self, path: str, /, **fields: str) -> Answer:
        """A form with the proof of the page that shows it."""
        where = "/ui/sign-in" if path == "/ui/sign-in" else "/ui/"
        return self.ask("POST", path, {"form": self.get(where).proof, **fields})

    def sign_in(self, key: str) -> Answer:
        return self.send("/ui/sign-in", key=key)


class Site:
    """The running server; `keys` has one key of each scope."""

    def __init__(self, port: int, data: Path, keys: dict[str, str]) -> None:
        self.port = port
        self.data = data
        self.keys = keys
        self.base = f"http://127.0.0.1:{port}"

    def visitor(self, scope: str | None = None) -> Visitor:
        visitor = Visitor(self.port)
        if scope is not None:
            assert visitor.sign_in(self.keys[scope]).status == 303
        return visitor

    def api(self, method: str, path: str, body: Any = None, scope: str = "admin", **headers: str) -> Any:
        """`data` of what the API answers."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {"Authorization": f"Bearer {self.keys[scope]}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            link.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), sent)
            got = link.getresponse()
            text = got.read()
        finally:
            link.close()
        assert got.status < 300, (method, path, got.status, text)
        return json.loads(text)["data"] if text else None

    def workspace(self, **memory: Any) -> str:
        """A fresh workspace; its slug."""
        slug = f"try-{uuid.uuid4().hex[:10]}"
        self.api("POST", "/workspaces", {"name": f"Try {slug}", "slug": slug, "memory": memory})
        return slug

    def conflict(self) -> str:
        """A fresh workspace in which an edit in the folder and one through the API stand against each other."""
        slug = self.workspace(policy={"limit": 2})
        file = self.data / "workspaces" / slug / "memory" / "policy.yaml"
        poll(file.exists)
        file.write_text("limit: 10\n")
        self.api("PATCH", f"/workspaces/{slug}/memory", {"key": "policy", "value": {"limit": 20}})
        poll(lambda: self.api("GET", f"/workspaces/{slug}/problems"))
        return slug


def poll(look: Callable[[], Any], seconds: float = 30) -> Any:
    """What `look` gives once it gives something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return found


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def running(data: Path, keys: dict[str, str], **settings: str) -> Iterator[Site]:
    """`gitstore serve` over a store, as a process of its own."""
    port = _free_port()
    given = {f"GITSTORE_{name.upper()}": value for name, value in settings.items()}
    process = Started(
        ["serve", "--data", str(data), "--port", str(port)],
        cwd=story.ROOT, env={**os.environ, **given}, stdout=DEVNULL, stderr=PIPE,
    )  # fmt: skip
    site = Site(port, data, keys)
    try:
        poll(lambda: process.poll() is not None or _answers(port), 30)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield site
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert "error" not in said.lower(), said


def _answers(port: int) -> bool:
    try:
        return Visitor(port).get("/readyz").status == 200
    except OSError:
        return False


class Trap:
    """What the hostile artifacts want a browser to ask; `visits` is how often somebody did."""

    def __init__(self) -> None:
        self.visits = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        while True:
            try:
                one, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            one.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture(scope="session")
def trap() -> Iterator[Trap]:
    one = Trap()
    yield one
    one.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, trap: Trap) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("web") / "data"
    keys = story.make(data, trap=trap.address)
    with running(data, keys, checkout_settle="0.2") as one:
        yield one


@contextlib.contextmanager
def apart() -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """What keeps Playwright's event loop from other tests: inside, only the blocks that are asked for see it.

    Its synchronous interface leaves a loop running in this thread for as long as it is open; `asyncio.run` of any other
    test of this process would be refused meanwhile.
    """
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)

    @contextlib.contextmanager
    def at_work() -> Iterator[None]:
        asyncio._set_running_loop(loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    try:
        yield at_work
    finally:
        asyncio._set_running_loop(loop)


class Chromium(NamedTuple):
    """The browser, and the block in which it may be spoken to."""

    browser: Browser
    at_work: Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    if CHROMIUM is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("there is no chromium, and REQUIRE_BROWSER says that there must be one")
        pytest.skip("there is no chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as driver:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        started = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        with apart() as at_work:
            yield Chromium(started, at_work)
        started.close()


class Watch:
    """Everything a tab did that nobody wants: errors in its console, and requests to anywhere but the server."""

    def __init__(self, site: Site, context: BrowserContext) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._base = site.base
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("requestfailed", self._failed)
        context.on("console", lambda one: self.errors.append(one.text) if one.type in ("error", "warning") else None)
        context.on("weberror", lambda one: self.errors.append(str(one.error)))

    def _failed(self, request: Request) -> None:
        if request.failure == "csp" and request.url in self.requests:
            self.requests.remove(request.url)  # the policy kept it in

    @property
    def strange(self) -> list[str]:
        """The requests that left the server; what Chromium loads of its own PDF viewer does not."""
        known = (f"{self._base}/ui/", "chrome-extension://", "chrome://", "blob:chrome-extension://")
        return [url for url in self.requests if not url.startswith(known)]

    def check(self) -> None:
        assert not self.errors, self.errors
        assert not self.strange, self.strange


Opens = Callable[..., Page]


@pytest.fixture
def opens(chromium: Chromium, site: Site) -> Iterator[Opens]:
    """Opens tabs, signed in or not; at the end none of them may have had an error or have asked anybody else."""
    made: list[tuple[BrowserContext, Watch]] = []

    def make(scope: str | None = "admin", **options: Any) -> Page:
        context = chromium.browser.new_context(
            base_url=site.base, **{"viewport": {"width": 1180, "height": 900}, **options}
        )
        context.set_default_timeout(_PATIENCE)
        made.append((context, Watch(site, context)))
        if scope is not None:
            value = site.visitor(scope).jar[SESSION]
            context.add_cookies(
                [{"name": SESSION, "value": value, "domain": "127.0.0.1", "path": "/ui", "httpOnly": True,
                  "sameSite": "Strict"}]
            )  # fmt: skip
        page = context.new_page()
        page.watch = made[-1][1]  # type: ignore[attr-defined]  # for tests that look at what was asked for
        return page

    with chromium.at_work():
        yield make
        for context, _ in made:
            context.close()
    for _, watch in made:
        watch.check()


@pytest.fixture
def page(opens: Opens) -> Page:
    """A tab of an admin."""
    return opens()
