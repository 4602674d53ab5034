"""Workflows, their work items and tasks: light records that follow their state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from contract.client import TIME, UUID, Client, every, part, slug
from contract.conftest import Place, Server

RECORD = ["id", "tenant_id", "workspace_id", "name", "state", "playbook_id", "parameters", "context", "metadata",
          "brief",
          "created_by", "created_at", "updated_at", "started_at", "completed_at", "work_items", "tasks"]  # fmt: skip
TASK_STATES = [
    "pending",
    "ready",
    "claimed",
    "in_progress",
    "completed",
    "failed",
    "cancelled",
    "awaiting_approval",
    "escalated",
]


def create(client: Client, place: Place, **fields: Any) -> Any:
    answer = client.post(f"{place.at}/workflows", {"name": "w", **fields})
    assert answer.status == 201, answer.body
    return answer.data


def test_a_bare_workflow(agent: Client, place: Place) -> None:
    answer = agent.post(f"{place.at}/workflows", {"name": "Wörk"})
    assert answer.status == 201
    made = answer.data
    assert list(made) == RECORD
    assert UUID.fullmatch(made["id"])
    assert made["tenant_id"] == "00000000-0000-0000-0000-000000000001"
    assert made["workspace_id"] == place.id
    assert (made["name"], made["state"]) == ("Wörk", "pending")
    assert made["playbook_id"] is made["brief"] is made["started_at"] is made["completed_at"] is None
    assert made["parameters"] == made["context"] == made["metadata"] == {}
    assert made["work_items"] == made["tasks"] == []
    assert made["created_by"] == agent.get("/auth/me").data["prefix"]
    assert TIME.fullmatch(made["created_at"])
    read = agent.get(f"/workflows/{made['id']}")
    assert read.data == made
    assert read.etag == answer.etag


def test_a_whole_workflow_is_one_commit(agent: Client, place: Place) -> None:
    ids = [slug() for _ in range(4)]
    made = create(
        agent, place, id=ids[0], name="n", state="active", playbook_id="p", parameters={"z": 1, "a": 2},
        context={"c": None},
        metadata={"m": [1.5]}, brief="do it",
        work_items=[{"id": ids[1], "title": "item", "stage_name": "s", "state": "open"}, {"title": "other"}],
        tasks=[{"id": ids[2], "title": "task", "role": "dev", "stage_name": "s", "state": "ready",
                "work_item_id": ids[1]},
               {"id": ids[3], "title": "second"}],
    )  # fmt: skip
    assert made["id"] == ids[0]
    assert list(made["parameters"]) == ["z", "a"]
    assert made["work_items"][0] == {"id": ids[1], "title": "item", "stage_name": "s", "state": "open"}
    assert UUID.fullmatch(made["work_items"][1]["id"])
    assert made["tasks"] == sorted(
        [{"id": ids[2], "title": "task", "role": "dev", "stage_name": "s", "state": "ready", "work_item_id": ids[1]},
         {"id": ids[3], "title": "second", "role": None, "stage_name": None, "state": "pending", "work_item_id": None}],
        key=lambda task: task["id"],
    )  # fmt: skip
    assert made["started_at"] == made["created_at"]
    assert agent.get(f"/workflows/{ids[0]}").data == made
    assert agent.get(f"{place.at}/timeline").meta["total"] == 2
    place.published()
    assert place.git("rev-list", "--count", "evidence") == "1"
    assert place.git("fsck", "--strict") == ""
    assert place.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, "/name"), ({"name": ""}, "/name"), ({"name": "x" * 256}, "/name"), ({"name": "n", "state": "done"}, "/state"),
     ({"name": "n", "id": ""}, "/id"), ({"name": "n", "id": "x" * 256}, "/id"), ({"name": "n", "parameters": []},
         "/parameters"),
     ({"name": "n", "brief": ""}, "/brief"), ({"name": "n", "brief": "x" * 20001}, "/brief"),
     ({"name": "n", "work_items": [{}]}, "/work_items/0/title"), ({"name": "n", "tasks": [{"title": "t",
         "state": "x"}]}, "/tasks/0/state"),
     ({"name": "n", "metadata": None}, "/metadata"), ({"name": 5}, "/name")],
)  # fmt: skip
def test_a_workflow_of_the_wrong_shape(agent: Client, place: Place, body: Any, pointer: str) -> None:
    assert pointer in agent.post(f"{place.at}/workflows", body).pointers


@pytest.mark.parametrize(
    "identity", ["x" * 255, "é", "a b", "a/b", "..", ".git", "%", "A", "🧪" * 60, "con", "a.yaml", "~x"]
)
def test_ids_of_the_clients_choice(server: Server, agent: Client, place: Place, identity: str) -> None:
    flow, task = f"{identity[:240]}-{slug()}", f"{identity[:240]}+{slug()}"
    if identity == "x" * 255:
        flow, task = ("x" * 255 + slug())[-255:], ("y" * 255 + slug())[-255:]
    assert create(agent, place, id=flow, tasks=[{"id": task, "title": "t"}])["id"] == flow
    assert agent.get(f"/workflows/{part(flow)}").data["tasks"][0]["id"] == task
    assert agent.get(f"/tasks/{part(task)}/artifacts").data == []
    assert agent.patch(f"/workflows/{part(flow)}", {"state": "active"}).data["state"] == "active"
    place.published()
    assert place.git("fsck", "--strict") == ""


@pytest.mark.parametrize("identity", ["a\nb", "a\x7f", "\x1b[0m"])
def test_an_id_with_control_characters(agent: Client, place: Place, identity: str) -> None:
    assert agent.post(f"{place.at}/workflows", {"name": "n", "id": identity}).status in (201, 400)
    assert agent.post(f"{place.at}/workflows", {"name": "n", "id": identity}).status in (400, 409)


def test_an_id_is_unique_in_the_store(agent: Client, place: Place, make: Callable[..., Place]) -> None:
    other, flow, task = make(), slug(), slug()
    create(agent, place, id=flow, tasks=[{"id": task, "title": "t"}])
    for where in (place, other):
        assert agent.post(f"{where.at}/workflows", {"name": "n", "id": flow}).code == (409, "CONFLICT")
        body = {"name": "n", "tasks": [{"id": task, "title": "t"}]}
        assert agent.post(f"{where.at}/workflows", body).code == (409, "CONFLICT")
        assert agent.get(f"{where.at}/workflows").meta["total"] == (1 if where is place else 0)
    second = create(agent, place)["id"]
    assert agent.put(f"/workflows/{second}/tasks/{task}", {"title": "x"}).code == (409, "CONFLICT")


def test_one_of_many_gets_an_id(server: Server, place: Place, make: Callable[..., Place]) -> None:
    flow, statuses, places = slug(), [], [place, make()]

    def one(n: int) -> None:
        with server.client("agent") as client:
            statuses.append(client.post(f"{places[n % 2].at}/workflows", {"name": "n", "id": flow}).status)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(statuses) == [201] + [409] * 7


def test_times_follow_the_state(agent: Client, place: Place) -> None:
    flow = create(agent, place)["id"]

    def move(state: str) -> Any:
        return agent.patch(f"/workflows/{flow}", {"state": state}).data

    active = move("active")
    assert active["started_at"] == active["updated_at"]
    assert active["completed_at"] is None
    paused = move("paused")
    assert paused["started_at"] == active["started_at"]
    for end in ("completed", "failed", "cancelled"):
        ended = move(end)
        assert ended["completed_at"] == ended["updated_at"]
        assert ended["started_at"] == active["started_at"]
        assert move("active")["completed_at"] is None


def test_a_patch_changes_what_it_names(agent: Client, place: Place) -> None:
    made = create(agent, place, metadata={"a": 1}, context={"b": 2})
    answer = agent.patch(f"/workflows/{made['id']}", {"metadata": {"c": 3}})
    assert answer.data["metadata"] == {"c": 3}
    assert answer.data["context"] == {"b": 2}
    assert answer.etag == agent.get(f"/workflows/{made['id']}").etag
    before = agent.get(f"{place.at}/timeline").meta["total"]
    assert agent.patch(f"/workflows/{made['id']}", {"metadata": {"c": 3}, "name": "w"}).data == answer.data
    assert agent.get(f"{place.at}/timeline").meta["total"] == before
    assert agent.patch(f"/workflows/{made['id']}", {}).pointers == [""]
    assert agent.patch(f"/workflows/{made['id']}", {"state": "done"}).pointers == ["/state"]
    for name in (slug(), "%00", "x" * 300):
        assert agent.patch(f"/workflows/{name}", {"name": "n"}).code == (404, "NOT_FOUND")
        assert agent.get(f"/workflows/{name}").code == (404, "NOT_FOUND")


def test_work_items_and_tasks_are_put(agent: Client, place: Place) -> None:
    flow = create(agent, place)["id"]
    task = slug()
    board = agent.put(f"/workflows/{flow}/work-items/i%2F1", {"title": "I"})
    assert list(board.data) == RECORD
    assert board.data["work_items"] == [{"id": "i/1", "title": "I", "stage_name": None, "state": "pending"}]
    assert board.etag == agent.get(f"/workflows/{flow}").etag
    board = agent.put(f"/workflows/{flow}/work-items/i%2F1", {"state": "anything", "stage_name": "s"})
    assert board.data["work_items"] == [{"id": "i/1", "title": "I", "stage_name": "s", "state": "anything"}]
    made = agent.put(f"/workflows/{flow}/tasks/{task}", {"title": "T", "role": "dev", "work_item_id": "i/1"})
    assert made.data == {
        "id": task,
        "title": "T",
        "role": "dev",
        "stage_name": None,
        "state": "pending",
        "work_item_id": "i/1",
    }
    for state in TASK_STATES:
        assert agent.put(f"/workflows/{flow}/tasks/{task}", {"state": state}).data["state"] == state
    assert agent.put(f"/workflows/{flow}/tasks/{task}", {"role": None}).data["role"] is None
    assert agent.get(f"/workflows/{flow}").data["tasks"][0]["title"] == "T"
    assert agent.put(f"/workflows/{flow}/tasks/{task}", {"state": "paused"}).pointers == ["/state"]
    assert agent.put(f"/workflows/{flow}/tasks/{task}", {"title": ""}).pointers == ["/title"]
    assert agent.put(f"/workflows/{slug()}/tasks/{slug()}", {"title": "T"}).code == (404, "NOT_FOUND")
    assert agent.put(f"/workflows/{slug()}/work-items/i", {"title": "T"}).code == (404, "NOT_FOUND")
    for path in (f"/workflows/{flow}/tasks/{'x' * 256}", f"/workflows/{flow}/work-items/{'x' * 256}"):
        assert agent.put(path, {"title": "T"}).code == (400, "VALIDATION_ERROR")


def test_workflows_are_listed_newest_first(agent: Client, place: Place) -> None:
    ids = [create(agent, place, state="active" if n % 2 else "pending")["id"] for n in range(5)]
    assert [one["id"] for one in every(agent, f"{place.at}/workflows", 2)] == ids[::-1]
    assert [one["id"] for one in agent.get(f"{place.at}/workflows?state=active").data] == [ids[3], ids[1]]
    assert agent.get(f"{place.at}/workflows?state=done").pointers == ["/state"]
    assert list(agent.get(f"{place.at}/workflows").data[0]) == RECORD


# --- planning -------------------------------------------------------------------------------------------------------


def test_planning_needs_nothing_beforehand(admin: Client, make: Callable[..., Place]) -> None:
    place = make(name="My place")
    answer = admin.post(f"{place.at}/planning-workflow", {"brief": "Build it.\nWell."})
    assert answer.status == 201
    made = answer.data
    assert list(made) == RECORD
    assert (made["name"], made["state"], made["brief"]) == ("Planning: My place", "pending", "Build it.\nWell.")
    assert made["parameters"] == {
        "workspace_name": "My place",
        "workspace_brief": "Build it.\nWell.",
        "workspace_id": place.id,
    }
    assert made["metadata"] == {"planning_workflow": True}
    assert made["playbook_id"] is None
    assert admin.get(f"/workflows/{made['id']}").data == made
    assert admin.get(f"{place.at}/timeline").meta["total"] == 2


def test_planning_takes_the_playbook_of_the_settings(admin: Client, make: Callable[..., Place]) -> None:
    place = make(settings={"planning_playbook_id": "book-1"})
    made = admin.post(f"{place.at}/planning-workflow", {"brief": "b", "name": "Mine"}).data
    assert (made["playbook_id"], made["name"]) == ("book-1", "Mine")


def test_planning_of_a_workspace_with_the_longest_name(admin: Client, make: Callable[..., Place]) -> None:
    place = make(name="n" * 255)
    answer = admin.post(f"{place.at}/planning-workflow", {"brief": "b"})
    assert answer.status == 201, answer.body


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, "/brief"), ({"brief": ""}, "/brief"), ({"brief": "x" * 20001}, "/brief"), ({"brief": "b", "name": ""},
        "/name"),
     ({"brief": "b", "name": "x" * 256}, "/name"), ({"brief": 5}, "/brief")],
)  # fmt: skip
def test_planning_of_the_wrong_shape(admin: Client, place: Place, body: Any, pointer: str) -> None:
    assert admin.post(f"{place.at}/planning-workflow", body).pointers == [pointer]


def test_the_limits_of_planning(admin: Client, place: Place) -> None:
    body = {"brief": "é" * 20000, "name": "n" * 255}
    assert admin.post(f"{place.at}/planning-workflow", body).data["brief"] == "é" * 20000
