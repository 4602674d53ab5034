"""What blame reads: the versions of one file."""

from __future__ import annotations

from typing import Final, NamedTuple

VERSIONS_MAX: Final = 20_000
"""Versions that are read for one answer. What is older than those has no commit named."""


class Version(NamedTuple):
    """What a commit made of the file; None: there was none since then, or what is no plain file."""

    commit: str
    data: bytes | None
