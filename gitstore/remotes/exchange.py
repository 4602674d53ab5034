"""Fetches a branch from another host into a repository of its own, and pushes a commit there, never by force.

The host is looked at first with this package's own reader, which finds out what is wrong most precisely; only what has
to be carried is carried by git. Whatever goes wrong is a `Setback`, whose text holds nothing the host or git wrote.
"""

from __future__ import annotations

import os
import re
import ssl as tls_contexts
from collections.abc import Mapping, Sequence
from threading import Event
from typing import Literal, NoReturn

import msgspec

from gitstore import errors
from gitstore.addresses import (
    Address,
    AddressPolicy,
    Deadline,
    RefusedAddress,
    Resolver,
    Unresolved,
    resolve,
    system_resolver,
)
from gitstore.remotes import child, http
from gitstore.remotes import ssh as ssh_client
from gitstore.remotes.child import Said
from gitstore.remotes.refs import Refs
from gitstore.remotes.report import Failed, Reason
from gitstore.remotes.ssh import Ssh
from gitstore.remotes.url import Remote, parse

Why = Literal[Reason, "no_git", "too_large", "malformed", "moved", "rejected"]
TRANSIENT: frozenset[str] = frozenset({"timeout", "unreachable", "moved"})
"""What may be better the next time without anybody doing anything."""
_MOVED = re.compile(
    r"non-fast-forward|fetch first|stale info|remote ref updated|cannot lock ref|failed to (?:lock|update ref)|"
    r"incorrect old value|reference already exists|needs force"
)


class Setback(errors.Unavailable):
    """The exchange did not come about. `reason` is a word for programs, the message is for a person."""

    def __init__(self, reason: Why, message: str) -> None:
        super().__init__(message, details={"reason": reason})
        self.reason: Why = reason


class Means(msgspec.Struct, frozen=True):
    """With what a host is reached.

    `look` and `timeout` are the seconds that a first look and a whole exchange may take, `bytes_max` bounds what one
    fetch may bring and `file_bytes` each file in it, `git` is the absolute path of the program (None: there is none).
    """

    git: str | None = None
    policy: AddressPolicy = AddressPolicy()
    look: float = 15.0
    timeout: float = 120.0
    bytes_max: int = 512 << 20
    file_bytes: int = 10 << 20
    ssh: Ssh = Ssh()
    resolver: Resolver = system_resolver
    tls: tls_contexts.SSLContext | None = None


class Far(msgspec.Struct, frozen=True):
    """A repository on another host as it was seen a moment ago, and how it was reached."""

    remote: Remote
    addresses: tuple[Address, ...]
    refs: Refs
    token: str | None
    means: Means
    deadline: Deadline
    stop: Event

    def head(self, branch: str) -> str | None:
        """The commit of a branch, by its exact name; None where there is no such branch."""
        return self.refs.branches.get(branch.encode("utf-8", "surrogatepass"))


def reach(url: str, *, token: str | None, means: Means, stop: Event) -> Far:
    """Looks at the repository at `url`: http, https, ssh or the scp form, by the rules of `verify_access`.

    The time for everything that is done with the answer runs from here. Raises Setback.
    """
    deadline = Deadline(means.timeout)
    look = Deadline(min(means.look, means.timeout))
    try:
        remote = parse(url)
        addresses = resolve(remote.host, remote.port, means.policy, deadline=look, resolver=means.resolver)
        if remote.scheme == "ssh":
            token = None
            found = ssh_client.read(remote, addresses, ssh=means.ssh, deadline=look)
        else:
            vouched = all(one.is_loopback or means.policy.named(one, remote.host) for one in addresses)
            if token and remote.scheme == "http" and not vouched:
                raise Failed(
                    "refused_scheme", "a token is not sent over plain http, where anyone could read it; use https"
                )
            remote, found = http.find(remote, addresses, token=token, deadline=look, tls=means.tls)
    except Failed as failure:
        raise Setback(failure.reason, failure.message) from None
    except RefusedAddress as error:
        raise Setback("refused_address", error.message) from None
    except Unresolved as error:
        raise Setback("unreachable", error.message) from None
    except TimeoutError:
        raise Setback("timeout", f"the host did not answer within {min(means.look, means.timeout):g} seconds") from None
    if any(len(head) != 40 for head in found.branches.values()):
        raise Setback("not_a_git_server", "the repository uses SHA-256 object names, which this store does not")
    return Far(remote, addresses, found, token, means, deadline, stop)


def fetch(far: Far, branch: str, *, repository: str, ref: str) -> None:
    """Brings a branch with its history into the bare `repository`, as `ref`, whatever that was before.

    Objects are checked as strictly as git can (`transfer.fsckObjects`) and for completeness. Raises Setback, Stopped.
    """
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules")
    said = _speak(far, repository, ("fetch", *options, "--", "{url}", f"+refs/heads/{branch}:{ref}"))
    if said.status:
        if _full(repository, far.means.bytes_max):
            raise _too_large(far)
        _explain(said, far)


