"""What the documents of a workspace must look like, said once for every door.

The API, a push and an edit by hand are held to these same functions. Each takes a value of the JSON data model,
names the place of a fault by a JSON pointer, and raises Invalid (SecretFound for credentials); none alters a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from gitstore import credentials, media, names
from gitstore.errors import Invalid, SecretFound
from gitstore.model import SECRET_PLACEHOLDER, Fields

Policy = Literal["refuse", "allow"]

SPEC_PARTS: Final = ("resources", "documents", "tools", "config", "instructions")
STORAGE_TYPES: Final = ("git_remote", "host_directory", "workspace_artifacts")
CHECKOUT_MODES: Final = ("auto", "manual")
WEBHOOK_PROVIDERS: Final = ("github", "gitea", "gitlab")
RESOURCE_FIELDS: Final[Mapping[str, str]] = {
    "repository": "url",
    "search": "provider",
    "document_store": "provider",
    "cloud_account": "provider",
    "artifact_store": "provider",
    "api": "base_url",
}
DOCUMENT_FIELDS: Final[Mapping[str, str]] = {"repository": "path", "artifact": "logical_path", "external": "url"}

NAME_MAX: Final = 255
DESCRIPTION_MAX: Final = 2000
URL_MAX: Final = 2048
BRIEF_MAX: Final = 20_000
TOKEN_MAX: Final = 20_000
SYNC_INTERVAL: Final = 300  # seconds
SYNC_INTERVAL_MIN: Final = 10
SYNC_INTERVAL_MAX: Final = 7 * 86_400
MEMORY_KEY_MAX: Final = 256
FILE_KEY_MAX: Final = 120

_CREDENTIAL_NAME = re.compile(r"secret|token|password|api[_-]?key|credential", re.IGNORECASE)
_SCP = re.compile(r"(?:(?P<user>[\w.~+][\w.~+-]*)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?!//)[^-].*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%]*", re.ASCII)
# git-check-ref-format(1), for what follows `refs/heads/`; a leading dash would be read as an option.
_BRANCH = re.compile(
    r"(?!-|/|@$|.*(?:\.\.|@\{|//|/\.|\.lock(?:/|$))|\.)[^\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]+(?<![./])", re.DOTALL
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNSEEN = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ufeff]")


class Sync(NamedTuple):
    """How a workspace follows a remote: which branch of which repository, every how many seconds, and who gives way."""

    url: str
    branch: str
    direction: Literal["pull", "push", "both"]
    interval: int
    on_conflict: Literal["keep", "theirs", "stop"]


class Storage(NamedTuple):
    """Where a workspace's work lives, whichever way the settings spell it. `type` is None where they do not say."""

    type: str | None
    repository_url: str | None


def fault(at: str, text: str) -> Invalid:
    """An Invalid that says where (JSON pointer) and what."""
    return Invalid(f"{at or '/'} {text}", details={"pointer": at})


def mapping(value: object, at: str) -> dict[str, Any]:
    """`value`, which must be an object."""
    if not isinstance(value, dict):
        raise fault(at, "must be an object")
    return value


def text(value: object, at: str, *, low: int = 0, high: int) -> str:
    """`value`, which must be a text of `low` to `high` characters."""
    if not isinstance(value, str):
        raise fault(at, "must be a text")
    if not low <= len(value) <= high:
        raise fault(at, f"must have {low} to {high} characters, not {len(value)}")
    return value


def optional(value: object, at: str, *, high: int) -> str | None:
    """`value`, which must be null or a text of at most `high` characters."""
    return None if value is None else text(value, at, high=high)


def no_secret(value: object, subject: str, policy: Policy = "refuse") -> None:
    """Refuses a value that holds text which is certainly a credential; the policy `allow` lets everything pass.

    Raises SecretFound; `subject` opens its message. Git keeps what it is given for ever, so this comes before storing.
    """
    if policy == "refuse" and (found := credentials.find(value)):
        credentials.refuse(found, subject)


# --- workspace.yaml -------------------------------------------------------------------------------------------------


