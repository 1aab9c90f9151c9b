"""The token core's events as metrics: a `TokenObserver`."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from sidecar.tokens.observer import InvalidationReason, Outcome, Source, StoreOperation

WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_P = "camunda_sidecar_"


class LookupCollector(Collector):
    """Where tokens came from. Those from memory are the hot path: counted by the token core, read at the scrape."""

    def __init__(self) -> None:
        self.counts: Tally[tuple[str, str]] = Tally()
        self.memory: Callable[[], Mapping[str, int]] = dict

    def collect(self) -> Iterator[CounterMetricFamily]:
        """See `Collector`."""
        family = CounterMetricFamily(
            f"{_P}token_lookups", "Requests that needed a token, by where it came from.", labels=["audience", "source"]
        )
        memory = {(audience, "memory"): count for audience, count in self.memory().items()}
        for (audience, source), count in {**self.counts, **memory}.items():
            family.add_metric([audience, source], count)
        yield family


class TokenMetrics:
    """A `sidecar.tokens.observer.TokenObserver`. Labels come from the configuration and from fixed sets only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lookups = LookupCollector()
        registry.register(self._lookups)
        self._requests = Counter(
            f"{_P}token_requests_total",
            "Attempts to obtain a token, by how each ended.",
            ("issuer", "audience", "outcome"),
            registry=registry,
        )
        self._request_duration = Histogram(
            f"{_P}token_request_duration_seconds",
            "One attempt to obtain a token, from its slot in the budget to its end.",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._expiry = Gauge(
            f"{_P}token_expiry_timestamp_seconds",
            "When the token in use expires, in seconds since 1970; 0 while there is none.",
            ("credential", "audience"),
            registry=registry,
        )
        self._waiters = Gauge(f"{_P}token_waiters", "Requests that wait for a token now.", registry=registry)
        self._wait = Histogram(
            f"{_P}token_wait_seconds",
            "How long requests waited for a token that was not at hand.",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._invalidations = Counter(
            f"{_P}token_invalidations_total",
            "Tokens given up before their end.",
            ("audience", "reason"),
            registry=registry,
        )
        self._budget_wait = Histogram(
            f"{_P}budget_wait_seconds",
            "How long token requests waited for their slot in the issuer's budget.",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._cooldown = Gauge(
            f"{_P}cooldown_until_timestamp_seconds",
            "Until when nobody asks this issuer, in seconds since 1970; 0 where there was no cool-down.",
            ("issuer",),
            registry=registry,
        )
        self._quarantined = Gauge(
            f"{_P}quarantined",
            "1 while the issuer's refusal keeps this credential from being sent again for this audience.",
            ("credential", "audience"),
            registry=registry,
        )
        self.store_is_up = True
        self._store_up = Gauge(f"{_P}store_up", "1 while tokens are shared through the store.", registry=registry)
        self._store_errors = Counter(
            f"{_P}store_errors_total", "Operations of the token store that failed.", ("operation",), registry=registry
        )
        for operation in get_args(StoreOperation):
            self._store_errors.labels(operation)

    def read_memory_lookups(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """From now on `counts` tells, by audience, how many tokens were handed out from memory."""
        self._lookups.memory = counts

    def registered(self, *, issuer: str, credential: str, audience: str) -> None:
        """See `TokenObserver`."""
        for outcome in get_args(Outcome):
            self._requests.labels(issuer, audience, outcome)
        for source in get_args(Source):
            self._lookups.counts[audience, source] += 0
        for reason in get_args(InvalidationReason):
            self._invalidations.labels(audience, reason)
        self._cooldown.labels(issuer)
        self._expiry.labels(credential, audience)
        self._quarantined.labels(credential, audience)

    def token_requested(self, *, issuer: str, audience: str, outcome: Outcome, seconds: float) -> None:
        """See `TokenObserver`."""
        self._requests.labels(issuer, audience, outcome).inc()
        self._request_duration.observe(seconds)

    def looked_up(self, *, audience: str, source: Source) -> None:
        """See `TokenObserver`."""
        self._lookups.counts[audience, source] += 1

    def invalidated(self, *, audience: str, reason: InvalidationReason) -> None:
        """See `TokenObserver`."""
        self._invalidations.labels(audience, reason).inc()

    def waiting(self) -> None:
        """See `TokenObserver`."""
        self._waiters.inc()

    def waited(self, seconds: float) -> None:
        """See `TokenObserver`."""
        self._waiters.dec()
        self._wait.observe(seconds)

    def budget_waited(self, *, issuer: str, seconds: float) -> None:  # noqa: ARG002 (DESIGN's metric has no label)
        """See `TokenObserver`."""
        self._budget_wait.observe(seconds)

    def cooldown(self, *, issuer: str, until: float) -> None:
        """See `TokenObserver`."""
        self._cooldown.labels(issuer).set(until)

    def quarantined(self, *, credential: str, audience: str, active: bool) -> None:
        """See `TokenObserver`."""
        self._quarantined.labels(credential, audience).set(active)

    def token_expires(self, *, credential: str, audience: str, at: float) -> None:
        """See `TokenObserver`."""
        self._expiry.labels(credential, audience).set(at)

    def store_up(self, *, up: bool) -> None:
        """See `TokenObserver`."""
        self.store_is_up = up
        self._store_up.set(up)

    def store_failed(self, *, operation: StoreOperation) -> None:
        """See `TokenObserver`."""
        self._store_errors.labels(operation).inc()
