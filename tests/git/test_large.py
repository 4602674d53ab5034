"""Large files in a live folder: the folder has the content, git has pointers, and a person's git notices nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitstore import artifacts, backup, content, exporting, files, importing, restoring, verify
from gitstore.lfs import Pointer
from gitstore.lfs.pointer import decode
from gitstore.store import Options, Store

from .living import API, Living, git, save, sound, until

LIMIT = 4096


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    made = Living(tmp_path_factory.mktemp("large") / "data", Options(large_bytes=LIMIT)).start()
    yield made
    made.stop()


@pytest.fixture
def shop(living: Living, request: pytest.FixtureRequest) -> Path:
    folder = living.make(slug(request))
    git(folder, "config", "user.name", "Rosa Vidal")
    git(folder, "config", "user.email", "rosa@northgate.example")
    return folder


def slug(request: pytest.FixtureRequest) -> str:
    return hashlib.sha256(request.node.name.encode()).hexdigest()[:8] + "-shop"


def big(seed: str, size: int = 100_000) -> bytes:
    return (hashlib.sha256(seed.encode()).digest() * (size // 32 + 1))[:size]


def pointer(data: bytes) -> Pointer:
    return Pointer(hashlib.sha256(data).hexdigest(), len(data))


def put(living: Living, shop: Path, name: str, data: bytes) -> str:
    """Stores a file as the API does, and shows it in the folder; its path."""
    upload = files.upload(file_name=name, content=data)
    outcome = living.store.apply(shop.name, "main", lambda draft: files.put(draft, [upload]), API).result()
    living.publish(shop.name)
    return outcome.value[0].file.path


def in_main(living: Living, shop: Path, path: str) -> Pointer | None:
    return decode(living.main(path, shop.name) or b"")


def attributes(shop: Path) -> list[str]:
    return [line.split(" ", 1)[0] for line in (shop / ".gitattributes").read_text().splitlines()]


def test_what_the_api_stores_is_a_pointer_in_git_and_the_content_in_the_folder(living: Living, shop: Path) -> None:
    data = big("api")
    path = put(living, shop, "über plan [1].bin", data)
    assert in_main(living, shop, path) == pointer(data)
    assert (shop / path).read_bytes() == data
    assert attributes(shop) == [f"/{path}".replace(" ", "[[:space:]]").replace("[1]", "\\[1\\]")]
    assert git(shop, "check-attr", "filter", "--", path).endswith(": filter: lfs")
    sound(shop)
    os.utime(shop / path)  # git must look into it now, and asks the filter
    sound(shop)
    snapshot = living.workspace(shop.name).visible
    (stored,) = snapshot.context.files.values()
    found = content.of(snapshot, stored)
    assert (found.size, found.sha256) == (len(data), pointer(data).oid)
    assert b"".join(found.chunks(1000)) == data
    object_ = Path(snapshot.objects.path(pointer(data).oid))
    assert os.stat(object_).st_nlink == 2
    assert not os.path.samefile(object_, shop / path)
    living.store.apply(shop.name, "main", lambda draft: files.delete(draft, stored.key), API).result()
    living.publish(shop.name)
    assert not (shop / ".gitattributes").exists()
    assert not (shop / path).exists()
    sound(shop)


def test_what_a_person_saves_becomes_a_large_object_and_stays_their_file(living: Living, shop: Path) -> None:
    first, second = big("person"), big("person again", 70_001)
    save(shop / "files/video.mp4", first)
    until(lambda: in_main(living, shop, "files/video.mp4") == pointer(first))
    living.rest(shop.name)
    assert attributes(shop) == ["/files/video.mp4"]
    sound(shop)
    with open(shop / "files/video.mp4", "r+b") as file:  # in place, as a database does
        file.write(second)
        file.truncate()
    until(lambda: in_main(living, shop, "files/video.mp4") == pointer(second))
    living.rest(shop.name)
    sound(shop)
    assert living.store.objects(shop.name).has(*pointer(first))
    save(shop / "files/video.mp4", b"small by now")  # what the attributes cover is one whatever its size
    until(lambda: in_main(living, shop, "files/video.mp4") == pointer(b"small by now"))
    living.rest(shop.name)
    sound(shop)
    os.unlink(shop / "files/video.mp4")
    until(lambda: living.main("files/video.mp4", shop.name) is None)


def test_the_api_never_replaces_a_large_file_that_a_person_is_editing(living: Living, shop: Path) -> None:
    path = put(living, shop, "model.bin", big("one"))
    living.store.publisher.publish(living.workspace(shop.name))
    mine = big("mine")
    with living.workspace(shop.name).publishing:  # the edit comes between the API's change and its publication
        upload = files.upload(file_name="model.bin", content=big("theirs"))
        living.store.apply(shop.name, "main", lambda draft: files.put(draft, [upload]), API).result()
        (shop / path).write_bytes(mine)
    until(lambda: living.codes(shop.name).get(path) == "conflict")
    assert (shop / path).read_bytes() == mine
    assert in_main(living, shop, path) == pointer(big("theirs"))
    (problem,) = living.problems(shop.name)
    assert problem.values is not None
    assert problem.values["file"] == {"size_bytes": len(mine), "sha256": pointer(mine).oid}
    living.resolve(problem, take="file", slug=shop.name)
    living.rest(shop.name)
    assert in_main(living, shop, path) == pointer(mine)
    assert living.problems(shop.name) == ()
    sound(shop)


@pytest.mark.parametrize("client", ["gitstore", "git-lfs"])
def test_a_persons_git_adds_stashes_and_switches_with_large_files(living: Living, shop: Path, client: str) -> None:
    environ = {}
    if client == "git-lfs":
        if shutil.which("git-lfs") is None:
            if os.environ.get("REQUIRE_LFS"):
                pytest.fail("git-lfs is not installed")
            pytest.skip("git-lfs is not installed")
        git(shop, "lfs", "install", "--local", "--force")
    data, other = big(f"{client} first"), big(f"{client} other")
    path = put(living, shop, "a.bin", data)
    git(shop, "checkout", "-q", "-b", "aside", environ=environ)
    (shop / path).write_bytes(other)
    (shop / "files/b.psd").write_bytes(other + b"b")
    with open(shop / ".gitattributes", "a") as file:
        file.write("*.psd filter=lfs diff=lfs merge=lfs -text\n")
    git(shop, "add", "-A")
    assert decode(git(shop, "show", f":{path}").encode() + b"\n") == pointer(other)
    git(shop, "stash", "-q")
    assert (shop / path).read_bytes() == data
    git(shop, "stash", "pop", "-q")
    assert (shop / path).read_bytes() == other
    git(shop, "commit", "-qam", "a video")
    git(shop, "checkout", "-q", "main")
    assert (shop / path).read_bytes() == data
    assert not (shop / "files/b.psd").exists()
    git(shop, "merge", "-q", "--no-edit", "aside")
    until(lambda: in_main(living, shop, "files/b.psd") == pointer(other + b"b"))
    living.rest(shop.name)
    assert (shop / path).read_bytes() == other
    assert os.stat(living.store.objects(shop.name).path(pointer(other).oid)).st_nlink == 2
    assert living.problems(shop.name) == ()
    sound(shop)


def test_a_pointer_without_its_object_is_told_and_never_lost(living: Living, shop: Path) -> None:
    missing = Pointer("ab" * 32, 5)
    put(living, shop, "there.bin", big("there"))
    with open(shop / ".gitattributes", "a") as file:
        file.write("*.psd filter=lfs diff=lfs merge=lfs -text\n")
    save(shop / "files/lost.psd", missing.encode())
    until(lambda: living.codes(shop.name).get("files/lost.psd") == "large_missing")
    assert (shop / "files/lost.psd").read_bytes() == missing.encode()
    git(shop, "add", "-A")
    git(shop, "commit", "-qm", "a pointer of a commit of mine")
    until(lambda: in_main(living, shop, "files/lost.psd") == missing)
    until(lambda: living.codes(shop.name) == {"files/lost.psd": "large_missing"})
    save(shop / "files/lost.psd", b"01234")  # something else, at last
    until(lambda: in_main(living, shop, "files/lost.psd") == pointer(b"01234"))
    until(lambda: living.problems(shop.name) == ())
    sound(shop)


def test_a_damaged_object_never_becomes_a_persons_edit(living: Living, shop: Path) -> None:
    path = put(living, shop, "plan.bin", big("sound"))
    sound_then = git(shop, "rev-parse", "main").strip()
    put(living, shop, "plan.bin", big("next"))
    place = Path(living.store.objects(shop.name).path(pointer(big("sound")).oid))
    place.chmod(0o644)
    place.write_bytes(big("rotten"))
    restoring.restore(living.store, shop.name, sound_then, API).result()
    living.publish(shop.name)
    assert (shop / path).read_bytes() == pointer(big("sound")).encode()
    assert git(shop, "status", "--porcelain") == ""
    put(living, shop, "other.bin", big("sound"))  # the same content again mends it
    assert place.read_bytes() == big("sound")
    (shop / path).unlink()
    git(shop, "checkout", "--", path)
    assert (shop / path).read_bytes() == big("sound")


def test_the_filter_is_found_again_after_the_store_or_its_program_moved(tmp_path: Path) -> None:
    living = Living(tmp_path / "data", Options(large_bytes=LIMIT)).start()
    try:
        shop = living.make("moved-shop")
        path = put(living, shop, "a.bin", big("moved"))
        configuration = (shop / ".git/gitstore/config").read_text()
        mine = (shop / ".git/config").read_text()

        def move() -> None:
            (shop / ".git/gitstore/config").write_text(configuration.replace("filter.py", "gone.py"))
            (shop / ".git/config").write_text(mine.partition("[include]")[0] + "# mine\n")
            living.data = living.data.rename(tmp_path / "elsewhere")

        living.restart(move)
        shop = living.folder("moved-shop")
        assert (shop / ".git/gitstore/config").read_text() == configuration
        assert "# mine\n[include]" in (shop / ".git/config").read_text()
        os.utime(shop / path, (time.time() - 60, time.time() - 60))
        sound(shop)
        living.crash()
        sound(living.folder("moved-shop"))
    finally:
        living.stop()


# -- other ways in and out -----------------------------------------------------------------------------------------


def test_large_objects_travel_with_exports_copies_and_backups(living: Living, shop: Path, tmp_path: Path) -> None:
    data, proof = big("travels"), big("travels as evidence")
    path = put(living, shop, "travels.bin", data)
    new = artifacts.check(artifacts.New("out/proof.bin", proof))
    made = living.store.apply(shop.name, "evidence", lambda draft: artifacts.add(draft, new), API).result().value
    living.publish(shop.name)
    out = tmp_path / "out"
    exporting.export_workspace(living.data, shop.name, out)
    assert (out / path).read_bytes() == data
    (shown,) = out.glob("evidence/artifacts/*/*/*/proof.bin")
    assert shown.read_bytes() == proof
    git(out, "fsck", "--strict")
    copied = importing.import_folder(living.store, out, slug=f"copy-of-{shop.name}", new_id=True)
    assert copied.notes == ()
    folder = living.folder(copied.slug)
    assert (folder / path).read_bytes() == data
    sound(folder)
    one, other = living.store.objects(shop.name), living.store.objects(copied.slug)
    for held in (data, proof):
        assert os.path.samefile(one.path(pointer(held).oid), other.path(pointer(held).oid))
    snapshot = living.workspace(copied.slug).visible
    (row,) = [facts for facts in living.store.catalog.artifacts(copied.id) if facts.path == made.path]
    found = content.of(snapshot, row)
    assert (row.size, row.sha256, b"".join(found.chunks())) == (len(proof), pointer(proof).oid, proof)
    assert list(verify.verify(living.data)) == []
    file = tmp_path / "backup.tar"
    held = backup.write(living.data, file)
    assert held.format == 2
    with tarfile.open(file) as tar:
        members = [member.name for member in tar if member.name.startswith("large/")]
    assert len(members) == len(set(members))
    assert f"large/{pointer(proof).oid}" in members
    backup.restore(file, tmp_path / "restored")
    restored = tmp_path / "restored/workspaces"
    assert (restored / shop.name / path).read_bytes() == data
    Store.open(tmp_path / "restored").close()
    assert list(verify.verify(tmp_path / "restored")) == []
    places = [restored / name / f".git/lfs/objects/{pointer(data).oid[:2]}/{pointer(data).oid[2:4]}/{pointer(data).oid}"
              for name in (shop.name, copied.slug)]  # fmt: skip
    assert os.path.samefile(*places)
    places[0].unlink()
    places[1].chmod(0o644)
    places[1].write_bytes(data[:-1] + b"?")
    said = {finding.place: finding.message for finding in verify.verify(tmp_path / "restored")}
    assert "is missing" in said[f"workspaces/{shop.name}:{path}"]
    assert any("damaged large object" in text for text in said.values())


def test_plain_folders_and_clones_with_large_files_are_taken_in(living: Living, shop: Path, tmp_path: Path) -> None:
    data, proof = big("plain"), big("plain proof")
    plain = tmp_path / "plain-shop"
    (plain / "files").mkdir(parents=True)
    (plain / "files/a.bin").write_bytes(data)
    (plain / "evidence/artifacts/run").mkdir(parents=True)
    (plain / "evidence/artifacts/run/proof.bin").write_bytes(proof)
    (plain / "evidence/artifacts/run/artifact.yaml").write_text("path: out/proof.bin\n")
    taken = importing.import_folder(living.store, plain)
    folder = living.folder(taken.slug)
    assert attributes(folder) == ["/files/a.bin"]
    assert in_main(living, folder, "files/a.bin") == pointer(data)
    (row,) = living.store.catalog.artifacts(taken.id)
    assert (row.path, row.size, row.sha256) == ("out/proof.bin", len(proof), pointer(proof).oid)
    sound(folder)
    dropped = living.store.layout.workspaces / f"dropped-{shop.name}"
    shutil.copytree(folder, tmp_path / "aside", symlinks=True)
    shutil.rmtree(tmp_path / "aside/.git/gitstore")
    text = (tmp_path / "aside/workspace.yaml").read_text()
    (tmp_path / "aside/workspace.yaml").write_text(text.replace(taken.id, "11111111-2222-4333-8444-555555555555"))
    git(tmp_path / "aside", "update-ref", "-d", "refs/heads/evidence")
    shutil.rmtree(tmp_path / "aside/.git/refs/gitstore")
    git(tmp_path / "aside", "-c", "user.name=R", "-c", "user.email=r@x", "commit", "-qm", "mine", "workspace.yaml")
    os.rename(tmp_path / "aside", dropped)
    until(lambda: dropped.name in living.slugs(), seconds=30)
    assert (dropped / "files/a.bin").read_bytes() == data
    assert os.stat(living.store.objects(dropped.name).path(pointer(data).oid)).st_nlink == 3
    living.rest(dropped.name)
    sound(dropped)
