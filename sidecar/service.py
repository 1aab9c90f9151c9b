"""Puts a sidecar together, starts, reloads and drains it. Concrete classes of the rooms meet here and nowhere else."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from sidecar import __version__, background, systemd
from sidecar.admin.problems import changes, with_problems
from sidecar.admin.readiness import Readiness
from sidecar.admin.server import AdminServer
from sidecar.admin.status_model import ProblemStatus, Status
from sidecar.admin.view import OwnView, View
from sidecar.authorize import AuthorizeServer
from sidecar.background import in_thread, repeat, spawn
from sidecar.clock import Clock
from sidecar.config.restart import reloaded
from sidecar.config.settings import GRPC, Settings
from sidecar.credentials.build import RouteCredentials, build
from sidecar.credentials.file_watching import stamp
from sidecar.credentials.probe import explain
from sidecar.credentials.tls import client_context
from sidecar.descriptors import raise_limit, share_out
from sidecar.errors import ConfigurationError, Mistake
from sidecar.listeners import Listeners
from sidecar.proxy.guard import Guard
from sidecar.proxy.server import ProxyServer
from sidecar.status_report import describe, describe_store
from sidecar.telemetry.http import HttpStats
from sidecar.telemetry.log_writer import WRITER
from sidecar.telemetry.logs import configure_logging
from sidecar.telemetry.masking import mask_text
from sidecar.telemetry.metrics import Metrics
from sidecar.tokens.authorizer import TokenAuthorizer
from sidecar.tokens.manager import TokenManager
from sidecar.tokens.stores import build_store
from sidecar.traces import FLUSH_SECONDS, traces

if TYPE_CHECKING:
    from sidecar.grpc.server import GrpcServer

_LISTENERS = "listeners"
RELOAD_SECONDS = 30.0
"""How long the files of a new configuration are waited for: a network's file system may never answer."""
SECRET_POLL_SECONDS = 2.0
"""A changed secret file has to be noticed within five seconds."""

_log = structlog.get_logger(__name__)

SignalHandler = Callable[[signal.Signals], None]


