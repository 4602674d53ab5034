"""Finds text that is certainly a credential, and nothing else.

Certain means: a private-key block; a provider's own token format, with its checksum where it has one; a signed
JSON web token. Names, hashes, UUIDs, identifiers that are not secret and placeholders in documentation are never found.
Every search is linear in the length of the text.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_plus

import msgspec

from gitstore import errors

HINT = "Revoke it if it was ever shared, keep it in your secret store, and write a reference such as secret:name here."

_LIMIT = 100
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Found(msgspec.Struct, frozen=True):
    """One credential. `find` sets `pointer` (RFC 6901), `find_text` sets `line` and `column` (from 1, in characters).

    It never holds the credential itself: where an object's key is one, the pointer shows `…` in its place.
    """

    what: str
    pointer: str = ""
    line: int = 0
    column: int = 0

    @property
    def hint(self) -> str:
        """What to do about it."""
        return HINT


def find(value: Any) -> list[Found]:
    """Every credential in JSON data, object keys included, in document order; at most 100."""
    try:
        data = msgspec.json.encode(value)
    except (OverflowError, TypeError, ValueError, RecursionError):
        # Integers beyond 64 bits and lone surrogates are not encoded in one go: walk with every rule instead.
        return _walk(value, _RULES)
    rules = _candidates(data)
    return _walk(value, rules) if rules else []


def find_text(text: str) -> list[Found]:
    """Every credential in a text file, in order, with line and column; at most 100."""
    found: list[Found] = []
    line, begin = 1, 0
    for start, what in _hits(text, _candidates(text.encode("utf-8", "replace"))):
        line += text.count("\n", begin, start)
        begin = start
        found.append(Found(what, line=line, column=start - text.rfind("\n", 0, start)))
        if len(found) == _LIMIT:
            break
    return found


def refuse(found: Sequence[Found], subject: str) -> None:
    """Raise errors.SecretFound if there is any; `subject` opens the message: 'memory key x', 'spec', 'notes/a.md'.

    `details.errors` has a {pointer, message} for each, or {line, column, message} for text.
    """
    if not found:
        return
    first = found[0]
    where = (
        f" at line {first.line}, column {first.column}" if first.line else f" at {first.pointer}" * bool(first.pointer)
    )
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    listed: list[dict[str, Any]] = []
    for one in found:
        place = {"line": one.line, "column": one.column} if one.line else {"pointer": one.pointer}
        listed.append({**place, "message": f"holds {one.what}"})
    raise errors.SecretFound(f"{subject} holds {first.what}{where}{more}. {HINT}", details={"errors": listed})


def checksum(text: str) -> str:
    """The six base-62 characters that close GitHub's and npm's tokens and our own keys: the CRC-32 of what goes before.

    The digits are 0-9A-Za-z with leading zeros, as GitHub described its format in April 2021.
    """
    rest, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = _ALPHABET[digit] + digits
    return digits


# --- repository URLs ---------------------------------------------------------------------------------------------

_SECRET_PARAMETER = re.compile(
    r"(?:.*_)?(?:access_?key|api_?key|auth|authorization|bearer|jwt|pass|passphrase|passwd|password|pat|private_?key"
    r"|pwd|secret|secret_?key|sig|signature)|key|.*token"
)
_SCP_PASSWORD = re.compile(r"[^/@:\s]+:[^@\s]+@(?:[^/@:\s]+:|[^/@:\s]+\.[^/@:\s]+/)")


def url_secret(url: str) -> bool:
    """Whether a repository URL (with a scheme, or in scp form) carries a password or token.

    That is: a password before the host; a user name that is itself a token (over http and https); a query parameter or
    fragment that is named like a secret; or text anywhere that is certainly a credential. `git@host` and other plain
    user names are none.
    """
    if find_text(url) or find_text(unquote(url)):
        return True
    scheme, mark, rest = url.strip().partition("://")
    if not mark:
        return _SCP_PASSWORD.match(scheme) is not None
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    user, at, host = authority.rpartition("@")
    if at:
        name, colon, password = unquote(user).partition(":")
        if (colon and password) or (scheme.lower() in ("http", "https") and _token_like(name)):
            return True
    elif "@" in rest and re.search(r":(?!\d*$)", host) and not host.startswith("["):
        return True  # `user:pa/ss@host`: the password holds a character that ends the authority
    tail = rest[len(authority) :]
    for part in re.split(r"[?#&;]", tail)[1:]:
        name, _, text = part.partition("=")
        name = unquote_plus(name).lower().replace("-", "_")
        if text and _SECRET_PARAMETER.fullmatch(name):
            return True
    return False


def _token_like(name: str) -> bool:
    """A user name that no person would choose: 32 characters or more, with digits among the letters."""
    long = re.fullmatch(r"[A-Za-z0-9_=-]{32,}", name) is not None
    return long and len(re.findall(r"\d", name)) > 2 and _varied(name, 8)


# --- rules -------------------------------------------------------------------------------------------------------


class _Rule(NamedTuple):
    what: str
    marker: str  # text that every credential of this kind contains; makes the search cheap where there is none
    search: Callable[[str], Iterator[int]]  # where each begins


_Sure = Callable[[str], bool]

# Words and runs that stand in documentation and never in a random token (the odds of either in 100 random characters
# are below 1 in 1,000).
_PLACEHOLDER = re.compile(
    r"example|placeholder|your|redact|dummy|sample|changeme|insert|secret|token|passw|test|fake|xxxx|0000"
    r"|12345678|abcdefgh|(.)\1{4}",
    re.IGNORECASE,
)


def _varied(text: str, distinct: int) -> bool:
    """Whether text looks drawn at random: enough different characters, of two classes, and no placeholder's words."""
    if len(set(text)) < distinct or _PLACEHOLDER.search(text):
        return False
    return any(c.isdigit() for c in text) + any(c.islower() for c in text) + any(c.isupper() for c in text) > 1


