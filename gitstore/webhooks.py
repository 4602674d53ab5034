"""Webhooks of git hosts: which repository a call is about, and whether its signature holds.

GitHub and Gitea sign the body with HMAC-SHA-256 (`X-Hub-Signature-256: sha256=<hex>`, `X-Gitea-Signature: <hex>`);
GitLab sends the secret itself (`X-Gitlab-Token`). Everything is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from gitstore import values
from gitstore.errors import Malformed

_URLS = ("clone_url", "ssh_url", "git_url", "html_url", "url", "git_http_url", "git_ssh_url", "homepage", "web_url")
_URL = re.compile(r"^(?:[a-z][a-z0-9+.-]*://)?(?:[^@/]*@)?([^/:]+)(?::\d+(?=/))?[:/]+(.+?)(?:\.git)?/*$", re.IGNORECASE)


def repository_urls(body: bytes) -> set[str]:
    """The repository a call's body is about, as `host/path` in every form it names; empty for what is no such call."""
    payload = _payload(body)
    found: set[str] = set()
    if isinstance(payload, dict):
        for place in (payload.get("repository"), payload.get("project")):
            if isinstance(place, dict):
                found |= {one for name in _URLS if (one := _normal(place.get(name))) is not None}
    return found


def ref(body: bytes) -> str | None:
    """The ref that was pushed to, in full; None where the call does not say (a ping, another event)."""
    payload = _payload(body)
    found = payload.get("ref") if isinstance(payload, dict) else None
    return found if isinstance(found, str) and found.startswith("refs/") else None


def _payload(body: bytes) -> Any:
    if body.startswith(b"payload="):  # GitHub's form encoding
        body = parse_qs(body.decode("utf-8", "replace")).get("payload", [""])[0].encode()
    try:
        return values.decode(body)
    except Malformed:
        return None


def _normal(url: object) -> str | None:
    match = _URL.match(url) if isinstance(url, str) else None
    return f"{match[1].lower()}/{match[2].strip('/').lower()}" if match else None


def same_repository(url: str | None, urls: set[str]) -> bool:
    """Whether a workspace's repository URL is one of those a call named, however it is spelled."""
    return _normal(url) in urls if url is not None else False


def verify(provider: str, secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the call was made by somebody who knows the secret. Header names in any case."""
    given = {name.lower(): value for name, value in headers.items()}
    if provider == "gitlab":
        # Digests of one length are compared: comparing texts of different lengths would tell that they are.
        sent, known = (hashlib.sha256(_bytes(text)).digest() for text in (given.get("x-gitlab-token", ""), secret))
        return hmac.compare_digest(sent, known)
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if provider == "github":
        claim = given.get("x-hub-signature-256", "").removeprefix("sha256=")
    else:
        claim = given.get("x-gitea-signature", "")
    return hmac.compare_digest(_bytes(claim.lower()), digest.encode())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # as the server decoded them: a header may hold any byte
