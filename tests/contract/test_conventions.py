"""What holds for every route: scopes, order of checks, envelope, pages, ETags, request ids, limits, JSON, CORS."""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from contract.client import API, TIME, UUID, Client, every, link, pages, part, slug
from contract.conftest import ADMIN, SCOPES, Place, Server
from server.http import RANK, Route

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
NOBODY = str(uuid.UUID(int=7))

#: The routes that are promised, with the weakest scope that may use them.
PROMISED = """
agent GET /api/v1/workspaces
admin POST /api/v1/workspaces
agent GET /api/v1/workspaces/{}
admin PATCH /api/v1/workspaces/{}
admin DELETE /api/v1/workspaces/{}
admin GET /api/v1/workspaces/{}/delete-impact
agent GET /api/v1/workspaces/{}/timeline
agent GET /api/v1/workspaces/{}/spec
admin PUT /api/v1/workspaces/{}/spec
agent GET /api/v1/workspaces/{}/resources
agent GET /api/v1/workspaces/{}/tools
agent GET /api/v1/workspaces/{}/memory
agent PATCH /api/v1/workspaces/{}/memory
agent GET /api/v1/workspaces/{}/memory/{}
agent DELETE /api/v1/workspaces/{}/memory/{}
agent GET /api/v1/workspaces/{}/files
admin POST /api/v1/workspaces/{}/files
admin POST /api/v1/workspaces/{}/files/batch
agent GET /api/v1/workspaces/{}/files/{}
agent GET /api/v1/workspaces/{}/files/{}/content
admin DELETE /api/v1/workspaces/{}/files/{}
agent GET /api/v1/workspaces/{}/artifacts
agent POST /api/v1/workspaces/{}/artifacts
agent GET /api/v1/workspaces/{}/artifacts/{}
agent DELETE /api/v1/workspaces/{}/artifacts/{}
agent GET /api/v1/workspaces/{}/artifacts/{}/preview
agent GET /api/v1/workspaces/{}/artifacts/{}/permalink
admin POST /api/v1/workspaces/{}/verify-git-access
admin POST /api/v1/workspaces/{}/planning-workflow
admin PUT /api/v1/workspaces/{}/git-webhook
admin DELETE /api/v1/workspaces/{}/git-webhook
agent GET /api/v1/workspaces/{}/problems
agent GET /api/v1/workspaces/{}/workflows
agent POST /api/v1/workspaces/{}/workflows
agent GET /api/v1/workflows/{}
agent PATCH /api/v1/workflows/{}
agent PUT /api/v1/workflows/{}/work-items/{}
agent PUT /api/v1/workflows/{}/tasks/{}
agent GET /api/v1/tasks/{}/artifacts
agent POST /api/v1/tasks/{}/artifacts
agent GET /api/v1/tasks/{}/artifacts/{}
agent DELETE /api/v1/tasks/{}/artifacts/{}
agent GET /api/v1/tasks/{}/artifacts/{}/preview
agent GET /api/v1/tasks/{}/artifacts/{}/permalink
admin GET /api/v1/api-keys
admin POST /api/v1/api-keys
admin DELETE /api/v1/api-keys/{}
agent GET /api/v1/auth/me
admin GET /metrics
- POST /api/v1/auth/token
- POST /api/v1/webhooks/git
- GET /health
- GET /livez
- GET /readyz
- GET /openapi.json
"""


def target(route: Route) -> str:
    """A path of the route; what it names is nowhere."""
    return re.sub(r"\{\w+\+?\}", NOBODY, route.path)


@pytest.fixture(scope="module")
def callers(server: Server) -> Iterator[dict[str, Client]]:
    made = {scope: server.client(scope) for scope in SCOPES}
    yield made
    for one in made.values():
        one.close()


# --- routes, keys, scopes -------------------------------------------------------------------------------------------


def test_every_promised_route_is_there_with_its_scope(server: Server) -> None:
    found = {f"{route.scope or '-'} {route.method} {re.sub(r'{[^}]*}', '{}', route.path)}" for route in server.routes}
    assert set(PROMISED.split("\n")) - {""} - found == set()


