"""The last hour in bounded memory, for the status page: what each route did, and what happened.

The data plane pays nothing for it: its counters are read once in a while, and what was added goes into the current
frame of `STEP` seconds. A route that has served a request takes 12 kB; all of them together at most 1.5 MB.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from sidecar.clock import Clock
from sidecar.telemetry.http import DURATION_BUCKETS, UNROUTED, HttpStats, RouteStats, is_error
from sidecar.tokens.observer import Outcome
from sidecar.tokens.token_status import IssuerStatus

STEP = 30
"""Seconds of one frame. Frames begin at multiples of it since 1970, so that those of several workers add up."""
FRAMES = 121
WINDOW = 10
"""Whole frames before the current one that count as lately: five minutes."""
MOST_ROUTES, MOST_EVENTS, MOST_COOLDOWNS = 128, 100, 64
"""What comes first is kept of routes, the latest of the others."""
SOURCES = ("sidecar", "upstream", "client")
_WIDTH = len(SOURCES) + len(DURATION_BUCKETS) + 1

Attempt = tuple[float, Outcome, str]
"""A token request: when, in seconds since 1970; how it ended; the audience."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened, in words."""

    at: float
    """Seconds since 1970."""
    kind: Literal["critical", "warning", "over", "info"]
    text: str


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """The last hour of this process, or of all that are one sidecar. Never a token, nor a secret."""

    step: int = STEP
    bounds: tuple[float, ...] = DURATION_BUCKETS
    routes: dict[str, dict[int, list[int]]] = {}
    """By route and number of the frame: errors by `SOURCES`, then the requests of each bucket of durations."""
    attempts: dict[str, list[Attempt]] = {}
    """By issuer's origin."""
    cooldowns: dict[str, list[tuple[float, float]]] = {}
    """By issuer's origin: begin and end, in seconds since 1970."""
    events: list[Event] = []


class RouteHistory:
    """A ring of frames in one array."""

    __slots__ = ("_numbers", "_rows", "_seen")

    def __init__(self) -> None:
        self._rows = array("I", bytes(4 * _WIDTH * FRAMES))
        self._numbers = array("q", [-1] * FRAMES)
        """Which frame is at each place."""
        self._seen = [0] * _WIDTH

    def add(self, number: int, stats: RouteStats) -> None:
        """Put what was counted since the last call into frame `number`."""
        if sum(stats.duration_counts) == sum(self._seen[len(SOURCES) :]):
            return
        counts = _counts(stats)
        place = number % FRAMES
        begin = place * _WIDTH
        if self._numbers[place] != number:
            self._numbers[place] = number
            self._rows[begin : begin + _WIDTH] = array("I", bytes(4 * _WIDTH))
        for index, (now, before) in enumerate(zip(counts, self._seen, strict=True), begin):
            self._rows[index] += now - before
        self._seen = counts

    def since(self, number: int) -> dict[int, list[int]]:
        """The frames from `number` on that have any request."""
        return {
            each: self._rows[place * _WIDTH : (place + 1) * _WIDTH].tolist()
            for place, each in enumerate(self._numbers)
            if each >= number
        }

    def lately(self, number: int) -> tuple[int, int]:
        """Requests, and errors of the upstream, from frame `number` on."""
        begins = [place * _WIDTH for place, each in enumerate(self._numbers) if each >= number]
        answered = sum(sum(self._rows[begin + len(SOURCES) : begin + _WIDTH]) for begin in begins)
        return answered, sum(self._rows[begin + SOURCES.index("upstream")] for begin in begins)


class History:
    """Of this process."""

    def __init__(self, stats: HttpStats, attempts: Mapping[str, Iterable[Attempt]], clock: Clock) -> None:
        """`attempts` is read whenever somebody asks."""
        self._stats = stats
        self._attempts = attempts
        self._clock = clock
        self._routes: dict[str, RouteHistory] = {}
        self._cooldowns: dict[str, deque[list[float]]] = {}
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)

    def note(self, kind: Literal["critical", "warning", "over", "info"], text: str) -> None:
        """Remember what happened now."""
        self._events.append(Event(self._clock.wall(), kind, text))

    def sample(self, issuers: Iterable[IssuerStatus]) -> None:
        """Look at the counters, and at who is left alone."""
        now, issuers = self._clock.wall(), tuple(issuers)
        for name, stats in self._stats.routes.items():
            if name in self._routes or (name != UNROUTED and stats.requests and len(self._routes) < MOST_ROUTES):
                self._routes.setdefault(name, RouteHistory()).add(int(now) // STEP, stats)
        for gone in self._cooldowns.keys() - {issuer.issuer for issuer in issuers}:
            del self._cooldowns[gone]
        for issuer in issuers:
            if issuer.cooldown_until is not None and issuer.cooldown_until > now:
                spans = self._cooldowns.setdefault(issuer.issuer, deque(maxlen=MOST_COOLDOWNS))
                if not spans or spans[-1][1] < now:
                    spans.append([now, now])
                spans[-1][1] = issuer.cooldown_until

    def lately(self, route: str) -> tuple[int, int]:
        """Requests of the last five minutes, and how many of them the upstream answered with an error."""
        history = self._routes.get(route)
        return history.lately(int(self._clock.wall()) // STEP - WINDOW) if history is not None else (0, 0)

    def recent(self, since: int) -> Recent:
        """What is remembered; of routes, the frames from the number `since` on, an hour at most."""
        since = max(since, int(self._clock.wall()) // STEP - FRAMES + 1)
        routes = {name: frames for name, route in self._routes.items() if (frames := route.since(since))}
        attempts = {issuer: list(each) for issuer, each in self._attempts.items()}
        cooldowns = {issuer: [(begin, end) for begin, end in spans] for issuer, spans in self._cooldowns.items()}
        return Recent(routes=routes, attempts=attempts, cooldowns=cooldowns, events=list(self._events))


def merged(parts: Iterable[Recent]) -> Recent:
    """What several workers remember, as one sidecar's. What several say within a frame's length is said once."""
    routes: dict[str, dict[int, list[int]]] = {}
    attempts: dict[str, list[Attempt]] = {}
    cooldowns: dict[str, list[tuple[float, float]]] = {}
    events: dict[str, list[Event]] = {}
    for part in parts:
        for name, frames in part.routes.items():
            whole = routes.setdefault(name, {})
            for number, row in frames.items():
                whole[number] = [a + b for a, b in zip(whole.get(number, [0] * _WIDTH), row, strict=True)]
        for issuer, made in part.attempts.items():
            attempts[issuer] = sorted([*attempts.get(issuer, ()), *made])
        for issuer, spans in part.cooldowns.items():
            cooldowns.setdefault(issuer, []).extend(spans)
        for event in part.events:
            said = events.setdefault(event.text, [])
            if all(abs(event.at - other.at) > STEP for other in said):
                said.append(event)
    everything = sorted((event for said in events.values() for event in said), key=lambda event: event.at)
    return Recent(routes=routes, attempts=attempts, cooldowns=cooldowns, events=everything[-MOST_EVENTS:])


def _counts(stats: RouteStats) -> list[int]:
    errors = dict.fromkeys(SOURCES, 0)
    for (_, code, source), count in stats.requests.items():
        if is_error(code, source):
            errors[source] += count
    return [*errors.values(), *stats.duration_counts]
