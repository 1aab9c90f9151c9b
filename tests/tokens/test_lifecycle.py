"""Every event in every state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.tokens.events import (
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
from sidecar.tokens.lifecycle import decide
from sidecar.tokens.shared import (
    NEVER,
    Backoff,
    EndQuarantine,
    ForcedHelped,
    PutFailing,
    PutQuarantine,
    PutToken,
    Quarantine,
    RefuseToken,
    Shared,
)
from sidecar.tokens.slot import Flight, Slot, quarantined
from tests.tokens.slots import (
    BORN,
    FRESH,
    GONE,
    LAST,
    STALE,
    concluded,
    empty,
    holding,
    quarantine,
    token,
    with_quarantine,
)

STALE_AT = BORN + 2880
IN_FLIGHT = [Flight.BACKGROUND, Flight.JOINED, Flight.WAITED]


# --- wanted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slot", "now", "commands", "flight"),
    [
        (holding(), FRESH, (Serve(),), Flight.NONE),
        (holding(used=False), FRESH, (Serve(), Wake(STALE_AT)), Flight.NONE),
        (holding(flight=Flight.WAITED), FRESH, (Serve(),), Flight.WAITED),
        (holding(retry_at=STALE), FRESH, (Serve(),), Flight.NONE),
        (with_quarantine(holding(), STALE), FRESH, (Serve(),), Flight.NONE),
        (holding(), STALE, (Serve(), Look()), Flight.BACKGROUND),
        (holding(used=False), STALE, (Serve(), Wake(STALE_AT), Look()), Flight.BACKGROUND),
        (holding(flight=Flight.BACKGROUND), STALE, (Serve(),), Flight.BACKGROUND),
        (holding(retry_at=STALE + 1), STALE, (Serve(),), Flight.NONE),
        (holding(retry_at=STALE), STALE, (Serve(), Look()), Flight.BACKGROUND),
        (with_quarantine(holding(), STALE + 1), STALE, (Serve(),), Flight.NONE),
        (with_quarantine(holding(), STALE), STALE, (Serve(), Look()), Flight.BACKGROUND),
        (holding(), LAST, (Wait(), Look()), Flight.WAITED),
        (holding(flight=Flight.BACKGROUND), LAST, (Wait(),), Flight.JOINED),
        (holding(flight=Flight.WAITED), LAST, (Wait(),), Flight.WAITED),
        (holding(retry_at=LAST + 1), LAST, (Serve(),), Flight.NONE),
        (with_quarantine(holding(), LAST + 1), LAST, (Serve(),), Flight.NONE),
        (holding(), GONE, (Wait(), Look()), Flight.WAITED),
        (holding(retry_at=GONE + 100), GONE, (Wait(), Look()), Flight.WAITED),
        (holding(flight=Flight.BACKGROUND), GONE, (Wait(),), Flight.JOINED),
        (holding(flight=Flight.JOINED), GONE, (Wait(),), Flight.JOINED),
        (empty(), FRESH, (Wait(), Look()), Flight.WAITED),
        (empty(flight=Flight.WAITED), FRESH, (Wait(),), Flight.WAITED),
        (empty(flight=Flight.BACKGROUND), FRESH, (Wait(),), Flight.JOINED),
        (
            with_quarantine(empty(), FRESH + 20, looked_at=FRESH - 0.5),
            FRESH,
            (Refuse(Failure.REFUSED, 20.0, "access_denied"),),
            Flight.NONE,
        ),
        # The store has not been looked into for a second: somebody may have ended the quarantine.
        (with_quarantine(empty(), FRESH + 20, looked_at=FRESH - 1), FRESH, (Wait(), Look()), Flight.WAITED),
        (with_quarantine(empty(), FRESH), FRESH, (Wait(), Look()), Flight.WAITED),
    ],
)
def test_what_a_client_gets(slot, now, commands, flight) -> None:
    """FRESH and STALE are served at once; EXPIRED is waited for, unless waiting is known to be in vain."""
    after, given = decide(slot, Wanted(), now, 0.0)
    assert (given, after.flight) == (commands, flight)


def test_a_thousand_wants_begin_one_flight() -> None:
    """DESIGN 5.1."""
    slot, looks = empty(), 0
    for _ in range(1000):
        slot, commands = decide(slot, Wanted(), FRESH, 0.0)
        looks += commands.count(Look())
    assert looks == 1


# --- loaded ------------------------------------------------------------------------------------------------------

NEW = token("v2", born=STALE - 5)
OLD = token("v0", born=BORN - 60)


@pytest.mark.parametrize("flight", IN_FLIGHT)
@pytest.mark.parametrize("may_fetch", [False, True])
def test_a_fresh_token_on_the_store_ends_the_flight(flight, may_fetch) -> None:
    """After the lock is won the store is looked into again, and what another process got is taken."""
    slot, commands = decide(holding(flight=flight), Loaded(Shared(token=NEW), may_fetch), STALE, 0.0)
    wake = () if flight is Flight.BACKGROUND else (Wake(NEW.born + 2880),)
    assert (slot.token, slot.flight, commands) == (NEW, Flight.NONE, (Serve(), *wake))


@pytest.mark.parametrize(
    ("slot", "now", "may_fetch", "commands", "flight"),
    [
        (empty(flight=Flight.WAITED), FRESH, False, (Lock(),), Flight.WAITED),
        (empty(flight=Flight.WAITED), FRESH, True, (Fetch(3, background=False),), Flight.WAITED),
        (empty(flight=Flight.JOINED), FRESH, True, (Fetch(3, background=False),), Flight.WAITED),
        (empty(flight=Flight.BACKGROUND), FRESH, True, (Fetch(1, background=True),), Flight.BACKGROUND),
        (holding(flight=Flight.BACKGROUND), STALE, False, (Lock(),), Flight.BACKGROUND),
        (holding(flight=Flight.BACKGROUND), STALE, True, (Fetch(1, background=True),), Flight.BACKGROUND),
        (holding(flight=Flight.BACKGROUND), GONE, True, (Fetch(1, background=True),), Flight.BACKGROUND),
        (holding(flight=Flight.JOINED), LAST, True, (Fetch(3, background=False),), Flight.WAITED),
        (holding(flight=Flight.WAITED), LAST, True, (Fetch(3, background=False),), Flight.WAITED),
        # What is stale serves those who wait, and is refreshed behind their backs.
        (holding(flight=Flight.WAITED), STALE, False, (Serve(), Lock()), Flight.BACKGROUND),
        (holding(flight=Flight.JOINED), STALE, True, (Serve(), Fetch(1, background=True)), Flight.BACKGROUND),
        (
            holding(flight=Flight.WAITED, retry_at=STALE + 9),
            STALE,
            True,
            (Serve(), Wake(STALE + 9)),
            Flight.NONE,
        ),
    ],
)
def test_nothing_new_on_the_store(slot, now, may_fetch, commands, flight) -> None:
    """Then the lock is tried for, and with it, or without it after its patience, the issuer is asked."""
    after, given = decide(slot, Loaded(slot.shared, may_fetch), now, 0.0)
    assert (given, after.flight) == (commands, flight)


@pytest.mark.parametrize(
    ("slot", "now", "commands"),
    [
        (empty(flight=Flight.WAITED), FRESH, (Refuse(Failure.REFUSED, 20.0, "access_denied"),)),
        (empty(flight=Flight.BACKGROUND), FRESH, (Refuse(Failure.REFUSED, 20.0, "access_denied"),)),
        (holding(flight=Flight.WAITED), LAST, (Serve(), Wake(LAST + 20))),
        (holding(flight=Flight.BACKGROUND), STALE, (Serve(), Wake(STALE + 20))),
    ],
)
def test_a_quarantine_on_the_store_holds_for_every_process(slot, now, commands) -> None:
    """DESIGN 5.7: whoever was refused, nobody asks for this identity again before the moment."""
    shared = replace(slot.shared, quarantine=quarantine(now + 20))
    after, given = decide(slot, Loaded(shared, may_fetch=True), now, 0.0)
    assert (given, after.flight, after.looked_at) == (commands, Flight.NONE, now)


def test_a_quarantine_that_was_ended_on_the_store_is_ended_here() -> None:
    """By `doctor` in another process."""
    slot = with_quarantine(empty(flight=Flight.WAITED), FRESH + 900)
    after, commands = decide(slot, Loaded(Shared(), may_fetch=True), FRESH, 0.0)
    assert (after.shared.quarantine, commands) == (None, (Fetch(3, background=False),))


@pytest.mark.parametrize(
    ("mine", "theirs", "kept"),
    [
        (holding(), Shared(token=NEW), "v2"),
        (holding(), Shared(token=OLD), "v1"),
        (holding(), Shared(), "v1"),
        (holding(), Shared(refused=("v1",)), None),
        (holding(), Shared(token=OLD, refused=("v1",)), "v0"),
        (empty(shared=Shared(refused=("v2",))), Shared(token=NEW), None),
        (empty(), Shared(token=OLD), "v0"),
        (empty(), Shared(token=token("v9", born=FRESH - 3600)), None),
    ],
)
def test_the_better_token_is_kept(mine, theirs, kept) -> None:
    """The one that lives longer; never one that an upstream refused here or elsewhere, nor one that has expired."""
    after, commands = decide(mine, Loaded(theirs), FRESH, 0.0)
    assert (after.token.version if after.token else None, commands) == (kept, ())
    assert (after.moments is None) == (kept is None)


def test_a_look_without_a_flight_begins_none() -> None:
    """It is only looked."""
    after, commands = decide(holding(), Loaded(Shared(), may_fetch=True), GONE, 0.0)
    assert (after.flight, commands) == (Flight.NONE, ())


# --- fetched -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flight", "commands"),
    [
        (Flight.WAITED, (Serve(), Wake(NEW.born + 2880))),
        (Flight.JOINED, (Serve(), Wake(NEW.born + 2880))),
        # Nobody has wanted it yet: it is refreshed only if somebody does (DESIGN 5.2).
        (Flight.BACKGROUND, (Serve(),)),
        (Flight.NONE, (Serve(),)),
    ],
)
def test_a_new_token_is_saved_and_answers_all(flight, commands) -> None:
    """In this order: who is killed right after its first answer leaves the token to the next process."""
    slot = with_quarantine(holding(flight=flight, failures=3, retry_at=STALE + 9), STALE - 1)
    assert decide(slot, Fetched(NEW), STALE, 0.0) == (slot, (SaveFirst(PutToken(NEW)),))
    after, given = decide(slot, Saved(PutToken(NEW)), STALE, 0.0)
    assert given == commands
    assert (after.token, after.flight, after.failures, after.retry_at) == (NEW, Flight.NONE, 0, NEVER)
    assert after.shared.quarantine is None


def test_a_token_that_grew_old_on_its_way_is_a_failed_fetch() -> None:
    """The process was stopped for an hour between asking and hearing: nothing expired is handed out."""
    after, commands = concluded(empty(flight=Flight.WAITED), Fetched(token("v2")), GONE)
    failing = SaveFirst(PutFailing(Backoff(1, GONE + 1.25)))
    assert (after.flight, commands) == (Flight.NONE, (failing, Refuse(Failure.TRANSIENT, 1.25)))


def test_a_token_that_grew_old_while_it_was_saved_is_a_failed_fetch() -> None:
    """As above, with the process stopped a moment later."""
    slot = empty(flight=Flight.WAITED)
    assert decide(slot, Fetched(token("v2")), STALE, 0.0) == (slot, (SaveFirst(PutToken(token("v2"))),))
    after, commands = decide(slot, Saved(PutToken(token("v2"))), GONE, 0.0)
    assert (after.flight, commands) == (Flight.WAITED, (SaveFirst(PutFailing(Backoff(1, GONE + 1.25))),))


@pytest.mark.parametrize(
    ("flight", "commands", "after"),
    [(Flight.NONE, (Wait(), Look()), Flight.WAITED), (Flight.BACKGROUND, (Wait(),), Flight.JOINED)],
)
def test_who_comes_while_a_token_is_saved_waits_for_it(flight, commands, after) -> None:
    """And gets it with the others."""
    slot, given = decide(decide(empty(flight=flight), Fetched(NEW), STALE, 0.0)[0], Wanted(), STALE, 0.0)
    assert (given, slot.flight) == (commands, after)
    slot, given = decide(slot, Saved(PutToken(NEW)), STALE, 0.0)
    assert given == (Serve(), Wake(NEW.born + 2880))


def test_what_the_store_says_of_an_outcome_before_it_is_known_to_be_saved_counts_once() -> None:
    """A look into the store in between finds it there already: a quarantine is not doubled by that."""
    event = FetchFailed(Failure.REFUSED, oauth_error="access_denied")
    slot, (first,) = decide(empty(flight=Flight.WAITED), event, FRESH, 0.0)
    slot, commands = decide(slot, Loaded(Shared(quarantine=first.outcome.quarantine)), FRESH, 0.0)
    assert commands == (Refuse(Failure.REFUSED, 30.0, "access_denied"),)
    slot, _ = decide(slot, Saved(first.outcome), FRESH, 0.0)
    assert slot.shared.quarantine == Quarantine(1, FRESH + 30, "access_denied")


def test_an_issuer_that_hands_out_its_cached_token_again_is_not_asked_in_a_loop() -> None:
    """What comes is stale already: the next background refresh waits."""
    again = token("v2")
    after, commands = concluded(holding(flight=Flight.BACKGROUND), Fetched(again), STALE)
    assert commands == (SaveFirst(PutToken(again)), Serve())
    assert after.retry_at == STALE + 30


# --- fetch failed ------------------------------------------------------------------------------------------------

TRANSIENT = FetchFailed(Failure.TRANSIENT, retry_after=1.25)
THROTTLED = FetchFailed(Failure.THROTTLED, retry_after=60.0)
NO_SLOT = FetchFailed(Failure.NO_SLOT, retry_after=3.0)
COOLING = FetchFailed(Failure.COOLING, retry_after=40.0)


@pytest.mark.parametrize(
    ("slot", "now", "event", "commands", "flight", "retry_at"),
    [
        # Nothing to serve: all that wait get the same error.
        (
            empty(flight=Flight.WAITED),
            FRESH,
            TRANSIENT,
            (SaveFirst(PutFailing(Backoff(1, FRESH + 1.25)), 1.25), Refuse(Failure.TRANSIENT, 1.25)),
            Flight.NONE,
            FRESH + 1,
        ),
        (empty(flight=Flight.WAITED), FRESH, THROTTLED, (Refuse(Failure.THROTTLED, 60.0),), Flight.NONE, FRESH + 61),
        (empty(flight=Flight.WAITED), FRESH, NO_SLOT, (Refuse(Failure.NO_SLOT, 3.0),), Flight.NONE, FRESH + 4),
        (empty(flight=Flight.WAITED), FRESH, COOLING, (Refuse(Failure.COOLING, 40.0),), Flight.NONE, FRESH + 41),
        # A stale token goes on serving, and is tried for again after a while.
        (
            holding(flight=Flight.BACKGROUND),
            STALE,
            TRANSIENT,
            (Serve(), Wake(STALE + 30)),
            Flight.NONE,
            STALE + 30,
        ),
        (
            holding(flight=Flight.BACKGROUND, failures=1),
            STALE,
            TRANSIENT,
            (Serve(), Wake(STALE + 60)),
            Flight.NONE,
            STALE + 60,
        ),
        (
            holding(flight=Flight.BACKGROUND, failures=20),
            STALE,
            TRANSIENT,
            (Serve(), Wake(STALE + 180)),
            Flight.NONE,
            STALE + 180,
        ),
        (holding(flight=Flight.BACKGROUND), STALE, NO_SLOT, (Serve(), Wake(STALE + 4)), Flight.NONE, STALE + 4),
        # Inside the leeway too, to those who waited for a new one.
        (
            holding(flight=Flight.WAITED),
            LAST,
            TRANSIENT,
            (SaveFirst(PutFailing(Backoff(1, LAST + 1.25)), 1.25), Serve(), Wake(LAST + 30)),
            Flight.NONE,
            LAST + 30,
        ),
        (holding(flight=Flight.WAITED), LAST, THROTTLED, (Serve(), Wake(LAST + 61)), Flight.NONE, LAST + 61),
        # Who joined a background refresh did not have three attempts yet.
        (holding(flight=Flight.JOINED), LAST, NO_SLOT, (Look(),), Flight.WAITED, NEVER),
        (holding(flight=Flight.JOINED), GONE, TRANSIENT, (Look(),), Flight.WAITED, NEVER),
        (empty(flight=Flight.JOINED), FRESH, COOLING, (Look(),), Flight.WAITED, NEVER),
        (empty(flight=Flight.JOINED), FRESH, THROTTLED, (Refuse(Failure.THROTTLED, 60.0),), Flight.NONE, FRESH + 61),
    ],
)
def test_a_failed_fetch(*, slot, now, event, commands, flight, retry_at) -> None:
    """DESIGN 5.3: a failed refresh goes on serving the old token for as long as it may be used."""
    after, given = concluded(slot, event, now)
    assert (given, after.flight, after.retry_at) == (commands, flight, retry_at)


def failing(slot: Slot, until: float, count: int = 5, looked_at: float = NEVER) -> Slot:
    """The same slot, its issuer failing."""
    return replace(slot, shared=replace(slot.shared, failing=Backoff(count, until)), looked_at=looked_at)


@pytest.mark.parametrize(
    ("before", "seconds"),
    [(0, 1.25), (1, 2.5), (2, 5), (3, 10), (4, 20), (5, 30), (6, 30), (100, 30)],
)
def test_an_issuer_that_fails_is_left_alone_for_longer_each_time(before, seconds) -> None:
    """An outage is not hammered; and at most three times `max_wait` after it, service is back."""
    slot = failing(empty(flight=Flight.WAITED), FRESH - 1, before)
    after, commands = concluded(slot, TRANSIENT, FRESH)
    change = PutFailing(Backoff(before + 1, FRESH + seconds))
    assert commands == (SaveFirst(change, 1.25), Refuse(Failure.TRANSIENT, seconds))
    assert concluded(after, Fetched(token("v2", born=FRESH)), FRESH)[0].shared.failing == Backoff()


@pytest.mark.parametrize(
    ("slot", "now", "event", "commands"),
    [
        # Shorter than a client's patience: it waits.
        (failing(empty(), FRESH + 10), FRESH, Wanted(), (Wait(), Look())),
        # Longer: it is told at once, unless nobody has looked for a second whether it is still so.
        (failing(empty(), FRESH + 20, looked_at=FRESH), FRESH, Wanted(), (Refuse(Failure.TRANSIENT, 20.0),)),
        (failing(empty(), FRESH + 20, looked_at=FRESH - 1), FRESH, Wanted(), (Wait(), Look())),
        (failing(holding(), LAST + 5), LAST, Wanted(), (Serve(),)),
        (failing(holding(), STALE + 5), STALE, Wanted(), (Serve(),)),
        (failing(holding(), STALE + 5), STALE, Woke(), (Wake(STALE + 5),)),
        (failing(empty(flight=Flight.WAITED), FRESH + 20), FRESH, None, (Refuse(Failure.TRANSIENT, 20.0),)),
        (failing(empty(flight=Flight.WAITED), FRESH + 10), FRESH, None, (Hold(FRESH + 10),)),
        (failing(empty(flight=Flight.JOINED), FRESH + 10), FRESH, None, (Hold(FRESH + 10),)),
        (failing(holding(flight=Flight.BACKGROUND), STALE + 5), STALE, None, (Wake(STALE + 5),)),
        (failing(empty(flight=Flight.WAITED), FRESH, 1), FRESH, None, (Fetch(3, background=False),)),
        (failing(empty(flight=Flight.WAITED), FRESH, 2), FRESH, None, (Fetch(1, background=False),)),
    ],
)
def test_while_an_issuer_fails(slot, now, event, commands) -> None:
    """None stands for a look into the store with the lock won."""
    assert decide(slot, event or Loaded(slot.shared, may_fetch=True), now, 0.0)[1] == commands


@pytest.mark.parametrize(
    ("before", "seconds"),
    [(0, 30), (1, 60), (2, 120), (3, 240), (4, 480), (5, 900), (6, 900), (100, 900)],
)
def test_a_refused_credential_is_left_alone_for_longer_each_time(before, seconds) -> None:
    """DESIGN 5.7: 30 s doubling to 15 min, and everybody on the store is told."""
    slot = with_quarantine(empty(flight=Flight.WAITED), FRESH - 1, count=before) if before else empty()
    event = FetchFailed(Failure.REFUSED, oauth_error="access_denied", detail="No.")
    after, commands = concluded(slot, event, FRESH)
    record = Quarantine(before + 1, FRESH + seconds, "access_denied", "No.")
    assert commands == (SaveFirst(PutQuarantine(record)), Refuse(Failure.REFUSED, float(seconds), "access_denied"))
    assert (after.flight, after.looked_at, quarantined(after, FRESH)) == (Flight.NONE, FRESH, record)


@pytest.mark.parametrize("flight", IN_FLIGHT)
def test_a_token_outlives_the_refusal_of_the_next(flight) -> None:
    """The old one is still good; and it is not asked for again before the quarantine's end."""
    event = FetchFailed(Failure.REFUSED, oauth_error="invalid_client", detail="No.")
    after, commands = concluded(holding(flight=flight), event, LAST)
    record = Quarantine(1, LAST + 30, "invalid_client", "No.")
    assert commands == (SaveFirst(PutQuarantine(record)), Serve(), Wake(LAST + 30))
    assert after.token == token()


