"""Workspaces that follow a branch on another host: real git there, real git here, a real server."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contract.client import Client
from contract.conftest import Place, Server, serving
from unit.githosts import TOKEN, Host
from unit.githosts import serving as hosting

from gitstore import following

from .conftest import Clone, git

ALLOWED: dict[str, Any] = {"verify_allow": ("127.0.0.0/8",), "verify_timeout": 5.0, "sync_timeout": 30.0}
BASIC = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose clock does not notice new followers by itself, so that each run is one that a test asks for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "LOOK", 3600.0)
        with serving(tmp_path_factory.mktemp("following") / "data", **ALLOWED) as running:
            yield running


@pytest.fixture
def agent(server: Server) -> Iterator[Client]:
    with server.client("agent") as made:
        yield made


@pytest.fixture
def make(server: Server, admin: Client) -> Callable[..., Place]:
    return lambda **fields: Place(server, admin, **fields)


@pytest.fixture
def second(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Makes a server with other settings."""
    return lambda **settings: serving(tmp_path_factory.mktemp("second") / "data", **settings)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "hosted").mkdir()
    with hosting(tmp_path / "hosted", TOKEN) as running:
        yield running


class Followed:
    """A workspace, a repository on the host that has its `main`, and a person's clone of that."""

    def __init__(self, place: Place, admin: Client, host: Host, tmp_path: Path, name: str = "w.git") -> None:
        self.place = place
        self.admin = admin
        self.host = host
        self.bare = bare(host, name)
        self.url = f"{host.url}/{name}"
        place.published()
        git(place.folder, "push", "-q", str(self.bare), "main")
        self.clone = Clone(tmp_path / f"clone of {name}", str(self.bare))
        git(tmp_path, "clone", "-q", str(self.bare), str(self.clone.folder))

    def follow(self, **more: Any) -> None:
        credentials = more.pop("credentials", None)
        sync = {"url": self.url, "branch": "main", "direction": "both", **more}
        value = {"sync": sync} | ({"credentials": credentials} if credentials else {})
        answer = self.admin.patch(self.place.at, {"settings": value})
        assert answer.status == 200, answer.json

    def run(self) -> dict[str, Any]:
        answer = self.admin.post(f"{self.place.at}/sync")
        assert answer.status == 200, answer.json
        if answer.data["url"] == self.place.read()["settings"]["sync"]["url"]:  # what came may say something else
            assert self.admin.get(f"{self.place.at}/sync").data == answer.data
        return answer.data

    @property
    def problems(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin.get(f"{self.place.at}/problems").data
        assert found == self.place.read()["problems"]
        return found

    @property
    def there(self) -> str:
        return git(self.bare, "rev-parse", "main")

    def elsewhere(self, path: str, text: str) -> str:
        """Somebody pushes to the host."""
        commit = self.clone.commit(path, text)
        assert self.clone.push().code == 0
        return commit

    def sound(self) -> None:
        """Nothing is left behind, and git finds nothing wrong."""
        folder = self.place.published()
        assert git(folder, "fsck", "--strict", "--full", "--no-dangling") == ""
        assert git(folder, "status", "--porcelain") == ""
        assert list(folder.glob(".git/gitstore/incoming-*")) == []


def bare(host: Host, name: str) -> Path:
    folder = host.root / name
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "--bare", "-b", "main", ".")
    git(folder, "config", "http.receivepack", "true")
    return folder


@pytest.fixture
def followed(place: Place, admin: Client, host: Host, tmp_path: Path) -> Followed:
    return Followed(place, admin, host, tmp_path)


def counts(report: dict[str, Any]) -> tuple[int, ...]:
    return tuple(report[name] for name in ("ahead", "behind", "fetched", "merged", "pushed", "conflicts"))


def memory(admin: Client, place: Place, **values: Any) -> None:
    assert admin.patch(f"{place.at}/memory", {"updates": values}).status == 200


# --- asking ----------------------------------------------------------------------------------------------------------


def test_a_workspace_that_follows_nothing(admin: Client, agent: Client, place: Place) -> None:
    answer = agent.get(f"{place.at}/sync")
    assert answer.data == {
        "state": "idle", "direction": None, "url": None, "branch": None, "last_run_at": None,
        "last_success_at": None, "last_error": None, "ahead": 0, "behind": 0, "fetched": 0, "merged": 0, "pushed": 0,
        "conflicts": 0,
    }  # fmt: skip
    refused = admin.post(f"{place.at}/sync")
    assert refused.code == (400, "VALIDATION_ERROR")
    assert "PATCH" in refused.error["message"]
    assert agent.post(f"{place.at}/sync").code == (403, "FORBIDDEN")
    assert admin.post("/workspaces/nobody/sync").code == (404, "NOT_FOUND")


