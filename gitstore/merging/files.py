"""Merging one file: a YAML document by its structure, any other text by its lines, everything else as a whole.

No bytes whatever make it fail, and what is too large or too tangled to be looked at closely is treated as a whole.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gitstore.documents import MISSING, DocumentError, load
from gitstore.lfs import attributes
from gitstore.lfs.pointer import decode
from gitstore.merging.clash import Clash, Side, content, plain
from gitstore.merging.lines import merge_lines
from gitstore.merging.values import TooMany, merge_values
from gitstore.merging.writing import write_merged

_DOCUMENTS = (".yaml", ".yml")


class FileMerge(msgspec.Struct, frozen=True):
    """A merged file (None: it is to be absent), and the places where it has the preferred side's value only."""

    data: bytes | None
    clashes: tuple[Clash, ...]


def merge_file(
    path: str, base: bytes | None, ours: bytes | None, theirs: bytes | None, *, prefer: Side = "ours"
) -> FileMerge:
    """The file with the changes of both sides since `base`; None stands for no file.

    A change of one side is taken, and so is one that both made alike. Where both changed one place differently, the
    preferred side's value stands and the place is a clash: a place is a key or an item of a YAML document (a list
    whose items cannot be told apart is one place if both changed it in one spot), a run of lines of another text, the
    whole of any other file, of a YAML file that cannot be read, and of one that a side removed.
    """
    if ours == theirs or base == theirs:
        return FileMerge(ours, ())
    if base == ours:
        return FileMerge(theirs, ())
    if path.lower().endswith(_DOCUMENTS):
        values = [_value(data) for data in (base, ours, theirs)]
        if None in values or ours is None or theirs is None:
            return _whole(path, base, ours, theirs, prefer, values)
        return _document(path, base, ours, theirs, prefer, [found[0] for found in values if found])
    if ours is None or theirs is None or any(decode(data) for data in (ours, theirs)):
        return _whole(path, base, ours, theirs, prefer)  # of two pointers no part is of use in another
    if path.rpartition("/")[2] == attributes.NAME:
        return FileMerge(attributes.merged(base or b"", ours, theirs), ())
    if any(plain(data) is None for data in (base or b"", ours, theirs)):
        return _whole(path, base, ours, theirs, prefer)
    lines = merge_lines(base or b"", ours, theirs, prefer)
    if lines is None:
        return _whole(path, base, ours, theirs, prefer)
    text, clashes = lines
    return FileMerge(
        text,
        tuple(
            Clash(
                path, "", MISSING if base is None else found.base.decode(), found.ours.decode(), found.theirs.decode(),
                found.line,
            )
            for found in clashes
        ),
    )  # fmt: skip


def _document(path: str, base: bytes | None, ours: bytes, theirs: bytes, prefer: Side, values: list[Any]) -> FileMerge:
    try:
        value, clashes = merge_values(values[0], values[1], values[2], prefer)
    except TooMany:
        return _whole(path, base, ours, theirs, prefer, [(value,) for value in values])
    data = write_merged(value, base or b"", ours, theirs, prefer)
    if data is None:
        return _whole(path, base, ours, theirs, prefer, [(value,) for value in values])
    return FileMerge(data, tuple(Clash(path, *found) for found in clashes))


def _value(data: bytes | None) -> tuple[Any] | None:
    """The value of a document in a tuple (MISSING: there is no file); None where it cannot be read."""
    if data is None:
        return (MISSING,)
    try:
        return (load(data),)
    except DocumentError:
        return None


def _whole(
    path: str,
    base: bytes | None,
    ours: bytes | None,
    theirs: bytes | None,
    prefer: Side,
    values: list[tuple[Any] | None] | None = None,
) -> FileMerge:
    """Both sides changed the file, and it is one place."""
    sides = base, ours, theirs
    shown = [
        content(data) if found is None else found[0]
        for data, found in zip(sides, values or [None] * len(sides), strict=True)
    ]
    return FileMerge(ours if prefer == "ours" else theirs, (Clash(path, "", *shown),))
