"""Names and addresses: who is asked, how often, and what comes after an address that fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest
from aiohappyeyeballs import AddrInfoType

from sidecar.config.settings import Timeouts
from sidecar.dial import AVOID_SECONDS, DNS_SECONDS, Dialer, Resolver
from tests.proxy.certificates import client_context, server_context
from tests.proxy.client import RawClient
from tests.proxy.lab import ManualClock, echo, request, required, until
from tests.proxy.origin import Connection, Origin
from tests.proxy.support import route, running_proxy


def address(host: str, port: int) -> AddrInfoType:
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)


class Names:
    """The system's resolver: it says of every name what `hosts` are, and hangs for those that are `dead`."""

    def __init__(self, *hosts: str, dead: Sequence[str] = ()) -> None:
        self.hosts = hosts
        self.dead = set(dead)
        self.asked: list[str] = []
        self.revived = threading.Event()

    def __call__(self, host: str, port: int) -> Sequence[AddrInfoType]:
        self.asked.append(host)
        if host in self.dead:
            self.revived.wait(60)
        if not self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [address(one, port) for one in self.hosts]


# --- names -----------------------------------------------------------------------------------------------------------


async def test_one_look_up_for_all_who_ask() -> None:
    """Sixteen dials at once, and those of the next seconds, ask once; then it is asked anew."""
    names, clock = Names("127.0.0.1"), ManualClock()
    resolver = Resolver(clock, names)
    found = await asyncio.gather(*(resolver.resolve("up.test", 80) for _ in range(16)))
    clock.now += DNS_SECONDS - 0.1
    assert [*found, await resolver.resolve("up.test", 80)] == [[address("127.0.0.1", 80)]] * 17
    assert names.asked == ["up.test"]
    clock.now += 0.1
    names.hosts = ("127.0.0.2",)
    assert await resolver.resolve("up.test", 80) == [address("127.0.0.2", 80)]
    assert await resolver.resolve("other.test", 80) == [address("127.0.0.2", 80)]
    assert names.asked == ["up.test", "up.test", "other.test"]


async def test_a_failure_is_shared_and_not_remembered() -> None:
    """Who waits for the same look-up hears of its failure; the next one asks again."""
    names = Names()
    resolver = Resolver(ManualClock(), names)
    failures = await asyncio.gather(*(resolver.resolve("up.test", 80) for _ in range(5)), return_exceptions=True)
    assert {type(failure) for failure in failures} == {socket.gaierror}
    names.hosts = ("127.0.0.1",)
    assert await resolver.resolve("up.test", 80) == [address("127.0.0.1", 80)]
    assert names.asked == ["up.test", "up.test"]


async def test_an_address_needs_no_look_up() -> None:
    """It is its own answer, IPv6 included."""
    names = Names("127.0.0.9")
    resolver = Resolver(ManualClock(), names)
    assert [found[4] for found in await resolver.resolve("127.0.0.1", 80)] == [("127.0.0.1", 80)]
    assert [found[4][:2] for found in await resolver.resolve("::1", 80)] == [("::1", 80)]
    assert names.asked == []


async def test_who_gives_up_leaves_the_look_up_to_the_next() -> None:
    """A look-up that hangs is not begun again and again: whoever comes joins it, and its answer serves them."""
    names = Names("127.0.0.1", dead=["up.test"])
    resolver = Resolver(ManualClock(), names)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await resolver.resolve("up.test", 80)
    waiting = asyncio.ensure_future(resolver.resolve("up.test", 80))
    names.revived.set()
    assert await waiting == [address("127.0.0.1", 80)]
    assert names.asked == ["up.test"]


async def test_a_look_up_that_fails_when_nobody_waits_is_nobodys_error() -> None:
    """The loop is told of no exception that was never retrieved."""
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    names = Names(dead=["up.test"])
    resolver = Resolver(ManualClock(), names)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await resolver.resolve("up.test", 80)
    names.revived.set()
    with pytest.raises(socket.gaierror):
        await resolver.resolve("up.test", 80)
    resolver.close()
    assert heard == []


