"""One token identity as one process knows it: the token's life, and what is being done about the next. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from sidecar.tokens.shared import NEVER, Quarantine, Shared, Token

STALE_JITTER: Final = 0.05
"""Share of the life by which processes that share a token spread their refreshes, either way."""
LAST_SECONDS: Final = 2.0
LEEWAY_SHARE: Final = 0.1
"""Of a short life, the leeway and the unusable end are at most this share."""

# --- a token's life ----------------------------------------------------------------------------------------------


class Freshness(Enum):
    """Of a token, now."""

    FRESH = auto()
    STALE = auto()
    EXPIRED = auto()


@dataclass(frozen=True, slots=True)
class Rules:
    """Of the configuration: `refresh.after`, a share of a life; the rest in seconds."""

    after: float = 0.8
    leeway: float = 30.0
    max_wait: float = 10.0
    """`token_requests.max_wait`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The moments of one token's life, this process's jitter included."""

    stale_at: float
    wait_from: float
    last_use: float


def schedule(token: Token, rules: Rules, jitter: float) -> Schedule:
    """When a token becomes stale, is to be waited for, and must not be used any more; `jitter` is from -1 to 1."""
    life = token.lifetime
    leeway = min(rules.leeway, LEEWAY_SHARE * life)
    last_use = life - min(LAST_SECONDS, LEEWAY_SHARE * life)
    wait_from = min(life - leeway, last_use)
    stale_after = min(rules.after * life, life - 2 * leeway) + jitter * STALE_JITTER * life
    return Schedule(
        stale_at=token.born + min(stale_after, life - 1.5 * leeway, wait_from),
        wait_from=token.born + wait_from,
        last_use=token.born + last_use,
    )


# --- the state of one identity -----------------------------------------------------------------------------------


class Flight(Enum):
    """The one attempt to get the next token."""

    NONE = auto()
    BACKGROUND = auto()
    JOINED = auto()
    WAITED = auto()


@dataclass(frozen=True, slots=True)
class Slot:
    """One identity, as one process knows it."""

    rules: Rules = Rules()
    shared: Shared = field(default_factory=Shared)
    previous: Token | None = None
    """A token of the secret that was in force before: it serves until this identity has one. It is never saved."""
    moments: Schedule | None = None
    """Of the token in use."""
    flight: Flight = Flight.NONE
    failures: int = 0
    retry_at: float = NEVER
    """A background refresh failed: not before this moment again."""
    used: bool = False
    """Somebody wanted this very token: it is worth a refresh."""
    looked_at: float = NEVER
    """When the store was last looked into."""

    @property
    def token(self) -> Token | None:
        """The token in use."""
        return self.shared.token or self.previous


def freshness(slot: Slot, now: float) -> Freshness:
    """Of the slot's token; none at all is EXPIRED."""
    if slot.moments is None or now >= slot.moments.wait_from:
        return Freshness.EXPIRED
    return Freshness.FRESH if now < slot.moments.stale_at else Freshness.STALE


def usable(slot: Slot, now: float) -> bool:
    """Whether the token may be handed out at all."""
    return slot.moments is not None and now < slot.moments.last_use


def quarantined(slot: Slot, now: float) -> Quarantine | None:
    """The quarantine in force."""
    quarantine = slot.shared.quarantine
    return quarantine if quarantine is not None and now < quarantine.until else None


def held_until(slot: Slot) -> float:
    """Before this moment the issuer is not asked, where there is a token to serve meanwhile."""
    quarantine_end = slot.shared.quarantine.until if slot.shared.quarantine else NEVER
    return max(slot.retry_at, slot.shared.failing.until, quarantine_end)


def quiet_until(slot: Slot, now: float) -> float:
    """Until when the token can be handed out without asking `decide`: what the hot path compares the time with."""
    if slot.moments is None or not slot.used or not usable(slot, now):
        return NEVER
    moments = slot.moments
    held = held_until(slot)
    match freshness(slot, now):
        case Freshness.FRESH:
            return moments.stale_at
        case Freshness.STALE:
            if slot.flight is not Flight.NONE:  # its end is an event, and this is asked again
                return moments.wait_from
            return min(moments.wait_from, NEVER if held <= now else held)
        case Freshness.EXPIRED:
            return min(moments.last_use, NEVER if held <= now else held)
