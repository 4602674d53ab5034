"""In and out: import, export, backup, restore and the trash keep every byte, or leave nothing behind."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import ARTIFACT, ID, TOKEN, WHO, change, files, fill, git, plain, sound, write

from gitstore import backup, schemas, settings, snapshots, trash, verify, workspaces
from gitstore import files as uploaded
from gitstore.acceptance import Refused
from gitstore.errors import Conflict, Damaged, FormatUnknown, GitstoreError, Invalid, NotFound, StorageFailed
from gitstore.exporting import export_workspace
from gitstore.history import TimelineQuery
from gitstore.importing import import_folder
from gitstore.keys import Keys
from gitstore.layout import Layout
from gitstore.past import Past
from gitstore.repository.disk import Disk
from gitstore.search.query import Word
from gitstore.store import Options, Store
from gitstore.survey import Survey


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        yield opened


def nothing_left(store: Store) -> None:
    assert os.listdir(store.layout.workspaces) == []
    assert not (store.layout.root / "incoming").exists()
    assert store.catalog.list()[1] == 0


# --- import: plain folders --------------------------------------------------------------------------------------------


def test_a_plain_folder_comes_in_byte_for_byte(store: Store, tmp_path: Path) -> None:
    folder = plain(tmp_path / "shop")
    done = import_folder(store, folder)
    assert (done.id, done.slug, done.workflows, done.tasks, done.artifacts) == (ID, "shop", 1, 1, 1)
    home = store.layout.workspaces / "shop"
    mine = {path: data for path, data in files(folder).items() if not path.startswith("evidence/")}
    given = {path: blob.data for path, blob in schemas.files().items()}
    assert files(home) == mine | given
    sound(home)
    assert git(home, "log", "--format=%s", "main") == "import: shop\n"
    assert "evidence" not in git(home, "ls-tree", "--name-only", "main").split()
    # An artifact folder that a person put right below artifacts/ is where its name says.
    assert git(home, "show", f"evidence:artifacts/1a/7c/{ARTIFACT}/report.md").startswith("Everything is green")


def test_what_came_in_is_listed_and_found_and_can_be_written(store: Store, tmp_path: Path) -> None:
    import_folder(store, plain(tmp_path / "shop"))
    snapshot = store.load("shop").visible
    assert snapshot.context.memory["a/b"].value_json == b"1.5"
    assert not snapshot.context.problems
    assert {hit.id for hit in store.search.query([ID], Word("zebra"), kinds=["artifact"]).rows} == {ARTIFACT}
    (entry,) = store.history.timeline(ID, TimelineQuery(path="README.md")).entries
    assert (entry.facts.kind, entry.facts.door) == ("import", "cli")
    change(store, "shop", "new", [1])
    store.publisher.publish(store.load("shop"))
    sound(store.layout.workspaces / "shop")


def test_it_is_there_after_a_restart_with_nothing_to_catch_up(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        done = import_folder(store, plain(tmp_path / "shop"))
    assert list(verify.verify(tmp_path / "data")) == []
    shutil.rmtree(tmp_path / "data/derived")
    with Store.open(tmp_path / "data") as store:
        assert store.find("shop") == done.id


def test_a_folder_without_workspace_yaml_is_named_after_itself(store: Store, tmp_path: Path) -> None:
    done = import_folder(store, write(tmp_path / "Zoë's notes!", {"README.md": "x\n", "memory/a.yaml": "1\n"}))
    assert (done.slug, done.name) == ("Zo-s-notes", "Zoë's notes!")
    text = (store.layout.workspaces / "Zo-s-notes/workspace.yaml").read_text()
    assert f"id: {done.id}" in text


def test_an_id_is_added_and_the_rest_of_the_file_is_kept(store: Store, tmp_path: Path) -> None:
    done = import_folder(store, write(tmp_path / "x", {"workspace.yaml": "# mine\nname: 'A'  # short\nslug: a\n"}))
    text = (store.layout.workspaces / "a/workspace.yaml").read_text()
    assert "# mine\n" in text
    assert "name: 'A'  # short\n" in text
    assert f"id: {done.id}" in text


def test_another_slug_is_written_down(store: Store, tmp_path: Path) -> None:
    import_folder(store, plain(tmp_path / "shop"), slug="store-2")
    text = (store.layout.workspaces / "store-2/workspace.yaml").read_text()
    assert text == f"# ours\nid: {ID}\nname: The shop\nslug: store-2\n"


def test_an_empty_folder_is_a_workspace(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = import_folder(store, tmp_path / "empty")
    assert done.evidence is None
    sound(store.layout.workspaces / "empty")


def test_every_problem_is_told_at_once_with_its_place(store: Store, tmp_path: Path) -> None:
    folder = plain(
        tmp_path / "shop",
        **{
            "memory/bad.yaml": "a: 1\nb: [1,\n",
            "settings.yaml": "storage: {type: moon}\n",
            "notes.txt": TOKEN,
            "evidence/tasks/odd.yaml": "state: sleeping\n",
        },
    )
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "files/README").write_text("a")
    (folder / "files/readme").write_text("b")
    with pytest.raises(Refused) as caught:
        import_folder(store, folder)
    told = {fault.path: "" for fault in caught.value.faults}
    for fault in caught.value.faults:
        told[fault.path] += str(fault)
    assert set(told) == {
        "memory/bad.yaml",
        "settings.yaml",
        "notes.txt",
        "link",
        "files/readme",
        "evidence/tasks/odd.yaml",
    }
    assert told["memory/bad.yaml"].startswith("memory/bad.yaml:3:1: ")
    assert "/storage/type" in told["settings.yaml"]
    assert told["notes.txt"].startswith("notes.txt:1:1: holds a private key")
    assert "symbolic link" in told["link"]
    assert "only in case" in told["files/readme"]
    assert "/state" in told["evidence/tasks/odd.yaml"]
    nothing_left(store)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("files/sub/.git/config", "git repository inside"),
        ("files/.GIT/config", "git repository inside"),
        ("git~1/x", "git repository inside"),
        ("files/.gitmodules", "git keeps its own data"),
        ("files/aux.txt", "device"),
        ("files/a\\b", "backslash"),
        ("Evidence/tasks/a.yaml", "evidence branch"),
        ("Memory/a.yaml", "only in case"),
        ("memory/a.yml", "not read"),
    ],
)
def test_an_unsafe_name_is_refused(store: Store, tmp_path: Path, path: str, word: str) -> None:
    folder = plain(tmp_path / "shop", **{path: "x: 1\n"})
    with pytest.raises(Refused, match=word):
        import_folder(store, folder)
    nothing_left(store)


def test_a_pipe_is_not_waited_for(store: Store, tmp_path: Path) -> None:
    os.mkfifo(plain(tmp_path / "shop") / "pipe")
    with pytest.raises(Refused, match="no ordinary file"):
        import_folder(store, tmp_path / "shop")


def test_broken_workspace_yaml_is_refused_not_replaced(store: Store, tmp_path: Path) -> None:
    for text in ("name: [\n", "- a\n", "id: x\nname: 5\nslug: 'a b'\n"):
        with pytest.raises(Refused, match=r"workspace\.yaml"):
            import_folder(store, plain(tmp_path / "shop", **{"workspace.yaml": text}))
    nothing_left(store)


def test_credentials_pass_where_the_policy_allows_them(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data", Options(secrets="allow")) as store:
        import_folder(store, plain(tmp_path / "shop", **{"notes.txt": TOKEN}))


def test_names_that_are_taken(store: Store, tmp_path: Path) -> None:
    fill(store, "taken")
    with pytest.raises(Conflict, match="--slug"):
        import_folder(store, plain(tmp_path / "shop"), slug="TAKEN")
    import_folder(store, tmp_path / "shop")
    with pytest.raises(Conflict, match="--new-id"):
        import_folder(store, tmp_path / "shop", slug="other")
    other = plain(tmp_path / "other", **{"workspace.yaml": "name: Other\nslug: other\n"})
    with pytest.raises(Conflict, match="is taken by the workspace"):
        import_folder(store, other)
    with pytest.raises(NotFound):
        import_folder(store, tmp_path / "nowhere")
    assert sorted(os.listdir(store.layout.workspaces)) == ["shop"] or "taken" in os.listdir(store.layout.workspaces)
    assert not (store.layout.root / "incoming").exists()


def test_a_copy_has_new_ids_throughout(store: Store, tmp_path: Path) -> None:
    import_folder(store, plain(tmp_path / "shop"))
    done = import_folder(store, tmp_path / "shop", slug="copy", new_id=True)
    (workflow,) = store.catalog.workflows(done.id)
    (task,) = store.catalog.tasks(done.id)
    (artifact,) = store.catalog.artifacts(done.id)
    assert len({done.id, ID}) == len({workflow.id, "release"}) == len({task.id, "build"}) == 2
    assert task.workflow_id == workflow.id
    assert artifact.task_id == task.id
    assert artifact.id != ARTIFACT
    assert workflow.metadata == {"workspace": done.id}
    home = store.layout.workspaces / "copy"
    paths = git(home, "ls-tree", "-r", "--name-only", "evidence").split()
    document = git(home, "show", f"evidence:{next(path for path in paths if path.endswith('artifact.yaml'))}")
    assert document == f"path: out/report.md\ntask_id: {task.id}  # it\n"
    sound(home)


def test_a_crash_before_the_move_leaves_only_scratch_that_the_next_import_sweeps(tmp_path: Path) -> None:
    class Halt(BaseException):
        pass

    class Crashing(Disk):
        def rename(self, source: str, target: str) -> None:
            if "/incoming/" in source and "/workspaces/" in target:
                raise Halt
            super().rename(source, target)

    with Store.open(tmp_path / "data", disk=Crashing()) as store:
        with pytest.raises(Halt):
            import_folder(store, plain(tmp_path / "shop"))
        assert os.listdir(store.layout.workspaces) == []
    (tmp_path / "data/incoming/left").mkdir(parents=True)
    assert [finding.severity for finding in verify.verify(tmp_path / "data")] == ["warning"]
    with Store.open(tmp_path / "data") as store:
        import_folder(store, tmp_path / "shop")
    assert not (tmp_path / "data/incoming").exists()


# --- import: git repositories -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with 41 commits on a branch called trunk, packed as git does it."""
    folder = plain(tmp_path_factory.mktemp("trunk") / "shop")
    shutil.rmtree(folder / "evidence")
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Begin")
    for number in range(40):
        write(folder, {"notes.md": "".join(f"line {line + number}\n" for line in range(400))})
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", f"Note {number}")
    git(folder, "repack", "-adq")
    git(folder, "pack-refs", "--all")
    return folder


