"""Somebody saves, or commits, at the worst moment: each case is one order of events, played step by step.

Nothing is published by itself here. A crash is an image of the data folder, taken in the middle of a publication.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitstore import memory, publisher, workflows, workspaces
from gitstore.changes import Workspace
from gitstore.checkout import Checkouts
from gitstore.model import Actor, Provenance
from gitstore.repository.disk import Disk, Folder
from gitstore.repository.repository import Foreign, Repository
from gitstore.store import Store

WHO = Provenance(Actor("admin", "kabc1234", "The admin's key"))
SHARED = "memory/shared.yaml"


def git(folder: Path, *words: str, index: Path | None = None) -> str:
    environ = {**os.environ, "GIT_INDEX_FILE": str(index)} if index is not None else dict(os.environ)
    done = subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=Pat", "-c", "user.email=pat@example.org", *words],
        capture_output=True, text=True, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


class Desk:
    """A store with one workspace, and a person in its folder."""

    def __init__(self, data: Path, disk: Disk | None = None, *, start: bool = True) -> None:
        self.data = data
        self.folder = data / "workspaces/home"
        if start:
            self.start(disk or Disk())

    def start(self, disk: Disk) -> None:
        self.store = Store.open(self.data, disk=disk)
        self.checkouts = Checkouts(self.store, settle=0.0, mode="auto", file_limit=1 << 20)

    @property
    def workspace(self) -> Workspace:
        return self.store.load("home")

    def begin(self) -> None:
        wanted = {"name": "Home", "slug": "home", "memory": {"shared": {"a": 0, "b": 0}, "other": 0}}
        self.store.create("home", lambda draft: workspaces.create(draft, wanted), WHO).result(10)
        self.publish()

    def restart(self) -> None:
        self.store.close()
        self.start(Disk())

    def publish(self) -> None:
        assert self.store.publisher.publish(self.workspace)

    def put(self, **updates: object) -> None:
        self.store.apply("home", "main", lambda draft: memory.set(draft, updates), WHO).result(10)

    def save(self, text: str, path: str = SHARED) -> None:
        beside = self.folder / f"{path}.swp"
        beside.write_text(text)
        beside.rename(self.folder / path)

    def text(self, path: str = SHARED) -> str:
        return (self.folder / path).read_text()

    def take(self) -> None:
        """Takes in what was saved; the publication of that is still to come."""
        publish, calls = self.store.publisher.publish, []

        def only_before(workspace: Workspace) -> bool:
            calls.append(1)
            return publish(workspace) if len(calls) == 1 else True

        self.store.publisher.publish = only_before  # type: ignore[method-assign]
        self.look()
        self.store.publisher.publish = publish  # type: ignore[method-assign]

    def look(self) -> None:
        self.checkouts.look("home", None)

    def git(self, *words: str, index: Path | None = None) -> str:
        return git(self.folder, *words, index=index)

    def told(self) -> dict[str, object]:
        """The memory, once everything is taken in; the folder says the same, and nothing is wrong."""
        self.look()
        self.look()
        snapshot = self.workspace.visible
        assert snapshot.problems == ()
        assert self.checkouts.state(self.workspace).pending == ()
        assert self.git("status", "--porcelain") == ""
        assert self.git("rev-parse", "HEAD").strip() == snapshot.main.head
        found: dict[str, object] = json.loads(snapshot.context.memory_json())
        return found


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("QUIET", "LATEST", "CHECKPOINT", "SWEEP"):
        monkeypatch.setattr(publisher, setting, 3600.0)


@pytest.fixture
def desk(tmp_path: Path, quiet: None) -> Iterator[Desk]:
    desk = Desk(tmp_path / "data")
    desk.begin()
    yield desk
    desk.store.close()


def shared(desk: Desk) -> object:
    return desk.told()["shared"]


def test_a_save_on_top_of_one_that_is_being_taken_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.save("a: 1\nb: 0\n")
    published = desk.store.publisher.publish
    calls = []

    def publish(workspace: Workspace) -> bool:
        calls.append(1)
        if len(calls) == 2:  # the first is before the look, the second shows what it took in
            desk.save("a: 2\nb: 0\n")
        return published(workspace)

    monkeypatch.setattr(desk.store.publisher, "publish", publish)
    desk.look()
    assert desk.text() == "a: 2\nb: 0\n"
    assert shared(desk) == {"a": 2, "b": 0}


def test_a_save_on_top_of_one_that_is_being_merged(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.save("a: 1\nb: 0\n")
    desk.put(shared={"a": 0, "b": 1})
    published = desk.store.publisher.publish
    calls = []

    def publish(workspace: Workspace) -> bool:
        calls.append(1)
        if len(calls) == 2:
            desk.save("a: 2\nb: 0\n")
        return published(workspace)

    monkeypatch.setattr(desk.store.publisher, "publish", publish)
    desk.look()
    desk.restart()
    assert shared(desk) == {"a": 2, "b": 1}


def test_a_file_made_again_after_its_deletion_was_taken_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk.folder / SHARED).unlink()
    published = desk.store.publisher.publish
    calls = []

    def publish(workspace: Workspace) -> bool:
        calls.append(1)
        if len(calls) == 2:
            desk.save("a: 2\n")
        return published(workspace)

    monkeypatch.setattr(desk.store.publisher, "publish", publish)
    desk.look()
    assert shared(desk) == {"a": 2}


def test_a_folder_removed_after_its_files_were_taken_in(desk: Desk) -> None:
    for name in ("one/a.md", "two/b.md"):
        (desk.folder / "files" / name).parent.mkdir(parents=True)
        desk.save("x\n", f"files/{name}")
    desk.take()
    shutil.rmtree(desk.folder / "files")
    desk.publish()
    assert not (desk.folder / "files").exists()
    desk.told()
    assert "files/one/a.md" not in {path for path, _ in desk.workspace.visible.tree().walk()}


def test_an_edit_that_main_has_already_among_others(desk: Desk) -> None:
    desk.save(desk.text().replace("a: 0", "a: 1"))
    desk.put(shared={"a": 1, "b": 1})
    desk.publish()
    assert "b: 0" in desk.text()
    assert shared(desk) == {"a": 1, "b": 1}
    assert "b: 1" in desk.text()


def test_a_commit_of_a_file_that_was_not_brought_up_to_date(desk: Desk) -> None:
    desk.save("a: 1\nb: 0\n")
    desk.put(shared={"a": 0, "b": 1})
    desk.publish()
    desk.git("commit", "-qam", "a")
    desk.save("a: 2\nb: 0\n")
    desk.publish()
    assert shared(desk) == {"a": 2, "b": 1}


def test_a_commit_of_such_a_file_while_more_waits_for_publication(desk: Desk) -> None:
    desk.save("a: 1\nb: 0\n")
    desk.put(shared={"a": 0, "b": 1})
    desk.publish()
    desk.git("commit", "-qam", "a")
    desk.put(other=1)
    desk.publish()
    assert desk.told() == {"shared": {"a": 1, "b": 1}, "other": 1}


def test_a_commit_from_an_index_that_was_read_too_early(desk: Desk, tmp_path: Path) -> None:
    desk.save("a: 1\nb: 0\n")
    desk.put(shared={"a": 0, "b": 1}, other=1)
    desk.publish()
    early = tmp_path / "index"
    shutil.copy(desk.folder / ".git/index", early)
    desk.put(shared={"a": 0, "b": 2}, other=2)
    desk.publish()
    desk.save("noted\n", "notes.md")
    desk.git("add", "notes.md", index=early)
    desk.git("commit", "-qm", "notes", index=early)
    shutil.copy(early, desk.folder / ".git/index")  # as git leaves it
    desk.publish()
    assert desk.told() == {"shared": {"a": 1, "b": 2}, "other": 2}


def test_a_commit_from_such_an_index_while_more_waits_for_publication(desk: Desk, tmp_path: Path) -> None:
    desk.put(gone=1)
    desk.publish()
    early = tmp_path / "index"
    shutil.copy(desk.folder / ".git/index", early)
    desk.put(other=2, new=2)
    desk.store.apply("home", "main", lambda draft: memory.delete(draft, "gone"), WHO).result(10)
    desk.publish()
    desk.save("noted\n", "notes.md")
    desk.git("add", "notes.md", index=early)
    desk.git("commit", "-qm", "notes", index=early)
    shutil.copy(early, desk.folder / ".git/index")
    desk.put(other=3, new=3)
    desk.publish()
    assert desk.told() == {"shared": {"a": 0, "b": 0}, "other": 3, "new": 3}


# -- crashes ----------------------------------------------------------------------------------------------------------


class Imaging(Disk):
    """Keeps an image of the data folder before and after each change of a ref, an index or a file of the checkout."""

    def __init__(self, data: Path, images: Path) -> None:
        self._data = data
        self._images = images
        self.on = False
        self.count = 0

    def _keep(self) -> None:
        if self.on:
            self._images.mkdir(exist_ok=True)
            subprocess.run(["cp", "-a", self._data, self._images / str(self.count)], check=True)
            self.count += 1

    def rename(self, source: str, target: str) -> None:
        self._keep()
        super().rename(source, target)
        self._keep()

    def exchange(self, source: str, folder: Folder, name: str) -> None:
        super().exchange(source, folder, name)
        self._keep()

    def place(self, source: str, folder: Folder, name: str) -> None:
        super().place(source, folder, name)
        self._keep()

    def take_out(self, folder: Folder, name: str, target: str) -> None:
        super().take_out(folder, name, target)
        self._keep()


def crashed(tmp_path: Path, before: Callable[[Desk], None]) -> Iterator[Path]:
    """What the data folder is after a kill at each point of the publication of what `before` did."""
    data, images = tmp_path / "data", tmp_path / "images"
    disk = Imaging(data, images)
    desk = Desk(data, disk)
    with desk.store:
        desk.begin()
        before(desk)
        disk._keep()
        disk.on = True
        desk.publish()
        disk.on = False
    assert disk.count > 5
    for number in range(disk.count):
        yield images / str(number)


@pytest.mark.parametrize("committing", [True, False])
def test_a_person_works_on_after_a_kill(tmp_path: Path, quiet: None, committing: bool) -> None:
    """Nothing that the store left half-published is taken for the person's, and nothing of it is undone."""

    def before(desk: Desk) -> None:
        desk.put(shared={"a": 0, "b": 1}, other=1, gone=1)
        desk.publish()
        desk.put(shared={"a": 0, "b": 2}, other=2, new=1)
        desk.store.apply("home", "main", lambda draft: memory.delete(draft, "gone"), WHO).result(10)
        new = workflows.New("W", id="wf")
        desk.store.apply("home", "evidence", lambda draft: workflows.create(draft, new), WHO).result(10)

    for image in crashed(tmp_path, before):
        folder = image / "workspaces/home"
        (folder / "notes.md").write_text("noted\n")
        if committing:
            for lock in (folder / ".git").rglob("*.lock"):
                lock.unlink()  # as git tells a person to
            git(folder, "add", "notes.md")
            git(folder, "commit", "-qm", "notes", "--", "notes.md")
        desk = Desk(image)
        with desk.store:
            desk.publish()
            assert desk.told() == {"shared": {"a": 0, "b": 2}, "other": 2, "new": 1}, image
            evidence = desk.workspace.visible.tree("evidence")
            assert any(path.startswith("workflows/") for path, _ in evidence.walk()), image
            assert desk.text("notes.md") == "noted\n"


