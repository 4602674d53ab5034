"""Commit objects: built from typed parts, and read back whatever somebody's git may have written into one.

Format: "commit" in git's object documentation. Names and messages are cleaned by the caller (names.identity,
names.one_line).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gitstore.errors import Damaged
from gitstore.repository.objects import COMMIT, Object, Oid

_PERSON = re.compile(rb"^(.*?) ?<(.*?)> (-?\d+) ([+-]\d{4})$", re.DOTALL)
_USUAL = re.compile(  # what all but a few commits begin with
    rb"tree ([0-9a-f]{40})\n(?:parent ([0-9a-f]{40})\n)?author ([^\n]*)\ncommitter ([^\n]*)\n\n"
)
_TRAILER = re.compile(r"^([A-Za-z][A-Za-z0-9-]*): (.*)$")


class Signature(NamedTuple):
    """A person or program, and when; `time` in seconds since 1970 UTC."""

    name: str
    email: str
    time: int
    zone: str = "+0000"


class Commit(NamedTuple):
    """What a commit says."""

    tree: Oid
    parents: tuple[Oid, ...]
    author: Signature
    committer: Signature
    message: str

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.lstrip("\n").split("\n", 1)[0].strip()

    @property
    def trailers(self) -> dict[str, str]:
        """The trailers of the last paragraph (git-interpret-trailers(1)); a paragraph with any other line has none."""
        return trailers(self.message)


def trailers(message: str) -> dict[str, str]:
    """The trailers of a message's last paragraph (git-interpret-trailers(1)), if it has another one before."""
    *body, last = message.rstrip().split("\n\n")
    if not body:
        return {}
    found = [_TRAILER.match(line) for line in last.split("\n")]
    return {match[1]: match[2] for match in found if match} if all(found) else {}


def build(tree: Oid, parents: tuple[Oid, ...], author: Signature, committer: Signature, message: str) -> Object:
    """The commit object."""
    lines = [b"tree " + tree.hex().encode()]
    lines += [b"parent " + parent.hex().encode() for parent in parents]
    lines.append(b"author " + sign(author))
    lines.append(b"committer " + sign(committer))
    return Object(COMMIT, b"\n".join(lines) + b"\n\n" + message.encode("utf-8", "surrogateescape"))


def sign(who: Signature) -> bytes:
    """A person and a time as an object has them."""
    return f"{who.name} <{who.email}> {who.time} {who.zone}".encode("utf-8", "surrogateescape")


def parse(data: bytes) -> Commit:
    """Reads a commit. Raises Damaged where it has no tree, author or committer; odd text is kept as well as it goes."""
    usual = _USUAL.match(data)
    if usual is not None:
        tree_id, parent, by, committed_by = usual.groups()
        author = read_signature(by)
        return Commit(
            Oid(bytes.fromhex(tree_id.decode())),
            (Oid(bytes.fromhex(parent.decode())),) if parent is not None else (),
            author,
            author if committed_by == by else read_signature(committed_by),
            data[usual.end() :].decode("utf-8", "replace"),
        )
    head, _, message = data.partition(b"\n\n")
    tree: Oid | None = None
    parents: list[Oid] = []
    people: dict[bytes, Signature] = {}
    for line in head.split(b"\n"):
        name, _, rest = line.partition(b" ")
        if name == b"tree":
            tree = Oid(bytes.fromhex(rest.decode("ascii", "replace")))
        elif name == b"parent":
            parents.append(Oid(bytes.fromhex(rest.decode("ascii", "replace"))))
        elif name in (b"author", b"committer") and name not in people:
            people[name] = read_signature(rest)
    if tree is None or len(people) != 2:
        raise Damaged("a commit object cannot be read: tree, author or committer is missing")
    return Commit(tree, tuple(parents), people[b"author"], people[b"committer"], message.decode("utf-8", "replace"))


def read_signature(text: bytes) -> Signature:
    """The person and time that an object names; what is not in the form is taken for a name."""
    match = _PERSON.match(text)
    if match is None:
        return Signature(text.decode("utf-8", "replace"), "", 0)
    name, email = match[1].decode("utf-8", "replace"), match[2].decode("utf-8", "replace")
    return Signature(name, email, int(match[3]), match[4].decode("ascii"))
