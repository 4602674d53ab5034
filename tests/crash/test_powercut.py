"""The power goes, or the process ends, at every step of the write path: what was acknowledged is there afterwards.

Each scenario runs once on a recording disk. Then for each point of the record the worst states that the disk may be in
are built, and the store has to open on them as if nothing had happened. `POWERCUT_DEPTH=10` looks at ten times as
many states, `POWERCUT_SEED` at others.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crash.powercut import Cut, Mark, Quick, Recorder, State, copy_outside, cuts
from crash.seen import HOME, KEY, OTHER, WHO, View, git, history, plain_git, sound, view
from gitstore import artifacts, files, memory, publisher, snapshots, spec, workflows, workspaces
from gitstore.changes import Draft
from gitstore.model import Branch
from gitstore.pending import Pending
from gitstore.precondition import Precondition
from gitstore.repository import journal, packs, replay
from gitstore.repository.database import TreeCache
from gitstore.repository.lives import Places
from gitstore.repository.recovery import recover
from gitstore.store import Options, Store
from gitstore.work import Work

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if "POWERCUT_DEPTH" in os.environ else 120)]

DEPTH = int(os.environ.get("POWERCUT_DEPTH", "0"))
SEED = os.environ.get("POWERCUT_SEED", "")


class Script:
    """A store on a recording disk, and what was promised when."""

    def __init__(self, root: Path, prepare: Callable[[Script], None] | None) -> None:
        self.root = root
        self.views: dict[str, list[View]] = {HOME: [None], OTHER: [None]}
        self.derived: list[Path] = []
        root.mkdir()
        self.disk = Recorder(root)
        self.disk.mkdir(f"{root}/secrets")  # the master key's keeper syncs by itself
        self.disk.sync_folder(str(root))
        self.store = Store.open(root, Options(secret_key=KEY), disk=self.disk)
        if prepare is not None:
            prepare(self)
            self.store.close()
            self.disk.learn()
            self.disk.sync_all("")
            self.disk.mark("start")
            self.store = Store.open(root, Options(secret_key=KEY), disk=self.disk)
        self.keep_derived()

    # -- what is done ---------------------------------------------------------------------------------------------

    def group(self, *ops: tuple[str, Callable[[], Pending[Any]]]) -> None:
        """Changes that are handed in together; then all of them are waited for."""
        waiting = []
        for identity, op in ops:
            self.disk.mark(("begun", identity))
            waiting.append((identity, op()))
        for identity, pending in waiting:
            outcome = pending.result(20)
            self.views[identity].append(view(outcome.snapshot, self.store) if hasattr(outcome, "snapshot") else None)
            self.disk.mark(("acknowledged", identity))
        self.keep_derived()

    def create(self, identity: str, slug: str, **more: Any) -> None:
        wanted = {"name": slug.title(), "slug": slug, **more}
        self.group(
            (identity, lambda: self.store.create(slug, lambda d: workspaces.create(d, wanted), WHO, identity=identity))
        )

    def apply(self, operation: Callable[[Draft], Any], branch: Branch = "main", identity: str = HOME) -> None:
        self.group((identity, lambda: self.store.apply(identity, branch, operation, WHO)))

    def put(self, **updates: Any) -> None:
        self.apply(lambda draft: memory.set(draft, updates))

    def slug(self, identity: str, slug: str) -> None:
        self.group(
            (
                identity,
                lambda: self.store.apply(identity, "main", lambda d: workspaces.update(d, {"slug": slug}), WHO),
            )
        )

    def delete(self, identity: str) -> None:
        self.group((identity, lambda: self.store.delete(identity, lambda _: "gone")))

    def snapshot(self, name: str, message: str | None, **more: Any) -> None:
        """Names the newest state; without a message the name is taken away."""
        self.disk.mark(("begun", HOME))
        if message is not None:
            snapshots.put(self.store, HOME, name, message=message, who=WHO, **more)
        else:
            snapshots.delete(self.store, HOME, name)
        self.views[HOME].append(view(self.store.load(HOME).visible, self.store))
        self.disk.mark(("acknowledged", HOME))
        self.keep_derived()

    def publish(self, identity: str = HOME) -> None:
        assert self.store.publisher.publish(self.store.load(identity))

    def checkpoint(self) -> None:
        """A new journal file, the old ones forgotten."""
        before = self.store.journal._number
        self.store.journal.rotate()
        while self.store.journal._number == before and self.store.journal.backlog > 256:
            pass
        self.store.publisher.look_again(at_once=True)
        self.store.journal.checkpoint(str(self.root))

    def git(self, *words: str) -> str:
        """A person's git in the checkout, which syncs nothing."""
        done = git(self.store.layout.workspaces / "home", *words)
        self.disk.learn()
        return done

    def keep_derived(self) -> None:
        """Remembers the indexes as they are."""
        self.store.derived.flush()
        target = self.root.parent / f"derived-{len(self.derived)}"
        shutil.copytree(self.root / "derived", target / "derived")
        if (self.root / "secrets").is_dir():
            (target / "secrets").mkdir()
            for name in ("key",):
                if (self.root / "secrets" / name).exists():
                    shutil.copy2(self.root / "secrets" / name, target / "secrets")
        self.derived.append(target)
        self.disk.mark(("derived", len(self.derived) - 1))