def _random(prefix: int, distinct: int) -> _Sure:
    return lambda token: _varied(token[prefix:], distinct)


def _dotted(prefix: int, distinct: int) -> _Sure:
    """For formats that a long dotted name in a program could have: a digit is asked for as well."""
    return lambda token: any(c.isdigit() for c in token) and _varied(token[prefix:], distinct)


def _crc_body(token: str) -> bool:
    """GitHub's classic tokens and npm's: the checksum covers what stands between the prefix and it."""
    return checksum(token[4:-6]) == token[-6:]


def _crc_whole(token: str) -> bool:
    """Our own keys and tokens: the checksum covers all before it."""
    return checksum(token[:-6]) == token[-6:]


def _gitlab(token: str) -> bool:
    """GitLab's routable tokens end in the CRC-32 of all before it, in base 36; the older kind is just random."""
    head, dot, _ = token.partition(".")
    if not dot:
        return _varied(head[head.index("-") + 1 :], 10)
    return int(token[-7:], 36) == zlib.crc32(token[:-7].encode())


def _letters(token: str) -> bool:
    """Hugging Face: letters only, so the case must change as often as chance has it, not as words do."""
    body = token[3:]
    changes = sum(a.isupper() != b.isupper() for a, b in pairwise(body))
    return changes > 9 and _varied(body, 14)


def _matching(pattern: str, sure: _Sure) -> Callable[[str], Iterator[int]]:
    compiled = re.compile(pattern, re.ASCII)

    def search(text: str) -> Iterator[int]:
        for match in compiled.finditer(text):
            start = match.start()
            if (start == 0 or text[start - 1] not in _ALPHABET) and sure(match[0]):
                yield start

    return search


