"""Pushes that mean harm: each is refused with a reason, moves nothing, leaves nothing, and the server goes on."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import struct
import subprocess
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from contract.client import PEM
from contract.conftest import Place, Server, serving
from git.conftest import ENVIRONMENT, Clone, Done, address, git

Make = Callable[..., Clone]
ZERO = "0" * 40


def state(place: Place) -> tuple[str, list[str], set[str]]:
    """Refs, what is in quarantine, and every object of the workspace's repository."""
    place.published()
    objects = place.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    waiting = [path.name for path in (place.folder / ".git/gitstore").glob("incoming-*")]
    return place.git("for-each-ref"), waiting, set(objects.split())


@pytest.fixture
def unmoved(server: Server, place: Place) -> Iterator[None]:
    """Whatever the test does: refs and objects stay as they are, nothing waits, the server answers, git is content."""
    before = state(place)
    assert before[1] == []
    yield
    after = state(place)
    assert after == before
    assert place.git("fsck", "--strict") == ""
    assert place.read()["id"] == place.id


class Forge:
    """Objects that git's own commands would not make."""

    def __init__(self, copy: Clone) -> None:
        self.copy = copy

    def object(self, kind: str, data: bytes) -> str:
        return git(self.copy.folder, "hash-object", "-t", kind, "--literally", "-w", "--stdin", data=data)

    def blob(self, data: bytes = b"x\n") -> str:
        return self.object("blob", data)

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        ordered = sorted(entries, key=lambda one: one[1] + (b"/" if one[0] == "40000" else b""))
        rows = (mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in ordered)
        return self.object("tree", b"".join(rows))

    def commit(self, tree: str, *parents: str, message: str = "x", when: int | None = None) -> str:
        who = f"Eve <eve@northgate.example> {when or int(time.time())} +0000"
        lines = [f"tree {tree}", *(f"parent {one}" for one in parents), f"author {who}", f"committer {who}"]
        return self.object("commit", ("\n".join(lines) + f"\n\n{message}\n").encode())

    def beside(self, *entries: tuple[str, bytes, str], head: str | None = None) -> str:
        """A commit on the head with these entries at the top beside what is there."""
        rows = git(self.copy.folder, "ls-tree", head or "HEAD").splitlines()
        known = [(row.split(" ")[0].lstrip("0"), row.split("\t")[1].encode(), row.split()[2]) for row in rows]
        names = {name for _, name, _ in entries}
        return self.commit(self.tree(*(one for one in known if one[1] not in names), *entries), head or self.copy.head)


@pytest.fixture
def forge(clone: Make) -> Forge:
    return Forge(clone())


def refused(done: Done, *words: str) -> None:
    assert done.code != 0, done.text
    assert "rejected" in done.text, done.text
    for word in words:
        assert word in done.text, (word, done.text)


# -- what a tree may not hold ----------------------------------------------------------------------------------------

