"""Text as search sees it: folded so that case and diacritics do not matter, cut into terms; and the marking of hits.

Two texts that a reader takes for the same word give the same term. Nothing here can fail: any text is legal.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

TERM_MAX = 64
SNIPPET = 160
_LEAD = 40
_HITS_MAX = 64  # that a passage is chosen by: choosing takes the square of it
_RUN_MAX = 256

# Scripts written without spaces between words (and Hangul, whose particles stick to words): indexed by single
# characters and pairs, so that any part of a sentence can be found.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u3098\u309d-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U000323af"
)
# Indic vowel signs are marks, which `\w` leaves out although they are part of the word.
_SIGNS = "\u0900-\u0963\u0970-\u0d7f"
_RUN = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[^\W_]|[{_SIGNS}])+")
_ASCII_RUN = re.compile(r"[a-z0-9]+")
_STROKES = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "ŀ": "l"})
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]+")


def fold(text: str) -> str:
    """The text without case, compatibility forms and diacritics (`Café` -> `cafe`, `ﬁ` -> `fi`, `Ø` -> `o`).

    Marks that make another letter rather than decorate one (kana voicing, Indic vowel signs and virama: combining class
    below 10) stay.
    """
    if text.isascii():
        return text.lower()
    loose = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(c for c in loose if c < "\u0300" or unicodedata.combining(c) < 10)
    return unicodedata.normalize("NFC", bare.casefold()).translate(_STROKES)


def _runs(folded: str) -> list[str]:
    return (_ASCII_RUN if folded.isascii() else _RUN).findall(folded)


def _unspaced(run: str) -> bool:
    return run[0] >= "\u0e00" and re.match(rf"[{_UNSPACED}]", run) is not None


def terms(text: str) -> set[str]:
    """Every term under which the text is found. A term is at most 64 characters: longer words are cut."""
    found: set[str] = set()
    for run in _runs(fold(text)):
        if _unspaced(run):
            found.update(run)
            found.update(run[i : i + 2] for i in range(len(run) - 1))
        else:
            found.add(run[:TERM_MAX])
    return found


def sequence(text: str) -> list[str]:
    """The words of the text in their order, as often as they occur: what a phrase is looked for in.

    `sequence(part)` stands in `sequence(text)` in one piece wherever `part` is some whole words of `text`.
    """
    folded = fold(text)
    runs = _runs(folded)
    if folded.isascii():  # most texts: what follows would change nothing but the long
        return runs if max(map(len, runs), default=0) <= TERM_MAX else [run[:TERM_MAX] for run in runs]
    found: list[str] = []
    for run in runs:
        if _unspaced(run) and len(run) > 1:
            found.extend([run[i : i + 2] for i in range(len(run) - 1)])
        else:
            found.append(run[:TERM_MAX])
    return found


def singles(word: str) -> str:
    """The characters under which a word of `sequence` is found one by one; none for words between spaces."""
    return word if len(word) == 2 and _unspaced(word) else ""


def words(text: str) -> tuple[str, ...]:
    """The terms that must all be present for the text to count as found; empty if it has no letter or digit.

    `words(t) <= terms(t)` for every text, so a text is always found by itself.
    """
    found: dict[str, None] = {}
    for run in _runs(fold(text)):
        if _unspaced(run) and len(run) > 1:
            found.update((run[i : i + 2], None) for i in range(len(run) - 1))
        else:
            found[run[:TERM_MAX]] = None
    return tuple(found)


@lru_cache(maxsize=65_536)
def _remembered(run: str) -> tuple[str, ...]:
    return words(run)


def _raw_words(run: str) -> tuple[str, ...]:
    # A text without a blank is one run: what is remembered must not be as long as the texts.
    return _remembered(run) if len(run) <= _RUN_MAX else words(run)


@lru_cache(maxsize=64)
def _any_of(wanted: frozenset[str]) -> re.Pattern[str] | None:
    """Finds each of the words that are ASCII where it ends one; None if none is."""
    chosen = sorted((re.escape(w) for w in wanted if w.isascii()), key=len, reverse=True)
    # What comes before is looked at afterwards: a pattern that begins with letters is many times faster.
    return re.compile(rf"(?:{'|'.join(chosen)})(?![a-z0-9])", re.ASCII) if chosen else None


def _hits(text: str, wanted: frozenset[str]) -> Iterator[tuple[int, int, str]]:
    """(start, end, term) of the wanted terms in the unfolded text, in order, possibly overlapping."""
    if text.isascii():
        # By far the most common text, and evidence can be long: one pass in C.
        if (pattern := _any_of(wanted)) is not None:
            low = text.lower()
            for hit in pattern.finditer(low):
                if not low[hit.start() - 1 : hit.start()].isalnum():
                    yield hit.start(), hit.end(), hit.group()
        return
    unspaced = any(map(_unspaced, wanted))  # the pieces of a run are many: they are looked at only for a reason
    for run in re.finditer(r"[^\W_]+[\u0300-\u036f]*|" + rf"[{_UNSPACED}{_SIGNS}]+", text):
        start, raw = run.start(), run.group()
        if unspaced and any(_unspaced(c) for c in raw):
            for i in range(len(raw)):
                for size in (1, 2):
                    if (term := fold(raw[i : i + size])) in wanted:
                        yield start + i, start + min(i + size, len(raw)), term
        for term in _raw_words(raw):
            if term in wanted and not _unspaced(term):
                yield start, run.end(), term


def _parts(text: str, needles: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(start, end, needle) of folded needles as substrings of the unfolded text."""
    if not needles:
        return
    folded: list[str] = []
    owner: list[int] = []
    for at, char in enumerate(text):
        for piece in fold(char):
            folded.append(piece)
            owner.append(at)
    whole = "".join(folded)
    for needle in needles:
        at = whole.find(needle) if needle else -1
        while at >= 0:
            yield owner[at], owner[at + len(needle) - 1] + 1, needle
            at = whole.find(needle, at + len(needle))


