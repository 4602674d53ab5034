"""Settings: echoed exactly, the token sealed and never shown, and a read written back is never a change."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from contract.client import PEM, Client, slug
from contract.conftest import Place, Server

MASK = "redacted://workspace-settings-secret"
SHOWN = {"git_token": MASK, "git_token_configured": True}
TOKEN = "a-token-of-the-tests-7"


def put(admin: Client, place: Place, settings: Any) -> Any:
    answer = admin.patch(place.at, {"settings": settings})
    assert answer.status == 200, answer.body
    return answer.data["settings"]


def commits(admin: Client, place: Place) -> int:
    return int(admin.get(f"{place.at}/timeline").meta["total"])


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_settings_come_back_exactly_and_in_order(admin: Client, place: Place) -> None:
    sent = b'{"settings":{"z":{"b":1,"a":[1.10,-0.0,1e3]},"a":null,"NO":"no","":{},'
    sent += b'"big":12345678901234567890123,"t":"2024-01-01","x":[[],{}]}}'
    answer = admin.patch(place.at, sent, headers={"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    shown = admin.get(place.at)
    assert list(shown.data["settings"]) == ["z", "a", "NO", "", "big", "t", "x"]
    assert shown.data["settings"] == json.loads(sent)["settings"]
    assert b'"big":12345678901234567890123' in shown.body
    assert b'"b":1,"a":[1.1,-0.0,' in shown.body


def test_settings_are_replaced_as_a_whole(admin: Client, place: Place) -> None:
    put(admin, place, {"a": 1, "b": 2})
    assert put(admin, place, {"c": 3}) == {"c": 3}
    assert put(admin, place, {}) == {}


def test_settings_given_at_creation(make: Callable[..., Place]) -> None:
    place = make(settings={"b": 1, "a": 2, "credentials": {"git_token": TOKEN}})
    assert place.record["settings"] == {"b": 1, "a": 2, "credentials": SHOWN}


@pytest.mark.parametrize("kind", ["git_remote", "host_directory", "workspace_artifacts"])
def test_both_spellings_of_the_storage(admin: Client, make: Callable[..., Place], kind: str) -> None:
    place = make(repository_url="https://h/a")
    for settings in ({"storage": {"type": kind, "x": 1}}, {"workspace_storage_type": kind, "workspace_storage": {}}):
        assert put(admin, place, settings) == settings


@pytest.mark.parametrize(
    "settings",
    [
        {"storage": {"type": "ftp"}},
        {"storage": "git_remote"},
        {"storage": {"type": 5}},
        {"storage": {"type": "git_remote"}},
        {"workspace_storage_type": "git_remote"},
        {"workspace_storage_type": "other"},
        {"workspace_storage": []},
        {"storage": {"type": "host_directory"}, "workspace_storage_type": "workspace_artifacts"},
        {"workspace_brief": "x" * 20001},
        {"workspace_brief": 5},
        {"default_branch": ["main"]},
        {"git_user_name": {}},
        {"git_user_email": 1},
        {"planning_playbook_id": True},
        {"credentials": "x"},
        {"credentials": []},
        {"credentials": {"git_token": 5}},
        {"credentials": {"git_token": "has space"}},
        {"credentials": {"git_token": "new\nline"}},
        {"credentials": {"git_token": "x" * 20001}},
        {"credentials": {"git_token": {}}},
        {"credentials": {"ssh_key": "x"}},
        {"storage": {"type": "git_remote", "repository_url": "https://u:p@h/a"}},
        {"storage": {"repository_url": "file:///x"}},
    ],
)
def test_settings_that_break_a_rule(admin: Client, place: Place, settings: Any) -> None:
    before = place.read()
    assert admin.patch(place.at, {"settings": settings}).code == (400, "VALIDATION_ERROR")
    assert admin.post("/workspaces", {"name": "n", "slug": slug(), "settings": settings}).status == 400
    assert place.read() == before


def test_the_limits_of_settings(admin: Client, place: Place) -> None:
    assert put(admin, place, {"workspace_brief": "é" * 20000})
    assert put(admin, place, {"credentials": {"git_token": "x" * 20000}}) == {"credentials": SHOWN}


def test_git_remote_needs_a_url_from_somewhere(admin: Client, place: Place) -> None:
    wanted = {"storage": {"type": "git_remote"}}
    assert admin.patch(place.at, {"settings": wanted, "repository_url": "https://h/a"}).status == 200
    assert admin.patch(place.at, {"repository_url": None}).code == (400, "VALIDATION_ERROR")
    assert admin.patch(place.at, {"repository_url": None, "settings": {}}).status == 200
    own = {"storage": {"type": "git_remote", "repository_url": "https://h/b"}}
    assert put(admin, place, own) == own


# --- the token ------------------------------------------------------------------------------------------------------


def test_a_token_is_sealed_and_shown_as_a_placeholder(server: Server, admin: Client, place: Place) -> None:
    assert put(admin, place, {"a": 1, "credentials": {"git_token": TOKEN}}) == {"a": 1, "credentials": SHOWN}
    place.published()
    for answer in (admin.get(place.at), admin.get("/workspaces?per_page=100"), admin.get(f"{place.at}/timeline")):
        assert TOKEN.encode() not in answer.body
    root = server.store.layout.root
    found = subprocess.run(["grep", "-rlF", TOKEN, str(root)], capture_output=True, text=True, check=False)
    assert found.stdout == ""
    assert TOKEN not in place.git("log", "-p", "--all")


@pytest.mark.parametrize(
    "block", [{"git_token": MASK}, SHOWN, {}, None, {"git_token_configured": True}],
    ids=lambda one: json.dumps(one)[:30]
)  # fmt: skip
def test_what_keeps_the_token(admin: Client, place: Place, block: Any) -> None:
    put(admin, place, {"credentials": {"git_token": TOKEN}})
    assert put(admin, place, {"a": 1, "credentials": block})["credentials"] == SHOWN
    assert put(admin, place, {"a": 2})["credentials"] == SHOWN


@pytest.mark.parametrize("empty", ["", None])
def test_what_clears_the_token(admin: Client, place: Place, empty: Any) -> None:
    put(admin, place, {"a": 1, "credentials": {"git_token": TOKEN}})
    assert put(admin, place, {"a": 1, "credentials": {"git_token": empty}}) == {"a": 1}
    assert put(admin, place, {"a": 1, "credentials": {"git_token": empty}}) == {"a": 1}
    assert put(admin, place, {"credentials": {"git_token": MASK}}) == {}  # there is none to keep


def test_a_new_token_looks_like_the_old_one(admin: Client, place: Place) -> None:
    first = put(admin, place, {"credentials": {"git_token": "one"}})
    assert put(admin, place, {"credentials": {"git_token": "two"}}) == first


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"a": 1},
        {"credentials": {"git_token": TOKEN}},
        {"credentials": {"git_token": TOKEN}, "a": 1},
        {"a": 1, "credentials": {"git_token": TOKEN}, "b": {"c": None}},
        {"storage": {"type": "workspace_artifacts"}, "credentials": {"git_token": TOKEN}},
        {"workspace_storage_type": "host_directory", "workspace_storage": {"path": "/x"}, "default_branch": "main"},
        {"note": MASK},
        {"credentials": {}},
        {"credentials": None, "a": 1},
    ],
)
def test_a_read_written_back_is_no_change(admin: Client, place: Place, settings: Any) -> None:
    put(admin, place, settings)
    before, count = admin.get(place.at), commits(admin, place)
    after = admin.patch(place.at, {"settings": before.data["settings"]})
    assert after.status == 200
    assert after.data == before.data
    assert list(after.data["settings"]) == list(before.data["settings"])
    assert after.etag == before.etag
    assert commits(admin, place) == count


def test_the_token_can_be_the_only_change(admin: Client, place: Place) -> None:
    put(admin, place, {"a": 1})
    answer = admin.patch(place.at, {"settings": {"a": 1, "credentials": {"git_token": TOKEN}}})
    assert answer.data["settings"] == {"a": 1, "credentials": SHOWN}
    again = admin.get(place.at)
    assert again.data == answer.data
    assert again.etag == answer.etag


def test_a_credential_elsewhere_in_the_settings_is_refused(admin: Client, place: Place) -> None:
    answer = admin.patch(place.at, {"settings": {"deep": [{"x": PEM}]}})
    assert answer.code == (400, "VALIDATION_ERROR")
    assert "/deep/0/x" in json.dumps(answer.error)
    assert "secret:" in answer.error["message"]
    assert place.read()["settings"] == {}


@pytest.mark.parametrize("text", ["tokenizer", "my.dotted.name", "a.b.c", "password", "secret:NAME", "sk-not-a-key"])
def test_ordinary_text_is_left_alone(admin: Client, place: Place, text: str) -> None:
    assert put(admin, place, {"tokenizer": text, text: text}) == {"tokenizer": text, text: text}


def test_the_policy_allow_lets_everything_pass(second: Callable[..., Any]) -> None:
    with second(secret_policy="allow") as server, server.client() as admin:
        answer = admin.post("/workspaces", {"name": "n", "slug": "s", "settings": {"k": PEM}, "memory": {"k": PEM}})
        assert answer.status == 201
        assert answer.data["memory"]["k"] == PEM
