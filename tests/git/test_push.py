"""Push with the real git: what it brings is everywhere before it returns, or nothing of it is anywhere."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from contract.client import Client
from contract.conftest import Place, Server, serving

from git.conftest import ENVIRONMENT, Clone, address, git, run

Make = Callable[..., Clone]


def refs(place: Place) -> dict[str, str]:
    shown = place.git("for-each-ref", "--format=%(objectname) %(refname)")
    return {name: oid for oid, name in (line.split(" ") for line in shown.splitlines())}


def test_a_push_is_in_the_api_the_folder_and_search_before_it_returns(place: Place, admin: Client, clone: Make) -> None:
    copy = clone()
    head = copy.commit("memory/release-policy.yaml", "# by hand\nowner: rosa\n", "memory: who owns it")
    done = copy.push()
    assert done.code == 0, done.text
    assert place.read()["head"] == head
    assert place.read()["memory"] == {"release-policy": {"owner": "rosa"}}
    assert (place.folder / "memory/release-policy.yaml").read_text() == "# by hand\nowner: rosa\n"
    assert place.git("status", "--porcelain") == ""
    assert place.git("rev-parse", "HEAD") == head
    assert admin.get(f"{place.at}/timeline").data[0]["id"] == head
    assert place.git("fsck", "--strict") == ""


def test_pushes_and_api_writes_take_turns(place: Place, admin: Client, clone: Make) -> None:
    copy = clone()
    for n in range(4):
        admin.patch(f"{place.at}/memory", {"key": f"api-{n}", "value": n})
        refused = copy.commit(f"memory/git-{n}.yaml", f"{n}\n") and copy.push()
        assert refused.code != 0
        assert "fetch first" in refused.text
        copy.git("pull", "-q", "--no-rebase", "--no-edit")
        done = copy.push()
        assert done.code == 0, done.text
        copy.git("pull", "-q")  # a merge whose first parent is not the old head is joined by the server
    memory = place.read()["memory"]
    assert memory == {f"{who}-{n}": n for n in range(4) for who in ("api", "git")}


def test_a_merge_the_other_way_round_is_joined_and_the_terminal_says_so(
    place: Place, admin: Client, clone: Make
) -> None:
    copy = clone()
    mine = copy.commit("memory/mine.yaml", "1\n")
    newest = admin.patch(f"{place.at}/memory", {"key": "other", "value": 2}).data["head"]
    copy.git("pull", "-q", "--no-rebase", "--no-edit")
    done = copy.push()
    assert done.code == 0, done.text
    head = place.read()["head"]
    assert head != copy.head
    assert "joins yours with what was there" in done.text
    assert f"..{head[:7]}" in done.text  # `option new-oid` told git
    place.published()
    assert place.git("rev-parse", f"{head}^1", f"{head}^2").split() == [newest, copy.head]
    place.git("merge-base", "--is-ancestor", mine, head)


def test_every_fault_is_named_with_its_place_and_nothing_is_taken(place: Place, clone: Make) -> None:
    copy = clone()
    head = place.read()["head"]
    copy.write("memory/release-policy.yaml", "owner: rosa\nnotify: all\nowner: ida\n")
    copy.write("memory/list.yaml", "- [1\n")
    copy.write("README.md", "# fine\n")
    copy.commit()
    copy.git("tag", "with-it")
    done = copy.push("HEAD:main", "with-it", "HEAD:refs/heads/side")
    assert done.code != 0
    assert (
        "remote: memory/release-policy.yaml:3:1: the key 'owner' stands twice in one map — remove one of them"
        in done.text
    )
    assert "remote: memory/list.yaml:" in done.text
    assert "2 problems" in done.text
    assert "another part of this push was refused" in done.text
    assert place.read()["head"] == head
    assert set(refs(place)) == {"refs/heads/main", "refs/gitstore/main"}
    assert not list((place.folder / ".git/gitstore").glob("incoming-*"))
    copy.write("memory/release-policy.yaml", "owner: rosa\n")
    copy.write("memory/list.yaml", "- 1\n")
    copy.commit()
    assert copy.push().code == 0


def test_a_fault_that_was_there_before_refuses_nothing(place: Place, clone: Make) -> None:
    place.published()
    (place.folder / "memory").mkdir(exist_ok=True)
    (place.folder / "memory/old.yaml").write_text("a: 1\na: 2\n")
    place.git("add", "-A")
    place.git("-c", "user.name=Ida", "-c", "user.email=ida@northgate.example", "commit", "-qm", "by hand")
    copy = clone()
    assert (copy.folder / "memory/old.yaml").exists()
    copy.commit("memory/new.yaml", "1\n")
    done = copy.push()
    assert done.code == 0, done.text
    copy.commit("memory/old.yaml", "a: 1\na: 3\n")
    assert "memory/old.yaml:2:1" in copy.push().text


def test_main_and_evidence_only_go_forward(place: Place, admin: Client, clone: Make) -> None:
    admin.patch(f"{place.at}/memory", {"key": "a", "value": 1})
    copy = clone()
    before = place.read()["head"]
    copy.git("commit", "-q", "--amend", "-m", "rewritten")
    for words in (["--force", "HEAD:main"], ["HEAD:main"], ["--force", "HEAD~1:main"], [":main"], [":evidence"]):
        done = copy.push(*words)
        assert done.code != 0, done.text
    assert place.read()["head"] == before


def test_branches_and_tags_are_kept_as_they_are(place: Place, clone: Make) -> None:
    copy = clone()
    first = copy.head
    second = copy.commit("memory/anything.yaml", "a: 1\na: 2\n")
    copy.git("tag", "-a", "v1", "-m", "one")
    copy.git("tag", "light")
    done = copy.push(f"{first}:refs/heads/topic/one", "HEAD:refs/heads/idea", "v1", "light")
    assert done.code == 0, done.text
    assert {ref: oid for ref, oid in refs(place).items() if "gitstore" not in ref} == {
        "refs/heads/main": first, "refs/heads/topic/one": first, "refs/heads/idea": second,
        "refs/tags/v1": copy.git("rev-parse", "v1"), "refs/tags/light": second,
    }  # fmt: skip
    assert "folder of the other" in copy.push("HEAD:refs/heads/topic").text
    place.git("pack-refs", "--all")
    done = copy.push("--force", f"{first}:refs/heads/idea", ":refs/heads/topic/one", ":v1")
    assert done.code == 0, done.text
    kept = refs(place)
    assert kept["refs/heads/idea"] == first
    assert "refs/heads/topic/one" not in kept
    assert "refs/tags/v1" not in kept
    done = copy.push("HEAD:refs/heads/topic")  # the folder that the deleted branch left is not in the way
    assert done.code == 0, done.text
    assert run(place.folder, "fsck", "--strict", "--no-dangling").text == ""


def test_other_refs_are_refused(place: Place, clone: Make) -> None:
    copy = clone()
    before = refs(place) if place.published() else {}
    for ref in ("refs/gitstore/main", "refs/notes/commits", "refs/stash", "refs/remotes/origin/x", "refs/heads/Main",
                "refs/heads/-x", "refs/heads/HEAD", "refs/meta/config", "refs/for/evidence"):  # fmt: skip
        done = copy.push(f"HEAD:{ref}")
        assert done.code != 0, ref
        assert "rejected" in done.text, done.text
    place.git("checkout", "-q", "-b", "mine")
    try:
        changed = copy.commit("x.md", "x") and copy.push("HEAD:refs/heads/mine")
        assert "checked out in the workspace's folder" in changed.text
    finally:
        place.git("checkout", "-q", "main")
        place.git("branch", "-D", "mine")
    assert refs(place) == before


def test_who_may_push(server: Server, place: Place, clone: Make) -> None:
    for scope in ("agent", "worker"):
        copy = clone(scope=scope)
        copy.commit("x.md", scope)
        done = copy.push()
        assert done.code != 0
        assert f"remote: pushing needs a key of scope admin or stronger; yours has scope {scope}" in done.text
    copy = clone(scope="service")
    copy.commit("x.md", "service")
    assert copy.push().code == 0


def test_a_setting_lets_agents_push(tmp_path: Path) -> None:
    with serving(tmp_path / "data", git_push_scope="agent") as other, other.client() as admin:
        place = Place(other, admin)
        git(tmp_path, "clone", "-q", address(other, place.slug, "agent"), str(tmp_path / "copy"))
        copy = Clone(tmp_path / "copy", "")
        head = copy.commit("memory/by-agent.yaml", "1\n")
        assert copy.push().code == 0
        assert place.read()["head"] == head


def test_executable_bits_are_told(place: Place, clone: Make) -> None:
    copy = clone()
    copy.write("run.sh", "#!/bin/sh\n")
    (copy.folder / "run.sh").chmod(0o755)
    copy.commit()
    done = copy.push()
    assert done.code == 0, done.text
    assert "remote: note: run.sh is executable" in done.text
    assert (place.folder / "run.sh").stat().st_mode & 0o111 == 0


def test_a_slug_that_is_pushed_renames_the_folder(place: Place, admin: Client, clone: Make) -> None:
    copy = clone()
    text = (copy.folder / "workspace.yaml").read_text()
    copy.commit("workspace.yaml", text.replace(f"slug: {place.slug}", f"slug: {place.slug}-b"))
    done = copy.push()
    assert done.code == 0, done.text
    assert place.read()["slug"] == f"{place.slug}-b"
    assert (place.folder.parent / f"{place.slug}-b/workspace.yaml").exists()
    assert copy.commit("x.md", "x")
    assert copy.push().code == 0  # by its old name


def test_evidence_that_is_pushed_is_in_the_explorer(place: Place, admin: Client, clone: Make) -> None:
    copy = clone()
    copy.git("checkout", "-q", "--orphan", "evidence")
    copy.git("rm", "-rfq", "--ignore-unmatch", ".")
    copy.write("artifacts/0a/1b/nightly/report.md", "# Nightly zebra report\n")
    head = copy.commit()
    done = copy.push("HEAD:evidence")
    assert done.code == 0, done.text
    rows = admin.get(f"{place.at}/artifacts?q=zebra").data
    assert len(rows) == 1, rows
    place.published()
    assert place.git("rev-parse", "evidence") == head
    copy.write("artifacts/0a/1b/nightly/artifact.yaml", "path: [1\n")
    copy.commit()
    assert "evidence/artifacts/0a/1b/nightly/artifact.yaml:" in copy.push("HEAD:evidence").text


def test_a_large_request_and_one_in_chunks(place: Place, clone: Make) -> None:
    copy = clone("-c", "http.postBuffer=65536")
    copy.write("notes/noise.bin", os.urandom(3 << 20))
    head = copy.commit()
    assert copy.push().code == 0
    assert place.read()["head"] == head


@pytest.mark.parametrize("words", [("--depth", "1"), ("--filter=blob:none",)])
def test_a_push_from_a_shallow_or_partial_clone(
    place: Place, admin: Client, clone: Make, words: tuple[str, ...]
) -> None:
    for n in range(3):
        admin.patch(f"{place.at}/memory", {"key": "count", "value": n})
    copy = clone(*words)
    head = copy.commit("x.md", "from afar")
    done = copy.push()
    assert done.code == 0, done.text
    assert place.read()["head"] == head


def test_two_pushes_race_and_one_wins(place: Place, clone: Make) -> None:
    copies = [clone(), clone()]
    for n, copy in enumerate(copies):
        copy.commit(f"memory/racer-{n}.yaml", f"{n}\n")
    for _ in range(3):
        runs = [
            subprocess.Popen(["git", "push", "-q", "origin", "HEAD:main"], cwd=copy.folder, env=ENVIRONMENT,
                             stderr=subprocess.PIPE, text=True) for copy in copies
        ]  # fmt: skip
        said = [each.communicate(timeout=60)[1] for each in runs]
        codes = [each.returncode for each in runs]
        assert sorted(code != 0 for code in codes) == [False, True], said
        lost = codes.index(next(code for code in codes if code))
        assert "fetch first" in said[lost]
        for n, copy in enumerate(copies):
            copy.git("pull", "-q", "--no-rebase", "--no-edit")
            copy.commit(f"memory/racer-{n}.yaml", f"{time.monotonic_ns()}\n")
            if n == lost:
                assert copy.push().code == 0
        copies[1 - lost].git("pull", "-q", "--no-rebase", "--no-edit")
        for n, copy in enumerate(copies):
            copy.git("pull", "-q", "--no-rebase", "--no-edit")
            copy.commit(f"memory/racer-{n}.yaml", f"{time.monotonic_ns()}\n")


def test_an_atomic_push(place: Place, clone: Make) -> None:
    copy = clone()
    head = copy.commit("x.md", "x")
    copy.git("tag", "t")
    done = copy.run("push", "--atomic", "origin", "HEAD:main", "t")
    assert done.code == 0, done.text
    assert refs(place)["refs/tags/t"] == head


def test_without_a_git_program(tmp_path: Path) -> None:
    with serving(tmp_path / "data", git_binary=None) as plain, plain.client() as admin:
        place = Place(plain, admin)
        git(tmp_path, "clone", "-q", address(plain, place.slug), str(tmp_path / "copy"))
        copy = Clone(tmp_path / "copy", "")
        for n in range(3):
            head = copy.commit("memory/notes.yaml", "".join(f"line-{i}: {i * n}\n" for i in range(400)))
            done = copy.push()
            assert done.code == 0, done.text
            assert place.read()["head"] == head
        copy.commit("memory/notes.yaml", "a: 1\na: 2\n")
        assert "memory/notes.yaml:2:1" in copy.push().text
        assert place.read()["head"] == head
        assert run(place.folder, "fsck", "--strict").code == 0
