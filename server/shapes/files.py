"""Bodies, queries and answers of files."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from server.shapes.common import At, PageNumber, PageSize, Shape, Text255, Time

FileKey = Annotated[str, Meta(min_length=1, max_length=120)]
Base64 = Annotated[
    str, Meta(description="RFC 4648; white space is allowed", extra_json_schema={"contentEncoding": "base64"})
]


class UploadFile(Shape):
    """A file; the same key again replaces its content."""

    file_name: Text255
    content_base64: Base64
    content_type: Text255 | None = None
    description: Annotated[str, Meta(max_length=2000)] | None = None
    key: FileKey | None = None


class WriteFile(Shape):
    """What is said of a file whose content is the body; what is left out stays as it is."""

    file_name: Text255 | None = None
    content_type: Text255 | None = None
    description: Annotated[str, Meta(max_length=2000)] | None = None


class FileFields(WriteFile):
    """The fields of a file whose content comes apart from them. `file_name` is for the handler to judge."""

    key: FileKey | None = None


class UploadFiles(Shape):
    """Several files in one commit, all or none. How many is a setting; too many is refused by the handler."""

    files: Annotated[list[UploadFile], Meta(min_length=1)]


class ListFiles(Shape):
    """Which files; all of them unless `per_page` or `page` is given."""

    q: str | None = None
    at: At | None = None
    page: PageNumber | None = None
    per_page: PageSize | None = None


class ReadFile(Shape):
    """Which content; the current one by default."""

    at: At | None = None
    version: int | None = None

    def faults(self) -> list[tuple[str, str]]:
        """They may contradict each other."""
        return [("/at", "give either `at` or `version`")] if None not in (self.at, self.version) else []


class File(msgspec.Struct):
    """A file's record."""

    id: str
    workspace_id: str
    key: str
    description: str | None
    file_name: str
    content_type: str
    size_bytes: int
    checksum_sha256: str
    created_at: Time
    updated_at: Time
    version: int
    download_url: str
