from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstore.errors import Malformed, PreconditionFailed
from gitstore.precondition import NONE, Precondition, parse

TABLE = [
    # If-Match, If-None-Match, current ETag, holds
    (None, None, None, True),
    (None, None, "a", True),
    ('"a"', None, "a", True),
    ('"a"', None, "b", False),
    ('"a"', None, None, False),
    ("*", None, "a", True),
    (" * ", None, "a", True),
    ("*", None, None, False),
    ('"x", "a"', None, "a", True),
    ('"x","a" , "y"', None, "a", True),
    ('"x"\t,, "a",', None, "a", True),
    ('"x, a"', None, "a", False),
    ('"x, a"', None, "x, a", False),  # a space cannot stand in a tag, so nothing has this one
    ('"x,a"', None, "x,a", True),
    ('"A"', None, "a", False),
    ('""', None, "", True),
    (None, "*", "a", False),
    (None, "*", None, True),
    (None, '"a"', "a", False),
    (None, '"b"', "a", True),
    (None, '"b"', None, True),
    (None, '"b", "a"', "a", False),
    ('"a"', '"a"', "a", False),
    ('"a"', '"b"', "a", True),
    # RFC 9110 §8.8.3.2: If-Match compares strongly, If-None-Match weakly.
    ('W/"a"', None, "a", False),
    ('W/"a", "a"', None, "a", True),
    (None, 'W/"a"', "a", False),
    # Tags that look like something else.
    ('"*"', None, "a", False),
    (None, '"*"', "a", True),
    ('"W/a"', None, "a", False),
    (None, '"W/a"', "a", True),
]


@pytest.mark.parametrize(("match", "none_match", "current", "holds"), TABLE)
def test_conditions(match, none_match, current, holds):
    try:
        condition = parse(match, none_match)
    except Malformed:
        assert not holds
        return
    if holds:
        condition.check(current)
        return
    with pytest.raises(PreconditionFailed) as caught:
        condition.check(current)
    assert caught.value.current == current
    assert caught.value.details == {"current": current}


def test_no_headers_are_no_condition():
    assert parse(None, None) == NONE == Precondition()


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        ",",
        '"a',
        'a"',
        '"a" "b"',
        '"a"b',
        '*, "a"',
        '"a", *',
        "**",
        'w/"a"',
        'W/ "a"',
        '"a\nb"',
        '"a\x7f"',
        "a b",
    ],
)
def test_a_condition_that_cannot_be_understood_is_not_ignored(header):
    with pytest.raises(Malformed, match="If-Match"):
        parse(header, None)
    with pytest.raises(Malformed, match="If-None-Match"):
        parse(None, header)


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs", "Cc"]), max_size=30))
def test_any_header_is_read_or_refused(header):
    with suppress(Malformed, PreconditionFailed):
        parse(header, header).check("a")


@given(
    st.lists(st.text("ab01-", min_size=1, max_size=6), min_size=1, max_size=5), st.text("ab01-", min_size=1, max_size=6)
)
def test_if_match_and_if_none_match_are_each_others_opposite(tags, current):
    header = ", ".join(f'"{tag}"' for tag in tags)
    if current in tags:
        parse(header, None).check(current)
        with pytest.raises(PreconditionFailed):
            parse(None, header).check(current)
    else:
        parse(None, header).check(current)
        with pytest.raises(PreconditionFailed):
            parse(header, None).check(current)
