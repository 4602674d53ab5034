"""What an attacker tries with the URL of a remote repository: its form, its host, and the name's addresses."""

import socket
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstore import errors
from gitstore.addresses import AddressPolicy, Deadline, RefusedAddress, canonical, embedded, kind, resolve
from gitstore.remotes import Ssh
from security.hostile import GOOD, PUBLIC, Listener, answer, check, listening, says


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    with listening() as start:
        yield start


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
