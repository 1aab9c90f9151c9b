"""The shell of the budget: every attempt to reach an issuer takes its slot here."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from sidecar import background
from sidecar.clock import Clock
from sidecar.errors import TokenUnavailableError
from sidecar.tokens import budget as rules
from sidecar.tokens.budget import Budget, Refused, Reserved
from sidecar.tokens.observer import Outcome, TokenObserver
from sidecar.tokens.record import RecordError, read_budget, write_budget
from sidecar.tokens.shared import NEVER
from sidecar.tokens.stores.base import Record, Store

log = structlog.get_logger(__name__)

LATE_SHARE: Final = 0.1
"""An attempt that comes later than this share of `min_interval` after its slot has missed it."""
REPEAT_AFTER: Final = 0.2
"""Seconds before a repeated attempt at least, doubling; the budget usually asks for more."""


MOST_SLOWNESS: Final = 5.0
"""Seconds: a store that takes longer for one operation is not waited for in advance."""


class NoSlotError(TokenUnavailableError):
    """The budget has no slot within the client's patience; `cooling`: because of a cool-down."""

    def __init__(self, refused: Refused) -> None:
        super().__init__("The issuer's budget has no slot in time.", retry_after=refused.retry_after)
        self.cooling = refused.cooling


class SupersededError(TokenUnavailableError):
    """Another process has obtained the token while this one waited for its slot."""


class IssuerBudget:
    """One issuer origin's budget on the store.

    What this process has seen is a floor under what the store says: a store that is away, or comes back as it was an
    hour ago, cannot make it ask sooner.
    """

    def __init__(self, store: Store, clock: Clock, rng: random.Random, *, origin: str, interval: float) -> None:
        self.origin = origin
        self.interval = interval
        self.requests = 0
        """Attempts of this process."""
        self._store = store
        self._clock = clock
        self._rng = rng
        self._key = f"budget-{hashlib.sha256(origin.encode()).hexdigest()[:32]}"
        self.known = Budget()

    async def reserve(self, patience: float, *, background: bool, not_before: float = NEVER) -> Reserved | Refused:
        """See `budget.reserve`; `patience` in seconds from now."""
        deadline = self._clock.boottime() + patience
        answer: list[Reserved | Refused] = []

        def change(budget: Budget, now: float) -> Budget:
            changed, outcome = rules.reserve(
                budget, now, self.interval, patience=deadline - now, background=background, not_before=not_before
            )
            answer[:] = [outcome]
            return changed

        await self._update(change)
        return answer[0]

    async def release(self, slot: Reserved) -> None:
        """See `budget.release`."""
        await self._update(lambda budget, _now: rules.release(budget, slot, self.interval))

    async def sent(self, at: float) -> None:
        """See `budget.sent`."""
        if self.interval > 0:
            await self._update(lambda budget, _now: rules.sent(budget, at, self.interval))

    async def throttled(self, retry_after: float | None) -> None:
        """See `budget.throttled`; `known` has the end of the cool-down then."""
        jitter = self._rng.uniform(-1, 1)
        await self._update(lambda budget, now: rules.throttled(budget, now, retry_after, jitter))

    async def postpone(self, seconds: float) -> None:
        """See `budget.postpone`."""
        await self._update(lambda budget, now: rules.postpone(budget, now, seconds))

    async def granted(self) -> None:
        """See `budget.granted`."""
        if self.known.throttled:
            await self._update(lambda budget, _now: rules.granted(budget))

    async def look(self) -> Budget:
        """The record as it is."""
        await self._update(lambda budget, _now: budget)
        return self.known

    async def _update(self, change: Callable[[Budget, float], Budget]) -> None:
        result: list[Budget] = []

        def update(record: Record | None, now: float) -> bytes | None:
            found = self._read(record, now)
            budget = change(rules.merged(self.known, found), now)
            result[:] = [budget]
            # A record of uncertain age is written anew, or its cool-down would begin again at every look.
            certain = record is None or record.certain
            return None if budget == found and certain else write_budget(budget, now)

        await self._store.update(self._key, update)
        self.known = result[0]

    def _read(self, record: Record | None, now: float) -> Budget:
        if record is None:
            return Budget()
        try:
            return rules.unreadable(now, self.interval) if record.damaged else read_budget(record.data, record.written)
        except RecordError:
            return rules.unreadable(now, self.interval)


