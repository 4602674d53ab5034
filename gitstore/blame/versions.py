"""What blame reads: the versions of one file, as far as is looked back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

VERSIONS_MAX: Final = 20_000
"""Versions that are read for one answer. What is older than those has no commit named."""

BYTES_MAX: Final = 256 << 20
"""And how many bytes they may have together."""


class Version(NamedTuple):
    """What a commit made of the file; None: there was none since then, or what is no plain file."""

    commit: str
    data: bytes | None


def reach(versions: Iterable[Version]) -> Iterator[Version | None]:
    """The versions as far as is looked back, the newest whatever its size; then None where there are more."""
    room = BYTES_MAX
    for count, version in enumerate(versions):
        room -= len(version.data or b"")
        if count and (count >= VERSIONS_MAX or room < 0):
            yield None
            return
        yield version
