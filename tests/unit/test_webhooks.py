"""Webhooks: what a call says, and whether its signature holds."""

from __future__ import annotations

import hashlib
import hmac
import json
from urllib.parse import urlencode

import pytest

from gitstore import webhooks

SECRET = "the-secret-of-the-hook"
BODY = json.dumps({"ref": "refs/heads/main", "repository": {"clone_url": "https://git.example/a/b.git"}}).encode()
DIGEST = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
HEADERS = {
    "github": {"X-Hub-Signature-256": f"sha256={DIGEST}"},
    "gitea": {"X-Gitea-Signature": DIGEST},
    "gitlab": {"X-Gitlab-Token": SECRET},
}


@pytest.mark.parametrize("provider", list(HEADERS))
def test_signatures(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    ((name, right),) = HEADERS[provider].items()
    assert webhooks.verify(provider, SECRET, {name: right}, BODY)
    assert webhooks.verify(provider, SECRET, {name.lower(): right}, BODY)
    for wrong in ("", right[:-1], right + "0", "\udcff\udcfe", "é" * 64, right[::-1]):
        assert not webhooks.verify(provider, SECRET, {name: wrong}, BODY)
    assert not webhooks.verify(provider, SECRET, {}, BODY)
    assert not webhooks.verify(provider, SECRET + "x", {name: right}, BODY)
    if provider != "gitlab":
        assert not webhooks.verify(provider, SECRET, {name: right}, BODY + b" ")
    assert len(compared) >= 10
    if provider == "gitlab":
        assert set(compared) == {(32, 32)}  # however long what was sent is


@pytest.mark.parametrize(
    ("body", "ref"),
    [
        (BODY, "refs/heads/main"),
        (("payload=" + urlencode({"x": BODY.decode()})[2:]).encode(), "refs/heads/main"),
        (b'{"zen": "ping"}', None),
        (b'{"ref": "main"}', None),
        (b'{"ref": 7}', None),
        (b"[]", None),
        (b"{", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_the_ref_that_was_pushed_to(body: bytes, ref: str | None) -> None:
    assert webhooks.ref(body) == ref
    assert webhooks.repository_urls(body) == ({"git.example/a/b"} if ref else set())
