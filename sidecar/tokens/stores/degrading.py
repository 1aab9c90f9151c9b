"""A store that cannot fail: where the configured one does, this process goes on with its own memory.

What the store said last is kept in memory, so that budgets, cool-downs, quarantines and tokens go on. The store is
tried again after a while, whether anybody asks for it or not, and nobody waits for that. What memory holds by then is
brought to it where it holds nothing younger: whether it went away, was made anew, or could not be opened until now. A
salt that is known only then, or has become another one, gives sealed records other names and keys (`reseal`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from sidecar.clock import Clock
from sidecar.tokens.alarm import Alarm
from sidecar.tokens.observer import StoreOperation, TokenObserver
from sidecar.tokens.shared import NEVER
from sidecar.tokens.stores.base import SALTED, Lease, Record, Reseal, Store, StoreError, Update
from sidecar.tokens.stores.memory import MemoryStore

log = structlog.get_logger(__name__)

T = TypeVar("T")

RETRY_FIRST, RETRY_MOST = 2.0, 30.0
"""Seconds until a failed store is tried again, doubling."""
PATIENCE: Final = 5.0
"""Seconds for one operation; a disk or a network that hangs is as bad as one that is gone."""


class DegradingStore:
    """`Store`, but never a `StoreError`."""

    def __init__(self, store: Store, clock: Clock, observer: TokenObserver) -> None:
        self._store = store
        self._clock = clock
        self._observer = observer
        self._memory = MemoryStore(clock)
        self.salt = self._memory.salt
        self.up = False
        self._failures = 0
        self._retry_at = NEVER
        self._unsaved: set[str] = set()
        self.reseal: Reseal | None = None
        """Of whoever seals the records."""
        self._opening = asyncio.Lock()
        self._again = Alarm(clock, self._try_again)
        self._trying: asyncio.Task[None] | None = None

    async def open(self, salt: bytes | None = None) -> None:
        """Opens the store, or says why it is not used."""
        self.salt = salt or self.salt
        await self._reopen()

    async def load(self, key: str) -> Record | None:
        """See `Store`."""
        if self._usable():
            try:
                record = await self._try("load", lambda: self._store.load(key))
            except StoreError:
                return self._memory.peek(key)
            self._keep(key, record)
            return record
        return self._memory.peek(key)

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        """See `Store`."""
        if self._usable():
            operation: StoreOperation = "reserve" if key.startswith("budget-") else "save"
            try:
                record = await self._try(operation, lambda: self._store.update(key, change, written=written))
            except StoreError:
                pass
            else:
                self._keep(key, record)
                return record
        self._unsaved.add(key)
        return await self._memory.update(key, change, written=written)

    async def acquire(self, key: str) -> Lease | None:
        """See `Store`."""
        if self._usable():
            try:
                lease = await self._try("lock", lambda: self._store.acquire(key))
            except StoreError:
                pass
            else:
                return _PatientLease(lease) if lease is not None else None
        return await self._memory.acquire(key)

    async def close(self) -> None:
        """See `Store`."""
        self._again.clear()
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)
        await self._store.close()

    # --- up and down -------------------------------------------------------------------------------------------------

    def _usable(self) -> bool:
        """Whether it is up; if it is not and it is time, it is tried again, for those who come later."""
        if not self.up and self._clock.boottime() >= self._retry_at:
            self._try_again()
        return self.up

    def _try_again(self) -> None:
        """By itself: who has its tokens asks nothing of a store for an hour, and all that time nobody would share."""
        if not self._opening.locked() and (self._trying is None or self._trying.done()):
            self._trying = asyncio.get_running_loop().create_task(self._reopen())

    async def _reopen(self) -> None:
        async with self._opening:
            if self.up:
                return
            try:
                await self._try("open", lambda: self._store.open(self.salt))
                await self._recover()
            except StoreError:
                return  # it was said, and is tried again
            except Exception as error:  # noqa: BLE001 (nobody hears of it otherwise, and nobody would try again)
                self._down("open", f"Unexpectedly: {type(error).__name__}.")

    async def _recover(self) -> None:
        if self._store.salt != self.salt:
            await self._move(self._store.salt)
        self._unsaved.update(self._memory.names())
        while self._unsaved:
            await self._bring(min(self._unsaved))
        was_down = self._failures > 0
        self.up, self._failures, self._retry_at = True, 0, NEVER
        self._observer.store_up(up=True)
        if was_down:
            log.info("the token store is in use again")

    async def _move(self, salt: bytes) -> None:
        moves = await self.reseal(self.salt, salt) if self.reseal is not None else {}
        # From here on nothing is awaited, so that nobody meets records of both.
        for key in [key for key in self._memory.names() if key.startswith(SALTED)]:
            record = self._memory.take(key)
            self._unsaved.discard(key)
            if record is not None and key in moves:
                name, resealed = moves[key]
                data = resealed(record)
                if data is not None:
                    self._memory.put(name, data, record.written)
        self.salt = salt

    async def _bring(self, key: str) -> None:
        mine = self._memory.peek(key)
        self._unsaved.discard(key)
        if mine is None:
            return

        def change(theirs: Record | None, _now: float) -> bytes | None:
            return mine.data if theirs is None or theirs.written < mine.written else None

        try:
            await self._try("save", lambda: self._store.update(key, change, written=mine.written))
        except StoreError:
            self._unsaved.add(key)
            raise

    async def _try(self, operation: StoreOperation, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(PATIENCE):
                return await work()
        except TimeoutError:
            self._down(operation, f"It did not answer within {PATIENCE:g} s.")
            raise StoreError("the store does not answer") from None
        except StoreError as error:
            self._down(operation, str(error))
            raise

    def _down(self, operation: StoreOperation, reason: str) -> None:
        self._observer.store_failed(operation=operation)
        if self.up or self._failures == 0:
            self._observer.store_up(up=False)
            log.error(
                "the token store cannot be used; tokens and budgets are this process's own until it can",
                operation=operation,
                reason=reason,
            )
        self.up = False
        self._failures += 1
        self._retry_at = self._clock.boottime() + min(RETRY_MOST, RETRY_FIRST * 2.0 ** min(10, self._failures - 1))
        self._again.set(self._retry_at)

    def _keep(self, key: str, record: Record | None) -> None:
        if record is not None and not record.damaged:
            self._memory.put(key, record.data, record.earliest)


class _PatientLease:
    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    async def release(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._lease.release()
        except (StoreError, TimeoutError):
            log.info("a lock on the token store was not given back; it ends by itself")
