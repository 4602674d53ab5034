"""Search across everything, and how what is found gets into the index: what a running store does seldom."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from folders import ARTIFACT, WHO, fill

from gitstore import artifacts, names, trash, workflows
from gitstore.bounded import Bounded
from gitstore.changes import Draft, Workspace
from gitstore.errors import Damaged, NotFound
from gitstore.feeding import Feeder
from gitstore.finding import Found, find
from gitstore.moments import resolve
from gitstore.reclaiming import reclaim
from gitstore.records import Evidence
from gitstore.repository.database import Database
from gitstore.repository.objects import Oid
from gitstore.search.query import parse_strict
from gitstore.store import Store
from gitstore.verify import verify
from gitstore.work import TaskNew, Work


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        yield opened


def asked(store: Store, q: str) -> Found:
    return find(store, parse_strict(q), now=int(time.time() * 1000))


def feeder(store: Store) -> Feeder:
    """One that feeds when it is told to; the store's own is stopped."""
    store.feeder.stop()
    return Feeder(
        store.catalog, store.history, store.search, store.derived,
        lambda identity: store.load(identity).visible, store.layout.derived,
    )  # fmt: skip


@pytest.mark.parametrize("afresh", [False, True], ids=["at once", "by catching up"])
def test_a_record_that_is_taken_off_the_branch_is_gone_everywhere(store: Store, afresh: bool) -> None:
    """Also one whose file is named by a hash of its id; of two files of one record, the other one counts then."""
    workspace, long = fill(store), "quagga-" * 34
    tasks = [TaskNew(f"t{long}", workflows.TaskPut(title="Okapi"))]
    Work(store).create_workflow(workspace, workflows.New("Quagga", id=long), WHO, tasks=tasks).result()
    Work(store).create_workflow(workspace, workflows.New("Tapir", id="twice"), WHO).result()

    def twice(draft: Draft) -> None:
        draft.write("workflows/twice.yaml", draft.read(names.workflow_path("twice")) or b"")
        draft.describe("workflow.updated", "a copy")

    def remove(draft: Draft) -> None:
        for path in (names.workflow_path(long), names.task_path(f"t{long}"), "workflows/twice.yaml"):
            assert draft.read(path) is not None
            draft.remove(path)
        draft.describe("workflow.updated", "taken off")

    store.apply(workspace, "evidence", twice, WHO).result()
    assert {row.title for q in ("quagga", "okapi", "tapir") for row in asked(store, q).rows} == {
        "Quagga", "Okapi", "Tapir"
    }  # fmt: skip
    if afresh:
        store.derived.apply = lambda changes: store.derived.stale.add(workspace)  # type: ignore[method-assign]
    store.apply(workspace, "evidence", remove, WHO).result()
    until = time.monotonic() + 10
    while afresh and workspace in store.derived.stale:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert {row.title for q in ("quagga", "okapi", "tapir") for row in asked(store, q).rows} == {"Tapir"}
    assert store.catalog.workflow(long) is None
    assert store.catalog.task(f"t{long}") is None
    assert store.catalog.workflow("twice") is not None


def test_an_artifact_expires_with_the_workflow_of_its_task(store: Store) -> None:
    workspace = fill(store)
    new = workflows.New("Run", id="run", metadata={"artifact_retention": {"mode": "ephemeral"}})
    Work(store).create_workflow(workspace, new, WHO, tasks=[TaskNew("job", workflows.TaskPut(title="Job"))]).result()
    folder = names.artifact_folder(ARTIFACT)

    def push(draft: Draft) -> None:  # by hand, an artifact says no more than its task
        draft.write(f"{folder}/artifact.yaml", b"path: out/report.md\ntask_id: job\n")
        draft.write(f"{folder}/report.md", b"the zebra ran\n")
        draft.describe("artifact.added", "artifact: add out/report.md")

    store.apply(workspace, "evidence", push, WHO).result()
    assert [row.id for row in asked(store, "zebra").rows] == [ARTIFACT]
    Work(store).update_workflow("run", workflows.Patch(state="completed"), WHO).result()
    assert asked(store, "zebra").rows == []
    with pytest.raises(NotFound):
        Work(store).artifact(workspace, ARTIFACT)
    then = resolve(store, store.load(workspace), "now")
    with pytest.raises(NotFound):
        Evidence(store).artifact(store.load(workspace), then, ARTIFACT)
    assert [one.id for one in reclaim(store, days=0, now=time.time() + 1) if one.what == "artifact"] == [ARTIFACT]


