"""What passes, what is added and what goes: heads in both directions, over real sockets."""

from __future__ import annotations

import json
import re

import pytest
from structlog.testing import capture_logs

from sidecar.config.settings import Limits, Logging, Rule
from tests.proxy.lab import HOST, echo, lab, request, required, response, says
from tests.proxy.strict import Message
from tests.proxy.support import FakeAttachment, FakeAuthorizer

OUR_ID = re.compile(rb"[0-9a-f]{16}-[0-9a-f]+")


def names(message: Message) -> list[bytes]:
    return [name for name, _ in message.headers]


# --- to the upstream -------------------------------------------------------------------------------------------------


async def test_a_plain_request() -> None:
    """The prefix becomes the base, the Host the upstream's; a request id and the credential are added, nothing else."""
    async with lab(echo, base="/base") as it:
        await it.ask(b"GET /app/a/b?c=d HTTP/1.1\r\nHost: localhost:8600\r\nAccept: */*\r\n\r\n")
        (seen,) = it.origin.requests
        assert seen.start == (b"GET", b"/base/a/b?c=d", b"1")
        assert names(seen) == [b"Host", b"Accept", b"X-Request-ID", b"Authorization"]
        assert seen.value(b"host") == it.origin.authority.encode()
        assert seen.value(b"authorization") == b"Bearer token-1"
        assert OUR_ID.fullmatch(seen.value(b"x-request-id") or b"")


async def test_request_ids_are_kept_or_made() -> None:
    """A client's own passes; made ones never repeat."""
    async with lab(echo) as it:
        await it.ask(request(b"GET", b"/app/x", b"X-Request-ID: mine"))
        for _ in range(3):
            await it.ask(request())
        ids = [seen.value(b"x-request-id") for seen in it.origin.requests]
        assert ids[0] == b"mine"
        assert len(set(ids)) == 4


async def test_a_made_request_id_comes_back() -> None:
    """A client that gave none learns what its upstream and the log call the request; an upstream's own one stays."""
    async with lab(echo) as it:
        answer = await it.ask(request())
        assert answer.values(b"x-request-id") == it.origin.requests[0].values(b"x-request-id")
        assert (await it.ask(request(b"GET", b"/app/x", b"X-Request-ID: mine"))).values(b"x-request-id") == []
    async with lab(says(response(b"200 OK", b"x-request-id: theirs"))) as it:
        assert (await it.ask(request())).values(b"x-request-id") == [b"theirs"]
    async with lab(says(response(b"200 OK", b"X-Request-ID: theirs", b"Connection: X-Request-ID"))) as it:
        assert [bool(OUR_ID.fullmatch(value)) for value in (await it.ask(request())).values(b"x-request-id")] == [True]


async def test_client_credentials_do_not_pass() -> None:
    """Nor do cookies, nor what a client claims of itself; the sidecar's own credential is the only one."""
    lines = [
        b"Authorization: Basic x",
        b"authorization:",
        b"Cookie: a=b",
        b"Proxy-Authorization: Basic x",
        b"X-Forwarded-For: 1.2.3.4",
        b"X_Forwarded_Proto: https",
        b"Forwarded: for=1.2.3.4",
        b"X-Real-IP: 1.2.3.4",
        b"Traceparent: 00-1-2-01",
    ]
    async with lab(echo) as it:
        await it.ask(request(b"GET", b"/app/x", *lines))
        (seen,) = it.origin.requests
        assert names(seen) == [b"Host", b"Traceparent", b"X-Request-ID", b"Authorization"]
        assert seen.values(b"authorization") == [b"Bearer token-1"]


async def test_hop_by_hop_fields_end_here() -> None:
    """And those that Connection names; it cannot name away what the sidecar sets."""
    lines = [
        b"Connection: keep-alive, X-Hop, Authorization, Host, X-Request-ID, Content-Length",
        b"Keep-Alive: timeout=5",
        b"X-Hop: 1",
        b"TE: trailers",
        b"Trailer: X-T",
        b"X-Request-ID: mine",
        b"X-Stays: 1",
    ]
    async with lab(echo) as it:
        answer = await it.ask(request(b"POST", b"/app/x", *lines, body=b"hello"))
        (seen,) = it.origin.requests
        assert answer.body == b"/x hello"
        assert names(seen) == [b"Host", b"X-Stays", b"Content-Length", b"X-Request-ID", b"Authorization"]
        assert OUR_ID.fullmatch(seen.value(b"x-request-id") or b"")


