"""verify-git-access: speaks to a real git server, tests the URL it is given, and keeps the token to itself."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.githosts import TOKEN, Host, bare
from unit.githosts import serving as hosting

from contract.client import OID, TIME, Client
from contract.conftest import Place, Server

ANSWER = ["ok", "repository_url", "default_branch", "branch_verified", "head", "branches", "reason", "message",
          "checked_at",
          "duration_ms"]  # fmt: skip


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    root = tmp_path_factory.mktemp("remotes")
    bare(root, "pub", "main", "dev", "main-2")
    bare(root, "empty")
    bare(root / "private", "repo", "main")
    with hosting(root, TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def near(second: Any) -> Iterator[Server]:
    """A server that may reach this machine, and gives up after two seconds."""
    with second(verify_allow=("127.0.0.0/8",), verify_timeout=2.0) as running:
        yield running


@pytest.fixture
def admin(near: Server) -> Iterator[Client]:
    with near.client() as made:
        yield made


@pytest.fixture
def place(near: Server, admin: Client) -> Place:
    return Place(near, admin)


def verify(admin: Client, place: Place, url: str, **more: Any) -> Any:
    answer = admin.post(f"{place.at}/verify-git-access", {"repository_url": url, **more})
    assert answer.status == 200, answer.body
    assert list(answer.data) == ANSWER
    assert TIME.fullmatch(answer.data["checked_at"])
    assert answer.data["ok"] is (answer.data["reason"] is None)
    assert answer.data["message"]
    assert TOKEN.encode() not in answer.body
    return answer.data


def test_a_repository_that_can_be_read(host: Host, admin: Client, place: Place) -> None:
    before = place.read()
    found = verify(admin, place, f"{host.url}/pub")
    assert (found["ok"], found["default_branch"], found["branch_verified"], found["branches"]) == (
        True,
        "main",
        False,
        3,
    )
    assert OID.fullmatch(found["head"])
    named = verify(admin, place, f"{host.url}/pub", default_branch="dev")
    assert (named["ok"], named["default_branch"], named["branch_verified"]) == (True, "dev", True)
    assert place.read() == before  # nothing is stored
    assert admin.get(f"{place.at}/timeline").meta["total"] == 1


@pytest.mark.parametrize("branch", ["ma*", "mai", "MAIN", "heads/main", "main-", "*", "", "[m]ain", "no"])
def test_a_branch_is_exact(host: Host, admin: Client, place: Place, branch: str) -> None:
    answer = admin.post(
        f"{place.at}/verify-git-access", {"repository_url": f"{host.url}/pub", "default_branch": branch}
    )
    if branch == "":
        assert answer.pointers == ["/default_branch"]
        return
    assert (answer.data["ok"], answer.data["reason"], answer.data["branch_verified"]) == (
        False,
        "branch_not_found",
        False,
    )


def test_what_can_go_wrong(host: Host, admin: Client, place: Place) -> None:
    assert verify(admin, place, f"{host.url}/none")["reason"] == "not_found"
    assert verify(admin, place, f"{host.url}/empty")["reason"] == "empty_repository"
    assert verify(admin, place, f"{host.url}/private/repo")["reason"] == "auth_failed"
    assert verify(admin, place, f"{host.url}/moved/http://example.org/x")["ok"] is False
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert verify(admin, place, f"http://127.0.0.1:{free.getsockname()[1]}/a")["reason"] == "unreachable"


def test_a_host_that_is_silent_is_given_up(admin: Client, place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        found = verify(admin, place, f"http://127.0.0.1:{silent.getsockname()[1]}/a")
        assert found["reason"] == "timeout"
        assert 1.5 < time.monotonic() - started < 4


def test_a_host_that_is_no_git_server(admin: Client, place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as junk:

        def answer() -> None:
            link, _ = junk.accept()
            link.recv(4096)
            link.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello")
            link.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert verify(admin, place, f"http://127.0.0.1:{junk.getsockname()[1]}/a")["reason"] == "not_a_git_server"
        thread.join()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "git://127.0.0.1/a", "ftp://h/a", "ext::sh -c id",
                                 "/etc/passwd", "-oProxyCommand=id",
                                 "gopher://h/a", "javascript:alert(1)", "C:\\a"])  # fmt: skip
def test_only_http_and_ssh(admin: Client, place: Place, url: str) -> None:
    answer = admin.post(f"{place.at}/verify-git-access", {"repository_url": url})
    if answer.status == 200:
        assert answer.data["reason"] == "refused_scheme"
    else:
        assert answer.code == (400, "VALIDATION_ERROR")


def test_a_credential_in_the_url_is_not_echoed(host: Host, admin: Client, place: Place) -> None:
    url = host.url.replace("http://", f"http://x-access-token:{TOKEN}@") + "/private/repo"
    answer = admin.post(f"{place.at}/verify-git-access", {"repository_url": url})
    assert TOKEN.encode() not in answer.body
    assert answer.status in (200, 400)


def test_the_modes_of_the_token(host: Host, admin: Client, place: Place) -> None:
    url = f"{host.url}/private/repo"
    assert verify(admin, place, url, git_token_mode="replace", git_token=TOKEN)["ok"] is True
    assert verify(admin, place, url, git_token_mode="replace", git_token="wrong-token-1")["reason"] == "auth_failed"
    for blank in ({}, {"git_token": ""}, {"git_token": "  "}, {"git_token": None}):
        answer = admin.post(
            f"{place.at}/verify-git-access", {"repository_url": url, "git_token_mode": "replace", **blank}
        )
        assert answer.pointers == ["/git_token"]
    admin.patch(place.at, {"repository_url": url, "settings": {"credentials": {"git_token": TOKEN}}})
    assert verify(admin, place, url)["ok"] is True
    assert verify(admin, place, url, git_token_mode="preserve")["ok"] is True
    assert verify(admin, place, url, git_token_mode="clear")["reason"] == "auth_failed"
    assert place.read()["settings"]["credentials"]["git_token_configured"] is True


def test_the_stored_token_goes_to_no_other_server(host: Host, admin: Client, place: Place, tmp_path: Path) -> None:
    admin.patch(
        place.at, {"repository_url": "https://example.org/a", "settings": {"credentials": {"git_token": TOKEN}}}
    )
    host.seen.clear()
    found = verify(admin, place, f"{host.url}/private/repo", git_token_mode="preserve")
    assert found["reason"] == "auth_failed"
    assert "not used" in found["message"]
    assert all(given is None for _, _, given, _ in host.seen)


def test_the_token_reaches_no_log(host: Host, admin: Client, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        verify(admin, place, f"{host.url}/private/repo", git_token_mode="replace", git_token=TOKEN)
        verify(admin, place, f"{host.url}/none", git_token_mode="replace", git_token=TOKEN)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, "/repository_url"), ({"repository_url": ""}, "/repository_url"), ({"repository_url": 5}, "/repository_url"),
     ({"repository_url": "https://h/" + "a" * 2048}, "/repository_url"),
     ({"repository_url": "https://h/a", "git_token_mode": "drop"}, "/git_token_mode"),
     ({"repository_url": "https://h/a", "git_token": "x" * 20001}, "/git_token")],
)  # fmt: skip
def test_a_body_of_the_wrong_shape(admin: Client, place: Place, body: Any, pointer: str) -> None:
    assert admin.post(f"{place.at}/verify-git-access", body).pointers == [pointer]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254",
     "[fe80::1]",
     "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1", "[fd00::1]", "100.64.0.1"],
)  # fmt: skip
def test_private_addresses_are_refused_by_default(server: Server, address: str) -> None:
    with server.client() as admin:
        place = Place(server, admin)
        found = verify(admin, place, f"http://{address}:9/a")
        assert found["reason"] in ("refused_address", "unreachable") if address == "0x7f.1" else "refused_address"
        assert found["reason"] == "refused_address" or address in ("0x7f.1", "127.1", "2130706433")
