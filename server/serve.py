"""From settings to a running server, and back to an orderly end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import uvloop

from gitstore import trash
from gitstore.errors import GitstoreError
from gitstore.keys import Keys
from gitstore.store import Store
from gitstore.uploads import Uploads
from server import heap, listen, log
from server.app import make_app
from server.config import Settings
from server.data import has_key, open_keys, open_store

_ROUND = 15.0  # seconds between two times that the keys' last uses are kept, and memory is given back
_PURGE = 3600.0  # seconds between two looks at the trash


def _keep_house(settings: Settings, store: Store, keys: Keys, uploads: Uploads, stop: threading.Event) -> None:
    """Now and then: remembers when keys were used, gives memory back, empties the trash, ends uploads whose time is
    over.
    """
    purge_at = time.monotonic()
    while True:
        try:
            if time.monotonic() >= purge_at:
                purge_at = time.monotonic() + _PURGE
                gone = trash.expired(store.layout, settings.trash_days, int(time.time() * 1000))
                trash.purge(store, gone)
                for one in gone:
                    log.server.info("the deleted workspace %s was removed for good", one.name)
            uploads.sweep(int(time.time() * 1000))
            keys.flush()
        except GitstoreError as error:
            log.server.warning("%s", error)  # it is tried again the next time
        except Exception:  # noqa: BLE001  (nobody else does any of this: one fault must not end all of it)
            log.server.exception("the trash, the uploads or the keys could not be looked after")
        heap.trim()
        if stop.wait(_ROUND):
            return


def serve(settings: Settings, started: Callable[[int, str | None], None], *, new_key: bool = False) -> None:
    """Serves until SIGTERM or SIGINT; `started` is told the port, once connections are taken, and the text of the key
    that was made then: the first one of a store, or any with `new_key`.

    Raises StoreBusy, FormatUnknown, Damaged, StorageFailed; OSError where the address cannot be had.
    """
    log.configure(settings)
    heap.settle()
    with open_store(settings) as store:
        keys = open_keys(settings, store)
        app = make_app(settings, store, keys)
        stop = threading.Event()
        house = threading.Thread(
            target=_keep_house, args=(settings, store, keys, app.uploads, stop), name="gitstore-house", daemon=True
        )

        def ready(port: int) -> None:
            # Not before: a key that was made and never shown could not be had again.
            wanted = new_key or not has_key(settings, keys)
            made = keys.create("admin", "demo" if new_key else "made at the first start")[1] if wanted else None
            house.start()
            started(port, made)

        try:
            uvloop.run(listen.run(app, ready))
        finally:
            stop.set()
            if house.ident is not None:
                house.join()
            keys.flush()
