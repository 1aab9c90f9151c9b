"""Flow control from end to end: whoever is slow slows the other side down, and nobody else."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from grpc import aio
from zeebe_grpc import gateway_pb2 as pb
from zeebe_grpc import gateway_pb2_grpc as rpc

from tests.acceptance.peers import grants, peer
from tests.grpc.running import sidecar
from tests.grpc.support import client, gateway, listening, until
from tests.grpc.wire import ACK, GOAWAY, PING, PREFACE, SETTINGS, frame, frames

MESSAGE = bytes(100_000)
WINDOWS = 50 << 20
"""Bytes, half of all, that HTTP/2's windows and buffers may hold on both hops together: grpcio lets a window
grow to 16 MiB where answers take long, as on a busy machine."""


async def steady(count, channel) -> int:
    """The number once it does not grow any more while 50 calls of another client go there and back."""
    before = -1
    while before != (now := count()):
        before = now
        for _ in range(50):
            await rpc.GatewayStub(channel).Topology(pb.TopologyRequest())
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
        assert await steady(lambda: written, channel) * len(MESSAGE) < WINDOWS
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
        assert await steady(lambda: sent, channel) * len(MESSAGE) < WINDOWS
        go_on.set()
        assert await call == b"1000"
        await sending


async def test_a_thousand_open_streams(tmp_path):
    """Each gets its job, over connections of 100 streams, and costs the program less than 100 KiB (56 measured)."""
    with peer(grants("token-1")) as issuer:
        async with (
            gateway(options=[("grpc.max_concurrent_streams", 100)]) as upstream,
            sidecar(tmp_path, upstream, issuer.url) as program,
            aio.insecure_channel(program.grpc) as channel,
        ):
            stub = rpc.GatewayStub(channel)
            await stub.Topology(pb.TopologyRequest())
            before = resident(program.process.pid)
            streams = [stub.StreamActivatedJobs(pb.StreamActivatedJobsRequest(type=str(n))) for n in range(1000)]
            await until(lambda: upstream.zeebe.streaming == 1000)
            for n in range(1000):
                upstream.zeebe.add(n, str(n))
            assert [(await stream.read()).key for stream in streams] == list(range(1000))
            assert (resident(program.process.pid) - before) / 1000 < 100 << 10
            await stub.Topology(pb.TopologyRequest())
            for stream in streams:
                stream.cancel()
            await until(lambda: upstream.zeebe.streaming == 0)
        assert len(issuer.requests) == 1


def resident(pid: int) -> int:
    """Bytes of a process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


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
