"""Push to refs/for/main: what stands beside the newest main is merged by meaning, or refused with both values."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest
from contract.client import Client
from contract.conftest import Place, Server

from git.conftest import Clone

Make = Callable[..., Clone]


def test_what_diverged_is_merged_and_the_answer_names_the_commit(place: Place, admin: Client, clone: Make) -> None:
    admin.patch(f"{place.at}/memory", {"key": "policy", "value": {"owner": "rosa", "days": 3}})
    copy = clone()
    mine = copy.commit("memory/policy.yaml", "owner: ida\ndays: 3\n", "memory: ida owns it")
    theirs = admin.patch(f"{place.at}/memory", {"key": "policy", "value": {"owner": "rosa", "days": 5}}).data["head"]
    done = copy.push("HEAD:refs/for/main")
    assert done.code == 0, done.text
    record = place.read()
    assert record["memory"]["policy"] == {"owner": "ida", "days": 5}
    assert f"main is now at {record['head'][:12]}" in done.text
    place.published()
    assert place.git("rev-parse", f"{record['head']}^1", f"{record['head']}^2").split() == [theirs, mine]
    copy.git("pull", "-q")
    assert copy.head == record["head"]


@pytest.mark.parametrize("behind", [1, 3, 12, 40])
def test_who_did_not_fetch_lately_does_not_send_all_of_history(
    place: Place, admin: Client, clone: Make, behind: int
) -> None:
    for turn in range(60):
        admin.patch(f"{place.at}/memory", {"key": f"before-{turn}", "value": turn})
    copy = clone()
    for turn in range(behind):
        admin.patch(f"{place.at}/memory", {"key": f"after-{turn}", "value": turn})
    copy.commit("notes.md", "mine\n")
    done = copy.push("--progress", "HEAD:refs/for/main")
    assert done.code == 0, done.text
    sent = re.search(r"Total (\d+) ", done.text)
    assert sent is not None
    # Her commit, its tree and file; and three objects of each commit back to one that is told of: 64 back, say, of 40.
    assert int(sent[1]) <= 3 + 3 * behind
    copy.git("pull", "-q")
    assert copy.head == place.read()["head"]


def test_a_conflict_is_named_with_both_values_and_nothing_moves(place: Place, admin: Client, clone: Make) -> None:
    admin.patch(f"{place.at}/memory", {"key": "policy", "value": {"owner": "rosa", "days": 3}})
    copy = clone()
    copy.commit("memory/policy.yaml", "owner: ida\ndays: 3\n")
    head = admin.patch(f"{place.at}/memory", {"key": "policy", "value": {"owner": "mara", "days": 3}}).data["head"]
    done = copy.push("HEAD:refs/for/main")
    assert done.code != 0
    told = next(line for line in done.text.splitlines() if "policy" in line and "remote:" in line)
    assert "ida" in told
    assert "mara" in told
    assert place.read()["head"] == head


def test_what_is_up_to_date_or_straight_ahead_needs_no_merge(place: Place, clone: Make) -> None:
    copy = clone()
    done = copy.push("HEAD:refs/for/main")
    assert done.code == 0, done.text
    assert place.read()["head"] == copy.head
    ahead = copy.commit("memory/a.yaml", "1\n")
    done = copy.push("HEAD:refs/for/main")
    assert done.code == 0, done.text
    assert place.read()["head"] == ahead


def test_what_the_merge_would_break_is_refused(place: Place, admin: Client, clone: Make) -> None:
    copy = clone()
    copy.commit("memory/broken.yaml", "a: 1\na: 2\n")
    head = admin.patch(f"{place.at}/memory", {"key": "other", "value": 1}).data["head"]
    done = copy.push("HEAD:refs/for/main")
    assert done.code != 0
    assert "remote: memory/broken.yaml:2:1:" in done.text
    assert place.read()["head"] == head


def test_history_of_another_repository_is_refused(place: Place, clone: Make) -> None:
    copy = clone()
    copy.git("checkout", "-q", "--orphan", "other")
    copy.commit(message="the same files, no history in common")
    head = place.read()["head"]
    done = copy.push("HEAD:refs/for/main")
    assert done.code != 0
    assert "no history in common" in done.text
    assert place.read()["head"] == head


def test_everybody_gets_in_while_the_api_writes_all_the_time(
    server: Server, place: Place, admin: Client, clone: Make
) -> None:
    copies = [clone() for _ in range(4)]
    stop, failures = threading.Event(), []

    def write() -> None:
        with server.client("admin") as client:
            n = 0
            while not stop.is_set():
                client.patch(f"{place.at}/memory", {"key": f"api-{n % 7}", "value": n})
                n += 1

    def push(copy: Clone, who: int) -> None:
        for n in range(3):
            copy.commit(f"memory/person-{who}.yaml", f"{n}\n")
            done = copy.push("HEAD:refs/for/main")
            if done.code != 0:
                failures.append(done.text)
            copy.git("pull", "-q", "--no-rebase", "--no-edit")

    writer = threading.Thread(target=write)
    people = [threading.Thread(target=push, args=(copy, who)) for who, copy in enumerate(copies)]
    writer.start()
    for person in people:
        person.start()
    for person in people:
        person.join()
    stop.set()
    writer.join()
    assert failures == []
    memory = place.read()["memory"]
    assert {memory[f"person-{who}"] for who in range(4)} == {2}
    assert place.git("fsck", "--strict", "--no-dangling") == ""
