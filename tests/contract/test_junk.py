"""Whatever is sent to whatever route, the answer is in the envelope and is no failure of the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.client import Client, needed, slug
from contract.conftest import Place, Server
from server.http import Route

TEXT = st.text(max_size=30) | st.sampled_from(
    [
        "",
        "\0",
        "\ud800",
        "..",
        "a/b",
        "%00",
        "%FF",
        "x" * 300,
        "null",
        "1e999",
        "-1",
        "0",
        "9" * 30,
        "text/html",
        "main",
        "*",
    ]
)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "If-Match": st.sampled_from(["*", '"x"', 'W/"x"', "x", '"', ""]),
        "If-None-Match": st.sampled_from(["*", '"x"', "", ",", '"a","b"']),
        "Range": st.sampled_from(
            ["bytes=0-", "bytes=-1", "bytes=9-1", "x=1", "bytes=0-0,2-3", "bytes=99999999999999999999-"]
        ),
        "X-Request-Id": st.sampled_from(["", "ok", "not ok", "x" * 200]),
        "X-Workflow-Id": st.sampled_from(["", "w", "x" * 256, "é"]),
        "Content-Type": st.sampled_from(
            [
                "application/json",
                "text/plain",
                "multipart/form-data",
                "multipart/form-data; boundary=b",
                "",
                "a/b/c",
                ";",
            ]
        ),
        "Content-Encoding": st.sampled_from(["gzip", "identity", "x"]),
        "Accept": st.sampled_from(["text/html", "*/*", ""]),
        "Cookie": st.just("a=b"),
        "Origin": st.just("null"),
        "If-Modified-Since": st.sampled_from(["x", "Mon, 01 Jan 2001 00:00:00 GMT", "0"]),
    },
)
BODY = st.none() | st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
SEGMENT = TEXT.map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe=""))


@st.composite
def likely(draw: Any, route: Route) -> bytes:
    """A body with the route's own fields, each of any kind; often close to what the route wants."""
    names = route.body.__struct_fields__ if route.body is not None else ()
    good = {"name": "n", "title": "t", "key": "k", "value": 1, "path": "a/b", "file_name": "a",
            "content_base64": "eA==",
            "brief": "b", "provider": "github", "secret": "12345678", "settings": {}, "state": "active"}  # fmt: skip
    fields = {}
    for name in names:
        choice = draw(st.integers(0, 3))
        if choice == 1 or (choice == 2 and name not in good):
            fields[name] = draw(JSON)
        elif choice > 1 and name in good:
            fields[name] = good[name]
    fields.pop("slug", None)
    return json.dumps(fields).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def scene(server: Server) -> Iterator[tuple[Server, Client, dict[str, str]]]:
    """A client, and names that exist."""
    with server.client() as admin:
        place = Place(server, admin, memory={"k": 1})
        task = slug()
        flow = admin.post(f"{place.at}/workflows", {"name": "w", "tasks": [{"id": task, "title": "t"}]}).data["id"]
        file = admin.post(f"{place.at}/files", {"file_name": "a.md", "content_base64": "eA=="}).data["id"]
        made = admin.post(f"/tasks/{task}/artifacts", {"path": "a.md", "content_base64": "eA=="}).data["id"]
        tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "1", "Upload-Metadata": "path YQ=="}
        upload = admin.post(f"{place.at}/uploads", headers=tus).data["id"]
        names = {
            "uploads": upload,
            "workspaces": place.id,
            "workflows": flow,
            "tasks": task,
            "files": file,
            "artifacts": made,
            "memory": "k",
            "timeline": place.record["head"],
            "snapshots": admin.put(f"{place.at}/snapshots/v1").data["name"],
        }
        yield server, admin, names


def test_no_junk_is_a_failure_of_the_server(scene: tuple[Server, Client, dict[str, str]]) -> None:
    server, admin, names = scene
    # Deleting the scene itself, the test's own key, or speaking to the network is left out.
    left = ("/api-keys/{", "/verify-git-access")
    routes = [r for r in server.routes if not r.plain and not any(one in r.path for one in left)
              and not (r.method == "DELETE" and r.path.endswith("/workspaces/{id}"))]  # fmt: skip
    seen: set[int] = set()

    @settings(max_examples=300, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        route = data.draw(st.sampled_from(routes))

        def segment(match: re.Match[str]) -> str:
            kind = route.path[: match.start()].rstrip("/").rsplit("/", 1)[-1]
            if kind in names and data.draw(st.integers(0, 3)):
                return names[kind]
            return data.draw(SEGMENT) or "x"

        path = re.sub(r"\{\w+\+?\}", segment, route.path)
        fields = route.query.__struct_fields__ if route.query is not None else ("x",)
        query = data.draw(st.dictionaries(st.sampled_from(fields), SEGMENT, max_size=3))
        if query:
            path += "?" + "&".join(f"{name}={value}" for name, value in query.items())
        headers = data.draw(HEADERS)
        body = None if route.method == "GET" else data.draw(BODY | likely(route))
        if body is not None and data.draw(st.booleans()):
            headers["Content-Type"] = "application/json"
        headers = {name: value.encode("latin-1", "replace").decode("latin-1") for name, value in headers.items()}
        answer = admin.root(route.method, path, body, headers=headers)  # a 5xx or a wrong envelope fails here
        assert answer.status < 500, (route.method, path, body, headers)
        seen.add(answer.status)

    check()
    assert seen >= {200, 400, 404, 422}
    assert admin.get("/auth/me").status == 200


def test_every_read_is_what_the_document_says(scene: tuple[Server, Client, dict[str, str]]) -> None:
    """Each GET with names that exist; the client holds each success against its response schema."""
    server, admin, names = scene
    server.store.load(names["workspaces"])
    for route in server.routes:
        if route.method != "GET" or route.plain:
            continue

        def segment(match: re.Match[str], path: str = route.path) -> str:
            return names[path[: match.start()].rstrip("/").rsplit("/", 1)[-1]]

        answer = admin.root("GET", re.sub(r"\{\w+\+?\}", segment, route.path) + needed(route))
        assert answer.status == 200 or answer.status == 404, (route.path, answer.body)
    for path in ("", "/memory", "/spec", "/files", "/artifacts", "/timeline", "/workflows", "/problems"):
        assert admin.get(f"/workspaces/{names['workspaces']}{path}").status == 200
