"""Every event in every state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.tokens.commands import Delay, Fetch, Lock, Look, PassOn, Refuse, Save, SaveFirst, Serve, Wait
from sidecar.tokens.events import (
    Failure,
    Fetched,
    FetchFailed,
    Loaded,
    PatienceOver,
    QuarantineEnded,
    Rejected,
    Replayed,
    Saved,
    SecretChanged,
    SessionRotated,
    Wanted,
    Woke,
)
from sidecar.tokens.lifecycle import decide
from sidecar.tokens.token_record import (
    NEVER,
    Backoff,
    EndQuarantine,
    ForcedHelped,
    PutFailing,
    PutQuarantine,
    PutToken,
    Quarantine,
    RefuseToken,
    TokenRecord,
)
from sidecar.tokens.token_state import FetchState, TokenState, quarantined, refresh_at
from tests.tokens.states import (
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
IN_PROGRESS = [FetchState.BACKGROUND, FetchState.JOINED, FetchState.WAITED]


# --- wanted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "now", "commands", "fetch"),
    [
        (holding(), FRESH, (Serve(),), FetchState.NONE),
        (holding(used=False), FRESH, (Serve(),), FetchState.NONE),
        (holding(fetch=FetchState.WAITED), FRESH, (Serve(),), FetchState.WAITED),
        (holding(retry_at=STALE), FRESH, (Serve(),), FetchState.NONE),
        (with_quarantine(holding(), STALE), FRESH, (Serve(),), FetchState.NONE),
        (holding(), STALE, (Serve(), Look()), FetchState.BACKGROUND),
        (holding(used=False), STALE, (Serve(), Look()), FetchState.BACKGROUND),
        (holding(fetch=FetchState.BACKGROUND), STALE, (Serve(),), FetchState.BACKGROUND),
        (holding(retry_at=STALE + 1), STALE, (Serve(),), FetchState.NONE),
        (holding(retry_at=STALE), STALE, (Serve(), Look()), FetchState.BACKGROUND),
        (with_quarantine(holding(), STALE + 1), STALE, (Serve(),), FetchState.NONE),
        (with_quarantine(holding(), STALE), STALE, (Serve(), Look()), FetchState.BACKGROUND),
        (holding(), LAST, (Wait(), Look()), FetchState.WAITED),
        (holding(fetch=FetchState.BACKGROUND), LAST, (Wait(),), FetchState.JOINED),
        (holding(fetch=FetchState.WAITED), LAST, (Wait(),), FetchState.WAITED),
        (holding(retry_at=LAST + 1), LAST, (Serve(),), FetchState.NONE),
        (with_quarantine(holding(), LAST + 1), LAST, (Serve(),), FetchState.NONE),
        (holding(), GONE, (Wait(), Look()), FetchState.WAITED),
        (holding(retry_at=GONE + 100), GONE, (Wait(), Look()), FetchState.WAITED),
        (holding(fetch=FetchState.BACKGROUND), GONE, (Wait(),), FetchState.JOINED),
        (holding(fetch=FetchState.JOINED), GONE, (Wait(),), FetchState.JOINED),
        (empty(), FRESH, (Wait(), Look()), FetchState.WAITED),
        (empty(fetch=FetchState.WAITED), FRESH, (Wait(),), FetchState.WAITED),
        (empty(fetch=FetchState.BACKGROUND), FRESH, (Wait(),), FetchState.JOINED),
        (
            with_quarantine(empty(), FRESH + 20, looked_at=FRESH - 0.5),
            FRESH,
            (Refuse(Failure.REFUSED, 20.0, "access_denied"),),
            FetchState.NONE,
        ),
        # The store has not been looked into for a second: somebody may have ended the quarantine.
        (with_quarantine(empty(), FRESH + 20, looked_at=FRESH - 1), FRESH, (Wait(), Look()), FetchState.WAITED),
        (with_quarantine(empty(), FRESH), FRESH, (Wait(), Look()), FetchState.WAITED),
    ],
)
def test_what_a_client_gets(state, now, commands, fetch) -> None:
    """FRESH and STALE are served at once; EXPIRED is waited for, unless waiting is known to be in vain."""
    after, given = decide(state, Wanted(), now, 0.0)
    assert (given, after.fetch) == (commands, fetch)


def test_a_thousand_wants_begin_one_fetch() -> None:
    """However many come, the first of them begins it."""
    state, looks = empty(), 0
    for _ in range(1000):
        state, commands = decide(state, Wanted(), FRESH, 0.0)
        looks += commands.count(Look())
    assert looks == 1


# --- loaded ------------------------------------------------------------------------------------------------------

NEW = token("v2", born=STALE - 5)
OLD = token("v0", born=BORN - 60)


@pytest.mark.parametrize("fetch", IN_PROGRESS)
@pytest.mark.parametrize("may_fetch", [False, True])
def test_a_fresh_token_on_the_store_ends_the_fetch(fetch, may_fetch) -> None:
    """After the lock is won the store is looked into again, and what another process got is taken."""
    state, commands = decide(holding(fetch=fetch), Loaded(TokenRecord(token=NEW), may_fetch), STALE, 0.0)
    assert (state.token, state.fetch, commands) == (NEW, FetchState.NONE, (Serve(),))


@pytest.mark.parametrize(
    ("state", "now", "may_fetch", "commands", "fetch"),
    [
        (empty(fetch=FetchState.WAITED), FRESH, False, (Lock(),), FetchState.WAITED),
        (empty(fetch=FetchState.WAITED), FRESH, True, (Fetch(3, background=False),), FetchState.WAITED),
        (empty(fetch=FetchState.JOINED), FRESH, True, (Fetch(3, background=False),), FetchState.WAITED),
        (empty(fetch=FetchState.BACKGROUND), FRESH, True, (Fetch(1, background=True),), FetchState.BACKGROUND),
        (holding(fetch=FetchState.BACKGROUND), STALE, False, (Lock(),), FetchState.BACKGROUND),
        (holding(fetch=FetchState.BACKGROUND), STALE, True, (Fetch(1, background=True),), FetchState.BACKGROUND),
        (holding(fetch=FetchState.BACKGROUND), GONE, True, (Fetch(1, background=True),), FetchState.BACKGROUND),
        (holding(fetch=FetchState.JOINED), LAST, True, (Fetch(3, background=False),), FetchState.WAITED),
        (holding(fetch=FetchState.WAITED), LAST, True, (Fetch(3, background=False),), FetchState.WAITED),
        # What is stale serves those who wait, and is refreshed behind their backs.
        (holding(fetch=FetchState.WAITED), STALE, False, (Serve(), Lock()), FetchState.BACKGROUND),
        (holding(fetch=FetchState.JOINED), STALE, True, (Serve(), Fetch(1, background=True)), FetchState.BACKGROUND),
        (
            holding(fetch=FetchState.WAITED, retry_at=STALE + 9),
            STALE,
            True,
            (Serve(),),
            FetchState.NONE,
        ),
    ],
)
def test_nothing_new_on_the_store(state, now, may_fetch, commands, fetch) -> None:
    """Then the lock is tried for, and with it, or without it after its patience, the issuer is asked."""
    after, given = decide(state, Loaded(state.record, may_fetch), now, 0.0)
    assert (given, after.fetch) == (commands, fetch)


@pytest.mark.parametrize(
    ("state", "now", "commands"),
    [
        (empty(fetch=FetchState.WAITED), FRESH, (Refuse(Failure.REFUSED, 20.0, "access_denied"),)),
        (empty(fetch=FetchState.BACKGROUND), FRESH, (Refuse(Failure.REFUSED, 20.0, "access_denied"),)),
        (holding(fetch=FetchState.WAITED), LAST, (Serve(),)),
        (holding(fetch=FetchState.BACKGROUND), STALE, (Serve(),)),
    ],
)
def test_a_quarantine_on_the_store_holds_for_every_process(state, now, commands) -> None:
    """Whoever was refused, nobody asks for this identity again before the moment."""
    shared = replace(state.record, quarantine=quarantine(now + 20))
    after, given = decide(state, Loaded(shared, may_fetch=True), now, 0.0)
    assert (given, after.fetch, after.looked_at) == (commands, FetchState.NONE, now)


def test_a_quarantine_that_was_ended_on_the_store_is_ended_here() -> None:
    """By `doctor` in another process."""
    state = with_quarantine(empty(fetch=FetchState.WAITED), FRESH + 900)
    after, commands = decide(state, Loaded(TokenRecord(), may_fetch=True), FRESH, 0.0)
    assert (after.record.quarantine, commands) == (None, (Fetch(3, background=False),))


@pytest.mark.parametrize(
    ("mine", "theirs", "kept"),
    [
        (holding(), TokenRecord(token=NEW), "v2"),
        (holding(), TokenRecord(token=OLD), "v1"),
        (holding(), TokenRecord(), "v1"),
        (holding(), TokenRecord(refused_versions=("v1",)), None),
        (holding(), TokenRecord(token=OLD, refused_versions=("v1",)), "v0"),
        (empty(record=TokenRecord(refused_versions=("v2",))), TokenRecord(token=NEW), None),
        (empty(), TokenRecord(token=OLD), "v0"),
        (empty(), TokenRecord(token=token("v9", born=FRESH - 3600)), None),
    ],
)
def test_the_better_token_is_kept(mine, theirs, kept) -> None:
    """The one that lives longer; never one that an upstream refused here or elsewhere, nor one that has expired."""
    after, commands = decide(mine, Loaded(theirs), FRESH, 0.0)
    assert (after.token.version if after.token else None, commands) == (kept, ())
    assert (after.moments is None) == (kept is None)


def test_a_look_without_a_fetch_begins_none() -> None:
    """It is only looked."""
    after, commands = decide(holding(), Loaded(TokenRecord(), may_fetch=True), GONE, 0.0)
    assert (after.fetch, commands) == (FetchState.NONE, ())


# --- fetched -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fetch", "commands"),
    [
        (FetchState.WAITED, (Serve(),)),
        (FetchState.JOINED, (Serve(),)),
        # Nobody has wanted it yet: it is refreshed only if somebody does.
        (FetchState.BACKGROUND, (Serve(),)),
        (FetchState.NONE, (Serve(),)),
    ],
)
def test_a_new_token_is_saved_and_answers_all(fetch, commands) -> None:
    """In this order: who is killed right after its first answer leaves the token to the next process."""
    state = with_quarantine(holding(fetch=fetch, failures=3, retry_at=STALE + 9), STALE - 1)
    assert decide(state, Fetched(NEW), STALE, 0.0) == (state, (SaveFirst(PutToken(NEW)),))
    after, given = decide(state, Saved(PutToken(NEW)), STALE, 0.0)
    assert given == commands
    assert (after.token, after.fetch, after.failures, after.retry_at) == (NEW, FetchState.NONE, 0, NEVER)
    assert after.record.quarantine is None


def test_a_token_that_grew_old_on_its_way_is_a_failed_fetch() -> None:
    """The process was stopped for an hour between asking and hearing: nothing expired is handed out."""
    after, commands = concluded(empty(fetch=FetchState.WAITED), Fetched(token("v2")), GONE)
    failing = SaveFirst(PutFailing(Backoff(1, GONE + 1.25)))
    assert (after.fetch, commands) == (FetchState.NONE, (failing, Refuse(Failure.TRANSIENT, 1.25)))


def test_a_token_that_grew_old_while_it_was_saved_is_a_failed_fetch() -> None:
    """As above, with the process stopped a moment later."""
    state = empty(fetch=FetchState.WAITED)
    assert decide(state, Fetched(token("v2")), STALE, 0.0) == (state, (SaveFirst(PutToken(token("v2"))),))
    after, commands = decide(state, Saved(PutToken(token("v2"))), GONE, 0.0)
    assert (after.fetch, commands) == (FetchState.WAITED, (SaveFirst(PutFailing(Backoff(1, GONE + 1.25))),))


@pytest.mark.parametrize(
    ("fetch", "commands", "after"),
    [(FetchState.NONE, (Wait(), Look()), FetchState.WAITED), (FetchState.BACKGROUND, (Wait(),), FetchState.JOINED)],
)
def test_who_comes_while_a_token_is_saved_waits_for_it(fetch, commands, after) -> None:
    """And gets it with the others."""
    state, given = decide(decide(empty(fetch=fetch), Fetched(NEW), STALE, 0.0)[0], Wanted(), STALE, 0.0)
    assert (given, state.fetch) == (commands, after)
    state, given = decide(state, Saved(PutToken(NEW)), STALE, 0.0)
    assert given == (Serve(),)


def test_what_the_store_says_of_an_outcome_before_it_is_known_to_be_saved_counts_once() -> None:
    """A look into the store in between finds it there already: a quarantine is not doubled by that."""
    event = FetchFailed(Failure.REFUSED, oauth_error="access_denied")
    state, (first,) = decide(empty(fetch=FetchState.WAITED), event, FRESH, 0.0)
    state, commands = decide(state, Loaded(TokenRecord(quarantine=first.outcome.quarantine)), FRESH, 0.0)
    assert commands == (Refuse(Failure.REFUSED, 30.0, "access_denied"),)
    state, _ = decide(state, Saved(first.outcome), FRESH, 0.0)
    assert state.record.quarantine == Quarantine(1, FRESH + 30, "access_denied")


def test_an_issuer_that_hands_out_its_cached_token_again_is_not_asked_in_a_loop() -> None:
    """What comes is stale already: the next background refresh waits."""
    again = token("v2")
    after, commands = concluded(holding(fetch=FetchState.BACKGROUND), Fetched(again), STALE)
    assert commands == (SaveFirst(PutToken(again)), Serve())
    assert after.retry_at == STALE + 30


# --- fetch failed ------------------------------------------------------------------------------------------------

TRANSIENT = FetchFailed(Failure.TRANSIENT, retry_after=1.25)
THROTTLED = FetchFailed(Failure.THROTTLED, retry_after=60.0)
NO_SLOT = FetchFailed(Failure.NO_SLOT, retry_after=3.0)
COOLING = FetchFailed(Failure.COOLING, retry_after=40.0)
NO_TURN = FetchFailed(Failure.NO_TURN, retry_after=300.0)


@pytest.mark.parametrize(
    ("state", "now", "event", "commands", "fetch", "retry_at"),
    [
        # Nothing to serve: all that wait get the same error.
        (
            empty(fetch=FetchState.WAITED),
            FRESH,
            TRANSIENT,
            (SaveFirst(PutFailing(Backoff(1, FRESH + 1.25)), 1.25), Refuse(Failure.TRANSIENT, 1.25)),
            FetchState.NONE,
            FRESH + 1,
        ),
        (
            empty(fetch=FetchState.WAITED),
            FRESH,
            THROTTLED,
            (Refuse(Failure.THROTTLED, 60.0),),
            FetchState.NONE,
            FRESH + 61,
        ),
        (empty(fetch=FetchState.WAITED), FRESH, NO_SLOT, (Refuse(Failure.NO_SLOT, 3.0),), FetchState.NONE, FRESH + 4),
        (empty(fetch=FetchState.WAITED), FRESH, COOLING, (Refuse(Failure.COOLING, 40.0),), FetchState.NONE, FRESH + 41),
        # A stale token goes on serving, and is tried for again after a while.
        (
            holding(fetch=FetchState.BACKGROUND),
            STALE,
            TRANSIENT,
            (Serve(),),
            FetchState.NONE,
            STALE + 30,
        ),
        (
            holding(fetch=FetchState.BACKGROUND, failures=1),
            STALE,
            TRANSIENT,
            (Serve(),),
            FetchState.NONE,
            STALE + 60,
        ),
        (
            holding(fetch=FetchState.BACKGROUND, failures=20),
            STALE,
            TRANSIENT,
            (Serve(),),
            FetchState.NONE,
            STALE + 180,
        ),
        (holding(fetch=FetchState.BACKGROUND), STALE, NO_SLOT, (Serve(),), FetchState.NONE, STALE + 4),
        # Inside the leeway too, to those who waited for a new one.
        (
            holding(fetch=FetchState.WAITED),
            LAST,
            TRANSIENT,
            (SaveFirst(PutFailing(Backoff(1, LAST + 1.25)), 1.25), Serve()),
            FetchState.NONE,
            LAST + 30,
        ),
        (holding(fetch=FetchState.WAITED), LAST, THROTTLED, (Serve(),), FetchState.NONE, LAST + 61),
        # Who joined a background refresh did not have three attempts yet.
        (holding(fetch=FetchState.JOINED), LAST, NO_SLOT, (Look(),), FetchState.WAITED, NEVER),
        (holding(fetch=FetchState.JOINED), GONE, TRANSIENT, (Look(),), FetchState.WAITED, NEVER),
        (empty(fetch=FetchState.JOINED), FRESH, COOLING, (Look(),), FetchState.WAITED, NEVER),
        (
            empty(fetch=FetchState.JOINED),
            FRESH,
            THROTTLED,
            (Refuse(Failure.THROTTLED, 60.0),),
            FetchState.NONE,
            FRESH + 61,
        ),
    ],
)
def test_a_failed_fetch(*, state, now, event, commands, fetch, retry_at) -> None:
    """A failed refresh goes on serving the old token for as long as it may be used."""
    after, given = concluded(state, event, now)
    assert (given, after.fetch, after.retry_at) == (commands, fetch, retry_at)


def failing(state: TokenState, until: float, count: int = 5, looked_at: float = NEVER) -> TokenState:
    """The same state, its issuer failing."""
    return replace(state, record=replace(state.record, failing=Backoff(count, until)), looked_at=looked_at)


@pytest.mark.parametrize(
    ("before", "seconds"),
    [(0, 1.25), (1, 2.5), (2, 5), (3, 10), (4, 20), (5, 30), (6, 30), (100, 30)],
)
def test_an_issuer_that_fails_is_left_alone_for_longer_each_time(before, seconds) -> None:
    """An outage is not hammered; and at most three times `max_wait` after it, service is back."""
    state = failing(empty(fetch=FetchState.WAITED), FRESH - 1, before)
    after, commands = concluded(state, TRANSIENT, FRESH)
    change = PutFailing(Backoff(before + 1, FRESH + seconds))
    assert commands == (SaveFirst(change, 1.25), Refuse(Failure.TRANSIENT, seconds))
    assert concluded(after, Fetched(token("v2", born=FRESH)), FRESH)[0].record.failing == Backoff()


@pytest.mark.parametrize(
    ("state", "now", "event", "commands"),
    [
        # Shorter than a client's patience: it waits.
        (failing(empty(), FRESH + 10), FRESH, Wanted(), (Wait(), Look())),
        # Longer: it is told at once, unless nobody has looked for a second whether it is still so.
        (failing(empty(), FRESH + 20, looked_at=FRESH), FRESH, Wanted(), (Refuse(Failure.TRANSIENT, 20.0),)),
        (failing(empty(), FRESH + 20, looked_at=FRESH - 1), FRESH, Wanted(), (Wait(), Look())),
        (failing(holding(), LAST + 5), LAST, Wanted(), (Serve(),)),
        (failing(holding(), STALE + 5), STALE, Wanted(), (Serve(),)),
        (failing(holding(), STALE + 5), STALE, Woke(), ()),
        (failing(empty(fetch=FetchState.WAITED), FRESH + 20), FRESH, None, (Refuse(Failure.TRANSIENT, 20.0),)),
        (failing(empty(fetch=FetchState.WAITED), FRESH + 10), FRESH, None, (Delay(FRESH + 10),)),
        (failing(empty(fetch=FetchState.JOINED), FRESH + 10), FRESH, None, (Delay(FRESH + 10),)),
        (failing(holding(fetch=FetchState.BACKGROUND), STALE + 5), STALE, None, ()),
        (failing(empty(fetch=FetchState.WAITED), FRESH, 1), FRESH, None, (Fetch(3, background=False),)),
        (failing(empty(fetch=FetchState.WAITED), FRESH, 2), FRESH, None, (Fetch(1, background=False),)),
    ],
)
def test_while_an_issuer_fails(state, now, event, commands) -> None:
    """None stands for a look into the store with the lock won."""
    assert decide(state, event or Loaded(state.record, may_fetch=True), now, 0.0)[1] == commands


@pytest.mark.parametrize(
    ("before", "seconds"),
    [(0, 30), (1, 60), (2, 120), (3, 240), (4, 480), (5, 900), (6, 900), (100, 900)],
)
def test_a_refused_credential_is_left_alone_for_longer_each_time(before, seconds) -> None:
    """30 s doubling to 15 min, and everybody on the store is told."""
    state = with_quarantine(empty(fetch=FetchState.WAITED), FRESH - 1, count=before) if before else empty()
    event = FetchFailed(Failure.REFUSED, oauth_error="access_denied", detail="No.")
    after, commands = concluded(state, event, FRESH)
    record = Quarantine(before + 1, FRESH + seconds, "access_denied", "No.")
    assert commands == (SaveFirst(PutQuarantine(record)), Refuse(Failure.REFUSED, float(seconds), "access_denied"))
    assert (after.fetch, after.looked_at, quarantined(after, FRESH)) == (FetchState.NONE, FRESH, record)


@pytest.mark.parametrize("fetch", IN_PROGRESS)
def test_a_token_outlives_the_refusal_of_the_next(fetch) -> None:
    """The old one is still good; and it is not asked for again before the quarantine's end."""
    event = FetchFailed(Failure.REFUSED, oauth_error="invalid_client", detail="No.")
    after, commands = concluded(holding(fetch=fetch), event, LAST)
    record = Quarantine(1, LAST + 30, "invalid_client", "No.")
    assert commands == (SaveFirst(PutQuarantine(record)), Serve())
    assert after.token == token()


