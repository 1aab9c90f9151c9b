"""What a token identity does next. Pure: no clock, no loop, no store; `now` and `jitter` are arguments.

A token's life, in seconds of the boot clock (which goes on while the machine is suspended):

    born           stale_at             wait_from          last_use    end
     |---- FRESH ----|------ STALE ------|------------ EXPIRED ---------|
       serve           serve, refresh      wait for a new one; the old
                       in the background   one serves until `last_use`
                                           where no new one can be had

What a client that wants a token gets (`WANTED` below). "Held": asking now is known not to help, because a refresh has
just failed, the issuer has failed again and again, or the identity is in quarantine.

    FRESH                serve
    STALE                serve, and begin a background refresh unless held
    EXPIRED, usable      wait for a new one; serve the old one where held
    EXPIRED, not usable  wait; refuse where held for long, and the store has just been looked into

A flight is the one attempt at a time to get the next token: look into the store, win the identity's lock, look again,
ask the issuer. It goes through these states:

    NONE ----> BACKGROUND ----> NONE          nobody waits: one attempt, and only if a slot is free
     |             | (a client needs it)
     |             v
     |          JOINED -------> WAITED        it failed or found no slot: again, as clients need it
     +--------> WAITED -------> NONE          clients wait: up to three attempts

An issuer that has failed three attempts in a row is left alone for a part of `max_wait`, then longer, up to three times
`max_wait`; a flight that comes meanwhile is held where that ends within a client's patience, and refused where not.

`decide` gives the new slot and the commands that the shell is to carry out, in that order. What is shared on the store
(`Shared`) changes only by a `Change`, which `apply` puts into this process's copy and the shell into the store's, so
that two processes' changes merge and none overwrites the other's. What an attempt brought is put on the store first
(`SaveFirst`), and into this process's copy when it is there (`Saved`): a process that is killed the moment a client has
its answer leaves to the next what that client was told. Any other change is here at once and saved after (`Save`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from sidecar.tokens.events import (
    Command,
    Event,
    Failure,
    Fetch,
    Fetched,
    FetchFailed,
    Hold,
    Loaded,
    Lock,
    Look,
    PassOn,
    PatienceOver,
    QuarantineEnded,
    Refuse,
    Rejected,
    Replayed,
    Rotated,
    Save,
    Saved,
    SaveFirst,
    SecretChanged,
    Serve,
    Wait,
    Wake,
    Wanted,
    Woke,
)
from sidecar.tokens.shared import (
    NEVER,
    REFUSED_KEPT,
    Backoff,
    EndQuarantine,
    ForcedHelped,
    PutFailing,
    PutQuarantine,
    PutToken,
    Quarantine,
    RefuseToken,
    Shared,
    Token,
    apply,
)
from sidecar.tokens.slot import (
    Flight,
    Freshness,
    Schedule,
    Slot,
    freshness,
    held_until,
    quarantined,
    schedule,
    usable,
)

Decision = tuple[Slot, tuple[Command, ...]]

WAITED_ATTEMPTS: Final = 3
"""One, once two such fetches in a row have failed."""
HOLD_FIRST, HOLD_MOST = 1 / 8, 3.0
"""Of `max_wait`: how long an issuer that fails is left alone, doubling. Most of it is shorter than a client waits."""
RECHECK: Final = 1.0
"""Seconds between two looks into the store for the end of a quarantine that another process (`doctor`) has lifted."""


class Answer(Enum):
    """To a client that wants a token."""

    SERVE = auto()
    SERVE_AND_REFRESH = auto()
    WAIT = auto()
    REFUSE = auto()


WANTED: Final[dict[tuple[Freshness, bool, bool], Answer]] = {
    # freshness, usable, held
    (Freshness.FRESH, True, False): Answer.SERVE,
    (Freshness.FRESH, True, True): Answer.SERVE,
    (Freshness.STALE, True, False): Answer.SERVE_AND_REFRESH,
    (Freshness.STALE, True, True): Answer.SERVE,
    (Freshness.EXPIRED, True, False): Answer.WAIT,
    (Freshness.EXPIRED, True, True): Answer.SERVE,
    (Freshness.EXPIRED, False, False): Answer.WAIT,
    (Freshness.EXPIRED, False, True): Answer.REFUSE,
}
"""The answer by freshness, whether the token is usable at all, and whether asking now is held back."""

JOIN: Final = {
    Flight.NONE: Flight.WAITED,
    Flight.BACKGROUND: Flight.JOINED,
    Flight.JOINED: Flight.JOINED,
    Flight.WAITED: Flight.WAITED,
}
"""What becomes of a flight when a client waits for it."""

WITH_CLIENTS: Final = frozenset({Flight.JOINED, Flight.WAITED})
"""Flights that clients wait for: what they bring is used."""

QUARANTINE_FIRST, QUARANTINE_MOST = 30.0, 900.0
FORCED_FIRST, FORCED_MOST = 60.0, 3600.0


def doubled(first: float, most: float, count: int) -> float:
    """The `count`-th (from 1) of a series that doubles up to a limit."""
    return min(most, first * 2.0 ** min(count - 1, 30))


def background_delay(token: Token | None, failures: int, jitter: float) -> float:
    """Seconds until a failed background refresh is tried again: a few times within what is left of a life."""
    life = token.lifetime if token is not None else 0.0
    first = min(30.0, max(1.0, life / 120))
    return doubled(first, max(first, life / 20), failures) * (1.0 + 0.25 * jitter)


def decide(slot: Slot, event: Event, now: float, jitter: float) -> Decision:
    """The new slot, and what to do. `now` is in seconds of the boot clock; `jitter` is random, from -1 to 1."""
    return _RULES[type(event)](slot, event, now, jitter)


def _wanted(slot: Slot, _event: Wanted, now: float, _jitter: float) -> Decision:
    slot, wake = _use(slot, now)
    is_usable = usable(slot, now)
    match WANTED[freshness(slot, now), is_usable, _held(slot, now, is_usable=is_usable)]:
        case Answer.SERVE:
            return slot, (Serve(), *wake)
        case Answer.SERVE_AND_REFRESH:
            slot, look = _background(slot)
            return slot, (Serve(), *wake, *look)
        case Answer.WAIT:
            slot, look = _join(slot)
            return slot, (Wait(), *look)
        case Answer.REFUSE:
            return slot, (_refusal(slot, now),)


def _loaded(slot: Slot, event: Loaded, now: float, jitter: float) -> Decision:
    slot = replace(_adopt(slot, event.shared, now, jitter), looked_at=now)
    if slot.flight is Flight.NONE:
        return slot, ()
    if slot.flight in WITH_CLIENTS and usable(slot, now):
        slot = replace(slot, used=True)
    if freshness(slot, now) is Freshness.FRESH:
        return _landed(slot, now, Serve())
    if quarantined(slot, now):
        return _landed(slot, now, *_serve_or(slot, now, _refusal(slot, now)))
    served: tuple[Command, ...] = ()
    if freshness(slot, now) is Freshness.STALE and slot.flight is not Flight.BACKGROUND:
        slot, served = replace(slot, flight=Flight.BACKGROUND), (Serve(),)
    if slot.flight is Flight.BACKGROUND and held_until(slot) > now:
        return _landed(slot, now, *served)
    if _failing_for(slot, now) > slot.rules.max_wait:
        return _landed(slot, now, *_serve_or(slot, now, _refusal(slot, now)))
    if not event.may_fetch:
        return slot, (*served, Lock())
    if slot.flight is Flight.BACKGROUND:
        return slot, (*served, Fetch(1, background=True))
    slot = replace(slot, flight=Flight.WAITED)
    if _failing_for(slot, now) > 0:
        return slot, (Hold(slot.shared.failing.until),)
    return slot, (Fetch(WAITED_ATTEMPTS if slot.shared.failing.count < 2 else 1, background=False),)  # noqa: PLR2004


def _fetched(slot: Slot, event: Fetched, now: float, jitter: float) -> Decision:
    if now >= schedule(event.token, slot.rules, 0.0).last_use:  # this process was stopped while the answer grew old
        return _fetch_failed(slot, FetchFailed(Failure.TRANSIENT), now, jitter)
    return slot, (SaveFirst(PutToken(event.token)),)


def _fetch_failed(slot: Slot, event: FetchFailed, now: float, jitter: float) -> Decision:
    if event.failure is Failure.REFUSED:
        return _refused(slot, event, now)
    if slot.flight is Flight.JOINED and event.failure is not Failure.THROTTLED:
        return replace(slot, flight=Flight.WAITED), (Look(),)
    if event.failure is Failure.TRANSIENT:
        return _failed(slot, event, now, jitter)
    # Known to the second: come back then, not all processes at the same moment.
    slot = replace(slot, retry_at=now + event.retry_after + 1.0 + jitter)
    return _landed(slot, now, *_serve_or(slot, now, Refuse(event.failure, event.retry_after)))


def _failed(slot: Slot, event: FetchFailed, now: float, jitter: float) -> Decision:
    failures = slot.failures + 1
    slot = replace(slot, failures=failures, retry_at=now + background_delay(slot.token, failures, jitter))
    if slot.flight is not Flight.WAITED:
        return _landed(slot, now, *_serve_or(slot, now, Refuse(event.failure, event.retry_after)))
    count = slot.shared.failing.count + 1
    hold = doubled(HOLD_FIRST * slot.rules.max_wait, HOLD_MOST * slot.rules.max_wait, count)
    return slot, (SaveFirst(PutFailing(Backoff(count, now + hold)), event.retry_after),)


def _refused(slot: Slot, event: FetchFailed, now: float) -> Decision:
    count = (slot.shared.quarantine.count if slot.shared.quarantine else 0) + 1
    until = now + doubled(QUARANTINE_FIRST, QUARANTINE_MOST, count)
    return slot, (SaveFirst(PutQuarantine(Quarantine(count, until, event.oauth_error, event.detail))),)


def _saved(slot: Slot, event: Saved, now: float, jitter: float) -> Decision:
    shared = apply(slot.shared, event.outcome)
    if isinstance(event.outcome, PutToken):
        return _obtained(slot, shared, now, jitter)
    slot = replace(slot, shared=shared, looked_at=now)
    refusal = _refusal(slot, now)
    return _landed(
        slot, now, *_serve_or(slot, now, replace(refusal, retry_after=max(refusal.retry_after, event.retry_after)))
    )


def _obtained(slot: Slot, shared: Shared, now: float, jitter: float) -> Decision:
    waited_for = slot.flight in WITH_CLIENTS
    slot = _adopt(slot, shared, now, jitter)
    if not usable(slot, now):  # this process was stopped while it was saved
        return _fetch_failed(slot, FetchFailed(Failure.TRANSIENT), now, jitter)
    slot = replace(slot, failures=0, retry_at=NEVER, used=slot.used or waited_for)
    if freshness(slot, now) is not Freshness.FRESH:  # an issuer that hands out its cached token again
        slot = replace(slot, failures=1, retry_at=now + background_delay(slot.token, 1, jitter))
    return _landed(slot, now, Serve())


def _patience_over(slot: Slot, _event: PatienceOver, now: float, jitter: float) -> Decision:
    """Inside the leeway of a token's end: the others need not wait as long to learn that none can be had."""
    if not usable(slot, now):
        return slot, ()
    return replace(slot, retry_at=now + background_delay(slot.token, 1, jitter)), (Serve(),)


