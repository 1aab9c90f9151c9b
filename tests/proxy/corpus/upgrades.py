"""Upgrades: WebSocket becomes a tunnel, anything else is ignored, body included (RFC 9110, 7.8; RFC 6455)."""

from tests.proxy.corpus.case import (
    BAD,
    HOST,
    Forwarded,
    Refused,
    category,
    chunked,
    either,
    forwarded,
    get,
    post,
    several,
)

POST = b"POST"
WS = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
H2C = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
NO_UPGRADE = (b"Upgrade", b"HTTP2-Settings")
CONSOLE = Forwarded(b"/x", token=b"TOKEN-CONSOLE")
SECOND = get(target=b"/console/x")

# The recording origin answers 200 to everything, so an upgrade is always declined here; the tunnel itself is in
# test_websocket.py and in the corpus of answers.

CASES = category(
    "upgrades",
    forwarded(
        "websocket",
        get(*WS),
        "6455 4.1: the handshake passes, with the token",
        present=((b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"Sec-WebSocket-Version", b"13")),
        upgrade=True,
    ),
    forwarded("websocket-upper", get(b"Upgrade: WebSocket", *WS[1:]), "6455 4.2.1: any case", upgrade=True),
    forwarded(
        "websocket-keep-alive",
        get(WS[0], b"Connection: keep-alive, Upgrade", *WS[2:]),
        "Firefox sends both",
        upgrade=True,
    ),
    forwarded("websocket-lower", get(WS[0], b"connection: upgrade", *WS[2:]), "options: any case", upgrade=True),
    forwarded(
        "websocket-protocol",
        get(*WS, b"Sec-WebSocket-Protocol: graphql-ws", b"Sec-WebSocket-Extensions: permessage-deflate"),
        "6455 11.3: end to end",
        present=((b"Sec-WebSocket-Protocol", b"graphql-ws"), (b"Sec-WebSocket-Extensions", b"permessage-deflate")),
        upgrade=True,
    ),
    several(
        "websocket-declined-then-request",
        get(*WS) + SECOND,
        "declined: what follows is the next request, on its own route, with its own token",
        Forwarded(upgrade=True),
        CONSOLE,
    ),
    several(
        "websocket-declined-then-foreign",
        get(*WS) + b"GET /console/x HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "declined: what follows is guarded like any request",
        Forwarded(upgrade=True),
        Refused((421,), None),
    ),
    several(
        "websocket-declined-then-garbage",
        get(*WS) + b"\x81\x85\x00\x00\x00\x00hello\r\n\r\n",
        "declined: WebSocket frames are no request",
        Forwarded(upgrade=True),
        BAD,
    ),
    forwarded(
        "websocket-no-connection", get(WS[0], *WS[2:]), "9110 7.8: without Connection it is none", absent=(b"Upgrade",)
    ),
    forwarded(
        "websocket-connection-close",
        get(WS[0], b"Connection: close", *WS[2:]),
        "no upgrade named",
        absent=(b"Upgrade",),
        closes=True,
    ),
    forwarded("connection-upgrade-only", get(b"Connection: Upgrade"), "nothing to upgrade to", absent=(b"Upgrade",)),
    either(
        "websocket-post",
        post(*WS, b"Content-Length: 5", body=b"hello"),
        "6455 4.1: the method is GET; not a handshake, so forwarded without it, body included",
        Forwarded(method=POST, body=b"hello", absent=(b"Upgrade",)),
        BAD,
    ),
    either(
        "websocket-post-body-is-a-request",
        post(*WS, b"Content-Length: %d" % len(SECOND), body=SECOND),
        "the body is no request",
        Forwarded(method=POST, body=SECOND, absent=(b"Upgrade",)),
        BAD,
    ),
    either(
        "websocket-get-with-length",
        get(*WS, b"Content-Length: 5") + b"hello",
        "a handshake has no body: without the upgrade, or refused; never a tunnel that starts with it",
        Forwarded(body=b"hello", absent=(b"Upgrade",)),
        Forwarded(body=b"hello", upgrade=True),
        BAD,
    ),
    either(
        "websocket-get-chunked",
        get(*WS, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        "a handshake has no body",
        Forwarded(body=b"hello", absent=(b"Upgrade",)),
        Forwarded(body=b"hello", upgrade=True),
        BAD,
    ),
    forwarded(
        "websocket-1.0",
        b"GET /operate/a HTTP/1.0\r\n" + HOST + b"".join(line + b"\r\n" for line in WS) + b"\r\n",
        "9110 7.8: an Upgrade in HTTP/1.0 is ignored",
        absent=(b"Upgrade",),
        closes=True,
    ),
    either(
        "websocket-and-h2c",
        get(b"Upgrade: websocket, h2c", *WS[1:]),
        "a list: websocket alone, or nothing; h2c never",
        Forwarded(upgrade=True),
        Forwarded(absent=(b"Upgrade",)),
    ),
    either(
        "websocket-version",
        get(b"Upgrade: websocket/13", *WS[1:]),
        "a protocol with a version is another one",
        Forwarded(absent=(b"Upgrade",)),
        Forwarded(upgrade=True),
    ),
    either(
        "websocket-two-lines",
        get(*WS, b"Upgrade: h2c"),
        "two lines are a list: websocket alone, or nothing; h2c never",
        Forwarded(upgrade=True),
        Forwarded(absent=(b"Upgrade",)),
        BAD,
    ),
    either(
        "websocket-no-key",
        get(*WS[:3]),
        "6455 4.1: no handshake without a key; the upstream may say so",
        Forwarded(upgrade=True),
        Forwarded(absent=(b"Upgrade",)),
        BAD,
    ),
    either(
        "websocket-no-version",
        get(WS[0], WS[1], WS[3]),
        "6455 4.1: no handshake without a version; the upstream may say so",
        Forwarded(upgrade=True),
        Forwarded(absent=(b"Upgrade",)),
        BAD,
    ),
    either(
        "websocket-bad-version",
        get(WS[0], WS[1], b"Sec-WebSocket-Version: 777", WS[3]),
        "the upstream answers 426",
        Forwarded(upgrade=True),
        Forwarded(absent=(b"Upgrade",)),
        BAD,
    ),
    either(
        "websocket-not-allowed",
        get(*WS, target=b"/optimize/private"),
        "allow is asked for a handshake as well",
        Refused((403,), None),
    ),
    # h2c
    forwarded("h2c", get(*H2C), "9113 3.1: ignored", absent=NO_UPGRADE),
    forwarded(
        "h2c-body",
        post(*H2C, b"Content-Length: 5", body=b"hello"),
        "the JDK's HttpClient: the body is a body",
        method=POST,
        body=b"hello",
        absent=NO_UPGRADE,
    ),
    forwarded(
        "h2c-body-is-a-request",
        post(*H2C, b"Content-Length: %d" % len(SECOND), body=SECOND),
        "llhttp parses it as the next request",
        method=POST,
        body=SECOND,
        absent=NO_UPGRADE,
    ),
    forwarded(
        "h2c-chunked",
        chunked(b"5\r\nhello\r\n0\r\n\r\n", *H2C),
        "the JDK's HttpClient with a body of unknown length",
        method=POST,
        body=b"hello",
        absent=NO_UPGRADE,
    ),
    several(
        "h2c-then-request",
        get(*H2C) + SECOND,
        "ignored: what follows is the next request",
        Forwarded(absent=NO_UPGRADE),
        CONSOLE,
    ),
    several(
        "h2c-then-preface",
        get(*H2C) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a client that thinks it was upgraded",
        Forwarded(absent=NO_UPGRADE),
        BAD,
    ),
    forwarded("h2c-upper", get(H2C[0], b"Upgrade: H2C", H2C[2]), "any case", absent=NO_UPGRADE),
    forwarded("h2", get(H2C[0], b"Upgrade: h2", H2C[2]), "9113 3.1", absent=NO_UPGRADE),
    forwarded("h2c-no-settings", get(b"Upgrade: h2c", b"Connection: Upgrade"), "incomplete", absent=NO_UPGRADE),
    forwarded(
        "h2c-settings-not-named",
        get(b"Upgrade: h2c", b"Connection: Upgrade", H2C[2]),
        "9113: of this hop",
        absent=(b"Upgrade",),
    ),
    forwarded("tls", get(b"Upgrade: TLS/1.2", b"Connection: Upgrade"), "2817: ignored", absent=NO_UPGRADE),
    forwarded("http-1.1", get(b"Upgrade: HTTP/1.1", b"Connection: Upgrade"), "ignored", absent=NO_UPGRADE),
    forwarded("http-2.0", get(b"Upgrade: HTTP/2.0", b"Connection: Upgrade"), "ignored", absent=NO_UPGRADE),
    forwarded("websocket-like", get(b"Upgrade: websocketx", *WS[1:]), "another protocol", absent=(b"Upgrade",)),
    forwarded("empty", get(b"Upgrade:", b"Connection: Upgrade"), "nothing", absent=(b"Upgrade",)),
    forwarded(
        "connect-udp",
        get(b"Upgrade: connect-udp", b"Connection: Upgrade", b"Capsule-Protocol: ?1"),
        "9298: ignored",
        absent=(b"Upgrade",),
    ),
)
