"""The filter that the checkouts of a store give to git: large objects in the folder, their pointers in git.

It is a program of its own that knows nothing but Python's library, because git waits for it at every `git status` that
meets a file it cannot be sure of. Protocol: gitattributes(5), "Long Running Filter Process", and
"protocol-common.txt" in git's documentation. Objects lie where every client of Git LFS looks for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

_PACKET = 65516  # bytes of content that one packet carries at most
_CHUNK = 1 << 20


def _pointers() -> Any:
    """The module of pointers, without the package around it, whose beginning would cost more than all the rest."""
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pointer.py")
    spec = importlib.util.spec_from_file_location("pointer", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pointers = _pointers()


class Objects:
    """The large objects of the repository that git works in."""

    def __init__(self) -> None:
        self.root = os.path.join(_git(), "lfs")

    def path(self, oid: str) -> str:
        """Where an object is, or would be."""
        return os.path.join(self.root, "objects", oid[:2], oid[2:4], oid)

    def clean(self, pieces: Iterator[bytes]) -> bytes:
        """The pointer to what comes, which is an object from now on; nothing, and a pointer, stay as they are."""
        os.makedirs(os.path.join(self.root, "tmp"), exist_ok=True)
        place = os.path.join(self.root, "tmp", f"clean-{os.getpid()}-{os.urandom(8).hex()}")
        digest, size, head = hashlib.sha256(), 0, b""
        with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
            try:
                for piece in pieces:
                    digest.update(piece)
                    size += len(piece)
                    if len(head) <= pointers.POINTER_MAX:
                        head += piece
                    file.write(piece)
                if size == 0 or (size == len(head) and pointers.decode(head) is not None):
                    return head
                pointer = pointers.Pointer(digest.hexdigest(), size)
                target = self.path(pointer.oid)
                with contextlib.suppress(OSError):
                    os.utime(target)  # it is in use from now on, although nothing in git says so yet
                if not os.path.exists(target) or os.path.getsize(target) != size:
                    file.flush()
                    os.fsync(file.fileno())
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    os.replace(place, target)
                return bytes(pointer.encode())
            finally:
                if os.path.exists(place):
                    os.unlink(place)

    def smudge(self, pieces: Iterator[bytes], path: str) -> Iterator[bytes]:
        """What a pointer points to; anything else, and a pointer to what is not here, stays as it is.

        Raises OSError where the object cannot be read, or is not what its name says: what was given by then is wrong.
        """
        head = b""
        for piece in pieces:
            head += piece
            if len(head) > pointers.POINTER_MAX:
                break
        pointer = pointers.decode(head)
        if pointer is not None:
            file = self._open(pointer.oid, pointer.size)
            if file is not None:
                digest = hashlib.sha256()
                with file:
                    while piece := file.read(_CHUNK):
                        digest.update(piece)
                        yield piece
                if digest.hexdigest() != pointer.oid:
                    raise OSError(f"the large object {pointer.oid} is damaged")
                return
            sys.stderr.write(f"gitstore: the large object of {path} is not here ({pointer.oid}); its pointer is\n")
        yield head
        yield from pieces

    def _open(self, oid: str, size: int) -> BinaryIO | None:
        """An object of so many bytes; None where there is none."""
        try:
            file = open(self.path(oid), "rb")  # noqa: SIM115  (whoever asked closes it)
        except OSError:
            return None
        if os.fstat(file.fileno()).st_size == size:
            return file
        file.close()
        return None


def _git() -> str:
    """The folder of the repository that git runs this for; all work trees of one repository share it."""
    git = os.environ.get("GIT_DIR", ".git")
    if os.path.isfile(git):
        with open(git, encoding="utf-8", errors="surrogateescape") as file:
            git = os.path.join(os.path.dirname(git), file.read().removeprefix("gitdir:").strip())
    common = os.path.join(git, "commondir")
    if os.path.isfile(common):
        with open(common, encoding="utf-8", errors="surrogateescape") as file:
            git = os.path.join(git, file.read().strip())
    return os.path.abspath(git)


# -- packets -----------------------------------------------------------------------------------------------------------


def _packet(source: BinaryIO) -> bytes | None:
    """The next packet; None for a flush. Raises EOFError where git has ended."""
    head = source.read(4)
    if len(head) < 4:
        raise EOFError
    size = int(head, 16)
    if size < 4:
        return None
    data = source.read(size - 4)
    if len(data) < size - 4:
        raise EOFError
    return data


def _packets(source: BinaryIO) -> Iterator[bytes]:
    while (data := _packet(source)) is not None:
        yield data


def _lines(source: BinaryIO) -> list[str]:
    return [data.decode("utf-8", "surrogateescape").rstrip("\n") for data in _packets(source)]


def _say(target: BinaryIO, *lines: str) -> None:
    for line in lines:
        _send(target, f"{line}\n".encode())
    target.write(b"0000")
    target.flush()


def _send(target: BinaryIO, data: bytes) -> None:
    for at in range(0, len(data), _PACKET):
        piece = data[at : at + _PACKET]
        target.write(b"%04x%s" % (len(piece) + 4, piece))


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answers git until it ends. Raises EOFError then."""
    _lines(source)
    _say(target, "git-filter-server", "version=2")
    _lines(source)
    _say(target, "capability=clean", "capability=smudge")
    objects = Objects()
    while True:
        said = dict(line.partition("=")[::2] for line in _lines(source))
        pieces = _packets(source)
        try:
            if said.get("command") == "clean":
                made: Iterator[bytes] = iter((objects.clean(pieces),))
            elif said.get("command") == "smudge":
                # All of it is read before any of the answer is written: that is git's order.
                made = objects.smudge(iter(list(pieces)), said.get("pathname", ""))
            else:
                raise ValueError(f"git asks for {said.get('command')}, which this filter does not do")
        except (OSError, ValueError) as error:
            for _ in pieces:
                pass
            sys.stderr.write(f"gitstore: {said.get('pathname', '')}: {error}\n")
            _say(target, "status=error")
            continue
        _say(target, "status=success")
        status = []
        try:
            while (piece := next(made, None)) is not None:
                _send(target, piece)
        except BrokenPipeError:
            raise  # git has ended
        except OSError as error:  # it takes nothing of what it got until now
            sys.stderr.write(f"gitstore: {said.get('pathname', '')}: {error}\n")
            status = ["status=error"]
        _say(target)
        _say(target, *status)


def main(arguments: list[str]) -> int:
    """`process` answers git for as long as it runs; `clean` and `smudge` do one file, for gits without processes."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    if arguments[:1] == ["process"]:
        try:
            serve(source, target)
        except (EOFError, BrokenPipeError):
            return 0
    pieces = iter(lambda: source.read(_CHUNK), b"")
    if arguments[:1] == ["clean"]:
        target.write(Objects().clean(pieces))
    elif arguments[:1] == ["smudge"]:
        for piece in Objects().smudge(pieces, " ".join(arguments[1:])):
            target.write(piece)
    else:
        return 2
    target.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