def fields(document: object) -> Fields:
    """`workspace.yaml` as Fields. `id`, `name` and `slug` are required; keys it does not know are left alone."""
    record = mapping(document, "")
    identity = record.get("id")
    if not isinstance(identity, str) or not names.is_uuid(identity):
        raise fault("/id", "must be the workspace's UUID")
    active = record.get("is_active", True)
    if not isinstance(active, bool):
        raise fault("/is_active", "must be true or false")
    slug = text(record.get("slug"), "/slug", low=1, high=100)
    names.check_slug(slug)
    provider = record.get("git_webhook_provider")
    if provider is not None and provider not in WEBHOOK_PROVIDERS:
        raise fault("/git_webhook_provider", f"must be one of {', '.join(WEBHOOK_PROVIDERS)}, or left out")
    url = record.get("repository_url")
    return Fields(
        id=identity.lower(),
        name=text(record.get("name"), "/name", low=1, high=NAME_MAX),
        slug=slug,
        description=optional(record.get("description"), "/description", high=DESCRIPTION_MAX),
        repository_url=None if url is None else repository_url(url),
        is_active=active,
        git_webhook_provider=provider,
    )


def repository_url(value: object, at: str = "/repository_url") -> str:
    """`value`, which must be an absolute http(s), ssh or git URL or the scp form `user@host:path`, ≤ 2048 characters.

    A password or token inside is refused with SecretFound: the URL is shown and committed, a credential never is.
    Forms: "GIT URLS" in git-clone(1). What begins with `-` is refused, because ssh would take it for an option.
    """
    url = text(value, at, low=1, high=URL_MAX)
    if _UNSEEN.search(url):
        raise fault(at, "must not contain white space or control characters")
    if credentials.url_secret(url):
        raise _url_secret(at)
    if "://" not in url:
        found = _SCP.fullmatch(url)
        # A bare `word:rest` is a scheme (`javascript:`, `file:`) as often as a host: without a user it needs a dot.
        if found is None or "\\" in url or (found["user"] is None and "." not in found["host"]):
            raise fault(at, "must be an http(s), ssh or git URL, or of the form user@host:path")
        return url
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise fault(at, f"cannot be read as a URL: {error}") from None
    if parts.scheme not in ("http", "https", "ssh", "git"):
        raise fault(at, f"has the scheme `{parts.scheme}`; http, https, ssh, git and user@host:path are understood")
    if not host or not _HOST.fullmatch(host) or "\\" in url:
        raise fault(at, "has no valid host")
    if unquote(parts.username or "").startswith("-"):
        raise fault(at, "has a user that begins with `-`")
    return url


def _url_secret(at: str) -> SecretFound:
    return SecretFound(
        f"{at} has a password or token inside; take it out and store it with "
        'PATCH {"settings": {"credentials": {"git_token": "…"}}}, where it is sealed',
        details={"pointer": at},
    )


def webhook_provider(value: object, at: str = "/provider") -> str:
    """`value`, which must be one of the webhook senders that are understood."""
    if value not in WEBHOOK_PROVIDERS:
        raise fault(at, f"must be one of {', '.join(WEBHOOK_PROVIDERS)}")
    return str(value)


# --- settings.yaml --------------------------------------------------------------------------------------------------


def settings(value: object, at: str = "") -> dict[str, Any]:
    """The settings object without regard to `credentials`: the keys that mean something have the right shape."""
    record = mapping(value, at)
    for key, high in (
        ("default_branch", 255),
        ("git_user_name", 255),
        ("git_user_email", 320),
        ("workspace_brief", BRIEF_MAX),
        ("planning_playbook_id", 255),
    ):
        optional(record.get(key), f"{at}/{key}", high=high)
    types = set()
    for place, found in (
        (f"{at}/storage/type", _part(record, "storage", at).get("type")),
        (f"{at}/workspace_storage_type", record.get("workspace_storage_type")),
    ):
        if found is not None:
            if found not in STORAGE_TYPES:
                raise fault(place, f"must be one of {', '.join(STORAGE_TYPES)}")
            types.add(found)
    if len(types) > 1:
        raise fault(f"{at}/storage/type", "and workspace_storage_type say different things; keep one of them")
    for name in ("storage", "workspace_storage"):
        url = _part(record, name, at).get("repository_url")
        if url not in (None, ""):
            repository_url(url, f"{at}/{name}/repository_url")
    mode = _part(record, "checkout", at).get("mode")
    if mode is not None and mode not in CHECKOUT_MODES:
        raise fault(f"{at}/checkout/mode", f"must be one of {', '.join(CHECKOUT_MODES)}")
    _sync(_part(record, "sync", at), f"{at}/sync")
    return record