@pytest.mark.parametrize("body", [None, b"", b"hello"])
@pytest.mark.parametrize(
    "lines",
    [
        [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"],
        [b"Connection: Upgrade", b"Upgrade: TLS/1.0"],
        [b"Upgrade: websocket"],
        [b"Connection: Upgrade"],
    ],
)
async def test_other_upgrades_are_ignored(lines: list[bytes], body: bytes | None) -> None:
    """The request is forwarded without it, body included, as the JDK's HttpClient needs it on every request."""
    async with lab(echo) as it:
        answer = await it.ask(request(b"POST", b"/app/x", *lines, body=body))
        (seen,) = it.origin.requests
        assert (answer.status, seen.body) == (200, body or b"")
        assert not {b"Upgrade", b"Connection", b"HTTP2-Settings"} & set(names(seen))


async def test_websocket_offer_with_a_body_is_a_plain_request() -> None:
    """A handshake has none; the body is not taken for tunnelled bytes."""
    async with lab(echo) as it:
        raw = request(b"POST", b"/app/x", b"Connection: Upgrade", b"Upgrade: websocket", body=b"hello")
        assert (await it.ask(raw)).body == b"/x hello"
        assert it.origin.requests[0].values(b"upgrade") == []


async def test_public_requests_carry_no_credential() -> None:
    """Neither ours nor the client's."""
    async with lab(echo, route_changes={"public": (Rule("GET", "/health"),)}) as it:
        await it.ask(request(b"GET", b"/app/health", b"Authorization: Basic x"))
        await it.ask(request(b"POST", b"/app/health"))
        assert [seen.values(b"authorization") for seen in it.origin.requests] == [[], [b"Bearer token-1"]]


async def test_public_requests_wait_for_no_credential() -> None:
    """A readiness probe through the sidecar needs no issuer."""
    authorizer = FakeAuthorizer(ready=False)
    async with lab(echo, authorizer=authorizer, route_changes={"public": (Rule("GET", "/health"),)}) as it:
        assert (await it.ask(request(b"GET", b"/app/health"))).status == 200
        assert authorizer.events == []


async def test_no_credential_at_all() -> None:
    """A route whose credential is `none` forwards without one."""
    authorizer = FakeAuthorizer(versions=[FakeAttachment(b"")])
    async with lab(echo, authorizer=authorizer) as it:
        await it.ask(request())
        assert it.origin.requests[0].values(b"authorization") == []


# --- to the client ---------------------------------------------------------------------------------------------------


async def test_a_plain_answer() -> None:
    """Status, reason and end-to-end fields pass byte for byte; the length is written anew."""
    raw = response(b"299 Very  Odd", b"Server: x", b"Date:  now ", b"X-A: 1", b"x-a:2", body=b"hello")
    async with lab(says(raw)) as it, await it.client() as client:
        await client.send([request(b"GET", b"/app/x", b"X-Request-ID: mine")])
        await client.final()
        assert bytes(client.raw) == (
            b"HTTP/1.1 299 Very  Odd\r\nServer: x\r\nDate:  now \r\nX-A: 1\r\nx-a:2\r\nContent-Length: 5\r\n\r\nhello"
        )


async def test_upstream_hop_by_hop_fields_end_here() -> None:
    """The upstream's connection is not the client's."""
    raw = response(
        b"200 OK",
        b"Connection: close, X-Hop",
        b"Keep-Alive: timeout=5",
        b"X-Hop: 1",
        b"Upgrade: h2c",
        b"Trailer: X",
        b"Proxy-Authenticate: Basic",
        b"X-Stays: 1",
    )
    async with lab(says(raw)) as it, await it.client() as client:
        await client.send([request()])
        assert names(required(await client.final())) == [b"X-Stays", b"Content-Length", b"X-Request-ID"]
        await client.send([request()])
        assert required(await client.final()).status == 200


async def test_upstream_cannot_pass_for_the_sidecar() -> None:
    """Its own Sidecar-Error goes: that header is how a client tells who answered."""
    async with lab(says(response(b"502 Bad Gateway", b"Sidecar-Error: draining", b"sidecar-error: x"))) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.values(b"sidecar-error")) == (502, [])
        assert it.counted("GET", 502, "upstream") == 1


async def test_cookies_are_dropped() -> None:
    """An upstream's session belongs to the sidecar's credential; the authorizer hears of it."""
    raw = response(b"200 OK", b"Set-Cookie: a=b; Path=/", b"set-cookie: c=d", b"X: 1")
    async with lab(says(raw)) as it:
        answer = await it.ask(request())
        assert names(answer) == [b"X", b"Content-Length", b"X-Request-ID"]
        assert it.authorizer.events == [("cookies", (b"a=b; Path=/", b"c=d"))]


