"""Serving a fetch without a git program: dulwich's upload-pack over the refs and objects it is given.

It holds much in memory, so it is for small repositories: `size` tells how large one is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.protocol import ReceivableProtocol
from dulwich.refs import DictRefsContainer, Ref
from dulwich.repo import BaseRepo
from dulwich.server import BackendRepo, DictBackend, UploadPackHandler

from gitstore.repository import refs
from gitstore.repository.objects import Oid


def size(git: str) -> int:
    """The bytes of a repository's packs."""
    try:
        with os.scandir(f"{git}/objects/pack") as entries:
            return sum(entry.stat().st_size for entry in entries if entry.name.endswith(".pack"))
    except FileNotFoundError:
        return 0


def serve(
    git: str,
    shown: Mapping[str, Oid],
    receive: Callable[[int], bytes],
    send: Callable[[bytes], None],
    *,
    advertise: bool,
) -> None:
    """Answers one stateless request (version 0 of the protocol). Raises what `receive` and `send` raise, or dulwich."""
    named: dict[Ref, bytes] = {Ref(os.fsencode(ref)): ObjectID(oid.hex().encode()) for ref, oid in shown.items()}
    if refs.MAIN in shown:
        named[Ref(b"HEAD")] = ObjectID(b"ref: " + refs.MAIN.encode())
    store = DiskObjectStore(f"{git}/objects")
    try:
        repository = BaseRepo(store, DictRefsContainer(named))
        backends: dict[str, BackendRepo] = {".": repository}  # type: ignore[dict-item]  # it differs in one argument
        handler = UploadPackHandler(
            DictBackend(backends),
            ["."],
            ReceivableProtocol(receive, send),
            stateless_rpc=True,
            advertise_refs=advertise,
        )
        handler.handle()
    finally:
        store.close()