def test_the_document_lists_exactly_the_routes(server: Server) -> None:
    listed = {(method.upper(), path) for path, item in server.document["paths"].items() for method in item}
    assert listed == {(route.method, route.path) for route in server.routes if not route.hidden}
    for route in server.routes:
        if not route.hidden:
            operation = server.document["paths"][route.path][route.method.lower()]
            assert operation.get("x-scope") == route.scope
            assert str(route.status) in operation["responses"]


def test_each_weaker_scope_is_refused_and_each_stronger_one_is_not(
    server: Server, callers: dict[str, Client]
) -> None:
    for route in server.routes:
        if route.scope is None:
            continue
        for scope in SCOPES:
            answer = callers[scope].root(route.method, target(route))
            if RANK[scope] < RANK[route.scope]:
                assert answer.code == (403, "FORBIDDEN"), (route.method, route.path, scope)
            else:
                assert answer.status not in (401, 403), (route.method, route.path, scope)


def test_without_a_key_every_route_asks_for_one(server: Server, admin: Client) -> None:
    for route in server.routes:
        answer = admin.root(route.method, target(route), key=None)
        if route.scope is None:
            assert answer.status != 401 or route.path.endswith("/webhooks/git")
        else:
            assert answer.code == (401, "UNAUTHORIZED"), route
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_wrong_method_is_405_and_says_which_there_are(server: Server, admin: Client) -> None:
    allowed: dict[str, set[str]] = {}
    for route in server.routes:
        allowed.setdefault(target(route), set()).update({route.method} | ({"HEAD"} if route.method == "GET" else set()))
    for path, methods in allowed.items():
        if path.endswith("/files/batch"):
            methods |= allowed[path.removesuffix("batch") + NOBODY]  # `batch` is a file's key too
        for method in set(METHODS) - methods:
            answer = admin.root(method, path, key=None)  # before the key is looked at
            assert answer.status == 405, (method, path)
            if method != "HEAD":
                assert answer.code == (405, "METHOD_NOT_ALLOWED")
            assert set(answer.headers["Allow"].split(", ")) == methods | {"OPTIONS"}, (method, path)
        assert set(admin.root("OPTIONS", path, key=None).headers["Allow"].split(", ")) == methods | {"OPTIONS"}


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/v1", "/api/v2/workspaces", f"{API}/workspaces/", f"{API}//workspaces", f"{API}/nothing",
     f"{API}/workspaces/a/b/c/d", "/Health", f"{API}/workspaces/%FF", f"{API}/tasks", "/..%2f", "/%00"],
)  # fmt: skip
def test_an_unknown_path_is_404(admin: Client, path: str) -> None:
    assert admin.root("GET", path).code == (404, "NOT_FOUND")
    assert admin.root("GET", path, key=None).code == (404, "NOT_FOUND")


def test_an_unknown_workspace_is_404_on_every_route(server: Server, admin: Client) -> None:
    for route in server.routes:
        if not route.path.startswith(f"{API}/workspaces/{{id}}") or route.body is not None or route.uploads:
            continue
        for name in (NOBODY, "no-such-slug", "%F0%9F%92%A5", "a%2Fb", "%00", "x" * 3000, "1.5", "-1", "..", "%2e%2e"):
            answer = admin.root(route.method, re.sub(r"\{\w+\}", NOBODY, route.path.replace("{id}", name, 1)))
            assert answer.code == (404, "NOT_FOUND"), (route.path, name)


def test_the_order_of_checks(server: Server, callers: dict[str, Client]) -> None:
    admin, agent = callers["admin"], callers["agent"]
    path, nowhere = "/workspaces", f"/workspaces/{NOBODY}"
    broken = {"Content-Type": "application/json"}
    big = b" " * (2 * 1024 * 1024 + 1)
    assert agent.post(path, b"{", headers=broken, key="wrong").status == 401
    assert agent.post(path, b"{", headers=broken).status == 403
    assert agent.post(path, big, headers={"Content-Type": "text/plain"}).status == 403
    assert admin.post(path, big, headers={"Content-Type": "text/plain"}).status == 413
    assert admin.post(path, b"{", headers={"Content-Type": "text/plain"}).status == 415
    assert admin.post(path, b"{", headers=broken).code == (400, "MALFORMED_REQUEST")
    assert admin.patch(nowhere, {}).status == 422  # shape before existence
    assert admin.patch(nowhere, {"repository_url": "file:///x"}).status == 404  # existence before the rules
    assert admin.get(f"{nowhere}/spec?version=x").status == 422
    assert admin.get("/workspaces?page=x", key=None).status == 401