@pytest.fixture
def cloned(trunk: Path, tmp_path: Path) -> Path:
    shutil.copytree(trunk, tmp_path / "shop")
    git(tmp_path / "shop", "update-index", "-q", "--refresh")
    return tmp_path / "shop"


def test_a_repository_keeps_its_history(store: Store, cloned: Path) -> None:
    head = git(cloned, "rev-parse", "HEAD").strip()
    git(cloned, "tag", "v1")
    done = import_folder(store, cloned)
    assert done.main == head
    assert done.commits == 41
    assert done.notes == ("1 other branches and tags were not imported",)
    home = store.layout.workspaces / "shop"
    sound(home)
    assert git(home, "log", "--format=%H", "main") == git(cloned, "log", "--format=%H")
    # Deltas are carried over as they are: the copy is not forty times as large.
    size = sum(path.stat().st_size for path in (home / ".git/objects").rglob("*") if path.is_file())
    assert size < 60_000
    assert store.history.timeline(ID, TimelineQuery()).total == 41


def test_its_evidence_branch_and_folder(store: Store, cloned: Path) -> None:
    git(cloned, "checkout", "-q", "--orphan", "evidence")
    git(cloned, "rm", "-rqf", ".")
    write(cloned, {"tasks/x.yaml": "title: X\n"})
    git(cloned, "add", "-A")
    git(cloned, "commit", "-qm", "Evidence")
    git(cloned, "switch", "-q", "trunk")
    git(cloned, "clone", "-q", ".", str(cloned.parent / "clone"))
    done = import_folder(store, cloned.parent / "clone", slug="from-clone")
    assert done.evidence == git(cloned, "rev-parse", "evidence").strip()
    write(cloned, {"evidence/tasks/x.yaml": "title: Y\n"})
    again = import_folder(store, cloned, slug="with-folder", new_id=True)
    assert [task.title for task in store.catalog.tasks(again.id)] == ["Y"]
    assert git(store.layout.workspaces / "with-folder", "log", "--format=%s", "evidence").splitlines() == [
        "import: shop (evidence)",
        "Evidence",
    ]


