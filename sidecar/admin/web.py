"""What the admin listener uses of aiohttp's server.

`aiohttp.web` would import its applications, routing, files and command line too, which nobody here uses: 1.4 MB, and
the time that takes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server as AnyServer

from sidecar.errors import BadRequestError
from sidecar.proxy.problem import document, fields

__all__ = ["BaseRequest", "Response", "Server", "StreamResponse"]

_log = structlog.get_logger(__name__)


class Server(AnyServer):
    """aiohttp's server of requests, with our own answer to what is no request."""

    def __init__(self, handler: Any, **options: Any) -> None:
        """Take a coroutine function of a request, which ends with its client, and the options of a `RequestHandler`."""
        super().__init__(handler, handler_cancellation=True, **options)
        self._options = options

    def __call__(self) -> RequestHandler:
        """Return the protocol of one connection."""
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)


class _Connection(RequestHandler):
    """One connection; what cannot be parsed is one log line, and no traceback that a client can repeat at will."""

    __slots__ = ()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """Answer what is no request, or what a handler did not foresee."""
        if status >= 500:  # noqa: PLR2004 (a fault of ours: aiohttp logs it, with its traceback)
            return super().handle_error(request, status, exc, message)
        problem = BadRequestError("This is no HTTP/1.1 request. The admin listener answers GET, in plain HTTP.")
        _log.info("request refused", code=problem.code, status=problem.status, detail=problem.detail)
        response = Response(status=problem.status, body=document(problem), headers=fields(problem))
        response.force_close()
        return response
