"""An issuer as Camunda's is, seen from one source address: one request a second, failures counted, bursts banned."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

MIN_GAP = 1.0
BURST, BURST_WINDOW, BAN = 10, 60.0, 300.0
"""So many 429s within this window, and every request is refused for a while."""
LIFETIME = 3600.0
TIMEOUT = 5.0
"""Seconds after which a client gives up an attempt."""


@dataclass(frozen=True, slots=True)
class Window:
    """From a moment until a moment, in seconds."""

    begin: float
    end: float

    def __contains__(self, moment: object) -> bool:
        return isinstance(moment, float) and self.begin <= moment < self.end


@dataclass(frozen=True, slots=True)
class Weather:
    """What goes wrong at the issuer, and when."""

    outages: tuple[Window, ...] = ()
    storms: tuple[Window, ...] = ()
    """It answers 429 to everything."""
    deleted: dict[int, Window] = field(default_factory=dict)
    """By identity: its key is deleted, and comes back."""
    slow: float = 0.02
    lost: float = 0.01
    """Shares of answers that come late, and that never come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request, `seconds` after it was sent."""

    kind: str
    """`token`, `throttled`, `refused`, `failed`."""
    seconds: float
    retry_after: float | None = None


class Issuer:
    """One source address's account."""

    def __init__(self, weather: Weather, rng: random.Random) -> None:
        self.weather = weather
        self._rng = rng
        self._last = -1e9
        self._throttled: deque[float] = deque()
        self._banned_until = -1e9
        self.requests = 0
        self.arrivals: list[float] = []
        self.throttled = 0
        self.refused = 0
        self.bans = 0
        self.in_outages = 0
        self.too_close = 0
        """Requests within less than a second of the one before."""
        self.closest = float("inf")
        self.last_lost = -1e9

    def ask(self, identity: int, now: float) -> Answer:
        """One request arrives."""
        rng, weather = self._rng, self.weather
        gap, self._last = now - self._last, now
        self.requests += 1
        self.arrivals.append(now)
        self.closest = min(self.closest, gap)
        self.too_close += gap < MIN_GAP
        if any(now in outage for outage in weather.outages):
            self.in_outages += 1
            return Answer("failed", TIMEOUT if rng.random() < 0.3 else 0.02)
        if now < self._banned_until:
            self.throttled += 1
            return Answer("throttled", 0.05)
        if gap < MIN_GAP:
            return self._too_fast(now)
        if any(now in storm for storm in weather.storms):
            self.throttled += 1
            return Answer("throttled", 0.05, rng.choice((None, 30.0)))
        if identity in weather.deleted and now in weather.deleted[identity]:
            self.refused += 1
            return Answer("refused", 0.1)
        luck = rng.random()
        if luck < weather.lost:
            self.last_lost = now
            return Answer("failed", TIMEOUT)
        if luck < weather.lost + weather.slow:
            return Answer("token", rng.uniform(1.0, 4.5))
        return Answer("token", rng.uniform(0.05, 0.4))

    def _too_fast(self, now: float) -> Answer:
        self.throttled += 1
        self._throttled.append(now)
        while self._throttled[0] < now - BURST_WINDOW:
            self._throttled.popleft()
        if len(self._throttled) >= BURST:
            self._throttled.clear()
            self.bans += 1
            self._banned_until = now + BAN
        return Answer("throttled", 0.05)
