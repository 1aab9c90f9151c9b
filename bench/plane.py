"""The data plane alone, in one process: the real protocol classes between two transports that are only memory.

No socket, no system call and no event loop once it is warm, so that the same requests cost the same instructions
every time. `python -m bench.plane SHAPE COUNT` drives COUNT requests through it; with `--time` it tells nanoseconds.
"""

import argparse
import asyncio
import gc
import time
from collections.abc import Callable

from bench.site import SMALL
from sidecar.clock import SystemClock
from sidecar.config.settings import Route, Upstream
from sidecar.proxy.downstream import Downstream
from sidecar.proxy.guard import Guard
from sidecar.proxy.pool import Pool
from sidecar.proxy.routing import CompiledRoute, RoutingTable
from sidecar.proxy.server import ProxyServer
from sidecar.proxy.upstream import UpstreamConnection
from sidecar.telemetry.http import HttpStats

_TOKEN = b"Authorization: Bearer " + b"t" * 1000 + b"\r\n"
_CLIENT = b"Host: 127.0.0.1:8600\r\nAccept: application/json\r\nUser-Agent: bench/1\r\n"
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 01 Nov 2026 10:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive\r\n"
    b"Cache-Control: no-cache, no-store, max-age=0, must-revalidate\r\nX-Content-Type-Options: nosniff\r\n"
    b"X-Frame-Options: SAMEORIGIN\r\n%b\r\n" + SMALL
)
_BODY = b'{"filter":{"processInstanceKey":"%016x","state":"ACTIVE"},"page":{"limit":50}}'


class _Attachment:
    header = _TOKEN
    unsafe_header = b""


class _Authorizer:
    """A credential that is always at hand."""

    _attachment = _Attachment()

    def current(self) -> _Attachment:
        return self._attachment

    def renewed(self, attachment: _Attachment) -> _Attachment:
        return attachment

    async def obtain(self) -> _Attachment:
        return self._attachment

    def refuses(self, status: int, *, safe: bool) -> bool:  # noqa: ARG002 (the Protocol's)
        return status == 401

    async def replace(self, refused: object) -> None: ...

    def invalidate(self, refused: object) -> None: ...

    def replayed(self, attachment: object, *, accepted: bool) -> None: ...

    def received_cookies(self, attachment: object, set_cookie: object) -> None: ...


class _Transport:
    """A connection's other end is a function."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self.write = sink

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_extra_info(self, name: str, default: object = None) -> object:  # noqa: ARG002
        return default

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True


def requests(shape: str) -> Callable[[int], tuple[bytes, bytes]]:
    """For the n-th request: its bytes, and the bytes of the upstream's answer."""
    same = b"GET /operate/v2/topology HTTP/1.1\r\n" + _CLIENT + b"\r\n"
    plain = _ANSWER % (len(SMALL), b"")

    def trace(number: int) -> bytes:
        return b"X-Request-ID: %032x\r\ntraceparent: 00-%032x-%016x-01\r\n" % (number, number, number)

    def varied(number: int) -> tuple[bytes, bytes]:
        line = b"GET /operate/v2/process-instances/%016x HTTP/1.1\r\n" % number
        return line + _CLIENT + trace(number) + b"\r\n", _ANSWER % (len(SMALL), b"Trace-Response: %032x\r\n" % number)

    def post(number: int) -> tuple[bytes, bytes]:
        line = b"POST /operate/v2/process-instances/search/%016x HTTP/1.1\r\n" % number
        body = _BODY % number
        head = (
            line + _CLIENT + trace(number) + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        return head + body, _ANSWER % (len(SMALL), b"Trace-Response: %032x\r\n" % number)

    return {"same": lambda _: (same, plain), "varied": varied, "post": post}[shape]


class Plane:
    """One client connection, one upstream connection, and what passed between them last."""

    def __init__(self) -> None:
        clock, stats = SystemClock(), HttpStats()
        upstream = Upstream("http", "origin.example", 8080, "/c1")
        route = Route(
            name="operate",
            prefix="/operate",
            upstream=upstream,
            credential="cluster",
            audience="operate.camunda.io",
        )
        route_stats = stats.route("operate")
        self._sent = b""
        self._answer = b""
        self._opened = asyncio.Event()
        self.writes = 0
        """To both sides: over sockets, each is a system call."""

        async def dial() -> UpstreamConnection:
            self._upstream = UpstreamConnection(compiled, 64 << 10, clock.monotonic())
            self._upstream.connection_made(_Transport(self._to_upstream))  # type: ignore[arg-type]
            return self._upstream

        compiled = CompiledRoute(route, _Authorizer(), Pool(dial, route_stats, clock, 5.0), route_stats)
        server = ProxyServer(stats=stats, clock=clock)
        server.table = RoutingTable([compiled], Guard(["127.0.0.1"]))
        self._client = Downstream(server)
        self._client.connection_made(_Transport(self._to_client))  # type: ignore[arg-type]

    def _to_upstream(self, data: bytes) -> None:
        self._sent += data
        self.writes += 1
        self._opened.set()

    def _to_client(self, data: bytes) -> None:
        self._answer = data
        self.writes += 1

    async def open(self, request: bytes, answer: bytes) -> None:
        """The first request waits for a connection; those that follow find it idle, and nothing waits any more."""
        self._client.data_received(request)
        await self._opened.wait()
        self._upstream.data_received(answer)
        self.check(request)

    def check(self, request: bytes) -> None:
        """
        Raises:
            RuntimeError: what came out is not what must.
        """
        target = request.split(b" ", 2)[1].replace(b"/operate/", b"/c1/")
        sent_right = target in self._sent and _TOKEN in self._sent
        if not sent_right or not self._answer.startswith(b"HTTP/1.1 200 ") or not self._answer.endswith(SMALL):
            raise RuntimeError(f"the data plane did not do its job: {self._sent[:200]!r} {self._answer[:200]!r}")

    def exchange(self, request: bytes, answer: bytes) -> None:
        """One request there and its answer back."""
        self._sent = b""
        self._client.data_received(request)
        self._upstream.data_received(answer)


async def drive(shape: str, count: int) -> float:
    """Drive `count` requests; gives the seconds that they took, making them included."""
    make, plane = requests(shape), Plane()
    await plane.open(*make(0))
    gc.collect()
    gc.freeze()
    start = time.perf_counter()
    for number in range(1, count + 1):
        request, answer = make(number)
        plane.exchange(request, answer)
    seconds = time.perf_counter() - start
    plane.check(request)
    return seconds


def nanoseconds(shape: str, count: int) -> float:
    """For one request, the making of its bytes taken off; the best of five."""
    make = requests(shape)
    best = []
    for _ in range(5):
        start = time.perf_counter()
        for number in range(count):
            make(number)
        made = time.perf_counter() - start
        best.append(asyncio.run(drive(shape, count)) - made)
    return min(best) / count * 1e9


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", choices=["same", "varied", "post"])
    parser.add_argument("count", type=int)
    parser.add_argument("--time", action="store_true")
    given = parser.parse_args()
    if given.time:
        print(f"{given.shape}: {nanoseconds(given.shape, given.count):.0f} ns a request")
    else:
        asyncio.run(drive(given.shape, given.count))
