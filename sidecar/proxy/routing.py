"""Which route a request takes, and what its upstream and its client get: a configuration, compiled.

The fields that mean something are few and the same from head to head: what they say together is remembered. So is the
last head of each length, for peers that send the same bytes again and again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.config.settings import Route
from sidecar.errors import BadRequestError, BodyTooLargeError, ForbiddenByPolicyError, NoRouteError, Problem
from sidecar.proxy import h1, scan, semantics
from sidecar.proxy.authorizer import Authorizer
from sidecar.proxy.guard import Guard
from sidecar.proxy.memo import Memo
from sidecar.proxy.policy import RuleSet
from sidecar.proxy.pool import Pool
from sidecar.proxy.semantics import Method, RequestFields, ResponseFields
from sidecar.proxy.target import host_name, localize, match_prefix, parse
from sidecar.telemetry.http import RouteStats

# The last head of each length, by its remainder: who sends the same bytes again gets the same answer for a comparison.
_RECENT = 64
_RECENT_BYTES = 4096

Refusal = tuple[str, Problem]
"""The metric's reason (empty where it counts in no metric), and the error."""


@dataclass(eq=False)
class Response:
    """A response's head, and all that follows from it and its route alone."""

    received: bytes
    """As the upstream sent it."""
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
        self._scan = scan.response_scanner(semantics.response_reference()).scan
        self._fields = Memo(self._read)
        self._recent: list[Response | None] = [None] * _RECENT

    def too_large(self) -> BodyTooLargeError:
        """Return the error for a body over the route's limit."""
        return BodyTooLargeError(f"The body is over {self.settings.max_body} bytes (routes.{self.name}.max_body).")

    def response(self, head: bytes) -> Response:
        """Resolve a response's head, its empty line included.

        Raises:
            UpstreamProtocolError: it is no head, or leaves the response's end in doubt.
        """
        place = len(head) % _RECENT
        recent = self._recent[place]
        if recent is not None and recent.received == head:
            return recent
        line, passed, read = self._scan(head)
        fields, made = self._fields[line + read]
        if fields.hop_by_hop:
            passed = h1.without(passed, fields.hop_by_hop)
        response = Response(head, fields.status, fields.line + passed + made, fields)
        if len(head) <= _RECENT_BYTES:
            self._recent[place] = response
        return response

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

    received: bytes
    """As the client sent it."""
    line: ResolvedLine
    fields: RequestFields
    head: bytes
    """The upstream's head, without what is made for each request: an id, the credential, the empty line."""
    refusal: Refusal | None
    """Why it may not come in or go on."""


class RoutingTable:
    """All routes of one configuration, and its guard. A reload replaces it as a whole."""

    def __init__(self, routes: Iterable[CompiledRoute], guard: Guard, own: CompiledRoute | None = None) -> None:
        """`own` is a path that the sidecar answers itself."""
        self.routes = tuple(routes)
        self.guard = guard
        known = self.routes if own is None else (*self.routes, own)
        self._prefixes = sorted(((r.prefix, r) for r in known), key=lambda pair: len(pair[0]), reverse=True)
        self._scan = scan.request_scanner(semantics.request_reference(guard.watched)).scan
        self._fields = Memo(self._judge)
        self._recent: list[Request | None] = [None] * _RECENT

    def request(self, head: bytes) -> Request:
        """Resolve a request's head, its empty line included.

        Raises:
            BadRequestError, UnsupportedError: it is no head, or none that is served.
        """
        place = len(head) % _RECENT
        recent = self._recent[place]
        if recent is not None and recent.received == head:
            return recent
        method, target, path, query, minor, passed, read = self._scan(head)
        line = self._line(method, target, path, query, minor)
        fields, refusal = self._fields[read] if minor else self._judge(read, minor)
        if fields.hop_by_hop:
            passed = h1.without(passed, fields.hop_by_hop)
        if line.problem is not None or line.authority is not None or fields.length:
            refusal = self._refusal(line, fields, refusal)
        request = Request(head, line, fields, line.start + passed + fields.made, refusal)
        if len(head) <= _RECENT_BYTES:
            self._recent[place] = request
        return request

    def _line(self, method: bytes, target: bytes, path: bytes | None, query: bytes, minor: int) -> ResolvedLine:
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
        problem = self.problem(line, fields)
        if problem is None:
            return None
        return "allow" if isinstance(problem, ForbiddenByPolicyError) else "", problem

    def problem(self, line: ResolvedLine, fields: RequestFields) -> Problem | None:
        """Return why a request that the guard has let in goes no further."""
        if line.problem is not None:
            return line.problem
        assert line.route is not None
        limit = line.route.settings.max_body
        return line.route.too_large() if limit is not None and fields.length > limit else None
