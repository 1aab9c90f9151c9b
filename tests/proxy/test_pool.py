"""The upstream pool, with a fake network and a clock that stands still: who gets which connection, and when."""

from __future__ import annotations

import asyncio
import itertools
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.errors import Problem, UpstreamUnreachableError
from sidecar.proxy import pool as module
from sidecar.proxy.pool import MAX_AGE_SECONDS, MAX_IDLE_SECONDS, MAX_OPENING, RETRY_DELAYS, SPREAD_DIALS, Pool
from sidecar.telemetry.http import RouteStats
from tests.proxy.lab import ManualClock, until


@dataclass(eq=False)
class FakeConnection:
    opened_at: float
    idle_until: float = 0.0
    usable: bool = True
    closed: bool = False

    def is_usable(self) -> bool:
        return self.usable and not self.closed

    def close(self) -> None:
        self.closed = True


@dataclass(eq=False)
class FakeWaiter:
    got: FakeConnection | None = None
    reused: bool | None = None
    error: Problem | None = None

    def connected(self, connection: module.Connection, *, reused: bool) -> None:
        assert isinstance(connection, FakeConnection)
        self.got, self.reused = connection, reused

    def unconnected(self, error: Problem) -> None:
        self.error = error

    @property
    def heard(self) -> bool:
        return self.got is not None or self.error is not None


