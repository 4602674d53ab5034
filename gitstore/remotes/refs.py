"""Reads what `git upload-pack` says about a repository's refs, from a stream that may be hostile.

The formats are those of gitprotocol-common(5), gitprotocol-pack(5) and gitprotocol-v2(5). Anything else raises
Failed("not_a_git_server"). The caller's `read(n)` gives up to n bytes, b"" at the end, and bounds bytes and time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

from gitstore.remotes.report import Failed

Read = Callable[[int], bytes]
REFS_MAX = 100_000
BYTES_MAX = 4 * 1024 * 1024  # of one answer, with everything around it; for the callers' `read`
_PACKET_MAX = 65_520  # the longest that gitprotocol-common(5) allows, its own four digits included
_LENGTH = re.compile(rb"[0-9a-fA-F]{4}")
_REF = re.compile(rb"(?P<id>[0-9a-f]{40}(?:[0-9a-f]{24})?) (?P<name>[^\x00-\x20\x7f]+)")
_HEADS = b"refs/heads/"


class Refs(msgspec.Struct, frozen=True):
    """The refs that matter here: branches by their names without `refs/heads/`, and HEAD.

    `head` is HEAD's commit, None if HEAD is unborn or was not shown; `target` the branch that HEAD names, which may
    not exist, None if HEAD is detached or the host did not say.
    """

    branches: dict[bytes, str]
    head: str | None = None
    target: bytes | None = None


class Capabilities(msgspec.Struct, frozen=True):
    """A host that speaks protocol 2: the refs must be asked for with `request`. Values by name, `b""` if none."""

    values: dict[bytes, bytes]


def advertisement(read: Read) -> Refs | Capabilities:
    """The first answer of upload-pack, in version 0, 1 or 2, with or without the service line of smart http."""
    lines = _lines(read)
    first = next(lines, None)
    if first is not None and first.startswith(b"# service="):
        if first != b"# service=git-upload-pack" or next(lines, None) is not None:
            raise _garbage()
        lines = _lines(read)
        first = next(lines, None)
    if first == b"version 2":
        pairs = (line.partition(b"=") for line in lines)
        return Capabilities({name: value for name, _, value in pairs})
    if first == b"version 1":
        first = next(lines, None)
    return _version0(first, lines)


def request(capabilities: Capabilities) -> bytes:
    """The body that asks a host of protocol 2 for HEAD and the branches."""
    if b"ls-refs" not in capabilities.values:
        raise _garbage()
    wanted = [b"command=ls-refs\n"]
    if form := capabilities.values.get(b"object-format"):
        if form not in (b"sha1", b"sha256"):
            raise _garbage()
        wanted.append(b"object-format=" + form + b"\n")
    asked = [b"symrefs\n", b"ref-prefix HEAD\n", b"ref-prefix " + _HEADS + b"\n"]
    if b"unborn" in capabilities.values[b"ls-refs"].split():
        asked.insert(1, b"unborn\n")
    return b"".join((*map(_packet, wanted), b"0001", *map(_packet, asked), b"0000"))


def listing(read: Read) -> Refs:
    """The answer to `request`."""
    branches: dict[bytes, str] = {}
    head: str | None = None
    target: bytes | None = None
    for line in _lines(read):
        body, _, attributes = line.partition(b" symref-target:")
        if body == b"unborn HEAD":
            target = _branch(attributes.split(b" ")[0])
            continue
        name, oid = _ref(body.split(b" peeled:")[0])
        if name == b"HEAD":
            head, target = oid, _branch(attributes.split(b" ")[0])
        elif (branch := _branch(name)) is not None:
            branches[branch] = oid
    return Refs(branches, head, target)


def _version0(first: bytes | None, lines: Iterator[bytes]) -> Refs:
    if first is None:
        return Refs({})
    body, _, capabilities = first.partition(b"\0")
    target: bytes | None = None
    for capability in capabilities.split(b" "):
        if capability.startswith(b"symref=HEAD:"):
            target = _branch(capability.removeprefix(b"symref=HEAD:"))
    branches: dict[bytes, str] = {}
    head: str | None = None
    for line in (body, *lines):
        if line.startswith(b"shallow "):
            continue
        name, oid = _ref(line)
        if name == b"HEAD":
            head = oid
        elif (branch := _branch(name)) is not None:
            branches[branch] = oid
    return Refs(branches, head, target)


def _branch(name: bytes) -> bytes | None:
    return name[len(_HEADS) :] if name.startswith(_HEADS) and len(name) > len(_HEADS) else None


def _ref(line: bytes) -> tuple[bytes, str]:
    found = _REF.fullmatch(line)
    if found is None:
        raise _garbage()
    return found["name"], found["id"].decode("ascii")


def _lines(read: Read) -> Iterator[bytes]:
    """The data of the packets up to the next flush packet, each without its final newline."""
    for count in range(REFS_MAX + 1):
        digits = _exactly(read, 4)
        if not _LENGTH.fullmatch(digits):
            raise _garbage()
        length = int(digits, 16)
        if length == 0:
            return
        if not 4 <= length <= _PACKET_MAX:  # 1 and 2 are delimiters that have no place here; 3 means nothing
            raise _garbage()
        if count == REFS_MAX:
            break
        data = _exactly(read, length - 4)
        if data.startswith(b"ERR "):
            raise Failed("not_found", "the host speaks git, but answered with an error instead of the repository")
        yield data.removesuffix(b"\n")
    raise Failed("not_a_git_server", f"the host lists more than {REFS_MAX:,} refs; the check was given up")


def _exactly(read: Read, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = read(size - len(data))
        if not more:
            raise Failed("not_a_git_server", "the host's answer ends too early to be that of a git server")
        data += more
    return data


def _packet(data: bytes) -> bytes:
    return b"%04x" % (len(data) + 4) + data


def _garbage() -> Failed:
    return Failed("not_a_git_server", "the host's answer is not in git's format")