_PEM = re.compile(r"-{4,5} ?BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
# What may stand between the opening line and the key: line ends (also spelled \n), quotes, indentation, and headers.
_PEM_LEAD = re.compile(r"(?:\s|\\[nrt]|[\"'+,>#|]|[A-Z][A-Za-z0-9-]{1,30}: [^\r\n\\]{0,200}(?=[\r\n\\]))*")
_PEM_BODY = re.compile(r"[A-Za-z0-9+/]{16,}")
_PEM_STARTS = ("MI", "MH", "MF", "MC", "MD", "MG", "ME", "b3BlbnNzaC1rZXktdjE")


def _private_keys(text: str) -> Iterator[int]:
    """Blocks with a key in them (RFC 7468, OpenSSH, OpenPGP; encrypted ones too), not the mere words."""
    for match in _PEM.finditer(text):
        lead = _PEM_LEAD.match(text, match.end(), match.end() + 600)
        body = _PEM_BODY.match(text, lead.end() if lead else match.end(), match.end() + 700)
        if body is None or text[body.end() : body.end() + 1] in (".", "<", "…", "_", "*"):
            continue
        # A whole line of an encrypted key is random; a short one must not be a placeholder's words run together.
        line = body[0][:76]
        if line.startswith(_PEM_STARTS) or (len(line) > 47 and len(set(line)) > 15) or _varied(line, 8):
            yield match.start()


_OPENAI = re.compile(r"sk-(?:[A-Za-z0-9]{1,10}-)?[A-Za-z0-9_-]{20,120}T3BlbkFJ[A-Za-z0-9_-]{20,120}")


def _openai(text: str) -> Iterator[int]:
    """OpenAI's keys have `OpenAI` in base 64 in their middle; the start is looked for backwards from there."""
    at = text.find("T3BlbkFJ")
    while at >= 0:
        start = text.rfind("sk-", max(0, at - 140), at)
        match = _OPENAI.match(text, start) if start >= 0 else None
        if match and (start == 0 or text[start - 1] not in _ALPHABET) and _varied(match[0][3:], 14):
            yield start
            at = match.end()
        at = text.find("T3BlbkFJ", at + 8)


_SEGMENT = re.compile(r"[A-Za-z0-9_-]*")


def _json_object(segment: str) -> dict[str, Any] | None:
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        return msgspec.json.decode(data, type=dict[str, Any])
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None  # not JSON: ordinary text that happens to begin like a token


def _jwts(text: str) -> Iterator[int]:
    """Signed JSON web tokens in compact form (RFC 7515, 7.1): header and payload decode, the header names `alg`."""
    at, end = text.find("eyJ"), 0
    while at >= 0:
        start, at = at, text.find("eyJ", at + 3)
        if start > 0 and text[start - 1] in _ALPHABET:
            continue
        if start >= end:  # many starts may share one long segment: find its end once
            end = _end(text, start)
        if end - start > 8192 or text[end : end + 1] != ".":
            continue
        header = _json_object(text[start:end])
        if header is None or not isinstance(header.get("alg"), str):
            continue
        middle = _end(text, end + 1)
        last = _end(text, middle + 1) if text[middle : middle + 1] == "." else middle
        if last > middle + 1 and middle - end <= 65536 and _json_object(text[end + 1 : middle]) is not None:
            yield start
            at = text.find("eyJ", last)


def _end(text: str, start: int) -> int:
    match = _SEGMENT.match(text, start)
    return match.end() if match else start


_AWS = re.compile(r"(?i:secret_?access_?key)[\"']?\s{0,4}(?:=>|[:=])\s{0,4}[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])")


def _aws(text: str) -> Iterator[int]:
    """AWS secret keys: they have no mark of their own, so they are certain only beside their name, if random."""
    for match in _AWS.finditer(text):
        kinds = {(c.isupper(), c.islower(), c.isdigit()) for c in match[1]}
        if len(kinds - {(False, False, False)}) == 3 and _varied(match[1], 18):
            yield match.start()


_END = r"(?![A-Za-z0-9_-])"

# (what, markers, pattern, proof)
_FORMATS: tuple[tuple[str, str, str, _Sure], ...] = (
    ("a GitHub token", "ghp_ gho_ ghu_ ghs_", r"gh[pous]_[A-Za-z0-9]{36}(?![A-Za-z0-9_])", _crc_body),
    ("a GitHub refresh token", "ghr_", r"ghr_(?:[A-Za-z0-9]{76}|[A-Za-z0-9]{36})(?![A-Za-z0-9_])", _crc_body),
    ("a GitHub token", "github_pat_", rf"github_pat_[0-9][A-Za-z0-9]{{21}}_[A-Za-z0-9]{{59}}{_END}", _random(11, 20)),
    ("an npm token", "npm_", r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9_])", _crc_body),
    (
        "a GitLab token",
        "glpat- gldt- glrt-",
        rf"gl(?:pat|dt|rt)-(?:[A-Za-z0-9_-]{{27,300}}\.01\.[0-9a-z]{{9}}|[A-Za-z0-9_-]{{20}}){_END}",
        _gitlab,
    ),
    ("a GitLab token", "glptt-", rf"glptt-[0-9a-f]{{40}}{_END}", _random(6, 8)),
    (
        "a Slack token",
        "xox",
        rf"xox[abcoprs]-(?:\d-)?\d{{9,15}}-(?:\d{{9,15}}-){{0,2}}(?:[A-Za-z0-9]{{18,34}}|[0-9a-f]{{64}}){_END}",
        _random(5, 12),
    ),
    ("a Slack token", "xox", rf"xoxe(?:\.xox[bp])?-\d-[A-Za-z0-9]{{140,175}}{_END}", _random(10, 20)),
    ("a Slack token", "xapp-", rf"xapp-\d-[A-Z0-9]{{9,15}}-\d{{9,15}}-[0-9a-f]{{64}}{_END}", _random(7, 12)),
    (
        "a Slack webhook URL",
        "hooks.slack.com/services/",
        rf"hooks\.slack\.com/services/T[A-Z0-9]{{8,12}}/B[A-Z0-9]{{8,12}}/[A-Za-z0-9]{{24}}{_END}",
        lambda token: _varied(token[-24:], 12),
    ),
    ("a Stripe key", "k_live_", rf"[sr]k_live_[A-Za-z0-9]{{24,247}}{_END}", _random(8, 10)),
    ("a Google API key", "AIza", rf"AIza[A-Za-z0-9_-]{{35}}{_END}", _random(4, 14)),
    ("a Google client secret", "GOCSPX-", rf"GOCSPX-[A-Za-z0-9_-]{{28}}{_END}", _random(7, 12)),
    ("a PyPI token", "pypi-AgE", r"pypi-AgE(?:IcHlwaS5vcmc|NdGVzdC5weXBpLm9yZw)[A-Za-z0-9_-]{50,}", _random(25, 20)),
    (
        "an Anthropic key",
        "sk-ant-",
        rf"sk-ant-(?:api|admin|oat|ort|sid)\d\d-[A-Za-z0-9_-]{{80,130}}{_END}",
        _random(13, 20),
    ),
    ("an OpenRouter key", "sk-or-v1-", rf"sk-or-v1-[0-9a-f]{{64}}{_END}", _random(9, 10)),
    ("a SendGrid key", "SG.", rf"SG\.[A-Za-z0-9_-]{{22}}\.[A-Za-z0-9_-]{{43}}{_END}", _dotted(3, 20)),
    ("a DigitalOcean token", "_v1_", rf"do[opr]_v1_[0-9a-f]{{64}}{_END}", _random(7, 10)),
    ("a Vault token", "hvs.", r"hvs\.[A-Za-z0-9_-]{24,}", _dotted(4, 12)),
    ("a Vault token", "hvb.", r"hvb\.[A-Za-z0-9_-]{130,}", _dotted(4, 20)),
    ("a Hugging Face token", "hf_", rf"hf_[A-Za-z]{{34}}{_END}", _letters),
    ("a Groq key", "gsk_", rf"gsk_[A-Za-z0-9]{{52}}{_END}", _random(4, 18)),
    ("an xAI key", "xai-", rf"xai-[A-Za-z0-9]{{80}}{_END}", _random(4, 20)),
    ("a Docker token", "dckr_pat_", rf"dckr_pat_[A-Za-z0-9_-]{{27}}{_END}", _random(9, 12)),
    (
        "a Grafana token",
        "glsa_",
        rf"glsa_[A-Za-z0-9]{{32}}_[0-9a-f]{{8}}{_END}",
        _random(5, 14),
    ),
    ("an age private key", "AGE-SECRET-KEY-1", rf"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{{58}}{_END}", _random(16, 14)),
    (
        "a gitstore key",
        "gs_agent_ gs_worker_ gs_admin_ gs_service_",
        rf"gs_(?:agent|worker|admin|service)_[A-Za-z0-9]{{44}}{_END}",
        _crc_whole,
    ),
    ("a gitstore token", "gs_token_", rf"gs_token_[A-Za-z0-9_-]{{78}}{_END}", _crc_whole),
    ("a gitstore master key", "gitstore-key-1-", rf"gitstore-key-1-[A-Za-z0-9_-]{{43}}{_END}", _random(15, 14)),
)

