"""One worker: a service on sockets that the supervisor has bound, with the supervisor's orders for signals."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from msgspec.structs import replace

from sidecar.admin.view import View
from sidecar.clock import Clock
from sidecar.config.settings import Settings, TcpAddress, UnixAddress
from sidecar.listener import Listener, listening
from sidecar.listeners import Listeners
from sidecar.service import Process, Service, SignalHandler
from sidecar.telemetry.logs import start_writer
from sidecar.workers.peers import Peer, RememberingView, WholeView, metrics_of, socket_of, until_gone

READY = b"\x01"
LoopFactory = Callable[[], asyncio.AbstractEventLoop] | None

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class WorkerSpec:
    """What the supervisor gives a worker."""

    index: int
    count: int
    proxy: Listener
    authorize: Listener | None
    """All workers have its sockets, and serve."""
    grpc: TcpAddress | None
    admin: Listener
    """Where the sidecar is asked; the first worker answers."""
    control: socket.socket
    """The supervisor's orders: each byte is a signal's number. It ends with the supervisor. `READY` goes back."""
    directory: Path
    """Where the admin sockets of the other workers are."""
    supervisor: int
    """Its pid, which is the sidecar's."""
    started_at: float
    """In seconds since 1970."""


class Orders:
    """The signals of a worker, which its supervisor sends."""

    def __init__(self, control: socket.socket) -> None:
        self.supervisor_is_gone = False
        self._control = control

    def watch(self, handler: SignalHandler) -> None:
        """Have `handler` called for each order; the end of the supervisor is an order to end."""
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._receive, handler)

    def _receive(self, handler: SignalHandler) -> None:
        try:
            orders = self._control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            orders = b""
        for order in orders:
            handler(signal.Signals(order))
        if not orders:
            self.supervisor_is_gone = True
            asyncio.get_running_loop().remove_reader(self._control)
            _log.warning("the supervisor is gone")
            handler(signal.SIGTERM)

    def say_ready(self, _settings: Settings, _listeners: Listeners) -> None:
        """Tell the supervisor that this worker serves."""
        _log.info("worker is ready")
        with suppress(OSError):
            self._control.send(READY)


def share_of(settings: Settings, index: int, count: int) -> Settings:
    """Return the settings of one worker: its share of the connections, and the warnings for the first one only."""
    limits = replace(settings.limits, connections=-(-settings.limits.connections // count))
    return replace(
        settings,
        limits=limits,
        warnings=settings.warnings if index == 0 else (),
        reload_on_change=settings.reload_on_change and index == 0,
    )


def serve(
    settings: Settings, load: Callable[[], Settings], clock: Clock, spec: WorkerSpec, loop_factory: LoopFactory
) -> None:
    """Run this worker until it is ordered to end, or until the supervisor is gone.

    Raises:
        ListenError: its admin socket cannot be bound.
    """
    start_writer()
    structlog.contextvars.bind_contextvars(worker=spec.index)
    share = partial(share_of, index=spec.index, count=spec.count)
    orders = Orders(spec.control)
    peers = [] if spec.index else [Peer(index, spec.directory) for index in range(1, spec.count)]

    def view(own: View) -> View:
        remembering = RememberingView(own, metrics_of(spec.directory, spec.index))
        return WholeView(remembering, peers) if spec.index == 0 else remembering

    process = Process(
        spec.supervisor, spec.started_at, orders.watch, orders.say_ready, view, partial(until_gone, peers, clock)
    )

    async def run(admin: Listener) -> None:
        listeners = Listeners(spec.proxy, admin, spec.authorize, spec.grpc)
        await Service(share(settings), lambda: share(load()), clock, listeners, process).run()

    with ExitStack() as stack:
        admin = spec.admin
        if spec.index:
            own = UnixAddress(socket_of(spec.directory, spec.index))
            [admin] = stack.enter_context(listening("admin.listen", own))
        stack.enter_context(asyncio.Runner(loop_factory=loop_factory)).run(run(admin))
    if orders.supervisor_is_gone:
        shutil.rmtree(spec.directory, ignore_errors=True)  # nobody else is left to do it
