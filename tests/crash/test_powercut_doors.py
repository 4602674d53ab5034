"""The power goes at every step of what comes in by the other doors: hand edits, a person's commits, pushes, folders.

As in `test_powercut`, whose disk and cuts these are. A person's saves and commits are durable here (what they did not
sync is theirs to lose), so that after every cut the end is known: nothing acknowledged is missing, and the edits are
taken in, or stand as a conflict with the person's bytes in the file.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crash.powercut import Mark, Quick, Recorder, State, copy_outside, cuts
from crash.seen import HOME, KEY, WHO, git, sound
from crash.test_powercut import DEPTH, SEED
from gitstore import joining, memory, publisher, workspaces
from gitstore.changes import Workspace
from gitstore.checkout import Checkouts
from gitstore.folders import Folders
from gitstore.joining import Joined
from gitstore.repository import journal, replay
from gitstore.repository.ancestry import is_ancestor
from gitstore.repository.commits import Signature, build
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Blob, Oid
from gitstore.repository.quarantine import Quarantine
from gitstore.repository.trees import FILE_MODE, Node, rewrite
from gitstore.store import Options, Store

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if DEPTH else 180)]

POLICY = "memory/policy.yaml"


class End(NamedTuple):
    """What comes of it: the memory (JSON), what a file in conflict says, the commits that are in `main`."""

    memory: str
    file: str | None = None
    commits: tuple[str, ...] = ()
    saved: str | None = None  # the file as its person last saved it


class Learning(Recorder):
    """Takes over by itself what the store did past the record (folders made for an import, removed afterwards)."""

    def _find(self, path: str) -> int:
        try:
            return super()._find(path)
        except KeyError:
            self.learn()
            return super()._find(path)


class Desk:
    """A store on a recording disk, and a person in the folder of its workspace."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.disk = Learning(root)
        self.disk.mkdir(f"{root}/secrets")  # the master key's keeper syncs by itself
        self.disk.sync_folder(str(root))
        self.store = Store.open(root, Options(secret_key=KEY), disk=self.disk)
        self.folder = root / "workspaces/home"
        wanted = {"name": "Home", "slug": "home", "memory": {"policy": {"owner": "rosa", "days": 1}, "other": 0}}
        self.store.create("home", lambda draft: workspaces.create(draft, wanted), WHO, identity=HOME).result(10)
        self.publish()
        self.disk.learn()
        self.disk.sync_all("")
        self.commits: tuple[str, ...] = ()
        self.saved: str | None = None
        self.end = End(self.memory())
        self.disk.mark(self.end)
        self.checkouts = looking(self.store)

    @property
    def workspace(self) -> Workspace:
        return self.store.load(HOME)

    def memory(self) -> str:
        return self.workspace.visible.context.memory_json().decode()

    @contextmanager
    def step(self, file: str | None = None, **changed: Any) -> Iterator[None]:
        """Something after which the end is another: with these values, and this file in conflict."""
        merged = {**json.loads(self.end.memory), **changed}
        self.disk.mark((self.end, End(_json(merged), file, self.end.commits, file or self.saved)))
        yield
        self.end = End(_json(merged), file, self.commits, self.saved)
        self.disk.mark(self.end)

    def publish(self) -> None:
        assert self.store.publisher.publish(self.workspace)

    def put(self, **updates: object) -> None:
        done = self.store.apply(HOME, "main", lambda draft: memory.set(draft, updates), WHO).result(10)
        self.acknowledged(done.snapshot.main.head)

    def acknowledged(self, head: str | None) -> None:
        assert head is not None
        self.commits = (*self.commits, head)

    def save(self, path: str, text: str) -> None:
        """A file that is replaced, and synced."""
        with self.disk.lock:
            beside = f"{self.root}/beside"
            self.disk.overwrite(beside, text.encode())
            self.disk.sync_file(beside)
            self.disk.rename(beside, f"{self.folder}/{path}")
            self.disk.sync_folder(f"{self.folder}/{path}".rpartition("/")[0])
        if path == POLICY:
            self.saved = text

    def commit(self, *words: str) -> None:
        self.disk.mark(())  # what a cut leaves of it meanwhile is between git and the person
        git(self.folder, *words)
        self.disk.learn()
        self.disk.sync_all("")
        self.acknowledged(git(self.folder, "rev-parse", "HEAD").strip())

    def look(self) -> None:
        self.checkouts.look("home", None)


def _json(value: object) -> str:
    return json.dumps(dict(sorted(value.items())) if isinstance(value, dict) else value, separators=(",", ":"))


def looking(store: Store) -> Checkouts:
    return Checkouts(store, settle=0.0, mode="auto", file_limit=1 << 20)


# -- the scenarios ------------------------------------------------------------------------------------------------


