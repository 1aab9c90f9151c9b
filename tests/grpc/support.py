"""A sidecar's gRPC listener over real sockets, and a gateway behind it: the published protocol, and named faults."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import trustme
from grpc import StatusCode, aio
from zeebe_grpc import gateway_pb2 as pb
from zeebe_grpc import gateway_pb2_grpc as rpc

from sidecar.clock import SystemClock
from sidecar.config.settings import Grpc, Settings, TcpAddress
from sidecar.grpc.channels import PemFiles
from sidecar.grpc.server import GrpcServer
from sidecar.listener import reserved
from sidecar.telemetry.http import HttpStats, RouteStats
from tests.proxy.support import FakeAttachment, FakeAuthorizer, route, settings

CA = trustme.CA()
GOOD = FakeAttachment(b"Authorization: Bearer token-1\r\n")
NEXT = FakeAttachment(b"Authorization: Bearer token-2\r\n")
GATEWAY = "/gateway_protocol.Gateway/"
Behaviour = Callable[[Any], Awaitable[None]]
"""What a method of no published protocol does with a `ServicerContext`."""


class Gateway(rpc.GatewayServicer):
    """Zeebe's gateway, as far as workers need it."""

    def __init__(self) -> None:
        self.completed: list[int] = []
        self.jobs: dict[str, asyncio.Queue[pb.ActivatedJob]] = defaultdict(asyncio.Queue)
        self.streaming = 0
        self.polling = 0

    def add(self, key: int, kind: str = "t") -> None:
        """A job for whoever asks for this type, or streams it."""
        variables = json.dumps({"name": kind})
        made = pb.ActivatedJob(key=key, type=kind, retries=3, customHeaders="{}", variables=variables)
        self.jobs[kind].put_nowait(made)

    async def Topology(self, request, context):  # noqa: N802
        broker = pb.BrokerInfo(nodeId=0, host="zeebe", port=26501)
        return pb.TopologyResponse(gatewayVersion="8.9.0", clusterSize=1, brokers=[broker])

    async def ActivateJobs(self, request, context):  # noqa: N802
        """A long poll: it waits for a job as long as the request says, or for Zeebe's own ten seconds."""
        self.polling += 1
        try:
            async with asyncio.timeout((request.requestTimeout or 10_000) / 1000):
                job = await self.jobs[request.type].get()
        except TimeoutError:
            return
        finally:
            self.polling -= 1
        yield pb.ActivateJobsResponse(jobs=[job])

    async def StreamActivatedJobs(self, request, context):  # noqa: N802
        self.streaming += 1
        try:
            while True:
                yield await self.jobs[request.type].get()
        finally:
            self.streaming -= 1

    async def CompleteJob(self, request, context):  # noqa: N802
        self.completed.append(request.jobKey)
        return pb.CompleteJobResponse()

    async def PublishMessage(self, request, context):  # noqa: N802
        return pb.PublishMessageResponse(key=len(request.variables), tenantId="<default>")

    async def CreateProcessInstance(self, request, context):  # noqa: N802
        trailers = (("zeebe-detail", "42"), ("detail-bin", b"\0\1"))
        await context.abort(StatusCode.NOT_FOUND, "no such process: ö", trailers)


@dataclass
class Upstream:
    """A running gateway."""

    port: int
    zeebe: Gateway
    accepted: set[str]
    """The values of `authorization` that are let in."""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Method and metadata of each call that arrived, refused ones included."""
    peers: set[str] = field(default_factory=set)
    secure: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://localhost:{self.port}"

    @property
    def methods(self) -> Counter[str]:
        return Counter(method.rpartition("/")[2] for method, _ in self.calls)


class StrictTokenCheck(aio.ServerInterceptor):
    """Exactly one `authorization`, and one that is known; else the call ends before its handler begins."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def intercept_service(self, continuation, details):
        metadata = list(details.invocation_metadata)
        self._upstream.calls.append((details.method, dict(metadata)))
        given = [value for name, value in metadata if name == "authorization"]
        if len(given) == 1 and given[0] in self._upstream.accepted:
            return await continuation(details)

        async def refuse(_request, context):
            await context.abort(StatusCode.UNAUTHENTICATED, "token refused", (("www-authenticate", "Bearer"),))

        return grpc.stream_stream_rpc_method_handler(refuse)


