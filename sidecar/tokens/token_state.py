"""One token identity as one process knows it: the token's life, and what is being done about the next. Pure values.

Moments are seconds of the boot clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from sidecar.config.settings import Refresh
from sidecar.tokens.token_record import NEVER, Quarantine, Token, TokenRecord

STALE_JITTER: Final = 0.05
"""Share of the life by which a refresh is earlier or later, so that processes that share a token do not coincide."""
LAST_SECONDS: Final = 2.0
"""Seconds before its end from which a token is not used."""
LEEWAY_SHARE: Final = 0.1
"""The leeway, and the end in which a token is not used, are at most this share of its life."""

ISSUED_LEAST: Final = 120.0
"""Seconds that a stale token has left when it is handed to a program that keeps it, which has a leeway of its own."""
ISSUED_LEAST_SHARE: Final = 0.15
"""Of a short life, the same."""

# --- a token's life ----------------------------------------------------------------------------------------------


class Freshness(Enum):
    """The freshness of a token at a moment."""

    FRESH = auto()
    STALE = auto()
    EXPIRED = auto()


@dataclass(frozen=True, slots=True)
class Schedule:
    """The moments of one token's life, this process's jitter included."""

    stale_at: float
    wait_from: float
    last_use: float


def schedule(token: Token, refresh: Refresh, jitter: float) -> Schedule:
    """When a token becomes stale, is to be waited for, and must not be used any more; `jitter` is from -1 to 1.

    Jitter only makes it later: of many processes that share a token the first one refreshes, and it would be early.
    """
    life = token.lifetime
    leeway = min(refresh.leeway, LEEWAY_SHARE * life)
    last_use = life - min(LAST_SECONDS, LEEWAY_SHARE * life)
    wait_from = min(life - leeway, last_use)
    stale_after = min(refresh.after * life, life - 2 * leeway) + abs(jitter) * STALE_JITTER * life
    return Schedule(
        stale_at=token.born + min(stale_after, life - 1.5 * leeway, wait_from),
        wait_from=token.born + wait_from,
        last_use=token.born + last_use,
    )


# --- the state of one identity -----------------------------------------------------------------------------------


class FetchState(Enum):
    """Who waits for the fetch that is under way."""

    NONE = auto()
    """There is none."""
    BACKGROUND = auto()
    """Nobody: the token in use still serves."""
    JOINED = auto()
    """Clients that came while nobody waited for it."""
    WAITED = auto()
    """Clients, from its beginning."""


@dataclass(frozen=True, slots=True)
class TokenState:
    """One identity, as one process knows it."""

    refresh: Refresh = field(default_factory=Refresh)
    max_wait: float = 10.0
    """`token_requests.max_wait`, in seconds."""
    record: TokenRecord = field(default_factory=TokenRecord)
    """What the store says, as far as this process knows."""
    previous: Token | None = None
    """A token of the secret that was in force before: it serves until this identity has one. It is never saved."""
    moments: Schedule | None = None
    """The schedule of the token in use."""
    fetch: FetchState = FetchState.NONE
    failures: int = 0
    """Background refreshes that failed since one last succeeded."""
    retry_at: float = NEVER
    """A background refresh failed: it is not tried again before this moment."""
    used: bool = False
    """A client wanted this very token, so that it is worth a refresh."""
    wanted: bool = False
    """A client was turned away because this process's turn was far off: its turn is taken, whether one comes or not."""
    looked_at: float = NEVER
    """When the store was last read."""

    @property
    def token(self) -> Token | None:
        """The token in use."""
        return self.record.token or self.previous


def freshness(state: TokenState, now: float) -> Freshness:
    """The freshness of the token in use; where there is none, EXPIRED."""
    if state.moments is None or now >= state.moments.wait_from:
        return Freshness.EXPIRED
    return Freshness.FRESH if now < state.moments.stale_at else Freshness.STALE


def is_worth_issuing(state: TokenState, token: Token, now: float) -> bool:
    """Whether the token in use has enough of its life left for a program that keeps it."""
    least = min(ISSUED_LEAST, ISSUED_LEAST_SHARE * token.lifetime)
    return freshness(state, now) is Freshness.FRESH or (usable(state, now) and token.end - now >= least)


def usable(state: TokenState, now: float) -> bool:
    """Whether the token in use may be handed out at all."""
    return state.moments is not None and now < state.moments.last_use


def quarantined(state: TokenState, now: float) -> Quarantine | None:
    """The quarantine in force."""
    quarantine = state.record.quarantine
    return quarantine if quarantine is not None and now < quarantine.until else None


def not_before(state: TokenState) -> float:
    """The moment before which the issuer is not asked, where there is a token to serve meanwhile."""
    quarantine_end = state.record.quarantine.until if state.record.quarantine else NEVER
    return max(state.retry_at, state.record.failing.until, quarantine_end)


def serves_until(state: TokenState, now: float) -> float:
    """Until when the token can be handed out without asking `decide`: the hot path compares the time with this."""
    if state.moments is None or not state.used or not usable(state, now):
        return NEVER
    moments = state.moments
    resting = not_before(state) if not_before(state) > now else NEVER
    match freshness(state, now):
        case Freshness.FRESH:
            return moments.stale_at
        case Freshness.STALE:
            # The end of a fetch is an event, after which this is asked again.
            return moments.wait_from if state.fetch is not FetchState.NONE else min(moments.wait_from, resting)
        case Freshness.EXPIRED:
            return min(moments.last_use, resting)


def refresh_at(state: TokenState, now: float) -> float | None:
    """When to refresh the token in use although no client asks; None: it is not used, or a fetch is under way."""
    if state.wanted and state.fetch is FetchState.NONE:
        return state.retry_at
    if not state.used or state.moments is None or not usable(state, now) or state.fetch is not FetchState.NONE:
        return None
    return max(state.moments.stale_at, not_before(state))