def push(far: Far, branch: str, commit: str, *, repository: str) -> bool:
    """Moves the branch of the host to a commit of `repository`; False where it had moved meanwhile.

    Never by force: git sends nothing unless the branch, as the host has it, is among the commit's ancestors or absent,
    and the host moves it only from there. Raises Setback (`rejected` where the host does not allow it), Stopped.
    """
    options = ("--quiet", "--porcelain", "--no-verify", "--no-signed", "--no-recurse-submodules", "--no-follow-tags")
    said = _speak(far, repository, ("push", *options, "--", "{url}", f"{commit}:refs/heads/{branch}"))
    refused = [line for line in said.output.splitlines() if line.startswith("!")]
    if refused:
        if _MOVED.search(refused[0]):
            return False
        raise Setback(
            "rejected",
            f"the host does not let `{branch}` be pushed to (a protected branch, a hook, or a rule of the host); allow "
            "it for the owner of the token, or choose another branch",
        )
    if said.status:
        _explain(said, far)
    return True


def apart(far: Far, ours: str, theirs: str | None, *, repository: str) -> tuple[int, int]:
    """How many commits each of two lines has that the other has not; None is a line without any.

    Raises Setback, Stopped.
    """
    span = f"{ours}...{theirs}" if theirs is not None else ours
    said = _run(far, repository, ("rev-list", "--count", "--left-right", span, "--"), {}, {}, bytes_max=0)
    counts = said.output.split()
    if said.status or len(counts) != 2:
        raise Setback("malformed", "what the host has cannot be read as a history of commits")
    return (int(counts[0]), int(counts[1])) if theirs is not None else (int(counts[0]) + int(counts[1]), 0)


def _speak(far: Far, repository: str, arguments: Sequence[str]) -> Said:
    said = Said(1, "", "")
    # ssh takes one address at a time; the web client tries them all by itself.
    ways = [far.addresses[at:] for at in range(len(far.addresses))] if far.remote.scheme == "ssh" else [far.addresses]
    for addresses in ways:
        url, settings, environment = child.reaching(
            far.remote, addresses, token=far.token, ssh=far.means.ssh, deadline=far.deadline
        )
        words = [url if word == "{url}" else word for word in arguments]
        said = _run(far, repository, words, settings, environment, bytes_max=far.means.bytes_max)
        if "connect to host" not in said.complaint.lower():
            break
    return said


def _run(
    far: Far,
    repository: str,
    arguments: Sequence[str],
    settings: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    bytes_max: int,
) -> Said:
    try:
        if far.means.git is None:
            raise child.NoGit
        return child.run(
            (far.means.git, *arguments),
            repository=repository,
            deadline=far.deadline,
            stop=far.stop,
            bytes_max=bytes_max,
            settings=settings,
            environment=environment,
        )
    except child.NoGit:
        message = "this server has no git program, which following a remote needs; install git"
        raise Setback("no_git", message) from None
    except TimeoutError:
        raise Setback("timeout", f"the exchange took longer than {far.means.timeout:g} seconds") from None


# What git says, in the order in which it is looked for.
_SAID: tuple[tuple[str, Why, str], ...] = (
    ("couldn't find remote ref", "branch_not_found", "the repository can be read, but has no such branch any more"),
    ("out of memory", "too_large", "what the host sends needs more memory than this server gives it"),
    ("fsck error", "malformed", "the host sends objects that break git's rules"),
    ("could not read username", "auth_failed", "the host asks for a token, or did not accept the one it was sent"),
    ("could not read password", "auth_failed", "the host did not accept the token"),
    ("authentication failed", "auth_failed", "the host did not accept the token"),
    ("returned error: 401", "auth_failed", "the host did not accept the token"),
    ("returned error: 403", "auth_failed", "the token does not allow this for the repository"),
    ("permission denied", "auth_failed", "the host did not accept this server's ssh key"),
    ("host key verification failed", "host_key_mismatch", "the host's key is not among the known ones"),
    ("returned error: 413", "rejected", "the host finds the push too large"),
    ("returned error: 30", "refused_address", "the host redirects elsewhere, which was not followed"),
    ("redirect", "refused_address", "the host redirects elsewhere, which was not followed"),
    ("not found", "not_found", "the host has no such repository, or shows it only to others"),
    ("certificate", "unreachable", "the host's TLS certificate is not valid for its name"),
    ("invalid index-pack output", "malformed", "the host sends something that is no sound pack of objects"),
    ("did not send all necessary objects", "malformed", "the host leaves out objects that its commits need"),
    ("timed out", "timeout", "the host did not answer in time"),
)


def _full(repository: str, limit: int) -> bool:
    """Whether a file was ended by its limit: git, whose own child is killed then, does not say why."""
    with os.scandir(f"{repository}/objects/pack") as found:
        return any(entry.stat().st_size >= limit // child.BLOCK * child.BLOCK for entry in found)


def _too_large(far: Far) -> Setback:
    return Setback("too_large", f"what the host sends is larger than the {far.means.bytes_max} bytes that are taken")


def _explain(said: Said, far: Far) -> NoReturn:
    # Neither what the host says nor the URL, which git repeats, may be taken for git's own words.
    lines = [line for line in said.complaint.splitlines() if not line.startswith("remote:")]
    complaint = "\n".join(lines).replace(far.remote.path, "").lower()
    for text, reason, message in _SAID:
        if text in complaint:
            raise Setback(reason, message)
    raise Setback("unreachable", "the connection to the host broke, or it answers as no git server does")