@dataclass
class Network:
    """Dials when the test says so; `outcomes` are raised in turn, then connections are made."""

    clock: ManualClock = field(default_factory=ManualClock)
    outcomes: list[BaseException] = field(default_factory=list)
    stillborn: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    dialled: int = 0
    under_way: int = 0
    most_at_once: int = 0
    made: list[FakeConnection] = field(default_factory=list)
    stats: RouteStats = field(default_factory=lambda: RouteStats("app"))

    def __post_init__(self) -> None:
        self.gate.set()

    async def dial(self) -> FakeConnection:
        self.dialled += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        if self.outcomes:
            raise self.outcomes.pop(0)
        connection = FakeConnection(opened_at=self.clock.monotonic(), usable=not self.stillborn)
        self.made.append(connection)
        return connection

    def pool(self, connect_timeout: float = 5.0, **more: Any) -> Pool:
        return Pool(self.dial, self.stats, self.clock, connect_timeout, **more)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Opening, active, idle, as the metrics have them."""
        return self.stats.connections()


async def connected(network: Network, pool: Pool) -> FakeConnection:
    """A connection in use, dialled if it must be."""
    waiter = FakeWaiter()
    at_once = pool.acquire(waiter, network.clock.now)
    if at_once is not None:
        assert isinstance(at_once, FakeConnection)
        return at_once
    await unused(network)
    assert waiter.got is not None
    return waiter.got


async def unused(network: Network) -> None:
    """Every dial is over."""
    await until(lambda: not network.counts[0])


def refused() -> UpstreamUnreachableError:
    error = UpstreamUnreachableError("No connection: refused.")
    error.__cause__ = ConnectionRefusedError()
    return error


# --- reuse -----------------------------------------------------------------------------------------------------------


async def test_a_connection_is_dialled_kept_and_reused() -> None:
    """Opened only for somebody, counted in each state, and given again without a wait."""
    network = Network()
    pool = network.pool()
    waiter = FakeWaiter()
    assert pool.acquire(waiter, network.clock.now) is None
    assert network.counts == (1, 0, 0)
    await until(lambda: waiter.heard)
    await unused(network)
    assert (waiter.got, waiter.reused) == (network.made[0], False)
    assert network.counts == (0, 1, 0)
    pool.release(network.made[0], network.clock.now, MAX_IDLE_SECONDS)
    assert network.counts == (0, 0, 1)
    assert pool.acquire(FakeWaiter(), network.clock.now) is network.made[0]
    assert network.counts == (0, 1, 0)
    assert network.dialled == 1


async def test_last_in_first_out() -> None:
    """The connection that was used last is used next, so that the others may grow old and be closed."""
    network = Network()
    pool = network.pool()
    first, second, third = [await connected(network, pool) for _ in range(3)]
    for connection in (first, third, second):
        pool.release(connection, network.clock.now, MAX_IDLE_SECONDS)
    assert [pool.acquire(FakeWaiter(), network.clock.now) for _ in range(3)] == [second, third, first]


async def test_a_dead_idle_connection_is_passed_over() -> None:
    """One that ended or said something unasked is closed, and the next one is tried."""
    network = Network()
    pool = network.pool()
    dead, alive = [await connected(network, pool) for _ in range(2)]
    pool.release(alive, network.clock.now, MAX_IDLE_SECONDS)
    pool.release(dead, network.clock.now, MAX_IDLE_SECONDS)
    dead.usable = False
    assert pool.acquire(FakeWaiter(), network.clock.now) is alive
    assert dead.closed
    assert network.counts == (0, 1, 0)


async def test_an_unusable_connection_is_not_kept() -> None:
    """What cannot bear another exchange is closed when it is released."""
    network = Network()
    pool = network.pool()
    connection = await connected(network, pool)
    connection.usable = False
    pool.release(connection, network.clock.now, MAX_IDLE_SECONDS)
    assert connection.closed
    assert network.counts == (0, 0, 0)


async def test_a_lost_idle_connection_is_forgotten() -> None:
    """It is counted no longer; losing it twice, or one in use, changes nothing."""
    network = Network()
    pool = network.pool()
    connection, busy = [await connected(network, pool) for _ in range(2)]
    pool.release(connection, network.clock.now, MAX_IDLE_SECONDS)
    pool.lost(connection)
    pool.lost(connection)
    pool.lost(busy)
    assert network.counts == (0, 1, 0)


async def test_a_released_connection_goes_to_who_waits() -> None:
    """First come, first served; the dial that was under way serves the next."""
    network = Network()
    pool = network.pool()
    connection = await connected(network, pool)
    network.gate.clear()
    first, second = FakeWaiter(), FakeWaiter()
    pool.acquire(first, network.clock.now)
    pool.acquire(second, network.clock.now)
    pool.release(connection, network.clock.now, MAX_IDLE_SECONDS)
    assert (first.got, first.reused, second.heard) == (connection, True, False)
    network.gate.set()
    await until(lambda: second.heard)
    assert (second.got, second.reused) == (network.made[1], False)
    await unused(network)
    assert network.counts == (0, 2, 1), "the dial for whom the released one sufficed is kept idle"


async def test_a_connection_that_is_closed_before_its_use_is_nobodys() -> None:
    """Its waiter hears so, it is not counted as active any more, and the next one is served."""
    network = Network(stillborn=True)
    pool = network.pool()
    waiter = FakeWaiter()
    pool.acquire(waiter, network.clock.now)
    await until(lambda: waiter.heard)
    await unused(network)
    assert (waiter.error and waiter.error.code) == "upstream_unreachable"
    assert network.made[0].closed
    assert network.counts == (0, 0, 0)
    network.stillborn = False
    assert await connected(network, pool) is network.made[1]


# --- a fresh one -----------------------------------------------------------------------------------------------------


async def test_fresh_passes_over_idle_ones() -> None:
    """Who was let down by a reused connection gets one that nobody used; the idle ones stay for others."""
    network = Network()
    pool = network.pool()
    idle = await connected(network, pool)
    pool.release(idle, network.clock.now, MAX_IDLE_SECONDS)
    waiter = FakeWaiter()
    assert pool.acquire(waiter, network.clock.now, fresh=True) is None
    await until(lambda: waiter.heard)
    assert (waiter.got, waiter.reused) == (network.made[1], False)
    assert not idle.closed


async def test_fresh_is_not_served_by_a_release() -> None:
    """The one retry is not spent on another connection that may be as dead."""
    network = Network()
    pool = network.pool()
    used = await connected(network, pool)
    network.gate.clear()
    waiter = FakeWaiter()
    pool.acquire(waiter, network.clock.now, fresh=True)
    pool.release(used, network.clock.now, MAX_IDLE_SECONDS)
    assert not waiter.heard
    network.gate.set()
    await until(lambda: waiter.heard)
    assert (waiter.got, waiter.reused) == (network.made[1], False)


async def test_fresh_and_others_wait_side_by_side() -> None:
    """Each is served: the released one goes to who takes any, the new one to who wants a new one."""
    network = Network()
    pool = network.pool()
    used = await connected(network, pool)
    network.gate.clear()
    fresh, any_will_do = FakeWaiter(), FakeWaiter()
    pool.acquire(fresh, network.clock.now, fresh=True)
    pool.acquire(any_will_do, network.clock.now)
    pool.release(used, network.clock.now, MAX_IDLE_SECONDS)
    assert any_will_do.got is used
    network.gate.set()
    await until(lambda: fresh.heard)
    assert fresh.reused is False


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_dialling_is_bounded() -> None:
    """A thousand waiters freed by one token do not open a thousand connections at once; all are served."""
    network = Network()
    network.gate.clear()
    pool = network.pool()
    waiters = [FakeWaiter() for _ in range(1000)]
    for waiter in waiters:
        pool.acquire(waiter, network.clock.now)
    assert network.counts[0] == MAX_OPENING

    def pass_on() -> bool:
        for waiter in waiters:
            if waiter.got is not None:
                connection, waiter.got = waiter.got, None
                waiter.error = Problem("served")
                pool.release(connection, network.clock.now, MAX_IDLE_SECONDS)
        return all(waiter.heard for waiter in waiters)

    network.gate.set()
    await until(pass_on)
    await unused(network)
    assert network.most_at_once <= MAX_OPENING
    assert network.dialled <= 2 * MAX_OPENING


async def test_the_pool_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit a waiter waits for others to finish; each way in which one ends lets the next go on."""
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    network = Network()
    pool = network.pool()
    first, second = [await connected(network, pool) for _ in range(2)]
    assert pool.is_full()
    third, fourth = FakeWaiter(), FakeWaiter()
    pool.acquire(third, network.clock.now)
    pool.acquire(fourth, network.clock.now)
    assert network.counts == (0, 2, 0)
    pool.release(first, network.clock.now, MAX_IDLE_SECONDS)
    assert third.got is first
    pool.discard(second)
    await until(lambda: fourth.heard)
    assert fourth.reused is False
    assert second.closed
    assert pool.is_full()
    assert network.dialled == 3


