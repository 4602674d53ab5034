"""What is large on its way out: whatever happens to its file, nobody takes what was sent for whole."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gitstore.errors import Damaged
from server import content, sending
from server.bridge import Bridge


def test_a_file_that_cannot_be_read_any_more_breaks_the_connection() -> None:
    broken: list[bool] = []

    def source() -> Iterator[bytes]:
        yield b"some"
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def main() -> list[bytes]:
        bridge = Bridge(1)
        transport = SimpleNamespace(abort=lambda: broken.append(True))
        call: Any = SimpleNamespace(
            carry=bridge.carry,
            app=SimpleNamespace(settings=SimpleNamespace(body_timeout=5)),
            request=SimpleNamespace(transport=transport),
            request_id="r",
        )
        found = []
        try:
            async for piece in sending.pieces(call, source()):
                found.append(piece)
        except ConnectionError:
            pass
        bridge.close()
        return found

    assert asyncio.run(main()) == [b"some"]
    assert broken == [True]


def test_a_file_that_is_too_short_is_not_sent_as_if_it_were_whole() -> None:
    with pytest.raises(Damaged, match="2 bytes too early"):
        list(sending._range(lambda: io.BytesIO(b"12345678"), 3, 10, sending._Pace()))
    assert b"".join(sending._range(lambda: io.BytesIO(b"12345678"), 3, 8, sending._Pace())) == b"45678"


def test_what_was_found_sound_counts_for_that_very_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_sound", {})
    path = tmp_path / "object"
    sending.found_sound(str(path))  # it was renamed with its workspace: an upload that is kept does not fail for that
    assert not sending._sound
    path.write_bytes(b"one")
    mark = sending._mark(str(path))
    path.write_bytes(b"other")
    sending.found_sound(str(path), mark)
    assert not sending._sound
    sending.found_sound(str(path))
    assert list(sending._sound) == [sending._mark(str(path))]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_every_form_of_a_date_means_the_same_moment(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        modified = int(datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp() * 1000)
        for text in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"):
            with pytest.raises(content.NotModified):
                content.evaluate({"If-Modified-Since": text}, None, modified)
            content.evaluate({"If-Modified-Since": text}, None, modified + 1000)
    finally:
        monkeypatch.undo()
        time.tzset()
