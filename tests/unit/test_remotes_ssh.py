import os
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from githosts import EXEC_PATH, TOKEN, bare, check, fields, git
from hypothesis import given
from hypothesis import strategies as st

from gitstore import errors
from gitstore.remotes import Ssh
from gitstore.remotes.ssh import command, quoted
from gitstore.remotes.url import parse

needs_ssh = pytest.mark.skipif(shutil.which("ssh", path=os.defpath) is None, reason="there is no ssh client")


class Client:
    """A stand-in for `ssh` that records how it was called and then behaves as a script says."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "ssh client"
        self.record = folder / "record"

    def does(self, script: str) -> Ssh:
        self.program.write_text(
            f"#!{sys.executable}\n"
            "import os, sys\n"
            f"open({str(self.record)!r}, 'w').write(repr((sys.argv, dict(os.environ), os.getcwd())))\n" + script
        )
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        return Ssh(program=str(self.program))

    def call(self) -> tuple[list[str], dict[str, str], str]:
        return eval(self.record.read_text())


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def runs_git(root: Path) -> str:
    """What sshd would do with the command: give it to a shell, where `git-upload-pack` is git's."""
    return (
        f"os.environ.update(PATH={EXEC_PATH + ':' + os.environ['PATH']!r}, GIT_CONFIG_GLOBAL='/dev/null', "
        "GIT_CONFIG_COUNT='1', GIT_CONFIG_KEY_0='safe.directory', GIT_CONFIG_VALUE_0='*')\n"
        f"os.chdir({str(root)!r})\n"
        "os.execv('/bin/sh', ['sh', '-c', sys.argv[-1]])\n"
    )


@pytest.mark.parametrize("form", ["git@127.0.0.1:{}", "ssh://git@127.0.0.1:22{}", "ssh://127.0.0.1{}"])
def test_a_repository_over_ssh(tmp_path: Path, client: Client, form: str) -> None:
    folder = bare(tmp_path, "it's $HOME `x` \"!.git", "main", "next")
    path = str(folder)
    if form.startswith("ssh:"):
        path = path.replace(" ", "%20").replace('"', "%22").replace("`", "%60")
    else:
        folder = folder.rename(tmp_path / "it's-$HOME`x`\"!;true.git")
        path = str(folder)
    ssh = client.does(runs_git(tmp_path))
    main = git(folder, "rev-parse", "main")
    assert fields(check(form.format(path), "main", ssh=ssh)) == (True, None, "main", True, main, 2)
    assert fields(check(form.format(path), ssh=ssh)) == (True, None, "main", False, main, 2)
    assert check(form.format(path), "ma*", ssh=ssh).reason == "branch_not_found"
    arguments, environment, folder_of_work = client.call()
    assert arguments[-3:] == ["--", "127.0.0.1", f"git-upload-pack {quoted(str(folder))}"]
    assert set(environment) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} == {"PATH", "LC_ALL"}
    assert folder_of_work == "/"


def test_a_token_is_no_part_of_ssh(tmp_path: Path, client: Client) -> None:
    folder = bare(tmp_path, "repo.git", "main")
    report = check(f"git@127.0.0.1:{folder}", "main", TOKEN, ssh=client.does(runs_git(tmp_path)))
    assert report.ok
    assert "token was not used" in report.message
    assert TOKEN not in client.record.read_text()


def test_an_empty_repository_and_none_over_ssh(tmp_path: Path, client: Client) -> None:
    ssh = client.does(runs_git(tmp_path))
    assert check(f"git@127.0.0.1:{bare(tmp_path, 'empty.git')}", "main", ssh=ssh).reason == "empty_repository"
    assert check(f"git@127.0.0.1:{tmp_path}/none.git", "main", ssh=ssh).reason == "not_found"


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ("git@192.0.2.1: Permission denied (publickey).", 255, "auth_failed"),
        ("Host key verification failed.", 255, "host_key_mismatch"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            255,
            "host_key_mismatch",
        ),
        (
            "No ED25519 host key is known for git.example and you have requested strict checking.",
            255,
            "host_key_mismatch",
        ),
        ("ssh: connect to host 192.0.2.1 port 22: Connection refused", 255, "unreachable"),
        ("ssh: connect to host 192.0.2.1 port 22: Network is unreachable", 255, "unreachable"),
        ("ssh: connect to host 192.0.2.1 port 22: Connection timed out", 255, "timeout"),
        ("kex_exchange_identification: Connection closed by remote host", 255, "unreachable"),
        ("", 255, "unreachable"),
        ("ERROR: Repository not found.", 1, "not_found"),
        ("fatal: '/x' does not appear to be a git repository", 128, "not_found"),
        ("ERROR: The project you were looking for could not be found or you don't have permission", 1, "not_found"),
        ("bash: line 1: git-upload-pack: command not found", 127, "not_a_git_server"),
        ("sh: 1: git-upload-pack: not found", 127, "not_a_git_server"),
        ("This service allows sftp connections only.", 1, "not_a_git_server"),
        ("", 0, "not_a_git_server"),
    ],
)
def test_what_ssh_says_becomes_a_reason(client: Client, said: str, status: int, reason: str) -> None:
    secret = "internal-banner-of-the-host"
    ssh = client.does(f"sys.stderr.write({said + secret!r}); sys.exit({status})")
    report = check("git@127.0.0.1:x", "main", ssh=ssh)
    assert report.reason == reason
    assert secret not in report.message


