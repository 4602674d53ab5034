"""What a host may try that is asked for a repository's refs: to catch the token, to hang, to flood, to confuse."""

import base64
import contextlib
import re
import resource
import socket
import ssl
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstore.addresses import AddressPolicy
from gitstore.remotes import verify_access
from security.hostile import (
    ADVERTISED,
    GOOD,
    OID,
    PUBLIC,
    SERVICE,
    TOKEN,
    Listener,
    advert,
    answer,
    check,
    listening,
    packet,
    says,
)


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    with listening() as start:
        yield start


# --- redirects and tokens -------------------------------------------------------------------------------------------


def redirect(target: str, status: str = "302 Found") -> Callable[[socket.socket], None]:
    return says(answer(b"", status=status, headers=(f"Location: {target}", "Connection: close")))


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/repo.git/info/refs?service=git-upload-pack",
        "http://127.0.0.2:{port}/repo.git/info/refs?service=git-upload-pack",
        "//127.0.0.1:{port}/repo.git/info/refs?service=git-upload-pack",
        "https://127.0.0.1:{port}/repo.git/info/refs?service=git-upload-pack",
        "http://x@127.0.0.1:{port}/repo.git/info/refs?service=git-upload-pack",
        "http://169.254.169.254/latest/info/refs?service=git-upload-pack",
        "http://localhost:{port}/repo.git/info/refs?service=git-upload-pack",
        "http://[::ffff:127.0.0.1]:{port}/repo.git/info/refs?service=git-upload-pack",
        "file:///etc/info/refs?service=git-upload-pack",
        "ext::sh",
        "gopher://127.0.0.1:{port}/x",
        "http://[",
        "\\\\127.0.0.1:{port}\\x/info/refs?service=git-upload-pack",
        "/\\127.0.0.1:{port}/x/info/refs?service=git-upload-pack",
        "/login",
        "/x/info/refs?service=git-receive-pack",
        "",
    ],
)
def test_a_redirect_elsewhere_gets_nothing(listen: Callable[..., Listener], target: str, status: str) -> None:
    trap = listen(says(GOOD))
    host = listen(redirect(target.format(port=trap.port), status))
    report = check(host.url, token=TOKEN)
    assert not report.ok
    assert report.reason in ("refused_address", "refused_scheme", "not_a_git_server")
    assert host.connections == 1
    assert trap.connections == 0
    assert trap.received == b""


def test_the_token_goes_to_the_host_in_one_header_only(listen: Callable[..., Listener]) -> None:
    host = listen(says(GOOD))
    assert check(host.url, token=TOKEN).ok
    basic = base64.b64encode(f"x-access-token:{TOKEN}".encode())
    assert host.received.count(b"Authorization: Basic " + basic) == 1
    assert host.received.count(basic) == 1
    assert TOKEN.encode() not in host.received


def test_a_token_cannot_forge_a_header(listen: Callable[..., Listener]) -> None:
    host = listen(says(GOOD))
    assert check(host.url, token="a\r\nEvil: 1\r\n\r\nGET / HTTP/1.1").ok
    assert b"Evil" not in host.received
    assert host.received.count(b"HTTP/1.1") == 1


def test_a_token_is_not_sent_over_plain_http_to_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connect)
    url, private = "http://git.example/r", lambda *_: ["10.0.0.1"]
    for policy, resolver in (
        (PUBLIC, lambda *_: ["8.8.8.8"]),
        (AddressPolicy(allow_private=True), private),
        (AddressPolicy(allow_private=True, allow=("10.2.0.0/16",)), private),
        (AddressPolicy(allow=("127.0.0.0/8",)), lambda *_: ["127.0.0.1", "8.8.8.8"]),
    ):
        report = check(url, token=TOKEN, policy=policy, resolver=resolver)
        assert report.reason == "refused_scheme"
        assert "https" in report.message
    for policy in (AddressPolicy(allow=("10.0.0.0/8",)), AddressPolicy(allow=("git.example",))):
        with pytest.raises(AssertionError, match="connection"):
            check(url, token=TOKEN, policy=policy, resolver=private)


