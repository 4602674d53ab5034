"""Artifacts: uploaded in three ways, once for each request id, kept as their workflow says, safe to open."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from typing import Any
from urllib.parse import quote, unquote, urlencode

import pytest

from contract.client import OID, PEM, TIME, UUID, Answer, Client, multipart, pages, part, slug
from contract.conftest import Place, Server
from server import sending, wire

RECORD = ["id", "workflow_id", "workspace_id", "task_id", "logical_path", "content_type", "size_bytes",
          "checksum_sha256",
          "metadata", "retention_policy", "expires_at", "created_at", "download_url", "preview_url", "permalink_url",
          "preview_eligible", "preview_mode", "storage_backend", "commit", "pinned", "content_indexed"]  # fmt: skip
MIB = 1024 * 1024


class Run:
    """A workflow with one task."""

    def __init__(self, client: Client, place: Place, **fields: Any) -> None:
        self.task = slug()
        tasks = [{"id": self.task, "title": "the task", "role": "dev", "stage_name": "build"}]
        self.flow = client.post(f"{place.at}/workflows", {"name": "the flow", "tasks": tasks, **fields}).data["id"]
        self.at = f"/tasks/{self.task}/artifacts"


@pytest.fixture
def run(agent: Client, place: Place) -> Run:
    return Run(agent, place)


def body(path: str = "out/a.md", data: bytes = b"content", **more: Any) -> dict[str, Any]:
    return {"path": path, "content_base64": base64.b64encode(data).decode(), **more}


def disposition(answer: Answer) -> tuple[str, str]:
    kind, rest = answer.headers["Content-Disposition"].split(";", 1)
    return kind, unquote(rest.split("filename*=UTF-8''")[1])


# --- upload ---------------------------------------------------------------------------------------------------------


def test_an_artifact_of_a_task(agent: Client, place: Place, run: Run) -> None:
    data = os.urandom(500)
    answer = agent.post(run.at, body("out/a.bin", data, metadata={"z": 1, "a": [None]}))
    assert answer.status == 201
    made = answer.data
    assert list(made) == RECORD
    assert UUID.fullmatch(made["id"])
    assert (made["workflow_id"], made["workspace_id"], made["task_id"]) == (run.flow, place.id, run.task)
    assert (made["logical_path"], made["content_type"]) == ("out/a.bin", "application/octet-stream")
    assert (made["size_bytes"], made["checksum_sha256"]) == (500, hashlib.sha256(data).hexdigest())
    assert list(made["metadata"]) == ["z", "a"]
    assert made["retention_policy"] == {"mode": "forever"}
    assert made["expires_at"] is None
    assert TIME.fullmatch(made["created_at"])
    assert made["download_url"] == f"/api/v1/tasks/{run.task}/artifacts/{made['id']}"
    assert made["preview_url"] is made["permalink_url"] is None
    assert (made["preview_eligible"], made["preview_mode"]) == (False, "unsupported")
    assert OID.fullmatch(made["commit"])
    got = agent.root("GET", made["download_url"])
    assert got.body == data
    assert disposition(got) == ("attachment", "a.bin")
    place.published()
    assert place.git("rev-parse", "evidence") == made["commit"]
    assert place.git("fsck", "--strict") == ""
    assert place.git("status", "--porcelain") == ""
    assert made["id"] in place.git("show", "--stat", "--format=", "evidence")


def test_an_artifact_of_a_workspace(agent: Client, place: Place, run: Run) -> None:
    bare = agent.post(f"{place.at}/artifacts", body()).data
    assert (bare["workflow_id"], bare["task_id"]) == (None, None)
    assert bare["download_url"] == f"/api/v1{place.at}/artifacts/{bare['id']}"
    assert bare["preview_url"] == bare["download_url"] + "/preview"
    assert bare["permalink_url"] == bare["download_url"] + "/permalink"
    full = agent.post(f"{place.at}/artifacts", body(task_id=run.task, work_item_id="i", stage_name="s", role="r")).data
    assert (full["workflow_id"], full["task_id"]) == (run.flow, run.task)
    assert full["download_url"].startswith("/api/v1/tasks/")
    assert agent.get(f"{place.at}/artifacts/{full['id']}").body == b"content"
    assert agent.get(f"{run.at}/{full['id']}").body == b"content"
    assert agent.get(f"{run.at}/{bare['id']}").code == (404, "NOT_FOUND")


def test_the_same_path_again_is_a_new_artifact(agent: Client, run: Run) -> None:
    one, two = agent.post(run.at, body(data=b"1")).data, agent.post(run.at, body(data=b"2")).data
    assert one["id"] != two["id"]
    assert (agent.get(f"{run.at}/{one['id']}").body, agent.get(f"{run.at}/{two['id']}").body) == (b"1", b"2")


@pytest.mark.parametrize(
    ("path", "logical"),
    [("a", "a"), ("./a/./b", "a/b"), ("a//b", "a/b"), ("x/y/z.md", "x/y/z.md"), ("é/🧪.md", "é/🧪.md"), ("a b/c d",
        "a b/c d"),
     ("x" * 200, "x" * 200), ("artifact.yaml", "artifact.yaml"), ("a%2Fb", "a%2Fb")],
)  # fmt: skip
def test_a_path_is_normalised(agent: Client, run: Run, path: str, logical: str) -> None:
    made = agent.post(run.at, body(path)).data
    assert made["logical_path"] == logical
    got = agent.get(f"{run.at}/{made['id']}")
    assert got.body == b"content"
    assert disposition(got)[1] == logical.rsplit("/", 1)[-1]


@pytest.mark.parametrize(
    "path", ["/a", "..", "a/../../b", "../a", ".", "a\nb", "\\a", "C:\\a", "a/", " ", "a/..", "~/a\x7f"]
)
def test_a_path_that_is_not_safe(agent: Client, run: Run, path: str) -> None:
    answer = agent.post(run.at, body(path))
    assert answer.code == (400, "VALIDATION_ERROR") or (answer.status == 201 and path == " "), answer.body


def test_the_limits_of_fields(agent: Client, run: Run) -> None:
    assert agent.post(run.at, body("/".join(["x" * 100] * 11)[:1024].rstrip("/"))).status == 201
    assert agent.post(run.at, body("x" * 1025)).pointers == ["/path"]
    assert agent.post(run.at, body("")).pointers == ["/path"]
    assert agent.post(run.at, body(request_id="x" * 255)).status == 201
    for wrong in (
        {"request_id": "x" * 256},
        {"request_id": ""},
        {"metadata": []},
        {"metadata": None},
        {"content_type": ""},
    ):
        assert agent.post(run.at, body(**wrong)).pointers == [f"/{next(iter(wrong))}"]
    assert set(agent.post(run.at, {}).pointers) == {"/path", "/content_base64"}


@pytest.mark.parametrize("text", ["!", "YQ", "YQ=", "", "YQ==YQ==", "_-8="])
def test_base64_that_is_none(agent: Client, run: Run, text: str) -> None:
    assert agent.post(run.at, {"path": "a", "content_base64": text}).status == 400


def test_an_unknown_task_is_404(agent: Client, place: Place) -> None:
    for name in (slug(), "%00", "x" * 300, "%F0%9F%A7%AA"):
        assert agent.post(f"/tasks/{name}/artifacts", body()).code in ((404, "NOT_FOUND"), (400, "VALIDATION_ERROR"))
        assert agent.get(f"/tasks/{name}/artifacts").code == (404, "NOT_FOUND")
    assert agent.post(f"/tasks/{slug()}/artifacts", body()).code == (404, "NOT_FOUND")


def test_a_task_of_another_workflow_is_refused(agent: Client, place: Place, run: Run) -> None:
    other = Run(agent, place)
    answer = agent.post(f"{place.at}/artifacts", body(task_id=run.task, workflow_id=other.flow))
    assert answer.code == (400, "VALIDATION_ERROR")


def test_a_form(agent: Client, place: Place, run: Run) -> None:
    data = bytes(range(256)) * 100
    sent, headers = multipart(
        ("path", "out/né.bin"),
        ("task_id", run.task),
        ("metadata", '{"a": 1}'),
        ("role", "r"),
        ("file", data, "x.bin", "image/png"),
    )
    answer = agent.post(f"{place.at}/artifacts", sent, headers=headers)
    assert answer.status == 201, answer.body
    made = answer.data
    assert (made["logical_path"], made["content_type"], made["metadata"]) == ("out/né.bin", "image/png", {"a": 1})
    assert (made["task_id"], made["workflow_id"]) == (run.task, run.flow)
    assert agent.root("GET", made["download_url"]).body == data
    sent, headers = multipart(("file", b"x", "named.md", None))
    assert agent.post(f"{place.at}/artifacts", sent, headers=headers).data["logical_path"] == "named.md"


@pytest.mark.parametrize(
    "parts",
    [[("path", "a")], [("file", b"x", "", None)], [("path", ".."), ("file", b"x", "a", None)], [("file", b"", "a",
        None)],
     [("metadata", "[]"), ("file", b"x", "a", None)], [("metadata", "{"), ("file", b"x", "a", None)],
     [("metadata", '{"a":NaN}'), ("file", b"x", "a", None)], [("file", b"x", "a", None), ("file", b"y", "b", None)],
     [("path", "x" * 1025), ("file", b"x", "a", None)], [("role", "r" * 256), ("file", b"x", "a", None)]],
    ids=range(10),
)  # fmt: skip
def test_a_form_that_makes_no_sense(agent: Client, place: Place, parts: Any) -> None:
    sent, headers = multipart(*parts)
    assert agent.post(f"{place.at}/artifacts", sent, headers=headers).status in (400, 422)
    assert agent.get(f"{place.at}/artifacts").data == []


def test_a_raw_body(agent: Client, place: Place, run: Run) -> None:
    query = urlencode({"path": "out/é b.md", "task_id": run.task, "metadata": '{"a":[1]}', "request_id": "r1"})
    sent = b"# raw\n" * 1000
    answer = agent.post(f"{place.at}/artifacts?{query}", sent, headers={"Content-Type": "text/markdown; charset=utf-8"})
    assert answer.status == 201, answer.body
    made = answer.data
    assert (made["logical_path"], made["metadata"], made["task_id"]) == ("out/é b.md", {"a": [1]}, run.task)
    assert made["content_type"].startswith("text/markdown")
    assert agent.root("GET", made["download_url"]).body == sent
    again = agent.post(f"{place.at}/artifacts?{query}", sent, headers={"Content-Type": "text/markdown; charset=utf-8"})
    assert again.data == made
    assert agent.post(f"{place.at}/artifacts", b"x", headers={"Content-Type": "text/plain"}).pointers == ["/path"]
    assert agent.post(f"{place.at}/artifacts?path=a", b"x").status == 415
    assert agent.post(f"{place.at}/artifacts?path=a", b"", headers={"Content-Type": "text/plain"}).status in (400, 422)


def test_a_streamed_body(agent: Client, place: Place) -> None:
    chunks = b"".join(b"4000\r\n" + b"y" * 0x4000 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n"
    head = f"POST /api/v1{place.at}/artifacts?path=big.bin HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {agent.key}\r\n"
    head += "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    answer = agent.raw(head.encode() + chunks)
    assert answer.startswith(b"HTTP/1.1 201 "), answer[:300]
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["data"]["size_bytes"] == 20 * 0x4000


def test_what_is_larger_than_a_file_may_be_passes_in_every_form(agent: Client, place: Place, run: Run) -> None:
    data = os.urandom(10 * MIB + 1)
    kind = {"Content-Type": "application/octet-stream"}
    for made in (
        agent.post(f"{place.at}/artifacts?path=a.bin", data, headers=kind),
        agent.post(run.at, body("a.bin", data)),
    ):
        assert made.status == 201
        assert agent.root("GET", made.data["download_url"]).body == data
    assert agent.post(run.at, body("a.bin", bytes(24 * MIB))).code == (
        413,
        "PAYLOAD_TOO_LARGE",
    )  # as base64 over 32 MiB


@pytest.mark.parametrize("straight", [True, False])
def test_large_content_goes_straight_to_the_socket_where_that_can_be(
    agent: Client, place: Place, straight: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(5 * MIB)
    made = agent.post(f"{place.at}/artifacts?path=a.bin", data, headers={"Content-Type": "application/octet-stream"})
    real, went = sending._send, []

    def send(*asked: int) -> tuple[int, bool]:
        went.append(asked)
        return real(*asked)

    monkeypatch.setattr(sending, "_send", send)
    if not straight:  # as while something is still on its way to the client
        monkeypatch.setattr(wire, "_socket", lambda _: None)
    url = made.data["download_url"]
    assert agent.root("GET", url).body == data
    assert agent.root("GET", url, headers={"Range": "bytes=7-1999999"}).body == data[7:2_000_000]
    assert bool(went) == straight


def test_a_credential_in_the_metadata_is_refused_but_content_is_not_read(agent: Client, run: Run) -> None:
    assert agent.post(run.at, body(metadata={"k": PEM})).code == (400, "VALIDATION_ERROR")
    assert agent.post(run.at, body("id_rsa", PEM.encode())).status == 201


# --- request ids ----------------------------------------------------------------------------------------------------


def test_a_repeated_request_gets_the_first_answer(agent: Client, place: Place, run: Run) -> None:
    first = agent.post(run.at, body(request_id="r"))
    again = agent.post(run.at, body(request_id="r"))
    assert again.status == 201
    assert again.data == first.data
    assert again.etag == first.etag
    assert len(agent.get(run.at).data) == 1
    for other in (
        body("other", request_id="r"),
        body(data=b"other", request_id="r"),
        body(metadata={"a": 1}, request_id="r"),
    ):
        assert agent.post(run.at, other).code == (409, "CONFLICT")
    spelled = body("./out//a.md", request_id="r")  # the same, normalised
    assert agent.post(run.at, spelled).data == first.data


def test_a_request_id_is_unique_within_its_workflow(agent: Client, place: Place, run: Run) -> None:
    first = agent.post(run.at, body(request_id="r")).data
    other = Run(agent, place)
    assert agent.post(other.at, body(request_id="r")).data["id"] != first["id"]
    assert agent.post(f"{place.at}/artifacts", body(request_id="r")).data["id"] != first["id"]
    second_task = slug()
    agent.put(f"/workflows/{run.flow}/tasks/{second_task}", {"title": "t"})
    assert agent.post(f"/tasks/{second_task}/artifacts", body(request_id="r")).code == (409, "CONFLICT")


def test_many_at_once_with_one_request_id_make_one(server: Server, agent: Client, run: Run) -> None:
    answers: list[Answer] = []

    def one() -> None:
        with server.client("agent") as client:
            answers.append(client.post(run.at, body(request_id="together")))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [one.status for one in answers] == [201] * 8
    assert len({json.dumps(one.data) for one in answers}) == 1
    assert len(agent.get(run.at).data) == 1


# --- read -----------------------------------------------------------------------------------------------------------


def test_the_list_of_a_task_is_oldest_first_and_its_prefix_literal(agent: Client, run: Run) -> None:
    made = [agent.post(run.at, body(path)).data for path in ("b%", "a/x", "a/y", "a_z", "A/x")]
    answer = agent.get(run.at)
    assert answer.data == made
    assert pages(answer) == (1, 5, 5, 1)
    for prefix, paths in (
        ("a/", ["a/x", "a/y"]),
        ("%", []),
        ("b%", ["b%"]),
        ("a_", ["a_z"]),
        ("a", ["a/x", "a/y", "a_z"]),
        ("", 5),
    ):
        found = [one["logical_path"] for one in agent.get(f"{run.at}?prefix={quote(prefix)}").data]
        assert found == paths or (paths == 5 and len(found) == 5)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("text/plain", "text"), ("text/markdown", "text"), ("text/csv", "text"), ("application/json", "text"),
     ("application/ld+json", "text"), ("application/yaml", "text"), ("application/x-yaml", "text"), ("text/yaml",
         "text"),
     ("text/plain; charset=utf-8", "text"), ("image/png", "image"), ("image/svg+xml", "image"), ("application/pdf",
         "pdf"),
     ("text/html", "unsupported"), ("application/zip", "unsupported"), ("application/octet-stream", "unsupported")],
)  # fmt: skip
def test_what_can_be_looked_at(agent: Client, run: Run, kind: str, mode: str) -> None:
    made = agent.post(run.at, body("ä.x", content_type=kind)).data
    assert made["preview_mode"] == mode
    assert made["preview_eligible"] is (mode != "unsupported")
    answer = agent.get(f"{run.at}/{made['id']}/preview")
    if mode == "unsupported":
        assert answer.code == (400, "VALIDATION_ERROR")
        return
    assert answer.body == b"content"
    assert disposition(answer) == ("inline", "ä.x")
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if "svg" in kind:
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    link = agent.get(f"{run.at}/{made['id']}/permalink")
    assert list(link.data) == ["permalink_url"]
    assert link.data["permalink_url"].startswith("/api/v1/")
    assert agent.root("GET", link.data["permalink_url"]).status == 200


def test_a_preview_is_at_most_a_mebibyte(agent: Client, run: Run) -> None:
    for size, eligible in ((MIB, True), (MIB + 1, False)):
        made = agent.post(run.at, body("a.txt", b"x" * size)).data
        assert made["preview_eligible"] is eligible
        assert (made["preview_url"] is not None) is eligible
        assert agent.get(f"{run.at}/{made['id']}/preview").status == (200 if eligible else 400)


def test_a_download_has_the_safety_headers_and_ranges(agent: Client, run: Run) -> None:
    made = agent.post(run.at, body("x/日本.html", b"0123456789", content_type="text/html")).data
    answer = agent.get(f"{run.at}/{made['id']}")
    assert disposition(answer) == ("attachment", "日本.html")
    assert answer.headers["Content-Disposition"].isascii()
    for name, value in (("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
                        ("X-Frame-Options", "DENY"),
                        ("Cross-Origin-Resource-Policy", "same-origin")):  # fmt: skip
        assert answer.headers[name] == value
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    part_ = agent.get(f"{run.at}/{made['id']}", headers={"Range": "bytes=2-4"})
    assert (part_.status, part_.body, part_.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    beyond = agent.get(f"{run.at}/{made['id']}", headers={"Range": "bytes=10-"})
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, "bytes */10")
    assert agent.get(f"{run.at}/{made['id']}", headers={"If-None-Match": answer.etag}).status == 304


def test_a_deleted_artifact_is_gone_everywhere(agent: Client, place: Place, run: Run) -> None:
    made = agent.post(run.at, body(request_id="r")).data
    kept = agent.post(run.at, body("kept")).data
    assert agent.delete(f"{run.at}/{made['id'].upper()}").status == 204
    for path in ("", "/preview", "/permalink"):
        assert agent.get(f"{run.at}/{made['id']}{path}").code == (404, "NOT_FOUND")
        assert agent.get(f"{place.at}/artifacts/{made['id']}{path}").code == (404, "NOT_FOUND")
    assert agent.delete(f"{run.at}/{made['id']}").status == 404
    assert [one["id"] for one in agent.get(run.at).data] == [kept["id"]]
    assert [one["id"] for one in agent.get(f"{place.at}/artifacts").data] == [kept["id"]]
    assert agent.delete(f"{place.at}/artifacts/{kept['id']}").status == 204
    place.published()
    assert place.git("show", f"{made['commit']}", "--stat", "--format=").count(made["id"]) == 2


@pytest.mark.parametrize("name", ["00000000-0000-0000-0000-000000000007", "x", "%00", "%2E%2E", "x" * 300])
def test_an_unknown_artifact(agent: Client, place: Place, run: Run, name: str) -> None:
    for base in (run.at, f"{place.at}/artifacts"):
        for path in ("", "/preview", "/permalink"):
            assert agent.get(f"{base}/{name}{path}").code == (404, "NOT_FOUND")
        assert agent.delete(f"{base}/{name}").code == (404, "NOT_FOUND")


def test_an_artifact_of_another_workspace_is_not_shown(agent: Client, place: Place, make: Any) -> None:
    made = agent.post(f"{place.at}/artifacts", body()).data
    assert agent.get(f"{make().at}/artifacts/{made['id']}").code == (404, "NOT_FOUND")


def test_a_task_of_another_workspace_is_no_task_here(agent: Client, place: Place, run: Run, make: Any) -> None:
    other = make()
    for more in ({"task_id": run.task}, {"task_id": run.task, "request_id": "r"}, {"workflow_id": run.flow}):
        made = agent.post(f"{other.at}/artifacts", body(**more)).data
        assert made["download_url"] == f"/api/v1{other.at}/artifacts/{made['id']}"
        assert agent.root("GET", made["download_url"]).body == b"content"
        assert made["workflow_id"] == more.get("workflow_id")
        (row,) = agent.get(f"{other.at}/artifacts?per_page=1").data
        assert row["download_url"] == made["download_url"]
        assert agent.get(f"{run.at}/{made['id']}").status == 404
    assert agent.get(run.at).data == []


# --- retention ------------------------------------------------------------------------------------------------------


def test_evidence_is_kept_when_its_run_ends(agent: Client, run: Run) -> None:
    made = agent.post(run.at, body()).data
    for state in ("active", "completed", "failed", "cancelled"):
        agent.patch(f"/workflows/{run.flow}", {"state": state})
        assert agent.get(f"{run.at}/{made['id']}").status == 200


def test_days_count_from_the_upload(agent: Client, place: Place) -> None:
    run = Run(agent, place, metadata={"artifact_retention": {"mode": "days", "days": 3}})
    made = agent.post(run.at, body()).data
    assert made["retention_policy"] == {"mode": "days", "days": 3}
    from datetime import datetime, timedelta

    assert datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"]) == timedelta(days=3)
    agent.patch(f"/workflows/{run.flow}", {"metadata": {}})
    assert agent.get(run.at).data[0]["expires_at"] is None


def test_the_ephemeral_go_with_their_run(agent: Client, place: Place) -> None:
    run = Run(agent, place, metadata={"artifact_retention": {"mode": "ephemeral"}}, state="active")
    made = agent.post(run.at, body()).data
    assert made["retention_policy"] == {"mode": "ephemeral"}
    assert agent.get(f"{run.at}/{made['id']}").status == 200
    agent.patch(f"/workflows/{run.flow}", {"state": "completed"})
    time.sleep(0.01)
    for base in (run.at, f"{place.at}/artifacts"):
        for path in ("", "/preview", "/permalink"):
            assert agent.get(f"{base}/{made['id']}{path}").code == (404, "NOT_FOUND")
        assert agent.get(base).data == []
    assert agent.get(f"{place.at}/artifacts").meta["summary"]["total_artifacts"] == 0
    with agent.other() as admin:
        assert admin.get(f"{place.at}/delete-impact", key="bootstrap-admin-key-1").data["artifacts"] == 0


@pytest.mark.parametrize("wish", ["x", {}, {"mode": "never"}, {"mode": "days"}, {"mode": "days", "days": 0},
                                  {"mode": "days", "days": 1.5}, {"mode": "days", "days": "3"}, []])  # fmt: skip
def test_a_retention_nobody_understands_is_refused(agent: Client, place: Place, wish: Any) -> None:
    answer = agent.post(f"{place.at}/workflows", {"name": "w", "metadata": {"artifact_retention": wish}})
    assert answer.code == (400, "VALIDATION_ERROR")


def test_a_task_id_of_any_text_is_in_the_urls(agent: Client, place: Place, run: Run) -> None:
    task = f"é/ä b?#%-{slug()}"
    agent.put(f"/workflows/{run.flow}/tasks/{part(task)}", {"title": "t"})
    made = agent.post(f"/tasks/{part(task)}/artifacts", body()).data
    assert agent.root("GET", made["download_url"]).body == b"content"
    assert agent.root("GET", made["preview_url"]).body == b"content"
