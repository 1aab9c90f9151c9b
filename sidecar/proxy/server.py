"""The data plane as a whole: its connections, its routing table, its time limits, its drain."""

from __future__ import annotations

import asyncio
import contextlib
import secrets as random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import structlog

from sidecar import background
from sidecar.clock import Clock
from sidecar.config.settings import Route, Settings
from sidecar.descriptors import Descriptors, share_out
from sidecar.dial import Dialer, Resolver
from sidecar.errors import Problem
from sidecar.listener import Listener
from sidecar.proxy import semantics, transport
from sidecar.proxy.authorizer import Authorizer
from sidecar.proxy.clients import ANYBODY, Clients
from sidecar.proxy.connect import Connector, Context, Explain, plainly
from sidecar.proxy.context import Record
from sidecar.proxy.downstream import Downstream, Server
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.guard import Guard, guard_of
from sidecar.proxy.pool import Pool
from sidecar.proxy.routing import CompiledRoute, Request, RoutingTable
from sidecar.proxy.tls import TlsLayer
from sidecar.proxy.token_endpoint import Endpoint, TokenExchange
from sidecar.proxy.upstream import UpstreamConnection
from sidecar.secret import Secret
from sidecar.telemetry.http import CLIENT_OUTCOMES, UNROUTED, HttpStats

_SWEEP_SECONDS = 0.25
_BACKLOG = 4096
_UNLIMITED = share_out(1 << 30)
KEEP_ALIVE_SECONDS = 300.0
DRAIN_KEEP_ALIVE_SECONDS = 1.0
"""Idle connections are not closed at once: a client that has just read a response may send the next request."""
_DRAIN_LOOK_SECONDS = 0.005
_DRAIN_LAST_SHARE = 0.1
"""Of the drain's time limit: if clients never pause, the listener is closed so long before it ends."""
_DRAIN_LOOKS = 5
"""A connection takes a few turns of the loop from the kernel to its protocol; a single look could miss it."""
_LOGS_FROM = {"all": 0, "errors": 400, "none": 400}

_REJECTIONS = frozenset({401, 403, 421})
_TRACE_CONTEXT = ("traceparent", "tracestate")
Trace = Callable[[Record, Mapping[str, str]], None]
_LONGEST_PATH = 1024
"""Bytes of a path that a log line shows."""
_log = structlog.get_logger(__name__)