# -- the scenarios ------------------------------------------------------------------------------------------------


def base(s: Script) -> None:
    """What is there, safely, when a scenario begins."""
    s.create(HOME, "home", memory={"kept": 1, "goes": "soon", "flips": "a"}, settings={"default_branch": "main"})
    s.apply(lambda d: workflows.create(d, workflows.New("A workflow", id="wf")), "evidence")


def first_start(s: Script) -> None:
    s.create(HOME, "home", memory={"first": [1, 2]}, settings={"credentials": {"git_token": "first-token"}})
    s.publish()
    s.put(second=2)
    s.publish()


def memories(s: Script) -> None:
    s.put(kept=2)
    s.publish()
    s.apply(lambda d: memory.delete(d, "goes"))
    s.put(flips="b")
    s.publish()
    s.put(flips="a")
    s.put(new={"deep": ["x" * 300]})
    s.publish()
    s.apply(lambda d: memory.delete(d, "new"))
    s.publish()


def groups(s: Script) -> None:
    def one(number: int) -> tuple[str, Callable[[], Pending[Any]]]:
        return HOME, lambda: s.store.apply(HOME, "main", lambda d: memory.set(d, {f"key-{number}": "v" * 50}), WHO)

    s.group(*(one(number) for number in range(5)))
    s.publish()
    s.group(*(one(number) for number in range(5, 9)))
    s.apply(lambda d: memory.delete(d, "key-3"))
    s.publish()


def folds(s: Script) -> None:
    for number in range(2, 4):
        pack(s, number)


def packs_made(s: Script) -> None:
    """What is there when the scenario of the folds begins: the next pack makes them too many."""
    base(s)
    for number in range(2):
        pack(s, number)


def pack(s: Script, n: int) -> None:
    s.apply(lambda d: memory.set(d, {f"a{n}": n, f"b{n}": n, f"c{n}": n, f"d{n}": "w" * 100}))
    s.apply(lambda d: memory.set(d, {f"a{n}": -1, f"b{n}": -n}))
    s.apply(lambda d: memory.set(d, {f"e{n}": n, f"f{n}": n, f"g{n}": n, f"h{n}": n}))
    s.publish()


def context(s: Script) -> None:
    s.apply(lambda d: spec.put(d, {"instructions": {"content": "Be kind", "format": "text"}, "config": {"a": 1}}))
    s.apply(lambda d: files.put(d, [files.upload(file_name="notes.md", content=b"# Notes\n" * 40, key=None)]))
    s.publish()
    s.apply(lambda d: files.put(d, [files.upload(file_name="notes.md", content=b"other", key=None)]))
    s.apply(lambda d: spec.put(d, {"config": {"a": 2}}))
    s.apply(lambda d: files.delete(d, "notes-md"))
    s.publish()


def produced(s: Script) -> None:
    work = Work(s.store)
    s.apply(lambda d: workflows.put_task(d, "wf", "task", workflows.TaskPut(title="T")), "evidence")
    s.group((HOME, lambda: work.add_artifact(HOME, artifact("out/a.txt", b"alpha"), WHO)))
    s.publish()
    s.group((HOME, lambda: work.add_artifact(HOME, artifact("out/b.bin", bytes(range(256)) * 20), WHO)))
    s.apply(lambda d: workflows.update(d, "wf", workflows.Patch(state="completed")), "evidence")
    s.publish()


def secrets(s: Script) -> None:
    def token(text: str | None) -> None:
        wanted = {"settings": {"default_branch": "main", "credentials": {"git_token": text}}}
        s.apply(lambda d: workspaces.update(d, wanted))

    token("one")
    s.publish()
    token("two")
    s.checkpoint()
    s.publish()
    token("three")
    s.publish()
    s.checkpoint()
    token(None)
    s.publish()


def two(s: Script) -> None:
    """What is there when the scenario of the renames begins."""
    base(s)
    s.create(OTHER, "other", memory={"o": 1})
    s.publish(OTHER)


