"""How times, sizes and names are said on the pages. Every time is told in UTC, as the API and git logs here do."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from markupsafe import Markup, escape

from gitstore import names, values
from gitstore.model import ChangedPath

DAY = 86_400_000
_LONG = 21 * DAY
_UNITS = (
    (31_536_000, "year"),
    (2_592_000, "month"),
    (604_800, "week"),
    (86_400, "day"),
    (3600, "hour"),
    (60, "minute"),
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
_DOORS = {"api": "API", "git": "git push", "disk": "folder", "cli": "command line"}


def now() -> int:
    """ms since 1970."""
    return time.time_ns() // 1_000_000


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(min(max(ms, -62_135_596_800_000), 253_402_300_799_000) / 1000, UTC)


def exact(ms: int) -> str:
    """`24 Nov 2026, 09:31:07 UTC`."""
    at = _moment(ms)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M:%S} UTC"


def ago(ms: int, now_: int | None = None) -> str:
    """`3 hours ago`, `just now`, `in 2 days`."""
    seconds = ((now() if now_ is None else now_) - ms) // 1000
    for size, word in _UNITS:
        count = abs(seconds) // size
        if count:
            text = f"{count} {word}{'s' if count > 1 else ''}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "just now"


def _tag(ms: int, text: str) -> Markup:
    return Markup(f'<time datetime="{values.iso(ms)}" title="{exact(ms)}">{text}</time>')  # noqa: S704  (digits)


def when(ms: int) -> Markup:
    """A time, told as how long ago or, if that is weeks, by its day; the exact one on hovering and to programs."""
    return _tag(ms, ago(ms) if abs(now() - ms) < _LONG else date(ms))


def clock(ms: int) -> Markup:
    """The time of day alone, where the day stands above."""
    return _tag(ms, f"{_moment(ms):%H:%M}")


def stamp(ms: int) -> Markup:
    """The exact time."""
    return _tag(ms, exact(ms))


def date(ms: int) -> str:
    """`2026-11-24`."""
    return f"{_moment(ms):%Y-%m-%d}"


def day(ms: int) -> str:
    """`Tue 24 Nov 2026`."""
    at = _moment(ms)
    return f"{_DAYS[at.weekday()]} {at.day} {_MONTHS[at.month - 1]} {at.year}"


def size(count: int) -> str:
    """`1.2 MiB`."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{count} byte{'' if count == 1 else 's'}" if unit == "bytes" else f"{amount:.1f} {unit}"


def count(number: int, word: str, more: str | None = None) -> str:
    """`1 change`, `12,304 changes`."""
    return f"{number:,} {word if number == 1 else more or word + 's'}"


def coded(text: str) -> Markup:
    """A message whose `names` stand between backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(one) if at % 2 else one for at, one in enumerate(parts))


def short(commit: str) -> str:
    """The first digits of a commit, as git shows them."""
    return commit[:8]


def touched(changes: Iterable[ChangedPath]) -> list[tuple[str, str]]:
    """(what was done, to what) of the paths that a commit changed, each thing once and by the name people know."""
    found: dict[str, str] = {}
    for one in changes:
        if one.part == "artifact":
            name = names.artifact_name(one.path.rsplit("/", 1)[-1])
            if name == "artifact.yaml" and any(name != known for known in found):
                continue
            found.pop("artifact.yaml", None)
        else:
            name = one.key if one.key is not None and one.part != "file" else one.path
        found.setdefault(name, one.op)
    return [(op, name) for name, op in found.items()]


def door(name: str) -> str:
    """Through what a change came."""
    return _DOORS.get(name, name)
