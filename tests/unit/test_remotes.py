import datetime
import io
import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from githosts import TOKEN, Host, bare, check, fields, git, serving
from hypothesis import given
from hypothesis import strategies as st

from gitstore.addresses import AddressPolicy, Deadline
from gitstore.remotes import AccessReport, refs
from gitstore.remotes.http import _Channel, _Connection
from gitstore.remotes.report import Failed
from gitstore.remotes.url import parse, shown


@pytest.fixture(params=[0, 1, 2])
def newest(request: pytest.FixtureRequest) -> int:
    return int(request.param)


# --- http with real git ---------------------------------------------------------------------------------------------


def test_a_report_has_exactly_the_promised_fields() -> None:
    assert AccessReport.__struct_fields__ == (
        "ok",
        "repository_url",
        "default_branch",
        "branch_verified",
        "head",
        "branches",
        "reason",
        "message",
        "duration_ms",
    )
    with pytest.raises(AttributeError):
        check("file:///x").ok = True  # type: ignore[misc]


def test_a_public_repository(tmp_path: Path, newest: int) -> None:
    folder = bare(tmp_path, "team/repo.git", "main", "topic/ünï", "master")
    git(folder, "tag", "v1", "main")
    main, topic = git(folder, "rev-parse", "main"), git(folder, "rev-parse", "topic/ünï")
    with serving(tmp_path, newest=newest) as host:
        url = host.url + "/team/repo.git"
        assert fields(check(url, "main")) == (True, None, "main", True, main, 3)
        assert fields(check(url, "refs/heads/main")) == (True, None, "main", True, main, 3)
        assert fields(check(url, "topic/ünï")) == (True, None, "topic/ünï", True, topic, 3)
        assert fields(check(url)) == (True, None, "main", False, main, 3)
        assert fields(check(url, "  ")) == (True, None, "main", False, main, 3)
        assert check(f"  {url}/ \n").repository_url == url + "/"
        methods = [method for method, *_ in host.seen]
    assert methods == (["GET", "POST"] * 6 if newest == 2 else ["GET"] * 6)


@pytest.mark.parametrize(
    "branch",
    ["ma*", "m?in", "mai", "MAIN", "main ", " main", "heads/main", "v1", "refs/tags/v1", "HEAD", "-main", "[m]ain"],
)
def test_a_branch_name_is_exact(tmp_path: Path, newest: int, branch: str) -> None:
    folder = bare(tmp_path, "repo.git", "main")
    git(folder, "tag", "v1", "main")
    with serving(tmp_path, newest=newest) as host:
        report = check(host.url + "/repo.git", branch)
    assert fields(report) == (False, "branch_not_found", branch, False, None, 1)


def test_a_branch_that_is_really_named_refs_heads(tmp_path: Path) -> None:
    folder = bare(tmp_path, "repo.git", "main", "refs/heads/main")
    with serving(tmp_path) as host:
        report = check(host.url + "/repo.git", "refs/heads/main")
    assert report.head == git(folder, "rev-parse", "refs/heads/refs/heads/main")


def test_a_branch_name_never_reaches_the_host(tmp_path: Path) -> None:
    bare(tmp_path, "repo.git", "main")
    with serving(tmp_path) as host:
        assert check(host.url + "/repo.git", "x\n0000\r\nevil: 1").reason == "branch_not_found"
        assert check(host.url + "/repo.git", "\udc80").reason == "branch_not_found"
        assert "evil" not in repr(host.seen)


def test_a_private_repository(tmp_path: Path, newest: int) -> None:
    folder = bare(tmp_path, "private/repo.git", "main")
    with serving(tmp_path, TOKEN, newest) as host:
        url = host.url + "/private/repo.git"
        assert fields(check(url, "main", TOKEN))[:5] == (True, None, "main", True, git(folder, "rev-parse", "main"))
        without = check(url, "main")
        assert (without.reason, without.default_branch, without.branches) == ("auth_failed", "main", 0)
        wrong = check(url, "main", TOKEN + "x")
        assert wrong.reason == "auth_failed"
        assert without.message != wrong.message
        assert check(url, "main", "").reason == "auth_failed"
        bare(tmp_path, "forbidden/repo.git", "main")
        assert check(host.url + "/forbidden/repo.git", "main", TOKEN).reason == "auth_failed"


def test_the_user_name_of_the_url_is_used_and_not_shown(tmp_path: Path) -> None:
    bare(tmp_path, "private/repo.git", "main")
    with serving(tmp_path, TOKEN) as host:
        report = check(f"http://x-access-token@127.0.0.1:{host.server_port}/private/repo.git", "main", TOKEN)
        assert report.ok
        assert report.repository_url == f"{host.url}/private/repo.git"
        assert (
            check(f"http://other@127.0.0.1:{host.server_port}/private/repo.git", "main", TOKEN).reason == "auth_failed"
        )


def test_no_such_repository(tmp_path: Path) -> None:
    with serving(tmp_path) as host:
        assert check(host.url + "/nothing.git", "main").reason == "not_found"


