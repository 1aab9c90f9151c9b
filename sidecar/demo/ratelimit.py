"""The issuer's rate limit as Camunda SaaS has it: about one token request a second from one source address."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["allowed", "throttled", "blocked"]


@dataclass(frozen=True, slots=True)
class Limit:
    """How often one source address may ask, and how long repeated bursts block it. All times are in seconds."""

    interval: float = 1.0
    """Between two requests; 0: no limit."""
    strikes: int = 20
    """So many requests over the limit, within `window`, block the address."""
    window: float = 60.0
    block: float = 60.0


@dataclass(slots=True)
class _Source:
    next_at: float = float("-inf")
    blocked_until: float = float("-inf")
    strikes: deque[float] = field(default_factory=deque)


class RateLimiter:
    """Decides request by request. `now` is an argument, in seconds of the monotonic clock."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._sources: dict[str, _Source] = {}

    def admit(self, address: str, now: float) -> tuple[Verdict, float]:
        """Count a request from `address`; return what becomes of it, and after how many seconds it may be repeated."""
        source = self._sources.setdefault(address, _Source())
        if now < source.blocked_until:
            return "blocked", source.blocked_until - now
        if now >= source.next_at:
            source.next_at = now + self._limit.interval
            return "allowed", 0.0
        strikes = source.strikes
        strikes.append(now)
        while strikes[0] <= now - self._limit.window:
            strikes.popleft()
        if len(strikes) < self._limit.strikes:
            return "throttled", source.next_at - now
        strikes.clear()
        source.blocked_until = now + self._limit.block
        return "blocked", self._limit.block
