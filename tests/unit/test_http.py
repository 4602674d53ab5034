"""The frame from outside: a listening server, example routes, real sockets."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import logging
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest
from serving import ADMIN, Served, serve

from gitstore import errors
from gitstore.pending import Pending
from server.bridge import _BODIES, _TOGETHER, Bridge
from server.content import disposition
from server.http import Page, Raw, Reply, Route, Stream
from server.router import Router
from server.shapes.common import Paging, Shape

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
CONTENT = bytes(range(256)) * 8


class Thing(Shape):
    name: str
    size: int = 0


class Wanted(Paging):
    flag: bool | None = None


def echo_path(call):
    return Reply(call.params)


def cached(call):
    return Reply(b'{"a":1}', etag="abc")


async def make(call):
    body = call.body
    return Reply({"name": body.name, "size": body.size}, status=201, etag="new")


def listing(call):
    query = call.query
    return Reply([query.flag], page=query.of(45), meta={"summary": {"n": 1}})


def boom(call):
    raise ZeroDivisionError("secret-internals")


def damaged(call):
    raise errors.Damaged("/srv/secret/path is broken")


def conflict(call):
    raise errors.Conflict("taken", details={"values": {"big": 10**40}})


def who(call):
    provenance = call.provenance
    return Reply(msgspec.to_builtins(provenance))


def content(call):
    sha = hashlib.sha256(CONTENT).hexdigest()
    kind = call.header("X-Kind") or "text/plain"
    return Raw(CONTENT, kind, "straße 😀.txt", sha256=sha, etag="raw1", modified=1_700_000_000_500)


async def pieces(start: int, stop: int) -> AsyncIterator[bytes]:
    for at in range(start, stop, 100):
        yield CONTENT[at : min(at + 100, stop)]


def in_pieces(call):
    return Raw(pieces, "application/x-git", "x", "attachment", size=len(CONTENT), sha256="00" * 32, etag="p")


def streamed(call):
    return Stream(pieces(0, 300), "application/octet-stream", headers=(("X-Extra", "a\r\nSet-Cookie: b"),))


async def broken_stream(call):
    async def half() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("the rest is gone")

    return Stream(half(), "text/plain")


async def upload(call):
    if call.media_type == "multipart/form-data":
        found = {}
        async for part in call.parts():
            data = await part.content() if part.file_name else (await part.text()).encode()
            found[part.name] = [part.file_name, data.decode()]
        return Reply(found)
    if call.body is not None:
        return Reply({"json": call.body.name})
    total = 0
    async for piece in call.chunks():
        total += len(piece)
    return Reply({"bytes": total})


async def precondition(call):
    call.precondition.check("abc")
    return Reply(None, status=204, etag="next")


async def settled(call):
    pending: Pending[int] = Pending()
    threading.Timer(0.02, pending.settle, (7,)).start()
    return Reply(await call.settle(pending))


async def unsettled(call):
    pending: Pending[int] = Pending()
    threading.Timer(0.02, pending.fail, (errors.Conflict("lost"),)).start()
    return Reply(await call.settle(pending))


async def offloaded(call):
    return Reply(await call.offload(lambda: threading.current_thread().name))


async def slow(call):
    await asyncio.sleep(0.6)
    return Reply("done")


async def endless(call):
    await asyncio.sleep(60)


def optional(call):
    return Reply({"name": call.body.name if hasattr(call.body, "name") else None})


class Maybe(Shape):
    name: str | None = None


X = "/api/v1/x"
ROUTES = (
    Route("GET", X, "agent", cached, "x"),
    Route("POST", X, "admin", make, "x", body=Thing, query=Wanted, status=201),
    Route("GET", f"{X}/list", "agent", listing, "x", query=Wanted, paged=True),
    Route("GET", f"{X}/{{id}}/memory/{{key}}", "agent", echo_path, "x"),
    Route("DELETE", f"{X}/{{id}}/memory/{{key}}", "worker", echo_path, "x"),
    Route("POST", f"{X}/{{id}}/memory/batch", "agent", cached, "x"),
    Route("GET", "/rest/{name}/{rest+}", "agent", echo_path, "x", basic=True),
    Route("GET", f"{X}/boom", "agent", boom, "x"),
    Route("GET", f"{X}/damaged", "agent", damaged, "x"),
    Route("GET", f"{X}/conflict", "agent", conflict, "x"),
    Route("GET", f"{X}/who", "agent", who, "x"),
    Route("GET", f"{X}/content", "agent", content, "x"),
    Route("GET", f"{X}/pieces", "agent", in_pieces, "x"),
    Route("GET", f"{X}/stream", "agent", streamed, "x"),
    Route("GET", f"{X}/half", "agent", broken_stream, "x"),
    Route(
        "POST", f"{X}/upload", "agent", upload, "x", body=Thing, uploads=("multipart/form-data", "*/*"), limit="upload"
    ),
    Route("PUT", f"{X}/precondition", "agent", precondition, "x"),
    Route("GET", f"{X}/settled", "agent", settled, "x"),
    Route("GET", f"{X}/unsettled", "agent", unsettled, "x"),
    Route("GET", f"{X}/offloaded", "agent", offloaded, "x"),
    Route("GET", f"{X}/slow", "agent", slow, "x"),
    Route("GET", f"{X}/endless", "agent", endless, "x"),
    Route("POST", f"{X}/optional", "agent", optional, "x", body=Maybe, body_optional=True),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serve(
        tmp_path_factory.mktemp("served"), *ROUTES, max_body_bytes=2048, max_file_bytes=4096, body_timeout=1.0
    ) as running:
        yield running


class TestEnvelope:
    def test_success(self, served: Served):
        answer = served.ask("GET", X)
        assert answer.status == 200
        assert answer.json["data"] == {"a": 1}
        assert set(answer.json) == {"data", "meta"}
        assert UUID.fullmatch(answer.json["meta"]["request_id"])
        assert answer.headers["X-Request-Id"] == answer.json["meta"]["request_id"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer.json["meta"]["timestamp"])
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["ETag"] == '"abc"'
        assert answer.headers["Date"]

    @pytest.mark.parametrize("sent", ["a", "run-1:step.2_x", "x" * 128])
    def test_a_good_request_id_is_kept(self, served: Served, sent):
        answer = served.ask("GET", X, X_Request_Id=sent)
        assert answer.json["meta"]["request_id"] == answer.headers["X-Request-Id"] == sent

    @pytest.mark.parametrize("sent", ["", "x" * 129, "a b", 'a"b', "ä", "a/b"])
    def test_a_bad_one_is_replaced(self, served: Served, sent):
        answer = served.ask("GET", X, **{"X-Request-Id": sent.encode("utf-8").decode("latin-1")})
        assert UUID.fullmatch(answer.json["meta"]["request_id"])

    def test_request_ids_differ(self, served: Served):
        assert len({served.ask("GET", X).headers["X-Request-Id"] for _ in range(20)}) == 20

    def test_list(self, served: Served):
        answer = served.ask("GET", f"{X}/list?page=2&per_page=20&flag=1&other=%C3%A4")
        assert answer.json["data"] == [True]
        meta = answer.json["meta"]
        assert meta["summary"] == {"n": 1}
        assert {k: meta[k] for k in ("total", "page", "per_page", "pages", "total_pages", "has_more")} == {
            "total": 45,
            "page": 2,
            "per_page": 20,
            "pages": 3,
            "total_pages": 3,
            "has_more": True,
        }
        assert answer.json["pagination"] == {"page": 2, "per_page": 20, "total": 45, "total_pages": 3}
        links = {rel: url for url, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers["Link"])}
        pages = {rel: re.search(r"[?&]page=(\d+)", url)[1] for rel, url in links.items()}
        assert pages == {"first": "1", "prev": "1", "next": "3", "last": "3"}
        for url in links.values():
            assert url.startswith(f"{X}/list?flag=1&other=%C3%A4&page=")
            assert served.ask("GET", url).status == 200

    def test_the_last_page_has_no_next(self, served: Served):
        link = served.ask("GET", f"{X}/list?page=3").headers["Link"]
        assert 'rel="next"' not in link
        assert 'rel="prev"' in link

    def test_public_url_is_in_links(self, tmp_path):
        with serve(tmp_path, *ROUTES, public_url="https://git.example.org/base") as running:
            assert f"<https://git.example.org/base{X}/list?page=1" in running.ask("GET", f"{X}/list").headers["Link"]

    def test_failure(self, served: Served):
        answer = served.ask("GET", f"{X}/conflict", X_Request_Id="r1")
        assert answer.status == 409
        assert answer.error == {"code": "CONFLICT", "message": "taken", "details": {"values": {"big": 10**40}}}
        assert answer.json["meta"]["request_id"] == "r1"

    @pytest.mark.parametrize("path", [f"{X}/boom", f"{X}/damaged"])
    def test_what_nobody_foresaw_is_logged_and_tells_nothing(self, served: Served, caplog, path):
        with caplog.at_level(logging.ERROR, "gitstore.server"):
            answer = served.ask("GET", path, X_Request_Id="find-me")
        assert answer.status == 500
        assert answer.error["code"] == "INTERNAL_ERROR"
        assert b"secret" not in answer.body
        (record,) = caplog.records
        assert record.request_id == "find-me"
        assert record.exc_info is not None

    def test_head_is_get_without_a_body(self, served: Served):
        get, head = served.ask("GET", X), served.ask("HEAD", X)
        assert head.status == 200
        assert head.body == b""
        assert head.headers["Content-Length"] == str(len(get.body))
        assert head.headers["ETag"] == get.headers["ETag"]
        assert served.ask("HEAD", f"{X}/content").headers["Content-Length"] == str(len(CONTENT))
        assert served.ask("HEAD", f"{X}/pieces").headers["Content-Length"] == str(len(CONTENT))
        assert served.ask("HEAD", f"{X}/nothing/here/at/all").body == b""

    def test_settle_and_offload(self, served: Served):
        assert served.ask("GET", f"{X}/settled").json["data"] == 7
        assert served.ask("GET", f"{X}/unsettled").error["code"] == "CONFLICT"
        assert served.ask("GET", f"{X}/offloaded").json["data"].startswith("gitstore-offload")


class TestRoutes:
    @pytest.mark.parametrize(
        ("sent", "key"),
        [
            ("a%2Fb", "a/b"),
            ("%C3%A4", "ä"),
            ("%25", "%"),
            ("a+b", "a+b"),
            ("..", ".."),
            ("%2e%2e%2F", "../"),
            ("~", "~"),
        ],
    )
    def test_segments_are_decoded_after_they_are_split(self, served: Served, sent, key):
        answer = served.ask("GET", f"{X}/one/memory/{sent}")
        assert answer.json["data"] == {"id": "one", "key": key}

    @pytest.mark.parametrize(
        "path", ["/", "/api", f"{X}/", f"{X}//memory/k", f"{X}/a/memory/", f"{X}/a/memory/%FF", "/%"]
    )
    def test_unknown(self, served: Served, path):
        answer = served.ask("GET", path, key=None)
        assert answer.status == 404
        assert answer.error["code"] == "NOT_FOUND"

    def test_a_literal_wins_unless_only_the_parameter_has_the_method(self, served: Served):
        assert served.ask("POST", f"{X}/a/memory/batch").json["data"] == {"a": 1}
        assert served.ask("GET", f"{X}/a/memory/batch").json["data"] == {"id": "a", "key": "batch"}
        answer = served.ask("PUT", f"{X}/a/memory/batch")
        assert answer.status == 405
        assert answer.headers["Allow"] == "DELETE, GET, HEAD, POST, OPTIONS"

    def test_the_rest_of_a_path(self, served: Served):
        assert served.ask("GET", "/rest/a.git/info/refs?service=x").json["data"] == {
            "name": "a.git",
            "rest": "info/refs",
        }

    def test_a_wrong_method(self, served: Served):
        answer = served.ask("PATCH", X, key=None)
        assert answer.status == 405
        assert answer.error["code"] == "METHOD_NOT_ALLOWED"
        assert answer.headers["Allow"] == "GET, HEAD, POST, OPTIONS"

    def test_options_needs_no_key(self, served: Served):
        answer = served.ask("OPTIONS", X, key=None)
        assert answer.status == 204
        assert answer.headers["Allow"] == "GET, HEAD, POST, OPTIONS"
        assert served.ask("OPTIONS", "/nowhere", key=None).status == 404

    def test_absolute_form(self, served: Served):
        lines = (
            f"GET http://other.example{X} HTTP/1.1",
            "Host: a",
            f"Authorization: Bearer {ADMIN}",
            "Connection: close",
        )
        request = "\r\n".join((*lines, "", ""))
        assert served.raw(request.encode()).startswith(b"HTTP/1.1 200 OK")

    def test_one_route_twice_is_refused(self):
        with pytest.raises(ValueError, match="twice"):
            Router([ROUTES[0], ROUTES[0]])


class TestKeysOnRequests:
    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer wrong",
            "Basic",
            "Basic !!!",
            f"Basic {base64.b64encode(b'a:wrong').decode()}",
            f"Basic {base64.b64encode(ADMIN.encode()).decode()}",
            f"Digest {ADMIN}",
            ADMIN,
        ],
    )
    def test_refused(self, served: Served, header):
        answer = served.ask("GET", X, key=None, **({} if header is None else {"Authorization": header}))
        assert answer.status == 401
        assert answer.error["code"] == "UNAUTHORIZED"
        assert answer.headers.get_all("WWW-Authenticate") == ['Bearer realm="gitstore"']

    def test_a_git_client_is_asked_for_a_password(self, served: Served):
        answer = served.ask("GET", "/rest/a.git/info/refs", key=None)
        assert any(each.startswith("Basic ") for each in answer.headers.get_all("WWW-Authenticate"))

    @pytest.mark.parametrize(
        "header",
        [
            f"Bearer {ADMIN}",
            f"bearer  {ADMIN}",
            f"Basic {base64.b64encode(f'anybody:{ADMIN}'.encode()).decode()}",
            f"BASIC {base64.b64encode(f':{ADMIN}'.encode()).decode()}",
        ],
    )
    def test_accepted(self, served: Served, header):
        assert served.ask("GET", X, key=None, Authorization=header).status == 200

    def test_scopes(self, served: Served):
        texts = {scope: served.keys.create(scope, scope)[1] for scope in ("agent", "worker", "admin", "service")}
        path = f"{X}/a/memory/k"
        assert [served.ask("DELETE", path, key=texts[s]).status for s in texts] == [403, 200, 200, 200]
        assert [served.ask("GET", path, key=texts[s]).status for s in texts] == [200, 200, 200, 200]
        answer = served.ask("DELETE", path, key=texts["agent"])
        assert answer.error["code"] == "FORBIDDEN"

    def test_provenance(self, served: Served):
        answer = served.ask("GET", f"{X}/who", X_Workflow_Id="w1", X_Task_Id="t" * 255, X_Request_Id="r")
        data = answer.json["data"]
        assert (data["workflow_id"], data["task_id"], data["request_id"], data["door"]) == ("w1", "t" * 255, "r", "api")
        assert data["actor"]["type"] == "admin"
        for bad in ("", "w" * 256, "a\tb"):
            assert served.ask("GET", f"{X}/who", X_Workflow_Id=bad).error["code"] == "VALIDATION_ERROR"

    def test_api_keys(self, served: Served):
        made = served.ask("POST", "/api/v1/api-keys", {"scope": "agent", "name": "one", "expires_at": None})
        assert made.status == 201
        assert made.headers["Cache-Control"] == "no-store"
        data = made.json["data"]
        assert data["key"].startswith("gs_agent_")
        assert set(data) >= {"id", "name", "scope", "prefix", "key", "created_at", "expires_at"}
        assert served.ask("GET", X, key=data["key"]).status == 200
        listed = served.ask("GET", "/api/v1/api-keys")
        assert data["key"].encode() not in listed.body
        assert data["id"] in {each["id"] for each in listed.json["data"]}
        assert listed.json["pagination"]["total"] == listed.json["meta"]["total"]
        me = served.ask("GET", "/api/v1/auth/me", key=data["key"]).json["data"]
        assert (me["scope"], me["prefix"], me["name"]) == ("agent", data["prefix"], "one")

        token = served.ask("POST", "/api/v1/auth/token", {"api_key": data["key"]}, key=None)
        assert token.status == 200
        assert set(token.json["data"]) == {"token", "expires_at", "scope"}
        text = token.json["data"]["token"]
        assert served.ask("GET", X, key=text).status == 200
        assert served.ask("POST", "/api/v1/auth/token", {"api_key": text}, key=None).status == 401

        assert served.ask("DELETE", f"/api/v1/api-keys/{data['id']}").status == 200
        assert served.ask("GET", X, key=data["key"]).status == 401
        assert served.ask("GET", X, key=text).status == 401
        assert served.ask("DELETE", "/api/v1/api-keys/nobody").status == 404
        assert served.ask("POST", "/api/v1/auth/token", {"api_key": "nonsense"}, key=None).status == 401

    @pytest.mark.parametrize("when", ["yesterday", "2001-01-01T00:00:00.000Z"])
    def test_a_key_that_could_never_be_used(self, served: Served, when):
        answer = served.ask("POST", "/api/v1/api-keys", {"scope": "agent", "name": "n", "expires_at": when})
        assert answer.status == 400
        assert answer.error["code"] == "VALIDATION_ERROR"


class TestBodies:
    def test_both_shapes_at_once(self, served: Served):
        answer = served.ask("POST", f"{X}?page=0&flag=maybe", {"size": "big"})
        assert answer.status == 422
        assert answer.error["code"] == "SCHEMA_VALIDATION_FAILED"
        details = answer.error["details"]
        assert {each["pointer"] for each in details["errors"]} == {"/page", "/flag", "/name", "/size"}
        assert set(details["issues"]["fieldErrors"]) == {"page", "flag", "name", "size"}
        assert details["issues"]["formErrors"] == []

    def test_ok(self, served: Served):
        answer = served.ask("POST", X, {"name": "ä", "other": 1})
        assert (answer.status, answer.json["data"]) == (201, {"name": "ä", "size": 0})
        assert answer.headers["ETag"] == '"new"'

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"\xff",
            b'{"name": NaN}',
            b'{"name": "a\\u0000"}',
            b'{"name": "\\ud800"}',
            b"[" * 65 + b"]" * 65,
            b'{"name":"a"} x',
            b'{"name": 0.1000000000000000055511151231257827021181583404541015625}',
        ],
    )
    def test_malformed(self, served: Served, body):
        answer = served.ask("POST", X, body, Content_Type="application/json")
        assert answer.status == 400
        assert answer.error["code"] == "MALFORMED_REQUEST"

    def test_no_body_at_all_is_a_fault_of_shape(self, served: Served):
        answer = served.ask("POST", X)
        assert answer.status == 422
        assert answer.error["details"]["issues"]["formErrors"]
        assert served.ask("POST", f"{X}/optional").json["data"] == {"name": None}
        assert served.ask("POST", f"{X}/optional", b"", Content_Type="application/json").status == 200
        assert served.ask("POST", f"{X}/optional", {"name": "n"}).json["data"] == {"name": "n"}
        assert served.ask("POST", f"{X}/optional", {"name": 1}).status == 422

    @pytest.mark.parametrize(
        "kind",
        [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "",
            "application/json; charset=latin-1",
        ],
    )
    def test_media_types(self, served: Served, kind):
        answer = served.ask("POST", X, b'{"name":"a"}', Content_Type=kind)
        assert answer.status == 415
        assert answer.error["code"] == "UNSUPPORTED_MEDIA_TYPE"

    @pytest.mark.parametrize(
        "kind", ["application/json", "Application/JSON; charset=UTF-8", "application/merge-patch+json"]
    )
    def test_json_media_types(self, served: Served, kind):
        assert served.ask("POST", X, b'{"name":"a"}', Content_Type=kind).status == 201

    def test_no_media_type(self, served: Served):
        request = f"POST {X} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nContent-Length: 2\r\n\r\n{{}}"
        assert b" 415 " in served.raw(request.encode())

    def test_size(self, served: Served):
        fits = {"name": "x" * (2048 - 12)}
        assert len(json.dumps(fits).encode()) == 2048
        assert served.ask("POST", X, fits).status == 201
        answer = served.ask("POST", X, {"name": "x" * 2037})
        assert answer.status == 413
        assert answer.error["code"] == "PAYLOAD_TOO_LARGE"
        assert answer.error["details"] == {"limit": 2048}

    def test_size_of_what_is_not_announced(self, served: Served):
        head = f"POST {X} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n"
        chunks = b"".join(b"400\r\n" + b" " * 1024 + b"\r\n" for _ in range(3))
        assert b" 413 " in served.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")

    def test_size_of_what_is_compressed(self, served: Served):
        bomb = gzip.compress(b" " * 1_000_000)
        assert len(bomb) < 2048
        answer = served.ask("POST", X, bomb, Content_Type="application/json", Content_Encoding="gzip")
        assert answer.status == 413
        small = gzip.compress(b'{"name":"z"}')
        assert served.ask("POST", X, small, Content_Type="application/json", Content_Encoding="gzip").status == 201

    @pytest.mark.parametrize("body", [b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX\r\n0\r\n\r\n"])
    def test_bad_chunks(self, served: Served, body):
        head = f"POST {X} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n"
        answer = served.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"MALFORMED_REQUEST" in answer

    def test_a_body_that_never_comes(self, served: Served):
        head = f"POST {X} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n"
        started = time.monotonic()
        answer = served.raw(head.encode() + b"Content-Length: 10\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert time.monotonic() - started < 4

    def test_parts_that_never_come(self, served: Served):
        head = f"POST {X}/upload HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nContent-Length: 999\r\n"
        got = served.raw(f"{head}Content-Type: multipart/form-data; boundary=B\r\n\r\n--B\r\n".encode())
        assert got.startswith(b"HTTP/1.1 400 ")

    def test_expect_continue(self, served: Served):
        head = (
            f"POST {X} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n"
            "Connection: close\r\nExpect: 100-continue\r\nContent-Length: "
        )
        answer = served.raw(f"{head}12\r\n\r\n".encode(), then=b'{"name":"a"}')
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created")
        assert served.raw(f"{head}99999\r\n\r\n".encode()).startswith(b"HTTP/1.1 413 ")

    def test_order(self, served: Served):
        """Key before scope before size before type before JSON before shape."""
        agent = served.keys.create("agent", "order")[1]
        huge, wrong = b"x" * 3000, "text/plain"
        assert served.ask("POST", X, huge, key=None, Content_Type=wrong).status == 401
        assert served.ask("POST", X, huge, key=agent, Content_Type=wrong).status == 403
        assert served.ask("POST", X, huge, Content_Type=wrong).status == 413
        assert served.ask("POST", f"{X}?page=0", b"{", Content_Type=wrong).status == 415
        assert served.ask("POST", f"{X}?page=0", b"{", Content_Type="application/json").status == 400
        assert served.ask("POST", f"{X}?page=0", b"{}", Content_Type="application/json").status == 422
        assert served.ask("POST", "/nowhere", huge, key=None).status == 404

    def test_uploads(self, served: Served):
        assert served.ask("POST", f"{X}/upload", {"name": "n"}).json["data"] == {"json": "n"}
        raw = served.ask("POST", f"{X}/upload", b"z" * 5000, Content_Type="image/png")
        assert raw.json["data"] == {"bytes": 5000}
        assert served.ask("POST", f"{X}/upload", b"z" * 9000, Content_Type="image/png").status == 413
        parts = (
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n'
            b'--B\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\xc3\xa4\r\n--B--\r\n'
        )
        answer = served.ask("POST", f"{X}/upload", parts, Content_Type="multipart/form-data; boundary=B")
        assert answer.json["data"] == {"file": ["a.txt", "hello"], "key": [None, "kä"]}

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("multipart/form-data", b"x"),
            ("multipart/form-data; boundary=B", b"no parts at all"),
            (
                "multipart/form-data; boundary=B",
                b'--B\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nab',
            ),
            (
                "multipart/form-data; boundary=B",
                b'--B\r\nContent-Disposition: form-data; name="k"\r\n\r\n\xff\r\n--B--\r\n',
            ),
            ("multipart/form-data; boundary=B", b'--B\r\nContent-Disposition: form-data; name="k"\r\n\r\nno end'),
            ("multipart/form-data; boundary=B", b"--B\r\nContent-Encoding: gzip\r\n\r\na\r\n--B--\r\n"),
            ("multipart/form-data; boundary=B", b"--B\r\nContent-Transfer-Encoding: x-odd\r\n\r\na\r\n--B--\r\n"),
        ],
    )
    def test_multipart_that_is_none(self, served: Served, kind, body):
        answer = served.ask("POST", f"{X}/upload", body, Content_Type=kind)
        assert (answer.status, answer.error["code"]) == (400, "MALFORMED_REQUEST")


class TestConditional:
    @pytest.mark.parametrize("tag", ['"abc"', 'W/"abc"', "*", '"x", "abc"'])
    def test_not_modified(self, served: Served, tag):
        answer = served.ask("GET", X, If_None_Match=tag)
        assert answer.status == 304
        assert answer.body == b""
        assert answer.headers["ETag"] == '"abc"'
        assert answer.headers["X-Request-Id"]

    @pytest.mark.parametrize("tag", ['"x"', "abc", ""])
    def test_modified(self, served: Served, tag):
        assert served.ask("GET", X, If_None_Match=tag).status == 200

    def test_if_match_on_a_read(self, served: Served):
        assert served.ask("GET", X, If_Match='"abc"').status == 200
        answer = served.ask("GET", X, If_Match='"old"')
        assert answer.status == 412
        assert answer.error["details"]["current"] == "abc"

    def test_the_connection_lives_on_after_a_304(self, served: Served):
        one = f"GET {X} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nIf-None-Match: *\r\n\r\n"
        two = one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
        assert served.raw((one + two).encode()).count(b"HTTP/1.1 304 ") == 2

    def test_preconditions_of_writes(self, served: Served):
        answer = served.ask("PUT", f"{X}/precondition", If_Match='"abc"')
        assert (answer.status, answer.body, answer.headers["ETag"]) == (204, b"", '"next"')
        assert "Content-Length" not in answer.headers
        assert served.ask("PUT", f"{X}/precondition", If_Match='W/"abc"').status == 412
        assert served.ask("PUT", f"{X}/precondition", If_None_Match="*").status == 412


class TestContent:
    def test_whole(self, served: Served):
        answer = served.ask("GET", f"{X}/content")
        assert answer.body == CONTENT
        headers = answer.headers
        assert headers["Content-Type"] == "text/plain"
        assert headers["ETag"] == '"raw1"'
        assert headers["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
        assert headers["Repr-Digest"] == f"sha-256=:{digest}:"
        assert headers["Digest"] == f"sha-256={digest}"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "sandbox" not in headers["Content-Security-Policy"]
        assert headers["Accept-Ranges"] == "bytes"

    @pytest.mark.parametrize(
        "kind",
        ["text/html", "TEXT/HTML; charset=x", "image/svg+xml", "application/xml", "application/xhtml+xml", "text/xml"],
    )
    def test_what_a_browser_would_run_is_sandboxed(self, served: Served, kind):
        assert "; sandbox" in served.ask("GET", f"{X}/content", X_Kind=kind).headers["Content-Security-Policy"]

    @pytest.mark.parametrize("kind", ["nonsense", "text/plain, text/html", "a/b; =", "text/ä"])
    def test_a_stored_type_that_is_none(self, served: Served, kind):
        answer = served.ask("GET", f"{X}/content", X_Kind=kind.encode().decode("latin-1"))
        assert answer.headers["Content-Type"] == "application/octet-stream"

    @pytest.mark.parametrize("where", ["content", "pieces"])
    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=10-19", 10, 20),
            ("bytes=2000-", 2000, 2048),
            ("bytes=-48", 2000, 2048),
            ("bytes=-99999", 0, 2048),
            ("bytes=2000-999999999999999", 2000, 2048),
            ("Bytes=5-250", 5, 251),
        ],
    )
    def test_ranges(self, served: Served, where, asked, start, stop):
        answer = served.ask("GET", f"{X}/{where}", Range=asked)
        assert answer.status == 206
        assert answer.body == CONTENT[start:stop]
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/2048"
        assert answer.headers["Content-Length"] == str(stop - start)
        assert answer.headers["Repr-Digest"]

    @pytest.mark.parametrize(
        "asked", ["bytes=1-0", "bytes=", "bytes=-", "lines=1-2", "bytes=0-1,5-6", "bytes=a-b", "x"]
    )
    def test_what_is_no_range_is_the_whole(self, served: Served, asked):
        answer = served.ask("GET", f"{X}/content", Range=asked)
        assert (answer.status, answer.body) == (200, CONTENT)

    @pytest.mark.parametrize("asked", ["bytes=2048-", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
    def test_outside(self, served: Served, asked):
        answer = served.ask("GET", f"{X}/content", Range=asked)
        assert answer.status == 416
        assert answer.headers["Content-Range"] == "bytes */2048"

    def test_if_range(self, served: Served):
        ask = lambda condition: served.ask("GET", f"{X}/content", Range="bytes=0-9", If_Range=condition).status  # noqa: E731
        assert ask('"raw1"') == 206
        assert ask("Tue, 14 Nov 2023 22:13:20 GMT") == 206
        assert ask('"old"') == 200
        assert ask('W/"raw1"') == 200
        assert ask("Tue, 14 Nov 2023 22:13:19 GMT") == 200

    def test_conditions(self, served: Served):
        path = f"{X}/content"
        assert served.ask("GET", path, If_None_Match='"raw1"').status == 304
        assert served.ask("GET", path, If_Modified_Since="Tue, 14 Nov 2023 22:13:20 GMT").status == 304
        assert served.ask("GET", path, If_Modified_Since="Tue, 14 Nov 2023 22:13:19 GMT").status == 200
        assert served.ask("GET", path, If_Modified_Since="some day").status == 200
        later = "Tue, 14 Nov 2023 22:13:20 GMT"
        assert served.ask("GET", path, If_None_Match='"x"', If_Modified_Since=later).status == 200
        assert served.ask("GET", path, If_Unmodified_Since="Tue, 14 Nov 2023 22:13:19 GMT").status == 412
        assert served.ask("GET", path, If_Match='"x"').status == 412

    def test_streams(self, served: Served):
        answer = served.ask("GET", f"{X}/stream")
        assert answer.body == CONTENT[:300]
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.headers["X-Extra"] == "a??Set-Cookie: b"
        assert "Set-Cookie" not in answer.headers

    def test_a_stream_for_http_1_0_ends_with_the_connection(self, served: Served):
        got = served.raw(f"GET {X}/stream HTTP/1.0\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode())
        head, _, body = got.partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert b"Connection: close" in head
        assert body == CONTENT[:300]

    def test_a_stream_that_fails_is_seen_to_fail(self, served: Served, caplog):
        got = served.raw(f"GET {X}/half HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode())
        assert got.endswith(b"4\r\nhalf\r\n")  # no last chunk

    @pytest.mark.parametrize(
        ("name", "plain", "extended"),
        [
            ("a.txt", "a.txt", "a.txt"),
            ('a"b\\c.txt', "a_b_c.txt", "a%22b%5Cc.txt"),
            ("straße.txt", "stra_e.txt", "stra%C3%9Fe.txt"),
            ("é.txt", "e.txt", "%C3%A9.txt"),
            ("日本.pdf", "__.pdf", "%E6%97%A5%E6%9C%AC.pdf"),
            ("a\r\nX: y", "a__X: y", "a%0D%0AX%3A%20y"),
            ("100%.txt", "100_.txt", "100%25.txt"),
            ("\udcff", "?", "%3F"),
        ],
    )
    def test_file_names(self, name, plain, extended):
        assert disposition("inline", name) == f"inline; filename=\"{plain}\"; filename*=UTF-8''{extended}"


class TestBelowTheRoutes:
    @pytest.mark.parametrize(
        "request_",
        [
            b"nonsense\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nBad Header\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
            b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        ],
    )
    def test_not_http(self, served: Served, request_, caplog):
        with caplog.at_level(logging.ERROR):
            got = served.raw(request_)
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request")
        assert b"Connection: close" in head
        answer = json.loads(body)
        assert answer["error"]["code"] == "MALFORMED_REQUEST"
        assert UUID.fullmatch(answer["meta"]["request_id"])
        assert not caplog.records

    def test_a_broken_body_that_nobody_reads_is_not_logged(self, served: Served, caplog):
        head = f"GET {X} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nContent-Encoding: gzip\r\n"
        assert served.raw(f"{head}Content-Length: 4\r\n\r\nnone".encode()).startswith(b"HTTP/1.1 ")
        assert not caplog.records

    def test_keep_alive(self, served: Served):
        one = f"GET {X} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
        two = one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
        got = served.raw((one + one + two).encode())
        assert got.count(b"HTTP/1.1 200 OK") == 3
        assert got.count(b"Connection: close") == 1
        old = f"GET {X} HTTP/1.0\r\nConnection: keep-alive\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
        assert b"Connection: keep-alive" in served.raw(old.encode())

    def test_health(self, served: Served):
        for path in ("/health", "/livez", "/readyz"):
            answer = served.ask("GET", path, key=None)
            assert (answer.status, answer.json["data"]["status"]) == (200, "ok")

    def test_metrics(self, served: Served, tmp_path):
        assert served.ask("GET", "/metrics", key=None).status == 401
        served.ask("GET", f"{X}/list?page=0")
        answer = served.ask("GET", "/metrics")
        text = answer.body.decode()
        assert re.search(
            r'gitstore_http_requests_total\{method="GET",route="/api/v1/x/list",status="422"\} [1-9]', text
        )
        assert f'gitstore_http_request_seconds_bucket{{le="+Inf",method="GET",route="{X}"}}' in text
        assert "process_resident_memory_bytes" in text
        with serve(tmp_path, metrics_open=True) as running:
            assert running.ask("GET", "/metrics", key=None).status == 200


class TestRate:
    def test_per_key(self, tmp_path):
        with serve(tmp_path, *ROUTES, rate_limit_per_minute=3) as running:
            other = running.keys.create("agent", "other")[1]
            left = [running.ask("GET", X).headers["X-RateLimit-Remaining"] for _ in range(3)]
            assert left == ["2", "1", "0"]
            answer = running.ask("GET", X)
            assert answer.status == 429
            assert answer.error["code"] == "RATE_LIMITED"
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.headers["X-RateLimit-Limit"] == "3"
            assert running.ask("GET", X, key=other).status == 200
            assert running.ask("GET", "/health", key=None).status == 200
            assert [running.ask("GET", X, key=f"wrong{i}").status for i in range(4)] == [401, 401, 401, 429]
            assert running.ask("GET", "/nowhere").status == 404

    def test_off_by_default(self, served: Served):
        assert "X-RateLimit-Limit" not in served.ask("GET", X).headers


class TestCors:
    def test_none_by_default(self, served: Served):
        assert "Access-Control-Allow-Origin" not in served.ask("GET", X, Origin="https://a.example").headers

    def test_configured(self, tmp_path):
        with serve(tmp_path, *ROUTES, cors_origins=("https://a.example",)) as running:
            answer = running.ask("GET", X, Origin="https://a.example")
            assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
            assert answer.headers["Vary"] == "Origin"
            assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
            refused = running.ask("GET", X, Origin="https://b.example")
            assert "Access-Control-Allow-Origin" not in refused.headers
            assert refused.headers["Vary"] == "Origin"
            failed = running.ask("GET", X, key=None, Origin="https://a.example")
            assert failed.headers["Access-Control-Allow-Origin"] == "https://a.example"
            headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
            flight = running.ask("OPTIONS", X, key=None, **headers)
            assert flight.status == 204
            assert "POST" in flight.headers["Access-Control-Allow-Methods"]
            assert "If-Match" in flight.headers["Access-Control-Allow-Headers"]
            assert flight.headers.get_all("Access-Control-Allow-Origin") == ["https://a.example"]
            headers["Origin"] = "https://b.example"
            assert "Access-Control-Allow-Methods" not in running.ask("OPTIONS", X, key=None, **headers).headers

    def test_any(self, tmp_path):
        with serve(tmp_path, *ROUTES, cors_origins=("*",)) as running:
            assert running.ask("GET", X, Origin="https://a.example").headers["Access-Control-Allow-Origin"] == "*"


class TestStop:
    def test_what_was_begun_is_finished_and_what_comes_later_is_refused(self, tmp_path):
        with serve(tmp_path, *ROUTES) as running:
            request = f"GET {X}%s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
            with (
                socket.create_connection(("127.0.0.1", running.port), timeout=5) as slowly,
                socket.create_connection(("127.0.0.1", running.port), timeout=5) as idle,
            ):
                slowly.sendall((request % "/slow").encode())
                time.sleep(0.15)
                running.stop()
                time.sleep(0.15)
                idle.sendall((request % "").encode())
                refused = idle.recv(65536)
                assert refused.startswith(b"HTTP/1.1 503 ")
                assert b"SERVICE_UNAVAILABLE" in refused
                assert b"Connection: close" in refused
                finished = slowly.recv(65536)
                assert finished.startswith(b"HTTP/1.1 200 ")
                assert b'"done"' in finished
                assert b"Connection: close" in finished
                assert slowly.recv(10) == b""

    def test_the_grace_ends(self, tmp_path):
        with serve(tmp_path, *ROUTES, shutdown_grace=0.1) as running:
            link = socket.create_connection(("127.0.0.1", running.port), timeout=10)
            link.sendall(f"GET {X}/endless HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode())
            time.sleep(0.1)
            started = time.monotonic()
        assert time.monotonic() - started < 5
        with link:
            assert link.recv(100) == b""


class TestLog:
    def test_one_line_a_request(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, "gitstore.access"), serve(tmp_path, *ROUTES) as running:
            running.ask("GET", f"{X}?token=secret", X_Request_Id="r9")
        (record,) = [each for each in caplog.records if each.name == "gitstore.access"]
        assert (record.request_id, record.method, record.path, record.status) == ("r9", "GET", X, 200)

    def test_lines(self):
        from server.log import Line

        record = logging.LogRecord("gitstore.access", 20, "", 0, "a\nb \udcff", (), None)
        record.request_id = "r"
        assert json.loads(Line("json").format(record))["message"] == "a\nb ?"
        assert json.loads(Line("json").format(record))["request_id"] == "r"
        text = Line("text").format(record)
        assert "\n" not in text
        assert "request_id=r" in text


class TestBridge:
    def test_many_settle_with_few_wake_ups(self):
        async def main() -> int:
            bridge = Bridge(2)
            loop = asyncio.get_running_loop()
            calls = 0
            plain = loop.call_soon_threadsafe

            def counted(*args):
                nonlocal calls
                calls += 1
                return plain(*args)

            loop.call_soon_threadsafe = counted
            waiting: list[Pending[int]] = [Pending() for _ in range(500)]
            tasks = [asyncio.create_task(bridge.settle(each)) for each in waiting]
            await asyncio.sleep(0)
            thread = threading.Thread(target=lambda: [each.settle(i) for i, each in enumerate(waiting)])
            thread.start()
            time.sleep(0.2)  # the loop is held up, so all that settles meanwhile must share one wake-up
            assert await asyncio.gather(*tasks) == list(range(500))
            thread.join()
            bridge.close()
            return calls

        assert asyncio.run(main()) < 5

    @pytest.mark.parametrize("settling", [False, True])
    def test_of_many_requests_a_few_go_on_in_each_turn_of_the_loop(self, settling):
        async def main() -> None:
            bridge = Bridge(1)
            turn, went = 0, []
            pendings: list[Pending[int]] = [Pending() for _ in range(50)]

            async def request(number: int) -> None:
                await (bridge.settle(pendings[number]) if settling else bridge.turn())
                went.append((number, turn))

            tasks = [asyncio.create_task(request(number)) for number in range(50)]
            await asyncio.sleep(0)
            tasks[7].cancel()
            for number, pending in enumerate(pendings):
                pending.settle(number)
            while len(went) < 49:
                turn += 1
                assert turn < 60
                await asyncio.sleep(0)
            assert [number for number, _ in went] == [number for number in range(50) if number != 7]
            assert max(Counter(turn for _, turn in went).values()) <= _TOGETHER
            began = len(went)
            await bridge.turn()  # nobody is before it
            assert len(went) == began
            bridge.close()

        asyncio.run(main())

    def test_a_cancelled_wait_harms_nobody(self):
        async def main() -> None:
            bridge = Bridge(1)
            first: Pending[int] = Pending()
            second: Pending[int] = Pending()
            one, two = asyncio.create_task(bridge.settle(first)), asyncio.create_task(bridge.settle(second))
            await asyncio.sleep(0)
            one.cancel()
            await asyncio.sleep(0)
            first.settle(1)
            second.settle(2)
            assert await two == 2
            assert await bridge.settle(Pending.of(3)) == 3
            bridge.close()

        asyncio.run(main())

    def test_settling_after_the_loop_has_ended(self):
        pending: Pending[int] = Pending()

        async def main() -> None:
            task = asyncio.create_task(Bridge(1).settle(pending))
            await asyncio.sleep(0)
            task.cancel()

        asyncio.run(main())
        pending.settle(1)

    def test_a_step_of_a_body_is_over_before_its_request_is(self):
        async def main() -> None:
            bridge = Bridge(1)
            begun, gate, done = threading.Event(), threading.Event(), []

            def step() -> None:
                begun.set()
                gate.wait(5)
                done.append(1)

            tasks = [asyncio.create_task(bridge.carry(step)) for _ in range(_BODIES + 1)]
            await asyncio.sleep(0)
            begun.wait(5)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks[-1:])  # has not begun, and never does
            tasks[0].cancel()  # once more
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in tasks[:-1])
            gate.set()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
            assert len(done) == _BODIES
            bridge.close()

        asyncio.run(main())

    def test_too_many_wait_for_a_thread(self):
        async def main() -> None:
            bridge = Bridge(1, waiting=1)
            gate = threading.Event()
            held = [asyncio.create_task(bridge.offload(gate.wait)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(errors.Unavailable):
                await bridge.offload(gate.wait)
            gate.set()
            assert await asyncio.gather(*held) == [True, True]
            bridge.close()

        asyncio.run(main())


def test_pages():
    assert [Page(1, 20, total).pages for total in (0, 1, 20, 21)] == [0, 1, 1, 2]
