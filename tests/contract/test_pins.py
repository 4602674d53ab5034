"""An artifact that is pinned outlives the retention of its workflow; one that was deleted leaves a mark."""

from __future__ import annotations

import base64
from typing import Any

from contract.client import Client, slug
from contract.conftest import Place


def add(agent: Client, place: Place, path: str, **more: Any) -> dict[str, Any]:
    sent = {"path": path, "content_base64": base64.b64encode(path.encode()).decode(), **more}
    made: dict[str, Any] = agent.post(f"{place.at}/artifacts", sent).data
    return made


def explored(agent: Client, place: Place) -> set[str]:
    return {row["id"] for row in agent.get(f"{place.at}/artifacts").data}


def test_a_pinned_artifact_outlives_its_workflow(agent: Client, place: Place) -> None:
    flow = slug()
    kept = {"artifact_retention": {"mode": "ephemeral"}}
    agent.post(f"{place.at}/workflows", {"name": flow, "id": flow, "metadata": kept})
    one, other = (add(agent, place, path, workflow_id=flow) for path in ("out/one.txt", "out/other.txt"))
    assert one["pinned"] is False
    pinned = agent.put(f"{place.at}/artifacts/{one['id']}/pin", None)
    assert pinned.status == 200
    assert pinned.data["pinned"] is True
    assert pinned.data["retention_policy"] == {"mode": "forever"}
    assert pinned.data["created_at"] == one["created_at"]
    again = agent.put(f"{place.at}/artifacts/{one['id']}/pin", None)
    assert again.data == pinned.data, "a pin that is there makes no commit"
    agent.patch(f"/workflows/{flow}", {"state": "completed"})
    assert explored(agent, place) == {one["id"]}
    assert agent.get(f"{place.at}/artifacts/{other['id']}").status == 404
    assert agent.get(f"{place.at}/artifacts/{one['id']}").body == b"out/one.txt"
    place.published()
    assert "pinned: true" in place.git("show", f"evidence:{folder(one['id'])}/artifact.yaml")
    told = agent.get(f"{place.at}/timeline?kind=artifact.updated").data
    assert [row["name"] for row in told] == ["artifact: pin out/one.txt"]
    unpinned = agent.delete(f"{place.at}/artifacts/{one['id']}/pin")
    assert unpinned.status == 200
    assert unpinned.data["pinned"] is False
    assert explored(agent, place) == set()
    assert agent.put(f"{place.at}/artifacts/{one['id']}/pin", None).status == 404, "it has expired"


def folder(identity: str) -> str:
    from gitstore import names

    return names.artifact_folder(identity)


def test_a_deleted_artifact_leaves_a_mark(agent: Client, admin: Client, place: Place) -> None:
    one = add(agent, place, "out/gone.txt")
    at = f"{place.at}/artifacts/{one['id']}"
    assert agent.delete(at).status == 204
    for answer in (agent.get(at), admin.get(f"{at}/permalink"), agent.put(f"{at}/pin", None), agent.delete(at)):
        assert answer.status == 404
        deleted = answer.error["details"]["deleted"]
        assert deleted["name"] == "out/gone.txt"
        assert deleted["actor"]["type"] == "agent"
        assert deleted["created_at"].endswith("Z")
    entry = agent.get(f"{place.at}/timeline?kind=artifact.deleted").data[0]
    assert (entry["id"], entry["created_at"]) == (deleted["commit"], deleted["created_at"])
    assert agent.get(f"{at}?at={one['commit']}").body == b"out/gone.txt", "its history stays"
    never = agent.get(f"{place.at}/artifacts/8f4c1c52-6a0d-4b7e-9d35-1f0a7b7c2e10")
    assert never.status == 404
    assert "deleted" not in (never.error.get("details") or {})
