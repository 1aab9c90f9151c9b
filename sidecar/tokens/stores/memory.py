"""A store for one process."""

from __future__ import annotations

from sidecar.clock import Clock
from sidecar.tokens.stores.base import Record, Release, StoreFault, Update


class MemoryStore:
    """Shared by everything in this process, gone with it."""

    fault: StoreFault | None = None
    """It is what was configured, and it works."""
    turns: None = None

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[str, tuple[bytes, float]] = {}
        self._locked: set[str] = set()

    async def open(self) -> None:
        """Do nothing."""

    async def check(self) -> None:
        """Do nothing."""

    async def load(self, key: str) -> Record | None:
        """The newest record."""
        return self.peek(key)

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        """Change a record."""
        now = self._clock.boottime()
        data = change(self.peek(key), now)
        if data is not None:
            self.put(key, data, now if written is None else written)
        return self.peek(key)

    async def acquire(self, key: str) -> Release | None:
        """Try once to win a lock."""
        if key in self._locked:
            return None
        self._locked.add(key)

        async def release() -> None:
            self._locked.discard(key)

        return release

    async def released(self, key: str, seconds: float) -> None:
        """Wait for so long."""
        del key
        await self._clock.sleep(seconds)

    async def close(self) -> None:
        """Do nothing."""

    def peek(self, key: str) -> Record | None:
        """`load` without an await."""
        if key not in self._records:
            return None
        data, written = self._records[key]
        return Record(data, written, written)

    def put(self, key: str, data: bytes, written: float) -> None:
        """Replace a record by one that was written at this moment of the boot clock."""
        self._records[key] = data, written

    def keys(self) -> list[str]:
        """The keys of all records."""
        return list(self._records)
