"""Which file of equal ones is taken for which; that git takes the same is shown in tests/git/test_diff.py."""

from __future__ import annotations

from gitstore.repository.objects import Oid
from gitstore.repository.renames import Move, moves
from gitstore.repository.trees import Difference, Node

ONE, OTHER = Node(0o100644, Oid(b"1" * 20)), Node(0o100644, Oid(b"2" * 20))
LINK = Node(0o120000, ONE.id)


def gone(path: str, node: Node = ONE) -> Difference:
    return Difference(path, node, None)


def come(path: str, node: Node = ONE) -> Difference:
    return Difference(path, None, node)


def test_what_went_and_came_with_one_content_moved() -> None:
    changed = Difference("m", ONE, OTHER)
    assert moves([gone("a"), changed, come("z")]) == [Move(*changed), Move("z", ONE, ONE, "a")]
    assert moves([gone("a"), come("z", OTHER)]) == [Move("a", ONE, None), Move("z", None, OTHER)]
    assert moves([]) == []


def test_the_order_stays_and_each_is_taken_once() -> None:
    found = moves([come("x/a"), gone("b/a"), gone("c"), come("y"), come("w")])
    assert found == [Move("x/a", ONE, ONE, "c"), Move("y", None, ONE), Move("w", ONE, ONE, "b/a")]
    found = moves([gone("b/a"), gone("c"), come("x/c"), come("y")])
    assert found == [Move("x/c", ONE, ONE, "c"), Move("y", ONE, ONE, "b/a")]


def test_modes_of_files_may_differ_kinds_may_not() -> None:
    script = Node(0o100755, ONE.id)
    assert moves([gone("a"), come("b", script)]) == [Move("b", ONE, script, "a")]
    assert moves([gone("a", LINK), come("b")]) == [Move("a", LINK, None), Move("b", None, ONE)]
    assert moves([gone("a", LINK), come("b", LINK)]) == [Move("b", LINK, LINK, "a")]


def test_of_thousands_of_equal_files_not_all_are_looked_at() -> None:
    found = moves([gone(f"old/{n}") for n in range(3000)] + [come(f"new/x{n}") for n in range(3000)])
    renamed = [one.came_from for one in found if one.came_from is not None]
    assert len(renamed) == len(set(renamed)) == 3000
