"""What a push asks for, and how it is told what became of it (gitprotocol-pack(5), "Pushing Data To a Server")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gitstore.errors import Malformed, TooLarge
from gitstore.repository.objects import Oid
from gitstore.transport.lines import FLUSH, Reader, band, line

RECEIVE = "git-receive-pack"
NOTHING = b"\0" * 20
_COMMAND = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) ([^\0]+)(?:\0(.*))?", re.DOTALL)
_MOST = 100_000  # commands that are read at all; how many are done is another limit
_CAPABILITIES = (
    "report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta object-format=sha1 agent=gitstore"
)


class Command(NamedTuple):
    """One ref to be moved from `old` to `new`; None: it does not exist."""

    ref: str
    old: Oid | None
    new: Oid | None


class Request(NamedTuple):
    """What a push asks for."""

    commands: list[Command]
    capabilities: frozenset[str]

    @property
    def packed(self) -> bool:
        """Whether a pack follows."""
        return any(command.new is not None for command in self.commands)


class Moved(NamedTuple):
    """A command that was done: which ref moved, and whence and whither where that is not what the command said."""

    ref: str
    old: Oid | None = None
    new: Oid | None = None


Result = Moved | str  # a text: why it was not done


def advertisement(shown: Mapping[str, Oid], had: Iterable[str] = ()) -> bytes:
    """The answer to `info/refs?service=git-receive-pack`.

    `had` are commits that are here, without a name: a client sends nothing that one of them has. It knows none of the
    heads where it did not fetch lately, and would else send all of history.
    """
    refs = [(shown[ref].hex(), ref) for ref in sorted(shown)] or [("0" * 40, "capabilities^{}")]
    refs += [(oid, ".have") for oid in had]
    first = f"{refs[0][0]} {refs[0][1]}\0{_CAPABILITIES}\n"
    rest = b"".join(line(f"{oid} {ref}\n") for oid, ref in refs[1:])
    return line(f"# service={RECEIVE}\n") + FLUSH + line(first) + rest + FLUSH


async def read(reader: Reader) -> Request:
    """The commands of a push. Raises Malformed, TooLarge."""
    commands: list[Command] = []
    capabilities: frozenset[str] = frozenset()
    while (text := await reader.line()) is not None:
        if text.startswith(b"shallow "):
            continue  # whether what was sent is connected is found out, not believed
        match = _COMMAND.fullmatch(text)
        if match is None:
            raise Malformed("the request is no push: a command cannot be read")
        if not commands and match[4] is not None:
            capabilities = frozenset(match[4].decode("utf-8", "replace").split())
        commands.append(Command(match[3].decode("utf-8", "surrogateescape"), _oid(match[1]), _oid(match[2])))
        if len(commands) > _MOST:
            raise TooLarge(f"a push of more than {_MOST} refs is not read")
    if "object-format=sha256" in capabilities:
        raise Malformed("this repository has SHA-1 object ids")
    return Request(commands, capabilities)


def _oid(text: bytes) -> Oid | None:
    oid = bytes.fromhex(text.decode("ascii"))
    return Oid(oid) if oid != NOTHING else None


def report(request: Request, unpacked: str, results: Mapping[str, Result], said: Iterable[str]) -> bytes:
    """The answer: `unpacked` is "ok" or what is wrong with the pack; `said` are lines for whoever pushes."""
    status = b""
    if request.capabilities & {"report-status", "report-status-v2"}:
        status = line(f"unpack {_one(unpacked)}\n")
        more = "report-status-v2" in request.capabilities
        status += b"".join(_status(command, results[command.ref], more) for command in request.commands) + FLUSH
    if "side-band-64k" not in request.capabilities:
        return status
    text = "".join(f"{each}\n" for each in said).encode("utf-8", "surrogateescape")
    return band(2, text) + band(1, status) + FLUSH


def _status(command: Command, result: Result, more: bool) -> bytes:
    if isinstance(result, str):
        return line(f"ng {command.ref} {_one(result)}\n")
    lines = line(f"ok {command.ref}\n")
    if more and (result.ref != command.ref or result.new is not None):
        if result.ref != command.ref:
            lines += line(f"option refname {result.ref}\n")
        if result.old is not None:
            lines += line(f"option old-oid {result.old.hex()}\n")
        if result.new is not None:
            lines += line(f"option new-oid {result.new.hex()}\n")
    return lines


def _one(text: str) -> str:
    return " ".join(text.split())[:1000]
