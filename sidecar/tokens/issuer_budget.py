"""One issuer origin's rate limit on the store, and the slots that every attempt to reach the issuer takes in it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar import background
from sidecar.config.urls import origin
from sidecar.errors import TokenUnavailableError
from sidecar.tokens import rate_limit
from sidecar.tokens.context import Context
from sidecar.tokens.events import Failure
from sidecar.tokens.identity import Labels
from sidecar.tokens.observer import Outcome
from sidecar.tokens.rate_limit import RateLimit, Refused, Reserved
from sidecar.tokens.serialization import RecordError, read_rate_limit, write_rate_limit
from sidecar.tokens.stores.base import Record
from sidecar.tokens.token_record import NEVER

LATE_SHARE: Final = 0.1
"""An attempt that comes later than this share of `min_interval` after its slot has missed it."""
REPEAT_AFTER: Final = 0.2
"""Seconds before a repeated attempt at least, doubling; the rate limit usually asks for more."""
MOST_SLOWNESS: Final = 5.0
"""Seconds: a store that takes longer for one operation is not waited for in advance."""


class NoSlotError(TokenUnavailableError):
    """There is no slot within the client's patience; `failure` says why."""

    def __init__(self, refused: Refused) -> None:
        super().__init__("The issuer's budget has no slot in time.", retry_after=refused.retry_after)
        self.failure = Failure.COOLING if refused.cooling else Failure.NO_TURN if refused.turn else Failure.NO_SLOT


class NotSharedError(TokenUnavailableError):
    """The store cannot be written to, and this process must not ask beside those that share it."""


class SupersededError(TokenUnavailableError):
    """Another process has obtained the token while this one waited for its slot."""


class IssuerBudget:
    """One issuer origin's rate limit, shared on the store.

    What this process knows is a lower bound: a store that is away, or comes back as it was an hour ago, cannot make it
    ask sooner.
    """

    def __init__(self, context: Context, origin: str) -> None:
        self.origin = origin
        self.known = RateLimit()
        """The record as this process last knew it."""
        self.requests = 0
        """Attempts of this process."""
        self._context = context
        self._key = f"budget-{hashlib.sha256(origin.encode()).hexdigest()[:32]}"

    @property
    def interval(self) -> float:
        """Seconds between two attempts, as the settings have it for this origin."""
        requests = self._context.requests
        special = (limits for url, limits in requests.issuers.items() if origin(url) == self.origin)
        return next(special, requests).min_interval

    async def reserve(self, patience: float, *, background: bool, not_before: float = NEVER) -> Reserved | Refused:
        """Reserve the next slot within `patience` seconds; `not_before` is a moment of the boot clock.

        Raises:
            NotSharedError: the slot would be this process's own.
        """
        deadline = self._context.clock.boottime() + patience
        answer: list[Reserved | Refused] = []

        def change(limit: RateLimit, now: float) -> RateLimit:
            changed, outcome = rate_limit.reserve(
                limit,
                now,
                self.interval,
                patience=deadline - now,
                background=background,
                not_before=not_before,
                turns=self._context.store.turns,
            )
            answer[:] = [outcome]
            return changed

        await self.update(change)
        fault = self._context.store.fault if self._context.shared_only else None
        if fault is not None:
            raise NotSharedError(f"The issuer is not asked, as the token store cannot be written to: {fault.reason}")
        return answer[0]

    async def throttled(self, retry_after: float | None) -> None:
        """Begin a cool-down after a 429; `known` has its end then. `retry_after`: what the issuer said, in seconds."""
        jitter = self._context.rng.uniform(-1, 1)
        await self.update(lambda limit, now: rate_limit.throttled(limit, now, retry_after, jitter))

    async def look(self) -> None:
        """Read the record. One of uncertain age is written anew, so that a cool-down in it begins once more at most."""
        await self.update(lambda limit, _now: limit)

    async def update(self, change: Callable[[RateLimit, float], RateLimit]) -> RateLimit:
        """Change the record, whatever other processes did meanwhile; `change` is given the present moment, too."""
        result: list[RateLimit] = []

        def update(record: Record | None, now: float) -> bytes | None:
            found = self._read(record, now)
            limit = change(rate_limit.merged(self.known, found), now)
            result[:] = [limit]
            # A record of uncertain age is written anew, or its cool-down would begin again each time it is read; and so
            # is one that the store has lost.
            certain = record.certain if record is not None else found == RateLimit()
            return None if limit == found and certain else write_rate_limit(limit, now)

        await self._context.store.update(self._key, update)
        self.known = result[0]
        return self.known

    def _read(self, record: Record | None, now: float) -> RateLimit:
        if record is None and self.known.free_at == NEVER:
            return RateLimit()
        try:
            if record is not None and not record.damaged:
                return read_rate_limit(record.data, record.written)
        except RecordError:
            pass
        return rate_limit.unreadable(now, self.interval)


