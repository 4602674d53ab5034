"""Text as it is found piece by piece, up to what search takes."""

from __future__ import annotations

import time

from gitstore.extraction.forms import TEXT_MAX, Extracted

SECONDS = 8.0
"""After which a document is left as far as it was read; the parent process waits longer, and then ends the child."""


class Enough(Exception):
    """There is as much text as search takes, or it took too long."""


class Unreadable(Exception):
    """The document is not of the format that it is said to be."""


class Gathering:
    """The pieces so far. `add` raises Enough when there are enough of them."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._left = TEXT_MAX
        self._until = time.monotonic() + SECONDS

    def add(self, piece: str) -> None:
        """A piece of text; pieces stand beside each other as they are."""
        self._pieces.append(piece[: self._left])
        self._left -= len(piece)
        if self._left < 0:
            raise Enough
        self.check()

    def check(self) -> None:
        """Raises Enough when time is up."""
        if time.monotonic() > self._until:
            raise Enough

    def text(self) -> str:
        """All of it, blanks and lines tidied."""
        lines = (" ".join(line.split()) for line in "".join(self._pieces).splitlines())
        return "\n".join(line for line in lines if line).encode("utf-8", "replace").decode()

    def done(self, *, whole: bool) -> Extracted:
        """What came of it."""
        text = self.text()
        return Extracted(text, "full" if whole else "partial" if text else "none")