def test_an_empty_repository(tmp_path: Path, newest: int) -> None:
    bare(tmp_path, "repo.git")
    with serving(tmp_path, newest=newest) as host:
        assert fields(check(host.url + "/repo.git", "main")) == (False, "empty_repository", "main", False, None, 0)
        named = "main" if newest == 2 else None  # only version 2 shows what an unborn HEAD names
        assert fields(check(host.url + "/repo.git")) == (False, "empty_repository", named, False, None, 0)


def test_a_detached_head(tmp_path: Path, newest: int) -> None:
    folder = bare(tmp_path, "repo.git", "main", "next")
    commit = git(folder, "rev-parse", "main")
    git(folder, "update-ref", "--no-deref", "HEAD", commit)
    with serving(tmp_path, newest=newest) as host:
        assert fields(check(host.url + "/repo.git")) == (True, None, None, False, commit, 2)
        assert check(host.url + "/repo.git", "next").branch_verified


def test_an_unborn_head_beside_branches(tmp_path: Path, newest: int) -> None:
    folder = bare(tmp_path, "repo.git", "main")
    git(folder, "symbolic-ref", "HEAD", "refs/heads/trunk")
    with serving(tmp_path, newest=newest) as host:
        named = "trunk" if newest == 2 else None
        assert fields(check(host.url + "/repo.git")) == (False, "branch_not_found", named, False, None, 1)
        assert check(host.url + "/repo.git", "main").ok


def test_a_sha256_repository(tmp_path: Path, newest: int) -> None:
    bare(tmp_path, "repo.git", options=("--object-format=sha256",))
    folder = tmp_path / "repo.git"
    tree = git(folder, "hash-object", "-t", "tree", "-w", "/dev/null")
    commit = git(folder, "commit-tree", "-m", "x", tree)
    git(folder, "update-ref", "refs/heads/main", commit)
    assert len(commit) == 64
    with serving(tmp_path, newest=newest) as host:
        assert check(host.url + "/repo.git", "main").head == commit


def test_many_branches_are_counted(tmp_path: Path, newest: int) -> None:
    folder = bare(tmp_path, "repo.git", "main")
    commit = git(folder, "rev-parse", "main")
    lines = "".join(f"{commit} refs/heads/b{number}\n" for number in range(5000))
    (folder / "packed-refs").write_text("# pack-refs with: peeled fully-peeled \n" + lines)
    with serving(tmp_path, newest=newest) as host:
        assert check(host.url + "/repo.git", "b4999").branches == 5001


def test_a_redirect_on_the_same_host_is_followed(tmp_path: Path, newest: int) -> None:
    bare(tmp_path, "private/repo.git", "main")
    with serving(tmp_path, TOKEN, newest) as host:
        assert check(host.url + "/moved/private/repo.git", "main", TOKEN).ok
        assert check(host.url + "/moved/moved/moved/moved/moved/x", "main", TOKEN).reason == "not_a_git_server"


def test_the_host_header(tmp_path: Path) -> None:
    bare(tmp_path, "repo.git", "main")
    with serving(tmp_path) as host:
        options = {"resolver": lambda *_: ["127.0.0.1"], "policy": AddressPolicy(allow=("git.example",))}
        assert check(f"http://Git.Example.:{host.server_port}/repo.git", "main", **options).ok
        assert {seen[3] for seen in host.seen} == {f"git.example:{host.server_port}"}


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://git.example/r", b"git.example"),
        ("https://git.example:443/r", b"git.example"),
        ("https://git.example:80/r", b"git.example:80"),
        ("https://[2001:4860::8]:8443/r", b"[2001:4860::8]:8443"),
    ],
)
def test_the_host_header_has_a_port_only_if_it_is_unusual(url: str, host: bytes) -> None:
    near, far = socket.socketpair()
    with near, far:
        _Connection(parse(url), _Channel(near, Deadline(5))).request("GET", "/")
        assert b"\r\nHost: " + host + b"\r\n" in far.recv(4096)


def test_a_connection_that_is_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert check(f"http://127.0.0.1:{port}/repo.git", "main").reason == "unreachable"


def test_the_next_address_is_tried_when_one_is_dead(tmp_path: Path) -> None:
    bare(tmp_path, "repo.git", "main")
    with serving(tmp_path) as host:
        options = {"resolver": lambda *_: ["127.0.0.9", "127.0.0.1"], "policy": AddressPolicy(allow=("git.example",))}
        assert check(f"http://git.example:{host.server_port}/repo.git", "main", **options).ok


def test_names_that_cannot_be_resolved() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert check("https://nowhere.example/x", "main", resolver=unknown).reason == "unreachable"
    assert check("https://nowhere.example/x", "main", resolver=lambda *_: []).reason == "unreachable"
    assert check("https://nowhere.example/x", "main", resolver=lambda *_: ["soup"]).reason == "unreachable"


def test_a_slow_resolver_is_given_up() -> None:
    gone = threading.Event()

    def slow(host: str, port: int) -> list[str]:
        gone.wait(10)
        return ["127.0.0.1"]

    start = time.monotonic()
    assert check("https://slow.example/x", "main", resolver=slow, timeout=0.3).reason == "timeout"
    assert time.monotonic() - start < 2
    gone.set()


