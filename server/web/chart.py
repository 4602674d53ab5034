"""Pictures of activity, drawn here as SVG: a line for lists, and bars a day by door that can be clicked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from markupsafe import Markup

from server.web import words

DOORS = ("api", "git", "disk", "cli")
_HEIGHT = 96
_STEP, _GAP = 10, 2


class Day(msgspec.Struct):
    """The changes of one day, by door; `start` in ms."""

    start: int
    doors: dict[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.doors.values())


def days(counted: Mapping[tuple[int, str], int], first: int, last: int) -> list[Day]:
    """Every day from `first` to `last` (numbers of days since 1970), the empty ones too."""
    found = [Day(number * words.DAY, {}) for number in range(first, last + 1)]
    for (number, door), count in counted.items():
        if first <= number <= last:
            found[number - first].doors[door] = found[number - first].doors.get(door, 0) + count
    return found


def sparkline(counts: Sequence[int], label: str) -> Markup:
    """A small area; its label says in words what it shows."""
    width, height, most = 4 * (len(counts) - 1), 22, max(counts, default=0)
    points = [
        f"{4 * at},{height - 1 - (count * (height - 4) / most if most else 0):.1f}" for at, count in enumerate(counts)
    ]
    text = '<svg class="spark" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{label}">'
    head = Markup(text).format(w=width, h=height, label=label)  # noqa: S704  (a constant, its values are escaped)
    line = " ".join(points)
    area = f'<polygon points="0,{height} {line} {width},{height}"/><polyline points="{line}"/>'
    return head + Markup(area) + Markup("</svg>")  # noqa: S704  (numbers alone)


def bars(found: Sequence[Day], link: Callable[[str], str], chosen: str | None) -> Markup:
    """One bar a day, its parts by door; each day with changes is a link to them."""
    most = max((day.total for day in found), default=0) or 1
    width = _STEP * len(found)
    parts = [
        Markup(
            '<svg class="bars" viewBox="0 0 {} {}" preserveAspectRatio="none" role="group" aria-label="Changes a day">'
        ).format(width, _HEIGHT)
    ]
    for at, day in enumerate(found):
        left, date = at * _STEP, words.date(day.start)
        if not day.total:
            parts.append(Markup('<rect class="none" x="{}" y="{}" width="{}" height="1"/>').format(
                left, _HEIGHT - 1, _STEP - _GAP))  # fmt: skip
            continue
        told = ", ".join(f"{day.doors[door]:,} {words.door(door)}" for door in DOORS if day.doors.get(door))
        title = f"{words.day(day.start)}: {words.count(day.total, 'change')} ({told})"
        parts.append(Markup('<a href="{}" aria-label="{}"{}><title>{}</title>').format(
            link(date), title, Markup(' class="chosen"') if date == chosen else "", title))  # fmt: skip
        parts.append(Markup('<rect class="reach" x="{}" y="0" width="{}" height="{}"/>').format(left, _STEP, _HEIGHT))
        parts.extend(_stack(day, left, max(4.0, (_HEIGHT - 4) * day.total / most)))
        parts.append(Markup("</a>"))
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _stack(day: Day, left: int, height: float) -> list[Markup]:
    parts, foot = [], float(_HEIGHT)
    for door in DOORS:
        if count := day.doors.get(door, 0):
            part = height * count / day.total
            foot -= part
            parts.append(Markup('<rect class="{}" x="{}" y="{:.2f}" width="{}" height="{:.2f}"/>').format(
                door, left, foot, _STEP - _GAP, part))  # fmt: skip
    return parts
