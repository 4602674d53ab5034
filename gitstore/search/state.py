"""`state.json` of the index folder: how far each branch is in the index, and the sums of its files."""

from __future__ import annotations

import uuid
import zlib
from pathlib import Path

import msgspec

FORMAT = "3 whoosh 2.7.4"
STATE = "state.json"


class State(msgspec.Struct):
    """`id`: another one whenever something was lost.

    `markers`: by workspace, a space and the branch, the commit up to which everything was put. `files`: size and CRC-32
    of the segment files when it was written.
    """

    format: str = FORMAT
    id: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
    markers: dict[str, str] = {}
    files: dict[str, tuple[int, int]] = {}


def read(folder: Path) -> State:
    """The state of an index. Raises FileNotFoundError where there is none, ValueError where it cannot be read."""
    state = msgspec.json.decode((folder / STATE).read_bytes(), type=State)
    if state.format != FORMAT:
        raise ValueError(f"written as format {state.format!r}; this release writes {FORMAT!r}")
    return state


def total(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file."""
    size = crc = 0
    with path.open("rb") as data:
        while chunk := data.read(1 << 20):
            size += len(chunk)
            crc = zlib.crc32(chunk, crc)
    return size, crc


def damaged(folder: Path, state: State) -> list[str]:
    """The names of the files that are not as the state says."""
    return [name for name in state.files if not sound(folder, state, name)]


def sound(folder: Path, state: State, name: str) -> bool:
    """Whether a file is as the state says."""
    try:
        return name in state.files and total(folder / name) == tuple(state.files[name])
    except FileNotFoundError:
        return False
