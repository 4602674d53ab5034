import re
from hashlib import sha256

import msgspec
import pytest
from evidence_draft import START, WORKSPACE, Branched

from gitstore import artifacts, documents, evidence, names, retention, showing, workflows
from gitstore.artifacts import New
from gitstore.errors import Conflict, Invalid, NotFound, PreconditionFailed, SecretFound
from gitstore.model import Artifact, Task, Workflow
from gitstore.precondition import Precondition
from gitstore.repository.objects import Blob

DAY = 86_400_000


@pytest.fixture
def branch():
    return Branched()


@pytest.fixture(autouse=True)
def _read_back(monkeypatch):
    """What is read is what was written, not what is remembered of that."""
    monkeypatch.setattr(evidence, "remember", lambda *_: None)


def add(branch, path="out/report.md", content=b"# Report", **fields):
    options = {key: fields.pop(key) for key in ("task_required",) if key in fields}
    return branch.apply(artifacts.add, artifacts.check(New(path=path, content=content, **fields)), **options)


def test_an_artifact_is_a_folder_of_its_own_in_one_commit(branch):
    made = add(branch, metadata={"k": [1]}, stage_name="review", role="writer")
    folder = names.artifact_folder(made.id)
    assert branch.files == {
        f"{folder}/report.md": b"# Report",
        f"{folder}/artifact.yaml": evidence.artifact_document(made),
    }
    assert made == Artifact(
        id=made.id,
        path="out/report.md",
        content_type="text/markdown",
        size=8,
        sha256=sha256(b"# Report").hexdigest(),
        blob=Blob(b"# Report").id.hex(),
        created_at=START,
        metadata={"k": [1]},
        stage_name="review",
        role="writer",
    )
    assert evidence.read_artifact(WORKSPACE, branch.tree, folder, time=1) == made
    assert branch.commits[0][1:6] == ("artifact.added", "artifact: add out/report.md", "completed", None, None)


def test_what_was_just_written_is_not_read_back(branch, monkeypatch):
    monkeypatch.undo()
    one, other = (
        add(branch, metadata={"k": [1, 2.5]}, role="writer"),
        add(branch, metadata={"k": [1, 2.5]}, role="writer"),
    )
    plain = add(branch, content=b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 3\n")
    loads, load = [], documents.load
    monkeypatch.setattr(documents, "load", lambda data, path="": loads.append(path) or load(data, path))
    for made in (other, plain, one):
        found = evidence.read_artifact(WORKSPACE, branch.tree, names.artifact_folder(made.id), time=1, commit="c")
        assert found == msgspec.structs.replace(made, commit="c")
    assert {names.artifact_folder(made.id) for made in (one, other, plain)} > {
        path.rpartition("/")[0] for path in loads
    }
    assert f"{names.artifact_folder(plain.id)}/artifact.yaml" in loads


def test_the_same_path_again_is_another_artifact(branch):
    assert add(branch).id != add(branch).id
    assert len(branch.files) == 4


@pytest.mark.parametrize("name", ["artifact.yaml", "ARTIFACT.YAML", "a.meta.yaml", "größe ☂.bin", "x" * 255, ".env"])
def test_any_file_name_is_kept_beside_the_document(branch, name):
    made = add(branch, path=f"deep/er/{name}", content=Blob(b"\x00\xff"))
    folder = names.artifact_folder(made.id)
    assert len(branch.files) == 2
    assert evidence.read_artifact(WORKSPACE, branch.tree, folder, time=1) == made


def test_what_the_task_knows_is_noted(branch):
    branch.apply(workflows.create, workflows.New(name="W", id="w"))
    put = workflows.TaskPut(role="writer", stage_name="draft", work_item_id="i")
    branch.apply(workflows.put_task, "w", "t", put)
    made = add(branch, task_id="t", task_required=True)
    assert (made.workflow_id, made.task_id, made.work_item_id, made.stage_name, made.role) == (
        "w",
        "t",
        "i",
        "draft",
        "writer",
    )
    assert branch.commits[-1][4:6] == ("w", "t")
    own = add(branch, task_id="t", stage_name="final", role="editor", work_item_id="j", workflow_id="w")
    assert (own.work_item_id, own.stage_name, own.role) == ("j", "final", "editor")
    with pytest.raises(Invalid, match="belongs to the workflow 'w'"):
        add(branch, task_id="t", workflow_id="v")


def test_a_task_nobody_knows_is_only_refused_where_it_must_exist(branch):
    assert add(branch, task_id="none").task_id == "none"
    with pytest.raises(NotFound):
        add(branch, task_id="none", task_required=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", ""),
        ("path", "/etc/passwd"),
        ("path", "a/../../b"),
        ("path", "x" * 1025),
        ("path", ".git/config"),
        ("content", b""),
        ("content_type", "text"),
        ("metadata", [1]),
        ("request_id", ""),
        ("task_id", "x" * 256),
        ("role", "x" * 256),
    ],
)
def test_what_breaks_a_rule_is_refused(field, value):
    with pytest.raises(Invalid):
        artifacts.check(New(**{"path": "a.txt", "content": b"a", field: value}))


