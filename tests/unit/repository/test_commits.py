"""Commits read back: the quick way for what all but a few begin with says the same as the careful one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstore.errors import Damaged
from gitstore.repository.commits import Signature, build, parse
from gitstore.repository.objects import Oid

OIDS = st.binary(min_size=20, max_size=20).map(Oid)
LINES = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20)
PEOPLE = st.builds(Signature, LINES, LINES, st.integers(-(2**40), 2**40), st.sampled_from(["+0000", "-1130"]))


@given(OIDS, st.lists(OIDS, max_size=3), PEOPLE, PEOPLE, st.booleans(), st.text(max_size=60), st.binary(max_size=20))
def test_both_ways_say_the_same(
    tree: Oid, parents: list[Oid], author: Signature, committer: Signature, same: bool, message: str, odd: bytes
) -> None:
    item = build(tree, tuple(parents), author, author if same else committer, message.encode(errors="replace").decode())
    head, _, rest = item.data.partition(b"\n\n")
    for text in (rest, rest + odd):
        quick = parse(head + b"\n\n" + text)
        assert quick == parse(head + b"\nencoding UTF-8\n\n" + text)
        assert (quick.tree, quick.parents) == (tree, tuple(parents))


@pytest.mark.parametrize("missing", [b"tree ", b"author ", b"committer "])
def test_a_commit_without_what_it_must_have(missing: bytes) -> None:
    item = build(Oid(bytes(20)), (), Signature("a", "a@b", 1), Signature("a", "a@b", 1), "m")
    head, _, rest = item.data.partition(b"\n\n")
    lines = [line for line in head.split(b"\n") if not line.startswith(missing)]
    with pytest.raises(Damaged):
        parse(b"\n".join(lines) + b"\n\n" + rest)