def watch_signals(handler: SignalHandler) -> None:
    """Have `handler` called in the event loop for each signal of this process."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, handler, number)


def log_ready(settings: Settings, listeners: Listeners, **more: object) -> None:
    """Say that the sidecar serves, and where."""
    more |= {} if listeners.grpc is None else {"grpc": str(listeners.grpc)}
    more |= {} if listeners.authorize is None else {"authorize": str(listeners.authorize.address)}
    _log.info(
        "ready",
        version=__version__,
        configuration=settings.source,
        listen=str(listeners.proxy.address),
        admin=str(listeners.admin.address),
        routes=len(settings.routes),
        **more,
    )
    systemd.notify("READY=1")


async def _nothing() -> None:
    """Wait for nothing."""


@dataclass(frozen=True)
class Process:
    """What a service is told by the process that it runs in: by one of its own, or by one of several workers."""

    pid: int
    """Of the sidecar as a whole: signals are sent there."""
    started_at: float
    """In seconds since 1970."""
    watch_signals: Callable[[SignalHandler], None] = watch_signals
    announce: Callable[[Settings, Listeners], None] = log_ready
    """Say that the service is ready."""
    view: Callable[[View], View] = lambda own: own
    """What the admin listener shows, made from the view of this process."""
    before_close: Callable[[], Awaitable[None]] = _nothing
    """What a drained process waits for, its admin listener still answering."""


class Service:
    """One running sidecar, or one worker of it."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        clock: Clock,
        listeners: Listeners,
        process: Process | None = None,
    ) -> None:
        """Put it together; `run` serves.

        Args:
            settings: what is in force first.
            load: reads the configuration anew, for a reload; it raises `ConfigurationError`.
            clock: the only way to the time.
            listeners: the bound sockets; whoever has bound them closes them.
            process: None for a process of its own.
        """
        self.settings = settings
        self.clock = clock
        self._load = load
        self.listeners = listeners
        self._process = process = process or Process(os.getpid(), clock.wall())
        self._readiness = Readiness(_LISTENERS)
        self._http = HttpStats()
        self._metrics = Metrics(self._http, clock)
        self._store = build_store(settings.token_store, clock, self._metrics.tokens, client_context)
        self._tokens = TokenManager(self._store, clock, settings.token_requests, settings.refresh, self._metrics.tokens)
        self._metrics.tokens.read_state(self._tokens.snapshot, self._tokens.memory_lookups)
        self._store_status = describe_store(settings.token_store)
        self._credentials = build(settings, clock)
        self._token_authorizers: Mapping[str, TokenAuthorizer] = {}
        descriptors = share_out(raise_limit())
        self._traces = traces(clock)
        trace = self._traces.ended if self._traces is not None else None
        self.proxy = ProxyServer(stats=self._http, clock=clock, explain=_explain, descriptors=descriptors, trace=trace)
        self.grpc = _grpc_server(settings, self._http, clock)
        self.authorize = (
            AuthorizeServer(listeners.authorize, descriptors.authorize, self._http, clock)
            if listeners.authorize is not None
            else None
        )
        view = process.view(
            OwnView(self._metrics.registry, self._readiness, self._status, self._metrics.history.recent)
        )
        self.admin = AdminServer(listeners.admin, view, _admin_guard(settings), descriptors.admin, clock)
        self._file = Path(settings.source)
        self._file_stamp = stamp(self._file)
        self._stop = asyncio.Event()
        self._stop_at_once = asyncio.Event()
        self._reloads = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._problems: tuple[ProblemStatus, ...] = ()

    # --- life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. A second signal ends at once."""
        self._process.watch_signals(self._signalled)
        try:
            await self.start()
            await self._stop.wait()
            await self._drain()
            await self._process.before_close()
        finally:
            await self.close()

    async def start(self) -> None:
        """Serve on both listeners and be ready."""
        asyncio.get_running_loop().set_exception_handler(background.unhandled)
        _log_warnings(self.settings)
        await self._tokens.start()
        self._put_in_force(self.settings, self._credentials)
        await self.admin.start()
        await self.proxy.start(self.listeners.proxy)
        if self.grpc is not None and self.listeners.grpc is not None:
            await self.grpc.start(self.listeners.grpc)
        if self.authorize is not None:
            await self.authorize.start()
        spawn("secret_files", repeat("secret_files", self._poll_secrets, self.clock, SECRET_POLL_SECONDS), self._tasks)
        spawn("reload", repeat("reload", self._poll_configuration, self.clock, SECRET_POLL_SECONDS), self._tasks)
        if (watchdog := systemd.watchdog_seconds()) is not None:
            spawn("watchdog", repeat("watchdog", _feed_watchdog, self.clock, watchdog), self._tasks)
        spawn("problems", repeat("problems", self._look, self.clock, SECRET_POLL_SECONDS), self._tasks)
        self._readiness.done(_LISTENERS)
        self._metrics.config.loaded()
        gc.freeze()  # what is here stays for good: the collector need not look at it again and again
        self._process.announce(self.settings, self.listeners)

    async def close(self) -> None:
        """End what is still there, tokens last: they are saved by then."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.proxy.close()
        if self.grpc is not None:
            await self.grpc.close()
        if self.authorize is not None:
            await self.authorize.close()
        await self.admin.close()
        await self._tokens.close()
        if self._traces is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await in_thread(self._traces.close)

    async def _drain(self) -> None:
        """Go on serving for `drain_delay`, not ready any more; then serve what is left within `drain_timeout`."""
        self._readiness.drain()
        systemd.notify("STOPPING=1")
        _log.info("draining", delay=self.settings.drain_delay, timeout=self.settings.drain_timeout)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_delay):
                await self._stop_at_once.wait()
        drains = [plane.drain(self.settings.drain_timeout) for plane in (self.proxy, self.grpc) if plane is not None]
        if not all(await asyncio.gather(*drains)):
            _log.warning("drain_timeout is over; requests under way are cut off")
        _log.info("stopped")

    def _quit(self) -> None:
        """Drain and end, as at SIGTERM; asked again, it is done already."""
        if not self._stop.is_set():
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the sidecar as a whole: this process, or the parent of all workers."""
        if self._process.pid == os.getpid():
            self._signalled(number)
        else:
            os.kill(self._process.pid, number)

    def _signalled(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            spawn("reload", self.reload(), self._tasks)
            return
        if self._stop.is_set():
            _log.warning("second signal: ending at once", signal=number.name)
            self._stop_at_once.set()
            self.proxy.stop_waiting()
            if self.grpc is not None:
                self.grpc.stop_waiting()
        self._stop.set()

    # --- reload --------------------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """Take a new configuration into force as a whole, or say why not and keep the old one."""
        async with self._reloads:
            systemd.reloading()
            await self._reload()
            systemd.notify("READY=1")

    async def _reload(self) -> None:
        """Do so, and log what is wrong with it."""
        try:
            async with asyncio.timeout(RELOAD_SECONDS):
                self._file_stamp = await in_thread(partial(stamp, self._file))
                settings = await in_thread(self._load)
                credentials = await in_thread(partial(build, settings, self.clock))
        except (ConfigurationError, TimeoutError) as failure:
            silence = Mistake(self.settings.source, "", "names a file whose file system does not answer")
            error = failure if isinstance(failure, ConfigurationError) else ConfigurationError([silence])
            self._metrics.config.refused(mask_text(str(mistake)) for mistake in error.mistakes)
            for mistake in error.mistakes:
                _log.error("configuration not reloaded, the old one stays in force", mistake=str(mistake))
            return
        _log_warnings(settings)
        settings, waiting = reloaded(self.settings, settings)
        for key in waiting:
            _log.warning("a changed setting takes effect at the next start only", key=key)
        configure_logging(settings.logging)
        self._tokens.reconfigure(settings.token_requests, settings.refresh)
        self._put_in_force(settings, credentials)
        self.admin.guard = _admin_guard(settings)
        await self._tokens.end_quarantines()
        self._metrics.config.loaded()
        self._metrics.history.note("info", "The configuration was reloaded.")
        _log.info("configuration reloaded", source=settings.source, routes=len(settings.routes))

    def _put_in_force(self, settings: Settings, credentials: RouteCredentials) -> None:
        contexts = {name: partial(getattr, watched, "value") for name, watched in credentials.upstream_tls.items()}
        self.settings, self._credentials = settings, credentials
        self._metrics.config.secret_files(credentials.watcher.names(), credentials.watcher.errors())
        before, self._token_authorizers = self._token_authorizers, self._authorizers(settings, credentials)
        authorizers = {**credentials.authorizers, **self._token_authorizers}
        secrets = {name: partial(getattr, each, "value") for name, each in credentials.client_secrets.items()}
        tls = partial(getattr, credentials.listen_tls, "value") if credentials.listen_tls is not None else None
        self.admin.quit = self._quit if settings.admin.quitquitquit else None
        self.proxy.configure(settings, authorizers, contexts, secrets, tls)
        if self.authorize is not None:
            self.authorize.configure(settings, authorizers)
        if self.grpc is not None and settings.grpc is not None:
            self.grpc.configure(settings, authorizers[GRPC], partial(getattr, credentials.grpc_tls, "value"))
        elif self.grpc is not None:
            spawn("reload", self._end_grpc(self.grpc), self._tasks)
        self._tokens.retire(before.values())

    async def _end_grpc(self, grpc: GrpcServer) -> None:
        """A reload has taken the section away."""
        self.grpc = None
        await grpc.drain(self.settings.drain_timeout)

    def _authorizers(self, settings: Settings, credentials: RouteCredentials) -> Mapping[str, TokenAuthorizer]:
        return {
            route.name: self._tokens.authorizer(source, credential=route.credential, audience=route.audience)
            for route in settings.all_routes
            if (source := credentials.sources.get(route.name)) is not None
        }

    # --- what happens meanwhile ----------------------------------------------------------------------------------

    async def _poll_configuration(self) -> None:
        """Reload where the file has changed, also by a swap of ConfigMap's symbolic links, and that is wanted."""
        found = await in_thread(partial(stamp, self._file)) if self.settings.reload_on_change else None
        if found not in {None, self._file_stamp}:
            self._signal(signal.SIGHUP)

    async def _poll_secrets(self) -> None:
        watcher = self._credentials.watcher
        changed = await watcher.poll()
        self._metrics.config.secret_files(watcher.names(), watcher.errors())
        for name in changed:
            _log.info("secret file changed", setting=name)
            self._metrics.history.note("info", f"The file of {name} was changed, and is in use.")
        if changed:
            self._tokens.secrets_changed()

    async def _look(self) -> None:
        """Look for problems and at counters, so that they have the time when it was and not when somebody asked."""
        self._status()

    def _status(self) -> Status:
        """Return everything that `/status` tells of this process."""
        wall, config, fault = self.clock.wall(), self._metrics.config, self._store.fault
        process = Status(
            pid=self._process.pid,
            version=__version__,
            started_at=self._process.started_at,
            uptime=wall - self._process.started_at,
            ready=self._readiness.ready,
            reason=self._readiness.reason,
            listen=str(self.listeners.proxy.address),
            admin=str(self.listeners.admin.address),
            configuration=self.settings.source,
            drain=self.settings.drain_delay + self.settings.drain_timeout,
            store=replace(self._store_status, up=fault is None, detail=fault.reason if fault is not None else ""),
            reload_refused_at=config.refused_at,
            mistakes=config.mistakes,
            secret_files=dict(config.unusable),
            log_lines_dropped=WRITER.dropped,
            log_lines_dropped_at=WRITER.dropped_at,
        )
        snapshot = self._tokens.snapshot()
        self._metrics.history.sample(snapshot.issuers)
        whole = describe(process, self.settings, self._http, self._metrics.history, snapshot)
        status = with_problems(whole, self._problems)
        for kind, text in changes(self._problems, status.problems, wall):
            self._metrics.history.note(kind, text)
        self._problems = status.problems
        return status


def _grpc_server(settings: Settings, http: HttpStats, clock: Clock) -> GrpcServer | None:
    if settings.grpc is None:
        return None
    from sidecar.grpc.server import GrpcServer  # noqa: PLC0415 (grpcio is an extra, and slow to import)

    return GrpcServer(stats=http.route(GRPC), guard_rejections=http.guard_rejections, clock=clock)


async def _feed_watchdog() -> None:
    systemd.notify("WATCHDOG=1")


def _log_warnings(settings: Settings) -> None:
    for warning in settings.warnings:
        _log.warning("the configuration has a weakness", what=str(warning))


async def _explain(error: OSError, url: str, proxy: str | None) -> str:
    return (await explain(error, url, proxy)).sentence


def _admin_guard(settings: Settings) -> Guard:
    return Guard(settings.guard.hosts)
