"""When an issuer may be asked: slots `min_interval` apart and cool-downs, over everything on one store. Pure.

Moments are seconds of this machine's boot clock; the store turns them into ages, so that no wall clock is trusted.
Requests that clients wait for go before background refreshes, which take a slot only if it is free now. A process that
cannot reach the store it shares with others keeps to its turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from sidecar.tokens.token_record import NEVER

COOLDOWN_FIRST, COOLDOWN_MOST = 5.0, 300.0
"""Seconds of the first and of the longest cool-down, where the issuer names no time."""
RETRY_AFTER_LEAST, RETRY_AFTER_MOST = 1.0, 3600.0
"""Seconds: a `Retry-After` counts as no less and no more than these."""
SAME: Final = 1e-3
"""Seconds: two moments that were written as relative times and read again are the same within this."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the store says of one issuer origin. Moments are seconds of the boot clock."""

    free_at: float = NEVER
    """The moment of the next slot."""
    cooldown_until: float = NEVER
    throttled: int = 0
    """How many times in a row the issuer answered 429, to any process on the store."""


OPEN: Final = 0.1
"""The share of a turn in which an attempt may start: the rest is for clocks that differ, and for connecting."""
EARLY: Final = 2.0
"""Seconds before a turn for which who was refused is asked to come back, as a turn that is missed is long in coming."""


@dataclass(frozen=True, slots=True)
class Turns:
    """When a process may ask without knowing of the others: in one interval of `count` that all divide up."""

    place: float
    """From 0, below `count`."""
    count: int
    offset: float
    """What to add to the boot clock to get the time that all of them know."""
    lost: bool = False
    """The store knew nothing of this process any more."""

    def next(self, at: float, interval: float) -> float:
        """The first moment of a turn, not before `at`."""
        period = self.count * interval
        into = (at + self.offset - self.place * interval) % period if period > 0 and self.count > 1 else 0.0
        return at if into <= OPEN * interval else at + period - into


@dataclass(frozen=True, slots=True)
class Reserved:
    """A slot is reserved: the attempt may start at this moment."""

    at: float


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no slot in time, and nothing was reserved. `retry_after`: seconds until there is one."""

    retry_after: float
    cooling: bool = False
    turn: bool = False
    """This process may ask in its turns alone."""


def reserve(
    limit: RateLimit,
    now: float,
    interval: float,
    *,
    patience: float,
    background: bool,
    not_before: float = NEVER,
    turns: Turns | None = None,
) -> tuple[RateLimit, Reserved | Refused]:
    """Reserve the next slot within `patience` seconds; for a background refresh only one that is free now.

    A turn is rare: a background refresh waits for it too, and who is refused shall come back a little before it.
    """
    free_at = max(limit.free_at, limit.cooldown_until)
    at = max(now, free_at, not_before)
    if turns is not None:
        at = turns.next(at, interval)
    if at - now > patience or (background and turns is None and free_at > now):
        early = EARLY if turns is not None else 0.0
        cooling = limit.cooldown_until > now
        return limit, Refused(max(0.0, at - now - early), cooling=cooling, turn=turns is not None and not cooling)
    return (replace(limit, free_at=at + interval) if interval > 0 else limit), Reserved(at)


def release(limit: RateLimit, slot: Reserved, interval: float) -> RateLimit:
    """Give back a slot that is not needed any more, if no later one is reserved."""
    if abs(limit.free_at - (slot.at + interval)) > SAME:
        return limit
    return replace(limit, free_at=slot.at)


def sent(limit: RateLimit, now: float, interval: float) -> RateLimit:
    """The head of the attempt has left just now: the next slot is an interval after that."""
    return replace(limit, free_at=max(limit.free_at, now + interval))


def throttled(limit: RateLimit, now: float, retry_after: float | None, jitter: float) -> RateLimit:
    """After a 429: a cool-down of `retry_after` seconds, or one that grows; `jitter` (-1 to 1) only lengthens it."""
    count = limit.throttled + 1
    if retry_after is not None and math.isfinite(retry_after) and retry_after > 0:
        pause = min(RETRY_AFTER_MOST, max(RETRY_AFTER_LEAST, retry_after))
    else:
        pause = min(COOLDOWN_MOST, COOLDOWN_FIRST * 2.0 ** min(count - 1, 30)) * (1.0 + 0.25 * abs(jitter))
    return replace(limit, cooldown_until=max(limit.cooldown_until, now + pause), throttled=count)


def postpone(limit: RateLimit, now: float, seconds: float) -> RateLimit:
    """After a 503 that names a time: a cool-down of so many seconds, which does not count as throttling."""
    pause = min(RETRY_AFTER_MOST, seconds)
    return replace(limit, cooldown_until=max(limit.cooldown_until, now + pause))


def granted(limit: RateLimit) -> RateLimit:
    """After a grant: the next cool-down is a short one again."""
    return replace(limit, throttled=0)


def merged(one: RateLimit, other: RateLimit) -> RateLimit:
    """The stricter of two records: what this process knows, and what a store that was away remembers."""
    return RateLimit(
        free_at=max(one.free_at, other.free_at),
        cooldown_until=max(one.cooldown_until, other.cooldown_until),
        throttled=other.throttled,
    )


def unreadable(now: float, interval: float) -> RateLimit:
    """What replaces a damaged record: another process may have asked just now."""
    return RateLimit(free_at=now + interval)