@pytest.mark.parametrize(
    ("slot", "now", "commands"),
    [
        (holding(flight=Flight.WAITED), LAST, (Serve(),)),
        (holding(flight=Flight.WAITED), GONE, ()),
        (empty(flight=Flight.WAITED), FRESH, ()),
    ],
)
def test_when_a_client_has_waited_long_enough(slot, now, commands) -> None:
    """Inside the leeway all get the old token, and those who come next do not wait as long again."""
    after, given = decide(slot, PatienceOver(), now, 0.0)
    assert (given, after.flight) == (commands, Flight.WAITED)
    assert (after.retry_at > now) == bool(commands)


# --- refused by an upstream --------------------------------------------------------------------------------------


def test_a_refused_token_is_dropped_and_the_next_is_waited_for() -> None:
    """DESIGN 5.8; the back-off is charged at once, so that every process sees it."""
    after, commands = decide(holding(), Rejected("v1"), FRESH, 0.0)
    assert commands == (Save(RefuseToken("v1", Backoff(1, FRESH + 60))), Wait(), Look())
    assert (after.token, after.moments, after.flight, after.shared.refused) == (None, None, Flight.WAITED, ("v1",))


def test_a_refused_token_whose_request_cannot_be_sent_again_is_dropped() -> None:
    """The next client fetches."""
    after, commands = decide(holding(), Rejected("v1", replay=False), FRESH, 0.0)
    assert commands == (Save(RefuseToken("v1", Backoff(1, FRESH + 60))),)
    assert (after.token, after.flight) == (None, Flight.NONE)


