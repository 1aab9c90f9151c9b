"""One worker: today's service on sockets that the supervisor has bound, and orders instead of signals."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import structlog

from sidecar.admin.server import AdminServer
from sidecar.admin.status_model import Status
from sidecar.clock import Clock
from sidecar.config.settings import Settings, UnixAddress
from sidecar.service import Service
from sidecar.telemetry.logs import start_writer
from sidecar.workers.admin import WholeAdminServer
from sidecar.workers.siblings import Siblings
from sidecar.workers.sockets import Listeners

READY = b"\x01"
LoopFactory = Callable[[], asyncio.AbstractEventLoop] | None

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Seat:
    """What a worker is given."""

    index: int
    count: int
    listeners: Listeners
    control: socket.socket
    """The supervisor's orders: each byte is a signal's number. Its end is the supervisor's. `READY` goes back."""
    directory: Path
    """Where the admin sockets of all but the first are."""
    supervisor: int
    """Its pid, which is the sidecar's."""
    started_at: float

    def admin_path(self, index: int) -> Path:
        """The admin socket of another worker than the first."""
        return self.directory / f"{index}.sock"


def share_of(settings: Settings, index: int, count: int) -> Settings:
    """The settings of one worker: limits are the sidecar's as a whole, and one of them tells the warnings."""
    limits = msgspec.structs.replace(settings.limits, connections=-(-settings.limits.connections // count))
    return replace(settings, limits=limits, warnings=settings.warnings if index == 0 else ())


class WorkerService(Service):
    """See the module."""

    def __init__(self, settings: Settings, load: Callable[[], Settings], clock: Clock, seat: Seat) -> None:
        self._seat = seat
        share = share_of(settings, seat.index, seat.count)
        super().__init__(share, lambda: share_of(load(), seat.index, seat.count), clock)
        self.listen = seat.listeners.listen
        self.orphaned = False

    # --- instead of a lone process's ------------------------------------------------------------------------------

    async def _listen(self) -> None:
        seat = self._seat
        own = seat.listeners.admin_sockets if seat.index == 0 else ()
        await self._bind("admin.listen", self.admin.address, self.admin.start(own))
        await self._bind("listen", self.listen, self.proxy.start(self.listen, seat.listeners.shares[seat.index]))

    def _announce(self) -> None:
        _log.info("worker is ready")
        with suppress(OSError):
            self._seat.control.send(READY)

    def _admin_server(self) -> AdminServer:
        seat = self._seat
        if seat.index == 0:
            siblings = Siblings({index: seat.admin_path(index) for index in range(1, seat.count)})
            return self._build_admin(partial(WholeAdminServer, siblings), seat.listeners.admin)
        return self._build_admin(AdminServer, UnixAddress(seat.admin_path(seat.index)))

    def _status(self) -> Status:
        seat = self._seat
        uptime = self.clock.wall() - seat.started_at
        return msgspec.structs.replace(
            super()._status(), pid=seat.supervisor, started_at=seat.started_at, uptime=uptime
        )

    def _watch_signals(self) -> None:
        self._seat.control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._seat.control, self._obey)

    def _obey(self) -> None:
        try:
            orders = self._seat.control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            orders = b""
        for order in orders:
            if order == signal.SIGHUP:
                self._spawn("reload", self.reload())
            else:
                self._terminate(signal.Signals(order))
        if not orders:
            self.orphaned = True
            asyncio.get_running_loop().remove_reader(self._seat.control)
            if not self._stop.is_set():
                _log.warning("the supervisor is gone; draining")
                self._terminate(signal.SIGTERM)


def serve(
    settings: Settings, load: Callable[[], Settings], clock: Clock, seat: Seat, loop_factory: LoopFactory
) -> None:
    """Be this worker until ordered to end, or until the supervisor is gone.

    Raises:
        ListenError: its admin socket cannot be bound.
    """
    start_writer()
    structlog.contextvars.bind_contextvars(worker=seat.index)

    async def run() -> bool:
        service = WorkerService(settings, load, clock, seat)
        await service.run()
        return service.orphaned

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        orphaned = runner.run(run())
    if orphaned:
        shutil.rmtree(seat.directory, ignore_errors=True)  # nobody else is left to do it