@pytest.mark.parametrize(
    ("state", "now", "commands"),
    [
        (holding(fetch=FetchState.WAITED), LAST, (Serve(),)),
        (holding(fetch=FetchState.WAITED), GONE, ()),
        (empty(fetch=FetchState.WAITED), FRESH, ()),
    ],
)
def test_when_a_client_has_waited_long_enough(state, now, commands) -> None:
    """Inside the leeway all get the old token, and those who come next do not wait as long again."""
    after, given = decide(state, PatienceOver(), now, 0.0)
    assert (given, after.fetch) == (commands, FetchState.WAITED)
    assert (after.retry_at > now) == bool(commands)


@pytest.mark.parametrize("fetch", [FetchState.WAITED, FetchState.BACKGROUND])
def test_a_turn_is_taken_though_no_client_comes_just_then(fetch) -> None:
    """It is this process's alone, and the next is far off; what comes of it ends that, whatever it is."""
    turned_away, commands = concluded(empty(fetch=fetch), NO_TURN, FRESH)
    assert commands == (Refuse(Failure.NO_TURN, 300.0),)
    assert refresh_at(turned_away, FRESH) == FRESH + 301
    taken, commands = decide(turned_away, Woke(), FRESH + 301, 0.0)
    assert (commands, taken.fetch) == ((Look(),), FetchState.BACKGROUND)
    failed, _ = concluded(taken, TRANSIENT, FRESH + 302)
    assert refresh_at(failed, FRESH + 302) is None
    obtained, _ = concluded(taken, Fetched(token("v1")), FRESH)
    assert refresh_at(obtained, FRESH) is None


