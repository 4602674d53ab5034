"""From settings to a running server, and back to an orderly end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import uvloop

from gitstore.keys import Keys
from gitstore.store import Options, Store
from server import listen, log
from server.app import make_app
from server.config import Settings


def open_store(settings: Settings) -> Store:
    """The store of the settings. Raises what Store.open raises."""
    return Store.open(settings.data, Options(secret_key=settings.secret_key, secrets=settings.secret_policy))


def open_keys(settings: Settings, store: Store) -> Keys:
    """The keys of an open store; when they were used is kept in its catalog."""

    def used(times: Mapping[str, int]) -> None:
        for prefix, when in times.items():
            store.catalog.key_used(prefix, when)

    return Keys.open(
        store.layout.keys, token_key=store.vault.derive("tokens"), last_used=used, used=store.catalog.keys_used()
    )


def first_key(settings: Settings, keys: Keys) -> str | None:
    """Makes an admin key where there is none at all, and returns its text: the only time it can be seen."""
    now = int(time.time() * 1000)
    alive = any(
        record.revoked_at is None and (record.expires_at is None or record.expires_at > now) for record in keys.list()
    )
    return None if alive or settings.admin_key else keys.create("admin", "made at the first start")[1]


def serve(settings: Settings, started: Callable[[int, str | None], None]) -> None:
    """Serves until SIGTERM or SIGINT; `started` is told the port and the text of a key that was just made, if any.

    Raises StoreBusy, FormatUnknown, Damaged, StorageFailed; OSError where the address cannot be had.
    """
    log.configure(settings)
    with open_store(settings) as store:
        keys = open_keys(settings, store)
        made = first_key(settings, keys)
        app = make_app(settings, store, keys)
        try:
            uvloop.run(listen.run(app, lambda port: started(port, made)))
        finally:
            keys.flush()
