"""The timeline: one entry for each commit of both branches, who did it, through which door, on whose behalf."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import pytest

from contract.client import OID, Client, every, link, pages, slug
from contract.conftest import Place
from gitstore import schemas

ENTRY = ["id", "kind", "name", "state", "created_at", "actor", "door", "request_id", "workflow_id", "task_id",
         "changes",
         "changes_total"]  # fmt: skip


def newest(client: Client, place: Place, query: str = "") -> Any:
    return client.get(f"{place.at}/timeline?{query}").data[0]


def test_every_kind_of_change(admin: Client, place: Place) -> None:
    at, task = place.at, slug()
    x = {"file_name": "a.md", "content_base64": "eA=="}

    def check(kind: str, *changes: tuple[str, str, str | None], state: str = "completed") -> Any:
        entry = newest(admin, place)
        assert list(entry)[: len(ENTRY)] == ENTRY
        assert (entry["kind"], entry["state"], entry["door"]) == (kind, state, "api")
        assert OID.fullmatch(entry["id"])
        assert entry["name"]
        assert "\n" not in entry["name"]
        assert entry["actor"]["type"] == "admin"
        assert set(entry["actor"]) == {"type", "id", "name"}
        assert [(one["path"], one["op"], one.get("key")) for one in entry["changes"]] == list(changes)
        assert entry["changes_total"] == len(changes)
        return entry

    given = [(path, "added", None) for path in sorted(schemas.files())]
    check("workspace.created", *given, ("workspace.yaml", "added", None))
    admin.patch(at, {"name": "N"})
    check("workspace.updated", ("workspace.yaml", "changed", None))
    admin.patch(at, {"settings": {"a": 1}})
    check("settings.updated", ("settings.yaml", "added", None))
    admin.patch(at, {"settings": {"a": 2}, "name": "M"})
    assert newest(admin, place)["kind"] == "changes"
    admin.patch(f"{at}/memory", {"key": "K/1", "value": 1})
    check("memory.updated", ("memory/K%2F1.yaml", "added", "K/1"))
    admin.delete(f"{at}/memory/K%2F1")
    check("memory.deleted", ("memory/K%2F1.yaml", "deleted", "K/1"))
    admin.put(f"{at}/spec", {"tools": {}})
    check("spec.updated", ("spec/tools.yaml", "added", "tools"))
    admin.post(f"{at}/files", x)
    check("file.added", ("files/a.md", "added", "a-md"))
    admin.post(f"{at}/files", {**x, "content_base64": "eQ=="})
    check("file.replaced", ("files/a.md", "changed", "a-md"))
    admin.delete(f"{at}/files/a-md")
    check("file.deleted", ("files/a.md", "deleted", "a-md"))
    flow = admin.post(f"{at}/workflows", {"name": "the flow"}).data["id"]
    entry = newest(admin, place)
    assert (entry["kind"], entry["state"], entry["workflow_id"]) == ("workflow.created", "pending", flow)
    admin.patch(f"/workflows/{flow}", {"state": "active"})
    assert (newest(admin, place)["kind"], newest(admin, place)["state"]) == ("workflow.updated", "active")
    admin.put(f"/workflows/{flow}/work-items/i", {"title": "T"})
    assert newest(admin, place)["kind"] == "work_item.updated"
    admin.put(f"/workflows/{flow}/tasks/{task}", {"title": "T"})
    entry = newest(admin, place)
    assert (entry["kind"], entry["workflow_id"], entry["task_id"]) == ("task.updated", flow, task)
    art = admin.post(f"/tasks/{task}/artifacts", {"path": "a", "content_base64": "eA=="}).data
    entry = newest(admin, place)
    assert (entry["kind"], entry["workflow_id"], entry["task_id"], entry["id"]) == (
        "artifact.added",
        flow,
        task,
        art["commit"],
    )
    admin.delete(f"/tasks/{task}/artifacts/{art['id']}")
    assert newest(admin, place)["kind"] == "artifact.deleted"


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
def test_the_end_of_a_workflow(agent: Client, place: Place, state: str) -> None:
    flow = agent.post(f"{place.at}/workflows", {"name": "My run", "state": "active"}).data
    time.sleep(0.02)
    ended = agent.patch(f"/workflows/{flow['id']}", {"state": state}).data
    entry = newest(agent, place)
    assert list(entry) == [*ENTRY, "started_at", "completed_at", "duration_seconds"]
    assert (entry["kind"], entry["state"], entry["workflow_id"]) == (f"workflow.{state}", state, flow["id"])
    assert "My run" in entry["name"]
    assert (entry["started_at"], entry["completed_at"]) == (ended["started_at"], ended["completed_at"])
    assert 0.02 <= entry["duration_seconds"] < 5
    assert isinstance(entry["duration_seconds"], float | int)
    agent.patch(f"/workflows/{flow['id']}", {"state": "active"})
    assert "duration_seconds" not in newest(agent, place)
    old = agent.get(f"{place.at}/timeline?kind=workflow.{state}").data[0]
    assert old["completed_at"] == ended["completed_at"]  # what has been stays


def test_the_workflow_of_a_change_is_the_one_it_names(agent: Client, place: Place) -> None:
    flow = agent.post(f"{place.at}/workflows", {"name": "w"}, headers={"X-Workflow-Id": "parent"}).data["id"]
    assert newest(agent, place)["workflow_id"] in (flow, "parent")
    assert agent.get(f"{place.at}/timeline?workflow_id={flow}").meta["total"] >= 1
    assert agent.get(f"{place.at}/timeline?workflow_id=parent").meta["total"] >= 0


def test_it_is_newest_first_over_both_branches(agent: Client, place: Place) -> None:
    for n in range(4):
        agent.patch(f"{place.at}/memory", {"key": "k", "value": n})
        agent.post(f"{place.at}/workflows", {"name": f"w{n}"})
    entries = agent.get(f"{place.at}/timeline").data
    times = [entry["created_at"] for entry in entries]
    assert times == sorted(times, reverse=True)
    assert len(entries) == 9
    assert entries[-1]["kind"] == "workspace.created"
    place.published()
    assert {entry["id"] for entry in entries} == set(place.git("rev-list", "main", "evidence").split())


def test_pages_and_cursors_give_the_same(agent: Client, place: Place) -> None:
    for n in range(10):
        agent.patch(f"{place.at}/memory", {"key": "k", "value": n})
    whole = [entry["id"] for entry in agent.get(f"{place.at}/timeline").data]
    assert len(whole) == 11
    assert [entry["id"] for entry in every(agent, f"{place.at}/timeline", 4)] == whole
    found, cursor = [], ""
    for _ in range(20):
        answer = agent.get(f"{place.at}/timeline?per_page=4{cursor}")
        found += [entry["id"] for entry in answer.data]
        if answer.meta["next_cursor"] is None:
            break
        cursor = f"&cursor={quote(answer.meta['next_cursor'])}"
        agent.patch(f"{place.at}/memory", {"key": "while", "value": len(found)})  # newer entries do not shift it
    assert found == whole
    assert agent.get(f"{place.at}/timeline?per_page=100").meta["next_cursor"] is None
    first = agent.get(f"{place.at}/timeline?per_page=2")
    assert pages(first)[:2] == (1, 2)
    assert pages(agent.root("GET", link(first, "next")))[:2] == (2, 2)


@pytest.mark.parametrize("cursor", ["x", "", "AAAA", "%00", "🧪", "a" * 5000, "-1"])
def test_a_cursor_that_is_none(agent: Client, place: Place, cursor: str) -> None:
    assert agent.get(f"{place.at}/timeline?cursor={quote(cursor, safe='%')}").status in (400, 422)


def test_filters(admin: Client, agent: Client, place: Place) -> None:
    at = f"{place.at}/timeline"
    agent.patch(f"{place.at}/memory", {"key": "a", "value": 1}, headers={"X-Workflow-Id": "wf-1"})
    agent.patch(f"{place.at}/memory", {"key": "b", "value": 1})
    middle = newest(agent, place)["created_at"]
    time.sleep(0.01)
    admin.post(f"{place.at}/files", {"file_name": "a.md", "content_base64": "eA=="})

    def kinds(query: str) -> list[str]:
        answer = admin.get(f"{at}?{query}")
        assert len(answer.data) == answer.meta["total"]
        return [entry["kind"] for entry in answer.data]

    me = admin.get("/auth/me").data
    assert kinds("kind=memory.updated") == ["memory.updated"] * 2
    assert kinds("actor=agent") == ["memory.updated"] * 2
    assert kinds(f"actor={me['prefix']}") == kinds("actor=admin") == ["file.added", "workspace.created"]
    assert kinds(f"actor={quote(me['name'])}") == ["file.added", "workspace.created"]
    assert kinds("path=memory/a.yaml") == ["memory.updated"]
    assert kinds("path=memory") == kinds("path=memory/") == ["memory.updated"] * 2
    assert kinds("key=a") == ["memory.updated"]
    assert kinds("key=a-md") == ["file.added"]
    assert kinds("workflow_id=wf-1") == ["memory.updated"]
    assert kinds(f"since={middle}") == ["file.added", "memory.updated"]
    assert kinds(f"until={middle}") == ["memory.updated", "memory.updated", "workspace.created"]
    assert kinds(f"since={middle}&until={middle}&key=b") == ["memory.updated"]
    assert kinds("kind=memory.updated&actor=admin") == []
    for nothing in (
        "path=nowhere",
        "key=zzz",
        "actor=nobody",
        "workflow_id=none",
        "path=mem",
        "path=..",
        "path=%25",
        "key=%25",
    ):
        assert kinds(nothing) == [], nothing


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("kind=nothing", 422),
        ("since=yesterday", 400),
        ("until=2024-13-01T00:00:00Z", 400),
        ("page=x", 422),
        ("workflow_id=", 422),
    ],
)
def test_a_filter_that_makes_no_sense(agent: Client, place: Place, query: str, status: int) -> None:
    assert agent.get(f"{place.at}/timeline?{query}").status in (status, 422)


def test_at_most_a_hundred_changes_are_shown(agent: Client, place: Place) -> None:
    agent.patch(f"{place.at}/memory", {"updates": {f"k{n}": n for n in range(130)}})
    entry = newest(agent, place)
    assert len(entry["changes"]) == 100
    assert entry["changes_total"] == 130
    assert newest(agent, place, "key=k129")["id"] == entry["id"]


def test_an_unknown_workspace_is_404(agent: Client) -> None:
    assert agent.get(f"/workspaces/{slug()}/timeline").code == (404, "NOT_FOUND")
