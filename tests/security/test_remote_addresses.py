"""What an attacker tries with the URL of a remote repository, or with the host that it names."""

import base64
import contextlib
import re
import resource
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstore import errors
from gitstore.addresses import AddressPolicy, Deadline, RefusedAddress, canonical, embedded, kind, resolve
from gitstore.remotes import AccessReport, Ssh, verify_access

PUBLIC = AddressPolicy()
HERE = AddressPolicy(allow=("127.0.0.0/8",))
TOKEN = "tok-9fQ2mZx7Lk4Vw1"
OID = b"1234567890abcdef1234567890abcdef12345678"
ADVERTISED = "application/x-git-upload-pack-advertisement"


def check(url: str, branch: str | None = "main", token: str | None = None, **options: object) -> AccessReport:
    options.setdefault("policy", HERE)
    report = verify_access(url, branch=branch, token=token, **options)  # type: ignore[arg-type]
    for secret in filter(None, (token, token and base64.b64encode(f"x-access-token:{token}".encode()).decode())):
        assert secret not in repr(report)
    return report


class Listener:
    """A listener on 127.0.0.1 that runs `speak` for each connection and keeps what it received."""

    def __init__(self, speak: Callable[[socket.socket], None]) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/repo.git"
        self.connections = 0
        self.received = b""
        self.done = threading.Event()
        self._speak = speak
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            if self.done.is_set():
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            request = b""
            while b"\r\n\r\n" not in request and (data := connection.recv(65536)):
                request += data
                self.received += data
            self._speak(connection)

    def close(self) -> None:
        self.done.set()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            pass
        self._accepting.join()
        self.socket.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def start(speak: Callable[[socket.socket], None] = lambda _: None) -> Listener:
        made.append(Listener(speak))
        return made[-1]

    yield start
    for listener in made:
        listener.close()


def answer(body: bytes, *, status: str = "200 OK", headers: tuple[str, ...] = (), sized: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {ADVERTISED}", *headers]
    if sized:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def packet(text: bytes) -> bytes:
    return b"%04x" % (len(text) + 4) + text


def says(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def advert(*lines: bytes) -> bytes:
    return packet(b"# service=git-upload-pack\n") + b"0000" + b"".join(map(packet, lines)) + b"0000"


GOOD = answer(advert(OID + b" HEAD\0symref=HEAD:refs/heads/main\n", OID + b" refs/heads/main\n"))


# --- schemes and forms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "ext::sh -c touch% /tmp/pwned",
        "EXT::sh",
        "ext::sh",
        "git@ext::sh",
        "fd::17",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file:/etc/passwd",
        "file::/etc",
        "/etc",
        "./x",
        "../x",
        "x",
        "C:\\repo",
        "C:/repo",
        "git://git.example/x",
        "git+ssh://git.example/x",
        "ssh+git://git.example/x",
        "ftp://git.example/x",
        "ftps://git.example/x",
        "gopher://git.example/x",
        "rsync://git.example/x",
        "dict://git.example/x",
        "data:text/plain,x",
        "javascript:alert(1)",
        "http:git.example/x",
        "http:/git.example/x",
        "http:///x",
        "https://",
        "--upload-pack=touch /tmp/pwned",
        "-oProxyCommand=touch",
        "-oProxyCommand=x@git.example:y",
        "ssh://-oProxyCommand=touch/x",
        "ssh://-oProxyCommand=touch@git.example/x",
        "ssh://%2doProxyCommand=touch@git.example/x",
        "-x@git.example:y",
        "git@-oProxyCommand=touch:y",
        "git@git.example:-x",
        "git@git.example:--upload-pack=x",
        "ssh://git@git.example/x%00y",
        "ssh://git@git.example/x%0ay",
        "ssh://git.example",
        "ssh://git.example/",
        "ssh://a%20b@git.example/x",
        "a b@git.example:x",
        "a$(id)@git.example:x",
        "https://git.example/x\r\nHost: evil",
        "https://git.example/x\ty",
        "https://git.example\\@evil.example/x",
        "https://git.example/x?service=git-receive-pack",
        "https://git.example/x#y",
        "https://git.example:0/x",
        "https://git.example:99999/x",
        "https://git.example:80x/x",
        "https://[::1/x",
        "https://ada:secret@git.example/x",
        "https://:secret@git.example/x",
        "https://f3Qk9ZmL2xT8vB1nR7sW4yH6dJ0cP5aG@git.example/x",
        "ssh://ada:secret@git.example/x",
        "https://git.example/" + "x" * 2048,
        "https://git.example/\ud800",
    ],
)
def test_every_other_form_is_refused_before_anything_is_asked(url: str) -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise AssertionError("a name was looked up")

    report = check(url, resolver=resolver, ssh=Ssh(program="/nonexistent"))
    assert (report.ok, report.reason, report.branch_verified) == (False, "refused_scheme", False)
    assert "secret" not in repr(report).replace("a password or token", "")
    assert "f3Qk9" not in repr(report)
    report.repository_url.encode()
    report.message.encode()


