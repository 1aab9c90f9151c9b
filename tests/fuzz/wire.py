"""The data plane on transports in memory: no sockets, so that a fuzzer can play thousands of connections a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import structlog

from sidecar.config.settings import Limits, Route, Rule
from sidecar.proxy.downstream import Downstream
from sidecar.proxy.guard import Guard
from sidecar.proxy.pool import Pool
from sidecar.proxy.routing import CompiledRoute, RoutingTable
from sidecar.proxy.server import ProxyServer
from sidecar.proxy.upstream import UpstreamConnection
from sidecar.telemetry.http import HttpStats
from tests.proxy.lab import ManualClock
from tests.proxy.strict import Message, NotStrictError, Reader
from tests.proxy.support import FakeAuthorizer, route, settings

TURNS = 6
"""Of the loop: enough for a dial's task and what follows it."""


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; closing tells the protocol in the next turn, as the real ones do."""

    def __init__(self, protocol: Any, written: Callable[[bytes], None]) -> None:
        super().__init__()
        self._protocol = protocol
        self._written = written
        self._reading = True
        self.ended = False
        self.data = bytearray()

    def write(self, data: Any) -> None:
        assert not self.ended, "written after the end"
        self.data += data
        self._written(bytes(data))

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self.ended:
            self.ended = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.ended

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def is_reading(self) -> bool:
        return self._reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Upstream:
    """One connection to the origin, as the origin sees it."""

    def __init__(self, compiled: CompiledRoute, answer: Callable[[Upstream, Message], None]) -> None:
        self.connection = UpstreamConnection(compiled, 4096, 0.0)
        self.transport = MemoryTransport(self.connection, self._written)
        self.reader = Reader(requests=True)
        self._answer = answer
        self._answered = 0
        self.connection.connection_made(self.transport)

    def _written(self, data: bytes) -> None:
        self.reader.feed(data)  # strict: what is sent upstream has one reading, or this raises
        for message in self.reader.done[self._answered :]:
            self._answered += 1
            asyncio.get_running_loop().call_soon(self._answer, self, message)

    def receive(self, data: bytes) -> None:
        """Bytes from the origin, where the connection still is and reads."""
        if data and not self.transport.ended:
            self.connection.data_received(data)

    def finish(self) -> None:
        """The origin's FIN, and what asyncio makes of it."""
        if not self.transport.ended and not self.connection.eof_received():
            self.transport.close()


class Wire:
    """One client connection to a proxy whose upstream answers as `answer` says."""

    def __init__(self, answer: Callable[[Upstream, Message], None]) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._heard)
        self._crashes: list[BaseException | str] = []
        self._answer = answer
        self.upstreams: list[Upstream] = []
        self._server = ProxyServer(stats=HttpStats(), clock=ManualClock())
        self._server.configure(settings(limits=Limits(header_bytes=4096, replay_bytes=1024)), {}, {})
        open_route = route("op", "http://origin.test/base")
        narrow = route("narrow", "http://origin.test/low", allow=(Rule("GET", "/public/**"),), max_body=64)
        self._server.table = RoutingTable([self._compile(open_route), self._compile(narrow)], Guard())

    def _compile(self, made: Route) -> CompiledRoute:
        async def dial() -> UpstreamConnection:
            upstream = Upstream(compiled, self._answer)
            self.upstreams.append(upstream)
            return upstream.connection

        stats = self._server.stats.route(made.name)
        pool = Pool(dial, stats, self._server.clock, made.timeouts.connect)
        compiled = CompiledRoute(made, FakeAuthorizer(), pool, stats)
        return compiled

    def _heard(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._crashes.append(context.get("exception") or context["message"])

    def play(self, pieces: list[bytes]) -> bytes:
        """A client sends these, then FIN, then goes; what it got. Any exception of ours comes out."""
        return self.loop.run_until_complete(self._play(pieces))

    async def _play(self, pieces: list[bytes]) -> bytes:
        self.upstreams.clear()
        client = Downstream(self._server)
        transport = MemoryTransport(client, lambda _: None)
        client.connection_made(transport)
        for piece in pieces:
            if transport.ended:
                break
            client.data_received(piece)
            await self.turn()
        if not transport.ended and not client.eof_received():
            transport.close()
        await self.turn()
        transport.close()
        await self.turn()
        for upstream in self.upstreams:
            upstream.transport.close()
        await self.turn()
        crashes, self._crashes = self._crashes, []
        if crashes:
            raise crashes[0] if isinstance(crashes[0], BaseException) else AssertionError(crashes[0])
        in_flight = sum(stats.in_flight for stats in self._server.stats.routes.values())
        assert in_flight == 0, "a request is still counted as under way"
        return bytes(transport.data)

    async def turn(self) -> None:
        """Let what is scheduled happen."""
        for _ in range(TURNS):
            await asyncio.sleep(0)


def cut(data: bytes) -> list[bytes]:
    """The first byte says how the rest is cut: whole, into single bytes, or in two."""
    if not data:
        return []
    how, rest = data[0], data[1:]
    if how == 1:
        return [rest[i : i + 1] for i in range(len(rest))]
    if how > 1:
        at = how * len(rest) // 256
        return [piece for piece in (rest[:at], rest[at:]) if piece]
    return [rest] if rest else []


def messages(raw: bytes, methods: list[bytes]) -> tuple[list[Message], bool]:
    """The answers in what a client got, and whether that was all; what is not strict raises."""
    reader = Reader(requests=False)
    reader.methods = methods
    reader.feed(raw)
    try:
        reader.end()
    except NotStrictError:
        return reader.done, False
    return reader.done, True
