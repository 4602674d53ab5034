"""Answers of the probes."""

from __future__ import annotations

from typing import Literal

import msgspec


class Health(msgspec.Struct):
    """The server's state in one word."""

    status: Literal["ok"]
    version: str
