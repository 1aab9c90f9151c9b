"""The data plane's counters: plain integers for the hot path, which become metrics only at a scrape."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds. Each bound is about twice the one before, so that a quantile is never off by more than that: from an answer
of a service on the same host (1 ms) over the default `timeouts.response` (60 s) to long polls and exports (5 min)."""
EXEMPLAR_TRIES = 16
"""So many requests of a bucket are searched for a trace's id after each scrape, until one has it."""
_SAMPLED_TRACE = re.compile(rb"(?i)\r\ntraceparent:[ \t]*[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f][13579bdf]")
"""W3C Trace Context, with the flag that says that the trace is recorded."""
_BOUNDS: Sequence[float] = DURATION_BUCKETS
"""The same: compiled code makes a tuple of known length anew for each call."""

CLIENT_OUTCOMES = ("allowed", "refused")
UNROUTED = "-"
"""The label `route` of requests that matched no route."""


ConnectionCounts = tuple[int, int, int]
"""Connections to an upstream: being dialled, in use, idle."""


_REFUSED = frozenset({401, 403, 429})
_SERVER_ERROR = 500

LastError = tuple[float, int, str, str, str]
"""When (in seconds since 1970), status, source, the sidecar's own code (empty for an upstream's error), request id."""

_LONGEST_ID = 128


def is_error(code: int, source: str) -> bool:
    """Whether an answer counts as an error; an upstream's 4xx are a client's mistakes, unless they refuse."""
    return source != "upstream" or code >= _SERVER_ERROR or code in _REFUSED


class RouteStats:
    """The counters of one route. A client cannot add a key: every part of one is from a fixed set."""

    __slots__ = (
        "duration_counts",
        "duration_sum",
        "exemplar_tries",
        "exemplars",
        "failed_at",
        "failing",
        "failing_since",
        "in_flight",
        "last_error",
        "pools",
        "requests",
        "retries",
        "route",
    )

    def __init__(self, route: str) -> None:
        self.route = route
        self.requests: dict[tuple[str, int, str], int] = {}
        """By method (a known one, or `other`), status code, and source (`upstream` or `sidecar`)."""
        self.duration_counts = [0] * (len(DURATION_BUCKETS) + 1)
        self.duration_sum = 0.0
        self.exemplars: list[tuple[str, float, float] | None] = [None] * len(self.duration_counts)
        """A traced request of each bucket: the trace's id, its seconds, and when it was, in seconds since 1970."""
        self.exemplar_tries = [EXEMPLAR_TRIES] * len(self.duration_counts)
        self.in_flight = 0
        self.failing = ""
        """The code of the latest error about the upstream, until the upstream answers."""
        self.failing_since: float | None = None
        """When the first such error came, in seconds since 1970."""
        self.failed_at = 0.0
        """When the latest came."""
        self.last_error: LastError | None = None
        self.retries: Counter[str] = Counter()
        """By reason: `connection_lost`, `token_refused`."""
        self.pools: set[Callable[[], ConnectionCounts]] = set()
        """Asked for their counts: the pool of the configuration in force, and earlier ones as long as they are used."""

    def connections(self) -> ConnectionCounts:
        """The connections of all pools."""
        counts = [count() for count in self.pools]
        return sum(n[0] for n in counts), sum(n[1] for n in counts), sum(n[2] for n in counts)

    def finished(self, method: str, code: int, source: str, seconds: float) -> bool:
        """Count a request that was answered, wholly or not, with status `code` after `seconds`.

        Returns:
            Whether its bucket has no exemplar since the last scrape: `exemplify` is to be called then.
        """
        key = method, code, source
        self.requests[key] = self.requests.get(key, 0) + 1
        bucket = bisect_left(_BOUNDS, seconds)
        self.duration_counts[bucket] += 1
        self.duration_sum += seconds
        if source == "upstream":
            self.failing = ""
        return self.exemplar_tries[bucket] > 0

    def exemplify(self, head: bytes, seconds: float, now: float) -> None:
        """Keep the trace that `head` belongs to, if there is one; `now` is in seconds since 1970."""
        bucket = bisect_left(_BOUNDS, seconds)
        self.exemplar_tries[bucket] -= 1
        found = _SAMPLED_TRACE.search(head)
        if found is not None:
            self.exemplars[bucket] = found[1].decode().lower(), seconds, now
            self.exemplar_tries[bucket] = 0

    def erred(self, now: float, code: int, source: str, error: str, request_id: str) -> None:
        """Remember an error, `error` being the code of the sidecar's own; `now` is in seconds since 1970."""
        if source != "client" and is_error(code, source):
            self.last_error = now, code, source, error, request_id[:_LONGEST_ID]

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
        """By reason: `host`, `origin`, `fetch_metadata`, `require_header`, `allow`, `client`, `remote`."""
        self.clients: Counter[tuple[str, str]] = Counter()
        """By the name of a configured client (`-` for any other), and by outcome: `allowed` or `refused`."""

    def route(self, name: str) -> RouteStats:
        """Return the counters of a route; a reload does not reset them."""
        return self.routes.setdefault(name, RouteStats(name))
