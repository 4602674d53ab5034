"""Clone, fetch and ls-remote with the real git: everything acknowledged is there, in every form git asks for it."""

from __future__ import annotations

import gzip
import http.client
import os
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from contract.client import Client
from contract.conftest import Place, Server, serving

from git.conftest import Clone, address, git, run

Make = Callable[..., Clone]


def test_a_clone_has_what_was_acknowledged_a_moment_ago(place: Place, admin: Client, clone: Make) -> None:
    head = admin.patch(f"{place.at}/memory", {"key": "release-policy", "value": {"owner": "rosa"}}).data["head"]
    copy = clone()
    assert copy.head == head
    assert "owner: rosa" in (copy.folder / "memory/release-policy.yaml").read_text()
    git(copy.folder, "fsck", "--strict")
    head = admin.patch(f"{place.at}/memory", {"key": "release-policy", "value": {"owner": "ida"}}).data["head"]
    copy.git("pull", "-q")
    assert copy.head == head


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_each_version_of_the_protocol(place: Place, clone: Make, version: str) -> None:
    copy = clone("-c", f"protocol.version={version}")
    assert copy.git("ls-remote", "origin", "refs/heads/main").split()[0] == copy.head == place.read()["head"]


def test_shallow_and_partial_clones(place: Place, admin: Client, clone: Make) -> None:
    for n in range(5):
        admin.patch(f"{place.at}/memory", {"key": "count", "value": n})
    shallow = clone("--depth", "2")
    assert shallow.git("rev-list", "--count", "HEAD") == "2"
    shallow.git("fetch", "-q", "--unshallow")
    assert shallow.git("rev-list", "--count", "HEAD") == "6"
    for version in ("0", "2"):
        partial = clone("--filter=blob:none", "--no-checkout", "-c", f"protocol.version={version}")
        assert "?" in partial.git("rev-list", "--objects", "--missing=print", "HEAD")
        partial.git("checkout", "-q", "main")
        assert (partial.folder / "memory/count.yaml").read_text().endswith("\n4\n")


def test_slug_old_slug_and_id_with_and_without_git(server: Server, place: Place, admin: Client) -> None:
    head = place.read()["head"]
    for name in (place.slug, place.slug.upper(), place.id):
        for suffix in (".git", ""):
            url = address(server, name).removesuffix(".git") + suffix
            assert head in git(Path("/"), "ls-remote", url)
    admin.patch(place.at, {"slug": f"{place.slug}-renamed"})
    head = place.read()["head"]
    assert head in git(Path("/"), "ls-remote", address(server, place.slug))
    assert head in git(Path("/"), "ls-remote", address(server, f"{place.slug}-renamed"))


def test_any_scope_may_read_and_nobody_without_a_key(server: Server, place: Place) -> None:
    for scope in server.keys:
        assert "refs/heads/main" in git(Path("/"), "ls-remote", address(server, place.slug, scope))
    asked = run(Path("/"), "ls-remote", f"http://127.0.0.1:{server.port}/git/{place.slug}.git")
    assert "could not read Username" in asked.text  # it asked for a password: the challenge is Basic
    wrong = run(Path("/"), "ls-remote", f"http://x:wrong@127.0.0.1:{server.port}/git/{place.slug}.git")
    assert "Authentication failed" in wrong.text
    bearer = ("-c", f"http.extraHeader=Authorization: Bearer {server.keys['agent']}")
    assert "main" in git(Path("/"), *bearer, "ls-remote", f"http://127.0.0.1:{server.port}/git/{place.slug}")


def test_what_is_not_there_is_said_in_plain_words(server: Server) -> None:
    done = run(Path("/"), "ls-remote", address(server, "no-such-workspace"))
    assert done.code != 0
    assert "remote: there is no workspace `no-such-workspace`" in done.text


