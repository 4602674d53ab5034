"""Whether objects are what their ids say, keep the rules of `git fsck --strict`, and have everything they name.

The rules are those of fsck.c in git: https://git-scm.com/docs/git-fsck#_fsck_messages
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

from gitstore import paths
from gitstore.errors import Damaged
from gitstore.repository.objects import BLOB, COMMIT, EMPTY_TREE, NAMES, TAG, TREE, Oid, identify
from gitstore.repository.trees import decode_path

_ENTRY = re.compile(rb"([0-7]*) ([^\0]*)\0(.{20})", re.DOTALL)
_MODES = frozenset({b"40000", b"100644", b"100755", b"100664", b"120000", b"160000"})
_SUBMODULE = b"160000"
_PERSON = rb"[^<>\n\0]* <[^<>\n\0]*> (?:0|[1-9][0-9]{0,18}) [+-][0-9]{4}\n"
_COMMIT = re.compile(
    rb"tree ([0-9a-f]{40})\n((?:parent [0-9a-f]{40}\n)*)author (?!<)" + _PERSON + rb"committer (?!<)" + _PERSON
)
_NOTHING = b"\0" * 20
_USUAL = 255  # bytes of a name
_TAGS = 10  # tags of tags that are followed

Seen = Callable[[Oid, int, str, bytes], None]


class Source(Protocol):
    """Where objects come from (`Database`)."""

    def get(self, oid: Oid) -> tuple[int, bytes]:
        """Kind and data. Raises Damaged."""


class Fault(NamedTuple):
    """What is wrong with one object; `path` is where a commit has it, empty for commits and root trees."""

    oid: Oid
    path: str
    text: str


class Link(NamedTuple):
    """An object that another one names, and the kind it must have."""

    oid: Oid
    kind: int
    path: str


def examine(oid: Oid, kind: int, data: bytes, path: str = "") -> tuple[list[str], list[Link]]:
    """What is wrong with one object, and which objects it needs (submodules are somebody else's)."""
    if identify(kind, data) != oid:
        return ["its content does not have its id: the bytes were altered"], []
    if kind == TREE:
        return _tree(data, path)
    return _commit(data) if kind == COMMIT else ([], [])


def _commit(data: bytes) -> tuple[list[str], list[Link]]:
    match = _COMMIT.match(data)
    if match is None:
        return ["it is no well-formed commit (tree, parents, author and committer, in this order)"], []
    if b"\0" in data:
        return ["the commit has a NUL character"], []
    links = [Link(Oid(bytes.fromhex(line[7:].decode())), COMMIT, "") for line in match[2].split(b"\n")[:-1]]
    return [], [*links, Link(Oid(bytes.fromhex(match[1].decode())), TREE, "")]


def _named(name: bytes) -> tuple[str, bool]:
    """A name as it is shown, and whether no tree may have it."""
    text = decode_path(name)
    bad = name in (b"", b".", b"..") or b"/" in name or paths.means_git(text)
    return text.encode("utf-8", "replace").decode(), bad


_known = lru_cache(16_384)(_named)  # a tree of many names comes again with each change of one of them


def _tree(data: bytes, path: str) -> tuple[list[str], list[Link]]:
    faults: list[str] = []
    links: list[Link] = []
    end, last = 0, b""
    names: set[bytes] = set()
    for found in _ENTRY.finditer(data):
        if found.start() != end:
            break
        end = found.end()
        mode, name, oid = found.groups()
        shown, bad = _known(name) if len(name) <= _USUAL else _named(name)
        key = name + b"/" if mode == b"40000" else name
        if mode not in _MODES:
            faults.append(f"`{shown}` has the mode {mode.decode()}, which git does not know")
        if name in names:
            faults.append(f"`{shown}` is in it twice")
        elif key <= last:
            faults.append("its entries are not in order")
        if bad:
            faults.append(f"`{shown}` is a name that no tree may have")
        if oid == _NOTHING:
            faults.append(f"`{shown}` names the null object")
        elif mode != _SUBMODULE:
            place = f"{path}/{shown}" if path else shown
            links.append(Link(Oid(oid), TREE if mode == b"40000" else BLOB, place))
        names.add(name)
        last = key
    if end != len(data):
        faults.append(f"it cannot be read beyond byte {end} of {len(data)}")
    return faults, links


def peel(source: Source, oid: Oid) -> list[Oid]:
    """A commit by itself, or the tags that lead to one, with the commit last. Raises Damaged where none is reached."""
    found = [oid]
    for _ in range(_TAGS):
        kind, data = source.get(found[-1])
        if kind == COMMIT:
            return found
        name, _, text = data.partition(b"\n")[0].partition(b" ")
        if kind != TAG or name != b"object" or len(text) != 40:
            break
        found.append(Oid(bytes.fromhex(text.decode("ascii", "replace"))))
    raise Damaged(f"{oid.hex()} leads to no commit")


def walk(
    source: Source, tips: Iterable[Oid], *, kept: set[Oid] | None = None, seen: Seen | None = None
) -> Iterator[Fault]:
    """Reads everything the commits at `tips` reach and yields what is wrong: missing, altered, malformed.

    `kept` holds what is known already and grows by what was met; `seen` is told each sound object's id, kind, path and
    data, once.
    """
    known = kept if kept is not None else set()
    todo = [Link(tip, COMMIT, "") for tip in tips]
    while todo:
        link = todo.pop()
        if link.oid in known or link.oid == EMPTY_TREE:
            continue
        known.add(link.oid)
        try:
            kind, data = source.get(link.oid)
        except Damaged as error:
            yield Fault(link.oid, link.path, error.message)
            continue
        except Exception as error:  # noqa: BLE001  damaged packs and zlib streams raise anything; it is what we look for
            yield Fault(link.oid, link.path, f"object {link.oid.hex()} cannot be read: {error or type(error).__name__}")
            continue
        if kind != link.kind:
            text = f"object {link.oid.hex()} is a {_name(kind)}, but a {_name(link.kind)} is needed there"
            yield Fault(link.oid, link.path, text)
            continue
        faults, links = examine(link.oid, kind, data, link.path)
        for text in faults:
            yield Fault(link.oid, link.path, f"{_name(kind)} {link.oid.hex()}: {text}")
        if not faults and seen is not None:
            seen(link.oid, kind, link.path, data)
        todo.extend(one for one in reversed(links) if one.oid not in known)


def _name(kind: int) -> str:
    return NAMES[kind].decode() if kind in NAMES else f"thing of kind {kind}"
