"""The bytes of a merged document: the value that was decided on, with the comments and the layout of both sides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from gitstore.documents import DocumentError, edit, load
from gitstore.errors import Malformed, TooLarge
from gitstore.merging.clash import Side
from gitstore.merging.lines import merge_lines
from gitstore.merging.values import alike

_COMMENT = re.compile(rb"(?m)(?:^|(?<=[ \t]))#[^\r\n]*")
_LARGE = 128 << 10  # bytes; above, the merge of the lines is edited, for each try costs as much as reading the file


def write_merged(value: Any, base: bytes, ours: bytes, theirs: bytes, prefer: Side) -> bytes | None:
    """A document that holds the value (the order of keys may be another), laid out as the sides did.

    None where no document can hold it. `base`, `ours` and `theirs` are documents. A merge of the lines is taken if
    nothing in it clashed and it says the value. Else all three are edited to say it, so that only comments and layout
    still differ, and then merged by lines; where those clash too, the text wins that has most of what either side has
    in comments and lines. Of large documents only the first merge of the lines is edited.
    """
    first, second = (ours, theirs) if prefer == "ours" else (theirs, ours)
    lines = merge_lines(base, ours, theirs, prefer)
    if lines is not None and not lines[1] and _says(lines[0], value):
        return lines[0]
    if max(len(ours), len(theirs)) > _LARGE:
        drafts = (first, second) if lines is None else (lines[0], first, second)
        return next((text for draft in drafts if (text := _edited(draft, value)) is not None), None)
    was, here, there = (_edited(text, value) for text in (base, ours, theirs))
    if here is None or there is None:
        return there if here is None else here
    found: dict[bytes, None] = {}
    sides: tuple[Side, Side] = ("ours", "theirs") if prefer == "ours" else ("theirs", "ours")
    for side in sides:
        lines = merge_lines(was or b"", here, there, side, near=True)
        if lines is not None and _says(lines[0], value):
            if not lines[1]:
                return lines[0]
            found[lines[0]] = None
    found |= dict.fromkeys((here, there) if prefer == "ours" else (there, here))
    by_comments = _measure(_COMMENT.findall, base, ours, theirs)
    by_lines = _measure(bytes.splitlines, base, ours, theirs)
    return max(found, key=lambda text: (by_comments(text), by_lines(text)))


def _says(text: bytes, value: Any) -> bool:
    try:
        return alike(load(text), value)
    except DocumentError:
        return False


def _edited(text: bytes, value: Any) -> bytes | None:
    try:
        return edit(text, value)
    except (DocumentError, Malformed, TooLarge):
        return None


def _measure(
    split: Callable[[bytes], Sequence[bytes]], base: bytes, ours: bytes, theirs: bytes
) -> Callable[[bytes], int]:
    """How near a text comes to having what both sides kept and what either side added, and nothing else."""
    was, here, there = (Counter(split(text)) for text in (base, ours, theirs))
    wanted = (was & here & there) + ((here - was) | (there - was))

    def score(text: bytes) -> int:
        has = Counter(split(text))
        return (wanted & has).total() - (has - wanted).total()

    return score
