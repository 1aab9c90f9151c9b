"""A store in a directory, shared by every process that uses it: `versioned_files`, in threads."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sidecar.background import in_thread
from sidecar.clock import Clock
from sidecar.tokens.stores.base import Record, Release, StoreError, Update
from sidecar.tokens.stores.versioned_files import VersionedFiles

T = TypeVar("T")

THREADS = 2
"""At most so many at once: a disk that hangs holds up no more."""
READABLE = frozenset(
    {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EOPNOTSUPP, errno.EPERM, errno.EROFS}
)
"""Errors of writing where the directory may well be read."""


class FileStore:
    """One directory 0700 with files 0600; with a group, 2770 and 0660."""

    def __init__(self, directory: Path, group: str | None, clock: Clock) -> None:
        self._directory = directory
        self._group = group
        self._clock = clock
        self._files: VersionedFiles | None = None
        self._threads = asyncio.Semaphore(THREADS)

    async def open(self) -> None:
        """Open the directory, and make it where it is missing."""
        await self._threads.acquire()
        opening = self._begin(lambda: VersionedFiles(self._directory, self._group, self._clock))
        files = await self._result(opening, VersionedFiles.close)
        await self.close()
        self._files = files

    async def check(self) -> None:
        """Look whether the directory is there, and can be written to."""
        await self._run(VersionedFiles.check)

    async def load(self, key: str) -> Record | None:
        """The newest record."""
        return await self._run(lambda files: files.load(key))

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        """Change a record."""
        return await self._run(lambda files: files.update(key, change, written))

    async def acquire(self, key: str) -> Release | None:
        """Try once to win a lock, which the kernel gives back if this process dies."""
        descriptor = await self._run(lambda files: files.lock(key), _close_lock)
        if descriptor is None:
            return None

        async def release() -> None:
            os.close(descriptor)  # nobody writes to the file, so that this does not block

        return release

    async def released(self, key: str, seconds: float) -> None:
        """Wait for so long: the kernel tells only threads."""
        del key
        await self._clock.sleep(seconds)

    async def close(self) -> None:
        """Let the directory go, when the last thread that works in it has ended."""
        files, self._files = self._files, None
        if files is not None and not files.users:
            files.close()

    async def _run(self, work: Callable[[VersionedFiles], T], discard: Callable[[T], None] | None = None) -> T:
        await self._threads.acquire()
        files = self._files
        if files is None:
            self._threads.release()
            raise StoreError(f"The token store's directory {self._directory} is not open.")

        def ended(_work: object) -> None:
            files.users -= 1
            if not files.users and files is not self._files:
                files.close()

        files.users += 1
        running = self._begin(lambda: work(files))
        running.add_done_callback(ended)
        return await self._result(running, discard)

    def _begin(self, work: Callable[[], T]) -> asyncio.Task[T]:
        running = asyncio.get_running_loop().create_task(in_thread(work))
        running.add_done_callback(lambda _: self._threads.release())
        return running

    async def _result(self, work: asyncio.Task[T], discard: Callable[[T], None] | None = None) -> T:
        """The work's result; `discard` gets it where nobody waits for it any more."""
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if discard is not None:
                work.add_done_callback(lambda done: None if _failed(done) else discard(done.result()))
            raise
        except OSError as error:
            raise StoreError(
                f"The token store's directory {self._directory} cannot be used: {error.strerror or error}.",
                readable=error.errno in READABLE,
            ) from None


def _close_lock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _failed(work: asyncio.Future[T]) -> bool:
    return work.cancelled() or work.exception() is not None
