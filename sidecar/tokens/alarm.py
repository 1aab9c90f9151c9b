"""Something to do at a moment of the boot clock, by the Clock, so that a test's time is the only time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar import background
from sidecar.clock import Clock


class Alarm:
    """At most one moment at a time; an earlier setting is replaced."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._task: asyncio.Task[None] | None = None

    def set(self, at: float) -> None:
        """Ring at this moment, or at once if it has passed."""
        self.clear()
        self._task = asyncio.get_running_loop().create_task(self._wait(at))

    def clear(self) -> None:
        """Do not ring."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    @property
    def is_set(self) -> bool:
        """Whether it will ring."""
        return self._task is not None

    async def _wait(self, at: float) -> None:
        while (ahead := at - self._clock.boottime()) > 0:
            await self._clock.sleep(ahead)
        self._task = None
        try:
            self._ring()
        except Exception as error:  # noqa: BLE001 (nobody awaits an alarm)
            background.failed("tokens", error)
