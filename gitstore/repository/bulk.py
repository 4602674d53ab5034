"""Thousands of commits and what each changed, read by the git program of this machine, where there is one.

It does in seconds what takes minutes object by object. Nothing of the repository's own settings counts for it: it is
run in a git folder made for it, which only borrows the objects. What it fails at is left to be read slowly.
Formats: git-cat-file(1), "BATCH OUTPUT"; git-diff-tree(1), "RAW OUTPUT FORMAT".
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import shutil
import subprocess
import tempfile
from binascii import unhexlify
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Final, NamedTuple

from gitstore.repository.commits import Commit, parse
from gitstore.repository.objects import EMPTY_TREE, Oid
from gitstore.repository.trees import Difference, Node, decode_path

WORTH_IT: Final = 500
"""Commits from which on starting programs is the quicker way."""

_AT_ONCE = 5_000
_CHUNK = 1 << 20
_ENVIRONMENT = {
    "PATH": os.defpath,
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n[safe]\n\tdirectory = *\n"
_ENTRY = re.compile(
    rb"[0-9a-f]{40} [0-9a-f]{40}\n"
    rb"|:([0-7]{6}) ([0-7]{6}) ([0-9a-f]{40}) ([0-9a-f]{40}) [A-Z][0-9]*\0([^\0]+)\0"
)


class Unread(Exception):
    """The program is not there, or did not read everything."""


class Bulk:
    """Reads the objects in the folder `objects` of a repository. A context: what it needs is gone at its end."""

    def __init__(self, objects: str) -> None:
        binary = shutil.which("git", path=os.defpath)
        if binary is None:
            raise Unread
        self._binary = binary
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="gitstore-")
            folder = self._folder.name
            os.makedirs(f"{folder}/refs")
            for name, text in (("HEAD", "ref: refs/heads/main\n"), ("config", _CONFIG)):
                with open(f"{folder}/{name}", "w") as file:
                    file.write(text)
        except OSError:
            raise Unread from None
        self._environment = {**_ENVIRONMENT, "GIT_DIR": folder, "GIT_OBJECT_DIRECTORY": os.path.abspath(objects)}

    def __enter__(self) -> Bulk:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def line(self, head: Oid, since: Oid | None) -> list[Oid]:
        """The first-parent commits from `since` (left out; None: from the beginning) to `head`, oldest first.

        Raises Unread.
        """
        words = ["rev-list", "--first-parent", "--reverse", head.hex()]
        if since is not None:
            words.append(f"^{since.hex()}")
        with self._run(words) as out:
            return [Oid(unhexlify(line)) for line in out.read().split()]

    def commits(self, oids: Sequence[Oid]) -> Iterator[tuple[Oid, Commit]]:
        """These commits, in their order. Raises Unread, Damaged."""
        asked = "".join(f"{oid.hex()}\n" for oid in oids).encode()
        with self._run(["cat-file", "--batch", "--buffer"], asked) as out:
            for oid in oids:
                words = out.readline().split()
                if len(words) != 3 or words[1] != b"commit":
                    raise Unread
                data = out.read(int(words[2]) + 1)
                yield oid, parse(data[:-1])

    def changes(self, pairs: Sequence[tuple[Oid, Oid]]) -> Iterator[list[Difference]]:
        """What differs between the trees of each pair, by path. Raises Unread."""
        asked = "".join(f"{old.hex()} {new.hex()}\n" for old, new in pairs).encode()
        words = ["diff-tree", "--stdin", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--no-ext-diff"]
        count = -1
        found: list[Difference] = []
        with self._run(words, asked) as out:
            rest = b""
            while piece := out.read1(_CHUNK):
                rest += piece
                end = 0
                for entry in _ENTRY.finditer(rest):
                    if entry.start() != end:
                        raise Unread
                    end = entry.end()
                    if entry[5] is not None:
                        found.append(
                            Difference(decode_path(entry[5]), _node(entry[1], entry[3]), _node(entry[2], entry[4]))
                        )
                        continue
                    if count >= 0:
                        yield _ordered(found)
                        found = []
                    count += 1
                rest = rest[end:]
        if rest or count != len(pairs) - 1:
            raise Unread
        if pairs:
            yield _ordered(found)

    def _run(self, words: Sequence[str], given: bytes = b"") -> _Output:
        return _Output([self._binary, *words], self._environment, given)


class _Output:
    """What a program writes, as a context. Raises Unread where it did not end well, unless the reading failed."""

    def __init__(self, words: Sequence[str], environment: dict[str, str], given: bytes) -> None:
        try:
            self._input = tempfile.TemporaryFile()  # noqa: SIM115  (closed at the exit)
            self._input.write(given)
            self._input.seek(0)
            self._process = subprocess.Popen(
                words, env=environment, cwd=environment["GIT_DIR"], stdin=self._input, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, bufsize=_CHUNK, start_new_session=True,
            )  # fmt: skip
        except OSError:
            raise Unread from None

    def __enter__(self) -> io.BufferedReader:
        assert isinstance(self._process.stdout, io.BufferedReader)
        with contextlib.suppress(OSError):  # not on every system, and not for everybody
            fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _CHUNK)  # so that it works ahead
        return self._process.stdout

    def __exit__(self, kind: object, *_: object) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._input.close()
        if kind is not None:
            self._process.kill()
        if self._process.wait() and kind is None:
            raise Unread


def _node(mode: bytes, oid: bytes) -> Node | None:
    number = int(mode, 8)
    return Node(number, Oid(unhexlify(oid))) if number else None


def _ordered(found: list[Difference]) -> list[Difference]:
    """In the order of `trees.compare`, which is by the names on the way."""
    if len(found) > 1:
        found.sort(key=lambda one: one.path.split("/"))
    return found


class Read(NamedTuple):
    """A commit, and what it changed in the tree `before`."""

    oid: Oid
    commit: Commit
    before: Oid
    differences: list[Difference]


def read(objects: str, head: Oid, since: Oid | None) -> Iterator[Read]:
    """The first-parent commits from `since` (left out; None: from the beginning) to `head`, oldest first.

    Raises Unread where the rest must be read otherwise, Damaged.
    """
    with Bulk(objects) as bulk:
        oids = bulk.line(head, since)
        commits = bulk.commits(oids)
        before: Oid | None = None
        while some := list(islice(commits, _AT_ONCE)):
            if before is None:
                parents = some[0][1].parents[:1]
                before = next(bulk.commits(parents))[1].tree if parents else EMPTY_TREE
            trees = [before, *(commit.tree for _, commit in some)]
            before = trees[-1]
            changes = bulk.changes(list(pairwise(trees)))
            for (oid, commit), tree in zip(some, trees[:-1], strict=True):
                changed = next(changes, None)
                if changed is None:
                    raise Unread
                yield Read(oid, commit, tree, changed)