async def test_a_dead_name_stops_no_other_route() -> None:
    """Forty requests hang in it; another route, and whoever needs the loop's own threads, do not notice."""
    names = Names("127.0.0.1", dead=["dead.test"])
    async with Origin(echo) as origin, contextlib.AsyncExitStack() as stack:
        routes = (
            route("alive", f"http://alive.test:{origin.port}"),
            route("dead", f"http://dead.test:{origin.port}", timeouts=Timeouts(connect=0.05)),
        )
        proxy = await stack.enter_async_context(running_proxy(*routes, resolver=Resolver(ManualClock(), names)))
        clients = [await stack.enter_async_context(await RawClient.open("127.0.0.1", proxy.port)) for _ in range(41)]
        for client in clients[1:]:
            await client.send([request(b"GET", b"/dead/x")])
        await until(lambda: "dead.test" in names.asked)
        await clients[0].send([request(b"GET", b"/alive/x")])
        assert required(await clients[0].final()).body == b"/x "
        assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        answers = [required(await client.final()) for client in clients[1:]]
        assert {answer.status for answer in answers} == {502}
        assert names.asked == ["dead.test", "alive.test"]
        names.revived.set()


# --- addresses -------------------------------------------------------------------------------------------------------

BAD, GOOD = "127.0.0.2", "127.0.0.1"
Greet = Callable[[Connection], Awaitable[None]]


def beside(origin: Origin, greet: Greet) -> Origin:
    """At `BAD`, on the origin's port."""
    return Origin(greet=greet, host=BAD, port=origin.port)


async def hangs_up(connection: Connection) -> None:
    """Accepts, and closes without a word."""
    connection.finish()


async def talks_nonsense(connection: Connection) -> None:
    """Speaks neither TLS nor HTTP."""
    await connection.send(b"SSH-2.0-OpenSSH\r\n")


async def hangs(connection: Connection) -> None:
    """Accepts, and says nothing."""
    await connection.lost


@pytest.mark.parametrize("greet", [hangs_up, talks_nonsense])
async def test_the_next_address_where_tls_fails(greet: Greet) -> None:
    """A half-dead server beside a good one is not what the client sees; for a while it is asked last."""
    clock = ManualClock()
    async with Origin(echo, tls=server_context()) as origin, beside(origin, greet) as bad:
        resolver = Resolver(clock, Names(BAD, GOOD))
        contexts = {"app": client_context()}
        async with running_proxy(route("app", origin.url), contexts=contexts, resolver=resolver, clock=clock) as proxy:
            for already in (1, 1, 2):
                async with await RawClient.open("127.0.0.1", proxy.port) as client:
                    await client.send([request(b"POST", b"/app/x", b"Connection: close", body=b"")])
                    assert required(await client.final()).status == 200
                assert len(bad.connections) == already
                for connection in origin.connections:
                    connection.finish()
                await origin.idle()
                clock.now += AVOID_SECONDS / 2


async def greeting(sock: socket.socket) -> bytes:
    """What the server says first."""
    said = await asyncio.get_running_loop().sock_recv(sock, 4)
    if not said:
        raise ConnectionResetError("closed without a word")
    sock.close()
    return said


async def says_good(connection: Connection) -> None:
    await connection.send(b"good")


async def test_an_address_that_hangs_is_tried_last_by_the_next_dial() -> None:
    """Whoever ran into it has lost their time; nobody else does."""
    clock = ManualClock()
    async with Origin(greet=says_good) as origin, beside(origin, hangs) as bad:
        dialer = Dialer("up.test", origin.port, None, Resolver(clock, Names(BAD, GOOD)), clock)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await dialer.dial(greeting)
        assert [await dialer.dial(greeting) for _ in range(3)] == [b"good"] * 3
        assert len(bad.connections) == 1


async def test_an_address_that_refuses_is_passed_over() -> None:
    """At once, and by the next dials too."""
    clock = ManualClock()
    async with Origin(greet=says_good) as origin:
        dialer = Dialer("up.test", origin.port, None, Resolver(clock, Names(BAD, GOOD)), clock)
        assert [await dialer.dial(greeting) for _ in range(2)] == [b"good"] * 2


async def test_the_first_failure_is_told() -> None:
    """What went wrong where it came farthest, and not that another address refuses; each is tried once."""
    clock = ManualClock()
    async with Origin() as origin, beside(origin, hangs_up) as bad:
        await origin.stop()
        dialer = Dialer("up.test", origin.port, None, Resolver(clock, Names(BAD, GOOD)), clock)
        with pytest.raises(ConnectionResetError, match="without a word"):
            await dialer.dial(greeting)
        assert len(bad.connections) == 1
