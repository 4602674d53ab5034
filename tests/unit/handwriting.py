"""Lays a value out as a person might: comments, blank lines, quotes, brackets, blocks, any indentation."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from hypothesis import strategies as st

TRICKY = [
    *(
        "NO",
        "no",
        "on",
        "y",
        "null",
        "~",
        "true",
        "TRUE",
        "1",
        "1e3",
        "012",
        "0x1F",
        "0o17",
        "12:30",
        "12:30:45",
        "1_000",
    ),
    *(
        "2026-01-01",
        "2026-11-24T03:00:00.000Z",
        "=",
        "<<",
        "- a",
        "# x",
        "a: b",
        "a:",
        "a #b",
        "a#b",
        ".5",
        "1.",
        "+1",
        "-",
    ),
    *(
        ".inf",
        "-.inf",
        ".nan",
        "?",
        "? a",
        "!tag",
        "&a",
        "*a",
        "|",
        ">",
        "%YAML 1.1",
        "---",
        "...",
        "@x",
        "`x",
        "{a}",
        "[a",
    ),
    *(
        "trailing  ",
        " leading",
        "a\tb",
        "\ta",
        "tab\t",
        "x\x85y",
        "x\u2028y",
        "x\u2029y",
        "\ufeffbom",
        "b\ufeffom",
        "a\r\nb",
    ),
    *(
        "a\nb",
        "a\nb\n",
        "a\n\nb\n",
        "a\nb\n\n",
        "\na",
        "\n",
        "  a\nb",
        "a\n  b\n",
        "a \nb",
        "a\n \nb\n",
        "a\n# b\n",
        "a\n\tb\n",
    ),
    *(
        "a\n---\nb",
        "",
        "'",
        '"',
        "it's",
        'say "x"',
        "\\",
        "C:\\x",
        "\x01",
        "\x7f",
        "\u202eevil",
        "é",
        "日本語",
        "🙂",
        "👨‍👩‍👧",
    ),
    *(
        "\ue000",
        "\uffff",
        "\U0010ffff",
        "x" * 1030,
        "y " * 600,
        "4Gi",
        "1.2.3",
        "0b1",
        "1e5",
        "1E5x",
        "a, b",
        "a]",
        "http://x/y#z",
    ),
]

texts = st.one_of(
    st.sampled_from(TRICKY),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.text("ab \n\t#:-'\"{}[],\r", max_size=12),
)
numbers = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0, 1, 1.0, -0.0, 10**400])
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal with the types of numbers, the sign of zero and the order of keys."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


class Hand:
    """A person with habits, drawn from a random source; `remarks` numbers the comments, so that each can be found."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.remarks = 0
        self.step = source.choice([1, 2, 2, 4])
        self.dash = source.choice([0, 2, 2])
        self.quiet = source.random() < 0.2

    def chance(self, share: float) -> bool:
        return self.source.random() < share

    def remark(self) -> str:
        self.remarks += 1
        return f"# remark {self.remarks}." + self.source.choice(["", " a: b", " - c", " 🙂 'x", ' "'])

    def document(self, value: Any) -> str:
        lines: list[str] = []
        if self.chance(0.3):
            lines += [self.remark(), *([""] if self.chance(0.5) else [])]
        if self.chance(0.1):
            lines += ["---"]
        if isinstance(value, (dict, list)) and value and not self.chance(0.1):
            lines += self.block(value, 0)
        elif isinstance(value, str) and (block := self.literal(value, 2)) is not None:
            lines += block
        else:
            lines += [self.bracket(value) + self.side()]
        if self.chance(0.2):
            lines += ["", self.remark()] if lines[-1] else [self.remark()]
        text = "\n".join(lines) + "\n"
        if self.chance(0.2) and not re.search(r"[|][+]?(?: +#.*)?\n(?:[ ].*\n|\n)*$", text):
            text = text[:-1]
        if self.chance(0.2):
            text = text.replace("\n", "\r\n")
        return ("\ufeff" if self.chance(0.1) else "") + text

    def side(self) -> str:
        return " " * self.source.randint(1, 3) + self.remark() if not self.quiet and self.chance(0.2) else ""

    def above(self, indent: int) -> list[str]:
        lines = []
        if self.chance(0.15):
            lines += [""]
        if not self.quiet and self.chance(0.25):
            lines += [" " * indent + self.remark()]
            if self.chance(0.2):
                lines += [""]
        return lines

    def block(self, value: Any, indent: int) -> list[str]:
        lines: list[str] = []
        pad = " " * indent
        pairs = value.items() if isinstance(value, dict) else [(None, item) for item in value]
        for key, item in pairs:
            above = self.above(indent)
            lines += above[1:] if lines[-1:] == [""] == above[:1] else above  # a blank line would belong to `|+`
            if key is not None:
                name = self.scalar(key, key=True)
                start = f"{pad}? {name}\n{pad}:" if len(name) > 900 or self.chance(0.02) else f"{pad}{name}:"
                deep = indent + (self.dash if isinstance(item, list) else self.step)
            else:
                start = f"{pad}-"
                deep = indent + 2
            literal = False
            if isinstance(item, (dict, list)) and item and not self.chance(0.3):
                below = self.block(item, deep)
                if key is None and below[0].strip() and not below[0].strip().startswith("#") and self.chance(0.8):
                    lines += [start + " " + below[0][deep:], *below[1:]]
                else:
                    lines += [start + self.side(), *below]
                literal = "|" in "".join(below)
            elif (
                isinstance(item, str)
                and self.chance(0.6)
                and (block := self.literal(item, deep + (deep == indent))) is not None
            ):
                lines += [start + " " + block[0], *block[1:]]
                literal = True
            elif item is None and self.chance(0.5):
                lines += [start + self.side()]
            else:
                gap = " " * self.source.choice([1, 1, 1, 3])
                lines += [start + gap + self.bracket(item, indent + 1) + self.side()]
            if not self.quiet and not literal and self.chance(0.05):
                lines += [pad + "   " + self.remark()]
        return lines

    def bracket(self, value: Any, indent: int = 1) -> str:
        if not isinstance(value, (dict, list)):
            return self.scalar(value)
        open_, close = "{}" if isinstance(value, dict) else "[]"
        parts = []
        for item in value:
            part = self.bracket(value[item], indent + 1) if isinstance(value, dict) else self.bracket(item, indent + 1)
            if isinstance(value, dict):
                name = self.scalar(item, key=True)
                part = ("? " if len(name) > 900 else "") + name + ": " + part
            parts.append(part)
        if not parts:
            return open_ + close
        if self.chance(0.3):
            pad = "\n" + " " * (indent + 1)
            out = open_ + self.side()
            for number, part in enumerate(parts):
                comma = "," if number < len(parts) - 1 or self.chance(0.5) else ""
                out += pad + part + comma + self.side()
            return out + "\n" + " " * indent + close
        return open_ + self.source.choice(["", " "]) + ", ".join(parts) + self.source.choice(["", " ", ", "]) + close

    def literal(self, value: str, indent: int) -> list[str] | None:
        if not re.fullmatch(r"[!-~][ -~\n]*", value) or "\n" not in value:
            return None
        body = value.rstrip("\n")
        tail = len(value) - len(body)
        if re.search(r"(?m)^ +$", body):
            return None
        head = "|" + ("-", "", "+")[min(tail, 2)]
        lines = [" " * indent + line if line else "" for line in body.split("\n")]
        return [head + self.side(), *lines, *[""] * max(0, tail - 1)]

    def scalar(self, value: Any, *, key: bool = False) -> str:
        if isinstance(value, str):
            return self.text(value)
        if value is None:
            return self.source.choice(["null", "~", "Null"])
        if isinstance(value, bool):
            return self.source.choice([str(value), str(value).lower(), str(value).upper()])
        if isinstance(value, int):
            return self.source.choice([str(value), f"0x{value:X}" if value >= 0 else str(value)])
        return repr(value)

    def text(self, value: str) -> str:
        ways = [
            json.dumps(value, ensure_ascii=False).translate(
                {
                    0x7F: "\\x7f",
                    0xFEFF: "\\ufeff",
                    0xFFFE: "\\ufffe",
                    0xFFFF: "\\uffff",
                    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0) if code != 0x85},
                }
            )
        ]
        if re.fullmatch(r"[ -~é日🙂]+", value):
            ways.append("'" + value.replace("'", "''") + "'")
        if re.fullmatch(r"[A-Za-z]([A-Za-z0-9 /_-]*[A-Za-z0-9])?", value) and value.lower() not in (
            "true",
            "false",
            "null",
        ):
            ways += [value] * 4
        return self.source.choice(ways)


