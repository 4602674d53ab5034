"""If-Match and If-None-Match (RFC 9110 §13.1): parsed once, checked inside the lock that guards the write."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gitstore.errors import Malformed, PreconditionFailed

# One element of the list and the comma after it; an element may be empty (RFC 9110 §5.6.1.2).
_TAG = re.compile(r'[ \t]*(?:(W/)?"([!#-~\x80-\U0010ffff]*)"[ \t]*)?(?:,|\Z)')


@dataclass(frozen=True, slots=True)
class Precondition:
    """What a client demands of the current state. Tags are without quotes; a weak one keeps its `W/`; `*` is any."""

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None

    def check(self, current: str | None) -> None:
        """Raises PreconditionFailed unless the resource with this ETag (None: there is none) is what was demanded.

        If-Match compares strongly: a weak tag never matches. If-None-Match compares weakly.
        """
        if self.if_match is not None and (
            current is None or ("*" not in self.if_match and current not in self.if_match)
        ):
            what = "it does not exist" if current is None else "it was changed since"
            raise PreconditionFailed(f"If-Match does not hold: {what}. Read it again, then repeat", current=current)
        if self.if_none_match is not None and current is not None:
            tags = {tag.removeprefix("W/") for tag in self.if_none_match}
            if "*" in tags or current in tags:
                raise PreconditionFailed("If-None-Match does not hold: it exists already", current=current)


NONE = Precondition()


def parse(if_match: str | None, if_none_match: str | None) -> Precondition:
    """The precondition two headers state. Raises Malformed for what is no list of entity tags."""
    if if_match is None and if_none_match is None:
        return NONE
    return Precondition(_tags("If-Match", if_match), _tags("If-None-Match", if_none_match))


def _tags(header: str, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    if text.strip() == "*":
        return ("*",)
    tags, at = [], 0
    while at < len(text):
        match = _TAG.match(text, at)
        if match is None:
            raise Malformed(f'{header} must be `*` or a list of entity tags in double quotes, like "abc", "def"')
        weak, tag = match.groups()
        if tag is not None:
            # A strong tag that looks like `*` or like a weak one keeps its quotes, so that it is not taken for that.
            tags.append(f"W/{tag}" if weak else f'"{tag}"' if tag == "*" or tag.startswith("W/") else tag)
        at = match.end()
    if not tags:
        raise Malformed(f"{header} is empty")
    return tuple(tags)
