"""Routing: the configuration compiled into what a request needs, and heads resolved against it.

The same peers send the same bytes again and again, and parsing them is a pure function of the bytes and the table: so
whole heads are memoised, their halves too, and refusals of the guard with them. The memories are bounded in entries
and in the size of what they take.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sidecar.config.settings import Route
from sidecar.errors import (
    BadRequestError,
    BodyTooLargeError,
    ForbiddenByPolicyError,
    NoRouteError,
    Problem,
    UpstreamProtocolError,
)
from sidecar.proxy import h1
from sidecar.proxy.authorizer import Authorizer
from sidecar.proxy.guard import Guard
from sidecar.proxy.memo import Memo
from sidecar.proxy.policy import RuleSet
from sidecar.proxy.pool import MAX_IDLE_SECONDS, Pool
from sidecar.proxy.target import host_name, localize, match_prefix, parse
from sidecar.telemetry.http import RouteStats

_KNOWN_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"

# Of whole heads; their lines have memories of their own.
_HEADS = 128
_HEAD_BYTES = 4096

# How an answer's body ends.
EMPTY, LENGTH, CHUNKED, UNTIL_CLOSE = range(4)
_OK, _NO_CONTENT = 200, 204
_NO_BODY = frozenset({204, 304})


@dataclass(eq=False)
class AnswerMeaning:
    """What an answer's head means to the proxy: the same for all that differ in fields that it does not read."""

    status: int
    line: bytes
    """The status line, for the client."""
    lines: bytes
    """Field lines for the client, made anew from what was understood."""
    fields: h1.ResponseFields
    ends: int
    """EMPTY, LENGTH, CHUNKED or UNTIL_CLOSE; to HEAD every answer is empty."""
    idle_seconds: float
    """For how long the connection may be kept for another request; 0: not at all."""


@dataclass(eq=False)
class Answer:
    """An answer's head, and all that follows from it and its route alone."""

    status: int
    head: bytes
    """The client's: the status line and complete field lines, but for the framing of a body without a length."""
    meaning: AnswerMeaning


class CompiledRoute:
    """One route with everything that is the same for each of its requests worked out."""

    __slots__ = (
        "_base",
        "_meanings",
        "_origins",
        "_reader",
        "_tail",
        "abandoned_timeout",
        "allow",
        "answers",
        "authorizer",
        "connect_timeout",
        "idle_timeout",
        "name",
        "pool",
        "prefix",
        "public",
        "response_timeout",
        "settings",
        "stats",
    )

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
        self._base = upstream.base_path.rstrip("/").encode()
        self._tail = b" HTTP/1.1\r\nHost: " + upstream.authority.encode() + b"\r\n"
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        spellings = {upstream.origin, f"{upstream.scheme}://{host}:{upstream.port}"}
        self._origins = frozenset(origin.lower().encode() for origin in spellings)
        self._reader = h1.response_reader()
        self._meanings = Memo(self._meaning)
        self.answers = Memo(self.answer, entries=_HEADS, size=_HEAD_BYTES)

    def too_large(self) -> BodyTooLargeError:
        """What a body over the route's limit is refused with."""
        return BodyTooLargeError(f"The body is over {self.settings.max_body} bytes (routes.{self.name}.max_body).")

    def upstream_start(self, method: bytes, rest: bytes, query: bytes) -> bytes:
        """The request line and the Host line that the upstream gets."""
        return method + b" " + (self._base + rest or b"/") + query + self._tail

    def answer(self, head: bytes) -> Answer:
        """Resolve an answer's head, its empty line included; hot callers ask `answers`, the memory of this.

        Raises:
            UpstreamProtocolError: it is none, or leaves the answer's end in doubt.
        """
        line_end = head.find(b"\r\n") + 2
        block = head[line_end:-2]
        kept, read = self._reader.read(block)
        meaning = self._meanings[head[:line_end] + read]
        if meaning.fields.hop_by_hop:
            kept = h1.without(kept, meaning.fields.hop_by_hop)
        return Answer(meaning.status, meaning.line + kept + meaning.lines, meaning)

    def _meaning(self, lines: bytes) -> AnswerMeaning:
        """What follows from the status line and the fields that are read."""
        line, _, read = lines.partition(b"\r\n")
        minor, status, reason = h1.status_line(line)
        fields = h1.response_fields(read)
        if fields.chunked and not minor:
            raise UpstreamProtocolError("The upstream answered with a transfer coding in HTTP/1.0.")
        made = b""
        if fields.location is not None:
            local = localize(fields.location, origins=self._origins, base_path=self._base, prefix=self.prefix)
            made += b"Location: " + local + b"\r\n"
        if self.settings.cookies == "pass":
            made += b"".join(b"Set-Cookie: " + value + b"\r\n" for value in fields.set_cookie)
        # A 204 has no length (RFC 9110, 8.6).
        if fields.content_length is not None and status != _NO_CONTENT:
            made += b"Content-Length: %d\r\n" % fields.content_length
        return AnswerMeaning(
            status=status,
            line=b"HTTP/1.1 %d %b\r\n" % (status, reason),
            lines=made,
            fields=fields,
            ends=_ends(status, fields),
            idle_seconds=_idle_seconds(minor, fields),
        )


