"""Block mappings taken apart by lines: of two versions of a document only the top-level keys around what differs are
parsed, where it is certain that what stands at the beginning of lines are the keys.
"""

from __future__ import annotations

import re
from typing import Any

from gitstore.documents import DocumentError, load
from gitstore.errors import Malformed
from gitstore.repository.trees import common

_HEAD = re.compile(rb"""([A-Za-z0-9_\x80-\xff](?:[^:#\n]|:(?=[^ \n]))*?|"[^"\\\n]*"|'[^'\n]*') *:(?=[ \n]|$)""")
_KEY_LINE = re.compile(rb"\n(?=[^ #\n\t])")
_SIMPLE = re.compile(  # lines without marks, or with one pair of brackets that holds none
    rb"""(?>[^"'\[\]{}\n]*\n"""
    rb"""|[^"'\[\]{}#\\\n]*(?:\{[^"'\[\]{}#\\\n]*\}|\[[^"'\[\]{}#\\\n]*\])[^"'\[\]{}#\\\n]*\n)*+"""
)
_WITH_MARKS = re.compile(rb"""^.*["'\[\]{}].*$""", re.MULTILINE)


class NotPlain(Exception):
    """The document is not one that can be taken apart by lines."""


def heads(data: bytes) -> list[str]:
    """The keys at the beginning of lines. Raises NotPlain where something else is."""
    if b"\r" in data:
        raise NotPlain  # it may end a line too
    found = []
    for line in data.split(b"\n"):
        if line and line[:1] not in b" #\t":
            head = _HEAD.match(line)
            if head is None:
                raise NotPlain
            found.append(head[1].strip(b"\"'").decode("utf-8", "replace"))
    return found


def members(data: bytes) -> dict[str, Any]:
    """Some members of a block mapping. Raises NotPlain where it is not certain that they are nothing else."""
    if not data:
        return {}
    try:
        value = load(data)
    except (DocumentError, Malformed):
        raise NotPlain from None
    if type(value) is not dict or list(value) != heads(data):
        raise NotPlain
    return value


def window(older: bytes, newer: bytes) -> tuple[int, int, int]:
    """Where the keys around what differs begin in both, and where they end in the older and in the newer one.

    `newer` is a block mapping whose keys stand at the beginning of lines. What is before and behind is the same in
    both, and begins and ends where a key does: so it says the same too. Raises NotPlain.
    """
    if older[-1:] != b"\n" or newer[-1:] != b"\n":
        raise NotPlain
    start = _line_before(newer, common(older, newer))
    end = _line_behind(newer, len(newer) - common(older[::-1], newer[::-1], start))
    return start, len(older) - (len(newer) - end), end


def apart(older: bytes, newer: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The members of two documents that may differ. Raises NotPlain where the whole of them must be looked at."""
    if older[-1:] != b"\n" or newer[-1:] != b"\n" or not (_is_plain(older) and _is_plain(newer)):
        raise NotPlain
    before, after = _texts(older), _texts(newer)
    gone = b"".join(text for key, text in before.items() if after.get(key) != text)
    come = b"".join(text for key, text in after.items() if before.get(key) != text)
    return members(gone), members(come)


def _texts(data: bytes) -> dict[bytes, bytes]:
    """Each key's lines, by what stands before its first colon and blank; what is above the first key is left out."""
    starts = [0] if data[:1] not in b" #\n\t" else []
    starts += [found.start() + 1 for found in _KEY_LINE.finditer(data)]
    if not starts:
        raise NotPlain  # an empty document, which is no mapping
    ends = [*starts[1:], len(data)]
    texts: dict[bytes, bytes] = {}
    for start, end in zip(starts, ends, strict=True):
        head = _HEAD.match(data, start)
        if head is None:
            raise NotPlain
        texts[head[1]] = data[start:end]
    return texts


def _is_plain(data: bytes) -> bool:
    """Whether nothing that is written over several lines can have a line that looks like a key.

    A quoted text or a list in brackets that goes over several lines ends in one with an odd quotation mark, or with
    more brackets closed than opened, unless other marks, a comment or an escape make up for that: there may be no such
    line.
    """
    keys = heads(data)
    if len(set(keys)) != len(keys):
        return False
    if _SIMPLE.fullmatch(data):
        return True
    for found in _WITH_MARKS.finditer(data):
        line = found[0]
        kinds = [mark in line for mark in (b'"', b"'")] + [any(mark in line for mark in (b"[", b"]", b"{", b"}"))]
        if sum(kinds) != 1 or b"#" in line or b"\\" in line:
            return False
        if line.count(b'"') % 2 or line.count(b"'") % 2:
            return False
        if line.count(b"[") != line.count(b"]") or line.count(b"{") != line.count(b"}"):
            return False
    return True


def _line_before(data: bytes, at: int) -> int:
    """The beginning of the last line with a key that begins before `at`. Raises NotPlain."""
    while at > 0:
        start = data.rfind(b"\n", 0, at - 1) + 1
        if data[start : start + 1] not in b" #\n\t":
            return start
        at = start
    raise NotPlain


def _line_behind(data: bytes, at: int) -> int:
    """The beginning of the first line with a key that begins behind `at`, or the end."""
    while 0 <= at < len(data):
        start = data.find(b"\n", at) + 1
        if start == 0 or start >= len(data):
            break
        if data[start : start + 1] not in b" #\n\t":
            return start
        at = start
    return len(data)