def _sync(record: Mapping[str, Any], at: str) -> None:
    for key, allowed in (("direction", ("pull", "push", "both")), ("on_conflict", ("keep", "theirs", "stop"))):
        if record.get(key) is not None and record[key] not in allowed:
            raise fault(f"{at}/{key}", f"must be one of {', '.join(allowed)}")
    if record.get("url") not in (None, ""):
        repository_url(record["url"], f"{at}/url")
    branch = optional(record.get("branch"), f"{at}/branch", high=255)
    if branch and not _BRANCH.fullmatch(branch):
        raise fault(f"{at}/branch", "is no name that git allows a branch")
    interval = record.get("interval")
    if interval is not None and (not isinstance(interval, int) or isinstance(interval, bool)):
        raise fault(f"{at}/interval", "must be a whole number of seconds")
    if interval is not None and not SYNC_INTERVAL_MIN <= interval <= SYNC_INTERVAL_MAX:
        raise fault(f"{at}/interval", f"must be {SYNC_INTERVAL_MIN} to {SYNC_INTERVAL_MAX} seconds, not {interval}")


def sync(settings: Mapping[str, Any], repository_url: str | None) -> Sync | None:
    """How the workspace follows a remote; None where it follows none. The settings have passed `settings`.

    What is left out: the workspace's own repository URL, its `default_branch` or `main`, `pull`, 300 seconds, `stop`.
    """
    given = {key: held for key, held in (settings.get("sync") or {}).items() if held not in (None, "")}
    url = given.get("url") or repository_url
    if not given or not url:
        return None
    usual = settings.get("default_branch") or ""  # which is any text
    branch = given.get("branch") or (usual if _BRANCH.fullmatch(usual) else "main")
    return Sync(
        url,
        branch.removeprefix("refs/heads/"),
        given.get("direction", "pull"),
        given.get("interval", SYNC_INTERVAL),
        given.get("on_conflict", "stop"),
    )


def sync_needs(settings: Mapping[str, Any], repository_url: str | None, at: str = "") -> None:
    """Refuses to follow a remote that nothing names."""
    given = settings.get("sync") or {}
    if any(held not in (None, "") for held in given.values()) and not (given.get("url") or repository_url):
        raise fault(f"{at}/sync/url", "is needed to follow a remote, because the workspace has no repository_url")


def settings_file(value: object) -> dict[str, Any]:
    """`settings.yaml`: the settings, with no secret. `credentials` may stand there only to keep its place."""
    record = settings(value)
    block = _part(record, "credentials", "")
    for key, held in block.items():
        if held not in (None, "", SECRET_PLACEHOLDER) and not isinstance(held, bool):
            raise SecretFound(
                f"/credentials/{key} must not be written into the repository; take it out and store it with "
                'PATCH {"settings": {"credentials": {"git_token": "…"}}}, where it is sealed',
                details={"pointer": f"/credentials/{key}"},
            )
    return record


def storage(settings: Mapping[str, Any]) -> Storage:
    """How the settings want the work stored, in either spelling; the settings have passed `settings`."""
    ours, theirs = settings.get("storage") or {}, settings.get("workspace_storage") or {}
    return Storage(
        ours.get("type") or settings.get("workspace_storage_type") or None,
        ours.get("repository_url") or theirs.get("repository_url") or None,
    )


def storage_needs(settings: Mapping[str, Any], repository_url: str | None, at: str = "") -> None:
    """Refuses `git_remote` storage of a workspace that has no repository URL anywhere."""
    wanted = storage(settings)
    if wanted.type == "git_remote" and not (wanted.repository_url or repository_url):
        place = "storage/type" if (settings.get("storage") or {}).get("type") else "workspace_storage_type"
        raise fault(f"{at}/{place}", "is git_remote, which needs a repository_url; set one, or choose another type")


def _part(record: Mapping[str, Any], key: str, at: str) -> dict[str, Any]:
    value = record.get(key)
    return {} if value is None else mapping(value, f"{at}/{key}")


