"""The query language: what is asked of search, as a tree.

Words between blanks must all be there. `"…"` is a phrase, `word*` any word that begins so, `-` before a part excludes
it, `role:writer` looks in one field only. What is no syntax is text: `parse` takes it literally, `parse_strict` says
what is wrong with what looks like syntax and is none.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from gitstore.errors import WrongShape
from gitstore.search.documents import KINDS
from gitstore.search.words import sequence, words

FIELDS: Final = {
    "path": "the path, name or key",
    "title": "the path, name or key",
    "name": "the path, name or key",
    "text": "the content",
    "content": "the content",
    "kind": f"one of {', '.join(KINDS)}",
    "type": "the media type",
    "role": "the role of a task or artifact",
    "stage": "the stage of a task or artifact",
    "state": "the state of a workflow or task",
    "workflow": "the id of the workflow",
    "task": "the id of the task",
    "item": "the id of the work item",
    "playbook": "the id of the playbook",
}
"""The fields, and what each looks in."""
NODES_MAX: Final = 64  # parts, where more are a fault
PREFIX_MIN: Final = 2  # characters before the `*`

_PART = re.compile(r'(?P<minus>-?)(?:(?P<field>[A-Za-z_]+):)?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+))(?!\S)')
_CHUNK = re.compile(r"\S+")


class Word(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """One term, as `words.words` gives it."""

    term: str


class Phrase(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Words in this order, as `words.sequence` gives them."""

    terms: tuple[str, ...]


class Prefix(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Any term that begins so."""

    term: str


class Literal(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Text as it was written: all its words, or a part of the path."""

    text: str


class Field(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The same in one of the `FIELDS` only."""

    name: str
    node: Query


class Not(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Where that is not."""

    node: Query


class And(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """All of them; anything where there are none."""

    nodes: tuple[Query, ...]


Query = Word | Phrase | Prefix | Literal | Field | Not | And


class _Fault(Exception):
    """What looks like syntax and is none: what is wrong, and how to mend it."""


def parse(q: str) -> Query:
    """The query that a text is; never an error. What is no syntax is text. Whoever asks bounds how long it may be."""
    nodes: list[Query] = []
    for chunk in _chunks(q):
        try:
            nodes.append(_node(chunk))
        except _Fault:
            nodes += [Literal(part) for part in chunk.text.split()]
    return And(tuple(nodes))


def parse_strict(q: str) -> Query:
    """The query that a text is. Raises WrongShape, with every fault and the character (from 1) where it begins."""
    nodes: list[Query] = []
    faults: list[str] = []
    chunks = _chunks(q)
    for chunk in chunks:
        try:
            nodes.append(_node(chunk))
        except _Fault as fault:
            faults.append(f"character {chunk.start + 1}, `{_short(chunk.text)}`: {fault}")
    if len(chunks) > NODES_MAX:
        faults.append(f"has {len(chunks)} parts, more than the {NODES_MAX} allowed: ask for less at once")
    if not faults and not any(not isinstance(node, Not) for node in nodes):
        faults.append("names nothing to look for: give at least one word that is not excluded by `-`")
    if faults:
        raise WrongShape([("/q", fault) for fault in faults], "the query cannot be read")
    return And(tuple(nodes))


def wanted(query: Query) -> frozenset[str]:
    """The terms that a hit may be shown by; a prefix is none."""
    if isinstance(query, Word):
        return frozenset((query.term,))
    if isinstance(query, Phrase):
        return frozenset(query.terms)
    if isinstance(query, Literal):
        return frozenset(words(query.text))
    if isinstance(query, Field):
        return wanted(query.node)
    return frozenset().union(*map(wanted, query.nodes)) if isinstance(query, And) else frozenset()


class _Chunk(msgspec.Struct, frozen=True):
    """A part of the text, and what it is read as; None: it has no form."""

    start: int
    text: str
    form: re.Match[str] | None


def _chunks(q: str) -> list[_Chunk]:
    found = []
    at = 0
    while (begin := _CHUNK.search(q, at)) is not None:
        form = _PART.match(q, begin.start())
        at = form.end() if form is not None else begin.end()
        found.append(_Chunk(begin.start(), q[begin.start() : at], form))
    return found


def _node(chunk: _Chunk) -> Query:
    if chunk.form is None:
        if '"' in chunk.text:
            raise _Fault('a quotation mark is not closed, or touches a word: write "some words" with blanks around')
        raise _Fault("is no part of a query")
    minus, field, phrase, word = chunk.form.group("minus", "field", "phrase", "word")
    if phrase is None and word.startswith("-") and minus:
        raise _Fault("only one `-` excludes a part")
    if field is not None:
        field = field.lower()
        if field not in FIELDS:
            raise _Fault(
                f"there is no field `{_short(field)}`; fields are {', '.join(FIELDS)}; quote it to mean the text"
            )
    node = _phrase(phrase) if phrase is not None else _word(word)
    if field is not None:
        if field == "kind" and (phrase if phrase is not None else word).lower() not in KINDS:
            raise _Fault(f"a kind is {FIELDS['kind']}")
        if isinstance(node, Literal) and not words(node.text):
            raise _Fault("what is looked for in a field needs a letter or a digit")
        node = Field(field, node)
    return Not(node) if minus else node


def _phrase(text: str) -> Query:
    terms = tuple(sequence(text))
    if not terms:
        raise _Fault("a phrase needs a letter or a digit")
    return Phrase(terms)


def _word(text: str) -> Query:
    if "*" not in text:
        return Literal(text)
    stem = text.removesuffix("*")
    terms = words(stem)
    if "*" in stem or len(terms) != 1 or not stem[-1].isalnum():
        raise _Fault("`*` stands at the end of one word only, as in `deploy*`; quote it to mean the sign")
    if len(terms[0]) < PREFIX_MIN:
        raise _Fault(f"give {PREFIX_MIN} characters or more before the `*`")
    return Prefix(terms[0])


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