class Gate:
    """An `AttemptGate` for one fetch."""

    def __init__(
        self,
        budget: IssuerBudget,
        clock: Clock,
        observer: TokenObserver,
        *,
        issuer: str,
        audience: str,
        background: bool,
        deadline: Callable[[], float],
        superseded: Callable[[], Awaitable[bool]],
    ) -> None:
        """`deadline` is a moment of the boot clock; `superseded` looks whether somebody else was faster."""
        self._budget = budget
        self._clock = clock
        self._observer = observer
        self._issuer = issuer
        self._audience = audience
        self._background = background
        self._deadline = deadline
        self._superseded = superseded
        self._began: float | None = None
        self.attempts = 0
        """That were given a slot."""
        self._notes: set[asyncio.Task[None]] = set()
        self.sent_at = NEVER
        """When the last attempt's head left, or at least when its slot came."""

    async def slot(self) -> None:
        """See `AttemptGate`."""
        self.ended("failed")  # the one before, if there was one
        asked = self._clock.boottime()
        not_before = asked + REPEAT_AFTER * 2.0 ** (self.attempts - 1) if self.attempts else NEVER
        while (missed_by := await self._take(not_before)) is not None:
            # This process was held up, or the store is slow: ask for a slot that can be met.
            not_before = self._clock.boottime() + missed_by
        self.attempts += 1
        self._budget.requests += 1
        self._began = self.sent_at = self._clock.boottime()
        self._observer.budget_waited(issuer=self._issuer, seconds=self._began - asked)

    def sent(self) -> None:
        """See `AttemptGate`."""
        self.sent_at = self._clock.boottime()
        background.spawn("tokens", self._budget.sent(self.sent_at), self._notes)

    async def postpone(self, seconds: float) -> None:
        """See `AttemptGate`."""
        await self._budget.postpone(seconds)

    def ended(self, outcome: Outcome) -> None:
        """The attempt that is open, if one is, has ended."""
        if self._began is None:
            return
        seconds = self._clock.boottime() - self._began
        self._began = None
        self._observer.token_requested(issuer=self._issuer, audience=self._audience, outcome=outcome, seconds=seconds)

    async def _take(self, not_before: float) -> float | None:
        """Reserve a slot and wait for it. None: now is its time. Else it was missed; seconds to leave before the next.

        Before a slot that was waited for, the store is looked into again: another process may have been served, or
        throttled. It takes about as long as reserving did, so that is when it begins.
        """
        asked = self._clock.boottime()
        # A login may take two requests; the second of a background refresh waits, or the first would be in vain.
        background = self._background and self.attempts == 0
        slot = await self._budget.reserve(self._deadline() - asked, background=background, not_before=not_before)
        if isinstance(slot, Refused):
            raise NoSlotError(slot)
        took = min(MOST_SLOWNESS, self._clock.boottime() - asked)
        if slot.at > self._clock.boottime():
            await self._sleep_until(slot.at - 2 * took)
            if await self._superseded():
                await self._budget.release(slot)
                raise SupersededError("Another process has obtained the token.")
            if (await self._budget.look()).cooldown_until > slot.at:
                return 0.0
            await self._sleep_until(slot.at)
        late = self._clock.boottime() - slot.at
        return 2 * took if late > LATE_SHARE * self._budget.interval > 0 else None

    async def _sleep_until(self, moment: float) -> None:
        seconds = moment - self._clock.boottime()
        if seconds > 0:
            await self._clock.sleep(seconds)