def renames(s: Script) -> None:
    s.slug(HOME, "away")
    s.publish()
    s.slug(OTHER, "home")
    s.publish(OTHER)
    s.slug(HOME, "other")
    s.put(after="the move")
    s.publish()


def unpublished_renames(s: Script) -> None:
    s.create(OTHER, "other", memory={"o": 1})
    s.slug(OTHER, "third")
    s.slug(HOME, "other")
    s.put(after="the move")
    s.publish(OTHER)
    s.publish()


def deletion(s: Script) -> None:
    s.create(OTHER, "other", memory={"o": 1})
    s.put(before=1)
    s.delete(HOME)
    s.slug(OTHER, "home")
    s.publish(OTHER)
    s.delete(OTHER)


def tagged(s: Script) -> None:
    """Snapshots made, moved and deleted, over refs that a person's git had packed."""
    s.put(kept=2)
    s.snapshot("v2", "Second")
    s.snapshot("v1", None)
    etag = snapshots.find(s.store, HOME, "v2").etag
    s.put(kept=3)
    s.snapshot("v2", "Moved", precondition=Precondition((etag,)))


def packed(s: Script) -> None:
    """What is there when the scenario of the snapshots begins."""
    base(s)
    s.publish()
    s.snapshot("v1", "First")
    s.git("pack-refs", "--all")


def checkpoints(s: Script) -> None:
    s.put(kept=2)
    s.checkpoint()
    s.put(kept=3)
    s.publish()
    s.checkpoint()
    s.put(kept=4)
    s.checkpoint()
    s.put(flips="b")
    s.publish()
    s.checkpoint()
    s.publish()
    s.checkpoint()


def stopping(s: Script) -> None:
    s.put(kept=2)
    s.publish()
    s.put(kept=3)
    s.store.close()
    s.store = Store.open(s.root, Options(secret_key=KEY), disk=s.disk)
    s.put(kept=4)


def artifact(path: str, content: bytes) -> artifacts.New:
    return artifacts.check(artifacts.New(path, content, task_id=None, workflow_id="wf"))


SCENARIOS = {
    each.__name__: (each, None if each is first_start else base)
    for each in (
        first_start, memories, groups, context, produced, secrets, unpublished_renames, deletion, checkpoints, stopping,
    )
} | {"folds": (folds, packs_made), "renames": (renames, two), "tagged": (tagged, packed)}  # fmt: skip


# -- looking ------------------------------------------------------------------------------------------------------


class Judge:
    """Opens the store on a state and compares it with what may be there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.looked = 0

    def boot(self, name: str) -> None:
        self._patch.setattr(journal, "boot_id", lambda: name)
        after = float("inf") if name != "before" else 0.0
        self._patch.setattr(replay, "booted", lambda: after)

    def look(self, data: Path, cut: Cut, allowed: dict[str, list[View]]) -> None:
        """Git itself, which costs more than all the rest, judges each eighth state, or with POWERCUT_DEPTH all."""
        thorough = self.looked % 8 == 0 or DEPTH > 0
        self.looked += 1
        self.boot("after" if cut.restarted else "before")
        with Store.open(data, Options(secret_key=KEY), disk=Quick()) as store:
            first = self._views(store, allowed)
            for identity in first:
                assert store.publisher.publish(store.load(identity))
                sound(store, identity)
            if thorough:
                plain_git(data, first)
                history(store, data, first)
        assert not list((data / "workspaces").rglob("*.lock"))
        if not thorough:
            return
        with Store.open(data, Options(secret_key=KEY), disk=Quick()) as store:
            assert self._views(store, {identity: [was] for identity, was in first.items()}) == first
            for identity in first:
                store.apply(identity, "main", lambda draft: memory.set(draft, {"afterwards": True}), WHO).result(10)
                assert store.publisher.publish(store.load(identity))
            plain_git(data, {identity: view(store.load(identity).visible, store) for identity in first})

    def _views(self, store: Store, allowed: dict[str, list[View]]) -> dict[str, View]:
        there = set(store.catalog.workspaces())
        assert there <= set(allowed)
        found: dict[str, View] = {}
        for identity, choices in allowed.items():
            if identity in there:
                found[identity] = view(store.load(identity).visible, store)
                assert found[identity] in choices, f"{identity} is {found[identity]}"
            else:
                assert None in choices, f"{identity} is gone"
        return found


def moments(script: Script) -> Iterator[tuple[int, State, dict[str, list[View]], int | None]]:
    """Each point of the record: the disk, what may be there, and which indexes."""
    state = State(script.disk.modes)
    begun: dict[str, int] = {}
    acknowledged: dict[str, int] = {}
    derived: int | None = None
    started = not any(event == Mark("start") for event in script.disk.events)
    for at, event in enumerate(script.disk.events):
        state.take(event)
        if isinstance(event, Mark):
            if event.what == "start":
                started = True
            elif event.what[0] == "begun":
                begun[event.what[1]] = begun.get(event.what[1], 0) + 1
            elif event.what[0] == "acknowledged":
                acknowledged[event.what[1]] = acknowledged.get(event.what[1], 0) + 1
            else:
                derived = event.what[1]
            continue
        if started:
            allowed = {
                identity: views[acknowledged.get(identity, 0) : begun.get(identity, 0) + 1]
                for identity, views in script.views.items()
            }
            yield at, state, allowed, derived


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of small folders are made and removed here."""
    memory_disk = Path("/dev/shm")
    if not (memory_disk.is_dir() and os.access(memory_disk, os.W_OK)):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="gitstore-powercut-", dir=memory_disk) as folder:
        yield Path(folder)