class Behaviours(grpc.GenericRpcHandler):
    """Methods of no published protocol, by path."""

    def __init__(self, behaviours: dict[str, Behaviour]) -> None:
        self._behaviours = behaviours

    def service(self, details):
        behaviour = self._behaviours.get(details.method)
        if behaviour is None:
            return None

        async def handle(_requests, context):
            await behaviour(context)

        return grpc.stream_stream_rpc_method_handler(handle)


@asynccontextmanager
async def gateway(
    behaviours: dict[str, Behaviour] | None = None,
    *,
    tls: bool = False,
    client_certificates: bool = False,
    options: list[tuple[str, Any]] | None = None,
    port: int = 0,
) -> AsyncIterator[Upstream]:
    """A gateway that lets `GOOD` in."""
    upstream = Upstream(0, Gateway(), {"Bearer token-1"}, secure=tls)
    server = aio.server(interceptors=[StrictTokenCheck(upstream)], options=[("grpc.so_reuseport", 0), *(options or [])])
    server.add_generic_rpc_handlers((Behaviours(behaviours or {}),))
    rpc.add_GatewayServicer_to_server(upstream.zeebe, server)
    if tls:
        leaf = CA.issue_cert("localhost")
        pair = (leaf.private_key_pem.bytes(), b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        roots = CA.cert_pem.bytes() if client_certificates else None
        credentials = grpc.ssl_server_credentials([pair], roots, client_certificates)
        upstream.port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    else:
        upstream.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield upstream
    finally:
        await server.stop(None)


@dataclass
class RunningGrpc:
    """A listener under test."""

    server: GrpcServer
    port: int
    authorizer: FakeAuthorizer
    http: HttpStats

    @property
    def stats(self) -> RouteStats:
        return self.http.route("grpc")

    def configure(self, url: str, pem_files: PemFiles = (None, None, None), **changes: Any) -> None:
        self.server.configure(configuration(url, **changes), self.authorizer, lambda: pem_files)

    def counted(self) -> dict[tuple[str, int, str], int]:
        """Finished calls by method, HTTP status and source."""
        return dict(self.stats.requests)


def configuration(url: str, *, max_message: int = 16 << 20, proxy: str | None = None, **changes: Any) -> Settings:
    """Settings with a gRPC section that leads to `url`."""
    upstream = route("grpc", url).upstream
    section = Grpc(
        name="grpc",
        listen=TcpAddress("127.0.0.1", 0),
        upstream=upstream,
        credential="fake",
        audience=None,
        max_message=max_message,
        connect=0.3,
        proxy=proxy,
    )
    return settings(grpc=section, **changes)


@asynccontextmanager
async def listening(
    url: str,
    authorizer: FakeAuthorizer | None = None,
    *,
    pem_files: Callable[[], PemFiles] = lambda: (CA.cert_pem.bytes(), None, None),
    **changes: Any,
) -> AsyncIterator[RunningGrpc]:
    """A listener in front of `url`."""
    authorizer = authorizer or FakeAuthorizer([GOOD])
    http = HttpStats()
    server = GrpcServer(stats=http.route("grpc"), guard_rejections=http.guard_rejections, clock=SystemClock())
    server.configure(configuration(url, **changes), authorizer, pem_files)
    with reserved("grpc.listen", TcpAddress("127.0.0.1", 0)) as address:
        await server.start(address)
        try:
            yield RunningGrpc(server, address.port, authorizer, http)
        finally:
            await server.close()


@asynccontextmanager
async def client(running: RunningGrpc | int, **options: Any) -> AsyncIterator[aio.Channel]:
    """A client's channel to the listener; `options` are grpcio's, with underscores for dots after `grpc.`."""
    port = running if isinstance(running, int) else running.port
    given = [(f"grpc.{name}", value) for name, value in options.items()]
    async with aio.insecure_channel(f"127.0.0.1:{port}", options=given) as channel:
        yield channel


async def ending(call: Any) -> tuple[StatusCode, str, dict[str, Any]]:
    """How a call ended: status, details, trailers."""
    return await call.code(), await call.details(), dict(await call.trailing_metadata())


async def read_all(call: Any) -> list[Any]:
    """All messages of a stream that ends with OK."""
    return [message async for message in call]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so: the one place that looks again and again, at what nobody tells the tests of."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (what it looks at is another program's)
            await asyncio.sleep(0.005)


async def settled(running: RunningGrpc) -> None:
    """Wait until no call is under way."""
    await until(lambda: not running.stats.in_flight)