async def test_cookies_pass_where_the_route_says_so() -> None:
    """Each on a line of its own; a client's Cookie still goes."""
    raw = response(b"200 OK", b"Set-Cookie: a=b", b"Set-Cookie: c=d")
    async with lab(says(raw), route_changes={"cookies": "pass"}) as it:
        answer = await it.ask(request(b"GET", b"/app/x", b"Cookie: a=b"))
        assert answer.values(b"set-cookie") == [b"a=b", b"c=d"]
        assert it.origin.requests[0].values(b"cookie") == []


async def test_cookies_of_a_refusal_are_not_taken_over() -> None:
    """A login page's cookie is no rotation of the session."""
    async with lab(says(response(b"401 Unauthorized", b"Set-Cookie: a=b"))) as it:
        await it.ask(request())
        assert [event[0] for event in it.authorizer.events] == ["replace"]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("{origin}/base/new?a#b", "/app/new?a#b"),
        ("/base/new", "/app/new"),
        ("{origin}/elsewhere", "{origin}/elsewhere"),
        ("/elsewhere", "/elsewhere"),
        ("https://login.example/base/x", "https://login.example/base/x"),
        ("new", "new"),
    ],
)
@pytest.mark.parametrize("status", [b"201 Created", b"302 Found"])
async def test_locations(location: str, expected: str, status: bytes) -> None:
    """Never followed; one inside the upstream's base becomes a local one, any other stays what it is."""
    async with lab(echo, base="/base") as it:
        at = location.format(origin=it.origin.url).encode()
        it.origin.answer = says(response(status, b"Location: " + at))
        answer = await it.ask(request())
        assert answer.status == int(status[:3])
        assert answer.value(b"location") == expected.format(origin=it.origin.url).encode()
        assert len(it.origin.requests) == 1


# --- refused here ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status", "code", "reason"),
    [
        (b"GET /app/x HTTP/1.1\r\nHost: evil.com\r\n\r\n", 421, "unknown_host", "host"),
        (b"GET /app/x HTTP/1.1\r\n" + HOST + b"Origin: http://evil.com\r\n\r\n", 403, "cross_site", "origin"),
        (b"OPTIONS /app/x HTTP/1.1\r\n" + HOST + b"Origin: null\r\n\r\n", 403, "cross_site", "origin"),
        (
            b"GET /app/x HTTP/1.1\r\n" + HOST + b"Sec-Fetch-Site: cross-site\r\n\r\n",
            403,
            "cross_site",
            "fetch_metadata",
        ),
        (b"GET /other HTTP/1.1\r\n" + HOST + b"\r\n", 404, "no_route", None),
        (b"GET /app/secret HTTP/1.1\r\n" + HOST + b"\r\n", 403, "forbidden_by_policy", "allow"),
        (b"GET /app/../x HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request", None),
        (b"GET /app/x HTTP/1.1\r\n\r\n", 400, "bad_request", None),
        (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501, "unsupported", None),
        (b"TRACE /app/x HTTP/1.1\r\n" + HOST + b"\r\n", 501, "unsupported", None),
    ],
)
async def test_refusals(raw: bytes, status: int, code: str, reason: str | None) -> None:
    """A problem document, its header, its count by reason; and nothing reaches the upstream."""
    allow = (Rule(None, "/x"),)
    async with lab(echo, route_changes={"allow": allow}) as it:
        answer = await it.ask(raw)
        assert (answer.status, answer.value(b"sidecar-error")) == (status, code.encode())
        document = json.loads(answer.body)
        assert (document["code"], document["status"]) == (code, status)
        assert it.origin.connections == []
        assert dict(it.proxy.stats.guard_rejections) == ({reason: 1} if reason else {})


