"""From settings to the store and the keys they speak of."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping

from gitstore.addresses import AddressPolicy
from gitstore.keys import Keys
from gitstore.live import Live
from gitstore.maintenance import Maintenance
from gitstore.remotes import Means, Ssh
from gitstore.store import Options, Store
from server.config import Settings


def options(settings: Settings) -> Options:
    """What a store is told of the settings."""
    return Options(secret_key=settings.secret_key, secrets=settings.secret_policy, search_limit=settings.search_timeout)


def policy(settings: Settings) -> AddressPolicy:
    """Which hosts may be reached."""
    return AddressPolicy(allow_private=settings.verify_allow_private, allow=settings.verify_allow)


def ssh(settings: Settings) -> Ssh:
    """How ssh hosts are reached."""
    return Ssh(known_hosts=settings.ssh_known_hosts, identity=settings.ssh_identity)


def means(settings: Settings) -> Means:
    """With what remotes are followed."""
    return Means(
        git=shutil.which(settings.git_binary) if settings.git_binary else None,
        policy=policy(settings),
        look=settings.verify_timeout,
        timeout=settings.sync_timeout,
        bytes_max=settings.max_push_bytes,
        file_bytes=settings.max_file_bytes,
        ssh=ssh(settings),
    )


def open_store(settings: Settings) -> Store:
    """The store of the settings. Raises what Store.open raises."""
    return Store.open(settings.data, options(settings))


def open_live(settings: Settings, store: Store) -> Live:
    """The live folders of an open store; nothing goes on in them before `start`."""
    return Live(
        store,
        mode=settings.checkout_mode,
        settle=settings.checkout_settle,
        sweep=settings.checkout_sweep,
        watch=settings.checkout_watch,
        file_limit=settings.max_file_bytes,
    )


def open_maintenance(settings: Settings, store: Store) -> Maintenance | None:
    """What looks after an open store, where the settings want it; nothing is done before `start`."""
    if not settings.maintenance:
        return None
    git = shutil.which(settings.git_binary) if settings.git_binary else None
    return Maintenance(store, git=git, days=settings.reclaim_days)


def open_keys(settings: Settings, store: Store) -> Keys:
    """The keys of an open store; when they were used is kept in its catalog."""

    def used(times: Mapping[str, int]) -> None:
        for prefix, when in times.items():
            store.catalog.key_used(prefix, when)

    return Keys.open(
        store.layout.keys, token_key=store.vault.derive("tokens"), last_used=used, used=store.catalog.keys_used()
    )


def has_key(settings: Settings, keys: Keys) -> bool:
    """Whether anybody could use this server: some key is given in the settings, or stored and in force."""
    now = int(time.time() * 1000)
    return settings.admin_key is not None or any(
        record.revoked_at is None and (record.expires_at is None or record.expires_at > now) for record in keys.list()
    )
