"""What an upstream may answer, what the client must see of it, and whether the connection may be used again.

The request is `GET /op/a` unless the case says otherwise; the route's base is `/base`, its origin stands as ORIGIN.
"""

from __future__ import annotations

from dataclasses import dataclass

GET = b"GET /op/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
GET_10 = b"GET /op/a HTTP/1.0\r\nHost: localhost\r\n\r\n"
HEAD = b"HEAD /op/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
WEBSOCKET = (
    b"GET /op/a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass(frozen=True)
class Passed:
    """The client sees this answer, whole."""

    status: int = 200
    body: bytes = b"ok"
    present: tuple[tuple[bytes, bytes], ...] = ()
    absent: tuple[bytes, ...] = ()
    informational: tuple[int, ...] = ()
    """The 1xx that came before it."""


@dataclass(frozen=True)
class Bad:
    """502 `upstream_protocol_error`."""


@dataclass(frozen=True)
class Cut:
    """The head was sent already: the connection ends so that nothing looks whole."""


Outcome = Passed | Bad | Cut


@dataclass(frozen=True)
class AnswerCase:
    name: str
    raw: bytes
    expect: tuple[Outcome, ...]
    why: str
    reuse: bool | None
    """Whether the next request goes over the same connection; None: either is right."""
    end: str = ""
    """What the upstream does after the bytes: nothing, `fin`, or `rst`."""
    request: bytes = GET


def head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """A response's head."""
    return b"\r\n".join((status, *lines)) + b"\r\n\r\n"


def sized(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK", body: bytes = b"ok") -> bytes:
    """With the right length."""
    return head(*lines, b"Content-Length: %d" % len(body), status=status) + body


def chunks(raw: bytes, *lines: bytes) -> bytes:
    """With the raw chunks given."""
    return head(*lines, b"Transfer-Encoding: chunked") + raw


OKC = b"2\r\nok\r\n0\r\n\r\n"


def good(
    name: str,
    raw: bytes,
    why: str,
    *outcomes: Outcome,
    reuse: bool | None = True,
    end: str = "",
    request: bytes = GET,
) -> AnswerCase:
    """Passed on."""
    return AnswerCase(name, raw, outcomes or (Passed(),), why, reuse, end, request)


def bad(name: str, raw: bytes, why: str, *, end: str = "", request: bytes = GET) -> AnswerCase:
    """502, and the connection is done."""
    return AnswerCase(f"bad-{name}", raw, (Bad(),), why, reuse=False, end=end, request=request)


def broken(name: str, raw: bytes, why: str, *, end: str = "", request: bytes = GET) -> AnswerCase:
    """The mistake is in the body: 502 where the head is not sent yet, else cut."""
    return AnswerCase(f"broken-{name}", raw, (Bad(), Cut()), why, reuse=False, end=end, request=request)


def line(name: str, status: bytes, why: str = "9112 4: the status line") -> AnswerCase:
    """A status line that is none."""
    return bad(f"status-{name}", sized(status=status), why)


def field(name: str, raw: bytes, why: str) -> AnswerCase:
    """A field line that is none, or one that leaves the end in doubt."""
    return bad(f"field-{name}", sized(raw), why)


def framing(name: str, *lines: bytes, why: str = "9112 6.3", body: bytes = b"ok") -> AnswerCase:
    """Fields that leave the end in doubt."""
    return bad(f"framing-{name}", head(*lines) + body, why)


def location(name: str, value: bytes, local: bytes, why: str) -> AnswerCase:
    """A Location, and what the client sees of it."""
    raw = sized(b"Location: " + value, status=b"HTTP/1.1 302 Found")
    return good(f"location-{name}", raw, why, Passed(302, present=((b"Location", local),)))


def truncated(name: str, raw: bytes, first: int) -> list[AnswerCase]:
    """Ended after each number of bytes: before the head's end 502, after it cut (or 502, nothing being sent yet)."""
    cases = []
    for end in ("fin", "rst"):
        for size in range(len(raw)):
            expect: tuple[Outcome, ...] = (Bad(),) if size < first else (Bad(), Cut())
            cases.append(
                AnswerCase(f"{name}-{end}-{size:02}", raw[:size], expect, "never looks whole", reuse=False, end=end)
            )
    return cases


SHORT_SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SHORT_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n"

CASES: list[AnswerCase] = [
    # what is right
    good("length", sized(), "9112 6.2"),
    good("length-zero", sized(body=b""), "9112 6.2", Passed(body=b"")),
    good("length-big", sized(body=b"x" * 100_000), "many reads", Passed(body=b"x" * 100_000)),
    good("chunked", chunks(OKC), "9112 7.1"),
    good("chunked-empty", chunks(b"0\r\n\r\n"), "9112 7.1", Passed(body=b"")),
    good("chunked-upper", head(b"TRANSFER-ENCODING: CHUNKED") + OKC, "any case"),
    good("chunked-many", chunks(b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n"), "9112 7.1"),
    good("chunked-extension", chunks(b"2;a=b\r\nok\r\n0;c\r\n\r\n"), "9112 7.1.1: ignored"),
    good("chunked-trailer", chunks(b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"), "dropped", Passed(absent=(b"X-Sum",))),
    good("chunked-cookie-in-trailer", chunks(b"2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n"), "dropped with the others"),
    good("chunked-zeros", chunks(b"0002\r\nok\r\n000\r\n\r\n"), "1*HEXDIG"),
    good("chunked-big", chunks(b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n\r\n"), "reads", Passed(body=b"x" * 100_000)),
    good("close-delimited", head() + b"ok", "9112 6.3 (8)", reuse=False, end="fin"),
    good("close-delimited-empty", head(), "9112 6.3 (8)", Passed(body=b""), reuse=False, end="fin"),
    good("close-delimited-1.0", head(status=b"HTTP/1.0 200 OK") + b"ok", "9112 6.3 (8)", reuse=False, end="fin"),
    good("1.0-length", sized(status=b"HTTP/1.0 200 OK"), "9112 9.3: 1.0 closes", reuse=False),
    good("1.0-keep-alive", sized(b"Connection: keep-alive", status=b"HTTP/1.0 200 OK"), "9112 9.3", reuse=None),
    good("connection-close", sized(b"Connection: close"), "9112 9.6", reuse=False),
    good("connection-close-upper", sized(b"Connection: CLOSE"), "options: any case", reuse=False),
    good("connection-close-list", sized(b"Connection: foo, close"), "9112 9.6", reuse=False),
    good("connection-close-fin", sized(b"Connection: close"), "the usual way to say it", reuse=False, end="fin"),
    good("length-then-fin", sized(), "a server that closes without a word", reuse=False, end="fin"),
    good("reason-empty", sized(status=b"HTTP/1.1 200 "), "9112 4: the reason may be empty"),
    good(
        "reason-missing-space",
        sized(status=b"HTTP/1.1 200"),
        "IIS and others leave it out",
        Passed(),
        Bad(),
        reuse=None,
    ),
    good("reason-obs-text", sized(status=b"HTTP/1.1 200 \xc3\xbc"), "9112 4: obs-text"),
    good("reason-odd", sized(status=b"HTTP/1.1 200 Content-Length: 99"), "9112 4: any text"),
    good("status-204", head(status=b"HTTP/1.1 204 No Content"), "9112 6.3 (1)", Passed(204, b"")),
    good("status-304", head(b'ETag: "x"', status=b"HTTP/1.1 304 x"), "9112 6.3 (1)", Passed(304, b"")),
    good(
        "status-304-length",
        head(b"Content-Length: 5", status=b"HTTP/1.1 304 x"),
        "9110 8.6: what GET would have",
        Passed(304, b""),
    ),
    good(
        "status-304-chunked",
        head(b"Transfer-Encoding: chunked", status=b"HTTP/1.1 304 x"),
        "9112 6.1: may",
        Passed(304, b""),
        Bad(),
        reuse=None,
    ),
    good("status-205", sized(body=b"", status=b"HTTP/1.1 205 x"), "an answer like any", Passed(205, b"")),
    good("status-299", sized(status=b"HTTP/1.1 299 x"), "9110 15: unknown codes pass", Passed(299)),
    good("status-404", sized(status=b"HTTP/1.1 404 x"), "the upstream's own", Passed(404)),
    good("status-500", sized(status=b"HTTP/1.1 500 x"), "the upstream's own", Passed(500)),
    good(
        "status-503",
        sized(b"Retry-After: 7", status=b"HTTP/1.1 503 x"),
        "never retried here",
        Passed(503, present=((b"Retry-After", b"7"),)),
    ),
    good(
        "status-401",
        sized(b"WWW-Authenticate: Bearer", status=b"HTTP/1.1 401 x"),
        "no other token: passed on",
        Passed(401, present=((b"WWW-Authenticate", b"Bearer"),)),
    ),
    good("status-403", sized(status=b"HTTP/1.1 403 x"), "403 never refreshes", Passed(403)),
    good("status-599", sized(status=b"HTTP/1.1 599 x"), "9110 15: unknown codes pass", Passed(599)),
    good(
        "status-999",
        sized(status=b"HTTP/1.1 999 x"),
        "9110 15: outside 100 to 599 is invalid",
        Passed(999),
        Bad(),
        reuse=None,
    ),
    good(
        "head",
        head(b"Content-Length: 5"),
        "9110 9.3.2: the length that GET would have",
        Passed(body=b"", present=((b"Content-Length", b"5"),)),
        request=HEAD,
    ),
    good(
        "head-chunked",
        head(b"Transfer-Encoding: chunked"),
        "9112 6.1: no body all the same",
        Passed(body=b""),
        request=HEAD,
    ),
    good("head-nothing", head(), "9112 6.3 (1): no body, so nothing waits for the end", Passed(body=b""), request=HEAD),
    good("head-404", head(b"Content-Length: 5", status=b"HTTP/1.1 404 x"), "the same", Passed(404, b""), request=HEAD),
    good(
        "informational-100",
        head(status=b"HTTP/1.1 100 x") + sized(),
        "9110 15.2: a 100 that nobody asked for",
        Passed(),
        Passed(informational=(100,)),
    ),
    good(
        "informational-103",
        head(b"Link: </a>", status=b"HTTP/1.1 103 x") + sized(),
        "8297: passes",
        Passed(informational=(103,)),
    ),
    good(
        "informational-102",
        head(status=b"HTTP/1.1 102 x") + sized(),
        "9110 15.2: passes or is dropped",
        Passed(informational=(102,)),
        Passed(),
    ),
    good(
        "informational-three",
        head(status=b"HTTP/1.1 103 x") * 3 + sized(),
        "9110 15.2: any number",
        Passed(informational=(103,) * 3),
    ),
    good(
        "informational-cookie",
        head(b"Set-Cookie: a=b", status=b"HTTP/1.1 103 x") + sized(),
        "cookies go from there too",
        Passed(informational=(103,), absent=(b"Set-Cookie",)),
    ),
    good(
        "informational-1.0-client",
        head(status=b"HTTP/1.1 103 x") + sized(),
        "9110 15.2: not to a 1.0 client",
        Passed(),
        reuse=True,
        request=GET_10,
    ),
    good(
        "chunked-1.0-client",
        chunks(OKC),
        "9112 7.1: no chunks to a 1.0 client",
        Passed(absent=(b"Transfer-Encoding",)),
        request=GET_10,
    ),
    good(
        "close-delimited-1.0-client",
        head() + b"ok",
        "delimited by the end again",
        reuse=False,
        end="fin",
        request=GET_10,
    ),
    # fields
    good(
        "fields-kept",
        sized(b"X-A: b", b'ETag: W/"x"', b"Content-Encoding: gzip", b"Vary: *"),
        "end to end",
        Passed(present=((b"X-A", b"b"), (b"ETag", b'W/"x"'), (b"Content-Encoding", b"gzip"), (b"Vary", b"*"))),
    ),
    good("fields-lower", head(b"content-length: 2") + b"ok", "names: any case"),
    good("fields-empty-value", sized(b"X-A:"), "9110 5.5", Passed(present=((b"X-A", b""),))),
    good("fields-obs-text", sized(b"X-A: \xe9"), "9110 5.5", Passed(present=((b"X-A", b"\xe9"),))),
    good("fields-spaces", sized(b"X-A:  b \t"), "9112 5.1", Passed(present=((b"X-A", b"b"),))),
    good(
        "fields-set-cookie",
        sized(b"Set-Cookie: a=b", b"set-cookie: c=d"),
        "cookies: drop",
        Passed(absent=(b"Set-Cookie",)),
    ),
    good(
        "fields-sidecar-error",
        sized(b"Sidecar-Error: no_route", b"sidecar-error: x"),
        "never mistaken for the upstream's",
        Passed(absent=(b"Sidecar-Error",)),
    ),
    good(
        "fields-hop-by-hop",
        sized(b"Keep-Alive: timeout=5", b"Proxy-Authenticate: Basic", b"Upgrade: h2c", b"Trailer: X"),
        "9110 7.6.1",
        Passed(absent=(b"Keep-Alive", b"Upgrade", b"Trailer")),
    ),
    good("fields-named", sized(b"Connection: X-Foo", b"X-Foo: bar"), "9110 7.6.1", Passed(absent=(b"X-Foo",))),
    good(
        "fields-named-length", sized(b"Connection: Content-Length"), "the framing towards the client is the sidecar's"
    ),
    good("fields-many", sized(*[b"X-%d: y" % i for i in range(100)]), "an ordinary number"),
    good("fields-big", sized(b"X-Big: " + b"y" * 30_000), "inside the limit"),
    # Location
    location("absolute", b"http://ORIGIN/base/x?y#z", b"/op/x?y#z", "inside the base: local"),
    location("absolute-upper", b"HTTP://ORIGIN/base/x", b"/op/x", "scheme: any case"),
    location("path", b"/base/x", b"/op/x", "inside the base: local"),
    location("base-alone", b"http://ORIGIN/base", b"/op", "the base itself"),
    location("base-query", b"/base?x=1", b"/op?x=1", "the base itself"),
    location("outside", b"/other", b"/other", "outside the base: as it is"),
    location("outside-longer-word", b"http://ORIGIN/basement", b"http://ORIGIN/basement", "a segment's end"),
    location("outside-climbs", b"http://ORIGIN/base/../x", b"http://ORIGIN/base/../x", "not inside the base"),
    location("foreign", b"https://login.example/x", b"https://login.example/x", "another host: as it is"),
    location(
        "foreign-prefix", b"http://ORIGIN.evil.example/base/x", b"http://ORIGIN.evil.example/base/x", "another host"
    ),
    location(
        "foreign-userinfo", b"http://ORIGIN@evil.example/base/x", b"http://ORIGIN@evil.example/base/x", "another host"
    ),
    location("other-scheme", b"https://ORIGIN/base/x", b"https://ORIGIN/base/x", "another origin"),
    location("network-path", b"//evil.example/base/x", b"//evil.example/base/x", "another host"),
    location("relative", b"x/y", b"x/y", "relative to what the client asked for"),
    location("empty", b"", b"", "a reference to itself"),
    good(
        "location-two",
        sized(b"Location: /base/x", b"Location: /base/y", status=b"HTTP/1.1 302 x"),
        "two: ambiguous, refused or passed",
        Bad(),
        Passed(302),
        reuse=None,
    ),
    # after the end
    good("after-length", sized() + b"x", "9112 6.3: bytes after the end", Passed(), Bad(), reuse=False),
    good(
        "after-length-response",
        sized() + sized(body=b"poison"),
        "response splitting: the next client must not see it",
        Passed(),
        Bad(),
        reuse=False,
    ),
    good("after-chunked", chunks(OKC) + b"x", "bytes after the end", Passed(), Bad(), Cut(), reuse=False),
    good(
        "after-chunked-response",
        chunks(OKC) + sized(body=b"poison"),
        "response splitting",
        Passed(),
        Bad(),
        Cut(),
        reuse=False,
    ),
    good(
        "after-204",
        head(status=b"HTTP/1.1 204 x") + b"x",
        "9112 6.3 (1): 204 has no body",
        Passed(204, b""),
        Bad(),
        reuse=False,
    ),
    good(
        "after-204-length",
        head(b"Content-Length: 2", status=b"HTTP/1.1 204 x") + b"ok",
        "9110 8.6: 204 has no length",
        Passed(204, b""),
        Bad(),
        reuse=False,
    ),
    good(
        "after-204-chunked",
        head(b"Transfer-Encoding: chunked", status=b"HTTP/1.1 204 x") + OKC,
        "9112 6.1",
        Passed(204, b""),
        Bad(),
        reuse=False,
    ),
    good(
        "after-304",
        head(b"Content-Length: 2", status=b"HTTP/1.1 304 x") + b"ok",
        "9112 6.3 (1): 304 has no body",
        Passed(304, b""),
        Bad(),
        reuse=False,
    ),
    good("after-head", sized(), "9110 9.3.2: HEAD has no body", Passed(body=b""), Bad(), reuse=False, request=HEAD),
    good(
        "after-head-chunked",
        chunks(OKC),
        "9110 9.3.2: HEAD has no body",
        Passed(body=b""),
        Bad(),
        reuse=False,
        request=HEAD,
    ),
    good("after-length-crlf", sized() + b"\r\n", "an old server's extra line", Passed(), Bad(), reuse=None),
    # status lines
    line("0.9", b"<html>", "HTTP/0.9"),
    bad("status-0.9-body", b"hello, this is no HTTP at all\n", "HTTP/0.9", end="fin"),
    bad("status-0.9-empty", b"\n", "HTTP/0.9", end="fin"),
    line("version-2", b"HTTP/2.0 200 OK"),
    line("version-1.2", b"HTTP/1.2 200 OK"),
    line("version-lower", b"http/1.1 200 OK"),
    line("version-icy", b"ICY 200 OK"),
    line("version-none", b"200 OK"),
    line("version-1.1.1", b"HTTP/1.1.1 200 OK"),
    line("two-digits", b"HTTP/1.1 20 OK"),
    line("four-digits", b"HTTP/1.1 2000 OK"),
    line("letters", b"HTTP/1.1 abc OK"),
    line("plus", b"HTTP/1.1 +20 OK"),
    line("zero", b"HTTP/1.1 000 OK"),
    line("below-100", b"HTTP/1.1 099 OK"),
    line("double-space", b"HTTP/1.1  200 OK"),
    line("tab", b"HTTP/1.1\t200\tOK"),
    line("leading-space", b" HTTP/1.1 200 OK"),
    line("superscript", b"HTTP/1.1 20\xb2 OK"),
    line("reason-nul", b"HTTP/1.1 200 O\x00K"),
    line("reason-control", b"HTTP/1.1 200 O\x08K"),
    line("reason-bare-cr", b"HTTP/1.1 200 O\rK"),
    line("request", b"GET / HTTP/1.1"),
    line("empty", b""),
    bad("status-empty-line-before", b"\r\n" + sized(), "9112 2.2 is for servers only"),
    bad("status-lf-before", b"\n" + sized(), "9112 2.2"),
    # lines
    bad("lines-bare-lf", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "9112 2.2", end="fin"),
    bad("lines-bare-lf-status", b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", "9112 2.2"),
    bad("lines-bare-lf-field", b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n\r\nok", "9112 2.2"),
    bad("lines-bare-lf-end", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok", "9112 2.2", end="fin"),
    bad("lines-bare-cr", b"HTTP/1.1 200 OK\r\nA: b\rContent-Length: 2\r\n\r\nok", "9112 2.2"),
    bad("lines-cr-crlf", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\r\n\r\nok", "9112 2.2"),
    bad("lines-nul", b"HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 2\r\n\r\nok", "9110 5.5"),
    field("fold", b"A: b\r\n c", "9112 5.2"),
    field("fold-length", b"A: b\r\n Content-Length: 0", "9112 5.2"),
    field("fold-first", b" A: b", "9112 2.2"),
    field("space-before-colon", b"A : b", "9112 5.1"),
    field("no-colon", b"A", "9112 5"),
    field("no-name", b": b", "9112 5"),
    field("name-space", b"A B: c", "9110 5.6.2"),
    field("name-separator", b"A(B: c", "9110 5.6.2"),
    field("name-control", b"A\x01: b", "9110 5.6.2"),
    field("name-latin", b"\xe9: b", "9110 5.6.2"),
    field("value-control", b"A: \x1b[2J", "9110 5.5"),
    field("value-del", b"A: \x7f", "9110 5.5"),
    bad("head-oversized", sized(b"A: " + b"b" * 70_000), "past the limit"),
    bad("head-oversized-many", sized(*[b"A: b"] * 20_000), "past the limit"),
    bad("head-endless", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 30_000, "past the limit, and no end"),
    bad("head-endless-line", b"HTTP/1.1 200 " + b"x" * 200_000, "past the limit, and no line"),
    bad("head-garbage", bytes(range(256)) * 400, "no HTTP at all"),
    # framing
    framing("both", b"Content-Length: 2", b"Transfer-Encoding: chunked", body=OKC),
    framing("both-reversed", b"Transfer-Encoding: chunked", b"Content-Length: 2", body=OKC),
    framing("both-identity", b"Content-Length: 2", b"Transfer-Encoding: identity"),
    framing("length-twice", b"Content-Length: 2", b"Content-Length: 2"),
    framing("length-twice-differ", b"Content-Length: 2", b"Content-Length: 3", why="nginx 1.22 accepts it"),
    framing("length-list", b"Content-Length: 2, 2"),
    framing("length-plus", b"Content-Length: +2"),
    framing("length-minus", b"Content-Length: -1"),
    framing("length-hex", b"Content-Length: 0x2"),
    framing("length-empty", b"Content-Length:"),
    framing("length-word", b"Content-Length: two"),
    framing("length-space", b"Content-Length: 2 2"),
    framing("length-superscript", b"Content-Length: \xb2"),
    framing("length-underscore", b"Content-Length: 0_2"),
    framing("length-overflow", b"Content-Length: 18446744073709551618", why="2^64 + 2"),
    framing("length-digits", b"Content-Length: " + b"9" * 5000, why="int()'s own limit"),
    framing("coding-gzip", b"Transfer-Encoding: gzip"),
    framing("coding-gzip-chunked", b"Transfer-Encoding: gzip, chunked", body=OKC),
    framing("coding-chunked-twice", b"Transfer-Encoding: chunked, chunked", body=OKC),
    framing("coding-two-lines", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=OKC),
    framing("coding-chunked-identity", b"Transfer-Encoding: chunked, identity", body=OKC),
    framing("coding-identity", b"Transfer-Encoding: identity"),
    framing("coding-empty", b"Transfer-Encoding:"),
    framing("coding-junk", b"Transfer-Encoding: xchunked", body=OKC),
    framing("coding-parameter", b"Transfer-Encoding: chunked;a=b", body=OKC),
    framing("coding-vt", b"Transfer-Encoding: \x0bchunked", body=OKC),
    bad("framing-coding-1.0", head(b"Transfer-Encoding: chunked", status=b"HTTP/1.0 200 OK") + OKC, "9112 6.1: faulty"),
    # 1xx
    bad("101-unasked", head(b"Connection: Upgrade", b"Upgrade: websocket", status=b"HTTP/1.1 101 x"), "nobody asked"),
    bad("101-unasked-h2c", head(b"Connection: Upgrade", b"Upgrade: h2c", status=b"HTTP/1.1 101 x"), "nobody asked"),
    bad("101-bare", head(status=b"HTTP/1.1 101 x"), "nobody asked"),
    bad("101-then-data", head(b"Upgrade: websocket", status=b"HTTP/1.1 101 x") + sized(), "nobody asked"),
    bad(
        "101-other-protocol",
        head(b"Connection: Upgrade", b"Upgrade: h2c", status=b"HTTP/1.1 101 x"),
        "6455 4.1: not what was asked for",
        request=WEBSOCKET,
    ),
    bad(
        "101-no-protocol",
        head(b"Connection: Upgrade", status=b"HTTP/1.1 101 x"),
        "9110 15.2.2: Upgrade is a must",
        request=WEBSOCKET,
    ),
    good(
        "101-declined", sized(status=b"HTTP/1.1 426 x"), "declined: an answer like any", Passed(426), request=WEBSOCKET
    ),
    good("101-declined-200", sized(), "declined: an answer like any", request=WEBSOCKET),
    broken(
        "1xx-with-length",
        head(b"Content-Length: 5", status=b"HTTP/1.1 103 x") + b"hello" + sized(),
        "9110 8.6: 1xx has no length; five bytes are no status line",
    ),
    broken("1xx-endless", head(status=b"HTTP/1.1 103 x") * 5000, "bounded like a head is", end="fin"),
    bad("1xx-then-end", head(status=b"HTTP/1.1 100 x"), "no final answer", end="fin"),
    bad("1xx-then-garbage", head(status=b"HTTP/1.1 100 x") + b"garbage\r\n\r\n", "no final answer"),
    # chunks
    broken("chunk-size-none", chunks(b"\r\nok\r\n0\r\n\r\n"), "9112 7.1"),
    broken("chunk-size-plus", chunks(b"+2\r\nok\r\n0\r\n\r\n"), "int() takes it"),
    broken("chunk-size-minus", chunks(b"-2\r\nok\r\n0\r\n\r\n"), "int() takes it"),
    broken("chunk-size-0x", chunks(b"0x2\r\nok\r\n0\r\n\r\n"), "int() takes it"),
    broken("chunk-size-space", chunks(b" 2\r\nok\r\n0\r\n\r\n"), "int() takes it"),
    broken("chunk-size-letter", chunks(b"z\r\nok\r\n0\r\n\r\n"), "9112 7.1"),
    broken("chunk-size-overflow", chunks(b"10000000000000002\r\nok\r\n0\r\n\r\n"), "2^64 + 2"),
    broken("chunk-size-bare-lf", chunks(b"2\nok\r\n0\r\n\r\n"), "9112 2.2"),
    broken("chunk-size-endless", chunks(b"0" * 200_000), "a bounded line"),
    broken("chunk-extension-endless", chunks(b"2;" + b"a" * 200_000 + b"\r\nok\r\n0\r\n\r\n"), "a bounded line"),
    broken("chunk-extension-lf", chunks(b"2;a\nok\r\n0\r\n\r\n"), "9112 2.2"),
    broken("chunk-data-no-crlf", chunks(b"2\r\nok0\r\n\r\n"), "9112 7.1"),
    broken("chunk-data-lf", chunks(b"2\r\nok\n0\r\n\r\n"), "9112 2.2"),
    broken("chunk-data-long", chunks(b"2\r\nok!\r\n0\r\n\r\n"), "9112 7.1"),
    broken("chunk-last-lf", chunks(b"2\r\nok\r\n0\n\n"), "9112 2.2"),
    broken("chunk-last-half-lf", chunks(b"2\r\nok\r\n0\r\n\n"), "9112 2.2"),
    broken("chunk-trailer-no-colon", chunks(b"2\r\nok\r\n0\r\nX\r\n\r\n"), "9112 7.1.2"),
    broken("chunk-trailer-lf", chunks(b"2\r\nok\r\n0\r\nX: y\n\r\n"), "9112 2.2"),
    broken("chunk-trailer-nul", chunks(b"2\r\nok\r\n0\r\nX: \x00\r\n\r\n"), "9110 5.5"),
    broken("chunk-trailer-response", chunks(b"2\r\nok\r\n0\r\n" + sized()), "no field line"),
    broken("chunk-trailer-endless", chunks(b"2\r\nok\r\n0\r\n" + b"X: y\r\n" * 30_000), "bounded"),
    # ends
    *truncated("cut-length", SHORT_SIZED, SHORT_SIZED.index(b"\r\n\r\n") + 4),
    *truncated("cut-chunked", SHORT_CHUNKED, SHORT_CHUNKED.index(b"\r\n\r\n") + 4),
    broken("close-delimited-reset", head() + b"ok", "a reset is no end of a body", end="rst"),
    broken("close-delimited-reset-1.0-client", head() + b"ok", "nor for a 1.0 client", end="rst", request=GET_10),
    broken(
        "length-short-1.0-client", head(b"Content-Length: 9") + b"ok", "nor for a 1.0 client", end="fin", request=GET_10
    ),
    broken(
        "chunked-short-1.0-client",
        chunks(b"5\r\nok"),
        "a body that ends with the connection would look whole",
        end="fin",
        request=GET_10,
    ),
]
