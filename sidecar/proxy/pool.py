"""Upstream connections of one route: kept alive, reused last in first out, bounded, opened only for a request.

`Pool._assign` alone decides which waiting request gets which connection, what is closed and how many are dialled. It
changes the pool's state and does no I/O; `Pool._carry_out` does the I/O afterwards, in a loop. A request that gives its
connection back while it is being served changes the state, and the loop goes on: so nothing recurses. And no event
costs more because many requests wait or many connections are open.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from sidecar import background
from sidecar.clock import Clock
from sidecar.errors import Problem, UpstreamUnreachableError
from sidecar.telemetry.http import ConnectionCounts, RouteStats

MAX_OPENING = 16
"""Dials at once: a thousand requests freed by one token do not open a thousand TLS connections."""
SPREAD_DIALS = 3
"""Where dials are spread, at most so many begin in `SPREAD_SECONDS`: a TLS handshake holds the loop for 0.6 ms."""
SPREAD_SECONDS = 0.003
"""That is also how long a connection in use has to come back before a dial begins beside it."""
MAX_CONNECTIONS = 1024
MAX_IDLE_SECONDS = 15.0
"""Less than the keep-alive time of usual servers (Tomcat's is 20 s, which it does not say): this side closes first."""
MAX_AGE_SECONDS = 300.0
"""So that a changed name is followed."""
RETRY_DELAYS = (0.05, 0.1, 0.2, 0.4)
"""Seconds between attempts to reach an upstream that refuses connections: it may just be restarting."""


class Connection(Protocol):
    """What the pool needs to know of a connection. Moments are in seconds of the monotonic clock."""

    opened_at: float
    idle_until: float
    """When a connection that nobody uses is closed; the pool sets it."""

    def is_usable(self) -> bool:
        """Whether it is open, and sent nothing that was not asked for."""

    def close(self) -> None:
        """End it."""


class Waiter(Protocol):
    """A request that waits for a connection."""

    def connected(self, connection: Connection, *, reused: bool) -> None:
        """Use `connection`; `reused` says that it has served another request."""

    def unconnected(self, error: Problem) -> None:
        """There will be none, because of `error`."""


def _no_limit() -> int:
    return MAX_CONNECTIONS


Dial = Callable[[], Awaitable[Connection]]
Dialled = tuple[int, Connection | Problem]
"""How a dial ended, and the number of the last request that waited when it began."""


class Assignment(NamedTuple):
    """What `Pool._assign` decided: at most one request that is served, what is closed, how many dials begin."""

    waiter: Waiter | None
    connection: Connection | None
    """The waiter's; None where the server has closed it at once."""
    reused: bool
    closed: list[Connection]
    dials: int


class Pool:
    """The connections of one route under one configuration; a reload makes another pool, and retires this one."""

    def __init__(
        self,
        dial: Dial,
        stats: RouteStats,
        clock: Clock,
        connect_timeout: float,
        room: Callable[[], int] = _no_limit,
        *,
        spread: bool = False,
    ) -> None:
        """`connect_timeout` is in seconds, for one dial with its repetitions; `room` says how many more may be open.

        `spread` is for connections that are costly to open: a burst of requests does not begin all its dials at once.
        """
        self._dial = dial
        self._stats = stats
        self._clock = clock
        self._connect_timeout = connect_timeout
        self._room = room
        self.active = 0
        """Connections that are in use."""
        self._idle: dict[Connection, None] = {}
        # By request, each with its number. (A plain `dict` finds its first entry behind all that were removed.)
        self._waiting: OrderedDict[Waiter, int] = OrderedDict()
        self._waiting_for_fresh: OrderedDict[Waiter, int] = OrderedDict()
        self._joined = 0
        self._dials: set[asyncio.Task[Dialled]] = set()
        self._max_opening = MAX_OPENING
        self._spread = spread
        self._next_dials: asyncio.TimerHandle | None = None
        self._retired = False
        self._carrying_out = False
        stats.pools.add(self.counts)

    def counts(self) -> ConnectionCounts:
        """Connections that are being dialled, in use, and idle."""
        return len(self._dials), self.active, len(self._idle)

    @property
    def waiting(self) -> int:
        """Requests without a connection."""
        return len(self._waiting) + len(self._waiting_for_fresh)

    def is_full(self) -> bool:
        """Whether a waiting request waits for others to finish, and not for the upstream."""
        return self.active >= MAX_CONNECTIONS or self._room() <= 0

    # --- the requests' side --------------------------------------------------------------------------------------

    def acquire(self, waiter: Waiter, now: float, fresh: bool = False) -> Connection | None:
        """An idle connection at once; or None, and `waiter` is told later. `fresh` asks for one that was never used."""
        idle = self._idle
        while idle and not fresh:  # no request waits where one is idle: this is the rule of `_assign` for a single one
            connection = idle.popitem()[0]
            if connection.idle_until > now and connection.is_usable():
                self.active += 1
                return connection
            connection.close()
        self._joined += 1
        (self._waiting_for_fresh if fresh else self._waiting)[waiter] = self._joined
        self._carry_out()
        return None

    def cancel(self, waiter: Waiter) -> None:
        """`waiter` needs no connection any more, if it has waited for one."""
        self._waiting.pop(waiter, None)
        self._waiting_for_fresh.pop(waiter, None)

    def release(self, connection: Connection, now: float, idle_seconds: float = 0.0) -> None:
        """Take back a connection that can be used again: within `idle_seconds`, or as before if nothing was sent."""
        if self._retired or now - connection.opened_at > MAX_AGE_SECONDS or not connection.is_usable():
            self.discard(connection)
            return
        self.active -= 1
        if idle_seconds:
            connection.idle_until = now + idle_seconds
        self._idle[connection] = None
        if self._waiting:
            self._carry_out()

    def discard(self, connection: Connection, *, close: bool = True) -> None:
        """Take back a connection that cannot be used again; without `close` it ends by itself."""
        self.active -= 1
        if close:
            connection.close()
        self._carry_out()

    def lost(self, connection: Connection) -> None:
        """Forget an idle connection that has ended; one that is in use is given back by its exchange."""
        self._idle.pop(connection, None)

    # --- the server's side ---------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Close what was idle for too long, or without room all that is idle; dial for whoever waits for room."""
        now = self._clock.monotonic() if self._room() > 0 else float("inf")
        for connection in [c for c in self._idle if c.idle_until <= now]:
            del self._idle[connection]
            connection.close()
        if self.waiting:
            self._carry_out()

    def close(self) -> None:
        """Retire: close idle connections now, others when they are released; requests that wait are still served."""
        self._retired = True
        self._carry_out()

    async def shut_down(self) -> None:
        """Retire, and give up all dials, which are over when this returns: the process ends."""
        self._max_opening = 0
        if self._next_dials is not None:
            self._next_dials.cancel()
        dials = tuple(self._dials)
        for dial in dials:
            dial.cancel()
        self.close()
        await asyncio.gather(*dials, return_exceptions=True)

    # --- the decision, and what follows from it ------------------------------------------------------------------

    def _assign(self, dialled: Connection | None) -> Assignment:
        """Decide what is to be done next; `dialled` is a new connection, if there is one."""
        waiter: Waiter | None = None
        connection: Connection | None = None
        reused = False
        closed: list[Connection] = []
        if dialled is not None:
            dialled.idle_until = dialled.opened_at + MAX_IDLE_SECONDS
            waiting = self._waiting_for_fresh or self._waiting
            if waiting:
                waiter = waiting.popitem(last=False)[0]
            if not dialled.is_usable():
                closed.append(dialled)
            elif waiter is not None:
                connection = dialled
            else:
                self._idle[dialled] = None
        elif self._idle and self._waiting:
            connection = self._idle.popitem()[0]
            waiter = self._waiting.popitem(last=False)[0]
            reused = True
        if connection is not None:
            self.active += 1
        if self._retired and self._idle:
            closed += self._idle
            self._idle.clear()
        return Assignment(waiter, connection, reused, closed, self._missing())

    def _missing(self) -> int:
        """How many dials are to begin: one for each waiting request, within the bounds."""
        opening = len(self._dials)
        missing = min(self._max_opening - opening, self.waiting - opening, MAX_CONNECTIONS - self.active - opening)
        return max(0, min(missing, self._room())) if missing > 0 else 0

    def _carry_out(self, dialled: Connection | None = None) -> None:
        """Do what `_assign` says until it has nothing more to say."""
        if self._carrying_out:
            return  # called by a request that is being served: the loop below sees what it has changed
        self._carrying_out = True
        try:
            while True:
                waiter, connection, reused, closed, dials = self._assign(dialled)
                dialled = None
                for one in closed:
                    one.close()
                if dials and not self._spread:
                    self._begin(dials)
                elif dials and self._next_dials is None:
                    self._begin(0 if self.active else min(dials, SPREAD_DIALS))
                    self._next_dials = asyncio.get_running_loop().call_later(SPREAD_SECONDS, self._begin_more)
                if waiter is None:
                    break
                if connection is not None:
                    waiter.connected(connection, reused=reused)
                else:
                    waiter.unconnected(UpstreamUnreachableError("The upstream closed a new connection at once."))
        finally:
            self._carrying_out = False
        if self._retired:
            is_used = self.active or self._dials or self.waiting
            (self._stats.pools.add if is_used else self._stats.pools.discard)(self.counts)

    # --- dialling ------------------------------------------------------------------------------------------------

    def _begin(self, dials: int) -> None:
        for _ in range(dials):
            task = asyncio.get_running_loop().create_task(self._dial_for_waiters())
            self._dials.add(task)
            task.add_done_callback(self._dial_ended)

    def _begin_more(self) -> None:
        """Begin some of the dials that are still missing, and the others later."""
        self._next_dials = None
        missing = self._missing()
        if missing:
            self._begin(min(missing, SPREAD_DIALS))
            self._next_dials = asyncio.get_running_loop().call_later(SPREAD_SECONDS, self._begin_more)

    def _dial_ended(self, task: asyncio.Task[Dialled]) -> None:
        self._dials.discard(task)
        connection: Connection | None = None
        if not task.cancelled():
            newest, outcome = task.result()
            if isinstance(outcome, Problem):
                self._fail(newest, outcome)
            else:
                connection = outcome
        self._carry_out(connection)

    async def _dial_for_waiters(self) -> Dialled:
        # A failure is told to all requests that wait by now; a later one gets a dial of its own.
        newest = self._joined
        try:
            async with asyncio.timeout(self._connect_timeout):
                return newest, await self._dial_patiently()
        except TimeoutError:
            return newest, UpstreamUnreachableError("The upstream did not accept a connection in time.")
        except Problem as error:
            return newest, error
        except Exception as bug:  # noqa: BLE001 (whatever it is, no request may wait for it, and no dial be repeated)
            background.failed("dials", bug)
            return newest, UpstreamUnreachableError("No connection to the upstream: see the sidecar's log.")

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

    def _fail(self, newest: int, error: Problem) -> None:
        for waiting in (self._waiting, self._waiting_for_fresh):
            while waiting:
                waiter = next(iter(waiting))
                if waiting[waiter] > newest:
                    break
                del waiting[waiter]
                waiter.unconnected(error)
