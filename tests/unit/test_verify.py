"""Every kind of damage is found, told with its place, and nothing else is: a sound store has no finding."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from folders import ID, WHO, change, fill, git, plain, write

from gitstore import accord, snapshots
from gitstore.errors import FormatUnknown, NotFound
from gitstore.importing import import_folder
from gitstore.keys import Keys
from gitstore.search import Document
from gitstore.store import Options, Store
from gitstore.verify import Finding, sound, verify


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store: an imported workspace with evidence, one made by changes, a sealed token, a key."""
    root = tmp_path_factory.mktemp("verify")
    with Store.open(root / "data") as store:
        import_folder(store, plain(root / "shop"))
        fill(store, keys=30, settings={"credentials": {"git_token": "s3cr3t-t0ken"}})
        change(store, "shop", "one", 1)
        Keys.open(store.layout.keys, token_key=bytes(32)).create("admin", "a")
    return root / "data"


@pytest.fixture
def data(master: Path, tmp_path: Path) -> Path:
    """A copy; file times are kept, inodes are not, which the index notices and verification must not mind."""
    shutil.copytree(master, tmp_path / "data", symlinks=True)
    return tmp_path / "data"


def errors(data: Path) -> list[Finding]:
    return [finding for finding in verify(data) if finding.severity == "error"]


def flip(path: Path, at: int = -30) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def loose(data: Path, what: str) -> Path:
    home = data / "workspaces/shop"
    oid = git(home, "rev-parse", what).strip()
    return home / ".git/objects" / oid[:2] / oid[2:]


def test_a_sound_store_has_no_finding(data: Path) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert list(verify(data)) == []
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_nor_has_one_in_use(data: Path) -> None:
    with Store.open(data) as store:
        for number in range(10):
            change(store, "live", f"new-{number}", number)
            assert sound(verify(data))


def test_a_flipped_bit_in_a_loose_object(data: Path) -> None:
    flip(loose(data, "main:README.md"), 8)
    found = errors(data)
    assert {finding.place.split(":")[-1] for finding in found} >= {"README.md"}
    assert any(".git/objects/" in finding.place for finding in found)


def test_a_flipped_bit_in_a_pack(data: Path) -> None:
    home = data / "workspaces/live"
    git(home, "repack", "-adq")
    assert sound(verify(data))
    flip(next((home / ".git/objects/pack").glob("*.pack")), 600)
    assert any("workspaces/live/.git/objects/pack/pack-" in finding.place for finding in errors(data))


def test_a_flipped_bit_in_a_pack_index(data: Path) -> None:
    home = data / "workspaces/live"
    git(home, "repack", "-adq")
    flip(next((home / ".git/objects/pack").glob("*.idx")))
    assert any("pack-" in finding.place for finding in errors(data))


@pytest.mark.parametrize("what", ["main", "main^{tree}", "main:memory", "main:README.md", "evidence", "main~1"])
def test_a_missing_object(data: Path, what: str) -> None:
    path = loose(data, what)
    path.unlink()
    (finding,) = [finding for finding in errors(data) if finding.place.startswith("workspaces/shop")]
    assert path.parent.name + path.name in finding.message


def test_an_object_in_the_place_of_another(data: Path) -> None:
    path, other = loose(data, "main:README.md"), loose(data, "main:settings.yaml")
    path.chmod(0o644)
    path.write_bytes(other.read_bytes())
    assert any("altered" in finding.message for finding in errors(data))


def test_a_ref_that_is_no_commit(data: Path) -> None:
    refs = data / "workspaces/shop/.git/refs"
    (refs / "heads/main").write_text("not a commit\n")
    assert any("cannot be read" in finding.message for finding in errors(data))
    (refs / "heads/main").write_text("1" * 40 + "\n")
    assert any("no commit here" in finding.message for finding in errors(data))
    (refs / "gitstore/main").write_text("2" * 40 + "\n")
    assert any("2222222222" in finding.message for finding in errors(data))
    (refs / "gitstore/main").unlink()
    assert any("no main branch" in finding.message for finding in errors(data))


def test_a_branch_that_was_put_back(data: Path) -> None:
    """Both refs say the same and every object is whole: only the indexes know better."""
    home = data / "workspaces/shop"
    old = git(home, "rev-parse", "main~1")
    (home / ".git/refs/heads/main").write_text(old)
    (home / ".git/refs/gitstore/main").write_text(old)
    assert any(finding.place.startswith("derived/history.sqlite (shop") for finding in errors(data))