async def test_a_cancelled_waiter_is_not_served() -> None:
    """Who went away gets nothing; the dial's connection is kept for the next."""
    network = Network()
    network.gate.clear()
    pool = network.pool()
    gone, fresh = FakeWaiter(), FakeWaiter()
    pool.acquire(gone, network.clock.now)
    pool.acquire(fresh, network.clock.now, fresh=True)
    pool.cancel(gone)
    pool.cancel(fresh)
    pool.cancel(gone)
    network.gate.set()
    await unused(network)
    assert not gone.heard
    assert not fresh.heard
    assert network.counts == (0, 0, 2)


# --- failures --------------------------------------------------------------------------------------------------------


async def test_one_failure_is_shared() -> None:
    """Everybody who waited when a dial began hears of its failure; nobody dials again for them."""
    network = Network(outcomes=[UpstreamUnreachableError("No such host.")])
    pool = network.pool()
    waiters = [FakeWaiter() for _ in range(5)]
    network.gate.clear()
    for waiter in waiters:
        pool.acquire(waiter, network.clock.now)
    await until(lambda: network.under_way == 5)
    network.gate.set()
    await until(lambda: all(waiter.heard for waiter in waiters))
    await unused(network)
    assert {waiter.error.detail for waiter in waiters if waiter.error} <= {"No such host."}
    assert network.dialled == 5
    assert not any(waiter.got for waiter in waiters if waiter.error)


