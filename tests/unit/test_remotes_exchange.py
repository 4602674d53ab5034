"""Fetching and pushing with git as a child: whom it reaches, what it is given, and what becomes of what goes wrong."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from githosts import EXEC_PATH, HERE, TOKEN, Host, bare, git, serving

from gitstore.addresses import Deadline, resolve
from gitstore.remotes import child, exchange
from gitstore.remotes.child import Stopped
from gitstore.remotes.exchange import Far, Means, Setback
from gitstore.remotes.ssh import Ssh
from gitstore.remotes.url import parse

GIT = shutil.which("git") or ""
REF = "refs/sync/theirs"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with serving(tmp_path, TOKEN) as running:
        yield running


@pytest.fixture
def here(tmp_path: Path) -> str:
    """A bare repository to fetch into."""
    return str(bare(tmp_path, "here.git"))


def means(**more: Any) -> Means:
    return Means(**{"git": GIT, "policy": HERE, "timeout": 20.0, **more})


def reach(url: str, token: str | None = None, stop: threading.Event | None = None, **more: Any) -> Far:
    return exchange.reach(url, token=token, means=means(**more), stop=stop or threading.Event())


def there(tmp_path: Path, name: str = "w.git", *branches: str) -> Path:
    return bare(tmp_path, name, *(branches or ("main",)), options=())


def receives(folder: Path) -> Path:
    git(folder, "config", "http.receivepack", "true")
    return folder


def test_a_branch_is_fetched_and_pushed(tmp_path: Path, host: Host, here: str) -> None:
    folder = receives(there(tmp_path, "w.git", "main", "next"))
    far = reach(f"{host.url}/w.git")
    assert far.head("main") == git(folder, "rev-parse", "main")
    assert far.head("ma") is None
    exchange.fetch(far, "next", repository=here, ref=REF)
    assert git(Path(here), "rev-parse", REF) == far.head("next")
    assert exchange.apart(far, str(far.head("next")), str(far.head("main")), repository=here) == (1, 0)
    assert exchange.apart(far, str(far.head("main")), str(far.head("next")), repository=here) == (0, 1)
    assert exchange.apart(far, str(far.head("next")), None, repository=here) == (2, 0)
    assert exchange.push(far, "main", str(far.head("next")), repository=here)
    assert exchange.push(far, "made/new", str(far.head("main")), repository=here)
    assert git(folder, "rev-parse", "main") == far.head("next")
    assert git(folder, "rev-parse", "made/new") == far.head("main")


def test_a_push_is_never_forced(tmp_path: Path, host: Host, here: str) -> None:
    folder = receives(there(tmp_path, "w.git", "main", "next"))
    git(folder, "config", "receive.denyNonFastForwards", "false")
    far = reach(f"{host.url}/w.git")
    exchange.fetch(far, "next", repository=here, ref=REF)
    assert not exchange.push(far, "next", str(far.head("main")), repository=here)
    git(Path(here), "config", "remote.x.push", "+refs/heads/*:refs/heads/*")
    git(Path(here), "config", "push.default", "matching")
    assert not exchange.push(far, "next", str(far.head("main")), repository=here)
    assert git(folder, "rev-parse", "next") == far.head("next")


def test_the_name_is_resolved_once_and_only_that_address_is_reached(tmp_path: Path, host: Host, here: str) -> None:
    receives(there(tmp_path))
    asked = []

    def resolver(name: str, port: int) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"]

    far = reach(f"http://git.nowhere.invalid:{host.server_port}/w.git", resolver=resolver)
    exchange.fetch(far, "main", repository=here, ref=REF)
    assert exchange.push(far, "copy", str(far.head("main")), repository=here)
    assert asked == ["git.nowhere.invalid"]
    assert {seen[3] for seen in host.seen} == {f"git.nowhere.invalid:{host.server_port}"}


def test_an_ipv6_address_is_pinned_in_brackets() -> None:
    remote = parse("https://git.example:8443/w.git")
    six, four = (resolve(one, 1, HERE, deadline=Deadline(5)) for one in ("2606:4700::1", "127.0.0.1"))
    url, settings, environment = child.reaching(remote, (*six, *four), token=TOKEN, ssh=Ssh(), deadline=Deadline(5))
    assert url == "https://git.example:8443/w.git"
    assert settings["http.curloptResolve"] == "git.example:8443:[2606:4700::1],127.0.0.1"
    assert settings["protocol.https.allow"] == "always"
    assert environment == {"GIT_ALLOW_PROTOCOL": "https"}
    header = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    assert settings["http.https://git.example:8443/.extraHeader"] == f"Authorization: Basic {header}"


@pytest.mark.parametrize("path", ["/moved/w.git", "/moved/moved/w.git"])
def test_a_redirect_is_followed_before_git_and_never_by_git(tmp_path: Path, host: Host, here: str, path: str) -> None:
    there(tmp_path)
    far = reach(host.url + path)
    assert far.remote.path == "/w.git"
    exchange.fetch(far, "main", repository=here, ref=REF)
    url, settings, environment = child.reaching(
        parse(host.url + path), far.addresses, token=None, ssh=Ssh(), deadline=Deadline(5)
    )
    said = child.run(
        (GIT, "fetch", "-q", "--", url, "main"), repository=here, deadline=Deadline(10), stop=threading.Event(),
        bytes_max=1 << 20, settings=settings, environment=environment,
    )  # fmt: skip
    assert said.status != 0


@pytest.mark.parametrize(
    ("path", "token", "reason"),
    [
        ("/private/w.git", None, "auth_failed"),
        ("/private/w.git", "wrong", "auth_failed"),
        ("/forbidden/w.git", None, "auth_failed"),
        ("/nothing.git", None, "not_found"),
    ],
)
def test_what_a_look_finds_wrong(tmp_path: Path, host: Host, path: str, token: str | None, reason: str) -> None:
    there(tmp_path / "private")
    with pytest.raises(Setback) as caught:
        reach(host.url + path, token)
    assert caught.value.reason == reason


def test_a_push_without_the_right_to_is_told(tmp_path: Path, host: Host, here: str) -> None:
    there(tmp_path)
    far = reach(f"{host.url}/w.git")
    exchange.fetch(far, "main", repository=here, ref=REF)
    with pytest.raises(Setback) as caught:  # http.receivepack is not set: the host says 403
        exchange.push(far, "copy", str(far.head("main")), repository=here)
    assert caught.value.reason == "auth_failed"


def test_nothing_of_the_users_configuration_counts(
    tmp_path: Path, host: Host, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    receives(there(tmp_path))
    trap = tmp_path / "trap"
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[url "http://127.0.0.1:1/"]\n\tinsteadOf = {host.url}/\n[core]\n\thooksPath = {home}\n'
        f"[credential]\n\thelper = !touch {trap}\n[http]\n\tproxy = http://127.0.0.1:1\n"
    )
    (home / "pre-push").write_text(f"#!/bin/sh\ntouch {trap}\n")
    (home / "pre-push").chmod(0o755)
    (Path(here) / "hooks").mkdir(exist_ok=True)
    for hook in ("pre-push", "reference-transaction"):
        shutil.copy(home / "pre-push", Path(here) / "hooks" / hook)
    for name, value in (
        ("HOME", str(home)), ("GIT_CONFIG_GLOBAL", str(home / ".gitconfig")), ("http_proxy", "http://127.0.0.1:1"),
        ("GIT_SSH_COMMAND", f"touch {trap}"), ("GIT_ASKPASS", f"touch {trap}"), ("GIT_TRACE", str(trap)),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    far = reach(f"{host.url}/w.git")
    exchange.fetch(far, "main", repository=here, ref=REF)
    assert exchange.push(far, "copy", str(far.head("main")), repository=here)
    assert not trap.exists()


# --- ssh -------------------------------------------------------------------------------------------------------------


def client(folder: Path, root: Path) -> tuple[Ssh, Path]:
    """A stand-in for ssh that notes how it was called and does what sshd would do with the command."""
    program, record = folder / "ssh client", folder / "record"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"open({str(record)!r}, 'a').write(repr((sys.argv[1:], dict(os.environ))) + '\\n')\n"
        f"os.environ.update(PATH={EXEC_PATH + ':' + os.environ['PATH']!r}, GIT_CONFIG_GLOBAL='/dev/null')\n"
        "for name in ('GIT_DIR', 'GIT_ALLOW_PROTOCOL'):\n    os.environ.pop(name, None)\n"
        f"os.chdir({str(root)!r})\nos.execv('/bin/sh', ['sh', '-c', sys.argv[-1]])\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Ssh(program=str(program), known_hosts="/srv/known hosts"), record


@pytest.mark.parametrize("form", ["git@127.0.0.1:{}", "ssh://deploy@127.0.0.1:2222{}"])
def test_over_ssh(tmp_path: Path, here: str, form: str) -> None:
    folder = there(tmp_path, "it's $HOME.git")
    ssh, record = client(tmp_path, tmp_path)
    url = form.format(str(folder).replace(" ", "%20") if form.startswith("ssh:") else folder)
    if not form.startswith("ssh:"):
        folder = folder.rename(tmp_path / "it's-$HOME`x`.git")
        url = form.format(folder)
    far = reach(url, TOKEN, ssh=ssh)
    exchange.fetch(far, "main", repository=here, ref=REF)
    assert exchange.push(far, "copy", str(far.head("main")), repository=here)
    assert git(folder, "rev-parse", "copy") == far.head("main")
    calls = [eval(line) for line in record.read_text().splitlines()]
    assert len(calls) == 3
    for words, environment in calls:
        assert words[:2] == ["-F", "none"]
        assert "HostName=127.0.0.1" in words
        assert "StrictHostKeyChecking=yes" in words
        assert 'UserKnownHostsFile="/srv/known hosts"' in words
        user, port = ("git", "22") if form.startswith("git@") else ("deploy", "2222")
        assert words[-7:-1] == ["-p", port, "-l", user, "--", "127.0.0.1"]
        assert words[-1].split()[0] in ("git-upload-pack", "git-receive-pack")
        assert TOKEN not in repr((words, environment))
        assert "SSH_AUTH_SOCK" not in environment


# --- limits ----------------------------------------------------------------------------------------------------------


def slow(folder: Path) -> str:
    """A git that never ends, nor does its own child."""
    program = folder / "slow git"
    program.write_text("#!/bin/sh\nsleep 300 &\nwait\n")
    program.chmod(0o755)
    return str(program)


def sleeping() -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes() == b"sleep\x00300\x00"
        except OSError:
            continue
    return found


def run(here: str, deadline: Deadline, stop: threading.Event, program: str) -> child.Said:
    return child.run(
        (program, "x"), repository=here, deadline=deadline, stop=stop, bytes_max=1 << 20, settings={}, environment={}
    )


def test_the_deadline_ends_the_child_and_its_children(tmp_path: Path, here: str) -> None:
    before = sleeping()
    with pytest.raises(TimeoutError):
        run(here, Deadline(0.5), threading.Event(), slow(tmp_path))
    assert _soon(lambda: sleeping() == before)


def test_a_stop_ends_the_child_and_its_children(tmp_path: Path, here: str) -> None:
    before, stop = sleeping(), threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Stopped):
        run(here, Deadline(30), stop, slow(tmp_path))
    assert _soon(lambda: sleeping() == before)


def _soon(ready: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("program", ["/nothing/git", "/etc/passwd"])
def test_there_is_no_git(tmp_path: Path, host: Host, here: str, program: str | None) -> None:
    there(tmp_path)
    for git_program in (program, None):
        far = reach(f"{host.url}/w.git", git=git_program)
        with pytest.raises(Setback) as caught:
            exchange.fetch(far, "main", repository=here, ref=REF)
        assert caught.value.reason == "no_git"


def test_a_fetch_has_a_limit(tmp_path: Path, host: Host, here: str) -> None:
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    (work / "large").write_bytes(os.urandom(300_000))
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "large")
    git(tmp_path, "clone", "-q", "--bare", str(work), "large.git")
    with pytest.raises(Setback) as caught:
        exchange.fetch(reach(f"{host.url}/large.git", bytes_max=100_000), "main", repository=here, ref=REF)
    assert caught.value.reason == "too_large"
    assert "100000" in caught.value.message
    exchange.fetch(reach(f"{host.url}/large.git", bytes_max=400_000), "main", repository=here, ref=REF)


def test_what_git_repeats_of_the_url_is_not_what_it_says(tmp_path: Path, host: Host, here: str) -> None:
    """A repository whose name is one of the texts that are looked for."""
    folder = there(tmp_path, "certificate-redirect.git")
    far = reach(f"{host.url}/certificate-redirect.git")
    folder.rename(tmp_path / "gone.git")
    with pytest.raises(Setback) as caught:
        exchange.fetch(far, "main", repository=here, ref=REF)
    assert caught.value.reason == "not_found"