def snippet(text: str, wanted: frozenset[str], needles: Sequence[str] = ()) -> str | None:
    """About 160 characters of the text around its best hits, each hit inside `<mark>`; None if there is no hit.

    `wanted` are terms (see `words`); `needles` are folded texts that count as hits anywhere, inside words too: give
    them only for short texts such as paths. The result is escaped: safe to insert into HTML.
    """
    spans = list(islice(_hits(text, wanted), _HITS_MAX))
    # The longest first: where there are too many hits, they say the most.
    spans += islice(_parts(text, sorted(set(needles), key=lambda needle: (-len(needle), needle))), _HITS_MAX)
    if not spans:
        return None
    spans.sort()
    best = _best(spans)
    low = 0 if best[0] <= _LEAD or len(text) <= SNIPPET else best[0] - _LEAD
    high = min(len(text), max(low + SNIPPET, best[1]))
    if low and (gap := _BLANK.search(text, low, best[0])):
        low = gap.end()
    out = ["…"] if low else []
    at = low
    for start, end, _ in spans:
        if end <= at or start < low or end > high:
            continue
        start = max(start, at)
        out += [_plain(text[at:start]), "<mark>", _plain(text[start:end]), "</mark>"]
        at = end
    out.append(_plain(text[at:high]))
    if high < len(text):
        out.append("…")
    return "".join(out).replace("</mark><mark>", "").strip()


def _best(spans: list[tuple[int, int, str]]) -> tuple[int, int, str]:
    """The first of the window that shows most of the different terms; of equals the first."""
    if len({term for _, _, term in spans}) == 1:  # nearly always, and what follows takes the square of them
        return spans[0]
    width = SNIPPET - _LEAD
    return max(spans, key=lambda s: (len({t for a, b, t in spans if s[0] <= a and b <= s[0] + width}), -s[0]))


def _plain(text: str) -> str:
    return html.escape(_BLANK.sub(" ", text), quote=True)
