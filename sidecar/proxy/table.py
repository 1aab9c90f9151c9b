"""Routing: the configuration compiled into what a request needs, and requests' lines and fields resolved against it.

The same client sends the same bytes again and again, and parsing them is a pure function of the bytes and the table:
so both halves of a head are memoised whole, refusals of the guard included. The caches are bounded in entries and in
the size of what they take.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sidecar.config.settings import Route
from sidecar.errors import BadRequestError, ForbiddenByPolicyError, NoRouteError, Problem
from sidecar.proxy import h1
from sidecar.proxy.authorizer import Authorizer
from sidecar.proxy.guard import Guard
from sidecar.proxy.memo import Memo
from sidecar.proxy.policy import RuleSet
from sidecar.proxy.pool import Pool
from sidecar.proxy.target import localize, match_prefix, parse
from sidecar.telemetry.http import RouteStats

_KNOWN_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


class ResponseStart(msgspec.Struct, frozen=True, gc=False):
    """A response's fields, ready for the client: complete lines but for the framing of a body without a length."""

    lines: bytes
    fields: h1.ResponseFields
    set_cookie: tuple[bytes, ...]


class CompiledRoute:
    """One route with everything that is the same for each of its requests worked out."""

    __slots__ = (
        "_base",
        "_origins",
        "_tail",
        "allow",
        "authorizer",
        "name",
        "pool",
        "prefix",
        "public",
        "response_starts",
        "settings",
        "stats",
        "timeouts",
    )

    def __init__(self, settings: Route, authorizer: Authorizer, pool: Pool, stats: RouteStats) -> None:
        upstream = settings.upstream
        self.settings = settings
        self.name = settings.name
        self.authorizer = authorizer
        self.pool = pool
        self.stats = stats
        self.timeouts = settings.timeouts
        self.prefix = settings.prefix.rstrip("/").encode()
        self.allow = RuleSet(settings.allow) if settings.allow is not None else None
        self.public = RuleSet(settings.public)
        self._base = upstream.base_path.rstrip("/").encode()
        self._tail = b" HTTP/1.1\r\nHost: " + upstream.authority.encode() + b"\r\n"
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        spellings = {upstream.origin, f"{upstream.scheme}://{host}:{upstream.port}"}
        self._origins = frozenset(origin.lower().encode() for origin in spellings)
        self.response_starts = Memo(self.response_start)

    def upstream_start(self, method: bytes, rest: bytes, query: bytes) -> bytes:
        """The request line and the Host line that the upstream gets."""
        return method + b" " + (self._base + rest or b"/") + query + self._tail

    def response_start(self, block: bytes) -> ResponseStart:
        """Resolve a response's fields; hot callers ask `response_starts`, the memory of this.

        Raises:
            UpstreamProtocolError: they are no fields.
        """
        fields = h1.response_fields(block)
        lines = fields.kept
        if fields.location is not None:
            local = localize(fields.location, origins=self._origins, base_path=self._base, prefix=self.prefix)
            lines += b"Location: " + local + b"\r\n"
        if self.settings.cookies == "pass":
            lines += b"".join(b"Set-Cookie: " + value + b"\r\n" for value in fields.set_cookie)
        if fields.content_length is not None:
            lines += b"Content-Length: %d\r\n" % fields.content_length
        return ResponseStart(lines, fields, fields.set_cookie)


class ResolvedLine(msgspec.Struct, frozen=True):
    """A request line, and all that follows from it alone."""

    method: bytes
    label: str
    """The method, where it is a known one, else `other`: a metric's label takes no value that a client invents."""
    minor: int
    path: str
    """For log lines: without the query."""
    authority: bytes | None
    route: CompiledRoute | None
    start: bytes
    public: bool
    safe: bool
    idempotent: bool
    problem: Problem | None
    """Why it is refused, once the guard has let the request in."""


class ResolvedFields(msgspec.Struct, frozen=True):
    """A request's fields, and what the guard says of them."""

    fields: h1.RequestFields
    refusal: tuple[str, Problem] | None


class Table:
    """All routes of one configuration. Replaced as a whole at a reload."""

    def __init__(self, routes: Iterable[CompiledRoute], guard: Guard) -> None:
        self.routes = tuple(routes)
        self.guard = guard
        self._prefixes = sorted(((r.prefix, r) for r in self.routes), key=lambda pair: len(pair[0]), reverse=True)
        self.lines = Memo(self.line)
        self.blocks = Memo(self.fields)

    def line(self, line: bytes) -> ResolvedLine:
        """Resolve a request line; hot callers ask `lines`, the memory of this.

        Raises:
            BadRequestError, UnsupportedError: it is none that is served.
        """
        request = h1.request_line(line)
        target = parse(request.target)
        route: CompiledRoute | None = None
        problem: Problem | None = None
        start, public = b"", False
        if target.path == b"*" and request.method != b"OPTIONS":
            raise BadRequestError("The target `*` goes with OPTIONS alone.")
        found = match_prefix(target.path, self._prefixes)
        if found is None:
            problem = NoRouteError("No route has a prefix of this path; `camunda-sidecar check` lists the routes.")
        else:
            rest, route = found
            start = route.upstream_start(request.method, rest, target.query)
            public = route.public.matches(request.method, rest)
            if route.allow is not None and not public and not route.allow.matches(request.method, rest):
                problem = ForbiddenByPolicyError(f"Route {route.name} does not allow this method and path (`allow`).")
        return ResolvedLine(
            method=request.method,
            label=_KNOWN_METHODS.get(request.method, "other"),
            minor=request.minor,
            path=target.path.decode("ascii"),
            authority=target.authority,
            route=route,
            start=start,
            public=public,
            safe=request.method in h1.SAFE_METHODS,
            idempotent=request.method in h1.IDEMPOTENT_METHODS,
            problem=problem,
        )

    def fields(self, block: bytes) -> ResolvedFields:
        """Resolve a request's fields; hot callers ask `blocks`, the memory of this.

        Raises:
            BadRequestError: they are no fields.
        """
        fields = h1.request_fields(block)
        authority = fields.values[b"host"]
        return ResolvedFields(fields, self.guard.refusal(fields.host, authority, fields.values))

    def refusal(self, line: ResolvedLine, resolved: ResolvedFields) -> tuple[str, Problem] | None:
        """Why the request may not come in or go on, in the order in which a client may learn it; None where it may."""
        refusal = resolved.refusal
        if line.authority is not None:
            fields = resolved.fields
            refusal = self.guard.refusal(h1.host_name(line.authority) or b"", line.authority, fields.values)
        if refusal is None and line.problem is not None:
            reason = "allow" if isinstance(line.problem, ForbiddenByPolicyError) else ""
            refusal = reason, line.problem
        return refusal