def test_a_commit_by_hand_is_no_damage(data: Path) -> None:
    home = data / "workspaces/shop"
    write(home, {"README.md": "by hand\n"})
    (finding,) = verify(data)
    assert (finding.severity, finding.message) == ("warning", "files differ from what is committed: README.md")
    git(home, "commit", "-qam", "by hand")
    (finding,) = verify(data)
    assert finding.severity == "warning"
    assert "moved by somebody's git" in finding.message
    with Store.open(data) as store:
        store.publisher.publish(store.load("shop"))
    assert list(verify(data)) == []


def test_a_torn_index(data: Path) -> None:
    index = data / "workspaces/shop/.git/index"
    whole = index.read_bytes()
    index.write_bytes(whole[: len(whole) // 2])
    (finding,) = errors(data)
    assert finding.place == "workspaces/shop/.git/index"
    flip(index, 40)
    assert errors(data)[0].place == "workspaces/shop/.git/index"
    index.unlink()
    assert "missing or empty" in errors(data)[0].message
    git(data / "workspaces/shop", "reset", "-q")
    assert list(verify(data)) == []


def test_a_document_that_cannot_be_read(data: Path) -> None:
    home = data / "workspaces/shop"
    write(home, {"memory/bad.yaml": "a: [\n"})
    git(home, "add", "-A")
    git(home, "commit", "-qm", "bad")
    with Store.open(data) as store:
        store.publisher.publish(store.load("shop"))
    (finding,) = errors(data)
    assert finding.place.startswith("workspaces/shop:memory/bad.yaml:2:")


@pytest.mark.parametrize(
    ("database", "statement", "word"),
    [
        ("catalog", "DELETE FROM tasks", "task build is not in the catalog"),
        ("catalog", "DELETE FROM artifacts", "is not in the catalog"),
        ("catalog", "UPDATE workflows SET id='other'", "workflow"),
        ("catalog", "UPDATE tasks SET id='other'", "task build is not as"),
        ("catalog", "UPDATE artifacts SET size=0", "listed with other facts"),
        ("catalog", "DELETE FROM workspaces WHERE id='" + ID + "'", "does not know the workspace"),
        ("catalog", "UPDATE indexed SET evidence=NULL", "evidence up to None"),
        ("history", "UPDATE commits SET name='something else'", "says something else"),
        ("history", "DELETE FROM commits WHERE seq=(SELECT max(seq) FROM commits)", "history.sqlite"),
    ],
)
def test_an_edited_index(data: Path, database: str, statement: str, word: str) -> None:
    connection = sqlite3.connect(data / f"derived/{database}.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()
    found = errors(data)
    assert any(word in f"{finding.place} {finding.message}" for finding in found), found
    assert accord.reindex(data, Options()) == 2
    assert list(verify(data)) == []


def fed(store: Store) -> None:
    """Waits until everything is in the search index, on disk."""
    until = time.monotonic() + 30
    while store.derived.standing().index != "ready":
        assert time.monotonic() < until
        time.sleep(0.01)
    store.search.flush()


def test_the_search_index_against_git_document_by_document(data: Path) -> None:
    with Store.open(data) as store:
        fed(store)
        assert list(verify(data, search=True)) == []  # beside a server
        one = next(iter(store.catalog.workspaces()))
        store.search.put(one, Document("memory", "ghost", "ghost", "nobody wrote this"))
        kind, id_ = next(iter(store.search.proofs()[one]))
        store.search.remove(one, kind, id_)
        store.search.flush()
    found = [finding.message for finding in verify(data, search=True) if finding.severity == "error"]
    assert found == sorted(
        ["memory ghost is in the index and not in git", f"{kind} {id_} is in git and not in the index"],
        key=lambda text: text.split(" is ")[0],
    )
    accord.reindex(data, Options())
    assert list(verify(data, search=True)) == []


def test_damaged_index_files(data: Path) -> None:
    with Store.open(data) as store:
        fed(store)
    flip(data / "derived/catalog.sqlite", 4096 + 3)
    segment = max((data / "derived/search").glob("MAIN_*.trm"), key=lambda path: path.stat().st_size)
    flip(segment, 50)
    places = {finding.place for finding in errors(data)}
    assert {"derived/catalog.sqlite", "derived/search"} <= places
    accord.reindex(data, Options())
    assert list(verify(data)) == []


@pytest.mark.parametrize("there", [False, True], ids=["not there", "there"])
def test_indexes_are_made_again_once(data: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    if not there:
        shutil.rmtree(data / "derived")
        assert {finding.severity for finding in verify(data)} == {"warning"}
    opened, real = [], Store.open

    def counted(*given: Any, **more: Any) -> Store:
        opened.append(given)
        return real(*given, **more)

    monkeypatch.setattr(Store, "open", counted)
    accord.reindex(data, Options())
    assert len(opened) == 1
    assert list(verify(data)) == []


def test_reindexing_keeps_when_keys_were_used(data: Path) -> None:
    with Store.open(data) as store:
        store.catalog.key_used("kabc", 123)
        before = store.search.losses
        assert accord.reindex(data, Options()) == 2  # beside an open store: search alone
        assert store.search.losses == before + 1
        assert store.derived.standing().index == "ready"
    accord.reindex(data, Options())
    with Store.open(data) as store:
        assert store.catalog.keys_used() == {"kabc": 123}


def test_sealed_secrets(data: Path) -> None:
    (sealed,) = [path for path in (data / "secrets").iterdir() if len(path.name) == 36]
    whole = sealed.read_bytes()
    sealed.write_bytes(whole[:-9])
    assert [finding.place for finding in errors(data)] == [f"secrets/{sealed.name}"]
    sealed.write_bytes(whole.replace(b'"secrets":{"git_token"', b'"secrets":{"git_t0ken"'))
    assert "altered" in errors(data)[0].message
    sealed.write_bytes(whole)
    (data / "secrets/key").rename(data / "secrets/gone")
    assert [finding.place for finding in errors(data)] == ["secrets/key"]
    assert "another master key" in next(verify(data, secret_key="x" * 40)).message
    (data / "secrets/gone").rename(data / "secrets/key")
    sealed.rename(sealed.with_name("00000000-0000-4000-8000-000000000000"))
    assert {finding.message for finding in verify(data)} >= {"belongs to no workspace"}


def test_keys(data: Path) -> None:
    keys = data / "keys.yaml"
    text = keys.read_text()
    keys.write_text(text + "  oops\n")
    assert [finding.place for finding in errors(data)] == ["keys.yaml"]
    keys.write_text(text)
    keys.chmod(0o644)
    (finding,) = verify(data)
    assert (finding.severity, finding.place) == ("warning", "keys.yaml")


def test_a_journal_that_lost_its_middle(data: Path) -> None:
    store = Store.open(data)
    try:
        store.publisher.stop()
        change(store, "live", "a", 1)
        store.journal.rotate()
        change(store, "live", "b", 2)
        change(store, "live", "c", 3)
        first = sorted((data / "journal").iterdir())[0]
        assert sound(verify(data))
        flip(first, -5)
        assert any(finding.place == "journal" for finding in errors(data))
    finally:
        store.close()


def test_a_store_that_was_killed_is_behind_but_not_broken(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "killed"
    with Store.open(data) as store:
        store.publisher.stop()
        change(store, "live", "late", 1)
        shutil.copytree(data, copy)
    findings = list(verify(copy))
    assert sound(findings), findings
    Store.open(copy).close()
    assert list(verify(copy)) == []


def _move_id(home: Path) -> None:
    (home / ".git/gitstore/id").write_text("11111111-1111-4111-8111-111111111111\n")


def _lose_head(home: Path) -> None:
    (home / ".git/HEAD").unlink()


def _lose_config(home: Path) -> None:
    shutil.rmtree(home / ".git/refs")


@pytest.mark.parametrize("harm", [_move_id, _lose_head, _lose_config])
def test_other_harm(data: Path, harm: Callable[[Path], None]) -> None:
    harm(data / "workspaces/shop")
    assert errors(data)


def test_two_folders_of_one_workspace(data: Path) -> None:
    shutil.copytree(data / "workspaces/shop", data / "workspaces/shop2")
    assert any("id of another workspace" in finding.message for finding in errors(data))


def test_no_store_and_a_newer_one(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list(verify(tmp_path / "nothing"))
    (data / "store.yaml").write_text("format: 99\n")
    with pytest.raises(FormatUnknown):
        list(verify(data))


def test_snapshots(data: Path) -> None:
    with Store.open(data) as store:
        made = snapshots.put(store, "shop", "v1", who=WHO)
        snapshots.put(store, "shop", "v2", who=WHO)
    assert list(verify(data)) == []
    home = data / "workspaces/shop"
    git(home, "tag", "-f", "v1", "HEAD~1")
    git(home, "tag", "-d", "v2")
    found = list(verify(data))
    assert [(one.severity, one.place) for one in found] == [("warning", "workspaces/shop")] * 2
    assert "v1" in found[0].message
    with Store.open(data):
        pass  # puts them back
    assert list(verify(data)) == []
    assert git(home, "rev-parse", "v1").strip() == made.tag
    (home / ".git/objects" / made.tag[:2] / made.tag[2:]).unlink()
    assert next(one.message for one in errors(data)).startswith("the snapshot v1 cannot be read")
