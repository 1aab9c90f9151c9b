"""The admin listener: metrics, probes, status, and the status page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from sidecar.admin import web
from sidecar.admin.access import decide
from sidecar.admin.eviction import EvictingFactory
from sidecar.admin.live import Feed
from sidecar.admin.page import load_page
from sidecar.admin.view import View
from sidecar.clock import Clock
from sidecar.errors import BadRequestError, MethodNotAllowedError, NoRouteError, Problem
from sidecar.listener import Listener
from sidecar.proxy.guard import Guard
from sidecar.proxy.problem import document, fields
from sidecar.telemetry.exposition import expose

log = structlog.get_logger(__name__)

BACKLOG = 128
KEEPALIVE = 30.0
READ_METHODS = frozenset({"GET", "HEAD"})
HARDENING = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "camunda-sidecar",
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class AdminServer:
    """Listens apart from the data plane, so that it answers while that is at its limit of connections."""

    def __init__(self, listener: Listener, view: View, guard: Guard, connections: int, clock: Clock) -> None:
        """Prepare it; `start` serves.

        Args:
            listener: the bound sockets.
            view: what it tells.
            guard: the rules for peers on this host.
            connections: the most that may be open; the oldest is closed for another one.
            clock: paces the events for open pages.
        """
        self.address = listener.address
        self.guard = guard
        """May be replaced while running: a reload brings another list of hosts."""
        self._listener = listener
        self._view = view
        self._connections = connections
        self._page, self._policy = load_page()
        self._feed = Feed(view, clock)
        self._handlers: dict[str, Handler] = {
            "/": self._get_page,
            "/events": self._get_events,
            "/livez": self._livez,
            "/metrics": self._metrics,
            "/readyz": self._readyz,
            "/recent": self._get_recent,
            "/status": self._get_status,
        }
        self._servers: list[asyncio.Server] = []
        self._http: web.Server | None = None

    async def start(self) -> None:
        """Answer from now on."""
        self._http = web.Server(self._handle, access_log=None, keepalive_timeout=KEEPALIVE, lingering_time=1.0)
        self._servers = await self._listener.serve(EvictingFactory(self._http, self._connections), BACKLOG)

    async def close(self) -> None:
        """Stop listening, and let answers that are being sent finish."""
        servers, http, self._servers, self._http = self._servers, self._http, [], None
        if http is None:
            return
        self._feed.close()
        for server in servers:
            server.close()
        await http.shutdown(1.0)
        for server in servers:
            await server.wait_closed()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except Problem as problem:
            response = web.Response(status=problem.status, body=document(problem), headers=fields(problem))
            if problem.status == 405:  # noqa: PLR2004 (RFC 9110, 15.5.6)
                response.headers["Allow"] = "GET, HEAD"
        for name, value in HARDENING.items():
            response.headers.setdefault(name, value)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        given = request.headers.get("Host")  # without one, request.host would ask the DNS for a name
        if given is not None and given != request.host:
            raise BadRequestError("The request target's host is not the one in Host.")
        refusal = decide(path, _peer(request), self.guard, request.raw_headers)
        if refusal is not None:
            raise refusal
        handler = self._handlers.get(path)
        if handler is None:
            raise NoRouteError("There is /metrics, /livez, /readyz, /status, and the status page at /.")
        if request.method not in READ_METHODS:
            raise MethodNotAllowedError("Nothing here is changed by a request: use GET.")
        return await handler(request)

    async def _livez(self, _request: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.BaseRequest) -> web.Response:
        reason = await self._view.not_ready()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        body, content_type = expose(await self._view.metrics(), request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _get_status(self, _request: web.BaseRequest) -> web.Response:
        return web.Response(body=msgspec.json.encode(await self._view.status()), content_type="application/json")

    async def _get_events(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._feed.stream(request, HARDENING)

    async def _get_recent(self, request: web.BaseRequest) -> web.Response:
        since = request.rel_url.query.get("since", "")
        recent = await self._view.recent(int(since) if since.isascii() and since.isdigit() else 0)
        return web.Response(body=msgspec.json.encode(recent), content_type="application/json")

    async def _get_page(self, _request: web.BaseRequest) -> web.Response:
        headers = {"Content-Security-Policy": self._policy, "Content-Type": "text/html; charset=utf-8"}
        return web.Response(body=self._page, headers=headers)


def _peer(request: web.BaseRequest) -> str | None:
    """The peer's address, or None on a Unix socket."""
    transport = request.transport
    if transport is None:
        raise NoRouteError("The connection is gone.")
    name: Any = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else None
