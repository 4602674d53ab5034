"""The disk refuses the n-th call of an operation, for every n: an error changes nothing, and an answer holds.

Each trial opens a store whose disk fails at one call (a bad block: EIO, once) or from one call on (a full disk: ENOSPC,
until there is room again), does what it is about, and lets the disk be well. Then the same process must go on as if
nothing had been, and a store that is opened on a copy of its folder, as after a kill, must have exactly what was
acknowledged. The ordinary run looks at a part of the calls, `CRASH_ROUNDS` at all of them in both ways.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crash.seen import HOME, KEY, OTHER, WHO, View, git, history, plain_git, sound, view
from gitstore import artifacts, files, joining, memory, publisher, snapshots, spec, workflows, workspaces
from gitstore.changes import Draft
from gitstore.checkout import Checkouts
from gitstore.errors import StorageFailed, Unavailable
from gitstore.model import Branch
from gitstore.pending import Pending
from gitstore.repository import packs
from gitstore.repository.commits import Signature, build
from gitstore.repository.disk import Disk, Folder
from gitstore.repository.objects import Blob, Oid
from gitstore.repository.quarantine import Quarantine
from gitstore.repository.trees import FILE_MODE, Node, rewrite
from gitstore.store import Options, Store
from gitstore.work import Work

LONG = "CRASH_ROUNDS" in os.environ
STRIDE = 1 if LONG else 36
WAYS = {"once": errno.EIO, "until there is room": errno.ENOSPC}

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600 if LONG else 120)]


class Failing(Disk):
    """The real disk, unsynced, which fails at the n-th call after `arm`: once, or until `mend`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = -1
        self._code = 0
        self._lasting = False
        self.tripped = threading.Event()

    def arm(self, number: int, code: int, *, lasting: bool) -> None:
        """From here on calls count."""
        self._left, self._code, self._lasting = number, code, lasting

    def mend(self) -> None:
        """The disk is well."""
        with self._lock:
            self._left = -1

    def _fails(self) -> bool:
        with self._lock:
            if self._left < 0:
                return False
            self._left = max(0, self._left - 1)
            if self._left:
                return False
            if not self._lasting:
                self._left = -1
        self.tripped.set()
        return True

    def _call(self, path: str) -> None:
        if self._fails():
            raise OSError(self._code, os.strerror(self._code), path)

    def create(self, path: str, data: bytes, mode: int = 0o644) -> None:
        if self._fails():
            super().create(path, data[: len(data) // 2], mode)
            raise OSError(self._code, os.strerror(self._code), path)
        super().create(path, data, mode)

    def rename(self, source: str, target: str) -> None:
        self._call(target)
        super().rename(source, target)

    def link(self, source: str, target: str) -> None:
        self._call(target)
        super().link(source, target)

    def unlink(self, path: str) -> None:
        self._call(path)
        super().unlink(path)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        self._call(path)
        super().mkdir(path, mode)

    def mkdir_at(self, fd: int, name: str, path: str) -> None:
        self._call(path)
        super().mkdir_at(fd, name, path)

    def rename_into(self, source: str, folder: Folder, name: str) -> None:
        self._call(f"{folder.path}/{name}")
        super().rename_into(source, folder, name)

    def place(self, source: str, folder: Folder, name: str) -> None:
        self._call(f"{folder.path}/{name}")
        super().place(source, folder, name)

    def exchange(self, source: str, folder: Folder, name: str) -> None:
        self._call(f"{folder.path}/{name}")
        super().exchange(source, folder, name)

    def take_out(self, folder: Folder, name: str, target: str) -> None:
        self._call(f"{folder.path}/{name}")
        super().take_out(folder, name, target)

    def rmdir_in(self, folder: Folder, name: str) -> None:
        self._call(f"{folder.path}/{name}")
        super().rmdir_in(folder, name)

    def open_append(self, path: str) -> int:
        self._call(path)
        return super().open_append(path)

    def append(self, fd: int, path: str, data: bytes) -> None:
        if self._fails():
            super().append(fd, path, data[: len(data) // 2])
            raise OSError(self._code, os.strerror(self._code), path)
        super().append(fd, path, data)

    def truncate(self, fd: int, path: str, size: int) -> None:
        self._call(path)
        super().truncate(fd, path, size)

    def sync_data(self, fd: int, path: str) -> None:
        self._call(path)

    def sync_file(self, path: str) -> None:
        self._call(path)

    def sync_folder(self, path: str) -> None:
        self._call(path)

    def sync_all(self, root: str) -> None:
        self._call(root)


class Trial:
    """One store whose disk fails somewhere, and what it has promised."""

    def __init__(self, data: Path, disk: Failing, *, thorough: bool = True) -> None:
        self.thorough = thorough
        self.data = data
        self.disk = disk
        self.store = opened(data, disk)
        self.views: dict[str, View] = {}
        self.refused: list[Callable[[], None]] = []
        for identity in (HOME, OTHER):
            self.views[identity] = view(self.store.load(identity).visible, self.store)

    # -- what is done; each may fail ------------------------------------------------------------------------------

    def change(self, identity: str, op: Callable[[], Pending[Any]], *, waits: bool = False) -> None:
        """A change, which is durable or has not been. `waits`: it is answered only once the disk is well again."""
        try:
            pending = op()
            if waits:
                until(lambda: pending.settled or self.disk.tripped.is_set())
                if self.disk.tripped.is_set():
                    self.disk.mend()
            outcome = pending.result(20)
        except StorageFailed:
            assert self.disk.tripped.is_set()
            self.same(identity)
            self.refused.append(lambda: self.change(identity, op, waits=waits))
            return
        if hasattr(outcome, "snapshot"):
            before = self.views.get(identity)
            self.views[identity] = view(outcome.snapshot, self.store)
            assert self.views[identity] != before
        else:
            del self.views[identity]
        self.same(identity)

    def same(self, identity: str) -> None:
        """Readers see what was acknowledged, and nothing else."""
        if (seen := self.views.get(identity)) is None:
            assert self.store.catalog.workspace(identity) is None
        else:
            assert view(self.store.load(identity).visible, self.store) == seen
            row = self.store.catalog.workspace(identity)
            assert row is not None
            assert (row.slug, row.main, row.evidence) == (seen["slug"], *seen["heads"])

    def create(self, identity: str, slug: str, **more: Any) -> None:
        wanted = {"name": slug.title(), "slug": slug, **more}
        self.change(
            identity,
            lambda: self.store.create(slug, lambda d: workspaces.create(d, wanted), WHO, identity=identity),
        )

    def apply(self, operation: Callable[[Draft], Any], branch: Branch = "main", identity: str = HOME) -> None:
        self.change(identity, lambda: self.store.apply(identity, branch, operation, WHO))

    def put(self, identity: str = HOME, **updates: Any) -> None:
        self.apply(lambda draft: memory.set(draft, updates), identity=identity)

    def slug(self, identity: str, slug: str) -> None:
        self.change(
            identity,
            lambda: self.store.apply(identity, "main", lambda d: workspaces.update(d, {"slug": slug}), WHO),
        )

    def delete(self, identity: str) -> None:
        self.change(identity, lambda: self.store.delete(identity, lambda _: None), waits=True)

    def published(self) -> None:
        assert self.store.publisher.publish(self.store.load(HOME))

    def publish(self, identity: str = HOME) -> None:
        """As the publisher's thread does it, which tries again after an error."""
        try:
            if identity in self.views:
                assert self.store.publisher.publish(self.store.load(identity))
        except OSError:
            assert self.disk.tripped.is_set()
        except Unavailable:
            pass  # the folder waits for another to leave its name

    def come_in(self, step: Callable[[], None], path: str, text: str) -> None:
        """Something that comes in by another door, after which a file of `main` says this; if not now, then later."""
        try:
            step()
        except (OSError, StorageFailed):
            assert self.disk.tripped.is_set()
        snapshot = self.store.load(HOME).visible
        self.views[HOME] = view(snapshot, self.store)
        self.same(HOME)
        if (snapshot.tree().read(path) or b"").decode() != text:
            assert self.disk.tripped.is_set()
            self.refused.append(lambda: self.come_in(step, path, text))

    def name(self, step: Callable[[], object]) -> None:
        """Something is done to a snapshot, which is there or not if the disk refuses; if not now, then later."""
        try:
            step()
        except StorageFailed:
            assert self.disk.tripped.is_set()
            self.refused.append(lambda: self.name(step))
        self.views[HOME] = view(self.store.load(HOME).visible, self.store)

    def look(self) -> None:
        Checkouts(self.store, settle=0.0, mode="auto", file_limit=1 << 20).look("home", None)

    def folder(self) -> Path:
        return self.data / "workspaces/home"

    def checkpoint(self) -> None:
        """A new journal file, where the one in use holds anything; those that are published are forgotten."""
        log = self.store.journal
        before, small = log._number, log.backlog <= 256
        log.rotate()
        until(lambda: small or log._number > before or log.failing)
        self.store.publisher.look_again(at_once=True)
        try:
            log.checkpoint(str(self.data))
        except OSError:
            assert self.disk.tripped.is_set()

    def restart(self) -> None:
        """An orderly stop, which must not fail, and a start, which may."""
        self.store.close()
        try:
            self.store = opened(self.data, self.disk)
        except StorageFailed:
            assert self.disk.tripped.is_set()
        else:
            return
        finally:
            self.disk.mend()
        self.store = opened(self.data, self.disk)

    # -- looking --------------------------------------------------------------------------------------------------

    def recovered(self) -> None:
        """The disk is well: the store goes on, and what was refused works now."""
        self.disk.mend()
        until(lambda: not self.store.journal.failing)
        for again in self.refused[:]:
            again()
        self.put(afterwards=True) if HOME in self.views else self.put(OTHER, afterwards=True)
        self.settled()
        for identity in self.views:
            self.same(identity)
        self.judged(self.store, self.data)

    def judged(self, store: Store, data: Path) -> None:
        """Repositories and checkouts are sound; git itself, which costs most of all, is not asked each time."""
        for identity in self.views:
            sound(store, identity)
        if self.thorough:
            plain_git(data, self.views)
            history(store, data, self.views)

    def settled(self) -> None:
        """Everything is published; a folder that waits for its name needs another to go first."""
        waiting = list(self.views)
        for _ in self.views:
            for identity in waiting[:]:
                try:
                    assert self.store.publisher.publish(self.store.load(identity))
                    waiting.remove(identity)
                except Unavailable:
                    pass
        assert not waiting

    def killed(self, copy: Path) -> None:
        """What a start finds that comes after a kill at this moment."""
        shutil.copytree(self.data, copy, symlinks=True)
        try:
            with Store.open(copy, Options(secret_key=KEY), disk=Failing()) as store:
                assert set(store.catalog.workspaces()) == set(self.views)
                for identity, seen in self.views.items():
                    assert view(store.load(identity).visible, store) == seen
                    assert store.publisher.publish(store.load(identity))
                self.judged(store, copy)
        finally:
            shutil.rmtree(copy)


def opened(data: Path, disk: Failing) -> Store:
    store = Store.open(data, Options(secret_key=KEY), disk=disk)
    store.publisher._checkpoint_at = store.publisher._sweep_at = float("inf")  # the trial says when
    return store


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# -- the operations -----------------------------------------------------------------------------------------------


def creating(t: Trial) -> None:
    new = "33333333-3333-4333-8333-333333333333"
    t.create(new, "new", memory={"a": 1}, settings={"credentials": {"git_token": "a-token"}})
    t.publish(new)


def memory_set(t: Trial) -> None:
    t.put(kept=2, new={"deep": ["x" * 300]})
    t.publish()
    t.put(kept=3)
    t.publish()


def memory_deleted(t: Trial) -> None:
    t.apply(lambda d: memory.delete(d, "goes"))
    t.publish()


def spec_put(t: Trial) -> None:
    t.apply(lambda d: spec.put(d, {"instructions": {"content": "Be kind", "format": "text"}, "config": {"a": 1}}))
    t.publish()


def file_put(t: Trial) -> None:
    t.apply(lambda d: files.put(d, [files.upload(file_name="notes.md", content=b"# Notes\n" * 40, key=None)]))
    t.publish()


def file_deleted(t: Trial) -> None:
    t.apply(lambda d: files.delete(d, "old-md"))
    t.publish()


def artifact_added(t: Trial) -> None:
    new = artifacts.check(artifacts.New("out/a.txt", b"alpha" * 500, task_id=None, workflow_id="wf"))
    t.change(HOME, lambda: Work(t.store).add_artifact(HOME, new, WHO))
    t.publish()


def secret_sealed(t: Trial) -> None:
    wanted = {"settings": {"default_branch": "main", "credentials": {"git_token": "another"}}}
    t.apply(lambda d: workspaces.update(d, wanted))
    t.publish()


def renaming(t: Trial) -> None:
    t.slug(HOME, "away")
    t.put(after="the move")
    t.publish()


def renaming_in_a_circle(t: Trial) -> None:
    t.slug(HOME, "away")
    if not t.refused:
        t.slug(OTHER, "home")
    t.publish(OTHER)
    t.publish()
    t.publish(OTHER)


def deleting(t: Trial) -> None:
    t.put(before=1)
    if not t.refused:
        t.delete(HOME)


def deleting_for_another(t: Trial) -> None:
    t.delete(HOME)
    if HOME not in t.views:
        t.slug(OTHER, "home")
        t.publish(OTHER)


def checkpointing(t: Trial) -> None:
    t.put(kept=2)
    t.publish()
    t.checkpoint()
    t.put(kept=3)
    t.checkpoint()
    t.publish()
    t.checkpoint()


def folding(t: Trial) -> None:
    for turn in range(3):
        t.put(**{f"key-{turn}-{number}": number for number in range(13)})
        t.publish()


def stopping(t: Trial) -> None:
    t.put(kept=2)
    t.publish()
    t.put(kept=3)
    t.slug(OTHER, "third")
    t.restart()


def editing(t: Trial) -> None:
    text = "by hand\n"
    (t.folder() / "memory/new.yaml").write_text(text)
    t.come_in(t.look, "memory/new.yaml", text)
    t.put(kept=2)
    (t.folder() / "memory/new.yaml").write_text("again\n")
    t.come_in(t.look, "memory/new.yaml", "again\n")


def joining_a_commit(t: Trial) -> None:
    t.put(kept=2)
    (t.folder() / "notes.md").write_text("noted\n")
    git(t.folder(), "add", "notes.md")
    git(t.folder(), "commit", "-qm", "notes")
    t.come_in(lambda: t.published(), "notes.md", "noted\n")
    t.put(kept=3)
    t.publish()


def naming(t: Trial) -> None:
    t.put(kept=2)
    t.name(lambda: snapshots.put(t.store, HOME, "v1", at="now", message="First", who=WHO))
    t.name(lambda: snapshots.put(t.store, HOME, "v2", at="now", who=WHO))
    t.name(lambda: unname(t.store, "v1"))


def unname(store: Store, name: str) -> None:
    """Takes a snapshot away, if it is there."""
    if any(one.name == name for one in snapshots.contents(store, HOME)):
        snapshots.delete(store, HOME, name)


def pushing(t: Trial) -> None:
    onto = t.store.load(HOME).visible.main.oid
    assert onto is not None
    t.put(kept=2)
    t.come_in(lambda: push(t.store, onto, "pushed.md", "pushed\n"), "pushed.md", "pushed\n")
    t.publish()


def push(store: Store, onto: Oid, path: str, text: str) -> None:
    """A commit comes in as by a push to refs/for/main."""
    workspace = store.load(HOME)
    repository, quarantine = workspace.repository, Quarantine(store.disk, workspace.repository)
    try:
        quarantine.open({})
        blob = Blob(text.encode())
        root, trees = rewrite(repository.database, repository.tree(onto).root, {path: Node(FILE_MODE, blob.id)})
        who = Signature("Pia", "pia@example.org", 1_700_000_000)
        commit = build(root, (onto,), who, who, "pushed")
        quarantine.keep([blob, *(item for item, _ in trees), commit])
        with workspace.publishing:
            quarantine.admit()
        joining.merge_in(
            workspace, "main", commit.id, WHO, on_conflict="refuse", check=lambda _, __: None
        ).result(20)  # fmt: skip
    finally:
        quarantine.discard()


OPERATIONS: tuple[Callable[[Trial], None], ...] = (
    creating, memory_set, memory_deleted, spec_put, file_put, file_deleted, artifact_added, secret_sealed, renaming,
    renaming_in_a_circle, deleting, deleting_for_another, checkpointing, folding, stopping, editing, joining_a_commit,
    pushing, naming,
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one, with a store to begin from in `base`."""
    memory_disk = Path("/dev/shm")
    usable = memory_disk.is_dir() and os.access(memory_disk, os.W_OK)
    inside = memory_disk if usable else tmp_path_factory.mktemp("place")
    with tempfile.TemporaryDirectory(prefix="gitstore-disk-errors-", dir=inside) as name:
        folder = Path(name)
        with Store.open(folder / "base", Options(secret_key=KEY), disk=Failing()) as store:
            for identity, slug in ((HOME, "home"), (OTHER, "other")):
                wanted = {
                    "name": slug, "slug": slug, "memory": {"kept": 1, "goes": "soon"},
                    "settings": {"default_branch": "main"},
                }  # fmt: skip
                store.create(slug, lambda d, w=wanted: workspaces.create(d, w), WHO, identity=identity).result(10)
            old = files.upload(file_name="old.md", content=b"old", key=None)
            store.apply(HOME, "main", lambda d: files.put(d, [old]), WHO).result(10)
            store.apply(
                HOME, "evidence", lambda d: workflows.create(d, workflows.New("A workflow", id="wf")), WHO
            ).result(10)
        yield folder


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_the_disk_fails_at_any_call(
    operation: Callable[[Trial], None], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting in ("QUIET", "LATEST", "CHECKPOINT", "SWEEP"):
        monkeypatch.setattr(publisher, setting, 3600.0)
    monkeypatch.setattr(packs, "FOLD_AT", 3)
    monkeypatch.setattr("gitstore.repository.database.FOLD_AT", 3)
    failures: list[str] = []
    reached = 0
    trials = itertools.count()
    for turn, (way, code) in enumerate(WAYS.items()):
        number = 1
        while _trial(operation, place, number, code, way, failures, thorough=LONG or next(trials) % 4 == 0):
            reached = max(reached, number)
            # The first calls are the journal's; of the others each way of failing looks at its own.
            number += 1 if number < 3 or LONG else STRIDE // 2 if number == 3 and turn else STRIDE
    assert not failures, "\n".join([f"{len(failures)} failed:", *failures])
    assert reached > 2


def _trial(
    operation: Callable[[Trial], None], place: Path, number: int, code: int, way: str, failures: list[str], *,
    thorough: bool,
) -> bool:  # fmt: skip
    """Whether the operation came as far as the call."""
    data = place / "data"
    shutil.copytree(place / "base", data)
    disk = Failing()
    try:
        trial = Trial(data, disk, thorough=thorough)
        try:
            disk.arm(number, code, lasting=way != "once")
            operation(trial)
            trial.recovered()
            trial.killed(place / "copy")
        finally:
            disk.mend()
            trial.store.close()
        with Store.open(data, Options(secret_key=KEY), disk=Failing()) as store:
            found = {identity: view(store.load(identity).visible, store) for identity in store.catalog.workspaces()}
            assert found == trial.views
            trial.judged(store, data)
    except Exception as error:  # collected: one run shows every call that goes wrong
        failures.append(f"call {number}, {way}: {error!r:.700}")
        if len(failures) > 10 or "DISK_ERRORS_FIRST" in os.environ:
            raise
    finally:
        shutil.rmtree(data)
    return disk.tripped.is_set()


def test_the_trial_sees_what_is_lost(place: Path) -> None:
    """A check of the test itself: a store that answers too much or too little is noticed."""
    data = place / "data"
    shutil.copytree(place / "base", data)
    trial = Trial(data, Failing())
    try:
        trial.put(kept=2)
        trial.views[HOME] = {**(trial.views[HOME] or {}), "memory": {}}
        with pytest.raises(AssertionError):
            trial.same(HOME)
        with pytest.raises(AssertionError):
            trial.killed(place / "copy")
    finally:
        trial.store.close()
        shutil.rmtree(data)
    assert git(place / "base" / "workspaces" / "home", "status", "--porcelain") == ""
