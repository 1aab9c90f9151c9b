"""Calls through the listener: every kind of method, metadata and trailers, deadlines and cancellation."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import StatusCode, aio
from zeebe_grpc import gateway_pb2 as pb
from zeebe_grpc import gateway_pb2_grpc as rpc

from tests.grpc.support import GATEWAY, client, ending, gateway, listening, read_all, settled
from tests.grpc.wire import DATA, END_STREAM, HEADERS, RST_STREAM, frames, recording


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_unary(tls):
    """A client without credentials gets its answer; the gateway sees exactly one token."""
    async with gateway(tls=tls) as upstream, listening(upstream.url) as running, client(running) as channel:
        topology = await rpc.GatewayStub(channel).Topology(pb.TopologyRequest())
        assert topology.gatewayVersion == "8.9.0"
        [(method, metadata)] = upstream.calls
        assert (method, metadata["authorization"]) == (f"{GATEWAY}Topology", "Bearer token-1")
        assert running.counted() == {("Topology", 200, "upstream"): 1}


async def test_server_streaming():
    """A stream's messages arrive one by one, as they are sent."""
    async with gateway() as upstream, listening(upstream.url) as running, client(running) as channel:
        call = rpc.GatewayStub(channel).StreamActivatedJobs(pb.StreamActivatedJobsRequest(type="t"))
        for key in range(3):
            upstream.zeebe.add(key)
            assert (await call.read()).key == key
        assert running.stats.in_flight == 1
        call.cancel()


async def echo(context):
    while (message := await context.read()) is not aio.EOF:
        await context.write(b"echo " + message)


async def total(context):
    size = 0
    while (message := await context.read()) is not aio.EOF:
        size += len(message)
    await context.write(b"%d" % size)


async def test_methods_that_are_not_known():
    """A method of another protocol is served in each of gRPC's four kinds."""
    async with (
        gateway({"/x.Y/Echo": echo, "/x.Y/Total": total}) as upstream,
        listening(upstream.url) as running,
        client(running) as channel,
    ):
        assert await channel.unary_unary("/x.Y/Echo")(b"a") == b"echo a"
        assert await read_all(channel.unary_stream("/x.Y/Echo")(b"a")) == [b"echo a"]
        assert await channel.stream_unary("/x.Y/Total")(iter([b"a", b"bc", b""])) == b"3"
        both = channel.stream_stream("/x.Y/Echo")()
        for message in (b"1", b"", b"3"):
            await both.write(message)
            assert await both.read() == b"echo " + message
        await both.done_writing()
        assert await both.read() is aio.EOF
        assert await both.code() is StatusCode.OK
        assert running.counted() == {("other", 200, "upstream"): 4}


async def test_an_unknown_method_is_the_upstreams_to_refuse():
    """The sidecar needs no list of methods."""
    async with gateway() as upstream, listening(upstream.url) as running, client(running) as channel:
        code, details, _ = await ending(channel.unary_unary("/x.Y/None")(b""))
        assert (code, details) == (StatusCode.UNIMPLEMENTED, "Method not found!")
        assert running.counted() == {("other", 501, "upstream"): 1}


async def test_error_details_and_trailers_come_through():
    """What the gateway says of an error is said to the client: status, message, trailers, binary ones too."""
    async with gateway() as upstream, listening(upstream.url) as running, client(running) as channel:
        call = rpc.GatewayStub(channel).CreateProcessInstance(pb.CreateProcessInstanceRequest())
        assert await ending(call) == (
            StatusCode.NOT_FOUND,
            "no such process: ö",
            {"zeebe-detail": "42", "detail-bin": b"\0\1"},
        )
        assert running.counted() == {("CreateProcessInstance", 404, "upstream"): 1}


async def metadata_back(context):
    await context.send_initial_metadata((("x-before", "1"), ("set-cookie", "s=1"), ("sidecar-error", "fake")))
    await context.write(b"m")
    context.set_trailing_metadata((("x-after-bin", b"\2"), ("sidecar-error", "fake")))


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_metadata_both_ways(kind):
    """Metadata, trailers and binary values pass; what a client claims to be, and the sidecar's own word, do not."""
    method = f"{GATEWAY}Topology" if kind == "unary_unary" else "/x.Y/Z"
    async with (
        gateway({method: metadata_back}) as upstream,
        listening(upstream.url) as running,
        client(running) as channel,
    ):
        sent = (
            ("authorization", "Bearer of-the-client"),
            ("cookie", "c=1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x_forwarded_for", "10.0.0.2"),
            ("forwarded", "for=10.0.0.1"),
            ("proxy-authorization", "Basic eA=="),
            ("traceparent", "00-a-b-01"),
            ("x-own", "kept"),
            ("x-own-bin", b"\0\xff"),
            ("x-request-id", "mine"),
        )
        call = getattr(channel, kind)(method)(b"", metadata=sent)
        assert ([await call] if kind == "unary_unary" else await read_all(call)) == [b"m"]
        [(_, received)] = upstream.calls
        assert {name: received[name] for name in received if name != "user-agent"} == {
            "authorization": "Bearer token-1",
            "traceparent": "00-a-b-01",
            "x-own": "kept",
            "x-own-bin": b"\0\xff",
            "x-request-id": "mine",
        }
        assert dict(await call.initial_metadata()) == {"x-before": "1"}
        assert dict(await call.trailing_metadata()) == {"x-after-bin": b"\2"}


