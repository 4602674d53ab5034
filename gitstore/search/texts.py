"""Which content is text, and how much of it search takes."""

from __future__ import annotations

import re

TEXT_MAX = 256 * 1024
_TEXT_TYPES = re.compile(
    r"text/.*|application/(?:.*\+)?(?:json|yaml|xml|toml|sql)|image/svg\+xml"
    r"|application/(?:x-yaml|x-ndjson|ndjson|jsonl|x-sh|javascript|x-tex)|message/.*"
)


def text_of(content_type: str, data: bytes) -> str | None:
    """The text of an artifact that search indexes: the first 256 KiB of a text type in UTF-8; None for all else."""
    if not _TEXT_TYPES.fullmatch(content_type.split(";", 1)[0].strip().lower()):
        return None
    head = data[:TEXT_MAX]
    for cut in range(4 if len(data) > TEXT_MAX else 1):  # a character may straddle the limit
        try:
            return head[: len(head) - cut].decode().removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    return None