def test_an_inactive_workspace_follows_nothing(followed: Followed) -> None:
    followed.follow()
    followed.admin.patch(followed.place.at, {"is_active": False})
    assert followed.admin.post(f"{followed.place.at}/sync").code == (409, "CONFLICT")
    assert followed.host.seen == []


# --- pull ------------------------------------------------------------------------------------------------------------


def test_pull_forward(followed: Followed) -> None:
    followed.follow(direction="pull")
    # The workspace has one commit more, its settings: the remote's is merged with it.
    there = followed.elsewhere("memory/owner.yaml", "Rosa\n")
    report = followed.run()
    assert (report["state"], report["last_error"]) == ("idle", None)
    assert counts(report) == (2, 0, 1, 1, 0, 0)
    assert followed.place.read()["memory"] == {"owner": "Rosa"}
    assert followed.there == there
    # Once the remote has it all, what comes is taken as it is.
    git(followed.place.published(), "push", "-q", str(followed.bare), "main")
    followed.clone.git("pull", "-q", "--rebase")
    there = followed.elsewhere("memory/owner.yaml", "Ada\n")
    assert counts(followed.run()) == (0, 0, 1, 1, 0, 0)
    assert followed.place.read()["memory"] == {"owner": "Ada"}
    assert followed.place.read()["head"] == there
    entry = followed.admin.get(f"{followed.place.at}/timeline").data[0]
    assert (entry["id"], entry["actor"]["type"], entry["actor"]["name"]) == (there, "person", "Rosa Vidal")
    assert counts(followed.run()) == (0, 0, 0, 0, 0, 0)
    followed.sound()


def test_both_sides_changed_different_keys(followed: Followed) -> None:
    memory(followed.admin, followed.place, plan={"a": 1, "b": 2})
    followed.follow()
    assert counts(followed.run())[4] == 2
    followed.clone.git("pull", "-q")
    followed.elsewhere("memory/plan.yaml", "a: 1\nb: 3\n")
    memory(followed.admin, followed.place, plan={"a": 9, "b": 2}, more=True)
    report = followed.run()
    assert counts(report) == (0, 0, 1, 1, 2, 0), report
    assert followed.place.read()["memory"] == {"more": True, "plan": {"a": 9, "b": 3}}
    assert followed.there == followed.place.read()["head"]
    followed.clone.git("pull", "-q")
    assert (followed.clone.folder / "memory/plan.yaml").read_text() == "a: 9\nb: 3\n"
    followed.sound()


@pytest.mark.parametrize("rule", ["keep", "theirs"])
def test_both_sides_changed_the_same(followed: Followed, rule: str) -> None:
    memory(followed.admin, followed.place, owner="nobody")
    followed.follow(on_conflict=rule)
    followed.run()
    followed.clone.git("pull", "-q")
    followed.elsewhere("memory/owner.yaml", "Rosa\n")
    memory(followed.admin, followed.place, owner="Ada")
    report = followed.run()
    assert (report["state"], report["conflicts"]) == ("idle", 1)
    assert followed.place.read()["memory"] == {"owner": "Ada" if rule == "keep" else "Rosa"}
    assert followed.problems == []
    assert followed.there == followed.place.read()["head"]
    followed.sound()


def test_both_sides_changed_the_same_and_it_stops(followed: Followed) -> None:
    memory(followed.admin, followed.place, owner="nobody")
    followed.follow(on_conflict="stop")
    followed.run()
    followed.clone.git("pull", "-q")
    there = followed.elsewhere("memory/owner.yaml", "Rosa\n")
    memory(followed.admin, followed.place, owner="Ada")
    before = followed.place.read()
    report = followed.run()
    assert report["state"] == "failed"
    assert counts(report) == (1, 1, 1, 0, 0, 1)
    after = followed.place.read()
    assert (after["head"], after["memory"], followed.there) == (before["head"], {"owner": "Ada"}, there)
    (problem,) = followed.problems
    assert (problem["kind"], problem["path"]) == ("sync", "memory/owner.yaml")
    assert problem["values"] == {"main": "Ada", "file": "Rosa"}
    assert followed.run()["state"] == "failed"
    assert followed.problems == [problem]  # told once, with the time it was first seen
    memory(followed.admin, followed.place, owner="Rosa")
    assert followed.run()["state"] == "idle"
    assert followed.problems == []
    assert followed.there == followed.place.read()["head"]
    followed.sound()