class ProxyServer(Server):
    """Serves one listener; one for each process."""

    def __init__(
        self,
        *,
        stats: HttpStats,
        clock: Clock,
        explain: Explain = plainly,
        resolver: Resolver | None = None,
        descriptors: Descriptors = _UNLIMITED,
        trace: Trace | None = None,
    ) -> None:
        """`trace` is given each request that has ended, and its W3C trace context by field name."""
        self.stats = stats
        self.clock = clock
        self.monotonic = clock.monotonic
        self.wall = clock.wall
        self.draining = False
        self.keep_alive_seconds = KEEP_ALIVE_SECONDS
        """How long a connection is kept without a request."""
        self.table = RoutingTable((), Guard())
        self._clients: Clients
        self._endpoint: Endpoint | None = None
        self._tls: Context | None = None
        self._shaking: dict[TlsLayer, asyncio.TimerHandle] = {}
        """Connections in their TLS handshake, each with its time limit."""
        self.header_bytes = self.replay_bytes = 64 << 10
        self.head_timeout = 10.0
        self._explain = explain
        self._resolver = resolver or Resolver(clock)
        self._trace: Trace | None = trace
        self._access = "errors"
        self.logs_from = self._logged_from = _LOGS_FROM["errors"]
        """The lowest status of an upstream's response that is told of."""
        self._descriptors = descriptors
        self._max_connections = 10_000
        self._is_full = False
        self.connections: set[Downstream] = set()
        """Of clients, those that are refused and not gone yet included."""
        self._servers: list[Any] = []  # an asyncio.Server has a tuple of sockets, uvloop's has a list
        self._sweeper: asyncio.TimerHandle | None = None
        self._stopped_waiting = False
        self._request_id_line = b"X-Request-ID: " + random.token_hex(8).encode() + b"-%x\r\n"
        self._request_ids = 0

    # --- life ----------------------------------------------------------------------------------------------------

    def configure(
        self,
        settings: Settings,
        authorizers: Mapping[str, Authorizer],
        contexts: Mapping[str, Context],
        secrets: Mapping[str, Callable[[], Secret]] | None = None,
        tls: Context | None = None,
    ) -> None:
        """Put a configuration in force; requests that are under way end by the one that was in force at their begin.

        `authorizers` are by route name, and so are `contexts`, the TLS contexts of https upstreams; `secrets` are by
        client name, and `tls` is the context for new connections of clients.
        """
        limits = settings.limits
        self.header_bytes, self.replay_bytes = limits.header_bytes, limits.replay_bytes
        self.head_timeout = limits.head_timeout
        self._max_connections = min(limits.connections, self._descriptors.clients)
        if self._max_connections < limits.connections:
            _log.warning(
                "limits.connections cannot be reached with this process's file descriptors: raise their limit",
                configured=limits.connections,
                in_force=self._max_connections,
            )
        self._access = settings.logging.access
        self._logged_from = _LOGS_FROM[self._access]
        self.logs_from = 0 if self._trace is not None else self._logged_from
        old = self.table
        self.stats.route(UNROUTED)
        routes = [self._compile(r, authorizers[r.name], contexts.get(r.name, _plain)) for r in settings.routes.values()]
        self._tls = tls
        self._clients = Clients(settings, secrets or {})
        for name in (*settings.clients, ANYBODY) if settings.clients or settings.token_endpoint else ():
            for outcome in CLIENT_OUTCOMES:
                self.stats.clients[name, outcome] += 0
        self._endpoint = None
        if settings.token_endpoint is not None:
            self._endpoint = Endpoint(settings, self._clients, authorizers, self.stats, self.clock)
        self.table = RoutingTable(routes, guard_of(settings), self._endpoint.route if self._endpoint else None)
        for route in old.routes:
            route.pool.close()

    def _compile(self, route: Route, authorizer: Authorizer, context: Context) -> CompiledRoute:
        stats = self.stats.route(route.name)
        dialer = Dialer(route.upstream.host, route.upstream.port, route.proxy, self._resolver, self.clock)
        connect = Connector(route.upstream, context, dialer, self._explain, self.clock)

        async def dial() -> UpstreamConnection:
            return await connect(make)

        is_tls = route.upstream.scheme == "https"
        pool = Pool(dial, stats, self.clock, route.timeouts.connect, self._room, spread=is_tls)
        compiled = CompiledRoute(route, authorizer, pool, stats)

        def make() -> UpstreamConnection:
            return UpstreamConnection(compiled, self.header_bytes, self.clock.monotonic())

        return compiled

    async def start(self, listener: Listener) -> None:
        """Serve the clients that connect to `listener`."""
        for sock in listener.sockets:
            transport.keep_alive(sock)
        self._servers = await listener.serve(self._accepted, _BACKLOG)
        self._sweep_again()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 (the caller's own limit, not a cancellation)
        """Serve until nothing is left to serve, then stop listening; False when `timeout` seconds were not enough.

        Requests are served as before, those of new connections included, but each response is the last one on its
        connection and says so (`Connection: close`, RFC 9112, 9.6), and connections without a request are closed.
        """
        self.draining = True
        self.keep_alive_seconds = DRAIN_KEEP_ALIVE_SECONDS
        now = self.monotonic()
        for connection in self.connections:
            connection.drain(now)
        end = asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(end):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(end - timeout * _DRAIN_LAST_SHARE):
                        await self._until_quiet()
                for _ in range(_DRAIN_LOOKS):
                    if self._is_awaited():
                        await self.clock.sleep(_DRAIN_LOOK_SECONDS)
                self._stop_listening()
                await self._until_quiet()
        except TimeoutError:
            return False
        return True

    async def _until_quiet(self) -> None:
        """Return when there was nothing to serve at several looks in a row.

        The loop does not tell of a connection that waits in the kernel; and so the end of a request costs nothing,
        however many connections there are.
        """
        looks = 0
        while looks < _DRAIN_LOOKS and not self._stopped_waiting:
            await self.clock.sleep(_DRAIN_LOOK_SECONDS)
            looks = 0 if self._is_busy() else looks + 1

    def _is_busy(self) -> bool:
        return (
            any(route.in_flight for route in self.stats.routes.values())
            or any(connection.is_busy() for connection in self.connections)
            or bool(self._shaking)
            or self._is_awaited()
        )

    def _is_awaited(self) -> bool:
        """Whether a connection waits in the kernel to be accepted: closing the listener would reset it."""
        return any(transport.is_readable(sock) for server in self._servers for sock in server.sockets)

    def stop_waiting(self) -> None:
        """End a drain now, though requests may be under way."""
        self._stopped_waiting = True

    def _stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        self._servers = []

    async def close(self) -> None:
        """End everything that is still there."""
        self._stop_listening()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for layer in list(self._shaking):
            layer.abort()
        for connection in list(self.connections):
            if connection.is_idle():
                connection.transport.close()
            else:
                connection.cut_off()
        for route in self.table.routes:
            await route.pool.shut_down()
        self._resolver.close()
        # One turn of the loop for the callbacks of what was closed.
        await self.clock.sleep(0)

    # --- the connections' side -----------------------------------------------------------------------------------

    def admit(self, connection: Downstream) -> bool:
        """Whether there is room for one more; a connection that is refused is kept for a while, to be told so."""
        self.connections.add(connection)
        count = len(self.connections)
        if count <= self._max_connections:
            return True
        self._say_full("limits.connections")
        if count > self._max_connections + self._descriptors.refused:
            connection.transport.abort()
        return False

    def _room(self) -> int:
        """How many more connections to upstreams may be opened."""
        used = sum(sum(route.connections()) for route in self.stats.routes.values())
        room = self._descriptors.proxy - len(self.connections) - used
        if room <= 0:
            self._say_full("file descriptors")
        return room

    def _say_full(self, limit: str) -> None:
        """Log it once, until most of the connections are gone again."""
        if not self._is_full:
            self._is_full = True
            _log.warning("connections are refused", limit=limit, clients=len(self.connections))

    def forget(self, connection: Downstream) -> None:
        """Take note that `connection` is closed."""
        self.connections.discard(connection)

    def _accepted(self) -> asyncio.Protocol:
        """Return the protocol of a new connection: a client's own, or TLS below it."""
        if self._tls is None:
            return cast("asyncio.Protocol", Downstream(self))
        context = self._tls()
        assert context is not None
        layer = TlsLayer(cast("asyncio.Protocol", Downstream(self)), context, None)
        is_full = len(self._shaking) >= self._max_connections
        self._shaking[layer] = asyncio.get_running_loop().call_later(0.0 if is_full else self.head_timeout, layer.abort)
        layer.established.add_done_callback(partial(self._shaken, layer))
        return cast("asyncio.Protocol", layer)

    def _shaken(self, layer: TlsLayer, established: asyncio.Future[None]) -> None:
        """Take note of a handshake's end; a client that is not let in is told of in the log."""
        self._shaking.pop(layer).cancel()
        error = TimeoutError("not in time") if established.cancelled() else established.exception()
        if error is not None and self._access != "none":
            reason = getattr(error, "reason", None) or str(error)
            _log.info("TLS handshake failed", reason=reason, detail=getattr(error, "verify_message", ""))

    def admitted(self, client: Downstream, request: Request) -> Exchange | Problem:
        """The exchange of a request for the token endpoint, or of a client that has to be known; or why there is none.

        That is what the table refuses with a reason that the guard alone cannot judge.
        """
        assert request.refusal is not None
        reason, refusal = request.refusal
        layer: object = client.transport
        subject = layer.peer_subject() if isinstance(layer, TlsLayer) else frozenset()
        if self._endpoint is not None and self._endpoint.takes(request):
            return TokenExchange(client, self, request, subject, self._endpoint)
        if reason != "client":
            return refusal
        try:
            found = self._clients.of(request.received, subject)
        except Problem as error:
            return error
        name = found.name if found is not None else ANYBODY
        problem = self._clients.refusal(name, request) if found is not None else refusal
        self.stats.clients[name, "allowed" if problem is None else "refused"] += 1
        if problem is not None:
            return problem
        exchange = Exchange(client, self, request, self.monotonic())
        exchange.client_name = name
        return exchange

    def request_id_line(self) -> bytes:
        """A header line with an id that no other request has."""
        self._request_ids += 1
        return self._request_id_line % self._request_ids

    def new_request_id(self) -> str:
        """An id that no other request has."""
        return semantics.request_id(self.request_id_line())

    def request_refused(self, error: Problem, request_id: str, request: Request | None = None) -> None:
        """Count and log a request that is answered without an exchange, or what is none."""
        if request is not None and request.refusal is not None and request.refusal[0] and error.status in _REJECTIONS:
            self.stats.guard_rejections[request.refusal[0]] += 1
        record = Record(request, error.status, "sidecar", 0.0, request_id, error, "")
        self.stats.route(_route_of(request)).finished(_method_of(request), error.status, "sidecar", 0.0)
        self._log_request("request refused", record)
        self._end_trace(record)

    def exchange_ended(self, record: Record) -> None:
        """Log it, unless its client went away before a response that would have been logged; remember an error."""
        request, error = record.request, record.error
        if request is not None and request.route is not None:
            code = error.code if error is not None else ""
            request.route.stats.erred(self.wall(), record.status, record.source, code, record.request_id)
        if error is not None or record.status >= self._logged_from:
            self._log_request("request", record)
        self._end_trace(record)

    def _end_trace(self, record: Record) -> None:
        """Have its spans made, where that is wanted: the client has its answer by now."""
        if self._trace is not None and record.request is not None:
            found = {name: semantics.field_values(record.request.received, name.encode()) for name in _TRACE_CONTEXT}
            self._trace(record, {name: b",".join(values).decode("latin-1") for name, values in found.items() if values})

    def _log_request(self, event: str, record: Record) -> None:
        """Write a line of the access log, if one is kept. The query may hold anything, and is left out."""
        if self._access == "none":
            return
        request, error = record.request, record.error
        _log.info(
            event,
            route=_route_of(request),
            method=_method_of(request),
            path=_shown(request.path) if request is not None else None,
            status=record.status,
            source=record.source,
            milliseconds=round(record.seconds * 1000, 1),
            request_id=record.request_id,
            **({"client": record.client} if record.client else {}),
            **({"code": error.code, "detail": error.detail} if error is not None else {}),
        )

    # --- time ----------------------------------------------------------------------------------------------------

    def _sweep_again(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep_again)
        self.sweep()

    def sweep(self) -> None:
        """Tell the connections whose time limit is over, and close upstream connections that were idle for too long."""
        now = self.clock.monotonic()
        for connection in [c for c in self.connections if c.deadline <= now]:
            try:
                connection.expired()
            except Exception as error:  # noqa: BLE001 (the others' time limits go on)
                background.failed("sweep", error)
                self.connections.discard(connection)
                connection.transport.abort()
        for route in self.table.routes:
            route.pool.reap()
        if self._is_full and len(self.connections) < self._max_connections // 2:
            self._is_full = False


def _shown(path: bytes) -> str:
    """Return the path for a log line, cut: a client's long ones must not drive other lines out of the log's queue."""
    return path.decode("ascii") if len(path) <= _LONGEST_PATH else path[:_LONGEST_PATH].decode("ascii") + "…"


def _plain() -> None:
    """Give no TLS context."""


def _route_of(request: Request | None) -> str:
    return request.route.name if request is not None and request.route is not None else UNROUTED


def _method_of(request: Request | None) -> str:
    return request.method.label if request is not None else "other"
