"""Which browser origins may call, and what they may see (the Fetch standard's CORS protocol). None by default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_HEADERS = (
    "Authorization, Content-Type, If-Match, If-None-Match, If-Modified-Since, Range, "
    "X-Request-Id, X-Workflow-Id, X-Task-Id, Repr-Digest, Content-Digest, Content-MD5, Tus-Resumable, Upload-Length, "
    "Upload-Metadata, Upload-Offset, Upload-Checksum, X-HTTP-Method-Override"
)
_EXPOSED = (
    "ETag, Link, X-Request-Id, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "
    "Content-Disposition, Content-Range, Digest, Repr-Digest, Last-Modified, Location, Tus-Resumable, Tus-Version, "
    "Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, Upload-Offset, Upload-Length, Upload-Metadata, "
    "Upload-Expires, Gitstore-Resource"
)


class Cors:
    """The header lines for an origin. Credentials are never allowed: keys travel in a header, not in cookies."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)
        self._any = "*" in self._origins
        self.on = bool(self._origins)

    def _origin(self, origin: str | None) -> str | None:
        if origin is None:
            return None
        if self._any:
            return "*"
        return origin if origin in self._origins else None

    def answer(self, origin: str | None) -> bytes:
        """Lines for an ordinary answer. `Vary` is there for every request, so that caches keep origins apart."""
        allowed = self._origin(origin)
        vary = b"" if self._any else b"Vary: Origin\r\n"
        if allowed is None:
            return vary
        return (
            vary + f"Access-Control-Allow-Origin: {allowed}\r\nAccess-Control-Expose-Headers: {_EXPOSED}\r\n".encode()
        )

    def preflight(self, headers: Mapping[str, str], allow: Iterable[str]) -> bytes:
        """Lines for OPTIONS: the preflight's answer if it is one and the origin may call, else none."""
        origin = headers.get("Origin")
        if self._origin(origin) is None or "Access-Control-Request-Method" not in headers:
            return self.answer(origin) if self.on else b""
        return (
            self.answer(origin)
            + (
                f"Access-Control-Allow-Methods: {', '.join(allow)}\r\n"
                f"Access-Control-Allow-Headers: {_HEADERS}\r\n"
                "Access-Control-Max-Age: 600\r\n"
            ).encode()
        )
