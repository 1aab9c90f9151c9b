"""A store for one process."""

from __future__ import annotations

import secrets

from sidecar.clock import Clock
from sidecar.tokens.sealing import SALT_BYTES
from sidecar.tokens.stores.base import Lease, Record, Update


class MemoryStore:
    """Shared by everything in this process, gone with it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[str, tuple[bytes, float]] = {}
        self._locked: set[str] = set()
        self.salt = secrets.token_bytes(SALT_BYTES)

    async def open(self, salt: bytes | None = None) -> None:
        """Nothing to do."""

    async def load(self, key: str) -> Record | None:
        """See `Store`."""
        return self.peek(key)

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        """See `Store`."""
        now = self._clock.boottime()
        data = change(self.peek(key), now)
        if data is not None:
            self.put(key, data, now if written is None else written)
        return self.peek(key)

    async def acquire(self, key: str) -> Lease | None:
        """See `Store`."""
        if key in self._locked:
            return None
        self._locked.add(key)
        return _MemoryLease(self._locked, key)

    async def close(self) -> None:
        """Nothing to do."""

    def peek(self, key: str) -> Record | None:
        """`load`, at once."""
        if key not in self._records:
            return None
        data, written = self._records[key]
        return Record(data, written, written)

    def put(self, key: str, data: bytes, written: float) -> None:
        """Takes over a record."""
        self._records[key] = data, written

    def take(self, key: str) -> Record | None:
        """`peek`, and forget it."""
        record = self.peek(key)
        self._records.pop(key, None)
        return record

    def names(self) -> list[str]:
        """The keys of all records."""
        return list(self._records)


class _MemoryLease:
    def __init__(self, locked: set[str], key: str) -> None:
        self._locked = locked
        self._key = key

    async def release(self) -> None:
        self._locked.discard(self._key)
