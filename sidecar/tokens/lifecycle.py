"""What a token identity does next. Pure: no clock, no event loop, no store; `now` and `jitter` are arguments.

A token's life, in seconds of the boot clock (which goes on while the machine is suspended):

    born           stale_at             wait_from          last_use    end
     |---- FRESH ----|------ STALE ------|------------ EXPIRED ---------|
       serve           serve, refresh      wait for a new one; the old
                       in the background   one serves until `last_use`
                                           where no new one can be had

`WANTED` below is what a client gets that wants a token. The issuer rests where asking it now is known not to help: a
refresh has just failed, the issuer has failed again and again, or the identity is in quarantine.

    FRESH                serve
    STALE                serve, and begin a background refresh unless the issuer rests
    EXPIRED, usable      wait for a new one; serve the old one where the issuer rests
    EXPIRED, not usable  wait; refuse where the issuer rests for long and the store has just been read

The token of a secret that was changed is a stale one, until the new secret has a token of its own.

A fetch gets the next token, and there is one at a time: read the store, win the identity's lock, read the store again,
ask the issuer, save. It goes through these states:

    NONE ----> BACKGROUND ----> NONE          nobody waits: one attempt, and only if a state is free
     |             | (a client needs it)
     |             v
     |          JOINED -------> WAITED        it failed or found no state: again, as clients need it
     +--------> WAITED -------> NONE          clients wait: up to three attempts

An issuer that has failed three attempts in a row rests for a part of `max_wait`, then longer, up to three times
`max_wait`. A fetch that clients begin meanwhile waits for the end of that, if it is within a client's patience, and is
refused if not.

`decide` gives the new state and the commands that the shell is to carry out, in that order. At most one of them is a
step of a fetch. What is shared on the store (`TokenRecord`) changes only by a `Change`, which `apply` puts into this
process's copy and the shell into the store's, so that two processes' changes are merged and none is lost. What an
attempt brought is put on the store first (`SaveFirst`), and into this process's copy when it is there (`Saved`): what a
client was told is known to the next process, though this one is killed in that moment. Any other change is made here at
once and saved after (`Save`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from sidecar.tokens import commands, events
from sidecar.tokens.commands import Command
from sidecar.tokens.events import Event, Failure
from sidecar.tokens.token_record import (
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
    Token,
    TokenRecord,
    apply,
)
from sidecar.tokens.token_state import (
    FetchState,
    Freshness,
    TokenState,
    freshness,
    not_before,
    quarantined,
    refresh_at,
    schedule,
    usable,
)

Decision = tuple[TokenState, tuple[Command, ...]]

WAITED_ATTEMPTS: Final = 3
"""One, once two such fetches in a row have failed."""
REST_FIRST, REST_MOST = 1 / 8, 3.0
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
    # freshness, usable, the issuer rests
    (Freshness.FRESH, True, False): Answer.SERVE,
    (Freshness.FRESH, True, True): Answer.SERVE,
    (Freshness.STALE, True, False): Answer.SERVE_AND_REFRESH,
    (Freshness.STALE, True, True): Answer.SERVE,
    (Freshness.EXPIRED, True, False): Answer.WAIT,
    (Freshness.EXPIRED, True, True): Answer.SERVE,
    (Freshness.EXPIRED, False, False): Answer.WAIT,
    (Freshness.EXPIRED, False, True): Answer.REFUSE,
}
"""The answer by the token's freshness, whether it is usable at all, and whether the issuer rests."""

JOINED: Final = {FetchState.NONE: FetchState.WAITED, FetchState.BACKGROUND: FetchState.JOINED}
"""What becomes of a fetch when a client waits for it; the other states stay."""

WITH_CLIENTS: Final = frozenset({FetchState.JOINED, FetchState.WAITED})
"""Fetches that clients wait for: what they bring is used."""

QUARANTINE_FIRST, QUARANTINE_MOST = 30.0, 900.0
"""Seconds for which a refused credential is not asked with, doubling."""
FORCED_FIRST, FORCED_MOST = 60.0, 3600.0
"""Seconds in which no other refresh is forced by an upstream's refusal, doubling."""


