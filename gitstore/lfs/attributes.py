"""`.gitattributes` as far as Git LFS goes: which paths of a tree are kept as large objects, and the line that says so.

Rules: gitattributes(5). The nearest file with an opinion decides, in a file its last line. A pattern that would take
long to match is passed over: who pushes it gets no large object, and nobody waits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

NAME: Final = ".gitattributes"
LARGEST: Final = 4 << 20  # bytes of a file of attributes; a larger one says nothing
_SETTING: Final = "filter=lfs diff=lfs merge=lfs -text"
_LONGEST: Final = 1024  # bytes of a pattern that counts
_STARS_MAX: Final = 3
_PATTERNS_MAX: Final = 1000  # of one file, beside lines for one path each, which cost nothing
_BLANKS: Final = re.compile(r"[ \t\r\n]+")
_SPACE: Final = "[[:space:]]"
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"[ \t]+(.*)', re.DOTALL)
_OCTAL: Final = re.compile(rb"\\([0-3][0-7]{2}|.)", re.DOTALL)
_ESCAPES: Final = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_CLASSES: Final = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "digit": "0-9", "lower": "a-z", "space": "\\s",
    "upper": "A-Z", "xdigit": "0-9a-fA-F", "punct": "!-/:-@\\[-`{-~",
}  # fmt: skip
_STAR: Final = "[^/]*"
_PLAIN: Final = ("memory", "spec", "workspace.yaml", "settings.yaml")

Verdict = bool | None
"""Whether a file of attributes makes a path one of Git LFS's; None: it has no opinion."""


class _Rules(NamedTuple):
    """One file: lines for one path each by that path, the patterns with wildcards, each with its line's number."""

    exact: dict[str, tuple[int, bool]]
    patterns: tuple[tuple[int, re.Pattern[str], bool], ...]

    def verdict(self, inside: str) -> Verdict:
        """What it says of a path below its folder."""
        name = inside.rpartition("/")[2]
        found: tuple[int, Verdict] = (-1, None)
        for known in (self.exact.get(f"/{inside}"), self.exact.get(name)):
            if known is not None and known[0] > found[0]:
                found = known
        for number, pattern, lfs in reversed(self.patterns):
            if number < found[0]:
                break
            if pattern.fullmatch(f"/{inside}") is not None:
                return lfs
        return found[1]


class Attributes:
    """The attributes of one tree. `read` gives the content of the file at a path, None where there is none."""

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        self._read = read
        self._rules: dict[str, _Rules | None] = {}

    def covers(self, path: str) -> bool:
        """Whether the content at `path` is kept as a large object. Documents that this store reads never are."""
        if not may_be_large(path):
            return False
        folder, at = path.rpartition("/")[0], path.rfind("/") + 1
        while True:
            rules = self._of(folder)
            if rules is not None and (verdict := rules.verdict(path[at:])) is not None:
                return verdict
            if not folder:
                return False
            folder = folder.rpartition("/")[0]
            at = len(folder) + 1 if folder else 0

    def _of(self, folder: str) -> _Rules | None:
        if folder not in self._rules:
            data = self._read(f"{folder}/{NAME}" if folder else NAME)
            self._rules[folder] = _parse(data) if data is not None and len(data) <= LARGEST else None
        return self._rules[folder]


def may_be_large(path: str) -> bool:
    """Whether a path can be one of Git LFS's: a document that the store itself reads cannot."""
    name = path.rpartition("/")[2]
    return path.partition("/")[0] not in _PLAIN and not name.endswith(".meta.yaml") and not name.startswith(".git")


def line(path: str) -> str:
    """The line for a root's `.gitattributes` that makes exactly this path one of Git LFS's."""
    return f"{_pattern(path)} {_SETTING}"


def _pattern(path: str) -> str:
    text = re.sub(r"([\\*?\[\]])", r"\\\1", f"/{path}")
    return text.replace(" ", _SPACE)


def added(data: bytes | None, path: str) -> bytes:
    """A file of attributes with the line for a path at its end."""
    before = data or b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    return before + line(path).encode("utf-8", "surrogateescape") + b"\n"


def removed(data: bytes, path: str) -> bytes:
    """A file of attributes without the lines for exactly this path that the store wrote."""
    ours = line(path).encode("utf-8", "surrogateescape")
    return b"".join(one for one in data.splitlines(keepends=True) if one.rstrip(b"\r\n") != ours)


