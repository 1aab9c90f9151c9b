"""Everything that can go wrong on the way: each fault is a named fake, each error a status that clients know."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from grpc import StatusCode
from structlog.testing import capture_logs
from zeebe_grpc import gateway_pb2 as pb
from zeebe_grpc import gateway_pb2_grpc as rpc

from sidecar import background
from sidecar.config.settings import Guard, Limits, Logging, RequiredHeader
from sidecar.errors import CredentialRejectedError, SecretUnavailableError, TokenUnavailableError
from tests import needs
from tests.credentials.forward_proxy import forward_proxy
from tests.grpc.support import GATEWAY, GOOD, NEXT, client, ending, gateway, listening, settled, until
from tests.grpc.wire import recording
from tests.proxy.support import FakeAuthorizer

KINDS = pytest.mark.parametrize("method", [f"{GATEWAY}Topology", f"{GATEWAY}ActivateJobs", "/x.Y/Z"])


@asynccontextmanager
async def nobody() -> AsyncIterator[str]:
    """A port where nobody listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def no_such_name() -> AsyncIterator[str]:
    """A name that no resolver knows (RFC 6761)."""
    yield "http://nobody.invalid:1"


async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Takes the connection, and never says a word."""
    await reader.read(-1)


async def web_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks HTTP/1.1 only."""
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await reader.read(1)


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends each connection at once."""
    writer.transport.abort()


@asynccontextmanager
async def speaking(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A TCP server; what it has begun is over at the end."""
    talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks[task] = writer
        with contextlib.suppress(OSError):
            await talk(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for writer in talks.values():
        writer.transport.abort()
    await asyncio.gather(*talks)


@asynccontextmanager
async def unknown_certificate() -> AsyncIterator[str]:
    """TLS by an authority that nobody named."""
    async with gateway(tls=True) as upstream:
        yield upstream.url


@asynccontextmanager
async def plain_where_tls_is_expected() -> AsyncIterator[str]:
    """No TLS on the port of an https upstream."""
    async with gateway() as upstream:
        yield upstream.url.replace("http:", "https:")


UNREACHABLE = {
    "nobody": nobody,
    "no such name": no_such_name,
    "mute": lambda: speaking(mute),
    "web server": lambda: speaking(web_server),
    "reset": lambda: speaking(reset),
    "unknown certificate": unknown_certificate,
    "plain where TLS is expected": plain_where_tls_is_expected,
}


@pytest.mark.parametrize("fault", UNREACHABLE)
@KINDS
async def test_an_upstream_that_cannot_be_reached(fault, method):
    """UNAVAILABLE, which clients retry; why stands in the log, addresses and all, and not in the answer."""
    async with (
        UNREACHABLE[fault]() as url,
        listening(url, pem_files=lambda: (None, None, None)) as running,
        client(running) as channel,
    ):
        with capture_logs() as lines:
            code, details, trailers = await ending(channel.unary_stream(method)(b"", timeout=20))
        assert code is StatusCode.UNAVAILABLE
        assert details == "There is no connection to the gRPC upstream, or it was lost; see the log."
        assert trailers == {"sidecar-error": "upstream_unreachable"}
        [line] = [line for line in lines if line["event"] == "request"]
        assert (line["code"], line["status"], line["grpc_status"]) == ("upstream_unreachable", 503, "UNAVAILABLE")
        assert line["reason"]


async def test_the_way_back():
    """An upstream that is there again is reached again within the backoff, which has a bound."""
    async with (
        nobody() as url,
        listening(url) as running,
        client(running) as channel,
    ):
        assert (await ending(channel.unary_unary("/x.Y/Z")(b"")))[0] is StatusCode.UNAVAILABLE
        port = int(url.rpartition(":")[2])
        async with gateway(port=port), asyncio.timeout(20):
            while True:
                code, _, _ = await ending(rpc.GatewayStub(channel).Topology(pb.TopologyRequest()))
                if code is StatusCode.OK:
                    break
                assert code is StatusCode.UNAVAILABLE


async def test_a_forward_proxy():
    """HTTPS_PROXY: a tunnel by CONNECT, with the proxy's own credentials, and the gateway's TLS inside."""
    async with forward_proxy("user:p@ss") as proxy, gateway(tls=True) as upstream:
        async with listening(upstream.url, proxy=proxy.url("user:p%40ss")) as running, client(running) as channel:
            await rpc.GatewayStub(channel).Topology(pb.TopologyRequest())
            [(_, metadata)] = upstream.calls
            assert "proxy-authorization" not in metadata
        assert proxy.seen == [f"CONNECT localhost:{upstream.port} HTTP/1.1"]


async def test_a_forward_proxy_that_refuses():
    """Wrong credentials for the proxy: the gateway cannot be reached, and no text has the password."""
    async with (
        forward_proxy("user:right") as proxy,
        gateway(tls=True) as upstream,
        listening(upstream.url, proxy=proxy.url("user:wrong-pass")) as running,
        client(running) as channel,
    ):
        with capture_logs() as lines:
            code, _, trailers = await ending(channel.unary_unary("/x.Y/Z")(b""))
        assert (code, trailers) == (StatusCode.UNAVAILABLE, {"sidecar-error": "upstream_unreachable"})
        assert "407" in str(lines)
        assert "wrong-pass" not in str(lines)


@KINDS
async def test_a_connection_that_breaks(method):
    """In the middle of a call the client gets UNAVAILABLE, and nothing is sent a second time; the next call works."""
    begun = asyncio.Event()

    async def slow(context):
        await context.read()
        begun.set()
        await asyncio.Event().wait()

    async with (
        gateway({method: slow}) as upstream,
        recording(upstream.port) as way,
        listening(way.url) as running,
        client(running) as channel,
    ):
        call = channel.unary_stream(method)(b"")
        await begun.wait()
        way.break_all()
        code, _, trailers = await ending(call)
        assert (code, trailers) == (StatusCode.UNAVAILABLE, {"sidecar-error": "upstream_unreachable"})
        assert len(upstream.calls) == 1
        await rpc.GatewayStub(channel).PublishMessage(pb.PublishMessageRequest(), wait_for_ready=True)


async def test_the_upstreams_own_unavailable():
    """An upstream that says UNAVAILABLE itself is passed on in its own words, and is none of the sidecar's errors."""

    async def busy(context):
        await context.abort(StatusCode.UNAVAILABLE, "partition 1 has no leader")

    async with gateway({"/x.Y/B": busy}) as upstream, listening(upstream.url) as running, client(running) as channel:
        assert await ending(channel.unary_unary("/x.Y/B")(b"")) == (
            StatusCode.UNAVAILABLE,
            "partition 1 has no leader",
            {},
        )
        assert running.counted() == {("other", 503, "upstream"): 1}


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, StatusCode.UNAUTHENTICATED), (502, StatusCode.UNAVAILABLE), (404, StatusCode.UNIMPLEMENTED)],
)
async def test_a_web_server_in_front_of_the_gateway(status, code, tmp_path, unused_tcp_port_factory):
    """Pages of an ingress become the statuses that gRPC prescribes; its 401 is a refused token like the gateway's."""
    nginx = needs.program("nginx", "/usr/sbin/nginx", package="nginx-light")
    port = unused_tcp_port_factory()
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr crit; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path};"
        f" fastcgi_temp_path {tmp_path}; uwsgi_temp_path {tmp_path}; scgi_temp_path {tmp_path};"
        f" server {{ listen 127.0.0.1:{port} http2; return {status}; }} }}\n"
    )
    process = await asyncio.create_subprocess_exec(nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"))
    authorizer = FakeAuthorizer([GOOD, NEXT])
    try:
        async with listening(f"http://127.0.0.1:{port}", authorizer) as running, client(running) as channel:
            call = channel.unary_unary(f"{GATEWAY}Topology")
            async with asyncio.timeout(20):
                while (ended := await ending(call(b"")))[2].get("sidecar-error"):
                    pass  # nginx begins
            assert ended[0] is code
            assert [event[0] for event in authorizer.events] == (["replace", "replayed"] if status == 401 else [])
    finally:
        process.terminate()
        await process.wait()


async def test_messages_over_the_limit():
    """A message over `grpc.max_message` is RESOURCE_EXHAUSTED from either side, and at the limit it passes."""

    async def large(context):
        await context.write(b"x" * int(await context.read()))

    async with (
        gateway({"/x.Y/Large": large}) as upstream,
        listening(upstream.url, max_message=100_000) as running,
        client(running) as channel,
    ):
        call = channel.unary_unary("/x.Y/Large")
        assert len(await call(b"100000")) == 100_000
        code, details, trailers = await ending(call(b"100001"))
        assert (code, trailers) == (StatusCode.RESOURCE_EXHAUSTED, {"sidecar-error": "body_too_large"})
        assert details == "A message of the upstream is over 100000 bytes (max_message)."
        publish = rpc.GatewayStub(channel).PublishMessage
        assert (await publish(pb.PublishMessageRequest(variables="x" * 99_900))).key == 99_900
        code, _, _ = await ending(publish(pb.PublishMessageRequest(variables="x" * 100_001)))
        assert code is StatusCode.RESOURCE_EXHAUSTED
        assert upstream.methods["PublishMessage"] == 1


async def test_metadata_over_the_limit():
    """Metadata over `limits.header_bytes` is refused, and what is below passes: tokens are long."""
    async with (
        gateway(options=[("grpc.max_metadata_size", 1 << 20)]) as upstream,
        listening(upstream.url, limits=Limits(header_bytes=32 << 10)) as running,
        client(running) as channel,
    ):
        stub = rpc.GatewayStub(channel)
        await stub.Topology(pb.TopologyRequest(), metadata=(("x-long", "x" * (20 << 10)),))
        code, _, _ = await ending(stub.Topology(pb.TopologyRequest(), metadata=(("x-long", "x" * (40 << 10)),)))
        assert code is StatusCode.RESOURCE_EXHAUSTED
        assert upstream.methods["Topology"] == 1


@pytest.mark.parametrize(
    ("problem", "code", "trailers"),
    [
        (
            TokenUnavailableError("The issuer is throttling.", retry_after=2.4),
            StatusCode.UNAVAILABLE,
            {"sidecar-error": "token_unavailable", "retry-after": "3"},
        ),
        (
            CredentialRejectedError("The issuer refused it."),
            StatusCode.UNAUTHENTICATED,
            {"sidecar-error": "credential_rejected"},
        ),
    ],
)
@KINDS
async def test_no_token(problem, code, trailers, method):
    """What cures itself is UNAVAILABLE, which clients retry; a refused credential is not. Nothing goes upstream."""
    async with gateway() as upstream:
        authorizer = FakeAuthorizer([GOOD], problem=problem, ready=False)
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            assert await ending(channel.unary_unary(method)(b"")) == (code, problem.detail, trailers)
            assert upstream.calls == []
            [(_, _, source)] = running.counted()
            assert source == "sidecar"


async def test_a_client_that_leaves_while_it_waits_for_a_token():
    """Its deadline ends the wait, and the upstream never hears of it."""
    async with gateway() as upstream:
        authorizer = FakeAuthorizer([GOOD], ready=False, gate=asyncio.Event())
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            code, _, _ = await ending(channel.unary_unary("/x.Y/Z")(b"", timeout=0.1))
            assert code is StatusCode.DEADLINE_EXCEEDED
            await settled(running)
            assert upstream.calls == []


async def test_a_fault_of_the_sidecars_own():
    """A bug ends its one call with INTERNAL and without a word of the exception; it is logged, and counted."""

    class Buggy(FakeAuthorizer):
        def current(self):
            raise RuntimeError("secret details")

    before = background.failures["grpc"]
    async with gateway() as upstream, listening(upstream.url, Buggy([GOOD])) as running, client(running) as channel:
        with capture_logs() as lines:
            code, details, _ = await ending(channel.unary_unary("/x.Y/Z")(b""))
        assert (code, details) == (StatusCode.INTERNAL, "The call failed by a fault in the sidecar; see its log.")
        assert background.failures["grpc"] == before + 1
        assert [line["work"] for line in lines if line["log_level"] == "error"] == ["grpc"]


async def test_unusable_files_for_tls():
    """Files that cannot be read make the upstream unreachable until they are repaired."""

    def unusable():
        raise SecretUnavailableError("The CA file /x cannot be read.")

    async with (
        gateway(tls=True) as upstream,
        listening(upstream.url, pem_files=unusable) as running,
        client(running) as channel,
    ):
        code, details, trailers = await ending(channel.unary_unary("/x.Y/Z")(b""))
        assert (code, trailers) == (StatusCode.UNAVAILABLE, {"sidecar-error": "upstream_unreachable"})
        assert "/x" not in details


async def test_too_many_calls():
    """Over `limits.connections` calls, the next is refused with UNAVAILABLE, and those under way go on."""
    async with (
        gateway() as upstream,
        listening(upstream.url, limits=Limits(connections=2)) as running,
        client(running) as channel,
    ):
        stub = rpc.GatewayStub(channel)
        streams = [stub.StreamActivatedJobs(pb.StreamActivatedJobsRequest(type="t")) for _ in range(2)]
        await until(lambda: running.stats.in_flight == 2)
        code, _, trailers = await ending(stub.Topology(pb.TopologyRequest()))
        assert (code, trailers) == (StatusCode.UNAVAILABLE, {"sidecar-error": "overloaded", "retry-after": "1"})
        streams.pop().cancel()
        await until(lambda: running.stats.in_flight == 1)
        await stub.Topology(pb.TopologyRequest())
        streams.pop().cancel()


@pytest.mark.parametrize(
    ("sent", "error", "reason"),
    [
        ((), "forbidden_by_policy", "require_header"),
        ((("x-sidecar", "no"),), "forbidden_by_policy", "require_header"),
        ((("x-sidecar", "yes"), ("origin", "http://localhost:26500")), "cross_site", "origin"),
        ((("x-sidecar", "yes"), ("sec-fetch-site", "cross-site")), "cross_site", "fetch_metadata"),
    ],
)
async def test_the_guard(sent, error, reason):
    """`guard.require_header` is asked of every call, and what only a browser sends is refused, before any token."""
    guard = Guard(require_header=RequiredHeader("X-Sidecar", "yes"))
    async with gateway() as upstream:
        authorizer = FakeAuthorizer([GOOD])
        async with listening(upstream.url, authorizer, guard=guard) as running, client(running) as channel:
            stub = rpc.GatewayStub(channel)
            code, _, trailers = await ending(stub.Topology(pb.TopologyRequest(), metadata=sent))
            assert (code, trailers) == (StatusCode.PERMISSION_DENIED, {"sidecar-error": error})
            assert running.http.guard_rejections == {reason: 1}
            assert upstream.calls == []
            await stub.Topology(pb.TopologyRequest(), metadata=(("x-sidecar", "yes"),))


@pytest.mark.parametrize(
    "said",
    [
        b"GET /gateway_protocol.Gateway/Topology HTTP/1.1\r\nHost: localhost\r\n\r\n",
        (
            b"POST /gateway_protocol.Gateway/Topology HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n"
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        ),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        bytes.fromhex("16030100ba010000b60303") + bytes(180),
    ],
    ids=["HTTP/1.1", "h2c upgrade", "websocket", "TLS"],
)
async def test_what_a_browser_can_say(said):
    """No page reaches a method, whatever name it got the address by: browsers speak HTTP/2 over TLS alone."""
    async with gateway() as upstream, listening(upstream.url) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(said)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert not answer.startswith(b"HTTP/")
        assert running.counted() == {}
        assert upstream.calls == []


@pytest.mark.parametrize(("access", "logged"), [("none", 0), ("errors", 1), ("all", 2)])
async def test_the_access_log(access, logged):
    """A call is one line, as a request is; neither metadata nor messages stand in it."""
    async with (
        gateway() as upstream,
        listening(upstream.url, logging=Logging(access=access)) as running,
        client(running) as channel,
    ):
        stub = rpc.GatewayStub(channel)
        with capture_logs() as lines:
            await stub.Topology(pb.TopologyRequest(), metadata=(("x-request-id", "mine"),))
            await ending(stub.CreateProcessInstance(pb.CreateProcessInstanceRequest(bpmnProcessId="hidden")))
            await settled(running)
        lines = [line for line in lines if line["event"] == "request"]
        assert len(lines) == logged
        if access == "all":
            assert {**lines[0], "milliseconds": 0} == {
                "event": "request",
                "log_level": "info",
                "route": "grpc",
                "method": "Topology",
                "path": f"{GATEWAY}Topology",
                "status": 200,
                "grpc_status": "OK",
                "source": "upstream",
                "milliseconds": 0,
                "request_id": "mine",
            }