# --- refused by an upstream --------------------------------------------------------------------------------------


def test_a_refused_token_is_dropped_and_the_next_is_waited_for() -> None:
    """The back-off is charged at once, so that every process sees it."""
    after, commands = decide(holding(), Rejected("v1"), FRESH, 0.0)
    assert commands == (Save(RefuseToken("v1", Backoff(1, FRESH + 60))), Wait(), Look())
    assert (after.token, after.moments, after.fetch, after.record.refused_versions) == (
        None,
        None,
        FetchState.WAITED,
        ("v1",),
    )


def test_a_refused_token_whose_request_cannot_be_sent_again_is_dropped() -> None:
    """The next client fetches."""
    after, commands = decide(holding(), Rejected("v1", replay=False), FRESH, 0.0)
    assert commands == (Save(RefuseToken("v1", Backoff(1, FRESH + 60))),)
    assert (after.token, after.fetch) == (None, FetchState.NONE)


@pytest.mark.parametrize(
    ("state", "now", "commands"),
    [
        (holding(), FRESH, (Serve(),)),
        (holding(), STALE, (Serve(), Look())),
        (empty(), FRESH, (Wait(), Look())),
        (empty(fetch=FetchState.WAITED), FRESH, (Wait(),)),
    ],
)
def test_a_refused_token_that_was_replaced_already_costs_nothing(state, now, commands) -> None:
    """Compare and invalidate: only the version that was refused."""
    after, given = decide(state, Rejected("v0"), now, 0.0)
    assert (given, after.token) == (commands, state.token)
    assert decide(state, Rejected("v0", replay=False), now, 0.0) == (state, ())


