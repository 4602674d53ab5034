"""How long the server takes to draw each page for people, where a workspace has 100,000 commits behind it."""

from __future__ import annotations

import http.client
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

from bench.place import KEY, ROUNDS, Row, Server, folder, grow, make_workspaces, serving

_COMMITS = 100_000
_TIMES = 40
_AIM = "p50 ≤ 50 ms"


class _Visitor:
    """Somebody who has signed in, on a connection that is kept."""

    def __init__(self, server: Server) -> None:
        self._link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self._cookies: dict[str, str] = {}
        page = self.ask("GET", "/ui/sign-in")
        proof = re.search(rb'name="form" value="([^"]+)"', page)
        if proof is None:
            raise RuntimeError("the sign-in form has no token")
        self.ask("POST", "/ui/sign-in", urlencode({"form": proof[1].decode(), "key": KEY}))

    def ask(self, method: str, path: str, body: str | None = None) -> bytes:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._link.request(method, path, body, headers)
        answer = self._link.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path} is answered with {answer.status}")
        for line in answer.headers.get_all("Set-Cookie") or ():
            name, _, rest = line.partition("=")
            self._cookies[name] = rest.partition(";")[0]
        return text

    def timed(self, path: str) -> float:
        """Seconds until the whole page is there."""
        begun = time.perf_counter()
        self.ask("GET", path)
        return time.perf_counter() - begun


def _seen(visitor: _Visitor, path: str) -> tuple[float, float, float]:
    """The first time, then the median and the slowest of many; in ms."""
    first = visitor.timed(path)
    times = sorted(visitor.timed(path) for _ in range(_TIMES))
    return first * 1e3, statistics.median(times) * 1e3, times[-1] * 1e3


def _addresses(data: Path, visitor: _Visitor) -> Iterator[tuple[str, str]]:
    at = "/ui/w/w0"
    page = visitor.ask("GET", f"{at}/timeline")
    commit = re.search(rb"/changes/([0-9a-f]{40})", page)
    old = re.findall(rb"/changes/([0-9a-f]{40})", visitor.ask("GET", f"{at}/timeline?until=2100-01-01&key=key-7"))[-1]
    if commit is None:
        raise RuntimeError("the timeline is empty")
    new, past = commit[1].decode(), old.decode()
    yield "the workspaces, with sparklines", "/ui/"
    yield "one workspace", at
    yield "the timeline, with its picture", f"{at}/timeline"
    yield "the timeline of one key", f"{at}/timeline?key=key-7"
    yield "one change", f"{at}/changes/{new}"
    yield "one key, with who set what", f"{at}/memory/key-7"
    yield "one key as it was", f"{at}/memory/key-7?at={past}"
    yield "the workspace as it was", f"{at}?at={past}"
    yield "two moments compared", f"{at}/compare?from={past}"
    yield "what undoing would change", f"{at}/undo?commit={new}"
    yield "the artifacts", f"{at}/artifacts"


def pages() -> Iterator[Row]:
    """Every page that history makes heavy, each fetched again and again over one connection."""
    with folder() as where:
        make_workspaces(where / "data", 20)
        grow(where / "data", "w0", _COMMITS, 200)
        with serving(where / "data") as server:
            visitor = _Visitor(server)
            for word, path in _addresses(where / "data", visitor):
                rounds = [_seen(visitor, path) for _ in range(ROUNDS)]
                p50 = statistics.median(one[1] for one in rounds)
                slowest = max(one[2] for one in rounds)
                yield (
                    f"page, {_COMMITS:,} commits: {word}",
                    f"p50 {p50:.1f} ms, slowest {slowest:.1f} ms, first {rounds[0][0]:.1f} ms",
                    "none", "", _AIM,
                )  # fmt: skip


ALL = {"pages": pages}
