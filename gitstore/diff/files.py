"""The files that differ between two trees, and of each what differs in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gitstore import names, values
from gitstore.diff.hunks import Hunk, hunks
from gitstore.diff.members import NotPlain, apart
from gitstore.diff.structure import ValueDiff, differences
from gitstore.documents import DocumentError, load
from gitstore.errors import Malformed
from gitstore.facts import key_at
from gitstore.merging.sequences import Steps
from gitstore.model import Branch, Op
from gitstore.parsed import cached
from gitstore.repository.renames import Move, moves
from gitstore.repository.trees import Node, TreeView, encode_path
from gitstore.repository.trees import compare as compare_trees

SUBMODULE = 0o160000
_DOCUMENTS = (".yaml", ".yml")
_LARGE = 2000  # bytes of two documents from which on not all of them is parsed


class Limits(msgspec.Struct, frozen=True):
    """How closely files are looked at; what is beyond is told as `truncated`.

    `text` and `document`: bytes of all texts together, and of all YAML documents together, that are compared in one
    call. `shown`: bytes of values, and of lines, that are shown of one file. `values`: places that are listed of one
    document. `steps`: the comparing of lines and items in one call.
    """

    text: int = 16 << 20
    document: int = 2 << 20
    shown: int = 256 << 10
    values: int = 1000
    steps: int = 2_000_000


LIMITS = Limits()


class Content(msgspec.Struct, frozen=True):
    """One side of a file: its size in bytes, and `sha256:` with the digest of its bytes in hexadecimal."""

    size: int
    digest: str


class FileName(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file that differs. `part` and `key` name its resource, of a deleted one that which it was."""

    path: str
    old_path: str | UnsetType = UNSET
    op: Op
    part: str
    key: str | UnsetType = UNSET


class FileDiff(FileName, frozen=True, kw_only=True, omit_defaults=True):
    """The same with what differs in it.

    `values` where both sides are YAML that can be read, `hunks` where both are text (a side that is not there is an
    empty one), neither for other content. `truncated`: not everything is shown, or not everything was looked at.
    """

    type: Literal["values", "text", "binary"]
    values: list[ValueDiff] | UnsetType = UNSET
    hunks: list[Hunk] | UnsetType = UNSET
    old: Content | None
    new: Content | None
    truncated: bool


def moved(before: TreeView, after: TreeView, *, prefix: str = "") -> list[Move]:
    """Which files differ, by path in the order of bytes; a file that moved with the same content is one.

    `prefix` is a path or a folder: a file is listed if it is or was there.
    """
    found = moves(compare_trees(before.source, before.root, after.root))
    found.sort(key=lambda one: encode_path(one.path))
    place = prefix.strip("/")
    if not place:
        return found
    below = place + "/"
    return [
        one
        for one in found
        if any(path is not None and (path == place or path.startswith(below)) for path in (one.path, one.came_from))
    ]


def compare(
    before: TreeView, after: TreeView, branch: Branch, *, prefix: str = "", limits: Limits = LIMITS
) -> list[FileDiff]:
    """Every file that differs between two states of a branch, with what differs in it. Raises Damaged."""
    return list(describe(moved(before, after, prefix=prefix), before, after, branch, limits=limits))


def describe(
    found: Iterable[Move], before: TreeView, after: TreeView, branch: Branch, *, limits: Limits = LIMITS
) -> Iterator[FileDiff]:
    """What differs in each of the files that `moved` found. Raises Damaged."""
    comparison = _Comparison(branch, limits)
    for one in found:
        yield comparison.file(one, before, after)


def named(one: Move, before: TreeView, after: TreeView, branch: Branch) -> FileName:
    """Which file it is, and what happened to it. Raises Damaged."""
    part, key = names.classify(branch, one.path)
    key = key_at(one.path, part, key, before if one.new is None else after)
    return FileName(
        path=one.path,
        old_path=one.came_from if one.came_from is not None else UNSET,
        op=op_of(one),
        part=part,
        key=key if key is not None else UNSET,
    )


