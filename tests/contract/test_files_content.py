"""The content of files: the bytes as they were, with the headers that make them safe to open, ranges and conditions."""

from __future__ import annotations

import base64
import hashlib
import json
from email.utils import parsedate_to_datetime

import pytest

from contract.client import PEM, Client
from contract.conftest import Place
from contract.test_files import content, upload


def test_content_and_its_headers(admin: Client, place: Place) -> None:
    data = b"0123456789" * 10
    made = upload(admin, place, "dä ta.txt", data, content_type="text/plain; charset=utf-8", key="d").data
    answer = content(admin, place, "d")
    assert answer.body == data
    headers = answer.headers
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Content-Length"] == "100"
    assert headers["Content-Disposition"] == "inline; filename=\"da ta.txt\"; filename*=UTF-8''d%C3%A4%20ta.txt"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert headers["Digest"] == f"sha-256={digest}"
    assert headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert (
        parsedate_to_datetime(headers["Last-Modified"]).timestamp()
        <= parsedate_to_datetime(headers["Date"]).timestamp()
    )
    assert made["checksum_sha256"] == base64.b64decode(digest).hex()
    assert headers["Set-Cookie"] is None


@pytest.mark.parametrize(
    ("asked", "status", "got"),
    [("bytes=0-9", 206, b"0123456789"), ("bytes=95-", 206, b"56789"), ("bytes=-5", 206, b"56789"), ("bytes=99-99",
        206, b"9"),
     ("bytes=90-500", 206, b"0123456789"), ("bytes=-500", 206, None), ("bytes=90-99999999999999999999", 206,
         b"0123456789"), ("bytes=-99999999999999999999", 206, None), ("bytes=0000000000000000000095-", 206, b"56789"),
     ("bytes=100-", 416, None), ("bytes=-0", 416,
         None),
     ("bytes=9999999999999999999999-", 416, None), ("bytes=5-2", 200, None), ("bytes=0-1,5-6", 200, None),
     ("lines=1-2", 200, None), ("bytes=a-b", 200, None), ("bytes=-", 200, None), ("", 200, None)],
)  # fmt: skip
def test_a_range(admin: Client, place: Place, asked: str, status: int, got: bytes | None) -> None:
    data = b"0123456789" * 10
    upload(admin, place, "d", data)
    answer = content(admin, place, "d", Range=asked)
    assert answer.status == status
    if status == 416:
        assert answer.headers["Content-Range"] == "bytes */100"
        assert answer.error["code"] == "RANGE_NOT_SATISFIABLE"
    else:
        assert answer.body == (got if got is not None else data)
    if status == 206:
        assert answer.headers["Content-Length"] == str(len(answer.body))
        assert answer.headers["Content-Range"].endswith("/100")
    assert admin.ask("HEAD", f"{place.at}/files/d/content", headers={"Range": asked}).status == 200


def test_conditions_on_content(admin: Client, place: Place) -> None:
    upload(admin, place, "d", b"0123456789")
    first = content(admin, place, "d")
    date, tag = first.headers["Last-Modified"], first.etag
    assert content(admin, place, "d", If_None_Match=tag).status == 304
    assert content(admin, place, "d", If_Modified_Since=date).status == 304
    assert content(admin, place, "d", If_Modified_Since=date, If_None_Match='"x"').status == 200
    assert content(admin, place, "d", If_Modified_Since="Mon, 01 Jan 2001 00:00:00 GMT").status == 200
    assert content(admin, place, "d", If_Modified_Since="nonsense").status == 200
    assert content(admin, place, "d", If_Match='"x"').code == (412, "PRECONDITION_FAILED")
    assert content(admin, place, "d", If_Match=tag).status == 200
    assert content(admin, place, "d", If_Unmodified_Since="Mon, 01 Jan 2001 00:00:00 GMT").status == 412
    assert content(admin, place, "d", Range="bytes=0-1", If_Range=tag).status == 206
    assert content(admin, place, "d", Range="bytes=0-1", If_Range='"x"').status == 200
    upload(admin, place, "d", b"changed")
    assert content(admin, place, "d", If_None_Match=tag).status == 200
    assert content(admin, place, "d", "?version=1", If_None_Match=tag).status == 304


@pytest.mark.parametrize(
    "kind",
    ["text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/xml", "TEXT/HTML; charset=utf-8",
     "application/rss+xml", "application/javascript", "text/javascript", "multipart/related"],
)  # fmt: skip
def test_what_a_browser_would_run_is_sandboxed(admin: Client, place: Place, kind: str) -> None:
    upload(admin, place, "x", b"<script>alert(1)</script>", content_type=kind)
    headers = content(admin, place, "x").headers
    assert headers["Content-Type"] == kind
    assert "sandbox" in headers["Content-Security-Policy"]
    assert "allow-scripts" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_text_file_with_a_credential_is_refused(admin: Client, place: Place) -> None:
    key = PEM.encode()
    assert upload(admin, place, "id_rsa", key).code == (400, "VALIDATION_ERROR")
    assert upload(admin, place, "a.md", b"x", description=key.decode()).code == (400, "VALIDATION_ERROR")
    assert json.dumps(admin.get(f"{place.at}/files").data) == "[]"