def test_a_body_and_a_query_of_the_wrong_shape_are_told_together(server: Server, admin: Client, place: Place) -> None:
    answer = admin.post("/workspaces", {"name": "", "slug": 4, "settings": [], "memory": "x", "description": 1.5})
    assert set(answer.pointers) == {"/name", "/slug", "/settings", "/memory", "/description"}
    assert set(admin.post("/workspaces", {}).pointers) == {"/name", "/slug"}
    bad = admin.get("/workspaces?page=0&per_page=101&sort=x&is_active=maybe")
    assert set(bad.pointers) == {"/page", "/per_page", "/sort", "/is_active"}
    for body in ([], "text", 5, None, True, 1.5):
        answer = admin.patch(f"{place.at}/memory", json.dumps(body).encode(), headers={"Content-Type": "application/json"})
        assert answer.pointers == [""]
        assert answer.error["details"]["issues"]["formErrors"]


WRONG = (None, True, 0, 1.5, "", "text", [], ["x"], {}, {"x": 1}, "x" * 30000, -1)


def test_wrong_types_everywhere_are_422_or_400_and_never_worse(server: Server, admin: Client, place: Place) -> None:
    """Every field of every body, with values of every kind."""
    seen = 0
    for route in server.routes:
        if route.body is None or route.path.endswith("/auth/token"):
            continue
        path = route.path.replace("{id}", place.id if "/workspaces/" in route.path else NOBODY, 1)
        path = re.sub(r"\{\w+\+?\}", NOBODY, path)
        if route.path == f"{API}/workspaces/{{id}}/verify-git-access":
            continue  # it would speak to the network
        for name in route.body.__struct_fields__:
            for value in WRONG:
                answer = admin.root(route.method, path, {name: value})
                assert answer.status in (200, 201, 400, 404, 422), (route.path, name, value, answer.body)
                seen += 1
    assert seen > 400


# --- envelope, request ids ------------------------------------------------------------------------------------------


def test_the_envelope_of_a_success(admin: Client, place: Place) -> None:
    answer = admin.get(place.at)
    assert list(answer.json) == ["data", "meta"]
    assert list(answer.meta) == ["request_id", "timestamp"]
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("sent", ["a", "A-z0.9_:-", "x" * 128, str(uuid.UUID(int=3))])
def test_a_request_id_is_returned(admin: Client, sent: str) -> None:
    answer = admin.get("/workspaces", headers={"X-Request-Id": sent})
    assert answer.headers["X-Request-Id"] == answer.meta["request_id"] == sent
    refused = admin.get("/nothing", headers={"X-Request-Id": sent})
    assert refused.meta["request_id"] == sent


@pytest.mark.parametrize("sent", [None, "", "x" * 129, "a b", "a/b", "é", "a\tb", '"', "a,b"])
def test_another_request_id_is_replaced_by_a_new_one(admin: Client, sent: str | None) -> None:
    first, again = (admin.get("/workspaces", headers={"X-Request-Id": sent}) for _ in range(2))  # type: ignore[dict-item]
    assert UUID.fullmatch(first.meta["request_id"])
    assert first.meta["request_id"] != again.meta["request_id"]


def test_the_request_id_is_in_the_commit(admin: Client, place: Place) -> None:
    admin.patch(f"{place.at}/memory", {"key": "k", "value": 1}, headers={"X-Request-Id": "trace-me-1"})
    place.published()
    assert "trace-me-1" in place.git("log", "-1", "--format=%B")


def test_provenance_is_in_the_commit_and_the_timeline(admin: Client, place: Place) -> None:
    who = {"X-Workflow-Id": "run 7", "X-Task-Id": "t" * 255}
    admin.patch(f"{place.at}/memory", {"key": "k", "value": 1}, headers=who)
    entry = admin.get(f"{place.at}/timeline").data[0]
    assert (entry["workflow_id"], entry["task_id"]) == ("run 7", "t" * 255)
    assert [one["id"] for one in admin.get(f"{place.at}/timeline?workflow_id=run%207").data] == [entry["id"]]
    place.published()
    text = place.git("log", "-1", "--format=%B")
    assert "run 7" in text
    assert "t" * 255 in text