@pytest.mark.parametrize("replay", [True, False])
def test_a_refusal_stands_while_forced_refreshes_are_backed_off(replay) -> None:
    """The token goes on serving the others."""
    state = holding(record=TokenRecord(token=token(), forced=Backoff(1, FRESH + 1)))
    assert decide(state, Rejected("v1", replay=replay), FRESH, 0.0) == (state, (PassOn(),))


def test_one_path_that_always_says_401_costs_seven_tokens_an_hour() -> None:
    """The first token and six forced refreshes, however many requests it gets; then one an hour."""
    state, tokens, refreshed = holding(token("v0", born=0.0, lifetime=86400.0)), 1, []
    for second in range(7 * 3600):
        version = f"v{tokens - 1}"
        state, commands = decide(state, Rejected(version), float(second), 0.0)
        if Look() in commands:
            state, _ = concluded(state, Fetched(token(f"v{tokens}", born=second, lifetime=86400.0)), float(second))
            state, _ = decide(state, Replayed(accepted=False), float(second), 0.0)
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
    state = holding(record=TokenRecord(token=token(), forced=Backoff(3, until)))
    after, _ = decide(state, Rejected("v1"), FRESH, 0.0)
    assert after.record.forced.count == count


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
    state = holding(record=TokenRecord(token=token(), forced=Backoff(count, FRESH)))
    changed, given = decide(state, Replayed(accepted=accepted), FRESH, 0.0)
    assert (given, changed.record.forced) == (commands, after)


