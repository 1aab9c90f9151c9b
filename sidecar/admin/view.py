"""What the admin listener shows: of this process, or of all that are one sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from prometheus_client.registry import Collector

from sidecar.admin.readiness import Readiness
from sidecar.admin.status_model import Status
from sidecar.telemetry.history import Recent


class View(Protocol):
    """What the admin listener answers with."""

    async def not_ready(self) -> str | None:
        """Why traffic must not come, or None when it may."""
        ...

    async def metrics(self) -> Collector:
        """The numbers as they are now."""
        ...

    async def status(self) -> Status:
        """Everything, for a person."""
        ...

    async def recent(self, since: int) -> Recent:
        """The last hour; of routes, the frames from the number `since` on."""
        ...


class OwnView:
    """Of this process alone."""

    def __init__(
        self, registry: Collector, readiness: Readiness, status: Callable[[], Status], recent: Callable[[int], Recent]
    ) -> None:
        """`status` and `recent` are called whenever somebody asks."""
        self._recent = recent
        self._registry = registry
        self._readiness = readiness
        self._status = status

    async def not_ready(self) -> str | None:
        """Ask the latch."""
        return self._readiness.reason

    async def metrics(self) -> Collector:
        """The process's registry."""
        return self._registry

    async def status(self) -> Status:
        """Ask for it anew."""
        return self._status()

    async def recent(self, since: int) -> Recent:
        """Ask for it anew."""
        return self._recent(since)
