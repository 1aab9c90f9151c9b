"""Routing: what follows from a request's line and fields, and in which order a client learns why it is refused."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from sidecar.clock import SystemClock
from sidecar.config.settings import RequiredHeader, Route, Rule
from sidecar.errors import BadRequestError, UnsupportedError, UpstreamProtocolError
from sidecar.proxy.guard import Guard
from sidecar.proxy.pool import MAX_IDLE_SECONDS, Connection, Pool
from sidecar.proxy.routing import CompiledRoute, RoutingTable
from sidecar.proxy.semantics import CHUNKED, EMPTY, LENGTH, UNTIL_CLOSE
from sidecar.telemetry.http import RouteStats
from tests.proxy.heads import resolved
from tests.proxy.support import FakeAuthorizer, route

HOST = b"Host: localhost:8600\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def head(line: bytes, block: bytes = HOST) -> bytes:
    return line + b"\r\n" + block + b"\r\n"


async def nobody() -> Connection:
    raise AssertionError("nobody dials here")


def compiled(settings: Route) -> CompiledRoute:
    stats = RouteStats(settings.name)
    return CompiledRoute(settings, FakeAuthorizer(), Pool(nobody, stats, SystemClock(), 5.0), stats)


def table(*routes: Route, guard: Guard | None = None) -> RoutingTable:
    return RoutingTable([compiled(r) for r in routes], guard or Guard())


OPERATE = route("operate", "https://up.example/base")
CONSOLE = route("console", "http://127.0.0.1:8080", allow=(Rule("GET", "/clusters/**"),))
OPTIMIZE = route(
    "optimize", "http://[::1]:8090/opt", allow=(Rule("GET", "/api/public/**"),), public=(Rule("GET", "/api/readyz"),)
)
ROOT = route("rest", "http://rest.example", prefix="/")


# --- what the upstream is asked for ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "start"),
    [
        (b"GET /operate/a?b HTTP/1.1", b"GET /base/a?b HTTP/1.1\r\nHost: up.example\r\n"),
        (b"GET /operate/a HTTP/1.0", b"GET /base/a HTTP/1.1\r\nHost: up.example\r\n"),
        (b"GET /operate HTTP/1.1", b"GET /base HTTP/1.1\r\nHost: up.example\r\n"),
        (b"GET /operate?b HTTP/1.1", b"GET /base?b HTTP/1.1\r\nHost: up.example\r\n"),
        (b"GET /operate//a%20;b HTTP/1.1", b"GET /base//a%20;b HTTP/1.1\r\nHost: up.example\r\n"),
        (b"PROPFIND /operate/ HTTP/1.1", b"PROPFIND /base/ HTTP/1.1\r\nHost: up.example\r\n"),
        (b"GET http://localhost:8600/operate/a HTTP/1.1", b"GET /base/a HTTP/1.1\r\nHost: up.example\r\n"),
        (b"GET /console HTTP/1.1", b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"),
        (b"GET /optimize/a HTTP/1.1", b"GET /opt/a HTTP/1.1\r\nHost: [::1]:8090\r\n"),
        (b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nHost: rest.example\r\n"),
        (b"GET /other HTTP/1.1", b"GET /other HTTP/1.1\r\nHost: rest.example\r\n"),
    ],
)
def test_upstream_start(line: bytes, start: bytes) -> None:
    """The prefix is replaced by the upstream's base; the path is otherwise the client's, the Host the upstream's."""
    assert resolved(table(OPERATE, CONSOLE, OPTIMIZE, ROOT), line).head == start


@pytest.mark.parametrize(
    ("method", "label", "safe", "idempotent"),
    [
        (b"GET", "GET", True, True),
        (b"HEAD", "HEAD", True, True),
        (b"OPTIONS", "OPTIONS", True, True),
        (b"PUT", "PUT", False, True),
        (b"DELETE", "DELETE", False, True),
        (b"POST", "POST", False, False),
        (b"PATCH", "PATCH", False, False),
        (b"INVENTED", "other", False, False),
        (b"get", "other", False, False),
    ],
)
def test_methods(method: bytes, label: str, safe: bool, idempotent: bool) -> None:
    """RFC 9110, 9.2; a metric's label takes no value that a client invents."""
    line = resolved(table(OPERATE), method + b" /operate HTTP/1.1")
    assert (line.method.label, line.method.safe, line.method.idempotent) == (label, safe, idempotent)


