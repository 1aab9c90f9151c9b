"""Several requests on one connection, and what pretends to be several (RFC 9112, 9.3.2)."""

from tests.proxy.corpus.case import (
    BAD,
    HOST,
    Case,
    Closed,
    Forwarded,
    Refused,
    category,
    chunked,
    either,
    get,
    post,
    several,
)

POST = b"POST"
CONSOLE = Forwarded(b"/x", token=b"TOKEN-CONSOLE")
X = get(target=b"/console/x")
A = get()
FIRST = Forwarded()


def cut(name: str, raw: bytes, why: str) -> Case:
    """An unfinished request, then FIN: nothing complete reaches the origin; an answer is allowed, not needed."""
    return Case(name, raw, ((Closed(), Refused((400, 408))),), why, partial=True, end=True)


CASES = category(
    "pipelines",
    several("two", A + X, "in order, each with its own route and token", FIRST, CONSOLE),
    several("three", A + X + A, "in order", FIRST, CONSOLE, FIRST),
    several("ten", (A + X) * 5, "in order", *[FIRST, CONSOLE] * 5),
    several("empty-line-between", A + b"\r\n" + X, "9112 2.2", FIRST, CONSOLE),
    several(
        "post-get",
        post(b"Content-Length: 5", body=b"hello") + X,
        "a body, then the next",
        Forwarded(method=POST, body=b"hello"),
        CONSOLE,
    ),
    several("chunked-get", chunked(b"0\r\n\r\n") + X, "a body, then the next", Forwarded(method=POST), CONSOLE),
    several(
        "post-post",
        post(b"Content-Length: 1", body=b"a") + post(b"Content-Length: 1", body=b"b"),
        "two bodies",
        Forwarded(method=POST, body=b"a"),
        Forwarded(method=POST, body=b"b"),
    ),
    several(
        "head-get",
        b"HEAD /operate/a HTTP/1.1\r\n" + HOST + b"\r\n" + X,
        "no body follows a HEAD",
        Forwarded(method=b"HEAD"),
        CONSOLE,
    ),
    several("get-bad", A + b"GET /operate/.. HTTP/1.1\r\n" + HOST + b"\r\n", "the first is answered", FIRST, BAD),
    several("get-bad-get", A + b"\x00\r\n\r\n" + X, "nothing after a mistake is read", FIRST, BAD),
    several("bad-get", b"GET  /operate/a HTTP/1.1\r\n" + HOST + b"\r\n" + X, "nothing after a mistake is read", BAD),
    several(
        "both-framings-get",
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n") + X,
        "nothing after a mistake is read",
        BAD,
    ),
    several(
        "close-get", get(b"Connection: close") + X, "9112 9.6: nothing after close is read", Forwarded(closes=True)
    ),
    several(
        "1.0-get", b"GET /operate/a HTTP/1.0\r\n" + HOST + b"\r\n" + X, "9112 9.3: 1.0 closes", Forwarded(closes=True)
    ),
    several(
        "get-foreign",
        A + b"GET /operate/a HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "each request is guarded",
        FIRST,
        Refused((421,), None),
    ),
    several(
        "get-cross-site",
        A + get(b"Origin: http://evil.example"),
        "each request is guarded",
        FIRST,
        Refused((403,), None),
    ),
    several(
        "get-not-allowed", A + get(target=b"/optimize/private"), "each request is guarded", FIRST, Refused((403,), None)
    ),
    several("get-no-route", A + get(target=b"/nowhere"), "each request is routed", FIRST, Refused((404,), None)),
    several(
        "post-too-short",
        post(b"Content-Length: 4", body=b"hell(") + X,
        "the fifth byte is no part of the body",
        Forwarded(method=POST, body=b"hell"),
        BAD,
    ),
    several(
        "post-too-short-token",
        post(b"Content-Length: 4", body=b"hello") + X,
        "the fifth byte begins the next method",
        Forwarded(method=POST, body=b"hell"),
        Forwarded(b"/x", method=b"oGET", token=b"TOKEN-CONSOLE"),
    ),
    several(
        "length-swallows-next",
        post(b"Content-Length: %d" % len(X), body=X) + X,
        "the body is a body, the next is a request",
        Forwarded(method=POST, body=X),
        CONSOLE,
    ),
    several(
        "get-length-swallows",
        get(b"Content-Length: %d" % len(X)) + X + X,
        "a GET's body is a body too",
        Forwarded(body=X),
        CONSOLE,
    ),
    several("content-length-zero-then", post(b"Content-Length: 0") + X, "CL.0", Forwarded(method=POST), CONSOLE),
    several("get-no-length-then", A + b"hello\r\n\r\n", "no length, no body: what follows is no request", FIRST, BAD),
    several(
        "expect-then",
        post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello") + X,
        "a body that did not wait",
        Forwarded(method=POST, body=b"hello"),
        CONSOLE,
    ),
    several("tokens-do-not-stick", X + A, "each its own token", CONSOLE, FIRST),
    several(
        "public-then-private",
        get(target=b"/optimize/api/readyz") + A,
        "no token, then one",
        Forwarded(b"/opt/api/readyz", token=None),
        FIRST,
    ),
    either(
        "expect-continue",
        post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello"),
        "9110 10.1.1",
        Forwarded(method=POST, body=b"hello"),
    ),
    either(
        "expect-upper",
        post(b"Expect: 100-Continue", b"Content-Length: 5", body=b"hello"),
        "any case",
        Forwarded(method=POST, body=b"hello"),
    ),
    either("expect-get", get(b"Expect: 100-continue"), "9110 10.1.1: no body, nothing to continue", Forwarded()),
    either(
        "expect-1.0",
        b"POST /operate/a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n" + HOST + b"\r\nhello",
        "9110 10.1.1: ignored in 1.0",
        Forwarded(method=POST, body=b"hello", closes=True),
    ),
    either(
        "expect-other",
        post(b"Expect: something", b"Content-Length: 5", body=b"hello"),
        "417, or the upstream's to answer",
        Forwarded(method=POST, body=b"hello"),
        Refused((400, 417), None),
    ),
    either(
        "expect-chunked",
        chunked(b"5\r\nhello\r\n0\r\n\r\n", b"Expect: 100-continue"),
        "9110 10.1.1",
        Forwarded(method=POST, body=b"hello"),
    ),
    either(
        "expect-body-is-a-request",
        post(b"Expect: 100-continue", b"Content-Length: %d" % len(X), body=X),
        "Expect desync: the body is a body",
        Forwarded(method=POST, body=X),
    ),
    either(
        "expect-odd-body-is-a-request",
        post(b"Expect: y 100-continue", b"Content-Length: %d" % len(X), body=X),
        "Expect desync: the body is a body",
        Forwarded(method=POST, body=X),
        Refused((400, 417), None),
    ),
    cut("cut-request-line", b"GET /oper", "9112 8: incomplete"),
    cut("cut-after-request-line", b"GET /operate/a HTTP/1.1\r\n", "9112 8: incomplete"),
    cut("cut-headers", b"GET /operate/a HTTP/1.1\r\nHost: localhost\r\n", "9112 8: incomplete"),
    cut("cut-last-byte", A[:-1], "9112 8: incomplete"),
    cut("cut-body", post(b"Content-Length: 5", body=b"hell"), "9112 8: incomplete"),
    cut("cut-body-empty", post(b"Content-Length: 5"), "9112 8: incomplete"),
    cut("cut-chunk-size", chunked(b"5"), "9112 8: incomplete"),
    cut("cut-chunk-data", chunked(b"5\r\nhel"), "9112 8: incomplete"),
    cut("cut-chunk-crlf", chunked(b"5\r\nhello\r"), "9112 8: incomplete"),
    cut("cut-before-last-chunk", chunked(b"5\r\nhello\r\n"), "9112 8: incomplete; a proxy that ends it itself lies"),
    cut("cut-last-chunk", chunked(b"5\r\nhello\r\n0\r\n"), "9112 8: incomplete"),
    cut("cut-trailer", chunked(b"5\r\nhello\r\n0\r\nX: y\r\n"), "9112 8: incomplete"),
    cut("cut-last-lf", chunked(b"5\r\nhello\r\n0\r\n\r"), "9112 8: incomplete"),
    Case("half-close", A, ((FIRST,),), "a FIN is a half-close, the answer still comes", end=True),
    Case("half-close-two", A + X, ((FIRST,), (CONSOLE,)), "a FIN is a half-close, all answers still come", end=True),
    Case(
        "half-close-post",
        post(b"Content-Length: 5", body=b"hello"),
        ((Forwarded(method=POST, body=b"hello"),),),
        "a FIN is a half-close, the answer still comes",
        end=True,
    ),
    Case(
        "half-close-refused",
        A + get(target=b"/nowhere"),
        ((FIRST,), (Refused((404,), None),)),
        "after the last answer the connection ends, whoever made it",
        end=True,
    ),
    Case("nothing", b"", ((Closed(),),), "connect, FIN: a port scan", end=True),
    Case("empty-line-only", b"\r\n", ((Closed(), Refused((400, 408))),), "nothing but an empty line", end=True),
)
