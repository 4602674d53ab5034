"""Folders among the workspaces: put there, renamed, exchanged, copied, moved away and back, watched or not."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import started
from unit.folders import ID, plain

from gitstore import workspaces
from gitstore.live import Live
from gitstore.watching import _below

from .living import API, SETTLE, Living, git, save, sound, until


@pytest.fixture(params=["running", "stopped", "unwatched"])
def living(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Living]:
    options = {"watch": False, "sweep": 0.1} if request.param == "unwatched" else {}
    made = Living(tmp_path / "data", **options).start()
    made.mode = request.param  # type: ignore[attr-defined]
    yield made
    made.stop()


def do(living: Living, what: Callable[[], object]) -> None:
    """Does something to the folders, while the server is running or while it is not."""
    if living.mode == "stopped":  # type: ignore[attr-defined]
        living.restart(what)
    else:
        what()


def top(living: Living) -> Path:
    return living.store.layout.workspaces


def test_a_plain_folder_is_taken_in(living: Living, tmp_path: Path) -> None:
    folder = plain(tmp_path / "outside")
    do(living, lambda: shutil.copytree(folder, top(living) / "bakery"))
    until(lambda: "bakery" in living.slugs())
    assert living.slugs()["bakery"] == ID
    assert set(living.memory("bakery")) == {"release-policy", "a/b"}
    living.rest("bakery")
    here = top(living) / "bakery"
    assert (here / "files/notes.md").read_bytes() == b"# Notes\r\nwith CRLF\r\n"
    assert (here / "memory/release-policy.yaml").read_text() == "days: [mon, tue]\nwho: 'Ada'  # asks first\n"
    assert living.workspace("bakery").visible.evidence.oid is not None
    save(here / "memory/new.yaml", "1\n")
    until(lambda: "new" in living.memory("bakery"))
    living.rest("bakery")
    sound(here)


def test_a_clone_keeps_what_it_has(living: Living, tmp_path: Path) -> None:
    source = plain(tmp_path / "source")
    git(source, "init", "-q", "-b", "main")
    git(source, "add", "-A")
    git(source, "reset", "-q", "evidence")
    git(source, "commit", "-qm", "all")
    git(source, "branch", "idea")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(source), str(clone))
    git(clone, "branch", "-q", "--track", "idea", "origin/idea")
    save(clone / "README.md", "stashed\n")
    git(clone, "stash", "-q")
    git(clone, "tag", "v1")
    head = git(clone, "rev-parse", "HEAD")
    do(living, lambda: os.rename(clone, top(living) / "bakery"))
    until(lambda: "bakery" in living.slugs())
    here = top(living) / "bakery"
    living.rest("bakery")
    git(here, "merge-base", "--is-ancestor", head, "main")
    assert git(here, "remote", "get-url", "origin") == str(source)
    assert {"idea", "v1"} <= set(git(here, "for-each-ref", "--format=%(refname:short)").splitlines())
    living.set("api", 1, "bakery")
    git(here, "stash", "pop", "-q")
    until(lambda: living.main("README.md", "bakery") == b"stashed\n")
    living.rest("bakery")
    sound(here)


def test_a_renamed_folder_renames_the_workspace(living: Living) -> None:
    shop = living.make()
    identity = living.slugs()["shop"]
    do(living, lambda: os.rename(shop, top(living) / "bakery"))
    until(lambda: living.slugs() == {"bakery": identity})
    assert living.workspace("shop").id == identity  # the old name answers
    until(lambda: b"slug: bakery" in (living.main("workspace.yaml", "bakery") or b""))
    living.set("k", 1, "bakery")
    living.rest("bakery")
    assert not shop.exists()
    save(top(living) / "bakery/memory/mine.yaml", "1\n")
    until(lambda: "mine" in living.memory("bakery"))
    living.rest("bakery")
    sound(top(living) / "bakery")


def test_a_slug_changed_in_the_file_renames_the_folder(living: Living) -> None:
    shop = living.make()
    identity = living.slugs()["shop"]
    text = (shop / "workspace.yaml").read_text().replace("slug: shop", "slug: bakery   # better")
    do(living, lambda: save(shop / "workspace.yaml", text))
    if living.mode != "stopped":  # type: ignore[attr-defined]
        until(lambda: (top(living) / "bakery/memory").exists())
    until(lambda: living.slugs() == {"bakery": identity} and (top(living) / "bakery/memory").exists())
    assert living.workspace("shop").id == identity
    assert not shop.exists()
    living.rest("bakery")
    sound(top(living) / "bakery")


def test_where_both_are_changed_the_folder_wins(living: Living) -> None:
    shop = living.make()
    identity = living.slugs()["shop"]

    def both() -> None:
        save(shop / "workspace.yaml", (shop / "workspace.yaml").read_text().replace("slug: shop", "slug: other"))
        os.rename(shop, top(living) / "bakery")

    do(living, both)
    until(lambda: living.slugs() == {"bakery": identity})
    until(lambda: b"slug: bakery" in (living.main("workspace.yaml", "bakery") or b""))
    time.sleep(5 * SETTLE)
    assert living.slugs() == {"bakery": identity}


@pytest.mark.parametrize("name", ["not a slug", "taken", "TAKEN", "-x", "a.git"])
def test_a_name_that_cannot_be_is_given_back(living: Living, name: str) -> None:
    shop = living.make()
    taken = living.make("taken")
    wanted = living.slugs()
    if name == "taken":
        return  # no folder can be renamed to one that is there
    do(living, lambda: os.rename(shop, top(living) / name))
    until(lambda: shop.exists() and not (top(living) / name).exists(), what=lambda: os.listdir(top(living)))
    assert living.slugs() == wanted
    living.set("k", 1)
    living.rest()
    sound(shop)
    sound(taken)


def test_two_folders_are_exchanged(living: Living) -> None:
    one, two = living.make("one", a=1), living.make("two", b=2)
    before = living.slugs()

    def exchange() -> None:
        os.rename(one, top(living) / ".aside")
        os.rename(two, one)
        os.rename(top(living) / ".aside", two)

    do(living, exchange)
    wanted = {"one": before["two"], "two": before["one"]}
    until(lambda: living.slugs() == wanted, what=living.slugs)
    until(lambda: b"slug: two" in (living.main("workspace.yaml", "two") or b""))
    assert living.memory("two") == {"a": 1}
    living.set("k", 1, "one")
    for slug in ("one", "two"):
        living.rest(slug)
        sound(top(living) / slug)


def test_a_folder_is_moved_away_and_back(living: Living, tmp_path: Path) -> None:
    shop, other = living.make(), living.make("other")
    identity = living.slugs()["shop"]
    timeline = [entry.id for entry in living.timeline()]
    do(living, lambda: os.rename(shop, tmp_path / "away"))
    until(lambda: set(living.slugs()) == {"other"})
    do(living, lambda: save(tmp_path / "away/memory/meanwhile.yaml", "1\n"))
    do(living, lambda: os.rename(tmp_path / "away", shop))
    until(lambda: living.slugs().get("shop") == identity)
    until(lambda: "meanwhile" in living.memory())
    assert [entry.id for entry in living.timeline()][-len(timeline) :] == timeline
    living.rest()
    sound(shop)
    sound(other)


@pytest.mark.parametrize("name", ["a-copy", "zz-copy"])
def test_a_copy_is_told_and_not_taken_for_the_workspace(living: Living, name: str) -> None:
    shop = living.make()
    identity = living.slugs()["shop"]
    # As `cp -r` does; the store may have made folders in it by then.
    do(living, lambda: shutil.copytree(shop, top(living) / name, dirs_exist_ok=True))
    told = until(lambda: [one for one in living.problems() if one.kind == "duplicate_id"], what=living.problems)
    assert (told[0].path, len(told)) == (name, 1)
    assert living.slugs() == {"shop": identity}
    save(top(living) / name / "memory/wrong.yaml", "1\n")
    save(shop / "memory/right.yaml", "1\n")
    until(lambda: "right" in living.memory())
    assert "wrong" not in living.memory()
    assert (top(living) / name / "memory/wrong.yaml").exists()
    do(living, lambda: shutil.rmtree(top(living) / name))
    until(lambda: not living.problems(), what=living.problems)


def test_a_clone_of_a_workspace_is_told_too(living: Living, tmp_path: Path) -> None:
    shop = living.make()
    git(tmp_path, "clone", "-q", str(shop), str(tmp_path / "clone"))
    do(living, lambda: os.rename(tmp_path / "clone", top(living) / "clone"))
    until(lambda: [one for one in living.problems() if one.kind == "duplicate_id"], what=living.problems)
    assert set(living.slugs()) == {"shop"}
    do(living, lambda: shutil.rmtree(top(living) / "clone"))
    until(lambda: not living.problems(), what=living.problems)


def test_an_empty_folder_waits(living: Living) -> None:
    do(living, (top(living) / "fresh").mkdir)
    living.make()
    time.sleep(3 * SETTLE)
    assert set(living.slugs()) == {"shop"}
    save(top(living) / "fresh/memory/k.yaml", "1\n")
    until(lambda: "fresh" in living.slugs())
    assert living.memory("fresh") == {"k": 1}


def test_a_folder_with_faults_is_left_as_it_is_until_it_is_mended(
    living: Living, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = plain(tmp_path / "outside", **{"memory/bad.yaml": "a: [\n"})
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with caplog.at_level(logging.WARNING):
        do(living, lambda: shutil.copytree(folder, top(living) / "bakery"))
        until(lambda: "memory/bad.yaml" in caplog.text)
    here = top(living) / "bakery"
    assert living.slugs() == {}
    assert {folder / path.relative_to(here): path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
    assert list(living.live.folders.refused) == ["bakery"]
    do(living, lambda: save(here / "memory/bad.yaml", "a: []\n"))
    until(lambda: "bakery" in living.slugs())
    until(lambda: not living.live.folders.refused)
    living.rest("bakery")
    sound(here)


def test_a_folder_that_is_still_being_copied_waits(living: Living) -> None:
    """Also where rounds look at it all the time; then it is one import, and nothing of it an edit."""
    if living.mode == "stopped":  # type: ignore[attr-defined]
        return
    here = top(living) / "bakery"
    for number in range(30):
        save(here / f"memory/k{number:02}.yaml", "1\n")
        living.live.settling.lost()
        time.sleep(SETTLE / 4)
        assert living.slugs() == {}
    until(lambda: "bakery" in living.slugs())
    assert len(living.memory("bakery")) == 30
    assert len(living.timeline("bakery")) == 1


def test_a_clone_that_is_still_coming_waits(living: Living, tmp_path: Path) -> None:
    """A repository without a commit and without files is about to become something."""
    if living.mode == "stopped":  # type: ignore[attr-defined]
        return
    source = plain(tmp_path / "source")
    shutil.rmtree(source / "evidence")
    git(source, "init", "-q", "-b", "main")
    git(source, "add", "-A")
    git(source, "commit", "-qm", "all")
    here = top(living) / "bakery"
    git(top(living), "init", "-q", "bakery")
    until(lambda: not living.live.settling.waiting)
    time.sleep(4 * SETTLE)
    assert living.slugs() == {}
    git(here, "pull", "-q", str(source), "main")
    until(lambda: "bakery" in living.slugs())
    living.rest("bakery")
    assert git(here, "log", "--format=%s").splitlines()[-1] == "all"
    sound(here)


def test_one_folder_that_cannot_be_does_not_hold_up_the_others(living: Living) -> None:
    shop, other = living.make(), living.make("other")

    def tangle() -> None:
        os.rename(shop, top(living) / "not a slug")
        shop.mkdir()  # and its own name is gone
        save(shop / "note.txt", "mine\n")
        os.rename(other, top(living) / "bakery")

    do(living, tangle)
    until(lambda: "bakery" in living.slugs(), what=living.slugs)
    save(top(living) / "bakery/memory/k.yaml", "1\n")
    until(lambda: "k" in living.memory("bakery"))


def test_commands_beside_a_running_server(tmp_path: Path) -> None:
    living = Living(tmp_path / "data").start()
    try:
        shop = living.make()
        folder = plain(tmp_path / "outside")

        def gitstore(*words: str) -> tuple[int, str]:
            done = started.run(*words, cwd=tmp_path)
            return done.returncode, done.stdout + done.stderr

        code, said = gitstore("import", str(folder), "--data", str(living.data))
        assert code != 0
        assert "stop it first" in said
        code, said = gitstore("export", "shop", str(tmp_path / "export"), "--data", str(living.data))
        assert code == 0, said
        save(shop / "memory/bad.yaml", "a: [\n")
        code, said = gitstore("check", str(shop))
        assert code != 0
        assert "memory/bad.yaml" in said
        assert living.slugs().keys() == {"shop"}
    finally:
        living.stop()


# -- watching ----------------------------------------------------------------------------------------------------------


def test_an_overflow_of_the_queue_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    before = limit.read_text()
    try:
        limit.write_text("16")
    except OSError:
        pytest.skip("max_queued_events cannot be set here")
    living = Living(tmp_path / "data")
    watching = living.live.watching
    assert watching is not None
    going, real = threading.Event(), watching.on_event

    def slow(event: Any) -> None:
        """The reader stands still while more happens than the kernel remembers."""
        if event.name == b"0.txt":
            going.wait(30)
        real(event)

    monkeypatch.setattr(watching, "on_event", slow)
    try:
        living.start()
        until(lambda: watching.watched)  # the limit holds for what is made now
        limit.write_text(before)
        shop = living.make()
        living.make("other")
        save(shop / "files/here/first.txt", "x\n")
        living.rest()
        here = os.fsencode("shop/files/here")
        until(lambda: here in watching._watches)
        for number in range(100):
            save(shop / f"files/here/{number}.txt", "x\n")
        for number in range(400):
            save(shop / f"files/deep{number % 7}/{number}.txt", "x\n")
        os.rename(living.folder("other"), tmp_path / "data/workspaces/bakery")
        going.set()
        until(lambda: sum(path.startswith("files/deep") for path in living.files()) == 400, 30)
        until(lambda: sum(path.startswith("files/here") for path in living.files()) == 101, 30)
        until(lambda: "bakery" in living.slugs())
        until(lambda: watching.overflows > 0)  # it stands last in the queue
        save(shop / "files/deep3/late.txt", "x\n")  # folders that were made meanwhile are watched
        until(lambda: "files/deep3/late.txt" in living.files())
    finally:
        limit.write_text(before)
        living.stop()


def test_when_watches_run_out_the_round_finds_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    living = Living(tmp_path / "data", sweep=0.1)
    assert living.live.watching is not None
    living.live.watching.most = 3
    with caplog.at_level(logging.WARNING):
        living.start()
        try:
            for name in ("one", "two", "three"):
                save(living.make(name) / "files/deep/er/x.txt", "x\n")
            for name in ("one", "two", "three"):
                until(lambda: "files/deep/er/x.txt" in living.files(name))  # noqa: B023
            assert living.live.watching.watched <= 3
        finally:
            living.stop()
    assert caplog.text.count("no more folders can be watched") == 1


def test_where_nothing_can_be_watched_the_round_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none() -> object:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr("gitstore.watching.InotifyFD", none)
    living = Living(tmp_path / "data", sweep=0.1)
    with caplog.at_level(logging.WARNING):
        living.start()
    try:
        save(living.make() / "memory/k.yaml", "1\n")
        until(lambda: "k" in living.memory())
    finally:
        living.stop()
    assert "found by the periodic round" in caplog.text


def test_watches_follow_the_folders(tmp_path: Path) -> None:
    living = Living(tmp_path / "data").start()
    try:
        shop, watching = living.make(), living.live.watching
        assert watching is not None
        living.rest()
        before = len(list(_below(os.fsencode(living.store.layout.workspaces), b"")))  # the last may not be known yet
        until(lambda: watching.watched == before, what=lambda: watching.watched)
        for number in range(20):
            save(shop / f"files/a{number}/b/c.txt", "x\n")
        until(lambda: watching.watched == before + 41)
        os.rename(shop / "files", tmp_path / "files")
        until(lambda: watching.watched == before)
        os.rename(tmp_path / "files", shop / "files")
        until(lambda: watching.watched == before + 41)
        shutil.rmtree(shop / "files")
        until(lambda: watching.watched == before)
        os.rename(shop, tmp_path / "away")
        until(lambda: watching.watched == 1)
        os.rename(tmp_path / "away", shop)
        until(lambda: watching.watched == before)
    finally:
        living.stop()


def test_a_store_with_live_folders_starts_and_stops_at_once(tmp_path: Path) -> None:
    living = Living(tmp_path / "data")
    for _ in range(3):
        living.live.start()
        living.live.stop()
        living.live = Live(living.store, settle=SETTLE, sweep=3600.0)
    living.store.close()


def test_a_workspace_that_is_made_or_renamed_during_a_round_is_there(tmp_path: Path) -> None:
    """A round lists the folders first; what the API does after that is no doing of a person's."""
    living = Living(tmp_path / "data", watch=False)
    try:
        folders, listed = living.live.folders, living.store.homes.all

        def late(work: Callable[[], object]) -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(living.store.homes, "all", lambda: (listed(), work())[0])
                folders.reconcile()

        late(living.make)
        assert set(living.slugs()) == {"shop"}

        def rename() -> None:
            living.store.apply("shop", "main", lambda draft: workspaces.update(draft, {"slug": "bakery"}), API).result()
            living.publish("bakery")

        late(rename)
        assert set(living.slugs()) == {"bakery"}
        assert living.workspace("bakery").repository.root == str(living.folder("bakery"))
        living.set("k", 1, "bakery")
        sound(living.folder("bakery"))
    finally:
        living.store.close()
