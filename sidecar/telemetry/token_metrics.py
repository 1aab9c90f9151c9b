"""The token core's reports as metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sidecar.clock import Clock

OUTCOMES = ("success", "refused", "throttled", "failed")
SOURCES = ("memory", "store", "issuer", "coalesced")
INVALIDATIONS = ("upstream_refused", "secret_changed")
STORE_OPERATIONS = ("load", "save", "lock", "reserve")
WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_P = "camunda_sidecar_"


class TokenMetrics:
    """A sink for what the token core observes. Labels come from the configuration and from fixed sets only."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._requests = Counter(
            f"{_P}token_requests_total",
            "Attempts to obtain a token, by how each ended.",
            ("issuer", "audience", "outcome"),
            registry=registry,
        )
        self._request_duration = Histogram(
            f"{_P}token_request_duration_seconds",
            "One attempt at the issuer, from sending it to its answer.",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._expiry = Gauge(
            f"{_P}token_expiry_timestamp_seconds",
            "When the token in use expires, in seconds since 1970; 0 while there is none.",
            ("credential", "audience"),
            registry=registry,
        )
        self._lookups = Counter(
            f"{_P}token_lookups_total",
            "Requests that needed a token, by where it came from.",
            ("audience", "source"),
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
            "Until when nobody asks this issuer, in seconds since 1970; 0 while there is no cool-down.",
            ("issuer",),
            registry=registry,
        )
        self._quarantined = Gauge(
            f"{_P}quarantined",
            "1 while the issuer's refusal keeps this credential from being sent again for this audience.",
            ("credential", "audience"),
            registry=registry,
        )
        self._store_up = Gauge(f"{_P}store_up", "1 while tokens are shared through the store.", registry=registry)
        self._store_errors = Counter(
            f"{_P}store_errors_total", "Operations of the token store that failed.", ("operation",), registry=registry
        )
        for operation in STORE_OPERATIONS:
            self._store_errors.labels(operation)
