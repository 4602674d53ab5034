"""What search may not show: markup, secrets, what was deleted; and what a query or a document cannot do."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import quote

import pytest

from contract.client import Client, slug
from contract.conftest import Place, Server

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def word() -> str:
    return f"onyx{slug().replace('-', '')[:8]}"


def add(admin: Client, place: Place, path: str, content: bytes, content_type: str) -> dict[str, Any]:
    sent = {"path": path, "content_base64": base64.b64encode(content).decode(), "content_type": content_type}
    return dict(admin.post(f"{place.at}/artifacts", sent).data)


def settled(client: Client, place: Place, id_: str) -> str:
    """How far the content is indexed, once that is known."""
    until = time.monotonic() + 30
    while True:
        (row,) = [row for row in client.get(f"{place.at}/artifacts").data if row["id"] == id_]
        if row["content_indexed"] != "pending":
            return str(row["content_indexed"])
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_page_is_found_by_what_it_shows_and_never_as_markup(admin: Client, agent: Client, server: Server) -> None:
    place, said, hidden = Place(server, admin), word(), word()
    page = f"<title>x</title><script>{hidden}</script><p>{said} &lt;img src=x onerror=alert(1)&gt;".encode()
    made = add(admin, place, "page.html", page, "text/html")
    assert made["content_indexed"] in ("pending", "full")
    assert settled(agent, place, made["id"]) == "full"
    (row,) = agent.get(f"/search?q={said}").data
    assert row["highlight"] == f"x <mark>{said}</mark> &lt;img src=x onerror=alert(1)&gt;"
    (row,) = agent.get(f"{place.at}/artifacts?q={said}").data
    assert "<img" not in row["highlight"]
    assert agent.get(f"/search?q={hidden}").data == []
    kept = add(admin, place, "again.html", page, "text/html")
    assert kept["content_indexed"] == "full"
    assert len(agent.get(f"/search?q={said}").data) == 2


@pytest.mark.parametrize("content_type", ["application/pdf", WORD])
def test_a_document_that_cannot_be_read_is_there_without_text(
    admin: Client, agent: Client, server: Server, content_type: str
) -> None:
    place, name = Place(server, admin), word()
    made = add(admin, place, f"{name}.bin", b"%PDF-1.7 PK" * 100, content_type)
    assert settled(agent, place, made["id"]) == "none"
    assert [row["id"] for row in agent.get(f"/search?q={name}").data] == [made["id"]]


def test_a_file_of_the_context_is_read_as_well(admin: Client, agent: Client, server: Server) -> None:
    place, first, second = Place(server, admin), word(), word()
    sent = {"file_name": "a.html", "content_base64": base64.b64encode(f"<p>{first}".encode()).decode()}
    file = admin.post(f"{place.at}/files", sent).data
    sent["content_base64"] = base64.b64encode(f"<p>{second}".encode()).decode()
    assert admin.post(f"{place.at}/files", sent).data["version"] == 2
    until = time.monotonic() + 30
    while not (found := agent.get(f"/search?q={second}").data):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert [row["id"] for row in found] == [file["key"]]
    assert agent.get(f"/search?q={first}").data == []


def test_a_sealed_value_is_not_found(admin: Client, agent: Client, server: Server) -> None:
    place, token = Place(server, admin), word()
    assert admin.patch(place.at, {"settings": {"credentials": {"git_token": token}}}).status == 200
    assert agent.get(f"/search?q={token}").data == []
    assert agent.get(f"/search?q={token}*").data == []


def test_nothing_of_a_deleted_workspace_is_found(admin: Client, agent: Client, server: Server) -> None:
    place, said = Place(server, admin), word()
    admin.patch(f"{place.at}/memory", {"key": "k", "value": said})
    add(admin, place, "a.html", f"<p>{said}".encode(), "text/html")
    admin.delete(place.at)
    answer = agent.get(f"/search?q={said}")
    assert (answer.data, answer.meta["facets"]["workspaces"]) == ([], [])


@pytest.mark.parametrize(
    "q",
    [
        "(a+)+$" * 30,
        "ab*" + " ab*" * 60,
        '"' + "a " * 240 + '"',
        "x" * 500,
        "%" * 100 + " a",
        "'; DROP TABLE texts; -- a",
    ],
)
def test_no_query_is_an_error_of_the_server(agent: Client, q: str) -> None:
    began = time.monotonic()
    assert agent.get(f"/search?q={quote(q)}").status in (200, 422)
    assert time.monotonic() - began < 10
