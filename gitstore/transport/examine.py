"""What was sent, taken into quarantine and looked through by git programs, each within bounds.

A pack can say little and mean much: deltas that unfold, objects of any claimed size, chains without end. The bounds
are those of the operating system (setrlimit(2)), so that no form of it has to be foreseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

from gitstore.errors import TooLarge, Unavailable
from gitstore.repository.objects import BLOB, COMMIT, TAG, TREE, Oid
from gitstore.repository.quarantine import Quarantine
from gitstore.transport.git import Bounds, Ended, Git, Limits
from gitstore.transport.judge import Item

KINDS = {b"commit": COMMIT, b"tree": TREE, b"blob": BLOB, b"tag": TAG}
LACKING = "it lacks objects that it needs (git fsck in your clone says which)"
OBJECTS = 500_000  # objects that one push may bring
_MEMORY = 1 << 30
_SETTINGS = {"core.bigFileThreshold": "16m", "core.deltaBaseCacheLimit": "64m", "pack.threads": "1"}


class Examiner(Protocol):
    """What looks through a push. Every text that comes back says what is wrong, for whoever pushes."""

    async def take(self, quarantine: Quarantine, pack: AsyncIterator[bytes]) -> str | None:
        """Takes a pack in and checks each of its objects. Raises what `pack` raises."""

    async def connected(self, quarantine: Quarantine, tips: Iterable[Oid]) -> str | None:
        """Whether everything that these objects lead to is there."""

    async def kinds(self, quarantine: Quarantine, oids: Sequence[Oid]) -> dict[Oid, int]:
        """The kind of each object that is there."""

    async def listing(self, quarantine: Quarantine, tip: Oid, known: Iterable[Oid]) -> list[Item] | None:
        """Every object that `tip` leads to and the `known` commits do not; None where one of them is not there.

        Raises TooLarge.
        """


class ByGit:
    """Examiner by the git program."""

    def __init__(self, git: Git, limits: Limits) -> None:
        self._git = git
        self._limits = limits

    async def take(self, quarantine: Quarantine, pack: AsyncIterator[bytes]) -> str | None:
        """See Examiner."""
        most = self._limits.push_bytes
        words = ["index-pack", "--stdin", "--fix-thin", "--strict", f"--max-input-size={most}"]
        bounds = Bounds(_MEMORY, 2 * most + (16 << 20), int(self._limits.seconds) + 1)
        async with await self._git.start(quarantine.folder, words, _SETTINGS, bounds=bounds) as program:
            await program.give(pack)
            async for _ in pack:
                pass  # it has given up; git shows an answer only after it has sent everything
            ended = await self._ended(program.end())
        return None if ended.status == 0 else _why(ended, most)

    async def _ended(self, end: object) -> Ended:
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await end  # type: ignore[misc,no-any-return]
        except TimeoutError:
            return Ended(-9, "")

    async def _ask(self, quarantine: Quarantine, words: list[str], lines: Iterable[str]) -> tuple[Ended, bytes]:
        """Asks a program that answers shortly. Raises Unavailable where it does not."""
        text = "".join(f"{line}\n" for line in lines).encode()
        bounds = Bounds(2 * _MEMORY, 1 << 20, int(self._limits.seconds) + 1)
        try:
            async with (
                asyncio.timeout(self._limits.seconds),
                await self._git.start(quarantine.folder, words, _SETTINGS, bounds=bounds) as program,
            ):
                program.feed(_once(text))
                out = b"".join([piece async for piece in program.output()])
                return await program.end(), out
        except TimeoutError:
            raise Unavailable("the push could not be examined in time; push it in parts") from None

    async def connected(self, quarantine: Quarantine, tips: Iterable[Oid]) -> str | None:
        """See Examiner."""
        words = ["rev-list", "--objects", "--stdin", "--quiet", "--not", "--all"]
        ended, _ = await self._ask(quarantine, words, (tip.hex() for tip in tips))
        return None if ended.status == 0 else LACKING

    async def kinds(self, quarantine: Quarantine, oids: Sequence[Oid]) -> dict[Oid, int]:
        """See Examiner."""
        words = ["cat-file", "--batch-check=%(objecttype) %(objectname)"]
        _, out = await self._ask(quarantine, words, (oid.hex() for oid in oids))
        rows = (row.split(b" ") for row in out.splitlines())
        return {Oid(bytes.fromhex(row[1].decode())): KINDS[row[0]] for row in rows if row[0] in KINDS}

    async def listing(self, quarantine: Quarantine, tip: Oid, known: Iterable[Oid]) -> list[Item] | None:
        """See Examiner."""
        bounds = Bounds(2 * _MEMORY, 1 << 20, int(self._limits.seconds) + 1)
        lines = [tip.hex(), *(f"^{oid.hex()}" for oid in known)]
        words = ["rev-list", "--objects", "--stdin"]
        form = "--batch-check=%(objectname) %(objecttype) %(objectsize) %(rest)"
        items: list[Item] = []
        try:
            async with (
                asyncio.timeout(self._limits.seconds),
                await self._git.start(quarantine.folder, words, _SETTINGS, bounds=bounds) as walk,
                await self._git.start(
                    quarantine.folder, ["cat-file", "--buffer", form], _SETTINGS, bounds=bounds
                ) as ask,
            ):
                walk.feed(_once("".join(f"{line}\n" for line in lines).encode()))
                ask.feed(walk.output())
                async for row in _rows(ask.output()):
                    oid, kind, size, path = (*row.split(b" ", 3), b"")[:4]
                    items.append(
                        Item(
                            Oid(bytes.fromhex(oid.decode())),
                            KINDS.get(kind, 0),
                            int(size) if size.isdigit() else 0,
                            path.decode("utf-8", "surrogateescape"),
                        )
                    )
                    if len(items) > OBJECTS:
                        raise TooLarge(f"a push may bring at most {OBJECTS} objects; push it in parts")
                walked, asked = await walk.end(), await ask.end()
                if walked.status > 0:
                    return None
                if walked.status or asked.status:
                    raise Unavailable("the push could not be examined; the server's git failed")
        except TimeoutError:
            raise Unavailable("the push could not be examined in time; push it in parts") from None
        return items


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _rows(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    left = b""
    async for piece in pieces:
        *rows, left = (left + piece).split(b"\n")
        for row in rows:
            yield row
    if left:
        yield left


def _why(ended: Ended, most: int) -> str:
    """What a failed `git index-pack` means to whoever pushes."""
    lines = [line.strip() for line in ended.told.splitlines() if line.strip()]
    text = ended.told
    if "exceeds maximum allowed size" in text or "File size limit" in text:
        return f"the pack is larger than the {most} bytes a push may have"
    if "out of memory" in text.lower() or "cannot allocate" in text.lower() or "mmap failed" in text:
        return "the pack holds an object that is too large to be unpacked"
    if ended.status < 0:
        return "the pack takes too much time or space to be unpacked"
    for line in lines:
        if line.startswith(("error: object ", "error in ")):
            return f"the pack breaks git's rules: {line.removeprefix('error: ')[:300]}"
    if "did not receive expected object" in text or "unresolved delta" in text:
        return "the pack lacks objects that it needs (git fsck in your clone says which)"
    last = next((line.removeprefix("fatal: ") for line in reversed(lines) if line.startswith("fatal: ")), "")
    return f"the pack is not sound: {last[:300] or 'git index-pack failed'}"
