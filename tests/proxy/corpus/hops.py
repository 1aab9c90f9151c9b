"""What goes, what stays, and whose Authorization it is (RFC 9110, 7.6.1)."""

from tests.proxy.corpus.case import CRLF, HOST, Forwarded, Refused, category, chunked, either, forwarded, get, post

POST = b"POST"


def gone(name: str, line: bytes, why: str, *more: bytes):
    """Forwarded without this field."""
    key = line.partition(b":")[0]
    return forwarded(f"gone-{name}", get(line, *more), why, absent=(key,))


def stays(name: str, line: bytes, why: str, *more: bytes):
    """Forwarded with this field as it is."""
    key, _, content = line.partition(b": ")
    return forwarded(f"stays-{name}", get(line, *more), why, present=((key, content),))


def ours(name: str, *lines: bytes, why: str = "the sidecar's Authorization is the only one"):
    """Whatever the client tries, exactly our Authorization (the harness checks that on each request) arrives."""
    return forwarded(f"ours-{name}", get(*lines), why)


CASES = category(
    "hops",
    # the client's credentials
    ours("basic", b"Authorization: Basic dXNlcjpwYXNz"),
    ours("bearer", b"Authorization: Bearer stolen"),
    ours("empty", b"Authorization:", why="the official JavaScript client sends an empty one"),
    ours("lower", b"authorization: Bearer stolen"),
    ours("upper", b"AUTHORIZATION: Bearer stolen"),
    ours("two", b"Authorization: Bearer a", b"Authorization: Bearer b"),
    ours("two-cases", b"Authorization: Bearer a", b"authorization: Bearer b"),
    ours("named-by-connection", b"Connection: Authorization"),
    ours("named-by-connection-sent", b"Authorization: Bearer a", b"Connection: authorization"),
    ours("named-with-close", b"Connection: keep-alive, Authorization, Host"),
    ours("guessed", b"Authorization: Bearer TOKEN-CONSOLE", why="another route's token does not pass either"),
    gone("proxy-authorization", b"Proxy-Authorization: Basic dXNlcjpwYXNz", "the client's credentials"),
    gone("proxy-authenticate", b"Proxy-Authenticate: Basic", "Proxy-*"),
    gone("proxy-anything", b"Proxy-Foo: bar", "Proxy-*"),
    gone("proxy-connection", b"Proxy-Connection: keep-alive", "9110 7.6.1"),
    gone("proxy-underscore", b"Proxy_Authorization: Basic dXNlcjpwYXNz", "underscores are dashes to CGI"),
    ours("mixed", b"aUTHORIZATION: x"),
    gone("proxy-lower", b"proxy-authorization: x", "names: any case"),
    gone("cookie", b"Cookie: session=1", "the client's credentials"),
    gone("cookie-lower", b"cookie: session=1", "names: any case"),
    gone("cookie-two", b"Cookie: a=1", "both of them", b"Cookie: b=2"),
    # who is asking
    gone("forwarded", b"Forwarded: for=1.2.3.4;host=evil", "7239: the client's word"),
    gone("x-forwarded-for", b"X-Forwarded-For: 1.2.3.4", "the client's word"),
    gone("x-forwarded-host", b"X-Forwarded-Host: evil", "the client's word"),
    gone("x-forwarded-proto", b"X-Forwarded-Proto: https", "the client's word"),
    gone("x-forwarded-port", b"X-Forwarded-Port: 443", "the client's word"),
    gone("x-forwarded-prefix", b"X-Forwarded-Prefix: /evil", "the client's word"),
    gone("x-forwarded-anything", b"X-Forwarded-Client-Cert: x", "X-Forwarded-*"),
    gone("x-forwarded-upper", b"X-FORWARDED-FOR: 1.2.3.4", "names: any case"),
    gone("x-real-ip", b"X-Real-IP: 1.2.3.4", "the client's word"),
    gone("x-real-ip-underscore", b"X_Real_IP: 1.2.3.4", "underscores are dashes to CGI"),
    gone("x-real-ip-half-underscore", b"X-Real_IP: 1.2.3.4", "underscores are dashes to CGI"),
    gone("x-forwarded-for-underscore", b"X_Forwarded_For: 1.2.3.4", "underscores are dashes to CGI"),
    gone("x-forwarded-for-half-underscore", b"X-Forwarded_For: 1.2.3.4", "underscores are dashes to CGI"),
    gone("x-forwarded-for-first-underscore", b"X_Forwarded-For: 1.2.3.4", "underscores are dashes to CGI"),
    gone("x-forwarded-proto-underscore", b"x_forwarded_proto: https", "underscores are dashes to CGI"),
    gone("x-real-ip-dots", b"X.Real.IP: 1.2.3.4", "whatever is no letter is a dash to some"),
    # what the request line says
    gone("method-override", b"X-HTTP-Method-Override: DELETE", "Rails, Symfony, Jersey, GData: another method"),
    gone("http-method", b"X-HTTP-Method: DELETE", "OData: another method"),
    gone("method-override-ibm", b"X-Method-Override: DELETE", "another method"),
    gone("method-override-underscores", b"X_HTTP_METHOD_OVERRIDE: DELETE", "underscores are dashes to CGI"),
    gone("method-override-one-underscore", b"X-HTTP_Method-Override: DELETE", "underscores are dashes to CGI"),
    gone("original-url", b"X-Original-URL: /admin", "IIS, Symfony, Zend: another path"),
    gone("rewrite-url", b"X-Rewrite-URL: /admin", "IIS, Symfony, Zend: another path"),
    gone("rewrite-url-underscores", b"x_rewrite_url: /admin", "underscores are dashes to CGI"),
    gone("original-host", b"X-Original-Host: evil", "another host"),
    gone("host", b"X-Host: evil", "another host"),
    # hop by hop
    gone("keep-alive", b"Keep-Alive: timeout=5", "9110 7.6.1"),
    gone("te", b"TE: trailers", "9110 10.1.4: trailers are dropped, so none are promised", b"Connection: TE"),
    gone("te-alone", b"TE: trailers", "9110 7.6.1"),
    gone("trailer", b"Trailer: X-Sum", "the trailers that it announces are dropped"),
    gone("upgrade", b"Upgrade: foo/2", "any upgrade but websocket is ignored", b"Connection: Upgrade"),
    gone("upgrade-alone", b"Upgrade: websocket", "9110 7.8: without Connection it is none"),
    gone("named", b"X-Foo: bar", "9110 7.6.1: Connection names it", b"Connection: X-Foo"),
    gone("named-any-case", b"X-Foo: bar", "9110 7.6.1", b"Connection: x-fOO"),
    gone("named-before", b"X-Foo: bar", "9110 7.6.1", b"connection: keep-alive,X-Foo"),
    gone("named-in-list", b"X-Foo: bar", "9110 7.6.1", b"Connection: a, X-Foo , b"),
    gone("named-empty-elements", b"X-Foo: bar", "9110 5.6.1.2: empty elements", b"Connection: , ,X-Foo,,"),
    gone("named-second-line", b"X-Foo: bar", "9110 5.3", b"Connection: keep-alive", b"Connection: X-Foo"),
    gone("named-twice", b"X-Foo: bar", "each of them", b"X-Foo: baz", b"Connection: X-Foo"),
    forwarded(
        "gone-connection-first",
        b"GET /operate/a HTTP/1.1\r\nConnection: X-Foo\r\nX-Foo: bar\r\n" + HOST + CRLF,
        "9110 7.6.1: named before it comes",
        absent=(b"X-Foo",),
    ),
    gone("http2-settings", b"HTTP2-Settings: AAMAAABkAAQAAP__", "9113: of a hop", b"Connection: HTTP2-Settings"),
    forwarded("connection-close", get(b"Connection: close"), "9112 9.6", closes=True),
    forwarded("connection-close-upper", get(b"Connection: CLOSE"), "options: any case", closes=True),
    forwarded("connection-close-in-list", get(b"Connection: foo, close"), "9112 9.6", closes=True),
    forwarded("connection-close-second-line", get(b"Connection: foo", b"Connection: close"), "9112 9.6", closes=True),
    forwarded("connection-keep-alive", get(b"Connection: keep-alive"), "9112 9.3: the default"),
    forwarded("connection-empty", get(b"Connection:"), "names nothing"),
    # a list cannot remove what the sidecar sets
    forwarded("cannot-host", get(b"Connection: Host"), "Host is the upstream's all the same"),
    forwarded(
        "cannot-content-length",
        post(b"Content-Length: 5", b"Connection: Content-Length", body=b"hello"),
        "the framing towards the upstream is the sidecar's",
        method=POST,
        body=b"hello",
    ),
    forwarded(
        "cannot-transfer-encoding",
        chunked(b"5\r\nhello\r\n0\r\n\r\n", b"Connection: Transfer-Encoding"),
        "the framing towards the upstream is the sidecar's",
        method=POST,
        body=b"hello",
    ),
    either(
        "cannot-content-length-smuggle",
        post(
            b"Content-Length: 48",
            b"Connection: close, Content-Length",
            body=b"GET /console/s HTTP/1.1\r\nHost: localhost\r\nA: b\r\n",
        ),
        "a body whose length was taken away would be a request",
        Forwarded(method=POST, body=b"GET /console/s HTTP/1.1\r\nHost: localhost\r\nA: b\r\n", closes=True),
    ),
    forwarded("cannot-request-id", get(b"X-Request-ID: abc", b"Connection: X-Request-ID"), "kept or made"),
    forwarded("cannot-connection", get(b"Connection: Connection"), "harmless"),
    either(
        "no-option-syntax",
        get(b"Connection: a b;c"),
        "no list of tokens: ignored or refused, nothing breaks",
        Forwarded(),
        Refused((400,)),
    ),
    # what stays
    stays("request-id", b"X-Request-ID: abc-123", "kept or made"),
    forwarded("request-id-empty", get(b"X-Request-ID:"), "kept or made, and exactly one"),
    forwarded("request-id-two", get(b"X-Request-ID: a", b"X-Request-ID: b"), "kept or made, and exactly one"),
    stays("x-original", b"X-Original-Filename: a", "no URL, no host, no method"),
    stays(
        "traceparent", b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "trace context passes"
    ),
    stays("tracestate", b"tracestate: a=b", "trace context passes"),
    stays("baggage", b"baggage: a=b", "trace context passes"),
    stays("user-agent", b"User-Agent: x/1", "the client's own"),
    stays("no-user-agent", b"A: b", "none is made up"),
    stays("accept-encoding", b"Accept-Encoding: gzip", "bodies are never decompressed"),
    stays("accept", b"Accept: text/event-stream", "the client's own"),
    stays("range", b"Range: bytes=0-1", "the client's own"),
    stays("if-match", b'If-Match: "x"', "the client's own"),
    stays("etag-list", b'If-None-Match: "a", W/"b"', "the client's own"),
    stays("x-forward", b"X-Forward: a", "not X-Forwarded-*"),
    stays("x-real-ipx", b"X-Real-IPx: a", "not X-Real-IP"),
    stays("proxyx", b"Proxyx: a", "not Proxy-*"),
    stays("x-authorization", b"X-Authorization: a", "an application's own"),
    stays("content-type-on-get", b"Content-Type: text/plain", "the client's own"),
    forwarded(
        "stays-content-headers",
        post(b"Content-Type: application/json", b"Content-Encoding: gzip", b"Content-Length: 2", body=b"\x1f\x8b"),
        "bodies are opaque",
        method=POST,
        body=b"\x1f\x8b",
        present=((b"Content-Type", b"application/json"), (b"Content-Encoding", b"gzip")),
    ),
    stays("custom", b"X-Custom: \xfc", "opaque"),
)
