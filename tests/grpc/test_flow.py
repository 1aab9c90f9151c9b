"""Flow control from end to end: whoever is slow slows the other side down, and nobody else."""

from __future__ import annotations

import asyncio

from grpc import aio
from zeebe_grpc import gateway_pb2 as pb
from zeebe_grpc import gateway_pb2_grpc as rpc

from tests.grpc.support import client, gateway, listening, until
from tests.grpc.wire import ACK, GOAWAY, PING, PREFACE, SETTINGS, frame, frames

MESSAGE = bytes(100_000)
WINDOWS = 20 << 20
"""Bytes that HTTP/2's windows, grpcio's buffers and the kernel's may hold on both hops together."""


async def steady(count) -> int:
    """The number once it has stopped growing."""
    before = -1
    while before != (now := count()):
        before = now
        await asyncio.sleep(0.3)
    return before


async def test_a_slow_reader():
    """A client that does not read stops the upstream after what the windows hold; others go on meanwhile."""
    written = 0

    async def flood(context):
        nonlocal written
        while written < 1000:
            await context.write(MESSAGE)
            written += 1

    async with (
        gateway({"/x.Y/Flood": flood}) as upstream,
        listening(upstream.url) as running,
        client(running) as channel,
    ):
        call = channel.unary_stream("/x.Y/Flood")(b"")
        assert await call.read() == MESSAGE
        assert await steady(lambda: written) * len(MESSAGE) < WINDOWS
        for _ in range(10):
            await rpc.GatewayStub(channel).Topology(pb.TopologyRequest())
        for _ in range(999):
            assert await call.read() == MESSAGE
        assert await call.read() is aio.EOF


async def test_a_slow_upstream():
    """An upstream that does not read stops the client; nothing of what it sends is gathered here."""
    go_on = asyncio.Event()

    async def lazy(context):
        await context.read()
        await go_on.wait()
        count = 1
        while await context.read() is not aio.EOF:
            count += 1
        await context.write(b"%d" % count)

    sent = 0

    async with gateway({"/x.Y/Lazy": lazy}) as upstream, listening(upstream.url) as running, client(running) as channel:
        call = channel.stream_unary("/x.Y/Lazy")()

        async def send():
            nonlocal sent
            while sent < 1000:
                await call.write(MESSAGE)
                sent += 1
            await call.done_writing()

        sending = asyncio.create_task(send())
        assert await steady(lambda: sent) * len(MESSAGE) < WINDOWS
        go_on.set()
        assert await call == b"1000"
        await sending


async def test_more_streams_than_one_connection_takes():
    """An upstream (or the balancer before it) that allows 100 streams a connection gets more connections."""
    async with (
        gateway(options=[("grpc.max_concurrent_streams", 100)]) as upstream,
        listening(upstream.url) as running,
        client(running) as channel,
    ):
        stub = rpc.GatewayStub(channel)
        streams = [stub.StreamActivatedJobs(pb.StreamActivatedJobsRequest(type="t")) for _ in range(250)]
        await until(lambda: upstream.zeebe.streaming == 250)
        await stub.Topology(pb.TopologyRequest())
        for stream in streams:
            stream.cancel()
        await until(lambda: upstream.zeebe.streaming == 0)


async def test_a_client_may_ping_often():
    """Keep-alive pings of a local client, more of them than grpcio's servers bear by themselves, end no connection."""
    async with gateway() as upstream, listening(upstream.url) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(PREFACE + frame(SETTINGS))
        answered = b""
        async with asyncio.timeout(10):
            for number in range(1, 21):
                writer.write(frame(PING, bytes(8)))
                while frames(answered).count((PING, ACK)) < number:
                    data = await reader.read(1000)
                    assert data, "the connection was ended"
                    answered += data
        writer.close()
        await writer.wait_closed()
        assert GOAWAY not in {kind for kind, _ in frames(answered)}