def test_a_rotated_session_takes_the_place_of_the_one_before() -> None:
    """Its life goes on as it was."""
    rotated = token("v1b")
    after, commands = decide(holding(), SessionRotated("v1", rotated), STALE, 0.7)
    assert (after.token, after.moments, after.used) == (rotated, holding().moments, True)
    assert commands == (Serve(), Save(PutToken(rotated)))
    assert decide(holding(), SessionRotated("v0", rotated), STALE, 0.7) == (holding(), ())


# --- a changed secret --------------------------------------------------------------------------------------------


def inheriting(**changes: object) -> TokenState:
    """A state that serves the token of the secret before, which was used."""
    state, _ = decide(empty(), SecretChanged(token(), used=True), FRESH, 0.0)
    return replace(state, **{"fetch": FetchState.NONE, **changes})


@pytest.mark.parametrize(
    ("state", "now", "used", "commands", "version"),
    [
        (empty(), FRESH, True, (Look(),), "v1"),
        (empty(), FRESH, False, (), "v1"),
        (empty(fetch=FetchState.WAITED), FRESH, True, (), "v1"),
        (empty(), LAST, True, (Look(),), "v1"),
        (empty(), GONE, True, (), None),
        (empty(record=TokenRecord(refused_versions=("v1",))), FRESH, True, (), None),
        (holding(token("mine")), FRESH, True, (), "mine"),
        (holding(token("mine", born=BORN - 3600)), FRESH, True, (Look(),), "v1"),
    ],
)
def test_the_token_of_the_secret_before_is_taken_over(*, state, now, used, commands, version) -> None:
    """Where there is none of the new secret's, and as long as it is good; where it is in use, the next is asked for."""
    after, given = decide(state, SecretChanged(token(), used), now, 0.0)
    assert (given, after.token and after.token.version) == (commands, version)