def test_path_for_logs_has_no_query() -> None:
    """A query may hold anything, and is left out of every log line."""
    assert resolved(table(OPERATE), b"GET /operate/a?token=s3cr3t HTTP/1.1").path == b"/operate/a"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"GET /operate/../console HTTP/1.1", BadRequestError),
        (b"GET /console/clusters%2f..%2fmembers HTTP/1.1", BadRequestError),
        (b"GET * HTTP/1.1", BadRequestError),
        (b"CONNECT localhost:80 HTTP/1.1", UnsupportedError),
        (b"GET /operate", BadRequestError),
    ],
)
def test_unsafe_lines_raise(line: bytes, error: type[Exception]) -> None:
    """What is not one safe request line has no route, and no policy is asked about it."""
    with pytest.raises(error):
        resolved(table(OPERATE, CONSOLE, ROOT), line)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"GET /operate/a HTTP/1.1", None),
        (b"GET /console/clusters HTTP/1.1", None),
        (b"GET /console/clusters/1/clients HTTP/1.1", None),
        (b"HEAD /console/clusters HTTP/1.1", None),
        (b"POST /console/clusters HTTP/1.1", "forbidden_by_policy"),
        (b"GET /console/members HTTP/1.1", "forbidden_by_policy"),
        (b"GET /optimize/api/readyz HTTP/1.1", None),
        (b"POST /optimize/api/readyz HTTP/1.1", "forbidden_by_policy"),
        (b"GET /other HTTP/1.1", "no_route"),
        (b"GET /operated HTTP/1.1", "no_route"),
        (b"OPTIONS * HTTP/1.1", "no_route"),
    ],
)
def test_refusal_by_line(line: bytes, code: str | None) -> None:
    """A route has to match and to allow the request; `public` is allowed without a rule of its own."""
    routes = table(OPERATE, CONSOLE, OPTIMIZE)
    refusal = routes.request(head(line)).refusal
    assert (refusal and refusal[1].code) == code


def test_public_requests_are_marked() -> None:
    """Only what `public` names goes without a credential."""
    routes = table(OPTIMIZE)
    assert resolved(routes, b"GET /optimize/api/readyz HTTP/1.1").public
    assert resolved(routes, b"HEAD /optimize/api/readyz HTTP/1.1").public
    assert not resolved(routes, b"GET /optimize/api/public/x HTTP/1.1").public
    assert not resolved(routes, b"POST /optimize/api/readyz HTTP/1.1").public


STRICT = Guard([], RequiredHeader("X-Sidecar"))


@pytest.mark.parametrize(
    ("line", "block", "expected"),
    [
        # Who is no local name, or a web page, learns nothing of routes and policies.
        (b"GET /other HTTP/1.1", b"Host: evil.com\r\n", ("host", "unknown_host")),
        (b"GET /other HTTP/1.1", HOST + b"Origin: null\r\n", ("origin", "cross_site")),
        (b"GET /other HTTP/1.1", HOST + b"Sec-Fetch-Site: cross-site\r\n", ("fetch_metadata", "cross_site")),
        (b"POST /console/clusters HTTP/1.1", HOST, ("require_header", "forbidden_by_policy")),
        (b"GET /other HTTP/1.1", HOST + b"X-Sidecar: 1\r\n", ("", "no_route")),
        (b"POST /console/clusters HTTP/1.1", HOST + b"X-Sidecar: 1\r\n", ("allow", "forbidden_by_policy")),
        (b"GET /console/clusters HTTP/1.1", HOST + b"X-Sidecar: 1\r\n", None),
        # An absolute-form target's authority is its Host.
        (b"GET http://evil.com/operate HTTP/1.1", HOST + b"X-Sidecar: 1\r\n", ("host", "unknown_host")),
        (b"GET http://localhost/operate HTTP/1.1", b"Host: evil.com\r\nX-Sidecar: 1\r\n", None),
        (
            b"GET http://localhost/operate HTTP/1.1",
            HOST + b"X-Sidecar: 1\r\nOrigin: http://localhost:8600\r\n",
            ("origin", "cross_site"),
        ),
        (b"GET http://localhost/operate HTTP/1.1", HOST + b"X-Sidecar: 1\r\nOrigin: http://localhost\r\n", None),
        (b"GET http://localhost/other HTTP/1.1", HOST, ("require_header", "forbidden_by_policy")),
    ],
)
def test_order_of_refusals(line: bytes, block: bytes, expected: tuple[str, str] | None) -> None:
    """The guard first, then the route, then its policy: each refusal says only what its reader may know."""
    routes = table(OPERATE, CONSOLE, guard=STRICT)
    refusal = routes.request(head(line, block)).refusal
    assert (refusal and (refusal[0], refusal[1].code)) == expected


