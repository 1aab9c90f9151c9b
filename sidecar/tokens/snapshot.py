"""The token core's state, read from its parts: for `/status` and for gauges. Never a token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from sidecar.clock import Clock
from sidecar.tokens.authorizer import TokenAuthorizer
from sidecar.tokens.gate import IssuerBudget
from sidecar.tokens.slot import Slot, freshness, quarantined, usable
from sidecar.tokens.token_status import IssuerStatus, TokenStatus


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is in use, as this process knows it."""

    tokens: tuple[TokenStatus, ...]
    issuers: tuple[IssuerStatus, ...]


def describe(authorizers: Iterable[TokenAuthorizer], budgets: Iterable[IssuerBudget], clock: Clock) -> Snapshot:
    """One row for each credential and audience, in the order in which they came, and one for each issuer origin."""
    now = clock.boottime()
    offset = clock.wall() - now
    by_names = {authorizer.names: authorizer for authorizer in authorizers}
    return Snapshot(
        tuple(_token(authorizer, now, offset) for authorizer in by_names.values()),
        tuple(_issuer(budget, now, offset) for budget in budgets),
    )


def _token(authorizer: TokenAuthorizer, now: float, offset: float) -> TokenStatus:
    entry, names = authorizer.entry, authorizer.names
    status = TokenStatus(
        credential=names.credential,
        audience=names.audience or None,
        issuer=names.issuer,
        state="none",
        detail=authorizer.secret_error,
    )
    if entry is None:
        return status
    slot = entry.slot
    refusal = slot.shared.quarantine
    detail = refusal.detail if refusal is not None else entry.last_failure
    active = quarantined(slot, now)
    new_secret: Literal["", "pending", "refused"] = ""
    if slot.previous is not None and usable(slot, now):
        new_secret = "pending" if refusal is None else "refused"
    return msgspec.structs.replace(
        status,
        state=_state(slot, now),
        expires_at=slot.token.end + offset if slot.token else None,
        refreshes_at=slot.moments.stale_at + offset if slot.moments and not new_secret else None,
        refused=refusal is not None,
        quarantined_until=active.until + offset if active is not None else None,
        new_secret=new_secret,
        new_secret_detail=detail if new_secret else "",
        detail=authorizer.secret_error or detail,
    )


def _state(slot: Slot, now: float) -> str:
    if usable(slot, now):
        return freshness(slot, now).name.lower()
    if slot.shared.quarantine is not None:
        return "quarantined"
    return "none" if slot.token is None else "expired"


def _issuer(budget: IssuerBudget, now: float, offset: float) -> IssuerStatus:
    known = budget.known
    return IssuerStatus(
        issuer=budget.origin,
        min_interval=budget.interval,
        requests=budget.requests,
        next_slot_at=known.free_at + offset if known.free_at > now else None,
        cooldown_until=known.cooldown_until + offset if known.cooldown_until > now else None,
    )
