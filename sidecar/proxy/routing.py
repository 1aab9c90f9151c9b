"""Which route a request takes, and what its upstream and its client get: a configuration, compiled.

The fields that mean something are few and the same from head to head: what they say together is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.config.settings import Route
from sidecar.errors import BadRequestError, BodyTooLargeError, ForbiddenByPolicyError, NoRouteError, Problem
from sidecar.proxy import h1, scan, semantics
from sidecar.proxy.authorizer import Authorizer
from sidecar.proxy.guard import Guard
from sidecar.proxy.memo import Memo
from sidecar.proxy.policy import RuleSet
from sidecar.proxy.pool import Pool
from sidecar.proxy.semantics import Method, RequestFields, ResponseFields, methods
from sidecar.proxy.target import host_name, localize, match_prefix, parse
from sidecar.telemetry.http import RouteStats

Refusal = tuple[str, Problem]
"""The metric's reason (empty where it counts in no metric), and the error."""


class Response:
    """A response's head, and all that follows from it and its route alone."""

    def __init__(self, fields: ResponseFields, head: bytes, size: int) -> None:
        """`size` is in bytes, as received; `head` is the client's, without the framing of a body without a length."""
        self.fields = fields
        self.head = head
        self.size = size


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
        base = upstream.base_path.rstrip("/").encode()
        self._base = base
        self.start = b" " + base
        """What comes between the method and the path after the prefix; `root`, where that path is empty."""
        self.root = b" " + (base or b"/")
        self.tail = b" HTTP/1.1\r\nHost: " + upstream.authority.encode() + b"\r\n"
        """The end of the upstream's request line, and its Host line."""
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        spellings = {upstream.origin, f"{upstream.scheme}://{host}:{upstream.port}"}
        self._origins = frozenset(origin.lower().encode() for origin in spellings)
        self._scan = scan.response_scanner(semantics.response_reference()).scan
        self._fields = Memo(self._read)

    def refusal(self, method: bytes, rest: bytes, length: int, *, public: bool) -> Refusal | None:
        """Return why a request that the guard lets in may not go on; `rest` is its path after the prefix."""
        if self.allow is not None and not public and not self.allow.matches(method, rest):
            error = ForbiddenByPolicyError(f"Route {self.name} does not allow this method and path (`allow`).")
            return "allow", error
        if self.settings.max_body is not None and length > self.settings.max_body:
            return "", self.too_large()
        return None

    def too_large(self) -> BodyTooLargeError:
        """Return the error for a body over the route's limit."""
        return BodyTooLargeError(f"The body is over {self.settings.max_body} bytes (routes.{self.name}.max_body).")

    def response(self, data: bytes) -> Response | None:
        """Resolve the response's head that `data` begins with; None where it is not whole.

        Raises:
            UpstreamProtocolError: it is no head, or leaves the response's end in doubt.
        """
        found = self._scan(data)
        if found is None:
            return None
        passed, read, size = found
        fields, made = self._fields[read]
        if fields.hop_by_hop:
            passed = h1.without(passed, fields.hop_by_hop)
        return Response(fields, b"".join((fields.line, passed, made)), size)

    def _read(self, lines: bytes) -> tuple[ResponseFields, bytes]:
        """Return what the status line and the fields that are read mean, and the field lines made of them."""
        fields = semantics.response_fields(lines)
        made = b""
        if fields.location is not None:
            local = localize(fields.location, origins=self._origins, base_path=self._base, prefix=self.prefix)
            made += b"Location: " + local + b"\r\n"
        if self.settings.cookies == "pass":
            made += b"".join(b"Set-Cookie: " + value + b"\r\n" for value in fields.set_cookie)
        return fields, made + fields.made


class Request:
    """A request's head, and all that follows from it and the table alone."""

    def __init__(  # noqa: PLR0917 (keywords would cost each request time)
        self,
        received: bytes,
        method: Method,
        minor: int,
        path: bytes,
        route: CompiledRoute | None,
        fields: RequestFields,
        head: bytes,
        public: bool,
        refusal: Refusal | None,
    ) -> None:
        """Take what is known of it.

        Args:
            received: the head as the client sent it.
            method: what the request line says.
            minor: the version is HTTP/1.`minor`.
            path: without the query.
            route: None where there is none for the path.
            fields: what they say.
            head: the upstream's, without what is made for each request: an id, the credential, the empty line.
            public: whether it is forwarded with no credential.
            refusal: why it may not come in or go on.
        """
        self.received = received
        self.method = method
        self.minor = minor
        self.path = path
        self.route = route
        self.fields = fields
        self.head = head
        self.public = public
        self.refusal = refusal

    def problem(self) -> Refusal | None:
        """Return why it may not go on, whoever the guard let in."""
        route = self.route
        if route is None:
            return _NO_ROUTE
        rest = self.path[len(route.prefix) :]
        return route.refusal(self.method.name, rest, self.fields.length, public=self.public)


_NO_ROUTE: Refusal = "", NoRouteError("No route has a prefix of this path; `camunda-sidecar check` lists the routes.")


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

    def request(self, data: bytes) -> Request | None:
        """Resolve the request's head that `data` begins with; None where it is not whole.

        Raises:
            BadRequestError, UnsupportedError: it is no head, or none that is served.
        """
        scanned = self._scan(data)
        if scanned is None:
            return None
        method, target, plain, query, minor, passed, read, size = scanned
        authority: bytes | None = None
        if plain is not None:
            path = plain
        else:
            path, query, authority = parse(target)
            if path == b"*" and method != b"OPTIONS":
                raise BadRequestError("The target `*` goes with OPTIONS alone.")
        fields, refusal = self._fields[read] if minor else self._judge(read, minor)
        if fields.hop_by_hop:
            passed = h1.without(passed, fields.hop_by_hop)
        if authority is not None:
            refusal = self.guard.refusal(host_name(authority) or b"", authority, fields.values)
        found = match_prefix(path, self._prefixes)
        if found is None:
            return Request(data[:size], methods[method], minor, path, None, fields, passed, False, refusal or _NO_ROUTE)
        rest, route = found
        public = route.public is not None and route.public.matches(method, rest)
        if refusal is None and (route.allow is not None or fields.length):
            refusal = route.refusal(method, rest, fields.length, public=public)
        lines = b"".join((method, route.start if rest else route.root, rest, query, route.tail, passed, fields.made))
        return Request(data[:size], methods[method], minor, path, route, fields, lines, public, refusal)

    def _judge(self, read: bytes, minor: int = 1) -> tuple[RequestFields, Refusal | None]:
        """Return what the fields that are read mean, and the guard's refusal."""
        fields = semantics.request_fields(read, minor)
        return fields, self.guard.refusal(fields.host, fields.values[b"host"], fields.values)