_RULES: tuple[_Rule, ...] = (
    _Rule("a private key", "PRIVATE KEY", _private_keys),
    _Rule("a JSON web token", "eyJ", _jwts),
    _Rule("an OpenAI key", "T3BlbkFJ", _openai),
    *(_Rule("an AWS secret key", name, _aws) for name in ("ecret_access_key", "ECRET_ACCESS_KEY", "ecretAccessKey")),
    *(
        _Rule(what, marker, search)
        for what, markers, pattern, sure in _FORMATS
        for search in [_matching(pattern, sure)]
        for marker in markers.split()
    ),
)

# Every credential above holds 16 characters of these in a row; most JSON values do not, and are done in a microsecond.
_TOKEN_BYTES = bytes(97 if chr(c).isascii() and (chr(c).isalnum() or chr(c) in "_-+/") else 32 for c in range(256))
_RUN = b"a" * 16


def _grouped(rules: Sequence[_Rule]) -> tuple[tuple[str, tuple[_Rule, ...]], ...]:
    """Rules by a character that their marker holds, so that one look for it rules out the whole group."""
    gates = [next((c for c in "_-." if c in rule.marker), "") for rule in rules]
    return tuple(
        (gate, tuple(r for r, g in zip(rules, gates, strict=True) if g == gate)) for gate in sorted(set(gates))
    )