@pytest.mark.parametrize(
    ("state", "event", "now", "commands"),
    [
        (inheriting(), Wanted(), FRESH, (Serve(), Look())),
        (inheriting(used=False), Wanted(), FRESH, (Serve(), Look())),
        (inheriting(retry_at=FRESH + 30), Wanted(), FRESH, (Serve(),)),
        (with_quarantine(inheriting(), FRESH + 30), Wanted(), FRESH, (Serve(),)),
        (inheriting(), Wanted(), LAST, (Wait(), Look())),
        (inheriting(), Wanted(), GONE, (Wait(), Look())),
        (inheriting(), Woke(), FRESH, (Look(),)),
        (inheriting(fetch=FetchState.BACKGROUND), Loaded(TokenRecord()), FRESH, (Lock(),)),
        (inheriting(fetch=FetchState.BACKGROUND), Loaded(TokenRecord(token=NEW)), STALE, (Serve(),)),
        (inheriting(), SessionRotated("v1", token("v1b")), FRESH, (Serve(),)),
    ],
)
def test_while_the_token_of_the_secret_before_serves(state, event, now, commands) -> None:
    """It is a stale token like any other, until the new secret has one; and nothing of it is saved."""
    assert decide(state, event, now, 0.0)[1] == commands


def test_a_token_of_the_new_secret_ends_the_one_before_though_it_lives_shorter() -> None:
    """Make, then break."""
    new = token("v2", born=FRESH, lifetime=60.0)
    state, commands = concluded(inheriting(fetch=FetchState.BACKGROUND), Fetched(new), FRESH)
    assert (state.token, state.previous, commands) == (new, None, (SaveFirst(PutToken(new)), Serve()))


