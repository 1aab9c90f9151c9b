"""Every attempt takes its slot: over slow stores, over stores that go, beside others that are faster."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from sidecar.config.settings import Refresh, TokenRequests
from sidecar.tokens import rate_limit
from sidecar.tokens.context import Context
from sidecar.tokens.encryption import KeyRing
from sidecar.tokens.events import Failure
from sidecar.tokens.identity import Labels
from sidecar.tokens.issuer_budget import AttemptSlots, IssuerBudget, NoSlotError, SupersededError
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.rate_limit import RateLimit, Refused
from sidecar.tokens.stores.base import Record, StoreError, Update
from sidecar.tokens.stores.memory import MemoryStore
from tests.tokens.support import ISSUER, ErasableStore, Events, FakeIssuer, ManualClock, rig, settle

pytestmark = pytest.mark.usefixtures("quick_keys")
INTERVAL = 1.25


class SlowStore(MemoryStore):
    """Every change takes its time, before or after it is made."""

    def __init__(self, clock: ManualClock, *, before: float = 0.0, after: float = 0.0) -> None:
        super().__init__(clock)
        self._before, self._after, self._time = before, after, clock

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        await self._time.sleep(self._before)
        record = await super().update(key, change, written=written)
        await self._time.sleep(self._after)
        return record


def budget(store: MemoryStore, clock: ManualClock) -> IssuerBudget:
    requests = TokenRequests(min_interval=INTERVAL)
    context = Context(
        store, clock, TokenObserver(), random.Random(1), requests, Refresh(), KeyRing(), shared_only=False
    )
    return IssuerBudget(context, "https://login.example")


def slots(
    one: IssuerBudget, clock: ManualClock, *, background=False, patience=10.0, superseded=None, events=None
) -> AttemptSlots:
    deadline = clock.boottime() + patience
    return AttemptSlots(
        one,
        Context(
            MemoryStore(clock),
            clock,
            events or Events(),
            random.Random(1),
            TokenRequests(),
            Refresh(),
            KeyRing(),
            shared_only=False,
        ),
        Labels(ISSUER, "c", "a"),
        deadline=lambda: deadline,
        background=background,
        superseded=superseded,
    )


def unchanged(limit: RateLimit, _now: float) -> RateLimit:
    return limit


async def test_attempts_of_many_processes_are_apart() -> None:
    """Each with its own idea of the budget, on one store; those without a slot are told when there is one."""
    clock = ManualClock()
    store = MemoryStore(clock)
    sent: list[float] = []

    async def attempt() -> None:
        one = slots(budget(store, clock), clock)
        await one.slot()
        sent.append(clock.boottime())
        one.sent()

    attempts = [asyncio.ensure_future(attempt()) for _ in range(12)]
    await clock.advance(11)
    refused = [future.exception() for future in attempts if future.exception()]
    assert len(sent) == 9
    assert all(later - earlier >= INTERVAL - 1e-6 for earlier, later in pairwise(sent))
    assert [(type(error), error.retry_after) for error in refused] == [(NoSlotError, pytest.approx(11.25))] * 3


@pytest.mark.parametrize(("before", "after"), [(0.3, 0.0), (0.0, 0.3), (0.5, 0.5), (1.5, 1.5)])
async def test_a_slow_store_costs_time_and_no_spacing(before, after) -> None:
    """A slot that was missed because the store took so long is taken again, with that in mind."""
    clock = ManualClock()
    store = SlowStore(clock, before=before, after=after)
    taken: list[float] = []

    async def attempt() -> None:
        one = slots(budget(store, clock), clock, patience=30.0)
        await one.slot()
        taken.append(clock.boottime())

    attempts = [asyncio.ensure_future(attempt()) for _ in range(5)]
    await clock.advance(60)
    assert all(future.done() and not future.exception() for future in attempts)
    assert all(later - earlier >= INTERVAL * 0.9 for earlier, later in pairwise(sorted(taken)))


async def test_who_is_held_up_past_its_slot_takes_another() -> None:
    """The process was stopped between reserving and sending: others may have had their slots meanwhile."""
    clock = ManualClock()
    store = MemoryStore(clock)
    first, second = (slots(budget(store, clock), clock, patience=60) for _ in range(2))
    await first.slot()
    waiting = asyncio.ensure_future(second.slot())
    await settle()
    clock.suspend(20)
    third = slots(budget(store, clock), clock)
    await third.slot()
    await clock.advance(0.1)
    assert not waiting.done()
    await clock.advance(INTERVAL)
    assert waiting.done()


async def test_a_cool_down_that_comes_while_one_waits_for_its_slot_holds() -> None:
    """Another process was told 429 meanwhile."""
    clock = ManualClock()
    store = MemoryStore(clock)
    await slots(budget(store, clock), clock).slot()
    waiting = asyncio.ensure_future(slots(budget(store, clock), clock).slot())
    await settle()
    await budget(store, clock).throttled(5.0)
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.1)
    assert waiting.done()
    too_late = asyncio.ensure_future(slots(budget(store, clock), clock).slot())
    await settle()
    await budget(store, clock).throttled(50.0)
    await clock.advance(2)
    assert (type(too_late.exception()), too_late.exception().failure) == (NoSlotError, Failure.COOLING)


async def test_a_slot_that_is_not_needed_any_more_is_given_back() -> None:
    """Somebody else obtained the token while this one waited."""
    clock = ManualClock()
    store = MemoryStore(clock)
    await slots(budget(store, clock), clock).slot()

    async def somebody() -> bool:
        return True

    waiting = asyncio.ensure_future(slots(budget(store, clock), clock, superseded=somebody).slot())
    await clock.advance(INTERVAL)
    assert isinstance(waiting.exception(), SupersededError)
    await slots(budget(store, clock), clock, patience=0.0).slot()


async def test_a_background_refresh_waits_only_for_its_second_request() -> None:
    """A login that needs two: the first takes a free slot or none."""
    clock = ManualClock()
    store = MemoryStore(clock)
    one = slots(budget(store, clock), clock, background=True)
    await one.slot()
    again = asyncio.ensure_future(one.slot())
    await clock.advance(INTERVAL)
    assert again.done()
    with pytest.raises(NoSlotError):
        await slots(budget(store, clock), clock, background=True).slot()


async def test_every_attempt_is_counted_with_its_outcome() -> None:
    """Also those that a library repeats by itself."""
    clock = ManualClock()
    events = Events()
    one = slots(budget(MemoryStore(clock), clock), clock, events=events)
    await one.slot()
    clock.suspend(0.5)
    again = asyncio.ensure_future(one.slot())
    await clock.advance(2)
    assert again.done()
    one.ended("success")
    one.ended("failed")
    assert [(outcome, round(seconds, 2)) for _, _, outcome, seconds in events.of("token_requested")] == [
        ("failed", 0.5),
        ("success", 1.25),
    ]
    assert [round(seconds, 2) for _, seconds in events.of("budget_waited")] == [0.0, 0.75]


async def test_a_store_that_forgets_does_not_make_a_process_forget() -> None:
    """What it has seen itself is a floor: it went away, or comes back as it was an hour ago."""
    clock = ManualClock()
    store = ErasableStore(clock)
    one = budget(store, clock)
    await slots(one, clock).slot()
    store.erase()
    waiting = asyncio.ensure_future(slots(one, clock).slot())
    await settle()
    assert not waiting.done()
    await clock.advance(INTERVAL)
    assert waiting.done()


async def test_a_store_that_forgets_ends_no_cool_down_that_a_process_knows() -> None:
    """The issuer said when to come back."""
    clock = ManualClock()
    store = ErasableStore(clock)
    one = budget(store, clock)
    await one.throttled(60.0)
    store.erase()
    clock.suspend(30)
    refused = await one.reserve(10.0, background=False)
    assert refused == Refused(pytest.approx(30.0), cooling=True)


@pytest.mark.parametrize("data", [b"", b"garbage", b'{"free_in":"x"}'])
async def test_a_damaged_record_costs_one_interval(data) -> None:
    """Somebody may have asked just now; and it is repaired."""
    clock = ManualClock()
    store = MemoryStore(clock)
    await budget(store, clock).update(lambda limit, now: rate_limit.sent(limit, now - 60, INTERVAL))
    (key,) = store.keys()
    store.put(key, data, clock.boottime())
    waiting = asyncio.ensure_future(slots(budget(store, clock), clock).slot())
    await settle()
    assert not waiting.done()
    await clock.advance(INTERVAL)
    assert waiting.done()


async def test_a_record_of_uncertain_age_is_written_anew() -> None:
    """Or its cool-down would begin again at every look: the wall clock was set back over a restart."""
    clock = ManualClock()
    store = MemoryStore(clock)
    before = budget(store, clock)
    await before.throttled(300.0)

    class Uncertain(MemoryStore):
        async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
            def uncertain(record: Record | None, now: float) -> bytes | None:
                return change(record and Record(record.data, now, now - 1000), now)

            return await store.update(key, uncertain)

    await budget(Uncertain(clock), clock).update(unchanged)
    clock.suspend(301)
    assert (await budget(store, clock).update(unchanged)).cooldown_until <= clock.boottime()


async def test_a_store_error_ends_the_flight_and_not_the_process() -> None:
    """Stores are wrapped so that they do not fail; a bare one that does is an error like any other."""

    class Broken(MemoryStore):
        async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
            raise StoreError("gone")

    clock = ManualClock()
    one = await rig(store=Broken(clock), issuer=FakeIssuer(clock))
    error = await one.ask(0.1)
    assert error.code == "token_unavailable"