def _rejected(slot: Slot, event: Rejected, now: float, jitter: float) -> Decision:
    if slot.token is not None and slot.token.version == event.version:
        forced = slot.shared.forced
        if now < forced.until:
            return slot, (PassOn(),)
        count = forced.count + 1 if now < forced.until + FORCED_MOST else 1
        change = RefuseToken(event.version, Backoff(count, now + doubled(FORCED_FIRST, FORCED_MOST, count)))
        slot = replace(slot, shared=apply(slot.shared, change), previous=None, moments=None, retry_at=NEVER)
        if not event.replay:
            return slot, (Save(change),)
        slot, look = _join(slot)
        return slot, (Save(change), Wait(), *look)
    if not event.replay:
        return slot, ()
    return _wanted(slot, Wanted(), now, jitter)


def _replayed(slot: Slot, event: Replayed, _now: float, _jitter: float) -> Decision:
    if not event.accepted or slot.shared.forced.count == 0:
        return slot, ()
    change = ForcedHelped()
    return replace(slot, shared=apply(slot.shared, change)), (Save(change),)


def _rotated(slot: Slot, event: Rotated, now: float, jitter: float) -> Decision:
    if slot.token is None or slot.token.version != event.version:
        return slot, ()
    if slot.token is slot.previous:
        return replace(slot, previous=event.token), (Serve(),)
    change = PutToken(event.token)
    used, moments = slot.used, slot.moments
    slot = replace(_adopt(slot, apply(slot.shared, change), now, jitter), used=used, moments=moments)
    return slot, (Serve(), Save(change))


