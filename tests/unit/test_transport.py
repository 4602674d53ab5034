"""What git's protocol is made of: lines, commands, reports; and what a `.gitattributes` may name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gitstore.errors import Malformed
from gitstore.repository.objects import Oid
from gitstore.transport.attributes import drivers, is_attributes
from gitstore.transport.commands import Command, Moved, Request, read, report
from gitstore.transport.lines import FLUSH, Reader, band, line

ONE, TWO = Oid(b"\x11" * 20), Oid(b"\x22" * 20)


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for each in data:
        yield each


def test_lines_come_out_however_they_are_cut() -> None:
    data = line("one\n") + line(b"\0two") + FLUSH + b"the rest"

    async def main(size: int) -> tuple[bytes | None, bytes | None, bytes | None, bytes]:
        reader = Reader(pieces(*(data[at : at + size] for at in range(0, len(data), size))))
        return (
            await reader.line(), await reader.line(), await reader.line(),
            b"".join([piece async for piece in reader.rest()]),
        )  # fmt: skip

    for size in range(1, len(data) + 1):
        assert asyncio.run(main(size)) == (b"one", b"\0two", None, b"the rest")


@pytest.mark.parametrize(
    "data", [b"", b"00", b"zzzz", b"-001", b"+005", b"0001", b"0003", b"ffff", b"0009abc", b"0x0a"]
)
def test_lines_that_are_none(data: bytes) -> None:
    async def main() -> None:
        await Reader(pieces(data)).line()

    with pytest.raises(Malformed):
        asyncio.run(main())


def test_what_is_too_long_for_a_line_goes_into_several() -> None:
    sent = band(1, b"x" * 150_000)
    assert sent.count(b"fff0\x01") == 2
    assert len(sent) == 150_000 + 3 * 5


def test_a_request_is_read() -> None:
    text = (
        line("shallow " + "3" * 40) + line(f"{'0' * 40} {ONE.hex()} refs/heads/ü\0report-status atomic\n")
        + line(f"{ONE.hex()} {'0' * 40} refs/tags/a b\n") + FLUSH
    )  # fmt: skip

    async def main() -> Request:
        return await read(Reader(pieces(text)))

    request = asyncio.run(main())
    assert request.commands == [Command("refs/heads/ü", None, ONE), Command("refs/tags/a b", ONE, None)]
    assert request.capabilities == {"report-status", "atomic"}
    assert request.packed


def test_a_report_tells_what_moved_where() -> None:
    wanted = [Command("refs/for/main", None, ONE), Command("refs/tags/a", None, ONE)]
    results = {"refs/for/main": Moved("refs/heads/main", ONE, TWO), "refs/tags/a": "no\nway"}
    said = report(Request(wanted, frozenset({"report-status-v2"})), "ok", results, [])
    assert said == (
        line("unpack ok\n") + line("ok refs/for/main\n") + line("option refname refs/heads/main\n")
        + line(f"option old-oid {ONE.hex()}\n") + line(f"option new-oid {TWO.hex()}\n")
        + line("ng refs/tags/a no way\n") + FLUSH
    )  # fmt: skip
    said = report(Request(wanted, frozenset({"report-status"})), "ok", results, ["unseen without a side band"])
    assert said == line("unpack ok\n") + line("ok refs/for/main\n") + line("ng refs/tags/a no way\n") + FLUSH


@pytest.mark.parametrize(
    "name", [".gitattributes", ".GitAttributes", ".gitattributes.", "gitatt~1", ".git\u200cattributes"]
)
def test_names_that_are_taken_for_gitattributes(name: str) -> None:
    assert is_attributes(name)
    assert not is_attributes("gitattributes")


def test_drivers_and_where_they_are_named() -> None:
    data = b"# filter=a\n\n*.a filter=lfs diff=lfs merge=lfs -text\n*.b -diff merge !filter\n*.c\tdiff=x merge=y\n"
    assert [(one.line, one.attribute, one.name) for one in drivers(data)] == [(5, "diff", "x"), (5, "merge", "y")]
