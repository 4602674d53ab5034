"""A host that says whatever a test wants, and the check of it, which must never show the token."""

import base64
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from gitstore.addresses import AddressPolicy
from gitstore.remotes import AccessReport, verify_access

PUBLIC = AddressPolicy()
HERE = AddressPolicy(allow=("127.0.0.0/8",))
TOKEN = "tok-9fQ2mZx7Lk4Vw1"
OID = b"1234567890abcdef1234567890abcdef12345678"
ADVERTISED = "application/x-git-upload-pack-advertisement"


def check(url: str, branch: str | None = "main", token: str | None = None, **options: object) -> AccessReport:
    options.setdefault("policy", HERE)
    report = verify_access(url, branch=branch, token=token, **options)  # type: ignore[arg-type]
    for secret in filter(None, (token, token and base64.b64encode(f"x-access-token:{token}".encode()).decode())):
        assert secret not in repr(report)
    return report


class Listener:
    """A listener on 127.0.0.1 that runs `speak` for each connection and keeps what it received."""

    def __init__(self, speak: Callable[[socket.socket], None]) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/repo.git"
        self.connections = 0
        self.received = b""
        self.done = threading.Event()
        self._speak = speak
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            if self.done.is_set():
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            request = b""
            while b"\r\n\r\n" not in request and (data := connection.recv(65536)):
                request += data
                self.received += data
            self._speak(connection)

    def close(self) -> None:
        self.done.set()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            pass
        self._accepting.join()
        self.socket.close()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def listening() -> Iterator[Callable[..., Listener]]:
    """Gives a function that starts listeners, which are all stopped in the end."""
    made: list[Listener] = []

    def start(speak: Callable[[socket.socket], None] = lambda _: None) -> Listener:
        made.append(Listener(speak))
        return made[-1]

    yield start
    for listener in made:
        listener.close()


def answer(body: bytes, *, status: str = "200 OK", headers: tuple[str, ...] = (), sized: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {ADVERTISED}", *headers]
    if sized:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def packet(text: bytes) -> bytes:
    return b"%04x" % (len(text) + 4) + text


def says(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def advert(*lines: bytes) -> bytes:
    return packet(b"# service=git-upload-pack\n") + b"0000" + b"".join(map(packet, lines)) + b"0000"


GOOD = answer(advert(OID + b" HEAD\0symref=HEAD:refs/heads/main\n", OID + b" refs/heads/main\n"))
SERVICE = packet(b"# service=git-upload-pack\n") + b"0000"