@given(st.text(max_size=60))
def test_no_text_breaks_the_check(url: str) -> None:
    report = check(url, policy=PUBLIC, resolver=lambda *_: ["127.0.0.1"], ssh=Ssh(program="/nonexistent"))
    assert report.reason in ("refused_scheme", "refused_address", "unreachable")


# --- addresses ------------------------------------------------------------------------------------------------------

REFUSED = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "::1": "loopback",
    "10.0.0.1": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.1.1": "private",
    "100.64.0.1": "private",
    "fc00::1": "private",
    "fdff::1": "private",
    "169.254.0.1": "link-local",
    "fe80::1": "link-local",
    "febf::1": "link-local",
    "fec0::1": "link-local",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "ff02::1": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "192.0.0.1": "reserved",
    "192.0.2.1": "reserved",
    "198.18.0.1": "reserved",
    "198.51.100.1": "reserved",
    "203.0.113.1": "reserved",
    "192.88.99.1": "reserved",
    "2001:db8::1": "reserved",
    "2001:10::1": "reserved",
    "3fff::1": "reserved",
    "100::1": "reserved",
    "5f00::1": "reserved",
    "4000::1": "reserved",
    "169.254.169.254": "metadata",
    "169.254.170.2": "metadata",
    "100.100.100.200": "metadata",
    "192.0.0.192": "metadata",
    "168.63.129.16": "metadata",
    "fd00:ec2::254": "metadata",
    "fd20:ce::254": "metadata",
    "::ffff:127.0.0.1": "embedded",
    "::ffff:8.8.8.8": "embedded",
    "::ffff:0:127.0.0.1": "embedded",
    "::127.0.0.1": "embedded",
    "64:ff9b::7f00:1": "embedded",
    "64:ff9b::808:808": "embedded",
    "64:ff9b:1::7f00:1": "embedded",
    "2002:7f00:1::1": "embedded",
    "2002:a9fe:a9fe::": "embedded",
    "2001:0:7f00:1::": "embedded",
    "2001:4860::5efe:127.0.0.1": "embedded",
    "2001:4860::200:5efe:10.0.0.1": "embedded",
}


@pytest.mark.parametrize(("address", "sort"), REFUSED.items())
@pytest.mark.parametrize("form", ["https://{}/r", "http://{}:8080/r", "ssh://git@{}/r", "git@{}:r"])
def test_special_addresses_are_refused(address: str, sort: str, form: str) -> None:
    assert kind(ip_address(address)) == sort
    host = f"[{address}]" if ":" in address else address
    report = check(form.format(host), policy=PUBLIC, timeout=1, ssh=Ssh(program="/nonexistent"))
    assert report.reason == "refused_address"
    named = check(form.format("git.example"), policy=PUBLIC, resolver=lambda *_: [address], timeout=1)
    assert named.reason == "refused_address"
    assert address not in named.message


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2001:4860::8"]
)
def test_public_addresses_are_not(address: str) -> None:
    assert kind(ip_address(address)) is None
    assert resolve("git.example", 443, PUBLIC, deadline=Deadline(1), resolver=lambda *_: [address])


@given(st.ip_addresses())
def test_nothing_that_python_calls_special_is_thought_public(address: object) -> None:
    found = ip_address(str(address))
    if not found.is_global or found.is_multicast or found.is_reserved or found.is_link_local:
        assert kind(found) is not None


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "127.0.0.01",
        "127.0.0.1.1",
        "0",
        "0x",
        "1.2.3.4.5",
        "8.8.8",
        "08.8.8.8",
        "8.8.8.0x8",
        "999.1.1.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "127%2e0.0.1",
        "local%68ost",
        "lоcalhost",
        "a..b",
        ".a",
        "-a.example",
        "a-.example",
        "a" * 64 + ".example",
        "a.example%00.evil",
        "a*b",
        "a'b",
        "$(id)",
        "`id`",
        "[fe80::1%25eth0]",
        "[::1%25lo]",
        "[::ffff:0x7f000001]",
        "[v1.x]",
        "[127.0.0.1]",
    ],
)
@pytest.mark.parametrize("form", ["https://{}/r", "ssh://git@{}/r", "git@{}:r"])
def test_odd_spellings_are_refused_without_a_look_up(host: str, form: str) -> None:
    def resolver(name: str, port: int) -> list[str]:
        raise AssertionError(f"{name} was looked up")

    wide = AddressPolicy(allow_private=True, allow=("0.0.0.0/0", "::/0"))
    report = check(form.format(host), policy=wide, resolver=resolver, ssh=Ssh(program="/nonexistent"))
    assert report.reason in ("refused_address", "refused_scheme")
    with pytest.raises(RefusedAddress):
        canonical(host)


def test_one_bad_address_among_good_ones_refuses_the_host() -> None:
    for bad in ("127.0.0.1", "169.254.169.254", "fe80::1%2"):
        found = ["8.8.8.8", "2606:4700::1111", "8.8.4.4", "1.1.1.1", "1.0.0.1", bad]
        assert check("https://git.example/r", policy=PUBLIC, resolver=lambda *_, f=found: f).reason == "refused_address"


