"""The shell around the lifecycle, in manual time: what clients get, what the issuer is asked, what is said about it."""

from __future__ import annotations

import asyncio
import re

import pytest
from structlog.testing import capture_logs

from sidecar.config.settings import IssuerLimits, Refresh, TokenRequests
from sidecar.errors import (
    CredentialRejectedError,
    GrantFailedError,
    GrantInterruptedError,
    GrantRefusedError,
    GrantThrottledError,
    TokenUnavailableError,
)
from sidecar.secret import Secret
from sidecar.tokens.manager import TokenManager
from sidecar.tokens.stores.memory import MemoryStore
from tests.tokens.support import ISSUER, FakeIssuer, ManualClock, bearer, grant, ignored, rig, settle

pytestmark = pytest.mark.usefixtures("quick_keys")

FAULT = GrantInterruptedError("The issuer answered 503.")
REFUSAL = GrantRefusedError("The issuer answered 401 invalid_client. Check the secret.", oauth_error="invalid_client")


# --- one flight --------------------------------------------------------------------------------------------------


async def test_a_thousand_cold_clients_make_one_request() -> None:
    """And it is known of each where its token came from."""
    one = await rig()
    assert one.authorizer.current() is None
    answers = [one.asking() for _ in range(1000)]
    await one.clock.advance(0.1)
    assert {answer.result().header for answer in answers} == {bearer("token-1")}
    assert len(one.issuer.requests) == 1
    sources = [source for _, source in one.events.of("looked_up")]
    assert (sources.count("issuer"), sources.count("coalesced")) == (1, 999)
    assert (len(one.events.of("waiting")), len(one.events.of("waited"))) == (1000, 1000)


async def test_the_hot_path_gives_the_same_bytes_again() -> None:
    """And only counts."""
    one = await rig()
    await one.ask()
    first = one.authorizer.current()
    assert first is not None
    assert all(one.authorizer.current() is first for _ in range(10))
    assert one.manager.memory_lookups() == {"operate.camunda.io": 11}
    assert first.header == bearer("token-1")
    assert b"token-1" not in repr(first).encode()


async def test_equal_identities_share_a_token_and_others_do_not() -> None:
    """Two routes to Console and Hub with one client cost one token; another audience costs another."""
    one = await rig()
    again = FakeIssuer(one.clock)
    same = one.manager.authorizer(again, credential="again", audience="operate.camunda.io")
    other_issuer = FakeIssuer(one.clock, parameters=(("audience", "tasklist"), ("client_id", "me")))
    other = one.manager.authorizer(other_issuer, credential="cluster", audience="tasklist")
    await one.ask()
    assert same.current() is one.authorizer.current()
    assert other.current() is None
    asking = ignored(other.obtain())
    await one.clock.advance(1.25)
    assert asking.done()
    assert [len(one.issuer.requests) + len(again.requests), len(other_issuer.requests)] == [1, 1]


async def test_identities_wait_for_each_other_only_in_the_budget() -> None:
    """Four cold identities of one issuer: four requests, `min_interval` apart; of another issuer: at once."""
    one = await rig()
    sources = [FakeIssuer(one.clock, parameters=(("audience", str(number)),)) for number in range(4)]
    sources.append(FakeIssuer(one.clock, issuer="https://other.example/token"))
    asking = [ignored(one.manager.authorizer(source, credential="c", audience="a").obtain()) for source in sources]
    began = one.clock.boottime()
    await one.clock.advance(9)
    assert all(future.done() for future in asking)
    assert sorted(at - began for source in sources for at in source.requests) == pytest.approx([0, 0, 1.25, 2.5, 3.75])


async def test_a_client_that_goes_away_takes_nothing_along() -> None:
    """Its own request is cancelled, the fetch and the others are not."""
    one = await rig()
    one.issuer.held = asyncio.Event()
    leaving, staying = (one.asking() for _ in range(2))
    await settle()
    leaving.cancel()
    await settle()
    one.issuer.held.set()
    await settle()
    assert leaving.cancelled()
    assert staying.result().header == bearer("token-1")
    assert len(one.events.of("waited")) == 2