# --- memory ---------------------------------------------------------------------------------------------------------


def memory_key(key: object, at: str = "/key") -> str:
    """`key`, which must be a text of 1..256 characters."""
    return text(key, at, low=1, high=MEMORY_KEY_MAX)


# --- spec/*.yaml ----------------------------------------------------------------------------------------------------


def spec_part(part: str, value: object, at: str) -> dict[str, Any]:
    """One of the five parts of a spec, which must be an object and keep the rules of its part."""
    record = mapping(value, at)
    if part == "resources":
        for name, entry in record.items():
            _resource(name, mapping(entry, f"{at}/{escape(name)}"), f"{at}/{escape(name)}")
    elif part == "documents":
        for name, entry in record.items():
            _document(name, mapping(entry, f"{at}/{escape(name)}"), f"{at}/{escape(name)}")
    elif part == "instructions":
        content = record.get("content")
        if content is not None and not isinstance(content, str):
            raise fault(f"{at}/content", "must be a text")
        if content is not None and ("{{" in content or "}}" in content):
            raise fault(f"{at}/content", "must not contain `{{` or `}}`: templates are not filled in")
        if record.get("format") not in (None, "text", "markdown"):
            raise fault(f"{at}/format", "must be text or markdown")
    return record


def _resource(name: str, entry: dict[str, Any], at: str) -> None:
    if not name.strip():
        raise fault(at, "has a blank name")
    kind = entry.get("type")
    if not isinstance(kind, str) or kind not in RESOURCE_FIELDS:
        raise fault(f"{at}/type", f"must be one of {', '.join(RESOURCE_FIELDS)}")
    binding = mapping(entry.get("binding"), f"{at}/binding")
    needed = RESOURCE_FIELDS[kind]
    value = binding.get(needed)
    if not isinstance(value, str) or not value.strip():
        raise fault(f"{at}/binding/{needed}", f"must be a text that is not blank, because the type is {kind}")
    for key, held in binding.items():
        place = f"{at}/binding/{escape(key)}"
        if _CREDENTIAL_NAME.search(key):
            raise fault(place, "looks like a credential, which a binding must not hold; write `secret:NAME` elsewhere")
        if isinstance(held, str) and "://" in held and credentials.url_secret(held):
            raise SecretFound(f"{place} has a password or token inside; take it out", details={"pointer": place})


def _document(name: str, entry: dict[str, Any], at: str) -> None:
    if not name.strip():
        raise fault(at, "has a blank name")
    source = entry.get("source")
    if source is None:
        source = next((kind for kind, field in DOCUMENT_FIELDS.items() if entry.get(field) is not None), None)
        if source is None:
            raise fault(at, "must have a source, or one of path, logical_path and url to tell it by")
    if not isinstance(source, str) or source not in DOCUMENT_FIELDS:
        raise fault(f"{at}/source", f"must be one of {', '.join(DOCUMENT_FIELDS)}")
    needed = DOCUMENT_FIELDS[source]
    value = entry.get(needed)
    if not isinstance(value, str) or not value.strip():
        raise fault(f"{at}/{needed}", f"must be a text that is not blank, because the source is {source}")


# --- files/ ---------------------------------------------------------------------------------------------------------


class Meta(NamedTuple):
    """What `<file>.meta.yaml` says; None where it leaves something to be derived."""

    key: str | None = None
    content_type: str | None = None
    description: str | None = None
    file_name: str | None = None


def meta(document: object) -> Meta:
    """A file's meta document."""
    record = mapping(document, "")
    key, kind, name = record.get("key"), record.get("content_type"), record.get("file_name")
    return Meta(
        None if key is None else file_key(key),
        None if kind is None else media.check(kind),
        optional(record.get("description"), "/description", high=DESCRIPTION_MAX),
        None if name is None else names.check_file_name(text(name, "/file_name", low=1, high=255)),
    )


def file_key(key: object, at: str = "/key") -> str:
    """`key`, which must be a text of 1..120 characters, none of them a control character."""
    checked = text(key, at, low=1, high=FILE_KEY_MAX)
    if _CONTROL.search(checked) or not checked.strip():
        raise fault(at, "must not be blank or contain control characters")
    return checked


def escape(name: str) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
