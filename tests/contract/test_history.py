"""Histories, blame, differences and the search through history over HTTP: shapes, paging, what is refused."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from contract.client import OID, TIME, Client, every
from contract.conftest import Place

STAMP = ["commit", "created_at", "kind", "name", "actor", "door", "request_id", "workflow_id", "task_id"]


def put(client: Client, place: Place, key: str, value: Any, **headers: str) -> str:
    """Sets one slot; the commit."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return str(client.patch(f"{place.at}/memory", {"key": key, "value": value}, headers=named).data["head"])


def test_the_history_of_a_key(admin: Client, agent: Client, place: Place) -> None:
    at = f"{place.at}/memory/release%2Fpolicy/history"
    key = "release/policy"
    first = put(admin, place, key, {"days": 5})
    put(admin, place, "other", 1)
    second = put(agent, place, key, None, X_Workflow_Id="run-7", X_Task_Id="t-1", X_Request_Id="r-1")
    head = admin.delete(f"{place.at}/memory/release%2Fpolicy").data["head"]
    third = put(agent, place, key, [1, 2])
    answer = agent.get(at)
    assert answer.meta["total"] == 4
    assert answer.meta["next_cursor"] is None
    rows = answer.data
    assert [(row["commit"], row["op"]) for row in rows] == [
        (third, "added"), (head, "deleted"), (second, "changed"), (first, "added"),
    ]  # fmt: skip
    assert [row.get("value", "nothing") for row in rows] == [[1, 2], "nothing", None, {"days": 5}]
    assert list(rows[0]) == [*STAMP, "op", "key", "path", "value"]
    assert (rows[2]["workflow_id"], rows[2]["task_id"], rows[2]["request_id"]) == ("run-7", "t-1", "r-1")
    assert rows[2]["actor"]["type"] == "agent"
    assert TIME.fullmatch(rows[0]["created_at"])
    assert rows[0]["path"] == "memory/release%2Fpolicy.yaml"
    assert [row["commit"] for row in every(agent, at, 3)] == [third, head, second, first]
    page = agent.get(f"{at}?per_page=2")
    put(agent, place, key, "newer")
    rest = agent.get(f"{at}?per_page=2&cursor={page.meta['next_cursor']}")
    assert [row["commit"] for row in page.data + rest.data] == [third, head, second, first]


def test_a_key_too_long_for_a_name_has_a_history_and_blame(admin: Client, place: Place) -> None:
    key = "k" * 256
    first, second = put(admin, place, key, {"a": 1, "b": 1}), put(admin, place, key, {"a": 1, "b": 2})
    at = f"{place.at}/memory/{key}"
    assert [row["value"] for row in admin.get(f"{at}/history").data] == [{"a": 1, "b": 2}, {"a": 1, "b": 1}]
    assert [(row["pointer"], row["commit"]) for row in admin.get(f"{at}/blame").data] == [("/a", first), ("/b", second)]
    assert [row["pointer"] for row in admin.get(f"{at}/blame?path=/b").data] == ["/b"]


