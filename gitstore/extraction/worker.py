"""The child process that reads documents nobody trusts: bounded in memory, processor time and files, one at a time.

It reads a head (length, then MessagePack: form, media type, size) and the document from its standard input, and writes
what came of it (length, then MessagePack) to its standard output. It ends when its input does.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from typing import BinaryIO, Final

import msgspec

from gitstore.extraction.forms import Extracted, Form
from gitstore.extraction.gathering import Enough, Gathering, Unreadable
from gitstore.extraction.markup import html, notebook
from gitstore.extraction.office import office
from gitstore.extraction.pdf import pdf

MEMORY: Final = 512 * 1024 * 1024
"""Bytes of address space."""
PROCESSOR: Final = 10
"""Seconds of processor time for one document."""

_READ: Final[dict[Form, Callable[[str, bytes, Gathering], None]]] = {
    "html": html,
    "notebook": notebook,
    "office": office,
    "pdf": pdf,
}


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What comes before a document."""

    form: Form
    content_type: str
    size: int


class Result(msgspec.Struct, frozen=True, array_like=True):
    """What came of a document; `failure` says why it could not be read."""

    extracted: Extracted
    failure: str | None = None


def extract(form: Form, content_type: str, data: bytes) -> Result:
    """Reads one document, in this process. Never raises."""
    found = Gathering()
    try:
        _READ[form](content_type, data, found)
    except Enough:
        return Result(found.done(whole=False))
    except Unreadable as error:
        return Result(Extracted("", "none"), str(error)[:300])
    except Exception as error:  # noqa: BLE001  what a hostile document makes of a parser, or of the memory, is anything
        return Result(found.done(whole=False), f"{type(error).__name__}: {error}"[:300])
    return Result(found.done(whole=True))


def main() -> None:
    """Serves until the input ends."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has nothing to write but its pipe
    while (size := source.read(4)) and len(size) == 4:
        head = msgspec.msgpack.decode(source.read(int.from_bytes(size, "big")), type=Head)
        _allow(PROCESSOR)
        result = extract(head.form, head.content_type, _exactly(source, head.size))
        answer = msgspec.msgpack.encode(result)
        target.write(len(answer).to_bytes(4, "big") + answer)
        target.flush()
        if result.failure is not None:
            return  # what it left behind in memory is nobody's business: the next document gets a process of its own


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        sys.exit(0)
    return data


def _allow(seconds: int) -> None:
    """So many seconds of processor time from now on; then the system ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))


if __name__ == "__main__":
    main()
