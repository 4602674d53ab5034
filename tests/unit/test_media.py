"""Media types: guessed from a fixed table, and checked before they stand in a header."""

from __future__ import annotations

import time

import pytest

from gitstore import errors, media


@pytest.mark.parametrize(
    ("name", "guessed"),
    [
        ("a.md", "text/markdown"),
        ("A.JSON", "application/json"),
        ("a.tar.gz", "application/gzip"),
        ("a.svg", "image/svg+xml"),
        ("README", media.DEFAULT),
        ("a.", media.DEFAULT),
        ("a.unknown", media.DEFAULT),
        (".md", "text/markdown"),
        ("md", media.DEFAULT),
    ],
)
def test_media_types_are_guessed_from_a_fixed_table(name: str, guessed: str) -> None:
    assert media.guess(name) == guessed
    assert media.check(guessed) == guessed


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/plain;charset=utf-8", 'a/b; x="y \\" z"; q=1', "application/vnd.x+json"]
)
def test_media_types_that_pass(kind: str) -> None:
    assert media.check(kind) == kind


@pytest.mark.parametrize(
    "kind", ["", "text", "/", "text/", "a b/c", "text/plain;", "text/plain; x", "text/é", "a/b\n", None, 7]
)
def test_media_types_that_do_not(kind: object) -> None:
    with pytest.raises(errors.Invalid, match="/content_type"):
        media.check(kind)


def test_a_hostile_text_is_refused_quickly() -> None:
    start = time.perf_counter()
    for hostile in ("a/b" + ";a=b" * 62 + ";", "a/b" + " " * 250 + ";", 'a/b;c="' + "\\a" * 120):
        with pytest.raises(errors.Invalid):
            media.check(hostile)
    assert time.perf_counter() - start < 0.5
