"""The helper of other proxies: nginx's auth_request, Envoy's ext_authz (HTTP) and Traefik's forwardAuth ask it.

They forward requests themselves and want only the credential. Whoever reads an answer has it, so the listener is one of
its own, best a Unix socket.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

import structlog
from structlog.contextvars import bound_contextvars

from sidecar.admin import web
from sidecar.admin.access import values_of
from sidecar.admin.serving import HttpServer
from sidecar.clock import Clock
from sidecar.config.settings import AUTHORIZE, Settings
from sidecar.errors import NoRouteError, Problem
from sidecar.listener import Listener
from sidecar.proxy import semantics
from sidecar.proxy.authorizer import Attachment, Authorizer, lines_of
from sidecar.proxy.guard import Guard, guard_of
from sidecar.proxy.target import host_name
from sidecar.telemetry.http import HttpStats

REFUSED = "Sidecar-Refused"
"""The header with the value that an upstream refused, in a request for another one."""
_ID_LENGTH = 200
_LONGEST_PATH = 1024
"""Characters of a path that a log line shows."""
_PATH = re.compile(r"(?:/-/(authorize|refused))?/([^/]+)(?:/.*)?", re.DOTALL)

_log = structlog.get_logger(__name__)


class AuthorizeServer(HttpServer):
    """One listener for all routes."""

    field_bytes = 64 << 10  # proxies pass on what their clients sent, and tokens may be long

    def __init__(self, listener: Listener, connections: int, stats: HttpStats, clock: Clock) -> None:
        """`stats` has the guard's counters, and gets those of a route called `authorize`."""
        super().__init__(listener, connections)
        self._stats = stats
        self._counters = stats.route(AUTHORIZE)
        self._clock = clock
        self._guard = Guard()
        self._access = "errors"
        self._authorizers: Mapping[str, Authorizer] = {}

    def configure(self, settings: Settings, authorizers: Mapping[str, Authorizer]) -> None:
        """Put a configuration in force; `authorizers` are by route name."""
        self._guard = guard_of(settings, self.address)
        self._access = settings.logging.access
        self._authorizers = authorizers

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a request; see `HttpServer.answer`."""
        began, status = self._clock.monotonic(), 500
        problem: Problem | None = None
        self._counters.in_flight += 1
        try:
            response = await self._answer(request)
            status = response.status
        except Problem as error:
            problem, status = error, error.status
            raise
        finally:
            self._ended(request, status, problem, self._clock.monotonic() - began)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        self._let_in(values_of(request.raw_headers))
        found = _PATH.fullmatch(request.path)
        authorizer = self._authorizers.get(found[2]) if found is not None else None
        if found is None or authorizer is None:
            raise NoRouteError("Ask for /-/authorize/ and a route's name; `camunda-sidecar check` lists the routes.")
        with bound_contextvars(**_request_id(request)):
            attachment = authorizer.current() or await authorizer.obtain()
        if found[1] == "refused":
            if _is_in(attachment, request.headers):
                authorizer.invalidate(attachment)
            return web.Response(status=204)
        if REFUSED in request.headers and _is_value(attachment, request.headers[REFUSED]):
            # Where no other is to be had, the same is sent again: the client gets the upstream's own refusal.
            attachment = await authorizer.replace(attachment) or attachment
        return web.Response(headers=dict(lines_of(attachment)))

    def _let_in(self, values: Mapping[bytes, bytes]) -> None:
        """Ask the guard about the client of whoever asks: by `Host`, and by what Traefik says that it was.

        Raises:
            Problem: it may not come in.
        """
        host = values.get(b"host", b"")
        authority = values.get(b"x-forwarded-host", host)
        for name in (host, authority):
            refusal = self._guard.refusal(host_name(name) or b"", authority, values)
            if refusal is not None:
                self._stats.guard_rejections[refusal[0]] += 1
                raise refusal[1]

    def _ended(self, request: web.BaseRequest, status: int, problem: Problem | None, seconds: float) -> None:
        method = semantics.methods[request.method.encode()].label
        self._counters.in_flight -= 1
        self._counters.finished(method, status, "sidecar", seconds)
        own = problem.code if problem is not None else ""
        self._counters.erred(self._clock.wall(), status, "sidecar", own, request.headers.get("X-Request-ID", ""))
        if self._access == "all" or (self._access == "errors" and problem is not None):
            _log.info(
                "request",
                route=AUTHORIZE,
                method=method,
                path=request.path[:_LONGEST_PATH],
                status=status,
                source="sidecar",
                milliseconds=round(seconds * 1000, 1),
                **_request_id(request),
                **({"code": problem.code, "detail": problem.detail} if problem is not None else {}),
            )


def _request_id(request: web.BaseRequest) -> dict[str, str]:
    """The id that the proxy gave the request, for log lines."""
    given = request.headers.get("X-Request-ID")
    return {} if given is None else {"request_id": given[:_ID_LENGTH]}


def _is_in(attachment: Attachment, headers: Mapping[str, str]) -> bool:
    """Whether a request was sent with this credential."""
    return any(_is_value(attachment, headers.get(name, "")) for name, _ in lines_of(attachment)[:1])


def _is_value(attachment: Attachment, given: str) -> bool:
    """Whether `given` is the value of this credential's header. It takes the same time for every value."""
    [(_, value)] = lines_of(attachment)[:1] or [("", "")]
    return bool(value) and hmac.compare_digest(value.encode("latin-1"), given.encode("utf-8", "surrogateescape"))
