"""The server's life: bound, reconfigured under traffic, drained, closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from pathlib import Path

import pytest

from sidecar.config.settings import Limits, Rule
from sidecar.proxy.server import DRAIN_KEEP_ALIVE_SECONDS, KEEP_ALIVE_SECONDS
from tests.proxy.client import RawClient
from tests.proxy.lab import (
    HOST,
    Lab,
    echo,
    lab,
    never,
    request,
    required,
    response,
    says,
    token,
    until,
    websocket,
)
from tests.proxy.origin import Connection, Origin
from tests.proxy.strict import Message
from tests.proxy.support import FakeAuthorizer, route, running_proxy, settings

HANDSHAKE = request(b"GET", b"/app/ws", b"Connection: Upgrade", b"Upgrade: websocket")


class Gated:
    """An origin's answer that waits for the test."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def __call__(self, connection: Connection, message: Message) -> None:
        await self.gate.wait()
        await echo(connection, message)


# --- drain -----------------------------------------------------------------------------------------------------------


async def test_draining_nothing() -> None:
    """With no request under way it is done at once, idle connections or not."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([request()])
        assert required(await client.final()).status == 200
        assert await it.server.drain(60)
        assert it.server.draining


async def test_who_comes_during_a_drain_is_served() -> None:
    """On a kept connection and on a new one; each answer is the last on its connection, and says so."""
    answer = Gated()
    async with lab(answer) as it, await it.client() as client, await it.client() as kept:
        await client.send([request(b"GET", b"/app/under-way")])
        await until(lambda: it.origin.requests)
        draining = asyncio.ensure_future(it.server.drain(60))
        await until(lambda: it.server.draining)
        async with await it.client() as new:
            await kept.send([request(b"GET", b"/app/kept")])
            await new.send([request(b"GET", b"/app/new")])
            await until(lambda: len(it.origin.requests) == 3)
            assert not draining.done()
            answer.gate.set()
            answers = [required(await each.final()) for each in (client, kept, new)]
            assert [one.body for one in answers] == [b"/under-way ", b"/kept ", b"/new "]
            assert [one.value(b"connection") for one in answers] == [b"close"] * 3
            for each in (client, kept, new):
                await each.closed()
                each.finish()
            assert await draining


async def test_what_the_sidecar_answers_itself_is_the_last_too() -> None:
    """An error after which the connection would have gone on ends it during a drain."""
    async with lab(never) as it, await it.client() as busy, await it.client() as client:
        await busy.send([request()])
        await until(lambda: it.origin.requests)
        draining = asyncio.ensure_future(it.server.drain(60))
        await until(lambda: it.server.draining)
        await client.send([request(b"GET", b"/nothing")])
        refused = required(await client.final())
        assert (refused.status, refused.value(b"connection")) == (404, b"close")
        busy.break_off()
        assert await draining


async def test_pipelined_requests_are_served() -> None:
    """They are here already: all are answered, and the last answer alone ends the connection."""
    answer = Gated()
    async with lab(answer) as it, await it.client() as client:
        await client.send([request(b"GET", b"/app/1") + request(b"GET", b"/app/2") + request(b"GET", b"/app/3")])
        await until(lambda: it.origin.requests)
        draining = asyncio.ensure_future(it.server.drain(60))
        await until(lambda: it.server.draining)
        answer.gate.set()
        answers = [required(await client.final()) for _ in range(3)]
        assert [one.body for one in answers] == [b"/1 ", b"/2 ", b"/3 "]
        assert [one.value(b"connection") for one in answers] == [None, None, b"close"]
        assert await draining


async def test_a_request_that_has_begun_to_come_is_served() -> None:
    """Half of a head is a request under way."""
    async with lab(echo) as it, await it.client() as client:
        raw = request(b"GET", b"/app/half")
        await client.send([raw[:20]])
        draining = asyncio.ensure_future(it.server.drain(60))
        await until(lambda: it.server.draining)
        await it.passes(5)
        await client.send([raw[20:]])
        assert required(await client.final()).body == b"/half "
        assert await draining


async def test_idle_connections_are_closed_while_others_work() -> None:
    """By FIN, a moment after the drain has begun; also one that came in during it and asks for nothing."""
    async with lab(never) as it, await it.client() as busy, await it.client() as idle:
        await busy.send([request()])
        await until(lambda: it.origin.requests)
        draining = asyncio.ensure_future(it.server.drain(60))
        await until(lambda: it.server.draining)
        async with await it.client() as new:
            await until(lambda: len(it.server.connections) == 3)
            await it.passes(DRAIN_KEEP_ALIVE_SECONDS / 2)
            assert not idle.ended
            await it.passes(DRAIN_KEEP_ALIVE_SECONDS)
            await idle.closed()
            await new.closed()
            assert (idle.reset, new.reset, busy.ended) == (False, False, False)
        busy.break_off()
        assert await draining


@pytest.mark.parametrize("draining", [False, True])
async def test_a_request_that_meets_the_close_of_an_idle_connection(*, draining: bool) -> None:
    """It has come before the close, though nobody has read it yet: it is answered."""
    async with lab(echo) as it, await it.client() as client, await it.client() as other:
        await other.send([request(b"GET", b"/app/half")[:20]])
        ending = asyncio.ensure_future(it.server.drain(60)) if draining else None
        await until(lambda: it.server.draining == draining)
        client.transport.write(request(b"GET", b"/app/raced"))
        await it.passes(DRAIN_KEEP_ALIVE_SECONDS if draining else KEEP_ALIVE_SECONDS)
        assert required(await client.final()).body == b"/raced "
        other.break_off()
        assert ending is None or await ending


async def test_a_connection_that_waits_to_be_accepted_is_served() -> None:
    """The kernel has taken it in, and its request, before the listener is closed."""
    async with lab(echo) as it:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", it.proxy.port)) as client:
            client.sendall(request(b"GET", b"/app/queued"))
            client.setblocking(False)
            assert await it.server.drain(60)
            received = await loop.sock_recv(client, 65536)
        assert received.startswith(b"HTTP/1.1 200 ")
        with pytest.raises(OSError):  # noqa: PT011 (the loops word it differently)
            await it.client()


async def test_a_drain_waits_until_an_answer_is_sent() -> None:
    """A client that reads slowly has its whole answer, though its exchange is over."""
    size = 1 << 20
    async with lab(says(response(b"200 OK", body=b"x" * size))) as it, await it.client() as client:
        client.transport.pause_reading()
        await client.send([request()])
        await until(lambda: it.origin.requests)
        draining = asyncio.ensure_future(it.server.drain(60))
        await until(lambda: it.server.draining)
        client.transport.resume_reading()
        assert await draining
        await it.server.close()
        answer = required(await client.final())
        assert (answer.status, len(answer.body)) == (200, size)


async def test_drain_has_an_end() -> None:
    """What takes longer than the limit is not waited for; it was sent, so no answer invites to repeat it."""
    async with lab(never) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: it.origin.requests)
        assert not await it.server.drain(0.01)
        await it.server.close()
        await until(lambda: client.lost)
        assert client.reset


async def test_drain_can_be_cut_short() -> None:
    """A second signal does not wait."""
    async with lab(never) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: it.origin.requests)
        draining = asyncio.ensure_future(it.server.drain(60))
        await until(lambda: it.server.draining)
        it.server.stop_waiting()
        await draining
        client.break_off()


async def test_a_client_that_leaves_ends_the_drain() -> None:
    """Nobody waits for an answer that nobody waits for."""
    async with lab(never) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: it.origin.requests)
        draining = asyncio.ensure_future(it.server.drain(60))
        await until(lambda: it.server.draining)
        client.break_off()
        assert await draining


async def test_drain_waits_for_the_whole_answer() -> None:
    """Under way is until the last byte is written."""
    more = asyncio.Event()

    async def answer(connection: Connection, message: Message) -> None:
        await connection.send(response(b"200 OK", body=b"hello")[:-2])
        await more.wait()
        await connection.send(b"lo")

    async with lab(answer) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: client.raw)
        draining = asyncio.ensure_future(it.server.drain(60))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not draining.done()
        more.set()
        assert required(await client.final()).body == b"hello"
        assert await draining


async def test_a_tunnel_is_under_way() -> None:
    """It may finish within the limit; after it, it is closed."""
    async with lab(websocket) as it, await it.client() as client:
        await client.send([HANDSHAKE])
        assert required(await client.response()).status == 101
        assert not await it.server.drain(0.01)
        draining = asyncio.ensure_future(it.server.drain(60))
        client.finish()
        assert await draining


# --- close -----------------------------------------------------------------------------------------------------------


async def test_close_ends_everything() -> None:
    """Idle connections by FIN, busy ones abruptly, waiting ones with 503, dials too; nothing is left."""
    authorizer = FakeAuthorizer()
    async with lab(never, authorizer=authorizer) as it, contextlib.AsyncExitStack() as stack:
        idle, busy, waiting = [await stack.enter_async_context(await it.client()) for _ in range(3)]
        await busy.send([request()])
        await until(lambda: it.origin.requests)
        authorizer.ready, authorizer.gate = False, asyncio.Event()
        await waiting.send([request()])
        await until(lambda: authorizer.events)
        await it.server.close()
        answer = required(await waiting.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (503, b"draining")
        for client in (idle, waiting):
            await client.closed()
        await until(lambda: busy.lost)
        assert (idle.reset, busy.reset, waiting.reset) == (False, True, False)
        with pytest.raises(OSError):  # noqa: PT011 (the loops word it differently)
            await it.client()


async def test_close_in_the_middle_of_an_answer() -> None:
    """Abruptly: what was sent of it must not look whole."""
    async with lab(says(response(b"200 OK", body=b"hello")[:-2])) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: client.raw)
        await it.server.close()
        await until(lambda: client.lost)
        assert (client.reset, client.eof) == (True, False)


async def test_close_during_a_dial() -> None:
    """No dial outlives the server, for whoever it was meant."""
    async with lab(echo) as it, contextlib.AsyncExitStack() as stack:
        for _ in range(30):
            client = await stack.enter_async_context(await it.client())
            await client.send([request()])
        await it.server.close()


async def test_close_twice() -> None:
    """The second time there is nothing to do."""
    async with lab(echo) as it:
        await it.ask(request())
        await it.server.close()
        await it.server.close()


# --- reload ----------------------------------------------------------------------------------------------------------


def reconfigure(it: Lab, origin: Origin, authorizer: FakeAuthorizer, **changes: object) -> None:
    """Put a configuration in force in which the route leads to another origin, with another credential."""
    made = route("app", origin.url, **changes)
    it.server.configure(settings(made), {"app": authorizer}, {})
    it.pools.append(it.pool)


async def test_new_requests_go_by_the_new_configuration() -> None:
    """From the very next request on, on connections that were there before."""
    async with Origin(echo) as other, lab(echo) as it, await it.client() as client:
        await client.send([request(b"GET", b"/app/before")])
        assert required(await client.final()).status == 200
        reconfigure(it, other, FakeAuthorizer(versions=[token(7)]), allow=(Rule("GET", "/after"),))
        await client.send([request(b"GET", b"/app/after") + request(b"GET", b"/app/before")])
        assert [required(await client.final()).status for _ in range(2)] == [200, 403]
        assert [seen.target for seen in it.origin.requests] == [b"/before"]
        assert [(seen.target, seen.value(b"authorization")) for seen in other.requests] == [
            (b"/after", b"Bearer token-7")
        ]
        await it.origin.idle()
        assert it.counted("GET", 200, "upstream") == 2, "counters live on"


async def test_requests_under_way_finish_by_the_old_one() -> None:
    """With the upstream, and the credential, that they came in under; then the old connections close."""
    answer = Gated()
    async with Origin(echo) as other, lab(answer) as it, await it.client() as client:
        await client.send([request(b"GET", b"/app/old")])
        await until(lambda: it.origin.requests)
        reconfigure(it, other, FakeAuthorizer())
        answer.gate.set()
        assert required(await client.final()).body == b"/old "
        await it.origin.idle()
        assert other.requests == []


async def test_waiting_requests_finish_by_the_old_one() -> None:
    """Even those that have not got their credential yet."""
    gate = asyncio.Event()
    old = FakeAuthorizer(ready=False, gate=gate)
    async with Origin(echo) as other, lab(echo, authorizer=old) as it, await it.client() as client:
        await client.send([request(b"GET", b"/app/old")])
        await until(lambda: old.events)
        reconfigure(it, other, FakeAuthorizer(versions=[token(7)]))
        gate.set()
        assert required(await client.final()).status == 200
        assert [seen.value(b"authorization") for seen in it.origin.requests] == [b"Bearer token-1"]
        await it.origin.idle()


async def test_limits_change_with_a_reload() -> None:
    """Those of the server too."""
    async with lab(echo) as it:
        long = request(b"GET", b"/app/x", b"X: " + b"a" * 2000)
        assert (await it.ask(long)).status == 200
        made = route("app", it.origin.url)
        it.server.configure(settings(made, limits=Limits(header_bytes=1000)), {"app": FakeAuthorizer()}, {})
        it.pools.append(it.pool)
        assert (await it.ask(long)).status == 431


async def test_reloading_under_traffic() -> None:
    """A hundred reloads among a thousand requests: none fails, none meets the wrong credential."""

    async def ask(client: RawClient, count: int) -> None:
        for n in range(count):
            await client.send([request(b"POST", b"/app/%d" % n, body=b"x")])
            assert required(await client.final()).body == b"/%d x" % n

    async with Origin(echo) as other, lab(echo) as it, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await it.client()) for _ in range(10)]
        asking = asyncio.gather(*(ask(client, 100) for client in clients))
        for n in range(100):
            origin, version = (it.origin, 1) if n % 2 else (other, 2)
            reconfigure(it, origin, FakeAuthorizer(versions=[token(version)]))
            for _ in range(20):
                await asyncio.sleep(0)
        await asking
        assert len(it.origin.requests) + len(other.requests) == 1000
        assert {seen.value(b"authorization") for seen in it.origin.requests} == {b"Bearer token-1"}
        assert {seen.value(b"authorization") for seen in other.requests} == {b"Bearer token-2"}


# --- listeners -------------------------------------------------------------------------------------------------------


async def over_unix(path: Path, raw: bytes) -> bytes:
    """One request over a Unix socket; all that comes back."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(raw)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_unix_socket(tmp_path: Path) -> None:
    """Created 0660, serves, and is removed at the end."""
    path = tmp_path / "proxy.sock"
    async with lab(echo, listen=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert (await over_unix(path, request())).startswith(b"HTTP/1.1 200 ")
    assert not path.exists()


async def test_guard_of_a_unix_socket(tmp_path: Path) -> None:
    """Any Host will do, for no name leads there; a web page's Origin is still refused."""
    path = tmp_path / "proxy.sock"
    async with lab(echo, listen=path):
        raw = b"GET /app/x HTTP/1.1\r\nHost: anything\r\n"
        assert (await over_unix(path, raw + b"\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await over_unix(path, raw + b"Origin: http://evil.com\r\n\r\n")).startswith(b"HTTP/1.1 403 ")


async def test_a_reset_over_a_unix_socket_is_no_whole_answer(tmp_path: Path) -> None:
    """There is no RST; a truncated body is shorter than its length all the same."""
    path = tmp_path / "proxy.sock"

    async def cut(connection: Connection, message: Message) -> None:
        await connection.send(response(b"200 OK", body=b"hello")[:-2])
        connection.finish()

    async with lab(cut, listen=path):
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await over_unix(path, request())
        assert not answer.endswith(b"hello")


async def test_the_address_that_is_listened_on_is_a_name() -> None:
    """A loopback address other than the first may be used as Host without being listed."""
    async with Origin(echo) as origin:
        made = route("app", origin.url)
        async with running_proxy(made) as proxy:
            answer = await proxy.exchange(b"GET /app/x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % proxy.port)
            assert answer.startswith(b"HTTP/1.1 200 ")
            answer = await proxy.exchange(b"GET /app/x HTTP/1.1\r\n" + HOST + b"\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            answer = await proxy.exchange(b"GET /app/x HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 421 ")
