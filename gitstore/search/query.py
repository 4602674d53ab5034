"""The query language: what is asked of search, as a tree."""

from __future__ import annotations

import msgspec


class Word(msgspec.Struct, frozen=True, array_like=True, tag=True):
    term: str


class Phrase(msgspec.Struct, frozen=True, array_like=True, tag=True):
    terms: tuple[str, ...]


class Prefix(msgspec.Struct, frozen=True, array_like=True, tag=True):
    term: str


class Literal(msgspec.Struct, frozen=True, array_like=True, tag=True):
    text: str


class Field(msgspec.Struct, frozen=True, array_like=True, tag=True):
    name: str
    node: Query


class Not(msgspec.Struct, frozen=True, array_like=True, tag=True):
    node: Query


class And(msgspec.Struct, frozen=True, array_like=True, tag=True):
    nodes: tuple[Query, ...]


Query = Word | Phrase | Prefix | Literal | Field | Not | And
