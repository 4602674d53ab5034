"""The spec: replaced as a whole, one version for each change, every version readable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from contract.client import OID, PEM, TIME, Client
from contract.conftest import Place, Server

ANSWER = ["workspace_id", "version", "spec", "created_at", "created_by_type", "created_by_id", "commit"]
WHOLE: dict[str, Any] = {
    "resources": {"code": {"type": "repository", "binding": {"url": "https://h/a"}, "notes": "main"},
                  "find": {"type": "search", "binding": {"provider": "elastic", "x": 1}},
                  "api": {"type": "api", "binding": {"base_url": "https://h"}}},
    "documents": {"plan": {"path": "docs/plan.md"}, "web": {"source": "external", "url": "https://h"}},
    "tools": {"available": ["git", "bash"], "blocked": ["rm"]},
    "config": {"z": 1, "a": {"secret": "secret:DEPLOY_KEY"}, "n": 12345678901234567890123},
    "instructions": {"content": "Do it.\nWell.\n", "format": "markdown"},
}  # fmt: skip


def put(client: Client, place: Place, spec: Any) -> Any:
    answer = client.put(f"{place.at}/spec", spec)
    assert answer.status == 200, answer.body
    return answer.data


def test_no_spec_yet_is_version_0(admin: Client, place: Place) -> None:
    for query in ("", "?version=0"):
        answer = admin.get(f"{place.at}/spec{query}")
        assert answer.data == {"workspace_id": place.id, "version": 0, "spec": {}, "created_at": None,
                               "created_by_type": None, "created_by_id": None, "commit": None}  # fmt: skip
    assert admin.get(f"{place.at}/spec?version=1").code == (404, "NOT_FOUND")
    assert admin.get(f"{place.at}/resources").data == []
    assert admin.get(f"{place.at}/tools").data == {"available": [], "blocked": []}


def test_a_spec_comes_back_as_it_was_written(server: Server, admin: Client, place: Place) -> None:
    answer = admin.put(f"{place.at}/spec", WHOLE)
    made = answer.data
    assert list(made) == ANSWER
    assert (made["workspace_id"], made["version"]) == (place.id, 1)
    assert made["spec"] == WHOLE
    assert list(made["spec"]["config"]) == ["z", "a", "n"]
    assert TIME.fullmatch(made["created_at"])
    assert made["created_by_type"] == "admin"
    assert made["created_by_id"] == admin.get("/auth/me").data["prefix"]
    assert OID.fullmatch(made["commit"])
    assert made["commit"] == place.read()["head"]
    read = admin.get(f"{place.at}/spec")
    assert read.data == made
    assert read.etag == answer.etag
    assert place.read()["current_spec_version"] == 1
    place.published()
    assert place.git("show", "--stat", "--format=", "HEAD").count("spec/") == 5
    assert place.git("status", "--porcelain") == ""


def test_every_change_is_the_next_version_and_stays(admin: Client, place: Place) -> None:
    specs = [{"tools": {"available": [str(n)]}} for n in range(4)]
    made = [put(admin, place, spec) for spec in specs]
    assert [one["version"] for one in made] == [1, 2, 3, 4]
    assert put(admin, place, specs[-1]) == made[-1]  # nothing different: no new version
    assert put(admin, place, {}) == put(admin, place, {"unknown": 1})
    for number, one in enumerate(made, 1):
        assert admin.get(f"{place.at}/spec?version={number}").data == one
    assert admin.get(f"{place.at}/spec").data["version"] == 5
    assert admin.get(f"{place.at}/spec").data["spec"] == {}
    assert admin.get(f"{place.at}/spec?version=0").data["version"] == 0
    for none in ("6", "-1", "999999999999999999999", "-999999999999999999999"):
        assert admin.get(f"{place.at}/spec?version={none}").code == (404, "NOT_FOUND")
    tags = {admin.get(f"{place.at}/spec?version={n}").etag for n in range(6)}
    assert len(tags) == 6


@pytest.mark.parametrize("text", ["1.5", "x", "", "1e3", "0x1", "+1", "１"])
def test_a_version_that_is_no_number(admin: Client, place: Place, text: str) -> None:
    from urllib.parse import quote

    assert admin.get(f"{place.at}/spec?version={quote(text)}").pointers == ["/version"]


def test_a_spec_is_replaced_whole(admin: Client, place: Place) -> None:
    put(admin, place, WHOLE)
    assert put(admin, place, {"config": {"a": 1}})["spec"] == {"config": {"a": 1}}
    assert put(admin, place, {"config": {}})["spec"] == {"config": {}}


def test_the_order_inside_a_part_is_a_change(admin: Client, place: Place) -> None:
    put(admin, place, {"config": {"a": 1, "b": 2}})
    made = put(admin, place, {"config": {"b": 2, "a": 1}})
    assert made["version"] == 2
    assert list(made["spec"]["config"]) == ["b", "a"]


def test_concurrent_puts_get_consecutive_versions(server: Server, place: Place) -> None:
    seen: list[int] = []

    def one(n: int) -> None:
        with server.client() as client:
            for at in range(5):
                seen.append(put(client, place, {"config": {"n": n, "at": at}})["version"])

    threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(seen) == list(range(1, 21))


@pytest.mark.parametrize("part", ["resources", "documents", "tools", "config", "instructions"])
@pytest.mark.parametrize("wrong", [None, [], "x", 5, True])
def test_a_part_that_is_no_object(admin: Client, place: Place, part: str, wrong: Any) -> None:
    assert admin.put(f"{place.at}/spec", {part: wrong}).pointers == [f"/{part}"]


def resource(kind: Any, **binding: Any) -> dict[str, Any]:
    return {"resources": {"r": {"type": kind, "binding": binding}}}


@pytest.mark.parametrize(
    "spec",
    [
        resource("ftp", url="x"),
        resource(5, url="x"),
        resource(None, url="x"),
        resource("repository"),
        resource("repository", url=""),
        resource("repository", url="  "),
        resource("repository", url=5),
        resource("repository", provider="x"),
        resource("api", url="x"),
        resource("search", url="x"),
        resource("document_store", base_url="x"),
        resource("cloud_account", provider=" "),
        resource("artifact_store"),
        resource("api", base_url="https://h", api_key="x"),
        resource("repository", url="https://h", access_token="x"),
        resource("repository", url="https://h", Password="x"),
        resource("repository", url="https://u:p@h/a"),
        {"resources": {"r": "x"}},
        {"resources": {"r": {"type": "api"}}},
        {"resources": {"r": {"type": "api", "binding": "x"}}},
        {"documents": {"d": {}}},
        {"documents": {"d": []}},
        {"documents": {"d": {"source": "repository"}}},
        {"documents": {"d": {"source": "artifact", "path": "x"}}},
        {"documents": {"d": {"source": "external", "url": ""}}},
        {"documents": {"d": {"source": "web", "url": "x"}}},
        {"instructions": {"content": "a {{b}}"}},
        {"instructions": {"content": "a }}"}},
        {"instructions": {"content": 5}},
        {"instructions": {"content": "x", "format": "html"}},
        {"config": {"k": PEM}},
    ],
)
def test_a_spec_that_breaks_a_rule(admin: Client, place: Place, spec: Any) -> None:
    assert admin.put(f"{place.at}/spec", spec).code == (400, "VALIDATION_ERROR")
    assert admin.get(f"{place.at}/spec").data["version"] == 0


@pytest.mark.parametrize(
    "spec",
    [
        resource("repository", url="git@h:a/b"),
        resource("document_store", provider="p"),
        resource("cloud_account", provider="p", region="secret:REGION"),
        resource("artifact_store", provider="p"),
        {"documents": {"a": {"path": "x"}, "b": {"logical_path": "x"}, "c": {"url": "https://h"}}},
        {"documents": {"a": {"source": "repository", "path": "x", "more": [1]}}},
        {"instructions": {}},
        {"instructions": {"content": "", "format": "text"}},
        {"instructions": {"content": "a { b } {"}},
        {"tools": {"available": "anything", "x": 1}},
        {"config": {"secret": "secret:A", "deep": ["secret:B", {"c": "secret:C"}]}},
    ],
)
def test_a_spec_that_keeps_the_rules(admin: Client, place: Place, spec: Any) -> None:
    assert put(admin, place, spec)["spec"] == spec
    again = admin.get(f"{place.at}/spec").data["spec"]
    assert put(admin, place, again)["version"] == 1  # a read written back is no change


def test_the_views(admin: Client, place: Place) -> None:
    put(admin, place, WHOLE)
    rows = admin.get(f"{place.at}/resources").data
    assert rows == [
        {"logical_name": "code", "type": "repository", "binding": {"url": "https://h/a"}, "notes": "main"},
        {"logical_name": "find", "type": "search", "binding": {"provider": "elastic", "x": 1}},
        {"logical_name": "api", "type": "api", "binding": {"base_url": "https://h"}},
    ]
    assert [list(row)[:3] for row in rows] == [["logical_name", "type", "binding"]] * 3
    assert [row["logical_name"] for row in admin.get(f"{place.at}/resources?type=search").data] == ["find"]
    assert admin.get(f"{place.at}/resources?type=nothing").data == []
    assert admin.get(f"{place.at}/tools").data == {"available": ["git", "bash"], "blocked": ["rm"]}


def test_old_versions_survive_a_restart(second: Callable[..., Any]) -> None:
    from contract.conftest import serving

    with second() as first, first.client() as admin:
        place = Place(first, admin)
        made = [put(admin, place, {"config": {"n": n}}) for n in range(3)]
    with serving(first.store.layout.root) as again, again.client() as admin:
        for number, one in enumerate(made, 1):
            assert admin.get(f"{place.at}/spec?version={number}").data == one
        assert put(admin, place, {"config": {"n": 9}})["version"] == 4


def _put(admin: Client, place: Place, body: Any) -> Any:
    return admin.put(f"{place.at}/spec", body, headers={"X-Workflow-Id": "w-7"})


def test_the_versions_are_listed_newest_first_with_who_made_them(admin: Client, place: Place) -> None:
    assert admin.get(f"{place.at}/spec/versions").data == []
    made = [_put(admin, place, {"config": {"n": n}}).data for n in range(1, 4)]
    answer = admin.get(f"{place.at}/spec/versions?per_page=2")
    assert [one["version"] for one in answer.data] == [3, 2]
    assert (answer.meta["total"], answer.meta["has_more"]) == (3, True)
    (last,) = admin.get(f"{place.at}/spec/versions?per_page=2&page=2").data
    assert last["commit"] == made[0]["commit"]
    assert last["created_at"] == made[0]["created_at"]
    assert (last["kind"], last["name"], last["door"]) == ("spec.updated", "spec: version 1", "api")
    assert (last["actor"]["type"], last["workflow_id"]) == ("admin", "w-7")
    for one in answer.data:
        assert admin.get(f"{place.at}/spec?version={one['version']}").data["commit"] == one["commit"]


def test_two_versions_are_compared_by_pointer(admin: Client, place: Place) -> None:
    _put(admin, place, {"config": {"a": 1, "b/c": [1, 2]}, "tools": {"available": ["git"]}})
    _put(admin, place, {"config": {"a": 2, "b/c": [1]}, "instructions": {"content": "hi"}})
    answer = admin.get(f"{place.at}/spec/diff?from=1&to=2")
    assert (answer.data["from"], answer.data["to"]) == (1, 2)
    found = {(one["op"], one["pointer"]): (one.get("old"), one.get("new")) for one in answer.data["values"]}
    assert found == {
        ("removed", "/tools"): ({"available": ["git"]}, None),
        ("changed", "/config/a"): (1, 2),
        ("removed", "/config/b~1c/1"): (2, None),
        ("added", "/instructions"): (None, {"content": "hi"}),
    }
    assert admin.get(f"{place.at}/spec/diff?from=1").data == answer.data
    assert admin.get(f"{place.at}/spec/diff?from=2&to=2").data["values"] == []
    whole = admin.get(f"{place.at}/spec/diff?from=0&to=1").data["values"]
    assert {(one["op"], one["pointer"]) for one in whole} == {("added", "/config"), ("added", "/tools")}
    assert admin.get(f"{place.at}/spec/diff?from=1&to=9").code == (404, "NOT_FOUND")
    assert admin.get(f"{place.at}/spec/diff").data == answer.data
    assert admin.get(f"{place.at}/spec/diff?to=1").data["values"] == whole
    assert admin.get(f"{place.at}/spec/diff?from=-1&to=x").pointers == ["/from", "/to"]


def test_a_version_is_restored_byte_for_byte_as_a_new_one(admin: Client, agent: Client, place: Place) -> None:
    first = _put(admin, place, {"config": {"token": "secret:T", "n": 1}, "tools": {"available": []}}).data
    _put(admin, place, {"config": {"n": 2}, "documents": {"d": {"path": "x"}}})
    tag = admin.get(f"{place.at}/spec").etag
    there = f"{place.at}/spec/versions/1/restore"
    assert agent.post(there).code == (403, "FORBIDDEN")
    assert admin.post(there, headers={"If-Match": '"other"'}).code == (412, "PRECONDITION_FAILED")
    answer = admin.post(there, headers={"If-Match": tag})
    assert (answer.data["version"], answer.data["spec"]) == (3, first["spec"])
    assert answer.etag == admin.get(f"{place.at}/spec").etag
    place.published()
    old, new = first["commit"], answer.data["commit"]
    assert place.git("rev-parse", f"{old}:spec") == place.git("rev-parse", f"{new}:spec")
    entry = admin.get(f"{place.at}/timeline?per_page=1").data[0]
    assert (entry["kind"], entry["name"]) == ("restore", "spec: restore version 1 as version 3")
    again = admin.post(f"{place.at}/spec/versions/3/restore")
    assert again.data == answer.data
    for none in ("0", "4", "x", "-1", "1.5", "9" * 30):
        assert admin.post(f"{place.at}/spec/versions/{none}/restore").code == (404, "NOT_FOUND")


def test_a_version_that_breaks_a_rule_is_not_restored(admin: Client, place: Place) -> None:
    _put(admin, place, {"config": {"n": 1}})
    folder = place.published()
    (folder / "spec/config.yaml").write_text("n: [unclosed\n")
    place.git("-c", "user.name=p", "-c", "user.email=p@x", "commit", "-qam", "broken")
    end = time.monotonic() + 10
    while admin.get(f"{place.at}/spec/versions").meta["total"] < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    answer = admin.post(f"{place.at}/spec/versions/2/restore")
    assert answer.code == (400, "VALIDATION_ERROR")
    assert "spec/config.yaml" in answer.error["message"]
    assert admin.post(f"{place.at}/spec/versions/1/restore").data["spec"] == {"config": {"n": 1}}