def hand_edits(d: Desk) -> None:
    with d.step(policy={"owner": "ida", "days": 1}):
        d.save(POLICY, "owner: ida  # since May\ndays: 1\n")
    d.look()
    with d.step(policy={"owner": "ida", "days": 3}):
        d.put(policy={"owner": "ida", "days": 3})
    d.publish()
    with d.step(policy={"owner": "mara", "days": 3}):
        d.save(POLICY, "owner: mara  # since May\ndays: 3\n")
    with d.step(other=1):
        d.put(other=1)
    with d.step(policy={"owner": "mara", "days": 5}):
        d.put(policy={"owner": "ida", "days": 5})
    d.publish()
    d.look()
    with d.step(new="by hand"):
        d.save("memory/new.yaml", "by hand\n")
    d.look()


def conflict(d: Desk) -> None:
    with d.step(policy={"owner": "ida", "days": 1}):
        d.save(POLICY, "owner: ida\ndays: 1\n")
    with d.step("owner: ida\ndays: 1\n", policy={"owner": "mara", "days": 1}):
        d.put(policy={"owner": "mara", "days": 1})
    d.publish()
    d.look()
    with d.step("owner: ida\ndays: 1\n", other=1):
        d.put(other=1)
    d.publish()


def joins(d: Desk) -> None:
    with d.step(other=1):
        d.put(other=1)
    d.save("notes.md", "noted\n")
    d.commit("add", "notes.md")
    d.commit("commit", "-qm", "notes")
    d.end = d.end._replace(commits=d.commits)
    d.disk.mark(d.end)
    d.publish()
    with d.step(other=2):
        d.put(other=2)
    d.publish()


def conflict_in_a_commit(d: Desk) -> None:
    with d.step(policy={"owner": "mara", "days": 1}):
        d.put(policy={"owner": "mara", "days": 1})
    text = "owner: ida\ndays: 1\n"
    with d.step(text):
        d.save(POLICY, text)
    d.commit("commit", "-qam", "ida")
    d.end = d.end._replace(file=text, commits=d.commits, saved=text)
    d.disk.mark(d.end)
    d.publish()
    d.look()
    with d.step(text, other=1):
        d.put(other=1)
    d.publish()


def pushes(d: Desk) -> None:
    head = d.workspace.visible.main.oid
    with d.step(other=1):
        d.put(other=1)
    with d.step(policy={"owner": "ida", "days": 1}):
        push(d, head, "owner: ida\ndays: 1\n")
    d.publish()
    with d.step(policy={"owner": "ida", "days": 7}):
        push(d, d.workspace.visible.main.oid, "owner: ida\ndays: 7\n")
    d.publish()


def push(d: Desk, onto: Oid | None, text: str) -> None:
    """A commit comes in as by a push to refs/for/main, and is answered."""
    assert onto is not None
    repository = d.workspace.repository
    quarantine = Quarantine(d.store.disk, repository)
    quarantine.open({})
    blob = Blob(text.encode())
    root, trees = rewrite(repository.database, repository.tree(onto).root, {POLICY: Node(FILE_MODE, blob.id)})
    who = Signature("Pia", "pia@example.org", 1_700_000_000)
    commit = build(root, (onto,), who, who, f"policy: {text}")
    quarantine.keep([blob, *(item for item, _ in trees), commit])
    with d.workspace.publishing:
        quarantine.admit()
    pending = joining.merge_in(d.workspace, "main", commit.id, WHO, on_conflict="refuse", check=lambda _, __: None)
    joined: Joined = pending.result(10).value
    quarantine.discard()
    d.disk.learn()
    d.acknowledged(joined.head)
    d.acknowledged(commit.id.hex())


SCENARIOS: tuple[Callable[[Desk], None], ...] = (hand_edits, conflict, joins, conflict_in_a_commit, pushes)


# -- looking ------------------------------------------------------------------------------------------------------


