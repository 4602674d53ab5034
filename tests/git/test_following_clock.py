"""When followers have their turn: by the clock, after a webhook, after failures; and what a stop and a kill leave."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from contract.client import Answer, Client
from contract.conftest import ADMIN, Place, Server, serving
from started import DEVNULL, PIPE, Started
from unit.githosts import Host
from unit.githosts import serving as hosting

from gitstore import following
from gitstore.changes import Workspace
from gitstore.store import Store

from .test_following import ALLOWED, Followed, memory

LONG = ALLOWED | {"verify_timeout": 300.0, "sync_timeout": 300.0}  # longer than a test may take
SECRET = "the-secret-of-the-hook"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("clock") / "data", **ALLOWED) as running:
        yield running


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "hosted").mkdir()
    with hosting(tmp_path / "hosted") as running:
        yield running


@pytest.fixture
def followed(place: Place, admin: Client, host: Host, tmp_path: Path) -> Followed:
    return Followed(place, admin, host, tmp_path)


def wait(ready: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def state(followed: Followed) -> dict[str, Any]:
    found: dict[str, Any] = followed.admin.get(f"{followed.place.at}/sync").data
    return found


def test_a_new_follower_has_its_turn_at_once_and_then_by_the_interval(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.follow(interval=10)
    wait(lambda: state(followed)["last_success_at"])
    assert followed.there == followed.place.read()["head"]
    first = state(followed)
    followed.clone.git("pull", "-q")
    followed.elsewhere("memory/a.yaml", "1\n")
    wait(lambda: followed.place.read()["memory"] == {"a": 1})
    wait(lambda: state(followed)["last_run_at"] > first["last_run_at"])
    # No longer wanted: it ends.
    followed.admin.patch(followed.place.at, {"settings": {}})
    assert state(followed)["direction"] is None
    wait(lambda: followed.place.id not in followed.place._server.app.following.urls())


def test_it_goes_on_after_a_restart(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SPREAD", 0.5)
    data = tmp_path / "data"
    with serving(data, **ALLOWED) as running, running.client() as admin:
        place, other = Place(running, admin), Place(running, admin)
        asleep = Followed(Place(running, admin), admin, host, tmp_path, "asleep.git")
        asleep.follow()
        admin.patch(asleep.place.at, {"is_active": False})
        followed = Followed(place, admin, host, tmp_path)
        followed.follow(interval=604_800)
        wait(lambda: state(followed)["last_success_at"])
    followed.clone.git("pull", "-q")
    followed.elsewhere("memory/a.yaml", "1\n")
    before = asleep.there
    loaded = loads_of_following(monkeypatch)
    with serving(data, **ALLOWED) as running:
        wait(lambda: (running.store.load(place.id).visible.context.memory.get("a")) is not None)
        assert place.id in loaded
        assert other.id not in loaded  # nothing was loaded that follows nothing
        assert asleep.place.id not in loaded
    assert asleep.there == before


def loads_of_following(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What is loaded from now on because a remote is followed: others have reasons of their own."""
    load, loaded = Store.load, set()

    def watched(self: Store, reference: str) -> Workspace:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and Path(frame.f_code.co_filename).name not in ("following.py", "sync.py"):
            frame = frame.f_back
        if frame is not None:
            loaded.add(reference)
        return load(self, reference)

    monkeypatch.setattr(Store, "load", watched)
    return loaded