def test_evidence_committed_to_main_moves_to_its_branch(store: Store, cloned: Path) -> None:
    write(cloned, {"evidence/tasks/t.yaml": "title: T\n"})
    git(cloned, "add", "-f", "-A")
    git(cloned, "commit", "-qm", "Evidence in the wrong place")
    import_folder(store, cloned)
    home = store.layout.workspaces / "shop"
    assert "evidence" not in git(home, "ls-tree", "--name-only", "main").split()
    assert [task.title for task in store.catalog.tasks(ID)] == ["T"]
    assert git(home, "log", "-1", "--format=%s", "main~1") == "Evidence in the wrong place\n"
    sound(home)


def test_what_is_not_committed_is_told(store: Store, cloned: Path) -> None:
    write(cloned, {"README.md": "changed\n", "memory/new.yaml": "1\n"})
    done = import_folder(store, cloned)
    assert done.notes == ("only what is committed was imported; not committed: README.md, memory/new.yaml",)


def test_a_bare_repository_and_a_detached_head(store: Store, cloned: Path) -> None:
    git(cloned, "clone", "-q", "--bare", ".", str(cloned.parent / "bare.git"))
    import_folder(store, cloned.parent / "bare.git", slug="bare")
    git(cloned, "checkout", "-q", "--detach", "HEAD~2")
    done = import_folder(store, cloned, slug="back", new_id=True)
    assert git(store.layout.workspaces / "back", "rev-parse", "main~1") == git(cloned, "rev-parse", "HEAD")
    assert done.commits == 40