def test_a_host_that_sends_the_token_back(listen: Callable[..., Listener]) -> None:
    basic = base64.b64encode(f"x-access-token:{TOKEN}".encode())
    for text in (TOKEN.encode(), basic):
        line = OID + b" HEAD\0symref=HEAD:refs/heads/x" + text + b"\n"
        host = listen(says(answer(advert(line, OID + b" refs/heads/x" + text + b"\n"))))
        report = check(host.url, None, TOKEN)
        assert report.ok
        assert report.default_branch == "x[token]"
    old = OID.decode()  # tokens of 40 hexadecimal digits exist
    assert check(listen(says(GOOD)).url, "main", old).head == "[token]"
    assert TOKEN not in repr(check(f"http://127.0.0.1:1/{TOKEN}/x", TOKEN, TOKEN))


def test_the_token_is_in_no_exception_and_no_process(
    listen: Callable[..., Listener], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    processes: list[bytes] = []

    def speak(connection: socket.socket) -> None:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended since
                processes.append(process.read_bytes())
        connection.sendall(answer(b"", status="401 Unauthorized", headers=("WWW-Authenticate: Basic",)))

    assert check(listen(speak).url, token=TOKEN).reason == "auth_failed"
    assert processes or sys.platform != "linux"
    assert not any(TOKEN.encode() in line for line in processes)

    def broken(host: str, port: int) -> list[str]:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError) as bug:  # it is not hidden, but it tells nothing
        verify_access("https://git.example/x", branch=None, token=TOKEN, policy=PUBLIC, resolver=broken)
    assert TOKEN not in "".join(traceback.format_exception(bug.value))
    assert TOKEN not in caplog.text
    assert TOKEN not in "".join(capfd.readouterr())


# --- hosts that misbehave -------------------------------------------------------------------------------------------


def hang(connection: socket.socket) -> None:
    connection.recv(1)


def drip(data: bytes) -> Callable[[socket.socket], None]:
    def speak(connection: socket.socket) -> None:
        for number in range(10_000):
            connection.sendall(data[number % len(data) : number % len(data) + 1])
            time.sleep(0.02)

    return speak


def start_then_hang(data: bytes) -> Callable[[socket.socket], None]:
    def speak(connection: socket.socket) -> None:
        connection.sendall(data)
        hang(connection)

    return speak


HEADERS = answer(b"", sized=False)


