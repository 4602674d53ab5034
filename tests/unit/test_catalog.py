"""The catalog: workspaces found and listed from memory, records by id, and all of it whole batches or nothing."""

from __future__ import annotations

import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gitstore import errors
from gitstore.catalog import Catalog, Heads, Impact, OldSlug, Summary, WorkspaceRow, request_scope
from gitstore.directory import Directory, Sort
from gitstore.model import Artifact, Task, TaskState, Workflow, WorkflowState, WorkItem

IDS = [str(uuid.UUID(int=number * 0x1234567890ABCDEF1234567890ABCDEF % (1 << 128))) for number in range(1, 9)]
A, B = IDS[:2]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog(tmp_path / "catalog.sqlite")
    yield opened
    opened.close()


def row(id_: str = A, slug: str = "alpha", **more: Any) -> WorkspaceRow:
    return WorkspaceRow(**{"id": id_, "slug": slug, "name": "Alpha", "created_at": 1, "updated_at": 1, **more})


def artifact(id_: str, **more: Any) -> Artifact:
    given = {
        "id": id_,
        "path": f"out/{id_}.md",
        "content_type": "text/markdown",
        "size": 3,
        "sha256": "ab" * 32,
        "blob": "cd" * 20,
        "created_at": 5,
    }
    return Artifact(**{**given, **more})


# Workspaces

rows = st.builds(
    WorkspaceRow,
    id=st.sampled_from(IDS),
    slug=st.sampled_from(["alpha", "Alpha-2", "beta", "x_y", "100"]),
    name=st.sampled_from(["Alpha", "alpha", "Straße", "100%", "a_b", ""]),
    created_at=st.integers(0, 3),
    updated_at=st.integers(0, 3),
    description=st.sampled_from([None, "", "All of ALPHA", "50% x_y"]),
    is_active=st.booleans(),
    old_slugs=st.lists(
        st.builds(OldSlug, st.sampled_from(["beta", "old", "OLDER"]), st.integers(0, 3)), max_size=2
    ).map(tuple),
)
steps = st.lists(st.one_of(rows, rows, st.sampled_from(IDS)), min_size=1, max_size=25)


def listed(known: dict[str, WorkspaceRow], q: str | None, active: bool | None, sort: str) -> list[str]:
    order: dict[str, Any] = {
        "newest": lambda one: (-one.created_at, one.id),
        "oldest": lambda one: (one.created_at, one.id),
        "name": lambda one: (one.name.casefold(), one.id),
        "updated": lambda one: (-one.updated_at, one.id),
    }
    return [
        one.id
        for one in sorted(known.values(), key=order[sort])
        if active in (None, one.is_active)
        and (not q or any(q.casefold() in text.casefold() for text in (one.name, one.slug, one.description or "")))
    ]


def answering(known: dict[str, WorkspaceRow], ref: str) -> str | None:
    now = [(one.created_at, one.id) for one in known.values() if ref.lower() in (one.id, one.slug.lower())]
    once = [(-old.until, one.id) for one in known.values() for old in one.old_slugs if old.slug.lower() == ref.lower()]
    return min(now)[1] if now else min(once)[1] if once else None