def merged(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    """A file of attributes with the lines that either side added or took away; both sides' new lines stay, ours first.

    Lines are statements of their own, and everybody adds them at the end: there is nothing to be in conflict about.
    """
    before, here, there = (data.splitlines() for data in (base, ours, theirs))
    gone = set(before) - set(there)
    kept = [one for one in here if one not in gone]
    known = {*before, *kept}
    return b"".join(one + b"\n" for one in [*kept, *(one for one in there if one not in known)])


# -- reading -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _parse(data: bytes) -> _Rules:
    exact: dict[str, tuple[int, bool]] = {}
    patterns: list[tuple[int, re.Pattern[str], bool]] = []
    macros: dict[str, bool] = {}
    if b"filter" not in data:
        return _Rules(exact, ())
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    lines = [raw.strip(" \t\r") for raw in text.split("\n")]
    # A macro counts wherever it stands, so those come first.
    for number, one in sorted(enumerate(lines), key=lambda line: (not line[1].startswith("[attr]"), line[0])):
        if not one or one.startswith("#"):
            continue
        quoted = _QUOTED.fullmatch(one)
        pattern, _, rest = one.partition(" ") if "\t" not in one else _split(one)
        if quoted is not None:
            pattern, rest = _unquoted(quoted[1]), quoted[2]
        verdict = _setting(rest, macros)
        if verdict is None:
            continue
        if pattern.startswith("[attr]"):
            macros[pattern[6:]] = verdict
        elif not pattern.startswith("!") and not pattern.endswith("/") and len(pattern) <= _LONGEST:
            literal = _literal(pattern)
            if literal is not None:
                anchored = "/" in literal
                exact[f"/{literal.removeprefix('/')}" if anchored else literal] = number, verdict
            elif len(patterns) < _PATTERNS_MAX and (compiled := _compiled(pattern)) is not None:
                patterns.append((number, compiled, verdict))
    return _Rules(exact, tuple(patterns))


def _split(one: str) -> tuple[str, str, str]:
    parts = _BLANKS.split(one, maxsplit=1)
    return parts[0], " ", parts[1] if len(parts) > 1 else ""


def _setting(rest: str, macros: dict[str, bool]) -> Verdict:
    """What the attributes of a line make of `filter`."""
    verdict: Verdict = None
    for word in _BLANKS.split(rest):
        name, equals, value = word.lstrip("-!").partition("=")
        if name == "filter":
            verdict = bool(equals) and value == "lfs" and word.startswith("filter")
        elif name in macros and not equals and word == name:
            verdict = macros[name]
    return verdict


def _unquoted(text: str) -> str:
    """A pattern in C-style quotes (quote.c, `unquote_c_style`)."""

    def plain(match: re.Match[bytes]) -> bytes:
        said = match[1]
        return bytes((int(said, 8),)) if len(said) == 3 else _ESCAPES.get(said, said)

    data = _OCTAL.sub(plain, text.encode("utf-8", "surrogateescape"))
    return data.decode("utf-8", "surrogateescape")


def _literal(pattern: str) -> str | None:
    """The one path or name that a pattern matches; None where it has wildcards."""
    text = pattern.replace(_SPACE, " ")  # no name in a tree has any other white space that this stands for
    if not re.search(r"(?<!\\)[*?\[]", re.sub(r"\\\\", "", text)):
        return re.sub(r"\\(.)", r"\1", text)
    return None


def _compiled(pattern: str) -> re.Pattern[str] | None:
    """A pattern with wildcards for a path with a slash before it; None for one that cannot be, or would be slow."""
    if len(re.findall(r"\*+", pattern)) > _STARS_MAX:
        return None
    anchored = "/" in pattern
    body = pattern.removeprefix("/")
    out, at = ["/"] if anchored else ["/(?:.*/)?"], 0
    while at < len(body):
        character = body[at]
        if character == "*":
            # git cuts off what comes before the first wildcard, so two stars begin there too (dir.c, `match_pathname`).
            begins = anchored and (at == 0 or body[at - 1] == "/" or not re.search(r"[*?\[\\]", body[:at]))
            stars = len(body) - at - len(body[at:].lstrip("*"))
            at += stars
            if stars == 1 or not begins or body[at : at + 1] not in ("", "/"):
                out.append(_STAR)
            else:
                out.append("(?:.*/)?" if body[at : at + 1] else ".*")
                at += 1
        elif character == "?":
            out.append("[^/]")
            at += 1
        elif character == "[":
            made, at = _class(body, at)
            if made is None:
                return None
            out.append(made)
        else:
            at += character == "\\" and at + 1 < len(body)
            out.append(re.escape(body[at]))
            at += 1
    try:
        return re.compile("".join(_settled(out)), re.DOTALL)
    except re.error:
        return None  # a range that runs backwards: git matches nothing with it either


def _settled(pieces: list[str]) -> list[str]:
    """The pieces of a pattern with every star but the last of a step taken as short as can be, once and for all.

    What comes between two stars always matches as much, so its first place is as good as any; to try them all would
    take a minute for a name that was made for it.
    """
    out = list(pieces)
    star = None
    for at, piece in enumerate(pieces):
        if piece == _STAR:
            if star is not None:
                out[star] = "(?>[^/]*?"
                out[at - 1] += ")"
            star = at
        elif piece.startswith(("/", "(?:", ".*")):
            star = None
    return out


def _class(body: str, at: int) -> tuple[str | None, int]:
    """A bracket expression and where it ends; None for one that never ends."""
    at += 1
    negated = body[at : at + 1] in ("!", "^")
    at += negated
    out, first = [], True
    while at < len(body) and (body[at] != "]" or first):
        first = False
        named = re.match(r"\[:([a-z]+):\]", body[at:])
        if named is not None:
            if named[1] not in _CLASSES:
                return None, at
            out.append(_CLASSES[named[1]])
            at += named.end()
            continue
        if body[at] == "-" and out and at + 1 < len(body) and body[at + 1] != "]":
            out.append("-")
            at += 1
            continue
        at += body[at] == "\\" and at + 1 < len(body)
        out.append(re.escape(body[at]))
        at += 1
    if at >= len(body):
        return None, at
    return f"(?!/)[{'^' if negated else ''}{''.join(out)}]", at + 1
