"""Which documents a query matches, and how well: every part of the index is gone through with numpy.

The score is that of BM25 over the content, with more for a word of the title and a little for one of a label. A query
is given up at its deadline, and refused where it names more words than one may.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gitstore.search.documents import KINDS, Hit, Hits, Kind, Order
from gitstore.search.hidden import Hidden
from gitstore.search.index import Index, Part
from gitstore.search.postings import Posting
from gitstore.search.query import FIELDS, And, Field, Literal, Not, Phrase, Prefix, Query, Word
from gitstore.search.rows import kind_number
from gitstore.search.segments import Leaf
from gitstore.search.stamps import BREAK, stamp
from gitstore.search.tail import Tail
from gitstore.search.words import fold, words

PREFIX_MAX: Final = 10_000
"""Words that one `word*` may stand for."""
_K: Final = 1.2
_B: Final = 0.75
_TITLE: Final = 2.0
_LABEL: Final = 0.5
_EVERY: Final = ("c", "t", "l")
_PLACES: Final = {"text": ("c",), "content": ("c",), "title": ("t",), "path": ("t",), "name": ("t",)}
_LABELS: Final = tuple(f"f{name}=" for name in FIELDS if name not in _PLACES and name != "kind")

Mask = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float32]


class Late(Exception):
    """The deadline is over."""


class TooMany(Exception):
    """A prefix stands for more words than one may; says so."""


class Clock:
    """Raises Late when the deadline (monotonic seconds) is over."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def within(self, seconds: float) -> Clock:
        """One that ends in so many seconds, if this one does not end sooner."""
        return Clock(min(self._deadline, time.monotonic() + seconds))

    def check(self) -> None:
        """Call it between any two things that take long."""
        if time.monotonic() > self._deadline:
            raise Late


class Window(NamedTuple):
    """The documents of a part from `low` on, `size` of them; masks and scores begin at `low`."""

    part: Part
    low: int
    size: int


class Found(NamedTuple):
    """What matches in a window, and with what score."""

    mask: Mask
    scores: Scores | None  # None: all 0


def window(part: Part, workspace: str | None) -> Window:
    """What of a part can belong to a workspace, or the whole."""
    if isinstance(part, Leaf) and workspace is not None:
        low, high = part.spans.get(workspace, (0, 0))
        return Window(part, low, high - low)
    return Window(part, 0, part.count)


