"""Zip archives made while they are sent: never whole in memory or on the disk, with names that harm nobody who unpacks.

Entries are stored as they are. What fills archives is compressed already more often than not, and a server that
deflates gigabytes for one client has no time for the others.
"""

from __future__ import annotations

import re
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Final, NamedTuple, cast

from gitstore import names
from gitstore.errors import Damaged

_PIECE: Final = 256 << 10
_NAME_MAX: Final = 255  # bytes of one step of a path, which is what file systems take
_EARLIEST: Final = 315_532_800  # 1980-01-01: a DOS time knows nothing before (APPNOTE 4.4.6)
_LATEST: Final = 4_354_819_198  # 2107-12-31 23:59:58
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\\ud800-\udfff\u202a-\u202e\u2066-\u2069]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)


class Entry(NamedTuple):
    """One file to be packed: its path, when it was made (ms), its size in bytes, and what gives its content."""

    path: str
    time: int
    size: int
    chunks: Callable[[], Iterator[bytes]]


def zipped(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The archive, piece by piece; Zip64 where sizes or numbers ask for it.

    Raises Damaged where an entry is not as long as it says, and what the contents raise. What was given until then is
    no archive: the list of entries, which readers begin with, comes last.
    """
    out = _Out()
    with zipfile.ZipFile(cast(IO[bytes], out), "w", zipfile.ZIP_STORED) as packed:
        for name, entry in zip_names(entries):
            info = zipfile.ZipInfo(name, _date(entry.time))
            info.external_attr = 0o100644 << 16
            info.create_system = 3  # so that the line above is read as the mode of a file
            info.file_size = entry.size
            size = 0
            with packed.open(info, "w") as target:
                for data in entry.chunks():
                    size += len(data)
                    target.write(data)
                    if out.size >= _PIECE:
                        yield out.take()
            if size != entry.size:
                raise Damaged(f"{entry.path} has {size} bytes, not {entry.size}")
    yield out.take()


def zip_names(entries: Iterable[Entry]) -> Iterator[tuple[str, Entry]]:
    """Each entry under a name that is safe to unpack anywhere, and that no other one has, whatever the case."""
    files: set[str] = set()
    folders: set[str] = set()
    counts: dict[str, int] = {}  # the last number that a path got, so that a thousand are not tried one by one
    for entry in entries:
        name = safe = safe_path(entry.path)
        if not _free(names.fold(name), files, folders):
            above = next((above for above in _above(safe) if names.fold(above) in files), None)
            changed = above if above is not None else safe
            # Nothing else is called like this any more; what goes into one folder may have its number again.
            count = max(counts.get(names.fold(changed), 1) + (above is None), 2)
            while not _free(names.fold(name := _numbered(changed, count) + safe[len(changed) :]), files, folders):
                count += 1
            counts[names.fold(changed)] = count
        folded = names.fold(name)
        files.add(folded)
        folders.update(_above(folded))
        yield name, entry


def safe_path(path: str) -> str:
    """A relative path without `..`, and without what some system reads as a drive, a device or a control character."""
    steps = [_safe(step) for step in path.replace("\\", "/").split("/") if step not in ("", ".", "..")]
    return "/".join(steps) or "file"


def _safe(step: str) -> str:
    step = _FORBIDDEN.sub("_", step).rstrip(". ") or "_"
    if _RESERVED.fullmatch(step):
        step = f"_{step}"
    return step if len(step.encode()) <= _NAME_MAX else _numbered(step, None)


def _numbered(path: str, number: int | None) -> str:
    """`a/b.txt` as `a/b (2).txt`, cut so that its last step is no longer than a file system takes."""
    folder, slash, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 40:
        stem, dot, extension = name, "", ""
    mark = "" if number is None else f" ({number})"
    room = _NAME_MAX - len(f"{mark}{dot}{extension}".encode())
    return f"{folder}{slash}{stem.encode()[:room].decode('utf-8', 'ignore')}{mark}{dot}{extension}"


def _free(folded: str, files: set[str], folders: set[str]) -> bool:
    return folded not in files and folded not in folders and not any(above in files for above in _above(folded))


def _above(path: str) -> Iterator[str]:
    """The folders on the way to a path."""
    at = path.find("/")
    while at != -1:
        yield path[:at]
        at = path.find("/", at + 1)


def _date(ms: int) -> tuple[int, int, int, int, int, int]:
    moment = time.gmtime(min(max(ms // 1000, _EARLIEST), _LATEST))
    return moment.tm_year, moment.tm_mon, moment.tm_mday, moment.tm_hour, moment.tm_min, moment.tm_sec


class _Out:
    """What zipfile writes to: it cannot be sought in, and is emptied as it fills."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return taken
