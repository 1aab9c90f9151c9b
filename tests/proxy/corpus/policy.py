"""`allow`, `public` and the routes' limits."""

from tests.proxy.corpus.case import HOST, Forwarded, Refused, category, either, forwarded, get, post, refused

TOKEN = b"TOKEN-OPTIMIZE"
NEXT = get(target=b"/console/x")


def denied(name: str, target: bytes, why: str, method: bytes = b"GET"):
    """403."""
    return refused(f"denied-{name}", method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n", why, 403, closes=None)


def granted(name: str, target: bytes, upstream: bytes, why: str, method: bytes = b"GET"):
    """Forwarded with the token."""
    raw = method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    return forwarded(f"granted-{name}", raw, why, upstream, method=method, token=TOKEN)


CASES = category(
    "policy",
    granted("below", b"/optimize/api/public/x", b"/opt/api/public/x", "GET /api/public/**"),
    granted("deep", b"/optimize/api/public/x/y/z", b"/opt/api/public/x/y/z", "**: any number of segments"),
    granted("head", b"/optimize/api/public/x", b"/opt/api/public/x", "GET includes HEAD", b"HEAD"),
    granted("query", b"/optimize/api/public/x?y=/../z", b"/opt/api/public/x?y=/../z", "without the query"),
    granted("encoded-slash", b"/optimize/api/public/a%2fb", b"/opt/api/public/a%2fb", "** in its place either way"),
    granted("empty-segments", b"/optimize/api/public//x", b"/opt/api/public//x", "** takes empty segments"),
    forwarded(
        "granted-post",
        post(b"Content-Length: 1", body=b"x", target=b"/optimize/api/public/x"),
        "POST /api/public/**",
        b"/opt/api/public/x",
        method=b"POST",
        body=b"x",
        token=TOKEN,
    ),
    denied("other-path", b"/optimize/api/private", "not listed"),
    denied("prefix-alone", b"/optimize", "not listed"),
    denied("root", b"/optimize/", "not listed"),
    denied("parent", b"/optimize/api", "not listed"),
    denied("longer-word", b"/optimize/api/publicx/y", "a pattern ends at a segment's end"),
    denied("upper", b"/optimize/API/public/x", "paths are case-sensitive"),
    denied("encoded", b"/optimize/api/%70ublic/x", "raw bytes: one spelling"),
    denied("encoded-slash-in-pattern", b"/optimize/api%2fpublic/x", "raw bytes: one spelling"),
    denied("parameter-in-pattern", b"/optimize/api;x/public/y", "raw bytes: one spelling"),
    denied("double-slash", b"/optimize//api/public/x", "nothing is merged"),
    denied("method-put", b"/optimize/api/public/x", "not listed", b"PUT"),
    denied("method-delete", b"/optimize/api/public/x", "not listed", b"DELETE"),
    denied("method-options", b"/optimize/api/public/x", "not listed", b"OPTIONS"),
    denied("method-lower", b"/optimize/api/public/x", "methods are case-sensitive", b"get"),
    denied("query-only", b"/optimize?/api/public/x", "a query is no path"),
    denied("query-like", b"/optimize/private?/api/public/x", "a query is no path"),
    refused(
        "override-header",
        get(b"X-HTTP-Method-Override: GET", target=b"/optimize/api/public/x").replace(b"GET", b"DELETE", 1),
        "the method is the one in the request line",
        403,
        closes=None,
    ),
    refused(
        "original-url",
        get(b"X-Original-URL: /optimize/api/public/x", target=b"/optimize/private"),
        "the path is the one in the request line",
        403,
        closes=None,
    ),
    forwarded(
        "public",
        get(target=b"/optimize/api/readyz"),
        "public: no Authorization at all, and in force without being in allow",
        b"/opt/api/readyz",
        token=None,
    ),
    forwarded(
        "public-with-authorization",
        get(b"Authorization: Bearer stolen", target=b"/optimize/api/readyz"),
        "public: the client's does not pass either",
        b"/opt/api/readyz",
        token=None,
    ),
    forwarded(
        "public-query", get(target=b"/optimize/api/readyz?x"), "without the query", b"/opt/api/readyz?x", token=None
    ),
    denied("public-below", b"/optimize/api/readyz/x", "the pattern is the whole path"),
    denied("public-post", b"/optimize/api/readyz", "public is for GET", b"POST"),
    either(
        "zero-segments",
        get(target=b"/optimize/api/public"),
        "**: any number, zero too; or one at least",
        Forwarded(b"/opt/api/public", token=TOKEN),
        Refused((403,), None),
    ),
    granted("slash-end", b"/optimize/api/public/", b"/opt/api/public/", "** takes the empty segment"),
    either(
        "denied-with-body",
        post(b"Content-Length: 5", body=b"hello", target=b"/optimize/private"),
        "the body of a refused request is never a request",
        Refused((403,), None),
    ),
    either(
        "denied-with-body-that-is-a-request",
        post(b"Content-Length: %d" % len(NEXT), body=NEXT, target=b"/optimize/private"),
        "the body of a refused request is never a request",
        Refused((403,), None),
    ),
    either(
        "no-route-with-body-that-is-a-request",
        post(b"Content-Length: %d" % len(NEXT), body=NEXT, target=b"/nowhere"),
        "the body of a refused request is never a request",
        Refused((404,), None),
    ),
)
