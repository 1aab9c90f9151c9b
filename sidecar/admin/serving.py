"""A listener of short answers on aiohttp: the operators', and the one that other proxies ask."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from sidecar.admin import web
from sidecar.admin.eviction import EvictingFactory
from sidecar.errors import BadRequestError, Problem
from sidecar.listener import Listener
from sidecar.proxy.problem import document, fields

BACKLOG = 128
KEEPALIVE = 30.0
HARDENING = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "camunda-sidecar",
    "X-Content-Type-Options": "nosniff",
}


class HttpServer(ABC):
    """What such listeners have in common: their life, and the form of their answers."""

    field_bytes = 8190
    """The longest line of a request's head."""

    def __init__(self, listener: Listener, connections: int) -> None:
        """Prepare it; `start` serves. Of more than `connections` the oldest is closed."""
        self.address = listener.address
        self._listener = listener
        self._connections = connections
        self._servers: list[asyncio.Server] = []
        self._http: web.Server | None = None

    async def start(self) -> None:
        """Answer from now on."""
        self._http = web.Server(
            self._handle,
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            lingering_time=1.0,
            max_line_size=self.field_bytes,
            max_field_size=self.field_bytes,
        )
        self._servers = await self._listener.serve(EvictingFactory(self._http, self._connections), BACKLOG)

    async def close(self) -> None:
        """Stop listening, and let answers that are being sent finish."""
        servers, http, self._servers, self._http = self._servers, self._http, [], None
        if http is None:
            return
        for server in servers:
            server.close()
        await http.shutdown(1.0)
        for server in servers:
            await server.wait_closed()

    @abstractmethod
    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request.

        Raises:
            Problem: it becomes the answer.
        """

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            given = request.headers.get("Host")  # without one, request.host would ask the DNS for a name
            if given is not None and given != request.host:
                raise BadRequestError("The request target's host is not the one in Host.")
            response = await self.answer(request)
        except Problem as problem:
            response = web.Response(status=problem.status, body=document(problem), headers=fields(problem))
            if problem.status == 405:  # noqa: PLR2004 (RFC 9110, 15.5.6)
                response.headers["Allow"] = "POST" if request.path == "/quitquitquit" else "GET, HEAD"
        for name, value in HARDENING.items():
            response.headers.setdefault(name, value)
        return response
