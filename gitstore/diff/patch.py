"""A difference as unified text that `git apply` reads back to the byte.

Format: "diff-generate-patch" in git's documentation; names are quoted as `core.quotePath` has it, and content that is
no text stands as a literal binary patch.
"""

from __future__ import annotations

import re
import zlib
from base64 import b85encode
from collections.abc import Iterable, Iterator
from typing import Final

from gitstore.diff.files import LIMITS, Limits, content, moved, op_of, text
from gitstore.diff.hunks import Hunk, hunks
from gitstore.merging.sequences import Steps
from gitstore.repository.renames import Move
from gitstore.repository.trees import Node, TreeView, encode_path

MEDIA_TYPE: Final = "text/x-diff"
_LITERAL_MAX = 4 << 20  # bytes of one file that are written out; beyond, it is only said that it differs
_NONE = "0" * 40
_LINK = 0o120000
_PLAIN = re.compile(rb"[ !#-\[\]-~]*")  # every byte that git does not quote
_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}
_WIDTH = 52  # bytes in a line of a binary patch


def unified(before: TreeView, after: TreeView, *, prefix: str = "", limits: Limits = LIMITS) -> Iterator[str]:
    """The patch that makes `after` of `before`, file by file, in ASCII and the texts' own characters. Raises Damaged.

    A file over 4 MiB that is no text, and a text over `limits.text`, is only said to differ: `git apply` refuses that.
    """
    return patches(moved(before, after, prefix=prefix), before, after, limits=limits)


def patches(found: Iterable[Move], before: TreeView, after: TreeView, *, limits: Limits = LIMITS) -> Iterator[str]:
    """The patch of each of the files that `moved` found. Raises Damaged."""
    for one in found:
        if one.old is not None and one.new is not None and _anew(one, one.old, one.new):
            yield from _patch(Move(one.came_from or one.path, one.old, None), before, after, limits)
            yield from _patch(Move(one.path, None, one.new), before, after, limits)
        else:
            yield from _patch(one, before, after, limits)


def _anew(one: Move, old: Node, new: Node) -> bool:
    """Whether a file is deleted and made anew.

    As git has it, what becomes another kind of thing is. A link that moved is too: `git apply` does not see that it is
    gone, and refuses whatever the patch puts below its old name, in git's own patches as well.
    """
    return _kind(old) != _kind(new) or (one.came_from is not None and _kind(old) == _LINK)


def _patch(one: Move, before: TreeView, after: TreeView, limits: Limits) -> Iterator[str]:
    source = one.path if one.came_from is None else one.came_from
    a, b = _quoted(f"a/{source}"), _quoted(f"b/{one.path}")
    lines = [f"diff --git {a} {b}"]
    old, new = one.old, one.new
    op = op_of(one)
    if op == "added" and new is not None:
        lines.append(f"new file mode {new.mode:06o}")
    elif op == "deleted" and old is not None:
        lines.append(f"deleted file mode {old.mode:06o}")
    elif old is not None and new is not None and old.mode != new.mode:
        lines += [f"old mode {old.mode:06o}", f"new mode {new.mode:06o}"]
    if op == "renamed":
        lines += ["similarity index 100%", f"rename from {_quoted(source)}", f"rename to {_quoted(one.path)}"]
    yield "\n".join(lines) + "\n"
    if old is not None and new is not None and old.id == new.id:
        return
    ids = f"{_id(old)}..{_id(new)}"
    mode = f" {new.mode:06o}" if old is not None and new is not None and old.mode == new.mode else ""
    yield f"index {ids}{mode}\n"
    was, now = content(before, old), content(after, new)
    here, there = "/dev/null" if old is None else a, "/dev/null" if new is None else b
    size = max(len(was or b""), len(now or b""))
    first, second = (text(was), text(now)) if size <= limits.text else (None, None)
    if first is not None and second is not None:
        if first != second:
            yield f"--- {_ended(here)}\n+++ {_ended(there)}\n"
            yield from map(_hunk, hunks(first, second, Steps(limits.steps)))
    elif size <= _LITERAL_MAX:
        yield f"GIT binary patch\n{_literal(now or b'')}\n{_literal(was or b'')}\n"
    else:
        yield f"Binary files {here} and {there} differ\n"


def _hunk(hunk: Hunk) -> str:
    head = f"@@ -{_range(hunk.old_start, hunk.old_lines)} +{_range(hunk.new_start, hunk.new_lines)} @@"
    return "\n".join([head, *hunk.lines]) + "\n"


def _range(start: int, count: int) -> str:
    return str(start) if count == 1 else f"{start},{count}"


def _literal(data: bytes) -> str:
    """The bytes deflated, in lines: a letter for how many there are (A-Z 1 to 26, a-z 27 to 52), and base 85."""
    packed = zlib.compress(data)
    lines = [f"literal {len(data)}"]
    for at in range(0, len(packed), _WIDTH):
        piece = packed[at : at + _WIDTH]
        letter = chr(64 + len(piece)) if len(piece) <= 26 else chr(70 + len(piece))
        lines.append(letter + b85encode(piece, pad=True).decode())
    return "\n".join(lines) + "\n"


def _quoted(path: str) -> str:
    """A path as git writes it: in quotes, with octal escapes, where it has a byte that could mislead a reader."""
    data = encode_path(path)
    if _PLAIN.fullmatch(data):
        return path
    out = []
    for byte in data:
        if byte in _ESCAPES:
            out.append("\\" + _ESCAPES[byte])
        else:
            out.append(chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


def _ended(name: str) -> str:
    """A name in a `---` or `+++` line; one with a space is ended by a tab, so that readers find its end."""
    return name + "\t" if " " in name and not name.startswith('"') else name


def _id(node: Node | None) -> str:
    return node.id.hex() if node is not None else _NONE


def _kind(node: Node) -> int:
    return node.mode & 0o170000
