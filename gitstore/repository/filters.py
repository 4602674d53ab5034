"""The filter for large objects in a repository's own configuration, so that a person's git needs no set-up.

The configuration includes a file of the store's, which alone names a program and a place: both may move.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from gitstore.lfs import filter as program
from gitstore.repository.disk import Disk
from gitstore.repository.locks import Lock, Locked

INCLUDE = "[include]\n\tpath = gitstore/config\n"
"""What a repository's `config` has to say; a path there is taken from the folder of the file."""


def text() -> str:
    """The file that is included: how this Python runs the filter."""
    command = f"{shlex.quote(sys.executable)} -I -S {shlex.quote(program.__file__)}"
    quoted = command.replace("\\", "\\\\").replace('"', '\\"')
    return (
        '# Written by gitstore at every start.\n[filter "lfs"]\n'
        f'\tprocess = "{quoted} process"\n\tclean = "{quoted} clean"\n\tsmudge = "{quoted} smudge %f"\n'
        "\trequired = true\n"
    )


def furnish(disk: Disk, git: str) -> None:
    """Brings the configuration of a repository up to date; what is right already stays. Raises OSError."""
    wanted = text().encode()
    if _read(f"{git}/gitstore/config") != wanted:
        disk.overwrite(f"{git}/gitstore/new", wanted)
        disk.rename(f"{git}/gitstore/new", f"{git}/gitstore/config")
    said = _read(f"{git}/config") or b""
    if b"gitstore/config" in said:
        return
    if said and not said.endswith(b"\n"):
        said += b"\n"
    try:
        with Lock(disk, f"{git}/gitstore/configuration", f"{git}/config", said + INCLUDE.encode()) as lock:
            lock.put()
    except Locked:
        pass  # somebody's git is at it: the next start does it


def _read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None