async def test_who_comes_later_gets_a_dial_of_their_own() -> None:
    """A failure is shared by those who waited for it, not by those who came after it began."""
    network = Network(outcomes=[UpstreamUnreachableError("No such host.")])
    network.gate.clear()
    pool = network.pool()
    early, late = FakeWaiter(), FakeWaiter()
    pool.acquire(early, network.clock.now)
    await until(lambda: network.under_way == 1)
    pool.acquire(late, network.clock.now)
    await until(lambda: network.under_way == 2)
    network.gate.set()
    await until(lambda: early.heard and late.heard)
    assert early.error is not None
    assert late.got is not None


async def test_refused_connections_are_retried_without_a_word() -> None:
    """An upstream that restarts refuses for a moment: each delay is taken once, nothing was sent yet."""
    network = Network(outcomes=[refused() for _ in RETRY_DELAYS])
    pool = network.pool()
    connection = await connected(network, pool)
    assert connection is network.made[0]
    assert network.clock.slept == list(RETRY_DELAYS)
    assert network.stats.retries["connect"] == len(RETRY_DELAYS)


async def test_refused_for_good() -> None:
    """After the last attempt the waiter hears the reason."""
    network = Network(outcomes=[refused() for _ in range(len(RETRY_DELAYS) + 1)])
    waiter = FakeWaiter()
    network.pool().acquire(waiter, network.clock.now)
    await until(lambda: waiter.heard)
    assert waiter.error is not None
    assert waiter.error.code == "upstream_unreachable"
    assert network.dialled == len(RETRY_DELAYS) + 1


async def test_a_wait_between_attempts_is_nobody_elses_exception() -> None:
    """What fails elsewhere meanwhile does not drag the upstream's refusal into its own traceback."""
    network = Network(outcomes=[refused() for _ in RETRY_DELAYS])
    waiter = FakeWaiter()
    network.pool().acquire(waiter, network.clock.now)
    seen: list[BaseException | None] = []
    await until(lambda: seen.append(sys.exc_info()[1]) or waiter.heard)  # type: ignore[func-returns-value]
    assert set(seen) == {None}


async def test_other_failures_are_not_retried() -> None:
    """An unknown name or a bad certificate does not get better within a second."""
    error = UpstreamUnreachableError("Certificate has expired.")
    error.__cause__ = OSError()
    network = Network(outcomes=[error])
    waiter = FakeWaiter()
    network.pool().acquire(waiter, network.clock.now)
    await until(lambda: waiter.heard)
    assert waiter.error is error
    assert (network.dialled, network.clock.slept) == (1, [])


async def test_connecting_takes_no_longer_than_its_limit() -> None:
    """A host that swallows packets is given up; the dial is cancelled with it."""
    network = Network()
    network.gate.clear()
    waiter = FakeWaiter()
    network.pool(connect_timeout=0.01).acquire(waiter, network.clock.now)
    await until(lambda: waiter.heard)
    assert waiter.error is not None
    assert "in time" in waiter.error.detail
    await unused(network)
    assert (network.counts, network.under_way) == ((0, 0, 0), 0)


async def test_a_fault_of_our_own_fails_the_waiters_once() -> None:
    """An exception that nobody expected is logged; it neither hangs a client nor dials without end."""
    network = Network(outcomes=[RuntimeError("a bug")])
    waiter = FakeWaiter()
    with capture_logs() as logs:
        network.pool().acquire(waiter, network.clock.now)
        await until(lambda: waiter.heard)
    assert waiter.error is not None
    assert "bug" not in waiter.error.detail
    assert network.dialled == 1
    assert [entry["log_level"] for entry in logs] == ["error"]


# --- age -------------------------------------------------------------------------------------------------------------


