"""The search process of a store: the full-text index and the explorer's columns. See `search.client`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NoReturn

import msgspec

from gitstore.explorer.answering import Answering
from gitstore.search.worker import Options, Worker, run


def main(descriptor: int, options: str) -> NoReturn:
    """Serves the socket with this descriptor until the other end closes it."""
    # Whoever stops a whole group of processes means the store, which stops this one in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run(descriptor, msgspec.json.decode(options, type=Options), _extend)


def _extend(worker: Worker) -> None:
    catalog = worker.options.catalog
    explorer = Answering(Path(catalog) if catalog is not None else None, worker.index)
    worker.answers["explore"] = explorer.explore
    worker.listeners["touched"] = explorer.touched
    worker.ahead = explorer.ahead()
    worker.hidden = explorer.hidden
