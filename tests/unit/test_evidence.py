from hashlib import sha256

import pytest
from evidence_draft import START, WORKSPACE, MemoryTree
from hypothesis import given
from hypothesis import strategies as st

from gitstore import documents, evidence, names
from gitstore.errors import Invalid
from gitstore.model import Artifact, Task, Workflow, WorkItem
from gitstore.repository.objects import Blob

PATH = names.workflow_path("release-1")
TASK = names.task_path("t-1")


def content(name="report.md", data=b"# Report"):
    return evidence.Content(name, Blob(data).id.hex(), len(data), sha256(data).hexdigest())


def test_a_workflow_written_by_hand_needs_almost_nothing():
    assert evidence.parse_workflow(PATH, b"state: active\n", time=START) == Workflow(
        id="release-1", name="release-1", state="active", created_at=START, updated_at=START
    )


def test_a_workflow_says_what_it_says():
    data = b"""\
# ours
name: Release 1.2
state: completed
playbook_id: 7
created_at: 2026-11-24
updated_at: 2026-11-24T03:00:00+01:00
started_at: '2026-11-24 01:00'
completed_at: 2026-11-24T02:00:00.5Z
metadata: {artifact_retention: {mode: days, days: 3}}
parameters:
context: {a: 1}
reviewer: somebody
work_items:
- review
- {id: 12, title: Twelve, stage_name: '', state: open}
"""
    workflow = evidence.parse_workflow(PATH, data, time=START)
    midnight = 1_795_478_400_000
    assert workflow == Workflow(
        id="release-1",
        name="Release 1.2",
        state="completed",
        playbook_id="7",
        context={"a": 1},
        metadata={"artifact_retention": {"mode": "days", "days": 3}},
        created_at=midnight,
        updated_at=midnight + 2 * 3_600_000,
        started_at=midnight + 3_600_000,
        completed_at=midnight + 2 * 3_600_000 + 500,
        work_items=(WorkItem("review", "review"), WorkItem("12", "Twelve", None, "open")),
    )


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"- a list", "must be an object"),
        (b"state: finished", "/state"),
        (b"name: [x]", "/name"),
        (b"created_at: tomorrow", "/created_at"),
        (b"metadata: [1]", "/metadata"),
        (b"work_items: {a: 1}", "/work_items"),
        (b"work_items: [{title: x}]", "/work_items/0/id"),
        (b"work_items: [a, a]", "/work_items"),
        (b"a: [", "line "),
        (b"a: 1\na: 2", "line 2"),
        (b"\xff", "line 1"),
    ],
)
def test_a_broken_document_is_named_with_its_place(data, place):
    with pytest.raises(Invalid) as caught:
        evidence.parse_workflow(PATH, data, time=START)
    assert caught.value.message.startswith(PATH)
    assert place in caught.value.message
    assert caught.value.details["path"] == PATH


text = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
label = st.none() | text
value = st.recursive(
    st.none() | st.booleans() | st.integers() | text, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
bag = st.dictionaries(text, value, max_size=3)
times = st.integers(0, 4_000_000_000_000)
workflows = st.builds(
    Workflow,
    id=st.just("release-1"),
    name=text,
    state=st.sampled_from(evidence.WORKFLOW_STATES),
    playbook_id=label,
    parameters=bag,
    context=bag,
    metadata=bag,
    brief=label,
    created_by=text,
    created_at=times,
    updated_at=times,
    started_at=st.none() | times,
    completed_at=st.none() | times,
    work_items=st.lists(
        st.builds(WorkItem, id=text, title=text, stage_name=label, state=text), max_size=3, unique_by=lambda i: i.id
    ).map(tuple),
)


@given(workflows, workflows)
def test_what_is_written_is_read_back_also_over_another(one, other):
    data = evidence.workflow_document(one, PATH)
    assert evidence.parse_workflow(PATH, data, time=1) == one
    again = evidence.workflow_document(other, PATH, data, one)
    expected = other.created_at if "created_at" not in documents.load(data) else one.created_at
    assert evidence.parse_workflow(PATH, again, time=1) == Workflow(
        **{**{name: getattr(other, name) for name in Workflow.__struct_fields__}, "created_at": expected}
    )


def test_writing_over_a_file_of_a_person_changes_what_differs_and_nothing_else():
    data = b"""\
# the big one
name: "Release 1.2"   # quoted on purpose
created_at: 2026-11-24
reviewer: somebody
work_items:
- review            # first
- id: 12
  title: Twelve
  owner: me
"""
    before = evidence.parse_workflow(PATH, data, time=START)
    after = Workflow(
        **{
            **{name: getattr(before, name) for name in Workflow.__struct_fields__},
            "state": "active",
            "work_items": (before.work_items[0], WorkItem("12", "Twelve", "build", "pending"), WorkItem("new", "New")),
        }
    )
    written = evidence.workflow_document(after, PATH, data, before)
    lines = written.decode().splitlines()
    assert lines[:4] == data.decode().splitlines()[:4]
    assert "- review            # first" in lines
    assert "  owner: me" in lines
    assert evidence.parse_workflow(PATH, written, time=START) == after


def test_a_file_without_created_at_gets_the_one_it_had_so_far():
    before = evidence.parse_workflow(PATH, b"name: x\n", time=START)
    written = evidence.workflow_document(
        Workflow(id="release-1", name="y", created_at=START, updated_at=START + 5), PATH, b"name: x\n", before
    )
    assert evidence.parse_workflow(PATH, written, time=START + 99).created_at == START


def test_an_id_too_long_for_a_file_name_is_inside():
    identity = "ü" * 200
    path = names.task_path(identity)
    assert "~" in path
    task = Task(identity, "T", created_at=1, updated_at=1)
    assert evidence.parse_task(path, evidence.task_document(task, path), time=9) == task
    with pytest.raises(Invalid, match="/id"):
        evidence.parse_task(path, b"title: T\n", time=9)


def test_a_task_written_by_hand():
    assert evidence.parse_task(TASK, b"", time=5) == Task("t-1", "t-1", created_at=5, updated_at=5)
    assert evidence.parse_task(TASK, b"title: 12\nrole: writer\nstate: escalated\nwork_item_id: 3", time=5) == Task(
        "t-1", "12", None, "3", "writer", None, "escalated", 5, 5
    )
    with pytest.raises(Invalid, match="/state"):
        evidence.parse_task(TASK, b"state: paused", time=5)


ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
FOLDER = names.artifact_folder(ID)


def test_an_artifact_without_a_document_is_called_by_its_file():
    found = evidence.parse_artifact(WORKSPACE, FOLDER, None, content("R%C3%A9sum%C3%A9 1.md"), time=START, commit="c")
    assert found == Artifact(
        id=ID,
        path="Résumé 1.md",
        content_type="text/markdown",
        size=8,
        sha256=sha256(b"# Report").hexdigest(),
        blob=Blob(b"# Report").id.hex(),
        created_at=START,
        commit="c",
    )


def test_a_folder_that_is_no_uuid_has_an_id_that_is_always_the_same():
    folder = "artifacts/aa/bb/my notes"
    found = evidence.parse_artifact(WORKSPACE, folder, b"", content(), time=START)
    assert found.id == names.derive_id(WORKSPACE, "my notes")
    assert evidence.artifact_id(WORKSPACE, f"artifacts/aa/bb/{ID.upper()}") == ID


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"path: ../up", ".."),
        (b"path: 3", "/path"),
        (b"content_type: nonsense", "/content_type"),
        (b"metadata: 1", "/metadata"),
        (b"[", "line "),
    ],
)
def test_a_broken_artifact_document_is_named(data, place):
    with pytest.raises(Invalid, match=r"artifact\.yaml") as caught:
        evidence.parse_artifact(WORKSPACE, FOLDER, data, content(), time=START)
    assert place in caught.value.message


