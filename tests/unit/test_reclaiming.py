"""What nobody needs any more goes after its time of grace, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gitstore import artifacts, memory, named, snapshots, verify, workflows, workspaces
from gitstore.changes import Draft
from gitstore.lfs import filter as program
from gitstore.lfs.attributes import Attributes
from gitstore.lfs.pointer import Pointer
from gitstore.model import Actor, Provenance
from gitstore.reclaiming import Reclaimed, reclaim
from gitstore.repository.repository import Repository
from gitstore.store import Store
from gitstore.transport.judge import Judge
from gitstore.work import Work

WHO = Provenance(Actor("admin", "k1", "ops"))
DAY = 86_400


class House:
    """A store with one workspace, and a clock of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.work = Work(store)
        self.id = self.make("shop")
        self.now = __import__("time").time()

    def make(self, slug: str) -> str:
        fields = {"name": slug, "slug": slug, "memory": {}}
        made = self.store.create(slug, lambda d: workspaces.create(d, fields), WHO).result().snapshot.workspace
        assert self.store.publisher.publish(self.store.load(made))
        return str(made)

    def apply(self, branch: Any, operation: Any, workspace: str | None = None) -> Any:
        return self.store.apply(workspace or self.id, branch, operation, WHO).result()

    def publish(self) -> Path:
        workspace = self.store.load(self.id)
        assert self.store.publisher.publish(workspace)
        return Path(workspace.repository.root)

    def hold(self, data: bytes, *, days: float = 30, workspace: str | None = None) -> Pointer:
        """A large object, received so many days ago."""
        objects = self.store.load(workspace or self.id).repository.objects
        pointer = objects.put(data)
        os.utime(objects.path(pointer.oid), (self.now - days * DAY,) * 2)
        return pointer

    def has(self, pointer: Pointer, workspace: str | None = None) -> bool:
        return self.store.load(workspace or self.id).repository.objects.has(pointer.oid)

    def write(self, path: str, data: bytes | None) -> None:
        def change(draft: Draft) -> None:
            if data is None:
                draft.remove(path)
            else:
                draft.write(path, data)
            draft.describe("changes", path)

        self.apply("main", change)

    def git(self, *words: str, given: bytes = b"") -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=Pat", "-c", "user.email=pat@example.org", *words], cwd=self.publish(),
            check=True, capture_output=True, input=given,
        )  # fmt: skip
        return done.stdout.decode().strip()

    def reclaim(self, *references: str, after: float = 0, **more: Any) -> list[Reclaimed]:
        """What goes, so many days from now."""
        return list(reclaim(self.store, references, now=self.now + after * DAY, **more))


@pytest.fixture
def house(tmp_path: Path) -> Any:
    with Store.open(tmp_path / "data") as store:
        yield House(store)


def pool(house: House, pointer: Pointer) -> Path:
    return house.store.layout.large / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid


def test_what_no_commit_names_goes_and_what_one_names_stays(house: House) -> None:
    named, once, staged, stashed, tagged, young, none = (
        house.hold(word.encode() * 9, days=3 if word == "young" else 30)
        for word in ("named", "once", "staged", "stashed", "tagged", "young", "none")
    )
    house.write("big.bin", named.encode())
    house.write("old.bin", once.encode())
    house.write("old.bin", None)
    folder = house.publish()
    house.git("checkout", "-q", "-b", "aside")
    (folder / "side.bin").write_bytes(tagged.encode().replace(b"\n", b"\r\n"))
    house.git("add", "side.bin")
    house.git("commit", "-qm", "aside")
    house.git("tag", "-a", "-m", "aside", "aside-tag")
    house.git("checkout", "-q", "main")
    house.git("branch", "-qD", "aside")
    (folder / "kept.bin").write_bytes(stashed.encode())
    house.git("add", "kept.bin")
    house.git("stash", "-q")
    (folder / "staged.bin").write_bytes(staged.encode())
    house.git("add", "staged.bin")
    dry = house.reclaim(dry_run=True)
    assert [(one.what, one.id, one.bytes, one.workspace) for one in dry] == [("object", none.oid, none.size, house.id)]
    assert house.has(none)
    assert house.reclaim() == dry
    assert not house.has(none)
    assert not pool(house, none).exists()
    for pointer in (named, once, staged, stashed, tagged, young):
        assert house.has(pointer)
        assert pool(house, pointer).exists()
    assert house.reclaim() == []
    assert [one.id for one in house.reclaim(after=12)] == [young.oid]