class Matcher:
    """Evaluates one query over the parts of an index. A `word*` may stand for `most` words (None: for any number).

    Raises Late, TooMany.
    """

    def __init__(self, index: Index, clock: Clock, most: int | None = PREFIX_MAX) -> None:
        self.parts = index.parts
        self._most = most
        self.clock = clock
        self._total = max(1, sum(part.count for part in self.parts))
        self._rarity: dict[str, float] = {}
        self._lengths: dict[int, npt.NDArray[np.float32]] = {}

    @cached_property
    def _average(self) -> float:
        return max(1.0, sum(float(part.lengths.sum()) for part in self.parts) / self._total)

    def match(self, node: Query, view: Window, places: Sequence[str] = _EVERY) -> Found:
        """What of a window a query matches, dead documents included."""
        self.clock.check()
        if isinstance(node, Word):
            return self._terms([place + node.term for place in places], view)
        if isinstance(node, Prefix):
            return self._prefix(node.term, view, places)
        if isinstance(node, Phrase):
            return self._phrase(node, view, places)
        if isinstance(node, Literal):
            return self._literal(node, view, places)
        if isinstance(node, Field):
            return self._field(node, view)
        if isinstance(node, Not):
            return Found(~self.match(node.node, view, places).mask, None)
        assert isinstance(node, And)
        mask = np.ones(view.size, np.bool_)
        scores: Scores | None = None
        for one in node.nodes:
            found = self.match(one, view, places)
            mask &= found.mask
            if found.scores is not None:
                scores = found.scores if scores is None else scores + found.scores
            if not mask.any():
                break
        return Found(mask, scores)

    def _prefix(self, prefix: str, view: Window, places: Sequence[str]) -> Found:
        mask = np.zeros(view.size, np.bool_)
        titled = np.zeros(view.size, np.float32)
        for place in places:
            for number, term in enumerate(view.part.beginning(place + prefix)):
                if self._most is not None and number >= self._most:
                    raise TooMany(f"more than {self._most} words begin with `{prefix}`: give more of the word")
                if number & 0xFF == 0:
                    self.clock.check()
                at, _ = self._posting(term, view)
                mask[at] = True
                if place == "t":
                    titled[at] = _TITLE
        return Found(mask, mask + titled)

    def _posting(self, term: str, view: Window) -> Posting:
        """The documents of a window that have a term, numbered from its beginning."""
        numbers, often = view.part.get(term)
        if view.low or view.size < view.part.count:
            first, last = np.searchsorted(numbers, (view.low, view.low + view.size))
            numbers, often = numbers[first:last] - np.uint32(view.low), often[first:last]
        return numbers, often

    def _terms(self, terms: Sequence[str], view: Window) -> Found:
        """The documents that have any of the terms."""
        mask = np.zeros(view.size, np.bool_)
        scores: Scores | None = None
        for number, term in enumerate(terms):
            if number & 0xFF == 0xFF:
                self.clock.check()
            at, often = self._posting(term, view)
            if not len(at):
                continue
            mask[at] = True
            if scores is None:
                scores = np.zeros(view.size, np.float32)
            scores[at] += self._weight(term, view, at, often)
        return Found(mask, scores)

    def _weight(
        self, term: str, view: Window, at: npt.NDArray[np.uint32], often: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32] | np.float32:
        rarity = self._rarity.get(term)
        if rarity is None:
            have = sum(len(part.get(term)[0]) for part in self.parts)
            rarity = self._rarity[term] = float(np.log(1 + (self._total - have + 0.5) / (have + 0.5)))
        if term[0] == "t":
            return np.float32(_TITLE * (rarity + 0.1))
        if term[0] != "c":
            return np.float32(_LABEL * (rarity + 0.1))
        lengths = self._lengths.get(id(view.part))
        if lengths is None:
            lengths = (_K * (1 - _B + _B * view.part.lengths / self._average)).astype(np.float32)
            self._lengths[id(view.part)] = lengths
        times = often.astype(np.float32)
        weights: Scores = (rarity * times * (_K + 1) / (times + lengths[at + np.uint32(view.low)])).astype(np.float32)
        return weights

    def _phrase(self, node: Phrase, view: Window, places: Sequence[str]) -> Found:
        if not node.terms:
            return Found(np.ones(view.size, np.bool_), None)
        together = [self._terms([place + word for place in places], view) for word in node.terms]
        mask = np.logical_and.reduce([found.mask for found in together])
        if len(node.terms) > 1:
            wanted = b"".join(map(stamp, node.terms))
            labelled = self._labelled(node.terms, view, places)
            for number, at in enumerate(np.flatnonzero(mask & ~labelled)):
                if number & 0xFF == 0xFF:
                    self.clock.check()
                mask[at] = self._stands(view.part, view.low + int(at), wanted, places)
        scores = [found.scores for found in together if found.scores is not None]
        return Found(mask, np.sum(scores, axis=0, dtype=np.float32) if scores else None)

    def _labelled(self, terms: Sequence[str], view: Window, places: Sequence[str]) -> Mask:
        """The documents with one label that has all the words; their order is not kept for labels."""
        mask = np.zeros(view.size, np.bool_)
        for place in _LABELS if "l" in places else [place for place in places if place[0] == "f"]:
            mask |= np.logical_and.reduce([self._terms([place + word], view).mask for word in terms])
        return mask

    @staticmethod
    def _stands(part: Part, number: int, wanted: bytes, places: Sequence[str]) -> bool:
        """Whether the words stand in this order, in the content or the title."""
        have = part.words_of(number)
        cut = _aligned(have, BREAK, 0)
        if "c" in places and 0 <= _aligned(have, wanted, 0) < cut:
            return True
        return "t" in places and _aligned(have, wanted, cut + 4) >= 0

    def _literal(self, node: Literal, view: Window, places: Sequence[str]) -> Found:
        """Text that is no syntax: all its words, or where it has none, a part of the title."""
        inside = words(node.text)
        if inside:
            return self.match(And(tuple(Word(word) for word in inside)), view, places)
        wanted = fold(node.text).encode("utf-8", "surrogatepass")
        mask = np.zeros(view.size, np.bool_)
        for at in range(view.size):
            if at & 0x3FF == 0x3FF:
                self.clock.check()
            mask[at] = wanted in view.part.title_of(view.low + at)
        return Found(mask, None)

    def _field(self, node: Field, view: Window) -> Found:
        name = node.name
        if name in _PLACES:
            return self.match(node.node, view, _PLACES[name])
        if name == "kind":
            wanted = [place for place, kind in enumerate(KINDS) if _names(node.node, kind)]
            return Found(np.isin(view.part.kinds[view.low : view.low + view.size], wanted), None)
        return self.match(node.node, view, (f"f{name}=",))


def _names(node: Query, kind: str) -> bool:
    """Whether the value of `kind:` is this kind."""
    if isinstance(node, Word):
        return node.term == kind
    if isinstance(node, Prefix):
        return kind.startswith(node.term)
    if isinstance(node, Phrase):
        return node.terms == (kind,)
    return isinstance(node, Literal) and node.text == kind


def _aligned(have: bytes, wanted: bytes, start: int) -> int:
    """Where stamps stand in stamps, from a place on; -1 if they do not."""
    at = have.find(wanted, start)
    while at >= 0 and at & 3:
        at = have.find(wanted, at + 1)
    return at


