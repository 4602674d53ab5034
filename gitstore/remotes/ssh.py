"""Asks an ssh host for a repository's refs with the system's ssh client, which gets nothing to decide by itself.

It is pinned to a checked address, reads no configuration and no environment, asks nobody anything, forwards nothing,
trusts only the host keys of one given file and offers only one given key. What it or the host writes is matched, never
passed on.
"""

from __future__ import annotations

import io
import math
import os
import re
import selectors
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from gitstore import errors
from gitstore.addresses import Address, Deadline
from gitstore.remotes import refs
from gitstore.remotes.report import Failed, Reason
from gitstore.remotes.url import Remote

_COMPLAINT_MAX = 16 * 1024
_UNQUOTABLE = re.compile(r'["\\\x00-\x1f\x7f]|\$\{')


class Ssh(msgspec.Struct, frozen=True):
    """How ssh hosts are reached.

    `program`: the client, a name or a path. `known_hosts`: a file as in sshd(8), the only one consulted and never
    written; without it no host is known, and every check ends with `host_key_mismatch`. `identity`: the private key
    file that is offered (without a passphrase; no agent is asked); without it none is. Raises errors.Invalid for a
    file name that ssh_config(5) cannot express.
    """

    program: str = "ssh"
    known_hosts: str | None = None
    identity: str | None = None

    def __post_init__(self) -> None:
        for name in (self.known_hosts, self.identity):
            if name is not None and (_UNQUOTABLE.search(name) or not os.path.isabs(name)):
                raise errors.Invalid("a file for ssh needs an absolute path without quotes, backslashes and `${`")


def command(remote: Remote, address: Address, *, ssh: Ssh, seconds: float) -> list[str]:
    """The arguments of the client that asks for refs. A URL without a user is tried as `git`."""
    arguments = client(remote, address, ssh=ssh, seconds=seconds)
    return [*arguments, remote.host, f"git-upload-pack {quoted(remote.path)}"]


def client(remote: Remote, address: Address, *, ssh: Ssh, seconds: float) -> list[str]:
    """The client with all its options, for ssh_config(5) as of OpenSSH 8.5; what follows is the host and a command."""
    host = remote.host
    options = {
        "HostName": str(address),
        # The key is looked up under the name and port of the URL, as known_hosts files have it.
        "HostKeyAlias": host if remote.port == 22 else f"[{host}]:{remote.port}",
        "UserKnownHostsFile": _file(ssh.known_hosts),
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "CheckHostIP": "no",
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "BatchMode": "yes",
        "PreferredAuthentications": "publickey",
        "IdentityFile": _file(ssh.identity),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PKCS11Provider": "none",
        "AddKeysToAgent": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "ProxyCommand": "none",
        "ProxyJump": "none",
        "CanonicalizeHostname": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "Tunnel": "no",
        "RequestTTY": "no",
        "EscapeChar": "none",
        "ConnectionAttempts": "1",
        "ConnectTimeout": str(max(1, math.ceil(seconds))),
        "LogLevel": "ERROR",
    }
    arguments = [ssh.program, "-F", "none"]
    for name, value in options.items():
        arguments += ["-o", f"{name}={value}"]
    return [*arguments, "-p", str(remote.port), "-l", remote.user or "git", "--"]


def quoted(path: str) -> str:
    """`path` in single quotes for the shell of the host, as git quotes it (hosts without a shell expect this form)."""
    return "'" + path.replace("'", "'\\''").replace("!", "'\\!'") + "'"


def read(remote: Remote, addresses: Sequence[Address], *, ssh: Ssh, deadline: Deadline) -> refs.Refs:
    """The refs of `remote`, from the first of `addresses` that can be reached.

    Raises Failed, or TimeoutError at the deadline; the client is gone in any case when this returns.
    """
    for address in addresses[:-1]:
        try:
            return _once(remote, address, ssh, deadline, deadline.left() / 2)
        except Failed as failure:
            if failure.reason not in ("unreachable", "timeout"):
                raise
    return _once(remote, addresses[-1], ssh, deadline, deadline.left())


def _once(remote: Remote, address: Address, ssh: Ssh, deadline: Deadline, seconds: float) -> refs.Refs:
    try:
        process = subprocess.Popen(
            command(remote, address, ssh=ssh, seconds=seconds),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            # English messages, which are matched below, and nothing of this process's own environment.
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            start_new_session=True,
        )
    except (FileNotFoundError, PermissionError):
        raise Failed("unreachable", "this server has no ssh client, so ssh addresses cannot be checked") from None
    with process:
        output = _Output(process, deadline)
        try:
            found = refs.advertisement(output.take)
        except Failed as failure:
            if not output.ended:
                raise
            # A stream that ends early is only the trace; what the client said about it, and its exit status, is why.
            with suppress(subprocess.TimeoutExpired):
                process.wait(deadline.left())
            raise _explained(process.returncode, output.complaint, failure, ssh) from None
        finally:
            output.close()
            _end(process, deadline)
    if isinstance(found, refs.Refs):
        return found
    raise Failed("not_a_git_server", "the host speaks a version of git's protocol that was not asked for")