@pytest.mark.parametrize(
    ("slot", "now", "commands"),
    [
        (holding(), FRESH, (Serve(),)),
        (holding(), STALE, (Serve(), Look())),
        (empty(), FRESH, (Wait(), Look())),
        (empty(flight=Flight.WAITED), FRESH, (Wait(),)),
    ],
)
def test_a_refused_token_that_was_replaced_already_costs_nothing(slot, now, commands) -> None:
    """Compare and invalidate: only the version that was refused."""
    after, given = decide(slot, Rejected("v0"), now, 0.0)
    assert (given, after.token) == (commands, slot.token)
    assert decide(slot, Rejected("v0", replay=False), now, 0.0) == (slot, ())


@pytest.mark.parametrize("replay", [True, False])
def test_a_refusal_stands_while_forced_refreshes_are_backed_off(replay) -> None:
    """The token goes on serving the others."""
    slot = holding(shared=Shared(token=token(), forced=Backoff(1, FRESH + 1)))
    assert decide(slot, Rejected("v1", replay=replay), FRESH, 0.0) == (slot, (PassOn(),))


def test_one_path_that_always_says_401_costs_seven_tokens_an_hour() -> None:
    """The first token and six forced refreshes, however many requests it gets; then one an hour."""
    slot, tokens, refreshed = holding(token("v0", born=0.0, lifetime=86400.0)), 1, []
    for second in range(7 * 3600):
        version = f"v{tokens - 1}"
        slot, commands = decide(slot, Rejected(version), float(second), 0.0)
        if Look() in commands:
            slot, _ = concluded(slot, Fetched(token(f"v{tokens}", born=second, lifetime=86400.0)), float(second))
            slot, _ = decide(slot, Replayed(accepted=False), float(second), 0.0)
            tokens += 1
            refreshed.append(second)
    assert refreshed == [0, 60, 180, 420, 900, 1860, 3780, 7380, 10980, 14580, 18180, 21780]
    assert len([at for at in refreshed if at < 3600]) + 1 == 7