# --- memory ----------------------------------------------------------------------------------------------------------


def test_tables_do_not_share_memory() -> None:
    """The same bytes mean something else after a reload, to the routes as to the guard."""
    line, block = b"GET /operate/a HTTP/1.1", b"Host: sidecar.internal\r\n"
    before = table(OPERATE)
    after = table(route("operate", "http://new.example", allow=()), guard=Guard(["sidecar.internal"]))
    for _ in range(3):
        first, second = (one.request(head(line, block)) for one in (before, after))
        assert first.head.startswith(b"GET /base/a ")
        assert (first.refusal and first.refusal[0]) == "host"
        assert second.head.endswith(b"Host: new.example\r\n")
        assert (second.refusal and second.refusal[0]) == "allow"


def test_routes_do_not_share_memory() -> None:
    """The same answer means something else on another route: its cookies and its Location."""
    answer = OK + b"Location: https://up.example/base/a\r\nSet-Cookie: a=b\r\n\r\n"
    drops = compiled(OPERATE)
    passes = compiled(route("other", "https://other.example/base", cookies="pass"))
    for _ in range(3):
        assert drops.response(answer).head == OK + b"Location: /operate/a\r\n"
        assert passes.response(answer).head == answer.removesuffix(b"\r\n")


def test_memory_gives_the_same_answer() -> None:
    """What fields mean that were seen before is what they meant the first time, whatever the rest of the head is."""
    routes = table(OPERATE)
    first, second, third, fourth = (routes.request(head(b"GET /operate/%d HTTP/1.1" % n)) for n in range(4))
    assert first.fields is not second.fields
    assert third.fields is fourth.fields
    assert asdict(first.fields) == asdict(fourth.fields)
    assert fourth.head == b"GET /base/3 HTTP/1.1\r\nHost: up.example\r\n"


def test_refusals_are_found_again() -> None:
    """What raises raises each time."""
    routes = table(OPERATE)
    for _ in range(3):
        with pytest.raises(BadRequestError):
            routes.request(head(b"GET /operate/.. HTTP/1.1"))
        with pytest.raises(BadRequestError):
            routes.request(head(b"GET /operate/a HTTP/1.1", b""))


