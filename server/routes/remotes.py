"""The remote repository of a workspace: whether it can be reached, following it, and the webhooks that come from it."""

from __future__ import annotations

import time

import msgspec

from gitstore import values, webhooks, workspaces
from gitstore.changes import Draft
from gitstore.errors import Unauthorized
from gitstore.following import Report
from gitstore.remotes import same_server, verify_access
from gitstore.settings import GIT_TOKEN, WEBHOOK_SECRET
from gitstore.snapshot import Snapshot
from server import data
from server.call import Call
from server.http import API, Reply, Route
from server.routes import common
from server.shapes.remotes import Accepted, Access, PutWebhook, Sync, VerifyAccess, Webhook

_REFUSED = "no workspace with this repository has a webhook secret that this signature fits"


def _verify(call: Call, snapshot: Snapshot) -> Reply:
    body: VerifyAccess = call.body
    settings, fields = call.app.settings, snapshot.context.fields
    token, note = None, ""
    if body.git_token_mode == "replace":  # noqa: S105  (a mode)
        token = body.git_token
    elif body.git_token_mode == "preserve" and GIT_TOKEN in snapshot.sealed:  # noqa: S105  (a mode)
        if fields.repository_url is not None and same_server(fields.repository_url, body.repository_url):
            sealed = snapshot.sealed[GIT_TOKEN]
            token = call.app.store.vault.unseal(snapshot.workspace, GIT_TOKEN, sealed)
        else:
            note = (
                " The stored token was not used: it is for the server of the workspace's own repository URL, "
                "and this URL is on another one."
            )
    report = verify_access(
        body.repository_url,
        branch=body.default_branch,
        token=token,
        policy=data.policy(settings),
        timeout=settings.verify_timeout,
        ssh=data.ssh(settings),
    )
    found = msgspec.structs.asdict(report)
    duration = found.pop("duration_ms")
    found["message"] += note
    return Reply({**found, "checked_at": values.iso(int(time.time() * 1000)), "duration_ms": duration})


async def verify(call: Call) -> Reply:
    """Speaks to the remote, with the stored token, the given one or none. Nothing is stored."""
    found = await common.workspace(call)
    return await call.offload(_verify, call, found.visible)


def _webhook(snapshot: Snapshot) -> Webhook:
    fields = snapshot.context.fields
    return Webhook(
        id=fields.id,
        name=fields.name,
        slug=fields.slug,
        git_webhook_provider=fields.git_webhook_provider,  # type: ignore[arg-type]  # checked when it was set
        is_active=fields.is_active,
        updated_at=values.iso(snapshot.updated_at),
        git_webhook_secret_configured=WEBHOOK_SECRET in snapshot.sealed,
    )


async def put_webhook(call: Call) -> Reply:
    """Says who will call, and seals the secret that the calls are signed with."""
    body: PutWebhook = call.body
    precondition = call.precondition

    def operation(draft: Draft) -> None:
        precondition.check(draft.snapshot.etag)
        workspaces.set_webhook(draft, body.provider, body.secret)

    outcome = await common.change(call, "main", operation)
    return Reply(_webhook(outcome.snapshot), etag=outcome.snapshot.etag)


async def delete_webhook(call: Call) -> Reply:
    """Takes no more calls."""
    precondition = call.precondition

    def operation(draft: Draft) -> bool:
        precondition.check(draft.snapshot.etag)
        return workspaces.clear_webhook(draft)

    await common.change(call, "main", operation)
    return Reply(status=204)


def _time(when: int | None) -> str | None:
    return values.iso(when) if when is not None else None


def _sync(report: Report) -> Reply:
    shown = Sync(
        state=report.state,
        direction=report.direction,
        url=report.url,
        branch=report.branch,
        last_run_at=_time(report.last_run_at),
        last_success_at=_time(report.last_success_at),
        last_error=report.last_error,
        **msgspec.structs.asdict(report.counts),
    )
    return Reply(shown, etag=values.etag(msgspec.json.encode(shown)))


async def read_sync(call: Call) -> Reply:
    """How following the remote stands."""
    found = await common.workspace(call)
    return _sync(call.app.following.report(found.visible))


async def run_sync(call: Call) -> Reply:
    """Exchanges with the remote now, and tells how that went."""
    found = await common.workspace(call)
    who = msgspec.structs.replace(call.provenance, door="git")
    return _sync(await call.settle(call.app.following.ask(found.visible, who)))


def _accepts(call: Call, body: bytes) -> bool:
    store, headers = call.app.store, dict(call.headers)
    urls = webhooks.repository_urls(body)
    followed = call.app.following.urls()
    accepted = False
    for identity in store.catalog.workspaces():
        row = store.catalog.workspace(identity)
        named = (row.repository_url if row is not None else None, followed.get(identity))
        if not any(webhooks.same_repository(url, urls) for url in named):
            continue
        snapshot = store.load(identity).visible
        sealed, provider = snapshot.sealed.get(WEBHOOK_SECRET), snapshot.context.fields.git_webhook_provider
        if sealed is None or provider is None:
            continue
        secret = store.vault.unseal(identity, WEBHOOK_SECRET, sealed)
        if webhooks.verify(provider, secret, headers, body):
            accepted = True
            call.app.following.called(identity, webhooks.ref(body))
    return accepted


async def webhook(call: Call) -> Reply:
    """A call of a git host, accepted if a workspace with that repository knows its signature."""
    body = await call.content()
    if not await call.offload(_accepts, call, body):
        raise Unauthorized(_REFUSED)
    return Reply(Accepted(True), status=202)


_ONE = f"{API}/workspaces/{{id}}"
ROUTES = (
    Route("POST", f"{_ONE}/verify-git-access", "admin", verify, "Try the remote repository", body=VerifyAccess,
          response=Access, tag="remotes"),
    Route("GET", f"{_ONE}/sync", "agent", read_sync, "How following the remote stands", response=Sync, tag="remotes"),
    Route("POST", f"{_ONE}/sync", "admin", run_sync, "Exchange with the remote now", response=Sync, tag="remotes"),
    Route("PUT", f"{_ONE}/git-webhook", "admin", put_webhook, "Take webhooks", body=PutWebhook, response=Webhook,
          tag="remotes"),
    Route("DELETE", f"{_ONE}/git-webhook", "admin", delete_webhook, "Take no webhooks", status=204, tag="remotes"),
    Route("POST", f"{API}/webhooks/git", None, webhook, "A git host calls", uploads=("*/*",), response=Accepted,
          status=202, tag="remotes"),
)  # fmt: skip
