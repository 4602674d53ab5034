"""From a method and a raw path to a route: a tree of path segments, split before they are percent-decoded.

Splitting first is what lets `%2F` stand inside a segment, as it does in memory keys. A literal segment wins over
a parameter, unless only the parameter's side has the method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

from gitstore import errors
from server.http import MethodNotAllowed


class Placed(Protocol):
    """What the router needs to know of an entry."""

    @property
    def method(self) -> str:
        """GET, POST, …"""

    @property
    def path(self) -> str:
        """The template."""


E = TypeVar("E", bound=Placed)
#: Paths whose way through the tree is remembered; each is at most a request line long.
_REMEMBERED = 2048


class _Node(Generic[E]):
    __slots__ = ("entries", "literal", "names", "other", "rest")

    def __init__(self) -> None:
        self.literal: dict[str, _Node[E]] = {}
        self.other: _Node[E] | None = None
        self.rest: _Node[E] | None = None
        self.entries: dict[str, tuple[E, tuple[str, ...]]] = {}


class Router(Generic[E]):
    """Finds entries by path. Templates: `/a/{name}/b`, and `/a/{rest+}` for everything below `/a/`."""

    def __init__(self, entries: Iterable[E]) -> None:
        self._root: _Node[E] = _Node()
        self._known: dict[tuple[str, str], tuple[E, Mapping[str, str]]] = {}
        for entry in entries:
            self._add(entry)

    def _add(self, entry: E) -> None:
        node, names = self._root, []
        for part in entry.path.split("/")[1:]:
            if part.startswith("{") and part.endswith("+}"):
                names.append(part[1:-2])
                node.rest = node.rest or _Node()
                node = node.rest
            elif part.startswith("{") and part.endswith("}"):
                names.append(part[1:-1])
                node.other = node.other or _Node()
                node = node.other
            else:
                node = node.literal.setdefault(part, _Node())
        for method in ("GET", "HEAD") if entry.method == "GET" else (entry.method,):
            if method in node.entries:
                raise ValueError(f"{method} {entry.path} is declared twice")
            node.entries[method] = (entry, tuple(names))

    def find(self, method: str, path: str) -> tuple[E, Mapping[str, str]]:
        """The entry and its decoded parameters. Raises NotFound, or MethodNotAllowed with the methods there are."""
        known = self._known.get((method, path))
        if known is not None:
            return known
        parts = path.split("/")
        if "%" in path:
            parts = [_decoded(part) if "%" in part else part for part in parts]
        if not path.isascii():
            raise _unknown()
        allow: set[str] = set()
        for node, values in self._matches(self._root, parts, 1, ()):
            found = node.entries.get(method)
            if found is not None:
                entry, names = found
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                result = self._known[method, path] = entry, dict(zip(names, values, strict=True))
                return result
            allow.update(node.entries)
        if allow:
            raise MethodNotAllowed((*sorted(allow), "OPTIONS"))
        raise _unknown()

    def _matches(
        self, node: _Node[E], parts: list[str], at: int, values: tuple[str, ...]
    ) -> Iterator[tuple[_Node[E], tuple[str, ...]]]:
        # A loop while there is one way to go, which is nearly always; recursion only where two ways match.
        end = len(parts)
        while at < end:
            part = parts[at]
            literal, other = node.literal.get(part), node.other if part else None
            rest = node.rest
            if rest is not None and rest.entries and part:
                for way, found in ((literal, values), (other, (*values, part))):
                    if way is not None:
                        yield from self._matches(way, parts, at + 1, found)
                yield rest, (*values, "/".join(parts[at:]))
                return
            if literal is not None and other is not None:
                yield from self._matches(literal, parts, at + 1, values)
                values, node = (*values, part), other
            elif literal is not None:
                node = literal
            elif other is not None:
                values, node = (*values, part), other
            else:
                return
            at += 1
        if node.entries:
            yield node, values


def _decoded(part: str) -> str:
    try:
        return unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError:
        raise _unknown() from None


def _unknown() -> errors.NotFound:
    return errors.NotFound("no route has this path; /openapi.json lists them")
