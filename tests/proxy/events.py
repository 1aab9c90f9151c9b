"""What one event costs the data plane beside N others, counted and not timed: `python -m tests.proxy.events`.

Each entry of `EVENTS` makes a state of size N and returns what happens in it, which leaves its size as it is.
`tests/proxy/test_flat_cost.py` holds the costs to be flat; the command prints the table of docs/performance.md.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sidecar.config.settings import Limits
from sidecar.errors import Problem
from sidecar.proxy import framing, pool, transport
from sidecar.proxy.downstream import Downstream
from sidecar.proxy.framing import ChunkedReader
from sidecar.proxy.pool import Pool
from sidecar.proxy.server import ProxyServer
from sidecar.proxy.upstream import UpstreamConnection
from sidecar.telemetry.http import HttpStats, RouteStats
from sidecar.tokens.waiters import Waiters
from tests.proxy.lab import ManualClock
from tests.proxy.support import FakeAuthorizer, route, settings

SIZES = (10, 1_000, 10_000)
Event = Callable[[], None]


# --- counting --------------------------------------------------------------------------------------------------------


class Work:
    """How much was done: bytecodes of `sidecar`, and what C code did for it to the classes below."""

    def __init__(self) -> None:
        self.done = 0

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "call":
            if "/sidecar/" not in frame.f_code.co_filename:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.done += event == "opcode"
        return self.trace


WORK = Work()


@contextmanager
def counted() -> Iterator[Work]:
    """Counts from 0 what is done inside."""
    WORK.done = 0
    before = sys.gettrace()
    sys.settrace(WORK.trace)
    try:
        yield WORK
    finally:
        sys.settrace(before)


class Compared:
    """Each comparison with another one is work; a search through a list or a deque makes one for each entry."""

    def __eq__(self, other: object) -> bool:
        WORK.done += 1
        return self is other

    def __hash__(self) -> int:
        return id(self)


class CountingBytes(bytearray):
    """Each byte that is searched or copied is work."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(data)
        WORK.done += len(data)

    def find(self, sub: Any, start: Any = 0, end: Any = sys.maxsize) -> int:
        WORK.done += min(end, len(self)) - start
        return super().find(sub, start, end)

    def __bytes__(self) -> bytes:
        WORK.done += len(self)
        return bytes(memoryview(self))


@contextmanager
def counting_bytes() -> Iterator[None]:
    """The buffers of heads and trailers that are not complete count."""
    modules: list[Any] = [transport, framing]
    for module in modules:
        module.bytearray = CountingBytes
    try:
        yield
    finally:
        for module in modules:
            del module.bytearray


# --- the pool --------------------------------------------------------------------------------------------------------


class Request(Compared):
    """A request that waits for a connection."""

    got: pool.Connection | None = None

    def connected(self, connection: pool.Connection, *, reused: bool) -> None:
        self.got = connection

    def unconnected(self, error: Problem) -> None: ...


class Link(Compared):
    """A connection to an upstream."""

    opened_at = idle_until = 1000.0

    def is_usable(self) -> bool:
        return True

    def close(self) -> None: ...


async def no_dial() -> Link:
    """The pools here are full, or have what is asked for."""
    raise AssertionError


def queue(size: int) -> tuple[Pool, list[Request]]:
    """A full pool, for whose connections so many requests wait."""
    made = Pool(no_dial, RouteStats("app"), ManualClock(), 5.0)
    made.active = pool.MAX_CONNECTIONS
    requests = [Request() for _ in range(size)]
    for request in requests:
        made.acquire(request, 1000.0)
    return made, requests


def idle(size: int) -> tuple[Pool, list[Link]]:
    """A pool with so many idle connections."""
    made = Pool(no_dial, RouteStats("app"), ManualClock(), 5.0)
    made.active = size
    links = [Link() for _ in range(size)]
    for link in links:
        made.release(link, 1000.0, 15.0)
    return made, links


def join_and_leave(size: int) -> Event:
    made, _ = queue(size)
    newcomer = Request()

    def event() -> None:
        made.acquire(newcomer, 1000.0)
        made.cancel(newcomer)

    return event


