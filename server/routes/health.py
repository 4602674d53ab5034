"""Whether the server lives, is ready, and how it does."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from gitstore import errors
from server.call import Call
from server.http import Reply, Route, Stream
from server.metrics import CONTENT_TYPE
from server.shapes.health import Health

try:
    VERSION = version("gitstore")
except PackageNotFoundError:  # run from a folder that was never installed
    VERSION = "0"


def live(call: Call) -> Reply:
    """The event loop answers; that is all this says."""
    return Reply({"status": "ok", "version": VERSION})


def ready(call: Call) -> Reply:
    """Whether requests can be served: the keys can be read and the store is open."""
    problem = call.app.keys.problem
    if problem is not None:
        raise errors.Unavailable("the keys cannot be read; the server's log says why")
    if call.app.stored and call.app.store.journal.failing:
        raise errors.Unavailable("the disk refuses the journal; reads are served, writes are not")
    return Reply({"status": "ok", "version": VERSION})


async def metrics(call: Call) -> Stream:
    """The figures in Prometheus' text format."""
    return Stream(await call.offload(call.app.metrics.render), CONTENT_TYPE)


def routes(metrics_open: bool) -> tuple[Route, ...]:
    """These routes; /metrics needs an admin key unless the settings open it."""
    return (
        Route("GET", "/health", None, ready, "Health", response=Health, tag="health", limited=False),
        Route("GET", "/livez", None, live, "Liveness", response=Health, tag="health", limited=False),
        Route("GET", "/readyz", None, ready, "Readiness", response=Health, tag="health", limited=False),
        Route(
            "GET",
            "/metrics",
            None if metrics_open else "admin",
            metrics,
            "Metrics for Prometheus",
            media="text/plain",
            tag="health",
            limited=False,
        ),
    )
