"""Snapshots seen with the real git: annotated tags that clones have, and that no push moves, deletes or shadows."""

from __future__ import annotations

from collections.abc import Callable

from contract.client import Client
from contract.conftest import Place, Server

from git.conftest import Clone, git

Make = Callable[..., Clone]


def test_git_shows_it_and_clones_have_it(admin: Client, place: Place, clone: Make) -> None:
    head = admin.patch(f"{place.at}/memory", {"key": "a", "value": 1}).data["head"]
    made = admin.post(f"{place.at}/artifacts", {"path": "x.txt", "content_base64": "eA=="}).data
    admin.put(f"{place.at}/snapshots/v1", {"message": "First\n\nmore words"})
    assert place.git("tag") == "v1"
    assert place.git("rev-parse", "v1^{commit}") == head
    assert place.git("cat-file", "-t", "v1") == "tag"
    text = place.git("show", "-s", "v1")
    assert "First" in text
    assert f"Gitstore-Evidence: {made['commit']}" in text
    place.git("fsck", "--strict")
    copy = clone()
    assert copy.git("tag") == "v1"
    assert copy.git("rev-parse", "v1") == place.git("rev-parse", "v1")
    assert "admin key" in copy.git("for-each-ref", "--format=%(taggername)", "refs/tags/v1")
    git(copy.folder, "fsck", "--strict")
    assert copy.git("show", "v1:memory/a.yaml").endswith("1")


def test_no_push_moves_deletes_or_shadows_it(admin: Client, place: Place, clone: Make) -> None:
    admin.put(f"{place.at}/snapshots/v1")
    copy = clone()
    tag = copy.git("rev-parse", "v1")
    copy.commit("memory/b.yaml", "2\n")
    copy.git("tag", "-f", "v1")
    copy.git("tag", "V1")
    copy.git("tag", "free")
    for words in (
        ("--force", "refs/tags/v1"),
        ("--delete", "v1"),
        ("refs/tags/V1",),
        ("refs/tags/free:refs/tags/v1/x",),
    ):
        done = copy.push(*words)
        assert done.code != 0, words
        assert "snapshot" in done.text or "in the way" in done.text, done.text
    assert copy.push("refs/tags/free").code == 0
    assert copy.push("--delete", "free").code == 0
    assert copy.git("ls-remote", "origin", "refs/tags/*").splitlines()[0].split()[0] == tag
    assert admin.get(f"{place.at}/snapshots/v1").data["commit"] == place.record["head"]
    assert copy.push("HEAD:main").code == 0  # the rest goes on as ever


def test_what_somebody_does_to_the_tag_in_the_folder_is_seen_by_nobody_else(
    server: Server, admin: Client, place: Place, clone: Make
) -> None:
    first = place.record["head"]
    admin.put(f"{place.at}/snapshots/v1")
    admin.patch(f"{place.at}/memory", {"key": "a", "value": 1})
    place.published()
    tag = place.git("rev-parse", "v1")
    place.git("tag", "-f", "v1", "HEAD")
    assert clone().git("rev-parse", "v1") == tag
    place.git("tag", "-d", "v1")
    place.git("tag", "v1/below", "HEAD")
    copy = clone()
    assert copy.git("tag") == "v1"
    assert copy.git("rev-parse", "v1^{commit}") == first
    assert admin.get(f"{place.at}/memory?at=v1").data == {}
    place.git("pack-refs", "--all")
    assert admin.get(f"{place.at}/snapshots/v1").data["commit"] == first
    assert admin.delete(f"{place.at}/snapshots/v1").status == 204
    assert admin.get(f"{place.at}/snapshots").data == []
    assert clone().git("tag") == "v1/below"


def test_gc_keeps_what_a_snapshot_names(admin: Client, place: Place) -> None:
    admin.patch(f"{place.at}/memory", {"key": "a", "value": 1})
    admin.put(f"{place.at}/snapshots/v1")
    place.published()
    place.git("tag", "-d", "v1")
    place.git("gc", "-q", "--prune=now")
    assert admin.get(f"{place.at}/memory?at=v1").data == {"a": 1}
    assert admin.get(f"{place.at}/snapshots/v1").data["name"] == "v1"