@pytest.mark.parametrize(
    "script",
    [
        "sys.stdout.write('Welcome to this host!'); sys.exit(0)",
        "sys.stdout.write('-001'); sys.exit(0)",
        "sys.stdout.write('fff'); sys.exit(0)",
        "os.write(1, b'0006v\\n' * 2); sys.exit(0)",
        "os.write(1, b'000eversion 2\\n0000')",
    ],
)
def test_what_is_not_git_over_ssh(client: Client, script: str) -> None:
    assert check("git@127.0.0.1:x", "main", ssh=client.does(script)).reason == "not_a_git_server"


def test_a_gigabyte_over_ssh_is_not_read(client: Client) -> None:
    endless = "\nwhile True: os.write(1, b'041e' + b'0' * 40 + b' refs/tags/' + b'x' * 999)"
    report = check("git@127.0.0.1:x", "main", ssh=client.does(endless))
    assert report.reason == "not_a_git_server"
    assert "4 MiB" in report.message


def running() -> bytes:
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended since
            lines.append(process.read_bytes())
    assert lines
    return b"\n".join(lines)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "script",
    [
        "import time; time.sleep(30)",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(30)",
        "import time\nwhile True: os.write(2, b'x' * 65536)",
        "import time\nwhile True: os.write(1, b'0'); time.sleep(0.1); os.write(1, b'004')",
        "import subprocess; subprocess.run(['sleep', '31.4159'])",
        "os.close(1); os.close(2); import time; time.sleep(30)",
    ],
)
def test_a_slow_ssh_client_is_ended_with_its_children(client: Client, script: str) -> None:
    start = time.monotonic()
    report = check("git@127.0.0.1:x", "main", ssh=client.does(script), timeout=1.0)
    assert time.monotonic() - start < 3
    assert report.reason in ("timeout", "not_a_git_server")
    # The children are killed with the client, but only the client is waited for.
    while any(name in running() for name in (str(client.program).encode(), b"31.4159")):
        assert time.monotonic() - start < 5
        time.sleep(0.02)


def test_no_ssh_client() -> None:
    report = check("git@127.0.0.1:x", "main", ssh=Ssh(program="/nonexistent/ssh"))
    assert report.reason == "unreachable"
    assert "no ssh client" in report.message


@needs_ssh
def test_the_command_line_is_pinned_and_asks_nobody(tmp_path: Path) -> None:
    ssh = Ssh(known_hosts=str(tmp_path / "known hosts%h"), identity=str(tmp_path / "key"))
    remote = parse("ssh://deploy@Git.Example:2222/~ada/a%20b.git")
    arguments = command(remote, ip_address("192.0.2.7"), ssh=ssh, seconds=3.2)
    assert arguments[:3] == ["ssh", "-F", "none"]
    assert arguments[-7:] == ["-p", "2222", "-l", "deploy", "--", "git.example", "git-upload-pack '~ada/a b.git'"]
    # The real client is asked how it understands all this.
    told = subprocess.run(
        [arguments[0], "-G", *arguments[1:-1]], capture_output=True, text=True, check=True, env={"PATH": os.defpath}
    ).stdout
    options = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
    expected = {
        "hostname": "192.0.2.7",
        "hostkeyalias": "[git.example]:2222",
        "port": "2222",
        "user": "deploy",
        "userknownhostsfile": str(tmp_path / "known hosts%h"),
        "globalknownhostsfile": "none",
        "stricthostkeychecking": "true",
        "batchmode": "yes",
        "forwardagent": "no",
        "forwardx11": "no",
        "identitiesonly": "yes",
        "identityagent": "none",
        "permitlocalcommand": "no",
        "clearallforwardings": "yes",
        "connecttimeout": "4",
        "updatehostkeys": "false",
        "controlmaster": "false",
    }
    assert {name: options.get(name) for name in expected} == expected
    assert "proxycommand" not in options
    assert "proxyjump" not in options


@needs_ssh
def test_the_real_client_and_a_port_that_is_closed() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        report = check(f"ssh://git@127.0.0.1:{unused.getsockname()[1]}/x", "main")
    assert report.reason == "unreachable"


@needs_ssh
def test_the_real_client_and_a_host_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        start = time.monotonic()
        report = check(f"ssh://git@127.0.0.1:{listener.getsockname()[1]}/x", "main", timeout=1.0)
    assert report.reason == "timeout"
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("name", ["relative", 'a"b', "/a\nb", "/a${HOME}b", "~/x", "/a\\b"])
def test_file_names_that_ssh_could_misread_are_refused(name: str) -> None:
    with pytest.raises(errors.Invalid):
        Ssh(known_hosts=name)
    with pytest.raises(errors.Invalid):
        Ssh(identity=name)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_quoting_gives_the_path_back_as_one_word(path: str) -> None:
    assert shlex.split(f"git-upload-pack {quoted(path)}") == ["git-upload-pack", path]
