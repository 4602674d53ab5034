"""The content of a file or an artifact, whether it stands in git or is a large object: its size, its digest, its bytes.

Whoever shows, sends, compares or reads content asks here and never assumes that it fits into memory.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Protocol

from gitstore.context import StoredFile
from gitstore.errors import TooLarge
from gitstore.lfs import Objects, Pointer
from gitstore.lfs.attributes import Attributes
from gitstore.lfs.objects import CHUNK
from gitstore.lfs.pointer import decode
from gitstore.model import Artifact
from gitstore.reading import Tree

WHOLE_MAX: Final = 64 << 20
"""Bytes that `Content.read` gives at once; anything larger is only to be had in pieces."""


class Source(Protocol):
    """Where contents come from: a snapshot, or anything with the blobs and the large objects of one workspace."""

    @property
    def objects(self) -> Objects:
        """The large objects."""

    def blob(self, blob: str) -> bytes:
        """The content of a blob. Raises Damaged where it is missing."""


class Content:
    """The content of one file or artifact. `pointer` is its large object; None for what stands in git."""

    __slots__ = ("_data", "_objects", "pointer", "size")

    def __init__(self, objects: Objects, pointer: Pointer | None, data: bytes) -> None:
        self._objects = objects
        self._data = data
        self.pointer = pointer
        self.size = pointer.size if pointer is not None else len(data)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, in hexadecimal."""
        return self.pointer.oid if self.pointer is not None else hashlib.sha256(self._data).hexdigest()

    @property
    def path(self) -> str | None:
        """The file that holds a large object, to be sent as it is; None for what stands in git."""
        return self._objects.path(self.pointer.oid) if self.pointer is not None else None

    @property
    def there(self) -> bool:
        """Whether the bytes can be had: a large object may be missing where only its pointer came."""
        return self.pointer is None or self._objects.has(self.pointer.oid, self.pointer.size)

    def open(self) -> BinaryIO:
        """The bytes, unchecked, in a file that can be sought in. Raises NotFound where it is missing."""
        return self._objects.open(self.pointer.oid) if self.pointer is not None else io.BytesIO(self._data)

    def chunks(self, chunk: int = CHUNK) -> Iterator[bytes]:
        """All the bytes in pieces; those of a large object are checked on the way. Raises Damaged (Objects.chunks)."""
        if self.pointer is not None:
            return self._objects.chunks(self.pointer, chunk)
        return (self._data[at : at + chunk] for at in range(0, len(self._data), chunk))

    def read(self, most: int = WHOLE_MAX) -> bytes:
        """All the bytes at once. Raises TooLarge where there are more than `most`, Damaged."""
        if self.size > most:
            raise TooLarge(
                f"the content has {self.size} bytes; only up to {most} are read at once",
                details={"max_bytes": most},
            )
        return self._data if self.pointer is None else b"".join(self.chunks())


def of(source: Source, held: StoredFile | Artifact | str) -> Content:
    """The content of a file, of an artifact, or of a blob by its id. Raises Damaged where the blob is missing.

    Of a blob alone nothing says whether it is a pointer because its path is one of Git LFS's, or a text that only looks
    like one; it counts as a pointer if it is one to an object that the workspace has.
    """
    if isinstance(held, StoredFile):
        if held.large is not None:
            return Content(source.objects, held.large, b"")
        return Content(source.objects, None, source.blob(held.blob))
    if isinstance(held, Artifact):
        pointer = Pointer(held.sha256, held.size)
        data = source.blob(held.blob)
        return Content(source.objects, pointer if decode(data) == pointer else None, data)
    data = source.blob(held)
    found = decode(data)
    return Content(source.objects, found if found is not None and source.objects.has(*found) else None, data)


def at(source: Source, tree: Tree, path: str) -> Content | None:
    """The content of the file at a path of a tree of the same workspace; None where there is none."""
    data = tree.read(path)
    if data is None:
        return None
    pointer = decode(data)
    if pointer is not None and not Attributes(tree.read).covers(path):
        pointer = None
    return Content(source.objects, pointer, data)


def beginnings(blob: Callable[[str], bytes], objects: Callable[[], Objects]) -> Callable[[str, int], bytes]:
    """What reads the first so many bytes of a content, by the id of its blob, whether it is a large object or not."""

    def read(id_: str, most: int) -> bytes:
        data = blob(id_)
        found = decode(data)
        if found is None or not (held := objects()).has(*found):
            return data[:most]
        with held.open(found.oid) as file:
            return file.read(most)

    return read