def leave_from_the_middle(size: int) -> Event:
    made, requests = queue(size)
    middle = iter(requests[size // 2 :])
    return lambda: made.cancel(next(middle))


def hand_over(size: int) -> Event:
    made, _ = queue(size)
    link = Link()
    joined = iter([Request() for _ in range(3)])

    def event() -> None:
        made.release(link, 1000.0, 15.0)
        made.acquire(next(joined), 1000.0)

    return event


def reuse(size: int) -> Event:
    made, _ = idle(size)
    request = Request()

    def event() -> None:
        link = made.acquire(request, 1000.0)
        assert link is not None
        made.release(link, 1000.0, 15.0)

    return event


def lose_an_idle_one(size: int) -> Event:
    made, links = idle(size)
    middle = iter(links[size // 2 :])
    return lambda: made.lost(next(middle))


# --- clients ---------------------------------------------------------------------------------------------------------


class Wire:
    """A transport that is only memory."""

    closing = False

    def write(self, data: bytes) -> None: ...

    def writelines(self, pieces: list[bytes]) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def close(self) -> None:
        self.closing = True

    abort = close


def connect(server: ProxyServer) -> Downstream:
    """A client."""
    client = Downstream(server)
    client.connection_made(Wire())  # type: ignore[arg-type]
    return client


def serve(clients: int, authorizer: FakeAuthorizer | None = None) -> ProxyServer:
    """A server with so many clients, none of whom has asked for anything."""
    server = ProxyServer(stats=HttpStats(), clock=ManualClock())
    limits = Limits(connections=20_000)
    configuration = settings(route("app", "http://127.0.0.1:1"), limits=limits)
    server.configure(configuration, {"app": authorizer or FakeAuthorizer()}, {})
    for _ in range(clients):
        connect(server)
    return server


def connect_upstream(server: ProxyServer) -> UpstreamConnection:
    """An idle connection to the upstream."""
    (app,) = server.table.routes
    upstream = UpstreamConnection(app, 64 << 10, 1000.0)
    upstream.connection_made(Wire())  # type: ignore[arg-type]
    app.pool.active = 1
    app.pool.release(upstream, 1000.0, 15.0)
    return upstream


def come_and_go(size: int) -> Event:
    server = serve(size)

    def event() -> None:
        connect(server).connection_lost(None)

    return event


def request_and_answer(size: int, *, draining: bool = False) -> Event:
    server = serve(size)
    upstream = connect_upstream(server)
    clients = iter([connect(server) for _ in range(3)])

    def event() -> None:
        next(clients).data_received(b"GET /app/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.draining = draining
        upstream.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
        server.draining = False

    return event


def wait_for_a_token(size: int) -> Event:
    waiters: Waiters[str] = Waiters()
    for _ in range(size):
        waiters.join(5.0)

    def event() -> None:
        assert waiters.next_deadline() == 5.0
        waiters.join(5.0)

    return event


# --- heads and trailers that come byte by byte -----------------------------------------------------------------------


def byte_of_a_request(size: int) -> Event:
    client = connect(serve(0))
    client.data_received(b"GET /app/x HTTP/1.1\r\nX: ")
    client.data_received(b"x" * size)
    return lambda: client.data_received(b"x")


def byte_of_an_answer(size: int) -> Event:
    (app,) = serve(0).table.routes
    upstream = UpstreamConnection(app, 64 << 10, 1000.0)
    upstream.connection_made(Wire())  # type: ignore[arg-type]
    upstream.begin(None, [], head_only=False, upgrade=False)  # type: ignore[arg-type]
    upstream.listener = object()  # type: ignore[assignment]
    upstream.data_received(b"HTTP/1.1 200 OK\r\nX: ")
    upstream.data_received(b"x" * size)
    return lambda: upstream.data_received(b"x")


def byte_of_a_trailer(size: int) -> Event:
    decoder = ChunkedReader()
    decoder.feed(b"0\r\nX: ")
    decoder.feed(b"x" * size)

    def event() -> None:
        decoder.feed(b"x")

    return event


EVENTS: dict[str, Callable[[int], Event]] = {
    "a request joins N that wait for a connection, and leaves": join_and_leave,
    "one of N that wait for a connection goes away": leave_from_the_middle,
    "a connection is handed to the first of N that wait": hand_over,
    "a connection is taken and given back beside N idle ones": reuse,
    "one of N idle connections is closed by the upstream": lose_an_idle_one,
    "a client connects and goes beside N others": come_and_go,
    "a request and its answer beside N other clients": request_and_answer,
    "the same, answered during a drain": lambda size: request_and_answer(size, draining=True),
    "a request joins N that wait for a token": wait_for_a_token,
    "a byte of a request's head that has N already": byte_of_a_request,
    "a byte of an answer's head that has N already": byte_of_an_answer,
    "a byte of a chunked body's trailers that have N already": byte_of_a_trailer,
}


async def cost(name: str, size: int) -> int:
    """What an event costs beside `size` others, when it is not the first of its kind."""
    with counting_bytes():
        event = EVENTS[name](size)
        for _ in range(2):
            event()
        with counted() as work:
            event()
    return work.done


async def _table() -> str:
    rows = [["event", *(f"N = {size:,}" for size in SIZES)], ["---", *["--:"] * len(SIZES)]]
    rows += [[name, *[f"{await cost(name, size):,}" for size in SIZES]] for name in EVENTS]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(_table()))
