"""What the store's process and the search process tell each other, and how it is framed on the socket.

A frame is its length (4 bytes, big-endian) and one message in MessagePack. Frames are handled in the order they are
sent, so that a question sees every put sent before it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gitstore.errors import Away, GitstoreError, Invalid, StorageFailed, TooSlow
from gitstore.search.documents import Document, Kind

FRAME_MAX = 1 << 30


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Anything that goes over the socket."""


# Those that change the index are numbered, from what `Begin` says on; what is not on disk yet is told again to the next
# search process when one dies.


class Begin(Message, frozen=True):
    """The first message: `number` changes are known to be on disk, and the index was lost `epoch` times."""

    number: int
    epoch: int


class Put(Message, frozen=True):
    """A document, in place of what was put under its key before."""

    workspace: str
    document: Document


class Remove(Message, frozen=True):
    """A document is there no more."""

    workspace: str
    kind: Kind
    id: str


class Forget(Message, frozen=True):
    """Nothing of a workspace is there any more."""

    workspace: str


class Mark(Message, frozen=True):
    """Everything of a branch up to a commit was put. `epoch`: how often the index had been lost by then."""

    workspace: str
    branch: str
    commit: str
    epoch: int


class Flush(Message, frozen=True):
    """Bring everything to the disk soon."""


class Renew(Message, frozen=True):
    """Begin the index anew."""


class Tell(Message, frozen=True):
    """Something that another part of the search process listens to."""

    name: str
    body: bytes


class Ask(Message, frozen=True):
    """A question to a part of the search process. `deadline` is in seconds on the system's monotonic clock."""

    number: int
    name: str
    deadline: float
    body: bytes


class Stop(Message, frozen=True):
    """Flush for so many seconds at most, then end."""

    seconds: float


class Hello(Message, frozen=True):
    """The index is open; `damage` says why these workspaces are not in it any more (None: it was begun anew).

    `found` and `id` are the ids of its state (state.State) as it was found and as it is now.
    """

    markers: dict[str, str]
    damage: str | None
    workspaces: list[str] | None
    found: str
    id: str


class Flushed(Message, frozen=True):
    """The changes up to this number are on disk."""

    number: int


class Failed(Message, frozen=True):
    """The disk refused; nothing is lost, and it is tried again."""

    text: str


class Lost(Message, frozen=True):
    """The index was damaged: nothing of these workspaces is in it any more, nor their markers; None: it is empty."""

    damage: str
    workspaces: list[str] | None
    id: str


class Answer(Message, frozen=True):
    """To an `Ask`."""

    number: int
    body: bytes


class Refusal(Message, frozen=True):
    """To an `Ask` that has no answer."""

    number: int
    code: str
    text: str

    def error(self) -> GitstoreError:
        """What is raised where it was asked."""
        return {"late": TooSlow, "invalid": Invalid, "away": Away}.get(self.code, StorageFailed)(self.text)


Change = Put | Remove | Forget | Mark
ToWorker = Begin | Put | Remove | Forget | Mark | Flush | Renew | Tell | Ask | Stop
FromWorker = Hello | Flushed | Failed | Lost | Answer | Refusal

_encoder = msgspec.msgpack.Encoder()
_pack = _encoder.encode
to_worker: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(ToWorker)
from_worker: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(FromWorker)


def frame(message: Message) -> bytes:
    """A message as it goes over the socket."""
    try:
        data = _pack(message)
    except UnicodeEncodeError:  # names of foreign origin can carry lone surrogates; nobody searches for those
        data = _pack(msgspec.convert(_sound(msgspec.to_builtins(message)), type(message)))
    return len(data).to_bytes(4, "big") + data


def _sound(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, (list, tuple)):
        return [_sound(one) for one in value]
    if isinstance(value, dict):
        return {_sound(key): _sound(one) for key, one in value.items()}
    return value


class Frames:
    """Cuts what arrives into messages."""

    def __init__(self) -> None:
        self._have = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        """More bytes."""
        if self._at > 1 << 20:
            del self._have[: self._at]
            self._at = 0
        self._have += data

    def next(self) -> memoryview | None:
        """The next whole message, to be decoded before anything else is asked; None while there is none.

        Raises ValueError where no message can be that long.
        """
        if len(self._have) - self._at < 4:
            self._rest()
            return None
        size = int.from_bytes(self._have[self._at : self._at + 4], "big")
        if size > FRAME_MAX:
            raise ValueError(f"a message of {size} bytes")
        if len(self._have) - self._at < 4 + size:
            self._rest()
            return None
        start = self._at + 4
        self._at = start + size
        return memoryview(bytes(self._have[start : self._at]))

    def _rest(self) -> None:
        if self._at == len(self._have):
            self._have.clear()
            self._at = 0
