"""Who edits a checkout: the identity that git would use for a commit there (git-config(1), user.name and user.email).

Read from the repository's configuration, then from that of the owner of the edited file; never from the environment of
this process, which is another user's.
"""

from __future__ import annotations

import io
import os
import pwd
import socket
from typing import NamedTuple

from dulwich.config import ConfigFile

_LARGEST = 1 << 20  # bytes of a configuration that are read


class Person(NamedTuple):
    """Name and e-mail of a person."""

    name: str
    email: str


def person(git: str, owner: int) -> Person:
    """The person who works in the repository `git`; `owner` is the user id of the file that was edited."""
    name, email = _configured(f"{git}/config")
    try:
        user = pwd.getpwuid(owner)
    except KeyError:
        user = None
    if user is not None:
        for path in (f"{user.pw_dir}/.gitconfig", f"{user.pw_dir}/.config/git/config"):
            if name is not None and email is not None:
                break
            other = _configured(path)
            name, email = name or other[0], email or other[1]
    login = user.pw_name if user is not None else f"user-{owner}"
    full = user.pw_gecos.split(",", 1)[0].strip() if user is not None else ""
    return Person(name or full or login, email or f"{login}@{socket.gethostname() or 'localhost'}")


def _configured(path: str) -> tuple[str | None, str | None]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            data = file.read(_LARGEST)
    except OSError:
        return None, None  # there is none, or it is not for us to read
    try:
        config = ConfigFile.from_file(io.BytesIO(data), expand_includes=False)
    except (ValueError, NotImplementedError, KeyError):
        return None, None  # git would refuse it too
    return _value(config, b"name"), _value(config, b"email")


def _value(config: ConfigFile, key: bytes) -> str | None:
    try:
        return config.get((b"user",), key).decode("utf-8", "replace").strip() or None
    except KeyError:
        return None
