"""The token core's events and state as metrics: a `TokenObserver`."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sidecar.clock import Clock
from sidecar.config.urls import origin
from sidecar.tokens.observer import InvalidationReason, Outcome, Source, StoreOperation, TokenObserver
from sidecar.tokens.snapshot import Snapshot
from sidecar.tokens.token_status import IssuerStatus, TokenStatus

WAIT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: from a login service near by to the defaults of `token_requests.timeout` (5 s) and `max_wait` (10 s)."""
BUDGET_BUCKETS = (0.01, 0.5, 1.25, 2.5, 3.75, 5.0, 7.5, 10.0, 30.0, 60.0)
"""Seconds: multiples of the default `min_interval`, so that a bucket says how many requests were before this one."""
STATES = ("none", "expired", "stale", "fresh", "quarantined")
"""The one that tells the most is the last: several workers may each know another one."""
MINUTE = 60.0
MOST_ATTEMPTS = 512
"""How many attempts are remembered of an issuer."""

_P = "camunda_sidecar_"


class StateCollector(Collector):
    """What is read at the scrape: where tokens came from (those from memory are the hot path), and how they are."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.attempts: defaultdict[str, deque[tuple[float, Outcome, str]]] = defaultdict(
            lambda: deque(maxlen=MOST_ATTEMPTS)
        )
        """The latest of each issuer's origin: when it was made, in seconds since 1970; how it ended; the audience."""
        self.registered: dict[tuple[str, str, str], None] = {}
        """Issuer, credential and audience of each identity that is in use."""
        self.lookups: Tally[tuple[str, str]] = Tally()
        self.memory_lookups: Callable[[], Mapping[str, int]] = dict
        self.snapshot: Callable[[], Snapshot] = lambda: Snapshot((), ())

    def collect(self) -> Iterator[Metric]:
        """Yield the families as they are now."""
        lookups = CounterMetricFamily(
            f"{_P}token_lookups", "Requests that needed a token, by where it came from.", labels=["audience", "source"]
        )
        memory = {(audience, "memory"): count for audience, count in self.memory_lookups().items()}
        for (audience, source), count in {**self.lookups, **memory}.items():
            lookups.add_metric([audience, source], count)
        yield lookups
        snapshot = self.snapshot()
        tokens = {(token.credential, token.audience or ""): token for token in snapshot.tokens}
        for name, text, value in _OF_A_TOKEN:
            family = GaugeMetricFamily(f"{_P}{name}", text, labels=["credential", "audience"])
            for _, credential, audience in self.registered:
                token = tokens.get((credential, audience))
                family.add_metric([credential, audience], value(token) if token is not None else 0.0)
            yield family
        states = GaugeMetricFamily(
            f"{_P}token_state", "1 for the state that a token is in.", labels=["credential", "audience", "state"]
        )
        for _, credential, audience in self.registered:
            now = tokens[credential, audience].state if (credential, audience) in tokens else STATES[0]
            for state in STATES:
                states.add_metric([credential, audience, state], state == now)
        yield states
        cooldown = GaugeMetricFamily(
            f"{_P}cooldown_until_timestamp_seconds",
            "Until when nobody asks this issuer, in seconds since 1970; 0 where there is no cool-down.",
            labels=["issuer"],
        )
        used = GaugeMetricFamily(
            f"{_P}budget_used_ratio",
            "Token requests of the last minute, as a share of what the issuer's limit allows; 0 without a limit.",
            labels=["issuer"],
        )
        issuers = {issuer.issuer: issuer for issuer in snapshot.issuers}
        for issuer in dict.fromkeys(issuer for issuer, _, _ in self.registered):
            known = issuers.get(origin(issuer))
            cooldown.add_metric([issuer], known.cooldown_until or 0.0 if known else 0.0)
            used.add_metric([issuer], self._used(known) if known else 0.0)
        yield cooldown
        yield used

    def _used(self, issuer: IssuerStatus) -> float:
        since = self._clock.wall() - MINUTE
        recent = sum(at > since for at, *_ in self.attempts.get(issuer.issuer, ()))
        return recent * issuer.min_interval / MINUTE


_OF_A_TOKEN: tuple[tuple[str, str, Callable[[TokenStatus], float]], ...] = (
    (
        "token_expiry_timestamp_seconds",
        "When the token in use expires, in seconds since 1970; 0 while there is none.",
        lambda token: token.expires_at or 0.0,
    ),
    (
        "token_last_success_timestamp_seconds",
        "When the issuer was last asked with success, in seconds since 1970; 0 while there is no token.",
        lambda token: token.issued_at or 0.0,
    ),
    (
        "quarantined",
        "1 from the issuer's refusal of this credential for this audience until a token comes or the secret changes.",
        lambda token: float(token.refused),
    ),
    (
        "secret_pending",
        "1 while the token of an earlier secret serves, because the credential's new secret has none yet.",
        lambda token: float(token.new_secret != ""),
    ),
)
"""Gauges of each credential and audience: name, description, and value."""


