"""A real git-lfs against a real server: clone, pull, push, locks, and every way in which an object is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract.client import Client
from contract.conftest import Place, Server

from .conftest import Clone, address, git, run
from .living import until

MEDIA = {"Content-Type": "application/vnd.git-lfs+json", "Accept": "application/vnd.git-lfs+json"}
TRACK = "*.psd filter=lfs diff=lfs merge=lfs -text\n"


@pytest.fixture
def lfs(tmp_path: Path) -> Callable[[Clone], Clone]:
    """Makes a clone one whose git has git-lfs."""
    if shutil.which("git-lfs") is None:
        if os.environ.get("REQUIRE_LFS"):
            pytest.fail("git-lfs is not installed")
        pytest.skip("git-lfs is not installed")

    def installed(clone: Clone) -> Clone:
        clone.git("lfs", "install", "--local")
        return clone

    return installed


def big(seed: str, size: int = 100_000) -> bytes:
    return (hashlib.sha256(seed.encode()).digest() * (size // 32 + 1))[:size]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pointer(data: bytes) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest(data)}\nsize {len(data)}\n".encode()


def at(slug: str, rest: str) -> str:
    return f"/git/{slug}.git/info/lfs/{rest}"


def ask(client: Client, slug: str, rest: str, body: Any) -> Any:
    return client.root("POST", at(slug, rest), body=json.dumps(body).encode(), headers=MEDIA)


def test_a_clone_gets_what_the_api_stored_and_its_push_gives_the_api_what_it_changed(
    place: Place, clone: Callable[..., Clone], lfs: Callable[[Clone], Clone], admin: Client, tmp_path: Path
) -> None:
    data = big("api", 5 << 20)
    body = {"file_name": "model.bin", "content_base64": base64.b64encode(data).decode()}
    made = admin.post(f"/workspaces/{place.id}/files", body)
    assert made.status == 201, made.body
    assert made.data["checksum_sha256"] == digest(data)
    plain = clone()
    assert plain.folder.joinpath("files/model.bin").read_bytes() == pointer(data)
    mine = lfs(clone())
    mine.git("lfs", "pull")
    assert mine.folder.joinpath("files/model.bin").read_bytes() == data
    assert mine.git("status", "--porcelain") == ""
    changed = data[:-1] + b"!"
    mine.commit("files/model.bin", changed)
    done = mine.push()
    assert done.code == 0, done.text
    assert mine.git("lfs", "fsck") == "Git LFS fsck OK"
    read = admin.get(f"/workspaces/{place.id}/files/model-bin")
    assert (read.data["size_bytes"], read.data["checksum_sha256"]) == (len(changed), digest(changed))
    sent = admin.root("GET", f"/api/v1/workspaces/{place.id}/files/model-bin/content")
    assert sent.body == changed
    part = admin.root("GET", f"/api/v1/workspaces/{place.id}/files/model-bin/content", headers={"Range": "bytes=-3"})
    assert (part.status, part.body) == (206, changed[-3:])
    diff = admin.get(f"/workspaces/{place.id}/diff?from={mine.git('rev-parse', 'HEAD~1')}&to={mine.head}")
    (one,) = diff.data["files"]
    assert (one["type"], one["old"], one["new"]) == (
        "binary",
        {"size": len(data), "digest": f"sha256:{digest(data)}"},
        {"size": len(changed), "digest": f"sha256:{digest(changed)}"},
    )


def test_a_push_of_objects_after_each_of_which_the_connection_is_closed(
    place: Place, clone: Callable[..., Clone], lfs: Callable[[Clone], Clone], admin: Client
) -> None:
    """Large bodies are read from the socket itself; git-lfs sends several at a time."""
    mine = lfs(clone())
    mine.commit(".gitattributes", TRACK.encode())
    contents = {f"files/{number}.psd": big(f"huge {number}", (20 << 20) + number) for number in range(4)}
    for path, data in contents.items():
        mine.commit(path, data)
    done = mine.push()
    assert done.code == 0, done.text
    for path, data in contents.items():
        name = path.rpartition("/")[2].replace(".", "-")
        assert admin.root("GET", f"/api/v1/workspaces/{place.id}/files/{name}/content").body == data


def test_a_push_without_the_object_is_refused_and_says_what_to_do(
    place: Place, clone: Callable[..., Clone], lfs: Callable[[Clone], Clone]
) -> None:
    mine = clone()
    data = big("not sent")
    mine.write(".gitattributes", TRACK)
    mine.commit("files/a.psd", pointer(data))  # as a git without git-lfs, whose user copied a pointer
    done = mine.push()
    assert done.code != 0
    assert f"points to a large object of {len(data)} bytes that is not here" in done.text
    assert "git lfs push" in done.text
    lfs(mine)
    mine.write("files/a.psd", data)
    mine.git("add", "files/a.psd")
    assert mine.git("status", "--porcelain") == ""
    done = mine.push()
    assert done.code == 0, done.text
    other = clone()
    lfs(other).git("lfs", "pull")
    assert other.folder.joinpath("files/a.psd").read_bytes() == data


def test_evidence_comes_with_a_clone_and_by_a_push(
    place: Place, clone: Callable[..., Clone], lfs: Callable[[Clone], Clone], admin: Client
) -> None:
    data = big("evidence", 5 << 20)
    made = admin.root(
        "POST",
        f"/api/v1/workspaces/{place.id}/artifacts?path=runs/video.mp4",
        body=data,
        headers={"Content-Type": "video/mp4"},
    )
    assert made.status == 201, made.body
    artifact = made.data
    assert (artifact["size_bytes"], artifact["checksum_sha256"]) == (len(data), digest(data))
    mine = lfs(clone("-b", "evidence"))
    mine.git("lfs", "pull")
    (folder,) = mine.folder.glob("artifacts/*/*/*")
    assert folder.joinpath("video.mp4").read_bytes() == data
    assert folder.joinpath(".gitattributes").read_text() == "/video.mp4 filter=lfs diff=lfs merge=lfs -text\n"
    mine.write("artifacts/pushed/.gitattributes", TRACK)
    pushed = "artifacts/aa/bb/pushed"
    mine.write(f"{pushed}/.gitattributes", TRACK)
    mine.write(f"{pushed}/drawing.psd", big("pushed"))
    shutil.rmtree(mine.folder / "artifacts/pushed")
    mine.commit()
    done = mine.push("HEAD:evidence")
    assert done.code == 0, done.text
    rows = admin.get(f"/workspaces/{place.id}/artifacts").data
    assert {row["logical_path"]: row["size_bytes"] for row in rows} == {
        "runs/video.mp4": len(data),
        "drawing.psd": 100_000,
    }
    (row,) = [row for row in rows if row["logical_path"] == "drawing.psd"]
    assert admin.root("GET", row["download_url"]).body == big("pushed")


def test_objects_are_those_of_one_workspace_and_only_what_they_say(
    place: Place, admin: Client, server: Server, tmp_path: Path
) -> None:
    other = Place(server, admin)
    data = big("secret of the other")
    oid = digest(data)
    asked = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(data)}]}
    row = ask(admin, other.slug, "objects/batch", asked).json["objects"][0]
    assert row["actions"]["upload"]["href"] == f"http://127.0.0.1:{server.port}" + at(other.slug, f"objects/{oid}")
    path = at(other.slug, f"objects/{oid}")
    for wrong, why in ((data[:-1] + b"?", "announced"), (data[:-1], "announced"), (b"", "announced")):
        refused = admin.root("PUT", path, body=wrong, headers={"Content-Type": "application/octet-stream"})
        assert refused.status == 422, refused.body
        assert why in refused.json["message"]
    assert ask(admin, other.slug, "verify", {"oid": oid, "size": len(data)}).status == 404
    assert admin.root("PUT", path, body=data).status == 200
    assert admin.root("PUT", path, body=data).status == 200
    assert ask(admin, other.slug, "verify", {"oid": oid, "size": len(data)}).status == 200
    assert ask(admin, other.slug, "verify", {"oid": oid, "size": 1}).status == 404
    assert admin.root("GET", path).body == data
    assert admin.root("GET", path, headers={"Range": "bytes=5-9"}).body == data[5:10]
    head = admin.root("HEAD", path)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(data)))
    # Knowing the id is not having the bytes.
    download = {"operation": "download", "objects": [{"oid": oid, "size": len(data)}]}
    (row,) = ask(admin, place.slug, "objects/batch", download).json["objects"]
    assert row["error"]["code"] == 404
    assert admin.root("GET", at(place.slug, f"objects/{oid}")).status == 404
    (row,) = ask(admin, other.slug, "objects/batch", download).json["objects"]
    assert "download" in row["actions"]
    (row,) = ask(admin, other.slug, "objects/batch", asked).json["objects"]
    assert "actions" not in row
    for odd in ("..%2f..%2fconfig", "A" * 64, "%2e%2e", oid[:-1], oid + "%00"):
        assert admin.root("GET", at(other.slug, f"objects/{odd}")).status == 422
        assert admin.root("PUT", at(other.slug, f"objects/{odd}"), body=b"x").status == 422
    bad = {"operation": "download", "objects": [{"oid": "../../config", "size": 1}, {"oid": oid, "size": 1}]}
    assert [row["error"]["code"] for row in ask(admin, other.slug, "objects/batch", bad).json["objects"]] == [422, 422]
    assert ask(admin, other.slug, "objects/batch", {"operation": "eat", "objects": []}).status == 422
    assert ask(admin, "nowhere", "objects/batch", download).status == 404
    with server.client("agent") as agent:
        assert agent.root("GET", path).body == data
        assert ask(agent, other.slug, "objects/batch", asked).status == 403
        assert agent.root("PUT", path, body=data).status == 403
        assert ask(agent, other.slug, "locks", {"path": "a"}).status == 403


def test_locks_are_those_of_git_lfs(
    place: Place, clone: Callable[..., Clone], lfs: Callable[[Clone], Clone], admin: Client, server: Server
) -> None:
    mine = lfs(clone())
    mine.git("config", "lfs.locksverify", "true")
    assert "Locked files/a.psd" in mine.git("lfs", "lock", "files/a.psd")
    assert mine.run("lfs", "lock", "files/a.psd").code != 0
    assert "files/a.psd" in mine.git("lfs", "locks")
    theirs = lfs(clone(scope="service"))
    theirs.git("config", "lfs.locksverify", "true")
    theirs.write(".gitattributes", TRACK.replace("-text", "-text lockable"))
    theirs.commit("files/a.psd", big("theirs"))
    done = theirs.push()
    assert done.code != 0
    assert "files/a.psd" in done.text
    assert theirs.run("lfs", "unlock", "--id", locks(admin, place)[0]["id"]).code != 0
    mine.git("lfs", "unlock", "files/a.psd", "--force")
    assert locks(admin, place) == []
    done = theirs.push()
    assert done.code == 0, done.text


def test_a_page_of_locks_is_never_too_large(place: Place, admin: Client) -> None:
    assert ask(admin, place.slug, "locks", {"path": "a"}).status == 201
    for limit in ("9" * 5000, "0", "-1", "x", "1"):
        answer = admin.root("GET", at(place.slug, f"locks?limit={limit}"))
        assert (answer.status, len(answer.json["locks"])) == (200, 1), limit[:9]


def test_there_are_only_so_many_locks(place: Place, admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitstore.lfs.locks.MOST", 2)
    assert [ask(admin, place.slug, "locks", {"path": path}).status for path in "ab"] == [201, 201]
    refused = ask(admin, place.slug, "locks", {"path": "c"})
    assert refused.status == 422
    assert "git lfs unlock" in refused.json["message"]
    assert [one["path"] for one in locks(admin, place)] == ["a", "b"]


def locks(client: Client, place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.root("GET", at(place.slug, "locks")).json["locks"]
    return found


def test_other_filters_are_refused_still(place: Place, clone: Callable[..., Clone]) -> None:
    mine = clone()
    mine.commit(".gitattributes", "*.psd filter=lfs\n*.sh filter=evil\n")
    done = mine.push()
    assert done.code != 0
    assert "names a program to run: filter=evil" in done.text


def test_a_clone_without_the_objects_pushes_what_it_did_not_touch(
    place: Place, server: Server, clone: Callable[..., Clone], lfs: Callable[[Clone], Clone], tmp_path: Path
) -> None:
    mine = lfs(clone())
    mine.write(".gitattributes", TRACK)
    mine.commit("files/a.psd", big("skipped"))
    assert mine.push().code == 0
    folder = tmp_path / "skipping"
    url = address(server, place.slug)
    git(tmp_path, "clone", "-q", "--filter=blob:none", url, str(folder), environ={"GIT_LFS_SKIP_SMUDGE": "1"})
    other = lfs(Clone(folder, url))
    assert (folder / "files/a.psd").read_bytes() == pointer(big("skipped"))
    other.commit("memory/owner.yaml", "rosa\n")
    done = other.push()
    assert done.code == 0, done.text
    assert run(folder, "lfs", "pull").code == 0
    assert (folder / "files/a.psd").read_bytes() == big("skipped")


def test_content_of_which_only_the_pointer_is_here_is_told_and_comes_with_its_object(
    place: Place, admin: Client, server: Server
) -> None:
    data = big("only the pointer")
    folder = place.published()
    (folder / ".gitattributes").write_text(TRACK)
    (folder / "files").mkdir(exist_ok=True)
    (folder / "files/lost.psd").write_bytes(pointer(data))
    who = ("-c", "user.name=R", "-c", "user.email=r@example.org")
    place.git("add", "-A")
    place.git(*who, "commit", "-qm", "a pointer")
    at_files = f"/workspaces/{place.id}/files"

    def told() -> bool:
        codes = [problem["code"] for problem in place.read()["problems"] if problem["path"] == "files/lost.psd"]
        return admin.get(f"{at_files}/lost-psd").status == 200 and "large_missing" in codes

    until(told)
    assert admin.get(f"{at_files}/lost-psd").data["size_bytes"] == len(data)
    gone = admin.get(f"{at_files}/lost-psd/content")
    assert gone.code == (404, "NOT_FOUND")
    assert digest(data) in gone.error["message"]
    assert admin.root("PUT", at(place.slug, f"objects/{digest(data)}"), body=data).status == 200
    assert admin.root("GET", f"/api/v1{at_files}/lost-psd/content").body == data
    until(lambda: place.read()["problems"] == [])