@pytest.mark.parametrize("flushed", [False, True], ids=["in memory", "on disk"])
def test_what_has_expired_is_not_counted_either(store: Store, flushed: bool) -> None:
    one, two, work = fill(store, "one"), fill(store, "two"), Work(store)
    ends = workflows.New("Ends", id="ends", metadata={"artifact_retention": {"mode": "ephemeral"}})
    days = workflows.New("Days", id="days", metadata={"artifact_retention": {"mode": "days", "days": 2}})
    work.create_workflow(one, ends, WHO, tasks=[TaskNew("job", workflows.TaskPut(title="Job"))]).result()
    work.create_workflow(two, days, WHO).result()
    made: dict[str, list[str]] = {"ends": [], "days": [], "stays": []}

    def add(workspace: str, path: str, **more: Any) -> str:
        new = artifacts.check(artifacts.New(path, b"the zebra ran", **more))
        return work.add_artifact(workspace, new, WHO).result().value.id

    for number in range(7):
        made["ends"].append(
            add(one, f"e{number}.txt", **({"task_id": "job"} if number % 2 else {"workflow_id": "ends"}))
        )
        made["days"].append(add(two, f"d{number}.txt", workflow_id="days"))
        made["stays"].append(add((one, two)[number % 2], f"s{number}.txt"))
    if flushed:
        store.search.flush()

    def found(now: float = 0.0, **more: Any) -> tuple[set[str], int, dict[str, int], dict[str, int]]:
        page, rows, total = 1, set[str](), None
        while True:  # pages are as full as they say
            got = find(
                store, parse_strict("zebra"), now=int(1000 * (now or time.time())), page=page, per_page=4, **more
            )
            assert total in (None, got.total)
            total = got.total
            assert len(got.rows) == min(4, max(0, total - 4 * (page - 1)))
            rows |= {row.id for row in got.rows}
            if 4 * page >= total:
                return rows, total, got.kinds, {place.id: count for place, count in got.places}
            page += 1

    def all_of(*names: str) -> set[str]:
        return {id_ for name in names for id_ in made[name]}

    assert found() == (all_of("ends", "days", "stays"), 21, {"artifact": 21}, {one: 11, two: 10})
    work.update_workflow("ends", workflows.Patch(state="completed"), WHO).result()
    assert found() == (all_of("days", "stays"), 14, {"artifact": 14}, {one: 4, two: 10})
    assert found(workspaces=[one])[0] == set(made["stays"][::2])
    later = time.time() + 3 * 86_400
    assert found(later) == (all_of("stays"), 7, {"artifact": 7}, {one: 4, two: 3})
    assert found()[1] == 14, "what is asked for now is as of now"
    pinned = made["days"][3]
    work.pin_artifact(two, work.artifact(two, pinned), True, WHO).result()
    assert found(later)[0] == {*all_of("stays"), pinned}
    work.update_workflow("ends", workflows.Patch(state="active"), WHO).result()
    assert found()[0] == all_of("ends", "days", "stays")
    work.update_workflow("days", workflows.Patch(metadata={}), WHO).result()
    assert found(later)[0] == all_of("ends", "days", "stays")


def test_the_records_of_another_workspace_are_not_meant(store: Store) -> None:
    one, two = fill(store, "one"), fill(store, "two")
    Work(store).create_workflow(two, workflows.New("Run", id="run"), WHO, tasks=[
        TaskNew("job", workflows.TaskPut(title="Job"))
    ]).result()  # fmt: skip
    folder = names.artifact_folder(ARTIFACT)

    def push(draft: Draft) -> None:
        draft.write(f"{folder}/artifact.yaml", b"path: out/report.md\ntask_id: job\n")
        draft.write(f"{folder}/report.md", b"the zebra ran\n")
        draft.describe("artifact.added", "artifact: add out/report.md")

    store.apply(one, "evidence", push, WHO).result()
    (row,) = asked(store, "zebra").rows
    assert row.url == f"/api/v1/workspaces/{one}/artifacts/{ARTIFACT}"


def _fed(store: Store, monkeypatch: pytest.MonkeyPatch, happens: Callable[[str], object]) -> tuple[str, Feeder]:
    """A workspace that is fed anew; something happens to it before the first document. Its id, and who feeds."""
    workspace, feeding = fill(store, keys=5), feeder(store)
    store.derived.extraction.forget(workspace)
    feed, left = store.derived.feed, [True]

    def one(*given: Any) -> None:
        if left.pop() if left else False:
            happens(workspace)
        feed(*given)

    with monkeypatch.context() as patched:
        patched.setattr(store.derived, "feed", one)
        feeding.feed(workspace)
    return workspace, feeding


