"""Makes metric families of the data plane's counters (`telemetry/http.py`) at each scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from sidecar.telemetry.http import DURATION_BUCKETS, UNROUTED, HttpStats, RouteStats

GUARD_REASONS = ("host", "origin", "fetch_metadata", "require_header", "allow", "remote")
RETRY_REASONS = ("connection_lost", "token_refused", "connect")
CONNECTION_STATES = ("opening", "active", "idle")
FIRST_SERIES = (
    ("GET", 200, "upstream"),
    ("POST", 200, "upstream"),
    *((method, code, "sidecar") for method in ("GET", "POST") for code in (502, 503, 504)),
)
"""The series of `http_requests_total` that every route has from the start, since dashboards and alerts ask for them."""
FIRST_UNROUTED_SERIES = (("GET", 404, "sidecar"), ("POST", 404, "sidecar"))

_P = "camunda_sidecar_"
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class HttpCollector(Collector):
    """Reads `HttpStats`, so that the hot path pays nothing for metrics."""

    def __init__(self, stats: HttpStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Family]:
        """Make every family of the data plane from the counts as they are now."""
        everything = list(self._stats.routes.values())
        routes = [stats for stats in everything if stats.route != UNROUTED]
        yield _requests(everything)
        yield _durations(everything)
        yield _in_flight(routes)
        yield _connections(routes)
        yield _retries(routes)
        yield self._guard_rejections()

    def _guard_rejections(self) -> CounterMetricFamily:
        counts = self._stats.guard_rejections
        family = CounterMetricFamily(
            f"{_P}guard_rejections", "Requests that the guard or a route's policy refused.", labels=["reason"]
        )
        for reason in dict.fromkeys((*GUARD_REASONS, *counts)):
            family.add_metric([reason], counts.get(reason, 0))
        return family


def _requests(routes: Iterable[RouteStats]) -> CounterMetricFamily:
    family = CounterMetricFamily(
        f"{_P}http_requests",
        "Requests answered, by the code that was sent and whose answer it was (upstream or sidecar).",
        labels=["route", "method", "code", "source"],
    )
    for stats in routes:
        first = FIRST_UNROUTED_SERIES if stats.route == UNROUTED else FIRST_SERIES
        for method, code, source in dict.fromkeys((*first, *stats.requests)):
            family.add_metric([stats.route, method, str(code), source], stats.requests.get((method, code, source), 0))
    return family


def _durations(routes: Iterable[RouteStats]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        f"{_P}http_request_duration_seconds",
        "From a request's head to the end of its answer.",
        labels=["route"],
    )
    bounds = [*map(str, DURATION_BUCKETS), "+Inf"]
    for stats in routes:
        buckets = list(zip(bounds, accumulate(map(float, stats.duration_counts)), strict=True))
        family.add_metric([stats.route], buckets, stats.duration_sum)
    return family


def _in_flight(routes: Iterable[RouteStats]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{_P}http_requests_in_flight", "Requests being served now.", labels=["route"])
    for stats in routes:
        family.add_metric([stats.route], stats.in_flight)
    return family


def _connections(routes: Iterable[RouteStats]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        f"{_P}upstream_connections",
        "Connections to upstreams: opening, active (carrying an exchange), idle (kept for the next).",
        labels=["route", "state"],
    )
    for stats in routes:
        counts = (stats.connections_opening, stats.connections_active, stats.connections_idle)
        for state, count in zip(CONNECTION_STATES, counts, strict=True):
            family.add_metric([stats.route, state], count)
    return family


def _retries(routes: Iterable[RouteStats]) -> CounterMetricFamily:
    family = CounterMetricFamily(
        f"{_P}upstream_retries",
        "What was tried again: a request whose reused connection was lost or whose token was refused, or connecting.",
        labels=["route", "reason"],
    )
    for stats in routes:
        for reason in dict.fromkeys((*RETRY_REASONS, *stats.retries)):
            family.add_metric([stats.route, reason], stats.retries.get(reason, 0))
    return family