def _end(process: subprocess.Popen[bytes], deadline: Deadline) -> None:
    if process.stdin is not None:
        with suppress(OSError):  # the client may be gone already, which is what is wanted
            process.stdin.write(b"0000")  # "nothing wanted": the polite end of a conversation with upload-pack
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(min(0.5, deadline.left()))
    except (subprocess.TimeoutExpired, TimeoutError):
        # Not yet waited for, so the process id cannot have been given to another process.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class _Output:
    """The client's two outputs, read side by side: the answer up to a limit, the complaints kept to be matched."""

    def __init__(self, process: subprocess.Popen[bytes], deadline: Deadline) -> None:
        self.ended = False
        self.complaint = b""
        self._deadline = deadline
        self._selector = selectors.DefaultSelector()
        self._read = 0
        self._buffer = io.BytesIO()
        for stream in (process.stdout, process.stderr):
            self._selector.register(stream, selectors.EVENT_READ)  # type: ignore[arg-type]
        self._answer: Any = process.stdout

    def take(self, size: int) -> bytes:
        """Up to `size` bytes of the answer; b"" at its end, when all complaints have been read too."""
        data = self._buffer.read(size)
        while not data and self._selector.get_map():
            self._fill()
            data = self._buffer.read(size)
        self.ended = not data
        return data

    def _fill(self) -> None:
        for key, _ in self._selector.select(self._deadline.left()):
            data = os.read(key.fd, 65_536)
            if not data:
                self._selector.unregister(key.fileobj)
            elif key.fileobj is self._answer:
                self._read += len(data)
                if self._read > refs.BYTES_MAX:
                    limit = refs.BYTES_MAX >> 20
                    raise Failed("not_a_git_server", f"the host sends more than {limit} MiB; the check was given up")
                self._buffer = io.BytesIO(self._buffer.read() + data)
            else:
                self.complaint = (self.complaint + data)[:_COMPLAINT_MAX]

    def close(self) -> None:
        """Stops listening; the streams are the process's to close."""
        self._selector.close()


# What OpenSSH says before it ends with status 255, in the order in which it is looked for.
_CLIENT: tuple[tuple[bytes, Reason, str], ...] = (
    (b"host identification has changed", "host_key_mismatch", "the host shows another key than the one that is known"),
    (b"host key is known", "host_key_mismatch", "the host's key is not among the known ones"),
    (b"host key verification failed", "host_key_mismatch", "the host's key is not among the known ones"),
    (b"permission denied", "auth_failed", "the host did not accept this server's ssh key"),
    (b"too many authentication failures", "auth_failed", "the host did not accept this server's ssh key"),
    (b"timed out", "timeout", "the host did not answer in time"),
)
# What hosts say when the connection stands, but the repository is not to be had.
_HOST: tuple[tuple[bytes, Reason, str], ...] = (
    (b"not found: git-upload-pack", "not_a_git_server", "the host has no git"),
    (b"git-upload-pack: not found", "not_a_git_server", "the host has no git"),
    (b"command not found", "not_a_git_server", "the host has no git"),
    (b"does not appear to be a git repository", "not_found", "the host has no such repository"),
    (b"not found", "not_found", "the host has no such repository, or the key may not see it"),
    (b"could not be found", "not_found", "the host has no such repository, or the key may not see it"),
    (b"access denied", "auth_failed", "the host does not let this server's key read the repository"),
    (b"permission", "auth_failed", "the host does not let this server's key read the repository"),
)


def _explained(status: int | None, complaint: bytes, failure: Failed, ssh: Ssh) -> Failed:
    said = complaint.lower()
    for text, reason, message in _CLIENT if status == 255 else _HOST:
        if text in said:
            if reason == "auth_failed" and ssh.identity is None:
                message += "; none is configured"
            if reason == "host_key_mismatch" and ssh.known_hosts is None:
                message += "; no file of known hosts is configured"
            return Failed(reason, message)
    if status == 255:
        return Failed("unreachable", "the host refuses the ssh connection or cannot be reached")
    return failure


def _file(name: str | None) -> str:
    return "none" if name is None else '"' + name.replace("%", "%%") + '"'
