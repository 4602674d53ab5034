"""The API and a person at the same file: what can be put together is, what cannot keeps both, and neither is lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract.conftest import ADMIN
from started import PIPE, STDOUT, Started

from gitstore.errors import Conflict, Invalid, NotFound
from gitstore.model import Problem

from .living import API as WHO
from .living import SETTLE, Living, git, save, sound, until

TEXT = """\
# The policy. Ask Ada first.
days: 5      # of a week

who: 'ada'
steps:       # in this order
  - {id: build, by: ci}
  - {id: test, by: ci}
"""
SAID = {"days": 5, "who": "ada", "steps": [{"id": "build", "by": "ci"}, {"id": "test", "by": "ci"}]}


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    made = Living(tmp_path / "data").start()
    yield made
    made.stop()


@pytest.fixture
def shop(living: Living) -> Path:
    folder = living.make(other=1)
    save(folder / "memory/policy.yaml", TEXT)
    until(lambda: living.memory().get("policy") == SAID)
    living.rest()
    return folder


def conflict(living: Living, path: str = "memory/policy.yaml") -> Problem:
    return until(
        lambda: next((one for one in living.problems() if one.kind == "conflict" and one.path == path), None),
        what=living.problems,
    )


def clear(living: Living) -> None:
    until(lambda: not living.problems(), what=living.problems)
    living.rest()
    sound(living.folder())


# -- no conflict -------------------------------------------------------------------------------------------------------


def test_different_keys_and_items_both_stay_with_comments(living: Living, shop: Path) -> None:
    """The API's write is in `main` before the person's is seen, and the file has to take both."""
    with living.workspace().publishing:  # nothing is published: the person edits what was there before
        changed = {**SAID, "days": 7, "steps": [*SAID["steps"], {"id": "ship", "by": "api"}]}
        living.set("policy", changed, publish=False)
        save(
            shop / "memory/policy.yaml", TEXT.replace("'ada'", "'tom'").replace("id: test, by: ci", "id: test, by: tom")
        )
    steps = [{"id": "build", "by": "ci"}, {"id": "test", "by": "tom"}, {"id": "ship", "by": "api"}]
    until(lambda: living.memory()["policy"] == {"days": 7, "who": "tom", "steps": steps}, what=living.memory)
    clear(living)
    text = (shop / "memory/policy.yaml").read_text()
    assert (
        "# The policy. Ask Ada first.\ndays: 7      # of a week\n\nwho: 'tom'\nsteps:       # in this order\n" in text
    )


def test_a_hand_edit_of_an_old_version_while_main_moved_on_twice(living: Living, shop: Path) -> None:
    git(shop, "config", "x.y", "z")
    living.stop()
    living.__init__(living.data)  # type: ignore[misc]  # the same store, with nobody looking
    save(shop / "memory/policy.yaml", TEXT.replace("'ada'", "'tom'"))
    living.set("policy", {**SAID, "days": 6})
    living.set("policy", {**SAID, "days": 7, "more": True})
    assert "'tom'" in (shop / "memory/policy.yaml").read_text()
    assert "days: 5" in (shop / "memory/policy.yaml").read_text()
    living.start()
    until(lambda: living.memory()["policy"] == {**SAID, "days": 7, "who": "tom", "more": True})
    clear(living)


def test_a_second_save_before_the_first_is_published(living: Living, shop: Path) -> None:
    """The second save begins from the first, which is in `main` already, not from what was there before."""
    checkouts, publisher = living.live.checkouts, living.store.publisher
    again: list[str] = [TEXT.replace("5", "7"), ""]
    real = publisher.publish

    def publish(workspace: Any) -> bool:
        if living.memory()["policy"]["days"] == 6 and again[0]:
            save(shop / "memory/policy.yaml", again[0])
            again[0] = ""
        return real(workspace)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "publish", publish)
        save(shop / "memory/policy.yaml", TEXT.replace("5", "6"))
        until(lambda: living.memory()["policy"]["days"] == 7, what=living.problems)
    assert checkouts.committed >= 2
    clear(living)


@pytest.mark.parametrize("then", ["gone", "other"])
def test_a_new_file_that_changes_again_before_it_is_published(living: Living, shop: Path, then: str) -> None:
    """Deleted at once, a file does not come back; written again at once, it is no conflict with itself."""
    publisher = living.store.publisher
    real, place, done = publisher.publish, shop / "memory/new.yaml", []

    def publish(workspace: Any) -> bool:
        if "new" in living.memory() and not done:
            done.append(place.unlink() if then == "gone" else save(place, "2\n"))
        return real(workspace)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "publish", publish)
        save(place, "1\n")
        until(lambda: done)
        until(lambda: living.memory().get("new") == (None if then == "gone" else 2), what=living.problems)
    clear(living)
    assert place.exists() == (then == "other")


def test_a_deleted_file_that_is_written_again_before_that_is_published(living: Living, shop: Path) -> None:
    publisher = living.store.publisher
    real, place, done = publisher.publish, shop / "memory/policy.yaml", []

    def publish(workspace: Any) -> bool:
        if "policy" not in living.memory() and not done:
            done.append(save(place, "days: 1\n"))
        return real(workspace)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "publish", publish)
        place.unlink()
        until(lambda: living.memory().get("policy") == {"days": 1}, what=living.problems)
    clear(living)


def test_a_commit_of_everything_does_not_undo_what_the_api_wrote(living: Living, shop: Path) -> None:
    """`git commit -am` of a file that was left alone has only what the person saw in it."""
    living.live.settling.stop()
    save(shop / "memory/policy.yaml", TEXT.replace("'ada'", "'tom'"))
    living.set("policy", {**SAID, "days": 9})
    living.set("fresh", 1)
    assert git(shop, "status", "--porcelain") == " M memory/policy.yaml"
    git(shop, "commit", "-qam", "tom does it")
    living.publish()
    assert living.memory() == {"fresh": 1, "other": 1, "policy": {**SAID, "days": 9, "who": "tom"}}
    assert living.timeline()[1].name == "tom does it"
    sound(shop)
    text = (shop / "memory/policy.yaml").read_text()
    assert "who: 'tom'" in text
    assert "days: 9      # of a week" in text


def test_a_file_that_cannot_be_read_for_a_while_keeps_its_base(living: Living, shop: Path) -> None:
    """An edit that was no edit for a moment (here: a hard link) still began where it began."""
    living.live.settling.stop()
    place = shop / "memory/policy.yaml"
    save(place, TEXT.replace("'ada'", "'tom'"))
    living.set("policy", {**SAID, "days": 9})
    os.link(place, shop.parent.parent / "second-name")
    living.live.checkouts.look("shop", None)
    assert living.codes() == {"memory/policy.yaml": "hard_link"}
    os.unlink(shop.parent.parent / "second-name")
    time.sleep(2 * SETTLE)  # the edit's own age; nobody else is there to be waited for
    living.live.checkouts.look("shop", None)
    assert living.memory()["policy"] == {**SAID, "days": 9, "who": "tom"}


# -- true conflicts ----------------------------------------------------------------------------------------------------


def disagree(living: Living, shop: Path) -> Problem:
    with living.workspace().publishing:
        living.set("policy", {**SAID, "days": 7, "extra": "api"}, publish=False)
        save(shop / "memory/policy.yaml", TEXT.replace("days: 5", "days: 6").replace("'ada'", "'tom'"))
    return conflict(living)


def test_the_same_key_keeps_both_and_says_so(living: Living, shop: Path) -> None:
    problem = disagree(living, shop)
    assert (problem.kind, problem.code, problem.key) == ("conflict", "conflict", "policy")
    assert problem.values is not None
    assert problem.values["file"] == {**SAID, "days": 6, "who": "tom"}
    assert problem.values["main"] == {**SAID, "days": 7, "extra": "api"}
    assert "/days" in problem.message
    assert "7" in problem.message
    assert "6" in problem.message
    assert living.memory()["policy"] == {**SAID, "days": 7, "extra": "api"}
    mine = TEXT.replace("days: 5", "days: 6").replace("'ada'", "'tom'")
    living.set("policy", {**SAID, "days": 7, "extra": "api again"})
    living.set("elsewhere", 1)
    save(shop / "memory/other.yaml", "2\n")  # another edit goes on
    until(lambda: living.memory()["other"] == 2)
    assert (shop / "memory/policy.yaml").read_text() == mine
    assert conflict(living).id == problem.id
    assert conflict(living).since == problem.since


@pytest.mark.parametrize(
    ("take", "policy"),
    [
        ("file", {**SAID, "days": 6, "who": "tom", "extra": "api"}),
        ("main", {**SAID, "days": 7, "who": "tom", "extra": "api"}),
    ],
)
def test_it_is_settled_by_a_side(living: Living, shop: Path, take: str, policy: object) -> None:
    problem = disagree(living, shop)
    living.resolve(problem, take=take)
    assert living.memory()["policy"] == policy  # what does not clash is kept of both
    clear(living)
    text = (shop / "memory/policy.yaml").read_text()
    assert "# The policy. Ask Ada first." in text
    with pytest.raises(NotFound):
        living.resolve(problem, take=take)


def test_it_is_settled_with_a_value(living: Living, shop: Path) -> None:
    problem = disagree(living, shop)
    with pytest.raises(Invalid):
        living.resolve(problem, value={"key": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\n"
                                              "-----END OPENSSH PRIVATE KEY-----\n"})  # fmt: skip
    living.resolve(problem, value={"days": 6.5})
    assert living.memory()["policy"] == {"days": 6.5}
    clear(living)
    assert (shop / "memory/policy.yaml").read_text().startswith("# The policy")


def test_what_a_decision_threw_away_is_still_among_the_objects(living: Living, shop: Path) -> None:
    problem = disagree(living, shop)
    mine = git(shop, "hash-object", "memory/policy.yaml")
    living.resolve(problem, take="main")
    clear(living)
    assert "days: 6" in git(shop, "cat-file", "blob", mine)


def test_it_is_settled_by_mending_the_file(living: Living, shop: Path) -> None:
    disagree(living, shop)
    save(shop / "memory/policy.yaml", TEXT.replace("days: 5", "days: 7"))
    clear(living)
    assert living.memory()["policy"] == {**SAID, "days": 7, "extra": "api"}


def test_it_is_settled_by_throwing_the_edit_away(living: Living, shop: Path) -> None:
    disagree(living, shop)
    git(shop, "checkout", "--", "memory/policy.yaml")
    clear(living)
    assert living.memory()["policy"] == {**SAID, "days": 7, "extra": "api"}


def test_deletion_against_change(living: Living, shop: Path) -> None:
    place = shop / "memory/policy.yaml"

    def delete() -> Problem:
        with living.workspace().publishing:
            living.set("policy", {"days": living.memory().get("policy", {}).get("days", 0) + 1}, publish=False)
            place.unlink(missing_ok=True)
        return conflict(living)

    problem = delete()
    assert problem.values == {"file": None, "main": {"days": 6}}
    assert not place.exists()
    living.resolve(problem, take="main")
    clear(living)
    assert "days: 6" in place.read_text()
    problem = delete()
    living.resolve(problem, value={"days": 100})
    clear(living)
    assert living.memory()["policy"] == {"days": 100}
    assert "days: 100" in place.read_text()
    living.resolve(delete(), take="file")
    clear(living)
    assert "policy" not in living.memory()
    assert not place.exists()


def test_change_against_deletion(living: Living, shop: Path) -> None:
    place = shop / "memory/policy.yaml"
    with living.workspace().publishing:
        living.store.apply("shop", "main", lambda draft: draft.remove("memory/policy.yaml"), WHO).result()
        save(place, TEXT.replace("5", "6"))
    problem = conflict(living)
    assert problem.values == {"file": {**SAID, "days": 6}, "main": None}
    assert "days: 6" in place.read_text()
    living.resolve(problem, take="file")
    clear(living)
    assert living.memory()["policy"] == {**SAID, "days": 6}


def test_both_add_the_same_file(living: Living, shop: Path) -> None:
    with living.workspace().publishing:
        living.set("new", {"a": 1}, publish=False)
        save(shop / "memory/new.yaml", "b: 2   # mine\n")
    until(lambda: living.memory()["new"] == {"a": 1, "b": 2}, what=living.problems)
    clear(living)
    with living.workspace().publishing:
        living.set("text", "api", publish=False)
        save(shop / "memory/text.yaml", "person\n")
    living.resolve(conflict(living, "memory/text.yaml"), take="file")
    clear(living)
    assert living.memory()["text"] == "person"


def test_files_that_are_no_yaml_are_merged_by_lines(living: Living, shop: Path) -> None:
    place = shop / "files/notes.md"
    save(place, "".join(f"line {number}\n" for number in range(20)))
    until(lambda: "files/notes.md" in living.files())
    living.rest()
    lines = place.read_text()
    with living.workspace().publishing:
        change(living, "files/notes.md", lines.replace("line 2\n", "line two\n"))
        save(place, lines.replace("line 17\n", "line seventeen\n"))
    until(lambda: b"line two\n" in place.read_bytes() and b"seventeen" in (living.main("files/notes.md") or b""))
    clear(living)
    with living.workspace().publishing:
        change(living, "files/notes.md", place.read_text().replace("line 5\n", "api\n"))
        save(place, place.read_text().replace("line 5\n", "person\n"))
    problem = conflict(living, "files/notes.md")
    living.resolve(problem, take="file")
    clear(living)
    assert b"person\n" in (living.main("files/notes.md") or b"")
    assert b"api\n" not in (living.main("files/notes.md") or b"")


def test_no_decision_while_the_checkout_is_elsewhere(living: Living, shop: Path) -> None:
    problem = disagree(living, shop)
    git(shop, "checkout", "-qb", "side")
    until(lambda: living.live.checkouts.state(living.workspace()).busy == "other_branch")
    time.sleep(3 * SETTLE)
    assert conflict(living).id == problem.id
    with pytest.raises(Conflict, match="side"):
        living.resolve(problem, take="main")
    git(shop, "checkout", "-q", "main")
    living.resolve(conflict(living), take="file")
    clear(living)


# -- over a restart ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_conflict_outlives_the_process(living: Living, shop: Path, how: str) -> None:
    problem = disagree(living, shop)
    living.restart() if how == "restart" else living.crash()
    again = conflict(living)
    assert (again.id, again.values) == (problem.id, problem.values)
    living.resolve(again, take="file")
    assert living.memory()["policy"] == {**SAID, "days": 6, "who": "tom", "extra": "api"}
    clear(living)


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_the_base_of_an_edit_outlives_the_process(living: Living, shop: Path, how: str) -> None:
    living.live.settling.stop()
    save(shop / "memory/policy.yaml", TEXT.replace("'ada'", "'tom'"))
    living.set("policy", {**SAID, "days": 6})
    living.set("policy", {**SAID, "days": 7})
    living.restart() if how == "restart" else living.crash()
    until(lambda: living.memory()["policy"] == {**SAID, "days": 7, "who": "tom"})
    clear(living)


class Process:
    """`gitstore serve` over a folder, and its API."""

    def __init__(self, data: Path) -> None:
        words = ["serve", "--data", str(data), "--port", "0"]
        about = {**os.environ, "GITSTORE_ADMIN_KEY": ADMIN, "GITSTORE_CHECKOUT_SETTLE": "0.1"}
        self.process = Started(words, stdout=PIPE, stderr=STDOUT, env=about, cwd=data.parent)
        self.said: list[str] = []
        assert self.process.stdout is not None
        self.port = 0
        while not self.port:
            line = self.process.stdout.readline()
            assert line, self.said
            self.said.append(line)
            if "http://" in line:
                self.port = int(line.split("http://", 1)[1].split(":")[1].split()[0].strip("/"))

    def ask(self, method: str, path: str, body: object = None) -> Any:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            head = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
            connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), head)
            answer = json.loads(connection.getresponse().read())
            assert "data" in answer, answer
            return answer["data"]

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_a_server_is_killed_in_the_middle(tmp_path: Path) -> None:
    """Kill, edit, start, again and again: every write that was acknowledged and every save is in the end."""
    data, place = tmp_path / "data", tmp_path / "data/workspaces/shop/memory/policy.yaml"
    server = Process(data)
    server.ask("POST", "/workspaces", {"name": "Shop", "slug": "shop", "memory": {"policy": {"api": -1, "hand": -1}}})
    until(place.exists)
    try:
        for number in range(3):
            text = place.read_text()
            hand = next(line for line in text.splitlines() if line.startswith("hand"))
            place.write_text(text.replace(hand, f"hand: {number}"))
            said = server.ask("GET", "/workspaces/shop/memory/policy")["value"]
            server.ask("PATCH", "/workspaces/shop/memory", {"key": "policy", "value": {**said, "api": number}})
            server.end(signal.SIGKILL)
            server = Process(data)
            wanted = {"api": number, "hand": number}
            ask = server.ask
            until(
                lambda: ask("GET", "/workspaces/shop/memory/policy")["value"] == wanted,  # noqa: B023
                what=lambda: ask("GET", "/workspaces/shop"),  # noqa: B023
            )
            until(lambda: f"api: {number}\n" in place.read_text())  # noqa: B023
            until(lambda: git(place.parent.parent, "status", "--porcelain") == "")
    finally:
        server.end(signal.SIGTERM)
    folder = place.parent.parent
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "fsck", "--strict", "--full", "--no-dangling") == ""


def change(living: Living, path: str, text: str) -> None:
    living.store.apply("shop", "main", lambda draft: draft.write(path, text.encode()), WHO).result()