@pytest.mark.parametrize("name", ["X-Workflow-Id", "X-Task-Id"])
@pytest.mark.parametrize("value", ["", "x" * 256, "a\tb"])
def test_provenance_of_the_wrong_size_is_refused(admin: Client, place: Place, name: str, value: str) -> None:
    head = place.read()["head"]
    answer = admin.patch(f"{place.at}/memory", {"key": "k", "value": 1}, headers={name: value})
    assert answer.code == (400, "VALIDATION_ERROR")
    assert place.read()["head"] == head


# --- lists ----------------------------------------------------------------------------------------------------------


def test_pages_follow_each_other_without_overlap(admin: Client, place: Place) -> None:
    ids = [admin.post(f"{place.at}/workflows", {"name": f"w{n}"}).data["id"] for n in range(7)]
    first = admin.get(f"{place.at}/workflows?per_page=3")
    assert pages(first) == (1, 3, 7, 3)
    assert [one["id"] for one in every(admin, f"{place.at}/workflows")] == ids[::-1]
    assert pages(admin.get(f"{place.at}/workflows")) == (1, 20, 7, 1)
    last = admin.root("GET", link(first, "last"))
    assert pages(last) == (3, 3, 7, 3)
    assert last.meta["has_more"] is False
    assert pages(admin.root("GET", link(last, "prev")))[0] == 2
    assert pages(admin.root("GET", link(last, "first")))[0] == 1
    beyond = admin.get(f"{place.at}/workflows?page=99&per_page=3")
    assert beyond.data == []
    assert pages(beyond) == (99, 3, 7, 3)
    assert pages(admin.root("GET", link(beyond, "prev")))[0] == 3


def test_a_link_keeps_the_filters(admin: Client, place: Place) -> None:
    for n in range(3):
        admin.post(f"{place.at}/workflows", {"name": f"w{n}", "state": "active"})
    answer = admin.get(f"{place.at}/workflows?state=active&per_page=1&unknown=%C3%A9%26")
    assert "state=active" in link(answer, "next")
    assert pages(admin.root("GET", link(answer, "next")))[:3] == (2, 1, 3)


def test_an_empty_list(admin: Client, place: Place) -> None:
    answer = admin.get(f"{place.at}/workflows")
    assert answer.data == []
    assert pages(answer) == (1, 20, 0, 0)
    assert answer.meta["has_more"] is False


@pytest.mark.parametrize("page", ["0", "-1", "1.5", "x", "", "1e3", "0x1", "+1", "1%00"])
def test_a_bad_page_is_refused_on_every_list(server: Server, admin: Client, place: Place, page: str) -> None:
    for route in server.routes:
        if route.paged and route.query is not None and "page" in route.query.__struct_fields__:
            path = route.path.replace("{id}", place.id)
            for name in ("page", "per_page"):
                answer = admin.root("GET", f"{path}?{name}={page}")
                if "%00" in page:
                    assert answer.code == (400, "MALFORMED_REQUEST")
                else:
                    assert answer.pointers == [f"/{name}"], (path, name, page)


def test_the_limits_of_pages(server: Server, admin: Client, place: Place) -> None:
    for route in server.routes:
        if route.paged and route.query is not None and "per_page" in route.query.__struct_fields__:
            path = route.path.replace("{id}", place.id)
            assert admin.root("GET", f"{path}?per_page=100").status == 200
            assert admin.root("GET", f"{path}?per_page=101").pointers == ["/per_page"]
            assert admin.root("GET", f"{path}?page=9999&per_page=1").data == []


def test_unknown_fields_and_parameters_are_ignored(admin: Client, place: Place) -> None:
    assert admin.get("/workspaces?colour=red").status == 200
    assert admin.patch(place.at, {"name": "N", "colour": "red"}).data["name"] == "N"
    assert admin.patch(place.at, {"colour": "red"}).pointers == [""]


# --- ETags ----------------------------------------------------------------------------------------------------------