def query(
    index: Index,
    workspaces: Sequence[str] | None,
    wanted: Query,
    kinds: Sequence[Kind] | None,
    order: Order,
    offset: int,
    limit: int,
    clock: Clock,
    hidden: Hidden | None = None,
) -> Hits:
    """A page of the documents that match and are not hidden; see `Search.query`."""
    matcher = Matcher(index, clock)
    only = workspaces[0] if workspaces is not None and len(workspaces) == 1 else None
    chosen = np.array([index.code(one) for one in workspaces], np.int32) if workspaces is not None else None
    allowed = None
    if chosen is not None:
        allowed = np.zeros(len(index.names) + 1, np.bool_)
        allowed[chosen] = True
    picked = np.zeros(len(KINDS), np.bool_)
    picked[[kind_number(kind) for kind in kinds or KINDS]] = True
    by_kind = np.zeros(len(KINDS), np.int64)
    by_workspace = np.zeros(len(index.names) + 1, np.int64)
    places: list[tuple[Part, npt.NDArray[np.int64]]] = []
    columns: list[tuple[Scores, npt.NDArray[np.int64]]] = []
    for part in matcher.parts:
        view = window(part, only)
        if not view.size:
            continue
        found = matcher.match(wanted, view)
        here = slice(view.low, view.low + view.size)
        mask = found.mask & part.live[here]
        if hidden is not None:
            numbers = hidden.numbers(part) - view.low
            mask[numbers[(numbers >= 0) & (numbers < view.size)]] = False
        codes = part.codes
        if allowed is not None:
            mask &= allowed[codes[here]]
        own = part.kinds[here]
        by_kind += np.bincount(own[mask], minlength=len(KINDS))
        mask &= picked[own]
        at = np.flatnonzero(mask)
        if not len(at):
            continue
        scores = found.scores[at] if found.scores is not None else np.zeros(len(at), np.float32)
        by_workspace += np.bincount(codes[at + view.low], minlength=len(by_workspace))
        places.append((part, at + view.low))
        columns.append((scores, part.times[at + view.low]))
    total = sum(len(at) for _, at in places)
    rows: list[Hit] = []
    if total and offset < total:
        scores = np.concatenate([scores for scores, _ in columns])
        times = np.concatenate([times for _, times in columns])
        first = scores if order == "relevance" else np.zeros(total, np.float32)
        rows = _page(places, scores, _best(first, times, offset + limit), offset, limit, (first, times), clock)
    kinds_found: dict[str, int] = {
        kind: int(by_kind[kind_number(kind)]) for kind in KINDS if by_kind[kind_number(kind)]
    }
    counted = {index.names[code]: int(by_workspace[code]) for code in np.flatnonzero(by_workspace)}
    return Hits(rows, total, kinds_found, counted)


def _best(scores: Scores, times: npt.NDArray[np.int64], wanted: int) -> npt.NDArray[np.int64]:
    """The places of those that can be among the first, all ties with the last of them included."""
    if wanted >= len(scores):
        return np.arange(len(scores))
    edge = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    sure = np.flatnonzero(scores > edge)
    tied = np.flatnonzero(scores == edge)
    left = wanted - len(sure)
    if left < len(tied):
        moment = np.partition(times[tied], len(tied) - left)[len(tied) - left]
        tied = tied[times[tied] >= moment]
    return np.concatenate((sure, tied))


def _page(
    places: Sequence[tuple[Part, npt.NDArray[np.int64]]],
    scores: Scores,
    best: npt.NDArray[np.int64],
    offset: int,
    limit: int,
    by: tuple[Scores, npt.NDArray[np.int64]],
    clock: Clock,
) -> list[Hit]:
    """The page, of equals by workspace, kind and id."""
    bounds = np.cumsum([0, *(len(at) for _, at in places)])
    ranked = best[np.lexsort((-by[1][best], -by[0][best]))]
    # Only those that tie with one on the page need their keys.
    end = min(offset + limit, len(ranked))
    same = (by[0][ranked], by[1][ranked])

    def ties(place: int) -> npt.NDArray[np.int64]:
        return np.flatnonzero((same[0] == same[0][place]) & (same[1] == same[1][place]))

    low, high = int(ties(offset)[0]), int(ties(end - 1)[-1]) + 1
    keyed = []
    for number, at in enumerate(ranked[low:high]):
        if number & 0x3FF == 0x3FF:
            clock.check()  # an import gives very many documents the same time
        which = int(np.searchsorted(bounds, at, "right")) - 1
        part, numbers = places[which]
        key = part.key(int(numbers[at - bounds[which]]))
        keyed.append((-float(by[0][at]), -int(by[1][at]), key, float(scores[at])))
    keyed.sort()
    return [Hit(*key, round(score, 4)) for _, _, key, score in keyed[offset - low : end - low]]


def having(index: Index, workspace: str, node: Word | Phrase | Prefix, clock: Clock) -> list[str]:
    """The ids of the artifacts of a workspace whose content has this. Raises Late."""
    matcher = Matcher(index, clock, None)
    code, artifact = index.code(workspace), kind_number("artifact")
    found: list[str] = []
    for part in matcher.parts:
        view = window(part, workspace)
        here = slice(view.low, view.low + view.size)
        mask = matcher.match(node, view, ("c",)).mask & part.live[here] & (part.kinds[here] == artifact)
        if isinstance(part, Tail):
            mask &= part.codes == code
        found += (part.key(view.low + int(at))[2] for at in np.flatnonzero(mask))
    return found
