"""Seals texts that must never stand in a repository, with AES-256-GCM under one master key per store.

A sealed text opens only for the workspace and name it was sealed for. Files with secrets are private to their owner
(0600) and are written whole or not at all: a crash leaves the old file or the new one.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from gitstore import errors

FORMAT = 1

_VERSION = b"\x01"
_ID = 8
_NONCE = 12
_GENERATED = "gitstore-key-1-"


class Vault:
    """The store's master key. Threads may share one."""

    def __init__(self, root: bytes, older: bytes | None = None) -> None:
        self._root = root
        self._id, cipher = _sealer(root)
        self._ciphers = {self._id: cipher}
        if older is not None:
            self._ciphers.setdefault(*_sealer(older))

    @classmethod
    def open(cls, folder: Path, master: str | None = None) -> Vault:
        """Open the vault in `folder` (made 0700 if missing).

        `master` is the text of the master key, used as it is: 32 random bytes or more are wanted, a pass phrase is
        stretched with scrypt (N 32768, r 8, p 1; RFC 7914) under a fixed salt, so that the text alone opens a backup
        anywhere. Without it the key is the file `folder/key`, made here the first time (0600); its text given as
        `master` is the same key. Where both exist, `master` seals, and what the file sealed can still be opened.

        Raises errors.Invalid for an empty master key, errors.Damaged for a key file that holds no key (it is left as it
        is), errors.StorageFailed if the disk refuses.
        """
        file = folder / "key"
        try:
            _private_folder(folder)
            if master is None and not file.exists():
                with exclusive(folder / "lock"):
                    if not file.exists():  # another process may have made it meanwhile
                        text = _GENERATED + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
                        write_private(file, f"{text}\n".encode())
            kept = _key_file(file) if file.exists() else None
        except OSError as error:
            raise errors.StorageFailed(
                f"the secret store {folder} cannot be used: {error.strerror or error}"
            ) from error
        if master is not None:
            return cls(_root(master), kept)
        assert kept is not None
        return cls(kept)

    def seal(self, workspace: str, name: str, text: str) -> bytes:
        """Seal a text for this workspace and name; each call gives other bytes.

        Raises errors.Malformed for text that is not Unicode (a lone surrogate).
        """
        try:
            plain = text.encode()
        except UnicodeEncodeError as error:
            raise errors.Malformed(f"the secret {name!r} is not valid Unicode text") from error
        head = _VERSION + self._id
        nonce = os.urandom(_NONCE)
        return head + nonce + self._ciphers[self._id].encrypt(nonce, plain, _context(head, workspace, name))

    def unseal(self, workspace: str, name: str, sealed: bytes) -> str:
        """The text again.

        Raises errors.Unavailable if it was sealed under another master key, errors.Damaged if the bytes were altered or
        sealed for another workspace or name, errors.FormatUnknown if a newer release sealed it.
        """
        head, nonce, rest = sealed[: 1 + _ID], sealed[1 + _ID : 1 + _ID + _NONCE], sealed[1 + _ID + _NONCE :]
        if len(rest) < 16:
            raise errors.Damaged(f"the sealed secret {name!r} is cut short; store the secret again")
        if head[:1] != _VERSION:
            raise errors.FormatUnknown(f"the secret {name!r} was sealed by a newer release of gitstore")
        cipher = self._ciphers.get(head[1:])
        if cipher is None:
            raise errors.Unavailable(
                f"the secret {name!r} was sealed under another master key: start with the GITSTORE_SECRET_KEY (or the"
                " file secrets/key) that was in use when it was stored, or store the secret again"
            )
        try:
            return cipher.decrypt(nonce, rest, _context(head, workspace, name)).decode()
        except (InvalidTag, UnicodeDecodeError) as error:
            raise errors.Damaged(
                f"the sealed secret {name!r} was altered, or belongs to another workspace; store the secret again"
            ) from error

    def opens(self, sealed: bytes) -> bool:
        """Whether this vault holds the master key that sealed these bytes; says nothing about their being sound."""
        return sealed[:1] == _VERSION and sealed[1 : 1 + _ID] in self._ciphers

    def derive(self, purpose: str) -> bytes:
        """32 bytes for another use, such as signing: stable for one master key, unrelated between purposes."""
        return _expand(self._root, f"for {purpose}")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    generation: int
    secrets: dict[str, bytes]  # base 64 in JSON


