import msgspec
import pytest
from evidence_draft import ACTOR, START, WORKSPACE, Branched

from gitstore import evidence, names, workflows
from gitstore.errors import Conflict, Invalid, NotFound, PreconditionFailed
from gitstore.model import Task, WorkItem
from gitstore.precondition import Precondition
from gitstore.workflows import ItemPut, New, Patch, TaskPut


@pytest.fixture
def branch():
    return Branched()


def stored(branch, identity):
    path = names.workflow_path(identity)
    return evidence.parse_workflow(path, branch.files[path], time=1)


def test_a_workflow_gets_an_id_times_and_one_commit(branch):
    made = branch.apply(workflows.create, New(name="Release 1.2"))
    assert names.is_uuid(made.id)
    assert (made.state, made.created_at, made.updated_at, made.started_at) == ("pending", START, START, None)
    assert made.created_by == ACTOR.id
    assert stored(branch, made.id) == made
    (commit,) = branch.commits
    assert commit[1:] == (
        "workflow.created",
        "workflow: create Release 1.2",
        "pending",
        made.id,
        None,
        (names.workflow_path(made.id),),
    )


def test_everything_that_is_given_is_kept(branch):
    new = New(
        name="W",
        id="my/own id",
        state="active",
        playbook_id="p",
        parameters={"b": 1, "a": [None]},
        context={"c": 1},
        metadata={"artifact_retention": {"mode": "days", "days": 7}},
        brief="why",
        created_by="me",
        work_items=(WorkItem("i", "Item", "plan", "open"),),
    )
    made = branch.apply(workflows.create, new)
    assert (made.id, made.started_at, made.completed_at) == ("my/own id", START, None)
    assert stored(branch, made.id) == made
    assert list(workflows.workflow_json(made, [], WORKSPACE)["parameters"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("name", "", "/name"),
        ("name", "  ", "/name"),
        ("name", "x" * 1025, "/name"),
        ("id", "", "/id"),
        ("id", "x" * 256, "/id"),
        ("id", "a\nb", "/id"),
        ("state", "ready", "/state"),
        ("brief", "x" * 20_001, "/brief"),
        ("metadata", {"artifact_retention": {"mode": "permanent"}}, "/metadata/artifact_retention/mode"),
        ("metadata", {"artifact_retention": {"mode": "days"}}, "/metadata/artifact_retention/days"),
        ("metadata", {"artifact_retention": {"mode": "days", "days": 0}}, "/metadata/artifact_retention/days"),
        ("metadata", {"artifact_retention": {"mode": "days", "days": True}}, "/metadata/artifact_retention/days"),
        ("metadata", {"artifact_retention": "days"}, "/metadata/artifact_retention"),
        ("work_items", (WorkItem("a", "A"), WorkItem("a", "B")), "/work_items"),
        ("work_items", (WorkItem("a", ""),), "/work_items/0/title"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_place(branch, field, value, place):
    with pytest.raises(Invalid) as caught:
        branch.apply(workflows.create, msgspec.structs.replace(New(name="W"), **{field: value}))
    assert caught.value.details["pointer"] == place
    assert branch.commits == []


@pytest.mark.parametrize("identity", ["x", "x" * 255, "ü" * 255, "..", ".git", "CON", "a/b", "~x", "%41"])
def test_any_id_works_and_is_there_once(branch, identity):
    assert branch.apply(workflows.create, New(name="W", id=identity)).id == identity
    with pytest.raises(Conflict):
        branch.apply(workflows.create, New(name="W", id=identity))
    assert branch.apply(workflows.update, identity, Patch(name="Other")).name == "Other"
    assert branch.apply(workflows.put_task, identity, identity, TaskPut()).id == identity
    assert branch.apply(workflows.put_task, identity, identity, TaskPut(state="ready")).state == "ready"


def test_times_follow_the_state(branch):
    made = branch.apply(workflows.create, New(name="W", id="w"))

    def to(state):
        now = branch.now
        found = branch.apply(workflows.update, "w", Patch(state=state))
        assert found.updated_at == now
        assert found == stored(branch, "w")
        return now, found.started_at, found.completed_at, branch.commits[-1][1:4:2]

    first = branch.now
    assert to("active") == (first, first, None, ("workflow.updated", "active"))
    assert to("paused")[1:] == (first, None, ("workflow.updated", "paused"))
    assert to("active")[1:] == (first, None, ("workflow.updated", "active"))
    now, started, completed, kind = to("completed")
    assert (started, completed, kind) == (first, now, ("workflow.completed", "completed"))
    now, started, completed, kind = to("failed")
    assert (started, completed, kind) == (first, now, ("workflow.failed", "failed"))
    assert to("active")[1:3] == (first, None)
    assert to("cancelled")[3] == ("workflow.cancelled", "cancelled")
    assert to("pending")[1:3] == (None, None)
    assert stored(branch, "w").created_at == made.created_at


def test_a_patch_sets_what_it_names_and_nothing_else(branch):
    branch.apply(workflows.create, New(name="W", id="w", context={"a": 1}, metadata={"m": 1}))
    found = branch.apply(workflows.update, "w", Patch(context={}))
    assert (found.name, found.context, found.metadata, found.state) == ("W", {}, {"m": 1}, "pending")
    before = len(branch.commits)
    same = branch.apply(workflows.update, "w", Patch(name="W", state="pending", context={}))
    assert same == found
    assert len(branch.commits) == before
    with pytest.raises(NotFound):
        branch.apply(workflows.update, "other", Patch(name="X"))
    with pytest.raises(Invalid):
        branch.apply(workflows.update, "w", Patch(state="done"))


def test_a_precondition_is_held_against_what_the_api_shows(branch):
    made = branch.apply(workflows.create, New(name="W", id="w"))
    task = Task("t", "T", workflow_id="w")
    tag = workflows.etag(made, [task], WORKSPACE)
    with pytest.raises(PreconditionFailed) as caught:
        branch.apply(
            workflows.update, "w", Patch(name="X"), precondition=Precondition(("stale",)), tasks=lambda: [task]
        )
    assert caught.value.current == tag
    assert branch.apply(
        workflows.update, "w", Patch(name="X"), precondition=Precondition((tag,)), tasks=lambda: [task]
    ).name == "X"  # fmt: skip


def test_a_work_item_is_put_and_put_again(branch):
    branch.apply(workflows.create, New(name="W", id="w", state="active"))
    found = branch.apply(workflows.put_work_item, "w", "i", ItemPut())
    assert found.work_items == (WorkItem("i", "i", None, "pending"),)
    found = branch.apply(workflows.put_work_item, "w", "j", ItemPut(title="J", stage_name="plan", state="open"))
    found = branch.apply(workflows.put_work_item, "w", "i", ItemPut(title="I"))
    found = branch.apply(workflows.put_work_item, "w", "j", ItemPut(stage_name=None))
    assert found.work_items == (WorkItem("i", "I"), WorkItem("j", "J", None, "open"))
    assert stored(branch, "w") == found
    assert branch.commits[-1][1:4] == ("work_item.updated", "work item: J is open", "completed")
    before = len(branch.commits)
    branch.apply(workflows.put_work_item, "w", "j", ItemPut(title="J"))
    assert len(branch.commits) == before
    with pytest.raises(NotFound):
        branch.apply(workflows.put_work_item, "none", "j", ItemPut())
    with pytest.raises(Invalid):
        branch.apply(workflows.put_work_item, "w", "x" * 256, ItemPut())


def test_a_task_is_put_and_put_again(branch):
    branch.apply(workflows.create, New(name="W", id="w"))
    branch.apply(workflows.create, New(name="V", id="v"))
    start = branch.now
    made = branch.apply(workflows.put_task, "w", "t", TaskPut(title="T", role="writer", work_item_id="i"))
    assert made == Task("t", "T", "w", "i", "writer", None, "pending", start, start)
    assert branch.commits[-1][1:6] == ("task.updated", "task: T is pending", "completed", "w", "t")
    again = branch.apply(workflows.put_task, "w", "t", TaskPut(state="in_progress", role=None))
    assert again == Task("t", "T", "w", "i", None, None, "in_progress", start, start + 1000)
    path = names.task_path("t")
    assert evidence.parse_task(path, branch.files[path], time=1) == again
    before = len(branch.commits)
    assert branch.apply(workflows.put_task, "w", "t", TaskPut(title="T")) == again
    assert len(branch.commits) == before
    with pytest.raises(Conflict):
        branch.apply(workflows.put_task, "v", "t", TaskPut())
    with pytest.raises(NotFound):
        branch.apply(workflows.put_task, "none", "u", TaskPut())
    with pytest.raises(Invalid):
        branch.apply(workflows.put_task, "w", "u", TaskPut(state="paused"))
    assert branch.apply(workflows.put_task, None, "alone", TaskPut()).workflow_id is None


def test_a_task_without_a_workflow_joins_one(branch):
    branch.apply(workflows.create, New(name="W", id="w"))
    branch.apply(workflows.put_task, None, "t", TaskPut(title="T"))
    assert branch.apply(workflows.put_task, "w", "t", TaskPut()).workflow_id == "w"


def test_records_that_a_person_put_elsewhere_are_changed_where_they_are():
    branch = Branched.of({"workflows/mine/w.yaml": b"# my own\nname: W\n", "tasks/zz/t.yaml": b"title: T # mine\n"})
    branch.apply(workflows.update, "w", Patch(state="active"))
    branch.apply(workflows.put_task, "w", "t", TaskPut(state="ready"))
    assert set(branch.files) == {"workflows/mine/w.yaml", "tasks/zz/t.yaml"}
    assert branch.files["workflows/mine/w.yaml"].startswith(b"# my own\nname: W\n")
    assert branch.files["tasks/zz/t.yaml"].startswith(b"title: T # mine\n")
    with pytest.raises(Conflict):
        branch.apply(workflows.create, New(name="W", id="w"))


def test_planning_is_one_change_and_needs_nothing_beforehand(branch):
    made = branch.apply(workflows.planning, brief="Build it", name=None, workspace_name="Shop", playbook_id="pb")
    assert len(branch.commits) == 1
    assert workflows.workflow_json(made, [], WORKSPACE) == {
        "id": made.id,
        "tenant_id": "00000000-0000-0000-0000-000000000001",
        "workspace_id": WORKSPACE,
        "name": "Planning: Shop",
        "state": "pending",
        "playbook_id": "pb",
        "parameters": {"workspace_name": "Shop", "workspace_brief": "Build it", "workspace_id": WORKSPACE},
        "context": {},
        "metadata": {"planning_workflow": True},
        "brief": "Build it",
        "created_by": ACTOR.id,
        "created_at": "2026-11-18T11:06:40.000Z",
        "updated_at": "2026-11-18T11:06:40.000Z",
        "started_at": None,
        "completed_at": None,
        "work_items": [],
        "tasks": [],
    }
    named = branch.apply(workflows.planning, brief="b", name="Mine", workspace_name="S" * 255, playbook_id=None)
    assert (named.name, named.playbook_id) == ("Mine", None)
    assert branch.apply(
        workflows.planning, brief="x" * 20_000, name=None, workspace_name="S" * 255, playbook_id=None
    ).name == "Planning: " + "S" * 255  # fmt: skip
    for bad in ({"brief": ""}, {"brief": "x" * 20_001}, {"brief": " \n"}, {"brief": "b", "name": ""}):
        with pytest.raises(Invalid):
            branch.apply(workflows.planning, **{"name": None, "workspace_name": "S", "playbook_id": None, **bad})


def test_the_answer_lists_items_and_tasks_in_order(branch):
    branch.apply(workflows.create, New(name="W", id="w"))
    workflow = branch.apply(workflows.put_work_item, "w", "i", ItemPut(title="I", stage_name="plan"))
    tasks = [Task("b", "B", "w", created_at=5), Task("a", "A", "w", "i", "dev", "code", "ready", created_at=5)]
    shown = workflows.workflow_json(workflow, [Task("c", "C", created_at=1), *tasks], WORKSPACE)
    assert shown["work_items"] == [{"id": "i", "title": "I", "stage_name": "plan", "state": "pending"}]
    assert [task["id"] for task in shown["tasks"]] == ["c", "a", "b"]
    assert shown["tasks"][1] == {
        "id": "a",
        "title": "A",
        "role": "dev",
        "stage_name": "code",
        "state": "ready",
        "work_item_id": "i",
    }