@pytest.mark.parametrize(
    ("until", "count"),
    [(FRESH, 4), (FRESH - 3600, 1), (FRESH - 3599, 4)],
)
def test_refreshes_forced_long_ago_are_forgotten(until, count) -> None:
    """A token that is revoked now and then, seen by requests that cannot be replayed, is not backed off for ever."""
    slot = holding(shared=Shared(token=token(), forced=Backoff(3, until)))
    after, _ = decide(slot, Rejected("v1"), FRESH, 0.0)
    assert after.shared.forced.count == count


@pytest.mark.parametrize(
    ("count", "accepted", "commands", "after"),
    [
        (2, True, (Save(ForcedHelped()),), Backoff()),
        (2, False, (), Backoff(2, FRESH)),
        (0, True, (), Backoff(0, FRESH)),
    ],
)
def test_a_forced_refresh_that_helped_resets_the_back_off(count, accepted, commands, after) -> None:
    """And one that did not help leaves it as it was charged."""
    slot = holding(shared=Shared(token=token(), forced=Backoff(count, FRESH)))
    changed, given = decide(slot, Replayed(accepted=accepted), FRESH, 0.0)
    assert (given, changed.shared.forced) == (commands, after)


def test_a_rotated_session_takes_the_place_of_the_one_before() -> None:
    """Its life goes on as it was."""
    rotated = token("v1b")
    after, commands = decide(holding(), Rotated("v1", rotated), STALE, 0.7)
    assert (after.token, after.moments, after.used) == (rotated, holding().moments, True)
    assert commands == (Serve(), Save(PutToken(rotated)))
    assert decide(holding(), Rotated("v0", rotated), STALE, 0.7) == (holding(), ())


