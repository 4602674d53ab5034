"""What holds for every route: scopes, order of checks, envelope, pages, ETags, request ids, limits, JSON, CORS."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator

import pytest

from contract.client import API, UUID, Client, every, link, needed, pages
from contract.conftest import SCOPES, Place, Server
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
agent GET /api/v1/workspaces/{}/timeline/{}
agent GET /api/v1/workspaces/{}/diff
agent GET /api/v1/workspaces/{}/history
agent GET /api/v1/workspaces/{}/history/search
agent GET /api/v1/workspaces/{}/blame
agent GET /api/v1/workspaces/{}/memory/{}/history
agent GET /api/v1/workspaces/{}/memory/{}/blame
agent GET /api/v1/workspaces/{}/spec
admin PUT /api/v1/workspaces/{}/spec
agent GET /api/v1/workspaces/{}/spec/versions
agent GET /api/v1/workspaces/{}/spec/diff
admin POST /api/v1/workspaces/{}/spec/versions/{}/restore
agent GET /api/v1/workspaces/{}/snapshots
agent GET /api/v1/workspaces/{}/snapshots/{}
admin PUT /api/v1/workspaces/{}/snapshots/{}
admin DELETE /api/v1/workspaces/{}/snapshots/{}
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
agent POST /api/v1/workspaces/{}/changes
admin POST /api/v1/workspaces/{}/restore
admin POST /api/v1/workspaces/{}/revert
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


def test_each_weaker_scope_is_refused_and_each_stronger_one_is_not(server: Server, callers: dict[str, Client]) -> None:
    for route in server.routes:
        if route.scope is None:
            continue
        for scope in SCOPES:
            answer = callers[scope].root(route.method, target(route))
            if RANK[scope] < RANK[route.scope]:
                assert answer.status == 403, (route.method, route.path, scope)
                assert route.plain or answer.code == (403, "FORBIDDEN")
            else:
                refused = (401,) if route.plain else (401, 403)  # a probe for files is 403, whatever the key
                assert answer.status not in refused, (route.method, route.path, scope)


def test_without_a_key_every_route_asks_for_one(server: Server, admin: Client) -> None:
    for route in server.routes:
        answer = admin.root(route.method, target(route), key=None)
        if route.scope is None:
            assert answer.status != 401 or route.path.endswith("/webhooks/git")
        else:
            assert answer.status == 401, route
            assert route.plain or answer.code == (401, "UNAUTHORIZED")
            ways = [way.split(" ")[0] for way in answer.headers.get_all("WWW-Authenticate")]
            assert ways == (["Bearer", "Basic"] if route.basic else ["Bearer"])


def test_a_wrong_method_is_405_and_says_which_there_are(server: Server, admin: Client) -> None:
    allowed: dict[str, set[str]] = {}
    for route in server.routes:
        allowed.setdefault(target(route), set()).update({route.method} | ({"HEAD"} if route.method == "GET" else set()))
    for path, methods in allowed.items():
        if path.endswith("/files/batch"):
            methods |= allowed[path.removesuffix("batch") + NOBODY]  # `batch` is a file's key too
        if path.endswith("/archive"):
            methods |= allowed[path.removesuffix("archive") + NOBODY]  # and so may `archive` be
        if path.endswith("/objects/batch"):
            methods |= allowed[path.removesuffix("batch") + NOBODY]  # no object's id, but in its place
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
            path = re.sub(r"\{\w+\}", NOBODY, route.path.replace("{id}", name, 1))
            answer = admin.root(route.method, path + needed(route))
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
        answer = admin.patch(
            f"{place.at}/memory", json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
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
                # A snapshot that an earlier value made is in the way of the next: 409.
                assert answer.status in (200, 201, 400, 404, 409, 422), (route.path, name, value, answer.body)
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
                answer = admin.root("GET", f"{path}{needed(route)}{name}={page}")
                if "%00" in page:
                    assert answer.code == (400, "MALFORMED_REQUEST")
                else:
                    assert answer.pointers == [f"/{name}"], (path, name, page)


def test_the_limits_of_pages(server: Server, admin: Client, place: Place) -> None:
    for route in server.routes:
        if route.paged and route.query is not None and "per_page" in route.query.__struct_fields__:
            path = route.path.replace("{id}", place.id) + needed(route)
            if "{" in path:
                continue  # of something in the workspace, which is not there
            assert admin.root("GET", f"{path}per_page=100").status == 200
            assert admin.root("GET", f"{path}per_page=101").pointers == ["/per_page"]
            beyond = admin.root("GET", f"{path}page=9999&per_page=1").data
            assert (beyond if isinstance(beyond, list) else beyond["files"]) == []


def test_unknown_fields_and_parameters_are_ignored(admin: Client, place: Place) -> None:
    assert admin.get("/workspaces?colour=red").status == 200
    assert admin.patch(place.at, {"name": "N", "colour": "red"}).data["name"] == "N"
    assert admin.patch(place.at, {"colour": "red"}).pointers == [""]
