"""The admin listener: metrics, probes, status, and the status page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from sidecar.admin import web
from sidecar.admin.access import decide
from sidecar.admin.live import Feed
from sidecar.admin.page import load_page
from sidecar.admin.serving import HARDENING, HttpServer
from sidecar.admin.view import View
from sidecar.clock import Clock
from sidecar.errors import MethodNotAllowedError, NoRouteError
from sidecar.listener import Listener
from sidecar.proxy.guard import Guard
from sidecar.telemetry.exposition import expose

READ_METHODS = frozenset({"GET", "HEAD"})
QUIT = "/quitquitquit"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class AdminServer(HttpServer):
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
        super().__init__(listener, connections)
        self.guard = guard
        """May be replaced while running: a reload brings another list of hosts."""
        self.quit: Callable[[], None] | None = None
        """What POST /quitquitquit does; None: there is no such path."""
        self._view = view
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

    async def close(self) -> None:
        """Stop listening, end the pages' events, and let answers that are being sent finish."""
        self._feed.close()
        await super().close()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; see `HttpServer.answer`."""
        path = request.path
        refusal = decide(path, _peer(request), self.guard, request.raw_headers)
        if refusal is not None:
            raise refusal
        if path == QUIT and self.quit is not None:
            if request.method != "POST":
                raise MethodNotAllowedError("This ends the sidecar: use POST.")
            self.quit()
            return web.Response(text="ok\n")
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
