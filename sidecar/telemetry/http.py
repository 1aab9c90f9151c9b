"""The data plane's counters: plain integers for the hot path, which become metrics only at a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Protocol

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

UNROUTED = "-"
"""The label `route` of requests that matched no route."""


class Connections(Protocol):
    """The numbers of a pool's connections in each state."""

    active: int

    @property
    def opening(self) -> int:
        """Return how many are being dialled."""
        ...

    @property
    def idle(self) -> int:
        """Return how many are kept for the next request."""
        ...


class RouteStats:
    """The counters of one route. A client cannot add a key: every part of one is from a fixed set."""

    __slots__ = (
        "duration_counts",
        "duration_sum",
        "failed_at",
        "failing",
        "failing_since",
        "in_flight",
        "pools",
        "requests",
        "retries",
        "route",
    )

    def __init__(self, route: str) -> None:
        self.route = route
        self.requests: Counter[tuple[str, int, str]] = Counter()
        """By method (a known one, or `other`), status code, and source (`upstream` or `sidecar`)."""
        self.duration_counts = [0] * (len(DURATION_BUCKETS) + 1)
        self.duration_sum = 0.0
        self.in_flight = 0
        self.failing = ""
        """The code of the latest error about the upstream, until the upstream answers."""
        self.failing_since: float | None = None
        """When the first such error came, in seconds since 1970."""
        self.failed_at = 0.0
        """When the latest came."""
        self.retries: Counter[str] = Counter()
        """By reason: `connection_lost`, `token_refused`."""
        self.pools: set[Connections] = set()
        """Of the configuration in force, and of earlier ones as long as they are used."""

    @property
    def connections_opening(self) -> int:
        """Return how many connections to the upstream are being dialled."""
        return sum(pool.opening for pool in self.pools)

    @property
    def connections_active(self) -> int:
        """Return how many connections to the upstream carry an exchange."""
        return sum(pool.active for pool in self.pools)

    @property
    def connections_idle(self) -> int:
        """Return how many connections to the upstream are kept for the next request."""
        return sum(pool.idle for pool in self.pools)

    def finished(self, method: str, code: int, source: str, seconds: float) -> None:
        """Count a request that was answered, wholly or not, with status `code` after `seconds`."""
        self.requests[method, code, source] += 1
        self.duration_counts[bisect_left(DURATION_BUCKETS, seconds)] += 1
        self.duration_sum += seconds
        if source == "upstream":
            self.failing = ""

    def failed(self, code: str, now: float) -> None:
        """Note that the sidecar answered with an error of its own; `now` is in seconds since 1970."""
        if code.startswith("upstream_"):
            if not self.failing:
                self.failing_since = now
            self.failing, self.failed_at = code, now


class HttpStats:
    """The counters of the data plane: one `RouteStats` a route and one for what matched none, and the guard's."""

    def __init__(self) -> None:
        self.routes: dict[str, RouteStats] = {}
        self.guard_rejections: Counter[str] = Counter()
        """By reason: `host`, `origin`, `fetch_metadata`, `require_header`, `allow`, `remote`."""

    def route(self, name: str) -> RouteStats:
        """Return the counters of a route; a reload does not reset them."""
        return self.routes.setdefault(name, RouteStats(name))
