"""Upstream connections of one route: kept alive, reused last in first out, bounded; opened only for somebody.

Methods change state first and do I/O after, with no await between a decision and its bookkeeping.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from sidecar.clock import Clock
from sidecar.errors import OverloadedError, Problem, UpstreamUnreachableError
from sidecar.telemetry.http import RouteStats

_log = structlog.get_logger(__name__)

MAX_OPENING = 16
"""At once: a thousand waiters freed by one token do not open a thousand TLS connections."""
MAX_CONNECTIONS = 1024
MAX_IDLE_SECONDS = 30.0
"""Below the keep-alive time of usual servers and load balancers, so that we close first."""
MAX_AGE_SECONDS = 300.0
"""So that a changed name is followed."""
RETRY_DELAYS = (0.05, 0.1, 0.2, 0.4)
"""Between attempts to reach an upstream that refuses connections: it may just be restarting. Nothing was sent yet."""


class Connection(Protocol):
    """What the pool needs to know of a connection."""

    opened_at: float
    idle_since: float

    def is_usable(self) -> bool:
        """Open, and nothing unasked came in."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Waiter(Protocol):
    """Somebody who waits for a connection."""

    def connected(self, connection: Connection, *, reused: bool) -> None:
        """Here it is."""
        ...

    def unconnected(self, error: Problem) -> None:
        """None can be had."""
        ...


Dial = Callable[[], Awaitable[Connection]]


class Pool:
    """See the module."""

    def __init__(self, dial: Dial, stats: RouteStats, clock: Clock, connect_timeout: float) -> None:
        self._dial = dial
        self._stats = stats
        self._clock = clock
        self._connect_timeout = connect_timeout
        self._idle: list[Connection] = []
        self._busy = 0
        self._waiting: deque[Waiter] = deque()
        self._waiting_for_fresh: deque[Waiter] = deque()
        self._dials: set[asyncio.Task[None]] = set()
        self._closed = False

    def acquire(self, waiter: Waiter, *, fresh: bool = False) -> Connection | None:
        """An idle connection at once, or None: then `waiter` hears later. `fresh` wants one that nobody used."""
        while self._idle and not fresh:
            connection = self._idle.pop()
            self._stats.connections_idle -= 1
            if connection.is_usable():
                self._busy += 1
                self._stats.connections_active += 1
                return connection
            connection.close()
        (self._waiting_for_fresh if fresh else self._waiting).append(waiter)
        self._open()
        return None

    def _next_for_fresh(self) -> Waiter | None:
        waiting = self._waiting_for_fresh or self._waiting
        return waiting.popleft() if waiting else None

    def _waiters(self) -> int:
        return len(self._waiting) + len(self._waiting_for_fresh)

    def release(self, connection: Connection, now: float) -> None:
        """A whole exchange is done on `connection`, and it can bear another; `now` is in monotonic seconds."""
        if self._closed or now - connection.opened_at > MAX_AGE_SECONDS or not connection.is_usable():
            self.discard(connection)
        elif self._waiting:
            self._waiting.popleft().connected(connection, reused=True)
        else:
            self._busy -= 1
            self._stats.connections_active -= 1
            self._stats.connections_idle += 1
            connection.idle_since = now
            self._idle.append(connection)

    def discard(self, connection: Connection, *, close: bool = True) -> None:
        """`connection` was acquired and is of no use any more; without `close` it ends by itself."""
        self._busy -= 1
        self._stats.connections_active -= 1
        if close:
            connection.close()
        self._open()

    def is_full(self) -> bool:
        """Whether a waiter waits for others to finish, and not for the upstream."""
        return self._busy >= MAX_CONNECTIONS

    def lost(self, connection: Connection) -> None:
        """An idle connection ended by itself."""
        if connection in self._idle:
            self._idle.remove(connection)
            self._stats.connections_idle -= 1

    def cancel(self, waiter: Waiter) -> None:
        """`waiter` went away."""
        for waiting in (self._waiting, self._waiting_for_fresh):
            if waiter in waiting:
                waiting.remove(waiter)

    def reap(self) -> None:
        """Close what was idle for too long; the oldest stand first."""
        deadline = self._clock.monotonic() - MAX_IDLE_SECONDS
        count = next((i for i, c in enumerate(self._idle) if c.idle_since > deadline), len(self._idle))
        expired, self._idle = self._idle[:count], self._idle[count:]
        self._stats.connections_idle -= count
        for connection in expired:
            connection.close()

    def close(self) -> None:
        """Retire: close idle connections now, and busy ones when they are released; who waits is still served."""
        self._closed = True
        idle, self._idle = self._idle, []
        self._stats.connections_idle -= len(idle)
        for connection in idle:
            connection.close()

    def shut_down(self) -> None:
        """Give up on dials as well: the process ends."""
        self.close()
        for dial in self._dials:
            dial.cancel()

    def _open(self) -> None:
        """Dial as long as somebody waits for whom nobody dials yet."""
        opening = len(self._dials)
        while opening < min(MAX_OPENING, self._waiters()) and opening + self._busy < MAX_CONNECTIONS:
            task = asyncio.get_running_loop().create_task(self._dial_for_waiter())
            self._dials.add(task)
            self._stats.connections_opening += 1
            task.add_done_callback(self._dialled)
            opening += 1

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dials.discard(task)
        self._stats.connections_opening -= 1
        if not task.cancelled():
            self._open()

    async def _dial_for_waiter(self) -> None:
        # Whoever waits now shares this dial's failure; whoever comes later gets a dial of their own.
        sharing = {id(waiter) for waiter in (*self._waiting, *self._waiting_for_fresh)}
        try:
            async with asyncio.timeout(self._connect_timeout):
                connection = await self._dial_patiently()
        except TimeoutError:
            self._fail(sharing, UpstreamUnreachableError("The upstream did not accept a connection in time."))
        except Problem as error:
            self._fail(sharing, error)
        except Exception:  # noqa: BLE001 (whatever it is, nobody may wait for it, and nobody may dial for ever)
            _log.exception("a connection to the upstream could not be opened by a fault in the sidecar")
            self._fail(sharing, UpstreamUnreachableError("No connection to the upstream: see the sidecar's log."))
        else:
            self._busy += 1
            self._stats.connections_active += 1
            self._give_out(connection)

    def _give_out(self, connection: Connection) -> None:
        waiter = self._next_for_fresh()
        if waiter is None:
            self.release(connection, self._clock.monotonic())
        elif connection.is_usable():
            waiter.connected(connection, reused=False)
        else:
            self.discard(connection)
            waiter.unconnected(UpstreamUnreachableError("The upstream closed a new connection at once."))

    async def _dial_patiently(self) -> Connection:
        for delay in RETRY_DELAYS:
            try:
                return await self._dial()
            except UpstreamUnreachableError as error:
                if not isinstance(error.__cause__, ConnectionRefusedError):
                    raise
            # Not in the handler: mypyc's coroutines leave the exception that they handle to whatever runs meanwhile.
            self._stats.retries["connect"] += 1
            await self._clock.sleep(delay)
        return await self._dial()

    def _fail(self, sharing: set[int], error: Problem) -> None:
        for waiter in (*self._waiting, *self._waiting_for_fresh):
            if id(waiter) in sharing:
                self.cancel(waiter)
                waiter.unconnected(error)


def overloaded() -> OverloadedError:
    """For a waiter whose turn does not come."""
    return OverloadedError("All connections to the upstream are in use; try again shortly.", retry_after=1.0)
