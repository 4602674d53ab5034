"""Following a remote, as far as it goes without one: shapes, scopes, rules. The exchanges are in tests/git."""

from __future__ import annotations

from typing import Any

import pytest

from contract.client import Client
from contract.conftest import Place

FIELDS = ["state", "direction", "url", "branch", "last_run_at", "last_success_at", "last_error", "ahead", "behind",
          "fetched", "merged", "pushed", "conflicts"]  # fmt: skip
URL = "http://127.0.0.1:9/w.git"


def follow(admin: Client, place: Place, **sync: Any) -> Any:
    return admin.patch(place.at, {"settings": {"sync": sync}})


def test_nothing_is_followed(admin: Client, agent: Client, place: Place) -> None:
    answer = agent.get(f"{place.at}/sync")
    assert list(answer.data) == FIELDS
    assert answer.data["state"] == "idle"
    assert [answer.data[name] for name in FIELDS[1:7]] == [None] * 6
    assert [answer.data[name] for name in FIELDS[7:]] == [0] * 6
    assert agent.get(f"{place.at}/sync", headers={"If-None-Match": answer.etag}).status == 304
    refused = admin.post(f"{place.at}/sync")
    assert refused.code == (400, "VALIDATION_ERROR")
    assert refused.error["details"] == {"pointer": "/settings/sync"}


def test_who_may(admin: Client, agent: Client, place: Place) -> None:
    assert agent.post(f"{place.at}/sync").code == (403, "FORBIDDEN")
    assert admin.ask("POST", f"{place.at}/sync", key=None).code == (401, "UNAUTHORIZED")
    assert admin.get("/workspaces/nobody/sync").code == (404, "NOT_FOUND")
    assert admin.post("/workspaces/nobody/sync").code == (404, "NOT_FOUND")
    assert admin.delete(f"{place.at}/sync").code == (405, "METHOD_NOT_ALLOWED")


def test_a_run_that_fails_is_an_answer_and_a_problem(admin: Client, agent: Client, place: Place) -> None:
    settings = {"sync": {"url": URL, "interval": 604_800, "direction": "both"}}
    assert admin.patch(place.at, {"settings": settings}).data["settings"] == settings  # echoed as sent
    before = admin.get(place.at)
    answer = admin.post(f"{place.at}/sync")
    assert answer.status == 200
    report = answer.data
    assert (report["state"], report["direction"], report["url"], report["branch"]) == ("failed", "both", URL, "main")
    assert "loopback" in report["last_error"]
    assert report["last_run_at"]
    assert report["last_success_at"] is None
    listed = agent.get(f"{place.at}/problems").data
    assert [(one["kind"], one["code"], one["path"]) for one in listed] == [
        ("sync", "sync_refused_address", "settings.yaml")
    ]
    after = admin.get(place.at)
    assert after.data["problems"] == listed
    assert after.etag != before.etag
    assert follow(admin, place).status == 200
    assert agent.get(f"{place.at}/sync").data["url"] is None


@pytest.mark.parametrize(
    ("sync", "pointer"),
    [
        ({"direction": "pull"}, "/settings/sync/url"),
        ({"url": URL, "direction": "sideways"}, "/settings/sync/direction"),
        ({"url": URL, "on_conflict": "panic"}, "/settings/sync/on_conflict"),
        ({"url": URL, "interval": 9}, "/settings/sync/interval"),
        ({"url": URL, "interval": "300"}, "/settings/sync/interval"),
        ({"url": URL, "branch": "ma*"}, "/settings/sync/branch"),
        ({"url": URL, "branch": "--upload-pack=x"}, "/settings/sync/branch"),
        ({"url": "https://u:p@git.example/w.git"}, "/settings/sync/url"),
        ({"url": "ext::sh -c x"}, "/settings/sync/url"),
    ],
)
def test_what_is_refused(admin: Client, place: Place, sync: dict[str, Any], pointer: str) -> None:
    answer = follow(admin, place, **sync)
    assert answer.code == (400, "VALIDATION_ERROR")
    assert answer.error["details"]["pointer"] == pointer
    assert place.read()["settings"] == {}
