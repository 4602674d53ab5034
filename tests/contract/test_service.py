"""The service around the resources: rate limit, CORS, probes, metrics, connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from contract.client import API, Client, link, part
from contract.conftest import ADMIN, Place, Server


def test_there_is_no_rate_limit_and_no_cors_by_default(admin: Client) -> None:
    answer = admin.get("/workspaces", headers={"Origin": "https://app.example.org"})
    assert not [name for name in answer.headers if name.lower().startswith(("x-ratelimit", "access-control"))]
    preflight = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
    answer = admin.root("OPTIONS", f"{API}/workspaces", key=None, headers=preflight)
    assert answer.headers["Access-Control-Allow-Origin"] is None


def test_the_rate_limit_is_per_key(second: Callable[..., AbstractContextManager[Server]]) -> None:
    with second(rate_limit_per_minute=5) as server, server.client() as admin:
        left = []
        for _ in range(5):
            answer = admin.get("/auth/me")
            assert answer.status == 200
            assert answer.headers["X-RateLimit-Limit"] == "5"
            left.append(int(answer.headers["X-RateLimit-Remaining"]))
            assert 0 <= int(answer.headers["X-RateLimit-Reset"]) <= 60
        assert left == [4, 3, 2, 1, 0]
        refused = admin.get("/auth/me")
        assert refused.code == (429, "RATE_LIMITED")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        assert admin.post("/workspaces", b"{", key=server.keys["agent"]).status == 403  # another key: counted apart
        assert admin.get("/nothing").status == 404  # an unknown route comes first
        assert admin.root("GET", "/livez").status == 200  # probes are never limited
        for _ in range(6):
            last = admin.get("/auth/me", key="nobody")
        assert last.code == (429, "RATE_LIMITED")  # before the key is judged


def test_cors_for_configured_origins(second: Callable[..., AbstractContextManager[Server]]) -> None:
    with second(cors_origins=("https://app.example.org",)) as server, server.client() as admin:
        good, bad = {"Origin": "https://app.example.org"}, {"Origin": "https://evil.example.org"}
        answer = admin.get("/auth/me", headers=good)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
        assert "Origin" in answer.headers["Vary"]
        assert "etag" in answer.headers["Access-Control-Expose-Headers"].lower()
        assert admin.get("/auth/me", headers=bad).headers["Access-Control-Allow-Origin"] is None
        assert admin.get("/nothing", headers=good).headers["Access-Control-Allow-Origin"] is not None
        asks = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,if-match"}
        answer = admin.root("OPTIONS", f"{API}/workspaces/x", key=None, headers=good | asks)
        assert answer.status == 204
        assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
        assert "if-match" in answer.headers["Access-Control-Allow-Headers"].lower()
        refused = admin.root("OPTIONS", f"{API}/workspaces/x", key=None, headers=bad | asks)
        assert refused.headers["Access-Control-Allow-Origin"] is None


def test_probes_need_no_key(admin: Client) -> None:
    for path in ("/health", "/livez", "/readyz"):
        answer = admin.root("GET", path, key=None)
        assert answer.data["status"] == "ok"
        assert admin.root("GET", path, key="rubbish").status == 200


def test_metrics_are_for_admins_unless_opened(
    server: Server, admin: Client, second: Callable[..., AbstractContextManager[Server]]
) -> None:
    answer = admin.root("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"http_requests" in answer.body
    assert b'gitstore_cache_bytes{cache="trees"}' in answer.body
    assert admin.root("GET", "/metrics", key=server.keys["worker"]).status == 403
    with second(metrics_open=True) as other, other.client() as anybody:
        assert anybody.root("GET", "/metrics", key=None).status == 200


def test_a_public_url_is_only_in_links(second: Callable[..., AbstractContextManager[Server]]) -> None:
    with second(public_url="https://store.example.org") as server, server.client() as admin:
        answer = admin.get("/workspaces")
        assert link(answer, "first").startswith("https://store.example.org/api/v1/workspaces?")


def test_keep_alive_serves_many_requests_on_one_connection(admin: Client, place: Place) -> None:
    request = f"GET {API}{place.at}/memory HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode()
    last = request.replace(b"Host: x", b"Host: x\r\nConnection: close")
    assert admin.raw(request * 20 + last).count(b"HTTP/1.1 200 OK") == 21


def test_an_answer_never_takes_long(admin: Client, place: Place) -> None:
    started = time.monotonic()
    for _ in range(50):
        admin.get(place.at)
    assert time.monotonic() - started < 5


def test_a_segment_may_hold_any_text(admin: Client, place: Place) -> None:
    for key in ("a/b", "..", ".", "%", "%2F", "a b", "é", "🧪", "?", "#", "a;b", "con", "-", "\\", "x" * 256):
        assert admin.patch(f"{place.at}/memory", {"key": key, "value": key}).status == 200, key
        assert admin.get(f"{place.at}/memory/{part(key)}").data["value"] == key