def test_what_breaks_rules_stays_outside(followed: Followed) -> None:
    followed.follow()
    followed.run()
    followed.clone.git("pull", "-q")
    head = followed.place.read()["head"]
    for path, text, told in (
        ("memory/bad.yaml", "a: [1\n", "memory/bad.yaml"),
        ("spec/tools.yaml", "- no\n", "spec/tools.yaml"),
        (
            "memory/key.yaml",
            "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----\n",
            "memory/key.yaml",
        ),
    ):
        followed.elsewhere(path, text)
        there = followed.there
        report = followed.run()
        assert report["state"] == "failed"
        assert told in report["last_error"]
        problems = followed.problems
        assert {(one["kind"], one["path"]) for one in problems} == {("sync", told)}
        assert followed.place.read()["head"] == head
        assert git(followed.place.folder, "cat-file", "--batch-check", data=there.encode()).endswith("missing")
        if path == "memory/key.yaml":  # history would keep it: only another history will do
            followed.clone.git("reset", "-q", "--hard", "HEAD~1")
            followed.clone.push("--force", "HEAD:main")
        else:
            (followed.clone.folder / path).unlink()
            followed.clone.commit(message="mended")
            followed.clone.push()
        assert followed.run()["state"] == "idle"
        head = followed.place.read()["head"]
        assert followed.problems == []
        followed.clone.git("pull", "-q")
    followed.sound()


def test_a_link_in_what_comes_is_refused(followed: Followed) -> None:
    followed.follow(direction="pull")
    (followed.clone.folder / "notes").symlink_to("/etc/passwd")
    followed.clone.commit()
    followed.clone.push()
    report = followed.run()
    assert report["state"] == "failed"
    assert "notes" in report["last_error"]
    assert not (followed.place.published() / "notes").is_symlink()


def test_objects_that_break_gits_rules_are_refused(followed: Followed) -> None:
    followed.follow(direction="pull")
    # A tree with `.git` inside, which no git of a person makes.
    blob = git(followed.bare, "hash-object", "-w", "--stdin", data=b"x")
    raw = b"100644 .git\0" + bytes.fromhex(blob)
    tree = git(followed.bare, "hash-object", "-t", "tree", "-w", "--stdin", "--literally", data=raw)
    commit = git(followed.bare, "commit-tree", "-p", "main", "-m", "x", tree)
    git(followed.bare, "update-ref", "refs/heads/main", commit)
    report = followed.run()
    assert report["state"] == "failed"
    assert "git's rules" in report["last_error"]
    assert [one["kind"] for one in followed.problems] == ["sync"]
    followed.sound()


# --- whose branch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["pull", "push", "both"])
def test_another_workspace_or_a_repository_of_code_is_not_adopted(
    followed: Followed, make: Callable[..., Place], tmp_path: Path, direction: str
) -> None:
    other = make()
    git(other.published(), "push", "-q", "--force", str(followed.bare), "main")
    code = bare(followed.host, "code.git")
    work = tmp_path / "code"
    git(tmp_path, "init", "-q", "-b", "main", str(work))
    (work / "main.py").write_text("print()\n")
    git(work, "add", ".")
    git(work, "commit", "-qm", "code")
    git(work, "push", "-q", str(code), "main")
    before = followed.there
    for url, text in ((followed.url, "another workspace"), (f"{followed.host.url}/code.git", "no workspace")):
        followed.follow(direction=direction, url=url)
        head = followed.place.read()["head"]
        report = followed.run()
        assert report["state"] == "failed"
        assert text in report["last_error"]
        assert followed.place.read()["head"] == head
        (problem,) = followed.problems
        assert problem["kind"] == "sync"
        assert problem["hint"]
    assert followed.there == before
    assert git(code, "log", "--format=%s", "main") == "code"
    followed.sound()


