"""Any read at any time: `?at=` on every read, what it means, and what it says when there is nothing of the kind."""

from __future__ import annotations

from typing import Any

import pytest

from contract.client import Client
from contract.conftest import Place


def put(admin: Client, place: Place, key: str, value: Any) -> str:
    """Sets one slot; the commit."""
    return str(admin.patch(f"{place.at}/memory", {"key": key, "value": value}).data["head"])


def at(admin: Client, place: Place, what: str, moment: str) -> Any:
    return admin.get(f"{place.at}{what}?at={moment}")


def test_a_slot_as_it_was_with_the_commit_that_had_set_it_by_then(admin: Client, place: Place) -> None:
    first = put(admin, place, "policy", "old")
    between = put(admin, place, "other", 1)
    second = put(admin, place, "policy", "new")
    now = admin.get(f"{place.at}/memory/policy")
    assert (now.data["value"], now.data["commit"]) == ("new", second)
    for moment in (first, between, first[:12], between.upper()):
        answer = at(admin, place, "/memory/policy", moment)
        assert (answer.data["value"], answer.data["commit"]) == ("old", first)
    assert at(admin, place, "/memory/policy", second).etag == now.etag
    assert at(admin, place, "/memory/policy", first).etag == at(admin, place, "/memory/policy", between).etag
    assert at(admin, place, "/memory/other", first).code == (404, "NOT_FOUND")
    assert at(admin, place, "/memory", first).data == {"policy": "old"}
    assert at(admin, place, "/memory", place.record["head"]).data == {}
    tag = at(admin, place, "/memory", first).etag
    assert admin.get(f"{place.at}/memory?at={between}", headers={"If-None-Match": tag}).status == 200
    assert admin.get(f"{place.at}/memory?at={first}", headers={"If-None-Match": tag}).status == 304


def test_the_answer_says_which_moment_it_is_of(admin: Client, place: Place) -> None:
    first = put(admin, place, "a", 1)
    put(admin, place, "a", 2)
    answer = at(admin, place, "/memory", first[:8])
    moment = answer.meta["at"]
    assert (moment["asked"], moment["main"], moment["evidence"]) == (first[:8], first, None)
    assert answer.headers["Gitstore-At"] == first
    assert at(admin, place, "", moment["time"]).data["head"] == first
    plain = admin.get(f"{place.at}/memory")
    assert "at" not in plain.meta
    assert plain.headers["Gitstore-At"] is None


def test_the_record_as_it_was(admin: Client, place: Place) -> None:
    whole = place.read()
    admin.patch(place.at, {"description": "later", "settings": {"workspace_brief": "x"}})
    put(admin, place, "a", 1)
    answer = at(admin, place, "", whole["head"])
    assert answer.data == whole
    assert at(admin, place, "", "now").data == at(admin, place, "", "HEAD").data == place.read()


@pytest.mark.parametrize("moment", ["0" * 40, "0000", "yesterday", "v1.0", "2001-01-01T00:00:00.000Z", "2001-01-01"])
def test_what_there_never_was_is_named(admin: Client, place: Place, moment: str) -> None:
    answer = at(admin, place, "/memory", moment)
    assert answer.code == (404, "NOT_FOUND")
    assert moment in answer.error["message"]
    assert at(admin, place, "/memory", "").pointers == ["/at"]