def test_every_resource_has_an_etag_and_304_and_412(admin: Client, place: Place) -> None:
    admin.patch(f"{place.at}/memory", {"key": "k", "value": 1})
    admin.put(f"{place.at}/spec", {"tools": {"available": ["x"]}})
    text = base64.b64encode(b"text").decode()
    file = admin.post(f"{place.at}/files", {"file_name": "a.md", "content_base64": text}).data["id"]
    flow = admin.post(f"{place.at}/workflows", {"name": "w", "tasks": [{"id": slug(), "title": "t"}]}).data
    task = flow["tasks"][0]["id"]
    artifact = admin.post(f"/tasks/{task}/artifacts", {"path": "a.md", "content_base64": text}).data["id"]
    resources = [
        place.at, f"{place.at}/memory", f"{place.at}/memory/k", f"{place.at}/spec", f"{place.at}/spec?version=1",
        f"{place.at}/spec?version=0", f"{place.at}/resources", f"{place.at}/tools", f"{place.at}/delete-impact",
        f"{place.at}/files/{file}", f"{place.at}/files/{file}/content", f"/workflows/{flow['id']}",
        f"/tasks/{task}/artifacts/{artifact}", f"/tasks/{task}/artifacts/{artifact}/preview",
        f"/tasks/{task}/artifacts/{artifact}/permalink", f"{place.at}/artifacts/{artifact}", "/auth/me",
    ]  # fmt: skip
    for path in resources:
        answer = admin.get(path)
        assert answer.status == 200
        tag = answer.etag
        assert admin.get(path).etag == tag
        for sent in (tag, f'"x", {tag}', "*", f"W/{tag}"):
            same = admin.get(path, headers={"If-None-Match": sent})
            assert (same.status, same.etag) == (304, tag), (path, sent)
        assert admin.get(path, headers={"If-None-Match": '"x"'}).status == 200
        head = admin.ask("HEAD", path)
        assert (head.status, head.etag) == (200, tag)
        assert head.headers["Content-Length"] is not None
        assert admin.ask("HEAD", path, headers={"If-None-Match": tag}).status == 304


def test_head_answers_like_get_on_every_route(server: Server, admin: Client, place: Place) -> None:
    for route in server.routes:
        if route.method == "GET":
            path = route.path.replace("{id}", place.id if "/workspaces/" in route.path else NOBODY)
            path = re.sub(r"\{\w+\+?\}", NOBODY, path)
            get, head = admin.root("GET", path), admin.root("HEAD", path)
            assert head.status == get.status, path
            assert head.headers["Content-Type"] == get.headers["Content-Type"]
            assert head.headers["ETag"] == get.headers["ETag"]


def test_the_workspace_etag_identifies_the_data(admin: Client, place: Place) -> None:
    tag = admin.get(place.at).etag
    changed = admin.patch(f"{place.at}/memory", {"key": "k", "value": 1})
    now = admin.get(place.at)
    assert now.etag != tag
    assert changed.data == now.data
    admin.patch(place.at, {"settings": {"credentials": {"git_token": "first"}}})
    configured = admin.get(place.at).etag
    admin.patch(place.at, {"settings": {"credentials": {"git_token": "second"}}})
    assert admin.get(place.at).etag != configured or admin.get(place.at).data["settings"]
    admin.patch(place.at, {"settings": {"credentials": {"git_token": None}}})
    assert admin.get(place.at).etag != configured


def test_evidence_does_not_change_the_workspace_etag(admin: Client, place: Place) -> None:
    tag = admin.get(place.at).etag
    admin.post(f"{place.at}/workflows", {"name": "w"})
    admin.post(f"{place.at}/artifacts", {"path": "a", "content_base64": "eA=="})
    assert admin.get(place.at).etag == tag


