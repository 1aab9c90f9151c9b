"""The listener's life: bind, reload, drain, end."""

from __future__ import annotations

import asyncio
import socket

import pytest
import trustme
from grpc import StatusCode
from zeebe_grpc import gateway_pb2 as pb
from zeebe_grpc import gateway_pb2_grpc as rpc

from sidecar.clock import SystemClock
from sidecar.config.settings import TcpAddress
from sidecar.errors import ListenError
from sidecar.grpc.server import GrpcServer
from sidecar.telemetry.http import HttpStats
from tests.grpc.support import CA, GOOD, client, configuration, ending, gateway, listening, settled, until
from tests.proxy.support import FakeAuthorizer


async def test_workers_share_a_port():
    """Workers of one sidecar listen on one port, each for itself (SO_REUSEPORT)."""
    async with gateway() as upstream, listening(upstream.url) as first:
        second = GrpcServer(stats=first.stats, guard_rejections=first.http.guard_rejections, clock=SystemClock())
        second.configure(configuration(upstream.url), first.authorizer, lambda: (None, None, None))
        await second.start(TcpAddress("127.0.0.1", first.port))
        await first.server.drain(0)
        async with client(first) as channel:
            await rpc.GatewayStub(channel).Topology(pb.TopologyRequest(), wait_for_ready=True)
        await second.close()


async def test_a_port_that_another_program_has():
    """Grpcio does not say why it cannot bind; the error names the setting and the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress("127.0.0.1", taken.getsockname()[1])
        http = HttpStats()
        server = GrpcServer(stats=http.route("grpc"), guard_rejections=http.guard_rejections, clock=SystemClock())
        server.configure(configuration("http://127.0.0.1:1"), FakeAuthorizer([GOOD]), lambda: (None, None, None))
        with pytest.raises(ListenError, match=f"^grpc.listen: {address} cannot be listened on"):
            await server.start(address)
        await server.close()


async def test_drain_waits_for_calls():
    """New calls are refused, the one under way gets its answer, and the drain ends with it."""
    go_on = asyncio.Event()

    async def slow(context):
        await go_on.wait()
        await context.write(b"done")

    async with gateway({"/x.Y/S": slow}) as upstream, listening(upstream.url) as running, client(running) as channel:
        call = channel.unary_unary("/x.Y/S")(b"")
        await until(lambda: len(upstream.calls) == 1)
        drain = asyncio.create_task(running.server.drain(10))
        async with (
            client(running) as late,
            asyncio.timeout(10),
        ):
            while (await ending(late.unary_unary("/x.Y/S")(b"", timeout=0.2)))[0] is not StatusCode.UNAVAILABLE:
                pass
        assert not drain.done()
        go_on.set()
        assert await call == b"done"
        assert await drain


@pytest.mark.parametrize("given_up", [False, True], ids=["time is over", "second signal"])
async def test_a_drain_ends_open_streams(given_up):
    """A stream that never ends by itself is ended with a status that clients retry, and the drain says so."""
    async with gateway() as upstream, listening(upstream.url) as running, client(running) as channel:
        call = rpc.GatewayStub(channel).StreamActivatedJobs(pb.StreamActivatedJobsRequest(type="t"))
        await until(lambda: upstream.zeebe.streaming == 1)
        drain = asyncio.create_task(running.server.drain(60 if given_up else 0.2))
        if given_up:
            running.server.stop_waiting()
        code, _, trailers = await ending(call)
        assert (code, trailers) == (StatusCode.UNAVAILABLE, {"sidecar-error": "draining", "retry-after": "1"})
        assert not await drain
        await until(lambda: upstream.zeebe.streaming == 0)
        assert running.counted() == {("StreamActivatedJobs", 503, "sidecar"): 1}


async def test_a_client_that_does_not_read_cannot_hold_up_the_end():
    """A call whose client takes nothing, its end included, is cut off within two seconds."""

    async def flood(context):
        while True:
            await context.write(bytes(100_000))

    async with (
        gateway({"/x.Y/Flood": flood}) as upstream,
        listening(upstream.url) as running,
        client(running) as channel,
    ):
        call = channel.unary_stream("/x.Y/Flood")(b"")
        await call.read()
        async with asyncio.timeout(6):
            assert not await running.server.drain(0.1)
        call.cancel()
        await settled(running)


async def test_reload():
    """New calls go where the new configuration says, with its credential; a stream that is open stays where it is."""
    async with gateway() as old, gateway() as new, listening(old.url) as running, client(running) as channel:
        stub = rpc.GatewayStub(channel)
        call = stub.StreamActivatedJobs(pb.StreamActivatedJobsRequest(type="t"))
        await until(lambda: old.zeebe.streaming == 1)
        running.configure(new.url)
        await stub.Topology(pb.TopologyRequest())
        assert (old.methods["Topology"], new.methods["Topology"]) == (0, 1)
        old.zeebe.add(1)
        assert (await call.read()).key == 1
        call.cancel()


async def test_a_client_certificate_that_is_renewed():
    """The client's certificate is shown; when its files change, new calls show the new one, and none is lost."""
    first, second = (CA.issue_cert("sidecar") for _ in range(2))
    now = [first]

    def pem_files():
        leaf: trustme.LeafCert = now[0]
        return CA.cert_pem.bytes(), leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes()

    shown = []

    async def show(context):
        shown.append(context.auth_context()["x509_pem_cert"][0])
        await context.write(b"")

    async with (
        gateway({"/x.Y/Show": show}, tls=True, client_certificates=True) as upstream,
        listening(upstream.url, pem_files=pem_files) as running,
        client(running) as channel,
    ):
        for leaf in (first, second):
            now[0] = leaf
            for _ in range(2):
                await channel.unary_unary("/x.Y/Show")(b"")
    assert shown == [leaf.cert_chain_pems[0].bytes() for leaf in (first, first, second, second)]


async def test_the_port_is_free_afterwards():
    """A listener that is closed leaves nothing behind."""
    async with gateway() as upstream, listening(upstream.url) as running:
        port = running.port
    with socket.create_server(("127.0.0.1", port)):
        pass
