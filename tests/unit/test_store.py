"""The store as a whole: what is written is there after a restart, from the branches alone, whoever moved them."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitstore import artifacts, evidence, memory, publisher, settings, spec, workflows, workspaces
from gitstore.changes import Change, Outcome
from gitstore.checkout import Checkouts
from gitstore.derived import Derived
from gitstore.errors import Conflict, FormatUnknown, NotFound, StorageFailed, StoreBusy
from gitstore.explorer import Explorer, ExplorerQuery
from gitstore.history import TimelineQuery
from gitstore.model import Actor, Provenance
from gitstore.past import Past
from gitstore.pending import Pending
from gitstore.retrospect import Retrospect
from gitstore.search import Document, Kind
from gitstore.sightings import Sightings, Wanted
from gitstore.snapshot import Snapshot
from gitstore.store import Options, Store
from gitstore.work import Work

WHO = Provenance(Actor("admin", "kabc1234", "The admin's  key"), request_id="r-1", workflow_id="wf  1")


def settle(pending: Pending[Outcome[Any]]) -> Outcome[Any]:
    return pending.result(10)


def make(store: Store, slug: str, **more: Any) -> str:
    wanted = {"name": slug.title(), "slug": slug, **more}
    return settle(store.create(slug, lambda draft: workspaces.create(draft, wanted), WHO)).snapshot.workspace


def put(store: Store, ref: str, **updates: Any) -> Snapshot:
    return settle(store.apply(ref, "main", lambda draft: memory.set(draft, updates), WHO)).snapshot


def git(store: Store, slug: str, *words: str) -> str:
    where = store.layout.workspaces / slug
    done = subprocess.run(
        ["git", "-C", str(where), "-c", "user.name=Pat", "-c", "user.email=pat@example.org", *words],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def published(store: Store, ref: str) -> None:
    assert store.publisher.publish(store.load(ref))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as store:
        yield store


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        identity = make(store, "alpha", memory={"a": 1}, settings={"x": {"b": 1, "a": 2}})
        put(store, "ALPHA", **{"key / with": {"deep": [1, 2.5, None]}})
        body = {"tools": {"available": ["grep"]}}
        settle(store.apply(identity, "main", lambda draft: spec.put(draft, body), WHO))
        before = store.load(identity).visible.record()
    with Store.open(tmp_path / "data") as store:
        snapshot = store.load(identity.upper()).visible
        assert snapshot.record() == before
        assert snapshot.spec_version == 1
        published(store, identity)
        assert git(store, "alpha", "status", "--porcelain") == ""
        assert git(store, "alpha", "fsck", "--strict", "--full") == ""


def everything(store: Store, identity: str) -> Any:
    """All that the derived indexes answer about a workspace."""
    timeline = store.history.timeline(identity, TimelineQuery(per_page=1000))
    found = Explorer(store.catalog, store.search).explore(identity, ExplorerQuery(q="quarterly"), 10**15)
    workspace = store.load(identity)
    told = Retrospect(store, Past(store))
    paths = sorted({path for entry in timeline.entries for one in entry.facts.changes for path in one.paths})
    on = {path: entry.facts.branch for entry in timeline.entries for one in entry.facts.changes for path in one.paths}
    return (
        timeline.entries,
        [told.path_history(workspace, path, branch=on[path]) for path in paths],
        [told.blame(workspace, path, branch=on[path]) for path, _ in workspace.visible.tree().walk()],
        told.key_history(workspace, "a"),
        Sightings(store).look(workspace, Wanted("Check")),
        store.history.file_stats(identity),
        store.history.versions(identity, "spec"),
        store.catalog.workspace(identity),
        store.catalog.records([identity]),
        store.catalog.workflows(identity),
        store.catalog.tasks(identity),
        store.catalog.artifacts(identity, now=0),
        found.rows,
        store.catalog.list("alp"),
    )


def test_the_derived_indexes_come_back_the_same(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        identity = make(store, "alpha", memory={"a": 1})
        work = Work(store)
        for n in range(5):
            put(store, identity, **{"k" * (1 + 60 * n): n, "Über": n})
        settle(work.create_workflow(identity, workflows.New(name="Nightly run", id="wf 1"), WHO))
        settle(work.put_task("wf 1", "task-1", workflows.TaskPut(title="Check"), WHO))
        new = artifacts.check(artifacts.New(path="out/r.md", content=b"the quarterly report", task_id="task-1"))
        settle(work.add_artifact(identity, new, WHO))
        settle(work.update_workflow("wf 1", workflows.Patch(state="completed"), WHO))
        settle(store.apply(identity, "main", lambda draft: workspaces.update(draft, {"slug": "alpine"}), WHO))
        settle(store.apply(identity, "main", lambda draft: memory.delete(draft, "Über"), WHO))
        before = everything(store, identity)
        assert len(before[0]) == 12
        assert before[0][0].facts.actor.name == "The admin's  key"
        assert len(before[8]) == 1
    shutil.rmtree(tmp_path / "data/derived")
    with Store.open(tmp_path / "data") as store:
        after = everything(store, identity)
        for old, new_one in zip(before, after, strict=True):
            assert new_one == old
        assert store.find("alpha") == identity


def test_a_slug_is_free_at_once_and_an_old_one_answers(store: Store) -> None:
    one = make(store, "alpha")
    with pytest.raises(Conflict):
        make(store, "Alpha")
    settle(store.apply(one, "main", lambda draft: workspaces.update(draft, {"slug": "beta"}), WHO))
    assert store.find("alpha") == store.find("BETA") == one
    two = make(store, "alpha")
    assert store.find("alpha") == two
    store.delete(two, lambda snapshot: snapshot.workspace).result(10)
    with pytest.raises(NotFound):
        store.load(two)
    three = make(store, "alpha")
    published(store, three)
    published(store, one)
    assert sorted(path.name for path in store.layout.workspaces.iterdir()) == ["alpha", "beta"]
    assert len(list(store.layout.trash.iterdir())) == 1
    assert git(store, "beta", "status", "--porcelain") == ""


def test_two_workspaces_exchange_their_slugs(store: Store) -> None:
    def rename(one: str, slug: str) -> None:
        settle(store.apply(one, "main", lambda draft: workspaces.update(draft, {"slug": slug}), WHO))

    one, two = make(store, "alpha", memory={"n": 1}), make(store, "beta", memory={"n": 2})
    published(store, one)
    published(store, two)
    rename(one, "gamma")
    rename(two, "alpha")
    rename(one, "beta")
    deadline = time.monotonic() + 5
    while store.load(one).unpublished or store.load(two).unpublished:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (store.layout.workspaces / "beta/memory/n.yaml").read_text().endswith(".json\n1\n")
    assert (store.layout.workspaces / "alpha/memory/n.yaml").read_text().endswith(".json\n2\n")
    assert sorted(path.name for path in store.layout.workspaces.iterdir()) == ["alpha", "beta"]


def test_a_slug_that_changes_before_the_folder_is_made(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        one = make(store, "alpha")
        settle(store.apply(one, "main", lambda draft: workspaces.update(draft, {"slug": "beta"}), WHO))
    with Store.open(tmp_path / "data") as store:
        assert store.load("beta").visible.context.fields.slug == "beta"
        assert git(store, "beta", "status", "--porcelain") == ""


def test_a_secret_is_sealed_and_never_in_the_repository(tmp_path: Path) -> None:
    secret = "the-token-" + "x" * 8
    with Store.open(tmp_path / "data") as store:
        one = make(store, "alpha", settings={"credentials": {"git_token": secret}, "y": 1})
    with Store.open(tmp_path / "data") as store:
        sealed = store.load(one).visible.sealed[settings.GIT_TOKEN]
        assert store.vault.unseal(one, settings.GIT_TOKEN, sealed) == secret
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_a_commit_by_hand_is_taken_in(store: Store) -> None:
    one = make(store, "alpha", memory={"a": 1})
    published(store, one)
    where = store.layout.workspaces / "alpha"
    (where / "memory/b.yaml").write_text("2\n")
    git(store, "alpha", "add", "-A")
    git(store, "alpha", "commit", "-qm", "by hand")
    head = git(store, "alpha", "rev-parse", "HEAD").strip()
    put(store, one, c=3)
    published(store, one)
    snapshot = store.load(one).visible
    assert list(snapshot.context.memory) == ["a", "b", "c"]
    assert git(store, "alpha", "status", "--porcelain") == ""
    assert head in git(store, "alpha", "rev-list", "main").split()
    entries = store.history.timeline(one, TimelineQuery()).entries
    assert {entry.facts.kind for entry in entries} == {"workspace.created", "memory.updated", "merge"}
    assert git(store, "alpha", "fsck", "--strict", "--full") == ""


def test_a_commit_by_hand_and_a_write_to_one_file_are_merged_by_meaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "SWEEP", 3600.0)  # else the commit may be taken in before the write is made
    with Store.open(tmp_path / "data") as store:
        one = make(store, "alpha", memory={"policy": {"owner": "a", "freeze": True, "steps": [{"id": "x"}]}})
        published(store, one)
        file = store.layout.workspaces / "alpha/memory/policy.yaml"
        file.write_text(file.read_text().replace("owner: a", "owner: b  # since May") + "  - id: y\n")
        git(store, "alpha", "commit", "-qam", "by hand")
        put(store, one, policy={"owner": "a", "freeze": False, "steps": [{"id": "x"}, {"id": "z"}]})
        published(store, one)
        wanted = "owner: b  # since May\nfreeze: false\nsteps:\n  - id: x\n  - id: z\n  - id: y\n"
        assert file.read_text().split("\n", 1)[1] == wanted  # below the line that names the schema
        assert git(store, "alpha", "status", "--porcelain") == ""
    with Store.open(tmp_path / "data") as store:
        assert git(store, "alpha", "show", "main:memory/policy.yaml").split("\n", 1)[1] == wanted
        assert git(store, "alpha", "fsck", "--strict", "--full") == ""


def test_a_commit_by_hand_alone_keeps_its_id(store: Store) -> None:
    one = make(store, "alpha", memory={"a": 1})
    published(store, one)
    (store.layout.workspaces / "alpha/memory/a.yaml").write_text("# mine\n2\n")
    git(store, "alpha", "commit", "-qam", "by hand")
    head = git(store, "alpha", "rev-parse", "HEAD").strip()
    published(store, one)
    snapshot = store.load(one).visible
    assert snapshot.main.head == head
    assert snapshot.context.memory_json() == b'{"a":2}'
    entry = store.history.timeline(one, TimelineQuery()).entries[0]
    assert (entry.facts.kind, entry.facts.actor.name, entry.facts.door) == ("edit", "Pat", "disk")


@pytest.mark.parametrize("how", [("commit", "-q", "--amend", "-m", "amended"), ("reset", "-q", "--hard", "HEAD~1")])
def test_a_rewrite_by_hand_loses_nothing(store: Store, how: tuple[str, ...]) -> None:
    one = make(store, "alpha", memory={"a": 1})
    put(store, one, b=2)
    published(store, one)
    before = store.load(one).visible.main.head
    git(store, "alpha", *how)
    put(store, one, c=3)
    published(store, one)
    line = git(store, "alpha", "rev-list", "--first-parent", "main").split()
    assert before in line
    assert store.load(one).visible.main.head == line[0]
    kept = ["a", "c"] if how[0] == "reset" else ["a", "b", "c"]
    assert list(store.load(one).visible.context.memory) == kept
    assert git(store, "alpha", "status", "--porcelain") == ""


def test_an_evidence_branch_made_by_hand_is_kept(store: Store) -> None:
    one = make(store, "alpha", memory={"a": 1})
    published(store, one)
    git(store, "alpha", "branch", "evidence")
    by_hand = git(store, "alpha", "rev-parse", "evidence").strip()
    settle(Work(store).create_workflow(one, workflows.New(name="Nightly", id="n"), WHO))
    published(store, one)
    assert by_hand in git(store, "alpha", "rev-list", "evidence").split()
    assert store.catalog.workflow("n") is not None
    assert git(store, "alpha", "fsck", "--strict", "--full") == ""


def test_a_branch_deleted_by_hand_comes_back(store: Store) -> None:
    one = make(store, "alpha", memory={"a": 1})
    settle(Work(store).create_workflow(one, workflows.New(name="Nightly", id="n"), WHO))
    published(store, one)
    before = git(store, "alpha", "rev-parse", "evidence")
    git(store, "alpha", "branch", "-D", "evidence")
    published(store, one)
    assert git(store, "alpha", "rev-parse", "evidence") == before


def test_a_move_made_while_the_store_was_closed(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        one = make(store, "alpha", memory={"a": 1})
    with Store.open(tmp_path / "data") as store:
        pass
    where = tmp_path / "data/workspaces/alpha"
    (where / "memory/b.yaml").write_text("by hand\n")
    subprocess.run(["git", "-C", str(where), "add", "-A"], check=True)
    subprocess.run(
        ["git", "-C", str(where), "-c", "user.name=P", "-c", "user.email=p@p", "commit", "-qm", "x"], check=True
    )
    with Store.open(tmp_path / "data") as store:
        deadline = time.monotonic() + 5
        while "b" not in store.load(one).visible.context.memory and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.load(one).visible.context.memory_json() == b'{"a":1,"b":"by hand"}'


def test_workspaces_leave_memory_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "CHECKPOINT", 0.1)
    monkeypatch.setattr(publisher, "AGE", 0.0)
    with Store.open(tmp_path / "data", Options(hot=3)) as store:
        ids = [make(store, f"w{n}", memory={"n": n}) for n in range(12)]
        for one in ids:
            published(store, one)
        for n, one in enumerate(ids):
            assert store.load(one).visible.context.memory_json() == b'{"n":%d}' % n
        until = time.monotonic() + 10  # what was published is looked at once more before
        while sum(store.hot(one) is not None for one in ids) > 3 and time.monotonic() < until:
            time.sleep(0.05)
            store.make_room()
        assert sum(store.hot(one) is not None for one in ids) <= 3
        for n, one in enumerate(ids):
            put(store, one, m=n)
        for n, one in enumerate(ids):
            assert store.load(one).visible.context.memory_json() == b'{"m":%d,"n":%d}' % (n, n)


def test_only_one_process_has_a_store(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data"), pytest.raises(StoreBusy):
        Store.open(tmp_path / "data")
    Store.open(tmp_path / "data").close()


def test_the_next_one_gets_a_store_though_a_program_in_its_making_has_a_copy_of_the_open_lock(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    copies = [os.dup(int(one)) for one in os.listdir("/proc/self/fd") if _leads_to(one, store.layout.lock)]
    try:
        store.close()
        assert copies
        Store.open(tmp_path).close()
    finally:
        for one in copies:
            os.close(one)


def _leads_to(descriptor: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    except FileNotFoundError:  # that of the listing itself
        return False


def test_a_start_that_fails_lets_go_of_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("gitstore.store.recover", full)
        with pytest.raises(StorageFailed, match="No space left"):
            Store.open(tmp_path)
    assert set(threading.enumerate()) == before
    Store.open(tmp_path).close()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Conflict):
        Store.open(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "store.lock"]


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path / "data").close()
    (tmp_path / "data/store.yaml").write_text("format: 2\n")
    with pytest.raises(FormatUnknown):
        Store.open(tmp_path / "data")


def test_an_unreadable_workflow_does_not_hide_the_others(store: Store) -> None:
    one = make(store, "alpha")
    settle(Work(store).create_workflow(one, workflows.New(name="good", id="good"), WHO))
    path = "workflows/zz/bad.yaml"
    settle(store.apply(one, "evidence", lambda draft: draft.write(path, b"name: [broken\n"), WHO))
    assert [found.id for found in store.catalog.workflows(one)] == ["good"]
    assert list(evidence.changed(one, store.load(one).visible.tree("evidence"), [path], time=0))


def test_after_a_kill_only_what_the_indexes_miss_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(number: int) -> None:
        new = artifacts.New(f"out/{number}.txt", b"word%d" % number, task_id=None, workflow_id=None)
        settle(Work(store).add_artifact("home", artifacts.check(new), WHO))

    with Store.open(tmp_path / "data") as store:
        home = make(store, "home")
        for number in range(20):
            add(number)
        store.search.flush()
        add(20)  # the catalog has this one on disk, search does not
        published(store, "home")
        shutil.copytree(tmp_path / "data", tmp_path / "copy", symlinks=True)
    fed: list[str] = []
    feed = Derived.feed

    def counted(self: Derived, workspace: str, kind: Kind, id_: str, document: Document | None, *more: Any) -> None:
        assert document is not None
        fed.append(document.title)
        feed(self, workspace, kind, id_, document, *more)

    monkeypatch.setattr(Derived, "feed", counted)
    with Store.open(tmp_path / "copy") as store:
        until = time.monotonic() + 20
        while store.derived.standing().index != "ready":
            assert time.monotonic() < until
            time.sleep(0.01)
        assert fed == ["out/20.txt"]
        for number in (0, 20):
            found = Explorer(store.catalog, store.search).explore(home, ExplorerQuery(q=f"word{number}"), 10**15)
            assert [row["logical_path"] for row in found.rows] == [f"out/{number}.txt"]


def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path, dict[str, bytes]]:
    """A data folder whose process was killed before two changes were published; the id, and files between the two."""
    with monkeypatch.context() as patch, Store.open(tmp_path / "first") as store:
        for setting in ("QUIET", "LATEST"):
            patch.setattr(publisher, setting, 3600.0)
        home = make(store, "home", memory={"a": 1, "b": 1, "goes": 1}, settings={"checkout": {"mode": "manual"}})
        published(store, home)
        between = put(store, home, a=2, new=2)
        put(store, home, a=3, new=3)
        settle(store.apply(home, "main", lambda draft: memory.delete(draft, "goes"), WHO))
        shutil.copytree(tmp_path / "first", tmp_path / "copy", symlinks=True)
        files = {path: between.tree().read(path) or b"" for path in ("memory/a.yaml", "memory/new.yaml")}
        return home, tmp_path / "copy", files


def test_what_a_kill_left_half_published_is_no_edit_of_the_person_who_then_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    home, data, half = killed(tmp_path, monkeypatch)
    folder = data / "workspaces" / "home"
    for path, content in half.items():
        (folder / path).write_bytes(content)
    (folder / "memory/goes.yaml").unlink()
    (folder / "memory/b.yaml").write_bytes(b"5 # mine, not committed\n")
    (folder / "notes.md").write_text("mine\n")
    (store.layout.workspaces / "there").symlink_to(folder)
    git(store, "there", "add", "notes.md")
    git(store, "there", "commit", "-q", "-m", "notes", "--", "notes.md")
    with Store.open(data) as again:
        Checkouts(again, settle=0.0, mode="manual", file_limit=1 << 20).look("home", None)
        assert git(again, "home", "status", "--porcelain") == " M memory/b.yaml\n"
        assert (folder / "memory/a.yaml").read_text().endswith("\n3\n")
        assert (folder / "memory/b.yaml").read_bytes() == b"5 # mine, not committed\n"
        assert not (folder / "memory/goes.yaml").exists()
        assert again.load(home).visible.context.memory_json() == b'{"a":3,"b":1,"new":3}'


def test_a_start_after_a_kill_waits_for_an_index_that_it_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    home, data, _ = killed(tmp_path, monkeypatch)
    folder = data / "workspaces" / "home"
    (store.layout.workspaces / "there").symlink_to(folder)
    git(store, "there", "update-index", "--split-index")
    with Store.open(data) as again:
        assert again.load(home).visible.context.memory_json() == b'{"a":3,"b":1,"new":3}'
        git(again, "home", "update-index", "--no-split-index")
        published(again, home)
        assert git(again, "home", "status", "--porcelain") == ""
        assert (folder / "memory/a.yaml").read_text().endswith("\n3\n")


def test_a_query_waits_for_what_another_thread_is_taking_in(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make(store, "alpha")
    taking, go_on = threading.Event(), threading.Event()
    append = store._history.append

    def slow(batch: Any) -> None:
        taking.set()
        assert go_on.wait(10)
        append(batch)

    monkeypatch.setattr(store._history, "append", slow)
    put(store, one, a=1)
    other = threading.Thread(target=store.derived.flush)
    other.start()
    assert taking.wait(10)
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.append(len(store.history.timeline(one, TimelineQuery()).entries)))
    reader.start()
    reader.join(0.2)
    assert not seen
    go_on.set()
    other.join(10)
    reader.join(10)
    assert seen == [2]


def test_a_change_that_was_told_and_published_is_freed_without_a_look_for_garbage(tmp_path: Path) -> None:
    """A server looks for garbage seldom, and a change holds all that was uploaded with it three times."""
    with Store.open(tmp_path / "data") as store:
        fields = {"name": "shop", "slug": "shop"}
        store.create("shop", lambda d: workspaces.create(d, fields), WHO).result()
        gc.collect()
        gc.disable()
        try:
            for number in range(5):
                store.apply("shop", "main", lambda d, n=number: memory.set(d, {f"k{n}": "x" * 1000}), WHO).result()
            assert store.publisher.publish(store.load("shop"))
            until = time.monotonic() + 10
            while left := sum(type(one) is Change for one in gc.get_objects()):
                assert time.monotonic() < until, left
                time.sleep(0.01)
        finally:
            gc.enable()