def test_blame_of_a_key(admin: Client, place: Place) -> None:
    one = put(admin, place, "plan", {"owner": "ada", "steps": [{"id": "a", "done": False}], "note": ""})
    two = put(admin, place, "plan", {"owner": "ada", "steps": [{"id": "b"}, {"id": "a", "done": True}], "note": ""})
    at = f"{place.at}/memory/plan/blame"
    answer = admin.get(at)
    assert [(row["pointer"], row["value"], row["commit"]) for row in answer.data] == [
        ("/owner", "ada", one),
        ("/steps/0/id", "b", two),
        ("/steps/1/id", "a", one),
        ("/steps/1/done", True, two),
        ("/note", "", one),
    ]
    assert list(answer.data[0]) == ["pointer", "value", *STAMP]
    assert [row["commit"] for row in admin.get(f"{at}?path=/steps/1").data] == [one, two]
    then = admin.get(f"{at}?at={one[:10]}")
    assert {row["commit"] for row in then.data} == {one}
    assert then.headers["Gitstore-At"] == one
    assert admin.get(at, headers={"If-None-Match": answer.etag}).status == 304
    put(admin, place, "plan", "whole")
    assert [(row["pointer"], row["value"]) for row in admin.get(at).data] == [("", "whole")]
    assert admin.get(f"{at}?at={two}").data == answer.data
    put(admin, place, "plan", {"owner": "ada"})
    assert admin.get(f"{at}?path=/nowhere").code == (404, "NOT_FOUND")
    assert admin.get(f"{at}?path=owner").code == (400, "VALIDATION_ERROR")
    assert admin.get(f"{place.at}/memory/never/blame").code == (404, "NOT_FOUND")
    assert admin.get(f"{at}?at={place.record['head']}").code == (404, "NOT_FOUND")


def test_the_history_and_blame_of_files(admin: Client, place: Place) -> None:
    for data in ("b25lCnR3bwo=", "b25lCjIK"):  # one two, one 2
        admin.post(f"{place.at}/files", {"file_name": "guide.md", "content_base64": data})
    rows = admin.get(f"{place.at}/history?path=files/guide.md").data
    assert [(row["op"], row["size"]) for row in rows] == [("changed", 6), ("added", 8)]
    assert {row["key"] for row in rows} == {"guide-md"}
    assert list(rows[0]) == [*STAMP, "op", "key", "path", "blob", "size"]
    assert OID.fullmatch(rows[0]["blob"])
    blame = admin.get(f"{place.at}/blame?path=files/guide.md").data
    assert blame["type"] == "text"
    assert [(row["line"], row["text"], row["commit"]) for row in blame["rows"]] == [
        (1, "one", rows[1]["commit"]), (2, "2", rows[0]["commit"]),
    ]  # fmt: skip
    document = admin.get(f"{place.at}/blame?path=workspace.yaml").data
    assert document["type"] == "values"
    assert document["rows"][0]["pointer"] == "/id"
    admin.post(f"{place.at}/files", {"file_name": "raw.bin", "content_base64": "AAH/"})
    assert admin.get(f"{place.at}/blame?path=files/raw.bin").code == (400, "VALIDATION_ERROR")
    for path in ("files", "nowhere.md", "../x", "files/guide.md/x"):
        for route in ("history", "blame"):
            answer = admin.get(f"{place.at}/{route}?path={quote(path, safe='')}")
            assert answer.code == (404, "NOT_FOUND"), path
            assert path in answer.error["message"]
    assert admin.get(f"{place.at}/history").pointers == ["/path"]
    assert admin.get(f"{place.at}/blame").pointers == ["/path"]
    assert admin.get(f"{place.at}/history?path=files/guide.md&cursor=x").code == (400, "VALIDATION_ERROR")


def test_the_evidence_has_a_history_too(agent: Client, place: Place) -> None:
    flow = agent.post(f"{place.at}/workflows", {"name": "w"}).data["id"]
    agent.patch(f"/workflows/{flow}", {"state": "active"})
    (path,) = {change["path"] for change in agent.get(f"{place.at}/timeline?per_page=2").data[0]["changes"]}
    rows = agent.get(f"{place.at}/history?path={path}&branch=evidence").data
    assert [row["kind"] for row in rows] == ["workflow.updated", "workflow.created"]
    assert agent.get(f"{place.at}/history?path={path}").code == (404, "NOT_FOUND")
    rows = agent.get(f"{place.at}/blame?path={path}&branch=evidence").data["rows"]
    by = {row["pointer"]: row["kind"] for row in rows}
    assert (by["/name"], by["/state"]) == ("workflow.created", "workflow.updated")
    old, new = (agent.get(f"{place.at}/timeline?kind=workflow.{word}").data[0]["id"] for word in ("created", "updated"))
    found = agent.get(f"{place.at}/diff?from={old}&to={new}&branch=evidence").data
    assert "/state" in [one["pointer"] for one in found["files"][0]["values"]]