def _secret_changed(slot: Slot, event: SecretChanged, now: float, _jitter: float) -> Decision:
    """The old secret's token serves as a stale one does: the next is asked for, and its failure takes nothing away."""
    moments = replace(schedule(event.previous, slot.rules, 0.0), stale_at=NEVER)
    if usable(slot, now) or event.previous.version in slot.shared.refused or now >= moments.last_use:
        return slot, ()
    shared = replace(slot.shared, token=None)
    slot = replace(slot, shared=shared, previous=event.previous, moments=moments, used=event.used)
    return _background(slot) if event.used else (slot, ())


def _quarantine_ended(slot: Slot, _event: QuarantineEnded, _now: float, _jitter: float) -> Decision:
    change = EndQuarantine()
    slot = replace(slot, shared=apply(slot.shared, change), retry_at=NEVER)
    if slot.used and slot.moments is not None:
        return slot, (Save(change), Wake(_next_refresh(slot, slot.moments)))
    return slot, (Save(change),)


def _woke(slot: Slot, _event: Woke, now: float, _jitter: float) -> Decision:
    if not slot.used or not usable(slot, now) or slot.moments is None:
        return slot, ()
    due = _next_refresh(slot, slot.moments)
    return _background(slot) if now >= due else (slot, (Wake(due),))