def _idle_seconds(minor: int, fields: h1.ResponseFields) -> float:
    """RFC 9112, 9.3; and what servers say by `Keep-Alive: timeout=` (RFC 2068, 19.7.1).

    Their time began when they sent the response, and a request is on its way for a while: so a second less, or half of
    a short one. Else a POST, which is not sent twice, would meet a connection that is just being closed.
    """
    if fields.close or not (minor or fields.keep_alive):
        return 0.0
    timeout = fields.keep_alive_timeout
    return MAX_IDLE_SECONDS if timeout is None else min(MAX_IDLE_SECONDS, max(timeout - 1.0, timeout / 2))


def _ends(status: int, fields: h1.ResponseFields) -> int:
    """RFC 9112, 6.3.

    Raises:
        UpstreamProtocolError: a body is announced where there is none.
    """
    if status < _OK:
        if fields.chunked or fields.content_length is not None:
            raise UpstreamProtocolError("The upstream sent a 1xx answer with a body.")
        return EMPTY
    if status == _NO_CONTENT and (fields.chunked or fields.content_length):
        raise UpstreamProtocolError("The upstream's 204 answer announces a body.")
    if status in _NO_BODY:
        return EMPTY
    if fields.chunked:
        return CHUNKED
    return UNTIL_CLOSE if fields.content_length is None else LENGTH


@dataclass(eq=False)
class Method:
    """RFC 9110, 9.2."""

    name: bytes
    label: str
    """The method, where it is a known one, else `other`: a metric's label takes no value that a client invents."""
    safe: bool
    idempotent: bool
    is_head: bool


def _method(name: bytes) -> Method:
    label = name.decode("ascii")
    return Method(
        name=name,
        label=label if label in _KNOWN_METHODS else "other",
        safe=name in h1.SAFE_METHODS,
        idempotent=name in h1.IDEMPOTENT_METHODS,
        is_head=name == b"HEAD",
    )


_methods = Memo(_method)


@dataclass(eq=False)
class ResolvedLine:
    """A request line, and all that follows from it alone."""

    method: Method
    minor: int
    path: bytes
    """Without the query."""
    authority: bytes | None
    route: CompiledRoute | None
    start: bytes
    public: bool
    problem: Problem | None
    """Why it is refused, once the guard has let the request in."""


@dataclass(eq=False)
class RequestMeaning:
    """What a request's fields mean: the same for all that differ in fields that are not read."""

    fields: h1.RequestFields
    refusal: tuple[str, Problem] | None
    """What the guard says of them."""
    lines: bytes
    """Field lines for the upstream, made anew from what was understood."""
    needs_id: bool
    length: int
    """Of the body, in bytes; 0 for none, and for a chunked one."""
    keep_alive: bool
    upgrade: bool


@dataclass(eq=False)
class Request:
    """A request's head, and all that follows from it and the table alone."""

    line: ResolvedLine
    meaning: RequestMeaning
    head: bytes
    """The upstream's, less what is made for each request: an id, the credential's lines, the empty line."""
    refusal: tuple[str, Problem] | None
    """Why it may not come in or go on: the metric's reason, or nothing, and the error."""


