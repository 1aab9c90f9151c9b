"""How records are written: times relative to the moment of writing, tokens sealed."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from sidecar.tokens import sealing
from sidecar.tokens.budget import Budget
from sidecar.tokens.grant import Grant
from sidecar.tokens.sealing import Keys
from sidecar.tokens.shared import NEVER, Backoff, Quarantine, Shared, Token

MOST_AHEAD: Final = 7200.0
"""Seconds: no slot, cool-down, quarantine or back-off is ever further ahead when it is written."""


class RecordError(Exception):
    """This is no record of ours."""


class _Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    header: bytes
    unsafe_header: bytes
    lifetime: float
    age: float


class _Quarantine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    count: int
    left: float
    oauth_error: str
    detail: str


class _Shared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str
    token: _Token | None
    refused: tuple[str, ...]
    forced_count: int
    forced_left: float
    failing_count: int
    failing_left: float
    quarantine: _Quarantine | None


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str
    sealed: bytes


class _Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    free_in: float
    cooldown_left: float
    throttled: int


def seal_shared(shared: Shared, keys: Keys, identity: str, now: float) -> bytes:
    """One identity's record; `identity` is its digest, `now` of the boot clock."""
    token, quarantine = shared.token, shared.quarantine
    plain = _Shared(
        version=token.version if token else "",
        token=_Token(token.grant.header, token.grant.unsafe_header, token.lifetime, now - token.born)
        if token
        else None,
        refused=shared.refused,
        forced_count=shared.forced.count,
        forced_left=_left(shared.forced.until, now),
        failing_count=shared.failing.count,
        failing_left=_left(shared.failing.until, now),
        quarantine=_Quarantine(
            quarantine.count, _left(quarantine.until, now), quarantine.oauth_error, quarantine.detail
        )
        if quarantine
        else None,
    )
    sealed = sealing.seal(keys, identity, plain.version, msgspec.json.encode(plain))
    return msgspec.json.encode(_Sealed(plain.version, sealed))


def unseal_shared(data: bytes, keys: Keys, identity: str, written: float) -> Shared:
    """The other way; `written` is the moment of writing on this machine's boot clock.

    Raises:
        RecordError: another key sealed it, or nobody.
    """
    try:
        outer = msgspec.json.decode(data, type=_Sealed)
        plain = sealing.unseal(keys, identity, outer.version, outer.sealed)
        inner = msgspec.json.decode(plain, type=_Shared)
    except (msgspec.DecodeError, UnicodeDecodeError, sealing.UnsealError) as error:
        raise RecordError(str(error)) from None
    token, quarantine = inner.token, inner.quarantine
    return Shared(
        token=Token(
            inner.version, Grant(token.header, token.lifetime, token.unsafe_header), written - max(0.0, token.age)
        )
        if token
        else None,
        refused=inner.refused,
        forced=Backoff(inner.forced_count, _moment(inner.forced_left, written)),
        failing=Backoff(inner.failing_count, _moment(inner.failing_left, written)),
        quarantine=Quarantine(
            quarantine.count, _moment(quarantine.left, written), quarantine.oauth_error, quarantine.detail
        )
        if quarantine
        else None,
    )


def write_budget(budget: Budget, now: float) -> bytes:
    """One issuer's record: nothing in it is secret."""
    return msgspec.json.encode(_Budget(_left(budget.free_at, now), _left(budget.cooldown_until, now), budget.throttled))


def read_budget(data: bytes, written: float) -> Budget:
    """The other way.

    Raises:
        RecordError: it is none.
    """
    try:
        record = msgspec.json.decode(data, type=_Budget)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(str(error)) from None
    return Budget(_moment(record.free_in, written), _moment(record.cooldown_left, written), max(0, record.throttled))


def _left(moment: float, now: float) -> float:
    """Seconds until a moment; what has passed long ago is all the same (and JSON has no infinity)."""
    return max(-MOST_AHEAD, moment - now)


def _moment(left: float, written: float) -> float:
    if left <= -MOST_AHEAD or not math.isfinite(left):
        return NEVER
    return written + min(left, MOST_AHEAD)
