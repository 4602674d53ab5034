"""A small HTTP client that keeps its connection, and holds every answer to what all answers must keep."""

from __future__ import annotations

import http.client
import json
import re
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from server.http import Route

API = "/api/v1"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OID = re.compile(r"[0-9a-f]{40}")
PEM = """-----BEGIN RSA PRIVATE KEY-----
MIIEowIBAAKCAQEAx8Kq2ZtV5mWc9RbY3nLd7PfH4sJg6TaQ1uEo
-----END RSA PRIVATE KEY-----
"""
CODES = {
    400: {"MALFORMED_REQUEST", "VALIDATION_ERROR"},
    401: {"UNAUTHORIZED"},
    403: {"FORBIDDEN"},
    404: {"NOT_FOUND"},
    405: {"METHOD_NOT_ALLOWED"},
    409: {"CONFLICT"},
    410: {"GONE"},
    412: {"PRECONDITION_FAILED"},
    413: {"PAYLOAD_TOO_LARGE"},
    415: {"UNSUPPORTED_MEDIA_TYPE"},
    416: {"RANGE_NOT_SATISFIABLE"},
    422: {"SCHEMA_VALIDATION_FAILED"},
    423: {"LOCKED"},
    429: {"RATE_LIMITED"},
    460: {"CHECKSUM_MISMATCH"},
    503: {"SERVICE_UNAVAILABLE"},
}


NEEDED = {"from": "now", "path": "workspace.yaml", "q": "x"}  # for parameters that a route cannot do without


def needed(route: Route) -> str:
    """The query that a route cannot do without, with its `?`; `?` alone if it needs nothing."""
    fields = msgspec.structs.fields(route.query) if route.query is not None else ()
    return "?" + "".join(f"{field.encode_name}={NEEDED[field.encode_name]}&" for field in fields if field.required)


class Answer(NamedTuple):
    """One answer; `data`, `error` and `meta` are the parts of the envelope."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        assert self.status < 300, self.body
        return self.json["data"]

    @property
    def meta(self) -> Any:
        return self.json["meta"]

    @property
    def error(self) -> Any:
        assert self.status >= 400, (self.status, self.body)
        return self.json["error"]

    @property
    def code(self) -> tuple[int, str]:
        """Status and error code together."""
        return self.status, self.error["code"]

    @property
    def etag(self) -> str:
        found = self.headers["ETag"]
        assert found is not None, "the answer has no ETag"
        assert re.fullmatch(r'"[!#-~]+"', found), found
        return str(found)

    @property
    def pointers(self) -> list[str]:
        """Where a 422 found faults."""
        assert self.code == (422, "SCHEMA_VALIDATION_FAILED"), self.body
        details = self.error["details"]
        assert set(details) == {"issues", "errors"}
        assert set(details["issues"]) == {"formErrors", "fieldErrors"}
        assert all(set(each) == {"pointer", "message"} for each in details["errors"])
        assert details["errors"]
        for each in details["errors"]:
            top = each["pointer"].lstrip("/").split("/")[0].replace("~1", "/").replace("~0", "~")
            where = details["issues"]["fieldErrors"][top] if top else details["issues"]["formErrors"]
            assert each["message"] in where
        return [each["pointer"] for each in details["errors"]]


class Client:
    """Speaks to one server with one key. Not for several threads at once: `other` gives a second client."""

    def __init__(self, port: int, key: str | None, check: Callable[[str, str, Answer], None] | None = None) -> None:
        self.port = port
        self.key = key
        self._check = check
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def other(self, key: str | None = None) -> Client:
        """A client of its own, with the same key or another."""
        return Client(self.port, key or self.key, self._check)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def root(
        self, method: str, target: str, body: Any = None, *, key: str | None = "", headers: dict[str, str] | None = None
    ) -> Answer:
        """One request; `target` is the whole path. No `key` is sent for None. Bytes go as they are, else JSON."""
        sent = {"Authorization": f"Bearer {key or self.key}"} if key is not None else {}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        sent = {name: value for name, value in sent.items() if value is not None}
        try:
            answer = self._once(method, target, body, sent)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()  # the server had closed the connection after an earlier failure
            answer = self._once(method, target, body, sent)
        sound(method, target, answer)
        if self._check is not None:
            self._check(method, target, answer)
        return answer

    def _once(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        self._connection.request(method, target, body=body, headers=headers)
        answer = self._connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """One request below `/api/v1`."""
        return self.root(method, API + path, body, **more)

    def get(self, path: str, **more: Any) -> Answer:
        return self.ask("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.ask("POST", path, body, **more)

    def patch(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.ask("PATCH", path, body, **more)

    def put(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.ask("PUT", path, body, **more)

    def delete(self, path: str, **more: Any) -> Answer:
        return self.ask("DELETE", path, **more)

    def raw(self, data: bytes) -> bytes:
        """Everything the server sends back for these bytes until it closes or is silent for two seconds."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as link:
            link.sendall(data)
            got = b""
            try:
                while piece := link.recv(65536):
                    got += piece
            except (TimeoutError, ConnectionResetError):
                pass
            return got