def test_what_another_workspace_has_stays_there(house: House) -> None:
    other = house.make("other")
    pointer = house.hold(b"both have it")
    house.hold(b"both have it", workspace=other)
    house.apply("main", lambda d: memory.set(d, {"a": 1}), other)
    workspace = house.store.load(other)
    house.apply("main", lambda d: (d.write("big.bin", pointer.encode()), d.describe("changes", "big")), other)
    assert [(one.id, one.bytes) for one in house.reclaim()] == [(pointer.oid, 0)], "the disk gains nothing"
    assert house.has(pointer, other)
    assert pool(house, pointer).exists()
    os.unlink(workspace.repository.objects.path(pointer.oid))
    assert [(one.workspace, one.bytes) for one in house.reclaim()] == [(None, pointer.size)]
    assert not pool(house, pointer).exists()


def evidence(house: House, pointer: Pointer, **more: Any) -> str:
    """An artifact whose content is a large object."""
    new = artifacts.check(artifacts.New("out/big.bin", pointer.encode(), **more))
    return str(house.apply("evidence", lambda d: artifacts.add(d, new)).value.id)


def test_a_deleted_artifact_holds_its_content_for_the_time_of_grace(house: House) -> None:
    pointer = house.hold(b"produced")
    made = evidence(house, pointer)
    assert house.reclaim(after=100) == [], "it is on the branch"
    one = house.work.artifact(house.id, made)
    house.apply("evidence", lambda d: artifacts.delete(d, one))
    house.apply("evidence", lambda d: workflows.create(d, workflows.New("Later", id="later")))
    house.publish()
    assert house.reclaim(after=13) == []
    assert [found.id for found in house.reclaim(after=15)] == [pointer.oid]
    house.publish()
    house.store.derived.flush()
    findings = list(verify.verify(house.store.layout.root))
    assert verify.sound(findings), findings


def test_an_expired_artifact_is_taken_off_when_nobody_brought_it_back(house: House) -> None:
    ephemeral = {"artifact_retention": {"mode": "ephemeral"}}
    house.apply("evidence", lambda d: workflows.create(d, workflows.New("F", id="f", metadata=ephemeral)))
    pointer = house.hold(b"ephemeral")
    made, kept = evidence(house, pointer, workflow_id="f"), evidence(house, house.hold(b"kept"), workflow_id="f")
    house.apply("evidence", lambda d: artifacts.pin(d, house.work.artifact(house.id, kept), True))
    house.apply("evidence", lambda d: workflows.update(d, "f", workflows.Patch(state="completed")))
    assert house.reclaim(after=13) == []
    dry = house.reclaim(after=15, dry_run=True)
    assert [(one.what, one.id, one.path) for one in dry] == [("artifact", made, "out/big.bin")]
    house.apply("evidence", lambda d: workflows.update(d, "f", workflows.Patch(state="active")))
    assert house.reclaim(after=15) == [], "the workflow was reopened"
    house.apply("evidence", lambda d: workflows.update(d, "f", workflows.Patch(state="completed")))
    head = house.store.load(house.id).visible.evidence.head
    # The commit that takes it off is made by the real clock, fifteen days before this one.
    wanted = [("artifact", made), ("object", pointer.oid)]
    assert [(one.what, one.id) for one in house.reclaim("shop", after=15)] == wanted
    assert house.store.load(house.id).visible.evidence.head != head
    assert {one.id for one in house.store.catalog.artifacts(house.id)} == {kept}
    assert house.work.content(house.id, house.work.artifact(house.id, kept))
    house.publish()
    assert "artifact: take 1 off that expired" in house.git("log", "-1", "--format=%s", "evidence")