def test_a_credential_in_metadata_is_refused_and_in_content_is_not_looked_at():
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
    with pytest.raises(SecretFound):
        artifacts.check(New(path="a.txt", content=b"a", metadata={"note": key}))
    assert artifacts.check(New(path="a.txt", content=b"a", metadata={"note": key}), "allow").metadata == {"note": key}
    assert artifacts.check(New(path="a.pem", content=key.encode())).path == "a.pem"


def test_a_repeated_request_gives_the_first_answer_again(branch):
    first = add(branch, request_id="r1", metadata={"a": 1, "b": 2})
    again = add(branch, path="./out//report.md", request_id="r1", metadata={"b": 2, "a": 1})
    assert len(branch.commits) == 1
    assert again == Artifact(
        **{
            **{name: getattr(first, name) for name in Artifact.__struct_fields__},
            "commit": branch.commits[0].id,
        }
    )
    for other in ({"content": b"other"}, {"path": "b.md"}, {"metadata": {}}, {"content_type": "a/b"}, {"role": "r"}):
        with pytest.raises(Conflict):
            add(branch, **{"request_id": "r1", "metadata": {"a": 1, "b": 2}, **other})
    assert add(branch, request_id="r2", metadata={"a": 1, "b": 2}).id != first.id


def test_a_request_id_is_unique_within_the_workflow_else_the_task_else_the_workspace(branch):
    branch.apply(workflows.create, workflows.New(name="W", id="w"))
    for task in ("t", "u"):
        branch.apply(workflows.put_task, "w", task, workflows.TaskPut())
    alone = add(branch, request_id="r")
    under_task = add(branch, request_id="r", task_id="x")
    in_workflow = add(branch, request_id="r", task_id="t")
    assert len({alone.id, under_task.id, in_workflow.id}) == 3
    with pytest.raises(Conflict):
        add(branch, request_id="r", task_id="u")


def test_after_deleting_the_request_id_is_free(branch):
    first = add(branch, request_id="r")
    branch.apply(artifacts.delete, first)
    assert branch.files == {}
    assert add(branch, request_id="r", content=b"another").size == 7


def test_deleting_takes_the_whole_folder(branch):
    kept, made = add(branch), add(branch)
    folder = names.artifact_folder(made.id)
    branch.tree.files[f"{folder}/inner/more.txt"] = b"pushed"
    with pytest.raises(PreconditionFailed):
        branch.apply(artifacts.delete, made, precondition=Precondition(("x",)), etag="y")
    branch.apply(artifacts.delete, made, precondition=Precondition(("y",)), etag="y")
    assert all(path.startswith(names.artifact_folder(kept.id)) for path in branch.files)
    assert branch.commits[-1][1:3] == ("artifact.deleted", "artifact: delete out/report.md")
    with pytest.raises(NotFound):
        branch.apply(artifacts.delete, made)


