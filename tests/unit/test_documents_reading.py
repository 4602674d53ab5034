"""Strict reading: what each scalar means, and every refusal with its place."""

from __future__ import annotations

import time

import pytest
from handwriting import documents, same
from hypothesis import given
from hypothesis import strategies as st

from gitstore.documents import MAX_BYTES, MAX_DEPTH, MAX_NODES, DocumentError, load
from gitstore.documents.reading import FastestParser, PureParser, decode, parse


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        *[(text, None) for text in ("", "~", "null", "Null", "NULL")],
        *[(text, True) for text in ("true", "True", "TRUE")],
        *[(text, False) for text in ("false", "False", "FALSE")],
        *[(text, text) for text in ("NO", "no", "yes", "On", "off", "y", "N", "nULL", "tRUE")],
        *[
            (text, text)
            for text in ("2026-01-01", "2026-11-24T03:00:00Z", "12:30", "12:30:45", "1_000", "0b1", "1.2.3")
        ],
        *[(text, text) for text in ("=", "<<", "0x", "0o8", "-0x1", "1e", ".", "+", "-.", "4Gi", "1 2")],
        *[("0", 0), ("-0", 0), ("12", 12), ("+12", 12), ("-12", -12), ("012", 12), ("0o17", 15), ("0x1F", 31)],
        *[("9" * 4300, 10**4300 - 1), ("18446744073709551616", 2**64)],
        *[("1.0", 1.0), ("1.", 1.0), (".5", 0.5), ("-.5", -0.5), ("1e3", 1000.0), ("1E-3", 0.001), ("1.10", 1.1)],
        *[("-0.0", -0.0), ("0e99999999999", 0.0), ("0.1", 0.1), ("5e-324", 5e-324), ("1e22", 1e22)],
        *[('"\\u00e9\\x41\\/"', "éA/"), ("'it''s'", "it's"), ("'1'", "1"), ('"null"', "null"), ("a  b # c", "a  b")],
        *[("|\n   a\n    b\n", "a\n b\n"), (">\n   a\n   b\n", "a b\n"), ("[]", []), ("{}", {})],
    ],
)
@pytest.mark.parametrize("parser", [FastestParser, PureParser])
def test_scalars_are_those_of_the_core_schema(plain: str, value: object, parser: type) -> None:
    node = parse(f"key: {plain}\n", parser=parser)
    assert node is not None
    assert same(node.value, {"key": value})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# only a comment\n", None),
        ("---\n", None),
        ("\ufeffa: 1\n", {"a": 1}),
        ("%YAML 1.2\n---\na: 1\n...\n", {"a": 1}),
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ("a: 1\r\nb: |\r\n  x\r\n  y\r\n", {"a": 1, "b": "x\ny\n"}),
        ("a: x\u2028y # \u2028 c: 1\nb: 'x\x85y'\n", {"a": "x\u2028y", "b": "x\x85y"}),
        ('a: "\x85\\N\\uE000"\n', {"a": "\x85\x85\ue000"}),
        ('"<<": 1\nb: <<\n', {"<<": 1, "b": "<<"}),
        ("? a\n: b\n", {"a": "b"}),
        ("b: 1\na: 2\n", {"b": 1, "a": 2}),
    ],
)
def test_documents(text: str, value: object) -> None:
    assert same(load(text.encode()), value)


