"""Paths in trees that no git and no file system may misread: `.git` in every disguise, `..`, devices, controls.

The disguises are those git itself refuses (core.protectNTFS, core.protectHFS; path.c, utf8.c), and both rules hold
at once and everywhere: a store is cloned by people with any file system.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

from gitstore.errors import Invalid

RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)", re.IGNORECASE)
MAX_DEPTH: Final = 32
IGNORABLE = dict.fromkeys(
    [
        *range(0x200C, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
        0xFEFF,
        0x00AD,
        0x034F,
        *range(0xFE00, 0xFE10),
    ]
)
_DRIVE = re.compile(r"[A-Za-z]:")
_GIT = re.compile(r"\.git|git~[0-9]+|\.gitmodules|gitmod~[0-9]+|gi[0-9a-f]{4}~[0-9]+")


def check_tree_path(path: str) -> None:
    """Raises Invalid unless the path is safe in a tree: relative, no odd component, at most 32 deep."""
    parts = path.split("/")
    if _DRIVE.match(path):
        raise Invalid(f"`{path[:2]}` at the beginning of a path is a drive on Windows")
    if len(parts) > MAX_DEPTH:
        raise Invalid(f"the path is deeper than {MAX_DEPTH} folders")
    for part in parts:
        check_component(part)


def check_component(name: str, *, longest: int = 255) -> None:
    """Raises Invalid unless the text is safe as one file or folder name of a tree, of at most `longest` bytes."""
    # The same names come again and again; those that are certainly too long are not worth being remembered.
    why = _known(name, longest) if len(name) <= longest else _fault(name, longest)
    if why is not None:
        shown = "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in name[:60])
        raise Invalid(f"`{shown}` cannot be a file or folder name: {why}")


def means_git(name: str) -> bool:
    """Whether some git or file system takes the name for `.git` (`.GIT`, `git~1`, `.git `, `.g\u200cit` …)."""
    plain = unicodedata.normalize("NFKC", name.translate(IGNORABLE)).casefold()
    stems = (text.split(":", 1)[0].rstrip(". ") for text in (name.casefold(), plain))
    return any(stem in (".git", "git~1") for stem in stems)


@lru_cache(4096)
def _known(name: str, longest: int) -> str | None:
    return _fault(name, longest)


def _fault(name: str, longest: int) -> str | None:
    if name in ("", ".", ".."):
        return "it is empty or means a folder"
    if len(name.encode("utf-8", "surrogatepass")) > longest:
        return f"it is longer than {longest} bytes"
    if any(character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff" for character in name):
        return "it has control characters or half characters"
    if "/" in name or "\\" in name:
        return "it has a slash or backslash"
    plain = unicodedata.normalize("NFKC", name.translate(IGNORABLE)).casefold()
    for text in (name.casefold(), plain):
        # NTFS: a stream (`:…`) and trailing dots and spaces do not count; "git~1" is the short name of ".git".
        stem = text.split(":", 1)[0].rstrip(". ")
        if _GIT.fullmatch(stem):
            return "git keeps its own data under this name"
        if not stem:
            return "it is only dots and spaces"
    if RESERVED.fullmatch(plain.split(".", 1)[0].split(":", 1)[0].rstrip(" ")):
        return "some systems reserve this name for a device"
    return None
