"""Checks whether a repository can be read and has a branch, without storing, running or following anything."""

from __future__ import annotations

import ssl

from gitstore.addresses import AddressPolicy, Deadline, RefusedAddress, Resolver, Unresolved, resolve, system_resolver
from gitstore.remotes import http
from gitstore.remotes import ssh as ssh_client
from gitstore.remotes.refs import Refs
from gitstore.remotes.report import AccessReport, Failed, Reason
from gitstore.remotes.ssh import Ssh
from gitstore.remotes.url import Remote, parse, shown

_HEADS = "refs/heads/"
_HIDDEN = "[token]"


def verify_access(
    url: str,
    *,
    branch: str | None,
    token: str | None,
    policy: AddressPolicy,
    timeout: float = 15.0,
    ssh: Ssh | None = None,
    resolver: Resolver = system_resolver,
    tls: ssl.SSLContext | None = None,
) -> AccessReport:
    """What a look at the repository at `url` finds; it blocks for at most `timeout` seconds, so run it off the loop.

    `url`: http, https, ssh or the scp form; all else is `refused_scheme`. The host's name is resolved once by
    `resolver`, all its addresses must be allowed by `policy`, and only they are connected to.

    `branch`: its exact name (`main` or `refs/heads/main`; no pattern, no abbreviation, case matters). None or blank
    asks for none: then `ok` says that the repository can be read and is not empty, and that HEAD, if it names a
    branch, names one that exists. An empty repository is never `ok`.

    `token`: sent by Basic authentication, from the first request on, to the host of the URL only. Over plain http it
    is sent only to a loopback address or to a host or network that `policy.allow` lists; otherwise the check ends
    with `refused_scheme` before anything is sent. ssh makes no use of it. It is in no text that this function gives.

    Raises nothing on purpose: whatever the URL is and the host does ends in a report.
    """
    deadline = Deadline(timeout)
    url = url.strip(" \t\r\n")
    branch = branch if branch and branch.strip() else None
    token = token or None
    secrets = [token] if token else []
    refs: Refs | None = None
    reason: Reason | None
    try:
        remote = parse(url)
        if token and remote.scheme != "ssh":
            secrets.append(http.basic(remote, token).removeprefix("Basic "))
        refs = _read(remote, token, policy, deadline, ssh or Ssh(), resolver, tls)
        name, head, count = _judged(refs, branch)
        reason, message = None, _praise(name, branch, count, unused=bool(token) and remote.scheme == "ssh")
    except Failed as failure:
        name, head, reason, message = branch, None, failure.reason, failure.message
    except RefusedAddress as error:
        name, head, reason, message = branch, None, "refused_address", error.message
    except Unresolved as error:
        name, head, reason, message = branch, None, "unreachable", error.message
    except TimeoutError:
        name, head, reason, message = branch, None, "timeout", f"the check took longer than {timeout:g} seconds"
    if reason and refs is not None and branch is None and refs.target is not None:
        name = _text(refs.target)
    return AccessReport(
        ok=reason is None,
        repository_url=_without(secrets, shown(url)) or "",
        default_branch=_without(secrets, name),
        branch_verified=reason is None and branch is not None,
        head=_without(secrets, head),
        branches=0 if refs is None else len(refs.branches),
        reason=reason,
        message=message,
        duration_ms=deadline.spent(),
    )


def _read(
    remote: Remote,
    token: str | None,
    policy: AddressPolicy,
    deadline: Deadline,
    ssh: Ssh,
    resolver: Resolver,
    tls: ssl.SSLContext | None,
) -> Refs:
    addresses = resolve(remote.host, remote.port, policy, deadline=deadline, resolver=resolver)
    if remote.scheme == "ssh":
        return ssh_client.read(remote, addresses, ssh=ssh, deadline=deadline)
    vouched = all(address.is_loopback or policy.named(address, remote.host) for address in addresses)
    if token and remote.scheme == "http" and not vouched:
        raise Failed("refused_scheme", "a token is not sent over plain http, where anyone could read it; use https")
    return http.read(remote, addresses, token=token, deadline=deadline, tls=tls)


def _judged(refs: Refs, branch: str | None) -> tuple[str | None, str | None, int]:
    """The branch in question, its commit, and the number of branches. Raises Failed if the check is not passed."""
    count = len(refs.branches)
    if not count and refs.head is None:
        raise Failed("empty_repository", "the repository can be read, but has no commit yet, so no branch to work on")
    if branch is not None:
        for name in (branch, branch.removeprefix(_HEADS)):
            # A surrogate is no text that could be sent, and so equals nothing that a host could show.
            if head := refs.branches.get(name.encode("utf-8", "surrogatepass")):
                return name, head, count
        raise Failed(
            "branch_not_found", f"the repository can be read, but none of its {_branches(count)} has this name"
        )
    if refs.target is not None:
        if head := refs.branches.get(refs.target):
            return _text(refs.target), head, count
    elif refs.head is not None:
        return None, refs.head, count
    raise Failed("branch_not_found", f"the host's HEAD names none of the {_branches(count)}; say which branch to use")


def _praise(name: str | None, branch: str | None, count: int, *, unused: bool) -> str:
    if branch is not None:
        text = f"the repository can be read and has the branch; it has {_branches(count)}"
    elif name is not None:
        text = f"the repository can be read; it has {_branches(count)}"
    else:
        text = f"the repository can be read; it has {_branches(count)}, and its HEAD names none of them"
    return text + "; the token was not used, because ssh authenticates with a key" * unused


def _branches(count: int) -> str:
    return "1 branch" if count == 1 else f"{count:,} branches"


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _without(secrets: list[str], text: str | None) -> str | None:
    """`text` without any of the secrets: a hostile host may send back, as a branch or a commit, what it was sent."""
    for secret in secrets:
        if text is not None:
            text = text.replace(secret, _HIDDEN)
    return text
