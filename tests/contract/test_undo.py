"""Restore and revert: back to a state, or without what a cause wrote, as a new commit; tried first with `dry_run`."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

import pytest

from contract.client import PEM, Answer, Client, slug
from contract.conftest import Place, Server

DRY = "?dry_run=true"


def put(client: Client, place: Place, key: str, value: Any, **behalf: str) -> str:
    """Sets a key; the commit that did."""
    headers = {f"X-{name.replace('_', '-')}": text for name, text in behalf.items()}
    answer = client.patch(f"{place.at}/memory", {"key": key, "value": value}, headers=headers)
    return str(answer.data["head"])


def upload(client: Client, place: Place, name: str, content: bytes, **more: Any) -> Any:
    body = {"file_name": name, "content_base64": base64.b64encode(content).decode(), **more}
    return client.post(f"{place.at}/files", body).data


def memory(client: Client, place: Place) -> Any:
    return client.get(f"{place.at}/memory").data


def paths(answer: Answer) -> list[tuple[str, str]]:
    assert answer.data["changes_total"] == len(answer.data["changes"])
    return [(one["op"], one["path"]) for one in answer.data["changes"]]


def conflicts(answer: Answer) -> list[dict[str, Any]]:
    found = answer.error["details"]["conflicts"] if answer.status == 409 else answer.data["conflicts"]
    return list(found)


def entry(client: Client, place: Place) -> Any:
    return client.get(f"{place.at}/timeline?per_page=1").data[0]


def twice(client: Client, path: str, body: Any) -> Answer:
    """Tried, then done: what was told is what happened."""
    tried = client.post(path + DRY, body)
    assert tried.data["commit"] is None
    done = client.post(path, body)
    assert [done.data[name] for name in ("changes", "changes_total")] == [
        tried.data[name] for name in ("changes", "changes_total")
    ]
    assert done.data["head"] == (done.data["commit"] or tried.data["head"])
    return done


class TestRestore:
    def test_everything(self, admin: Client, place: Place) -> None:
        put(admin, place, "a", {"x": 1})
        upload(admin, place, "note.md", b"# One\n", description="a note")
        admin.put(f"{place.at}/spec", {"tools": {"available": ["git"]}})
        then = admin.patch(place.at, {"settings": {"s": 1}, "description": "as it was"})
        head = then.data["head"]
        tree = place.published() and place.git("rev-parse", f"{head}^{{tree}}")
        put(admin, place, "a", {"x": 2})
        put(admin, place, "b", 1)
        admin.delete(f"{place.at}/files/note-md")
        admin.put(f"{place.at}/spec", {})
        admin.patch(place.at, {"settings": {}, "description": None})
        answer = twice(admin, f"{place.at}/restore", {"at": head})
        assert paths(answer) == [
            ("added", "files/note.md"), ("added", "files/note.md.meta.yaml"), ("changed", "memory/a.yaml"),
            ("deleted", "memory/b.yaml"), ("changed", "settings.yaml"), ("added", "spec/tools.yaml"),
            ("changed", "workspace.yaml"),
        ]  # fmt: skip
        now = place.read()
        for field in ("name", "slug", "description", "settings", "memory", "id"):
            assert now[field] == then.data[field]
        assert now["head"] == answer.data["commit"]
        assert answer.etag == admin.get(place.at).etag
        place.published()
        assert place.git("rev-parse", "main^{tree}") == tree
        assert place.git("status", "--porcelain") == ""
        assert place.git("fsck", "--full", "--strict") == ""
        told = entry(admin, place)
        assert (told["kind"], told["name"]) == ("restore", f"restore: everything as of {head[:12]}")
        assert f"Gitstore-Restores: {head}" in place.git("log", "-1", "--format=%B")
        assert admin.get(f"{place.at}/spec").data["version"] == 3

    def test_nothing_different(self, admin: Client, place: Place) -> None:
        head = put(admin, place, "a", 1)
        answer = twice(admin, f"{place.at}/restore", {"at": head[:8]})
        assert (answer.data["commit"], answer.data["changes"], answer.data["head"]) == (None, [], head)
        assert place.read()["head"] == head

    def test_some_keys_and_paths(self, admin: Client, place: Place) -> None:
        long = "k" * 250 + "/é"
        then = [put(admin, place, key, key) for key in ("a", "b", "Key", long)][-1]
        upload(admin, place, "n.md", b"1\n", key="other key", description="d")
        with_file = place.read()["head"]
        for key in ("a", "b", "Key", long):
            put(admin, place, key, "later")
        put(admin, place, "new", 1)
        admin.delete(f"{place.at}/files/other%20key")
        twice(admin, f"{place.at}/restore", {"at": then, "keys": ["a", long, "new"]})
        assert memory(admin, place) == {"a": "a", "b": "later", "Key": "later", long: long}
        answer = twice(admin, f"{place.at}/restore", {"at": with_file, "paths": ["files/n.md", "/memory/b.yaml"]})
        assert paths(answer) == [
            ("added", "files/n.md"), ("added", "files/n.md.meta.yaml"), ("changed", "memory/b.yaml")
        ]  # fmt: skip
        found = admin.get(f"{place.at}/files/other%20key").data
        assert (found["description"], found["file_name"]) == ("d", "n.md")
        twice(admin, f"{place.at}/restore", {"at": then, "paths": ["memory/"], "message": "back with it"})
        assert memory(admin, place) == {"a": "a", "b": "b", "Key": "Key", long: long}
        assert entry(admin, place)["name"] == "back with it"

    def test_what_is_nowhere(self, admin: Client, place: Place) -> None:
        head = put(admin, place, "a", 1)
        at = f"{place.at}/restore"
        assert admin.post(at, {"at": "nothing"}).code == (404, "NOT_FOUND")
        assert admin.post(at, {"at": "2001-01-01T00:00:00Z"}).code == (404, "NOT_FOUND")
        for more in ({"paths": ["memory/a.yaml", "memory/zz.yaml"]}, {"keys": ["a", "zz"]}, {"paths": ["/"]}):
            answer = admin.post(at, {"at": head, **more})
            assert answer.code == (404, "NOT_FOUND")
        assert admin.post(at, {"at": head, "paths": ["a"], "keys": ["a"]}).pointers == [""]
        assert admin.post(at, {}).pointers == ["/at"]
        assert admin.post(at, {"at": head, "paths": [], "message": ""}).pointers == ["/paths", "/message"]

    def test_comments_of_then_come_back(self, admin: Client, place: Place) -> None:
        text = "# why it is so\nx: 1   # one\n\ny: 'two'\n"
        place.published()
        (place.folder / "memory").mkdir(exist_ok=True)
        (place.folder / "memory/hand.yaml").write_text(text)
        place.git("add", "-A")
        place.git("-c", "user.name=P", "-c", "user.email=p@example.org", "commit", "-qm", "by hand")
        head = admin.post(f"{place.at}/checkout/commit", {}).data and place.read()["head"]
        put(admin, place, "hand", {"z": 3})
        admin.post(f"{place.at}/restore", {"at": head})
        place.published()
        assert (place.folder / "memory/hand.yaml").read_text() == text
        assert memory(admin, place) == {"hand": {"x": 1, "y": "two"}}

    def test_an_edit_that_is_not_committed_stays(self, admin: Client, place: Place) -> None:
        admin.patch(place.at, {"settings": {"checkout": {"mode": "manual"}}})
        head = put(admin, place, "doc", {"x": 1, "z": 1})
        put(admin, place, "doc", {"x": 2, "z": 1})
        place.published()
        file = place.folder / "memory/doc.yaml"
        file.write_text(file.read_text().replace("z: 1", "z: 5  # by hand"))
        admin.post(f"{place.at}/restore", {"at": head, "keys": ["doc"]})
        place.published()
        assert "z: 5  # by hand" in file.read_text()
        assert memory(admin, place) == {"doc": {"x": 1, "z": 1}}
        admin.post(f"{place.at}/checkout/commit", {})
        assert memory(admin, place) == {"doc": {"x": 1, "z": 5}}

    def test_a_slug_that_is_taken_by_now(self, admin: Client, place: Place, make: Callable[..., Place]) -> None:
        head = place.read()["head"]
        admin.patch(place.at, {"slug": slug()})
        other = make(slug=place.slug)
        answer = admin.post(f"{place.at}/restore", {"at": head})
        assert answer.code == (409, "CONFLICT")
        assert place.slug in answer.error["message"]
        admin.delete(other.at)
        assert admin.post(f"{place.at}/restore", {"at": head}).data["commit"]
        assert place.read()["slug"] == place.slug
        assert place.published().is_dir()

    def test_what_todays_rules_refuse(self, second: Callable[..., Any]) -> None:
        with second(secret_policy="allow") as running, running.client() as client:
            data, record = running.store.layout.root, client.post("/workspaces", {"name": "w", "slug": "w"}).data
            at = f"/workspaces/{record['id']}"
            client.patch(f"{at}/memory", {"key": "k", "value": PEM})
            then = client.patch(f"{at}/memory", {"key": "fine", "value": 1}).data["head"]
            client.delete(f"{at}/memory/k")
            client.patch(f"{at}/memory", {"key": "fine", "value": 2})
        from contract.conftest import serving

        with serving(data) as running, running.client() as client:
            answer = client.post(f"{at}/restore", {"at": then})
            assert answer.code == (400, "VALIDATION_ERROR")
            assert "memory/k.yaml" in answer.error["message"]
            assert [one["path"] for one in answer.error["details"]["problems"]] == ["memory/k.yaml"]
            assert client.post(f"{at}/restore", {"at": then, "keys": ["fine"]}).data["commit"]
            deletion = client.get(f"{at}/timeline?kind=memory.deleted").data[0]["id"]
            assert client.post(f"{at}/revert", {"commits": [deletion]}).code == (400, "VALIDATION_ERROR")
            assert client.get(f"{at}/memory").data == {"fine": 1}

    def test_a_precondition_and_the_scope(self, admin: Client, agent: Client, place: Place) -> None:
        head = put(admin, place, "a", 1)
        etag = admin.get(place.at).etag
        put(admin, place, "a", 2)
        at = f"{place.at}/restore"
        assert admin.post(at, {"at": head}, headers={"If-Match": etag}).code == (412, "PRECONDITION_FAILED")
        assert agent.post(at, {"at": head}).code == (403, "FORBIDDEN")
        assert agent.post(f"{place.at}/revert", {"commits": [head]}).code == (403, "FORBIDDEN")
        assert memory(admin, place) == {"a": 2}
        etag = admin.get(place.at).etag
        assert admin.post(at, {"at": head}, headers={"If-Match": etag}).data["commit"]

    def test_evidence_stays(self, admin: Client, place: Place) -> None:
        head = put(admin, place, "a", 1)
        admin.post(f"{place.at}/workflows", {"name": "f"})
        put(admin, place, "a", 2)
        assert admin.post(f"{place.at}/restore", {"at": head}).data["changes_total"] == 1
        assert len(admin.get(f"{place.at}/workflows").data) == 1


class TestRevert:
    def test_one_commit(self, admin: Client, place: Place) -> None:
        put(admin, place, "a", {"x": 1, "y": 1})
        bad = put(admin, place, "a", {"x": 2, "y": 1})
        put(admin, place, "a", {"x": 2, "y": 2})
        put(admin, place, "b", 1)
        answer = twice(admin, f"{place.at}/revert", {"commits": [bad[:10]]})
        assert memory(admin, place) == {"a": {"x": 1, "y": 2}, "b": 1}
        assert [one["commit"] for one in answer.data["reverted"]] == [bad]
        stamp = answer.data["reverted"][0]
        assert list(stamp) == ["commit", "created_at", "kind", "name", "actor", "door", "request_id", "workflow_id",
                               "task_id"]  # fmt: skip
        assert answer.data["changes"][0]["values"] == [{"op": "changed", "pointer": "/x", "old": 2, "new": 1}]
        told = entry(admin, place)
        assert (told["kind"], told["name"]) == ("revert", "revert: memory: set a")
        place.published()
        assert f"Gitstore-Reverts: {bad}" in place.git("log", "-1", "--format=%B")
        assert place.git("fsck", "--full", "--strict") == ""

    def test_a_revert_is_reverted(self, admin: Client, place: Place) -> None:
        put(admin, place, "a", [1, 2])
        bad = put(admin, place, "a", [1, 2, 3])
        before = place.published() and place.git("rev-parse", "main^{tree}")
        first = admin.post(f"{place.at}/revert", {"commits": [bad]}).data["commit"]
        assert memory(admin, place) == {"a": [1, 2]}
        admin.post(f"{place.at}/revert", {"commits": [first]})
        place.published()
        assert place.git("rev-parse", "main^{tree}") == before

    @pytest.mark.parametrize("cause", ["workflow_id", "task_id", "request_id", "actor"])
    def test_a_cause(self, admin: Client, agent: Client, server: Server, place: Place, cause: str) -> None:
        name = {"workflow_id": "workflow_id", "task_id": "task_id", "request_id": "request_id"}.get(cause)
        mark = f"mark-{cause}"
        behalf = {name: mark} if name else {}
        put(admin, place, "a", 1)
        put(admin, place, "kept", 0)
        put(agent, place, "a", 2, **behalf)
        put(agent, place, "made", {"by": "it"}, **behalf)
        put(agent, place, "a", 3, **behalf)
        put(admin, place, "kept", 1)
        agent.post(f"{place.at}/workflows", {"name": "evidence"}, headers={"X-Workflow-Id": mark})
        actor = server.keys["agent"] and agent.get("/auth/me").data["prefix"]
        body = {cause: actor if cause == "actor" else mark}
        answer = twice(admin, f"{place.at}/revert", body)
        assert answer.data["reverted_total"] == 3
        assert memory(admin, place) == {"a": 1, "kept": 1}
        assert entry(admin, place)["name"].startswith("revert: 3 commits of ")
        assert len(admin.get(f"{place.at}/workflows").data) == 1

    def test_a_window_of_time(self, admin: Client, place: Place) -> None:
        put(admin, place, "a", 1, workflow_id="w")
        put(admin, place, "b", 1, workflow_id="w")
        put(admin, place, "c", 1, workflow_id="w")
        times = [one["created_at"] for one in admin.get(f"{place.at}/timeline?workflow_id=w").data]
        if len(set(times)) < 3:
            pytest.skip("two commits in one millisecond")
        admin.post(f"{place.at}/revert", {"workflow_id": "w", "since": times[1], "until": times[1]})
        assert memory(admin, place) == {"a": 1, "c": 1}
        assert admin.post(f"{place.at}/revert", {"workflow_id": "w", "since": "x"}).code == (400, "VALIDATION_ERROR")

    def test_later_values_in_the_way(self, admin: Client, place: Place) -> None:
        put(admin, place, "a", {"x": 1, "y": 1, "z": 1})
        put(admin, place, "a", {"x": 2, "y": 2, "z": 1}, workflow_id="w")
        head = put(admin, place, "a", {"x": 3, "y": 2, "z": 3})
        body = {"workflow_id": "w"}
        refused = admin.post(f"{place.at}/revert", body)
        wanted = [{"path": "memory/a.yaml", "key": "a", "pointer": "/x", "before": 1, "written": 2, "now": 3}]
        assert refused.code == (409, "CONFLICT")
        assert conflicts(refused) == wanted
        assert "/x" in refused.error["message"]
        assert place.read()["head"] == head
        tried = admin.post(f"{place.at}/revert{DRY}", body)
        assert conflicts(tried) == wanted
        assert tried.data["conflicts_total"] == 1
        kept = twice(admin, f"{place.at}/revert", {**body, "on_conflict": "keep"})
        assert conflicts(kept) == wanted
        assert memory(admin, place) == {"a": {"x": 3, "y": 1, "z": 3}}
        admin.post(f"{place.at}/revert", {"commits": [kept.data["commit"]]})
        twice(admin, f"{place.at}/revert", {**body, "on_conflict": "force"})
        assert memory(admin, place) == {"a": {"x": 1, "y": 1, "z": 3}}

    def test_a_chain_that_somebody_else_is_part_of(self, admin: Client, place: Place) -> None:
        put(admin, place, "a", {"n": 0, "m": 0})
        for turn in range(1, 6):
            put(admin, place, "a", {"n": turn, "m": turn - 1}, workflow_id="w")
            put(admin, place, "a", {"n": turn, "m": turn})
        twice(admin, f"{place.at}/revert", {"workflow_id": "w"})
        assert memory(admin, place) == {"a": {"n": 0, "m": 5}}

    def test_comments_survive(self, admin: Client, place: Place) -> None:
        place.published()
        (place.folder / "memory").mkdir(exist_ok=True)
        file = place.folder / "memory/hand.yaml"
        file.write_text("# the policy\nwindow: monday   # as agreed\nlimit: 3\n")
        admin.post(f"{place.at}/checkout/commit", {})
        bad = put(admin, place, "hand", {"window": "friday", "limit": 3})
        place.published()
        file.write_text(file.read_text().replace("limit: 3\n", "# more than before\nlimit: 5\n"))
        admin.post(f"{place.at}/checkout/commit", {})
        admin.post(f"{place.at}/revert", {"commits": [bad]})
        place.published()
        assert file.read_text() == "# the policy\nwindow: monday   # as agreed\n# more than before\nlimit: 5\n"

    def test_files_and_renames(self, admin: Client, place: Place) -> None:
        upload(admin, place, "a.md", b"one\ntwo\nthree\nfour\nfive\n", key="doc")
        upload(admin, place, "a.md", b"ONE\ntwo\nthree\nfour\nfive\n", key="doc")
        bad = place.read()["head"]
        upload(admin, place, "b.md", b"ONE\ntwo\nthree\nfour\nfive\n", key="doc")  # the same, renamed
        answer = twice(admin, f"{place.at}/revert", {"commits": [bad]})
        assert paths(answer) == [("changed", "files/b.md")]
        content = admin.get(f"{place.at}/files/doc/content").body
        assert content == b"one\ntwo\nthree\nfour\nfive\n"
        # And the other way round: the rename is undone, what was written since stays.
        rename = admin.get(f"{place.at}/timeline?path=files/b.md").data[-1]["id"]
        upload(admin, place, "b.md", b"one\ntwo\nthree\nfour\n5\n", key="doc")
        twice(admin, f"{place.at}/revert", {"commits": [rename]})
        found = admin.get(f"{place.at}/files/doc").data
        assert found["file_name"] == "a.md"
        assert admin.get(f"{place.at}/files/doc/content").body == b"one\ntwo\nthree\nfour\n5\n"

    def test_a_merge_is_what_it_brought(self, admin: Client, place: Place) -> None:
        put(admin, place, "a", 1)
        place.published()
        who = ("-c", "user.name=P", "-c", "user.email=p@example.org")
        place.git("checkout", "-q", "-b", "side")
        (place.folder / "memory/side.yaml").write_text("1\n")
        place.git("add", "-A")
        place.git(*who, "commit", "-qm", "on the side")
        side = place.git("rev-parse", "HEAD")
        place.git("checkout", "-q", "main")
        (place.folder / "memory/main.yaml").write_text("2\n")
        place.git("add", "-A")
        place.git(*who, "commit", "-qm", "on main")
        place.git(*who, "merge", "-q", "--no-ff", "-m", "join the side", "side")
        merged = place.git("rev-parse", "HEAD")
        admin.post(f"{place.at}/checkout/commit", {})
        assert memory(admin, place) == {"a": 1, "main": 2, "side": 1}
        assert admin.post(f"{place.at}/revert", {"commits": [side]}).code == (404, "NOT_FOUND")
        twice(admin, f"{place.at}/revert", {"commits": [merged]})
        assert memory(admin, place) == {"a": 1, "main": 2}

    def test_what_cannot_be_reverted(self, admin: Client, agent: Client, place: Place) -> None:
        first = place.read()["head"]
        at = f"{place.at}/revert"
        made = admin.post(at, {"commits": [first]})
        assert made.code == (400, "VALIDATION_ERROR")
        assert "made the workspace" in made.error["message"]
        assert admin.post(at, {"actor": "admin"}).code == (404, "NOT_FOUND")  # it made nothing but the workspace
        workflow = admin.post(f"{place.at}/workflows", {"name": "f"}).data["id"]
        evidence = admin.get(f"{place.at}/timeline?workflow_id={workflow}").data[0]["id"]
        assert admin.post(at, {"commits": [evidence]}).code == (400, "VALIDATION_ERROR")
        assert admin.post(at, {"workflow_id": workflow}).code == (404, "NOT_FOUND")
        assert admin.post(at, {"commits": ["0" * 40]}).code == (404, "NOT_FOUND")
        assert admin.post(at, {"commits": ["xyz"]}).pointers == ["/commits/0"]
        for body in ({}, {"since": "2026-01-01"}, {"commits": [first], "actor": "a"}):
            assert admin.post(at, body).pointers == [""]
        assert admin.post(at, {"actor": "a", "on_conflict": "x"}).pointers == ["/on_conflict"]
        assert admin.post(f"/workspaces/{slug()}/revert", {"actor": "a"}).code == (404, "NOT_FOUND")

    def test_settings_spec_and_the_slug(self, admin: Client, place: Place) -> None:
        old = place.slug
        new = slug()
        behalf = {"X-Workflow-Id": "w"}
        admin.patch(place.at, {"slug": new, "settings": {"a": 1}}, headers=behalf)
        admin.put(f"{place.at}/spec", {"tools": {"available": ["x"]}}, headers=behalf)
        admin.patch(place.at, {"name": "Renamed"})
        twice(admin, f"{place.at}/revert", {"workflow_id": "w"})
        now = place.read()
        assert (now["slug"], now["settings"], now["name"]) == (old, {}, "Renamed")
        assert admin.get(f"{place.at}/spec").data["spec"] == {}
        assert now["current_spec_version"] == 2
        assert place.published().is_dir()

    def test_a_name_that_is_no_utf_8(self, admin: Client, place: Place) -> None:
        place.published()
        name = os.fsencode(place.folder) + b"/caf\xe9.txt"
        for text in (b"one\n", b"two\n", b"three\n"):
            with open(name, "wb") as file:
                file.write(text)
            place.git("add", "-A")
            place.git("-c", "user.name=P", "-c", "user.email=p@example.org", "commit", "-qm", text.decode().strip())
            admin.post(f"{place.at}/checkout/commit", {})
        commits = [one["id"] for one in admin.get(f"{place.at}/timeline?kind=edit").data]
        answer = admin.post(f"{place.at}/revert", {"commits": [commits[1]]})
        assert answer.code == (409, "CONFLICT")
        assert conflicts(answer) == [
            {"path": "caf\ufffd.txt", "pointer": "", "line": 1, "before": "one\n", "written": "two\n", "now": "three\n"}
        ]
        twice(admin, f"{place.at}/revert", {"commits": [commits[1]], "on_conflict": "force"})
        twice(admin, f"{place.at}/restore", {"at": commits[1]})
        place.published()
        with open(name, "rb") as file:
            assert file.read() == b"two\n"

    def test_a_folder_in_the_way(self, admin: Client, place: Place) -> None:
        place.published()
        (place.folder / "notes").write_text("a file\n")
        admin.post(f"{place.at}/checkout/commit", {})
        (place.folder / "notes").unlink()
        admin.post(f"{place.at}/checkout/commit", {})
        gone = place.read()["head"]
        place.published()
        (place.folder / "notes").mkdir()
        (place.folder / "notes/a.md").write_text("in a folder\n")
        admin.post(f"{place.at}/checkout/commit", {})
        for way in ("refuse", "force"):
            answer = admin.post(f"{place.at}/revert", {"commits": [gone], "on_conflict": way})
            assert answer.code == (409, "CONFLICT")
            assert conflicts(answer) == [{"path": "notes", "pointer": "", "before": "a file\n"}]
        kept = admin.post(f"{place.at}/revert", {"commits": [gone], "on_conflict": "keep"})
        assert kept.data["commit"] is None