def test_failures_are_tried_again_less_and_less_often(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BACK_OFF", 40.0)
    clock = followed.place._server.app.following
    followed.follow(url=f"{followed.host.url}/forbidden/w.git", interval=10)
    waits = []
    for number in range(1, 8):
        report = followed.run()
        assert (report["state"], report["last_success_at"]) == ("failed", None)
        follower = clock._followers[followed.place.id]
        assert follower.failures >= number
        waits.append((follower.failures, follower.due - time.monotonic()))
    for failures, seconds in waits:
        longest = min(40.0 * 2 ** (failures - 1), following.BACK_OFF_MAX)
        assert max(10, longest / 2) - 5 < seconds <= longest
    (problem,) = followed.problems
    assert (problem["kind"], problem["code"]) == ("sync", "sync_auth_failed")
    followed.follow(interval=604_800)  # mended
    wait(lambda: state(followed)["state"] == "idle" and state(followed)["last_success_at"])
    assert followed.problems == []


def test_what_may_pass_is_no_problem_until_it_lasts(followed: Followed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    followed.follow(url=f"http://127.0.0.1:{port}/w.git", interval=604_800)
    clock = followed.place._server.app.following
    for _ in range(following.PATIENCE + 1):
        report = followed.run()
        assert report["state"] == "failed"
        assert "cannot be reached" in report["last_error"]
        told = clock._followers[followed.place.id].failures >= following.PATIENCE
        assert [one["code"] for one in followed.problems] == ["sync_unreachable"] * told
    assert told


# --- hosts that hang, and a stop -------------------------------------------------------------------------------------


class Hanging(Host):
    """Answers the first look as git does, and then never again."""

    looks = 1

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.looks <= 0:
            self.hung.set()
            self.released.wait(60)
            return
        self.looks -= 1
        super().finish_request(request, client_address)


@pytest.fixture
def hanging(host: Host) -> Iterator[Hanging]:
    made = Hanging(host.root)
    made.hung, made.released = threading.Event(), threading.Event()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    made.server_close()
    thread.join()


def children() -> str:
    """The git processes that this process has started, of whatever depth."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if "git" in line and f"GIT_DIR={_scratch}" in (path / "environ").read_bytes().decode("utf-8", "replace"):
                found.append(line)
        except OSError:
            continue
    return "\n".join(found)


_scratch = ""


def test_hosts_that_hang_hold_up_nobody_else(
    tmp_path: Path, host: Host, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging.looks = 0
    began = []
    finish = Hanging.finish_request

    def counted(self: Hanging, *given: Any) -> None:
        began.append(time.monotonic())
        finish(self, *given)

    monkeypatch.setattr(Hanging, "finish_request", counted)
    with serving(tmp_path / "data", **LONG) as running, running.client() as admin:
        sync = {"url": f"http://127.0.0.1:{hanging.server_port}/w.git", "interval": 10}
        for _ in range(5):
            admin.patch(Place(running, admin).at, {"settings": {"sync": sync}})
        wait(lambda: len(running.app.following.urls()) == 5 and len(began) >= following.AT_ONCE)
        followed = Followed(Place(running, admin), admin, host, tmp_path)
        followed.follow(interval=604_800)
        assert followed.run()["state"] == "idle"  # asked for, so it goes beside
        assert len(began) == following.AT_ONCE


@pytest.mark.parametrize("looks", [0, 2])
def test_a_host_that_hangs(
    tmp_path: Path, host: Host, hanging: Hanging, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    monkeypatch.setattr(following, "LOOK", 3600.0)
    allowed = ALLOWED | {"verify_timeout": 2.0, "sync_timeout": 3.0}
    with serving(tmp_path / "data", **allowed) as running, running.client() as admin:
        followed = Followed(Place(running, admin), admin, host, tmp_path)
        followed.elsewhere("memory/a.yaml", "1\n")
        followed.follow(url=f"http://127.0.0.1:{hanging.server_port}/w.git")
        hanging.looks = looks
        report = followed.run()
        assert hanging.hung.is_set()
        assert report["state"] == "failed"
        assert "seconds" in report["last_error"]
        assert followed.problems == []
        monkeypatch.setitem(globals(), "_scratch", str(tmp_path))
        assert children() == ""
        followed.sound()


def test_a_stop_breaks_a_run_off(tmp_path: Path, host: Host, hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK", 3600.0)
    monkeypatch.setitem(globals(), "_scratch", str(tmp_path))
    answers: list[Answer] = []
    with serving(tmp_path / "data", **LONG) as running, running.client() as admin:
        followed = Followed(Place(running, admin), admin, host, tmp_path)
        followed.elsewhere("memory/a.yaml", "1\n")
        followed.follow(url=f"http://127.0.0.1:{hanging.server_port}/w.git")
        hanging.looks = 2
        client = admin.other()
        asking = threading.Thread(target=lambda: answers.append(client.post(f"{followed.place.at}/sync")))
        asking.start()
        assert hanging.hung.wait(20)
        wait(children)
        assert state(followed)["state"] == "running"
    asking.join()
    assert [answer.code for answer in answers] == [(503, "SERVICE_UNAVAILABLE")]
    assert children() == ""
    assert list(followed.place.folder.glob(".git/gitstore/incoming-*")) == []


def test_without_a_git_program(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK", 3600.0)
    for program in (None, "git-that-is-not-there"):
        data = tmp_path / f"data {program}"
        with serving(data, **ALLOWED, git_binary=program) as running, running.client() as admin:
            followed = Followed(Place(running, admin), admin, host, tmp_path, f"{program}.git")
            followed.follow()
            report = followed.run()
            assert report["state"] == "failed"
            assert "no git program" in report["last_error"]
            assert [one["code"] for one in followed.problems] == ["sync_no_git"]


# --- webhooks --------------------------------------------------------------------------------------------------------


def call(client: Client, provider: str, url: str, secret: str = SECRET, ref: str | None = "refs/heads/main") -> Answer:
    where = {"gitlab": {"project": {"git_http_url": url}}}.get(provider, {"repository": {"clone_url": url}})
    body = json.dumps({**({"ref": ref} if ref else {}), **where}).encode()
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "github": {"X-Hub-Signature-256": f"sha256={digest}"},
        "gitea": {"X-Gitea-Signature": digest},
        "gitlab": {"X-Gitlab-Token": secret},
    }[provider]
    return client.post("/webhooks/git", body, key=None, headers={"Content-Type": "application/json", **headers})


@pytest.mark.parametrize("provider", ["github", "gitea", "gitlab"])
def test_a_call_starts_a_pull(followed: Followed, monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    monkeypatch.setattr(following, "APART", 1.0)
    admin, place = followed.admin, followed.place
    assert admin.put(f"{place.at}/git-webhook", {"provider": provider, "secret": SECRET}).status == 200
    followed.follow(interval=604_800, direction="pull")
    wait(lambda: state(followed)["last_success_at"])
    followed.elsewhere("memory/a.yaml", "1\n")
    runs = len(followed.host.seen)
    assert call(admin, provider, followed.url, "not-the-secret").status == 401
    assert call(admin, provider, followed.url, ref="refs/heads/other").status == 202
    assert len(followed.host.seen) == runs
    for _ in range(5):  # one push, told several times, or an old call sent again
        assert call(admin, provider, followed.url).status == 202
    wait(lambda: place.read()["memory"] == {"a": 1})
    wait(lambda: state(followed)["state"] == "idle")
    looks = [seen for seen in followed.host.seen[runs:] if seen[0] == "GET"]
    assert len(looks) <= 4  # at most two runs: each looks once by itself and once by git
    followed.follow(interval=604_800, direction="push")
    followed.run()
    assert call(admin, provider, followed.url).status == 202
    clock = place._server.app.following
    assert not clock.called(place.id, "refs/heads/main")


def test_a_header_of_any_bytes_is_no_failure(followed: Followed) -> None:
    for provider, name in (
        ("gitlab", "X-Gitlab-Token"),
        ("gitea", "X-Gitea-Signature"),
        ("github", "X-Hub-Signature-256"),
    ):
        followed.admin.put(f"{followed.place.at}/git-webhook", {"provider": provider, "secret": SECRET})
        followed.follow(interval=604_800)
        wait(lambda: state(followed)["last_run_at"])
        where = {"gitlab": {"project": {"git_http_url": followed.url}}}.get(
            provider, {"repository": {"clone_url": followed.url}}
        )
        body = json.dumps(where).encode()
        with socket.create_connection(("127.0.0.1", followed.place._server.port)) as connection:
            connection.sendall(
                b"POST /api/v1/webhooks/git HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\n"
                + f"Content-Length: {len(body)}\r\n{name}: ".encode() + b"\xff\xfe\xc3\xa9\r\n\r\n" + body
            )  # fmt: skip
            assert connection.recv(64).startswith(b"HTTP/1.1 401 ")


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def test_a_kill_in_the_middle_leaves_nothing_broken(tmp_path: Path, host: Host) -> None:
    data = tmp_path / "data"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GITSTORE_")},
        "GITSTORE_ADMIN_KEY": ADMIN,
        "GITSTORE_VERIFY_ALLOW": "127.0.0.0/8",
    }
    followed: Followed | None = None
    for number in range(6):
        process = Started(
            ["serve", "--data", str(data), "--port", "0"], env=environment, stdout=PIPE, stderr=DEVNULL
        )  # fmt: skip
        try:
            port = 0
            assert process.stdout is not None
            while not port:
                line = process.stdout.readline()
                assert line, "the server ended"
                if "http://" in line:
                    port = int(line.split("http://", 1)[1].split(":", 1)[1].split("/")[0].split()[0])
            with Client(port, ADMIN) as admin:
                if followed is None:
                    followed = _outside(admin, data, host, tmp_path)
                followed.admin = admin
                followed.clone.git("pull", "-q", "--no-rebase")
                followed.elsewhere(f"memory/there{number}.yaml", f"{number}\n")
                memory(admin, followed.place, **{f"here{number}": number})
                asking = threading.Thread(target=_ask, args=(port, followed.place.at))
                asking.start()
                time.sleep(0.03 * number)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        asking.join()
    assert followed is not None
    with serving(data, **ALLOWED) as running, running.client() as admin:
        followed.admin = admin
        followed.place._server = running
        followed.place._admin = admin
        wait(lambda: followed.run()["state"] == "idle")
        wanted = {f"{side}{number}": number for side in ("here", "there") for number in range(6)}
        assert followed.place.read()["memory"] == wanted
        assert followed.there == followed.place.read()["head"]
        followed.sound()


def _ask(port: int, at: str) -> None:
    with Client(port, ADMIN) as client, contextlib.suppress(OSError, HTTPException):  # the server is killed meanwhile
        client.post(f"{at}/sync")


class _Elsewhere:
    """What a Place needs of a server that runs in another process."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def folder(self, slug: str) -> Path:
        return self.data / "workspaces" / slug


def _outside(admin: Client, data: Path, host: Host, tmp_path: Path) -> Followed:
    place = Place(_Elsewhere(data), admin)  # type: ignore[arg-type]
    wait(lambda: (place.folder / ".git/refs/heads/main").exists())
    place.published = lambda: place.folder  # type: ignore[method-assign]
    followed = Followed(place, admin, host, tmp_path)
    del place.published  # type: ignore[attr-defined]
    followed.follow(interval=604_800)
    wait(lambda: state(followed)["last_success_at"])
    return followed