def test_a_workspace_that_is_deleted_while_it_is_fed_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, _ = _fed(store, monkeypatch, lambda identity: store.delete(identity, lambda _: None).result())
    assert asked(store, "key").total == 0
    assert workspace not in store.search.workspaces()


def test_a_workspace_that_is_deleted_and_restored_while_it_is_fed_is_fed_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def happens(identity: str) -> None:
        store.delete(identity, lambda _: None).result()
        trash.restore(store, identity)

    workspace, feeding = _fed(store, monkeypatch, happens)
    assert workspace in store.derived.unfed
    feeding._turn()
    assert asked(store, "key").total == 5


def test_nothing_is_left_of_a_workspace_deleted_just_before_a_kill(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        workspace = fill(store)
        kept = fill(store, "other")
        store.search.flush()
        copy = tmp_path / "before"
        shutil.copytree(store.layout.derived / "search", copy)
        store.delete(workspace, lambda _: None).result()
    # The kill: the index on disk is as it was before.
    shutil.rmtree(store.layout.derived / "search")
    shutil.copytree(copy, store.layout.derived / "search")
    with Store.open(tmp_path / "data") as store:
        assert store.search.workspaces() == {kept}
        found = asked(store, "key")
        assert found.total == len(found.rows) == 3


def test_records_with_long_ids_are_fed_from_what_changed(store: Store) -> None:
    workspace, feeding = fill(store, keys=1), feeder(store)
    long = "é" * 200
    Work(store).create_workflow(workspace, workflows.New("Zebra", id=long), WHO).result()
    marker = store.search.marker(workspace, "evidence")
    Work(store).update_workflow(long, workflows.Patch(name="Quagga"), WHO).result()
    snapshot = store.load(workspace).visible
    pairs = {pair for pair, _ in feeding._evidence(workspace, snapshot, marker)}
    assert pairs == {("workflow", long)}


def test_one_content_that_is_lost_hides_nothing_else(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, feeding = fill(store), feeder(store)
    first, second = (
        Work(store).add_artifact(workspace, artifacts.check(artifacts.New(name, f"{name} zebra".encode())), WHO)
        for name in ("one.txt", "two.txt")
    )
    lost, whole = first.result().value, second.result().value
    blob = Database.blob

    def read(self: Database, oid: Oid) -> bytes:
        if oid.hex() == lost.blob:
            raise Damaged("it is missing")
        return blob(self, oid)

    monkeypatch.setattr(Database, "blob", read)
    assert {row.id for row in asked(store, "zebra").rows} == {lost.id, whole.id}
    store.extraction._plain = Bounded("plain texts", 0)  # as after a start
    store.derived.extraction.forget(workspace)
    store.derived.starve((workspace,))
    feeding._turn()
    assert store.derived.standing(workspace).index == "ready"
    assert {row.id for row in asked(store, "zebra").rows} == {whole.id}
    assert {row.id for row in asked(store, "txt").rows} == {lost.id, whole.id}


def test_a_workspace_that_cannot_be_read_holds_up_no_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sorted((fill(store, "one"), fill(store, "two")))
    feeding, load = feeder(store), store.load
    for one in (first, second):
        store.derived.extraction.forget(one)
    store.derived.starve((first, second))

    def loaded(identity: str) -> Workspace:
        if identity == first:
            raise OSError("the disk cannot be read")
        return load(identity)

    monkeypatch.setattr(store, "load", loaded)
    feeding._turn()
    assert store.derived.unfed == {first}


def test_of_a_damaged_part_of_the_index_only_that_is_made_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Store.open(data) as store:
        first = fill(store, "first")
        store.search.flush()
        second = fill(store, "second")
        store.search.flush()
        wanted = {(row.place.id, row.id) for row in asked(store, "key").rows}
        assert {workspace for workspace, _ in wanted} == {first, second}
    assert list(verify(data, search=True)) == []
    owners = [path for path in (data / "derived/search").glob("*.own") if first in path.read_text()]
    terms = owners[0].with_suffix(".trm")
    terms.write_bytes(bytes(byte ^ 0xFF for byte in terms.read_bytes()))
    with Store.open(data) as store:
        fed: list[str] = []
        feed = store.feeder.feed
        store.feeder.feed = lambda workspace: (fed.append(workspace), feed(workspace))[1]  # type: ignore[method-assign]
        until = time.monotonic() + 20
        while not fed or store.derived.standing().index != "ready":
            assert time.monotonic() < until
            time.sleep(0.01)
        assert set(fed) == {first}
        assert {(row.place.id, row.id) for row in asked(store, "key").rows} == wanted
    assert list(verify(data, search=True)) == []