async def test_refused_heads_have_no_body() -> None:
    """An answer to HEAD never has, ours included."""
    async with lab(echo) as it:
        answer = await it.ask(b"HEAD /other HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (answer.status, answer.body) == (404, b"")
        assert int(answer.value(b"content-length") or b"") > 0


@pytest.mark.parametrize(
    ("first", "goes_on"),
    [
        (b"GET /other HTTP/1.1\r\n" + HOST + b"\r\n", True),
        (b"GET /other HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", False),
        (b"GET /other HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n", False),
        (b"POST /other HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello", False),
        (b"GET /app/x HTTP/1.1\r\nHost: evil.com\r\n\r\n", False),
        (b"GET /app/.. HTTP/1.1\r\n" + HOST + b"\r\n", False),
    ],
)
async def test_connection_after_a_refusal(first: bytes, goes_on: bool) -> None:
    """It serves the next request only where it is known that one follows; nobody is told otherwise."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([first + request(b"GET", b"/app/next")])
        refused = required(await client.final())
        assert refused.value(b"sidecar-error") is not None
        assert (refused.value(b"connection") != b"close") is goes_on
        if goes_on:
            assert required(await client.final()).body == b"/next "
        else:
            assert await client.final() is None
            assert it.origin.connections == []


# --- what is told of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "expected"),
    [("none", []), ("errors", ["request", "request refused"]), ("all", ["request", "request", "request refused"])],
)
async def test_access_log(access: str, expected: list[str]) -> None:
    """As much as was asked for; never a query, never a credential."""
    raws = [
        request(b"GET", b"/app/ok?secret=1", b"Authorization: Basic c2VjcmV0"),
        request(b"GET", b"/app/bad?secret=1"),
        request(b"GET", b"/none?secret=1"),
    ]

    async def by_target(connection: object, message: Message) -> None:
        await says(response(b"500 No" if b"bad" in message.target else b"200 OK"))(connection, message)  # type: ignore[arg-type]

    with capture_logs() as logs:
        async with lab(by_target, logging=Logging(access=access)) as it:  # type: ignore[arg-type]
            for raw in raws:
                await it.ask(raw)
    told = [entry for entry in logs if entry["event"] in {"request", "request refused"}]
    assert sorted(entry["event"] for entry in told) == expected
    assert "secret" not in str(logs)
    assert "token-1" not in str(logs)
    assert "c2VjcmV0" not in str(logs)


@pytest.mark.parametrize(
    "raw",
    [
        request(b"GET", b"/none"),
        request(b"GET", b"/app/broken"),
        request(b"GET", b"/app/broken", b"Sec-Fetch-Site: cross-site"),
        b"GET /app/broken HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01",
    ],
    ids=["no route", "no answer", "another site", "another host", "no request", "TLS"],
)
@pytest.mark.parametrize("line", [b"", b"X-Request-ID: mine-1\r\n", b"X-Request-ID: not mine\r\n"])
async def test_an_error_of_ours_can_be_found_in_the_log(raw: bytes, line: bytes) -> None:
    """It has the log line's request id, the client's own where that is a valid one, and a Date."""
    sent = raw.replace(HOST, HOST + line, 1)
    with capture_logs() as logs:
        async with lab(says(b"nonsense\r\n\r\n")) as it:
            answer = await it.ask(sent)
    assert answer.value(b"sidecar-error") is not None
    assert answer.value(b"date") == b"Thu, 01 Jan 1970 00:16:40 GMT"
    [told] = [entry for entry in logs if entry["event"] in {"request", "request refused"}]
    request_id = answer.value(b"x-request-id") or b""
    assert told["request_id"] == request_id.decode()
    assert told["code"] == (answer.value(b"sidecar-error") or b"").decode()
    assert told["detail"]
    assert request_id == b"mine-1" if b"mine-1" in sent else OUR_ID.fullmatch(request_id)


async def test_a_grpc_client_is_told_what_this_port_speaks() -> None:
    """An HTTP/2 preface (RFC 9113, 3.4) gets an answer that says how the client is to be set, and so does the log."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
    with capture_logs() as logs:
        async with lab(echo) as it:
            answer = await it.ask(preface)
    assert (answer.status, answer.value(b"sidecar-error")) == (400, b"bad_request")
    [told] = [entry["detail"] for entry in logs if entry["event"] == "request refused"]
    assert json.loads(answer.body)["detail"] == told
    assert all(word in told for word in ("HTTP/1.1", "HTTP/2", "gRPC", "ZEEBE_REST_ADDRESS"))


async def test_a_turned_away_connection_has_an_id_and_a_date() -> None:
    """Even what is said before a request came."""
    async with lab(limits=Limits(connections=1)) as it, await it.client(), await it.client() as second:
        answer = required(await second.response())
        assert (answer.status, answer.value(b"sidecar-error")) == (503, b"overloaded")
        assert OUR_ID.fullmatch(answer.value(b"x-request-id") or b"")
        assert answer.value(b"date")


async def test_counts() -> None:
    """By route, known method, status and who answered; a client can invent no label."""
    async with lab(echo) as it:
        await it.ask(request(b"GET"))
        await it.ask(request(b"BREW"))
        await it.ask(b"BREW /invented HTTP/1.1\r\n" + HOST + b"\r\n")
        assert dict(it.stats.requests) == {("GET", 200, "upstream"): 1, ("other", 200, "upstream"): 1}
        assert dict(it.proxy.stats.route("-").requests) == {("other", 404, "sidecar"): 1}
        assert set(it.proxy.stats.routes) == {"app", "-"}
        assert sum(it.stats.duration_counts) == 2