def sound(method: str, target: str, answer: Answer) -> None:
    """What every answer of this server keeps, whatever was asked."""
    headers = answer.headers
    assert headers["X-Request-Id"], "no request id"
    assert headers["Date"]
    assert answer.status < 500 or answer.status == 503, answer.body
    if answer.status in (204, 304):
        assert not answer.body
        assert headers["Content-Length"] is None
        assert headers["Content-Type"] is None
    if method == "HEAD":
        assert not answer.body
        return
    if answer.status >= 400:
        if headers["Content-Type"] == "application/vnd.git-lfs+json" and "/info/lfs/" in target:
            assert answer.json["message"]  # which git-lfs shows to its person
            return
        if target.startswith("/git/") and answer.status != 405:
            assert headers["Content-Type"] == "text/plain; charset=utf-8"  # which a git client shows to its person
            return
        if target.startswith("/ui") and answer.status != 405:
            assert headers["Content-Type"] == "text/html; charset=utf-8"  # a page for a person
            return
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        shown = answer.json
        assert list(shown) == ["error", "meta"]
        assert set(shown["error"]) in ({"code", "message"}, {"code", "message", "details"})
        assert shown["error"]["code"] in CODES[answer.status], answer.body
        assert len(shown["error"]["message"]) > 3
        if answer.status == 401:
            assert headers["WWW-Authenticate"]
        if answer.status == 405:
            assert headers["Allow"]
        if answer.status == 412:
            assert "current" in shown["error"]["details"]
    if headers["Content-Type"] == "application/json; charset=utf-8" and headers["Content-Disposition"] is None:
        meta = answer.meta
        assert meta["request_id"] == headers["X-Request-Id"]
        assert TIME.fullmatch(meta["timestamp"])


def pages(answer: Answer) -> tuple[int, int, int, int]:
    """(page, per_page, total, total_pages) of a list, after checking that meta, pagination and Link agree."""
    meta, short = answer.meta, answer.json["pagination"]
    assert list(answer.json) == ["data", "meta", "pagination"]
    assert short == {name: meta[name] for name in ("page", "per_page", "total", "total_pages")}
    assert meta["pages"] == meta["total_pages"] == -(-meta["total"] // meta["per_page"])
    assert meta["has_more"] is (meta["page"] < meta["pages"])
    links = dict(re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers["Link"]))
    found = {rel: url for url, rel in links.items()} if len(links) == len(set(links.values())) else {}
    rels = set(re.findall(r'rel="(\w+)"', answer.headers["Link"]))
    assert {"first", "last"} <= rels
    assert ("prev" in rels) is (meta["page"] > 1)
    assert ("next" in rels) is (meta["page"] < meta["pages"])
    for rel, url in found.items():
        assert url.startswith("/api/v1/"), (rel, url)
    return meta["page"], meta["per_page"], meta["total"], meta["total_pages"]


def link(answer: Answer, rel: str) -> str:
    """The target of one relation of the Link header."""
    match = re.search(rf'<([^>]*)>; rel="{rel}"', answer.headers["Link"])
    assert match is not None, answer.headers["Link"]
    return match[1]


def slug() -> str:
    """One that nobody has."""
    return f"w-{uuid.uuid4().hex[:12]}"


def part(text: str) -> str:
    """`text` as one segment of a path."""
    return quote(text, safe="")


def multipart(
    *parts: tuple[str, bytes | str] | tuple[str, bytes | str, str, str | None],
) -> tuple[bytes, dict[str, str]]:
    """A multipart/form-data body and its header; a part is (name, content) or (name, content, file name, type)."""
    edge = uuid.uuid4().hex
    body = b""
    for name, content, *file in parts:
        said = f'Content-Disposition: form-data; name="{name}"'
        if file:
            said += f'; filename="{file[0]}"'
            if file[1] is not None:
                said += f"\r\nContent-Type: {file[1]}"
        data = content.encode() if isinstance(content, str) else content
        body += f"--{edge}\r\n{said}\r\n\r\n".encode() + data + b"\r\n"
    return body + f"--{edge}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={edge}"}


def every(client: Client, path: str, per_page: int = 3) -> Iterator[Any]:
    """All rows of a list, page by page, along the Link header."""
    answer = client.get(f"{path}{'&' if '?' in path else '?'}per_page={per_page}")
    yield from answer.data
    while answer.meta["has_more"]:
        answer = client.root("GET", link(answer, "next"))
        yield from answer.data
