"""Asks an http(s) host for a repository's refs, over a connection to an address that was checked before.

Git's smart protocol (gitprotocol-http(5)) on the standard library: no proxy, no cookie, no compression, no redirect to
elsewhere; at most 4 MiB are read from one connection, and nothing after the deadline, however slowly the bytes come.
A token is sent only in the `Authorization` header, only to the host of the URL.
"""

from __future__ import annotations

import base64
import http.client
import io
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from gitstore.addresses import Address, Deadline
from gitstore.remotes import refs
from gitstore.remotes.report import Failed
from gitstore.remotes.url import Remote, redirected

T = TypeVar("T")
_REDIRECTS = 3
_ADVERTISEMENT = "application/x-git-upload-pack-advertisement"
_RESULT = "application/x-git-upload-pack-result"
_HEADERS = {
    "User-Agent": "git/2 (gitstore)",  # some hosts show git only to clients whose name begins with `git/`
    "Accept-Encoding": "identity",
    "Git-Protocol": "version=2",
    "Connection": "close",
}


def basic(remote: Remote, token: str) -> str:
    """The value of `Authorization` for a token, as git itself would send it with the token as password.

    The user is that of the URL. Without one it is what the host asks for where the host cares: `oauth2` (GitLab),
    `x-token-auth` (Bitbucket); else `x-access-token`, which GitHub documents and others ignore.
    """
    usual = {"gitlab.com": "oauth2", "bitbucket.org": "x-token-auth"}.get(remote.host, "x-access-token")
    return "Basic " + base64.b64encode(f"{remote.user or usual}:{token}".encode()).decode("ascii")


def read(
    remote: Remote,
    addresses: Sequence[Address],
    *,
    token: str | None,
    deadline: Deadline,
    tls: ssl.SSLContext | None = None,
) -> refs.Refs:
    """The refs of `remote`, read over a connection to one of `addresses`; see `find`."""
    return find(remote, addresses, token=token, deadline=deadline, tls=tls)[1]


def find(
    remote: Remote,
    addresses: Sequence[Address],
    *,
    token: str | None,
    deadline: Deadline,
    tls: ssl.SSLContext | None = None,
) -> tuple[Remote, refs.Refs]:
    """Where the repository is in the end (another path of the same origin, if the host redirects), and its refs.

    `tls` is the context for https, by default the system's roots; the certificate must be valid for the host name of
    the URL, which is also sent as SNI. Raises Failed, or TimeoutError at the deadline.
    """
    context = (tls or ssl.create_default_context()) if remote.scheme == "https" else None
    headers = dict(_HEADERS)
    if token:
        headers["Authorization"] = basic(remote, token)
    for _ in range(_REDIRECTS + 1):
        with ExitStack() as stack:
            answer = _asked(remote, addresses, deadline, context, stack, headers)
            if answer.status in (301, 302, 303, 307, 308):
                target = redirected(remote, answer.getheader("Location") or "")
                if target is None:
                    raise Failed("not_a_git_server", "the host redirects to a page that is not a repository")
                remote = target
                continue
            _check(answer, _ADVERTISEMENT, token)
            found = refs.advertisement(_guarded(answer.read))
        if isinstance(found, refs.Refs):
            return remote, found
        with ExitStack() as stack:
            body = refs.request(found)
            answer = _asked(remote, addresses, deadline, context, stack, headers, body)
            _check(answer, _RESULT, token)
            return remote, refs.listing(_guarded(answer.read))
    raise Failed("not_a_git_server", f"the host redirects more than {_REDIRECTS} times")


def _asked(
    remote: Remote,
    addresses: Sequence[Address],
    deadline: Deadline,
    context: ssl.SSLContext | None,
    stack: ExitStack,
    headers: dict[str, str],
    body: bytes | None = None,
) -> http.client.HTTPResponse:
    sock = stack.enter_context(_connected(remote, addresses, deadline))
    if context is not None:
        sock = stack.enter_context(_secured(sock, context, remote.host, deadline))
    connection = _Connection(remote, _Channel(sock, deadline))
    stack.callback(connection.close)
    if body is None:
        method, path = "GET", remote.path + "/info/refs?service=git-upload-pack"
    else:
        method, path = "POST", remote.path + "/git-upload-pack"
        headers = {**headers, "Content-Type": "application/x-git-upload-pack-request", "Accept": _RESULT}

    def exchange() -> http.client.HTTPResponse:
        connection.request(method, path, body=body, headers=headers)
        return connection.getresponse()

    return stack.enter_context(_translated(exchange))