# --- https ----------------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


def secured(host: Host, file: Path) -> list[str | None]:
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.sni_callback = lambda _, name, __: names.append(name)  # type: ignore[func-returns-value]
    host.socket = context.wrap_socket(host.socket, server_side=True, do_handshake_on_connect=False)
    return names


def test_tls_sends_and_verifies_the_host_name(tmp_path: Path) -> None:
    bare(tmp_path, "private/repo.git", "main")
    file = certificate(tmp_path, "git.example")
    asked: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    with serving(tmp_path, TOKEN) as host:
        names = secured(host, file)
        trusting = ssl.create_default_context(cafile=str(file))
        options = {"resolver": resolver, "policy": AddressPolicy(allow_private=True)}
        url = f"https://git.example:{host.server_port}/private/repo.git"
        assert check(url, "main", TOKEN, tls=trusting, **options).ok
        assert set(names) == {"git.example"}
        assert asked == ["git.example"]
        before = len(host.seen)
        strange = check(url, "main", TOKEN, **options)  # the system's roots do not know this certificate
        other = check(url.replace("git.", "other."), "main", TOKEN, tls=trusting, **options)
        for report in (strange, other):
            assert report.reason == "unreachable"
            assert "certificate" in report.message
        assert len(host.seen) == before


def test_https_with_a_host_that_speaks_plain_http(tmp_path: Path) -> None:
    with serving(tmp_path) as host:
        assert check(host.url.replace("http", "https") + "/x", "main").reason == "unreachable"


# --- URLs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://git.example/team/repo.git", ("https", None, "git.example", 443, "/team/repo.git")),
        ("HTTPS://Git.Example:8443/repo/", ("https", None, "git.example", 8443, "/repo")),
        ("https://git.example./r", ("https", None, "git.example", 443, "/r")),
        ("http://ada@git.example/r", ("http", "ada", "git.example", 80, "/r")),
        ("https://ada%40example.org@git.example/r", ("https", "ada@example.org", "git.example", 443, "/r")),
        ("https://git.example/ré%20po", ("https", None, "git.example", 443, "/r%C3%A9%20po")),
        ("https://[2001:4860::1]:8443/r", ("https", None, "2001:4860::1", 8443, "/r")),
        ("ssh://git.example/a/b", ("ssh", None, "git.example", 22, "/a/b")),
        ("ssh://git@git.example:2222/~ada/b%20c", ("ssh", "git", "git.example", 2222, "~ada/b c")),
        ("git@git.example:team/repo.git", ("ssh", "git", "git.example", 22, "team/repo.git")),
        ("git.example:team/repo.git", ("ssh", None, "git.example", 22, "team/repo.git")),
        ("git@[2001:4860::1]:repo", ("ssh", "git", "2001:4860::1", 22, "repo")),
    ],
)
def test_urls_that_are_understood(url: str, parts: tuple[object, ...]) -> None:
    assert msgspec.structs.astuple(parse(url)) == parts


# --- the ref listing ------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300) | st.lists(st.sampled_from([b"0000", b"0001", b"0008", b"ERR ", b"-001", b"\n"])))
def test_the_reader_ends_in_no_other_way_than_promised(data: bytes | list[bytes]) -> None:
    text = data if isinstance(data, bytes) else b"".join(data)
    for reader in (refs.advertisement, refs.listing):
        with suppress(Failed):
            reader(io.BytesIO(text).read)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9ü/._-]{1,40}", fullmatch=True),
        st.integers(0, 2**160 - 1).map(lambda number: f"{number:040x}"),
        min_size=1,
    ),
    st.integers(1, 7),
)
def test_the_reader_gives_back_what_was_written(branches: dict[str, str], step: int) -> None:
    lines = [f"{oid} refs/heads/{name}".encode() for name, oid in branches.items()]
    lines[0] += b"\0multi_ack symref=HEAD:refs/heads/x agent=git/2"
    data = b"".join(b"%04x%b\n" % (len(line) + 5, line) for line in lines) + b"0000"
    stream = io.BytesIO(data)
    found = refs.advertisement(lambda size: stream.read(min(size, step)))
    assert found == refs.Refs({name.encode(): oid for name, oid in branches.items()}, None, b"x")


def test_more_refs_than_allowed_are_given_up() -> None:
    line = b"0" * 40 + b" refs/heads/x\n"
    packet = b"%04x" % (len(line) + 4) + line
    with pytest.raises(Failed, match="100,000"):
        refs.advertisement(io.BytesIO(packet * (refs.REFS_MAX + 1) + b"0000").read)


def test_credentials_in_a_url_are_not_shown() -> None:
    assert shown("https://ada:hunter2@git.example/r") == "https://git.example/r"
    assert "hunter2" not in shown("ssh://ada:hunter2@git.example/r")
    assert "hunter2" not in shown("https://git.example/r?private_token=hunter2hunter2")