class _Comparison:
    """One call's worth of looking closely."""

    def __init__(self, branch: Branch, limits: Limits) -> None:
        self._branch: Branch = branch
        self._limits = limits
        self._steps = Steps(limits.steps)
        self._text = limits.text
        self._document = limits.document

    def file(self, one: Move, before: TreeView, after: TreeView) -> FileDiff:
        old, new = content(before, one.old), content(after, one.new)
        name = named(one, before, after, self._branch)
        found = _Found()
        self._look(one, old, new, found)
        return FileDiff(
            path=name.path,
            old_path=name.old_path,
            op=name.op,
            part=name.part,
            key=name.key,
            type="binary" if found.hunks is None else "text" if found.values is None else "values",
            values=found.values if found.values is not None else UNSET,
            hunks=found.hunks if found.hunks is not None else UNSET,
            old=_told(old),
            new=_told(new),
            truncated=found.truncated,
        )

    def _look(self, one: Move, old: bytes | None, new: bytes | None, found: _Found) -> None:
        size = len(old or b"") + len(new or b"")
        if size > self._text:
            found.truncated = not (b"\0" in (old or b"")[:8000] or b"\0" in (new or b"")[:8000])
            return
        before, after = text(old), text(new)
        if before is None or after is None:
            return
        self._text -= size
        self._show_lines(hunks(before, after, self._steps), found)
        if not one.path.lower().endswith(_DOCUMENTS):
            return
        if size > self._document:
            found.truncated = True
            return
        self._document -= size
        try:
            was, now = _documents(one, old, new)
        except (DocumentError, Malformed):
            return
        self._show_values(_places(was, now, self._steps), found)

    def _show_lines(self, every: Iterator[Hunk], found: _Found) -> None:
        room = self._limits.shown
        found.hunks = shown = list[Hunk]()
        for hunk in every:
            room -= sum(map(len, hunk.lines))
            if room >= 0:
                shown.append(hunk)
                continue
            found.truncated = True
            for kept, line in enumerate(reversed(hunk.lines)):
                room += len(line)
                if room >= 0:
                    shown.append(msgspec.structs.replace(hunk, lines=hunk.lines[: len(hunk.lines) - kept - 1]))
                    break
            return

    def _show_values(self, every: Iterator[ValueDiff], found: _Found) -> None:
        room = self._limits.shown
        found.values = shown = list[ValueDiff]()
        for place in every:
            if len(shown) == self._limits.values:
                found.truncated = True
                return
            size = sum(len(values.encode(value)) for value in (place.old, place.new) if value is not UNSET)
            if size > room:
                found.truncated = True
                place = ValueDiff(place.op, place.pointer)
            else:
                room -= size
            shown.append(place)


class _Found:
    """What was seen of one file; None: it is no document, or no text."""

    def __init__(self) -> None:
        self.values: list[ValueDiff] | None = None
        self.hunks: list[Hunk] | None = None
        self.truncated = False


def op_of(one: Move) -> Op:
    """What happened to the file."""
    if one.came_from is not None:
        return "renamed"
    return "added" if one.old is None else "deleted" if one.new is None else "changed"


def content(view: TreeView, node: Node | None) -> bytes | None:
    """The bytes of a file, a link's target, the line that git shows for a submodule. Raises Damaged."""
    if node is None:
        return None
    if node.mode == SUBMODULE:
        return b"Subproject commit %s\n" % node.id.hex().encode()
    return view.source.blob(node.id)


def text(data: bytes | None) -> str | None:
    """Bytes as text; None where they are none: not UTF-8, or with a NUL. A file that is not there is empty."""
    if data is None:
        return ""
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _documents(one: Move, old: bytes | None, new: bytes | None) -> tuple[Any, Any]:
    """The values that both sides hold, of large documents less what is the same. Raises DocumentError, Malformed."""
    if old is not None and new is not None and len(old) + len(new) > _LARGE:
        try:
            return apart(old, new)
        except NotPlain:
            pass  # then the whole of them
    return _document(one.old, old), _document(one.new, new)


def _document(node: Node | None, data: bytes | None) -> Any:
    """The value that a file holds. Raises DocumentError, Malformed."""
    if node is None or data is None:
        return UNSET
    known = cached(node.id.hex())
    return known.value if known is not None else load(data)


def _places(was: Any, now: Any, steps: Steps) -> Iterator[ValueDiff]:
    if was is UNSET:
        return iter([ValueDiff("added", "", UNSET, now)])
    if now is UNSET:
        return iter([ValueDiff("removed", "", was)])
    return differences(was, now, steps)


def _told(data: bytes | None) -> Content | None:
    return Content(len(data), f"sha256:{hashlib.sha256(data).hexdigest()}") if data is not None else None