@pytest.mark.parametrize(
    "speak",
    [
        hang,
        drip(b"H"),
        drip(b"HTTP/1.1 100 Continue\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 5000),
        start_then_hang(HEADERS),
        start_then_hang(HEADERS + b"001e# service="),
        start_then_hang(answer(b"", sized=False, headers=("Transfer-Encoding: chunked",)) + b"1\r\n0\r\n"),
    ],
)
def test_a_slow_host_is_given_up_in_time(listen: Callable[..., Listener], speak: Callable[..., None]) -> None:
    start = time.monotonic()
    report = check(listen(speak).url, timeout=0.6)
    assert report.reason == "timeout"
    assert 0.5 < time.monotonic() - start < 2
    assert 500 <= report.duration_ms < 2000


def test_a_drip_of_valid_packets_is_given_up_in_time(listen: Callable[..., Listener]) -> None:
    def speak(connection: socket.socket) -> None:
        connection.sendall(HEADERS + packet(b"# service=git-upload-pack\n") + b"0000")
        for number in range(10_000):
            connection.sendall(packet(OID + b" refs/heads/b%d\n" % number))
            time.sleep(0.02)

    start = time.monotonic()
    assert check(listen(speak).url, timeout=0.6).reason == "timeout"
    assert time.monotonic() - start < 2


def test_a_host_that_hangs_in_the_tls_handshake(listen: Callable[..., Listener]) -> None:
    for speak in (hang, drip(b"\x16\x03\x03\x40\x00\x02")):
        host = listen(speak)
        start = time.monotonic()
        report = check(host.url.replace("http:", "https:"), token=TOKEN, timeout=0.6, tls=ssl.create_default_context())
        assert report.reason in ("timeout", "unreachable")
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("headers", [(), ("Transfer-Encoding: chunked",), ("Content-Length: 1073741824",)])
@pytest.mark.parametrize("content", [b"\0" * 65536, packet(OID + b" refs/tags/x\n") * 1000, b"x: y\r\n" * 10000])
def test_a_gigabyte_is_not_read(listen: Callable[..., Listener], headers: tuple[str, ...], content: bytes) -> None:
    sent = 0

    def speak(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(answer(b"", sized=False, headers=headers) + packet(b"# service=git-upload-pack\n") + b"0000")
        body = b"%x\r\n" % len(content) + content + b"\r\n" if "chunked" in repr(headers) else content
        while sent < 1 << 30:
            connection.sendall(body)
            sent += len(body)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = check(listen(speak).url, timeout=10)
    assert report.reason == "not_a_git_server"
    assert sent < 32 << 20  # what was read, and what the sockets' buffers took
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_endless_headers_and_endless_continues_are_not_read(listen: Callable[..., Listener]) -> None:
    for start, more in (
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"", b"y" * 65536),
    ):

        def speak(connection: socket.socket, start: bytes = start, more: bytes = more) -> None:
            connection.sendall(start)
            while True:
                connection.sendall(more)

        assert check(listen(speak).url, timeout=10).reason == "not_a_git_server"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0",
        b"000",
        b"-001",
        b"-fff",
        b"+010",
        b"0x10",
        b" 010",
        b"1_00",
        b"\xd9\xa1\xd9\xa1",
        b"0001",
        b"0002",
        b"0003",
        b"fff1" + b"x" * 65536,
        b"ffff" + b"x" * 65536,
        b"<!DOCTYPE html><title>git</title>",
        packet(b"# service=git-receive-pack\n") + b"0000",
        packet(b"# service=git-upload-pack\n") + packet(OID + b" HEAD\n"),
        SERVICE + b"fff1" + OID + b" refs/heads/" + b"x" * (0xFFF1 - 4 - 52) + b"0000",  # one byte too long
        SERVICE,
        SERVICE + b"00",
        SERVICE + b"0008abc",
        SERVICE + b"-001",
        SERVICE + packet(b"x"),
        SERVICE + packet(OID) + b"0000",
        SERVICE + packet(OID + b" \n") + b"0000",
        SERVICE + packet(OID[:39] + b" refs/heads/x\n") + b"0000",
        SERVICE + packet(OID.upper() + b" refs/heads/x\n") + b"0000",
        SERVICE + packet(OID + b" refs/heads/a b\n") + b"0000",
        SERVICE + packet(OID + b" refs/heads/a\x1b[31m\n") + b"0000",
        SERVICE + packet(OID + b" refs/heads/a\n\n") + b"0000",
        SERVICE + packet(OID + b" HEAD\0x\n") + packet(OID + b" refs/heads/a\0x\n") + b"0000",
        SERVICE + packet(OID + b" HEAD\0x\n") + b"0001" + b"0000",
        SERVICE + packet(b"version 3\n") + b"0000",
        SERVICE + packet(b"version 2\n") + b"0000",
        SERVICE + packet(b"version 2\n") + packet(b"fetch\n") + b"0000",
        SERVICE + packet(b"version 2\n") + packet(b"ls-refs\n") + packet(b"object-format=md5\n") + b"0000",
        SERVICE + packet(b"version 2\n") + packet(b"ls-refs\n"),
        SERVICE + packet(b"version 2\n") * 2,
    ],
)
def test_garbage_is_not_a_git_server(listen: Callable[..., Listener], body: bytes) -> None:
    report = check(listen(says(answer(body))).url)
    assert (report.reason, report.branches, report.head) == ("not_a_git_server", 0, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 99999999999 OK\r\n\r\n",
        HEADERS.replace(ADVERTISED.encode(), b"text/html") + advert(OID + b" refs/heads/main\n"),
        HEADERS.replace(b"Content-Type", b"X-Type") + advert(OID + b" refs/heads/main\n"),
        answer(advert(OID + b" refs/heads/main\n"), headers=("Content-Encoding: gzip",)),
        answer(advert(OID + b" refs/heads/main\n"), status="206 Partial"),
        answer(advert(OID + b" refs/heads/main\n"), status="204 No Content"),
        answer(b"-5\r\nabcde\r\n0\r\n\r\n", sized=False, headers=("Transfer-Encoding: chunked",)),
        answer(b"zz\r\nabcde\r\n0\r\n\r\n", sized=False, headers=("Transfer-Encoding: chunked",)),
        answer(b"ffffffffffffffffffff\r\nabcde\r\n", sized=False, headers=("Transfer-Encoding: chunked",)),
        answer(b"-2\r\n" + b"x" * 9000, sized=False, headers=("Transfer-Encoding: chunked",)),
        answer(SERVICE, sized=False, headers=("Content-Length: 999",)),
        answer(advert(OID + b" refs/heads/main\n"), headers=("Content-Length: -1",), sized=False)[:90],
    ],
)
def test_broken_http_is_reported(listen: Callable[..., Listener], data: bytes) -> None:
    assert check(listen(says(data)).url, timeout=5).reason in ("not_a_git_server", "unreachable")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("401 Unauthorized", "auth_failed"),
        ("403 Forbidden", "auth_failed"),
        ("404 Not Found", "not_found"),
        ("410 Gone", "not_found"),
        ("400 Bad Request", "not_a_git_server"),
        ("304 Not Modified", "not_a_git_server"),
        ("429 Too Many", "unreachable"),
        ("500 Oops", "unreachable"),
        ("503 Later", "unreachable"),
    ],
)
def test_what_a_status_means(listen: Callable[..., Listener], status: str, reason: str) -> None:
    said = "text-of-the-host"
    report = check(listen(says(answer(said.encode(), status=status + said))).url)
    assert report.reason == reason
    assert said not in report.message