def test_if_match_guards_every_write(admin: Client, place: Place) -> None:
    file = admin.post(f"{place.at}/files", {"file_name": "a.md", "content_base64": "eA=="})
    flow = admin.post(f"{place.at}/workflows", {"name": "w"})
    art = admin.post(f"{place.at}/artifacts", {"path": "a.md", "content_base64": "eA=="}).data["id"]
    admin.put(f"{place.at}/spec", {"tools": {}})
    admin.patch(f"{place.at}/memory", {"key": "k", "value": 1})
    admin.put(f"{place.at}/git-webhook", {"provider": "github", "secret": "12345678"})
    task = slug()
    put_task = f"/workflows/{flow.data['id']}/tasks/{task}"
    put_item = f"/workflows/{flow.data['id']}/work-items/i"
    made = admin.put(put_task, {"title": "t"})
    item = admin.put(put_item, {"title": "i"})
    writes: list[tuple[str, str, Any, str | None]] = [
        ("PATCH", place.at, {"name": "n2"}, place.at),
        ("PATCH", f"{place.at}/memory", {"key": "k", "value": 2}, f"{place.at}/memory/k"),
        ("PATCH", f"{place.at}/memory", {"updates": {"k": 3}}, f"{place.at}/memory"),
        ("PUT", f"{place.at}/spec", {"config": {}}, f"{place.at}/spec"),
        ("POST", f"{place.at}/files", {"file_name": "a.md", "content_base64": "eQ=="}, f"{place.at}/files/a-md"),
        ("PATCH", f"/workflows/{flow.data['id']}", {"state": "active"}, f"/workflows/{flow.data['id']}"),
        ("PUT", put_item, {"title": "i2"}, f"/workflows/{flow.data['id']}"),
        ("PUT", put_task, {"title": "t2"}, None),
        ("DELETE", f"{place.at}/memory/k", None, f"{place.at}/memory/k"),
        ("DELETE", f"{place.at}/files/{file.data['id']}", None, f"{place.at}/files/{file.data['id']}"),
        ("DELETE", f"{place.at}/artifacts/{art}", None, f"{place.at}/artifacts/{art}"),
        ("DELETE", f"{place.at}/git-webhook", None, None),
        ("DELETE", f"{place.at}?cascade=true", None, place.at),
    ]
    assert item.status == 200
    for method, path, body, resource in writes:
        stale = admin.ask(method, path, body, headers={"If-Match": '"stale"'})
        assert stale.status == 412, (method, path, stale.body)
        current = stale.error["details"]["current"]
        if resource is not None:
            assert f'"{current}"' == admin.get(resource).etag, (method, path)
        elif path == put_task:
            assert f'"{current}"' == made.etag
        weak = admin.ask(method, path, body, headers={"If-Match": f'W/"{current}"'})
        assert weak.status == 412
        done = admin.ask(method, path, body, headers={"If-Match": f'"x", "{current}"'})
        assert done.status == (201 if method == "POST" else done.status)
        assert done.status in (200, 201, 204), (method, path, done.body)
        if resource is not None and method != "DELETE":
            assert done.etag == admin.get(resource).etag, (method, path)


def test_if_none_match_star_creates_only(admin: Client, place: Place) -> None:
    only = {"If-None-Match": "*"}
    memory, spec, files = f"{place.at}/memory", f"{place.at}/spec", f"{place.at}/files"
    assert admin.patch(memory, {"key": "k", "value": 1}, headers=only).status == 200
    again = admin.patch(memory, {"key": "k", "value": 2}, headers=only)
    assert again.status == 412
    assert f'"{again.error["details"]["current"]}"' == admin.get(f"{memory}/k").etag
    assert admin.get(f"{memory}/k").data["value"] == 1
    assert admin.put(spec, {"tools": {}}, headers=only).status == 200
    assert admin.put(spec, {"config": {}}, headers=only).status == 412
    assert admin.post(files, {"file_name": "a", "content_base64": "eA=="}, headers=only).status == 201
    assert admin.post(files, {"file_name": "a", "content_base64": "eQ=="}, headers=only).status == 412
    flow = admin.post(f"{place.at}/workflows", {"name": "w"}).data["id"]
    task = slug()
    assert admin.put(f"/workflows/{flow}/tasks/{task}", {"title": "t"}, headers=only).status == 200
    assert admin.put(f"/workflows/{flow}/tasks/{task}", {"title": "u"}, headers=only).status == 412
    assert admin.put(f"/workflows/{flow}/work-items/i", {"title": "t"}, headers=only).status == 200
    assert admin.put(f"/workflows/{flow}/work-items/i", {"title": "u"}, headers=only).status == 412