# --- a changed secret --------------------------------------------------------------------------------------------


def inheriting(**changes: object) -> Slot:
    """A slot that serves the token of the secret before, which was used."""
    slot, _ = decide(empty(), SecretChanged(token(), used=True), FRESH, 0.0)
    return replace(slot, **{"flight": Flight.NONE, **changes})


@pytest.mark.parametrize(
    ("slot", "now", "used", "commands", "version"),
    [
        (empty(), FRESH, True, (Look(),), "v1"),
        (empty(), FRESH, False, (), "v1"),
        (empty(flight=Flight.WAITED), FRESH, True, (), "v1"),
        (empty(), LAST, True, (Look(),), "v1"),
        (empty(), GONE, True, (), None),
        (empty(shared=Shared(refused=("v1",))), FRESH, True, (), None),
        (holding(token("mine")), FRESH, True, (), "mine"),
        (holding(token("mine", born=BORN - 3600)), FRESH, True, (Look(),), "v1"),
    ],
)
def test_the_token_of_the_secret_before_is_taken_over(*, slot, now, used, commands, version) -> None:
    """Where there is none of the new secret's, and as long as it is good; where it is in use, the next is asked for."""
    after, given = decide(slot, SecretChanged(token(), used), now, 0.0)
    assert (given, after.token and after.token.version) == (commands, version)