def test_a_person_commits_the_same_again_after_a_kill(tmp_path: Path, quiet: None) -> None:
    """The first commit may have been joined, but not been published: the second goes on from it."""

    def before(desk: Desk) -> None:
        desk.put(other=1)
        desk.save("a: 1\nb: 0\n")
        desk.git("commit", "-qam", "one")

    for image in crashed(tmp_path, before):
        folder = image / "workspaces/home"
        for lock in (folder / ".git").rglob("*.lock"):
            lock.unlink()
        text = (folder / SHARED).read_text()
        (folder / SHARED).write_text(text.replace("a: 1", "a: 2"))
        git(folder, "commit", "-qam", "two")
        desk = Desk(image)
        with desk.store:
            desk.publish()
            assert desk.told() == {"shared": {"a": 2, "b": 0}, "other": 1}, image


def test_a_file_made_again_between_a_kill_and_the_start(tmp_path: Path, quiet: None) -> None:
    def before(desk: Desk) -> None:
        desk.save("first\n", "notes.md")
        desk.look()
        (desk.folder / "notes.md").unlink()
        desk.look()
        desk.put(other=1)

    for image in crashed(tmp_path, before):
        (image / "workspaces/home/notes.md").write_text("second\n")
        desk = Desk(image)
        with desk.store:
            desk.publish()
            assert desk.told() == {"shared": {"a": 0, "b": 0}, "other": 1}, image
            assert desk.workspace.visible.tree().read("notes.md") == b"second\n"


