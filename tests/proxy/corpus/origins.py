"""Origin and Fetch Metadata: no web page drives the sidecar (RFC 6454; W3C Fetch Metadata)."""

from tests.proxy.corpus.case import Forwarded, Refused, category, either, forwarded, get, refused


def page(name: str, line: bytes, why: str, *more: bytes, method: bytes = b"GET"):
    """A web page's request: 403."""
    raw = get(line, *more).replace(b"GET", method, 1)
    return refused(name, raw, why, 403, closes=None)


CASES = category(
    "origins",
    forwarded("same", get(b"Origin: http://localhost"), "http:// and that Host"),
    forwarded(
        "same-port",
        b"GET /operate/a HTTP/1.1\r\nHost: 127.0.0.1:8600\r\nOrigin: http://127.0.0.1:8600\r\n\r\n",
        "http:// and that Host",
    ),
    forwarded("site-same-origin", get(b"Sec-Fetch-Site: same-origin"), "a page of the sidecar's own"),
    forwarded("site-none", get(b"Sec-Fetch-Site: none"), "typed by the user"),
    forwarded(
        "both-good",
        get(b"Origin: http://localhost", b"Sec-Fetch-Site: same-origin", b"Sec-Fetch-Mode: cors"),
        "both agree",
    ),
    forwarded("referer", get(b"Referer: http://evil.example/"), "Referer decides nothing"),
    page("evil", b"Origin: http://evil.example", "another origin"),
    page("https", b"Origin: https://localhost", "another scheme is another origin"),
    page("other-port", b"Origin: http://localhost:3000", "another port is another origin"),
    page("other-spelling", b"Origin: http://127.0.0.1", "another name for the same host is another origin"),
    page("null", b"Origin: null", "a sandboxed frame"),
    page("null-upper", b"Origin: NULL", "nothing but that Host"),
    page("empty", b"Origin:", "nothing but that Host"),
    page("suffix", b"Origin: http://localhost.evil.example", "the whole origin counts"),
    page("prefix", b"Origin: http://evil.example/http://localhost", "the whole origin counts"),
    page("slash", b"Origin: http://localhost/", "an origin has no path"),
    page("userinfo", b"Origin: http://localhost@evil.example", "the whole origin counts"),
    page("list", b"Origin: http://localhost http://evil.example", "6454's list: all of it must be that Host"),
    page("comma", b"Origin: http://localhost, http://evil.example", "no list"),
    page("extension", b"Origin: chrome-extension://abcdefghijklmnop", "an extension is a stranger too"),
    page("file", b"Origin: file://", "a local page is a stranger too"),
    page("two", b"Origin: http://localhost", "two of them", b"Origin: http://evil.example"),
    page("two-evil-first", b"Origin: http://evil.example", "two of them", b"Origin: http://localhost"),
    page("site-cross", b"Sec-Fetch-Site: cross-site", "an image, a form, a link"),
    page("site-same-site", b"Sec-Fetch-Site: same-site", "localhost on another port is the same site"),
    page("site-empty", b"Sec-Fetch-Site:", "neither same-origin nor none"),
    page("site-unknown", b"Sec-Fetch-Site: x", "neither same-origin nor none"),
    page("site-list", b"Sec-Fetch-Site: none, cross-site", "neither same-origin nor none"),
    page("site-two", b"Sec-Fetch-Site: none", "two of them", b"Sec-Fetch-Site: cross-site"),
    page("site-good-origin-bad", b"Sec-Fetch-Site: same-origin", "both must hold", b"Origin: http://evil.example"),
    page("site-bad-origin-good", b"Sec-Fetch-Site: cross-site", "both must hold", b"Origin: http://localhost"),
    page(
        "preflight",
        b"Origin: http://evil.example",
        "a preflight is never answered for the upstream",
        b"Access-Control-Request-Method: POST",
        method=b"OPTIONS",
    ),
    page(
        "preflight-private-network",
        b"Origin: http://evil.example",
        "Private Network Access asks the same",
        b"Access-Control-Request-Private-Network: true",
        method=b"OPTIONS",
    ),
    page("lower-name", b"origin: http://evil.example", "names: any case"),
    page("lower-site-name", b"sec-fetch-site: cross-site", "names: any case"),
    page(
        "websocket",
        b"Upgrade: websocket",
        "a page's WebSocket carries its origin and no preflight",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Origin: http://evil.example",
    ),
    either(
        "upper-scheme",
        get(b"Origin: HTTP://localhost"),
        "browsers send lower case; the same origin otherwise",
        Forwarded(),
        Refused((403,), None),
    ),
    either(
        "upper-host",
        get(b"Origin: http://LOCALHOST"),
        "browsers send lower case; the same origin otherwise",
        Forwarded(),
        Refused((403,), None),
    ),
    either(
        "default-port",
        get(b"Origin: http://localhost:80"),
        "browsers leave the default port out",
        Forwarded(),
        Refused((403,), None),
    ),
    either(
        "site-upper",
        get(b"Sec-Fetch-Site: Same-Origin"),
        "browsers send lower case",
        Forwarded(),
        Refused((403,), None),
    ),
)