def test_one_commit_with_what_it_changed(admin: Client, agent: Client, place: Place) -> None:
    put(admin, place, "a", {"x": 1, "y": [1]})
    commit = put(agent, place, "a", {"x": 2, "y": [1, 2]})
    answer = agent.get(f"{place.at}/timeline/{commit}")
    listed = agent.get(f"{place.at}/timeline?per_page=1").data[0]
    assert {name: value for name, value in answer.data.items() if name in listed} == listed
    assert list(answer.data) == [*listed, "parents", "diff", "diff_total"]
    (file,) = answer.data["diff"]
    assert file["values"] == [
        {"op": "changed", "pointer": "/x", "old": 1, "new": 2},
        {"op": "added", "pointer": "/y/1", "new": 2},
    ]
    (hunk,) = file["hunks"]
    assert list(hunk) == ["old_start", "old_lines", "new_start", "new_lines", "lines"]
    assert hunk["lines"][1:4] == ["-x: 1", "+x: 2", ' "y":']
    assert (file["type"], file["part"], file["key"], file["truncated"]) == ("values", "memory", "a", False)
    assert agent.get(f"{place.at}/timeline/{commit[:7].upper()}").data == answer.data
    assert agent.get(f"{place.at}/timeline/{commit}", headers={"If-None-Match": answer.etag}).status == 304
    made = agent.get(f"{place.at}/timeline/{place.record['head']}?per_page=3").data
    assert made["parents"] == []
    assert len(made["diff"]) == 3 < made["diff_total"]
    only = agent.get(f"{place.at}/timeline/{place.record['head']}?path=workspace.yaml").data
    assert ([one["path"] for one in only["diff"]], only["diff_total"]) == (["workspace.yaml"], 1)
    for wrong in ("0" * 40, "abc", "zzzzzz", "HEAD", "2026-01-01T00:00:00Z", "a" * 41):
        assert agent.get(f"{place.at}/timeline/{wrong}").code == (404, "NOT_FOUND"), wrong


def test_the_difference_of_two_moments(admin: Client, place: Place) -> None:
    start = place.record["head"]
    for n in range(5):
        end = put(admin, place, f"k{n}", n)
    answer = admin.get(f"{place.at}/diff?from={start}&per_page=2")
    assert (answer.meta["total"], answer.data["to"]["asked"], answer.data["to"]["main"]) == (5, "now", end)
    assert [file["path"] for file in answer.data["files"]] == ["memory/k0.yaml", "memory/k1.yaml"]
    assert answer.data["files"][0]["values"] == [{"op": "added", "pointer": "", "new": 0}]
    assert answer.data["files"][0]["old"] is None
    names = admin.get(f"{place.at}/diff?from={start}&per_page=1&page=2&name_status=true")
    assert names.meta["total"] == 5
    assert names.data["files"] == [{"path": "memory/k1.yaml", "op": "added", "part": "memory", "key": "k1"}]
    back = admin.get(f"{place.at}/diff?from=now&to={start}&path=memory/k3.yaml").data["files"]
    assert [(file["op"], file["path"]) for file in back] == [("deleted", "memory/k3.yaml")]
    assert admin.get(f"{place.at}/diff?from={end}").data["files"] == []
    assert admin.get(f"{place.at}/diff?from={start}&branch=evidence").data["files"] == []
    assert admin.get(f"{place.at}/diff").pointers == ["/from"]
    assert admin.get(f"{place.at}/diff?from={start}&branch=x").pointers == ["/branch"]
    assert admin.get(f"{place.at}/diff?from=v9").code == (404, "NOT_FOUND")
    patch = admin.get(f"{place.at}/diff?from={end}", headers={"Accept": "text/x-diff"})
    assert (patch.status, patch.body) == (200, b"")


