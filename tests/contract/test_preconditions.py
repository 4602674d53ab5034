"""ETags: every resource has one, and every write can be made to depend on it."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from contract.client import Client, slug
from contract.conftest import Place, Server
from contract.test_conventions import NOBODY


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
