"""One flight: look into the store, win the identity's lock, look again, ask the issuer.

The lock is thrift and no more. Who does not win it within half of `max_wait` (its holder may be stopped) tries a
second one, so that of sixty-four such processes one goes on; after a quarter more it goes on without. The budget keeps
the spacing in any case, and after every wait for a slot the store is looked into once more.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from sidecar.clock import Clock
from sidecar.errors import GrantError, GrantRefusedError, GrantThrottledError, TokenUnavailableError
from sidecar.tokens.budget import COOLDOWN_FIRST
from sidecar.tokens.events import Command, Failure, Fetch, Fetched, FetchFailed, Hold, Loaded, Lock
from sidecar.tokens.gate import Gate, NoSlotError, SupersededError
from sidecar.tokens.grant import Grant
from sidecar.tokens.shared import NEVER, Token, new_version
from sidecar.tokens.slot import Flight as FlightState
from sidecar.tokens.stores.base import Lease

if TYPE_CHECKING:
    from sidecar.tokens.entry import Entry

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_LOCK, SECOND_LOCK = 0.5, 0.75
"""Shares of `max_wait` until which the first and the second lock are tried for."""
POLL_FIRST, POLL_MOST = 0.05, 0.25
"""Seconds between two tries, growing."""
MOST_LIFETIME: Final = 24 * 3600.0
SPARE: Final = 5.0
"""Seconds by which a fetch may be longer than the sum of its limits before it is given up."""


class Flight:
    """The asynchronous half of an entry."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    async def look(self, *, may_fetch: bool = False) -> tuple[Command, ...]:
        """Take over what the store says, own changes included; what follows from it."""
        await self._entry.flush()
        shared = await self._entry.ledger.load()
        return self._entry.dispatch(Loaded(shared, may_fetch))

    async def run(self) -> None:
        """One flight, from `Look` to the answer."""
        entry = self._entry
        lease: Lease | None = None
        try:
            began, pause = self._now(), POLL_FIRST
            commands = await self.look()
            while Lock() in commands:
                rank = self._rank(self._now() - began)
                lease = None if rank is None else await entry.ledger.acquire(rank)
                may_fetch = lease is not None or rank is None
                if not may_fetch:
                    await entry.around.clock.sleep(pause * entry.around.rng.uniform(0.5, 1.5))
                    pause = min(POLL_MOST, 1.5 * pause)
                commands = await self.look(may_fetch=may_fetch)
            while hold := next((command for command in commands if isinstance(command, Hold)), None):
                await entry.around.clock.sleep(hold.until - self._now())
                commands = await self.look(may_fetch=True)
            for command in commands:
                if isinstance(command, Fetch):
                    await self._fetch(command)
            await entry.flush()
        finally:
            if lease is not None:
                await lease.release()

    def _rank(self, waited: float) -> int | None:
        max_wait = self._entry.around.requests.max_wait
        if waited < FIRST_LOCK * max_wait:
            return 0
        return 1 if waited < SECOND_LOCK * max_wait else None

    async def _fetch(self, command: Fetch) -> None:
        entry = self._entry
        # Nobody waits for a background refresh, so that nobody's patience limits it.
        least = self._now() + entry.around.requests.max_wait if command.background else NEVER
        gate = Gate(
            entry.budget,
            entry.around.clock,
            entry.around.observer,
            issuer=entry.issuer,
            audience=entry.audience,
            background=command.background,
            deadline=lambda: max(least, entry.deadline),
            superseded=self._superseded,
        )
        try:
            event = await self._ask(gate, command.attempts)
        finally:
            gate.ended("failed")  # if that has not been said yet
        if event is None:
            return
        await entry.conclude(event)
        if isinstance(event, Fetched):
            await entry.budget.granted()
        elif event.failure is Failure.REFUSED:
            self._say_refused(event)

    def _say_refused(self, event: FetchFailed) -> None:
        """The detail says what the issuer said and what to do; `credentials/` words it."""
        entry = self._entry
        quarantine = entry.slot.shared.quarantine
        log.error(
            "the issuer refused a credential; it is not asked again for a while",
            **entry.names,
            oauth_error=event.oauth_error,
            detail=event.detail,
            seconds=round(quarantine.until - self._now()) if quarantine else 0,
        )

    async def _superseded(self) -> bool:
        await self.look()
        return self._entry.slot.flight is FlightState.NONE

    async def _ask(self, gate: Gate, attempts: int) -> Fetched | FetchFailed | None:
        """What the issuer says; None: somebody else was faster."""
        entry = self._entry
        asked = self._now()
        requests = entry.around.requests
        limit = attempts * 2 * (requests.max_wait + requests.timeout) + SPARE  # a login may take two requests
        try:
            grant = await within(entry.around.clock, limit, entry.source.fetch(gate, attempts=attempts))
        except SupersededError:
            return None
        except NoSlotError as error:
            if gate.attempts:  # the attempts before this one failed at something else
                return FetchFailed(Failure.TRANSIENT, error.retry_after or 0.0)
            log.info("no slot for a token request in time", **entry.names, retry_after=error.retry_after)
            failure = Failure.COOLING if error.cooling else Failure.NO_SLOT
            return FetchFailed(failure, error.retry_after or 0.0)
        except GrantThrottledError as error:
            return await self._throttled(gate, error)
        except GrantRefusedError as error:
            gate.ended("refused")
            entry.last_failure = error.detail
            return FetchFailed(Failure.REFUSED, oauth_error=error.oauth_error, detail=error.detail)
        except (GrantError, TokenUnavailableError, TimeoutError) as error:
            gate.ended("failed")
            detail = error.detail if isinstance(error, GrantError | TokenUnavailableError) else "It took too long."
            log.warning("a token request failed", **entry.names, detail=detail)
            entry.last_failure = detail
            known = entry.budget.known
            return FetchFailed(
                Failure.TRANSIENT, max(0.0, known.free_at - self._now(), known.cooldown_until - self._now())
            )
        gate.ended("success")
        entry.last_failure = ""
        born = gate.sent_at if gate.sent_at > NEVER else asked
        log.info("token obtained", **entry.names, lifetime=grant.lifetime, seconds=round(self._now() - born, 3))
        return Fetched(Token(new_version(), bounded(grant), born))

    async def _throttled(self, gate: Gate, error: GrantThrottledError) -> FetchFailed:
        entry = self._entry
        gate.ended("throttled")
        await entry.patiently(entry.budget.throttled(error.retry_after))
        pause = entry.budget.known.cooldown_until - self._now()
        if pause <= 0:  # the store hangs, and what it knows of earlier ones is not known
            pause = error.retry_after or COOLDOWN_FIRST
        log.warning(
            "the issuer throttles: nobody on this store asks it for a while",
            **entry.names,
            seconds=round(pause, 1),
            detail=error.detail,
        )
        entry.last_failure = error.detail
        return FetchFailed(Failure.THROTTLED, pause)

    def _now(self) -> float:
        return self._entry.around.clock.boottime()


def bounded(grant: Grant) -> Grant:
    """The grant with a lifetime of at most a day (DESIGN 5.4), whatever its maker says."""
    lifetime = grant.lifetime if math.isfinite(grant.lifetime) else MOST_LIFETIME
    return replace(grant, lifetime=min(MOST_LIFETIME, max(0.0, lifetime)))


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The work's result.

    Raises:
        TimeoutError: it took longer, by this clock; the work is cancelled.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    timer = loop.create_task(clock.sleep(seconds))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        timer.cancel()
        task.cancel()