def test_a_credential_anywhere_in_history_is_refused(store: Store, cloned: Path) -> None:
    write(cloned, {"id_key": TOKEN})
    git(cloned, "add", "-A")
    git(cloned, "commit", "-qm", "Oh no")
    git(cloned, "rm", "-q", "id_key")
    git(cloned, "commit", "-qm", "Taken back")
    with pytest.raises(Refused, match="id_key:1:1: holds a private key, now or earlier"):
        import_folder(store, cloned)
    nothing_left(store)


def test_links_and_submodules_in_a_repository(store: Store, cloned: Path) -> None:
    (cloned / "link").symlink_to("README.md")
    git(cloned, "add", "-A")
    git(cloned, "update-index", "--add", "--cacheinfo", "160000," + "1" * 40 + ",module")
    git(cloned, "commit", "-qm", "Links")
    with pytest.raises(Refused) as caught:
        import_folder(store, cloned)
    assert {fault.path for fault in caught.value.faults} == {"link", "module"}


def test_a_repository_that_git_would_not_accept(store: Store, cloned: Path) -> None:
    blob = git(cloned, "hash-object", "-w", "README.md").strip()
    odd = cloned.parent / "tree"
    odd.write_bytes(b"100644 .GIT\0" + bytes.fromhex(blob))
    tree = git(cloned, "hash-object", "-t", "tree", "-w", "--literally", str(odd)).strip()
    inner = git(cloned, "commit-tree", tree, "-p", "HEAD", "-m", "Odd").strip()
    outer = git(cloned, "commit-tree", "HEAD^{tree}", "-p", inner, "-m", "On top").strip()
    git(cloned, "reset", "-q", "--hard", outer)
    with pytest.raises(Refused, match="no tree may have"):
        import_folder(store, cloned)
    nothing_left(store)


def test_a_repository_with_a_missing_object(store: Store, cloned: Path) -> None:
    write(cloned, {"more.md": "more\n"})
    git(cloned, "add", "-A")
    git(cloned, "commit", "-qm", "More")
    oid = git(cloned, "rev-parse", "HEAD:more.md").strip()
    (cloned / ".git/objects" / oid[:2] / oid[2:]).unlink()
    with pytest.raises(Refused, match=r"more\.md: object .* is missing"):
        import_folder(store, cloned)
    nothing_left(store)


def test_kinds_of_repositories_that_are_not_read(store: Store, cloned: Path, tmp_path: Path) -> None:
    git(cloned, "worktree", "add", "-q", str(tmp_path / "tree"))
    with pytest.raises(Invalid, match="git clone"):
        import_folder(store, tmp_path / "tree")
    git(cloned, "clone", "-q", "--depth", "1", f"file://{cloned}", str(tmp_path / "shallow"))
    with pytest.raises(Invalid, match="--unshallow"):
        import_folder(store, tmp_path / "shallow")
    git(tmp_path, "init", "-q", "--object-format=sha256", "long")
    with pytest.raises(Invalid, match="SHA-1"):
        import_folder(store, tmp_path / "long")
    nothing_left(store)


def test_a_commit_from_the_future_is_refused(store: Store, cloned: Path) -> None:
    git(cloned, "-c", "user.name=x", "commit", "-q", "--allow-empty", "-m", "x")
    raw = git(cloned, "cat-file", "commit", "HEAD")
    future = "committer Ada <a@b> 4102444800 +0000"
    lines = [future if line.startswith("committer") else line for line in raw.split("\n")]
    (cloned.parent / "commit").write_text("\n".join(lines))
    made = git(cloned, "hash-object", "-t", "commit", "-w", str(cloned.parent / "commit")).strip()
    git(cloned, "reset", "-q", "--hard", made)
    with pytest.raises(Refused, match="10 minutes ahead"):
        import_folder(store, cloned)


