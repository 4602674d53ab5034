"""A merge as a person gets to see it in an editor: what could not be decided stands between conflict markers."""

from __future__ import annotations

from gitstore.merging.clash import SIDES, plain
from gitstore.merging.files import FileMerge, merge_file
from gitstore.merging.lines import MOST_LINES, ended, merge_lines
from gitstore.merging.sequences import changes


def merge_marked(path: str, base: bytes | None, ours: bytes, theirs: bytes) -> FileMerge:
    """The file merged as `merge_file` does it; each clash as the lines of both sides between conflict markers.

    Bytes that are no text have no lines: then our side stays.
    """
    merged = merge_file(path, base, ours, theirs)
    left, right = merged.data, merge_file(path, base, ours, theirs, prefer="theirs").data
    if not merged.clashes or left is None or right is None or plain(ours) is None or plain(theirs) is None:
        return merged
    if left == ours and right == theirs:
        # Nothing could be put together by structure; by lines, what only one side changed still can.
        mine, yours = (merge_lines(base or b"", ours, theirs, side) for side in SIDES)
        if mine is not None and yours is not None:
            left, right = mine[0], yours[0]
    text = marked(left, right)
    return FileMerge(marked(ours, theirs) if text == left else text, merged.clashes)


def marked(ours: bytes, theirs: bytes) -> bytes:
    """One text with both, the lines that differ between the markers of git-merge(1)."""
    left, right = ours.splitlines(keepends=True), theirs.splitlines(keepends=True)
    if max(len(left), len(right)) > MOST_LINES:
        parts = [(slice(0, len(left)), slice(0, len(right)))]
    else:
        parts = [(slice(one.start, one.end), slice(one.first, one.last)) for one in changes(left, right)]
    eol = b"\r\n" if left and left[0].endswith(b"\r\n") else b"\n"
    out: list[bytes] = []
    done = 0
    for here, there in parts:
        out += left[done : here.start]
        done = here.stop
        out += [b"<<<<<<< ours" + eol, *ended(left[here])]
        out += [b"=======" + eol, *ended(right[there]), b">>>>>>> theirs" + eol]
    out += left[done:]
    return b"".join(out)