@pytest.mark.parametrize(
    ("line", "block", "expected"),
    [
        (b"GET /operate HTTP/1.1", b"", {"keep_alive": True, "length": 0, "upgrade": False, "needs_id": True}),
        (b"GET /operate HTTP/1.1", b"Connection: close\r\n", {"keep_alive": False}),
        (b"GET /operate HTTP/1.0", b"", {"keep_alive": False}),
        (b"GET /operate HTTP/1.0", b"Connection: keep-alive\r\n", {"keep_alive": True}),
        (b"GET /operate HTTP/1.0", b"Connection: keep-alive, close\r\n", {"keep_alive": False}),
        (b"POST /operate HTTP/1.1", b"Content-Length: 5\r\n", {"length": 5}),
        (b"POST /operate HTTP/1.1", b"Transfer-Encoding: chunked\r\n", {"length": 0}),
        (b"GET /operate HTTP/1.1", b"Connection: upgrade\r\nUpgrade: websocket\r\n", {"upgrade": True}),
        (b"GET /operate HTTP/1.0", b"Connection: upgrade\r\nUpgrade: websocket\r\n", {"upgrade": False}),
        (b"GET /operate HTTP/1.1", b"Connection: upgrade\r\nUpgrade: h2c\r\n", {"upgrade": False}),
        (
            b"POST /operate HTTP/1.1",
            b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
            {"upgrade": False},
        ),
        (b"GET /operate HTTP/1.1", b"X-Request-ID: 7\r\n", {"needs_id": False}),
    ],
)
def test_what_a_head_says(line: bytes, block: bytes, expected: dict[str, object]) -> None:
    """Line and fields together: how long the body is, whether the connection lives on, whether it may be a tunnel."""
    meaning = table(OPERATE).request(head(line, HOST + block)).fields
    assert {name: getattr(meaning, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("block", "made"),
    [
        (b"Accept: a/b\r\n", b"Accept: a/b\r\n"),
        (b"Content-Length: 007\r\nA: 1\r\n", b"A: 1\r\nContent-Length: 7\r\n"),
        (b"Transfer-Encoding: CHUNKED\r\nA: 1\r\n", b"A: 1\r\nTransfer-Encoding: chunked\r\n"),
        (b"Connection: a\r\nA: 1\r\nB: 2\r\n", b"B: 2\r\n"),
        (
            b"Connection: upgrade\r\nUpgrade: websocket\r\n",
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        ),
    ],
)
def test_what_the_upstream_gets(block: bytes, made: bytes) -> None:
    """The fields as they came, less what is hop-by-hop, and the framing made anew."""
    start = b"GET /base HTTP/1.1\r\nHost: up.example\r\n"
    assert table(OPERATE).request(head(b"GET /operate HTTP/1.1", HOST + block)).head == start + made


def test_a_body_over_the_limit_is_known_by_its_head() -> None:
    """It is refused before anything is sent."""
    routes = table(route("operate", "http://up.example", max_body=10))
    refusals = [
        routes.request(head(b"POST /operate HTTP/1.1", HOST + b"Content-Length: %d\r\n" % length)).refusal
        for length in (10, 11)
    ]
    assert [refusal and refusal[1].code for refusal in refusals] == [None, "body_too_large"]


def test_chunked_does_not_exist_in_http_1_0() -> None:
    """RFC 9112, 6.1."""
    with pytest.raises(BadRequestError):
        table(OPERATE).request(head(b"POST /operate HTTP/1.0", HOST + b"Transfer-Encoding: chunked\r\n"))


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "block", "lines", "set_cookie"),
    [
        ({}, b"A: 1\r\nContent-Length: 3\r\n", b"A: 1\r\nContent-Length: 3\r\n", ()),
        ({}, b"Content-Length: 003\r\n", b"Content-Length: 3\r\n", ()),
        ({}, b"Transfer-Encoding: chunked\r\nA: 1\r\n", b"A: 1\r\n", ()),
        ({}, b"Set-Cookie: a=b\r\nA: 1\r\n", b"A: 1\r\n", (b"a=b",)),
        ({"cookies": "pass"}, b"Set-Cookie: a=b\r\nA: 1\r\n", b"A: 1\r\nSet-Cookie: a=b\r\n", (b"a=b",)),
        ({}, b"Location: https://up.example:443/base/x\r\n", b"Location: /operate/x\r\n", ()),
        ({}, b"Location: https://elsewhere.example/base/x\r\n", b"Location: https://elsewhere.example/base/x\r\n", ()),
        ({"prefix": "/"}, b"Location: /base/x\r\n", b"Location: /x\r\n", ()),
        ({}, b"Sidecar-Error: draining\r\nA: 1\r\n", b"A: 1\r\n", ()),
    ],
)
def test_head_of_an_answer(changes: dict[str, Any], block: bytes, lines: bytes, set_cookie: tuple[bytes, ...]) -> None:
    """The lines that the client gets, all but the framing of a body without a length."""
    answer = compiled(route("operate", "https://up.example/base", **changes)).response(head(OK[:-2], block))
    assert (answer.head, answer.fields.set_cookie) == (OK + lines, set_cookie)