@pytest.mark.parametrize(
    ("slot", "event", "now", "commands"),
    [
        (inheriting(), Wanted(), FRESH, (Serve(), Look())),
        (inheriting(used=False), Wanted(), FRESH, (Serve(), Wake(NEVER), Look())),
        (inheriting(retry_at=FRESH + 30), Wanted(), FRESH, (Serve(),)),
        (with_quarantine(inheriting(), FRESH + 30), Wanted(), FRESH, (Serve(),)),
        (inheriting(), Wanted(), LAST, (Wait(), Look())),
        (inheriting(), Wanted(), GONE, (Wait(), Look())),
        (inheriting(), Woke(), FRESH, (Look(),)),
        (inheriting(flight=Flight.BACKGROUND), Loaded(Shared()), FRESH, (Lock(),)),
        (inheriting(flight=Flight.BACKGROUND), Loaded(Shared(token=NEW)), STALE, (Serve(),)),
        (inheriting(), Rotated("v1", token("v1b")), FRESH, (Serve(),)),
    ],
)
def test_while_the_token_of_the_secret_before_serves(slot, event, now, commands) -> None:
    """It is a stale token like any other, until the new secret has one; and nothing of it is saved."""
    assert decide(slot, event, now, 0.0)[1] == commands


def test_a_token_of_the_new_secret_ends_the_one_before_though_it_lives_shorter() -> None:
    """Make, then break."""
    new = token("v2", born=FRESH, lifetime=60.0)
    slot, commands = concluded(inheriting(flight=Flight.BACKGROUND), Fetched(new), FRESH)
    assert (slot.token, slot.previous, commands) == (new, None, (SaveFirst(PutToken(new)), Serve()))