def doubled(first: float, most: float, count: int) -> float:
    """The `count`-th (from 1) of a series that doubles up to a limit."""
    return min(most, first * 2.0 ** min(count - 1, 30))


def background_delay(token: Token | None, failures: int, jitter: float) -> float:
    """Seconds until a failed background refresh is tried again: a few times within what is left of a life."""
    life = token.lifetime if token is not None else 0.0
    first = min(30.0, max(1.0, life / 120))
    return doubled(first, max(first, life / 20), failures) * (1.0 + 0.25 * jitter)


def decide(state: TokenState, event: Event, now: float, jitter: float) -> Decision:
    """The new state, and what to do. `now` is in seconds of the boot clock; `jitter` is random, from -1 to 1."""
    return _RULES[type(event)](state, event, now, jitter)


def _wanted(state: TokenState, _event: events.Wanted, now: float, _jitter: float) -> Decision:
    is_usable = usable(state, now)
    state = replace(state, used=state.used or is_usable)
    match WANTED[freshness(state, now), is_usable, _rests(state, now, is_usable=is_usable)]:
        case Answer.SERVE:
            return state, (commands.Serve(),)
        case Answer.SERVE_AND_REFRESH:
            state, look = _background(state)
            return state, (commands.Serve(), *look)
        case Answer.WAIT:
            state, look = _joined(state)
            return state, (commands.Wait(), *look)
        case Answer.REFUSE:
            return state, (_refusal(state, now),)


def _loaded(state: TokenState, event: events.Loaded, now: float, jitter: float) -> Decision:
    state = replace(_adopt(state, event.record, now, jitter), looked_at=now)
    if state.fetch is FetchState.NONE:
        return state, ()
    if state.fetch in WITH_CLIENTS and usable(state, now):
        state = replace(state, used=True)
    if freshness(state, now) is Freshness.FRESH:
        return _ended(state, commands.Serve())
    if quarantined(state, now):
        return _ended(state, *_serve_or(state, now, _refusal(state, now)))
    served: tuple[Command, ...] = ()
    if freshness(state, now) is Freshness.STALE and state.fetch is not FetchState.BACKGROUND:
        state, served = replace(state, fetch=FetchState.BACKGROUND), (commands.Serve(),)
    if state.fetch is FetchState.BACKGROUND and not_before(state) > now:
        return _ended(state, *served)
    if _rest_of_failure(state, now) > state.max_wait:
        return _ended(state, *_serve_or(state, now, _refusal(state, now)))
    if not event.may_fetch:
        return state, (*served, commands.Lock())
    if state.fetch is FetchState.BACKGROUND:
        return state, (*served, commands.Fetch(1, background=True))
    state = replace(state, fetch=FetchState.WAITED)
    if _rest_of_failure(state, now) > 0:
        return state, (commands.Delay(state.record.failing.until),)
    return state, (commands.Fetch(WAITED_ATTEMPTS if state.record.failing.count < 2 else 1, background=False),)  # noqa: PLR2004


def _fetched(state: TokenState, event: events.Fetched, now: float, jitter: float) -> Decision:
    if now >= schedule(event.token, state.refresh, 0.0).last_use:  # this process was stopped while the answer grew old
        return _fetch_failed(state, events.FetchFailed(Failure.TRANSIENT), now, jitter)
    return state, (commands.SaveFirst(PutToken(event.token)),)


def _fetch_failed(state: TokenState, event: events.FetchFailed, now: float, jitter: float) -> Decision:
    if event.failure is Failure.REFUSED:
        return _refused(state, event, now)
    if state.fetch is FetchState.JOINED and event.failure is not Failure.THROTTLED:
        return replace(state, fetch=FetchState.WAITED), (commands.Look(),)
    if event.failure is Failure.TRANSIENT:
        return _failed(state, event, now, jitter)
    # It is known to the second when asking can help: come back then, but not all processes at the same moment. A turn
    # is this process's alone: it is not to pass because no client happens to come just then.
    wanted = event.failure is Failure.NO_TURN and not usable(state, now)
    state = replace(state, retry_at=now + event.retry_after + 1.0 + jitter, wanted=wanted)
    return _ended(state, *_serve_or(state, now, commands.Refuse(event.failure, event.retry_after)))