@pytest.mark.parametrize("method", [f"{GATEWAY}PublishMessage", "/x.Y/Echo"])
async def test_compressed_messages(method):
    """A compressed message arrives whole on either side: compression is each hop's own, and the answer's as well."""

    async def compressed(context):
        context.set_compression(grpc.Compression.Gzip)
        await context.write(await context.read())

    async with (
        gateway({method: compressed}) as upstream,
        listening(upstream.url) as running,
        client(running) as channel,
    ):
        call = channel.unary_unary(method)(b"x" * 100_000, compression=grpc.Compression.Gzip)
        assert await call == b"x" * 100_000


async def test_every_call_has_an_id():
    """The upstream gets an x-request-id where the client sent none, and no two calls have the same."""
    async with gateway() as upstream, listening(upstream.url) as running, client(running) as channel:
        for _ in range(2):
            await rpc.GatewayStub(channel).Topology(pb.TopologyRequest())
        assert len({metadata["x-request-id"] for _, metadata in upstream.calls}) == 2


async def test_deadline_is_carried_on():
    """The upstream gets the client's deadline, and a call that runs into it ends for both."""
    remaining, ended = [], asyncio.Event()

    async def slow(context):
        remaining.append(context.time_remaining())
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with gateway({"/x.Y/Slow": slow}) as upstream, listening(upstream.url) as running, client(running) as channel:
        code, _, _ = await ending(channel.unary_unary("/x.Y/Slow")(b"", timeout=0.3))
        assert code is StatusCode.DEADLINE_EXCEEDED
        assert 0 < remaining[0] <= 0.32
        await ended.wait()
        await settled(running)
        assert {(method, source) for method, _, source in running.counted()} == {("other", "client")}


@pytest.mark.parametrize("method", [f"{GATEWAY}Topology", f"{GATEWAY}ActivateJobs", "/x.Y/Slow"])
async def test_cancellation_is_carried_on(method):
    """A client that cancels ends the upstream's work, whatever the kind of call."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(context):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with gateway({method: slow}) as upstream, listening(upstream.url) as running, client(running) as channel:
        call = channel.unary_stream(method)(b"")
        await begun.wait()
        call.cancel()
        await ended.wait()
        await settled(running)
        assert [(code, source) for _, code, source in running.counted()] == [(499, "client")]


async def test_half_of_a_stream_never_looks_like_all_of_it():
    """A client that cancels in the middle of its stream: the upstream is told of that, and of no end before it.

    Looked at on the wire, for grpcio's server reports an end in either case.
    """
    begun, ended = asyncio.Event(), asyncio.Event()

    async def collect(context):
        try:
            await context.read()
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with (
        gateway({"/x.Y/C": collect}) as upstream,
        recording(upstream.port) as way,
        listening(way.url) as running,
        client(running) as channel,
    ):
        for _ in range(30):
            begun.clear()
            ended.clear()
            call = channel.stream_unary("/x.Y/C")()
            await call.write(b"half")
            await call.write(b"half")
            await begun.wait()
            call.cancel()
            await ended.wait()
        await settled(running)
        sent = frames(way.sent)
        assert [kind for kind, _ in sent].count(RST_STREAM) == 30
        assert [kind for kind, flags in sent if kind in {DATA, HEADERS} and flags & END_STREAM] == []


async def test_a_stream_may_begin_with_the_headers():
    """Headers without a message reach a client that waits for them before it says anything."""

    async def headers_first(context):
        await context.send_initial_metadata((("x-ready", "1"),))
        await context.write(await context.read())

    async with (
        gateway({"/x.Y/H": headers_first}) as upstream,
        listening(upstream.url) as running,
        client(running) as channel,
    ):
        call = channel.stream_stream("/x.Y/H")()
        assert dict(await call.initial_metadata()) == {"x-ready": "1"}
        await call.write(b"now")
        assert await call.read() == b"now"


async def test_an_early_end_stops_the_client():
    """An upstream that ends before the client's stream does: the client gets the status at once."""

    async def enough(context):
        await context.read()
        await context.abort(StatusCode.RESOURCE_EXHAUSTED, "enough")

    async with gateway({"/x.Y/E": enough}) as upstream, listening(upstream.url) as running, client(running) as channel:
        call = channel.stream_unary("/x.Y/E")()
        await call.write(b"first")
        code, details, _ = await ending(call)
        assert (code, details) == (StatusCode.RESOURCE_EXHAUSTED, "enough")


async def test_an_early_end_while_the_client_sends():
    """The upstream's status is taken, though messages are on their way to it: no other takes its place."""

    async def enough(context):
        await context.read()
        await context.abort(StatusCode.RESOURCE_EXHAUSTED, "enough")

    async with gateway({"/x.Y/E": enough}) as upstream, listening(upstream.url) as running, client(running) as channel:
        for _ in range(50):
            await ending(channel.stream_unary("/x.Y/E")(iter([b"x" * 1000] * 200)))
        await settled(running)
        # Not by the client's word: grpcio's asyncio client may replace a status that comes while it is writing.
        assert running.counted() == {("other", 429, "upstream"): 50}


async def test_messages_before_an_error_arrive():
    """What was sent before a stream failed is passed on, and then the failure."""

    async def fails_late(context):
        for number in range(50):
            await context.write(b"%d" % number)
        await context.abort(StatusCode.ABORTED, "late")

    async with (
        gateway({"/x.Y/L": fails_late}) as upstream,
        listening(upstream.url) as running,
        client(running) as channel,
    ):
        call = channel.unary_stream("/x.Y/L")(b"")
        assert [await call.read() for _ in range(50)] == [b"%d" % number for number in range(50)]
        assert (await ending(call))[:2] == (StatusCode.ABORTED, "late")