async def test_idle_connections_are_reaped() -> None:
    """What was idle for too long is closed, before a usual server would close it; the younger ones stay."""
    network = Network()
    pool = network.pool()
    old, young = [await connected(network, pool) for _ in range(2)]
    pool.release(old, network.clock.now, MAX_IDLE_SECONDS)
    network.clock.now += MAX_IDLE_SECONDS - 1
    pool.release(young, network.clock.now, MAX_IDLE_SECONDS)
    pool.reap()
    assert (old.closed, young.closed) == (False, False)
    network.clock.now += 1
    pool.reap()
    assert (old.closed, young.closed) == (True, False)
    assert network.counts == (0, 0, 1)
    assert pool.acquire(FakeWaiter(), network.clock.now) is young


async def test_what_was_idle_for_too_long_is_not_handed_out() -> None:
    """Not even in the moment before it is reaped: the server may be closing it."""
    network = Network()
    pool = network.pool()
    old, young = [await connected(network, pool) for _ in range(2)]
    pool.release(young, network.clock.now, 9.0)
    pool.release(old, network.clock.now, 4.0)
    network.clock.now += 4.0
    assert pool.acquire(FakeWaiter(), network.clock.now) is young
    assert old.closed


async def test_a_connection_that_was_not_used_is_idle_for_no_longer() -> None:
    """It was given out and back, but the server has heard nothing meanwhile."""
    network = Network()
    pool = network.pool()
    connection = await connected(network, pool)
    pool.release(connection, network.clock.now, 4.0)
    network.clock.now += 3.0
    assert pool.acquire(FakeWaiter(), network.clock.now) is connection
    pool.release(connection, network.clock.now)
    network.clock.now += 1.0
    pool.reap()
    assert connection.closed


async def test_a_connection_that_was_dialled_for_nobody_serves_the_next() -> None:
    """Who it was for went away; it is kept like any other."""
    network = Network()
    network.gate.clear()
    pool = network.pool()
    gone = FakeWaiter()
    pool.acquire(gone, network.clock.now)
    await until(lambda: network.under_way)
    pool.cancel(gone)
    network.gate.set()
    await unused(network)
    network.clock.now += MAX_IDLE_SECONDS - 1
    assert pool.acquire(FakeWaiter(), network.clock.now) is network.made[0]


async def test_connections_have_a_maximum_age() -> None:
    """However busy, a connection is given up one day, so that a changed name is followed."""
    network = Network()
    pool = network.pool()
    connection = await connected(network, pool)
    network.clock.now += MAX_AGE_SECONDS
    pool.release(connection, network.clock.now, MAX_IDLE_SECONDS)
    assert pool.acquire(FakeWaiter(), network.clock.now) is connection
    network.clock.now += 1
    pool.release(connection, network.clock.now, MAX_IDLE_SECONDS)
    assert connection.closed
    assert network.counts == (0, 0, 0)


async def test_an_old_connection_is_not_handed_to_who_waits() -> None:
    """The waiter gets a new one."""
    network = Network()
    pool = network.pool()
    old = await connected(network, pool)
    network.clock.now += MAX_AGE_SECONDS + 1
    waiter = FakeWaiter()
    pool.acquire(waiter, network.clock.now)
    pool.release(old, network.clock.now, MAX_IDLE_SECONDS)
    await until(lambda: waiter.heard)
    assert (waiter.got is old, waiter.reused) == (False, False)


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_a_retired_pool_serves_who_is_there() -> None:
    """After a reload: idle connections close now, busy ones when released; who waits is still served."""
    network = Network()
    pool = network.pool()
    idle, busy = [await connected(network, pool) for _ in range(2)]
    pool.release(idle, network.clock.now, MAX_IDLE_SECONDS)
    network.gate.clear()
    waiter = FakeWaiter()
    pool.acquire(waiter, network.clock.now, fresh=True)
    pool.close()
    assert (idle.closed, busy.closed) == (True, False)
    network.gate.set()
    await until(lambda: waiter.heard)
    assert waiter.got is not None
    await unused(network)
    pool.release(waiter.got, network.clock.now, MAX_IDLE_SECONDS)
    pool.release(busy, network.clock.now, MAX_IDLE_SECONDS)
    assert [connection.closed for connection in network.made] == [True, True, True]
    assert network.counts == (0, 0, 0)


