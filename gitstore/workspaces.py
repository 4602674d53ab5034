"""Workspaces: creating one, changing its fields and settings, and the sender of its webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gitstore import documents, memory, names, parsed, rules, schemas, settings, values
from gitstore.context import WORKSPACE
from gitstore.errors import WrongShape
from gitstore.model import Fields, Kind
from gitstore.precondition import NONE, Precondition

if TYPE_CHECKING:
    from gitstore.changes import Draft

FIELDS: Final = ("name", "slug", "description", "repository_url", "is_active")


def check(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in `record` that belong in `workspace.yaml`, each held to its rule; null only where it clears.

    Needs no workspace, so it can be asked before one is made. Raises Invalid, SecretFound.
    """
    checked = {name: record[name] for name in FIELDS if name in record}
    if "name" in checked:
        rules.text(checked["name"], "/name", low=1, high=rules.NAME_MAX)
    if "slug" in checked:
        names.check_slug(rules.text(checked["slug"], "/slug", low=1, high=100))
    if "description" in checked:
        rules.optional(checked["description"], "/description", high=rules.DESCRIPTION_MAX)
    if checked.get("repository_url") is not None:
        rules.repository_url(checked["repository_url"])
    if "is_active" in checked and not isinstance(checked["is_active"], bool):
        raise rules.fault("/is_active", "must be true or false")
    return checked


def create(draft: Draft, record: Mapping[str, Any]) -> Fields:
    """Makes the workspace `draft.workspace` in one change: schemas, fields, settings, memory, sealed token.

    `record` has name and slug, and may have description, repository_url, is_active, settings and memory. Whether the
    slug is free is for the store to know. Raises Invalid, SecretFound, Malformed.
    """
    for name in ("name", "slug"):
        if name not in record:
            raise rules.fault(f"/{name}", "is required")
    checked = check(record)
    values.check(checked)
    rules.no_secret(checked, "workspace", draft.context.policy)
    document: dict[str, Any] = {"id": draft.workspace}
    document |= {name: value for name, value in checked.items() if value is not None}
    document.setdefault("is_active", True)
    for path, schema in schemas.files().items():
        draft.write(path, schema)
    draft.write(WORKSPACE, parsed.rewritten(None, document, schemas.head(draft, WORKSPACE)))
    if record.get("settings") is not None:
        settings.replace(draft, record["settings"], repository_url=checked.get("repository_url"))
    if record.get("memory") is not None:
        memory.write(draft, rules.mapping(record["memory"], "/memory"))
    draft.describe("workspace.created", names.one_line(f"workspace: create {checked['slug']}"))
    return rules.fields(document)


def update(
    draft: Draft, changes: Mapping[str, Any], *, precondition: Precondition = NONE, current: str | None = None
) -> list[str]:
    """Changes only the fields that `changes` names; returns the names of those that are different now.

    null clears description and repository_url. `settings` replaces the settings object, secrets kept.
    `current` is the ETag of the workspace record, which `precondition` is held against. Nothing different is no edit.
    Raises WrongShape where nothing known is named; PreconditionFailed, Invalid, SecretFound, Malformed.
    """
    if not any(name in changes for name in (*FIELDS, "settings")):
        raise WrongShape([("", f"must have at least one of {', '.join((*FIELDS, 'settings'))}")])
    precondition.check(current)
    context = draft.context
    checked = check(changes)
    values.check(checked)
    rules.no_secret(checked, "workspace", context.policy)
    different = _set_fields(draft, checked)
    url = checked.get("repository_url", context.fields.repository_url)
    told = list(different)
    if "settings" in changes:
        if settings.replace(draft, changes["settings"], repository_url=url):
            told.append("settings")
    elif "repository_url" in different:
        rules.storage_needs(context.settings, url, "/settings")
        rules.sync_needs(context.settings, url, "/settings")
        settings.vouch(draft, context.settings, url, token=settings.GIT_TOKEN in draft.sealed, anew=False)
    if told:
        kind: Kind = "workspace.updated" if "settings" not in told else "changes" if different else "settings.updated"
        subject = f"workspace: update {', '.join(told)}" if different else "settings: update"
        draft.describe(kind, names.one_line(subject))
    return told


def name_after_folder(draft: Draft, folder: str) -> bool:
    """Makes the slug that of the workspace's folder; whether the file said another."""
    data = draft.read(WORKSPACE)
    wanted = parsed.rewritten(data, {**_document(data, draft.context.fields), "slug": folder})
    if wanted == data:
        return False
    draft.write(WORKSPACE, wanted)
    draft.describe("workspace.updated", names.one_line(f"workspace: the folder is called {folder}"))
    return True


def set_webhook(draft: Draft, provider: object, secret: object) -> None:
    """Says who sends webhooks and seals the secret they are signed with (8 to 20,000 characters). Raises Invalid."""
    checked = rules.webhook_provider(provider)
    sealed = rules.text(secret, "/secret", low=8, high=rules.TOKEN_MAX)
    draft.seal(settings.WEBHOOK_SECRET, sealed)
    _set_fields(draft, {"git_webhook_provider": checked})
    draft.describe("workspace.updated", names.one_line(f"workspace: take webhooks from {checked}"))


def clear_webhook(draft: Draft) -> bool:
    """Forgets the sender and the secret; whether there were any."""
    sealed = settings.WEBHOOK_SECRET in draft.sealed
    if sealed:
        draft.seal(settings.WEBHOOK_SECRET, None)
    different = _set_fields(draft, {"git_webhook_provider": None})
    if sealed or different:
        draft.describe("workspace.updated", names.one_line("workspace: take no webhooks"))
    return bool(sealed or different)


def _set_fields(draft: Draft, wanted: Mapping[str, Any]) -> list[str]:
    """Writes fields that differ into `workspace.yaml`, leaving what a person keeps there besides; their names."""
    fields = draft.context.fields
    different = [name for name, value in wanted.items() if getattr(fields, name) != value]
    if different:
        data = draft.read(WORKSPACE)
        document = _document(data, fields)
        for name in different:
            if wanted[name] is None:
                document.pop(name, None)
            else:
                document[name] = wanted[name]
        draft.write(WORKSPACE, parsed.rewritten(data, document, schemas.head(draft, WORKSPACE)))
    return different


def _document(data: bytes | None, fields: Fields) -> dict[str, Any]:
    """`workspace.yaml` as it is, in its order and with a person's own keys; what could not be accepted gives way."""
    known = {name: getattr(fields, name) for name in ("id", *FIELDS, "git_webhook_provider")}
    held: Any = None
    if data is not None:
        try:
            held = documents.load(data)
        except documents.DocumentError:
            held = None  # it is replaced; git has its bytes
    document: dict[str, Any] = {}
    if isinstance(held, dict):
        for key, value in held.items():
            if key not in known or value is None or (key == "id" and str(value).lower() == fields.id):
                document[key] = value
            elif known[key] is not None:
                document[key] = known[key]
    for key, value in known.items():
        if value is not None and document.get(key) is None and not (key == "is_active" and value and held is not None):
            document[key] = value
    return document