def _check(answer: http.client.HTTPResponse, wanted: str, token: str | None) -> None:
    status = answer.status
    if status in (401, 403):
        if token:
            raise Failed("auth_failed", f"the host did not accept the token for this repository (status {status})")
        raise Failed("auth_failed", f"the host asks for a token for this repository (status {status})")
    if status in (404, 410):
        hint = "" if token else "; a private one is often hidden like this until a token is given"
        raise Failed("not_found", f"the host has no such repository (status {status}){hint}")
    if status == 429 or status >= 500:
        raise Failed("unreachable", f"the host cannot answer now (status {status})")
    kind = (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    coded = (answer.getheader("Content-Encoding") or "identity").strip().lower() != "identity"
    if status != 200 or kind != wanted or coded:
        raise Failed("not_a_git_server", f"the host answers, but not as a git server of the smart protocol ({status})")


def _connected(remote: Remote, addresses: Sequence[Address], deadline: Deadline) -> socket.socket:
    slow = False
    for number, address in enumerate(addresses, start=1):
        # Half of what is left for each but the last, so that one dead address does not use up the time of all.
        share = deadline.left() / (1 if number == len(addresses) else 2)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with ExitStack() as closing:
            sock = closing.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.settimeout(share)
            try:
                sock.connect((str(address), remote.port))
            except OSError as error:  # the next address may do; when none does, that is what is reported
                slow = slow or isinstance(error, TimeoutError)
                continue
            closing.pop_all()
            return sock
    if slow:
        raise TimeoutError("no connection in time")
    raise Failed("unreachable", "the host refuses the connection or cannot be reached")


def _secured(sock: socket.socket, context: ssl.SSLContext, host: str, deadline: Deadline) -> ssl.SSLSocket:
    sock.settimeout(deadline.left())
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except TimeoutError:
        raise
    except ssl.SSLCertVerificationError:
        raise Failed("unreachable", "the host's TLS certificate is not valid for its name") from None
    except (OSError, ValueError):
        raise Failed("unreachable", "no TLS connection could be made with the host") from None


class _Wire(io.RawIOBase):
    """The reading end of a connection, which keeps the deadline and the limit of bytes whatever the far side does."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left())
        count = self._sock.recv_into(buffer)
        self._read += count
        if self._read > refs.BYTES_MAX:
            raise Failed(
                "not_a_git_server", f"the host sends more than {refs.BYTES_MAX >> 20} MiB; the check was given up"
            )
        return count


class _Channel:
    """What `http.client` needs of a socket. Who opened the socket closes it: the answer is still to be read."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.left())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Wire(self._sock, self._deadline))

    def close(self) -> None:
        """Nothing: see above."""


class _Connection(http.client.HTTPConnection):
    """A connection that is already made, so that no name is looked up again."""

    def __init__(self, remote: Remote, channel: _Channel) -> None:
        super().__init__(remote.host, remote.port)
        # The Host header leaves out the port only where it is the scheme's own.
        self.default_port = remote.port if remote.default_port else 0
        self.sock = channel
        self.auto_open = 0


def _translated(work: Callable[[], T]) -> T:
    """`work()`, with what a broken or hostile host makes of it as Failed."""
    try:
        return work()
    except (TimeoutError, Failed):
        raise
    except OSError:
        raise Failed("unreachable", "the connection broke before the host had answered") from None
    except (http.client.HTTPException, ValueError):
        # ValueError: http.client reads numbers such as a negative chunk size without checking them.
        raise Failed("not_a_git_server", "the host's answer is not valid HTTP") from None


def _guarded(reader: refs.Read) -> refs.Read:
    return lambda size: _translated(lambda: reader(size))
