"""What somebody may put into a live folder to have the server read, write or wait outside of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from git.living import API, SETTLE, Living, git, save, until

SECRET = "the: outside-4711\n"


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    made = Living(tmp_path / "data", file_limit=1 << 20).start()
    yield made
    made.stop()


@pytest.fixture
def shop(living: Living) -> Path:
    folder = living.make(policy=1, other=1)
    save(folder / "files/deep/a.txt", "a\n")
    until(lambda: "files/deep/a.txt" in living.files())
    living.rest()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may touch, and its state before and after."""
    folder = tmp_path / "outside"
    save(folder / "policy.yaml", SECRET)
    save(folder / "a.txt", SECRET)
    before = state(folder)
    yield folder
    assert state(folder) == before


def state(folder: Path) -> list[object]:
    return sorted(
        (str(path.relative_to(folder)), path.lstat().st_size, path.lstat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    )


def goes_on(living: Living, shop: Path) -> None:
    """The server neither hangs nor stumbles: an edit and an API write go through, and no secret is in `main`."""
    mark = f"mark-{time.monotonic_ns()}"
    save(shop / f"memory/{mark}.yaml", "1\n")
    until(lambda: mark in living.memory(), what=living.problems)
    living.set("policy", time.monotonic_ns())
    living.set("brand-new", time.monotonic_ns())
    for path in living.files():
        assert b"outside-4711" not in (living.main(path) or b"")


def test_a_link_in_the_place_of_a_file(living: Living, shop: Path, outside: Path) -> None:
    place = shop / "memory/policy.yaml"
    place.unlink()
    os.symlink(outside / "policy.yaml", place)
    os.symlink(outside / "a.txt", shop / "files/new.txt")
    os.symlink("/etc/passwd", shop / "README.md")
    os.symlink("nowhere", shop / "dangling")
    wanted = dict.fromkeys(("memory/policy.yaml", "files/new.txt", "README.md", "dangling"), "not_a_file")
    until(lambda: living.codes() == wanted, what=living.problems)
    goes_on(living, shop)
    assert place.is_symlink()
    assert living.memory()["policy"] != {"the": "outside-4711"}
    for path in wanted:
        (shop / path).unlink()
    save(place, "2\n")
    until(lambda: {one.kind for one in living.problems()} <= {"conflict"}, what=living.problems)


@pytest.mark.parametrize("path", ["memory", "files", "files/deep"])
def test_a_link_in_the_place_of_a_folder(living: Living, shop: Path, outside: Path, path: str) -> None:
    """What was in the folder is not gone for that: nobody can see whether it is."""
    files = living.files()
    os.rename(shop / path, shop.parent.parent / "aside")
    os.symlink(outside, shop / path)
    until(lambda: living.codes().get(path) == "not_a_file", what=living.problems)
    if path == "memory":
        living.set("policy", 5)
        living.set("new", 6)
        save(shop / "note.md", "x\n")
        until(lambda: "note.md" in living.files())
        files |= {"memory/new.yaml", "note.md"}
    else:
        goes_on(living, shop)
        files |= living.files()
    assert living.files() == files
    assert living.codes() == {path: "not_a_file"}
    (shop / path).unlink()
    os.rename(shop.parent.parent / "aside", shop / path)
    until(lambda: not living.problems(), what=living.problems)
    assert living.files() == files


def test_the_folder_itself_becomes_a_link(living: Living, shop: Path, outside: Path, tmp_path: Path) -> None:
    """A workspace that was moved away is gone, whatever leads to it."""
    away = tmp_path / "away"
    os.rename(shop, away)
    os.symlink(away, shop)
    before = state(away)
    living.store.apply("shop", "main", lambda draft: draft.write("README.md", b"from the API\n"), API).result()
    until(lambda: living.store.publisher.failures, what=living.slugs)
    time.sleep(5 * SETTLE)
    assert state(away) == before
    shop.unlink()
    os.rename(away, shop)
    until(lambda: (shop / "README.md").exists())
    living.rest()
    goes_on(living, shop)


def test_its_repository_becomes_a_link(living: Living, shop: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    os.rename(shop / ".git", away)
    os.symlink(away, shop / ".git")
    before = state(away)
    living.store.apply("shop", "main", lambda draft: draft.write("README.md", b"from the API\n"), API).result()
    until(lambda: living.store.publisher.failures)
    save(shop / "memory/other.yaml", "2\n")
    time.sleep(5 * SETTLE)
    assert state(away) == before
    (shop / ".git").unlink()
    os.rename(away, shop / ".git")
    until(lambda: (shop / "README.md").exists(), what=living.problems)
    until(lambda: living.memory()["other"] == 2)


def test_links_among_the_workspaces(living: Living, shop: Path, outside: Path, tmp_path: Path) -> None:
    os.symlink(outside, shop.parent / "linked")
    os.mkfifo(shop.parent / "pipe")
    save(shop.parent / "file", "x")
    save(outside.parent / "real/memory/k.yaml", "1\n")
    other = shop.parent / "other"
    other.mkdir()
    os.symlink(tmp_path / "real/memory", other / "memory")
    until(lambda: "other" in living.live.folders.refused, what=lambda: living.live.folders.refused)
    git(tmp_path, "init", "-q", "elsewhere")
    gitfile = shop.parent / "gitfile"
    gitfile.mkdir()
    save(gitfile / ".git", f"gitdir: {tmp_path}/elsewhere/.git\n")
    save(gitfile / "memory/k.yaml", "1\n")
    until(lambda: "gitfile" in living.live.folders.refused, what=lambda: living.live.folders.refused)
    goes_on(living, shop)
    assert set(living.slugs()) == {"shop"}
    living.restart()
    goes_on(living, shop)
    assert set(living.slugs()) == {"shop"}


def test_hard_links(living: Living, shop: Path, outside: Path) -> None:
    place = shop / "memory/policy.yaml"
    place.unlink()
    os.link(outside / "policy.yaml", place)
    os.link(outside / "a.txt", shop / "files/new.txt")
    until(lambda: living.codes() == dict.fromkeys(("memory/policy.yaml", "files/new.txt"), "hard_link"))
    goes_on(living, shop)
    assert os.path.samefile(place, outside / "policy.yaml")
    (shop / "files/new.txt").unlink()
    place.unlink()
    save(place, "2\n")


def test_pipes_sockets_and_devices(living: Living, shop: Path) -> None:
    os.unlink(shop / "memory/policy.yaml")
    os.mkfifo(shop / "memory/policy.yaml")
    os.mkfifo(shop / "files/pipe")
    os.mkfifo(shop / ".gitignore")
    os.mkfifo(shop / "files/deep/.gitignore")
    wanted = dict.fromkeys(
        ("memory/policy.yaml", "files/pipe", ".gitignore", "files/deep/.gitignore", "socket"), "not_a_file"
    )
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(shop)
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
    if os.getuid() == 0:
        os.mknod(shop / "files/zero", 0o20666, os.makedev(1, 5))
        wanted["files/zero"] = "not_a_file"
    until(lambda: living.codes() == wanted, what=living.codes)
    goes_on(living, shop)


def test_pipes_in_the_repository(living: Living, shop: Path) -> None:
    (shop / ".git/info/exclude").unlink()
    os.mkfifo(shop / ".git/info/exclude")
    goes_on(living, shop)


def test_repositories_inside(living: Living, shop: Path) -> None:
    git(shop, "init", "-q", "files/nested")
    save(shop / "files/nested/a.txt", "x\n")
    save(shop / "files/pointed/.git", "gitdir: /etc\n")
    save(shop / "files/pointed/a.txt", "x\n")
    save(shop / "files/deep/.git/config", "x\n")
    save(shop / "files/upper/.GIT/config", "x\n")
    save(shop / "files/short/git~1/config", "x\n")
    save(shop / "files/joined/.g\u200cit/config", "x\n")
    save(shop / ".gitmodules", '[submodule "x"]\n\tpath = x\n\turl = /etc\n')
    before = living.files()
    told = {"files/nested": "repository", "files/pointed": "repository", "files/deep": "repository"}
    told |= {"files/upper/.GIT/config": "name", "files/short/git~1/config": "name", ".gitmodules": "name"}
    told |= {"files/joined/.g\u200cit/config": "name"}
    until(lambda: living.codes() == told, what=living.codes)
    goes_on(living, shop)
    assert not {path for path in living.files() - before if not path.startswith("memory/")}
    assert "files/deep/a.txt" in living.files()  # what was there before is not gone


def test_names(living: Living, shop: Path) -> None:
    root = os.fsencode(shop)
    for name in (
        b"files/a\nb",
        b"files/\xff\xfe.txt",
        b"files/back\\slash",
        b"files/con",
        b"files/x:y",
        b"files/bell\x07",
    ):
        with open(root + b"/" + name, "wb") as file:
            file.write(b"x\n")
    (shop / "files" / ("n" * 250)).write_text("x\n")
    deep = shop / "/".join(["d"] * 60)
    deep.mkdir(parents=True)
    save(deep / "a.txt", "x\n")
    until(lambda: len([code for code in living.codes().values() if code == "name"]) >= 5, what=living.codes)
    goes_on(living, shop)
    here = living.files()
    assert "files/" + "n" * 250 in here
    assert not [path for path in here if "\n" in path or "\\" in path or "\udcff" in path or path.endswith("/con")]
    assert not [path for path in here if path.startswith("d/d/d")]
    living.workspace().visible.record()  # it can be told as JSON


def test_a_huge_file(living: Living, shop: Path) -> None:
    """Neither taken in nor read, where nothing is known of it and where the server itself wants to write."""
    for path in (
        "files/huge.bin",
        "memory/policy.yaml",
        "memory/brand-new.yaml",
        ".gitignore",
        "files/deep/.gitignore",
    ):
        with open(shop / path, "wb") as file:
            file.truncate(1 << 40)
    until(lambda: living.codes().get("memory/policy.yaml") == "too_large", what=living.codes)
    goes_on(living, shop)
    assert living.codes()["files/huge.bin"] == "too_large"
    assert os.path.getsize(shop / "memory/policy.yaml") == 1 << 40


STARS = {
    "a million stars": "*" * 1_000_000 + "b\n",
    "stars with something between": "*a" * 200 + "b\n",
    "few stars in many lines": "*a*a*a*b\n" * 20_000,
    "a thousand folders": "**/" * 2000 + "b\n",
    "questions": "?" * 200 + "*?*?*?b\n",
    "classes": "[a]*[a-z]*[!b]*[a]*b\n" * 100,
    "a line without an end": "a" * 2_000_000,
    "open brackets": "[[[[[[[[[[*]\n[!\n[a-\n\\\n" * 100,
}


@pytest.mark.parametrize("what", STARS)
def test_ignore_patterns_that_never_end(living: Living, shop: Path, what: str) -> None:
    save(shop / ".gitignore", STARS[what])
    for number in range(20):
        (shop / f"files/{'a' * (230 + number)}").write_text("x\n")
    began = time.monotonic()
    goes_on(living, shop)
    assert time.monotonic() - began < 10


def test_the_folder_is_exchanged_for_a_link_while_it_is_looked_at(living: Living, shop: Path, outside: Path) -> None:
    """As fast as it can: now a folder, now a link to another. Nothing from there ever gets in, nothing of ours out."""
    end = time.monotonic() + 2
    aside = shop.parent.parent / "aside"
    number = 0
    while time.monotonic() < end:
        os.rename(shop / "memory", aside)
        os.symlink(outside, shop / "memory")
        living.store.apply(
            "shop",
            "main",
            lambda draft: draft.write("memory/policy.yaml", f"{number}\n".encode()),  # noqa: B023
            API,
        ).result()
        (shop / "memory").unlink()
        os.rename(aside, shop / "memory")
        number += 1
    until(lambda: not [code for code in living.codes().values() if code == "not_a_file"], what=living.codes)
    goes_on(living, shop)
    assert sorted(os.listdir(outside)) == ["a.txt", "policy.yaml"]


def test_what_is_deleted_while_it_is_looked_at(living: Living, shop: Path) -> None:
    for _ in range(20):
        for number in range(10):
            save(shop / f"files/t{number}/x.txt", "x\n")
        for number in range(10):
            with contextlib.suppress(FileNotFoundError):  # an empty folder may be gone a moment before
                shutil.rmtree(shop / f"files/t{number}")
    goes_on(living, shop)
    until(lambda: not any(path.startswith("files/t") for path in living.files()))