def workflow(state="active", **metadata):
    return Workflow("w", "W", state, metadata=metadata, created_at=1, updated_at=60, completed_at=50)


@pytest.mark.parametrize(
    ("wish", "state", "policy", "expires"),
    [
        (None, "completed", {"mode": "forever"}, None),
        ({"mode": "forever"}, "completed", {"mode": "forever"}, None),
        ({"mode": "days", "days": 2}, "active", {"mode": "days", "days": 2}, 100 + 2 * DAY),
        ({"mode": "ephemeral"}, "active", {"mode": "ephemeral"}, None),
        ({"mode": "ephemeral"}, "cancelled", {"mode": "ephemeral"}, 50),
        # Unreadable wishes lose nothing.
        ({"mode": "days"}, "completed", {"mode": "forever"}, None),
        ({"mode": "days", "days": -1}, "completed", {"mode": "forever"}, None),
        ({"mode": "days", "days": 1.5}, "completed", {"mode": "forever"}, None),
        ({"mode": "soon"}, "completed", {"mode": "forever"}, None),
        (7, "completed", {"mode": "forever"}, None),
    ],
)
def test_how_long_an_artifact_is_kept(wish, state, policy, expires):
    assert retention.of(100, workflow(state, artifact_retention=wish)) == (policy, expires)


def test_without_a_workflow_it_is_kept_and_expiry_is_to_the_millisecond():
    assert retention.of(100, None) == ({"mode": "forever"}, None)
    plain = Artifact("i", "p", "text/plain", 1, "s", "b", 100)
    assert retention.retained(plain, workflow()) is plain
    kept = retention.retained(plain, workflow(artifact_retention={"mode": "days", "days": 1}))
    assert not retention.expired(kept, 100 + DAY - 1)
    assert retention.expired(kept, 100 + DAY)


@pytest.mark.parametrize(
    ("content_type", "mode"),
    [
        ("text/plain", "text"),
        ("Text/Markdown; charset=utf-8", "text"),
        ("text/csv", "text"),
        ("application/ld+json", "text"),
        ("text/yaml", "text"),
        ("text/html", "unsupported"),
        ("application/xml", "unsupported"),
        ("image/svg+xml", "image"),
        ("image/png", "image"),
        ("application/pdf", "pdf"),
        ("application/octet-stream", "unsupported"),
    ],
)
def test_how_content_can_be_looked_at(content_type, mode):
    assert showing.preview_mode(content_type) == mode
    assert showing.preview_eligible(content_type, 1_048_576) == (mode != "unsupported")
    assert not showing.preview_eligible(content_type, 1_048_577)


def test_the_answer(branch):
    made = add(branch, path="a.json", content=b"{}", task_id="t/1", metadata={"z": 1})
    route = f"/api/v1/tasks/t%2F1/artifacts/{made.id}"
    assert artifacts.artifact_json(made, WORKSPACE, Task(id="t/1", title="t")) == {
        "id": made.id,
        "workflow_id": None,
        "workspace_id": WORKSPACE,
        "task_id": "t/1",
        "logical_path": "a.json",
        "content_type": "application/json",
        "size_bytes": 2,
        "checksum_sha256": sha256(b"{}").hexdigest(),
        "metadata": {"z": 1},
        "retention_policy": {"mode": "forever"},
        "expires_at": None,
        "created_at": "2026-11-18T11:06:40.000Z",
        "download_url": route,
        "preview_url": f"{route}/preview",
        "permalink_url": f"{route}/permalink",
        "preview_eligible": True,
        "preview_mode": "text",
        "storage_backend": "git",
        "commit": None,
        "pinned": False,
    }


def test_the_answer_without_a_task_and_not_eligible(branch):
    shown = artifacts.artifact_json(add(branch, path="a.bin"), WORKSPACE)
    assert re.fullmatch(f"/api/v1/workspaces/{WORKSPACE}/artifacts/[0-9a-f-]{{36}}", shown["download_url"])
    assert (shown["preview_url"], shown["permalink_url"], shown["preview_eligible"]) == (None, None, False)