def test_a_file_deleted_between_a_kill_and_the_start(tmp_path: Path, quiet: None) -> None:
    def before(desk: Desk) -> None:
        desk.save("first\n", "notes.md")
        desk.look()
        desk.put(other=1)

    for image in crashed(tmp_path, before):
        (image / "workspaces/home/notes.md").unlink()
        desk = Desk(image)
        with desk.store:
            desk.publish()
            assert desk.told() == {"shared": {"a": 0, "b": 0}, "other": 1}, image
            assert desk.workspace.visible.tree().read("notes.md") is None, image


def test_a_file_deleted_before_a_kill_that_cut_a_join_short(tmp_path: Path, quiet: None) -> None:
    """The file was taken in, deleted before that was published, and then somebody's commit came in between."""

    def before(desk: Desk) -> None:
        desk.save("first\n", "notes.md")
        desk.take()
        assert desk.workspace.visible.tree().read("notes.md") == b"first\n"
        (desk.folder / "notes.md").unlink()
        desk.save("a: 1\nb: 0\n")
        desk.git("commit", "-qam", "an edit")
        desk.put(other=1)

    for image in crashed(tmp_path, before):
        desk = Desk(image)
        with desk.store:
            desk.publish()
            assert desk.told() == {"shared": {"a": 1, "b": 0}, "other": 1}, image
            assert desk.workspace.visible.tree().read("notes.md") is None, image