def test_filters_of_the_timeline_by_door_task_and_name(admin: Client, place: Place) -> None:
    put(admin, place, "Straße", 1, X_Task_Id="t-9")
    at = f"{place.at}/timeline"
    assert [row["task_id"] for row in admin.get(f"{at}?task_id=t-9").data] == ["t-9"]
    assert [row["task_id"] for row in admin.get(f"{at}?q=STRASSE").data] == ["t-9"]
    assert admin.get(f"{at}?q=nothing%20like%20it").data == []
    assert admin.get(f"{at}?door=api").meta["total"] == 2
    assert admin.get(f"{at}?door=git").data == []
    assert admin.get(f"{at}?door=window").pointers == ["/door"]


def search(client: Client, place: Place, query: str) -> list[tuple[Any, ...]]:
    rows = client.get(f"{place.at}/history/search?{query}").data
    return [(row["path"], row["from"]["commit"], row["until"] and row["until"]["commit"]) for row in rows]


def test_when_a_text_was_held(admin: Client, place: Place) -> None:
    first = put(admin, place, "policy", {"owner": "Ada Lovelace", "days": 5})
    put(admin, place, "policy", {"owner": "Ada Lovelace", "days": 6})
    gone = put(admin, place, "policy", {"owner": "Grace", "days": 6})
    again = put(admin, place, "policy", {"owner": "Grace", "was": ["x", 'ada\tlovelace said "ada lovelace"']})
    other = put(admin, place, "note", "ask ada lovelace")
    path = "memory/policy.yaml"
    held = [("memory/note.yaml", other, None), (path, again, None), (path, first, gone)]
    assert search(admin, place, "q=ADA+lovelace") == held
    assert search(admin, place, "q=ADA+lovelace&key=policy") == held[1:]
    assert search(admin, place, "q=ADA+lovelace&path=memory/note.yaml") == held[:1]
    assert search(admin, place, "q=ADA+lovelace&part=spec") == []
    assert search(admin, place, "q=never") == []
    assert search(admin, place, "q=never&path=.gitstore") != []  # it is passed over unless it is asked for
    rows = admin.get(f"{place.at}/history/search?q=lovelace&key=policy").data
    assert [(row["pointer"], row["part"], row["key"]) for row in rows] == [
        ("/was/1", "memory", "policy"), ("/owner", "memory", "policy"),
    ]  # fmt: skip
    assert rows[1]["excerpt"] == "Ada Lovelace"
    assert list(rows[1]["from"]) == STAMP
    quotation = quote('said "ada')
    assert search(admin, place, f"q={quotation}") == [(path, again, None)]
    found, cursor = [], ""
    while True:
        answer = admin.get(f"{place.at}/history/search?q=ada+lovelace&per_page=1{cursor}")
        found += answer.data
        if answer.meta["next_cursor"] is None:
            break
        cursor = f"&cursor={quote(answer.meta['next_cursor'])}"
        put(admin, place, "while", f"ada lovelace {len(found)}")  # what is newer does not shift it
    assert [row["from"]["commit"] for row in found] == [one[1] for one in held]
    assert TIME.fullmatch(answer.meta["reached"])
    assert admin.get(f"{place.at}/history/search").pointers == ["/q"]
    for wrong in ("x", "AAAA.0", "é.1", "-"):
        assert admin.get(f"{place.at}/history/search?q=a&cursor={quote(wrong)}").code == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "what",
    ["timeline/0000", "diff?from=now", "history?path=a", "blame?path=a", "history/search?q=a", "memory/a/history",
     "memory/a/blame"],
)  # fmt: skip
def test_of_an_unknown_workspace_there_is_nothing(agent: Client, what: str) -> None:
    assert agent.get(f"/workspaces/nowhere-at-all/{what}").code == (404, "NOT_FOUND")
