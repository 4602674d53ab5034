"""Every error the library raises on purpose, as one tree.

    GitstoreError
    ├── Malformed             MALFORMED_REQUEST         400   bytes that are not what they claim to be
    ├── Invalid               VALIDATION_ERROR          400   well-formed, but breaks a rule of the domain
    │   └── SecretFound       VALIDATION_ERROR          400   text that is certainly a credential
    ├── WrongShape            SCHEMA_VALIDATION_FAILED  422   a body or query of the wrong shape, all faults at once
    ├── Unauthorized          UNAUTHORIZED              401
    ├── Forbidden             FORBIDDEN                 403
    ├── NotFound              NOT_FOUND                 404
    ├── Conflict              CONFLICT                  409
    ├── PreconditionFailed    PRECONDITION_FAILED       412   `details.current` is the current ETag
    ├── TooLarge              PAYLOAD_TOO_LARGE         413
    ├── UnsupportedType       UNSUPPORTED_MEDIA_TYPE    415
    ├── RateLimited           RATE_LIMITED              429
    ├── Unavailable           SERVICE_UNAVAILABLE       503   try again later; nothing is wrong with the request
    │   ├── Away              SERVICE_UNAVAILABLE       503   the search process is not there now
    │   ├── StoreBusy         SERVICE_UNAVAILABLE       503   another process holds the store
    │   ├── TooSlow           SERVICE_UNAVAILABLE       503   a search past its time limit
    │   └── StorageFailed     SERVICE_UNAVAILABLE       503   the disk refused; the change was not acknowledged
    └── Damaged               INTERNAL_ERROR            500   the repository contradicts itself
        └── FormatUnknown     INTERNAL_ERROR            500   written by a newer release

`code` and `status_hint` are facts of the HTTP contract; a caller without HTTP can ignore the hint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class GitstoreError(Exception):
    """The root; raised only through its subclasses. `details` is JSON data for the caller's program."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    status_hint: ClassVar[int] = 500

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None) -> None:
        if type(self) is GitstoreError:
            raise TypeError("raise a subclass of GitstoreError")
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] | None = details


class Malformed(GitstoreError):
    """The bytes are not what they claim to be: not JSON, not UTF-8, nested too deep."""

    code = "MALFORMED_REQUEST"
    status_hint = 400


class Invalid(GitstoreError):
    """Well-formed, but against a rule of the domain."""

    code = "VALIDATION_ERROR"
    status_hint = 400


class SecretFound(Invalid):
    """Text that is certainly a credential stands where git would keep it for ever."""


class WrongShape(GitstoreError):
    """The shape is wrong; `faults` is every (JSON pointer, text) found."""

    code = "SCHEMA_VALIDATION_FAILED"
    status_hint = 422

    def __init__(
        self, faults: list[tuple[str, str]], message: str = "the request does not have the expected shape"
    ) -> None:
        fields: dict[str, list[str]] = {}
        form: list[str] = []
        for pointer, text in faults:
            if top := pointer.lstrip("/").split("/", 1)[0].replace("~1", "/").replace("~0", "~"):
                fields.setdefault(top, []).append(text)
            else:
                form.append(text)
        super().__init__(
            message,
            details={
                "issues": {"formErrors": form, "fieldErrors": fields},
                "errors": [{"pointer": pointer, "message": text} for pointer, text in faults],
            },
        )
        self.faults = faults


class Unauthorized(GitstoreError):
    """No valid key."""

    code = "UNAUTHORIZED"
    status_hint = 401


class Forbidden(GitstoreError):
    """The key's scope is too weak."""

    code = "FORBIDDEN"
    status_hint = 403


class NotFound(GitstoreError):
    """Nothing has this name."""

    code = "NOT_FOUND"
    status_hint = 404


class Conflict(GitstoreError):
    """The name is taken, something depends on it, or somebody else changed it first."""

    code = "CONFLICT"
    status_hint = 409


class PreconditionFailed(GitstoreError):
    """`If-Match` or `If-None-Match` does not hold."""

    code = "PRECONDITION_FAILED"
    status_hint = 412

    def __init__(self, message: str, *, current: str | None) -> None:
        super().__init__(message, details={"current": current})
        self.current = current


class TooLarge(GitstoreError):
    """Over a limit that the message names."""

    code = "PAYLOAD_TOO_LARGE"
    status_hint = 413


class UnsupportedType(GitstoreError):
    """A media type that this route does not read."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status_hint = 415


class RateLimited(GitstoreError):
    """Too many requests; `retry_after` is in seconds."""

    code = "RATE_LIMITED"
    status_hint = 429

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, details={"retry_after": retry_after})
        self.retry_after = retry_after


class Unavailable(GitstoreError):
    """Not now; the same request may succeed later."""

    code = "SERVICE_UNAVAILABLE"
    status_hint = 503


class Away(Unavailable):
    """The search process is not there now; another way to the answer may be."""


class StoreBusy(Unavailable):
    """Another process holds the store's lock."""


class TooSlow(Unavailable):
    """A search took longer than one may; a narrower one may get through."""


class StorageFailed(Unavailable):
    """The disk refused a write; nothing was acknowledged."""


class Damaged(GitstoreError):
    """What is on disk contradicts itself; `gitstore verify` says where."""


class FormatUnknown(Damaged):
    """The data folder was written by a newer release."""