@st.composite
def documents(draw: st.DrawFn, what: st.SearchStrategy[Any] = values) -> tuple[str, Any]:
    """A hand-written text and the value in it."""
    value = draw(what)
    return Hand(draw(st.randoms(use_true_random=False))).document(value), value


def changed(source: random.Random, value: Any, fresh: Any) -> Any:
    """A copy of the value with something replaced, added, removed or moved somewhere inside."""
    if isinstance(value, dict) and value and source.random() < 0.9:
        key = source.choice(list(value))
        way = source.randrange(6)
        if way == 0:
            return {name: item for name, item in value.items() if name != key}
        if way == 1:
            items = list(value.items())
            items.insert(source.randint(0, len(items)), ("fresh key", fresh))
            return dict(items)
        if way == 2:
            items = list(value.items())
            source.shuffle(items)
            return dict(items)
        return {name: changed(source, item, fresh) if name == key else item for name, item in value.items()}
    if isinstance(value, list) and value and source.random() < 0.9:
        at = source.randrange(len(value))
        way = source.randrange(4)
        if way == 0:
            return value[:at] + value[at + 1 :]
        if way == 1:
            return [*value[:at], fresh, *value[at:]]
        return [changed(source, item, fresh) if place == at else item for place, item in enumerate(value)]
    return fresh
