"""The workspace record: exactly its fields, in their order, without a secret, and quickly."""

from __future__ import annotations

import json
import time

from draft import ACTOR, START, WORKSPACE, MemoryWorkspace

from gitstore import documents, record, values
from gitstore.context import Context, StoredFile
from gitstore.model import Problem, Touch

FIELDS = [
    "id",
    "tenant_id",
    "name",
    "slug",
    "description",
    "repository_url",
    "memory_size_bytes",
    "memory_max_bytes",
    "is_active",
    "created_at",
    "updated_at",
    "current_spec_version",
    "git_webhook_provider",
    "git_webhook_secret_configured",
    "settings",
    "memory",
    "head",
    "problems",
]
HEADER = f"id: {WORKSPACE}\nname: Payments\nslug: payments\n".encode()


def context(**files: bytes) -> Context:
    named = {path.replace("__", "/") + ".yaml": data for path, data in files.items()}
    return MemoryWorkspace.of({"workspace.yaml": HEADER, **named}).context


def render(held: Context, **changed: object) -> bytes:
    options: dict[str, object] = {
        "head": "a" * 40,
        "created_at": START,
        "updated_at": START + 1,
        "spec_version": 3,
        "secret_configured": False,
        "webhook_secret_configured": False,
    }
    return record.render(held, **{**options, **changed})  # type: ignore[arg-type]


def test_the_record() -> None:
    held = context(memory__b=b"[1, 2.0]\n", memory__a=b"text: h\xc3\xa9\n", settings=b"z: 1\na: {}\n")
    data = render(held)
    shown = json.loads(data)
    assert list(shown) == FIELDS
    assert data == values.encode(values.decode(data)), "compact"
    assert shown["tenant_id"] == "00000000-0000-0000-0000-000000000001"
    assert shown["memory_max_bytes"] == 1_048_576
    assert shown["memory"] == {"a": {"text": "hé"}, "b": [1, 2.0]}
    assert shown["memory_size_bytes"] == len('{"a":{"text":"hé"},"b":[1,2.0]}'.encode())
    assert list(shown["settings"]) == ["z", "a"]
    assert shown["description"] is shown["repository_url"] is shown["git_webhook_provider"] is None
    assert shown["is_active"] is True
    assert shown["git_webhook_secret_configured"] is False
    assert shown["head"] == "a" * 40
    assert shown["problems"] == []
    assert shown["created_at"] == values.iso(START)
    assert shown["updated_at"] == values.iso(START + 1)
    assert json.loads(render(held, webhook_secret_configured=True, head=None))["git_webhook_secret_configured"] is True


def test_credentials_are_shown_only_where_there_are_some() -> None:
    block = {"git_token": "redacted://workspace-settings-secret", "git_token_configured": True}
    plain = context(settings=b"a: 1\nb: 2\n")
    assert json.loads(render(plain))["settings"] == {"a": 1, "b": 2}
    assert list(json.loads(render(plain, secret_configured=True))["settings"].items()) == [
        ("a", 1),
        ("b", 2),
        ("credentials", block),
    ]
    placed = context(settings=b"a: 1\ncredentials: {}\nb: 2\n")
    assert json.loads(render(placed))["settings"] == {"a": 1, "b": 2}
    assert list(json.loads(render(placed, secret_configured=True))["settings"]) == ["a", "credentials", "b"]
    empty = context()
    assert json.loads(render(empty))["settings"] == {}
    assert json.loads(render(empty, secret_configured=True))["settings"] == {"credentials": block}


def test_problems_are_part_of_the_record() -> None:
    held = context(memory__a=b"[1\n")
    (problem,) = json.loads(render(held))["problems"]
    assert list(problem) == ["id", "kind", "path", "key", "line", "column", "code", "message", "hint", "since"]
    assert (problem["path"], problem["key"], problem["kind"]) == ("memory/a.yaml", "a", "invalid")
    other = Problem("x", "conflict", "memory/b.yaml", "c", "m", "h", "s", values={"file": 1, "main": {"z": 2}})
    (shown,) = json.loads(render(held, problems=[other]))["problems"]
    assert shown["values"] == {"file": 1, "main": {"z": 2}}


def test_a_row_has_a_summary() -> None:
    assert json.loads(render(context(), summary={"workflow_count": 2}))["summary"] == {"workflow_count": 2}


def test_the_etag_changes_with_each_of_its_three() -> None:
    problem = Problem("x", "sync", "", "c", "m", "h", "s")
    tags = {
        record.etag("a" * 40, 0),
        record.etag("b" * 40, 0),
        record.etag(None, 0),
        record.etag("a" * 40, 1),
        record.etag("a" * 40, 0, [problem]),
    }
    assert len(tags) == 5
    assert record.etag("a" * 40, 1, [problem]) == record.etag("a" * 40, 1, [problem])


def test_a_memory_entry() -> None:
    held = context(memory__a=b"k: [true]\n")
    shown = json.loads(record.render_memory_entry(held.memory["a"], Touch("c" * 40, START, ACTOR)))
    assert shown == {
        "key": "a",
        "value": {"k": [True]},
        "commit": "c" * 40,
        "updated_at": values.iso(START),
        "actor": {"type": "admin", "id": "k3f09a", "name": "ops key"},
    }
    assert json.loads(record.render_memory_entry(held.memory["a"], None))["commit"] is None


def test_a_file_record() -> None:
    stored = StoredFile("a-md", "files/a.md", "b" * 40, "a.md", "text/markdown")
    shown = record.file_record(
        stored, workspace=WORKSPACE, size=3, sha256="0" * 64, created_at=START, updated_at=START, version=2
    )
    assert list(shown) == [
        *("id", "workspace_id", "key", "description", "file_name", "content_type", "size_bytes", "checksum_sha256"),
        *("created_at", "updated_at", "version", "download_url"),
    ]
    assert shown["download_url"] == f"/api/v1/workspaces/{WORKSPACE}/files/{shown['id']}/content"


def test_two_hundred_keys_are_quick() -> None:
    files = {f"memory/key-{n:03}.yaml": documents.dump({"text": f"value {n} " * 8, "n": n}) for n in range(200)}
    held = MemoryWorkspace.of({"workspace.yaml": HEADER, **files}).context
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(50):
            render(held)
        best = min(best, (time.perf_counter() - start) / 50)
    assert best < 80e-6  # 40 µs is what it must not exceed on a quiet machine
