"""A store that cannot fail: where the configured one does, this process goes on with its own memory.

Memory holds what the store said last, so that budgets, cool-downs, quarantines and tokens go on. A store that can be
read and not written is still read: what other processes write there counts here as well. The store is tried again after
a while, whether anybody asks for it or not, and nobody waits for that. What memory holds by then is brought to it where
it holds nothing younger: whether it went away, was made anew, or could not be opened until now. A store that works is
looked after too, so that a failure is known within seconds although nobody uses it.

Other hosts' processes cannot be known while their common store is away. Then this process asks an issuer only in its
turns, until all of them are back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import structlog

from sidecar import background
from sidecar.clock import Clock
from sidecar.tokens.observer import StoreOperation, TokenObserver
from sidecar.tokens.rate_limit import Turns
from sidecar.tokens.stores.base import Record, Release, Store, StoreError, StoreFault, Update
from sidecar.tokens.stores.memory import MemoryStore
from sidecar.tokens.timer import Timer

log = structlog.get_logger(__name__)

T = TypeVar("T")

CHECK_EVERY: Final = 5.0
"""Seconds between two checks of a store that works. A check asks nothing of an issuer."""
RETRY_FIRST, RETRY_MOST = 2.0, 30.0
"""Seconds until a failed store is tried again, doubling."""
PATIENCE: Final = 5.0
"""Seconds for one operation; a disk or a network that hangs is as bad as one that is gone."""


class DegradingStore:
    """A `SharedStore`: it never raises `StoreError`."""

    def __init__(self, store: Store, clock: Clock, observer: TokenObserver, turns: Turns | None = None) -> None:
        """`turns`: this process's, while it has never reached the store; None: the store is one host's."""
        self._store = store
        self._clock = clock
        self._observer = observer
        self._memory = MemoryStore(clock)
        self.fault: StoreFault | None = StoreFault("The token store is not open.", readable=False)
        self._failures = 0
        self._failed_at = 0.0
        self._turns = turns
        self._all_back_at = 0.0
        self._unsaved: set[str] = set()
        """Keys of records that memory holds and the store may not."""
        self._checking = asyncio.Lock()
        self._next_check = Timer(clock, self._check_soon)
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Open the store, or log why it is not used."""
        await self.check()

    async def check(self) -> None:
        """Find out whether the store works, and use it again if it does."""
        async with self._checking:
            with suppress(StoreError):  # it was logged
                await self._recover_or_check()
            self._check_later()

    @property
    def turns(self) -> Turns | None:
        """This process's turns while the store is away, and until every process has noticed that it is back."""
        return self._turns if self.fault is not None or self._clock.boottime() < self._all_back_at else None

    async def load(self, key: str) -> Record | None:
        """The newest record: the store's, or memory's where that is younger and the store does not work."""
        if self.fault is None or self.fault.readable:
            try:
                record = await self._try("load", lambda: self._store.load(key))
            except StoreError:
                return self._memory.peek(key)
            mine = self._memory.peek(key)
            if self.fault is None or mine is None or (record is not None and record.earliest > mine.written):
                self._keep(key, record)
                return record
        return self._memory.peek(key)

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        """Change a record in the store, or in memory."""
        if self.fault is None:
            operation: StoreOperation = "reserve" if key.startswith("budget-") else "save"
            with suppress(StoreError):  # it was logged
                record = await self._try(operation, lambda: self._store.update(key, change, written=written))
                self._keep(key, record)
                return record
        await self.load(key)  # keeps in memory what others have written meanwhile
        self._unsaved.add(key)
        return await self._memory.update(key, change, written=written)

    async def acquire(self, key: str) -> Release | None:
        """Try once to win a lock of the store, or one of this process."""
        if self.fault is None:
            with suppress(StoreError):  # it was logged
                release = await self._try("lock", lambda: self._store.acquire(key))
                return partial(self._release, release) if release is not None else None
        return await self._memory.acquire(key)

    async def released(self, key: str, seconds: float) -> None:
        """Wait until a lock may be free."""
        if self.fault is None:
            with suppress(StoreError):  # it was logged
                await self._try("lock", lambda: self._store.released(key, seconds))
                return
        await self._memory.released(key, seconds)

    async def _release(self, release: Release) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await release()
        except (StoreError, TimeoutError):
            log.info("a lock on the token store was not given back; it ends by itself")

    async def close(self) -> None:
        """End the checks, and let the store go."""
        self._next_check.set(None)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()

    # --- whether it works --------------------------------------------------------------------------------------------

    def _check_soon(self) -> None:
        background.spawn("tokens", self.check(), self._tasks)

    def _check_later(self) -> None:
        pause = RETRY_FIRST * 2.0 ** min(10, self._failures - 1) if self._failures else CHECK_EVERY
        self._next_check.set(self._clock.boottime() + min(RETRY_MOST, pause))

    async def _recover_or_check(self) -> None:
        if self.fault is not None and not self.fault.readable:
            await self._try("open", self._store.open)
            self.fault = StoreFault(self.fault.reason, readable=True)
        turns = await self._try("open", self._store.check)
        self._turns = turns or self._turns
        if self.fault is None and not (turns and turns.lost):
            return
        self._unsaved.update(self._memory.keys())
        while self._unsaved:
            await self._bring(min(self._unsaved))
        was_up, self.fault = self.fault is None, None
        if was_up:
            log.info("the token store had lost what was in it; this process has put back what it knew")
            return
        self._observer.store_up(up=True)
        if self._failures:
            now = self._clock.boottime()
            # Others may have failed a little later, and try again less and less often.
            others_pause = min(RETRY_MOST, RETRY_FIRST + now - self._failed_at)
            self._all_back_at = now + others_pause + PATIENCE + CHECK_EVERY
            log.info("the token store is in use again")
        self._failures = 0

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
            error = StoreError(f"It did not answer within {PATIENCE:g} s.")
        except StoreError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 (a store that raises what it must not is one that fails)
            background.failed("tokens", raised)
            error = StoreError(f"Unexpectedly: {type(raised).__name__}.")
        self._failed(operation, StoreFault(str(error), readable=error.readable and operation != "load"))
        raise error

    def _failed(self, operation: StoreOperation, fault: StoreFault) -> None:
        """Go on with memory."""
        self._observer.store_failed(operation=operation)
        was_up, self.fault = self.fault is None, fault
        if was_up or not self._failures:
            self._failed_at = self._clock.boottime()
            self._observer.store_up(up=False)
            log.error(
                "the token store cannot be used; tokens and budgets are this process's own until it can",
                operation=operation,
                reason=fault.reason,
                readable=fault.readable,
            )
        self._failures += 1
        if was_up:
            self._check_later()

    def _keep(self, key: str, record: Record | None) -> None:
        if record is not None and not record.damaged:
            self._memory.put(key, record.data, record.earliest)
