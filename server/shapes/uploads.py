"""Answers about resumable uploads."""

from __future__ import annotations

from typing import Literal

import msgspec

from server.shapes.common import Time


class ResumableUpload(msgspec.Struct):
    """An upload: `offset` of its `length` bytes have arrived; `resource` is the address of what was made of them."""

    id: str
    workspace_id: str
    kind: Literal["artifact", "file"]
    length: int
    offset: int
    created_at: Time
    expires_at: Time
    resource: str | None