def test_if_match_on_what_is_not_there_is_412(admin: Client, place: Place) -> None:
    any_ = {"If-Match": "*"}
    for method, path, body in (
        ("PATCH", f"{place.at}/memory", {"key": "k", "value": 1}),
        ("DELETE", f"{place.at}/memory/k", None),
        ("POST", f"{place.at}/files", {"file_name": "a", "content_base64": "eA=="}),
    ):
        answer = admin.ask(method, path, body, headers=any_)
        assert answer.code == (412, "PRECONDITION_FAILED")
        assert answer.error["details"] == {"current": None}


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["abc", '"', "", "'a'", '"a" "b"'])
def test_a_precondition_that_cannot_be_read_is_refused(admin: Client, place: Place, header: str, value: str) -> None:
    answer = admin.patch(f"{place.at}/memory", {"key": "k", "value": 1}, headers={header: value})
    assert answer.code == (400, "MALFORMED_REQUEST")
    assert admin.get(f"{place.at}/memory").data == {}


# --- JSON -----------------------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


MALFORMED = {
    "empty": b"",
    "blank": b"  ",
    "half": b'{"key": "k", "value": ',
    "two": b'{"key":"k","value":1} {}',
    "comma": b'{"key":"k","value":1,}',
    "quotes": b"{'key':'k'}",
    "latin": '{"key":"k","value":"é"}'.encode("latin-1"),
    "utf-16": '{"key":"k","value":1}'.encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"key":"k","value":1}',
    "nan": b'{"key":"k","value":NaN}',
    "infinity": b'{"key":"k","value":-Infinity}',
    "overflow": b'{"key":"k","value":1e400}',
    "nul": b'{"key":"k","value":"a\\u0000b"}',
    "nul in a key": b'{"key":"k","value":{"a\\u0000":1}}',
    "nul in the key": b'{"key":"k\\u0000","value":1}',
    "surrogate": b'{"key":"k","value":"\\ud800"}',
    "low surrogate": b'{"key":"k","value":["\\udc00x"]}',
    "surrogate key": b'{"key":"k","value":{"\\udfff":1}}',
    "deep": b'{"key":"k","value":' + nested(64) + b"}",
    "very deep": b'{"key":"k","value":' + nested(100000) + b"}",
    "precise": b'{"key":"k","value":0.1000000000000000055511151231257827021181583404541015625}',
    "long": b'{"key":"k","value":' + b"9" * 5000 + b"}",
    "control": b'{"key":"k","value":"a\nb"}',
    "encoded surrogate": b'{"key":"k","value":"\xed\xa0\x80"}',
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_json_is_400_and_changes_nothing(admin: Client, place: Place, name: str) -> None:
    answer = admin.patch(f"{place.at}/memory", MALFORMED[name], headers={"Content-Type": "application/json"})
    assert answer.code == (400, "MALFORMED_REQUEST")
    assert admin.get(f"{place.at}/memory").data == {}


def test_nesting_up_to_64_is_stored(admin: Client, place: Place) -> None:
    body = b'{"key":"k","value":' + nested(63) + b"}"  # the body is the 64th
    assert admin.patch(f"{place.at}/memory", body, headers={"Content-Type": "application/json"}).status == 200
    assert nested(63) in admin.get(f"{place.at}/memory/k").body


