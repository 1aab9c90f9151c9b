"""The token core's state for people: the `status` command, the status page. Never a token's value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sidecar.clock import Clock
from sidecar.tokens.entry import Entry
from sidecar.tokens.gate import IssuerBudget
from sidecar.tokens.slot import Freshness, freshness, quarantined

State = Literal["none", "fresh", "stale", "expired", "quarantined"]


@dataclass(frozen=True, slots=True)
class IdentitySnapshot:
    """One token identity. Moments are seconds since 1970."""

    credential: str
    audience: str
    issuer: str
    state: State
    expires_at: float | None
    refreshes_at: float | None
    quarantined_until: float | None
    detail: str
    """The issuer's refusal, or the last failure."""
    waiting: int


@dataclass(frozen=True, slots=True)
class BudgetSnapshot:
    """One issuer origin's budget."""

    issuer: str
    min_interval: float
    requests: int
    """Attempts of this process."""
    next_slot_at: float | None
    cooldown_until: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything, as this process knows it."""

    identities: tuple[IdentitySnapshot, ...]
    budgets: tuple[BudgetSnapshot, ...]


def describe(entries: Iterable[Entry], budgets: Iterable[IssuerBudget], clock: Clock) -> Snapshot:
    """As it is now."""
    now = clock.boottime()
    offset = clock.wall() - now
    return Snapshot(
        tuple(_identity(entry, now, offset) for entry in entries),
        tuple(_budget(budget, now, offset) for budget in budgets),
    )


def _identity(entry: Entry, now: float, offset: float) -> IdentitySnapshot:
    slot = entry.slot
    quarantine = quarantined(slot, now)
    state: State = "none"
    if slot.token is not None:
        state = _NAMES[freshness(slot, now)]
    elif quarantine is not None:
        state = "quarantined"
    return IdentitySnapshot(
        credential=entry.credential,
        audience=entry.audience,
        issuer=entry.issuer,
        state=state,
        expires_at=slot.token.end + offset if slot.token else None,
        refreshes_at=slot.moments.stale_at + offset if slot.moments else None,
        quarantined_until=quarantine.until + offset if quarantine else None,
        detail=quarantine.detail if quarantine else entry.last_failure,
        waiting=entry.waiting,
    )


_NAMES: dict[Freshness, State] = {
    Freshness.FRESH: "fresh",
    Freshness.STALE: "stale",
    Freshness.EXPIRED: "expired",
}


def _budget(budget: IssuerBudget, now: float, offset: float) -> BudgetSnapshot:
    known = budget.known
    return BudgetSnapshot(
        issuer=budget.origin,
        min_interval=budget.interval,
        requests=budget.requests,
        next_slot_at=known.free_at + offset if known.free_at > now else None,
        cooldown_until=known.cooldown_until + offset if known.cooldown_until > now else None,
    )
