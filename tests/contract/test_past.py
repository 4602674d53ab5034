"""Any read at any time: `?at=` on every read, what it means, and what it says when there is nothing of the kind."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
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


class Diary:
    """What every read answered after each change, to be read again later."""

    READS = ("", "/memory", "/memory/policy", "/spec", "/resources", "/resources?type=api", "/tools", "/files",
             "/files?q=guide&page=1", "/files/guide-md", "/artifacts", "/artifacts?q=numbers&sort=name",
             "/artifacts?stage_name=build", "/artifacts?q=secondword", "/artifacts?q=goneword",
             "/artifacts?preview_mode=inline")  # fmt: skip

    def __init__(self, admin: Client, place: Place) -> None:
        self.admin = admin
        self.place = place
        self.pages: dict[str, dict[str, Any]] = {}

    def answers(self, commit: str | None = None) -> dict[str, Any]:
        found = {}
        for what in self.READS:
            query = "" if commit is None else f"{'&' if '?' in what else '?'}at={commit}"
            answer = self.admin.get(f"{self.place.at}{what}{query}")
            if answer.status == 404:
                found[what] = 404
                continue
            meta = {key: answer.meta[key] for key in ("total", "summary", "filters") if key in answer.meta}
            found[what] = (answer.data, answer.headers["ETag"], meta)
        for one in self.artifacts:
            for what in ("", "/preview"):
                query = "" if commit is None else f"?at={commit}"
                answer = self.admin.get(f"{self.place.at}/artifacts/{one}{what}{query}")
                found[one, what] = (answer.status, answer.body, answer.headers["ETag"]) if answer.status < 400 else 404
        for what in ("guide-md", "notes-txt"):
            query = "" if commit is None else f"?at={commit}"
            answer = self.admin.get(f"{self.place.at}/files/{what}/content{query}")
            found[what] = (answer.body, answer.etag, answer.headers["Last-Modified"]) if answer.status < 400 else 404
        return found

    artifacts: tuple[str, ...] = ()

    def write(self) -> None:
        newest = self.admin.get(f"{self.place.at}/timeline?per_page=1").data[0]["id"]
        self.pages[newest] = self.answers()


def test_each_read_at_a_commit_is_what_it_answered_then(admin: Client, place: Place) -> None:
    diary = Diary(admin, place)
    there = place.at

    def change(method: str, path: str, body: Any = None) -> Any:
        answer = admin.ask(method, path, body)
        assert answer.status < 300, answer.body
        diary.write()
        return answer.json["data"] if answer.body else None

    def upload(name: str, text: str, **more: Any) -> Any:
        body = {"file_name": name, "content_base64": base64.b64encode(text.encode()).decode(), **more}
        return change("POST", f"{there}/files", body)

    def artifact(path: str, text: str, **more: Any) -> str:
        content = base64.b64encode(text.encode()).decode()
        made = change("POST", f"{there}/artifacts", {"path": path, "content_base64": content, **more})
        diary.artifacts += (made["id"],)
        diary.write()
        return str(made["id"])

    diary.write()
    change("PATCH", f"{there}/memory", {"key": "policy", "value": {"owner": "rosa"}})
    change(
        "PUT", f"{there}/spec", {"resources": {"crm": {"type": "api", "binding": {"base_url": "https://a.example"}}}}
    )
    upload("guide.md", "one")
    flow = change("POST", f"{there}/workflows", {"name": "First name", "tasks": [{"id": f"t-{place.slug}", "title": "T",
                  "stage_name": "build"}]})  # fmt: skip
    one = artifact("reports/numbers.csv", "a,goneword\n1,2\n", workflow_id=flow["id"], task_id=f"t-{place.slug}")
    change("PATCH", f"{there}/memory", {"key": "policy", "value": {"owner": "ida"}})
    upload("notes.txt", "n", description="short")
    artifact("words.txt", "the secondword is here")
    upload("guide.md", "two", content_type="text/x-guide")
    change("PATCH", f"/workflows/{flow['id']}", {"name": "Second name", "state": "completed"})
    change("PUT", f"{there}/spec", {"tools": {"available": ["git"], "blocked": []}})
    change("DELETE", f"{there}/artifacts/{one}")
    change("DELETE", f"{there}/memory/policy")
    change("DELETE", f"{there}/files/guide-md")
    artifact("more/numbers.csv", "a\n1\n")
    change("PATCH", there, {"name": "Another", "settings": {"workspace_brief": "b"}})
    upload("guide.md", "three")
    change("DELETE", f"{there}/files/notes-txt")

    for commit, page in diary.pages.items():
        known = diary.answers(commit)
        for what, answered in page.items():
            assert known[what] == answered, (commit, what)
    assert len(diary.pages) >= 18


def test_secrets_stay_redacted_and_are_told_as_today(admin: Client, place: Place) -> None:
    bare = put(admin, place, "a", 1)
    token = "x" * 24
    head = admin.patch(place.at, {"settings": {"credentials": {"git_token": token}, "b": 1}}).data["head"]
    now = place.read()["settings"]
    assert now["credentials"]["git_token_configured"] is True
    for moment in (bare, head):
        answer = at(admin, place, "", moment)
        assert token.encode() not in answer.body
        assert answer.data["settings"]["credentials"] == now["credentials"]
    before = at(admin, place, "", head).etag
    admin.patch(place.at, {"settings": {"credentials": {"git_token": ""}, "b": 1}})
    after = at(admin, place, "", head)
    assert "credentials" not in after.data["settings"]
    assert after.etag != before


def test_a_time_names_both_branches(admin: Client, place: Place) -> None:
    head = put(admin, place, "a", 1)
    made = admin.post(f"{place.at}/artifacts", {"path": "x.txt", "content_base64": "eA=="}).data
    when = admin.get(f"{place.at}/timeline?per_page=1").data[0]
    assert when["id"] == made["commit"]
    moment = at(admin, place, "/artifacts", when["created_at"]).meta["at"]
    assert (moment["main"], moment["evidence"], moment["time"]) == (head, made["commit"], when["created_at"])
    shifted = when["created_at"].replace("Z", "+00:00")  # as somebody writes it who does not know about `+`
    assert at(admin, place, "/artifacts", shifted).meta["at"]["evidence"] == made["commit"]
    of_evidence = at(admin, place, "/memory", made["commit"])
    assert of_evidence.data == {"a": 1}
    assert of_evidence.headers["Gitstore-At"] == head
    assert at(admin, place, "/artifacts", head).meta["at"]["time"] <= when["created_at"]


def test_reading_the_past_writes_nothing(admin: Client, place: Place) -> None:
    first = put(admin, place, "a", 1)
    put(admin, place, "a", 2)
    folder = place.published()
    before = sorted((str(path), path.stat().st_mtime_ns) for path in (folder / ".git/refs").rglob("*"))
    objects = place.git("count-objects", "-v")
    for what in ("", "/memory", "/memory/a", "/spec", "/resources", "/tools", "/files", "/artifacts"):
        assert at(admin, place, what, first).status == 200
    assert before == sorted((str(path), path.stat().st_mtime_ns) for path in (folder / ".git/refs").rglob("*"))
    assert place.git("count-objects", "-v") == objects
    assert place.read()["head"] != first


def test_at_and_version_are_one_too_many(admin: Client, place: Place) -> None:
    head = place.record["head"]
    assert admin.get(f"{place.at}/spec?at={head}&version=0").pointers == ["/at"]
    assert admin.get(f"{place.at}/files/x/content?at={head}&version=1").pointers == ["/at"]


def test_a_short_id_that_fits_several_commits_is_told(admin: Client, place: Place) -> None:
    known: dict[str, str] = {}
    for n in range(2_000):
        head = put(admin, place, "n", n)
        if head[:4] in known:
            break
        known[head[:4]] = head
    answer = at(admin, place, "/memory", head[:4])
    assert answer.code == (400, "VALIDATION_ERROR")
    assert "more than one commit" in answer.error["message"]
    assert at(admin, place, "/memory", head).data == {"n": n}


def test_a_commit_that_a_merge_brought_in_and_its_own_past(admin: Client, place: Place) -> None:
    put(admin, place, "shared", "base")
    folder = place.published()
    base = place.git("rev-parse", "main")

    def commit(parent: str, name: str, text: str) -> str:
        blob = subprocess.run(["git", "hash-object", "-w", "--stdin"], cwd=folder, input=text, capture_output=True,
                              text=True, check=True).stdout.strip()  # fmt: skip
        index = {"GIT_INDEX_FILE": str(folder / ".git/other-index")}
        run(folder, index, "read-tree", parent)
        run(folder, index, "update-index", "--add", "--cacheinfo", f"100644,{blob},memory/{name}.yaml")
        tree = run(folder, index, "write-tree")
        return run(folder, index, "commit-tree", tree, "-p", parent, "-m", f"side {name}")

    one = commit(base, "side", "1\n")
    two = commit(one, "later", "2\n")
    put(admin, place, "shared", "main went on")
    place.published()
    place.git("merge", "-q", "--no-edit", two)
    admin.ask("GET", f"{place.at}/checkout")
    wait(lambda: admin.get(f"{place.at}/memory").data.get("later") == 2)
    for moment, memory in ((one, {"shared": "base", "side": 1}), (two, {"later": 2, "shared": "base", "side": 1})):
        assert at(admin, place, "/memory", moment).data == memory
        assert at(admin, place, "/memory", moment[:14]).data == memory
    assert at(admin, place, "/memory/side", two).data["commit"] == one
    assert at(admin, place, "/memory/shared", two).data["commit"] == base
    other = commit(base, "loose", "3\n")
    place.git("update-ref", "refs/heads/other", other)
    assert at(admin, place, "/memory", other).code == (404, "NOT_FOUND")


def run(folder: Path, environment: dict[str, str], *words: str) -> str:
    known = {**os.environ, "GIT_AUTHOR_NAME": "p", "GIT_AUTHOR_EMAIL": "p@x", "GIT_COMMITTER_NAME": "p",
             "GIT_COMMITTER_EMAIL": "p@x", **environment}  # fmt: skip
    done = subprocess.run(["git", *words], cwd=folder, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_broken_file_says_then_what_it_said_before(admin: Client, place: Place) -> None:
    put(admin, place, "a", "good")
    folder = place.published()
    (folder / "memory/a.yaml").write_text("x: [unclosed\n")
    place.git("-c", "user.name=p", "-c", "user.email=p@x", "commit", "-qam", "broken by hand")
    broken = place.git("rev-parse", "HEAD")
    wait(lambda: place.read()["problems"] != [])
    was = place.read()
    put(admin, place, "a", "mended")
    then = at(admin, place, "", broken).data
    assert then["memory"] == was["memory"] == {"a": "good"}
    assert [one["path"] for one in then["problems"]] == ["memory/a.yaml"]
    assert at(admin, place, "", broken).etag == at(admin, place, "", broken[:20]).etag
    assert place.read()["memory"] == {"a": "mended"}


def test_by_task_too(admin: Client, place: Place) -> None:
    task = f"t-{place.slug}"
    admin.post(f"{place.at}/workflows", {"name": "w", "tasks": [{"id": task, "title": "T"}]})
    made = admin.post(f"/tasks/{task}/artifacts", {"path": "x.txt", "content_base64": "eA=="}).data
    admin.delete(f"/tasks/{task}/artifacts/{made['id']}")
    there = f"/tasks/{task}/artifacts/{made['id']}"
    assert admin.get(there).code == (404, "NOT_FOUND")
    answer = admin.get(f"{there}?at={made['commit']}")
    assert (answer.body, answer.headers["Content-Disposition"].split(";")[0]) == (b"x", "attachment")
    assert admin.get(f"{there}/preview?at={made['commit']}").body == b"x"
    assert admin.get(f"{there}?at={place.record['head']}").code == (404, "NOT_FOUND")


def test_what_has_expired_is_not_brought_back(admin: Client, place: Place) -> None:
    keep = {"artifact_retention": {"mode": "ephemeral"}}
    flow = admin.post(f"{place.at}/workflows", {"name": "w", "metadata": keep, "state": "active"}).data
    made = admin.post(f"{place.at}/artifacts", {"path": "x.txt", "content_base64": "eA==", "workflow_id": flow["id"]})
    moment = made.data["commit"]
    assert at(admin, place, "/artifacts", moment).meta["total"] == 1
    assert at(admin, place, f"/artifacts/{made.data['id']}", moment).body == b"x"
    admin.patch(f"/workflows/{flow['id']}", {"state": "completed"})
    assert at(admin, place, "/artifacts", moment).meta["total"] == 0
    assert at(admin, place, f"/artifacts/{made.data['id']}", moment).code == (404, "NOT_FOUND")
