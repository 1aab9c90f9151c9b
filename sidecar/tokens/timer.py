"""Something to do at a moment of the boot clock, by the Clock, so that a test's time is the only time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from structlog.contextvars import unbind_contextvars

from sidecar import background
from sidecar.clock import Clock


class Timer:
    """It is set to at most one moment; an earlier setting is replaced."""

    def __init__(self, clock: Clock, action: Callable[[], object]) -> None:
        self.at: float | None = None
        """The moment it is set to, in seconds of the boot clock."""
        self._clock = clock
        self._action = action
        self._task: asyncio.Task[None] | None = None

    def set(self, at: float | None) -> None:
        """Act at this moment, or at once if it has passed; None: not at all."""
        if at == self.at:
            return
        if self._task is not None:
            self._task.cancel()
        self.at, self._task = at, None
        if at is not None:
            self._task = asyncio.get_running_loop().create_task(self._wait(at))

    async def _wait(self, at: float) -> None:
        unbind_contextvars("request_id")  # what happens then is no longer that request's doing
        while (ahead := at - self._clock.boottime()) > 0:
            await self._clock.sleep(ahead)
        self.at = self._task = None
        try:
            self._action()
        except Exception as error:  # noqa: BLE001 (nobody awaits a timer)
            background.failed("tokens", error)
