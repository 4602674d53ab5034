"""`.gitattributes` in what is pushed: whether it names a program that a clone would run.

Form of the file: gitattributes(5). A driver runs what its clone's configuration says; of those this store knows of,
only Git LFS's and its own merge driver may be named.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from gitstore import paths

_ALLOWED = {"filter": {"lfs"}, "diff": {"lfs"}, "merge": {"lfs", "gitstore"}}
_SHORT = re.compile(r"gitatt~[0-9]+|gi[0-9a-f]{4}~[0-9]+")


class Driver(NamedTuple):
    """A driver that is named, and where (counting from 1)."""

    line: int
    attribute: str
    name: str


def is_attributes(name: str) -> bool:
    """Whether some file system takes this name for `.gitattributes`."""
    plain = unicodedata.normalize("NFKC", name.translate(paths.IGNORABLE)).casefold()
    stem = plain.split(":", 1)[0].rstrip(". ")
    return stem == ".gitattributes" or _SHORT.fullmatch(stem) is not None


def drivers(data: bytes) -> Iterator[Driver]:
    """The drivers that a file names and may not."""
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        # A pattern with spaces stands in quotes. Which words are the pattern does not matter: none can be a driver.
        for word in re.sub(r'^"(?:[^"\\]|\\.)*"', "pattern", line).split():
            attribute, equals, name = word.partition("=")
            if equals and attribute in _ALLOWED and name not in _ALLOWED[attribute]:
                yield Driver(number, attribute, name)