# --- export -----------------------------------------------------------------------------------------------------------


def test_an_export_is_a_folder_with_everything_and_nothing_of_the_server(store: Store, tmp_path: Path) -> None:
    import_folder(store, plain(tmp_path / "shop"))
    store.apply(
        "shop",
        "main",
        lambda draft: settings.replace(draft, {"credentials": {"git_token": "s3cr3t-t0ken"}}, repository_url=None),
        WHO,
    ).result()
    change(store, "shop", "late", "not yet published")
    target = tmp_path / "out/shop"
    done = export_workspace(store.layout.root, "SHOP", target)
    assert done.main == store.load("shop").visible.main.head
    sound(target)
    refs = git(target, "for-each-ref", "--format=%(refname)").split()
    assert refs == ["refs/heads/evidence", "refs/heads/main"]
    assert not (target / ".git/gitstore").exists()
    assert (target / "memory/late.yaml").read_text().splitlines()[1:] == ["not yet published"]
    assert (target / f"evidence/artifacts/1a/7c/{ARTIFACT}/report.md").exists()
    everything = b"".join(path.read_bytes() for path in target.rglob("*") if path.is_file())
    assert b"s3cr3t" not in everything
    with pytest.raises(Conflict):
        export_workspace(store.layout.root, "shop", target)
    with pytest.raises(NotFound):
        export_workspace(store.layout.root, "nobody", tmp_path / "x")
    assert sorted(os.listdir(tmp_path / "out")) == ["shop"]


