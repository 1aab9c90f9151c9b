"""A value that is made from files and made again when they change: a secret, a signing key, a TLS context.

What is in force stays in force while a new file is unusable; that is said once per change, and shown by a metric.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import structlog

from sidecar.background import in_thread
from sidecar.errors import SecretUnavailableError
from sidecar.secret import SecretSource

T = TypeVar("T")
Stamp = tuple[tuple[int, int, int, int] | None, ...]

PATIENCE: Final = 2.0
"""Seconds for which a file is waited for; a network's file system may never answer."""
SILENT: Final = "The file system does not answer."

_log = structlog.get_logger(__name__)


class Watched(Generic[T]):
    """One value. `poll` may run in any thread; `current` is one reference that is replaced as a whole."""

    def __init__(self, name: str, files: Iterable[Path | None], load: Callable[[], T]) -> None:
        """Load the value for the first time.

        Args:
            name: the setting's path in the configuration.
            files: what the value is made from; None for one that is not configured.
            load: reads the files, and raises `SecretUnavailableError` where they cannot be used.
        """
        self.name = name
        self.current: T | None = None
        """What is in force; None where no file could be used yet."""
        self._files = tuple(file for file in files if file is not None)
        self._load = load
        self._error: str | None = None
        self._is_silent = False
        self._lock = threading.Lock()
        self._refreshing: asyncio.Future[None] | None = None
        self._stamp: Stamp | None = None
        self.poll()

    @property
    def value(self) -> T:
        """What is in force.

        Raises:
            SecretUnavailableError: no file could be used yet.
        """
        if self.current is None:
            raise SecretUnavailableError(self.error or f"{self.name} was not read yet.")
        return self.current

    @property
    def error(self) -> str | None:
        """Why the newest files cannot be used; None where they are in force."""
        return SILENT if self._is_silent else self._error

    @property
    def may_change(self) -> bool:
        """Whether there are files to watch."""
        return bool(self._files)

    async def refresh(self) -> None:
        """Poll in a thread, once for everybody who asks for it meanwhile; give up waiting after `PATIENCE`."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.ensure_future(self._poll_in_time())
        await asyncio.shield(self._refreshing)

    async def _poll_in_time(self) -> None:
        try:
            await asyncio.wait_for(in_thread(self.poll), PATIENCE)
        except TimeoutError:
            if not self._is_silent:
                _log.warning("a secret file's file system does not answer; it is asked again", setting=self.name)
            self._is_silent = True

    def poll(self) -> bool:
        """Look at the files, and load them if they changed; whether the value in force changed. Blocking."""
        if not self._lock.acquire(timeout=PATIENCE):
            return False  # another thread waits for a file system that does not answer
        try:
            has_changed = self._poll()
            if self._is_silent:
                _log.info("a secret file's file system answers again", setting=self.name)
            self._is_silent = False
        finally:
            self._lock.release()
        return has_changed

    def _poll(self) -> bool:
        seen = self._look()
        if seen == self._stamp:
            return False
        is_first, self._stamp = self._stamp is None, seen
        try:
            value = self._load()
        except Exception as error:  # noqa: BLE001 (whatever a library makes of a file, the other files are watched on)
            is_known = isinstance(error, SecretUnavailableError)
            self._error = str(error) if is_known else f"The file cannot be used ({type(error).__name__})."
            if not is_first:  # at the start, it is told as a mistake in the configuration
                _log.warning(
                    "new secret file is unusable, the old one stays in use"
                    if self.current is not None
                    else "new secret file is unusable, there is none in use",
                    setting=self.name,
                    reason=self._error,
                )
            return False
        if self._look() != seen:
            self._stamp = ()  # a file changed while it was read: the next poll reads the whole of it
            return False
        self._error = None
        if self.current == value:
            return False
        self.current = value
        return True

    def _look(self) -> Stamp:
        return tuple(stamp(file) for file in self._files)


def setting_of(credential: str, key: str, source: SecretSource) -> str:
    """Return the path of the setting that a credential's secret comes from."""
    return f"credentials.{credential}.{key}" + ("_file" if source.file is not None else "")


def stamp(file: Path) -> tuple[int, int, int, int] | None:
    """What changes with a file: of that to which the path leads in the end, as Kubernetes swaps symbolic links."""
    try:
        status = os.stat(file)  # noqa: PTH116 (follows symbolic links, as it must)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_dev, status.st_ino, status.st_size


class Watcher:
    """All watched values of a configuration. The service polls them every two seconds."""

    def __init__(self, items: Iterable[Watched[Any]]) -> None:
        self._items = tuple(items)
        self._seen = [item.current for item in self._items]

    async def poll(self) -> list[str]:
        """Look at every file, and return the names of the values that changed since the last call.

        Each value has a thread of its own: files on another file system are not held up by one that does not answer.
        """
        await asyncio.gather(*(item.refresh() for item in self._items if item.may_change))
        before, self._seen = self._seen, [item.current for item in self._items]
        return [item.name for item, was in zip(self._items, before, strict=True) if item.current is not was]

    def names(self) -> list[str]:
        """The name of every watched value."""
        return [item.name for item in self._items]

    def errors(self) -> Mapping[str, str]:
        """By name, why a file as it is now cannot be used: for `camunda_sidecar_secret_file_errors`."""
        return {item.name: item.error for item in self._items if item.error is not None}