@given(
    st.builds(
        Artifact,
        id=st.just(ID),
        path=st.from_regex(r"([a-z]{4,8}/){0,2}[a-zé]{4,8}[.]md", fullmatch=True),  # `aux` and the like are no names
        content_type=st.sampled_from(["text/plain", "application/x-thing; a=b"]),
        size=st.just(8),
        sha256=st.just(content().sha256),
        blob=st.just(content().blob),
        created_at=times,
        metadata=bag,
        workflow_id=label,
        task_id=label,
        work_item_id=label,
        stage_name=label,
        role=label,
        request_id=label,
        request_digest=label,
    )
)
def test_an_artifact_is_read_back_as_it_was_written(artifact):
    data = evidence.artifact_document(artifact)
    assert evidence.parse_artifact(WORKSPACE, FOLDER, data, content(), time=1) == artifact


def test_the_content_file_is_the_one_that_the_path_names():
    tree = MemoryTree(
        {
            f"{FOLDER}/artifact.yaml": b"path: out/b.txt\n",
            f"{FOLDER}/a.txt": b"a",
            f"{FOLDER}/b.txt": b"bb",
            f"{FOLDER}/inner/c.txt": b"c",
        }
    )
    found = evidence.read_artifact(WORKSPACE, tree, FOLDER, time=START)
    assert (found.path, found.size, found.sha256) == ("out/b.txt", 2, sha256(b"bb").hexdigest())
    assert evidence.read_artifact(WORKSPACE, tree, "artifacts/00/00/none", time=START) is None
    with pytest.raises(Invalid, match="content file"):
        evidence.read_artifact(WORKSPACE, MemoryTree({f"{FOLDER}/artifact.yaml": b""}), FOLDER, time=START)


def test_a_link_is_no_content():
    tree = MemoryTree({f"{FOLDER}/a.txt": b"/etc/passwd", f"{FOLDER}/b.txt": b"b"}, {f"{FOLDER}/a.txt": 0o120000})
    assert evidence.read_artifact(WORKSPACE, tree, FOLDER, time=START).path == "b.txt"


def test_what_became_of_the_records_of_changed_paths():
    tree = MemoryTree(
        {
            PATH: b"name: W\n",
            names.workflow_path("broken"): b"[",
            f"{FOLDER}/artifact.yaml": b"path: a.txt\n",
            f"{FOLDER}/a.txt": b"a",
            "README.md": b"hello",
        }
    )
    gone = names.artifact_folder("11111111-1111-4111-8111-111111111111")
    paths = [PATH, names.workflow_path("broken"), TASK, f"{FOLDER}/a.txt", f"{FOLDER}/artifact.yaml", "README.md"]
    found = list(evidence.changed(WORKSPACE, tree, [*paths, f"{gone}/x"], time=START, commit="c"))
    assert [type(one).__name__ for one in found] == ["Workflow", "Broken", "Gone", "Artifact", "Gone"]
    assert found[0].updated_at == START
    assert found[1].path == names.workflow_path("broken")
    assert found[2] == evidence.Gone("task", "t-1")
    assert found[3].commit == "c"
    assert found[4] == evidence.Gone("artifact", "11111111-1111-4111-8111-111111111111")


def test_records_in_unusual_folders_are_located():
    tree = MemoryTree(
        {
            "workflows/zz/mine.yaml": b"",
            "tasks/top.yaml": b"",
            "artifacts/zz/zz/notes/x.md": b"x",
            f"{FOLDER}/y.md": b"y",
        }
    )
    assert evidence.locate(tree, "workflow", "mine", WORKSPACE) == "workflows/zz/mine.yaml"
    assert evidence.locate(tree, "task", "top", WORKSPACE) == "tasks/top.yaml"
    assert evidence.locate(tree, "task", "mine", WORKSPACE) is None
    assert evidence.locate(tree, "artifact", ID, WORKSPACE) == FOLDER
    notes = names.derive_id(WORKSPACE, "notes")
    assert evidence.locate(tree, "artifact", notes, WORKSPACE) == "artifacts/zz/zz/notes"
    assert evidence.locate(tree, "artifact", names.new_id(), WORKSPACE) is None
