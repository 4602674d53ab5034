"""Bodies and queries: what is no JSON is refused, what is comes back as it was sent; limits of size and type."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest

from contract.client import API, TIME, Client
from contract.conftest import Place


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


MALFORMED = {
    "empty": b"",
    "blank": b"  ",
    "half": b'{"key": "k", "value": ',
    "two": b'{"key":"k","value":1} {}',
    "comma": b'{"key":"k","value":1,}',
    "quotes": b"{'key':'k'}",
    "latin": '{"key":"k","value":"é"}'.encode("latin-1"),
    "utf-16": '{"key":"k","value":1}'.encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"key":"k","value":1}',
    "nan": b'{"key":"k","value":NaN}',
    "infinity": b'{"key":"k","value":-Infinity}',
    "overflow": b'{"key":"k","value":1e400}',
    "nul": b'{"key":"k","value":"a\\u0000b"}',
    "nul in a key": b'{"key":"k","value":{"a\\u0000":1}}',
    "nul in the key": b'{"key":"k\\u0000","value":1}',
    "surrogate": b'{"key":"k","value":"\\ud800"}',
    "low surrogate": b'{"key":"k","value":["\\udc00x"]}',
    "surrogate key": b'{"key":"k","value":{"\\udfff":1}}',
    "deep": b'{"key":"k","value":' + nested(64) + b"}",
    "very deep": b'{"key":"k","value":' + nested(100000) + b"}",
    "precise": b'{"key":"k","value":0.1000000000000000055511151231257827021181583404541015625}',
    "long": b'{"key":"k","value":' + b"9" * 5000 + b"}",
    "control": b'{"key":"k","value":"a\nb"}',
    "encoded surrogate": b'{"key":"k","value":"\xed\xa0\x80"}',
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_json_is_400_and_changes_nothing(admin: Client, place: Place, name: str) -> None:
    answer = admin.patch(f"{place.at}/memory", MALFORMED[name], headers={"Content-Type": "application/json"})
    assert answer.code == (400, "MALFORMED_REQUEST")
    assert admin.get(f"{place.at}/memory").data == {}


def test_nesting_up_to_64_is_stored(admin: Client, place: Place) -> None:
    body = b'{"key":"k","value":' + nested(63) + b"}"  # the body is the 64th
    assert admin.patch(f"{place.at}/memory", body, headers={"Content-Type": "application/json"}).status == 200
    assert nested(63) in admin.get(f"{place.at}/memory/k").body


NUMBERS = ["12345678901234567890123", "-0", "-0.0", "1.10", "1e3", "1E+2", "0.1", "5e-324", "1.7976931348623157e308",
           "9007199254740993", "-12345678901234567890123456789012345678901234567890", "1.0", "100000000000000000000.0",
           "0e999", "123456789.123"]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_comes_back_equal(admin: Client, place: Place, number: str) -> None:
    body = b'{"key":"k","value":' + number.encode() + b"}"
    answer = admin.patch(f"{place.at}/memory", body, headers={"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    data = admin.get(f"{place.at}/memory/k").body
    match = re.search(rb'"value":([^,}]+)', data)
    assert match is not None
    shown = match[1].decode()
    assert Decimal(shown) == Decimal(number)
    assert ("." in shown or "e" in shown.lower()) is ("." in number or "e" in number.lower()), shown
    assert shown.startswith("-") is number.startswith("-") or Decimal(number) == 0


def test_text_of_every_script_survives(admin: Client, place: Place) -> None:
    value = {"ключ": ["日本語", "🧪", "e\u0301", "é", "\u2028\u2029", "\u202e", "a\tb\r\nc", "\x7f", "\ufeff", "\ufffe",
                      "\U0010ffff"],
             "NO": "no", "~": "~", "1e3": "1e3", "": "", " x ": " x ", "0x10": "0x10"}  # fmt: skip
    answer = admin.patch(f"{place.at}/memory", {"key": "t", "value": value})
    assert answer.status == 200, answer.body
    assert answer.data["memory"] == {"t": value}
    assert list(admin.get(f"{place.at}/memory/t").data["value"]) == list(value)


def test_objects_keep_their_order(admin: Client, place: Place) -> None:
    body = b'{"key":"k","value":{"z":1,"a":2,"m":{"9":1,"1":2,"b":3},"A":4}}'
    admin.patch(f"{place.at}/memory", body, headers={"Content-Type": "application/json"})
    assert b'{"z":1,"a":2,"m":{"9":1,"1":2,"b":3},"A":4}' in admin.get(f"{place.at}/memory").body


@pytest.mark.parametrize(
    ("kind", "status"),
    [("application/json", 200), ("application/json; charset=utf-8", 200), ('application/json;charset="UTF-8"', 200),
     ("application/merge-patch+json", 200), ("APPLICATION/JSON", 200), ("application/json; charset=latin-1", 415),
     ("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("multipart/form-data; boundary=x", 415),
     ("text/json", 415), ("json", 415), ("", 415)],
)  # fmt: skip
def test_media_types_of_a_body(admin: Client, place: Place, kind: str, status: int) -> None:
    body = json.dumps({"key": "k", "value": 1}).encode()
    answer = admin.patch(f"{place.at}/memory", body, headers={"Content-Type": kind})
    assert answer.status == status
    if status == 415:
        assert answer.error["code"] == "UNSUPPORTED_MEDIA_TYPE"


def test_a_body_without_a_type_is_415(admin: Client, place: Place) -> None:
    assert admin.patch(f"{place.at}/memory", b"{}").code == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_body_at_the_limit_passes_and_one_byte_more_is_413(admin: Client, place: Place) -> None:
    limit = 2 * 1024 * 1024
    body = json.dumps({"key": "k", "value": 1}).encode()
    kind = {"Content-Type": "application/json"}
    assert admin.patch(f"{place.at}/memory", body.ljust(limit), headers=kind).status == 200
    over = admin.patch(f"{place.at}/memory", body.ljust(limit + 1), headers=kind)
    assert over.code == (413, "PAYLOAD_TOO_LARGE")
    assert str(limit) in over.error["message"]
    chunked = b"".join(b"10000\r\n" + b" " * 0x10000 + b"\r\n" for _ in range(33)) + b"0\r\n\r\n"
    head = f"PATCH {API}{place.at}/memory HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin.key}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert admin.raw(head.encode() + chunked).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("query", ["q=%FF", "q=%00", "q=a%ED%A0%80", "sort=%00"])
def test_a_query_that_is_not_text_is_400(admin: Client, query: str) -> None:
    assert admin.get(f"/workspaces?{query}").code == (400, "MALFORMED_REQUEST")


def test_a_parameter_given_twice_is_refused(admin: Client) -> None:
    assert admin.get("/workspaces?page=1&page=2").pointers == ["/page"]


def test_what_is_not_http_is_answered_in_the_envelope(admin: Client) -> None:
    for junk in (b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /x HTTP/1.1\r\nbad header\r\n\r\n",
                 b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n"):  # fmt: skip
        answer = admin.raw(junk)
        assert answer.split(b" ")[1] == b"400", answer[:200]
        assert b'"MALFORMED_REQUEST"' in answer


def test_times_are_utc_with_milliseconds(admin: Client, place: Place) -> None:
    record = place.read()
    assert TIME.fullmatch(record["created_at"])
    assert TIME.fullmatch(record["updated_at"])
    assert record["created_at"] <= record["updated_at"]
