"""A store that is down is tried again by itself."""

from __future__ import annotations

from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.stores.base import StoreError
from sidecar.tokens.stores.degrading import DegradingStore
from sidecar.tokens.stores.memory import MemoryStore
from tests.tokens.support import ManualClock


class DownFor(MemoryStore):
    """A store that cannot be opened until `since`."""

    def __init__(self, clock, since):
        super().__init__(clock)
        self._clock_here, self._since = clock, since
        self.tried = []

    async def open(self):
        self.tried.append(self._clock_here.boottime())
        if self._clock_here.boottime() < self._since:
            raise StoreError("Not yet.")


async def test_a_store_that_is_back_is_noticed_though_nobody_asks_it():
    """Whoever has a token asks nothing of a store for an hour; it is tried at 2, 4, 8, … seconds all the same."""
    clock = ManualClock(boottime=0.0)
    behind = DownFor(clock, since=10.0)
    store = DegradingStore(behind, clock, TokenObserver())
    await store.open()
    assert store.fault is not None
    await clock.advance(60.0)
    assert behind.tried == [0.0, 2.0, 6.0, 14.0]
    assert store.fault is None
    await store.close()


async def test_a_closed_store_is_tried_no_more():
    """Nothing is left behind at the end of the process."""
    clock = ManualClock(boottime=0.0)
    behind = DownFor(clock, since=float("inf"))
    store = DegradingStore(behind, clock, TokenObserver())
    await store.open()
    await store.close()
    await clock.advance(60.0)
    assert behind.tried == [0.0]