def test_a_repository_that_cannot_be_read_keeps_everything(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.write("a.txt", b"text")
    pointer = house.hold(b"not named")
    folder = house.publish()
    (folder / ".git/index").write_bytes(b"DIRC\0\0\0\4 no index")
    blob = house.store.load(house.id).visible.tree().blob("a.txt")
    assert blob is not None
    place = folder / ".git/objects" / blob[:2] / blob[2:]
    os.chmod(place, 0o644)
    place.write_bytes(b"damaged")
    house.store.load(house.id).repository.database.close()
    assert house.reclaim() == []
    assert house.has(pointer)
    assert "cannot be read" in caplog.text


def test_a_pointer_with_extensions_names_its_object_too(house: House) -> None:
    pointer = house.hold(b"encrypted by a program of the pusher")
    text = pointer.encode().replace(b"\noid ", b"\next-0-crypt sha256:%s\noid " % (b"a" * 64))
    house.write("secret.bin", text)
    assert house.reclaim() == []
    assert house.has(pointer)


def test_what_a_snapshot_shows_of_the_evidence_stays(house: House) -> None:
    pointer = house.hold(b"produced before the audit")
    made = evidence(house, pointer)
    snapshots.put(house.store, house.id, "audit", who=WHO)
    house.apply("evidence", lambda d: artifacts.delete(d, house.work.artifact(house.id, made)))
    house.apply("evidence", lambda d: workflows.create(d, workflows.New("Later", id="later")))
    house.publish()
    assert house.reclaim(after=100) == []
    snapshots.delete(house.store, house.id, "audit")
    assert [one.id for one in house.reclaim(after=100)] == [pointer.oid]


@pytest.mark.parametrize("kind", ["tree", "blob"])
def test_a_branch_of_which_something_is_missing_keeps_everything(
    house: House, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    pointer = house.hold(b"only an older commit has it")
    house.write("big.bin", pointer.encode())
    folder = house.publish()
    lost = house.git("rev-parse", "main^{tree}" if kind == "tree" else "main:big.bin")
    house.write("big.bin", None)
    house.publish()
    (folder / ".git/objects" / lost[:2] / lost[2:]).unlink()
    house.store.load(house.id).repository.database.close()
    assert house.reclaim() == []
    assert house.has(pointer), "a backup may still bring back what names it"
    assert "is missing" in caplog.text


def test_a_dry_run_says_what_it_gives_where_two_workspaces_have_it(house: House) -> None:
    other = house.make("other")
    pointer = house.hold(b"nobody needs it twice")
    house.hold(b"nobody needs it twice", workspace=other)
    dry = house.reclaim(dry_run=True)
    assert sorted(one.bytes for one in dry) == [0, pointer.size]
    assert house.reclaim() == dry
    assert not pool(house, pointer).exists()


def test_what_else_lies_in_the_folder_of_git_is_read_in_pieces_or_not_at_all(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "_PIECE", 50)
    kept, none = house.hold(b"kept by a note"), house.hold(b"by nothing")
    git = house.publish() / ".git"
    blob = house.git("hash-object", "-w", "--stdin", given=kept.encode())
    (git / "large").write_bytes(b"." * 70 + blob.encode() + b"." * 70)
    os.mkfifo(git / "pipe")
    assert [one.id for one in house.reclaim()] == [none.oid]
    assert house.has(kept)


def test_an_object_that_is_found_here_is_in_use(house: House, tmp_path: Path) -> None:
    adopted, cleaned, pushed = (house.hold(word) for word in (b"adopted" * 9, b"cleaned" * 9, b"pushed" * 9))
    objects = house.store.load(house.id).repository.objects
    assert objects.adopt(adopted.oid)
    done = subprocess.run(
        [sys.executable, "-I", "-S", program.__file__, "clean"], cwd=house.publish(),
        input=b"cleaned" * 9, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == cleaned.encode()
    tree = house.store.load(house.id).visible.tree()
    judge = Judge(house.id, "main", "refuse", 0, 1, objects)
    assert list(judge._pointer(pushed.encode(), "big.bin", Attributes(tree.read), tree)) == []
    assert house.reclaim() == []


def test_the_second_look_reads_only_what_came_meanwhile(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    pointer = house.hold(b"not named")
    came = house.hold(b"named between the looks")
    for number in range(30):
        house.apply("evidence", lambda d, n=number: workflows.create(d, workflows.New("W", id=f"w{n}")))
    house.publish()
    reads: list[int] = []
    commit, look = Repository.commit, named.Named.look

    def counted(self: Repository, oid: Any) -> Any:
        reads[-1] += 1
        return commit(self, oid)

    def looked(self: named.Named, *of: Any) -> None:
        reads.append(0)
        look(self, *of)
        if len(reads) == 1:
            evidence(house, came)

    monkeypatch.setattr(Repository, "commit", counted)
    monkeypatch.setattr(named.Named, "look", looked)
    assert [one.id for one in house.reclaim()] == [pointer.oid]
    assert house.has(came)
    assert reads[0] >= 30
    assert reads[1] <= 3


def test_what_a_killed_filter_left_goes(house: House) -> None:
    folder = house.publish() / ".git/lfs/tmp"
    folder.mkdir(parents=True)
    for name, days in (("clean-1-a", 15), ("clean-2-b", 13)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (house.now - days * DAY,) * 2)
    dry = house.reclaim(dry_run=True)
    assert [(one.what, one.id, one.bytes) for one in dry] == [("object", "clean-1-a", 4)]
    assert house.reclaim() == dry
    assert os.listdir(folder) == ["clean-2-b"]