async def test_all_clients_may_go_away_and_the_token_still_comes() -> None:
    """It is asked for already."""
    one = await rig()
    one.issuer.held = asyncio.Event()
    leaving = one.asking()
    await settle()
    leaving.cancel()
    one.issuer.held.set()
    await settle()
    assert one.now_attached() == bearer("token-1")


# --- faults ------------------------------------------------------------------------------------------------------


async def test_three_attempts_at_a_transient_fault_each_in_its_slot() -> None:
    """A client that waits gets its token by the third."""
    one = await rig()
    one.issuer.answers = [FAULT, FAULT]
    assert await one.ask(5) == bearer("token-3")
    assert one.requests == pytest.approx([0, 1.25, 2.5])
    outcomes = [outcome for _, _, outcome, _ in one.events.of("token_requested")]
    assert outcomes == ["failed", "failed", "success"]


async def test_a_transient_fault_that_stays_is_everybodys() -> None:
    """One error for all that wait, each an instance of its own; what happened is in the log alone."""
    one = await rig()
    one.issuer.otherwise = lambda _: FAULT
    clients = [one.asking() for _ in range(10)]
    with capture_logs() as logs:
        await one.clock.advance(5)
    errors = [client.exception() for client in clients]
    assert len(set(map(id, errors))) == 10
    assert {(type(error), round(error.retry_after, 2)) for error in errors} == {(TokenUnavailableError, 1.25)}
    assert "credential cluster (audience operate.camunda.io)" in errors[0].detail
    assert "login.example" not in errors[0].detail
    assert [entry["detail"] for entry in logs if entry["event"] == "a token request failed"] == [FAULT.detail]
    assert len(one.issuer.requests) == 3


async def test_retry_after_is_true() -> None:
    """Who comes back when told finds the issuer asked again, and gets a token if it is well."""
    one = await rig()
    one.issuer.answers = [FAULT] * 3
    error = await one.ask(5)
    assert isinstance(error, TokenUnavailableError)
    await one.clock.advance(error.retry_after)
    assert await one.ask(0.1) == bearer("token-4")


async def test_an_outage_is_not_hammered_and_service_is_back_within_three_times_max_wait() -> None:
    """A client every second for ten minutes: a try every thirty seconds, and the rest are told at once."""
    one = await rig()
    one.issuer.otherwise = lambda _: FAULT
    for _ in range(600):
        one.asking()
        await one.clock.advance(1)
    assert len(one.issuer.requests) < 45
    one.issuer.otherwise = lambda number: grant(f"token-{number}")
    served_after = 0
    while one.now_attached() is None:
        one.asking()
        await one.clock.advance(1)
        served_after += 1
    assert served_after <= 31


async def test_a_fault_that_is_no_grant_error_is_answered_and_said() -> None:
    """Nobody foresaw it; nobody hangs on it; its text, which may hold anything, is not the client's."""
    one = await rig()
    one.issuer.answers = [RuntimeError("boom secret")]
    with capture_logs() as logs:
        error = await one.ask(0.1)
    assert isinstance(error, TokenUnavailableError)
    assert "boom" not in error.detail
    assert [type(entry["exc_info"]) for entry in logs if entry.get("work") == "tokens"] == [RuntimeError]
    assert await one.ask(2) == bearer("token-2")


async def test_an_unavailable_issuer_is_left_alone_for_as_long_as_it_says() -> None:
    """503 with `Retry-After`: within the client's patience it waits, and is served; the pause is the whole store's."""
    one = await rig()
    one.issuer.answers = [GrantInterruptedError("The issuer answered 503.", retry_after=3.0)]
    assert await one.ask(5) == bearer("token-2")
    assert one.requests == [0.0, 3.0]


async def test_an_issuer_that_is_unavailable_for_longer_is_not_waited_for() -> None:
    """The client is told at once for how long, and so is the next one; nobody asks the issuer before."""
    one = await rig()
    one.issuer.answers = [GrantInterruptedError("The issuer answered 503.", retry_after=60.0)]
    for left in (60.0, 59.0):
        error = await one.ask(1)
        assert isinstance(error, TokenUnavailableError)
        assert error.retry_after == pytest.approx(left, abs=1)
    await one.clock.advance(58)
    assert len(one.issuer.requests) == 1
    assert await one.ask(1) == bearer("token-2")