@pytest.mark.parametrize("branch", ["main", "other", "deep/er"])
def test_an_empty_remote_is_filled_by_a_push_only(followed: Followed, branch: str) -> None:
    bare(followed.host, "new.git")
    url = f"{followed.host.url}/new.git"
    followed.follow(direction="pull", url=url, branch=branch)
    report = followed.run()
    assert report["state"] == "failed"
    assert "no commit" in report["last_error"]
    followed.follow(direction="push", url=url, branch=branch)
    report = followed.run()
    assert report["state"] == "idle", report
    head = followed.place.read()["head"]
    assert git(followed.host.root / "new.git", "rev-parse", branch) == head
    assert report["pushed"] == int(git(followed.place.published(), "rev-list", "--count", "main"))
    followed.follow(direction="pull", url=url, branch="absent")
    assert "no branch `absent`" in followed.run()["last_error"]


# --- push ------------------------------------------------------------------------------------------------------------


def test_push_and_nothing_else(followed: Followed) -> None:
    followed.follow(direction="push")
    memory(followed.admin, followed.place, a=1)
    report = followed.run()
    assert counts(report) == (0, 0, 0, 0, 2, 0)
    assert followed.there == followed.place.read()["head"]
    assert git(followed.bare, "show", "main:memory/a.yaml").endswith("\n1")  # below the line that names the schema
    assert git(followed.bare, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert counts(followed.run()) == (0, 0, 0, 0, 0, 0)
    followed.clone.git("pull", "-q")
    there = followed.elsewhere("memory/b.yaml", "2\n")
    memory(followed.admin, followed.place, a=3)
    report = followed.run()
    assert report["state"] == "failed"
    assert "1 commit" in report["last_error"]
    assert counts(report) == (1, 1, 0, 0, 0, 0)
    assert followed.there == there
    assert followed.place.read()["memory"] == {"a": 3}


def test_a_push_that_loses_a_race_merges_and_pushes_again(followed: Followed) -> None:
    followed.follow()
    followed.run()
    followed.clone.git("pull", "-q")
    followed.clone.commit("memory/theirs.yaml", "1\n")
    # Somebody else's push arrives between our look and ours: a hook on the host makes it so, once.
    hook = followed.bare / "hooks/pre-receive"
    hook.write_text(
        f"#!/bin/sh\nrm -f {str(hook)!r}\n"
        "unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n"
        f"git -C {str(followed.clone.folder)!r} --git-dir=.git push -q {str(followed.bare)!r} HEAD:main\n"
    )
    hook.chmod(0o755)
    memory(followed.admin, followed.place, ours=2)
    report = followed.run()
    assert report["state"] == "idle", report
    assert not hook.exists()
    assert followed.place.read()["memory"] == {"ours": 2, "theirs": 1}
    assert followed.there == followed.place.read()["head"]
    followed.sound()


def test_a_host_that_forbids_the_push(followed: Followed) -> None:
    followed.follow()
    followed.run()
    hook = followed.bare / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho no pushes here\nexit 1\n")
    hook.chmod(0o755)
    memory(followed.admin, followed.place, ours=2)
    report = followed.run()
    assert report["state"] == "failed"
    assert "does not let" in report["last_error"]
    assert "no pushes here" not in report["last_error"]
    assert counts(report) == (1, 0, 0, 0, 0, 0)
    assert [one["kind"] for one in followed.problems] == ["sync"]


# --- who is reached, and with what ----------------------------------------------------------------------------------


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += logging.Formatter().format(record) + "\n"


@pytest.fixture
def logged() -> Iterator[Lines]:
    lines = Lines()
    root = logging.getLogger()
    level = root.level
    root.addHandler(lines)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(lines)
    root.setLevel(level)


def arguments() -> str:
    """The command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(found)


def test_the_token_is_sent_to_the_host_and_shown_to_nobody(
    followed: Followed, tmp_path: Path, logged: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(followed.bare, followed.host.root / "private/w.git")
    followed.bare = followed.host.root / "private/w.git"
    followed.url = f"{followed.host.url}/private/w.git"
    followed.clone.git("remote", "set-url", "origin", str(followed.bare))
    followed.follow(credentials={"git_token": TOKEN})
    followed.elsewhere("memory/a.yaml", "1\n")
    seen = []
    answer = type(followed.host).finish_request

    def watched(*given: Any) -> Any:
        seen.append(arguments())
        return answer(*given)

    monkeypatch.setattr(type(followed.host), "finish_request", watched)
    report = followed.run()
    assert (report["state"], report["pushed"]) == ("idle", 2), report
    assert {given for _, _, given, _ in followed.host.seen} == {f"Basic {BASIC}"}
    assert any("git fetch" in text for text in seen)
    assert any("git push" in text for text in seen)
    followed.clone.git("pull", "-q")
    wrong = "tok-" + "0Wrong0Wrong0"
    followed.follow(credentials={"git_token": wrong})
    followed.elsewhere("memory/a.yaml", "2\n")
    report = followed.run()
    assert report["state"] == "failed"
    assert "did not accept the token" in report["last_error"]
    (problem,) = followed.problems
    assert (problem["kind"], problem["code"]) == ("sync", "sync_auth_failed")
    for secret in (TOKEN, BASIC, wrong, base64.b64encode(f"x-access-token:{wrong}".encode()).decode()):
        assert secret not in "\n".join(seen)
        assert secret not in logged.text
        assert secret not in str(report) + str(problem)
        found = subprocess.run(
            ["grep", "-rlF", secret, str(followed.place.folder.parents[1])], capture_output=True, text=True, check=False
        )
        assert found.stdout == ""


def test_a_token_stays_with_the_server_it_was_given_for(followed: Followed, tmp_path: Path) -> None:
    """Who may write the repository, but holds no admin key, cannot have the token sent elsewhere."""
    followed.follow(credentials={"git_token": TOKEN}, direction="pull", on_conflict="theirs")
    with hosting(followed.host.root, TOKEN) as evil:
        text = git(followed.place.published(), "show", "main:settings.yaml").replace(followed.host.url, evil.url)
        git(followed.place.folder, "push", "-q", str(followed.bare), "main")
        followed.clone.git("pull", "-q")
        followed.elsewhere("settings.yaml", text + "\n")
        assert followed.run()["state"] == "idle"
        assert evil.url in followed.place.read()["settings"]["sync"]["url"]
        followed.host.seen.clear()
        report = followed.run()
        assert (report["url"], report["state"]) == (f"{evil.url}/w.git", "idle")
        assert {given for _, _, given, _ in evil.seen} == {None}
        assert followed.host.seen == []
        settings = followed.place.read()["settings"]
        settings["sync"]["url"] = f"{evil.url}/private/w.git"
        settings["credentials"]["git_token"] = "another-token"
        assert followed.admin.patch(followed.place.at, {"settings": settings}).status == 200
        assert followed.run()["state"] == "failed"
        assert TOKEN not in str(evil.seen)
        assert {given for _, _, given, _ in evil.seen} - {None} != set()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://10.1.2.3/w.git", "private"),
        ("http://169.254.169.254/w.git", "metadata"),
        ("https://[::1]/w.git", "loopback"),
        ("git://127.0.0.1/w.git", "http, https and ssh"),
        ("http://127.0.0.1.nip.invalid/w.git", "resolved"),
    ],
)
def test_addresses_that_are_not_reached(followed: Followed, url: str, text: str) -> None:
    followed.follow(url=url)
    report = followed.run()
    assert report["state"] == "failed"
    assert text in report["last_error"]
    assert followed.host.seen == []


def test_loopback_is_refused_without_an_allowance(
    second: Callable[..., Any], host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK", 3600.0)
    with second() as running, running.client() as admin:
        followed = Followed(Place(running, admin), admin, host, tmp_path)
        followed.follow()
        report = followed.run()
        assert (report["state"], "loopback" in report["last_error"]) == ("failed", True)
        (problem,) = followed.problems
        assert problem["code"] == "sync_refused_address"
        assert host.seen == []


def test_a_redirect_on_the_host_is_followed_and_no_other(followed: Followed) -> None:
    followed.follow(url=f"{followed.host.url}/moved/w.git")
    assert followed.run()["state"] == "idle"
    assert followed.there == followed.place.read()["head"]


def test_what_is_larger_than_allowed(
    second: Callable[..., Any], host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK", 3600.0)
    with second(**ALLOWED, max_push_bytes=200_000) as running, running.client() as admin:
        followed = Followed(Place(running, admin), admin, host, tmp_path)
        followed.follow(direction="pull")
        (followed.clone.folder / "files").mkdir(exist_ok=True)
        (followed.clone.folder / "files/large.bin").write_bytes(bytes(range(256)) * 10 + os.urandom(600_000))
        followed.clone.commit()
        followed.clone.push()
        report = followed.run()
        assert report["state"] == "failed"
        assert "larger" in report["last_error"]
        followed.sound()
