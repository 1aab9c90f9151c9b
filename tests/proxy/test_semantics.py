"""What fields mean, by tables: which pass, which go, and what the others say together."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sidecar.errors import BadRequestError, Problem, UpstreamProtocolError
from sidecar.proxy import h1, semantics
from sidecar.proxy.pool import MAX_IDLE_SECONDS
from tests.proxy.heads import request_fields, response_fields

HOST = b"Host: localhost\r\n"


# --- a request's fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (HOST, {"length": 0, "made": b"", "chunked": False, "keep_alive": True, "upgrade": False}),
        (HOST + b"Content-Length: 0\r\n", {"length": 0, "made": b"Content-Length: 0\r\n", "chunked": False}),
        (HOST + b"content-length:\t 42 \t\r\n", {"length": 42}),
        (HOST + b"Content-Length: 007\r\n", {"length": 7, "made": b"Content-Length: 7\r\n"}),
        (HOST + b"Content-Length: 999999999999999999\r\n", {"length": 10**18 - 1}),
        (HOST + b"Transfer-Encoding: chunked\r\n", {"length": 0, "chunked": True}),
        (HOST + b"transfer-encoding: CHUNKED \r\n", {"chunked": True}),
        (HOST + b"Connection: close\r\n", {"keep_alive": False}),
        (HOST + b"Connection: Keep-Alive\r\n", {"keep_alive": True}),
        (HOST + b"Connection: foo , CLOSE,\r\n", {"keep_alive": False}),
        (HOST + b"Connection: a\r\nConnection: close\r\n", {"keep_alive": False}),
        (HOST + b"Upgrade: WebSocket\r\nConnection: Upgrade\r\n", {"upgrade": True}),
        (HOST + b"Upgrade: websocket\r\n", {"upgrade": False}),
        (HOST + b"Connection: upgrade\r\n", {"upgrade": False}),
        (b"Host: LOCALHOST:8600\r\n", {"host": b"localhost"}),
        (b"Host: [::1]:8600\r\n", {"host": b"[::1]"}),
        (b"Host: 127.0.0.1\r\n", {"host": b"127.0.0.1"}),
        (b"Host: localhost:\r\n", {"host": b"localhost"}),
        (HOST + b"X-Request-ID: 7\r\n", {"needs_id": False}),
        (HOST, {"needs_id": True}),
        (HOST + b"X-Request-ID: " + b"7" * 200 + b"\r\n", {"needs_id": False}),
        (HOST + b"X-Request-ID: 7\r\nX-Request-ID: 7\r\n", {"needs_id": True}),
        (HOST + b"X-Request-ID: 7\r\nConnection: x-request-id\r\n", {"needs_id": True}),
    ],
)
def test_request_fields(block: bytes, expected: dict[str, object]) -> None:
    """Framing, persistence, host and upgrade as RFC 9110 and 9112 have them."""
    _, fields = request_fields(block)
    assert {name: getattr(fields, name) for name in expected} == expected


KEPT = [
    b"Accept: */*",
    b"X-Empty:",
    b"X-Spaces:  \t  a  b \t ",
    b"x-lower: \xe4\xff",
    b"X-Colon: a:b:c",
    b"Traceparent: 00-1-2-01",
    b"Expect: 100-continue",
    b"X-Request-ID: mine",
    b"Content-Type: a/b",
    b"Content-Encoding: gzip",
    b"Cookies: a name of its own",
    b"Authorization-Hint: a name of its own",
    b"X-Forwarder: a name of its own",
]


@pytest.mark.parametrize("line", KEPT)
def test_request_field_kept(line: bytes) -> None:
    """End-to-end fields pass byte for byte, white space and case included."""
    assert request_fields(HOST + line + b"\r\n")[0] == line + b"\r\n"


GONE = [
    b"Authorization: Basic x",
    b"Authorization:",
    b"AUTHORIZATION: x",
    b"Cookie: a=b",
    b"Cookie2: x",
    b"Forwarded: for=1.2.3.4",
    b"X-Forwarded-For: 1.2.3.4",
    b"X-Forwarded-Anything-New: x",
    b"X_Forwarded_For: 1.2.3.4",
    b"X-Forwarded_Host: x",
    b"X-Forwarded: for=1.2.3.4",
    b"X-Real-IP: x",
    b"X_Real_IP: x",
    b"X.Real.IP: x",
    b"X!Forwarded*Host: x",
    b"Proxy-Authorization: x",
    b"Proxy-Connection: keep-alive",
    b"Proxy_Whatever: x",
    b"OPERATE-X-CSRF-TOKEN: x",
    b"Operate_X_CSRF_Token: x",
    b"X-CSRF-TOKEN: x",
    b"TASKLIST-X-CSRF-TOKEN: x",
    b"Keep-Alive: timeout=5",
    b"TE: trailers",
    b"Trailer: x",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAAA",
    b"Connection: close",
    b"Content-Length: 3",
    b"Transfer-Encoding: chunked",
]


OVERRIDES = [
    *(b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override", b"X-Original-Method"),
    *(b"X-Original-URL", b"X-Original-URI", b"X-Original-Path", b"X-Rewrite-URL", b"X-Rewrite-URI", b"X-Override-URL"),
    *(b"X-Envoy-Original-Path", b"X-HTTP-DestinationURL", b"X-Forwarded-Prefix", b"X-Forwarded-URI", b"X-Script-Name"),
    *(b"X-Original-Host", b"X-Host", b"X-HTTP-Host-Override", b"X-Forwarded-Host"),
]


@pytest.mark.parametrize("name", OVERRIDES)
@pytest.mark.parametrize("spell", [bytes, bytes.lower, bytes.upper, lambda n: n.replace(b"-", b"_"), bytes.swapcase])
def test_nothing_overrides_what_the_request_line_says(name: bytes, spell: Callable[[bytes], bytes]) -> None:
    """`allow` judged that method, path and host: no header may tell the upstream another one, in any spelling."""
    assert request_fields(HOST + spell(name) + b": DELETE\r\nA: 1\r\n")[0] == b"A: 1\r\n"
    last = name.rpartition(b"-")
    assert request_fields(HOST + last[0] + b"_" + last[2] + b": x\r\n")[0] == b""


BAD_IDS = [b"", b"  ", b"a b", b"a\tb", b"\xe4", b"7" * 201, b'"a" b']


@pytest.mark.parametrize("value", BAD_IDS)
def test_a_request_id_that_cannot_be_repeated_is_replaced(value: bytes) -> None:
    """It stands in the log line and in our own answers: printable ASCII, at most 200 characters, else one is made."""
    kept, fields = request_fields(HOST + b"X-Request-ID: " + value + b"\r\n")
    assert (kept, fields.needs_id) == (b"", True)


def test_of_several_request_ids_none_counts() -> None:
    """Nobody knows which one the upstream would log: one is made instead."""
    kept, fields = request_fields(HOST + b"X-Request-ID: 1\r\nA: 1\r\nx-request-id: 2\r\n")
    assert (kept, fields.needs_id) == (b"A: 1\r\n", True)


@pytest.mark.parametrize("line", [b"X-Request-ID: a-1\r\n", b"A: 1\r\nx-request-ID:\t a-1 \r\nX-Request-IDs: 2\r\n"])
def test_request_id_is_found(line: bytes) -> None:
    """The value alone, among other lines."""
    assert semantics.request_id(line) == "a-1"


@pytest.mark.parametrize("line", GONE)
def test_request_field_gone(line: bytes) -> None:
    """Hop-by-hop fields, client credentials and claims about the client never pass, in any spelling."""
    block = b"A: 1\r\n" + HOST + line + b"\r\nB: 2\r\n"
    assert request_fields(block)[0] == b"A: 1\r\nB: 2\r\n"


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        (b"x-a", b"X-B: 2\r\n"),
        (b"X-A, x-b", b""),
        (b"close, x-b", b"X-A: 1\r\n"),
        (b", ,x-a,,", b"X-B: 2\r\n"),
        (b'"x-a"', b"X-A: 1\r\nX-B: 2\r\n"),
        (b"host, content-length, connection", b"X-A: 1\r\nX-B: 2\r\n"),
    ],
)
def test_connection_names_fields(connection: bytes, kept: bytes) -> None:
    """What `Connection` names is hop-by-hop (RFC 9110, 7.6.1); it cannot name away the host or the framing."""
    block = b"X-A: 1\r\n" + HOST + b"X-B: 2\r\nContent-Length: 5\r\nConnection: " + connection + b"\r\n"
    found, fields = request_fields(block)
    assert (found, fields.host, fields.length) == (kept, b"localhost", 5)


def test_values_join_repeated_fields() -> None:
    """Several lines of one name are one list (RFC 9110, 5.3)."""
    _, fields = request_fields(HOST + b"X-Watched: 1\r\nx-watched:2\r\nX-Other: 3\r\n")
    assert fields.values == {b"host": b"localhost", b"x-watched": b"1, 2"}


FRAMING_REFUSED = [
    (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "both"),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "both"),
    (b"Content-Length: 1\r\nContent-Length: 1\r\n", "more than one"),
    (b"Content-Length: 1\r\ncontent-length: 2\r\n", "more than one"),
    (b"Content-Length: 1, 1\r\n", "decimal"),
    (b"Content-Length:\r\n", "decimal"),
    (b"Content-Length: +1\r\n", "decimal"),
    (b"Content-Length: -1\r\n", "decimal"),
    (b"Content-Length: 0x1\r\n", "decimal"),
    (b"Content-Length: 1 0\r\n", "decimal"),
    (b"Content-Length: 1_0\r\n", "decimal"),
    (b"Content-Length: \xb2\r\n", "decimal"),
    (b"Content-Length: 1000000000000000000\r\n", "decimal"),
    (b"Transfer-Encoding: gzip\r\n", "coding"),
    (b"Transfer-Encoding: gzip, chunked\r\n", "coding"),
    (b"Transfer-Encoding: chunked, chunked\r\n", "coding"),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "coding"),
    (b"Transfer-Encoding: identity\r\n", "coding"),
    (b"Transfer-Encoding:\r\n", "coding"),
    (b"Transfer-Encoding: chunked;q=1\r\n", "coding"),
    (b"Transfer-Encoding: \x0bchunked\r\n", "control"),
]

LINES_REFUSED = [
    (b"X-A : 1\r\n", "before its colon"),
    (b"X-A\t: 1\r\n", "before its colon"),
    (b" X-A: 1\r\n", "folded"),
    (b"X-A: 1\r\n 2\r\n", "folded"),
    (b"X-A: 1\r\n\t2\r\n", "folded"),
    (b"X-A\r\n", "name: value"),
    (b": 1\r\n", "name: value"),
    (b"X\xe4: 1\r\n", "name: value"),
    (b"X(: 1\r\n", "name: value"),
    (b"X-A: 1\x00\r\n", "NUL"),
    (b"X\x00: 1\r\n", "NUL"),
    (b"X-A: 1\n2\r\n", "bare"),
    (b"X-A: 1\nX-B: 2\r\n", "bare"),
    (b"X-A: 1\r2\r\n", "bare"),
    (b"X-A: 1\r\r\n", "bare"),
    (b"X-A: \x01\r\n", "control"),
    (b"X-A: \x7f\r\n", "control"),
]

HOSTS_REFUSED = [
    (b"", "none"),
    (HOST + HOST, "several"),
    (b"Host: a\r\nhost: b\r\n", "several"),
    (b"Host:\r\n", "not a name"),
    (b"Host: a b\r\n", "not a name"),
    (b"Host: a,b\r\n", "not a name"),
    (b"Host: user@localhost\r\n", "not a name"),
    (b"Host: localhost/\r\n", "not a name"),
    (b"Host: localhost:x\r\n", "not a name"),
    (b"Host: localhost:123456\r\n", "not a name"),
    (b"Host: ::1\r\n", "not a name"),
    (b"Host: [::1\r\n", "not a name"),
]


@pytest.mark.parametrize(
    ("block", "word"),
    [
        *[(HOST + block, word) for block, word in FRAMING_REFUSED],
        *[(HOST + block, word) for block, word in LINES_REFUSED],
        *HOSTS_REFUSED,
    ],
)
def test_request_fields_refused(block: bytes, word: str) -> None:
    """What two parsers could read in two ways is a bad request, and the detail says why."""
    with pytest.raises(BadRequestError) as caught:
        request_fields(block)
    assert word in caught.value.detail


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 2000, b"X-" + b"a" * 2000 + b": 1", b"Cookie: " + b"a" * 2000])
def test_long_lines_mean_the_same(line: bytes) -> None:
    """A line too long for the memo is read by the same rules, named in `Connection` or not."""
    name = line.partition(b":")[0]
    kept = b"" if name == b"Cookie" else line + b"\r\n"
    assert request_fields(HOST + line + b"\r\n")[0] == kept
    assert request_fields(HOST + line + b"\r\nConnection: " + name + b"\r\n")[0] == b""


@pytest.mark.parametrize(
    "block",
    [
        HOST + b"X: " + b" " * 60_000 + b"\x00\r\n",
        HOST + b"X: " + b"\t " * 30_000 + b"a\x00\r\n",
        HOST + b"a" * 60_000 + b"\r\n",
        HOST + b"a:\r\n" * 15_000 + b"a\r\n",
        HOST + b"Connection: " + b"," * 60_000 + b"\x00\r\n",
        HOST + b"Connection: " + b" ," * 30_000 + b"\r\n" + HOST,
    ],
    ids=["spaces", "tabs", "name", "lines", "commas", "options"],
)
def test_refusing_is_linear(block: bytes) -> None:
    """The largest hostile head costs milliseconds, not the square of its size."""
    start = time.process_time()
    with pytest.raises(BadRequestError):
        request_fields(block)
    assert time.process_time() - start < 0.5


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"", {"kept": b"", "ends": semantics.UNTIL_CLOSE, "location": None, "set_cookie": ()}),
        (b"A: 1\r\nContent-Length: 3\r\nB:  2 \r\n", {"kept": b"A: 1\r\nB:  2 \r\n", "length": 3}),
        (b"Transfer-Encoding: chunked\r\n", {"kept": b"", "ends": semantics.CHUNKED}),
        (b"Set-Cookie: a=b\r\nSet-Cookie2: x\r\nset-cookie: c=d\r\n", {"kept": b"", "set_cookie": (b"a=b", b"c=d")}),
        (b"Location:  /a \r\nA: 1\r\n", {"kept": b"A: 1\r\n", "location": b"/a"}),
        (b"Sidecar-Error: mine\r\nsidecar-error: x\r\n", {"kept": b""}),
        (b"Proxy-Authenticate: Basic\r\nProxy-Authentication-Info: x\r\nProxy-Connection: close\r\n", {"kept": b""}),
        (b"WWW-Authenticate: Bearer\r\n", {"kept": b"WWW-Authenticate: Bearer\r\n"}),
        (b"Keep-Alive: timeout=5\r\nTE: x\r\nTrailer: X\r\nUpgrade: h2\r\n", {"kept": b"", "upgrade": b"h2"}),
        (b"Connection: close, X-A\r\nX-A: 1\r\nX-B: 2\r\n", {"kept": b"X-B: 2\r\n", "idle_seconds": 0.0}),
        (b"Connection: keep-alive\r\n", {"kept": b"", "idle_seconds": MAX_IDLE_SECONDS}),
    ],
)
def test_response_fields(block: bytes, expected: dict[str, object]) -> None:
    """What is hop-by-hop, a cookie or ours alone is set apart; the rest passes byte for byte."""
    kept, fields = response_fields(block)
    assert {name: kept if name == "kept" else getattr(fields, name) for name in expected} == expected


@pytest.mark.parametrize(("block", "word"), [*FRAMING_REFUSED, *LINES_REFUSED])
def test_response_fields_refused(block: bytes, word: str) -> None:
    """Answers are read as strictly as requests."""
    with pytest.raises(UpstreamProtocolError) as caught:
        response_fields(block)
    assert word in caught.value.detail


def test_two_locations_are_refused() -> None:
    """Which of two Locations a client follows is anybody's guess."""
    with pytest.raises(UpstreamProtocolError):
        response_fields(b"Location: /a\r\nLocation: /b\r\n")


def test_errors_do_not_quote_the_message() -> None:
    """No detail repeats what came in: it may be a credential."""
    secret = b"s3cr3t"
    cases = [
        lambda: h1.request_line(b"GET /%b x HTTP/1.1" % secret),
        lambda: request_fields(HOST + b"Authorization: Bearer %b\x00\r\n" % secret),
        lambda: request_fields(b"Host: %b@x\r\n" % secret),
        lambda: response_fields(b"X: %b\x00\r\n" % secret),
        lambda: h1.status_line(secret),
    ]
    for case in cases:
        with pytest.raises(Problem) as caught:
            case()
        assert "s3cr3t" not in str(caught.value)
