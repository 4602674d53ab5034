"""Figures for Prometheus. Requests are counted in plain numbers, which cost less than a request's other parts by far;
the client library only formats them when they are asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Tally:
    """What one route has answered: counts by status, and how long it took."""

    __slots__ = ("buckets", "method", "route", "seconds", "statuses")

    def __init__(self, method: str, route: str) -> None:
        self.method = method
        self.route = route
        self.statuses: dict[int, int] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Counts one answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Times:
    """How long something took, each time."""

    __slots__ = ("buckets", "name", "seconds", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Counts one time."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Metrics(Collector):
    """The registry that /metrics shows. `gauge` adds a figure that is asked for at each scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._tallies: list[Tally] = []
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._families: list[tuple[str, str, str, Callable[[], dict[str, int]]]] = []
        self._times: list[Times] = []
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def tally(self, method: str, route: str) -> Tally:
        """A new set of counts for one route."""
        made = Tally(method, route)
        self._tallies.append(made)
        return made

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A figure of another part of the program: `gitstore_<name>`, read at each scrape."""
        self._gauges.append((f"gitstore_{name}", text, read))

    def gauges(self, name: str, text: str, label: str, read: Callable[[], dict[str, int]]) -> None:
        """The same for several, each with its own value of `label`."""
        self._families.append((f"gitstore_{name}", text, label, read))

    def times(self, name: str, text: str) -> Times:
        """A new histogram: `gitstore_<name>_seconds`."""
        made = Times(f"gitstore_{name}_seconds", text)
        self._times.append(made)
        return made

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        requests = CounterMetricFamily(
            "gitstore_http_requests", "Answers by route and status", labels=("method", "route", "status")
        )
        times = HistogramMetricFamily(
            "gitstore_http_request_seconds", "Time to answer, by route", labels=("method", "route")
        )
        for tally in self._tallies:
            if not tally.statuses:
                continue
            for status, count in sorted(tally.statuses.items()):
                requests.add_metric((tally.method, tally.route, str(status)), count)
            times.add_metric((tally.method, tally.route), _up_to(tally.buckets), tally.seconds)
        yield requests
        yield times
        for one in self._times:
            histogram = HistogramMetricFamily(one.name, one.text)
            histogram.add_metric((), _up_to(one.buckets), one.seconds)
            yield histogram
        for name, text, read in self._gauges:
            gauge = GaugeMetricFamily(name, text)
            gauge.add_metric((), read())
            yield gauge
        for name, text, label, read_all in self._families:
            gauge = GaugeMetricFamily(name, text, labels=(label,))
            for value, figure in sorted(read_all().items()):
                gauge.add_metric((value,), float(figure))
            yield gauge

    def render(self) -> bytes:
        """Everything in the text format."""
        return generate_latest(self.registry)


def _up_to(buckets: list[int]) -> list[tuple[str, float]]:
    """How many took at most so long, for each bound."""
    return [
        (bound, float(total)) for bound, total in zip((*map(str, BOUNDS), "+Inf"), accumulate(buckets), strict=True)
    ]