@pytest.mark.parametrize("event", [Rejected("v1"), Loaded(TokenRecord(refused_versions=("v1",)))])
def test_a_refusal_by_an_upstream_ends_the_token_of_the_secret_before(event) -> None:
    """Here, or at another process."""
    state, _ = decide(inheriting(), event, FRESH, 0.0)
    assert (state.token, state.moments) == (None, None)


# --- the rest ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "now", "commands"),
    [
        (with_quarantine(empty(), FRESH + 900), FRESH, ()),
        (with_quarantine(holding(), STALE + 900), STALE, ()),
        (holding(), FRESH, ()),
    ],
)
def test_a_quarantine_ends_when_somebody_says_so(state, now, commands) -> None:
    """SIGHUP, or `doctor` succeeding; on the store, for all."""
    after, given = decide(state, QuarantineEnded(), now, 0.0)
    assert (given, quarantined(after, now)) == ((Save(EndQuarantine()), *commands), None)
    assert (after.record.quarantine is None) == (state.record.quarantine is None)  # refused it is until a token comes


@pytest.mark.parametrize(
    ("state", "now", "commands", "fetch"),
    [
        (holding(), STALE, (Look(),), FetchState.BACKGROUND),
        (holding(), LAST, (Look(),), FetchState.BACKGROUND),
        (holding(), FRESH, (), FetchState.NONE),
        (holding(retry_at=STALE + 5), STALE, (), FetchState.NONE),
        (with_quarantine(holding(), STALE + 7), STALE, (), FetchState.NONE),
        (holding(fetch=FetchState.BACKGROUND), STALE, (), FetchState.BACKGROUND),
        (holding(used=False), STALE, (), FetchState.NONE),  # nobody wanted it for a whole life
        (holding(), GONE, (), FetchState.NONE),
        (empty(), FRESH, (), FetchState.NONE),
    ],
)
def test_waking_up(state, now, commands, fetch) -> None:
    """A used token is refreshed when it becomes stale, whether wanted just then or not; an unused one is left alone."""
    after, given = decide(state, Woke(), now, 0.0)
    assert (given, after.fetch) == (commands, fetch)