def test_what_is_exported_comes_back_equal(store: Store, tmp_path: Path) -> None:
    import_folder(store, plain(tmp_path / "shop"))
    change(store, "shop", "more", {"a": [1, 2.50, None]})
    export_workspace(store.layout.root, "shop", tmp_path / "one")
    done = import_folder(store, tmp_path / "one", slug="again", new_id=True)
    export_workspace(store.layout.root, "again", tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    own = ("workspace.yaml", "evidence/")
    assert {p: d for p, d in one.items() if not p.startswith(own)} == {
        p: d for p, d in two.items() if not p.startswith(own)
    }
    assert len(one) == len(two)
    first, second = store.load("shop").visible, store.load("again").visible
    assert first.context.memory_json() == second.context.memory_json()
    assert first.spec_version == second.spec_version
    assert first.created_at == second.created_at
    (old,), (new,) = store.catalog.artifacts(ID), store.catalog.artifacts(done.id)
    assert (old.path, old.sha256, old.created_at) == (new.path, new.sha256, new.created_at)
    # Into another store it goes as it is.
    with Store.open(tmp_path / "other") as other:
        assert import_folder(other, tmp_path / "one").id == ID
        assert other.load("shop").visible.main.head == first.main.head
        assert other.load("shop").visible.evidence.head == first.evidence.head


def test_a_workspace_that_is_only_in_the_journal(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        store.publisher.stop()
        identity = fill(store, keys=20)
        assert os.listdir(store.layout.workspaces) == []
        done = export_workspace(tmp_path / "data", "live", tmp_path / "out")
        assert done.id == identity
        sound(tmp_path / "out")
        assert len(list((tmp_path / "out/memory").iterdir())) == 20
        contents = backup.write(tmp_path / "data", tmp_path / "b.tar")
        assert contents.workspaces[0].main == done.main


def test_beside_a_busy_writer(tmp_path: Path) -> None:
    """Every export, backup and verification of a store in use is sound, and has all that was acknowledged before it."""
    with Store.open(tmp_path / "data") as store:
        fill(store, keys=1)
        stop = threading.Event()
        done: list[int] = []

        def work() -> None:
            number = 0
            while not stop.wait(0.002):
                change(store, "live", f"w-{number % 50}", number)
                done.append(number)
                number += 1

        writer = threading.Thread(target=work)
        writer.start()
        try:
            for round in range(4):
                before = len(done)
                out = tmp_path / f"out-{round}"
                export_workspace(tmp_path / "data", "live", out)
                sound(out)
                assert int(git(out, "rev-list", "--count", "main")) >= before
                backup.write(tmp_path / "data", tmp_path / f"{round}.tar")
                findings = list(verify.verify(tmp_path / "data"))
                assert verify.sound(findings), findings
        finally:
            stop.set()
            writer.join()
    backup.restore(tmp_path / "3.tar", tmp_path / "back")
    Store.open(tmp_path / "back").close()
    assert list(verify.verify(tmp_path / "back")) == []


# --- backup and restore -----------------------------------------------------------------------------------------------


@pytest.fixture
def backed(tmp_path: Path) -> Path:
    """A store with two workspaces, keys and a sealed token."""

    data = tmp_path / "data"
    with Store.open(data) as store:
        import_folder(store, plain(tmp_path / "shop"))
        fill(store, "second", settings={"credentials": {"git_token": "s3cr3t-t0ken"}})
        Keys.open(store.layout.keys, token_key=bytes(32)).create("admin", "a")
    return data


def test_a_backup_brings_everything_back(backed: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    contents = backup.write(backed, file, with_secrets=True)
    assert [one.folder for one in contents.workspaces] == ["second", "shop"]
    assert file.stat().st_mode & 0o777 == 0o600
    back = tmp_path / "back"
    assert backup.restore(file, back) == contents == backup.read(file)
    assert (back / "keys.yaml").read_bytes() == (backed / "keys.yaml").read_bytes()
    with Store.open(back) as store, Survey(backed) as old:
        for one in old:
            assert store.load(one.id).visible.main.head == one.head("main")
            assert store.load(one.id).visible.evidence.head == one.head("evidence")
            sound(back / "workspaces" / one.folder)
        snapshot = store.load("second").visible
        assert store.vault.unseal(snapshot.workspace, "git_token", snapshot.sealed["git_token"]) == "s3cr3t-t0ken"
    assert list(verify.verify(back)) == []


def test_secrets_stay_unless_asked_for(backed: Path, tmp_path: Path) -> None:
    backup.write(backed, tmp_path / "b.tar")
    data = (tmp_path / "b.tar").read_bytes()
    assert (backed / "secrets/key").read_bytes().strip() not in data
    backup.restore(tmp_path / "b.tar", tmp_path / "back")
    with Store.open(tmp_path / "back") as store:
        assert store.load("second").visible.sealed == {}


def test_a_backup_that_was_cut_or_altered_is_refused_and_leaves_nothing(backed: Path, tmp_path: Path) -> None:
    file, back = tmp_path / "b.tar", tmp_path / "back"
    backup.write(backed, file)
    whole = file.read_bytes()
    size = len(whole)
    places = {0, 5, 150, 513, size // 3, size // 2, size - 2100, size - 2048, size - 1500, size - 700, size - 1}
    bad = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in sorted(places)]
    bad += [whole[:-1], whole[:-512], whole[: size // 2 // 512 * 512], b"", whole + bytes(512), bytes(4096)]
    for data in bad:
        file.write_bytes(data)
        with pytest.raises(Damaged):
            backup.restore(file, back)
        assert not back.exists()
    back.mkdir()
    with pytest.raises(Damaged):
        backup.restore(file, back)
    assert list(back.iterdir()) == []
    with pytest.raises(NotFound):
        backup.restore(tmp_path / "none.tar", back)


def test_a_backup_goes_into_an_empty_folder_only(backed: Path, tmp_path: Path) -> None:
    backup.write(backed, tmp_path / "b.tar")
    before = files(backed)
    with pytest.raises(Conflict, match="empty"):
        backup.restore(tmp_path / "b.tar", backed)
    assert files(backed) == before


def test_an_interrupted_restore_can_be_begun_again(backed: Path, tmp_path: Path) -> None:
    backup.write(backed, tmp_path / "b.tar")
    write(tmp_path / "back/restoring", {"workspaces/x": "half"})
    backup.restore(tmp_path / "b.tar", tmp_path / "back")
    assert sorted(os.listdir(tmp_path / "back")) == ["keys.yaml", "large", "store.yaml", "workspaces"]


def test_a_failed_backup_leaves_the_last_one(backed: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    backup.write(backed, file)
    before = file.read_bytes()
    oid = git(backed / "workspaces/shop", "rev-parse", "main:README.md").strip()
    (backed / "workspaces/shop/.git/objects" / oid[:2] / oid[2:]).unlink()
    with pytest.raises(GitstoreError):
        backup.write(backed, file)
    assert file.read_bytes() == before
    assert [name for name in os.listdir(tmp_path) if "partial" in name or "packs" in name] == []


def test_a_newer_backup_is_told_from_a_damaged_one(
    backed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "PLAIN", backup.FORMAT + 1)
    backup.write(backed, tmp_path / "b.tar")
    monkeypatch.undo()
    with pytest.raises(FormatUnknown):
        backup.restore(tmp_path / "b.tar", tmp_path / "back")
    assert not (tmp_path / "back").exists()


# --- the trash --------------------------------------------------------------------------------------------------------


def test_a_deleted_workspace_comes_back_with_its_secrets(backed: Path) -> None:
    with Store.open(backed) as store:
        head = store.load("second").visible.main.head
        store.delete("second", lambda _: None).result()
        (one,) = trash.contents(store.layout)
        assert one.slug == "second"
        back = trash.restore(store, "second")
        assert store.load("second").visible.main.head == head
        assert store.load(back.id).visible.sealed
        assert trash.contents(store.layout) == []
        change(store, "second", "again", 1)
    assert list(verify.verify(backed)) == []


def test_it_comes_back_under_another_slug(backed: Path) -> None:
    with Store.open(backed) as store:
        store.delete("second", lambda _: None).result()
        fill(store, "second")
        with pytest.raises(Conflict, match="--slug"):
            trash.restore(store, "second")
        one = trash.restore(store, "second", slug="third")
        snapshot = store.load("third").visible
        assert snapshot.workspace == one.id
        assert snapshot.context.fields.slug == "third"
        sound(store.layout.workspaces / "third")
    assert list(verify.verify(backed)) == []


def test_purging_removes_the_folder_and_the_secrets(backed: Path) -> None:
    with Store.open(backed) as store:
        identity = store.find("second")
        store.delete("second", lambda _: None).result()
        assert (store.layout.secrets / identity).exists()
        now = trash.contents(store.layout)[0].deleted_at
        assert trash.expired(store.layout, 30, now + 29 * 86_400_000) == []
        gone = trash.expired(store.layout, 30, now + 31 * 86_400_000)
        trash.purge(store, gone)
        assert os.listdir(store.layout.trash) == []
        assert not (store.layout.secrets / identity).exists()
        with pytest.raises(NotFound):
            trash.restore(store, "second")


def page(store: Store, slug: str, text: str) -> str:
    """A file in a workspace that search has read by itself; its blob."""
    new = uploaded.upload(file_name="page.html", content=f"<p>{text}</p>".encode(), key=None)
    store.apply(slug, "main", lambda draft: uploaded.put(draft, [new]), WHO).result()
    blob = next(one.blob for one in store.load(slug).visible.context.files.values() if one.path.endswith("page.html"))
    deadline = time.monotonic() + 20
    while not read(store, blob):
        assert time.monotonic() < deadline, store.extraction.backlog
        time.sleep(0.02)
    return blob


def read(store: Store, blob: str) -> bool:
    return store.extraction.of("text/html", blob, _unread).indexed == "full"


def test_purging_removes_what_was_read_of_contents_that_no_other_workspace_has(backed: Path) -> None:
    with Store.open(backed) as store:
        both, only = page(store, "second", "two have this"), page(store, "second", "nobody else has this")
        new, kept = page(store, "second", "a workspace has it that was made just now"), page(store, "shop", "another")
        assert page(store, "shop", "two have this") == both
        store.delete("second", lambda _: None).result()
        assert read(store, only)  # it can be brought back
        fill(store, "third")
        store.publisher.stop()  # so that there is no folder yet
        assert page(store, "third", "a workspace has it that was made just now") == new
        (store.layout.workspaces / ".DS_Store").touch()
        trash.purge(store, trash.contents(store.layout))
        assert [read(store, blob) for blob in (only, both, new, kept)] == [False, True, True, True]


@pytest.mark.parametrize("fault", ["its own packs", "the packs of another", "the disk"])
def test_what_cannot_be_told_of_texts_keeps_no_workspace_from_going(
    backed: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(backed) as store:
        identity, blob = store.find("second"), page(store, "second", "nobody else has this")
        store.delete("second", lambda _: None).result()
        gone = trash.contents(store.layout)
        if fault == "the disk":
            full = StorageFailed("texts.sqlite cannot be written: the disk is full")
            monkeypatch.setattr(store.extraction._kept, "lose", lambda _: (_ for _ in ()).throw(full))
        else:
            other = store.layout.workspaces / "shop"
            folder = store.layout.trash / gone[0].name if fault == "its own packs" else other
            (folder / ".git/objects/pack/pack-00.idx").write_bytes(b"")
        trash.purge(store, gone)
        assert os.listdir(store.layout.trash) == []
        assert not (store.layout.secrets / identity).exists()
        assert read(store, blob)


def _unread(blob: str, most: int) -> bytes:
    raise AssertionError(f"{blob} was to be read")


def test_an_import_does_not_inherit_the_secrets_of_what_is_in_the_trash(backed: Path, tmp_path: Path) -> None:
    with Store.open(backed) as store:
        export_workspace(backed, "second", tmp_path / "out")
        store.delete("second", lambda _: None).result()
        with pytest.raises(Conflict, match="restore"):
            import_folder(store, tmp_path / "out")
        trash.purge(store, trash.contents(store.layout))
        import_folder(store, tmp_path / "out")
        assert store.load("second").visible.sealed == {}


def test_a_folder_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Survey(tmp_path)
    assert trash.contents(Layout(tmp_path)) == []


def test_other_branches_and_tags_and_what_was_pushed_come_along(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        made = store.create("quay", lambda d: workspaces.create(d, {"name": "Quay", "slug": "quay"}), WHO).result()
        workspace = store.load(made.snapshot.workspace)
        assert store.publisher.publish(workspace)
        home = store.layout.workspaces / "quay"
        git(home, "-c", "user.name=p", "-c", "user.email=p@p", "tag", "-a", "v1", "-m", "one")
        git(home, "branch", "draft/one")
        git(home, "update-ref", "refs/heads/broken", "main")
        (home / ".git/refs/heads/broken").write_text("1" * 40 + "\n")
        head = workspace.visible.main.oid
        assert head is not None
        workspace.repository.mark_pushed([head])
        tips = git(home, "for-each-ref", "refs/tags", "refs/heads/draft")
    backup.write(tmp_path / "data", tmp_path / "all.tar")
    backup.restore(tmp_path / "all.tar", tmp_path / "again")
    there = tmp_path / "again/workspaces/quay"
    assert git(there, "for-each-ref", "refs/tags", "refs/heads/draft") == tips
    assert "broken" not in git(there, "for-each-ref")
    with Store.open(tmp_path / "again") as store:
        entry = store.history.timeline(made.snapshot.workspace, TimelineQuery()).entries[-1]
        assert entry.facts.id == head.hex()
        assert store.load("quay").repository.all_pushed() == [head]
    export_workspace(tmp_path / "again", "quay", tmp_path / "out")
    assert git(tmp_path / "out", "for-each-ref", "refs/tags", "refs/heads/draft") == tips
    assert git(tmp_path / "out", "fsck", "--strict") == ""


# --- snapshots --------------------------------------------------------------------------------------------------------


def test_a_backup_keeps_snapshots_and_an_export_their_tags(backed: Path, tmp_path: Path) -> None:
    with Store.open(backed) as store:
        made = snapshots.put(store, "second", "v1", message="Before", who=WHO)
        change(store, "second", "key-0", "later")
        git(backed / "workspaces/second", "tag", "plain")
        git(backed / "workspaces/second", "tag", "-d", "v1")  # what counts is what the store has
        export_workspace(backed, "second", tmp_path / "out")
        contents = backup.write(backed, tmp_path / "b.tar")
    assert [one.snapshots for one in contents.workspaces] == [("v1",), ()]
    assert git(tmp_path / "out", "rev-parse", "v1^{commit}").strip() == made.commit
    assert git(tmp_path / "out", "tag").split() == ["plain", "v1"]
    assert not (tmp_path / "out/.git/refs/gitstore").exists()
    sound(tmp_path / "out")
    backup.restore(tmp_path / "b.tar", tmp_path / "back")
    with Store.open(tmp_path / "back") as store:
        assert snapshots.contents(store, "second") == [made]
        then = Past(store).at(store.load("second"), "v1").snapshot.context
        assert then.memory["key-0"].value_json == b"0"
    assert git(tmp_path / "back/workspaces/second", "tag").split() == ["plain", "v1"]
    assert list(verify.verify(tmp_path / "back")) == []


def test_snapshots_are_there_after_a_stay_in_the_trash(backed: Path) -> None:
    with Store.open(backed) as store:
        made = snapshots.put(store, "second", "v1", who=WHO)
        store.delete("second", lambda _: None).result()
    with Store.open(backed) as store:
        trash.restore(store, trash.contents(store.layout)[0].id)
        assert snapshots.contents(store, "second") == [made]