def _failed(state: TokenState, event: events.FetchFailed, now: float, jitter: float) -> Decision:
    failures = state.failures + 1
    state = replace(state, failures=failures, retry_at=now + background_delay(state.token, failures, jitter))
    if state.fetch is not FetchState.WAITED:
        return _ended(state, *_serve_or(state, now, commands.Refuse(event.failure, event.retry_after)))
    count = state.record.failing.count + 1
    rest = doubled(REST_FIRST * state.max_wait, REST_MOST * state.max_wait, count)
    return state, (commands.SaveFirst(PutFailing(Backoff(count, now + rest)), event.retry_after),)


def _refused(state: TokenState, event: events.FetchFailed, now: float) -> Decision:
    count = (state.record.quarantine.count if state.record.quarantine else 0) + 1
    until = now + doubled(QUARANTINE_FIRST, QUARANTINE_MOST, count)
    return state, (commands.SaveFirst(PutQuarantine(Quarantine(count, until, event.oauth_error, event.detail))),)


def _saved(state: TokenState, event: events.Saved, now: float, jitter: float) -> Decision:
    record = apply(state.record, event.outcome)
    if isinstance(event.outcome, PutToken):
        return _obtained(state, record, now, jitter)
    state = replace(state, record=record, looked_at=now)
    refusal = _refusal(state, now)
    refusal = commands.Refuse(refusal.failure, max(refusal.retry_after, event.retry_after), refusal.oauth_error)
    return _ended(state, *_serve_or(state, now, refusal))


def _obtained(state: TokenState, record: TokenRecord, now: float, jitter: float) -> Decision:
    waited_for = state.fetch in WITH_CLIENTS
    state = _adopt(state, record, now, jitter)
    if not usable(state, now):  # this process was stopped while it was saved
        return _fetch_failed(state, events.FetchFailed(Failure.TRANSIENT), now, jitter)
    state = replace(state, failures=0, retry_at=NEVER, used=state.used or waited_for)
    if freshness(state, now) is not Freshness.FRESH:  # an issuer that hands out its cached token again
        state = replace(state, failures=1, retry_at=now + background_delay(state.token, 1, jitter))
    return _ended(state, commands.Serve())


def _patience_over(state: TokenState, _event: events.PatienceOver, now: float, jitter: float) -> Decision:
    """Inside the leeway of a token's end: the others need not wait as long to learn that none can be had."""
    if not usable(state, now):
        return state, ()
    return replace(state, retry_at=now + background_delay(state.token, 1, jitter)), (commands.Serve(),)


def _rejected(state: TokenState, event: events.Rejected, now: float, jitter: float) -> Decision:
    if state.token is not None and state.token.version == event.version:
        forced = state.record.forced
        if now < forced.until:
            return state, (commands.PassOn(),)
        count = forced.count + 1 if now < forced.until + FORCED_MOST else 1
        change = RefuseToken(event.version, Backoff(count, now + doubled(FORCED_FIRST, FORCED_MOST, count)))
        state = replace(state, record=apply(state.record, change), previous=None, moments=None, retry_at=NEVER)
        if not event.replay:
            return state, (commands.Save(change),)
        state, look = _joined(state)
        return state, (commands.Save(change), commands.Wait(), *look)
    if not event.replay:
        return state, ()
    return _wanted(state, events.Wanted(), now, jitter)


def _replayed(state: TokenState, event: events.Replayed, _now: float, _jitter: float) -> Decision:
    if not event.accepted or state.record.forced.count == 0:
        return state, ()
    change = ForcedHelped()
    return replace(state, record=apply(state.record, change)), (commands.Save(change),)


def _session_rotated(state: TokenState, event: events.SessionRotated, now: float, jitter: float) -> Decision:
    if state.token is None or state.token.version != event.version:
        return state, ()
    if state.token is state.previous:
        return replace(state, previous=event.token), (commands.Serve(),)
    change = PutToken(event.token)
    used, moments = state.used, state.moments
    state = replace(_adopt(state, apply(state.record, change), now, jitter), used=used, moments=moments)
    return state, (commands.Serve(), commands.Save(change))