class Table:
    """All routes of one configuration. Replaced as a whole at a reload."""

    def __init__(self, routes: Iterable[CompiledRoute], guard: Guard) -> None:
        self.routes = tuple(routes)
        self.guard = guard
        self._prefixes = sorted(((r.prefix, r) for r in self.routes), key=lambda pair: len(pair[0]), reverse=True)
        self._reader = h1.request_reader(guard.watched)
        self._meanings = Memo(self._meaning)
        self._lines = Memo(self.line)
        self._blocks = Memo(self._fields, entries=_HEADS)
        self.requests = Memo(self.request, entries=_HEADS, size=_HEAD_BYTES)

    def request(self, head: bytes) -> Request:
        """Resolve a request's head, its empty line included; hot callers ask `requests`, the memory of this.

        Raises:
            BadRequestError, UnsupportedError: it is none that is served.
        """
        line_end = head.find(b"\r\n")
        line = self._lines[head[:line_end]]
        kept, meaning = self._blocks[head[line_end + 2 : -2]]
        if not line.minor:
            meaning = _in_http_1_0(meaning)
        refusal = meaning.refusal
        if line.problem is not None or line.authority is not None or meaning.length:
            refusal = self._refusal(line, meaning)
        return Request(line, meaning, line.start + kept + meaning.lines, refusal)

    def line(self, line: bytes) -> ResolvedLine:
        """Resolve a request line.

        Raises:
            BadRequestError, UnsupportedError: it is none that is served.
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
            start = route.upstream_start(method, rest, query)
            public = route.public is not None and route.public.matches(method, rest)
            if route.allow is not None and not public and not route.allow.matches(method, rest):
                problem = ForbiddenByPolicyError(f"Route {route.name} does not allow this method and path (`allow`).")
        return ResolvedLine(_methods[method], minor, path, authority, route, start, public, problem)

    def _fields(self, block: bytes) -> tuple[bytes, RequestMeaning]:
        """The lines to forward, and what all of them mean."""
        kept, read = self._reader.read(block)
        meaning = self._meanings[read]
        if meaning.fields.hop_by_hop:
            kept = h1.without(kept, meaning.fields.hop_by_hop)
        return kept, meaning

    def _meaning(self, read: bytes) -> RequestMeaning:
        """In HTTP/1.1."""
        fields = h1.request_fields(read)
        length = fields.content_length or 0
        upgrade = fields.upgrade == b"websocket" and not (length or fields.chunked)
        return RequestMeaning(
            fields=fields,
            refusal=self.guard.refusal(fields.host, fields.values[b"host"], fields.values),
            lines=_UPGRADE if upgrade else _framing(fields),
            needs_id=not fields.has_request_id,
            length=length,
            keep_alive=not fields.close,
            upgrade=upgrade,
        )

    def _refusal(self, line: ResolvedLine, meaning: RequestMeaning) -> tuple[str, Problem] | None:
        """In the order in which a client may learn it."""
        refusal, fields = meaning.refusal, meaning.fields
        if line.authority is not None:
            refusal = self.guard.refusal(host_name(line.authority) or b"", line.authority, fields.values)
        if refusal is not None:
            return refusal
        if line.problem is not None:
            return "allow" if isinstance(line.problem, ForbiddenByPolicyError) else "", line.problem
        assert line.route is not None
        limit = line.route.settings.max_body
        if limit is not None and meaning.length > limit:
            return "", line.route.too_large()
        return None


def _framing(fields: h1.RequestFields) -> bytes:
    """The line that says where the body ends (RFC 9112, 6), where there is one."""
    if fields.chunked:
        return b"Transfer-Encoding: chunked\r\n"
    return b"Content-Length: %d\r\n" % fields.content_length if fields.content_length is not None else b""


def _in_http_1_0(meaning: RequestMeaning) -> RequestMeaning:
    """What the same fields mean there (RFC 9112, 9.3; RFC 9110, 7.8).

    Raises:
        BadRequestError: a transfer coding, which does not exist there.
    """
    fields = meaning.fields
    if fields.chunked:
        raise BadRequestError("A transfer coding does not exist in HTTP/1.0.")
    return replace(meaning, lines=_framing(fields), keep_alive=fields.keep_alive and not fields.close, upgrade=False)
