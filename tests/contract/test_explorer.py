"""The explorer of artifacts: every filter, every order, words in path, content and titles, and what it counts."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import quote

import pytest

from contract.client import Client, every, pages, slug
from contract.conftest import Place, Server

ROW = ["id", "workflow_id", "task_id", "logical_path", "content_type", "size_bytes", "created_at", "download_url",
       "metadata",
       "workflow_name", "workflow_state", "work_item_id", "work_item_title", "stage_name", "role", "task_title",
       "task_state",
       "preview_eligible", "preview_mode", "content_indexed"]  # fmt: skip
SUMMARY = [
    "total_artifacts",
    "previewable_artifacts",
    "total_bytes",
    "workflow_count",
    "work_item_count",
    "task_count",
    "role_count",
]
FILTERS = ["workflows", "work_items", "tasks", "stages", "roles", "content_types"]


class World:
    """Two workflows, three tasks and eight artifacts; made once."""

    def __init__(self, server: Server) -> None:
        with server.client() as admin:
            self.place = Place(server, admin)
            self.at = f"{self.place.at}/artifacts"
            self.item = f"i-{slug()}"
            self.tasks = [slug() for _ in range(3)]
            one, two, three = self.tasks
            self.flows = [
                admin.post(f"{self.place.at}/workflows", body).data["id"]
                for body in (
                    {"name": "Zebra release", "state": "active",
                     "work_items": [{"id": self.item, "title": "Décor cleanup", "stage_name": "design"}],
                     "tasks": [{"id": one, "title": "Write notes", "role": "writer", "stage_name": "draft",
                                "state": "completed",
                                "work_item_id": self.item},
                               {"id": two, "title": "Check", "role": "tester", "stage_name": "verify"}]},
                    {"name": "Apple fix", "tasks": [{"id": three, "title": "Fix it", "role": "dev"}]},
                )
            ]  # fmt: skip
            self.made: dict[str, Any] = {}
            for name, task, data, kind in (
                ("notes/Release Notes.md", one, b"# The quick brown fox", None),
                ("notes/summary.txt", one, "Überraschung naïve café".encode(), None),
                ("out/report.json", two, b'{"needle": "haystack-42"}', None),
                ("out/screen.png", two, b"\x89PNG" + b"x" * 5000, None),
                ("dist/app.tar.gz", three, b"z" * 3000, None),
                ("dist/plan.pdf", three, b"%PDF-1.4 y", None),
            ):
                body = {"path": name, "content_base64": base64.b64encode(data).decode()}
                if kind is not None:
                    body["content_type"] = kind
                self.made[name] = admin.post(f"/tasks/{task}/artifacts", body).data
                time.sleep(0.003)
            for name in ("loose_100%.txt", "b/LOOSE.txt"):
                body = {"path": name, "content_base64": "eA=="}
                self.made[name] = admin.post(self.at, body).data
                time.sleep(0.003)

    @property
    def newest(self) -> list[str]:
        return list(reversed(self.made))


@pytest.fixture(scope="module")
def world(server: Server) -> World:
    return World(server)


def paths(client: Client, world: World, query: str = "") -> list[str]:
    answer = client.get(f"{world.at}?{query}")
    assert answer.status == 200, (query, answer.body)
    assert answer.meta["summary"]["total_artifacts"] == answer.meta["total"]
    return [row["logical_path"] for row in answer.data]


def test_rows_summary_and_filters(agent: Client, world: World) -> None:
    answer = agent.get(world.at)
    assert pages(answer) == (1, 20, 8, 1)
    assert [row["logical_path"] for row in answer.data] == world.newest
    rows = {row["logical_path"]: row for row in answer.data}
    assert all(list(row) == ROW for row in rows.values())
    row, made = rows["notes/Release Notes.md"], world.made["notes/Release Notes.md"]
    for name in (
        "id",
        "workflow_id",
        "task_id",
        "content_type",
        "size_bytes",
        "created_at",
        "download_url",
        "metadata",
    ):
        assert row[name] == made[name]
    assert (row["workflow_name"], row["workflow_state"]) == ("Zebra release", "active")
    assert (row["work_item_id"], row["work_item_title"]) == (world.item, "Décor cleanup")
    assert (row["stage_name"], row["role"]) == ("draft", "writer")
    assert (row["task_title"], row["task_state"]) == ("Write notes", "completed")
    assert (row["preview_eligible"], row["preview_mode"]) == (True, "text")
    loose = rows["loose_100%.txt"]
    assert (loose["workflow_id"], loose["workflow_name"]) == (None, "Unscoped workflow")
    assert (loose["task_id"], loose["task_title"], loose["task_state"]) == (None, None, "unknown")
    summary = answer.meta["summary"]
    assert list(summary) == SUMMARY
    assert summary == {"total_artifacts": 8, "previewable_artifacts": 7,
                       "total_bytes": sum(one["size_bytes"] for one in world.made.values()), "workflow_count": 2,
                       "work_item_count": 1, "task_count": 3, "role_count": 3}  # fmt: skip
    filters = answer.meta["filters"]
    assert list(filters) == FILTERS
    assert filters["workflows"] == [
        {"id": world.flows[1], "name": "Apple fix"},
        {"id": world.flows[0], "name": "Zebra release"},
    ]
    assert filters["work_items"] == [
        {"id": world.item, "title": "Décor cleanup", "workflow_id": world.flows[0], "stage_name": "design"}
    ]
    assert [one["title"] for one in filters["tasks"]] == ["Check", "Fix it", "Write notes"]
    assert all(list(one) == ["id", "title", "workflow_id", "work_item_id", "stage_name"] for one in filters["tasks"])
    assert filters["roles"] == ["dev", "tester", "writer"]
    assert set(filters["stages"]) >= {"draft", "verify"}
    assert filters["content_types"] == sorted({one["content_type"] for one in world.made.values()})


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("release", ["notes/Release Notes.md", "notes/summary.txt", "out/report.json", "out/screen.png"]),
        ("NOTES", ["notes/Release Notes.md", "notes/summary.txt"]),
        ("quick fox", ["notes/Release Notes.md"]),
        ("fox quick", ["notes/Release Notes.md"]),
        ("quick nowhere", []),
        ("uberraschung", ["notes/summary.txt"]),
        ("CAFÉ", ["notes/summary.txt"]),
        ("naive", ["notes/summary.txt"]),
        ("needle", ["out/report.json"]),
        ("haystack-42", ["out/report.json"]),
        ("decor", ["notes/Release Notes.md", "notes/summary.txt"]),
        ("tester", ["out/report.json", "out/screen.png"]),
        ("verify", ["out/report.json", "out/screen.png"]),
        ("apple", ["dist/app.tar.gz", "dist/plan.pdf"]),
        ("app.tar", ["dist/app.tar.gz"]),
        ("creen", ["out/screen.png"]),
        ("st/pl", ["dist/plan.pdf"]),
        ("100%", ["loose_100%.txt"]),
        ("loose", ["loose_100%.txt", "b/LOOSE.txt"]),
        ("zzzz", []),
        ("  ", None),
    ],
)
def test_words(agent: Client, world: World, query: str, found: list[str] | None) -> None:
    expected = set(world.made) if found is None else set(found)
    assert set(paths(agent, world, f"q={quote(query)}")) == expected


@pytest.mark.parametrize(
    "query",
    ['"', '"unclosed', "(", ")", "a AND", "OR", "NOT", "*", "?", "a*b", "^", "~", "title:x", "path:", "[a TO b]",
     "{", "-", "--",
     "a:b:c", "\\", "'", "%", "_", "é" * 200, "x" * 200, "🧪", "a" + "b " * 99, "/", ".", "…", "\u202e", "+", "&&",
     "||", "!"],
)  # fmt: skip
def test_no_text_is_an_error(agent: Client, world: World, query: str) -> None:
    for sort in ("", "&sort=relevance"):
        answer = agent.get(f"{world.at}?q={quote(query)}{sort}")
        assert answer.status == 200, answer.body
        assert len(answer.data) <= 8


def test_a_query_is_at_most_200_characters(agent: Client, world: World) -> None:
    assert agent.get(f"{world.at}?q={quote('é' * 200)}").status == 200
    assert agent.get(f"{world.at}?q={quote('é' * 201)}").pointers == ["/q"]


def test_a_highlight_is_there_with_words_and_escaped(agent: Client, world: World, place: Place) -> None:
    row = agent.get(f"{world.at}?q=quick").data[0]
    assert list(row) == [*ROW[:-1], "highlight", "content_indexed"]
    assert "quick" in row["highlight"]
    nasty = base64.b64encode(b"<script>alert(1)</script> nastyword & more").decode()
    agent.post(f"{place.at}/artifacts", {"path": "x.txt", "content_base64": nasty})
    (row,) = agent.get(f"{place.at}/artifacts?q=nastyword").data
    assert "<script>" not in row["highlight"]


def test_filters(agent: Client, world: World) -> None:
    one, two, _ = world.tasks
    assert set(paths(agent, world, f"workflow_id={world.flows[1]}")) == {"dist/app.tar.gz", "dist/plan.pdf"}
    assert set(paths(agent, world, f"task_id={one}")) == {"notes/Release Notes.md", "notes/summary.txt"}
    assert set(paths(agent, world, f"work_item_id={world.item}")) == {"notes/Release Notes.md", "notes/summary.txt"}
    assert set(paths(agent, world, "stage_name=verify")) == {"out/report.json", "out/screen.png"}
    assert set(paths(agent, world, "role=dev")) == {"dist/app.tar.gz", "dist/plan.pdf"}
    kind = quote(world.made["out/screen.png"]["content_type"])
    assert paths(agent, world, f"content_type={kind}") == ["out/screen.png"]
    assert "dist/app.tar.gz" not in paths(agent, world, "preview_mode=inline")
    assert paths(agent, world, "preview_mode=download") == ["dist/app.tar.gz"]
    assert paths(agent, world, f"task_id={two}&q=needle") == ["out/report.json"]
    for nothing in ("role=Dev", "stage_name=ver", f"workflow_id={slug()}", "content_type=image"):
        assert paths(agent, world, nothing) == []
    answer = agent.get(f"{world.at}?task_id={two}")
    assert answer.meta["summary"]["total_artifacts"] == 2
    assert [one["id"] for one in answer.meta["filters"]["tasks"]] == [two]
    assert agent.get(f"{world.at}?preview_mode=x").pointers == ["/preview_mode"]


def test_summary_and_filters_are_of_everything_not_of_the_page(agent: Client, world: World) -> None:
    answer = agent.get(f"{world.at}?per_page=1&page=3")
    assert len(answer.data) == 1
    assert answer.meta["summary"]["total_artifacts"] == 8
    assert len(answer.meta["filters"]["tasks"]) == 3
    assert [row["logical_path"] for row in every(agent, world.at, 3)] == world.newest


def test_orders(agent: Client, world: World) -> None:
    assert paths(agent, world, "sort=newest") == world.newest
    assert paths(agent, world, "sort=oldest") == world.newest[::-1]
    sizes = [row["size_bytes"] for row in agent.get(f"{world.at}?sort=largest").data]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[::-1] == [row["size_bytes"] for row in agent.get(f"{world.at}?sort=smallest").data]
    named = [path.rsplit("/", 1)[-1].lower() for path in paths(agent, world, "sort=name")]
    assert named == sorted(named)
    assert paths(agent, world, "sort=relevance&q=notes")[0] == "notes/Release Notes.md"
    assert agent.get(f"{world.at}?sort=relevance").pointers == ["/sort"]
    assert agent.get(f"{world.at}?sort=size").pointers == ["/sort"]


def test_days(agent: Client, world: World) -> None:
    day = world.made["dist/plan.pdf"]["created_at"][:10]
    assert len(paths(agent, world, f"created_from={day}&created_to={day}")) == 8
    assert len(paths(agent, world, "created_from=2000-01-01&created_to=2999-12-31")) == 8
    assert paths(agent, world, "created_to=2000-01-01") == []
    assert paths(agent, world, "created_from=2999-01-01") == []
    for bad in ("created_from=2024-02-30", "created_to=2023-02-29", "created_from=2024-13-01",
                "created_from=0000-01-01",
                "created_from=2024-02-02&created_to=2024-02-01"):  # fmt: skip
        assert agent.get(f"{world.at}?{bad}").code == (400, "VALIDATION_ERROR"), bad
    for bad in ("2024", "2024-1-1", "2024-01-01T00:00:00Z", "yesterday", "２０２４-01-01"):
        assert agent.get(f"{world.at}?created_from={quote(bad)}").pointers == ["/created_from"], bad
    assert agent.get(f"{world.at}?created_to=9999-12-31").status == 200


def test_pages_go_to_10000(agent: Client, world: World) -> None:
    assert agent.get(f"{world.at}?page=10000").data == []
    assert agent.get(f"{world.at}?page=10001").pointers == ["/page"]
    assert agent.get(f"{world.at}?per_page=101").pointers == ["/per_page"]


def test_blank_filters_are_none(agent: Client, world: World) -> None:
    for query in ("q=", "workflow_id=", "role=", "content_type=", "created_from=", "sort="):
        assert agent.get(f"{world.at}?{query}").status in (200, 422), query


def test_states_and_titles_are_those_of_now(agent: Client, place: Place) -> None:
    task = slug()
    flow = agent.post(f"{place.at}/workflows", {"name": "before", "tasks": [{"id": task, "title": "old"}]}).data["id"]
    agent.post(f"/tasks/{task}/artifacts", {"path": "a", "content_base64": "eA=="})
    agent.patch(f"/workflows/{flow}", {"name": "afterwards", "state": "completed"})
    agent.put(f"/workflows/{flow}/tasks/{task}", {"title": "renamed", "state": "failed"})
    (row,) = agent.get(f"{place.at}/artifacts").data
    assert (row["workflow_name"], row["workflow_state"]) == ("afterwards", "completed")
    assert (row["task_title"], row["task_state"]) == ("renamed", "failed")
    assert len(agent.get(f"{place.at}/artifacts?q=renamed").data) == 1
    assert agent.get(f"{place.at}/artifacts?q=before").data == []


def test_what_belongs_to_unknown_things_shows_their_ids(agent: Client, place: Place) -> None:
    body = {"path": "a", "content_base64": "eA==", "workflow_id": "wf-elsewhere", "task_id": "t-elsewhere"}
    agent.post(f"{place.at}/artifacts", body)
    (row,) = agent.get(f"{place.at}/artifacts").data
    assert (row["workflow_id"], row["workflow_name"]) == ("wf-elsewhere", "wf-elsewhere")
    assert (row["task_title"], row["task_state"]) == ("t-elsewhere", "unknown")
    # The task's own route knows no such task, so the address must be one that answers.
    assert agent.root("GET", row["download_url"]).body == b"x"


def test_facets_are_at_most_a_hundred(server: Server, agent: Client, place: Place) -> None:
    for n in range(103):
        agent.post(f"{place.at}/artifacts", {"path": f"f{n:03}", "content_base64": "eA==", "role": f"r{n:03}"})
    answer = agent.get(f"{place.at}/artifacts")
    assert answer.meta["filters"]["roles"] == [f"r{n:03}" for n in range(100)]
    assert answer.meta["summary"]["role_count"] == 103