def test_the_longest_packet_is_read(listen: Callable[..., Listener]) -> None:
    body = SERVICE + b"fff0" + OID + b" refs/heads/" + b"x" * (0xFFF0 - 4 - 52) + b"0000"
    assert check(listen(says(answer(body))).url, "x" * (0xFFF0 - 4 - 52)).ok


def test_an_error_packet_is_not_passed_on(listen: Callable[..., Listener]) -> None:
    report = check(listen(says(answer(SERVICE + packet(b"ERR <script>alert(1)</script>")))).url)
    assert report.reason == "not_found"
    assert "script" not in report.message


@given(st.binary(max_size=200))
def test_no_answer_breaks_the_check(data: bytes) -> None:
    listener = Listener(says(answer(SERVICE + data)))
    try:
        report = check(listener.url, timeout=5)
    finally:
        listener.close()
    assert report.reason in ("not_a_git_server", "empty_repository", "branch_not_found", "not_found")


def test_no_message_carries_control_characters(listen: Callable[..., Listener]) -> None:
    line = OID + b" HEAD\0symref=HEAD:refs/heads/\xff\xfe\n"
    report = check(listen(says(answer(advert(line, OID + b" refs/heads/\xff\xfe\n")))).url, None)
    assert report.ok
    assert report.default_branch == "\ufffd\ufffd"
    assert not re.search(r"[\x00-\x1f\x7f]", repr(report))
