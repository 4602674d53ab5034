"""Writing: every value comes back, through our reader and through one of YAML 1.1; small values look as expected."""

from __future__ import annotations

import pytest
import yaml
from handwriting import TRICKY, same, values
from hypothesis import given

from gitstore import errors
from gitstore.documents import MAX_BYTES, MAX_DEPTH, MAX_NODES, dump, load


@given(values)
def test_round_trip(value: object) -> None:
    data = dump(value)
    assert same(load(data), value)
    assert same(yaml.load(data, Loader=yaml.CSafeLoader), value)
    assert data.endswith(b"\n")
    assert b"\r" not in data
    assert dump(load(data)) == data


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts(text: str) -> None:
    for value in (text, {text: text}, [text, text], {"a": {"b": [text]}}, [[text]], {text: [{text: {text: 1}}]}):
        assert same(load(dump(value)), value)
        assert same(yaml.load(dump(value), Loader=yaml.CSafeLoader), value)
        assert same(yaml.load(dump(value), Loader=yaml.SafeLoader), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null\n"),
        (True, "true\n"),
        (10**30, f"{10**30}\n"),
        (1e22, "1.0e+22\n"),
        (-0.0, "-0.0\n"),
        ("", '""\n'),
        ([], "[]\n"),
        ({}, "{}\n"),
        ("two words", "two words\n"),
        ("NO", '"NO"\n'),
        ("12:30", '"12:30"\n'),
        ("2026-01-01", '"2026-01-01"\n'),
        ("4Gi", "4Gi\n"),
        ("1.2.3", '"1.2.3"\n'),
        ("https://x.y/z?a=1#b", "https://x.y/z?a=1#b\n"),
        ("a: b", '"a: b"\n'),
        ("a #b", '"a #b"\n'),
        ("Grüße 🙂", "Grüße 🙂\n"),
        ("tab\there", '"tab\\there"\n'),
        ("\u202etxt\ufeff\x85\x7f", '"\\u202etxt\\ufeff\\u0085\\u007f"\n'),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "3f2504e0-4f89-11d3-9a0c-0305e82c3301\n"),
        ("one\ntwo\n", "|\n  one\n  two\n"),
        ("one\n\ntwo", "|-\n  one\n\n  two\n"),
        ("one\n\n", '"one\\n\\n"\n'),
        (" one\ntwo", '" one\\ntwo"\n'),
        ({"a": "x\ny\n", "b": 1}, "a: |\n  x\n  y\nb: 1\n"),
        (
            {"owner": "platform-team", "freeze": ["fri", "sat"], "max": 3},
            "owner: platform-team\nfreeze:\n  - fri\n  - sat\nmax: 3\n",
        ),
        ([[1, [2]], {"a": {}, "b": [{"c": None}]}], "- - 1\n  - - 2\n- a: {}\n  b:\n    - c: null\n"),
        ({"k" * 1001: [1]}, f"? {'k' * 1001}\n:\n  - 1\n"),
    ],
)
def test_looks(value: object, text: str) -> None:
    assert dump(value) == text.encode()


@pytest.mark.parametrize(
    "value",
    ["a\0", {"\0": 1}, ["\ud800"], {"\udfff": 1}, float("nan"), [float("inf")], {"a": 10**4300}],
)
def test_what_no_document_can_hold(value: object) -> None:
    with pytest.raises(errors.Malformed):
        dump(value)


@pytest.mark.parametrize("value", [object(), {1: 2}, (1,), b"x", {"a": {1}}])
def test_what_is_not_json(value: object) -> None:
    with pytest.raises(TypeError):
        dump(value)


def test_limits_are_those_of_reading() -> None:
    deep: object = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert load(dump(deep)) == deep
    for value in ([deep], {"a": deep}):
        with pytest.raises(errors.Malformed, match="64"):
            dump(value)
    most = [1] * (MAX_NODES - 1)
    assert load(dump(most)) == most
    with pytest.raises(errors.TooLarge, match=str(MAX_NODES)):
        dump([*most, 1])
    with pytest.raises(errors.TooLarge):
        dump({str(number): None for number in range(MAX_NODES // 2)})
    assert load(dump("x" * (MAX_BYTES - 1))) == "x" * (MAX_BYTES - 1)
    with pytest.raises(errors.TooLarge, match=str(MAX_BYTES)):
        dump("x" * MAX_BYTES)
