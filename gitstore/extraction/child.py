"""The process that reads documents, as its parent sees it: fed, waited for, killed when it takes too long, replaced."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from gitstore.extraction.forms import Extracted, Form
from gitstore.extraction.worker import Head, Result

SECONDS: Final = 20.0
"""Until the answer to one document; then the process is killed."""
ANSWER_MAX: Final = 8 * 1024 * 1024
_ROOT: Final = str(Path(__file__).resolve().parents[2])
_CODE: Final = "import sys; sys.path.insert(0, sys.argv[1]); from gitstore.extraction.worker import main; main()"


class Child:
    """One process at a time, started when it is needed. Used by one thread."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The id of the process, while there is one."""
        return self._process.pid if self._process is not None else None

    def extract(self, form: Form, content_type: str, data: bytes) -> Result:
        """What comes of a document. One that kills the process, or takes too long, has no text.

        Raises OSError where no process can be started.
        """
        head = msgspec.msgpack.encode(Head(form, content_type, len(data)))
        process = self._started()
        try:
            answer = self._exchange(process, (len(head).to_bytes(4, "big"), head, data))
            result = msgspec.msgpack.decode(answer, type=Result)
        except (TimeoutError, EOFError, BrokenPipeError, ValueError, msgspec.MsgspecError) as error:
            self.close()
            return Result(Extracted("", "none"), f"{type(error).__name__}: {error}")
        if result.failure is not None:
            self.close()
        return result

    def kill(self) -> None:
        """Breaks off what it does. May be called from any thread."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Ends the process, whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            # Its environment is empty: there are secrets in ours.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _CODE, _ROOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                bufsize=0,
                start_new_session=True,
            )
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                os.set_blocking(pipe.fileno(), False)
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], parts: tuple[bytes, ...]) -> bytes:
        """Writes the parts and reads one answer. Raises TimeoutError, EOFError, BrokenPipeError, ValueError."""
        assert process.stdin is not None
        assert process.stdout is not None
        source, target = process.stdout.fileno(), process.stdin.fileno()
        waiting = [memoryview(part) for part in parts if part]
        answer = bytearray()
        until = time.monotonic() + self._seconds
        with selectors.DefaultSelector() as ready:
            ready.register(source, selectors.EVENT_READ)
            ready.register(target, selectors.EVENT_WRITE)
            while True:
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"took more than {self._seconds:g} seconds")
                for key, _ in ready.select(left):
                    if key.fd == target:
                        waiting[0] = waiting[0][os.write(target, waiting[0][:1_048_576]) :]
                        if not waiting[0]:
                            waiting.pop(0)
                        if not waiting:
                            ready.unregister(target)
                    else:
                        chunk = os.read(source, 1_048_576)
                        if not chunk:
                            raise EOFError("the process ended")
                        answer += chunk
                if len(answer) > ANSWER_MAX:
                    raise ValueError("the answer is too long")
                if len(answer) >= 4 and len(answer) >= 4 + int.from_bytes(answer[:4], "big"):
                    return bytes(answer[4 : 4 + int.from_bytes(answer[:4], "big")])