class Meanwhile(Disk):
    """Does something right after the index was put in place, or a file of the checkout was replaced, once."""

    def __init__(self, then: Callable[[], None] | None, *, file: bool = False) -> None:
        self.then = then
        self._file = file

    def _now(self) -> None:
        if self.then is not None:
            then, self.then = self.then, None
            then()

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        if target.endswith("/.git/index") and not self._file:
            self._now()

    def exchange(self, source: str, folder: Folder, name: str) -> None:
        super().exchange(source, folder, name)
        if self._file:
            self._now()


def image(tmp_path: Path) -> Path:
    """A data folder as a kill leaves it that came before the publication of a few changes."""
    disk = Imaging(tmp_path / "data", tmp_path / "images")
    desk = Desk(tmp_path / "data", disk)
    with desk.store:
        desk.begin()
        desk.put(shared={"a": 0, "b": 1}, other=1)
        disk.on = True
        disk._keep()
        disk.on = False
    return tmp_path / "images/0"


def test_a_person_commits_while_a_start_publishes(tmp_path: Path, quiet: None) -> None:
    folder = image(tmp_path) / "workspaces/home"
    (folder / "notes.md").write_text("noted\n")

    def commit() -> None:
        git(folder, "add", "notes.md")
        git(folder, "commit", "-qm", "notes", "--", "notes.md")

    desk = Desk(tmp_path / "images/0", Meanwhile(commit))
    with desk.store:
        desk.publish()
        assert desk.told() == {"shared": {"a": 0, "b": 1}, "other": 1}
        assert desk.text("notes.md") == "noted\n"