def record(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Script, Judge]:
    """Runs a scenario once."""
    scenario, prepare = SCENARIOS[name]
    for setting in ("QUIET", "LATEST", "CHECKPOINT", "SWEEP"):
        monkeypatch.setattr(publisher, setting, 3600.0)
    monkeypatch.setattr(packs, "FOLD_AT", 3)
    monkeypatch.setattr("gitstore.repository.database.FOLD_AT", 3)
    judge = Judge(monkeypatch)
    judge.boot("before")
    script = Script(place / "data", prepare)
    scenario(script)
    script.disk.mark(("derived", len(script.derived) - 1))
    script.store.close()
    return script, judge


@pytest.mark.parametrize("name", SCENARIOS)
def test_after_a_power_cut_at_any_point(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, judge = record(name, place, monkeypatch)
    rng = random.Random(name + SEED)
    seen: set[int] = set()
    failures: list[str] = []
    for at, state, allowed, derived in moments(script):
        for cut in cuts(at, rng, DEPTH):
            target = place / "cut"
            finger = state.build(target, names=cut.names, content=cut.content)
            finger = hash((finger, cut.restarted, repr(allowed)))
            if finger not in seen:
                seen.add(finger)
                if derived is not None and (at % 3 or not cut.restarted):
                    copy_outside(script.derived[derived], target, derived=True)
                elif script.derived:
                    copy_outside(script.derived[-1], target, derived=False)
                try:
                    judge.look(target, cut, allowed)
                except Exception as error:  # collected: one run shows every point that fails
                    failures.append(f"cut {at} ({script.disk.events[at]!r:.150}), {cut.name}: {error!r:.600}")
                    if len(failures) > 20 or "POWERCUT_FIRST" in os.environ:
                        raise
            shutil.rmtree(target)
    assert not failures, "\n".join([f"{len(failures)} of {judge.looked}:", *failures])
    assert judge.looked > 10


@pytest.mark.parametrize("name", ["renames", "unpublished_renames", "deletion"])
def test_the_power_goes_again_during_the_recovery(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, judge = record(name, place, monkeypatch)
    rng = random.Random(name + SEED)
    first, second = place / "first", place / "second"
    failures: list[str] = []
    for at, state, allowed, _ in moments(script):
        if not DEPTH and rng.random() < 0.94:
            continue
        for cut in cuts(at, rng, DEPTH, often=1.0):
            state.build(first, names=cut.names, content=cut.content)
            disk = Recorder(first)
            disk.learn()
            disk.sync_all("")
            begun = len(disk.events)
            judge.boot("after")
            recover(disk, Places(first), TreeCache())
            if ends := len(disk.events) - begun:
                stops = {rng.randrange(ends) for _ in range(3)}
                again = State(disk.modes)
                for number, event in enumerate(disk.events):
                    again.take(event)
                    if number - begun in stops:
                        once = next(cuts(at, rng, 0, often=1.0))._replace(restarted=True)  # as the first time
                        again.build(second, names=once.names, content=once.content)
                        copy_outside(script.derived[-1], second, derived=False)
                        try:
                            judge.look(second, once, allowed)
                        except Exception as error:  # noqa: BLE001  (collected, as above)
                            failures.append(f"cut {at}, then {number - begun} ({event!r:.150}): {error!r:.600}")
                        shutil.rmtree(second)
            shutil.rmtree(first)
    assert not failures, "\n".join([f"{len(failures)} of {judge.looked}:", *failures])
    assert judge.looked > 5