BOMB = 'a0: &a0 ["lol"]\n' + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 8))


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        (BOMB, 1, 5, "anchor &a0"),
        ("a: 1\nb: *x", 2, 4, "alias *x"),
        ("a: !!str 1", 1, 4, "tag !!str"),
        ("- ! a", 1, 3, "tag !"),
        ('!!python/object/apply:os.system ["x"]', 1, 1, "tag !!python"),
        ("<<: {a: 1}", 1, 1, "merge key"),
        ("b:\n  <<: {a: 1}", 2, 3, "merge key"),
        ("[" * 3000 + "]" * 3000, 1, 65, "deeper than 64"),
        ("- " * 3000 + "x", 1, 129, "deeper than 64"),
        ("{a: " * 3000, 1, 257, "deeper than 64"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, 3, "the first is in line 3"),
        ('{a: 1, "a": 2}', 1, 8, "twice"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
        ("a: 1\n...\n---\nb: 2\n", 3, 1, "second document"),
        ('a: "x\0"', 1, 6, "U+0000"),
        ('a: "\\0"', 1, 4, "U+0000"),
        ('"\\0": 1', 1, 1, "U+0000"),
        ("a: \x1b[31m", 1, 4, "U+001B"),
        ('é: "\\ud800"', 1, 7, "escape"),
        ('a: "\\ud83d\\ude00"', 1, 7, "write the character itself"),
        ("a: 1\n\ufeffb: 2", 2, 1, "byte order mark"),
        ("a: " + "9" * 4301, 1, 4, "4300 digits"),
        ("a: 0x" + "f" * 100_000, 1, 4, "4300 digits"),
        ("a: 1." + "0" * 1_000_000, 1, 4, "altered"),
        ("a: .inf", 1, 4, "not a JSON number"),
        ("a: -.Inf", 1, 4, "not a JSON number"),
        ("a: .NaN", 1, 4, "not a JSON number"),
        ("a: 1e400", 1, 4, "altered"),
        ("a: 1e-400", 1, 4, "altered"),
        ("a: 1e99999999999999999999", 1, 4, "altered"),
        ("a: 1e-99999999999999999999", 1, 4, "altered"),
        ("a: 0.1234567890123456789", 1, 4, "altered"),
        ("? [a]\n: b", 1, 3, "key must be a text"),
        ("{a: 1}: 2", 1, 1, "key must be a text"),
        ("1: a", 1, 1, 'write "1"'),
        ("a:\n  true: b", 2, 3, 'write "true"'),
        ("{: a}", 1, 2, "a value is missing"),
        ("? \n: a", 1, 2, 'write ""'),
        ("a:\n\t- b", 2, 1, "not tabs"),
        ('a: 1\nb: "x', 2, 4, "never closed"),
        ("a: b: c", 1, 5, "': '"),
        ("a: @x", 1, 4, "begins with @"),
        ("a: [1, 2", 2, 1, "bracket"),
        ('a: "\\q"', 1, 5, "single quotes"),
        ("%YAML 1.1\n---\na: b", 1, 1, "YAML 1.1"),
        ("- 1\n" * (MAX_NODES + 1), MAX_NODES, 3, "more than 200000 values"),
        ("a: " + "x" * 5 * 1024 * 1024, 1, 1, "more than the 4194304"),
    ],
)
def test_refusals_say_where_and_why_and_are_quick(text: str, line: int, column: int, says: str) -> None:
    begun = time.process_time()
    with pytest.raises(DocumentError) as caught:
        load(text.encode(), "memory/a.yaml")
    assert time.process_time() - begun < 5
    error = caught.value
    assert (error.line, error.column) == (line, column), error
    assert says in error.message
    assert error.message.startswith(f"memory/a.yaml, line {line}, column {column}: ")
    assert len(error.message) < 400
    assert error.details is not None
    assert (error.details["path"], error.details["line"], error.details["column"]) == ("memory/a.yaml", line, column)


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b"a: \xff", 1, 4),
        (b"\xff\xfea\0", 1, 1),
        ("é: 1\r\né".encode() + b"\x80", 2, 2),
        (b"\xef\xbb\xbfa: \xed\xa0\x80", 1, 4),
    ],
)
def test_bytes_that_are_not_utf8(data: bytes, line: int, column: int) -> None:
    with pytest.raises(DocumentError, match="UTF-8") as caught:
        load(data)
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    "unit",
    [
        "[",
        "{",
        "- ",
        "? ",
        '"\n',
        "#\n",
        ",",
        "\\x41",
        "\x85",
        "-",
        "!",
        "&a",
        "%41",
        " a\n\n",
        ":",
        "''",
        "|",
        "\r",
        "a: ",
    ],
)
@pytest.mark.parametrize("start", ["", '"', "[", "a: |\n", "!"])
def test_a_whole_document_of_one_thing_is_read_or_refused_quickly(unit: str, start: str) -> None:
    data = (start + unit * (1_000_000 // len(unit))).encode()
    begun = time.process_time()
    read_or_refuse(data)
    assert time.process_time() - begun < 5


def read_or_refuse(data: bytes) -> None:
    """Nothing but a value or a DocumentError may come out."""
    place = (1, 1)
    try:
        load(data)
    except DocumentError as error:
        place = (error.line, error.column)
    assert min(place) >= 1


def test_limits_are_reachable() -> None:
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert load(deep) is not None
    assert len(load(b"- 1\n" * (MAX_NODES - 1))) == MAX_NODES - 1
    assert len(load(b'"' + b"x" * (MAX_BYTES - 2) + b'"')) == MAX_BYTES - 2


def test_an_error_without_a_file_begins_with_the_line() -> None:
    with pytest.raises(DocumentError, match=r"^line 1, column 1: "):
        load(b"@")


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read_or_refuse(data)


@given(st.text("ab01:-#?[]{},'\"|>&*!%@\\ \n\r\t~.u\x85", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refuse(text.encode())


@given(documents())
def test_both_parsers_read_what_a_person_wrote(written: tuple[str, object]) -> None:
    text, value = written
    assert same(load(text.encode()), value)
    node = parse(decode(text.encode()), parser=PureParser)
    assert same(None if node is None else node.value, value)
