"""Which of several files another was made from, where nothing on the disk says so: the one it has most lines in common
with.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

from gitstore.repository.objects import Oid
from gitstore.repository.trees import Source

ALIKE = 0.5  # of its lines a file has in common with what it was made from
_COMPARED = 64 << 10  # bytes of a file that is compared with others by its lines


def likest(source: Source, data: bytes, blobs: Iterable[Oid | None]) -> tuple[Oid | None, float]:
    """The blob that the file is likest to, the first where several are, and how alike they are, 0 to 1.

    There is at least one; None, for no file, is like nothing.
    """
    likeness = {blob: _likeness(data, source.blob(blob)) if blob is not None else 0.0 for blob in dict.fromkeys(blobs)}
    found = max(likeness, key=likeness.__getitem__)
    return found, likeness[found]


def _likeness(one: bytes, other: bytes) -> float:
    if one == other:
        return 1.0
    if max(len(one), len(other)) > _COMPARED:
        return 0.0
    lines = (data.decode("latin-1").splitlines() for data in (one, other))
    return SequenceMatcher(None, next(lines), next(lines), autojunk=False).ratio()
