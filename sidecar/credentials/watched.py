"""A value that is made from files and made again when they change: a secret, a signing key, a TLS context.

What is in force stays in force while a new file is unusable; that is said once per change, and shown by a metric.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from sidecar.background import in_thread
from sidecar.errors import SecretUnavailableError

T = TypeVar("T")
PATIENCE = 1.0
"""Seconds that a request waits for a file; a network's file system may never answer."""
Stamp = tuple[tuple[int, int, int, int] | None, ...]

_log = structlog.get_logger(__name__)


class Pollable(Protocol):
    """What a `Watcher` looks after."""

    @property
    def name(self) -> str:
        """The key's path in the configuration."""
        ...

    @property
    def error(self) -> str | None:
        """Why the newest files cannot be used; None where they are in force."""
        ...

    def poll(self) -> bool:
        """Look at the files, and take them over where they changed; whether the value in force changed."""
        ...


class Watched(Generic[T]):
    """One value. `poll` may run in any thread; `value` is one reference that is replaced as a whole."""

    def __init__(self, name: str, files: Iterable[Path | None], load: Callable[[], T]) -> None:
        """`load` reads the files and raises `SecretUnavailableError` where they cannot be used."""
        self.name = name
        self.error: str | None = None
        self._files = tuple(file for file in files if file is not None)
        self._load = load
        self.current: T | None = None
        """What is in force, without an error where there is nothing."""
        self._lock = threading.Lock()
        self._refreshing: asyncio.Future[None] | None = None
        self._stamp: Stamp | None = None
        self.poll()

    @property
    def value(self) -> T:
        """What is in force.

        Raises:
            SecretUnavailableError: it could never be loaded.
        """
        if self.current is None:
            raise SecretUnavailableError(self.error or f"{self.name} was not read yet.")
        return self.current

    async def refresh(self) -> None:
        """Poll in a thread, once for everybody who asks for it meanwhile; it is waited for a second at most."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.ensure_future(self._refresh())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(in_thread(self.poll), PATIENCE)

    def poll(self) -> bool:
        """See `Pollable`."""
        if not self._lock.acquire(timeout=PATIENCE):
            return False  # another thread waits for a file system that does not answer
        try:
            return self._poll()
        finally:
            self._lock.release()

    def _poll(self) -> bool:
        stamp = self._look()
        if stamp == self._stamp:
            return False
        begun, self._stamp = self._stamp is not None, stamp
        try:
            value = self._load()
        except SecretUnavailableError as error:
            self._failed(error.detail, say=begun)
            return False
        except Exception as error:  # noqa: BLE001 (whatever a library makes of a file, the other files are looked after)
            self._failed(f"The file cannot be used ({type(error).__name__}).", say=begun)
            return False
        if self._look() != stamp:
            self._stamp = ()  # it changed while it was read: the next poll has the whole of it
            return False
        self.error = None
        if self.current == value:
            return False
        self.current = value
        return True

    def _look(self) -> Stamp:
        return tuple(_stamp(file) for file in self._files)

    def _failed(self, reason: str, *, say: bool) -> None:
        """What is wrong at the start is a mistake in the configuration, and told as one."""
        self.error = reason
        if say:
            kept = "the old one stays in use" if self.current is not None else "there is none in use"
            _log.warning(f"new secret file is unusable, {kept}", setting=self.name, reason=reason)


def _stamp(file: Path) -> tuple[int, int, int, int] | None:
    """Of what the path leads to in the end: Kubernetes swaps a symlink to a whole directory."""
    try:
        status = os.stat(file)  # noqa: PTH116 (follows symlinks, as it must)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_dev, status.st_ino, status.st_size


class Watcher:
    """All of a configuration's watched values. The service polls it every two seconds or so, off the event loop."""

    def __init__(self, items: Iterable[Pollable]) -> None:
        self._items = tuple(items)

    def poll(self) -> list[str]:
        """Look at every file once; the names of the values that changed."""
        return [item.name for item in self._items if item.poll()]

    def names(self) -> list[str]:
        """Every watched value's."""
        return [item.name for item in self._items]

    def errors(self) -> Mapping[str, str]:
        """By name, why a file as it is now cannot be used: for `camunda_sidecar_secret_file_errors`."""
        return {item.name: item.error for item in self._items if item.error is not None}
