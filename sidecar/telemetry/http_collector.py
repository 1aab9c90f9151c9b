"""Makes metric families of the data plane's counters (`telemetry/http.py`) at each scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, chain
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from sidecar.telemetry.http import DURATION_BUCKETS, EXEMPLAR_TRIES, UNROUTED, HttpStats, RouteStats

GUARD_REASONS = ("host", "origin", "fetch_metadata", "require_header", "allow", "client", "remote")
RETRY_REASONS = ("connection_lost", "token_refused", "connect")
CONNECTION_STATES = ("opening", "active", "idle")
FIRST_SERIES = (
    ("GET", 200, "upstream"),
    ("POST", 200, "upstream"),
    *((method, code, "sidecar") for method in ("GET", "POST") for code in (502, 503, 504)),
)
"""The series of `http_requests_total` that every route has from the start, since dashboards and alerts ask for them."""
FIRST_UNROUTED_SERIES = (("GET", 404, "sidecar"), ("POST", 404, "sidecar"))

REQUESTS = "Requests answered, by the code that was sent and whose answer it was (upstream or sidecar)."
IN_FLIGHT = "Requests being served now."
CONNECTIONS = "Connections to upstreams: opening, active (carrying an exchange), idle (kept for the next)."
RETRIES = "What was tried again: a request whose reused connection was lost or whose token was refused, or connecting."
GUARD = "Requests that the guard or a route's policy refused."
CLIENTS = "Requests that were asked whose they are, by client (- for an unknown one) and outcome."

Row = tuple[Any, ...]
"""The values of the labels, and the number."""


class HttpCollector(Collector):
    """Reads `HttpStats`, so that the hot path pays nothing for metrics."""

    def __init__(self, stats: HttpStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Make every family of the data plane from the counts as they are now."""
        everything = list(self._stats.routes.values())
        routes = [stats for stats in everything if stats.route != UNROUTED]
        guard, clients = self._stats.guard_rejections, dict(self._stats.clients)
        yield _durations(everything)
        for kind, name, documentation, labels, rows in (
            (Counter, "http_requests", REQUESTS, "route method code source", chain(*map(_requests, everything))),
            (Gauge, "http_requests_in_flight", IN_FLIGHT, "route", ((one.route, one.in_flight) for one in routes)),
            (Gauge, "upstream_connections", CONNECTIONS, "route state", chain(*map(_connections, routes))),
            (Counter, "upstream_retries", RETRIES, "route reason", chain(*map(_retries, routes))),
            (Counter, "guard_rejections", GUARD, "reason", _from_start(GUARD_REASONS, guard)),
            (Counter, "client_requests", CLIENTS, "client outcome", ((*key, n) for key, n in clients.items())),
        ):
            family: Counter | Gauge = kind(f"camunda_sidecar_{name}", documentation, labels=labels.split())
            for *values, number in rows:
                family.add_metric([str(value) for value in values], float(number))
            yield family


def _from_start(known: Iterable[str], counts: Mapping[str, int]) -> Iterator[Row]:
    """Yield every count, and 0 for what is known and was not counted yet."""
    return ((name, counts.get(name, 0)) for name in dict.fromkeys((*known, *counts)))


def _requests(stats: RouteStats) -> Iterator[Row]:
    first = FIRST_UNROUTED_SERIES if stats.route == UNROUTED else FIRST_SERIES
    return ((stats.route, *key, stats.requests.get(key, 0)) for key in dict.fromkeys((*first, *stats.requests)))


def _connections(stats: RouteStats) -> Iterator[Row]:
    return ((stats.route, *row) for row in zip(CONNECTION_STATES, stats.connections(), strict=True))


def _retries(stats: RouteStats) -> Iterator[Row]:
    return ((stats.route, *row) for row in _from_start(RETRY_REASONS, stats.retries))


def _durations(routes: Iterable[RouteStats]) -> HistogramMetricFamily:
    name = "camunda_sidecar_http_request_duration_seconds"
    family = HistogramMetricFamily(name, "From a request's head to the end of its answer.", labels=["route"])
    bounds = [*map(str, DURATION_BUCKETS), "+Inf"]
    for stats in routes:
        exemplars = [Exemplar({"trace_id": one[0]}, *one[1:]) if one else None for one in stats.exemplars]
        buckets: list[Any] = list(zip(bounds, accumulate(map(float, stats.duration_counts)), exemplars, strict=True))
        family.add_metric([stats.route], buckets, stats.duration_sum)
        stats.exemplar_tries = [EXEMPLAR_TRIES] * len(buckets)
    return family