@pytest.mark.parametrize(
    ("line", "block", "expected"),
    [
        (b"HTTP/1.1 200 OK", b"Content-Length: 3\r\n", (200, LENGTH, True)),
        (b"HTTP/1.1 200", b"Content-Length: 0\r\n", (200, LENGTH, True)),
        (b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked\r\n", (200, CHUNKED, True)),
        (b"HTTP/1.1 200 OK", b"", (200, UNTIL_CLOSE, True)),
        (b"HTTP/1.0 200 OK", b"Content-Length: 3\r\n", (200, LENGTH, False)),
        (b"HTTP/1.0 200 OK", b"Content-Length: 3\r\nConnection: keep-alive\r\n", (200, LENGTH, True)),
        (b"HTTP/1.1 200 OK", b"Content-Length: 3\r\nConnection: close\r\n", (200, LENGTH, False)),
        (b"HTTP/1.1 204 No Content", b"", (204, EMPTY, True)),
        (b"HTTP/1.1 304 Not Modified", b"Content-Length: 3\r\n", (304, EMPTY, True)),
        (b"HTTP/1.1 304 Not Modified", b"Transfer-Encoding: chunked\r\n", (304, EMPTY, True)),
        (b"HTTP/1.1 103 Early Hints", b"Link: x\r\n", (103, EMPTY, True)),
    ],
)
def test_how_an_answer_ends(line: bytes, block: bytes, expected: tuple[int, int, bool]) -> None:
    """RFC 9112, 6.3, and whether the upstream's connection lives on."""
    answer = compiled(OPERATE).response(head(line, block))
    assert (answer.fields.status, answer.fields.ends, answer.fields.idle_seconds > 0) == expected


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (b"", MAX_IDLE_SECONDS),
        (b"Keep-Alive: timeout=5\r\n", 4.0),
        (b"keep-alive: timeout=5, max=100\r\n", 4.0),
        (b'Keep-Alive: max=100, Timeout = "5"\r\n', 4.0),
        (b"Keep-Alive: max=100\r\nKeep-Alive: timeout=5\r\n", 4.0),
        (b"Keep-Alive: timeout=1\r\n", 0.5),
        (b"Keep-Alive: timeout=0\r\n", 0.0),
        (b"Keep-Alive: timeout=600\r\n", MAX_IDLE_SECONDS),
        (b"Keep-Alive: timeout=999999999999999\r\n", MAX_IDLE_SECONDS),
        (b"Keep-Alive: timeout=-5\r\n", MAX_IDLE_SECONDS),
        (b"Keep-Alive: timeout=soon\r\n", MAX_IDLE_SECONDS),
        (b"Keep-Alive: xtimeout=5\r\n", MAX_IDLE_SECONDS),
        (b"Keep-Alive: timeout=5\r\nConnection: close\r\n", 0.0),
    ],
)
def test_how_long_a_connection_is_kept(lines: bytes, seconds: float) -> None:
    """For less than the upstream says that it keeps it, and never for longer than usual servers do."""
    answer = compiled(OPERATE).response(head(b"HTTP/1.1 200 OK", b"Content-Length: 3\r\n" + lines))
    assert answer.fields.idle_seconds == seconds
    assert b"eep-" not in answer.head


@pytest.mark.parametrize(
    ("line", "block"),
    [
        (b"HTTP/1.1 200 OK", b"Content-Length: 1\r\nContent-Length: 1\r\n"),
        (b"HTTP/1.1 200 OK", b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        (b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked\r\n"),
        (b"HTTP/1.1 204 No Content", b"Content-Length: 1\r\n"),
        (b"HTTP/1.1 204 No Content", b"Transfer-Encoding: chunked\r\n"),
        (b"HTTP/1.1 100 Continue", b"Content-Length: 0\r\n"),
        (b"HTTP/2 200 OK", b""),
        (b"HTTP/1.1 200 OK", b"A : 1\r\n"),
    ],
)
def test_ambiguous_answers_raise(line: bytes, block: bytes) -> None:
    """Answers are held to the same grammar as requests."""
    with pytest.raises(UpstreamProtocolError):
        compiled(OPERATE).response(head(line, block))


def test_a_204_passes_without_a_length() -> None:
    """RFC 9110, 8.6."""
    assert compiled(OPERATE).response(head(b"HTTP/1.1 204 No Content", b"A: 1\r\nContent-Length: 0\r\n")).head == (
        b"HTTP/1.1 204 No Content\r\nA: 1\r\n"
    )