def judged(data: Path, allowed: tuple[End, ...], *, restarted: bool) -> None:
    """The store opens, and comes to one of these ends.

    After a power cut nothing may say any more what an edit began from: then it may stand as a conflict.
    """
    with Store.open(data, Options(secret_key=KEY), disk=Quick()) as store:
        workspace, checkouts = store.load(HOME), looking(store)
        assert store.publisher.publish(workspace)
        for _ in range(3):
            checkouts.look("home", None)
        snapshot, repository = workspace.visible, workspace.repository
        file = data / "workspaces/home" / POLICY
        conflicts = [problem for problem in snapshot.problems if problem.kind == "conflict"]
        assert len(conflicts) == len(snapshot.problems), snapshot.problems
        found = _json(json.loads(snapshot.context.memory_json()))
        told = file.read_text() if conflicts else None
        ends = [end for end in allowed if (end.memory, end.file) == (found, told)]
        if restarted and conflicts:
            ends = ends or [end for end in allowed if end.saved == told]
        assert ends, f"{found}, {told!r}, {conflicts} is none of {allowed}"
        assert snapshot.main.oid is not None
        for commit in ends[0].commits:
            assert is_ancestor(repository, Oid(bytes.fromhex(commit)), snapshot.main.oid), f"{commit} is lost"
        if not conflicts:
            sound(store, HOME)
    assert git(data / "workspaces/home", "fsck", "--strict", "--full", "--no-dangling", "--no-progress") == ""
    assert not list((data / "workspaces").rglob("*.lock"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory where there is one, and a publisher that waits to be asked."""
    for setting in ("QUIET", "LATEST", "CHECKPOINT", "SWEEP"):
        monkeypatch.setattr(publisher, setting, 3600.0)
    inside = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    with tempfile.TemporaryDirectory(prefix="gitstore-powercut-", dir=inside) as folder:
        yield Path(folder)


def boot(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(journal, "boot_id", lambda: name)
    monkeypatch.setattr(replay, "booted", lambda: float("inf") if name != "before" else 0.0)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_after_a_power_cut_at_any_point(
    scenario: Callable[[Desk], None], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(monkeypatch, "before")
    desk = Desk(place / "data")
    scenario(desk)
    desk.store.close()
    state = State(desk.disk.modes)
    allowed: tuple[End, ...] = ()
    rng = random.Random(scenario.__name__ + SEED)
    failures: list[str] = []
    looked = 0
    seen: set[int] = set()
    for at, event in enumerate(desk.disk.events):
        state.take(event)
        if isinstance(event, Mark):
            allowed = event.what if not isinstance(event.what, End) else (event.what,)
            continue
        if not allowed:
            continue
        for cut in cuts(at, rng, DEPTH):
            target = place / "cut"
            finger = hash((state.build(target, names=cut.names, content=cut.content), cut.restarted, allowed))
            if finger in seen:
                shutil.rmtree(target)
                continue
            seen.add(finger)
            copy_outside(desk.root, target, derived=False)
            boot(monkeypatch, "after" if cut.restarted else "before")
            looked += 1
            try:
                judged(target, allowed, restarted=cut.restarted)
            except Exception as error:  # collected: one run shows every point that fails
                where = traceback.extract_tb(error.__traceback__)[-1]
                failures.append(f"cut {at} ({event!r:.150}), {cut.name}: {where.line}: {error!r:.700}")
                if "POWERCUT_FIRST" in os.environ:
                    raise
            shutil.rmtree(target)
    assert not failures, "\n".join([f"{len(failures)} of {looked}:", *failures[:20]])
    assert looked > 20


def test_a_folder_that_is_being_adopted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every cut it is a workspace, or becomes one with the next look: with the same id, all its files, once."""
    boot(monkeypatch, "before")
    desk = Desk(place / "data")
    dropped = desk.root / "workspaces/dropped"
    (dropped / "memory").mkdir(parents=True)
    (dropped / "memory/a.yaml").write_text("1\n")
    (dropped / "notes.md").write_text("noted\n")
    desk.disk.learn()
    desk.disk.sync_all("")
    begun = len(desk.disk.events)
    Folders(desk.store, settle=0.0).look("dropped")
    assert "dropped" in [desk.store.load(one).visible.context.fields.slug for one in desk.store.catalog.workspaces()]
    desk.store.close()
    state, rng, failures = State(desk.disk.modes), random.Random(SEED), []
    seen: set[tuple[int, bool]] = set()
    for at, event in enumerate(desk.disk.events):
        state.take(event)
        if at < begun or isinstance(event, Mark):
            continue
        for cut in cuts(at, rng, DEPTH):
            target = place / "cut"
            same = state.build(target, names=cut.names, content=cut.content), cut.restarted
            if same in seen:
                shutil.rmtree(target)
                continue
            seen.add(same)
            copy_outside(desk.root, target, derived=False)
            boot(monkeypatch, "after" if cut.restarted else "before")
            try:
                adopted(target)
            except Exception as error:  # noqa: BLE001  (collected, as above)
                failures.append(f"cut {at} ({event!r:.150}), {cut.name}: {error!r:.700}")
            shutil.rmtree(target)
    assert not failures, "\n".join([str(len(failures)), *failures[:10]])


def adopted(data: Path, disk: Disk | None = None) -> None:
    with Store.open(data, Options(secret_key=KEY), disk=disk or Quick()) as store:
        Folders(store, settle=0.0).look("dropped")
        looking(store).look("dropped", None)
        found = {store.load(one).visible.context.fields.slug: one for one in store.catalog.workspaces()}
        assert sorted(found) == ["dropped", "home"]
        snapshot = store.load(found["dropped"]).visible
        assert json.loads(snapshot.context.memory_json()) == {"a": 1}
        assert snapshot.tree().read("notes.md") == b"noted\n"
        assert store.publisher.publish(store.load(found["dropped"]))
        sound(store, found["dropped"])
        sound(store, HOME)