_GROUPS = _grouped(_RULES)
# The formats that may hold no capital letter. UUIDs, hashes, paths and slugs in small letters need only these.
_SMALL = _grouped([rule for rule in _RULES if rule.marker in ("glptt-", "xox", "sk-or-v1-", "_v1_")])


def _candidates(data: bytes) -> list[_Rule]:
    """The rules that could find something: there is a long run of token characters, and their marker occurs."""
    runs = data.translate(_TOKEN_BYTES)
    if _RUN not in runs:
        return []
    groups = _GROUPS if len(data) > 4096 or _capital(data, runs) else _SMALL
    text = data.decode("utf-8", "replace")
    return [rule for gate, rules in groups if gate in text for rule in rules if rule.marker in text]


def _capital(data: bytes, runs: bytes) -> bool:
    """Whether a long run of token characters holds a capital letter."""
    start = runs.find(_RUN)
    while start >= 0:
        end = runs.find(b" ", start)
        run = data[start : end if end >= 0 else None]
        if run != run.lower():
            return True
        start = runs.find(_RUN, end) if end >= 0 else -1
    return False


def _hits(text: str, rules: Sequence[_Rule]) -> list[tuple[int, str]]:
    """(start, what) of every credential in the text, in order."""
    return sorted({(start, rule.what) for rule in rules for start in rule.search(text)})


def _walk(value: Any, rules: Sequence[_Rule]) -> list[Found]:
    """Look at each text of the data by itself, and at `key=text` for the rules that need a name."""
    named = [rule for rule in rules if rule.search is _aws]
    found: list[Found] = []
    stack: list[tuple[str, str, Any]] = [("", "", value)]
    while stack and len(found) < _LIMIT:
        pointer, key, item = stack.pop()
        if isinstance(item, str):
            seen = _hits(item, rules) or (_hits(f"{key}={item}", named) if named else [])
            found.extend(Found(what, pointer) for what in dict.fromkeys(what for _, what in seen))
        elif isinstance(item, dict):
            below: list[tuple[str, str, Any]] = []
            for name, child in item.items():
                shown = str(name)
                if seen := _hits(shown, rules):
                    found.append(Found(f"{seen[0][1]} as a key", pointer))
                    shown = "…"
                below.append((f"{pointer}/{shown.replace('~', '~0').replace('/', '~1')}", shown, child))
            stack.extend(reversed(below))
        elif isinstance(item, list | tuple):
            stack.extend((f"{pointer}/{i}", "", item[i]) for i in reversed(range(len(item))))
    return found[:_LIMIT]
