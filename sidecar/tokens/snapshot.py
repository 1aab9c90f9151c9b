"""The token core's state, read from its parts: for `/status` and for gauges. Never a token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from sidecar.clock import Clock
from sidecar.tokens.authorizer import TokenAuthorizer
from sidecar.tokens.issuer_budget import IssuerBudget
from sidecar.tokens.token_state import TokenState, freshness, quarantined, usable
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
    by_labels = {authorizer.labels: authorizer for authorizer in authorizers}
    return Snapshot(
        tuple(_token(authorizer, now, offset) for authorizer in by_labels.values()),
        tuple(_issuer(budget, now, offset) for budget in budgets),
    )


def _token(authorizer: TokenAuthorizer, now: float, offset: float) -> TokenStatus:
    token, labels = authorizer.token, authorizer.labels
    status = TokenStatus(
        credential=labels.credential,
        audience=labels.audience or None,
        issuer=labels.issuer,
        state="none",
        detail=authorizer.secret_error,
    )
    if token is None:
        return status
    state = token.state
    refusal = state.record.quarantine
    detail = refusal.detail if refusal is not None else token.last_failure
    active = quarantined(state, now)
    new_secret: Literal["", "pending", "refused"] = ""
    if state.previous is not None and usable(state, now):
        new_secret = "pending" if refusal is None else "refused"
    return msgspec.structs.replace(
        status,
        state=_state(state, now),
        issued_at=state.token.born + offset if state.token else None,
        expires_at=state.token.end + offset if state.token else None,
        refreshes_at=state.moments.stale_at + offset if state.moments and not new_secret else None,
        refused=refusal is not None,
        quarantined_until=active.until + offset if active is not None else None,
        new_secret=new_secret,
        new_secret_detail=detail if new_secret else "",
        detail=authorizer.secret_error or detail,
    )


def _state(state: TokenState, now: float) -> str:
    if usable(state, now):
        return freshness(state, now).name.lower()
    if state.record.quarantine is not None:
        return "quarantined"
    return "none" if state.token is None else "expired"


def _issuer(budget: IssuerBudget, now: float, offset: float) -> IssuerStatus:
    known = budget.known
    return IssuerStatus(
        issuer=budget.origin,
        min_interval=budget.interval,
        requests=budget.requests,
        next_slot_at=known.free_at + offset if known.free_at > now else None,
        cooldown_until=known.cooldown_until + offset if known.cooldown_until > now else None,
    )
