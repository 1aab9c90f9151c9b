"""What others rely on is on the store before a client hears of it; and a store that hangs keeps nobody waiting."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.config.settings import TokenRequests
from sidecar.errors import GrantInterruptedError, GrantRefusedError, GrantThrottledError, TokenUnavailableError
from sidecar.tokens.cached_token import SAVE_PATIENCE
from sidecar.tokens.stores.base import Record, Update
from sidecar.tokens.stores.memory import MemoryStore
from sidecar.tokens.token_record import TokenRecord
from tests.tokens.support import FakeIssuer, ManualClock, bearer, rig, settle

pytestmark = pytest.mark.usefixtures("quick_keys")

REFUSAL = GrantRefusedError("The issuer answered 401 invalid_client.", oauth_error="invalid_client")
FAULT = GrantInterruptedError("The issuer answered 503.")


class SlowToSave(MemoryStore):
    """VersionedFiles are written when `go` says so; until then whoever writes one waits."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.go = asyncio.Event()
        self.go.set()
        self.slow = "token-"
        """VersionedFiles whose names begin so."""
        self.written: list[str] = []

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        if key.startswith(self.slow):
            await self.go.wait()
        self.written.append(key.partition("-")[0])
        return await super().update(key, change, written=written)


async def on_slow():
    """A process on such a store, that is slow from its first token on."""
    clock = ManualClock()
    store = SlowToSave(clock)
    one = await rig(store=store, issuer=FakeIssuer(clock))
    await settle()
    store.go.clear()
    return one, store


@pytest.mark.parametrize("answer", [None, REFUSAL, FAULT], ids=["token", "refusal", "fault"])
async def test_nobody_hears_of_an_outcome_before_it_is_saved(answer) -> None:
    """Neither who waits, nor who comes meanwhile, nor the hot path; then all of them at once."""
    one, store = await on_slow()
    if answer is not None:
        one.issuer.otherwise = lambda _: answer
    waiting = [one.asking() for _ in range(1000)]
    await one.clock.advance(2.5 if answer is FAULT else 0.1)  # three attempts, 1.25 s apart
    late = one.asking()
    await settle()
    assert one.now_attached() is None
    assert not any(client.done() for client in (*waiting, late))
    store.go.set()
    await settle()
    assert all(client.done() for client in (*waiting, late))
    again = await rig(beside=one)
    await settle()
    before, after = one.authorizer.token.state.record, again.authorizer.token.state.record
    assert after == before
    assert after != TokenRecord()


async def test_a_cool_down_is_saved_before_anybody_hears_of_it() -> None:
    """It is the budget's record that has it."""
    one, store = await on_slow()
    one.issuer.otherwise = lambda _: GrantThrottledError("429", retry_after=60.0)
    one.issuer.takes = 0.1
    waiting = one.asking()
    await one.clock.advance(0.05)
    store.slow = "budget-"
    await one.clock.advance(0.1)
    assert not waiting.done()
    store.go.set()
    await settle()
    assert waiting.exception().retry_after == 60.0


async def test_a_cold_request_waits_for_one_more_write_and_no_other() -> None:
    """A slot and its correction are the budget's; the identity's record is written once."""
    one, store = await on_slow()
    store.go.set()
    store.written.clear()
    assert await one.ask() == bearer("token-1")
    assert store.written.count("token") == 1


async def test_clients_that_go_away_do_not_take_the_saving_along() -> None:
    """All of them; the next process has the token."""
    one, store = await on_slow()
    leaving = [one.asking() for _ in range(10)]
    await settle()
    for client in leaving:
        client.cancel()
    await settle()
    store.go.set()
    await settle()
    assert await (await rig(beside=one)).ask(0.1) == bearer("token-1")
    assert len(one.issuer.requests) == 1


@pytest.mark.parametrize("answer", [None, REFUSAL], ids=["token", "refusal"])
async def test_a_store_that_hangs_keeps_an_answer_back_for_a_second(answer) -> None:
    """Then it is given all the same; and saved when the store goes on, though nobody waits for it."""
    one, store = await on_slow()
    if answer is not None:
        one.issuer.otherwise = lambda _: answer
    waiting = [one.asking() for _ in range(1000)]
    await one.clock.advance(SAVE_PATIENCE - 0.01)
    assert not any(client.done() for client in waiting)
    await one.clock.advance(0.02)
    assert all(client.done() for client in waiting)
    store.go.set()
    await settle()
    again = await rig(beside=one)
    assert type(await again.ask(0.1)) is type(await one.ask(0.1))
    assert len(one.issuer.requests) == 1


async def test_a_store_that_hangs_takes_at_most_half_of_what_is_left_to_a_client() -> None:
    """The token came in the last moment of its patience: it is served with it, not turned away at `max_wait`."""
    one, store = await on_slow()
    one.issuer.takes = 9.8
    waiting = one.asking()
    await one.clock.advance(9.95)
    assert waiting.result().header == bearer("token-1")
    store.go.set()


async def test_a_store_that_hangs_while_a_cool_down_is_saved_keeps_it_back_for_a_second_too() -> None:
    """What the issuer asked for is told all the same; without that, the least it could be."""
    for retry_after, told in ((60.0, 60.0), (None, 5.0)):
        one, store = await on_slow()
        one.issuer.otherwise = lambda _, seconds=retry_after: GrantThrottledError("429", retry_after=seconds)
        one.issuer.takes = 0.1
        waiting = one.asking()
        await one.clock.advance(0.05)
        store.slow = "budget-"
        await one.clock.advance(0.1 + SAVE_PATIENCE)
        error = waiting.exception()
        assert (type(error), error.retry_after) == (TokenUnavailableError, told)
        store.go.set()


async def test_a_background_refresh_serves_the_old_token_until_the_new_one_is_saved() -> None:
    """Nobody waits for it, on a store however slow."""
    one, store = await on_slow()
    store.go.set()
    await one.ask()
    store.go.clear()
    await one.clock.advance(2881)
    assert one.now_attached() == bearer("token-2")  # the store hangs: after a second
    assert len(one.issuer.requests) == 2
    store.go.set()
    await settle()
    assert await (await rig(beside=one)).ask(0.1) == bearer("token-2")


async def test_closing_while_an_outcome_is_being_saved_saves_it() -> None:
    """Who waits is told that the sidecar ends; the token is the next process's."""
    one, store = await on_slow()
    waiting = one.asking()
    await settle()
    closing = asyncio.ensure_future(one.manager.close())
    await settle()
    store.go.set()
    await closing
    assert isinstance(waiting.exception(), TokenUnavailableError)
    assert await (await rig(beside=one)).ask(0.1) == bearer("token-1")
    assert len(one.issuer.requests) == 1


async def test_with_a_short_max_wait_nobody_waits_longer() -> None:
    """Whatever the store does."""
    clock = ManualClock()
    store = SlowToSave(clock)
    one = await rig(store=store, issuer=FakeIssuer(clock), requests=TokenRequests(max_wait=0.5))
    await settle()
    store.go.clear()
    assert await one.ask(0.3) == bearer("token-1")
    store.go.set()