async def test_a_connection_dialled_for_nobody_is_closed_when_retired() -> None:
    """Its waiter is gone and its pool is retired: nothing stays."""
    network = Network()
    network.gate.clear()
    pool = network.pool()
    waiter = FakeWaiter()
    pool.acquire(waiter, network.clock.now)
    await until(lambda: network.under_way)
    pool.cancel(waiter)
    pool.close()
    network.gate.set()
    await unused(network)
    assert network.made[0].closed
    assert network.counts == (0, 0, 0)


async def test_a_costly_dial_lets_a_connection_in_use_come_back_first() -> None:
    """A burst that connections in use serve within milliseconds opens no others (a TLS handshake holds the loop)."""
    network = Network()
    pool = network.pool(spread=True)
    busy = await connected(network, pool)
    waiters = [FakeWaiter() for _ in range(10)]
    for waiter in waiters:
        pool.acquire(waiter, network.clock.now)
    for waiter in waiters:
        pool.release(busy, network.clock.now, MAX_IDLE_SECONDS)
        assert waiter.got is busy
    assert pool.acquire(FakeWaiter(), network.clock.now) is None
    await until(lambda: network.dialled == 2)  # one that does not come back in time is not waited for
    await unused(network)


async def test_costly_dials_do_not_begin_all_at_once() -> None:
    """Each who waits gets a connection; between two turns of the loop no more than a few dials begin."""
    network = Network()
    network.gate.clear()
    pool = network.pool(spread=True)
    waiters = [FakeWaiter() for _ in range(40)]
    for waiter in waiters:
        pool.acquire(waiter, network.clock.now)
    steps = [network.counts[0]]
    async with asyncio.timeout(10):
        while network.counts[0] < MAX_OPENING:
            await asyncio.sleep(0)
            steps.append(network.counts[0])
    assert max(later - earlier for earlier, later in itertools.pairwise([0, *steps])) == SPREAD_DIALS
    network.gate.set()
    await until(lambda: all(waiter.got is not None for waiter in waiters))
    await unused(network)


async def test_shutting_down_gives_up_on_dials() -> None:
    """No dial outlives the process's end, and none begins after it."""
    network = Network()
    pool = network.pool()
    busy = await connected(network, pool)
    network.gate.clear()
    waiters = [FakeWaiter() for _ in range(3)]
    for waiter in waiters:
        pool.acquire(waiter, network.clock.now)
    await until(lambda: network.under_way == 3)
    await pool.shut_down()
    assert network.under_way == 0
    pool.discard(busy)
    for waiter in waiters:
        pool.cancel(waiter)
    await unused(network)
    assert network.dialled == 4
    assert network.counts == (0, 0, 0)


async def test_pools_that_share_what_the_process_may_open() -> None:
    """Without room a request waits, not even a dial begins; another pool's idle connections make room."""
    network, others = Network(), Network()

    def room() -> int:
        return 2 - sum(network.counts) - sum(others.counts)

    pool, other = network.pool(room=room), others.pool(room=room)
    used, idle = [await connected(others, other) for _ in range(2)]
    other.release(idle, others.clock.now, MAX_IDLE_SECONDS)
    waiter = FakeWaiter()
    assert pool.acquire(waiter, network.clock.now) is None
    assert (network.dialled, pool.is_full()) == (0, True)
    for each in (other, pool):
        each.reap()
    await until(lambda: waiter.heard)
    assert (waiter.got, idle.closed, used.closed) == (network.made[0], True, False)
