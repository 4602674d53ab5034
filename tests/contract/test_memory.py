"""Memory: set, deleted, read; exact to the byte, and safe when many write at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from contract.client import OID, PEM, TIME, Client, part
from contract.conftest import Place, Server

LIMIT = 1048576
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.5,
    "",
    "text",
    [],
    {},
    [None],
    {"a": {"b": [1, "2", None]}},
    "x\ny\n",
]


def put(client: Client, place: Place, key: str, value: Any) -> Any:
    answer = client.patch(f"{place.at}/memory", {"key": key, "value": value})
    assert answer.status == 200, answer.body
    return answer.data


def commits(client: Client, place: Place) -> int:
    return int(client.get(f"{place.at}/timeline").meta["total"])


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_slot_holds_any_json(agent: Client, place: Place, value: Any) -> None:
    record = put(agent, place, "k", value)
    assert record["id"] == place.id
    assert record["memory"] == {"k": value}
    assert type(record["memory"]["k"]) is type(value)
    assert record["memory_size_bytes"] == len(json.dumps({"k": value}, separators=(",", ":"), ensure_ascii=False))
    assert agent.get(f"{place.at}/memory").data == {"k": value}
    slot = agent.get(f"{place.at}/memory/k").data
    assert list(slot) == ["key", "value", "commit", "updated_at", "actor"]
    assert (slot["key"], slot["value"]) == ("k", value)
    assert slot["commit"] == record["head"]
    assert OID.fullmatch(slot["commit"])
    assert TIME.fullmatch(slot["updated_at"])
    assert slot["updated_at"] == record["updated_at"]
    assert slot["actor"]["type"] == "agent"


def test_a_value_replaces_the_whole_slot(agent: Client, place: Place) -> None:
    put(agent, place, "k", {"a": 1, "b": 2})
    assert put(agent, place, "k", {"a": 2})["memory"] == {"k": {"a": 2}}


def test_keys_are_in_the_order_of_their_bytes(agent: Client, place: Place) -> None:
    keys = ["b", "a", "B", "é", "a/b", "a b", "~", "10", "9", "\U0001f9ea", "\uffee", "aa", ""]
    for key in keys[:-1]:
        put(agent, place, key, 1)
    assert list(agent.get(f"{place.at}/memory").data) == sorted(keys[:-1], key=str.encode)
    assert list(place.read()["memory"]) == sorted(keys[:-1], key=str.encode)


KEYS = ["a", "A", " ", "a/b", "../x", ".git", ".", "..", "con", "a.yaml", "~abc", "é", "e\u0301", "🧪", "%2F", "a%",
        "-",
        "k" * 255, "k" * 256, "é" * 256, "🧪" * 256, "\\", "a\tb", "a\nb", "\x7f", "*", "?", '"', "'", "#", "null",
        "NO"]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[:20])
def test_any_key_can_be_written_read_and_deleted(agent: Client, place: Place, key: str) -> None:
    assert put(agent, place, key, 1)["memory"] == {key: 1}
    assert agent.get(f"{place.at}/memory/{part(key)}").data["key"] == key
    assert agent.delete(f"{place.at}/memory/{part(key)}").data["memory"] == {}
    assert agent.get(f"{place.at}/memory/{part(key)}").status == 404


def test_all_keys_live_beside_each_other(agent: Client, place: Place) -> None:
    answer = agent.patch(f"{place.at}/memory", {"updates": {key: key for key in KEYS}})
    assert answer.status == 200, answer.body
    assert answer.data["memory"] == {key: key for key in KEYS}
    place.published()
    assert place.git("fsck", "--strict") == ""
    assert place.git("status", "--porcelain") == ""
    folded = [path.name.casefold() for path in (place.folder / "memory").iterdir()]
    assert len(set(folded)) == len(KEYS)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, "/key"), ({"key": "k"}, "/value"), ({"value": 1}, "/key"), ({"key": "", "value": 1}, "/key"),
     ({"key": "x" * 257, "value": 1}, "/key"), ({"key": 5, "value": 1}, "/key"), ({"key": None, "value": 1}, "/key"),
     ({"updates": []}, "/updates"), ({"updates": None}, "/updates"), ({"updates": {"x" * 257: 1}}, "/updates"),
     ({"updates": {"": 1}}, "/updates"), ({"updates": {"a": 1}, "key": "k", "value": 1}, "")],
)  # fmt: skip
def test_a_body_of_the_wrong_shape(agent: Client, place: Place, body: Any, pointer: str) -> None:
    pointers = agent.patch(f"{place.at}/memory", body).pointers
    assert any(one == pointer or one.startswith(pointer + "/") for one in pointers), pointers
    assert agent.get(f"{place.at}/memory").data == {}


def test_updates_are_one_change_or_none(agent: Client, place: Place) -> None:
    before = commits(agent, place)
    answer = agent.patch(f"{place.at}/memory", {"updates": {"a": 1, "b": {"x": None}, "c": None}})
    assert answer.data["memory"] == {"a": 1, "b": {"x": None}, "c": None}
    assert commits(agent, place) == before + 1
    entry = agent.get(f"{place.at}/timeline").data[0]
    assert {change["key"] for change in entry["changes"]} == {"a", "b", "c"}
    refused = agent.patch(f"{place.at}/memory", {"updates": {"a": 2, "z": "x" * LIMIT}})
    assert refused.status == 400
    assert agent.get(f"{place.at}/memory").data["a"] == 1


def test_nothing_new_makes_no_commit(agent: Client, place: Place) -> None:
    record = put(agent, place, "k", {"a": [1, 2.5, None]})
    before = commits(agent, place)
    assert put(agent, place, "k", {"a": [1, 2.5, None]}) == record
    assert agent.patch(f"{place.at}/memory", {"updates": {"k": {"a": [1, 2.5, None]}}}).data == record
    assert agent.patch(f"{place.at}/memory", {"updates": {}}).data == record
    assert agent.delete(f"{place.at}/memory/unknown").data == record
    assert commits(agent, place) == before


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (1, 1.0), (0, False), ("1", 1), ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
)
def test_what_only_looks_alike_is_a_change(agent: Client, place: Place, old: Any, new: Any) -> None:
    put(agent, place, "k", old)
    before = commits(agent, place)
    put(agent, place, "k", new)
    assert commits(agent, place) == before + 1
    assert json.dumps(new) == json.dumps(agent.get(f"{place.at}/memory/k").data["value"])


def test_the_limit_to_the_byte(agent: Client, place: Place) -> None:
    put(agent, place, "a", 1)
    room = LIMIT - len('{"a":1,"k":""}')
    assert put(agent, place, "k", "x" * room)["memory_size_bytes"] == LIMIT
    over = agent.patch(f"{place.at}/memory", {"key": "k", "value": "x" * (room + 1)})
    assert over.code == (400, "VALIDATION_ERROR")
    assert over.error["details"] == {"memory_size_bytes": LIMIT + 1, "memory_max_bytes": LIMIT, "key": "k"}
    assert agent.patch(f"{place.at}/memory", {"key": "b", "value": 1}).status == 400
    assert put(agent, place, "a", 2)["memory_size_bytes"] == LIMIT
    text = json.dumps({"key": "k", "value": "é" * (room // 2) + "x" * (room % 2)}, ensure_ascii=False).encode()
    answer = agent.patch(f"{place.at}/memory", text, headers={"Content-Type": "application/json"})
    assert answer.data["memory_size_bytes"] == LIMIT  # bytes, not characters
    assert agent.delete(f"{place.at}/memory/k").data["memory_size_bytes"] == len('{"a":2}')


def test_white_space_does_not_count(agent: Client, place: Place) -> None:
    body = json.dumps({"key": "k", "value": [1] * 100_000}, indent=6).encode()
    assert LIMIT < len(body) < 2 * LIMIT
    answer = agent.patch(f"{place.at}/memory", body, headers={"Content-Type": "application/json"})
    assert answer.data["memory_size_bytes"] == 200_000 + len('{"k":[]}') - 1


def test_a_deletion_answers_with_the_record(agent: Client, place: Place) -> None:
    put(agent, place, "a", 1)
    put(agent, place, "b", 2)
    answer = agent.delete(f"{place.at}/memory/a")
    assert answer.status == 200
    assert answer.data == place.read()
    assert answer.data["memory"] == {"b": 2}
    entry = agent.get(f"{place.at}/timeline").data[0]
    assert entry["kind"] == "memory.deleted"
    assert entry["changes"][0] | {"path": ""} == {"path": "", "key": "a", "op": "deleted"}


def test_the_etag_of_a_write_is_that_of_what_was_written(agent: Client, place: Place) -> None:
    answer = agent.patch(f"{place.at}/memory", {"key": "k", "value": 1})
    assert answer.etag == agent.get(f"{place.at}/memory/k").etag
    same = agent.patch(f"{place.at}/memory", {"key": "k", "value": 1})
    assert same.etag == answer.etag
    other = agent.patch(f"{place.at}/memory", {"updates": {"x": 1}})
    assert other.etag == agent.get(f"{place.at}/memory").etag
    assert agent.get(f"{place.at}/memory/k").etag == answer.etag  # another key's write leaves it alone
    agent.patch(f"{place.at}/memory", {"key": "k", "value": 2})
    agent.patch(f"{place.at}/memory", {"key": "k", "value": 1})
    assert agent.get(f"{place.at}/memory/k").etag != answer.etag  # `commit` is part of the data


def test_an_unknown_key_is_404_to_read(agent: Client, place: Place) -> None:
    for key in ("nothing", "%00", "x" * 300, "%F0%9F%A7%AA"):
        assert agent.get(f"{place.at}/memory/{key}").code == (404, "NOT_FOUND")
        assert agent.delete(f"{place.at}/memory/{key}").status == 200


def test_writers_of_different_keys_never_lose_each_other(server: Server, place: Place) -> None:
    """60 writes and 60 deletions at once; every one of them is there afterwards."""
    with server.client("agent") as client:
        client.patch(f"{place.at}/memory", {"updates": {f"old{n}": n for n in range(60)}})
    failures: list[Any] = []

    def work(n: int) -> None:
        with server.client("agent") as client:
            for at in range(n * 10, n * 10 + 10):
                one = client.patch(f"{place.at}/memory", {"key": f"new{at}", "value": at})
                two = client.delete(f"{place.at}/memory/old{at}")
                if (one.status, two.status) != (200, 200) or one.data["memory"].get(f"new{at}") != at:
                    failures.append((one.body, two.body))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures
    assert place.read()["memory"] == {f"new{n}": n for n in range(60)}
    place.published()
    assert place.git("rev-list", "--count", "main") == str(1 + 1 + 120)
    assert place.git("fsck", "--strict") == ""


def test_one_of_many_with_the_same_etag_wins(server: Server, agent: Client, place: Place) -> None:
    tag = agent.patch(f"{place.at}/memory", {"key": "k", "value": "start"}).etag
    statuses: list[int] = []

    def work(n: int) -> None:
        with server.client("agent") as client:
            body = {"key": "k", "value": n}
            statuses.append(client.patch(f"{place.at}/memory", body, headers={"If-Match": tag}).status)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(statuses) == [200] + [412] * 7


SECRETS = [
    PEM,
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4ifQ."
    "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
]


@pytest.mark.parametrize("secret", SECRETS, ids=["key", "jwt"])
def test_a_credential_is_refused_and_named(agent: Client, place: Place, secret: str) -> None:
    for value in (secret, {"a": ["x", secret]}, f"see {secret} there", {secret: 1}):
        answer = agent.patch(f"{place.at}/memory", {"key": "k", "value": value})
        assert answer.code == (400, "VALIDATION_ERROR"), value
        assert "secret:" in answer.error["message"]
        assert secret[30:60] not in answer.body.decode()
    assert agent.patch(f"{place.at}/memory", {"key": "k", "value": {"a": ["x", secret]}}).error["details"]
    assert agent.get(f"{place.at}/memory").data == {}


def test_ordinary_text_is_never_altered(agent: Client, place: Place) -> None:
    texts = ["tokenizer", "a.b.c", "server.config.load", "password: hunter2", "secret:GITHUB_TOKEN", "bearer token",
             "sha256:" + "ab" * 32, "x" * 40, "f" * 64, "https://h/a?token_count=5", "AKIA", "eyJ",
             "-----BEGIN CERTIFICATE-----"]  # fmt: skip
    for text in texts:
        assert put(agent, place, text, {text: text})["memory"][text] == {text: text}


def test_what_git_shows_is_what_was_set(agent: Client, place: Place) -> None:
    put(agent, place, "policy", {"branch": "main", "steps": ["build", "test"], "note": "one\ntwo\n"})
    place.published()
    line, first = place.git("show", "main:memory/policy.yaml").splitlines()[:2]
    assert line == "# yaml-language-server: $schema=../.gitstore/schemas/memory.json"
    assert first == "branch: main"
    assert (place.folder / "memory/policy.yaml").read_text() == place.git("show", "main:memory/policy.yaml") + "\n"
    assert place.git("status", "--porcelain") == ""
    assert "policy" in place.git("log", "-1", "--format=%s")


def test_the_memory_survives_a_restart(second: Callable[..., Any]) -> None:
    from contract.conftest import serving

    with second() as first, first.client() as admin:
        place = Place(first, admin)
        for n in range(20):
            put(admin, place, f"k{n}", {"n": n})
        before = admin.get(place.at)
        slot = admin.get(f"{place.at}/memory/k7")
    with serving(first.store.layout.root) as again, again.client() as admin:
        after = admin.get(place.at)
        assert after.data == before.data
        assert after.etag == before.etag
        assert admin.get(f"{place.at}/memory/k7").data == slot.data
        assert admin.get(f"{place.at}/memory/k7").etag == slot.etag
