"""Change sets: many operations in one commit, all or none, each told apart, the same request made once."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from contract.client import PEM, Answer, Client, slug
from contract.conftest import Place, Server


def submit(client: Client, place: Place, *operations: dict[str, Any], **more: Any) -> Answer:
    headers = more.pop("headers", None)
    body = {"message": "several things", "operations": list(operations), **more}
    return client.post(f"{place.at}/changes", body, headers=headers)


def entries(client: Client, place: Place) -> list[Any]:
    return list(client.get(f"{place.at}/timeline?per_page=100").data)


def test_one_commit_for_everything(admin: Client, place: Place) -> None:
    admin.patch(f"{place.at}/memory", {"updates": {"old": 1, "same": 2}})
    admin.post(f"{place.at}/files", {"file_name": "gone.md", "content_base64": "eA=="})
    before = len(entries(admin, place))
    answer = submit(
        admin,
        place,
        {"op": "memory.set", "key": "k/1", "value": {"a": None}},
        {"op": "memory.set", "key": "same", "value": 2},
        {"op": "memory.delete", "key": "old"},
        {"op": "memory.delete", "key": "never was"},
        {"op": "spec.put", "value": {"tools": {"available": ["git"]}}},
        {"op": "spec.patch", "value": {"tools": {"blocked": ["rm"]}, "config": {"x": 1}}},
        {"op": "file.put", "file_name": "a.md", "content": "# Ünï\n", "description": "d"},
        {"op": "file.put", "file_name": "b.bin", "content_base64": base64.b64encode(b"\0\1").decode(), "key": "bin"},
        {"op": "file.delete", "key": "gone-md"},
        {"op": "settings.patch", "value": {"a": {"b": 1}}},
        {"op": "workspace.patch", "value": {"name": "New", "description": "told"}},
        headers={"X-Workflow-Id": "wf"},
    )
    record = place.read()
    assert answer.data["head"] == answer.data["commit"] == record["head"]
    assert record["memory"] == {"k/1": {"a": None}, "same": 2}
    assert (record["name"], record["description"], record["settings"]) == ("New", "told", {"a": {"b": 1}})
    spec = admin.get(f"{place.at}/spec")
    assert spec.data["spec"] == {"tools": {"available": ["git"], "blocked": ["rm"]}, "config": {"x": 1}}
    assert [one["key"] for one in admin.get(f"{place.at}/files").data] == ["a-md", "bin"]
    assert admin.get(f"{place.at}/files/a-md/content").body == "# Ünï\n".encode()
    assert record["current_spec_version"] == 1
    now = entries(admin, place)
    assert len(now) == before + 1
    assert (now[0]["name"], now[0]["kind"], now[0]["workflow_id"]) == ("several things", "changes", "wf")
    results = answer.data["results"]
    assert [one["op"] for one in results] == [
        "memory.set", "memory.set", "memory.delete", "memory.delete", "spec.put", "spec.patch", "file.put", "file.put",
        "file.delete", "settings.patch", "workspace.patch",
    ]  # fmt: skip
    assert [one["changed"] for one in results] == [True, False, True, False] + [True] * 7
    for at, path in (
        (0, "memory/k%2F1"), (1, "memory/same"), (4, "spec"), (5, "spec"), (6, "files/a-md"), (7, "files/bin"), (9, ""),
        (10, ""),
    ):  # fmt: skip
        assert f'"{results[at]["etag"]}"' == admin.get(f"{place.at}/{path}".rstrip("/")).etag, at
    assert [one.get("key") for one in results[:4]] == ["k/1", "same", "old", "never was"]
    assert results[4]["version"] == 1
    assert results[7]["id"] == admin.get(f"{place.at}/files/bin").data["id"]
    assert "etag" not in results[2]
    assert "etag" not in results[8]
    place.published()
    assert place.git("status", "--porcelain") == ""
    assert place.git("fsck", "--full", "--strict") == ""


def test_each_sees_the_earlier_ones(admin: Client, place: Place) -> None:
    answer = submit(
        admin,
        place,
        {"op": "memory.set", "key": "a", "value": 1},
        {"op": "memory.set", "key": "A", "value": 2},  # the same name where case does not count
        {"op": "memory.delete", "key": "a"},
        {"op": "memory.set", "key": "a", "value": 3},
        {"op": "file.put", "file_name": "x.md", "content": "1", "key": "one"},
        {"op": "file.put", "file_name": "x.md", "content": "2", "key": "two"},
        {"op": "file.delete", "key": "one"},
        {"op": "file.put", "file_name": "x.md", "content": "3", "key": "one"},
        {"op": "workspace.patch", "value": {"repository_url": "https://example.org/r.git"}},
        {"op": "settings.patch", "value": {"storage": {"type": "git_remote"}}},
        {"op": "settings.patch", "value": {"credentials": {"git_token": "t0ken-for-a-test"}, "x": 1}},
        {"op": "settings.patch", "value": {"x": None, "y": 2}},
    )
    assert [one["changed"] for one in answer.data["results"]] == [True] * 12
    record = place.read()
    assert record["memory"] == {"A": 2, "a": 3}
    assert [admin.get(f"{place.at}/files/{key}/content").body for key in ("one", "two")] == [b"3", b"2"]
    assert record["settings"]["credentials"]["git_token_configured"] is True
    assert {key: value for key, value in record["settings"].items() if key != "credentials"} == {
        "storage": {"type": "git_remote"}, "y": 2
    }  # fmt: skip
    assert record["problems"] == []
    submit(admin, place, {"op": "settings.patch", "value": {"credentials": None}})
    assert "credentials" not in place.read()["settings"]
    place.published()
    assert place.git("fsck", "--full", "--strict") == ""


def test_nothing_different(admin: Client, place: Place) -> None:
    head = admin.patch(f"{place.at}/memory", {"key": "a", "value": 1}).data["head"]
    answer = submit(
        admin,
        place,
        {"op": "memory.set", "key": "a", "value": 2},
        {"op": "memory.set", "key": "a", "value": 1},
        {"op": "settings.patch", "value": {}},
        {"op": "spec.patch", "value": {}},
    )
    assert (answer.data["commit"], answer.data["head"]) == (None, head)
    assert f'"{answer.data["results"][0]["etag"]}"' == admin.get(f"{place.at}/memory/a").etag


def test_one_kind_is_that_kind(admin: Client, place: Place) -> None:
    submit(admin, place, {"op": "memory.set", "key": "a", "value": 1}, {"op": "memory.set", "key": "b", "value": 1})
    assert entries(admin, place)[0]["kind"] == "memory.updated"
    submit(admin, place, {"op": "memory.set", "key": "a", "value": 2}, {"op": "memory.delete", "key": "b"})
    assert entries(admin, place)[0]["kind"] == "changes"


GOOD = {"op": "memory.set", "key": "good", "value": 1}


@pytest.mark.parametrize(
    ("operation", "code", "pointer"),
    [
        ({"op": "memory.set", "key": "k", "value": PEM}, (400, "VALIDATION_ERROR"), "/operations/1"),
        ({"op": "memory.set", "key": "k", "value": "x" * 1_048_600}, (400, "VALIDATION_ERROR"), "/operations/1"),
        ({"op": "spec.put", "value": {"resources": {"r": {"type": "no"}}}}, (400, "VALIDATION_ERROR"),
         "/operations/1/value/resources/r/type"),
        ({"op": "spec.patch", "value": {"tools": 1}}, (400, "VALIDATION_ERROR"), "/operations/1/value/tools"),
        ({"op": "settings.patch", "value": {"storage": {"type": "x"}}}, (400, "VALIDATION_ERROR"),
         "/operations/1/value/storage/type"),
        ({"op": "workspace.patch", "value": {"slug": "a b"}}, (400, "VALIDATION_ERROR"), "/operations/1"),
        ({"op": "file.put", "file_name": "..", "content": "x"}, (400, "VALIDATION_ERROR"), "/operations/1"),
        ({"op": "file.put", "file_name": "a", "content": ""}, (400, "VALIDATION_ERROR"),
         "/operations/1/content_base64"),
        ({"op": "file.put", "file_name": "a", "content_base64": "%"}, (400, "VALIDATION_ERROR"),
         "/operations/1/content_base64"),
        ({"op": "file.delete", "key": "none"}, (404, "NOT_FOUND"), "/operations/1"),
        ({"op": "memory.set", "key": "k", "value": 1, "if_match": "*"}, (412, "PRECONDITION_FAILED"), "/operations/1"),
        ({"op": "memory.set", "key": "here", "value": 1, "if_none_match": "*"}, (412, "PRECONDITION_FAILED"),
         "/operations/1"),
        ({"op": "memory.set", "key": "k", "value": 1, "if_match": '"a" b'}, (400, "MALFORMED_REQUEST"),
         "/operations/1"),
    ],
)  # fmt: skip
def test_all_or_nothing(
    admin: Client, place: Place, operation: dict[str, Any], code: tuple[int, str], pointer: str
) -> None:
    head = admin.patch(f"{place.at}/memory", {"key": "here", "value": 0}).data["head"]
    answer = submit(admin, place, GOOD, operation, GOOD)
    assert answer.code == code
    assert answer.error["details"]["pointer"] == pointer
    assert "/operations/1" in answer.error["message"]
    assert place.read()["head"] == head


def test_shapes(admin: Client, place: Place) -> None:
    at = f"{place.at}/changes"
    assert admin.post(at, {}).pointers == ["/message", "/operations"]
    assert admin.post(at, {"message": "m", "operations": []}).pointers == ["/operations"]
    assert admin.post(at, {"message": "m", "operations": [GOOD] * 501}).pointers == ["/operations"]
    bad = [
        {"op": "memory.set", "key": ""},
        {"op": "nothing"},
        {},
        1,
        {"op": "spec.put", "value": {"tools": 1}},
        {"op": "file.delete"},
        {"op": ["memory.set"]},
    ]
    assert admin.post(at, {"message": "m", "operations": bad}).pointers == [
        "/operations/0/key", "/operations/0/value", "/operations/1/op", "/operations/2/op", "/operations/3",
        "/operations/4/value/tools", "/operations/5/key", "/operations/6/op",
    ]  # fmt: skip
    both = {"op": "file.put", "file_name": "a", "content": "a", "content_base64": "eA=="}
    neither = {"op": "file.put", "file_name": "a"}
    nothing = {"op": "workspace.patch", "value": {}}
    assert submit(admin, place, both, neither, nothing).pointers == [
        "/operations/0", "/operations/1", "/operations/2/value"
    ]  # fmt: skip
    many = [{"op": "file.put", "file_name": f"{n}", "content": "a"} for n in range(11)]
    assert submit(admin, place, *many).pointers == ["/operations/10"]
    assert submit(admin, place, GOOD, expect_head="x").pointers == ["/expect_head"]


def test_if_match_is_the_state_before(admin: Client, place: Place) -> None:
    admin.patch(f"{place.at}/memory", {"key": "a", "value": 1})
    admin.post(f"{place.at}/files", {"file_name": "f.md", "content_base64": "eA=="})
    admin.put(f"{place.at}/spec", {"tools": {}})
    etags = {path: admin.get(f"{place.at}{path}").etag for path in ("/memory/a", "/files/f-md", "/spec", "")}
    plain = {path: etag.strip('"') for path, etag in etags.items()}
    answer = submit(
        admin,
        place,
        {"op": "memory.set", "key": "a", "value": 2, "if_match": etags["/memory/a"]},
        {"op": "memory.set", "key": "a", "value": 3, "if_match": plain["/memory/a"]},
        {"op": "file.put", "file_name": "f.md", "content": "y", "if_match": plain["/files/f-md"]},
        {"op": "spec.patch", "value": {"config": {}}, "if_match": plain["/spec"]},
        {"op": "settings.patch", "value": {"s": 1}, "if_match": plain[""]},
        {"op": "workspace.patch", "value": {"name": "n"}, "if_match": plain[""]},
        {"op": "memory.set", "key": "new", "value": 1, "if_none_match": "*"},
    )
    assert answer.data["commit"]
    for operation, path in (
        ({"op": "memory.delete", "key": "a"}, "/memory/a"),
        ({"op": "file.delete", "key": "f-md"}, "/files/f-md"),
        ({"op": "spec.put", "value": {}}, "/spec"),
        ({"op": "workspace.patch", "value": {"name": "m"}}, ""),
    ):
        failed = submit(admin, place, GOOD, {**operation, "if_match": plain[path]})
        assert failed.code == (412, "PRECONDITION_FAILED")
        assert failed.error["details"]["current"] == admin.get(f"{place.at}{path}").etag.strip('"')


def test_expect_head(admin: Client, place: Place) -> None:
    old = place.read()["head"]
    head = submit(admin, place, GOOD, expect_head=old).data["head"]
    failed = submit(admin, place, {**GOOD, "value": 2}, expect_head=old)
    assert failed.code == (412, "PRECONDITION_FAILED")
    assert failed.error["details"]["current"] == head
    etag = admin.get(place.at).etag
    assert submit(admin, place, {**GOOD, "value": 2}, headers={"If-Match": etag}).data["commit"]
    again = submit(admin, place, {**GOOD, "value": 3}, headers={"If-Match": etag})
    assert again.code == (412, "PRECONDITION_FAILED")


def test_an_agent_may_use_the_memory(agent: Client, place: Place) -> None:
    assert submit(agent, place, GOOD, {"op": "memory.delete", "key": "x"}).data["commit"]
    for operation in (
        {"op": "spec.patch", "value": {}},
        {"op": "file.put", "file_name": "a", "content": "a"},
        {"op": "file.delete", "key": "a"},
        {"op": "settings.patch", "value": {}},
        {"op": "workspace.patch", "value": {"name": "x"}},
        {"op": "spec.put", "value": {}},
    ):
        answer = submit(agent, place, GOOD, operation)
        assert answer.code == (403, "FORBIDDEN")
        assert answer.error["details"]["pointer"] == "/operations/1"


def test_a_slug_that_is_taken(admin: Client, place: Place, make: Callable[..., Place]) -> None:
    other = make()
    operation = {"op": "workspace.patch", "value": {"slug": other.slug}}
    assert submit(admin, place, GOOD, operation).code == (409, "CONFLICT")
    assert place.read()["memory"] == {}
    new = slug()
    assert submit(admin, place, GOOD, {"op": "workspace.patch", "value": {"slug": new}}).data["commit"]
    assert admin.get(f"/workspaces/{new}/memory").data == {"good": 1}


def test_the_same_request_is_made_once(admin: Client, place: Place) -> None:
    admin.patch(f"{place.at}/memory", {"updates": {"gone": 1, "same": 1}})
    admin.post(f"{place.at}/files", {"file_name": "gone.md", "content_base64": "eA=="})
    operations = [
        {"op": "memory.set", "key": "a", "value": 1},
        {"op": "memory.set", "key": "same", "value": 1},
        {"op": "memory.delete", "key": "gone"},
        {"op": "file.put", "file_name": "a.md", "content": "a"},
        {"op": "file.delete", "key": "gone-md"},
        {"op": "spec.put", "value": {"tools": {}}},
        {"op": "settings.patch", "value": {"x": 1}},
    ]
    first = submit(admin, place, *operations, request_id="once")
    assert "repeated" not in first.meta
    again = submit(admin, place, *operations, request_id="once")
    assert again.data == first.data
    assert again.meta["repeated"] is True
    admin.patch(f"{place.at}/memory", {"key": "a", "value": 2})
    later = submit(admin, place, *operations, request_id="once")
    assert later.data["commit"] == first.data["commit"]
    assert later.data["results"][:6] == first.data["results"][:6]
    assert later.data["results"][6] == {"op": "settings.patch", "changed": True}
    assert place.read()["memory"] == {"a": 2, "same": 1}
    other = submit(admin, place, *operations[:2], request_id="once")
    assert other.code == (409, "CONFLICT")
    entry = entries(admin, place)[1]
    assert (entry["request_id"], entry["kind"]) == ("once", "changes")
    cause = {"request_id": "once", "on_conflict": "keep"}
    kept = admin.post(f"{place.at}/revert", cause, headers={"X-Request-Id": "another"})
    assert [one["key"] for one in kept.data["conflicts"]] == ["a"]
    assert place.read()["memory"] == {"a": 2, "gone": 1, "same": 1}


def test_the_same_request_at_once(server: Server, place: Place) -> None:
    def one(number: int) -> Answer:
        with server.client() as client:
            return submit(client, place, {"op": "memory.set", "key": "n", "value": 1}, request_id="r")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(24)))
    assert len({str(answer.data) for answer in answers}) == 1
    with server.client() as client:
        assert len(entries(client, place)) == 2
