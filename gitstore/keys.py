"""API keys: made, listed, revoked, and recognised in about a microsecond. A key's text is shown once and never stored.

The keys stand in `keys.yaml`, which other processes (the command line) may change at any time: a key that was revoked
there, or that has expired, stops working here within half a second, and at once if it was revoked here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets as random
import threading
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

import msgspec

from gitstore import documents, errors, values
from gitstore.credentials import checksum
from gitstore.secrets import exclusive, write_private

Scope = Literal["agent", "worker", "admin", "service"]

FORMAT = 1

_SCOPES: tuple[str, ...] = get_args(Scope)
_RANK = {scope: rank for rank, scope in enumerate(_SCOPES)}
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_SECRET_CHARACTERS = 30  # 178 bits
_TOKEN = "gs_token_"  # noqa: S105  (how tokens begin)
_TOKEN_BYTES = 16 + 6 + 32  # key id, expiry in milliseconds, HMAC-SHA256
_TOKENS_KEPT = 10_000
_LOOK_EVERY = 0.5
_NEVER = 253_402_300_800_000  # the year 10000, which ISO 8601 times do not reach
_REFUSED = "the key is not valid: it is unknown, revoked or expired"


class KeyRecord(msgspec.Struct, frozen=True):
    """What may be told about a key. Times are in milliseconds; `prefix` is unique, and the actor id in commits."""

    id: str
    name: str
    scope: Scope
    prefix: str
    created_at: int
    expires_at: int | None = None
    last_used_at: int | None = None
    revoked_at: int | None = None


class Keys:
    """The keys of one store. Threads may share one."""

    def __init__(
        self,
        path: Path,
        token_key: bytes,
        last_used: Callable[[Mapping[str, int]], None] | None,
        used: Mapping[str, int],
    ) -> None:
        self._path = path
        self._token_key = token_key
        self._callback = last_used
        self._used = dict(used)
        self._flushed = dict(used)
        self._configured: dict[bytes, KeyRecord] = {}
        self._writing = threading.Lock()
        self._signature: tuple[int, ...] | None = None
        self._look_at = 0.0
        self._state = _State({}, (), {})
        self._last: tuple[bytes, tuple[_Stored, ...]] = (b"", ())
        self.problem: errors.GitstoreError | None = None
        """Why the file cannot be read at the moment; the keys that were last read stay in force meanwhile."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        token_key: bytes,
        last_used: Callable[[Mapping[str, int]], None] | None = None,
        used: Mapping[str, int] | None = None,
    ) -> Keys:
        """Read `keys.yaml` (a missing file: no keys yet); its folder must exist.

        `token_key`: 32 bytes that sign tokens (Vault.derive), the same at every start. `used`: when each key id was
        last used, as known from before; `flush` hands later times to `last_used`.

        Raises errors.Damaged for a file that cannot be read (it is never overwritten), errors.FormatUnknown for one of
        a newer release, errors.StorageFailed if the disk refuses.
        """
        keys = cls(path, token_key, last_used, used or {})
        with _storage(path):
            keys._load()
        return keys

    def create(self, scope: str, name: str, expires_at: int | None = None) -> tuple[KeyRecord, str]:
        """Make a key, durably; returns its record and its text, which cannot be had again.

        The text is `gs_<scope>_<prefix><30 random characters><6 of checksum>`. Raises errors.Invalid for an unknown
        scope, a name that is empty, over 255 characters or holds control characters, or an expiry that is not ahead;
        errors.Damaged or errors.StorageFailed as `open` does, and then no key was made.
        """
        now = _now()
        checked = _scope(scope)
        if not name.strip() or len(name) > 255 or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
            raise errors.Invalid("the key's name must be 1 to 255 characters, without control characters")
        if expires_at is not None and not now < expires_at < _NEVER:
            raise errors.Invalid("the key's expiry must lie ahead, before the year 10000")
        with self._writing, _storage(self._path), exclusive(self._lock_path):
            stored, data = self._read()
            taken = {key.prefix for key in stored} | {record.prefix for record in self._configured.values()}
            prefix = next(p for p in iter(_random_prefix, "") if p not in taken)
            head = f"gs_{scope}_{prefix}" + "".join(random.choice(_BASE62) for _ in range(_SECRET_CHARACTERS))
            text = head + checksum(head)
            record = KeyRecord(str(uuid.uuid4()), name, checked, prefix, now, expires_at)
            self._write((*stored, _Stored.of(record, _digest(text))), data)
        return record, text

    def list(self) -> Sequence[KeyRecord]:
        """Every stored key, oldest first, revoked and expired ones too; keys from the configuration are not listed."""
        self._look()
        return [_with_use(key, self._used) for key in self._state.listed]

    def revoke(self, key_id: str) -> KeyRecord:
        """Revoke a key by its id or prefix, durably; it and its tokens end at once. Revoking again changes nothing.

        Raises errors.NotFound, errors.Conflict for a key that the configuration gives, and as `create` does.
        """
        wanted = key_id.lower()
        if any(wanted in (record.id, record.prefix) for record in self._configured.values()):
            raise errors.Conflict("this key is given in the configuration; remove it there")
        with self._writing, _storage(self._path), exclusive(self._lock_path):
            stored, data = self._read()
            index = next((i for i, key in enumerate(stored) if wanted in (key.id, key.prefix)), None)
            if index is None:
                raise errors.NotFound(f"there is no key {key_id!r}")
            key = stored[index]
            if key.revoked_at is None:
                key = msgspec.structs.replace(key, revoked_at=values.iso(_now()))
                self._write((*stored[:index], key, *stored[index + 1 :]), data)
            record = key.record()
        return _with_use(record, self._used)

    def bootstrap(self, text: str, scope: str = "admin") -> KeyRecord:
        """Accept a key given in the configuration, as it is, for as long as this object lives; never written to disk.

        Its id and prefix are the same at every start, and tell nothing about its text. Raises errors.Invalid for an
        empty key or one with white space or control characters in it (no request could carry it).
        """
        checked = _scope(scope)
        if not text or not text.isprintable() or any(c.isspace() for c in text):
            raise errors.Invalid("the bootstrap key must be one word of printable characters")
        name = hmac.digest(self._token_key, b"gitstore bootstrap\0" + text.encode(), "sha256")
        number = int.from_bytes(name[16:])
        prefix = "k" + "".join(_BASE36[number // 36**place % 36] for place in range(7))
        record = KeyRecord(str(uuid.UUID(bytes=name[:16], version=4)), "bootstrap", checked, prefix, _now())
        with self._writing:
            self._configured[_digest(text)] = record
            self._state = self._state.with_configured(self._configured)
        return record

    def authenticate(self, presented: str, now_ms: int) -> KeyRecord:
        """Whose key (or token) this is. Raises errors.Unauthorized, with one text for unknown, revoked and expired."""
        if time.monotonic() >= self._look_at:
            self._look()
        state = self._state
        # Looked up by its SHA-256: how long that takes tells nothing about any key's text.
        digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()
        record = state.known.get(digest)
        if record is None:
            record = self._of_token(state, digest, presented, now_ms)
        if record.expires_at is not None and now_ms >= record.expires_at:
            raise errors.Unauthorized(_REFUSED)
        self._used[record.id] = now_ms
        return record

    def issue_token(self, record: KeyRecord, ttl_ms: int, now_ms: int) -> tuple[str, int]:
        """A token that `authenticate` accepts as the key until the returned time (never beyond the key's own expiry).

        Nothing is stored: the token names the key and the time, signed. It dies with its key. Raises
        errors.Unauthorized if the key is no longer in force, errors.Invalid if the time to live is not positive.
        """
        if ttl_ms <= 0:
            raise errors.Invalid("a token's time to live must be positive")
        digest = next((digest for digest, key in self._state.known.items() if key.id == record.id), None)
        if digest is None or (record.expires_at is not None and now_ms >= record.expires_at):
            raise errors.Unauthorized(_REFUSED)
        expires_at = min(now_ms + ttl_ms, _NEVER if record.expires_at is None else record.expires_at)
        claim = uuid.UUID(record.id).bytes + expires_at.to_bytes(6)
        text = _TOKEN + base64.urlsafe_b64encode(claim + self._sign(claim, digest)).decode()
        return text + checksum(text), expires_at

    def flush(self) -> None:
        """Hand the last-used times (key id -> milliseconds) that changed since the last flush to the callback."""
        if self._callback is None:
            return
        changed = {key: at for key, at in list(self._used.items()) if self._flushed.get(key) != at}
        if changed:
            self._callback(changed)
            self._flushed.update(changed)

    # --- tokens ---

    def _sign(self, claim: bytes, digest: bytes) -> bytes:
        return hmac.digest(self._token_key, b"gitstore token 1\0" + claim + digest, "sha256")

    def _of_token(self, state: _State, digest: bytes, presented: str, now_ms: int) -> KeyRecord:
        checked = state.tokens.get(digest)
        if checked is None:
            checked = self._check_token(state, presented)
            if len(state.tokens) >= _TOKENS_KEPT:
                state.tokens.clear()
            state.tokens[digest] = checked
        record, expires_at = checked
        if now_ms >= expires_at:
            raise errors.Unauthorized(_REFUSED)
        return record

    def _check_token(self, state: _State, presented: str) -> tuple[KeyRecord, int]:
        body = presented.removeprefix(_TOKEN)[:-6]
        if not is_token(presented) or not presented.isascii() or len(body) != _TOKEN_BYTES * 4 // 3:
            raise errors.Unauthorized(_REFUSED)
        try:
            data = base64.b64decode(body, altchars=b"-_", validate=True)
        except ValueError:
            raise errors.Unauthorized(_REFUSED) from None
        claim, signature = data[:22], data[22:]
        key_id = str(uuid.UUID(bytes=claim[:16]))
        for digest, record in state.known.items():
            if record.id == key_id and hmac.compare_digest(self._sign(claim, digest), signature):
                return record, int.from_bytes(claim[16:])
        raise errors.Unauthorized(_REFUSED)

    # --- the file ---

    @property
    def _lock_path(self) -> Path:
        return self._path.with_name(f"{self._path.name}.lock")

    def _look(self) -> None:
        """Take in what another process did to the file.

        A file that cannot be read becomes `problem`: the keys that were last read stay in force, for otherwise a slip
        of the editor would lock everybody out.
        """
        self._look_at = time.monotonic() + _LOOK_EVERY
        # The lock keeps the order: what is read here must not replace what a writer puts in force meanwhile. A writer
        # reads the file itself, so nobody waits for one here.
        if not self._writing.acquire(blocking=False):
            return
        try:
            with _storage(self._path):
                if self._signature is None or _signature(self._path) != self._signature:
                    self._load()
        except errors.GitstoreError as problem:
            self.problem = problem
        finally:
            self._writing.release()

    def _load(self) -> None:
        signature = _signature(self._path)
        self._take(self._read()[0], signature)

    def _read(self) -> tuple[tuple[_Stored, ...], bytes | None]:
        """The stored keys, and the bytes of the file (None: no file yet)."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return (), None
        if data != self._last[0] or not data:
            self._last = data, _parse(data, self._path)
        return self._last[1], data

    def _write(self, stored: Sequence[_Stored], old: bytes | None) -> None:
        value = {"format": FORMAT, "keys": [msgspec.to_builtins(key) for key in stored]}
        # The remarks that a person wrote into the file stay.
        write_private(self._path, documents.dump(value) if old is None else documents.edit(old, value))
        self._take(stored, _signature(self._path))

    def _take(self, stored: Sequence[_Stored], signature: tuple[int, ...] | None) -> None:
        # A file changed within the clock's last tick (2 seconds at worst) could change again and look the same.
        settled = signature is None or time.time_ns() - signature[0] > 2_000_000_000
        self._signature = (signature or ()) if settled else None
        self._look_at = time.monotonic() + _LOOK_EVERY
        listed = tuple(sorted((key.record() for key in stored), key=lambda key: (key.created_at, key.id)))
        valid = {bytes.fromhex(key.hash): key.record() for key in stored if key.revoked_at is None}
        self._state = _State(valid, listed, {}).with_configured(self._configured)
        self.problem = None


def allows(have: str, need: str) -> bool:
    """Whether a key of scope `have` may do what asks for `need`: agent < worker < admin < service."""
    return _RANK[have] >= _RANK[need]


def is_token(presented: str) -> bool:
    """Whether this has the form of a token that `Keys.issue_token` made, rather than of a key."""
    return presented.startswith(_TOKEN)


class _State:
    """What is in force: replaced as a whole, so that a reader never sees half a change, nor a token of a dead key."""

    __slots__ = ("known", "listed", "stored", "tokens")

    def __init__(
        self,
        stored: dict[bytes, KeyRecord],
        listed: tuple[KeyRecord, ...],
        configured: Mapping[bytes, KeyRecord],
    ) -> None:
        self.stored = stored
        self.listed = listed
        self.known = {**stored, **configured}
        self.tokens: dict[bytes, tuple[KeyRecord, int]] = {}

    def with_configured(self, configured: Mapping[bytes, KeyRecord]) -> _State:
        return _State(self.stored, self.listed, configured)


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    """One key in the file; times in ISO 8601, for people. `hash` is the SHA-256 of the key's text, in hex: the text has
    178 random bits, so that no slow hash is needed."""

    id: str
    name: str
    scope: Scope
    prefix: str
    hash: str
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None

    @classmethod
    def of(cls, record: KeyRecord, digest: bytes) -> _Stored:
        expires_at = None if record.expires_at is None else values.iso(record.expires_at)
        created_at = values.iso(record.created_at)
        return cls(record.id, record.name, record.scope, record.prefix, digest.hex(), created_at, expires_at)

    def record(self) -> KeyRecord:
        return KeyRecord(
            self.id,
            self.name,
            self.scope,
            self.prefix,
            values.parse_iso(self.created_at),
            None if self.expires_at is None else values.parse_iso(self.expires_at),
            None,
            None if self.revoked_at is None else values.parse_iso(self.revoked_at),
        )


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    keys: tuple[_Stored, ...]


def _parse(data: bytes, path: Path) -> tuple[_Stored, ...]:
    try:
        value = documents.load(data, path.name)
        if isinstance(value, dict) and isinstance(value.get("format"), int) and value["format"] > FORMAT:
            raise errors.FormatUnknown(f"{path} was written by a newer release of gitstore")
        stored = msgspec.convert(value, _File).keys
        for key in stored:
            key.record()
            uuid.UUID(key.id)
            if len(bytes.fromhex(key.hash)) != 32:
                raise ValueError(f"the hash of key {key.id} is not a SHA-256")
        for what in ("id", "prefix", "hash"):
            if len({getattr(key, what) for key in stored}) < len(stored):
                raise ValueError(f"two keys have the same {what}")
    except (errors.Invalid, errors.Malformed, ValueError) as error:
        raise errors.Damaged(
            f"{path} cannot be read: {error}. Mend it, or restore it from a backup; it was not changed"
        ) from error
    return stored


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Tells a refusing disk from a fault of the request."""
    try:
        yield
    except OSError as error:
        raise errors.StorageFailed(f"{path} cannot be used: {error.strerror or error}") from error


def _with_use(record: KeyRecord, used: Mapping[str, int]) -> KeyRecord:
    return msgspec.structs.replace(record, last_used_at=used.get(record.id))


def _signature(path: Path) -> tuple[int, ...] | None:
    """What changes whenever the file does; None: no file."""
    try:
        about = os.stat(path)
    except FileNotFoundError:
        return None
    return about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_size


def _scope(scope: str) -> Scope:
    if scope not in _RANK:
        raise errors.Invalid(f"unknown scope {scope!r}; use one of {', '.join(_SCOPES)}")
    return cast(Scope, scope)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _random_prefix() -> str:
    return "k" + "".join(random.choice(_BASE36) for _ in range(7))


def _now() -> int:
    return time.time_ns() // 1_000_000