def _ask(server: Server, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    key = b64encode(f"x:{server.keys['agent']}".encode()).decode()
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        link.request(method, target, body or None, {"Authorization": f"Basic {key}", **headers})
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def test_a_client_that_only_reads_files_is_told_so(server: Server, place: Place) -> None:
    status, text = _ask(server, "GET", f"/git/{place.slug}.git/info/refs")
    assert status == 403
    assert b"smart HTTP" in text
    done = run(Path("/"), "ls-remote", address(server, place.slug), environ={"GIT_SMART_HTTP": "0"})
    assert "smart HTTP" in done.text
    assert _ask(server, "GET", f"/git/{place.slug}.git/HEAD")[0] == 404


def test_a_request_that_is_packed(server: Server, place: Place) -> None:
    head = place.read()["head"]
    want = f"want {head} ofs-delta\n"
    body = f"{len(want) + 4:04x}{want}00000009done\n".encode()
    kind = {"Content-Type": "application/x-git-upload-pack-request"}
    target = f"/git/{place.slug}.git/git-upload-pack"
    status, plain = _ask(server, "POST", target, body, **kind)
    packed = _ask(server, "POST", target, gzip.compress(body), **kind, **{"Content-Encoding": "gzip"})
    assert status == packed[0] == 200
    assert b"PACK" in plain
    assert b"PACK" in packed[1]
    have = f"0032have {'1' * 40}\n".encode()
    bomb = gzip.compress(body[:-9] + have * 400_000)
    assert len(bomb) < 200_000
    _, text = _ask(server, "POST", target, bomb, **kind, **{"Content-Encoding": "gzip"})
    assert b"larger than the 16777216 bytes allowed here" in text
    assert b"PACK" not in text
    assert _ask(server, "POST", target, b"nonsense", **kind)[1].find(b"PACK") == -1
    assert _ask(server, "POST", target, body, **{"Content-Type": "text/plain"})[0] == 415


def test_what_belongs_to_the_server_or_to_a_person_alone_is_not_shown(place: Place, clone: Make) -> None:
    copy = clone()
    place.published()
    place.git("-c", "user.name=a", "-c", "user.email=a@b", "stash", "list")
    place.git("update-ref", "refs/stash", "HEAD")
    place.git("update-ref", "refs/remotes/other/main", "HEAD")
    place.git("branch", "idea")
    place.git("tag", "-a", "-m", "one", "v1", "HEAD")
    shown = {line.split("\t")[1] for line in copy.git("ls-remote", "origin").splitlines()}
    assert shown == {"HEAD", "refs/heads/main", "refs/heads/idea", "refs/tags/v1", "refs/tags/v1^{}"}


def test_nothing_in_the_repository_s_settings_is_run(place: Place, clone: Make, tmp_path: Path) -> None:
    place.published()
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key in ("uploadpack.packObjectsHook", "core.fsmonitor", "core.sshCommand", "core.alternateRefsCommand",
                "credential.helper", "diff.external", "core.gitProxy"):  # fmt: skip
        place.git("config", key, str(trap))
    place.git("config", "alias.upload-pack", f"!{trap}")
    for hook in ("post-checkout", "pre-receive", "reference-transaction"):
        (place.folder / ".git/hooks").mkdir(exist_ok=True)
        (place.folder / f".git/hooks/{hook}").write_bytes(trap.read_bytes())
        (place.folder / f".git/hooks/{hook}").chmod(0o755)
    clone()
    assert not (tmp_path / "sprung").exists()


def test_main_is_the_newest_head_while_a_person_is_in_the_middle_of_a_merge(
    place: Place, admin: Client, clone: Make
) -> None:
    place.published()
    head = place.git("rev-parse", "HEAD")
    (place.folder / ".git/MERGE_HEAD").write_text(head + "\n")
    try:
        newest = admin.patch(f"{place.at}/memory", {"key": "during", "value": 1}).data["head"]
        assert clone().head == newest
        assert place.git("rev-parse", "refs/heads/main") == head
    finally:
        (place.folder / ".git/MERGE_HEAD").unlink()


def test_without_a_git_program(tmp_path: Path) -> None:
    with serving(tmp_path / "data", git_binary=None) as plain, plain.client() as admin:
        place = Place(plain, admin)
        head = admin.patch(f"{place.at}/memory", {"key": "a", "value": 1}).data["head"]
        copy = tmp_path / "copy"
        git(tmp_path, "clone", "-q", address(plain, place.slug), str(copy))
        assert git(copy, "rev-parse", "HEAD") == head
        head = admin.patch(f"{place.at}/memory", {"key": "a", "value": 2}).data["head"]
        git(copy, "pull", "-q")
        assert git(copy, "rev-parse", "HEAD") == head
        shallow = tmp_path / "shallow"
        git(tmp_path, "clone", "-q", "--depth", "1", address(plain, place.slug), str(shallow))
        assert git(shallow, "rev-list", "--count", "HEAD") == "1"


def test_a_client_that_goes_away_takes_its_git_with_it(server: Server, place: Place, admin: Client) -> None:
    for n in range(4):  # more than fits into the buffers on the way, and none of them a large object
        noise = b64encode(os.urandom(3 << 20)).decode()
        admin.post(f"{place.at}/files", {"key": f"noise-{n}", "file_name": f"n{n}.txt", "content_base64": noise})
    head = place.read()["head"]
    want = f"want {head} ofs-delta\n"
    body = f"{len(want) + 4:04x}{want}00000009done\n".encode()
    key = b64encode(f"x:{server.keys['agent']}".encode()).decode()
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(
            f"POST /git/{place.slug}.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {key}\r\n"
            "Content-Type: application/x-git-upload-pack-request\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        assert link.recv(1000).startswith(b"HTTP/1.1 200")
        assert _children(os.getpid())  # it waits for a client that reads no further
    end = time.monotonic() + 10
    while _children(os.getpid()):
        assert time.monotonic() < end
        time.sleep(0.05)


def _children(parent: int) -> list[str]:
    out = subprocess.run(["ps", "-o", "comm=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [name for name in out.stdout.split() if name.startswith("git")]