NUMBERS = ["12345678901234567890123", "-0", "-0.0", "1.10", "1e3", "1E+2", "0.1", "5e-324", "1.7976931348623157e308",
           "9007199254740993", "-12345678901234567890123456789012345678901234567890", "1.0", "100000000000000000000.0",
           "0e999", "123456789.123"]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_comes_back_equal(admin: Client, place: Place, number: str) -> None:
    from decimal import Decimal

    body = b'{"key":"k","value":' + number.encode() + b"}"
    answer = admin.patch(f"{place.at}/memory", body, headers={"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    data = admin.get(f"{place.at}/memory/k").body
    match = re.search(rb'"value":([^,}]+)', data)
    assert match is not None
    shown = match[1].decode()
    assert Decimal(shown) == Decimal(number)
    assert ("." in shown or "e" in shown.lower()) is ("." in number or "e" in number.lower()), shown
    assert shown.startswith("-") is number.startswith("-") or Decimal(number) == 0


def test_text_of_every_script_survives(admin: Client, place: Place) -> None:
    value = {"ключ": ["日本語", "🧪", "e\u0301", "é", "\u2028\u2029", "\u202e", "a\tb\r\nc", "\x7f", "\ufeff", "\ufffe", "\U0010ffff"],
             "NO": "no", "~": "~", "1e3": "1e3", "": "", " x ": " x ", "0x10": "0x10"}  # fmt: skip
    answer = admin.patch(f"{place.at}/memory", {"key": "t", "value": value})
    assert answer.status == 200, answer.body
    assert answer.data["memory"] == {"t": value}
    assert list(admin.get(f"{place.at}/memory/t").data["value"]) == list(value)


def test_objects_keep_their_order(admin: Client, place: Place) -> None:
    body = b'{"key":"k","value":{"z":1,"a":2,"m":{"9":1,"1":2,"b":3},"A":4}}'
    admin.patch(f"{place.at}/memory", body, headers={"Content-Type": "application/json"})
    assert b'{"z":1,"a":2,"m":{"9":1,"1":2,"b":3},"A":4}' in admin.get(f"{place.at}/memory").body


@pytest.mark.parametrize(
    ("kind", "status"),
    [("application/json", 200), ("application/json; charset=utf-8", 200), ('application/json;charset="UTF-8"', 200),
     ("application/merge-patch+json", 200), ("APPLICATION/JSON", 200), ("application/json; charset=latin-1", 415),
     ("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("multipart/form-data; boundary=x", 415),
     ("text/json", 415), ("json", 415), ("", 415)],
)  # fmt: skip
def test_media_types_of_a_body(admin: Client, place: Place, kind: str, status: int) -> None:
    body = json.dumps({"key": "k", "value": 1}).encode()
    answer = admin.patch(f"{place.at}/memory", body, headers={"Content-Type": kind})
    assert answer.status == status
    if status == 415:
        assert answer.error["code"] == "UNSUPPORTED_MEDIA_TYPE"


def test_a_body_without_a_type_is_415(admin: Client, place: Place) -> None:
    assert admin.patch(f"{place.at}/memory", b"{}").code == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_body_at_the_limit_passes_and_one_byte_more_is_413(admin: Client, place: Place) -> None:
    limit = 2 * 1024 * 1024
    body = json.dumps({"key": "k", "value": 1}).encode()
    kind = {"Content-Type": "application/json"}
    assert admin.patch(f"{place.at}/memory", body.ljust(limit), headers=kind).status == 200
    over = admin.patch(f"{place.at}/memory", body.ljust(limit + 1), headers=kind)
    assert over.code == (413, "PAYLOAD_TOO_LARGE")
    assert str(limit) in over.error["message"]
    chunked = b"".join(b"10000\r\n" + b" " * 0x10000 + b"\r\n" for _ in range(33)) + b"0\r\n\r\n"
    head = f"PATCH {API}{place.at}/memory HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin.key}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert admin.raw(head.encode() + chunked).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("query", ["q=%FF", "q=%00", "q=a%ED%A0%80", "sort=%00"])
def test_a_query_that_is_not_text_is_400(admin: Client, query: str) -> None:
    assert admin.get(f"/workspaces?{query}").code == (400, "MALFORMED_REQUEST")


def test_a_parameter_given_twice_is_refused(admin: Client) -> None:
    assert admin.get("/workspaces?page=1&page=2").pointers == ["/page"]


def test_what_is_not_http_is_answered_in_the_envelope(admin: Client) -> None:
    for junk in (b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /x HTTP/1.1\r\nbad header\r\n\r\n",
                 b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n"):  # fmt: skip
        answer = admin.raw(junk)
        assert answer.split(b" ")[1] == b"400", answer[:200]
        assert b'"MALFORMED_REQUEST"' in answer


def test_times_are_utc_with_milliseconds(admin: Client, place: Place) -> None:
    record = place.read()
    assert TIME.fullmatch(record["created_at"])
    assert TIME.fullmatch(record["updated_at"])
    assert record["created_at"] <= record["updated_at"]


# --- rate limit, CORS, probes ---------------------------------------------------------------------------------------


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
