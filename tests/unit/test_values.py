import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gitstore import values
from gitstore.errors import Invalid, Malformed

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**60), 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def same(one, other):
    """Equal with types, order and the sign of zero."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return one == other and (not isinstance(one, float) or math.copysign(1, one) == math.copysign(1, other))


def refusal(call, value):
    """The error of a refused value, which must itself be fit to be sent back."""
    with pytest.raises(Malformed) as caught:
        call(value)
    caught.value.message.encode()
    return caught.value.message


@given(JSON)
@example([1, 1.0, True, -0.0, 0, None, "1"])
@example(2**64 + 1)
@example(5e-324)
def test_a_value_comes_back_with_types_order_and_numbers_intact(value):
    values.check(value)
    assert same(values.decode(values.encode(value)), value)


def test_json_is_compact_utf8_in_written_order():
    assert values.encode({"b": [1, 2.5], "a": "é😀"}) == '{"b":[1,2.5],"a":"é😀"}'.encode()


@pytest.mark.parametrize(
    "literal",
    [
        "1.50",
        "1E5",
        "1e+5",
        "0e0",
        "-0",
        "-0.0",
        "0.0e99999999999999999999999",
        "0.1",
        "123456789012345678901234567890",
    ],
)
def test_a_number_that_only_looks_different_is_kept(literal):
    values.decode(literal.encode())


@pytest.mark.parametrize(
    "literal",
    [
        "1e400",
        "-1e999999999999999999999",
        "1e-400",
        "1e-999999999999999999999",
        "1.10000000000000000000000001",
        "0.1000000000000000055511151231257827",
        "9007199254740993.0",
    ],
)
def test_a_float_that_would_be_altered_is_refused_by_name(literal):
    assert literal[:40] in refusal(values.decode, f'{{"a":[{literal}]}}'.encode())


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_passes_in_its_shortest_form(number):
    assert same(values.decode(repr(number).encode()), number)


def test_the_longest_number():
    longest = "9" * 4000
    assert values.decode(longest.encode()) == int(longest)
    values.check(int(longest))
    assert values.encode(int(longest)) == longest.encode()
    for data in (f"1{longest}", f"[-1{longest}]", f"0.{longest}1"):
        refusal(values.decode, data.encode())
    refusal(values.check, [int("1" + "0" * 4000)])
    in_a_text = f'"\\"1{longest}"'.encode()
    assert values.encode(values.decode(in_a_text)) == in_a_text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        b"{",
        b"[1,]",
        b'{"a"}',
        b"01",
        b"1.",
        b"'a'",
        b"1 2",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b'"\n"',
        b"\xef\xbb\xbf1",
        "1".encode("utf-16"),
        b'"\xff"',
        b'{"\xff":1}',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
    ],
)
def test_what_is_not_json_in_utf8_is_refused(data):
    refusal(values.decode, data)


@pytest.mark.parametrize(
    "data",
    [
        rb'"a\u0000b"',
        rb'{"\u0000":1}',
        rb'[{"a":["\u0000"]}]',
        rb'"\ud800"',
        rb'"\uDC00"',
        rb'{"\ud83d":1}',
        rb'"\ud83dx"',
        rb'"\ud83d\ud83d"',
        rb'"\ude00\ud83d"',
    ],
)
def test_text_that_cannot_be_stored_everywhere_is_refused(data):
    refusal(values.decode, data)


def test_what_only_looks_like_such_text_is_kept():
    assert values.decode(rb'"\\u0000"') == r"\u0000"
    assert values.decode(rb'"\ud83d\ude00"') == "😀"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_sixty_four_levels_pass_and_no_more(opening, closing):
    def nested(levels):
        return (opening * levels + "1" + closing * levels).encode()

    value = values.decode(nested(64))
    values.check(value)
    assert values.encode(value) == nested(64)
    for levels in (65, 100_000):
        assert "64" in refusal(values.decode, nested(levels))
    refusal(values.check, [value])


def test_many_brackets_are_not_deep():
    data = b"[" + b",".join([b"[]"] * 1000) + b"]"
    assert values.encode(values.decode(data)) == data
    values.decode(b'"' + b"[" * 1000 + b'"')


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.inf],
        {"a": -math.inf},
        {1: 2},
        {None: 1},
        b"x",
        {"a": {1}},
        "\0",
        "\ud800",
        {"\0": 1},
        {"\ud800": 1},
    ],
)
def test_check_refuses_what_is_no_json_data(value):
    refusal(values.check, value)


def test_check_ends_on_a_value_that_holds_itself():
    endless = []
    endless.append(endless)
    refusal(values.check, endless)


@pytest.mark.parametrize("value", [math.nan, [None, {"a": math.inf}], "\ud800", {"\ud800": 1}])
def test_nothing_is_written_that_would_come_back_different(value):
    refusal(values.encode, value)


def test_etag():
    assert values.etag(b"") == "e3b0c44298fc1c149afbf4c8996fb924"
    assert values.etag(b"a") != values.etag(b"b")


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
@example(0)
@example(-1)
@example(-62_135_596_800_000)
@example(253_402_300_799_999)
def test_a_time_comes_back(ms):
    text = values.iso(ms)
    assert len(text) == 24
    assert values.parse_iso(text) == ms


def test_times_as_they_are_written():
    assert values.iso(1_795_489_200_007) == "2026-11-24T03:00:00.007Z"
    assert values.parse_iso("2026-11-24T03:00:00.0079Z") == 1_795_489_200_007
    assert values.parse_iso("2026-11-24T05:30:00+02:30") == 1_795_489_200_000
    assert values.parse_iso("2026-11-24T03:00") == 1_795_489_200_000
    assert values.parse_iso("2026-11-24") == 1_795_478_400_000


def test_a_commit_with_an_impossible_time_can_be_shown():
    assert values.iso(10**18) == "9999-12-31T23:59:59.999Z"
    assert values.iso(-(10**18)) == "0001-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2026-13-01",
        "2026-02-30",
        "2026-11-24T25:00:00Z",
        "2026-11-24T03:00:00Z\n",
        "2026-11-24T00:00:00+24:00",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(Invalid):
        values.parse_iso(text)