async def test_a_refused_credential_is_not_asked_for_again() -> None:
    """The client sees the issuer's code and the credential's name; the log says what to do."""
    one = await rig()
    one.issuer.otherwise = lambda _: REFUSAL
    with capture_logs() as logs:
        errors = [await one.ask(0.1) for _ in range(5)]
    for error in errors:
        assert isinstance(error, CredentialRejectedError)
        assert "credential cluster (audience operate.camunda.io): invalid_client" in error.detail
        assert 29 < error.retry_after <= 30
    (line,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (line["credential"], line["audience"], line["oauth_error"]) == (
        "cluster",
        "operate.camunda.io",
        "invalid_client",
    )
    assert line["detail"] == REFUSAL.detail
    assert len(one.issuer.requests) == 1
    assert (one.status().state, one.status().refused) == ("quarantined", True)


async def test_a_quarantine_doubles_while_the_refusals_go_on() -> None:
    """30 s, 60 s, … 15 min: an hour of constant demand costs eight requests."""
    one = await rig()
    one.issuer.otherwise = lambda _: REFUSAL
    for _ in range(360):
        await one.ask(0.0)
        await one.clock.advance(10)
    assert one.requests == pytest.approx([0, 30, 90, 210, 450, 930, 1830, 2730], abs=10)


async def test_a_quarantine_touches_no_other_identity() -> None:
    """One audience that the client may not have, beside one that it may."""
    one = await rig()
    one.issuer.otherwise = lambda _: REFUSAL
    other_issuer = FakeIssuer(one.clock, parameters=(("audience", "zeebe.camunda.io"),))
    other = one.manager.authorizer(other_issuer, credential="cluster", audience="zeebe.camunda.io")
    await one.ask(0.1)
    asking = ignored(other.obtain())
    await one.clock.advance(1.25)
    assert asking.result().header == bearer("token-1")


async def test_a_quarantine_outlives_the_process() -> None:
    """A crash loop with a deleted key does not lock out the others."""
    one = await rig()
    one.issuer.otherwise = lambda _: REFUSAL
    await one.ask(0.1)
    for _ in range(5):
        again = await rig(beside=one)
        assert isinstance(await again.ask(0.1), CredentialRejectedError)
        assert again.status().refused
    assert len(one.issuer.requests) == 1


async def test_a_changed_secret_ends_the_quarantine_at_once() -> None:
    """It is another identity; and the others' tokens are obtained anew."""
    one = await rig()
    one.issuer.answers = [REFUSAL]
    await one.ask(0.1)
    one.issuer.password = Secret("the right one")
    with capture_logs() as logs:
        one.manager.secrets_changed()
    assert [entry["credential"] for entry in logs] == ["cluster"]
    assert one.events.of("invalidated") == [("operate.camunda.io", "secret_changed")]
    assert await one.ask(2) == bearer("token-2")


async def test_who_waits_while_the_secret_changes_gets_the_new_ones_token() -> None:
    """The old one's refusal is not passed on."""
    one = await rig()
    one.issuer.by_secret = {"secret": REFUSAL}
    one.issuer.held = asyncio.Event()
    waiting = one.asking()
    await settle()
    one.issuer.password = Secret("the right one")
    one.manager.secrets_changed()
    one.issuer.held.set()
    await one.clock.advance(2)
    assert waiting.result().header == bearer("token-2")


async def test_an_unchanged_secret_changes_nothing() -> None:
    """Kubernetes swaps the symlink of a whole directory."""
    one = await rig()
    await one.ask()
    one.manager.secrets_changed()
    assert one.now_attached() == bearer("token-1")
    assert one.events.of("invalidated") == []


async def test_sighup_ends_quarantines_for_the_whole_store() -> None:
    """A permission that was added in the Console changes no secret."""
    one = await rig()
    one.issuer.answers = [REFUSAL]
    beside = await rig(beside=one)
    await one.ask(0.1)
    await beside.ask(0.1)
    await one.manager.end_quarantines()
    assert (one.status().refused, one.status().quarantined_until) == (True, None)
    await one.clock.advance(1)  # the other process looks into the store again after a second
    assert await beside.ask(2) == bearer("token-2")
    assert not beside.status().refused


async def test_an_unreadable_secret_is_a_503_and_no_request() -> None:
    """And once it can be read, it is used."""
    one = await rig(issuer=FakeIssuer(ManualClock(), password=None))
    error = await one.ask(0.1)
    assert (type(error), error.retry_after) == (TokenUnavailableError, 5.0)
    assert "/run/secrets" not in error.detail
    assert one.authorizer.current() is None
    assert (await one.authorizer.replace(object()), one.issuer.requests) == (None, [])
    one.issuer.password = Secret("there it is")
    assert await one.ask(0.1) == bearer("token-1")


# --- cool-down and budget ----------------------------------------------------------------------------------------


async def test_429_stops_every_identity_and_process_on_the_store() -> None:
    """What the issuer asks for, by all; the cache goes on serving."""
    one = await rig()
    served = one.manager.authorizer(
        FakeIssuer(one.clock, parameters=(("audience", "cached"),)), credential="cluster", audience="cached"
    )
    asking = ignored(served.obtain())
    await one.clock.advance(5)
    assert asking.done()
    one.issuer.answers = [GrantThrottledError("The issuer answered 429.", retry_after=40.0)]
    first = await one.ask(0.1)
    assert (type(first), first.retry_after) == (TokenUnavailableError, 40.0)
    beside = await rig(beside=one)
    second = await beside.ask(0.1)
    assert (type(second), second.retry_after) == (TokenUnavailableError, pytest.approx(39.9, abs=0.3))
    (issuer,) = one.manager.snapshot().issuers
    assert issuer.cooldown_until == pytest.approx(one.clock.wall() - 0.2 + 40.0, abs=0.01)
    assert served.current() is not None
    assert len(one.issuer.requests) == 1
    await one.clock.advance(second.retry_after)
    assert await beside.ask(0.1) == bearer("token-2")


async def test_the_end_of_a_short_cool_down_is_waited_for() -> None:
    """Within a client's patience it is a slot like any other."""
    one = await rig()
    one.issuer.answers = [GrantThrottledError("429", retry_after=6.0)]
    await one.ask(0.1)
    assert await one.ask(7) == bearer("token-2")
    assert one.requests == pytest.approx([0, 6])


async def test_without_retry_after_cool_downs_grow() -> None:
    """5 s, 10 s, 20 s, …; a grant ends the growth."""
    one = await rig()
    one.issuer.answers = [GrantThrottledError("429")] * 3
    pauses = []
    for _ in range(3):
        error = await one.ask(10.1)
        pauses.append(round(error.retry_after))
        await one.clock.advance(error.retry_after)
    assert pauses == [5, 10, 20]
    assert await one.ask(1) == bearer("token-4")
    assert one.manager.snapshot().issuers[0].cooldown_until is None


async def test_a_slot_beyond_max_wait_is_refused_at_once_and_reserves_nothing() -> None:
    """The ninth cold identity in a row is told when to come back, and then is served."""
    one = await rig()
    sources = [FakeIssuer(one.clock, parameters=(("audience", str(number)),)) for number in range(12)]
    clients = [ignored(one.manager.authorizer(source, credential="c", audience="a").obtain()) for source in sources]
    await settle()
    refused = [client.exception() for client in clients if client.done() and client.exception()]
    assert [error.retry_after for error in refused] == [pytest.approx(11.25)] * 3
    await one.clock.advance(11.25)
    assert sum(len(source.requests) for source in sources) == 9
    late = ignored(one.manager.authorizer(sources[11], credential="c", audience="a").obtain())
    await one.clock.advance(0.1)
    assert late.done()


async def test_nobody_waits_for_longer_than_max_wait() -> None:
    """The issuer hangs; the fetch goes on, and its token is there for the next."""
    one = await rig()
    one.issuer.takes = 12.0
    asking = one.asking()
    await one.clock.advance(9.9)
    assert not asking.done()
    late = one.asking()
    await one.clock.advance(0.2)
    error = asking.exception()
    assert isinstance(error, TokenUnavailableError)
    assert "10 s (token_requests.max_wait)" in error.detail
    assert not late.done()
    await one.clock.advance(3)
    assert late.result().header == bearer("token-1")


async def test_a_fetch_that_never_ends_is_given_up() -> None:
    """Or no token would ever be asked for again."""
    one = await rig()
    one.issuer.held = asyncio.Event()
    await one.ask(10)
    await one.clock.advance(200)
    one.issuer.held = None
    assert await one.ask(5) == bearer("token-2")


async def test_an_issuer_with_an_interval_of_its_own() -> None:
    """By origin, however it is written."""
    one = await rig(requests=TokenRequests(issuers={"HTTPS://Login.Example:443": IssuerLimits(0.0)}))
    one.issuer.answers = [FAULT, FAULT]
    assert await one.ask(1) == bearer("token-3")
    assert one.requests == pytest.approx([0, 0.2, 0.6])  # only the little pause between repeated attempts


async def test_a_reload_changes_the_rules() -> None:
    """`token_requests` and `refresh` hold from then on."""
    one = await rig()
    one.manager.reconfigure(TokenRequests(min_interval=5.0, max_wait=3.0), Refresh(after=0.5))
    one.issuer.answers = [FAULT]
    error = await one.ask(0.1)
    assert (type(error), error.retry_after) == (TokenUnavailableError, 5.0)
    await one.clock.advance(5)
    await one.ask(0.1)
    (token,) = one.manager.snapshot().tokens
    assert token.refreshes_at - one.clock.wall() == pytest.approx(1800, abs=1)


# --- refresh -----------------------------------------------------------------------------------------------------


async def test_a_used_token_is_refreshed_before_anybody_waits() -> None:
    """At 80 % of its life, in the background, whether or not a request comes just then."""
    one = await rig()
    await one.ask()
    await one.clock.advance(2879)
    assert len(one.issuer.requests) == 1
    await one.clock.advance(2)
    assert len(one.issuer.requests) == 2
    assert one.now_attached() == bearer("token-2")


async def test_a_token_that_nobody_used_for_a_whole_life_is_left_alone() -> None:
    """Until it is wanted."""
    one = await rig()
    await one.ask()
    await one.clock.advance(20 * 3600)
    assert len(one.issuer.requests) == 2
    assert one.authorizer.current() is None
    assert await one.ask(0.1) == bearer("token-3")


async def test_a_stale_token_serves_while_it_is_refreshed() -> None:
    """An unused one becomes stale without a refresh; the first client begins it and does not wait."""
    one = await rig()
    await one.ask()
    await one.clock.advance(2881)  # refreshed by itself, and not used since
    await one.clock.advance(3000)
    one.issuer.held = asyncio.Event()
    assert [one.now_attached() for _ in range(3)] == [bearer("token-2")] * 3
    await settle()
    assert len(one.issuer.requests) == 3
    one.issuer.held.set()
    await settle()
    assert one.now_attached() == bearer("token-3")


async def test_a_failed_refresh_goes_on_serving_the_old_token() -> None:
    """Until two seconds before its end; then clients get the error."""
    one = await rig()
    await one.ask()
    one.issuer.otherwise = lambda _: FAULT
    await one.clock.advance(2881)
    for _ in range(70):
        assert one.now_attached() == bearer("token-1")
        await one.clock.advance(10)
    assert len(one.issuer.requests) < 12
    await one.clock.advance(3598 - 3581 - 0.5)
    assert await one.ask(10) == bearer("token-1") or one.clock.boottime() >= 5000 + 3598
    await one.clock.advance(20)
    assert one.authorizer.current() is None
    assert isinstance(await one.ask(10), TokenUnavailableError)


async def test_inside_the_leeway_a_new_token_is_waited_for() -> None:
    """And served as soon as it comes."""
    one = await rig()
    await one.ask()
    one.clock.suspend(3575)  # no refresh has begun by itself
    one.issuer.takes = 1.0
    assert one.authorizer.current() is None
    assert await one.ask(1) == bearer("token-2")


async def test_inside_the_leeway_the_old_token_serves_where_no_new_one_can_be_had() -> None:
    """After a client's patience; and those who come then do not wait as long again."""
    one = await rig()
    await one.ask()
    one.issuer.held = asyncio.Event()
    one.clock.suspend(3575)
    assert one.authorizer.current() is None
    assert await one.ask(10) == bearer("token-1")
    assert one.now_attached() == bearer("token-1")


async def test_a_background_refresh_takes_only_a_free_slot() -> None:
    """Waiting traffic goes first."""
    one = await rig()
    await one.ask()
    await one.clock.advance(2879.5)
    busy = FakeIssuer(one.clock, parameters=(("audience", "busy"),))
    asking = ignored(one.manager.authorizer(busy, credential="c", audience="busy").obtain())
    await one.clock.advance(0.6)
    assert asking.done()
    assert len(one.issuer.requests) == 1
    await one.clock.advance(3)
    assert len(one.issuer.requests) == 2


# --- time --------------------------------------------------------------------------------------------------------


async def test_a_suspended_machine_hands_out_nothing_expired() -> None:
    """The boot clock went on, whatever the timers did."""
    one = await rig()
    await one.ask()
    one.clock.suspend(7200)
    assert one.authorizer.current() is None
    assert await one.ask(0.1) == bearer("token-2")


@pytest.mark.parametrize("seconds", [-86400, 86400])
async def test_a_stepped_clock_changes_nothing(seconds) -> None:
    """Neither the token in memory, nor what the store says, nor the slots."""
    one = await rig()
    await one.ask()
    one.clock.step_wall(seconds)
    beside = await rig(beside=one)
    assert await beside.ask(0.1) == bearer("token-1")
    assert one.now_attached() == bearer("token-1")
    other = FakeIssuer(one.clock, parameters=(("audience", "other"),))
    asking = ignored(one.manager.authorizer(other, credential="c", audience="o").obtain())
    await one.clock.advance(1.25)
    assert asking.done()


async def test_a_lifetime_counts_from_the_sending() -> None:
    """An answer that took eight seconds has eight seconds less to live."""
    one = await rig()
    one.issuer.takes = 8.0
    await one.ask(8)
    (token,) = one.manager.snapshot().tokens
    assert token.expires_at - one.clock.wall() == pytest.approx(3592)


@pytest.mark.parametrize(("lifetime", "seconds"), [(90_000.0, 86_400), (float("inf"), 86_400), (60.0, 60)])
async def test_a_lifetime_is_at_most_a_day(lifetime, seconds) -> None:
    """Whatever the grant says."""
    one = await rig()
    one.issuer.answers = [grant("t", lifetime)]
    await one.ask()
    (token,) = one.manager.snapshot().tokens
    assert token.expires_at - one.clock.wall() == pytest.approx(seconds)


# --- several processes -------------------------------------------------------------------------------------------


async def test_a_second_process_finds_the_token_on_the_store() -> None:
    """And a restarted one: a crash loop costs no token request."""
    one = await rig()
    await one.ask()
    for _ in range(5):
        again = await rig(beside=one)
        await settle()  # it looks into the store by itself
        assert again.now_attached() == bearer("token-1")
    assert len(one.issuer.requests) == 1


async def test_processes_that_are_cold_together_make_one_request() -> None:
    """The lock is won by one; the others look into the store until the token is there."""
    one = await rig()
    rigs = [one, *[await rig(beside=one) for _ in range(7)]]
    one.issuer.takes = 0.5
    asking = [each.asking() for each in rigs]
    await one.clock.advance(1)
    assert {future.result().header for future in asking} == {bearer("token-1")}
    assert len(one.issuer.requests) == 1
    assert sorted(source for each in rigs for _, source in each.events.of("looked_up")) == ["issuer"] + ["store"] * 7


async def test_a_damaged_record_is_said_and_begun_anew() -> None:
    """It was encrypted with another key, say: the next process asks, and the ones after it find what it got."""
    one = await rig()
    await one.ask()
    (key,) = filter(re.compile("token-").match, one.store.keys())
    one.store.put(key, b"something else", one.clock.boottime())
    with capture_logs() as logs:
        assert await (await rig(beside=one)).ask(2) == bearer("token-2")
    assert "a token's record on the store is damaged; a new one is begun" in [line["event"] for line in logs]
    assert await (await rig(beside=one)).ask(0.1) == bearer("token-2")


async def test_a_refreshed_token_is_taken_over_without_a_request() -> None:
    """Two processes become stale at the same moment; one asks."""
    one = await rig()
    beside = await rig(beside=one)
    await one.ask()
    await beside.ask()
    await one.clock.advance(2900)
    assert (one.now_attached(), beside.now_attached()) == (bearer("token-2"), bearer("token-2"))
    assert len(one.issuer.requests) == 2


async def test_a_failure_is_forgotten_with_a_token_that_another_process_got() -> None:
    """It would be told of a token that is well."""
    one = await rig()
    beside = await rig(beside=one)
    beside.issuer.answers = [FAULT] * 3
    await beside.ask(5)
    assert beside.status().detail == FAULT.detail
    await one.ask(10)
    await beside.ask(0.1)
    assert (beside.status().state, beside.status().detail) == ("fresh", "")


async def test_a_holder_that_is_stopped_delays_the_others_by_half_of_max_wait() -> None:
    """Then the second lock, so that of many one goes on; the budget keeps the spacing."""
    one = await rig()
    rigs = [await rig(beside=one) for _ in range(6)]
    one.issuer.held = asyncio.Event()
    stopped = one.asking()
    await settle()
    one.issuer.held = None
    asking = [each.asking() for each in rigs]
    await one.clock.advance(5.6)
    assert {future.result().header for future in asking} == {bearer("token-2")}
    assert len(one.issuer.requests) == 2
    stopped.cancel()


@pytest.mark.parametrize(("takes", "others"), [(0.0, 6), (1.0, 2)])
async def test_two_holders_that_are_stopped_delay_the_others_by_three_quarters_of_max_wait(takes, others) -> None:
    """And then no lock at all; whoever gets the first slot serves the others, whose slots are given back."""
    one = await rig()
    one.issuer.held = asyncio.Event()
    stopped = [one.asking()]
    await settle()
    second = await rig(beside=one)
    stopped.append(second.asking())
    await one.clock.advance(5.2)
    one.issuer.held, one.issuer.takes = None, takes
    rigs = [await rig(beside=one) for _ in range(others)]
    asking = [each.asking() for each in rigs]
    await one.clock.advance(9.9)
    assert {future.result().header for future in asking} == {bearer("token-3")}
    assert len(one.issuer.requests) == 3
    for future in stopped:
        future.cancel()


# --- what is said ------------------------------------------------------------------------------------------------


async def test_no_token_and_no_secret_is_said_anywhere() -> None:
    """Not in the log, not in the snapshot, not in a repr."""
    one = await rig()
    one.issuer.answers = [FAULT, grant("TOKENVALUE"), REFUSAL]
    one.issuer.password = Secret("SECRETVALUE")
    one.manager.secrets_changed()
    with capture_logs() as logs:
        await one.ask(3)
        held = one.authorizer.current()
        replacing = ignored(one.authorizer.replace(held))
        await one.clock.advance(3)
    token = one.authorizer.token
    said = repr(
        (logs, one.manager.snapshot(), held, token.state, token.attachment, replacing.result(), token.source.secret())
    )
    assert "TOKENVALUE" not in said
    assert "SECRETVALUE" not in said
    assert "TOKENVALUE" not in repr(one.events.heard)


async def test_a_snapshot_tells_all_a_person_needs() -> None:
    """States, moments, refusals, rate_limit."""
    one = await rig()
    (before,) = one.manager.snapshot().tokens
    assert (before.state, before.expires_at) == ("none", None)
    await one.ask()
    (token,) = one.manager.snapshot().tokens
    (budget,) = one.manager.snapshot().issuers
    assert (token.credential, token.audience, token.issuer, token.state) == (
        "cluster",
        "operate.camunda.io",
        ISSUER,
        "fresh",
    )
    assert token.expires_at == one.clock.wall() + 3600
    assert (budget.issuer, budget.min_interval, budget.requests) == ("https://login.example", 1.25, 1)
    assert budget.next_slot_at == one.clock.wall() + 1.25
    one.issuer.otherwise = lambda _: REFUSAL
    await one.clock.advance(3000)
    (token,) = one.manager.snapshot().tokens
    assert (token.state, token.detail) == ("stale", REFUSAL.detail)
    await one.clock.advance(500)
    one.clock.suspend(200)
    await one.ask(0.1)
    (token,) = one.manager.snapshot().tokens
    assert (token.state, token.detail) == ("quarantined", REFUSAL.detail)


async def test_every_series_is_known_from_the_start() -> None:
    """A metrics sink can begin them at 0."""
    one = await rig()
    assert one.events.of("registered") == [("cluster", "operate.camunda.io", ISSUER)]


async def test_what_no_route_uses_any_more_is_forgotten() -> None:
    """After a reload: neither its token, nor its issuer's budget, nor what was counted for it is in any list."""
    one = await rig()
    await one.ask()
    other = FakeIssuer(one.clock, issuer="https://other.example/token", parameters=(("audience", "new"),))
    new = one.manager.authorizer(other, credential="cluster", audience="new")
    one.manager.retire([one.authorizer])
    snapshot = one.manager.snapshot()
    assert [token.audience for token in snapshot.tokens] == ["new"]
    assert [issuer.issuer for issuer in snapshot.issuers] == ["https://other.example"]
    assert one.events.of("retired") == [("cluster", "operate.camunda.io", ISSUER)]
    assert one.manager.memory_lookups() == {"new": 0}
    await one.clock.advance(4 * 3600)
    assert (len(one.issuer.requests), new.current()) == (1, None)


async def test_a_reload_keeps_what_the_new_routes_use_too() -> None:
    """The same credential and audience: the same token, and the same counts."""
    one = await rig()
    await one.ask()
    one.now_attached()
    again = one.manager.authorizer(FakeIssuer(one.clock), credential="cluster", audience="operate.camunda.io")
    one.manager.retire([one.authorizer])
    assert again.current().header == bearer("token-1")
    assert one.events.of("retired") == []
    assert one.manager.memory_lookups() == {"operate.camunda.io": 2}


async def test_who_waits_on_a_route_that_a_reload_removes_is_answered() -> None:
    """Its request came before: the token request that is under way serves it, and is the last one."""
    one = await rig()
    one.issuer.held = asyncio.Event()
    waiting = one.asking()
    await settle()
    one.manager.retire([one.authorizer])
    one.issuer.held.set()
    await settle()
    assert waiting.result().header == bearer("token-1")
    assert one.now_attached() == bearer("token-1")
    assert one.manager.snapshot().tokens == ()
    await one.clock.advance(3600)
    assert len(one.issuer.requests) == 1


async def test_routes_of_one_identity_have_a_row_each_name() -> None:
    """Two credentials of the same client share the token; each is found in the list under its own name."""
    one = await rig()
    one.manager.authorizer(FakeIssuer(one.clock), credential="other", audience="operate.camunda.io")
    await one.ask()
    rows = one.manager.snapshot().tokens
    assert [(row.credential, row.state) for row in rows] == [("cluster", "fresh"), ("other", "fresh")]


async def test_closing_answers_who_waits_and_leaves_nothing_running() -> None:
    """No task, no thread that anybody would wait for."""
    one = await rig()
    one.issuer.held = asyncio.Event()
    waiting = one.asking()
    await settle()
    await one.manager.close()
    assert isinstance(waiting.exception(), TokenUnavailableError)
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_manager_needs_nothing_but_a_store_and_a_clock() -> None:
    """Every default is the configuration's."""
    clock = ManualClock()
    manager = TokenManager(MemoryStore(clock), clock)
    await manager.start()
    authorizer = manager.authorizer(FakeIssuer(clock), credential="c", audience=None)
    assert (await authorizer.obtain()).header == bearer("token-1")
    await manager.close()


async def test_a_failed_grant_is_not_tried_again_where_its_maker_says_so() -> None:
    """404: a wrong URL. It is the source that repeats; the manager asks for three attempts and takes what comes."""
    one = await rig()
    one.issuer.answers = [GrantFailedError("404")] * 3
    assert isinstance(await one.ask(5), TokenUnavailableError)