class TokenMetrics(TokenObserver):
    """Labels come from the configuration and from fixed sets only."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{_P}{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"{_P}{name}", text, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = WAIT_BUCKETS) -> Histogram:
            return Histogram(f"{_P}{name}", text, buckets=buckets, registry=registry)

        self._clock = clock
        self._state = StateCollector(clock)
        self.attempts = self._state.attempts
        registry.register(self._state)
        outcomes = ("issuer", "audience", "outcome")
        self._requests = counter("token_requests_total", "Attempts to obtain a token, by how each ended.", *outcomes)
        duration = "One attempt to obtain a token, from its slot in the budget to its end."
        self._request_duration = histogram("token_request_duration_seconds", duration)
        self._waiters = gauge("token_waiters", "Requests that wait for a token now.")
        self._wait = histogram("token_wait_seconds", "How long requests waited for a token that was not at hand.")
        given_up = "Tokens given up before their end."
        self._invalidations = counter("token_invalidations_total", given_up, "audience", "reason")
        waited = "How long token requests waited for their slot in the issuer's budget."
        self._budget_wait = histogram("budget_wait_seconds", waited, BUDGET_BUCKETS)
        self._store_up = gauge("store_up", "1 while tokens are shared through the store.")
        self._store_errors = counter("store_errors_total", "Operations of the token store that failed.", "operation")
        for operation in get_args(StoreOperation):
            self._store_errors.labels(operation)

    def read_state(self, snapshot: Callable[[], Snapshot], memory_lookups: Callable[[], Mapping[str, int]]) -> None:
        """From now on `snapshot` tells how tokens are, and `memory_lookups`, by audience, how many came from memory."""
        self._state.snapshot = snapshot
        self._state.memory_lookups = memory_lookups

    def registered(self, *, issuer: str, credential: str, audience: str) -> None:
        """Begin the series of an identity at 0."""
        self._state.registered[issuer, credential, audience] = None
        for outcome in get_args(Outcome):
            self._requests.labels(issuer, audience, outcome)
        for source in get_args(Source):
            self._state.lookups[audience, source] += 0
        for reason in get_args(InvalidationReason):
            self._invalidations.labels(audience, reason)

    def retired(self, *, issuer: str, credential: str, audience: str) -> None:
        """End the series of an identity; what was counted by issuer and audience stays while another has them."""
        registered = self._state.registered
        registered.pop((issuer, credential, audience), None)
        if not any(origin(other[0]) == origin(issuer) for other in registered):
            self._state.attempts.pop(origin(issuer), None)
        if not any((other[0], other[2]) == (issuer, audience) for other in registered):
            for outcome in get_args(Outcome):
                self._requests.remove(issuer, audience, outcome)
        if not any(other[2] == audience for other in registered):
            for source in get_args(Source):
                del self._state.lookups[audience, source]
            for reason in get_args(InvalidationReason):
                self._invalidations.remove(audience, reason)

    def token_requested(self, *, issuer: str, audience: str, outcome: Outcome, seconds: float) -> None:
        """Count and time an attempt."""
        self._requests.labels(issuer, audience, outcome).inc()
        self._state.attempts[origin(issuer)].append((self._clock.wall() - seconds, outcome, audience))
        self._request_duration.observe(seconds)

    def looked_up(self, *, audience: str, source: Source) -> None:
        """Count a token by where it came from."""
        self._state.lookups[audience, source] += 1

    def invalidated(self, *, audience: str, reason: InvalidationReason) -> None:
        """Count a token that is given up."""
        self._invalidations.labels(audience, reason).inc()

    def waiting(self) -> None:
        """One waits more."""
        self._waiters.inc()

    def waited(self, seconds: float) -> None:
        """One waits less."""
        self._waiters.dec()
        self._wait.observe(seconds)

    def budget_waited(self, *, issuer: str, seconds: float) -> None:  # noqa: ARG002 (the metric has no label)
        """Time a wait for a slot."""
        self._budget_wait.observe(seconds)

    def store_up(self, *, up: bool) -> None:
        """Tell whether the store is in use."""
        self._store_up.set(up)

    def store_failed(self, *, operation: StoreOperation) -> None:
        """Count an operation that failed."""
        self._store_errors.labels(operation).inc()
