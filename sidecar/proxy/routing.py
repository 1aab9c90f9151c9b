"""Which route a request takes, and what its upstream and its client get: a configuration, compiled.

The same peers send the same bytes again and again, and what they mean is a pure function of the bytes and the table. So
whole heads are memoised, and also their halves; the guard's refusals are among the results. The memories are bounded in
entries and in the size of an entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.config.settings import Route
from sidecar.errors import BadRequestError, BodyTooLargeError, ForbiddenByPolicyError, NoRouteError, Problem
from sidecar.proxy import h1, semantics
from sidecar.proxy.authorizer import Authorizer
from sidecar.proxy.guard import Guard
from sidecar.proxy.memo import Memo
from sidecar.proxy.policy import RuleSet
from sidecar.proxy.pool import Pool
from sidecar.proxy.semantics import Method, RequestFields, ResponseFields
from sidecar.proxy.target import host_name, localize, match_prefix, parse
from sidecar.telemetry.http import RouteStats

# For whole heads; their lines have memories of their own.
_HEADS = 128
_HEAD_BYTES = 4096

Refusal = tuple[str, Problem]
"""The metric's reason (empty where it counts in no metric), and the error."""


@dataclass(eq=False)
class Response:
    """A response's head, and all that follows from it and its route alone."""

    status: int
    head: bytes
    """The client's head: the status line and field lines, without the framing of a body that has no length."""
    fields: ResponseFields


class CompiledRoute:
    """One route, with everything worked out that is the same for each of its requests. Times are in seconds."""

    def __init__(self, settings: Route, authorizer: Authorizer, pool: Pool, stats: RouteStats) -> None:
        upstream = settings.upstream
        self.settings = settings
        self.name = settings.name
        self.authorizer = authorizer
        self.pool = pool
        self.stats = stats
        self.connect_timeout = settings.timeouts.connect
        self.response_timeout = settings.timeouts.response or float("inf")
        self.abandoned_timeout = settings.timeouts.response or settings.timeouts.idle
        self.idle_timeout = settings.timeouts.idle
        self.prefix = settings.prefix.rstrip("/").encode()
        self.allow = RuleSet(settings.allow) if settings.allow is not None else None
        self.public = RuleSet(settings.public) if settings.public else None
        self.base = upstream.base_path.rstrip("/").encode()
        self.tail = b" HTTP/1.1\r\nHost: " + upstream.authority.encode() + b"\r\n"
        """The end of the upstream's request line, and its Host line."""
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        spellings = {upstream.origin, f"{upstream.scheme}://{host}:{upstream.port}"}
        self._origins = frozenset(origin.lower().encode() for origin in spellings)
        self._reader = semantics.response_reader()
        self._fields = Memo(self._read)
        self.responses = Memo(self.response, entries=_HEADS, size=_HEAD_BYTES)

    def too_large(self) -> BodyTooLargeError:
        """Return the error for a body over the route's limit."""
        return BodyTooLargeError(f"The body is over {self.settings.max_body} bytes (routes.{self.name}.max_body).")

    def response(self, head: bytes) -> Response:
        """Resolve a response's head, its empty line included; `responses` remembers the results.

        Raises:
            UpstreamProtocolError: it is no head, or leaves the response's end in doubt.
        """
        line_end = head.find(b"\r\n") + 2
        kept, read = self._reader.read(head[line_end:-2])
        fields, made = self._fields[head[:line_end] + read]
        if fields.hop_by_hop:
            kept = h1.without(kept, fields.hop_by_hop)
        return Response(fields.status, fields.line + kept + made, fields)

    def _read(self, lines: bytes) -> tuple[ResponseFields, bytes]:
        """Return what the status line and the fields that are read mean, and the field lines made of them."""
        fields = semantics.response_fields(lines)
        made = b""
        if fields.location is not None:
            local = localize(fields.location, origins=self._origins, base_path=self.base, prefix=self.prefix)
            made += b"Location: " + local + b"\r\n"
        if self.settings.cookies == "pass":
            made += b"".join(b"Set-Cookie: " + value + b"\r\n" for value in fields.set_cookie)
        return fields, made + fields.made


@dataclass(eq=False)
class ResolvedLine:
    """A request line, and all that follows from it alone."""

    method: Method
    minor: int
    """The version is HTTP/1.`minor`."""
    path: bytes
    """The path, without the query."""
    authority: bytes | None
    """An absolute-form target has one."""
    route: CompiledRoute | None
    start: bytes
    """The request line and the Host line that the upstream gets."""
    public: bool
    """Whether it is forwarded with no credential."""
    problem: Problem | None
    """Why it is refused, once the guard has let the request in."""


