"""What is large on its way out: whatever happens to its file, nobody takes what was sent for whole."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
import uvloop

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


class Away:
    """What a slice is sent with: a call, and a client at the other end of a socket."""

    def __init__(self, patience: float = 5.0) -> None:
        self.aborted: list[bool] = []
        self.ours, self.client = socket.socketpair()
        self.ours.setblocking(False)
        self.files: list[BinaryIO] = []
        self._patience = patience

    def send(self, path: Path, start: int, stop: int) -> None:
        def opened() -> BinaryIO:
            self.files.append(path.open("rb"))
            return self.files[-1]

        async def main() -> None:
            bridge = Bridge(1)
            call: Any = SimpleNamespace(
                carry=bridge.carry,
                app=SimpleNamespace(settings=SimpleNamespace(body_timeout=self._patience)),
                request=SimpleNamespace(transport=SimpleNamespace(abort=lambda: self.aborted.append(True))),
                request_id="r",
            )
            try:
                await sending._Slice(call, opened, start, stop).direct(self.ours.fileno())
            finally:
                bridge.close()

        try:
            uvloop.run(main())
        finally:
            assert all(file.closed for file in self.files)

    def received(self) -> bytes:
        """All that comes, taken slowly at first."""
        found = bytearray()
        while data := self.client.recv(1000 if len(found) < 50_000 else 1 << 20):
            found += data
        return bytes(found)

    def close(self) -> None:
        self.ours.close()
        self.client.close()


@pytest.fixture
def away() -> Iterator[Away]:
    one = Away()
    yield one
    one.close()


@pytest.mark.parametrize(("start", "stop"), [(0, 20 << 20), (3, 20 << 20), (1 << 20, (1 << 20) + 5), (7, 7)])
def test_a_file_goes_straight_to_the_socket(tmp_path: Path, away: Away, start: int, stop: int) -> None:
    path, data = tmp_path / "object", os.urandom(1 << 20) * 20
    path.write_bytes(data)
    with ThreadPoolExecutor() as threads:
        got = threads.submit(away.received)
        away.send(path, start, stop)
        away.ours.close()
        assert got.result(20) == data[start:stop]
    assert not away.aborted


def test_a_file_that_is_too_short_breaks_the_connection(tmp_path: Path, away: Away) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"12345")
    with pytest.raises(ConnectionResetError, match="broken off"):
        away.send(path, 0, 6)
    assert away.aborted
    assert away.client.recv(10) == b"12345"


def test_a_client_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(bytes(20 << 20))
    away = Away(patience=0.2)
    begun = time.monotonic()
    with pytest.raises(ConnectionResetError, match="takes no more"):
        away.send(path, 0, 20 << 20)
    assert away.aborted
    assert 0.2 <= time.monotonic() - begun < 5
    away.close()


def test_a_client_that_goes_away_ends_it(tmp_path: Path, away: Away, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "object"
    path.write_bytes(bytes(20 << 20))
    leaving = threading.Timer(0.2, away.client.close)
    leaving.start()
    with pytest.raises(ConnectionResetError, match="takes no more"):
        away.send(path, 0, 20 << 20)
    leaving.join()
    assert not caplog.records  # it is no fault of anybody's


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