DISGUISES = [
    b".git", b".GIT", b".Git", b"git~1", b"GIT~1", b".git.", b".git ", b".git . ", b".git::$INDEX_ALLOCATION",
    b".git:stream", ".g\u200cit".encode(), ".\u200dgit".encode(), ".gi\u2060t".encode(), "\ufeff.git".encode(),
    b".gitmodules", b"gitmod~1", b"..", b".", b"a\\b", b"..\\x", b"con", b"aux.txt", b"a\x01b", b"\xff\xfe",
    "．git".encode(),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_names_that_some_system_misreads(forge: Forge, unmoved: None, kind: str) -> None:
    blob = forge.blob()
    folder = forge.tree(("100644", b"config", blob))
    for name in DISGUISES:
        print(name)
        entry = ("100644", name, blob) if kind == "file" else ("40000", name, folder)
        nested = ("40000", b"docs", forge.tree(entry))
        refused(forge.copy.push(f"{forge.beside(nested)}:main"))


def test_links_and_submodules(forge: Forge, unmoved: None) -> None:
    link = forge.tree(("120000", b"link", forge.blob(b"/etc/passwd")))
    refused(forge.copy.push(f"{forge.beside(('40000', b'docs', link))}:main"), "docs/link: is a symbolic link")
    module = forge.tree(("160000", b"module", forge.copy.head))
    refused(forge.copy.push(f"{forge.beside(('40000', b'docs', module))}:main"), "docs/module: is a submodule")


def test_an_intermediate_commit_counts_too(forge: Forge, unmoved: None) -> None:
    bad = forge.beside(("120000", b"link", forge.blob(b"../x")))
    good = forge.commit(git(forge.copy.folder, "rev-parse", "HEAD^{tree}"), bad)
    refused(forge.copy.push(f"{good}:main"), "link: is a symbolic link")


def test_a_detour_by_another_branch_does_not_help(forge: Forge, place: Place) -> None:
    bad = forge.beside(("120000", b"link", forge.blob(b"../x")))
    assert forge.copy.push(f"{bad}:refs/heads/side").code == 0
    refused(forge.copy.push(f"{bad}:main"), "link: is a symbolic link")
    good = forge.commit(git(forge.copy.folder, "rev-parse", "HEAD^{tree}"), bad)
    refused(forge.copy.push(f"{good}:refs/for/main"), "link: is a symbolic link")
    assert place.read()["head"] == forge.copy.head


@pytest.mark.parametrize(("one", "other"), [
    ("Notes.md", "notes.md"), ("caf\u00e9.md", "cafe\u0301.md"), ("stra\u00dfe", "STRASSE"),
])  # fmt: skip
def test_names_that_collide(forge: Forge, unmoved: None, one: str, other: str) -> None:
    pair = [("100644", name.encode(), forge.blob(name.encode())) for name in (one, other)]
    refused(forge.copy.push(f"{forge.beside(('40000', b'docs', forge.tree(*pair)))}:main"), "differs from")


@pytest.mark.parametrize("text", [
    "*.yaml filter=evil", "* text\n*.md diff=evil", "x merge=union", "[attr]mine filter=evil", '"a b" filter=evil',
    "  *.bin\tfilter=lfs merge=other", "\ufeff* filter=evil", "* filter=",
])  # fmt: skip
@pytest.mark.parametrize("name", [".gitattributes", "docs/.GITATTRIBUTES", "docs/gitatt~1"])
def test_attributes_that_name_a_program(forge: Forge, unmoved: None, text: str, name: str) -> None:
    *folder, leaf = name.split("/")
    entry = ("100644", leaf.encode(), forge.blob(f"{text}\n".encode()))
    commit = forge.beside(("40000", b"docs", forge.tree(entry)) if folder else entry)
    refused(forge.copy.push(f"{commit}:main"), f"{name}:", "names a program to run")


def test_attributes_that_are_harmless(forge: Forge, place: Place) -> None:
    text = "*.bin filter=lfs diff=lfs merge=lfs -text\n*.yaml merge=gitstore text eol=lf\n*.png binary\n# filter=x\n"
    done = forge.copy.push(f"{forge.beside(('100644', b'.gitattributes', forge.blob(text.encode())))}:main")
    assert done.code == 0, done.text


def test_what_a_workspace_may_not_hold(forge: Forge, unmoved: None, place: Place) -> None:
    copy = forge.copy
    start = copy.head
    text = (copy.folder / "workspace.yaml").read_text()
    for path, content, said in (
        ("workspace.yaml", text.replace(place.id, "0b6e5cfe-0000-4000-8000-000000000000"), "id of a workspace never"),
        ("evidence/tasks/x.yaml", "id: x\n", "push it to that branch"),
        ("docs/large.bin", os.urandom(11 << 20), "docs/large.bin: is larger than the 10485760 bytes"),
        ("memory/key.yaml", f"key: |\n  {PEM.replace(chr(10), chr(10) + '  ')}\n", "memory/key.yaml:"),
        ("docs/key.pem", PEM, "docs/key.pem:"),
    ):
        copy.commit(path, content)
        refused(copy.push(), said)
        copy.git("reset", "-q", "--hard", start)


def test_a_credential_that_was_taken_out_again(forge: Forge, unmoved: None) -> None:
    forge.copy.commit("docs/key.pem", PEM)
    forge.copy.git("rm", "-q", "docs/key.pem")
    forge.copy.commit("docs/a.md", "a\n")
    refused(forge.copy.push(), "docs/key.pem:", "an earlier commit of this push holds")


def test_commits_that_lie(forge: Forge, unmoved: None) -> None:
    tree = git(forge.copy.folder, "rev-parse", "HEAD^{tree}")
    ahead = forge.commit(tree, forge.copy.head, when=int(time.time()) + 3600)
    refused(forge.copy.push(f"{ahead}:main"), "dated more than 10 minutes ahead")
    forge.copy.write("memory/x.yaml", "1\n")
    forge.copy.git("add", "-A")
    forge.copy.git("commit", "-qm", "x\n\nGitstore-Actor: admin k me", environ={
        "GIT_COMMITTER_NAME": "gitstore", "GIT_COMMITTER_EMAIL": "gitstore@gitstore.invalid",
    })  # fmt: skip
    refused(forge.copy.push(), "says that this store made it")


def test_objects_against_git_s_rules(forge: Forge, unmoved: None) -> None:
    blob = forge.blob()
    twice = forge.object("tree", (b"100644 a\0" + bytes.fromhex(blob)) * 2)
    refused(forge.copy.push(f"{forge.commit(twice, forge.copy.head)}:main"), "breaks git's rules")
    who = "x <x> 1 +0000"
    tree = git(forge.copy.folder, "rev-parse", "HEAD^{tree}")
    bad = forge.object("commit", f"tree {tree}\nauthor no address\ncommitter {who}\n\nx".encode())
    refused(forge.copy.push(f"{bad}:refs/heads/side"), "breaks git's rules")
    refused(forge.copy.push(f"{blob}:refs/tags/blob"), "a branch names a commit")
    refused(forge.copy.push(f"{tree}:refs/tags/tree"), "a branch names a commit")


# -- packs -----------------------------------------------------------------------------------------------------------


def entry(kind: int, size: int, body: bytes) -> bytes:
    out, byte = bytearray(), kind << 4 | size & 15
    size >>= 4
    while size:
        out.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    out.append(byte)
    return bytes(out) + body


def pack(*entries: bytes, count: int | None = None) -> bytes:
    data = b"PACK" + struct.pack(">II", 2, len(entries) if count is None else count) + b"".join(entries)
    return data + hashlib.sha1(data).digest()


def number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def line(text: str) -> bytes:
    return f"{len(text.encode()) + 4:04x}{text}".encode()


def send(
    server: Server, place: Place, body: bytes, *, target: str = "main", old: str = ZERO, new: str, more: bytes = b""
) -> str:
    """Sends a push as it is; what the server answers."""
    key = b64encode(f"x:{server.keys['admin']}".encode()).decode()
    command = line(f"{old} {new} refs/heads/{target}\0report-status side-band-64k") + more + b"0000"
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        link.request("POST", f"/git/{place.slug}.git/git-receive-pack", command + body, {
            "Authorization": f"Basic {key}", "Content-Type": "application/x-git-receive-pack-request",
        })  # fmt: skip
        answer = link.getresponse()
        return f"{answer.status} {answer.read().decode('utf-8', 'replace')}"
    finally:
        link.close()


HUGE = entry(3, 1 << 40, zlib.compress(b"x"))
BASE = b"a" * (1 << 20)


def zeros() -> bytes:
    return pack(entry(3, 300 << 20, zlib.compress(bytes(300 << 20), 1)), entry(1, 3, zlib.compress(b"abc")))


@cache
def bomb(depth: int = 12) -> bytes:
    """Deltas that each say their base sixteen times: a few kilobytes that mean 1 MiB x 16^depth."""
    entries, size = [entry(3, len(BASE), zlib.compress(BASE))], len(BASE)
    base = hashlib.sha1(b"blob %d\0" % size + BASE).digest()
    for _ in range(depth):
        copy = b"\xf0\xff\xff\xff" if size > 0xFFFFFF else b"\xb0" + (size & 0xFFFF).to_bytes(2, "little")
        step = min(size, 0xFFFFFF) if size > 0xFFFFFF else size & 0xFFFF
        times = 16 * size // max(step, 1) if size <= 0xFFFFFF and step else 16 * (size // 0xFFFFFF)
        if size == len(BASE):  # copies of 64 KiB, which no size bytes mean
            copy, step, times = b"\x80", 0x10000, 16 * 16
        delta = number(size) + number(step * times) + copy * times
        body = zlib.compress(delta)
        entries.append(entry(7, len(delta), base + body))
        size = step * times
        if size > 1 << 30:
            break
        digest = hashlib.sha1(b"blob %d\0" % size)
        for _ in range(size // len(BASE)):
            digest.update(BASE)
        digest.update(b"a" * (size % len(BASE)))
        base = digest.digest()
    return pack(*entries)


@pytest.mark.parametrize(("name", "data"), [
    ("huge", pack(HUGE)),
    ("huge tree", pack(entry(2, 1 << 40, zlib.compress(b"x")))),
    ("bomb", bomb),  # made where it is needed: every process collects every test
    ("more than it says", pack(entry(3, 3, zlib.compress(b"x" * 1000)))),
    ("less than it says", pack(entry(3, 1000, zlib.compress(b"x")))),
    ("zeros", zeros),
    ("kind 0", pack(entry(0, 1, zlib.compress(b"x")))),
    ("kind 5", pack(entry(5, 1, zlib.compress(b"x")))),
    ("own base", pack(entry(6, 2, b"\x00" + zlib.compress(b"ab")))),
    ("base before", pack(entry(6, 2, b"\xff\xff\xff\x7f" + zlib.compress(b"ab")))),
    ("no base", pack(entry(7, 2, b"\x11" * 20 + zlib.compress(b"ab")))),
    ("count", pack(entry(3, 1, zlib.compress(b"x")), count=0xFFFFFFFF)),
    ("no zlib", pack(entry(3, 10, b"not zlib at all"))),
    ("cut", pack(entry(3, 1, zlib.compress(b"x")))[:-7]),
    ("checksum", pack(entry(3, 1, zlib.compress(b"x")))[:-20] + b"\0" * 20),
    ("trailing", pack(entry(3, 1, zlib.compress(b"x"))) + b"more"),
    ("empty", b""),
    ("text", b"this is no pack"),
    ("version", b"PACK" + struct.pack(">II", 9, 1) + b"\0" * 20),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_packs_that_are_not_what_they_say(
    server: Server, place: Place, unmoved: None, name: str, data: bytes | Callable[[], bytes]
) -> None:
    sent = data() if callable(data) else data
    begun = time.monotonic()
    answer = send(server, place, sent, new="1" * 40, target="x")
    assert answer.startswith("200 "), answer
    assert "unpack ok" not in answer or "ng refs/heads/x" in answer, answer
    assert "ng refs/heads/x" in answer, answer
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("binary", ["git", None])
def test_the_same_without_a_git_program(tmp_path: Path, binary: str | None) -> None:
    with serving(tmp_path / "data", git_binary=binary) as plain, plain.client() as admin:
        place = Place(plain, admin)
        place.published()
        before = state(place)
        samples = [
            pack(HUGE), bomb(), pack(entry(3, 3, zlib.compress(b"x" * 1000))), b"", b"x" * 100,
            pack(entry(6, 2, b"\x00" + zlib.compress(b"ab"))), pack(entry(7, 2, b"\x11" * 20 + zlib.compress(b"ab"))),
            pack(entry(3, 1, zlib.compress(b"x")), count=0xFFFFFFFF),
            pack(entry(2, 3, zlib.compress(b"abc"))), pack(entry(1, 3, zlib.compress(b"abc"))),
        ]  # fmt: skip
        for sample in samples:
            answer = send(plain, place, sample, new="1" * 40, target="x")
            assert "ng refs/heads/x" in answer, answer
        git(tmp_path, "clone", "-q", address(plain, place.slug), str(tmp_path / "copy"))
        forge = Forge(Clone(tmp_path / "copy", ""))
        refused(forge.copy.push(f"{forge.beside(('120000', b'link', forge.blob(b'x')))}:main"), "symbolic link")
        refused(forge.copy.push(f"{forge.beside(('40000', b'.git', forge.tree(('100644', b'x', forge.blob()))))}:main"))
        lacking(forge, plain, place)
        assert state(place) == before


def lacking(forge: Forge, server: Server, place: Place) -> None:
    """A pack with everything but one blob, and one with a commit alone."""
    missing = forge.blob(b"never sent\n")
    commit = forge.beside(("100644", b"a.md", missing))
    folder = forge.copy.folder
    objects = git(folder, "rev-list", "--objects", commit, "^HEAD").splitlines()
    for kept in ([row.split()[0] for row in objects if missing not in row], [commit]):
        data = subprocess.run(
            ["git", "pack-objects", "--stdout", "-q"], cwd=folder, env=ENVIRONMENT, check=True, capture_output=True,
            input="".join(f"{oid}\n" for oid in kept).encode(),
        ).stdout  # fmt: skip
        answer = send(server, place, data, old=forge.copy.head, new=commit)
        assert "ng refs/heads/main" in answer, answer
        assert "lacks objects" in answer or "missing necessary objects" in answer, answer


def test_a_pack_that_lacks_objects(server: Server, place: Place, forge: Forge, unmoved: None) -> None:
    lacking(forge, server, place)


def test_a_pack_over_the_limit(tmp_path: Path) -> None:
    with serving(tmp_path / "data", max_push_bytes=1 << 20) as small, small.client() as admin:
        place = Place(small, admin)
        place.published()
        before = state(place)
        git(tmp_path, "clone", "-q", address(small, place.slug), str(tmp_path / "copy"))
        copy = Clone(tmp_path / "copy", "")
        copy.commit("docs/noise.bin", os.urandom(2 << 20))
        refused(copy.push(), "larger than the 1048576 bytes a push may have")
        copy.commit("docs/noise.bin", os.urandom(4 << 20))
        assert copy.push().code != 0
        assert state(place) == before


def test_ten_thousand_refs(server: Server, place: Place, unmoved: None) -> None:
    head = place.read()["head"]
    commands = [line(f"{ZERO} {head} refs/heads/many/{n}") for n in range(9_999)]
    begun = time.monotonic()
    answer = send(server, place, pack(), new=head, target="many/first", more=b"".join(commands))
    assert answer.count("ng refs/heads/many/") > 9_900  # a few are torn by the side band
    assert "at most 1000 refs, and this one has 10000" in answer
    assert "ok refs" not in answer
    answer = send(server, place, b"", new=head, target="many/first", more=b"".join(commands) * 11)
    assert answer.startswith("413 ")
    assert time.monotonic() - begun < 30


def test_hundreds_of_refs_are_taken(place: Place, forge: Forge) -> None:
    head = forge.copy.head
    names = "".join(f"create refs/tags/many/{n} {head}\n" for n in range(300))
    git(forge.copy.folder, "update-ref", "--stdin", data=names.encode())
    done = forge.copy.push("refs/tags/many/*:refs/tags/many/*")
    assert done.code == 0, done.text[-500:]
    assert len(place.git("for-each-ref", "refs/tags/many").splitlines()) == 300


@pytest.mark.parametrize("how", ["killed", "cut", "stands still"])
def test_a_push_that_breaks_off(tmp_path: Path, how: str) -> None:
    with serving(tmp_path / "data", body_timeout=1.0) as other, other.client() as admin:
        place = Place(other, admin)
        place.published()
        before = state(place)
        key = b64encode(f"x:{other.keys['admin']}".encode()).decode()
        noise = pack(entry(3, 5 << 20, zlib.compress(os.urandom(5 << 20), 0)))
        command = line(f"{ZERO} {'1' * 40} refs/heads/x\0report-status") + b"0000"
        with socket.create_connection(("127.0.0.1", other.port)) as link:
            link.sendall(
                f"POST /git/{place.slug}.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {key}\r\n"
                "Content-Type: application/x-git-receive-pack-request\r\n"
                f"Content-Length: {len(command) + len(noise)}\r\n\r\n".encode()
                + command
                + noise[: 3 << 20]
            )
            end = time.monotonic() + 10
            while not list((place.folder / ".git/gitstore").glob("incoming-*/objects/pack/*")):
                assert time.monotonic() < end
                time.sleep(0.01)
            if how == "killed":
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "stands still":
                assert b"did not arrive" in link.recv(1000)
        while list((place.folder / ".git/gitstore").glob("incoming-*")):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert state(place) == before


def test_what_a_killed_server_leaves_is_removed_at_the_next_start(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as first, first.client() as admin:
        place = Place(first, admin)
        place.published()
        left = place.folder / ".git/gitstore/incoming-0123/objects/pack"
        left.mkdir(parents=True)
        (left / "tmp_pack_x").write_bytes(b"PACK")
    with serving(tmp_path / "data"):
        assert not left.parents[1].exists()


@pytest.mark.parametrize("body", [
    b"", b"0000", b"zzzz", b"0001", b"0003", b"fff1", b"ffff", b"0004", b"000", b"-001", b"+004", b"0008abcd",
    line("push-cert\0x"), line(f"{ZERO} {ZERO} "), line(f"{ZERO} {'1' * 40} refs/heads/a\n"),
    line(f"{ZERO} {'1' * 40} refs/heads/a/../b\0report-status") + b"0000",
    line(f"{ZERO} {'1' * 40} refs/heads/a\0report-status object-format=sha256") + b"0000",
    line(f"{ZERO} {'1' * 40} ../../../x\0report-status") + b"0000",
    line(f"{ZERO} {ZERO} refs/heads/nothing\0report-status") + b"0000",
], ids=lambda body: ascii(body.decode())[:30])  # fmt: skip
def test_requests_that_are_no_push(server: Server, place: Place, unmoved: None, body: bytes) -> None:
    key = b64encode(f"x:{server.keys['admin']}".encode()).decode()
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    link.request("POST", f"/git/{place.slug}.git/git-receive-pack", body, {
        "Authorization": f"Basic {key}", "Content-Type": "application/x-git-receive-pack-request",
    })  # fmt: skip
    answer = link.getresponse()
    text = answer.read()
    link.close()
    assert answer.status in (200, 400), text
    assert b"ok refs" not in text


def test_nothing_that_is_pushed_is_run(server: Server, place: Place, forge: Forge, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    hooks = place.folder / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction", "proc-receive"):
        (hooks / name).write_bytes(trap.read_bytes())
        (hooks / name).chmod(0o755)
    place.git("config", "receive.procReceiveRefs", "refs")
    place.git("config", "core.fsmonitor", str(trap))
    place.git("config", "core.alternateRefsCommand", str(trap))
    forge.copy.commit("docs/a.md", "a\n")
    done = forge.copy.push("HEAD:main", "HEAD:refs/heads/side")
    assert done.code == 0, done.text
    assert not (tmp_path / "sprung").exists()