@settings(max_examples=60, deadline=None)
@given(steps, st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_workspaces_are_found_and_listed_as_from_a_plain_dictionary(steps: list[Any], sizes: list[int]) -> None:
    known: dict[str, WorkspaceRow] = {}
    with tempfile.TemporaryDirectory() as folder:
        catalog = Catalog(Path(folder) / "c")

        def check(catalog: Catalog) -> None:
            for ref in ("alpha", "ALPHA-2", "beta", "old", "older", "none", A, A.upper(), ""):
                assert catalog.find(ref) == answering(known, ref)
            for sort in get_args(Sort):
                for q, active in ((None, None), ("ALPHA", None), ("%", True), ("_", None), ("SS", False), ("\0", None)):
                    wanted = listed(known, q, active, sort)
                    assert catalog.list(q, active, sort, 1, 100) == (wanted, len(wanted))
                    assert catalog.list(q, active, sort, 2, 2) == (wanted[2:4], len(wanted))
            assert sorted(catalog.workspaces()) == sorted(known)
            for id_ in IDS:
                assert catalog.workspace(id_) == known.get(id_)

        while steps:
            size = sizes[len(steps) % len(sizes)]
            with catalog.batch():
                for step in steps[:size]:
                    if isinstance(step, str):
                        catalog.remove_workspace(step)
                        known.pop(step, None)
                    else:
                        catalog.put_workspace(step)
                        known[step.id] = step
            steps = steps[size:]
            check(catalog)
        catalog.close()
        reopened = Catalog(Path(folder) / "c")
        assert not reopened.opened_empty
        check(reopened)
        reopened.close()


def test_an_old_slug_answers_until_another_workspace_takes_it(catalog: Catalog) -> None:
    catalog.put_workspace(row(A, "new", old_slugs=(OldSlug("Old", 10),)))
    assert catalog.find("OLD") == A
    catalog.put_workspace(row(B, "old"))
    assert catalog.find("old") == B
    catalog.put_workspace(row(B, "newer", old_slugs=(OldSlug("old", 20),)))
    assert catalog.find("old") == B
    catalog.remove_workspace(B)
    assert catalog.find("old") == A
    assert catalog.find("newer") is None


def test_at_every_moment_of_a_rename_the_workspace_answers_to_its_id_and_its_old_slug() -> None:
    directory = Directory()
    before = WorkspaceRow("w1", "shop", "Shop", 1, 1)
    directory.put(before)

    class Watched(dict[str, Any]):
        def _look(self) -> None:
            assert directory.find("w1") == directory.find("shop") == "w1"

        def __setitem__(self, key: str, value: Any) -> None:
            super().__setitem__(key, value)
            self._look()

        def pop(self, *key: Any) -> Any:
            try:
                return super().pop(*key)
            finally:
                self._look()

    directory._claims = watched = Watched(directory._claims)
    directory.put(WorkspaceRow("w1", "bakery", "Shop", 1, 2, old_slugs=(OldSlug("shop", 2),)))
    assert directory.find("bakery") == "w1"
    assert len(watched) == 3


def test_an_order_follows_the_rows_that_change(catalog: Catalog) -> None:
    for number, id_ in enumerate(IDS[:3]):
        catalog.put_workspace(row(id_, f"s{number}", name=f"{number}", created_at=number, updated_at=number))
    first, second, third = IDS[:3]
    for sort in get_args(Sort):
        catalog.list(sort=sort)
    catalog.put_workspace(row(second, "s1", name="9", created_at=9, updated_at=9))
    assert catalog.list(sort="newest")[0] == [second, third, first]
    assert catalog.list(sort="oldest")[0] == [first, third, second]
    assert catalog.list(sort="name")[0] == [first, third, second]
    assert catalog.list(sort="updated")[0] == [second, third, first]


def test_a_wrong_sort_or_page_is_refused(catalog: Catalog) -> None:
    for bad in ({"sort": "biggest"}, {"page": 0}, {"per_page": 0}):
        with pytest.raises(errors.Invalid):
            catalog.list(**bad)  # type: ignore[arg-type]


def test_records_and_heads_belong_to_the_row(catalog: Catalog) -> None:
    catalog.put_workspace(row(A, main="ab" * 20), b'{"id": 1}')
    catalog.put_workspace(row(B, "beta"))
    assert catalog.records([A, B, "none"]) == {A: b'{"id": 1}'}
    assert catalog.records([]) == {}
    assert catalog.heads(A) == Heads("ab" * 20, None)
    assert catalog.heads("none") == Heads()
    catalog.put_workspace(row(A, evidence="cd" * 20))
    assert catalog.records([A]) == {}
    assert catalog.heads(A) == Heads(None, "cd" * 20)


# Batches


def test_a_batch_is_seen_when_it_is_done_and_never_when_it_failed(catalog: Catalog) -> None:
    with catalog.batch():
        catalog.put_workspace(row())
        with catalog.batch():
            catalog.put_task(A, Task("t", "T"))
        assert catalog.find("alpha") is None
        assert catalog.task("t") is None
    assert catalog.find("alpha") == A
    assert catalog.task("t") == (A, Task("t", "T"))

    def fail() -> None:
        with catalog.batch():
            catalog.remove_workspace(A)
            catalog.put_workspace(row(B, "beta"))
            catalog.key_used("k", 5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert catalog.workspaces() == [A]
    assert catalog.find("beta") is None
    assert catalog.task("t") == (A, Task("t", "T"))
    with catalog.batch():
        pass
    assert catalog.workspaces() == [A]


def test_readers_beside_a_writer_see_whole_batches(catalog: Catalog) -> None:
    wrong: list[Any] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                if len(catalog.tasks(A)) % 10:
                    wrong.append("half a batch")
                ids, total = catalog.list(per_page=100)
                if len(ids) != total:
                    wrong.append((ids, total))
        except Exception as error:  # noqa: BLE001  (handed to the test's own thread)
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for one in readers:
        one.start()
    for batch in range(30):
        with catalog.batch():
            for number in range(10):
                catalog.put_task(A, Task(f"t{batch}-{number}", "T"))
            catalog.put_workspace(row(IDS[batch % 8], f"s{batch}", updated_at=batch))
    done.set()
    for one in readers:
        one.join()
    assert wrong == []


# Workflows and tasks


def test_workflows_come_back_as_they_were_newest_first(catalog: Catalog) -> None:
    odd = Workflow(
        "wé\udce9",
        "Odd",
        parameters={"big": 10**40, "small": 0.1, "one": 1.0, "text": "\ud800", "z": 1, "a": [None, True]},
        work_items=(WorkItem("i", "Item"),),
        created_at=7,
    )
    others = [Workflow(f"w{number}", "W", created_at=number % 3) for number in range(6)]
    for one in (odd, *others):
        catalog.put_workflow(A, one)
    found = catalog.workflow("wé\udce9")
    assert found is not None
    assert found[0] == A
    assert repr(found[1]) == repr(odd)
    wanted = [odd, *(others[number] for number in (2, 5, 1, 4, 0, 3))]
    assert catalog.workflows(A) == wanted
    assert catalog.workflow_page(A, 2, 3) == (wanted[3:6], 7)
    assert catalog.workflows(B) == []
    catalog.put_workflow(A, replace(odd, name="Renamed"))
    catalog.remove_workflow(A, "w2")
    catalog.remove_workflow(B, "w5")
    assert [one.name for one in catalog.workflows(A)] == ["Renamed", *["W"] * 5]
    assert catalog.workflow("w2") is None


def test_of_two_workspaces_with_one_id_the_older_answers(catalog: Catalog) -> None:
    for first, second in ((A, B), (B, A)):
        catalog.put_task(first, Task("t", "first", created_at=1))
        catalog.put_task(second, Task("t", "second", created_at=2))
        assert catalog.task("t") == (first, Task("t", "first", created_at=1))
        catalog.clear_workspace(first)
        assert catalog.task("t") == (second, Task("t", "second", created_at=2))
        catalog.clear_workspace(second)
        assert catalog.task("t") is None


def test_tasks_by_workflow_and_by_workspace_oldest_first(catalog: Catalog) -> None:
    tasks = [Task(f"t{number}", "T", "w" if number % 2 else None, created_at=-number) for number in range(6)]
    for one in tasks:
        catalog.put_task(A, one)
    catalog.put_task(B, Task("other", "T", "w", created_at=9))
    assert [one.id for one in catalog.tasks(A)] == ["t5", "t4", "t3", "t2", "t1", "t0"]
    assert [one.id for one in catalog.tasks_of("w")] == ["t5", "t3", "t1", "other"]
    assert [one.id for one in catalog.tasks_of("w", A)] == ["t5", "t3", "t1"]
    catalog.put_task(A, replace(tasks[5], workflow_id=None))
    catalog.remove_task(A, "t3")
    assert [one.id for one in catalog.tasks_of("w", A)] == ["t1"]


def test_the_counts_of_a_workspace(catalog: Catalog) -> None:
    assert catalog.summary(A) == Summary()
    assert catalog.impact(A, now=0) == Impact()
    items = (WorkItem("1", "One"), WorkItem("2", "Two"))
    for number, state in enumerate(get_args(WorkflowState)):
        catalog.put_workflow(A, Workflow(f"w{state}", "W", state, updated_at=number, work_items=items))
    catalog.put_workflow(A, Workflow("more", "W", "active", updated_at=3))
    catalog.put_workflow(B, Workflow("elsewhere", "W", "failed", updated_at=77))
    for state in get_args(TaskState):
        catalog.put_task(A, Task(state, "T", state=state))
    catalog.put_artifact(A, artifact("a1"))
    catalog.put_artifact(A, artifact("a2", expires_at=100))
    summary = Summary(
        workflow_count=7,
        open_workflow_count=4,
        total_workflow_count=7,
        active_workflow_count=2,
        completed_workflow_count=1,
        attention_workflow_count=2,
        last_workflow_activity_at=5,
    )
    assert catalog.summary(A) == summary
    other = Summary(1, 0, 1, 0, 0, 1, 77)
    assert catalog.summaries([B, A, "none"]) == {B: other, A: summary, "none": Summary()}
    assert catalog.summaries([]) == {}
    impact = Impact(workflows=7, active_workflows=4, tasks=9, active_tasks=6, work_items=12, artifacts=2)
    assert catalog.impact(A, now=99) == impact
    assert catalog.impact(A, now=100) == replace(impact, artifacts=1)


# Artifacts


def test_artifacts_are_there_until_they_expire(catalog: Catalog) -> None:
    lasting = artifact("a", task_id="t", request_id="r1", metadata={"big": 10**30})
    passing = artifact("b", task_id="t", request_id="r2", expires_at=100, path="a\udce9%_")
    catalog.put_artifact(A, lasting)
    catalog.put_artifact(A, passing)
    scope = request_scope(A, None, "t")
    for now, there in ((99, [lasting, passing]), (100, [lasting]), (0, [lasting, passing])):
        assert catalog.artifacts(A, now=now) == there
        assert catalog.task_artifacts("t", now=now) == there
        assert [(one.id, one.path) for one in catalog.artifact_rows(A, now=now)] == [
            (one.id, one.path) for one in there
        ]
        assert [one for id_ in "ab" if (one := catalog.artifact(A, id_, now=now))] == there
        assert [one[1] for id_ in "ab" if (one := catalog.artifact_by_id(id_, now=now))] == there
        assert [one for name in ("r1", "r2") if (one := catalog.request(scope, name, now=now))] == [o.id for o in there]
    assert catalog.artifact(B, "a", now=0) is None
    assert catalog.artifact_by_id("a", now=0) == (A, lasting)
    catalog.remove_artifact(A, "a")
    assert catalog.artifacts(A) == [passing]
    assert catalog.request(scope, "r1", now=0) is None


def test_lists_of_artifacts_have_one_order(catalog: Catalog) -> None:
    for number in range(6):
        catalog.put_artifact(A, artifact(f"a{number}", created_at=number % 3, task_id="t"))
    assert [one.id for one in catalog.artifacts(A)] == ["a2", "a5", "a1", "a4", "a0", "a3"]
    assert [one.id for one in catalog.artifact_rows(A, now=0)] == ["a2", "a5", "a1", "a4", "a0", "a3"]
    assert [one.id for one in catalog.task_artifacts("t", now=0)] == ["a0", "a3", "a1", "a4", "a2", "a5"]


def test_the_prefix_of_a_path_is_taken_literally(catalog: Catalog) -> None:
    paths = ["100%/x", "100x/x", "a_b", "aXb", "Été", "A_b"]
    for number, path in enumerate(paths):
        catalog.put_artifact(A, artifact(f"a{number}", task_id="t", path=path))
    for prefix in ("", "100%", "a_", "a", "É", "100%/x", "100%/xx"):
        found = [one.path for one in catalog.task_artifacts("t", prefix, now=0)]
        assert found == [path for path in paths if path.startswith(prefix)]


def test_a_row_has_what_lists_need(catalog: Catalog) -> None:
    full = artifact(
        "a", workflow_id="w", task_id="t", work_item_id="i", stage_name="s", role="r", expires_at=9, metadata={"x": 1}
    )
    catalog.put_artifact(A, full)
    (found,) = catalog.artifact_rows(A, now=0)
    assert {name: getattr(found, name) for name in found.__struct_fields__} == {
        name: getattr(full, name) for name in found.__struct_fields__
    }


def test_a_request_id_holds_within_the_workflow_else_the_task_else_the_workspace(catalog: Catalog) -> None:
    catalog.put_artifact(A, artifact("1", request_id="r", workflow_id="x", task_id="t"))
    catalog.put_artifact(A, artifact("2", request_id="r", task_id="x"))
    catalog.put_artifact(A, artifact("3", request_id="r"))
    catalog.put_artifact(B, artifact("4", request_id="r"))
    catalog.put_artifact(B, artifact("5", request_id="r", created_at=4))
    scopes = [("x", "t"), ("x", None), (None, "x"), (None, "t"), (None, None)]
    assert [catalog.request(request_scope(A, *one), "r", now=0) for one in scopes] == ["1", "1", "2", None, "3"]
    assert catalog.request(request_scope(B, None, None), "r", now=0) == "5"
    assert catalog.request(request_scope(A, None, None), "R", now=0) is None


# The rest


def test_what_is_indexed_goes_with_the_rows(catalog: Catalog) -> None:
    assert catalog.indexed(A) == Heads()
    with catalog.batch():
        catalog.put_workspace(row(), b"{}")
        catalog.put_workflow(A, Workflow("w", "W"))
        catalog.put_task(A, Task("t", "T"))
        catalog.put_artifact(A, artifact("a"))
        catalog.mark_indexed(A, Heads("ab" * 20, "cd" * 20))
    catalog.put_task(B, Task("stays", "T"))
    assert catalog.indexed(A) == Heads("ab" * 20, "cd" * 20)
    catalog.clear_workspace(A)
    assert catalog.indexed(A) == Heads()
    assert (catalog.workflows(A), catalog.tasks(A), catalog.artifacts(A)) == ([], [], [])
    assert catalog.find("alpha") == A
    catalog.put_task(A, Task("t", "T"))
    catalog.remove_workspace(A)
    assert (catalog.tasks(A), catalog.find(A), catalog.records([A])) == ([], None, {})
    assert catalog.task("stays") is not None


def test_facts_of_blobs(catalog: Catalog) -> None:
    assert catalog.blob("ab" * 20) is None
    catalog.put_blobs([("ab" * 20, 5, "12" * 32), ("cd" * 20, 0, "34" * 32), ("ab" * 20, 5, "12" * 32)])
    assert catalog.blob("ab" * 20) == (5, "12" * 32)
    assert catalog.blobs(["cd" * 20, "ef" * 20]) == {"cd" * 20: (0, "34" * 32)}


def test_times_of_keys_are_known_at_once_and_kept(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "c")
    catalog.key_used("k1", 5)
    catalog.key_used("k1", 9)
    catalog.key_used("k1", 7)
    catalog.key_used("k2", 1)
    assert catalog.keys_used() == {"k1": 9, "k2": 1}
    catalog.flush()
    catalog.key_used("k2", 2)
    catalog.close()
    catalog.close()
    again = Catalog(tmp_path / "c")
    assert again.keys_used() == {"k1": 9, "k2": 2}
    again.close()


def test_a_damaged_file_opens_empty(tmp_path: Path) -> None:
    path = tmp_path / "c"
    catalog = Catalog(path)
    assert catalog.opened_empty
    with catalog.batch():
        for number in range(500):
            catalog.put_artifact(A, artifact(f"a{number}"))
        catalog.put_workspace(row())
    catalog.close()
    data = bytearray(path.read_bytes())
    data[8_192:20_000] = b"\xff" * (20_000 - 8_192)
    path.write_bytes(bytes(data))
    catalog = Catalog(path)
    assert catalog.opened_empty
    assert catalog.workspaces() == []
    catalog.put_workspace(row())
    catalog.close()
    catalog = Catalog(path)
    assert not catalog.opened_empty
    assert catalog.find("alpha") == A
    catalog.close()
