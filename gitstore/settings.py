"""Settings: one JSON object, kept as it was written, without the secrets in it.

`credentials.git_token` never enters a repository. It is sealed in the secret store and shown as a placeholder; sending
the placeholder back, or leaving it out, keeps it; `""` or null clears it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gitstore import names, parsed, record, rules, schemas, values
from gitstore.context import SETTINGS, around_credentials
from gitstore.model import SECRET_PLACEHOLDER

if TYPE_CHECKING:
    from gitstore.changes import Draft

GIT_TOKEN: Final = "git_token"  # noqa: S105  (the names secrets are sealed under)
TOKEN_SERVER: Final = "git_token_server"  # noqa: S105
WEBHOOK_SECRET: Final = "git_webhook_secret"  # noqa: S105


class Keep:
    """The token stays as it is."""


KEEP: Final = Keep()


class Incoming(NamedTuple):
    """Settings as a client sends them, taken apart: what is shown to everyone, and what becomes of the token."""

    value: dict[str, Any]
    token: Keep | str | None


def replace(draft: Draft, value: object, *, repository_url: str | None, at: str = "/settings") -> bool:
    """Puts `value` in the place of the settings object and seals, keeps or clears the token; whether anything changed.

    `repository_url` is the workspace's as this same change leaves it. Raises Invalid, SecretFound, Malformed.
    What is shown afterwards has the members in the order in which they were sent, `credentials` included.
    """
    context = draft.context
    incoming = split(value, at)
    rules.storage_needs(incoming.value, repository_url, at)
    rules.sync_needs(incoming.value, repository_url, at)
    configured = GIT_TOKEN in draft.sealed
    after = configured if isinstance(incoming.token, Keep) else incoming.token is not None
    stored = _stored(incoming.value, keep_place=after)
    rules.no_secret(stored, "settings", context.policy)
    changed = False
    if not isinstance(incoming.token, Keep) and (incoming.token is not None or configured):
        draft.seal(GIT_TOKEN, incoming.token)
        changed = True
    changed = vouch(draft, incoming.value, repository_url, token=after, anew=changed) or changed
    shown = record.settings(around_credentials(stored), after)
    unreadable = any(problem.code != "storage" for problem in context.faults.get("settings", ()))
    if shown == record.settings(context.settings_around, after) and not unreadable:
        return changed
    draft.write(SETTINGS, parsed.rewritten(draft.read(SETTINGS), stored, schemas.head(draft, SETTINGS)))
    return True


def update(draft: Draft, value: object) -> bool:
    """`replace`, as a change of its own."""
    changed = replace(draft, value, repository_url=draft.context.fields.repository_url)
    if changed:
        draft.describe("settings.updated", names.one_line("settings: update"))
    return changed


def vouch(draft: Draft, value: Mapping[str, Any], repository_url: str | None, *, token: bool, anew: bool) -> bool:
    """Notes, sealed, which URL the token is for, where this change says so; whether there was anything to note.

    `value` and `repository_url` are as the change leaves them, `token` whether there is one then, `anew` whether it was
    given, or taken away, just now. Somebody who may edit the repository, here or on the remote, but holds no admin key,
    could otherwise have the token sent to a server of their own.
    """
    before = remote(draft.context.settings, draft.context.fields.repository_url)
    after = remote(value, repository_url)
    if not anew and (before == after or not token):
        return False
    noted = after if token else None
    if noted is None and TOKEN_SERVER not in draft.sealed:
        return False
    draft.seal(TOKEN_SERVER, noted)
    return True


def remote(value: Mapping[str, Any], repository_url: str | None) -> str | None:
    """The URL that the stored token is for: that of the remote which is followed, else the workspace's own."""
    return (value.get("sync") or {}).get("url") or repository_url


def split(value: object, at: str = "/settings") -> Incoming:
    """Checks settings that a client sends and takes the token out. Raises Invalid, Malformed."""
    values.check(value)
    checked = rules.settings(value, at)
    block = checked.get("credentials")
    if block is None:
        return Incoming({key: held for key, held in checked.items() if key != "credentials"}, KEEP)
    place = f"{at}/credentials"
    for key, held in rules.mapping(block, place).items():
        if key not in ("git_token", "git_token_configured") and held is not None:
            raise rules.fault(
                f"{place}/{rules.escape(key)}", "is not a credential this store can seal; only git_token is"
            )
    return Incoming(checked, _token(block, f"{place}/git_token"))


def _token(block: dict[str, Any], at: str) -> Keep | str | None:
    configured = block.get("git_token_configured")
    if configured is not None and not isinstance(configured, bool):
        raise rules.fault(f"{at}_configured", "must be true or false")
    if "git_token" not in block:
        # Clients of the reference service forget a token this way.
        return None if configured is False else KEEP
    token = block["git_token"]
    if token is None or token == "":
        return None
    if token == SECRET_PLACEHOLDER:
        return KEEP
    checked = rules.text(token, at, high=rules.TOKEN_MAX)
    if any(character.isspace() for character in checked) or not checked.isprintable():
        raise rules.fault(at, "must not contain white space or control characters")
    return checked


def _stored(value: dict[str, Any], *, keep_place: bool) -> dict[str, Any]:
    """What goes into `settings.yaml`: an empty `credentials` marks its place in the order, unless that is the end."""
    last = next(reversed(value), None)
    stored = {}
    for key, held in value.items():
        if key != "credentials":
            stored[key] = held
        elif keep_place and key != last:
            stored[key] = {}
    return stored
