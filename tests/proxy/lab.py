"""A proxy between a recording origin and raw clients, with time under the test's control; nothing of it may stay.

Leaving `lab()` waits until every client is served and every connection settled, and fails if a task, a connection, a
descriptor or a count is left over, or if the loop was told of an exception that nobody caught.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidecar.proxy.pool import Pool
from sidecar.proxy.server import ProxyServer
from sidecar.telemetry.http import RouteStats
from tests.proxy.client import PATIENCE, RawClient
from tests.proxy.origin import Answer, Connection, Origin, answer_ok
from tests.proxy.strict import Message
from tests.proxy.support import FakeAttachment, FakeAuthorizer, RunningProxy, route, running_proxy

HOST = b"Host: localhost\r\n"
_HANGS = 60.0
"""Seconds after which a test that waits for nobody knows what is ended."""


# --- time ------------------------------------------------------------------------------------------------------------


@dataclass
class ManualClock:
    """Stands still until a test moves it; what sleeps wakes at once and is written down."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def wall(self) -> float:
        return self.now

    monotonic = boottime = wall

    def boot_id(self) -> str:
        return "boot"

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until `condition` holds; for what nobody signals."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (what has no event to wait for)
            await asyncio.sleep(0)


# --- what origins do -------------------------------------------------------------------------------------------------


def says(*pieces: bytes, end: bool = False) -> Answer:
    """An answer of these bytes, each in a write of its own; `end` closes the connection after them."""

    async def answer(connection: Connection, request: Message) -> None:
        await connection.drip(list(pieces))
        if end:
            connection.finish()

    return answer


def in_turn(*answers: Answer) -> Answer:
    """The first request gets the first answer, and so on, over all connections; the last one stays."""
    left = list(answers)

    async def answer(connection: Connection, request: Message) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(connection, request)

    return answer


async def echo(connection: Connection, request: Message) -> None:
    """200 with the target and the body that came."""
    body = request.target + b" " + request.body
    sent = b"" if request.method == b"HEAD" else body
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), sent))


async def never(connection: Connection, request: Message) -> None:
    """No answer at all."""


async def websocket(connection: Connection, request: Message) -> None:
    """Switch protocols; what comes then is in `connection.raw`."""
    await connection.send(
        response(b"101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket", body=None)
    )


async def head_of(connection: Connection) -> bytes:
    """For origins that own their connection: everything received, once a whole head has come."""
    while b"\r\n\r\n" not in connection.raw:
        if connection.lost.done():
            raise ConnectionError("lost before the head")
        connection.arrived.clear()
        await connection.arrived.wait()
    return bytes(connection.raw)


# --- the lab ---------------------------------------------------------------------------------------------------------


@dataclass
class Lab:
    """See the module. The route is called `app`; its prefix is `/app`."""

    proxy: RunningProxy
    origin: Origin
    authorizer: FakeAuthorizer
    clock: ManualClock
    pools: list[Pool]

    @property
    def server(self) -> ProxyServer:
        return self.proxy.server

    @property
    def stats(self) -> RouteStats:
        return self.proxy.stats.route("app")

    @property
    def pool(self) -> Pool:
        return self.server.table.routes[0].pool

    @property
    def idle(self) -> int:
        """Connections to the upstream that wait for the next request."""
        return self.stats.connections()[2]

    def upload_is_stopped(self) -> bool:
        """Whether a client is not read because the upstream takes no more."""
        return self.stats.connections()[1] > 0 and any(
            not client.transport.is_reading() for client in self.server.connections
        )

    async def client(self) -> RawClient:
        """A raw connection; use it as a context manager."""
        return await RawClient.open("127.0.0.1", self.proxy.port)

    async def ask(self, raw: bytes) -> Message:
        """One request on a connection of its own, its final answer read strictly."""
        async with await self.client() as client:
            client.reader.methods = [raw.split(b" ", 1)[0]]
            await client.send([raw])
            return required(await client.final())

    async def passes(self, seconds: float) -> None:
        """Time passes, and the server looks at its deadlines."""
        self.clock.now += seconds
        self.server.sweep()

    def counted(self, method: str, code: int, source: str) -> int:
        """How often this outcome was counted for the route."""
        return self.stats.requests.get((method, code, source), 0)

    def settled(self) -> bool:
        """Whether nobody is served and nothing is under way."""
        return (
            not self.server.connections
            and not any(pool.waiting for pool in self.pools)
            and self.stats.in_flight == 0
            and self.stats.connections() == (0, 0, self.idle)
        )