def test_a_person_commits_while_a_start_looks(tmp_path: Path, quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after it has seen where the branch is: what was taken in before the kill may be shown already."""

    def before(desk: Desk) -> None:
        desk.save("a: 1\nb: 0\n")
        desk.put(shared={"a": 0, "b": 1})
        desk.take()

    def foreign(repository: Repository) -> Foreign | None:
        if not (desk.folder / "notes.md").exists():
            desk.save("noted\n", "notes.md")
            git(desk.folder, "add", "notes.md")
            git(desk.folder, "commit", "-qm", "notes", "--", "notes.md")
        return looked(repository)

    images, looked = list(crashed(tmp_path, before)), Repository.foreign
    monkeypatch.setattr(Repository, "foreign", foreign)
    for image in images:
        for lock in (image / "workspaces/home/.git").rglob("*.lock"):
            lock.unlink()
        desk = Desk(image, start=False)
        desk.start(Disk())
        with desk.store:
            shown = desk.text()
            desk.put(shared={"a": 1, "b": 2})
            desk.save(shown.replace("a: 1", "a: 2"))
            assert desk.told() == {"shared": {"a": 2, "b": 2}, "other": 0}, (image, shown)
            assert desk.text("notes.md") == "noted\n"


@pytest.mark.parametrize("lock", ["index.lock", "refs/heads/main.lock", "refs/heads/evidence.lock"])
def test_a_git_is_at_work_while_the_store_starts(tmp_path: Path, quiet: None, lock: str) -> None:
    place = image(tmp_path) / "workspaces/home/.git" / lock
    place.write_text("")
    desk = Desk(tmp_path / "images/0")
    with desk.store:
        assert json.loads(desk.workspace.visible.context.memory_json()) == {"shared": {"a": 0, "b": 1}, "other": 1}
        place.unlink()
        desk.publish()
        assert desk.told() == {"shared": {"a": 0, "b": 1}, "other": 1}


def test_a_commit_from_an_index_that_was_read_too_late(tmp_path: Path, quiet: None) -> None:
    """The index is brought up to date before the branch: a commit in between has in it what the store changed."""

    def before(desk: Desk) -> None:
        desk.put(other=1, new=1, goes=1)
        desk.publish()

    def commit() -> None:
        git(desk.folder, "add", "notes.md")
        git(desk.folder, "commit", "-qm", "notes")
        desk.put(other=3, new=3, goes=3)
        desk.store.apply("home", "main", lambda draft: memory.delete(draft, "fresh"), WHO).result(10)

    disk = Meanwhile(None)
    desk = Desk(tmp_path / "data", disk)
    with desk.store:
        desk.begin()
        before(desk)
        desk.put(other=2, new=2, fresh=2)
        desk.store.apply("home", "main", lambda draft: memory.delete(draft, "goes"), WHO).result(10)
        desk.save("noted\n", "notes.md")
        disk.then = commit
        desk.publish()
        assert "other: 2" not in desk.text("memory/other.yaml")
        assert desk.told() == {"goes": 3, "new": 3, "other": 3, "shared": {"a": 0, "b": 0}}
        assert desk.text("notes.md") == "noted\n"


def test_a_commit_from_such_an_index_beside_an_edit(tmp_path: Path, quiet: None) -> None:
    """What the index had of a file with an edit in it is not what the edit began from."""

    def commit() -> None:
        git(desk.folder, "add", "notes.md")
        git(desk.folder, "commit", "-qm", "notes")

    disk = Meanwhile(None)
    desk = Desk(tmp_path / "data", disk)
    with desk.store:
        desk.begin()
        desk.save("a: 1\nb: 0\n")
        desk.save("noted\n", "notes.md")
        desk.put(shared={"a": 0, "b": 1})
        disk.then = commit
        desk.publish()
        assert desk.text() == "a: 1\nb: 0\n"
        desk.git("commit", "-qam", "the edit")
        desk.put(other=1)
        desk.publish()
        assert desk.told() == {"other": 1, "shared": {"a": 1, "b": 1}}


@pytest.mark.parametrize("committed", ["never", "later", "at once", "and edited again"])
def test_an_edit_of_a_file_that_was_brought_up_to_date_before_the_branch(
    tmp_path: Path, quiet: None, committed: str
) -> None:
    """Files come before the branch too, and where a commit comes in between, they are ahead of what is shown."""

    def work() -> None:
        git(desk.folder, "add", "notes.md")
        git(desk.folder, "commit", "-qm", "notes", "--", "notes.md")
        assert "b: 1" in desk.text()
        desk.save(desk.text().replace("a: 0", "a: 1"))
        if committed in ("at once", "and edited again"):
            git(desk.folder, "commit", "-qam", "the edit")
        if committed == "and edited again":
            desk.save(desk.text().replace("a: 1", "a: 2"))
        desk.put(shared={"a": 0, "b": 2})

    disk = Meanwhile(None)
    desk = Desk(tmp_path / "data", disk)
    with desk.store:
        desk.begin()
        desk.put(shared={"a": 0, "b": 1})
        desk.save("noted\n", "notes.md")
        disk.then = work
        desk.publish()
        if committed == "later":
            desk.git("commit", "-qam", "the edit")
        assert shared(desk) == {"a": 2 if committed == "and edited again" else 1, "b": 2}


@pytest.mark.parametrize("halfway", [True, False])
@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("committing", [True, False])
def test_an_edit_of_a_file_that_was_taken_in_and_replaced_before_a_kill(
    tmp_path: Path, quiet: None, committing: bool, shown: bool, halfway: bool
) -> None:
    """It began from what it was replaced with, not from what was taken in, and not from what was there before that."""

    def work() -> None:
        assert "a: 1\nb: 1\n" in desk.text()
        if committing:
            git(desk.folder, "add", "notes.md")
            git(desk.folder, "commit", "-qm", "notes", "--", "notes.md")
        desk.save(desk.text().replace("a: 1", "a: 2"))
        desk.put(shared={"a": 1, "b": 2})
        subprocess.run(["cp", "-a", desk.data, tmp_path / "image"], check=True)

    disk = Meanwhile(None, file=halfway)
    desk = Desk(tmp_path / "data", disk)
    with desk.store:
        desk.begin()
        desk.save(desk.text().replace("a: 0", "a: 1"))
        desk.put(shared={"a": 0, "b": 1})
        if shown:
            desk.publish()  # beside the edit
        desk.take()
        desk.save("noted\n", "notes.md")
        disk.then = work
        desk.store.publisher.publish(desk.workspace)
    desk = Desk(tmp_path / "image")
    with desk.store:
        desk.publish()
        assert shared(desk) == {"a": 2, "b": 2}


def test_a_commit_of_a_file_as_it_was_before_it_was_replaced(tmp_path: Path, quiet: None) -> None:
    """What the commit says is older than what the store wrote there, and the next edit began from that."""
    early = tmp_path / "index"

    def work() -> None:
        assert desk.text() == "a: 1\nb: 1\nc: 1\n"
        desk.git("commit", "-qm", "the edit", index=early)
        desk.save("a: 1\nb: 1\nc: 2\n")
        desk.put(shared={"a": 1, "b": 2, "c": 1})

    disk = Meanwhile(None)
    desk = Desk(tmp_path / "data", disk)
    with desk.store:
        desk.begin()
        desk.save("a: 1\nb: 0\n")
        shutil.copy(desk.folder / ".git/index", early)
        desk.git("add", SHARED, index=early)
        desk.save("a: 1\nb: 0\nc: 1\n")
        desk.put(shared={"a": 0, "b": 1})
        desk.take()
        disk.then = work
        desk.publish()
        assert shared(desk) == {"a": 1, "b": 2, "c": 2}


@pytest.mark.parametrize("replaced", [True, False])
@pytest.mark.parametrize("edited", [True, False])
@pytest.mark.parametrize("again", [True, False])
def test_a_kill_after_a_commit_whose_index_was_older_than_the_files(
    tmp_path: Path, quiet: None, again: bool, edited: bool, replaced: bool
) -> None:
    """What the folder has of the store's own is no edit, and an edit began from that, not from what the index had."""

    def late(number: int) -> None:
        """A publication that gets no further than the files and the index: a git holds the branch."""
        desk.put(shared={"a": 0, "b": number}, other=number)
        lock.touch()
        assert not desk.store.publisher.publish(desk.workspace)
        lock.unlink()
        assert f"a: 0\nb: {number}\n" in desk.text()

    def die() -> None:
        desk.put(shared={"a": 0, "b": 4}, other=4)
        subprocess.run(["cp", "-a", desk.data, tmp_path / "image"], check=True)

    early = tmp_path / "index"
    disk = Meanwhile(None, file=not replaced)
    desk = Desk(tmp_path / "data", disk)
    lock = desk.folder / ".git/refs/heads/main.lock"
    with desk.store:
        desk.begin()
        late(1)
        shutil.copy(desk.folder / ".git/index", early)
        late(2)
        desk.save("noted\n", "notes.md")
        desk.git("add", "notes.md", index=early)
        desk.git("commit", "-qm", "notes", index=early)
        shutil.copy(early, desk.folder / ".git/index")  # as git leaves it
        desk.put(shared={"a": 0, "b": 3}, other=3)
        disk.then = die
        desk.publish()
    desk = Desk(tmp_path / "image", start=False)
    if edited:
        desk.save(desk.text().replace("a: 0", "a: 1"))
    if again:
        desk.save("noted again\n", "notes.md")
        desk.git("commit", "-qm", "notes again", "--", "notes.md")
    desk.start(Disk())
    with desk.store:
        desk.publish()
        assert desk.told() == {"shared": {"a": 1 if edited else 0, "b": 4}, "other": 4}


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("more", ["", "a", "c"])
@pytest.mark.parametrize("staged", ["what was taken in", "less"])
def test_a_commit_of_an_edit_that_was_taken_in_and_replaced_meanwhile(
    tmp_path: Path, quiet: None, staged: str, more: str, killed: bool
) -> None:
    """What the edit in the file by now began from is not what the commit's began from."""
    early = tmp_path / "index"

    def work() -> None:
        assert desk.text() == "a: 1\nb: 1\nc: 1\n"
        desk.git("commit", "-qm", "the edit", index=early)
        shutil.copy(early, desk.folder / ".git/index")
        if killed:
            subprocess.run(["cp", "-a", desk.data, tmp_path / "image"], check=True)
        else:
            edit()

    def edit() -> None:
        if more:
            desk.save(desk.text().replace(f"{more}: 1", f"{more}: 2"))

    disk = Meanwhile(None)
    desk = Desk(tmp_path / "data", disk)
    with desk.store:
        desk.begin()
        desk.save("a: 0\nb: 0\nc: 0\n")
        desk.look()
        desk.save("a: 1\nb: 0\nc: 0\n" if staged == "less" else "a: 1\nb: 0\nc: 1\n")
        desk.put(shared={"a": 0, "b": 1, "c": 0})
        desk.publish()
        shutil.copy(desk.folder / ".git/index", early)
        desk.git("add", SHARED, index=early)
        desk.save("a: 1\nb: 0\nc: 1\n")
        desk.take()
        disk.then = work
        desk.publish()
    if killed:
        desk = Desk(tmp_path / "image", start=False)
        edit()
    desk.start(Disk())
    with desk.store:
        desk.publish()
        assert shared(desk) == {"a": 1, "b": 1, "c": 1, **({more: 2} if more else {})}


def test_an_edit_on_top_of_one_that_was_taken_in_while_a_commit_came_in_between(tmp_path: Path, quiet: None) -> None:
    """The second attempt to publish knows what the first one wrote there."""

    def work() -> None:
        assert desk.text() == "a: 1\nb: 1\n"
        git(desk.folder, "add", "notes.md")
        git(desk.folder, "commit", "-qm", "notes", "--", "notes.md")
        desk.save("a: 2\nb: 1\n")
        desk.put(shared={"a": 1, "b": 2})

    disk = Meanwhile(None)
    desk = Desk(tmp_path / "data", disk)
    with desk.store:
        desk.begin()
        desk.save("a: 1\nb: 0\n")
        desk.put(shared={"a": 0, "b": 1})
        desk.take()
        desk.save("noted\n", "notes.md")
        disk.then = work
        desk.publish()
        assert shared(desk) == {"a": 2, "b": 2}


def test_where_a_branch_was_left_is_forgotten_though_git_packed_the_ref(desk: Desk) -> None:
    """`git gc`, which git runs by itself now and then, packs refs: one that is removed goes from there too."""
    desk.git("checkout", "-qb", "side")
    desk.save("noted\n", "notes.md")
    desk.git("add", "notes.md")
    desk.git("commit", "-qm", "notes")
    desk.git("checkout", "-q", "main")
    desk.git("merge", "-q", "--no-ff", "--no-commit", "side")
    desk.put(other=1)
    desk.publish()
    assert desk.git("for-each-ref", "refs/gitstore/shown") != ""
    desk.git("pack-refs", "--all")
    desk.git("commit", "-qm", "merge")
    desk.publish()
    assert desk.told()["other"] == 1
    assert desk.git("for-each-ref", "refs/gitstore/shown") == ""