def allowed(policy: AddressPolicy, address: str, host: str | None = None) -> bool:
    return policy.refusal(ip_address(address), host) is None


def test_what_allow_private_opens() -> None:
    policy = AddressPolicy(allow_private=True)
    opened = {address for address in REFUSED if allowed(policy, address)}
    assert opened == {address for address, sort in REFUSED.items() if sort in ("private", "loopback")}


def test_what_a_network_opens() -> None:
    policy = AddressPolicy(allow=("10.1.0.0/16", "fe80::/10", "198.18.0.0/15", "169.254.0.0/16", "fd00::/8"))
    assert allowed(policy, "10.1.2.3")
    assert not allowed(policy, "10.2.0.1")
    assert not allowed(policy, "127.0.0.1")
    assert allowed(policy, "fe80::1")
    assert allowed(policy, "198.18.0.1")
    assert allowed(policy, "169.254.0.1")
    assert not allowed(policy, "169.254.169.254")  # only if it is listed itself
    assert not allowed(policy, "fd00:ec2::254")
    assert allowed(AddressPolicy(allow=("169.254.169.254",)), "169.254.169.254")
    assert not allowed(AddressPolicy(allow=("0.0.0.0/0", "::/0")), "169.254.169.254")


def test_what_a_host_name_opens() -> None:
    policy = AddressPolicy(allow=("Git.Internal.",))
    assert allowed(policy, "10.0.0.1", "git.internal")
    assert allowed(policy, "127.0.0.1", "git.internal")
    assert not allowed(policy, "10.0.0.1", "other.internal")
    assert not allowed(policy, "10.0.0.1", "x.git.internal")
    assert not allowed(policy, "10.0.0.1")
    for address in ("169.254.169.254", "169.254.0.1", "224.0.0.1", "0.0.0.0", "::ffff:10.0.0.1", "240.0.0.1"):
        assert not allowed(policy, address, "git.internal")


def test_an_address_inside_another_must_be_allowed_too() -> None:
    nat64 = AddressPolicy(allow=("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0/96", "2002::/16", "2001::/32"))
    assert allowed(nat64, "64:ff9b::808:808")
    assert allowed(nat64, "::ffff:8.8.8.8")
    assert allowed(nat64, "2002:808:808::1")
    for address in (
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "::ffff:127.0.0.1",
        "2002:7f00:1::1",
    ):
        assert not allowed(nat64, address)
    assert allowed(AddressPolicy(allow_private=True, allow=("64:ff9b::/96",)), "64:ff9b::a00:1")
    assert embedded(ip_address("2001:0:4136:e378:8000:63bf:80ff:fffe")) == ip_address("127.0.0.1")  # Teredo is inverted


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.1/8", "10.0.0.0/33", "a b", "*", "*.example", "127.1", "http://x", "x/8"]
)
def test_a_policy_that_means_nothing_is_refused(entry: str) -> None:
    with pytest.raises(errors.Invalid):
        AddressPolicy(allow=(entry,))


# --- rebinding ------------------------------------------------------------------------------------------------------


def test_a_name_is_resolved_once_and_the_connection_keeps_to_the_answer(
    listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = listen(says(GOOD))
    answers = [["127.0.0.2"], ["127.0.0.1"], ["127.0.0.1"]]
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers.pop(0)

    # The first answer is the only allowed address, and nobody listens there; the trap is the second.
    def lookup(*_: object, **__: object) -> list[object]:
        raise AssertionError("the system resolver was asked")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    options = {"resolver": rebinding, "policy": AddressPolicy(allow=("127.0.0.2/32",)), "timeout": 2}
    report = check(f"http://git.example:{listener.port}/repo.git", **options)
    assert report.reason == "unreachable"
    assert asked == ["git.example"]
    assert listener.connections == 0


def test_a_good_answer_is_used_for_every_connection_of_the_check(listen: Callable[..., Listener]) -> None:
    listener = listen(
        says(answer(b"", status="302 Found", headers=("Location: /x/info/refs?service=git-upload-pack",)))
    )
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    policy = AddressPolicy(allow=("git.example",))
    report = check(f"http://git.example:{listener.port}/r", resolver=lambda *_: answers.pop(0), policy=policy)
    assert report.reason == "not_a_git_server"  # it redirects for ever
    assert listener.connections == 4
    assert len(answers) == 1


def test_ssh_is_given_the_checked_address(tmp_path: Path) -> None:
    record = tmp_path / "record"
    program = tmp_path / "ssh"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(record)!r}, 'a').write(repr(sys.argv) + '\\n')\nsys.exit(255)\n"
    )
    program.chmod(0o755)
    answers = [["8.8.8.8"], ["127.0.0.1"]]
    report = check(
        "git@git.example:r", policy=PUBLIC, resolver=lambda *_: answers.pop(0), ssh=Ssh(program=str(program))
    )
    assert report.reason == "unreachable"
    assert len(answers) == 1
    assert "HostName=8.8.8.8" in record.read_text()
    assert "ProxyCommand=none" in record.read_text()


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


SERVICE = packet(b"# service=git-upload-pack\n") + b"0000"


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