def required(message: Message | None) -> Message:
    """A message that has to be there."""
    assert message is not None, "the connection ended without an answer"
    return message


@contextlib.asynccontextmanager
async def lab(
    answer: Answer = answer_ok,
    *,
    greet: Callable[[Connection], Awaitable[None]] | None = None,
    origin: Origin | None = None,
    authorizer: FakeAuthorizer | None = None,
    base: str = "",
    upstream: Callable[[Origin], str] = lambda origin: origin.url,
    listen: Path | None = None,
    route_changes: dict[str, Any] | None = None,
    **changes: Any,
) -> AsyncIterator[Lab]:
    """See the module; `route_changes` are to the route, `changes` to the settings or `running_proxy`."""
    authorizer = authorizer or FakeAuthorizer()
    clock = ManualClock()
    async with _nothing_stays(), origin or Origin(answer, greet=greet) as started:
        made = route("app", upstream(started) + base, **(route_changes or {}))
        authorizers = {"app": authorizer}
        async with running_proxy(made, authorizers=authorizers, listen=listen, clock=clock, **changes) as proxy:
            pools = [r.pool for r in proxy.server.table.routes]
            running = Lab(proxy, started, authorizer, clock, pools)
            yield running
            await _settles(running)
        assert running.idle == 0


async def _settles(running: Lab) -> None:
    try:
        await until(running.settled)
    except TimeoutError:
        pools = [(pool.waiting, pool.counts()) for pool in running.pools]
        raise AssertionError(f"left over: {running.server.connections}, {running.stats.in_flight}, {pools}") from None


@contextlib.asynccontextmanager
async def _nothing_stays() -> AsyncIterator[None]:
    """No task, no descriptor, and no exception that only the loop heard of."""
    loop = asyncio.get_running_loop()
    heard: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: heard.append(context))
    tasks, descriptors = asyncio.all_tasks(), _descriptors()
    try:
        async with asyncio.timeout(_HANGS):
            yield
        with contextlib.suppress(TimeoutError):
            await until(lambda: asyncio.all_tasks() <= tasks and _descriptors() <= descriptors)
        assert asyncio.all_tasks() - tasks == set()
        assert _descriptors() <= descriptors
    finally:
        loop.set_exception_handler(None)
    assert heard == [], heard


def _descriptors() -> int:
    """Open sockets; the loops open other descriptors when they like."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(entry.readlink()).startswith("socket:")
    return count


def token(number: int) -> FakeAttachment:
    """A version of the credential."""
    return FakeAttachment(b"Authorization: Bearer token-%d\r\n" % number)


def request(
    method: bytes = b"GET", path: bytes = b"/app/x", *lines: bytes, body: bytes | None = None, minor: int = 1
) -> bytes:
    """A request; `lines` are field lines without CRLF. With a body comes its length."""
    head = b"%b %b HTTP/1.%d\r\n%b" % (method, path, minor, HOST)
    head += b"".join(line + b"\r\n" for line in lines)
    if body is None:
        return head + b"\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def response(status: bytes, *lines: bytes, body: bytes | None = b"", minor: int = 1) -> bytes:
    """A response; `lines` are field lines without CRLF. With a body, empty included, comes its length."""
    head = b"HTTP/1.%d %b\r\n" % (minor, status) + b"".join(line + b"\r\n" for line in lines)
    if body is None:
        return head + b"\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunks(pieces: Iterable[bytes]) -> bytes:
    """A whole chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
