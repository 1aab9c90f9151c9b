"""A store in a directory, shared by every process that uses it: `records` in threads of its own.

Not in the loop's default executor: a disk that hangs would take the look-up of host names with it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sidecar.clock import Clock
from sidecar.tokens.stores.base import Lease, Record, StoreError, Update
from sidecar.tokens.stores.records import Records

T = TypeVar("T")

THREADS = 2
CLOSING = 2.0
"""Seconds in which the threads end, or are left behind."""


class FileStore:
    """One directory 0700 with files 0600; with a group, 2770 and 0660."""

    def __init__(self, directory: Path, group: str | None, clock: Clock) -> None:
        self._directory = directory
        self._group = group
        self._clock = clock
        self._records: Records | None = None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="token-store")

    @property
    def salt(self) -> bytes:
        """See `Store`."""
        return self._opened().salt

    async def open(self, salt: bytes | None = None) -> None:
        """See `Store`."""
        before, self._records = (
            self._records,
            await self._run(lambda: Records(self._directory, self._group, self._clock, salt)),
        )
        if before is not None:
            before.close()

    async def load(self, key: str) -> Record | None:
        """See `Store`."""
        records = self._opened()
        return await self._run(lambda: records.load(key))

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        """See `Store`."""
        records = self._opened()
        return await self._run(lambda: records.update(key, change, written))

    async def acquire(self, key: str) -> Lease | None:
        """See `Store`."""
        records = self._opened()
        winning = self._pool.submit(records.lock, key)
        try:
            descriptor = await self._result(winning)
        except asyncio.CancelledError:
            winning.add_done_callback(_drop)
            raise
        return None if descriptor is None else _FileLease(descriptor)

    async def close(self) -> None:
        """See `Store`."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        ended = asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)
        try:
            await asyncio.wait_for(ended, CLOSING)
        except TimeoutError:
            return  # a thread hangs in the disk, with the directory in use
        if self._records is not None:
            self._records.close()
            self._records = None

    def _opened(self) -> Records:
        if self._records is None:
            raise StoreError(f"The token store's directory {self._directory} is not open.")
        return self._records

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._result(self._pool.submit(work))

    async def _result(self, work: Future[T]) -> T:
        try:
            return await asyncio.shield(asyncio.wrap_future(work))
        except OSError as error:
            raise StoreError(
                f"The token store's directory {self._directory} cannot be used: {error.strerror or error}."
            ) from None


class _FileLease:
    """Closing a file that nobody writes to does not block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _drop(won: Future[int | None]) -> None:
    """A lock that was won for nobody."""
    if not won.cancelled() and won.exception() is None and (descriptor := won.result()) is not None:
        os.close(descriptor)