class _Format(msgspec.Struct):
    format: int


def encode_file(sealed: Mapping[str, bytes], generation: int) -> bytes:
    """The bytes of a workspace's secrets file: sealed texts by name, and a number that grows with each change."""
    return msgspec.json.encode(_File(FORMAT, generation, dict(sealed))) + b"\n"


def decode_file(data: bytes) -> tuple[dict[str, bytes], int]:
    """Sealed texts by name, and the generation. Raises errors.Damaged, or errors.FormatUnknown for a newer format."""
    try:
        if msgspec.json.decode(data, type=_Format).format > FORMAT:
            raise errors.FormatUnknown("the secrets file was written by a newer release of gitstore")
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise errors.Damaged(
            f"the secrets file cannot be read ({error}); restore it, or store the secrets again"
        ) from error
    if file.format < 1 or file.generation < 0:
        raise errors.Damaged("the secrets file cannot be read (a number is out of range); restore it")
    return file.secrets, file.generation


def write_private(path: Path, data: bytes) -> None:
    """Replace a file, durably and whole, readable by its owner only.

    Written beside it as `<name>.tmp`, synced, renamed, the folder synced. A crash can leave the `.tmp` behind, which
    the next write replaces; so two writers must take turns (`exclusive`). Raises OSError, and then the old file stands.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` (made if missing, never removed) against other processes and threads; waits for it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _root(text: str) -> bytes:
    """The 32 bytes that a master key's text stands for."""
    if not text.strip():
        raise errors.Invalid("the master key is empty; give 32 random characters or more, or none at all")
    return _generated(text.strip()) or hashlib.scrypt(
        text.encode("utf-8", "surrogateescape"), salt=b"gitstore master key", n=2**15, r=8, p=1, maxmem=2**26, dklen=32
    )


def _generated(text: str) -> bytes | None:
    """The bytes of a key that was made here; None for any other text."""
    body = text.removeprefix(_GENERATED)
    if body == text or len(body) != 43:
        return None
    try:
        return base64.b64decode(f"{body}=", altchars=b"-_", validate=True)
    except ValueError:
        return None  # somebody's own text, which only begins the same


def _key_file(file: Path) -> bytes:
    with open(file, "rb") as opened:
        about = os.fstat(opened.fileno())
        if about.st_mode & 0o077 and about.st_uid == os.geteuid():
            os.fchmod(opened.fileno(), 0o600)
        data = opened.read(4096)
    root = _generated(data.decode("ascii", "replace").strip())
    if root is None:
        raise errors.Damaged(
            f"{file} holds no master key; restore it from a backup (without it no secret can be opened)"
        )
    return root


def _private_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _expand(root: bytes, info: str) -> bytes:
    """HKDF-Expand (RFC 5869); the root is uniformly random already, so that the extract step is left out."""
    return HKDFExpand(algorithm=SHA256(), length=32, info=f"gitstore {info}".encode()).derive(root)


def _sealer(root: bytes) -> tuple[bytes, AESGCM]:
    """The public name of a master key, by which a wrong key is told from altered bytes; and its cipher."""
    return _expand(root, "key name")[:_ID], AESGCM(_expand(root, "sealing"))


def _context(head: bytes, workspace: str, name: str) -> bytes:
    """What the seal is bound to; the lengths keep ("ab", "c") apart from ("a", "bc")."""
    parts = (workspace.encode(), name.encode())
    return head + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