def _secret_changed(state: TokenState, event: events.SecretChanged, now: float, _jitter: float) -> Decision:
    """The old secret's token serves as a stale one does: the next is asked for, and a failure takes nothing away."""
    moments = replace(schedule(event.previous, state.refresh, 0.0), stale_at=NEVER)
    if usable(state, now) or event.previous.version in state.record.refused_versions or now >= moments.last_use:
        return state, ()
    record = replace(state.record, token=None)
    state = replace(state, record=record, previous=event.previous, moments=moments, used=event.used)
    return _background(state) if event.used else (state, ())


def _quarantine_ended(state: TokenState, _event: events.QuarantineEnded, _now: float, _jitter: float) -> Decision:
    change = EndQuarantine()
    state = replace(state, record=apply(state.record, change), retry_at=NEVER)
    return state, (commands.Save(change),)


def _woke(state: TokenState, _event: events.Woke, now: float, _jitter: float) -> Decision:
    due = refresh_at(state, now)
    return _background(state) if due is not None and now >= due else (state, ())


# --- what the rules share ----------------------------------------------------------------------------------------


def _rests(state: TokenState, now: float, *, is_usable: bool) -> bool:
    """Whether asking the issuer now is known not to help; without a token to serve, known for sure and for long."""
    if is_usable:
        return now < not_before(state)
    if quarantined(state, now) is None and _rest_of_failure(state, now) <= state.max_wait:
        return False
    return now < state.looked_at + RECHECK


def _rest_of_failure(state: TokenState, now: float) -> float:
    """Seconds for which the issuer rests because of transient faults."""
    return state.record.failing.until - now


def _background(state: TokenState) -> Decision:
    if state.fetch is not FetchState.NONE:
        return state, ()
    return replace(state, fetch=FetchState.BACKGROUND, wanted=False), (commands.Look(),)


def _joined(state: TokenState) -> Decision:
    look: tuple[Command, ...] = (commands.Look(),) if state.fetch is FetchState.NONE else ()
    return replace(state, fetch=JOINED.get(state.fetch, state.fetch), wanted=False), look


def _ended(state: TokenState, *then: Command) -> Decision:
    """The fetch has ended."""
    return replace(state, fetch=FetchState.NONE), then


def _serve_or(state: TokenState, now: float, otherwise: commands.Refuse) -> tuple[Command, ...]:
    return (commands.Serve(),) if usable(state, now) else (otherwise,)


def _refusal(state: TokenState, now: float) -> commands.Refuse:
    quarantine = quarantined(state, now)
    if quarantine is None:
        return commands.Refuse(Failure.TRANSIENT, max(0.0, _rest_of_failure(state, now)))
    return commands.Refuse(Failure.REFUSED, quarantine.until - now, quarantine.oauth_error)


def _adopt(state: TokenState, record: TokenRecord, now: float, jitter: float) -> TokenState:
    """Take over what the store says, but keep a token of this process that is better."""
    token, mine, previous = record.token, state.record.token, state.previous
    if mine is not None and mine.version not in record.refused_versions and (token is None or mine.end > token.end):
        token = mine
    refused = _united(state.record.refused_versions, record.refused_versions)
    if token is not None and (token.version in refused or now >= schedule(token, state.refresh, 0.0).last_use):
        token = None
    state = replace(state, record=replace(record, token=token, refused_versions=refused))
    if token is None:
        if previous is not None and previous.version not in refused and usable(state, now):
            return state
        return replace(state, previous=None, moments=None, used=False)
    if mine is not None and mine.version == token.version:
        return state
    return replace(state, previous=None, moments=schedule(token, state.refresh, jitter), used=False, failures=0)


def _united(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    return (*(version for version in mine if version not in theirs), *theirs)[-REFUSED_KEPT:]


_RULES: Final[dict[type, Callable[..., Decision]]] = {
    events.Wanted: _wanted,
    events.Loaded: _loaded,
    events.Fetched: _fetched,
    events.FetchFailed: _fetch_failed,
    events.Saved: _saved,
    events.PatienceOver: _patience_over,
    events.Rejected: _rejected,
    events.Replayed: _replayed,
    events.SessionRotated: _session_rotated,
    events.SecretChanged: _secret_changed,
    events.QuarantineEnded: _quarantine_ended,
    events.Woke: _woke,
}