@pytest.mark.parametrize("event", [Rejected("v1"), Loaded(Shared(refused=("v1",)))])
def test_a_refusal_by_an_upstream_ends_the_token_of_the_secret_before(event) -> None:
    """Here, or at another process."""
    slot, _ = decide(inheriting(), event, FRESH, 0.0)
    assert (slot.token, slot.moments) == (None, None)


# --- the rest ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slot", "now", "commands"),
    [
        (with_quarantine(empty(), FRESH + 900), FRESH, ()),
        (with_quarantine(holding(), STALE + 900), STALE, (Wake(STALE_AT),)),
        (holding(), FRESH, (Wake(STALE_AT),)),
    ],
)
def test_a_quarantine_ends_when_somebody_says_so(slot, now, commands) -> None:
    """SIGHUP, or `doctor` succeeding; on the store, for all."""
    after, given = decide(slot, QuarantineEnded(), now, 0.0)
    assert (given, quarantined(after, now)) == ((Save(EndQuarantine()), *commands), None)
    assert (after.shared.quarantine is None) == (slot.shared.quarantine is None)  # refused it is until a token comes


@pytest.mark.parametrize(
    ("slot", "now", "commands", "flight"),
    [
        (holding(), STALE, (Look(),), Flight.BACKGROUND),
        (holding(), LAST, (Look(),), Flight.BACKGROUND),
        (holding(), FRESH, (Wake(STALE_AT),), Flight.NONE),
        (holding(retry_at=STALE + 5), STALE, (Wake(STALE + 5),), Flight.NONE),
        (with_quarantine(holding(), STALE + 7), STALE, (Wake(STALE + 7),), Flight.NONE),
        (holding(flight=Flight.BACKGROUND), STALE, (), Flight.BACKGROUND),
        (holding(used=False), STALE, (), Flight.NONE),  # nobody wanted it for a whole life
        (holding(), GONE, (), Flight.NONE),
        (empty(), FRESH, (), Flight.NONE),
    ],
)
def test_waking_up(slot, now, commands, flight) -> None:
    """A used token is refreshed when it becomes stale, whether wanted just then or not; an unused one is left alone."""
    after, given = decide(slot, Woke(), now, 0.0)
    assert (given, after.flight) == (commands, flight)
