"""Search across everything: what is found, where, in which order, and what is said of a query that is none."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest

from contract.client import Client, every, slug
from contract.conftest import Place, Server

ONLY = "quartzwhimsy"  # a word that no other test writes


class World:
    """Two workspaces in which every kind of thing has the word; made once."""

    def __init__(self, server: Server) -> None:
        with server.client() as admin:
            self.one, self.two = Place(server, admin), Place(server, admin)
            admin.patch(
                f"{self.one.at}/memory", {"key": f"{ONLY}/policy", "value": {"who": "ada", "say": "<b>Fünf</b>"}}
            )
            admin.patch(f"{self.one.at}/memory", {"key": "plan", "value": [f"the {ONLY} plan", "and the release plan"]})
            admin.put(f"{self.one.at}/spec", {"config": {"note": f"{ONLY} {ONLY} draft"}})
            content = base64.b64encode(f"# {ONLY}\n".encode()).decode()
            self.file = admin.post(f"{self.two.at}/files", {"file_name": "a.md", "content_base64": content}).data
            flow = {"name": f"Polish {ONLY}", "state": "active"}
            self.flow = admin.post(f"{self.two.at}/workflows", flow).data["id"]
            self.task = slug()
            admin.put(f"/workflows/{self.flow}/tasks/{self.task}", {"title": f"Cut {ONLY}", "role": "mason"})
            sent = {"path": f"out/{ONLY}.txt", "content_base64": base64.b64encode(b"nothing").decode()}
            self.artifact = admin.post(f"/tasks/{self.task}/artifacts", sent).data

    def ask(self, client: Client, q: str, more: str = "", at: str = "") -> list[Any]:
        return list(client.get(f"{at}/search?q={quote(q)}{more}").data)


@pytest.fixture(scope="module")
def world(server: Server) -> World:
    return World(server)


def test_one_list_of_every_kind(agent: Client, world: World) -> None:
    answer = agent.get(f"/search?q={ONLY}")
    assert {(row["kind"], row["id"]) for row in answer.data} == {
        ("memory", f"{ONLY}/policy"), ("memory", "plan"), ("spec", "config"), ("file", _file(world)),
        ("workflow", world.flow), ("task", world.task), ("artifact", world.artifact["id"]),
    }  # fmt: skip
    assert [row["score"] for row in answer.data] == sorted((row["score"] for row in answer.data), reverse=True)
    assert (answer.meta["total"], answer.meta["index"]) == (7, "ready")
    facets = answer.meta["facets"]
    assert {one["kind"]: one["count"] for one in facets["kinds"]} == {
        "memory": 2, "spec": 1, "file": 1, "workflow": 1, "task": 1, "artifact": 1,
    }  # fmt: skip
    assert [(one["id"], one["count"]) for one in facets["workspaces"]] == [(world.two.id, 4), (world.one.id, 3)]


def _file(world: World) -> str:
    return str(world.file["key"])


def test_each_row_leads_to_what_it_is(agent: Client, world: World) -> None:
    rows = {(row["kind"], row["id"]): row for row in world.ask(agent, ONLY)}
    for (kind, id_), row in rows.items():
        assert row["workspace"]["id"] == (world.one.id if kind in ("memory", "spec") else world.two.id)
        answer = agent.get(row["url"].removeprefix("/api/v1"))
        assert answer.status == 200, (kind, id_)
    assert rows["artifact", world.artifact["id"]]["title"] == f"out/{ONLY}.txt"
    assert f"<mark>{ONLY}</mark> plan" in rows["memory", "plan"]["highlight"]


def test_what_is_shown_is_escaped(agent: Client, world: World) -> None:
    (row,) = world.ask(agent, f"funf title:{ONLY}")
    assert "&lt;b&gt;<mark>Fünf</mark>&lt;/b&gt;" in row["highlight"]


@pytest.mark.parametrize(
    ("q", "ids"),
    [
        (f'{ONLY} "release plan"', {"plan"}),
        (f'{ONLY} "plan release"', set()),
        (f"{ONLY} kind:spec", {"config"}),
        (f"{ONLY} kind:memory -plan", {f"{ONLY}/policy"}),
        (f"{ONLY} -draft kind:spec", set()),
        (f"{ONLY[:-2]}* kind:spec", {"config"}),
        (f"title:{ONLY} kind:memory", {f"{ONLY}/policy"}),
        (f"{ONLY} text:plan", {"plan"}),
        (f"{ONLY} role:nobody", set()),
    ],
)
def test_the_query_language(agent: Client, world: World, q: str, ids: set[str]) -> None:
    assert {row["id"] for row in world.ask(agent, q)} == ids


def test_filters_and_pages(agent: Client, world: World) -> None:
    assert {row["kind"] for row in world.ask(agent, ONLY, "&kind=memory,%20spec")} == {"memory", "spec"}
    assert {row["id"] for row in world.ask(agent, f"{ONLY} role:mason")} == {world.task, world.artifact["id"]}
    assert len(world.ask(agent, ONLY, f"&workspace={world.one.slug},{world.two.id}")) == 7
    assert len(world.ask(agent, ONLY, f"&workspace={world.one.slug}")) == 3
    assert len(world.ask(agent, ONLY, at=world.two.at)) == 4
    rows = every(agent, f"/search?q={ONLY}")
    assert len({(row["kind"], row["id"]) for row in rows}) == 7
    newest = world.ask(agent, ONLY, "&sort=newest")
    times = [row["updated_at"] for row in newest]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("q=", "/q"), ("", "/q"), ("q=-x", "/q"), ("q=%22x", "/q"), ("q=nofield:x", "/q"), ("q=a*", "/q"),
        ("q=x&kind=thing", "/kind"), ("q=x&page=0", "/page"), ("q=x&sort=oldest", "/sort"), ("q=" + 501 * "x", "/q"),
    ],
)  # fmt: skip
def test_what_is_no_query(agent: Client, world: World, query: str, pointer: str) -> None:
    for at in ("", world.one.at):
        assert agent.get(f"{at}/search?{query}").pointers == [pointer]


def test_where_nothing_can_be(agent: Client, world: World) -> None:
    assert agent.get(f"/search?q={ONLY}&workspace=nowhere-{slug()}").code == (404, "NOT_FOUND")
    assert agent.get(f"/workspaces/{slug()}/search?q=x").code == (404, "NOT_FOUND")


def test_a_write_is_found_at_once_and_what_is_gone_is_not(admin: Client, agent: Client, server: Server) -> None:
    place, word = Place(server, admin), f"opal{slug().replace('-', '')[:8]}"
    for n in range(5):
        admin.patch(f"{place.at}/memory", {"key": "k", "value": f"{word} {n}"})
        assert [row["id"] for row in agent.get(f"/search?q={word}%20{n}").data] == ["k"]
        assert agent.get(f"/search?q={word}%20{n + 1}").data == []
    admin.delete(f"{place.at}/memory/k")
    assert agent.get(f"/search?q={word}").data == []
    admin.patch(f"{place.at}/memory", {"key": "k", "value": word})
    admin.delete(place.at)
    answer = agent.get(f"/search?q={word}")
    assert (answer.data, answer.meta["total"], answer.meta["facets"]["workspaces"]) == ([], 0, [])