@dataclass(eq=False)
class Request:
    """A request's head, and all that follows from it and the table alone."""

    line: ResolvedLine
    fields: RequestFields
    head: bytes
    """The upstream's head, without what is made for each request: an id, the credential, the empty line."""
    refusal: Refusal | None
    """Why it may not come in or go on."""


class RoutingTable:
    """All routes of one configuration, and its guard. A reload replaces it as a whole."""

    def __init__(self, routes: Iterable[CompiledRoute], guard: Guard) -> None:
        self.routes = tuple(routes)
        self.guard = guard
        self._prefixes = sorted(((r.prefix, r) for r in self.routes), key=lambda pair: len(pair[0]), reverse=True)
        self._reader = semantics.request_reader(guard.watched)
        self._lines = Memo(self.line)
        self._fields = Memo(self._judge)
        self._blocks = Memo(self._block, entries=_HEADS)
        self.requests = Memo(self.request, entries=_HEADS, size=_HEAD_BYTES)

    def request(self, head: bytes) -> Request:
        """Resolve a request's head, its empty line included; `requests` remembers the results.

        Raises:
            BadRequestError, UnsupportedError: it is no head, or none that is served.
        """
        line_end = head.find(b"\r\n")
        line = self._lines[head[:line_end]]
        block = head[line_end + 2 : -2]
        kept, fields, refusal = self._blocks[block] if line.minor else self._block(block, minor=0)
        if line.problem is not None or line.authority is not None or fields.length:
            refusal = self._refusal(line, fields, refusal)
        return Request(line, fields, line.start + kept + fields.made, refusal)

    def line(self, line: bytes) -> ResolvedLine:
        """Resolve a request line.

        Raises:
            BadRequestError, UnsupportedError: it is no request line, or none that is served.
        """
        method, target, minor, path, query = h1.request_line(line)
        authority: bytes | None = None
        if path is None:
            path, query, authority = parse(target)
            if path == b"*" and method != b"OPTIONS":
                raise BadRequestError("The target `*` goes with OPTIONS alone.")
        route: CompiledRoute | None = None
        problem: Problem | None = None
        start, public = b"", False
        found = match_prefix(path, self._prefixes)
        if found is None:
            problem = NoRouteError("No route has a prefix of this path; `camunda-sidecar check` lists the routes.")
        else:
            rest, route = found
            start = method + b" " + (route.base + rest or b"/") + query + route.tail
            public = route.public is not None and route.public.matches(method, rest)
            if route.allow is not None and not public and not route.allow.matches(method, rest):
                problem = ForbiddenByPolicyError(f"Route {route.name} does not allow this method and path (`allow`).")
        return ResolvedLine(semantics.methods[method], minor, path, authority, route, start, public, problem)

    def _block(self, block: bytes, minor: int = 1) -> tuple[bytes, RequestFields, Refusal | None]:
        """Return the field lines to forward, what all of them mean, and the guard's refusal."""
        kept, read = self._reader.read(block)
        fields, refusal = self._fields[read] if minor else self._judge(read, minor)
        return h1.without(kept, fields.hop_by_hop) if fields.hop_by_hop else kept, fields, refusal

    def _judge(self, read: bytes, minor: int = 1) -> tuple[RequestFields, Refusal | None]:
        """Return what the fields that are read mean, and the guard's refusal."""
        fields = semantics.request_fields(read, minor)
        return fields, self.guard.refusal(fields.host, fields.values[b"host"], fields.values)

    def _refusal(self, line: ResolvedLine, fields: RequestFields, refusal: Refusal | None) -> Refusal | None:
        """Return the first reason to refuse, in the order in which a client may learn it.

        `refusal` is the guard's, by the request's `Host`.
        """
        if line.authority is not None:
            refusal = self.guard.refusal(host_name(line.authority) or b"", line.authority, fields.values)
        if refusal is not None:
            return refusal
        if line.problem is not None:
            return "allow" if isinstance(line.problem, ForbiddenByPolicyError) else "", line.problem
        assert line.route is not None
        limit = line.route.settings.max_body
        if limit is not None and fields.length > limit:
            return "", line.route.too_large()
        return None
