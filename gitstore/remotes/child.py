"""Runs git as a child that speaks to one checked host and decides nothing by itself.

It reads no configuration but what is given here, runs no hook and no credential helper, asks nobody anything, follows
no redirect and knows one transport. A token reaches it by its environment, which only the same user can read. It ends
at the deadline, at a stop, or when it writes more than it may. What it says is matched, never passed on.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Event
from typing import NamedTuple

from gitstore.addresses import Address, Deadline
from gitstore.remotes import ssh as ssh_client
from gitstore.remotes.http import basic
from gitstore.remotes.ssh import Ssh
from gitstore.remotes.url import Remote

_PATH = "/usr/local/bin:/usr/bin:/bin"
_LOOK = 0.1  # seconds between two looks at the stop
_SAID_MAX = 64 * 1024
BLOCK = 512
"""Bytes, the unit of `ulimit -f` (POSIX)."""
_MEMORY = 2 << 20  # KiB of address space: what a pack claims about its objects is not believed without end
_ALWAYS: Mapping[str, str] = {
    "core.hooksPath": "/dev/null",
    "core.packedGitLimit": "128m",
    "core.packedGitWindowSize": "16m",
    "credential.helper": "",
    "fetch.unpackLimit": "1",
    "fetch.writeCommitGraph": "false",
    "gc.auto": "0",
    "http.followRedirects": "false",
    "http.proxy": "",
    "http.sslVerify": "true",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "protocol.allow": "never",
    "push.followTags": "false",
    "push.gpgSign": "false",
    "safe.directory": "*",  # the data folder may belong to somebody else than the server's user
    "submodule.recurse": "false",
    "transfer.bundleURI": "false",
    "transfer.fsckObjects": "true",
}


class Stopped(Exception):
    """The program is stopping; the child was ended."""


class NoGit(Exception):
    """There is no git to run."""


class Said(NamedTuple):
    """How a child ended, and what it wrote, cut to 64 KiB each."""

    status: int
    output: str
    complaint: str


def run(
    arguments: Sequence[str],
    *,
    repository: str,
    deadline: Deadline,
    stop: Event,
    bytes_max: int,
    settings: Mapping[str, str],
    environment: Mapping[str, str],
) -> Said:
    """Runs git in the bare repository; `arguments` begin with the program.

    No file that it writes may grow over `bytes_max` bytes.
    Raises NoGit, TimeoutError at the deadline, Stopped; then nothing of it runs any more.
    """
    known = {**_ALWAYS, **settings}
    told = {"GIT_CONFIG_COUNT": str(len(known))}
    for number, (name, value) in enumerate(known.items()):
        told |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    limits = f"ulimit -f {max(1, bytes_max // BLOCK)}; ulimit -v {_MEMORY}; ulimit -c 0"
    try:
        process = subprocess.Popen(
            ["sh", "-c", f'{limits}; exec "$@"', "sh", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=repository,
            env={
                "PATH": _PATH,
                "HOME": repository,
                "LC_ALL": "C",
                "GIT_DIR": repository,
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_SYSTEM": "/dev/null",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_ATTR_NOSYSTEM": "1",
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_PROTOCOL_FROM_USER": "0",
                "GIT_ALLOW_PROTOCOL": "none",
                "GIT_NO_LAZY_FETCH": "1",
                "GIT_NO_REPLACE_OBJECTS": "1",
                "GIT_OPTIONAL_LOCKS": "0",
                **environment,
                **told,
            },
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError):
        raise NoGit from None
    with process:
        try:
            output, complaint = _listen(process, deadline, stop)
            status = _ended(process, deadline, stop)
        finally:
            _end(process)
    if status in (126, 127):  # of the shell: there is no such program, or it cannot be run
        raise NoGit
    return Said(status, output.decode("utf-8", "replace"), complaint.decode("utf-8", "replace"))


def reaching(
    remote: Remote, addresses: Sequence[Address], *, token: str | None, ssh: Ssh, deadline: Deadline
) -> tuple[str, dict[str, str], dict[str, str]]:
    """The URL to give to git, and the settings and environment with which it reaches nothing but these addresses.

    ssh is given the first address only.
    """
    environment: dict[str, str] = {"GIT_ALLOW_PROTOCOL": remote.scheme}
    settings: dict[str, str] = {f"protocol.{remote.scheme}.allow": "always"}
    if remote.scheme == "ssh":
        program = ssh_client.client(remote, addresses[0], ssh=ssh, seconds=deadline.left())
        environment |= {"GIT_SSH_COMMAND": shlex.join(program), "GIT_SSH_VARIANT": "simple"}
        # The scp form carries the path as it is; who and which port the client knows already.
        return f"{_bracketed(remote.host)}:{remote.path}", settings, environment
    origin = f"{remote.scheme}://{_bracketed(remote.host)}:{remote.port}"
    pinned = ",".join(_bracketed(str(address)) for address in addresses)
    settings["http.curloptResolve"] = f"{remote.host}:{remote.port}:{pinned}"
    if token:
        settings[f"http.{origin}/.extraHeader"] = f"Authorization: {basic(remote, token)}"
    return origin + remote.path, settings, environment


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listen(process: subprocess.Popen[bytes], deadline: Deadline, stop: Event) -> tuple[bytes, bytes]:
    """Both outputs to their ends, side by side; what is over the limit is read and let go."""
    taken = {process.stdout: b"", process.stderr: b""}
    with selectors.DefaultSelector() as selector:
        for stream in taken:
            selector.register(stream, selectors.EVENT_READ)  # type: ignore[arg-type]  # they are pipes
        while selector.get_map():
            if stop.is_set():
                raise Stopped
            for key, _ in selector.select(min(_LOOK, deadline.left())):
                data = os.read(key.fd, 65_536)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                taken[key.fileobj] = (taken[key.fileobj] + data)[-_SAID_MAX:]  # type: ignore[index]
    return taken[process.stdout], taken[process.stderr]


def _ended(process: subprocess.Popen[bytes], deadline: Deadline, stop: Event) -> int:
    while True:
        if stop.is_set():
            raise Stopped
        try:
            return process.wait(min(_LOOK, deadline.left()))
        except subprocess.TimeoutExpired:
            continue


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends it and its own children; whoever is done already is not met, for it is waited for only here."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