# --- what the rules share ----------------------------------------------------------------------------------------


def _held(slot: Slot, now: float, *, is_usable: bool) -> bool:
    """Whether asking now is known to be in vain; without a token to serve, known for sure and for long."""
    if is_usable:
        return now < held_until(slot)
    if quarantined(slot, now) is None and _failing_for(slot, now) <= slot.rules.max_wait:
        return False
    return now < slot.looked_at + RECHECK


def _failing_for(slot: Slot, now: float) -> float:
    """Seconds for which the issuer is left alone because of transient faults."""
    return slot.shared.failing.until - now


def _use(slot: Slot, now: float) -> tuple[Slot, tuple[Command, ...]]:
    """Marks the token as used; a used token is refreshed when it becomes stale, whether wanted just then or not."""
    if slot.used or slot.moments is None or not usable(slot, now):
        return slot, ()
    return replace(slot, used=True), (Wake(_next_refresh(slot, slot.moments)),)


def _next_refresh(slot: Slot, moments: Schedule) -> float:
    return max(moments.stale_at, held_until(slot))


def _background(slot: Slot) -> Decision:
    if slot.flight is not Flight.NONE:
        return slot, ()
    return replace(slot, flight=Flight.BACKGROUND), (Look(),)


def _join(slot: Slot) -> Decision:
    look: tuple[Command, ...] = (Look(),) if slot.flight is Flight.NONE else ()
    return replace(slot, flight=JOIN[slot.flight]), look


def _landed(slot: Slot, now: float, *commands: Command) -> Decision:
    """The flight is over; a used token that still serves is looked after later."""
    slot = replace(slot, flight=Flight.NONE)
    if slot.used and slot.moments is not None and usable(slot, now):
        return slot, (*commands, Wake(_next_refresh(slot, slot.moments)))
    return slot, commands


def _serve_or(slot: Slot, now: float, otherwise: Refuse) -> tuple[Command, ...]:
    return (Serve(),) if usable(slot, now) else (otherwise,)


def _refusal(slot: Slot, now: float) -> Refuse:
    quarantine = quarantined(slot, now)
    if quarantine is None:
        return Refuse(Failure.TRANSIENT, max(0.0, _failing_for(slot, now)))
    return Refuse(Failure.REFUSED, quarantine.until - now, quarantine.oauth_error)


def _adopt(slot: Slot, shared: Shared, now: float, jitter: float) -> Slot:
    """Takes over what the store says, but keeps a token of its own that is better."""
    token = shared.token
    mine = slot.shared.token
    if mine is not None and mine.version not in shared.refused and (token is None or mine.end > token.end):
        token = mine
    if token is not None and (token.version in slot.shared.refused or now >= schedule(token, slot.rules, 0.0).last_use):
        token = None
    merged = replace(shared, token=token, refused=_united(slot.shared.refused, shared.refused))
    if token is None:
        previous = slot.previous
        if previous is not None and previous.version not in merged.refused and usable(slot, now):
            return replace(slot, shared=merged)
        return replace(slot, shared=merged, previous=None, moments=None, used=False)
    if mine is not None and mine.version == token.version:
        return replace(slot, shared=merged)
    moments = schedule(token, slot.rules, jitter)
    return replace(slot, shared=merged, previous=None, moments=moments, used=False, failures=0)


def _united(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    return (*(version for version in mine if version not in theirs), *theirs)[-REFUSED_KEPT:]


_RULES: Final[dict[type, Callable[..., Decision]]] = {
    Wanted: _wanted,
    Loaded: _loaded,
    Fetched: _fetched,
    FetchFailed: _fetch_failed,
    Saved: _saved,
    PatienceOver: _patience_over,
    Rejected: _rejected,
    Replayed: _replayed,
    Rotated: _rotated,
    SecretChanged: _secret_changed,
    QuarantineEnded: _quarantine_ended,
    Woke: _woke,
}