class AttemptSlots:
    """The slots of one fetch, and what is counted of its attempts: an `AttemptGate`."""

    def __init__(
        self,
        budget: IssuerBudget,
        context: Context,
        labels: Labels,
        *,
        deadline: Callable[[], float],
        background: bool = False,
        superseded: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """`deadline` is a moment of the boot clock; `superseded` looks whether another process has the token now."""
        self.attempts = 0
        """Attempts that were given a slot."""
        self.sent_at = NEVER
        """When the last attempt's head left, or at least when its slot came."""
        self._budget = budget
        self._clock = context.clock
        self._store = context.store
        self._observer = context.observer
        self._labels = labels
        self._deadline = deadline
        self._background = background
        self._superseded = superseded
        self._began: float | None = None
        self._updates: set[asyncio.Task[None]] = set()

    async def slot(self) -> None:
        """Wait for the next attempt's slot.

        Raises:
            NoSlotError, NotSharedError, SupersededError: there is to be no attempt.
        """
        self.ended("failed")  # the one before, if there was one
        asked = self._clock.boottime()
        not_before = asked + REPEAT_AFTER * 2.0 ** (self.attempts - 1) if self.attempts else NEVER
        while (missed_by := await self._take(not_before)) is not None:
            # This process was stopped, or the store is slow: ask for a slot that can be met.
            not_before = self._clock.boottime() + missed_by
        self.attempts += 1
        self._budget.requests += 1
        self._began = self.sent_at = self._clock.boottime()
        self._observer.budget_waited(issuer=self._labels.issuer, seconds=self._began - asked)

    def sent(self) -> None:
        """Note that the attempt's head has left."""
        sent_at = self.sent_at = self._clock.boottime()
        if (interval := self._budget.interval) > 0:
            self._update_soon(lambda limit, _now: rate_limit.sent(limit, sent_at, interval))

    async def postpone(self, seconds: float) -> None:
        """Put the pause that the issuer asks for on the store."""
        await self._budget.update(lambda limit, now: rate_limit.postpone(limit, now, seconds))

    def ended(self, outcome: Outcome) -> None:
        """Note how the attempt ended, if one is under way."""
        if self._began is None:
            return
        seconds = self._clock.boottime() - self._began
        self._began = None
        labels = self._labels
        self._observer.token_requested(issuer=labels.issuer, audience=labels.audience, outcome=outcome, seconds=seconds)
        if outcome == "success" and self._budget.known.throttled:
            self._update_soon(lambda limit, _now: rate_limit.granted(limit))

    def free_in(self) -> float:
        """Seconds until the next slot, as far as this process knows."""
        known = self._budget.known
        return max(0.0, max(known.free_at, known.cooldown_until) - self._clock.boottime())

    async def _take(self, not_before: float) -> float | None:
        """Reserve a slot and wait for it. None: now is its time. Else it was missed; seconds to leave before the next.

        Before the slot comes the store is read again: another process may have been served, or throttled. That takes
        about as long as reserving did, so that is how long before the slot it begins.
        """
        asked = self._clock.boottime()
        # A login may take two requests. The second of a background refresh waits, or the first would be in vain.
        in_background = self._background and self.attempts == 0
        slot = await self._budget.reserve(self._deadline() - asked, background=in_background, not_before=not_before)
        if isinstance(slot, Refused):
            raise NoSlotError(slot)
        took, turns = min(MOST_SLOWNESS, self._clock.boottime() - asked), self._store.turns
        if slot.at > self._clock.boottime():
            await self._sleep_until(slot.at - 2 * took)
            if self._superseded is not None and await self._superseded():
                await self._budget.update(lambda limit, _now: rate_limit.release(limit, slot, self._budget.interval))
                raise SupersededError("Another process has obtained the token.")
            cooling = (await self._budget.update(lambda limit, _now: limit)).cooldown_until > slot.at
            if cooling or (turns is None and self._store.turns is not None):
                return 0.0  # also where the store has gone: the slot is one of the others' turns now
            await self._sleep_until(slot.at)
        late = self._clock.boottime() - slot.at
        return 2 * took if late > LATE_SHARE * self._budget.interval > 0 else None

    async def _sleep_until(self, moment: float) -> None:
        seconds = moment - self._clock.boottime()
        if seconds > 0:
            await self._clock.sleep(seconds)

    def _update_soon(self, change: Callable[[RateLimit, float], RateLimit]) -> None:
        async def update() -> None:
            await self._budget.update(change)

        background.spawn("tokens", update(), self._updates)
